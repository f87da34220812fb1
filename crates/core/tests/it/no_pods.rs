//! There is no pod to look at: none is created, accepted or ended. Each is an incident with the message that says why.

use mcp_health_api::{Cause, IncidentType};

use mcp_health_core::words;

use crate::support::{
    moment,
    operator::Operator,
    policy,
    world::{Template, World},
};

const POD_SECURITY: &str = "pods \"mcp-server-2-x\" is forbidden: violates PodSecurity \"restricted:latest\": \
                            allowPrivilegeEscalation != false";

fn server(pods: i32) -> Operator {
    let mut operator = Operator::new(World::with(Template::Good, pods), policy::enforcing());
    operator.run(120, 1);
    operator
}

/// Escalated with this cause and these words in its evidence, and nothing was done.
fn is_escalated(operator: &Operator, incident: IncidentType, cause: Cause, words: &str) {
    let status = operator.status();
    let first = status.incidents.first().unwrap_or_else(|| panic!("no incident: {status:#?}"));
    assert_eq!((first.incident_type, first.cause), (incident, cause), "{status:#?}");
    assert!(first.evidence.iter().any(|line| line.contains(words)), "{:#?}", first.evidence);
    assert!(first.escalation.is_some() && operator.world.done.is_empty(), "{status:#?}");
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "False");
}

#[test]
fn pods_that_admission_refuses_are_an_incident_with_its_message_and_no_rollback() {
    let mut operator = server(3);
    operator.world.refuses = Some((POD_SECURITY, None));
    operator.world.roll_out(Template::Good);
    operator.run(25, 1);
    is_escalated(&operator, IncidentType::RolloutStuck, Cause::AdmissionRefused, "violates PodSecurity");
    operator.world.refuses = None;
    operator.run_until("resolved", 120, |status| status.incidents.is_empty());
}

#[test]
fn a_server_none_of_whose_pods_is_ever_created_is_an_incident() {
    let mut operator = Operator::new(World::with(Template::Good, 2), policy::enforcing());
    operator.world.refuses = Some((POD_SECURITY, None));
    operator.run(25, 1);
    is_escalated(&operator, IncidentType::RolloutStuck, Cause::AdmissionRefused, "violates PodSecurity");
    let severities: Vec<_> = operator.status().incidents.iter().map(|one| one.severity).collect();
    assert_eq!(severities.last(), Some(&mcp_health_api::Severity::SEV1), "{severities:?}");
}

#[test]
fn a_refused_revision_is_rolled_back_where_pods_of_the_known_good_one_are_created_meanwhile() {
    let mut operator = server(3);
    let new = operator.world.roll_out(Template::Good);
    operator.world.refuses = Some((POD_SECURITY, Some(new)));
    operator.run(5, 1);
    operator.world.kill_a_pod();
    operator.run_until("resolved", 120, |status| !status.history.is_empty());
    let past = operator.status().history[0].clone();
    assert_eq!((past.cause, past.done().as_str()), (Cause::BadRollout, "Rollback: Improved"));
}

#[test]
fn a_refusal_that_is_over_at_the_next_attempt_is_none() {
    let mut operator = server(3);
    operator.world.refuses = Some((POD_SECURITY, None));
    operator.world.roll_out(Template::Good);
    operator.run(10, 1);
    operator.world.refuses = None;
    operator.run(100, 1);
    assert!(operator.status().history.is_empty() && operator.status().incidents.is_empty());
    let unreachable =
        "Internal error occurred: failed calling webhook \"inject.example.com\": connection refused";
    operator.world.refuses = Some((unreachable, None));
    operator.world.roll_out(Template::Good);
    operator.run(45, 1);
    assert!(operator.status().incidents.is_empty(), "the webhook's own pods may be restarting");
    operator.run(45, 1);
    is_escalated(&operator, IncidentType::RolloutStuck, Cause::AdmissionRefused, "failed calling webhook");
}

#[test]
fn pods_that_the_kubelet_rejects_are_an_incident_with_its_reason() {
    let mut operator = server(2);
    operator.world.roll_out(Template::Rejected);
    operator.run(60, 5);
    is_escalated(
        &operator,
        IncidentType::RolloutStuck,
        Cause::PodRejected,
        "SysctlForbidden: forbidden sysctl",
    );
    let mut first = Operator::new(World::with(Template::Rejected, 1), policy::enforcing());
    first.run(60, 5);
    is_escalated(&first, IncidentType::RolloutStuck, Cause::PodRejected, "SysctlForbidden");
}

#[test]
fn one_rejected_pod_whose_successor_is_accepted_is_no_incident() {
    let mut operator = server(2);
    operator.world.pods[0].failure = Some(("OutOfcpu", "Node didn't have enough resource: cpu"));
    (operator.world.pods[0].ready, operator.world.pods[0].first_started) = (false, None);
    operator.run(300, 5);
    let status = operator.status();
    assert!(status.incidents.is_empty() && status.history.is_empty(), "{status:#?}");
}

#[test]
fn a_recreate_that_waits_for_a_pod_that_does_not_end_names_the_pod_and_its_finalizers() {
    let mut operator = server(2);
    operator.world.stuck = true;
    operator.world.deployment.as_mut().unwrap().recreate = true;
    let pod = operator.world.pods[0].name.clone();
    operator.world.roll_out(Template::Good);
    operator.run(50, 1);
    assert!(operator.status().incidents.is_empty(), "it may take a while: {:#?}", operator.status());
    operator.run(60, 1);
    is_escalated(
        &operator,
        IncidentType::RolloutStuck,
        Cause::StuckTerminating,
        "finalizers: example.com/keep",
    );
    assert!(operator.status().incidents[0].evidence[0].contains(&pod));
    operator.world.stuck = false;
    operator.run_until("resolved", 120, |status| status.incidents.is_empty());
}

#[test]
fn a_recreate_whose_pods_end_in_time_is_no_incident() {
    for grace in [2, 110] {
        let mut operator = server(2);
        operator.world.deployment.as_mut().unwrap().recreate = true;
        operator.world.grace = grace;
        operator.world.roll_out(Template::Good);
        operator.run(300, 1);
        let status = operator.status();
        assert!(status.incidents.is_empty() && status.history.is_empty(), "{grace} s: {status:#?}");
    }
}

#[test]
fn a_recreate_that_is_overdue_for_a_pod_with_a_long_grace_period_names_the_pod_and_when_that_ends() {
    let mut operator = server(1);
    let deployment = operator.world.deployment.as_mut().unwrap();
    (deployment.recreate, deployment.deadline) = (true, 20);
    operator.world.grace = 600;
    let pod = operator.world.pods[0].name.clone();
    operator.world.roll_out(Template::Good);
    operator.run(18, 1);
    assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
    operator.run(12, 1);
    let ends = operator.world.pods.iter().find_map(|pod| pod.going).unwrap();
    let words = format!("pod {pod} has a grace period until {}", words::moment(moment(ends)));
    is_escalated(&operator, IncidentType::RolloutStuck, Cause::StuckTerminating, &words);
    operator.world.pods.iter_mut().for_each(|pod| pod.going = Some(0));
    operator.run_until("resolved", 120, |status| status.incidents.is_empty());
    assert_eq!(operator.world.done, []);
}

#[test]
fn a_pod_that_has_ended_and_that_a_finalizer_keeps_is_no_outage() {
    let mut operator = server(1);
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.roll_out(Template::Good);
    operator.run(10, 1);
    let mut ended = operator.world.pods[0].clone();
    (ended.name, ended.ready) = ("mcp-server-1-9".to_owned(), false);
    (ended.going, ended.failure) = (Some(operator.world.now), Some(("Completed", "")));
    operator.world.stuck = true;
    operator.world.pods.push(ended);
    operator.run(300, 1);
    let status = operator.status();
    assert!(status.incidents.is_empty() && status.history.is_empty(), "{status:#?}");
    // Nor is it what keeps others from being created.
    operator.world.refuses = Some((POD_SECURITY, None));
    operator.world.pods.retain(|pod| pod.failure.is_some());
    operator.run(120, 1);
    let causes: Vec<Cause> = operator.status().incidents.iter().map(|one| one.cause).collect();
    assert!(causes.contains(&Cause::AdmissionRefused), "{causes:?}");
    assert!(!causes.contains(&Cause::StuckTerminating), "{causes:?}");
}

#[test]
fn a_paused_deployment_with_a_pending_change_is_judged_by_the_pods_that_it_has() {
    let mut operator = server(2);
    operator.world.change(|one| one.paused = true);
    operator.world.roll_out(Template::Good);
    operator.run(60, 1);
    let status = operator.status();
    assert_eq!(status.summary.as_deref(), Some("healthy: 2 pods ready"));
    operator.world.dependency_down = true;
    operator.run(60, 1);
    let status = operator.status();
    let first = &status.incidents[0];
    assert_eq!(
        (first.incident_type, first.cause),
        (IncidentType::CrashLoop, Cause::ProcessExit),
        "{status:#?}"
    );
    assert_eq!(first.hold.as_ref().map(|hold| hold.reason.as_str()), Some("DeploymentPaused"));
    assert!(operator.world.done.is_empty());
}

#[test]
fn pods_that_are_evicted_again_and_again_are_an_incident_with_the_nodes_reason() {
    let mut operator = server(2);
    operator.world.evicts_after = Some(60);
    operator.run(400, 1);
    is_escalated(&operator, IncidentType::CrashLoop, Cause::Evicted, "low on resource: ephemeral-storage");
    operator.world.evicts_after = None;
    operator.run_until("resolved", 1200, |status| status.incidents.is_empty());
}

#[test]
fn an_eviction_is_known_by_its_event_where_the_pods_end_with_code_0() {
    let mut operator = server(2);
    operator.world.evicts_after = Some(60);
    operator.world.ends_well = true;
    operator.run(400, 1);
    is_escalated(&operator, IncidentType::CrashLoop, Cause::Evicted, "low on resource: ephemeral-storage");
}

#[test]
fn pods_that_are_evicted_once_and_replaced_are_no_incident() {
    let mut operator = server(3);
    operator.world.evicts_after = Some(60);
    operator.run(2, 1);
    operator.world.evicts_after = None;
    operator.run(300, 1);
    let status = operator.status();
    assert!(operator.world.pods.iter().filter(|pod| pod.failure.is_some()).count() >= 3);
    assert!(status.incidents.is_empty() && status.history.is_empty(), "{status:#?}");
}
