//! Condition types and reasons. They follow kstatus: `Reconciling` and `Stalled` speak of the operator's
//! work, `Ready` of the server.

use std::fmt;

/// The conditions that every `McpServerHealth` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The verdict on the server: `Unknown` without evidence.
    Ready,
    /// Whether everything that the rules need can be seen.
    SignalsAvailable,
    /// Whether an incident is open.
    IncidentActive,
    /// Whether an action is under way or being verified.
    Remediating,
    /// Whether the operator would act on an incident now; the reason is the guard that holds.
    RemediationAllowed,
    /// Whether a person is needed.
    Escalated,
    /// kstatus: the status is about to change without anybody doing anything.
    Reconciling,
    /// kstatus: the operator cannot do its work on this object.
    Stalled,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Condition reasons that are not the name of an incident, a guard or an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// All desired pods are ready, and nothing is found wrong.
    Healthy,
    /// All is well by something temporary.
    Mitigated,
    /// Something is found wrong.
    IncidentOpen,
    /// The server is coming up or being rolled out; nothing is found wrong yet.
    Progressing,
    /// Too little is known for a verdict.
    NoEvidence,
    /// The target is scaled to zero on purpose.
    ScaledToZero,
    /// Everything that the rules need is seen.
    AllSignalsFresh,
    /// The operator failed while it evaluated this object: a defect of the operator.
    EvaluationFailed,
    /// Some source does not answer, or is too old.
    SignalsMissing,
    /// No incident is open.
    NoIncident,
    /// Nothing is under way.
    Idle,
    /// An attempt is recorded or being carried out.
    Acting,
    /// An attempt is done and its effect is being judged.
    Verifying,
    /// No guard holds.
    Permitted,
    /// No guard holds, but a rollback would have no revision to go back to.
    NoRollbackTarget,
    /// A person is needed.
    PersonNeeded,
    /// Nothing is in the way of the operator's work.
    Working,
    /// `spec.targetRef` names a Deployment that does not exist (yet).
    TargetNotFound,
    /// Another, older object has the same target.
    TargetConflict,
    /// The operator's own rights do not suffice.
    Forbidden,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
