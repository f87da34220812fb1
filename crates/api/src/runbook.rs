//! One step of a runbook, with the parameters of its action.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    env::{EnvName, is_not_denied},
    kinds::ActionType,
};

/// One step of a runbook: exactly one of its fields is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new(
    "[has(self.rollback), has(self.rolloutRestart), has(self.recyclePod), has(self.rollbackConfig), \
     has(self.scale), has(self.raiseResources), has(self.relaxStartupProbe), has(self.setEnv), \
     has(self.drainAndRestart), has(self.callHook), has(self.runJob), has(self.resetCircuit), \
     has(self.endDatabaseSessions), has(self.escalate)].exists_one(x, x)"
).message("a runbook step names exactly one action, as rollback: {} or escalate: {}"))]
#[serde(rename_all = "camelCase")]
pub struct RunbookStep {
    /// Bring the template back that was last seen healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<NoParameters>,
    /// Replace all pods, rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_restart: Option<NoParameters>,
    /// Evict the pod that shows the fault most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recycle_pod: Option<NoParameters>,
    /// Bring the content of the `ConfigMap` back that was last seen healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<NoParameters>,
    /// Add replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleParameters>,
    /// Raise the memory limit of the container that was killed at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise_resources: Option<NoParameters>,
    /// Give the start more time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relax_startup_probe: Option<NoParameters>,
    /// Set an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_env: Option<SetEnvParameters>,
    /// Empty the pods, replace them, have them take their sessions up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_and_restart: Option<NoParameters>,
    /// Call a hook on every ready pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_hook: Option<CallHookParameters>,
    /// Run a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_job: Option<RunJobParameters>,
    /// Close the circuit breakers that stay open though what they guard answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_circuit: Option<NoParameters>,
    /// End the database sessions of the server's own that are idle in a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_database_sessions: Option<NoParameters>,
    /// Hand over to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<NoParameters>,
}

impl RunbookStep {
    /// The action that the step names; `None` hands over to a person.
    pub fn action(&self) -> Option<ActionType> {
        [
            (self.rollback.is_some(), ActionType::Rollback),
            (self.rollout_restart.is_some(), ActionType::RolloutRestart),
            (self.recycle_pod.is_some(), ActionType::RecyclePod),
            (self.rollback_config.is_some(), ActionType::RollbackConfig),
            (self.scale.is_some(), ActionType::Scale),
            (self.raise_resources.is_some(), ActionType::RaiseResources),
            (self.relax_startup_probe.is_some(), ActionType::RelaxStartupProbe),
            (self.set_env.is_some(), ActionType::SetEnv),
            (self.drain_and_restart.is_some(), ActionType::DrainAndRestart),
            (self.call_hook.is_some(), ActionType::CallHook),
            (self.run_job.is_some(), ActionType::RunJob),
            (self.reset_circuit.is_some(), ActionType::ResetCircuit),
            (self.end_database_sessions.is_some(), ActionType::EndDatabaseSessions),
        ]
        .into_iter()
        .find_map(|(named, action)| named.then_some(action))
    }
}

/// How much to scale.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleParameters {
    /// Replicas to add.
    #[schemars(range(min = 1, max = 100), extend("format" = "int32"))]
    pub by: i32,
}

/// Which variable to set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SetEnvParameters {
    /// Its name; one of `spec.actions.setEnv.allow`.
    #[x_kube(validation = Rule::new(is_not_denied()).message(
        "name: the operator never sets what weakens authentication or TLS, loads code, redirects traffic or \
         holds a credential"
    ))]
    pub name: EnvName,
    /// Its value.
    #[schemars(length(max = 256))]
    pub value: String,
    /// Taken back after this time, if the incident stays away; without it, it stays until somebody changes
    /// it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "duration(self) > duration('0s') && duration(self) <= duration('24h')"
    ).message("for: at most 24h"))]
    pub hold_for: Option<Duration>,
}

/// Which hook to call.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CallHookParameters {
    /// The hook's name in `spec.hooks`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Which Job to run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunJobParameters {
    /// Where its template is taken from.
    pub job_template_ref: JobTemplateRef,
}

/// A step without parameters: `{}`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoParameters {}

/// A `CronJob` (a suspended one will do), whose Job template is used, as `kubectl create job
/// --from=cronjob/…` does.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplateRef {
    /// `CronJob`.
    #[x_kube(validation = Rule::new("self == 'CronJob'").message(
        "a Job's template is taken from a CronJob (a suspended one will do): write kind: CronJob"
    ))]
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Its name, in the object's namespace.
    #[schemars(length(min = 1, max = 52))]
    pub name: String,
}
