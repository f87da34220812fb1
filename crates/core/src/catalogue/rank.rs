//! How near to the root a cause is: of several findings, the nearest is the primary.

use mcp_health_api::Cause;

/// What is not in [`RANKS`] is a symptom. There is no such cause: a test sees to it.
const SYMPTOM: u8 = 4;

/// The causes by their rank; the smallest is the primary.
const RANKS: &[(u8, &[Cause])] = &[
    // What the server depends on: a dependency, its database, a node.
    (
        0,
        &[
            Cause::DatabaseConnection,
            Cause::DependencyDown,
            Cause::DatabaseDisk,
            Cause::ChecksumFailure,
            Cause::DataDamaged,
            Cause::NodeNotReady,
            Cause::NodeUnreachable,
            Cause::NodeGone,
        ],
    ),
    // A bad revision or configuration.
    (
        1,
        &[
            Cause::BadRollout,
            Cause::NeverHealthy,
            Cause::ConfigError,
            Cause::MissingDependency,
            Cause::PermissionDenied,
            Cause::StartupTimeout,
            Cause::PortConflict,
            Cause::ImagePull,
            Cause::CredentialsRejected,
            Cause::CertificateRejected,
            Cause::PermissionMissing,
            Cause::ServiceMismatch,
        ],
    ),
    // Resources.
    (
        2,
        &[
            Cause::QuotaExceeded,
            Cause::Unschedulable,
            Cause::AdmissionRefused,
            Cause::PodRejected,
            Cause::Evicted,
            Cause::StuckTerminating,
            Cause::NotCreated,
            Cause::NotStarted,
            Cause::ReadinessGate,
            Cause::OutOfMemory,
            Cause::LimitTooSmall,
            Cause::Leak,
            Cause::Saturation,
            Cause::ContainerLogs,
            Cause::TemporaryFiles,
            Cause::VolumeData,
            Cause::TooManySessions,
            Cause::DatabasePool,
            Cause::IdleTransactions,
            Cause::ConnectionLeak,
            Cause::PoolTooSmall,
            Cause::CacheMisses,
            Cause::CpuThrottled,
        ],
    ),
    // Processes.
    (3, &[Cause::ProcessExit, Cause::BackOff, Cause::OnePod, Cause::HeartbeatSilent, Cause::Wedged]),
    // Symptoms. What probes find from outside causes nothing else that is found, and must not keep that from
    // being mended.
    (
        SYMPTOM,
        &[
            Cause::NotReady,
            Cause::NameNotResolved,
            Cause::TargetPortMismatch,
            Cause::TlsFailing,
            Cause::ProxyBuffering,
            Cause::ForeignEndpoints,
            Cause::HostNotAllowed,
            Cause::AuthenticationRequired,
            Cause::NotMcp,
            Cause::Redirected,
            Cause::VersionMismatch,
            Cause::SessionLost,
            Cause::Refused,
            Cause::Dropped,
            Cause::TimedOut,
            Cause::ErrorAnswers,
            Cause::Malformed,
            Cause::ToolGone,
            Cause::NoTools,
            Cause::SchemaDrift,
            Cause::CircuitOpen,
            Cause::GuardUnknown,
            Cause::OneTool,
            Cause::OneEndpoint,
            Cause::ServerErrors,
            Cause::Upstream,
            Cause::IdleSessions,
            Cause::Clients,
            Cause::SlowAnswers,
            Cause::ToolNotFound,
            Cause::ToolArguments,
            Cause::ToolTimeout,
            Cause::ToolDependency,
            Cause::ToolErrors,
        ],
    ),
    // A person's to mend: it must not keep anything from being mended.
    (
        SYMPTOM,
        &[
            Cause::OthersConnections,
            Cause::OthersSession,
            Cause::ActiveTransaction,
            Cause::PreparedTransaction,
            Cause::DatabaseUpkeep,
        ],
    ),
    // What others say.
    (5, &[Cause::OwnRule, Cause::Alert, Cause::PersonsReport, Cause::Certificate]),
    // Advice.
    (6, &[Cause::MissingIndex, Cause::StaleStatistics, Cause::RepeatedStatement, Cause::SlowStatement]),
];

/// The rank of a cause.
pub(crate) fn of(cause: Cause) -> u8 {
    RANKS.iter().find(|(_, causes)| causes.contains(&cause)).map_or(SYMPTOM, |(rank, _)| *rank)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kube::CustomResourceExt;
    use mcp_health_api::McpServerHealth;

    use super::*;

    #[test]
    fn every_cause_of_the_api_has_exactly_one_rank() {
        let crd = serde_json::to_value(McpServerHealth::crd()).unwrap();
        let incident = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/incidents/items";
        let causes = crd.pointer(&format!("{incident}/properties/cause/enum")).unwrap();
        let causes: Vec<Cause> = serde_json::from_value(causes.clone()).unwrap();
        let ranked: Vec<Cause> = RANKS.iter().flat_map(|(_, causes)| causes.iter().copied()).collect();
        for cause in &causes {
            let times = ranked.iter().filter(|one| *one == cause).count();
            assert_eq!(times, 1, "{cause} stands so often in RANKS");
        }
        assert_eq!(ranked.len(), causes.len());
    }
}
