//! Circuit breakers that stay open: reset where what they guard answers, and only there.

use std::time::{SystemTime, UNIX_EPOCH};

use mcp_health_e2e::{ActionType, Cause, IncidentType, Server, Story, forward::Forward, until};
use serde_json::{Value, json};

/// What the circuit guards may be asked by the operator.
const ALLOWED: &[&str] = &["signals.allowedEndpoints={http://upstream.NAMESPACE:80}"];

/// A server of two pods whose circuits recover within a second, and what they guard.
async fn guarding(story: &Story) -> Server {
    let url = format!("http://upstream.{}:80/health", story.namespace);
    let policy = json!({
        "actions": {"allow": ["RolloutRestart", "RecyclePod", "Rollback", "ResetCircuit"]},
        "signals": {
            "http": {"interval": "1s", "timeout": "1s"},
            "dependencies": [{"name": "external-api", "http": {"url": url}}],
        },
    });
    let server = story.server().replicas(2).policy(policy).deployment(|deployment| {
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        let environment = container["env"].as_array_mut().expect("the manifest has an env");
        environment.push(json!({"name": "CIRCUIT_RECOVERY_TIMEOUT", "value": "1"}));
    });
    server.healthy().await
}

/// What a pod tells of its circuit, once it is as wanted.
async fn circuit(server: &Server, pod: &str, what: &str, wanted: impl Fn(&Value) -> bool) {
    until(&format!("the circuit of pod {pod} is {what}"), async || {
        let forward = Forward::open(&server.namespace, &format!("pod/{pod}"), 8000).await?;
        let answer = reqwest::get(format!("{}/circuit-breakers", forward.url)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let circuits: Value = answer.json().await.map_err(|error| error.to_string())?;
        if wanted(&circuits[0]) { Ok(()) } else { Err(circuits.to_string()) }
    })
    .await;
}

/// It is open, since so many seconds.
fn open_for(seconds: f64) -> impl Fn(&Value) -> bool {
    move |circuit| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let failed = circuit["last_failure_time"].as_f64().unwrap_or(now);
        circuit["state"] == "open" && now - failed >= seconds
    }
}

#[tokio::test]
async fn a_stuck_circuit_is_reset_on_its_pod_alone_where_what_it_guards_answers() {
    let story = Story::begin_with_values("circuit", ALLOWED).await;
    let upstream = story.server().named("upstream").without_policy().applied().await;
    upstream.rolled_out().await;
    let server = guarding(&story).await;
    let pods = server.pod_names().await;
    let stuck = pods.first().expect("a pod");
    server.break_pod(stuck, json!({"fault": "stuck-circuit"})).await;
    let incident = server.incident(IncidentType::CircuitStuckOpen, Cause::CircuitOpen).await;
    server.policy.evidence(&incident, &format!("pod {stuck}: circuit external-api is open")).await;
    let past = server.resolved_by(&incident, ActionType::ResetCircuit).await;
    assert_eq!(past.done(), "ResetCircuit: Improved");
    for pod in &pods {
        circuit(&server, pod, "closed", |circuit| circuit["state"] == "closed").await;
    }
    assert_eq!(server.pod_names().await, pods, "no pod was replaced");
    // The Deployment bears a mark, and nothing else.
    assert_eq!(server.actions_remembered().await, 1);
    server.has_healthy_template().await;
}

#[tokio::test]
async fn a_circuit_is_left_alone_while_what_it_guards_is_down_and_reset_once_that_is_back() {
    let story = Story::begin_with_values("circuit-down", ALLOWED).await;
    // A Service that leads to nothing.
    let upstream = story.server().named("upstream").without_policy().planned();
    upstream.apply_service().await;
    let server = guarding(&story).await;
    let pod = server.pod_names().await.first().expect("a pod").clone();
    server.break_pod(&pod, json!({"fault": "stuck-circuit"})).await;
    // The other one was reset by then.
    circuit(&server, &pod, "open for long", open_for(15.0)).await;
    server.policy.considered_again().await;
    assert_eq!(server.policy.status().await.incidents, []);
    server.is_untouched().await;

    upstream.apply().await;
    let incident = server.incident(IncidentType::CircuitStuckOpen, Cause::CircuitOpen).await;
    server.resolved_by(&incident, ActionType::ResetCircuit).await;
    circuit(&server, &pod, "closed", |circuit| circuit["state"] == "closed").await;
}
