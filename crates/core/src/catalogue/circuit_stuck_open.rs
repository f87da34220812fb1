//! CircuitStuckOpen: a circuit breaker of a pod stays open for more than twice as long as it says, though
//! what it guards answers.
//!
//! Judged by what the pods tell of their circuits, and by the dependency of the same name; where the policy
//! names none, by the same circuit on another pod. A circuit whose dependency is down does its work. Pods'
//! clocks may be off: it lasts for as long again by the operator's own sight.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::entry::{Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    circuits::{self, GuardedState, Open, name_words, patience, recovery},
    finding::{Finding, Judgement},
    time::lapse,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::CircuitStuckOpen,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Circuits]),
    lasting: Some(circuits::RECOVERY),
    runbook,
    guide: &[("002", "Circuit Stuck Open")],
    ..USUAL
};

/// A circuit that stays open by itself for longer than this is waited for no longer.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// Circuits that are named in evidence.
const NAMED: usize = 4;

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(open) = circuits::open(case, server) else { return Judgement::Unknown };
    let open: Vec<Open> = open.into_iter().filter(|one| one.guarded != GuardedState::Down).collect();
    let (stuck, other): (Vec<&Open>, Vec<&Open>) = open.iter().partition(|one| one.is_stuck(case.now));
    if stuck.is_empty() {
        let due = other.iter().filter_map(|one| one.stuck_at).filter(|at| *at > case.now);
        return match due.min() {
            Some(until) => Judgement::Suspected { until },
            None if !other.is_empty() || circuits::is_hidden(case) => Judgement::Unknown,
            None => Judgement::Clear,
        };
    }
    let known = |one: &&&Open| one.guarded != GuardedState::Unknown;
    let cause = if stuck.iter().any(|one| known(&one)) { Cause::CircuitOpen } else { Cause::GuardUnknown };
    let mut evidence: Vec<String> = stuck.iter().take(NAMED).map(|one| describe(case, one)).collect();
    if let Some(unknown) = stuck.iter().find(|one| !known(one)) {
        let name = name_words(&unknown.circuit.name);
        evidence.push(format!(
            "nothing tells whether what circuit {name} guards answers: name it in spec.signals.dependencies, under \
             the circuit's name"
        ));
    }
    let finding = Finding {
        lapses: lapse(stuck.iter().map(|one| one.circuit.at), patience(case.spec)),
        ..Finding::new(
            IncidentType::CircuitStuckOpen,
            cause,
            Severity::SEV3,
            stuck.iter().filter_map(|one| one.stuck_at).min().unwrap_or(case.now),
            evidence,
        )
    };
    let longest = stuck.iter().map(|one| recovery(one.circuit)).max().unwrap_or(circuits::RECOVERY);
    Judgement::Symptom { finding, lasting: longest.min(LONGEST) }
}

fn describe(case: &Case, one: &Open) -> String {
    let circuit = one.circuit;
    let since = circuit.last_failure.map_or_else(String::new, |last| {
        format!(", its last failure {} ago", words::span(case.now.duration_since(last)))
    });
    let answers = match &one.guarded {
        GuardedState::Answers(how) => format!("; {}", words::shorten(how, 160)),
        GuardedState::Down | GuardedState::Undecided | GuardedState::Unknown => String::new(),
    };
    format!(
        "pod {}: circuit {} is open{since}, and should be so for {}{answers}",
        one.pod.name,
        name_words(&circuit.name),
        words::span(recovery(circuit))
    )
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    if cause == Cause::CircuitOpen { &[ActionType::ResetCircuit] } else { &[] }
}
