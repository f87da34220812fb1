//! Outages without a pod to judge, or with some pods well: each is found, and named by what the cluster says of it.

use mcp_health_e2e::{
    ActionType, Cause, ConditionType, Fault, IncidentType, Reason, Server, Severity, Story, until,
};
use serde_json::{Value, json};

#[tokio::test]
async fn one_of_three_pods_that_stays_unready_is_replaced() {
    let story = Story::begin("one-of-three").await;
    let server = story.server().replicas(3).healthy().await;
    let pods = server.pod_names().await;
    let broken = pods.first().expect("three pods").clone();
    server.break_pod(&broken, json!({"fault": "never-ready"})).await;
    let incident = server.incident(IncidentType::PartiallyUnready, Cause::NotReady).await;
    assert_eq!(incident.severity, Severity::SEV3, "two pods serve");
    assert!(incident.evidence.iter().any(|line| line.contains(&broken)), "{:?}", incident.evidence);
    server.resolved_by(&incident, ActionType::RecyclePod).await;
    let after = server.pod_names().await;
    assert!(!after.contains(&broken), "{after:?}");
    assert_eq!(after.intersection(&pods).count(), 2, "the pods that served all the time");
    // Its mark, in an annotation: the API server counts that as a change of a Deployment.
    server.was_changed_by_operator(1).await;
    server.serves_mcp().await;
}

#[tokio::test]
async fn pods_that_admission_refuses_are_found_by_the_api_servers_own_message() {
    let story = Story::begin("admission").await;
    let server = story.server().healthy().await;
    let pods = server.pod_names().await;
    let namespace = story.namespace.as_str();
    story.kubectl(&["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline"]).await;
    server.change_manifest(|manifest| manifest["spec"]["template"]["spec"]["hostNetwork"] = json!(true));
    server.apply().await;
    let incident = server.incident(IncidentType::RolloutStuck, Cause::AdmissionRefused).await;
    let evidence = incident.evidence.join("\n");
    assert!(evidence.contains("violates PodSecurity"), "{evidence}");
    untouched(&server, &pods).await;
    // The team takes the setting out again: the rollout goes on.
    server.change_manifest(|manifest| manifest["spec"]["template"]["spec"]["hostNetwork"] = json!(null));
    server.apply().await;
    server.policy.resolved(&incident).await;
}

#[tokio::test]
async fn a_pod_that_does_not_end_under_recreate_is_named_with_the_end_of_its_grace() {
    let story = Story::begin("stuck-terminating").await;
    let server = story.server().recreate().deployment(ends_slowly).healthy().await;
    let pod = server.pod_names().await.first().expect("a pod").clone();
    server.change_manifest(|manifest| {
        let pod = &mut manifest["spec"]["template"]["spec"];
        pod["terminationGracePeriodSeconds"] = json!(5);
        pod["containers"][0]["lifecycle"] = json!(null);
    });
    server.apply().await;
    let incident = server
        .policy
        .until("an incident that names the pod that does not end", |status| {
            let first = status.incidents.first().filter(|one| one.cause == Cause::StuckTerminating)?;
            first.evidence.iter().any(|line| line.contains(&pod)).then(|| first.clone())
        })
        .await;
    server.policy.considered_again().await;
    server.was_changed_by_operator(0).await;
    story.kubectl(&["delete", &format!("pod/{pod}"), "--grace-period=1"]).await;
    server.policy.resolved(&incident).await;
    server.serves_mcp().await;
}

/// Its pods take minutes to end, and a rollout is overdue after seconds.
fn ends_slowly(deployment: &mut Value) {
    deployment["spec"]["progressDeadlineSeconds"] = json!(20);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = json!(600);
    pod["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 500}}});
}

#[tokio::test]
async fn a_pod_that_has_ended_and_that_a_finalizer_keeps_is_no_outage() {
    let story = Story::begin("finalizer").await;
    let server = story.server().recreate().healthy().await;
    let pod = format!("pod/{}", server.pod_names().await.first().expect("a pod"));
    let finalizer = r#"{"metadata": {"finalizers": ["example.com/keep"]}}"#;
    story.kubectl(&["patch", &pod, "--type=merge", "--patch", finalizer]).await;
    server.roll_out(Fault::None("2s")).await;
    server.serves_mcp().await;
    server.policy.considered_again().await;
    let status = server.policy.status().await;
    assert_eq!((status.incidents.len(), status.history.len()), (0, 0), "{status:#?}");
    server.was_changed_by_operator(0).await;
    story.kubectl(&["patch", &pod, "--type=merge", "--patch", r#"{"metadata": {"finalizers": null}}"#]).await;
}

#[tokio::test]
async fn without_the_right_to_list_disruption_budgets_it_says_so_and_does_not_spin() {
    let story = Story::begin("no-budgets").await;
    let server = story.server().healthy().await;
    story.operator().forbid("poddisruptionbudgets").await;
    story.operator().restarted().await;
    let seen = server
        .policy
        .until_condition(ConditionType::SignalsAvailable, "False", &Reason::SignalsMissing)
        .await;
    assert!(seen.message.contains("budgets"), "{}", seen.message);
    server.policy.considered_again().await;
    // Each failed list is tried again; none of them has the server looked at.
    let before = story.operator().metric("mcp_health_operator_reconciles_total", "").await;
    until("the watch was tried again several times", async || {
        let log = story.operator().log().await;
        let tries = log.matches("poddisruptionbudgets").count();
        if tries >= 4 { Ok(()) } else { Err(format!("{tries} tries")) }
    })
    .await;
    let after = story.operator().metric("mcp_health_operator_reconciles_total", "").await;
    assert!(after - before <= 3.0, "{before} reconciles, then {after}");
}

/// Escalated, not acted on, and the old pods are still there.
async fn untouched(server: &Server, pods: &std::collections::BTreeSet<String>) {
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    server.is_untouched().await;
    assert!(server.pod_names().await.is_superset(pods), "the old pods serve on");
}
