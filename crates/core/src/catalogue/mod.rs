//! The catalogue: one file an incident type. Each says what is judged, by which numbers, how bad it is, and
//! what is tried by default. A new type is a file here, a line in [`CATALOGUE`], its name in the API, a test.

mod crash_loop;
mod reported;
mod rollout_stuck;
mod service_not_responding;

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType};

use crate::{Case, Server, diagnose::Judgement, signals::Pod};

/// One incident type.
pub struct Entry {
    /// Its name.
    pub incident: IncidentType,
    /// The rule.
    pub judge: fn(&Case, &Server) -> Judgement,
    /// What is tried by default, in this order; a person comes after the last.
    pub runbook: fn(Cause, &Server) -> &'static [ActionType],
}

/// All incident types. Of findings that are equally near to the root, the first here is the primary.
pub const CATALOGUE: &[Entry] =
    &[crash_loop::ENTRY, rollout_stuck::ENTRY, service_not_responding::ENTRY, reported::ENTRY];

/// The entry of a type. Every type of the API has one: a test sees to it.
pub fn entry(incident: IncidentType) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.incident == incident)
}

/// The pod that shows an incident most. Where the type has no measure of its own: of the pods that are not ready, the
/// one that was started anew most often.
pub fn worst_pod<'a>(_: IncidentType, _: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let unready = server.current_pods().into_iter().filter(|pod| !pod.ready);
    unready.max_by_key(|pod| (pod.restarts(), std::cmp::Reverse(pod.created)))
}

/// How long a symptom lasts before it is an incident: the object's own wish, or the catalogue's.
fn lasting(case: &Case, incident: IncidentType, default: SignedDuration) -> SignedDuration {
    case.spec
        .overrides
        .iter()
        .find(|wanted| wanted.incident == incident)
        .and_then(|wanted| wanted.hold_for)
        .map_or(default, mcp_health_api::Duration::span)
}
