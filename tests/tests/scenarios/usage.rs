//! What pods use up: memory that leaks, a CPU that is busy, a disk that fills. Measured by a real metrics-server and a
//! real kubelet, mended before the kill.

use std::collections::BTreeSet;

use mcp_health_e2e::{
    ActionType, Cause, Incident, IncidentType, Server, Severity, Story, server::Planned, until,
};
use serde_json::{Value, json};

/// Asks metrics-server and the kubelet more often than people would.
const OFTEN: &str = "extraArgs={--usage-period=5s,--kubelet-stats-period=5s}";
/// The kubelets are asked: only they tell resident memory, which a leak shows in, and what volumes hold.
const RESIDENT: &str = "signals.kubeletStats=true";

fn limited(planned: Planned, limits: Value) -> Planned {
    planned.deployment(move |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": limits});
    })
}

/// Servers with 256 MiB each, of which a leak is one after a minute.
fn with_memory(story: &Story, replicas: i32) -> Planned {
    let policy =
        json!({"overrides": [{"incident": "MemoryLeak", "for": "1m"}], "limits": {"cooldown": "5s"}});
    limited(story.server().replicas(replicas).policy(policy), json!({"memory": "256Mi"}))
}

/// From now on one pod leaks a MiB a second: it has four minutes to live. Returns its name, and the incident.
async fn leaks(server: &Server) -> (String, Incident) {
    let pods = server.pod_names().await;
    let pod = pods.first().expect("a pod").clone();
    server.break_pod(&pod, json!({"fault": "leak-memory", "rate": 1, "cap": 240})).await;
    let incident = server.incident(IncidentType::MemoryLeak, Cause::Leak).await;
    assert_eq!(incident.severity, Severity::SEV3);
    let told = format!("pod {pod}, container server: memory has grown by ");
    assert!(incident.evidence[0].starts_with(&told), "{:?}", incident.evidence);
    assert!(incident.evidence[0].contains(" of 256.0 MiB and reaches it in "), "{:?}", incident.evidence);
    (pod, incident)
}

/// One pod was evicted, and nothing else happened.
async fn recycled(server: &Server, before: &BTreeSet<String>, pod: &str, incident: &Incident) {
    server.resolved_by(incident, ActionType::RecyclePod).await;
    let now = server.pod_names().await;
    assert!(!now.contains(pod), "{pod} is gone");
    assert_eq!(now.intersection(before).count(), before.len() - 1, "the others stayed: {now:?}");
    for pod in server.pods().await {
        let statuses = pod.status.and_then(|status| status.container_statuses);
        let restarts: i32 = statuses.iter().flatten().map(|status| status.restart_count).sum();
        assert_eq!(restarts, 0, "nothing was killed");
    }
    server.has_healthy_template().await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn a_leaking_pod_is_recycled_before_it_is_killed_while_the_other_serves() {
    let story = Story::begin_with_values("leak", &[OFTEN, RESIDENT]).await;
    let server = with_memory(&story, 2).healthy().await;
    let before = server.pod_names().await;
    let (pod, incident) = leaks(&server).await;
    recycled(&server, &before, &pod, &incident).await;
}

#[tokio::test]
async fn the_only_pod_is_not_evicted_though_it_leaks() {
    let story = Story::begin_with_values("leak-alone", &[OFTEN, RESIDENT]).await;
    let only =
        json!({"overrides": [{"incident": "MemoryLeak", "for": "1m", "runbook": [{"recyclePod": {}}]}]});
    let server = with_memory(&story, 1).policy(only).healthy().await;
    let before = server.pod_names().await;
    let (pod, _) = leaks(&server).await;
    let incident = server.policy.escalated("LastReadyPod").await;
    let why = incident.escalation.expect("escalated").message;
    assert_eq!(why, format!("pod {pod} is the last that is ready: nobody would serve without it"));
    assert_eq!(server.pod_names().await, before);
    server.is_untouched().await;
}

#[tokio::test]
async fn a_disruption_budget_that_needs_all_pods_holds_the_eviction() {
    let story = Story::begin_with_values("leak-budget", &[OFTEN, RESIDENT]).await;
    let server = with_memory(&story, 2).healthy().await;
    story.kubectl(&["create", "pdb", "keep-both", "--selector=app=mcp-server", "--min-available=2"]).await;
    let before = server.pod_names().await;
    let (pod, _) = leaks(&server).await;
    let incident = server.policy.held("DisruptionBudget").await;
    let hold = incident.hold.clone().expect("held").message;
    assert_eq!(hold, "PodDisruptionBudget keep-both lets no pod be evicted now");
    server.policy.considered_again().await;
    assert_eq!(server.pod_names().await, before);
    server.is_untouched().await;

    story.kubectl(&["delete", "pdb", "keep-both"]).await;
    recycled(&server, &before, &pod, &incident).await;
}

#[tokio::test]
async fn a_busy_server_is_scaled_within_its_maximum_unless_an_autoscaler_does_that() {
    let story = Story::begin_with_values("busy", &[OFTEN]).await;
    let runbook = json!([{"scale": {"by": 5}}]);
    let policy = json!({
        "actions": {"allow": ["Scale"], "scale": {"max": 2, "stateless": true}},
        "signals": {"prometheus": {"window": "1m"}},
        "overrides": [{"incident": "CpuSaturation", "for": "1m", "runbook": runbook}],
    });
    let server = limited(story.server().policy(policy), json!({"cpu": "200m"})).healthy().await;
    let autoscale = ["autoscale", "deployment/mcp-server", "--min=1", "--max=1", "--cpu-percent=90"];
    story.kubectl(&autoscale).await;
    for pod in server.pod_names().await {
        server.break_pod(&pod, json!({"fault": "burn-cpu", "threads": 1})).await;
    }
    let incident = server.incident(IncidentType::CpuSaturation, Cause::Saturation).await;
    assert_eq!(incident.severity, Severity::SEV3);
    assert!(incident.evidence[0].contains(" m of 200 m used for 1m"), "{:?}", incident.evidence);
    let incident = server.policy.held("AutoscalerOwned").await;
    assert_eq!(incident.next.as_deref(), Some("would set 2 replicas instead of 1; held (AutoscalerOwned)"));
    server.is_untouched().await;

    story.kubectl(&["delete", "hpa", "mcp-server"]).await;
    let follow_up = server
        .policy
        .until("mitigated by a second replica", |status| {
            let first = status.incidents.first().filter(|first| first.is_mitigated())?;
            Some(first.follow_ups.first()?.message.clone())
        })
        .await;
    assert!(follow_up.starts_with("it runs with 2 replicas instead of 1: "), "{follow_up}");
    assert_eq!(server.deployment().await.spec.replicas, Some(2));
    server.was_changed_by_operator(1).await;
    // The team, whose manifest names one replica, can still apply it.
    server.apply().await;
    until("one replica, as the team says", async || {
        let replicas = server.deployment().await.spec.replicas;
        if replicas == Some(1) { Ok(()) } else { Err(format!("{replicas:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_pod_whose_volume_fills_is_recycled_before_the_kubelet_evicts_it() {
    let story = Story::begin_with_values("disk", &[OFTEN, RESIDENT]).await;
    let scratch = |deployment: &mut Value| {
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["volumes"] = json!([{"name": "scratch", "emptyDir": {"sizeLimit": "40Mi"}}]);
        pod["containers"][0]["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    };
    let server = story.server().replicas(2).deployment(scratch).healthy().await;
    let before = server.pod_names().await;
    let pod = before.first().expect("a pod").clone();
    server.break_pod(&pod, json!({"fault": "fill-disk", "rate": 20, "path": "/scratch", "cap": 35})).await;
    let incident = server.incident(IncidentType::DiskFilling, Cause::TemporaryFiles).await;
    assert_eq!(incident.severity, Severity::SEV3);
    let told = format!("pod {pod}, volume scratch: 35.0 MiB of 40.0 MiB used (87 %)");
    assert_eq!(incident.evidence, [told]);
    recycled(&server, &before, &pod, &incident).await;
}
