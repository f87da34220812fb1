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
mod forbidden;
mod heartbeat_failing;
mod high_error_rate;
mod high_latency;
mod invalid_messages;
mod mcp_protocol_failing;
mod memory_leak;
mod node_problem;
pub(crate) mod out_of_memory;
pub(crate) mod own_rules;
mod partially_unready;
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
use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, Incident, IncidentType, McpServerHealthSpec, Measure};

use crate::{
    Case, Server,
    finding::Judgement,
    metrics::View,
    signals::{Pod, Span},
    time::after,
    usage,
};

/// One incident type.
pub struct Entry {
    /// Its name.
    pub incident: IncidentType,
    /// The rule.
    pub judge: fn(&Case, &Server) -> Judgement,
    /// It is judged by what happened over a window: for a while after an action, it still shows what was before it.
    pub looks_back: bool,
    /// Whether something that the server depends on could explain a finding of this cause.
    pub explained_by_dependency: fn(Cause) -> bool,
    /// What is tried by default, in this order; a person comes after the last.
    pub runbook: fn(Cause, &Server) -> &'static [ActionType],
}

/// All incident types but [`IncidentType::Rule`], which is the policy's own. Of findings that are equally near to the
/// root, the first here is the primary.
/// What does not answer comes before what follows from it, a database that lets nobody in before the loops that it makes,
/// and so does a kill at the memory limit.
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

/// Whether something that the server depends on could explain a cause. Never: an image, a missing reference, a node, a
/// quota, memory, what is wrong in the server's own settings or in its data.
pub(crate) const fn by_dependency(cause: Cause) -> bool {
    !matches!(
        cause,
        Cause::ImagePull
            | Cause::ConfigError
            | Cause::MissingDependency
            | Cause::PermissionDenied
            | Cause::PortConflict
            | Cause::CredentialsRejected
            | Cause::CertificateRejected
            | Cause::PermissionMissing
            | Cause::ServiceMismatch
            | Cause::QuotaExceeded
            | Cause::Unschedulable
            | Cause::AdmissionRefused
            | Cause::PodRejected
            | Cause::Evicted
            | Cause::StuckTerminating
            | Cause::NotCreated
            | Cause::NotStarted
            | Cause::ReadinessGate
            | Cause::NodeNotReady
            | Cause::NodeUnreachable
            | Cause::NodeGone
            | Cause::OutOfMemory
            | Cause::LimitTooSmall
            | Cause::Leak
            | Cause::ContainerLogs
            | Cause::TemporaryFiles
            | Cause::VolumeData
            | Cause::IdleTransactions
            | Cause::ConnectionLeak
            | Cause::PoolTooSmall
            | Cause::CircuitOpen
            | Cause::TargetPortMismatch
            | Cause::HostNotAllowed
            | Cause::ChecksumFailure
            | Cause::DataDamaged
    )
}

/// No dependency explains it.
pub(crate) const fn by_nothing(_: Cause) -> bool {
    false
}

/// The pod that shows an incident most. Where the type has no measure of its own: of the pods that are not ready, the
/// one that was started anew most often.
pub fn worst_pod<'a>(incident: IncidentType, case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    match incident {
        IncidentType::MemoryLeak => memory_leak::worst(case, server),
        IncidentType::CpuSaturation => cpu_saturation::worst(case, server),
        IncidentType::DiskFilling => disk_filling::worst(case, server),
        IncidentType::HighErrorRate => high_error_rate::worst(case, server),
        IncidentType::HeartbeatFailing => heartbeat_failing::worst(case, server),
        IncidentType::SessionLeak => session_leak::worst(case, server),
        IncidentType::ConnectionDrops => connection_drops::worst(case, server),
        IncidentType::PartiallyUnready => partially_unready::worst(case, server),
        IncidentType::McpProtocolFailing => mcp_protocol_failing::worst(case, server),
        IncidentType::HighLatency => high_latency::worst(case, server),
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

/// Whether a pod is well by what the rule of an incident observes of that pod alone, at this moment. `None` where the rule
/// judges the server as a whole, or by what happened over a window.
pub(crate) fn is_well(incident: &Incident, case: &Case, server: &Server, pod: &Pod) -> Option<bool> {
    match incident.incident_type {
        _ if incident.rule.is_some() => None,
        IncidentType::McpProtocolFailing => Some(mcp_protocol_failing::is_well(incident, case, server, pod)),
        IncidentType::PartiallyUnready => Some(pod.ready),
        IncidentType::CrashLoop if incident.cause == Cause::BackOff => Some(pod.ready && pod.restarts() == 0),
        _ => None,
    }
}

/// Whether an incident is judged by what happened over a window.
pub(crate) fn looks_back(incident: &Incident) -> bool {
    incident.rule.is_some() || entry(incident.incident_type).is_some_and(|entry| entry.looks_back)
}

/// The pod that shows it most makes room for another. Where it is the only one, its successor comes up first.
fn replace_one(_: Cause, server: &Server) -> &'static [ActionType] {
    use ActionType::{RecyclePod, Rollback, RolloutRestart};
    let surges = server.target.surge > 0;
    match (server.rollout_is_to_blame(), server.target.desired > 1) {
        (true, true) => &[Rollback, RecyclePod],
        (true, false) if surges => &[Rollback, RolloutRestart],
        (true, false) => &[Rollback],
        (false, true) => &[RecyclePod],
        (false, false) if surges => &[RolloutRestart],
        (false, false) => &[],
    }
}

/// The ready pods of which a measure tells nothing: where it tells of the others only, all is not known to be well.
fn silent_about<'a>(view: &View, server: &Server<'a>, measure: Measure) -> Vec<&'a str> {
    let series = || view.series(measure, Span::Window);
    if series().any(|one| one.pod.is_none()) {
        return Vec::new();
    }
    let ready = server.pods.iter().filter(|pod| pod.ready).map(|pod| pod.name.as_str());
    ready.filter(|name| !series().any(|one| one.pod.as_deref() == Some(*name))).collect()
}

/// When the first of these samples of usage is too old to tell of now.
fn once_stale(seen: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
    lapse(seen, usage::STALE)
}

/// When the first of these moments is longer ago than `age`.
fn lapse(seen: impl Iterator<Item = Timestamp>, age: SignedDuration) -> Option<Timestamp> {
    Some(after(seen.min()?, age + SignedDuration::from_secs(1)))
}
