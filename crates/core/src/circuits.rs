//! circuits: which circuit breakers are stuck: open for longer than they should by their own words, though what they
//! guard answers (guides 002, Circuit Breakers, and 004, External Service Failures).

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{HttpSignal, McpServerHealthSpec};

use crate::{
    Case, Server, database, dependencies,
    mask::mask,
    probes,
    signals::{Circuit, CircuitState, Pod},
    time::after,
    words,
};

/// How long a circuit stays open after its last failure, where it does not say (guide 002, the lenient one).
pub const RECOVERY: SignedDuration = SignedDuration::from_secs(60);
/// A circuit that says that it stays open for longer is taken at this.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// What is known of that which a circuit guards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardedState {
    /// It answers: how that is known, as a sentence.
    Answers(String),
    /// It does not: the circuit does its work.
    Down,
    /// It was not asked often enough yet, or answers now and then.
    Undecided,
    /// Nothing tells.
    Unknown,
}

/// A circuit that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Open<'a> {
    /// The pod that has it.
    pub pod: &'a Pod,
    /// The circuit.
    pub circuit: &'a Circuit,
    /// From then on it is open for too long, by the pod's own clock; `None` where it does not tell its last failure, or
    /// tells one that is yet to come.
    pub stuck_at: Option<Timestamp>,
    /// What it guards.
    pub guarded: GuardedState,
}

impl Open<'_> {
    /// Whether it is open for too long. While what it guards may be about to answer, it is not.
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.guarded != GuardedState::Undecided && self.stuck_at.is_some_and(|at| at <= now)
    }
}

/// How long a circuit stays open after its last failure.
pub fn recovery(circuit: &Circuit) -> SignedDuration {
    let told = circuit.recovery.filter(|recovery| *recovery > SignedDuration::ZERO);
    told.unwrap_or(RECOVERY).min(LONGEST)
}

/// The name of a circuit, for people: the pod has chosen it.
pub fn name_words(name: &str) -> String {
    words::shorten(&mask(name), 64)
}

/// How old what a pod tells of its circuits may be.
pub fn patience(spec: &McpServerHealthSpec) -> SignedDuration {
    let interval =
        spec.signals.http.as_ref().map_or_else(|| HttpSignal::default().interval, |http| http.interval);
    probes::patience(interval.span())
}

/// The open circuits of the ready pods, the one open for longest first; `None` where they cannot be seen.
pub fn open<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<Vec<Open<'a>>> {
    let circuits = case.signals.circuits.fresh()?;
    let fresh = |circuit: &&Circuit| case.now.duration_since(circuit.at) <= patience(case.spec);
    let told: Vec<&Circuit> = circuits.iter().filter(fresh).collect();
    let ready = |name: &str| server.pods.iter().copied().find(|pod| pod.ready && pod.name == name);
    let mut open: Vec<Open> = told
        .iter()
        .filter(|circuit| circuit.state == CircuitState::Open)
        .filter_map(|circuit| {
            let pod = ready(&circuit.pod)?;
            let closed_elsewhere = || {
                told.iter().find(|other| {
                    other.name == circuit.name
                        && other.pod != circuit.pod
                        && other.state == CircuitState::Closed
                        && ready(&other.pod).is_some()
                })
            };
            let guarded = by_dependency(case, &circuit.name).unwrap_or_else(|| {
                closed_elsewhere().map_or(GuardedState::Unknown, |other| {
                    GuardedState::Answers(format!("the same circuit is closed on pod {}", other.pod))
                })
            });
            let last = circuit.last_failure.filter(|last| *last <= circuit.at);
            let stuck_at = last.map(|last| after(last, recovery(circuit).saturating_mul(2)));
            Some(Open { pod, circuit, stuck_at, guarded })
        })
        .collect();
    open.sort_by(|a, b| {
        (a.stuck_at, &a.circuit.name, &a.pod.name).cmp(&(b.stuck_at, &b.circuit.name, &b.pod.name))
    });
    Some(open)
}

/// Whether a pod that told of an open circuit tells nothing any more.
pub fn is_hidden(case: &Case) -> bool {
    let circuits = case.signals.circuits.fresh().map(Vec::as_slice).unwrap_or_default();
    let patience = patience(case.spec);
    circuits.iter().any(|one| one.state == CircuitState::Open && case.now.duration_since(one.at) > patience)
}

/// What is known of the dependency of this name, where the policy has one.
fn by_dependency(case: &Case, name: &str) -> Option<GuardedState> {
    let is_full = || database::asked(case).is_some_and(|database| database.full_disk().is_some());
    // It lets everybody in, and what writes fails all the same.
    if database::is_named_by(name) && is_full() {
        return Some(GuardedState::Down);
    }
    dependencies::declared(case.spec).find(|declared| *declared == name)?;
    let Some(seen) = case.signals.dependencies.fresh() else { return Some(GuardedState::Unknown) };
    let dependency = seen.iter().find(|one| one.name == name && dependencies::is_fresh(case, one));
    Some(match dependency {
        Some(dependency) if dependency.answers() => {
            GuardedState::Answers(format!("{} answers", dependency.words))
        }
        Some(dependency) if dependency.is_down() => GuardedState::Down,
        _ => GuardedState::Undecided,
    })
}
