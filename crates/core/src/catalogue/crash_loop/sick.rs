//! Containers that do not stay up, or cannot start: which they are, since when, and until when.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::Cause;

use super::cause::{self, ToldCause};
use crate::{
    Server,
    signals::{Container, Pod},
};

/// Ends within [`WINDOW`] that make a loop, also before the kubelet says so.
const EXITS: usize = 3;
/// The window of those ends.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// The kubelet backs off for five minutes at most: whenever one looks, two ends of a loop lie within this
/// time.
const TWO_PAUSES: SignedDuration = SignedDuration::from_mins(15);
/// A pod that is ready for so long is up, whatever was before.
const STEADY: SignedDuration = SignedDuration::from_secs(30);

/// A container that does not stay up, or cannot start.
pub struct Sick<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    /// Its pod is of the template in force.
    pub current: bool,
    /// The kubelet's words, where it cannot start at all.
    pub cannot_start: Option<String>,
    /// Why.
    pub told: ToldCause,
}

impl Sick<'_> {
    /// Since when.
    pub fn since(&self) -> Timestamp {
        match &self.cannot_start {
            Some(_) => self.container.last_exit.as_ref().map_or(self.pod.created, |exit| exit.at),
            None => first_exit(self.container).unwrap_or(self.pod.created),
        }
    }
}

/// All of them; those that tell most come first.
pub fn sick<'a>(server: &Server<'a>) -> Vec<Sick<'a>> {
    let current: Vec<&str> = server.current_pods().iter().map(|pod| pod.name.as_str()).collect();
    let mut all: Vec<Sick> = server
        .pods
        .iter()
        .filter_map(|pod| {
            let current = current.contains(&pod.name.as_str());
            let mut sick = pod.containers.iter().filter_map(|one| look_at(server, pod, one, current));
            // The server's own container before those beside it.
            let first = sick.next()?;
            let own = server.container().is_some_and(|own| own.name == first.container.name);
            Some(if own { first } else { sick.find(|one| is_own(server, one)).unwrap_or(first) })
        })
        .collect();
    all.sort_by_key(|one| {
        let database = one.told.cause == Some(Cause::DatabaseConnection);
        (!database, !one.current, one.told.cause.is_none(), !is_own(server, one))
    });
    all
}

fn look_at<'a>(server: &Server, pod: &'a Pod, container: &'a Container, current: bool) -> Option<Sick<'a>> {
    if let Some((cause, words)) = cause::cannot_start(pod, container) {
        let told = ToldCause { cause, ..ToldCause::default() };
        return Some(Sick { pod, container, current, cannot_start: Some(words), told });
    }
    if !is_looping(pod, container, server.now) {
        return None;
    }
    let specs = server.target.containers.iter();
    let spec = specs.filter(|_| current).find(|spec| spec.name == container.name);
    let told = cause::of_end(pod, container, server.target, spec);
    Some(Sick { pod, container, current, cannot_start: None, told })
}

fn is_own(server: &Server, one: &Sick) -> bool {
    server.container().is_some_and(|own| own.name == one.container.name)
}

/// The kubelet says so; or it ended often enough; or it is up just now between two ends. A pod that is ready
/// for longer than its container ran the last time is out of the loop, however many ends lie behind it.
fn is_looping(pod: &Pod, container: &Container, now: Timestamp) -> bool {
    if pod.is_ready_for(settled_after(container), now) {
        return false;
    }
    let within = |span: SignedDuration| {
        container.recent_exits.iter().filter(|at| now.duration_since(**at) <= span).count()
    };
    let backing_off = container.waiting.as_ref().is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
    // Up for a moment between two ends, and without a readiness probe even ready: still the same loop.
    let between_two_ends = within(TWO_PAUSES) >= 2 && !pod.is_ready_for(STEADY, now);
    backing_off || within(WINDOW) >= EXITS || between_two_ends
}

/// How long a pod must be ready to be out of the loop: half as long again as the container ran before it
/// ended. Where that is not known, the pause between its last two ends is taken.
fn settled_after(container: &Container) -> SignedDuration {
    let exit = container.last_exit.as_ref();
    let ran = exit.and_then(|exit| Some(exit.at.duration_since(exit.started?)));
    let mut ends = container.recent_exits.iter().rev();
    let pause = ends.next().zip(ends.next()).map(|(last, before)| last.duration_since(*before));
    let ran = ran.or(pause).unwrap_or(SignedDuration::ZERO);
    ran.saturating_add(ran / 2).clamp(STEADY, WINDOW)
}

/// When the ends are too long ago, or the pod is up for long enough, to be a loop any more.
pub fn lapses(one: &Sick, now: Timestamp) -> Option<Timestamp> {
    let past = |at: Timestamp, span: SignedDuration| {
        at.saturating_add(span + SignedDuration::from_secs(1)).ok().filter(|at| *at > now)
    };
    let ends = one.container.recent_exits.iter();
    let exits = ends.flat_map(|at| [past(*at, WINDOW), past(*at, TWO_PAUSES)]).flatten();
    let steady = [STEADY, settled_after(one.container)];
    let steady =
        steady.into_iter().filter(|_| one.pod.ready).filter_map(|span| past(one.pod.ready_changed, span));
    exits.chain(steady).min()
}

fn first_exit(container: &Container) -> Option<Timestamp> {
    container.recent_exits.first().copied().or(container.last_exit.as_ref().map(|exit| exit.at))
}
