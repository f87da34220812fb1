//! One server at one moment: what every pure function is given.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Duration, Incident, IncidentType, McpServerHealthSpec, McpServerHealthStatus};

use crate::signals::Signals;

/// What the operator's own configuration fixes for all servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A server's first template counts as healthy when its pods were ready for this long.
    pub seen_healthy_after: SignedDuration,
    /// A template takes the place of the last healthy one when its pods were ready for this long.
    pub replaces_healthy_after: SignedDuration,
    /// Signals must be quiet for this long before an effect is judged or an incident is closed.
    pub settle: SignedDuration,
    /// How many servers may be acted on at once, in the cluster.
    pub max_concurrent_actions: usize,
    /// Actions in any hour, over all servers of a namespace.
    pub max_actions_per_hour_namespace: usize,
    /// Actions in any hour, over all servers.
    pub max_actions_per_hour_cluster: usize,
    /// The share of servers that may be broken, in percent, before nothing is done: more have one cause.
    pub max_unhealthy_percent: usize,
    /// Fewer broken servers never count as that.
    pub unhealthy_floor: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seen_healthy_after: SignedDuration::from_secs(10),
            replaces_healthy_after: SignedDuration::from_secs(60),
            settle: SignedDuration::from_secs(15),
            max_concurrent_actions: 1,
            max_actions_per_hour_namespace: 20,
            max_actions_per_hour_cluster: 60,
            max_unhealthy_percent: 50,
            unhealthy_floor: 5,
        }
    }
}

/// What happens on *other* servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The servers with an attempt under way, as `namespace/name`.
    pub acting: Vec<String>,
    /// How many there are.
    pub servers: usize,
    /// How many of them are broken.
    pub unhealthy: usize,
    /// The actions on those of the namespace in the last hour.
    pub namespace_actions: Vec<Timestamp>,
    /// The actions on those of the cluster in the last hour.
    pub cluster_actions: Vec<Timestamp>,
}

/// One server at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Generation of the object.
    pub generation: i64,
    /// What its team declared.
    pub spec: &'a McpServerHealthSpec,
    /// What the operator wrote last.
    pub status: &'a McpServerHealthStatus,
    /// What is seen.
    pub signals: &'a Signals,
    /// The operator's configuration.
    pub settings: &'a Settings,
    /// The moment; to the second, as statuses keep it.
    pub now: Timestamp,
}

impl<'a> Case<'a> {
    /// The open incident of a type.
    pub fn open(&self, incident: IncidentType) -> Option<&'a Incident> {
        self.status.incidents.iter().find(|one| one.incident_type == incident)
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
    own.and_then(|wanted| wanted.hold_for).map_or(default, Duration::span)
}
