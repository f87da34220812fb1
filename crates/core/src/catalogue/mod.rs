//! The catalogue: one file an incident type. Each says what is judged, by which numbers, how bad it is, and
//! what is tried by default. A new type is a file here, a line in [`CATALOGUE`], its name in the API, a test.

mod alert_firing;
mod by_metrics;
mod certificate_expiring;
mod circuit_stuck_open;
mod connection_drops;
mod cpu_saturation;
pub(crate) mod crash_loop;
mod database_blocking_locks;
mod database_corruption;
mod database_idle_in_transaction;
mod database_pool_exhausted;
mod database_slow_queries;
mod dependency_down;
mod disk_filling;
pub(crate) mod entry;
mod forbidden;
mod heartbeat_failing;
mod high_error_rate;
mod high_latency;
mod invalid_messages;
mod mcp_protocol_failing;
mod memory_leak;
mod metric_rule;
mod node_problem;
pub(crate) mod out_of_memory;
pub(crate) mod own_rules;
mod partially_unready;
mod rank;
mod rate_limited;
mod reported;
mod rise;
mod rollout_stuck;
mod service_not_responding;
mod session_leak;
mod tool_failing;
mod tools_missing;
mod traffic_lost;

pub(crate) use crash_loop::backing_off;
pub(crate) use database_blocking_locks::is_endable as is_endable_root;
pub(crate) use database_pool_exhausted::UNUSED as IS_UNUSED_AFTER;
use jiff::SignedDuration;
use mcp_health_api::{Incident, IncidentType};

pub use self::entry::{Class, Entry, Evidence, Needs, Rule, Threshold};
use crate::{
    Case, Server,
    metrics::{reach, reach_of_rule},
    signals::Pod,
};

/// All incident types but [`IncidentType::Rule`], which is the policy's own. Of findings that are equally
/// near to the root, the first here is the primary. What does not answer comes before what follows from it, a
/// database that lets nobody in before the loops that it makes, and so does a kill at the memory limit.
pub const CATALOGUE: &[Entry] = &[
    dependency_down::ENTRY,
    node_problem::ENTRY,
    database_corruption::ENTRY,
    database_pool_exhausted::ENTRY,
    out_of_memory::ENTRY,
    crash_loop::ENTRY,
    rollout_stuck::ENTRY,
    service_not_responding::ENTRY,
    partially_unready::ENTRY,
    mcp_protocol_failing::ENTRY,
    database_blocking_locks::ENTRY,
    database_idle_in_transaction::ENTRY,
    disk_filling::ENTRY,
    memory_leak::ENTRY,
    cpu_saturation::ENTRY,
    tools_missing::ENTRY,
    circuit_stuck_open::ENTRY,
    tool_failing::ENTRY,
    high_error_rate::ENTRY,
    high_latency::ENTRY,
    alert_firing::ENTRY,
    traffic_lost::ENTRY,
    heartbeat_failing::ENTRY,
    session_leak::ENTRY,
    connection_drops::ENTRY,
    invalid_messages::ENTRY,
    rate_limited::ENTRY,
    database_slow_queries::ENTRY,
    reported::ENTRY,
    certificate_expiring::ENTRY,
];

/// The entry of a type. Every type of the API has one, but for the policy's own rules: a test sees to it.
pub fn entry(incident: IncidentType) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.incident == incident)
}

/// What holds for incidents of a type. For those of the policy's own rules, what holds for most.
pub fn facts(incident: IncidentType) -> &'static Entry {
    entry(incident).unwrap_or(&own_rules::ENTRY)
}

/// The pod that shows an incident most.
pub fn worst_pod<'a>(incident: IncidentType, case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    (facts(incident).worst_pod)(case, server)
}

/// Whether an incident is judged by what happened over a window.
pub(crate) fn looks_back(incident: &Incident) -> bool {
    facts(incident.incident_type).looks_back
}

/// For how long after an action the past still shows in the rule of an incident.
pub(crate) fn reach_of(case: &Case, incident: &Incident) -> SignedDuration {
    match &incident.rule {
        Some(rule) => {
            let rule = case.spec.rules.iter().find(|one| &one.name == rule);
            rule.map_or(SignedDuration::ZERO, reach_of_rule)
        }
        None if looks_back(incident) => reach(case.spec),
        None => SignedDuration::ZERO,
    }
}
