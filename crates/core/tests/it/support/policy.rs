//! What a team declares, as sentences.

use mcp_health_api::{
    ActionType, CallHookParameters, Decimal, DrainPolicy, Duration, EnvName, Hook, IncidentType,
    JobTemplateRef, McpServerHealthSpec, Mode, NoParameters, Override, RaiseResourcesPolicy,
    RunJobParameters, RunbookStep, ScaleParameters, ScalePolicy, SetEnvParameters, SetEnvPolicy, Severity,
    SmokeTest, UserRule,
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

/// The server depends on what takes connections there.
pub fn with_dependency(mut spec: McpServerHealthSpec, name: &str, address: &str) -> McpServerHealthSpec {
    let one = serde_json::json!({"name": name, "tcp": {"address": address}});
    spec.signals.dependencies.push(serde_json::from_value(one).unwrap());
    spec
}

/// Another ladder for an incident type.
pub fn with_runbook(
    mut spec: McpServerHealthSpec,
    incident: IncidentType,
    steps: &[Option<ActionType>],
) -> McpServerHealthSpec {
    let runbook = steps.iter().copied().map(step).collect();
    spec.overrides.push(Override {
        incident,
        severity: None,
        hold_for: None,
        thresholds: None,
        runbook: Some(runbook),
    });
    spec
}

/// Another severity for an incident type.
pub fn with_severity(
    mut spec: McpServerHealthSpec,
    incident: IncidentType,
    severity: Severity,
) -> McpServerHealthSpec {
    spec.overrides.push(Override {
        incident,
        severity: Some(severity),
        hold_for: None,
        thresholds: None,
        runbook: None,
    });
    spec
}

/// A rule of the policy's own: what its query answers is an incident above this number, once it has been so for so
/// many seconds.
pub fn with_rule(
    mut spec: McpServerHealthSpec,
    name: &str,
    above: &str,
    seconds: u32,
    steps: &[Option<ActionType>],
) -> McpServerHealthSpec {
    spec.rules.push(UserRule {
        name: name.to_owned(),
        promql: format!("sum by (namespace, service) (mcp_{})", name.to_lowercase()),
        above: Some(Decimal(above.to_owned())),
        below: None,
        hold_for: Some(Duration::from_secs(seconds)),
        severity: Severity::SEV3,
        runbook: steps.iter().copied().map(step).collect(),
    });
    spec
}

fn cron_job(name: &str) -> JobTemplateRef {
    JobTemplateRef { kind: "CronJob".to_owned(), name: name.to_owned() }
}

/// Every action is allowed, as far as any can go.
pub fn with_all_actions(mut spec: McpServerHealthSpec) -> McpServerHealthSpec {
    let actions = &mut spec.actions;
    actions.allow = mcp_health_core::actions::ACTIONS.iter().map(|one| one.action).collect();
    actions.raise_resources = Some(RaiseResourcesPolicy { max_memory: "4Gi".to_owned() });
    actions.scale = Some(ScalePolicy { max: 6, stateless: true });
    actions.set_env = Some(SetEnvPolicy { allow: vec![EnvName("POOL_SIZE".to_owned())] });
    let hook = |name: &str| Hook {
        name: name.to_owned(),
        path: format!("/admin/{name}"),
        port: None,
        timeout: Duration::from_secs(5),
    };
    spec.hooks = ["drain", "save", "restore"].map(hook).into();
    actions.drain = Some(DrainPolicy {
        hook: "drain".to_owned(),
        wait: Duration::from_secs(20),
        save_hook: Some("save".to_owned()),
        restore_hook: Some("restore".to_owned()),
    });
    let dependency =
        serde_json::json!({"name": "external-api", "http": {"url": "http://external-api:8080/health"}});
    spec.signals.dependencies = vec![serde_json::from_value(dependency).unwrap()];
    spec
}

/// Its database is looked at.
pub fn with_database(mut spec: McpServerHealthSpec) -> McpServerHealthSpec {
    let postgres = serde_json::json!({"connectionSecretRef": {"name": "mcp-db", "key": "url"}});
    spec.signals.postgres = Some(serde_json::from_value(postgres).unwrap());
    spec
}

/// A Job proves every rollback.
pub fn with_smoke_test(mut spec: McpServerHealthSpec) -> McpServerHealthSpec {
    spec.smoke_test = Some(SmokeTest { job_template_ref: cron_job("smoke") });
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
        reset_circuit: here(action == Some(ActionType::ResetCircuit)),
        end_database_sessions: here(action == Some(ActionType::EndDatabaseSessions)),
        drain_and_restart: here(action == Some(ActionType::DrainAndRestart)),
        scale: (action == Some(ActionType::Scale)).then_some(ScaleParameters { by: 1 }),
        set_env: (action == Some(ActionType::SetEnv)).then(|| SetEnvParameters {
            name: EnvName("POOL_SIZE".to_owned()),
            value: "5".to_owned(),
            hold_for: Some(Duration::from_secs(600)),
        }),
        call_hook: (action == Some(ActionType::CallHook))
            .then(|| CallHookParameters { name: "drain".to_owned() }),
        run_job: (action == Some(ActionType::RunJob))
            .then(|| RunJobParameters { job_template_ref: cron_job("mend") }),
        escalate: here(action.is_none()),
    }
}
