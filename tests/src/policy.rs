//! An `McpServerHealth` object, and what it tells.

use std::fmt::Write;

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use mcp_health_api::{
    ActionOutcome, ActionType, Cause, Condition, ConditionType, Incident, IncidentState, IncidentType,
    McpServerHealth, McpServerHealthStatus, Outcome, PastIncident, Reason,
};
use serde_json::{Value, json};

use crate::until::until;

/// Writes specs, as people do.
const PERSON: &str = "person";

/// See the module.
#[derive(Clone)]
pub struct Policy {
    /// All policies of the namespace.
    pub api: Api<McpServerHealth>,
    /// Its name.
    pub name: String,
}

impl Policy {
    /// The policy of this name, which need not be there yet.
    pub fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), name: name.to_owned() }
    }

    /// Creates it, or brings it up to date.
    pub async fn apply(&self, manifest: &Value) {
        let params = PatchParams::apply(PERSON).force();
        let applied = self.api.patch(&self.name, &params, &Patch::Apply(manifest)).await;
        applied.unwrap_or_else(|error| panic!("the policy {} is not admitted: {error}", self.name));
    }

    /// Changes its spec by a merge.
    pub async fn change(&self, spec: &Value) {
        let params = PatchParams { field_manager: Some(PERSON.to_owned()), ..PatchParams::default() };
        let changed = self.api.patch(&self.name, &params, &Patch::Merge(&json!({"spec": spec}))).await;
        changed.unwrap_or_else(|error| panic!("the policy {} cannot be changed: {error}", self.name));
    }

    /// Deletes it.
    pub async fn delete(&self) {
        let deleted = self.api.delete(&self.name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("the policy {} cannot be deleted: {error}", self.name));
    }

    /// Its status now.
    pub async fn status(&self) -> McpServerHealthStatus {
        let object = self.api.get(&self.name).await.expect("the policy is there");
        object.status.unwrap_or_default()
    }

    /// Awaits that its status tells something.
    pub async fn until<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&McpServerHealthStatus) -> Option<T>,
    ) -> T {
        until(&format!("McpServerHealth {}: {what}", self.name), async || {
            let object = self.api.get(&self.name).await.map_err(|error| error.to_string())?;
            let status = object.status.unwrap_or_default();
            found(&status).ok_or_else(|| in_short(&status))
        })
        .await
    }

    /// Awaits that the template in force is the one to go back to, and that nothing is wrong.
    pub async fn healthy(&self) {
        self.until("Ready, with the template in force recorded as healthy", |status| {
            let target = status.target.as_ref()?;
            let recorded = target.last_healthy.as_ref().is_some_and(|last| last.template == target.template);
            (recorded && status.incidents.is_empty() && is(status, ConditionType::Ready, "True"))
                .then_some(())
        })
        .await;
    }

    /// Awaits an open incident of this type and cause that no other one causes.
    pub async fn incident(&self, incident: IncidentType, cause: Cause) -> Incident {
        self.until(&format!("an incident {incident} ({cause})"), |status| {
            let first = status.incidents.first()?;
            (first.incident_type == incident && first.cause == cause).then(|| first.clone())
        })
        .await
    }

    /// Awaits that the evidence of an open incident says this; what the log tells comes after the first word.
    pub async fn evidence(&self, incident: &Incident, says: &str) {
        self.until(&format!("evidence of {} that says {says:?}", incident.id), |status| {
            let over = status.history.iter().any(|past| past.id == incident.id);
            assert!(!over, "{} is over, and its evidence never said {says:?}", incident.id);
            let known = status.incidents.iter().find(|one| one.id == incident.id)?;
            known.evidence.iter().any(|line| line.contains(says)).then_some(())
        })
        .await;
    }

    /// Awaits that this incident is over.
    pub async fn resolved(&self, incident: &Incident) -> PastIncident {
        self.until(&format!("{} resolved", incident.id), |status| {
            status.history.iter().find(|past| past.id == incident.id).cloned()
        })
        .await
    }

    /// Awaits that this incident is over, and checks that one action of the operator did it. An attempt that was
    /// superseded has touched nothing: somebody's write came first, the Deployment controller's for example.
    pub async fn resolved_by(&self, incident: &Incident, action: ActionType) -> PastIncident {
        let past = self.resolved(incident).await;
        let of = |outcome| ActionOutcome { action, outcome: Some(outcome) };
        let superseded = of(Outcome::Superseded);
        let done: Vec<_> = past.actions.iter().filter(|&one| *one != superseded).collect();
        assert_eq!(done, [&of(Outcome::Improved)], "{past:#?}");
        assert_eq!(past.resolution, format!("{action} helped"), "{past:#?}");
        past
    }

    /// Awaits that one action of the operator has helped against an incident which is not over: something is left to do.
    pub async fn mitigated_by(&self, incident: &Incident, action: ActionType) -> Incident {
        self.until(&format!("{} mitigated by {action}", incident.id), |status| {
            let known = status.incidents.iter().find(|one| one.id == incident.id)?;
            let helped = known
                .attempts
                .iter()
                .any(|one| one.action == action && one.outcome == Some(Outcome::Improved));
            (helped && known.state == IncidentState::Mitigated).then(|| known.clone())
        })
        .await
    }

    /// Awaits that a guard holds the action on the primary incident for this reason.
    pub async fn held(&self, reason: &str) -> Incident {
        let incident = self
            .until(&format!("held by {reason}"), |status| {
                let first = status.incidents.first()?;
                first.hold.as_ref().filter(|hold| hold.reason == reason).map(|_| first.clone())
            })
            .await;
        assert_eq!(incident.state, IncidentState::Held, "{incident:#?}");
        let allowed = self.condition(ConditionType::RemediationAllowed).await;
        assert_eq!((allowed.status.as_str(), allowed.reason.as_str()), ("False", reason));
        incident
    }

    /// Awaits that the primary incident is handed to a person for this reason.
    pub async fn escalated(&self, reason: &str) -> Incident {
        let incident = self
            .until(&format!("escalated for {reason}"), |status| {
                let first = status.incidents.first()?;
                first.escalation.as_ref().filter(|why| why.reason == reason).map(|_| first.clone())
            })
            .await;
        assert_eq!(incident.state, IncidentState::Escalated, "{incident:#?}");
        let escalated = self.condition(ConditionType::Escalated).await;
        assert_eq!((escalated.status.as_str(), escalated.reason.as_str()), ("True", reason));
        incident
    }

    /// A condition as it is now.
    pub async fn condition(&self, kind: ConditionType) -> Condition {
        let status = self.status().await;
        condition(&status, kind).unwrap_or_else(|| panic!("no condition {kind}: {}", in_short(&status)))
    }

    /// Awaits that a condition is so.
    pub async fn until_condition(
        &self,
        kind: ConditionType,
        value: &str,
        reason: &dyn std::fmt::Display,
    ) -> Condition {
        let reason = reason.to_string();
        self.until(&format!("{kind} = {value} ({reason})"), |status| {
            condition(status, kind).filter(|one| one.status == value && one.reason == reason)
        })
        .await
    }

    /// Awaits that the operator cannot do its work on it, and why.
    pub async fn stalled(&self, reason: Reason) -> Condition {
        self.until_condition(ConditionType::Stalled, "True", &reason).await
    }

    /// Has the operator look and decide once more, knowing all that it was told until now: changes what does
    /// not matter, and awaits that the status speaks of that.
    pub async fn considered_again(&self) {
        let object = self.api.get(&self.name).await.expect("the policy is there");
        let attempts = object.spec.limits.max_attempts;
        let other = if attempts > 5 { attempts - 1 } else { attempts + 1 };
        self.change(&json!({"limits": {"maxAttempts": other}})).await;
        let changed = self.api.get(&self.name).await.expect("the policy is there");
        let generation = changed.metadata.generation;
        self.until(&format!("observedGeneration {generation:?}"), |status| {
            (status.observed_generation >= generation).then_some(())
        })
        .await;
    }
}

/// A condition of a status.
pub fn condition(status: &McpServerHealthStatus, kind: ConditionType) -> Option<Condition> {
    let kind = kind.to_string();
    status.conditions.iter().find(|one| one.type_ == kind).cloned()
}

/// Whether a condition has this value.
pub fn is(status: &McpServerHealthStatus, kind: ConditionType, value: &str) -> bool {
    condition(status, kind).is_some_and(|one| one.status == value)
}

/// The status, for the message of a test that fails.
fn in_short(status: &McpServerHealthStatus) -> String {
    let mut text = status.summary.clone().unwrap_or_else(|| "no status yet".to_owned());
    for one in &status.conditions {
        let _ = write!(text, "\n  {}={} ({}): {}", one.type_, one.status, one.reason, one.message);
    }
    for one in &status.incidents {
        let _ = write!(text, "\n  open: {} {} {} {}", one.id, one.incident_type, one.cause, one.state);
        for line in &one.evidence {
            let _ = write!(text, "\n    saw: {line}");
        }
        for attempt in &one.attempts {
            let _ = write!(
                text,
                "\n    did: {} {} {:?}: {}",
                attempt.id,
                attempt.action,
                attempt.outcome,
                attempt.message.as_deref().unwrap_or_default()
            );
        }
        let _ = write!(text, "\n    next: {}", one.next.as_deref().unwrap_or("nothing"));
    }
    for past in &status.history {
        let _ = write!(text, "\n  over: {} {}: {}", past.id, past.incident_type, past.resolution);
    }
    if let Some(target) = &status.target {
        let _ = write!(text, "\n  target: {target:?}");
    }
    text
}
