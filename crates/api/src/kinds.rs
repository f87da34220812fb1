//! The names of actions, severities and incident types.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// What the operator can do to a server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionType {
    /// Brings a template back that was seen healthy (guide 004, Rollback Procedure).
    Rollback,
    /// Replaces all pods, rolling, as `kubectl rollout restart` does (guide 004, Application Restart).
    RolloutRestart,
    /// Evicts one pod, so that its Deployment makes another.
    RecyclePod,
    /// Brings the content of a `ConfigMap` back that was in use while the server was healthy (guide 003,
    /// Configuration Rollback).
    RollbackConfig,
    /// Sets a higher number of replicas (guide 004, Scaling).
    Scale,
    /// Raises the memory limit of a container that was killed at it (guide 000, Memory Issues).
    RaiseResources,
    /// Gives the start of a container more time (guide 004, Service Not Responding).
    RelaxStartupProbe,
    /// Sets an environment variable of the server's container (guide 000, Database Pool).
    SetEnv,
    /// Empties the pods, replaces them, and has them take their sessions up again (guide 002, Graceful
    /// Restart).
    DrainAndRestart,
    /// Calls a declared hook on every ready pod.
    CallHook,
    /// Runs a Job from a template that the user wrote.
    RunJob,
    /// Closes circuit breakers that stay open though what they guard answers (guide 004, External Service
    /// Failures).
    ResetCircuit,
    /// Ends sessions of the server's own in its database that do nothing and hold something (guides 000,
    /// Connection Pool Exhausted, and 004, High Error Rate).
    EndDatabaseSessions,
}

impl fmt::Display for ActionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How bad an incident is, and how soon it wants an answer (guide 004, Severity Levels).
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Down, or data at risk: 15 minutes.
    SEV1,
    /// A major function broken: 1 hour.
    SEV2,
    /// A minor function broken, or degraded: 4 hours.
    SEV3,
    /// To look at: 1 day.
    SEV4,
}

impl Severity {
    /// The time within which an incident of this severity is to be answered.
    pub const fn response_time(self) -> Duration {
        match self {
            Self::SEV1 => Duration::from_mins(15),
            Self::SEV2 => Duration::from_mins(60),
            Self::SEV3 => Duration::from_mins(4 * 60),
            Self::SEV4 => Duration::from_mins(24 * 60),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The incident types of the catalogue.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncidentType {
    /// Containers start and end, again and again.
    CrashLoop,
    /// A rollout does not get through.
    RolloutStuck,
    /// No pod of the server, or none behind its Service, is ready.
    ServiceNotResponding,
    /// Some pods of a known-good revision are not ready, and others are.
    PartiallyUnready,
    /// A container was killed at its memory limit.
    OutOfMemory,
    /// Memory grows steadily, and reaches the limit soon.
    MemoryLeak,
    /// Containers use nearly all the CPU that they may.
    CpuSaturation,
    /// The space that a pod may use runs out.
    DiskFilling,
    /// An alert that others wrote fires.
    AlertFiring,
    /// Too many requests fail.
    HighErrorRate,
    /// Nobody asks it for anything any more.
    TrafficLost,
    /// The heartbeat of a pod is silent.
    HeartbeatFailing,
    /// Sessions are left open, and nobody ends them.
    SessionLeak,
    /// The connections of clients break off.
    ConnectionDrops,
    /// More messages than before are no valid MCP.
    InvalidMessages,
    /// More requests than before are turned away because their clients send too many.
    RateLimited,
    /// The server does not speak MCP as it should, though its pods run.
    McpProtocolFailing,
    /// A tool that it should offer is gone, or is not what it was.
    ToolsMissing,
    /// A circuit breaker stays open though what it guards answers.
    CircuitStuckOpen,
    /// All connections to the database are in use, or waited for.
    DatabasePoolExhausted,
    /// Sessions in the database keep a transaction open, and do nothing.
    DatabaseIdleInTransaction,
    /// Sessions in the database wait for each other's locks.
    DatabaseBlockingLocks,
    /// Statements in the database are slow.
    DatabaseSlowQueries,
    /// The database finds its own data damaged.
    DatabaseCorruption,
    /// What the server depends on does not answer.
    DependencyDown,
    /// Pods lost their readiness because the node that they run on fails.
    NodeProblem,
    /// A certificate of what the server depends on ends soon, or has ended.
    CertificateExpiring,
    /// Answers take too long.
    HighLatency,
    /// A tool fails while others are well.
    ToolFailing,
    /// A rule of the policy's own holds.
    Rule,
    /// A person says that something is wrong.
    Reported,
}

impl IncidentType {
    /// The types that wait for a symptom to last: only of these an override says `for`.
    pub const WAITING: &[Self] = &[
        Self::CrashLoop,
        Self::RolloutStuck,
        Self::ServiceNotResponding,
        Self::PartiallyUnready,
        Self::MemoryLeak,
        Self::CpuSaturation,
        Self::HighErrorRate,
        Self::HighLatency,
        Self::ToolFailing,
        Self::ToolsMissing,
        Self::CircuitStuckOpen,
        Self::DependencyDown,
        Self::NodeProblem,
        Self::AlertFiring,
        Self::TrafficLost,
        Self::ConnectionDrops,
        Self::InvalidMessages,
        Self::RateLimited,
        Self::DatabasePoolExhausted,
        Self::DatabaseIdleInTransaction,
        Self::DatabaseBlockingLocks,
    ];
}

impl fmt::Display for IncidentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
