//! Nodes that fail: what their pods lost with them is not the server's fault, and nothing is done about it; pods on other
//! nodes are healed as ever.

use mcp_health_api::{ActionType, Cause, IncidentType, McpServerHealthStatus, Severity};
use mcp_health_core::signals::{NodeSign, Reading};

use crate::support::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

use IncidentType::{CrashLoop, NodeProblem};

/// A server that was healthy for two minutes, its pods spread over these nodes.
fn on(nodes: &[&'static str], replicas: i32) -> Operator {
    let mut world = World::with(Template::Good, replicas);
    world.add_nodes(nodes);
    let mut operator = Operator::new(world, policy::enforcing());
    operator.run(120, 1);
    operator
}

fn is_over(status: &McpServerHealthStatus) -> bool {
    status.incidents.is_empty() && !status.history.is_empty()
}

fn types(operator: &Operator) -> Vec<IncidentType> {
    operator.status().incidents.iter().map(|one| one.incident_type).collect()
}

#[test]
fn pods_of_a_node_that_fails_for_90_seconds_are_not_restarted() {
    let mut operator = on(&["worker-1"], 2);
    operator.world.fail_node("worker-1");
    operator.world.add_nodes(&["worker-2"]);
    operator.run(90, 1);
    let status = operator.status();
    let incident = status.incidents.first().unwrap();
    assert_eq!((incident.incident_type, incident.severity), (NodeProblem, Severity::SEV1));
    assert_eq!(incident.cause, Cause::NodeUnreachable);
    assert_eq!(types(&operator), [NodeProblem]);
    let evidence = incident.evidence.join("\n");
    for words in
        ["node worker-1: Ready is Unknown (NodeStatusUnknown)", "pods mcp-server", "2 pods lost readiness"]
    {
        assert!(evidence.contains(words), "{words} in {evidence}");
    }
    operator.world.recover_node("worker-1");
    operator.run_until("resolved", 60, is_over);
    assert_eq!(operator.world.done, []);
    assert_eq!(operator.status().history[0].incident_type, NodeProblem);
}

#[test]
fn a_kubelet_that_is_restarted_is_no_incident() {
    let mut operator = on(&["worker-1"], 2);
    operator.world.fail_node("worker-1");
    operator.run(10, 1);
    operator.world.recover_node("worker-1");
    operator.run(60, 1);
    assert_eq!((operator.status().incidents, operator.status().history), (Vec::new(), Vec::new()));
}

#[test]
fn pods_elsewhere_that_crash_for_their_own_reasons_are_healed() {
    let mut operator = on(&["worker-1", "worker-2"], 4);
    operator.world.fail_node("worker-1");
    operator.run(60, 1);
    assert_eq!(types(&operator), [NodeProblem]);
    assert_eq!(operator.status().incidents[0].severity, Severity::SEV2);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("a rollback", 120, |status| {
        status.last_action.as_ref().is_some_and(|last| last.action == ActionType::Rollback)
    });
    let status = operator.status();
    assert_eq!(status.incidents[0].incident_type, CrashLoop, "what is healed comes first: {status:#?}");
    let node = status.incidents.iter().find(|one| one.incident_type == NodeProblem).unwrap();
    assert_eq!(node.caused_by, None);
}

#[test]
fn a_crash_loop_is_not_over_because_its_pods_are_lost_with_their_node() {
    let mut operator = Operator::new(World::with(Template::Good, 2), policy::observing());
    operator.world.add_nodes(&["worker-1"]);
    operator.run(120, 1);
    operator.world.dependency_down = true;
    operator.run(60, 1);
    assert!(types(&operator).contains(&CrashLoop));
    operator.world.fail_node("worker-1");
    operator.run(60, 1);
    assert!(types(&operator).contains(&CrashLoop) && types(&operator).contains(&NodeProblem));
}

#[test]
fn a_pod_that_never_got_ready_after_its_node_came_back_is_the_servers_own_again() {
    let mut operator = on(&["worker-1"], 2);
    operator.world.fail_node("worker-1");
    operator.run(60, 1);
    operator.world.dependency_down = true;
    operator.world.recover_node("worker-1");
    operator.run(110, 1);
    assert_eq!(operator.world.done, [], "two minutes are given");
    operator.run(30, 1);
    assert!(types(&operator).contains(&CrashLoop), "{:?}", operator.status());
}

/// The pods of a server lost readiness three minutes ago, and nodes may not be read.
fn without_nodes(sign: Option<NodeSign>) -> Scene {
    let operator = on(&["worker-1"], 2);
    let mut scene = Scene::of(&operator);
    scene.now += 180;
    scene.signals.nodes = Reading::Off;
    scene.target().ready = 0;
    let since = moment(scene.now - 179);
    let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
    for pod in pods {
        (pod.ready, pod.ready_changed) = (false, since);
        pod.placement.as_mut().unwrap().sign = sign;
    }
    scene
}

#[test]
fn where_nodes_may_not_be_read_the_pods_show_it() {
    let scene = without_nodes(Some(NodeSign::MarkedUnready));
    let concluded = scene.concluded();
    let found: Vec<_> = concluded.diagnosis.findings.iter().map(|one| one.incident).collect();
    assert_eq!(found, [NodeProblem]);
    assert_eq!(concluded.words(), "Wait");
    // Pods that are unready for a reason of their own are restarted.
    assert_eq!(without_nodes(None).decision(), "Act RolloutRestart");
}

#[test]
fn what_is_stale_about_a_node_is_no_reason_to_wait() {
    let mut scene = without_nodes(None);
    let failing = |operator: &mut Operator| {
        operator.world.fail_node("worker-1");
        Scene::of(operator).signals.nodes.fresh().unwrap().clone()
    };
    let nodes = failing(&mut on(&["worker-1"], 2));
    scene.signals.nodes = Reading::Stale { value: nodes.clone(), at: moment(scene.now - 90) };
    assert_eq!(scene.decision(), "Act RolloutRestart");
    scene.signals.nodes = Reading::Fresh(nodes);
    assert_eq!(scene.decision(), "Wait");
}
