//! Whether the pods that took the place of evicted ones are well, while other pods still show the fault. An action on one
//! pod of several is judged by what became of that pod: the others are no proof against it.

use jiff::Timestamp;
use mcp_health_api::{Effect, Incident, Step};

use crate::{Case, Server, catalogue::facts, signals::Pod};

/// How the successors of the pods that the open attempt evicted stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successors {
    /// No pod was evicted, or the incident is not judged by single pods.
    NotJudged,
    /// Not all of them are there, ready, and proven well by what their rule observes of them.
    Awaited,
    /// They are well; since when they are ready.
    Well(Timestamp),
}

/// How the successors of the pods stand that the open attempt of an incident evicted. Where the fault is
/// still found, it may have come over other pods by the eviction: then no fewer pods may be ready than
/// before. Where it is not, a pod that is not ready has a fault of its own.
pub fn successors(case: &Case, server: Option<&Server>, incident: &Incident, is_found: bool) -> Successors {
    let Some((server, attempt)) = server.zip(incident.open_attempt()) else { return Successors::NotJudged };
    let is_of_pods = |step: &&Step| matches!(step.effect, Effect::MarkTarget | Effect::EvictPod);
    let evicted: Vec<&Step> = attempt.steps.iter().filter(|step| step.effect == Effect::EvictPod).collect();
    if evicted.is_empty() || !attempt.steps.iter().all(|step| is_of_pods(&step)) {
        return Successors::NotJudged;
    }
    let recorded = attempt.recorded_at.0;
    let is_left = |step: &&Step| server.pods.iter().any(|pod| pod.uid == step.uid);
    let current = server.current_pods();
    let new: Vec<&Pod> = current.into_iter().filter(|pod| pod.created >= recorded).collect();
    let mut is_well = Vec::new();
    for pod in &new {
        let Some(well) = (facts(incident.incident_type).is_well)(incident, case, server, pod) else {
            return Successors::NotJudged;
        };
        is_well.push(pod.ready && well);
    }
    let fewer_serve = is_found && server.ready_replicas() < attempt.ready_before;
    if new.len() < evicted.len() || evicted.iter().any(is_left) || is_well.contains(&false) || fewer_serve {
        return Successors::Awaited;
    }
    Successors::Well(new.iter().map(|pod| pod.ready_changed).fold(recorded, Timestamp::max))
}
