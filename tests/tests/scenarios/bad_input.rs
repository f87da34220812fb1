//! What people write wrongly: refused at admission with what to write instead, or told in the status.

use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Fault, IncidentType, Operator, Policy, Reason, Story, manifest, until,
};
use serde_json::{Value, json};

#[tokio::test]
async fn an_invalid_policy_is_refused_with_the_path_and_what_to_write_instead() {
    let story = Story::begin_with("admission", Operator::None).await;
    let refused: &[(&str, Value, &[&str])] = &[
        (
            "another kind of target",
            json!({"targetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x"}}),
            &["spec.targetRef.kind", "write kind: Deployment"],
        ),
        (
            "another API version",
            json!({"targetRef": {"apiVersion": "apps/v1beta1", "kind": "Deployment", "name": "x"}}),
            &["spec.targetRef.apiVersion", "write apiVersion: apps/v1"],
        ),
        ("no name", json!({"targetRef": {"name": ""}}), &["spec.targetRef.name"]),
        (
            "a duration without a unit",
            json!({"limits": {"cooldown": "5"}}),
            &["spec.limits.cooldown", "(h|m|s|ms)"],
        ),
        (
            "too long a pause",
            json!({"limits": {"cooldown": "25h"}}),
            &["spec.limits.cooldown", "at most 24h"],
        ),
        (
            "no attempt at all",
            json!({"limits": {"maxAttempts": 0}}),
            &["spec.limits.maxAttempts", "greater than or equal to 1"],
        ),
        ("an unknown mode", json!({"mode": "Auto"}), &["spec.mode", "\"Observe\", \"Enforce\""]),
        (
            "an unknown action",
            json!({"actions": {"allow": ["Reboot"]}}),
            &["spec.actions.allow[0]", "\"Rollback\", \"RolloutRestart\""],
        ),
        (
            "an unknown incident",
            json!({"overrides": [{"incident": "Crash", "severity": "SEV1"}]}),
            &["spec.overrides[0].incident", "\"CrashLoop\""],
        ),
        (
            "an override that overrides nothing",
            json!({"overrides": [{"incident": "CrashLoop"}]}),
            &["spec.overrides[0]", "set severity, for, thresholds or runbook"],
        ),
        (
            "a time to wait, of what does not wait",
            json!({"overrides": [{"incident": "OutOfMemory", "for": "5m"}]}),
            &["spec.overrides[0]", "for: only these wait for a symptom to last: CrashLoop, RolloutStuck"],
        ),
        (
            "two overrides of one incident",
            json!({"overrides": [
                {"incident": "CrashLoop", "severity": "SEV1"},
                {"incident": "CrashLoop", "severity": "SEV2"},
            ]}),
            &["spec.overrides[1]", "Duplicate value"],
        ),
        (
            "a step of two actions",
            json!({"overrides": [{"incident": "CrashLoop", "runbook": [{"rollback": {}, "escalate": {}}]}]}),
            &["spec.overrides[0].runbook[0]", "exactly one action"],
        ),
        (
            "a step of none",
            json!({"overrides": [{"incident": "CrashLoop", "runbook": [{}]}]}),
            &["spec.overrides[0].runbook[0]", "exactly one action"],
        ),
        (
            "a variable that switches authentication off",
            json!({"actions": {"setEnv": {"allow": ["DB_POOL_SIZE", "mcp_auth_enabled"]}}}),
            &["spec.actions.setEnv.allow", "weakens authentication or TLS"],
        ),
        (
            "a step that loads code",
            json!({"overrides": [{"incident": "CrashLoop", "runbook": [{"setEnv": {"name": "LD_PRELOAD", "value": "x"}}]}]}),
            &["spec.overrides[0].runbook[0].setEnv.name", "loads code"],
        ),
        ("a misspelt field", json!({"supend": true}), &["unknown field \"spec.supend\""]),
    ];
    for (what, spec, says) in refused {
        let mut policy = manifest::policy(&story.namespace, "mcp-server");
        for (field, value) in spec.as_object().expect("fields") {
            match (&mut policy["spec"][field], value) {
                (Value::Object(into), Value::Object(from)) => into.extend(from.clone()),
                (into, from) => *into = from.clone(),
            }
        }
        let said = story.kubectl_with(&["apply", "--filename=-"], &policy.to_string()).await;
        assert!(!said.well, "{what} is admitted: {}", said.out);
        for words in *says {
            assert!(said.err.contains(words), "{what}: {words:?} is not said in:\n{}", said.err);
        }
    }
    // What all of these differ from is admitted.
    let policy = manifest::policy(&story.namespace, "mcp-server");
    story.kubectl_with(&["apply", "--filename=-"], &policy.to_string()).await.ok();
}

#[tokio::test]
async fn a_target_that_does_not_exist_is_waited_for() {
    let story = Story::begin("no-target").await;
    let server = story.server().planned();
    server.apply_policy().await;
    let stalled = server.policy.stalled(Reason::TargetNotFound).await;
    assert!(stalled.message.contains("mcp-server"), "{}", stalled.message);
    let ready = server.policy.condition(ConditionType::Ready).await;
    assert_eq!(ready.status, "Unknown", "nothing is known of a server that is not there");

    server.apply_service().await;
    server.apply().await;
    server.policy.healthy().await;
    server.note_healthy_template().await;
    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
}

#[tokio::test]
async fn of_two_policies_with_one_target_the_older_acts_until_it_is_deleted() {
    let story = Story::begin("conflict").await;
    let server = story.server().healthy().await;
    // Ages count in seconds, and the name decides among equals: this one is younger by its age alone.
    until("a second has passed since the first was created", async || {
        let object = server.policy.api.get(&server.name).await.map_err(|error| error.to_string())?;
        let created = object.metadata.creation_timestamp.ok_or("no creation timestamp")?;
        let age = jiff::Timestamp::now().duration_since(created.0);
        if age.as_secs() > 1 { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
    let younger = Policy::new(&story.client, &story.namespace, "a-younger-one");
    let mut second = manifest::policy(&story.namespace, "a-younger-one");
    second["spec"]["targetRef"]["name"] = json!(server.name);
    younger.apply(&second).await;
    let stalled = younger.stalled(Reason::TargetConflict).await;
    assert!(stalled.message.contains("mcp-server is older"), "{}", stalled.message);

    server.roll_out(Fault::RefusesToStart("DATABASE_URL")).await;
    let incident = server.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    server.resolved_by(&incident, ActionType::Rollback).await;
    assert_eq!(younger.status().await.incidents, [], "the younger one leaves it to the older");

    server.policy.delete().await;
    younger.healthy().await;
    younger.change(&json!({"limits": {"cooldown": "1s"}})).await;
    server.roll_out(Fault::RefusesToStart("API_KEY")).await;
    let incident = younger.incident(IncidentType::CrashLoop, Cause::ConfigError).await;
    younger.resolved_by(&incident, ActionType::Rollback).await;
    server.has_healthy_template().await;
    server.was_changed_by_operator(2).await;
}
