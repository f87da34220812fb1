//! The catalogue: one file an incident type. Each says what is judged, by which numbers, how bad it is, and
//! what is tried by default. A new type is a file here, a line in [`CATALOGUE`], its name in the API, a test.

mod alert_firing;
mod by_metrics;
mod cpu_saturation;
mod crash_loop;
mod disk_filling;
mod high_error_rate;
mod memory_leak;
pub(crate) mod out_of_memory;
pub(crate) mod own_rules;
mod reported;
mod rollout_stuck;
mod service_not_responding;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, Incident, IncidentType, McpServerHealthSpec};

use crate::{Case, Server, diagnose::Judgement, signals::Pod, time::after, usage};

/// One incident type.
pub struct Entry {
    /// Its name.
    pub incident: IncidentType,
    /// The rule.
    pub judge: fn(&Case, &Server) -> Judgement,
    /// It is judged by what happened over a window: for a while after an action, it still shows what was before it.
    pub looks_back: bool,
    /// What is tried by default, in this order; a person comes after the last.
    pub runbook: fn(Cause, &Server) -> &'static [ActionType],
}

/// All incident types but [`IncidentType::Rule`], which is the policy's own. Of findings that are equally near to the root, the first here is the primary.
/// A kill at the memory limit comes before the loop that it makes.
pub const CATALOGUE: &[Entry] = &[
    out_of_memory::ENTRY,
    crash_loop::ENTRY,
    rollout_stuck::ENTRY,
    service_not_responding::ENTRY,
    disk_filling::ENTRY,
    memory_leak::ENTRY,
    cpu_saturation::ENTRY,
    high_error_rate::ENTRY,
    alert_firing::ENTRY,
    reported::ENTRY,
];

/// The entry of a type. Every type of the API has one, but for the policy's own rules: a test sees to it.
pub fn entry(incident: IncidentType) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.incident == incident)
}

/// The pod that shows an incident most. Where the type has no measure of its own: of the pods that are not ready, the
/// one that was started anew most often.
pub fn worst_pod<'a>(incident: IncidentType, case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    match incident {
        IncidentType::MemoryLeak => memory_leak::worst(case, server),
        IncidentType::CpuSaturation => cpu_saturation::worst(case, server),
        IncidentType::DiskFilling => disk_filling::worst(case, server),
        IncidentType::HighErrorRate => high_error_rate::worst(case, server),
        _ => {
            let unready = server.current_pods().into_iter().filter(|pod| !pod.ready);
            unready.max_by_key(|pod| (pod.restarts(), std::cmp::Reverse(pod.created)))
        }
    }
}

/// How long a symptom lasts before it is an incident: the object's own wish, or the catalogue's.
pub(crate) fn lasting(case: &Case, incident: IncidentType, default: SignedDuration) -> SignedDuration {
    lasting_for(case.spec, incident, default)
}

/// The same, of an object's spec.
pub(crate) fn lasting_for(
    spec: &McpServerHealthSpec,
    incident: IncidentType,
    default: SignedDuration,
) -> SignedDuration {
    let own = spec.overrides.iter().find(|wanted| wanted.incident == incident);
    own.and_then(|wanted| wanted.hold_for).map_or(default, mcp_health_api::Duration::span)
}

/// Whether an incident is judged by what happened over a window.
pub(crate) fn looks_back(incident: &Incident) -> bool {
    incident.rule.is_some() || entry(incident.incident_type).is_some_and(|entry| entry.looks_back)
}

/// When the first of these samples of usage is too old to tell of now.
fn once_stale(seen: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
    lapse(seen, usage::STALE)
}

/// When the first of these moments is longer ago than `age`.
fn lapse(seen: impl Iterator<Item = Timestamp>, age: SignedDuration) -> Option<Timestamp> {
    Some(after(seen.min()?, age + SignedDuration::from_secs(1)))
}
