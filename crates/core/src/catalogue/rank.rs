//! How near to the root a cause is: of several findings, the nearest is the primary.

use mcp_health_api::Cause;

/// The smallest is the primary: dependency, database, node; then a bad revision or configuration; then
/// resources; then processes; then symptoms, what others say, and advice.
pub(crate) const fn of(cause: Cause) -> u8 {
    match cause {
        Cause::DatabaseConnection
        | Cause::DependencyDown
        | Cause::DatabaseDisk
        | Cause::ChecksumFailure
        | Cause::DataDamaged
        | Cause::NodeNotReady
        | Cause::NodeUnreachable
        | Cause::NodeGone => 0,
        Cause::BadRollout
        | Cause::NeverHealthy
        | Cause::ConfigError
        | Cause::MissingDependency
        | Cause::PermissionDenied
        | Cause::StartupTimeout
        | Cause::PortConflict
        | Cause::ImagePull
        | Cause::CredentialsRejected
        | Cause::CertificateRejected
        | Cause::PermissionMissing
        | Cause::ServiceMismatch => 1,
        Cause::QuotaExceeded
        | Cause::Unschedulable
        | Cause::AdmissionRefused
        | Cause::PodRejected
        | Cause::Evicted
        | Cause::StuckTerminating
        | Cause::NotCreated
        | Cause::NotStarted
        | Cause::ReadinessGate
        | Cause::OutOfMemory
        | Cause::LimitTooSmall
        | Cause::Leak
        | Cause::Saturation
        | Cause::ContainerLogs
        | Cause::TemporaryFiles
        | Cause::VolumeData
        | Cause::TooManySessions
        | Cause::DatabasePool
        | Cause::IdleTransactions
        | Cause::ConnectionLeak
        | Cause::PoolTooSmall
        | Cause::CacheMisses
        | Cause::CpuThrottled => 2,
        Cause::ProcessExit | Cause::BackOff | Cause::OnePod | Cause::HeartbeatSilent | Cause::Wedged => 3,
        Cause::OwnRule | Cause::Alert | Cause::PersonsReport | Cause::Certificate => 5,
        // Advice.
        Cause::MissingIndex | Cause::StaleStatistics | Cause::RepeatedStatement | Cause::SlowStatement => 6,
        // Symptoms. What probes find from outside causes nothing else that is found, and must not keep that
        // from being mended; nor must what is a person's to mend.
        _ => 4,
    }
}
