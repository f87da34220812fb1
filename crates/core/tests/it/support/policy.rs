//! What a team declares, as sentences.

use mcp_health_api::ActionType;
use mcp_health_api::{
    Duration, IncidentType, McpServerHealthSpec, Mode, NoParameters, Override, RunbookStep, Severity,
};

/// `mode: Enforce`, and everything else by default.
pub fn enforcing() -> McpServerHealthSpec {
    let mut spec = observing();
    spec.mode = Mode::Enforce;
    spec
}

/// The smallest useful object.
pub fn observing() -> McpServerHealthSpec {
    serde_json::from_value(serde_json::json!({
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
    }))
    .unwrap()
}

/// A pause of so many seconds after an action.
pub fn with_cooldown(mut spec: McpServerHealthSpec, seconds: u32) -> McpServerHealthSpec {
    spec.limits.cooldown = Duration::from_secs(seconds);
    spec
}

/// Another ladder for an incident type.
pub fn with_runbook(
    mut spec: McpServerHealthSpec,
    incident: IncidentType,
    steps: &[Option<ActionType>],
) -> McpServerHealthSpec {
    let runbook = steps.iter().copied().map(step).collect();
    spec.overrides.push(Override { incident, severity: None, hold_for: None, runbook: Some(runbook) });
    spec
}

/// Another severity for an incident type.
pub fn with_severity(
    mut spec: McpServerHealthSpec,
    incident: IncidentType,
    severity: Severity,
) -> McpServerHealthSpec {
    spec.overrides.push(Override { incident, severity: Some(severity), hold_for: None, runbook: None });
    spec
}

fn step(action: Option<ActionType>) -> RunbookStep {
    let here = |is| Some(NoParameters {}).filter(|_| is);
    RunbookStep {
        rollback: here(action == Some(ActionType::Rollback)),
        rollout_restart: here(action == Some(ActionType::RolloutRestart)),
        recycle_pod: here(action == Some(ActionType::RecyclePod)),
        rollback_config: here(action == Some(ActionType::RollbackConfig)),
        raise_resources: here(action == Some(ActionType::RaiseResources)),
        relax_startup_probe: here(action == Some(ActionType::RelaxStartupProbe)),
        drain_and_restart: here(action == Some(ActionType::DrainAndRestart)),
        escalate: here(action.is_none()),
        ..RunbookStep::default()
    }
}
