//! RecyclePod in the simulated world: one pod at a time, once, wherever the operator is cut off.

use mcp_health_api::{ActionType, IncidentType, McpServerHealthStatus, Outcome};

use crate::support::{
    operator::{Crash, Operator},
    policy,
    world::{Template, World},
};

/// One pod of two never got ready again; the runbook recycles it.
fn one_crashing_pod() -> Operator {
    let runbook = [Some(ActionType::RecyclePod)];
    let spec = policy::with_runbook(policy::enforcing(), IncidentType::CrashLoop, &runbook);
    let mut operator = Operator::new(World::with(Template::Good, 2), spec);
    operator.run(120, 1);
    let crashing = operator.world.new_template(Template::CrashesAtOnce);
    operator.world.pods[0].template = crashing;
    operator.world.pods[0].started = None;
    operator
}

fn is_over(status: &McpServerHealthStatus) -> bool {
    status.incidents.is_empty() && !status.history.is_empty()
}

#[test]
fn the_pod_that_shows_the_fault_is_evicted_and_the_other_serves_on() {
    let mut operator = one_crashing_pod();
    let pods: Vec<_> = operator.world.pods.iter().map(|pod| pod.name.clone()).collect();
    operator.run_until("resolved", 300, is_over);
    let done: Vec<_> = operator.world.done.iter().map(|done| done.before.as_str()).collect();
    assert_eq!(done, [&pods[0]]);
    let left: Vec<_> = operator.world.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert!(left.contains(&pods[1].as_str()) && !left.contains(&pods[0].as_str()), "{left:?}");
    let status = operator.status();
    assert_eq!(status.history[0].resolution, "RecyclePod helped");
    assert_eq!(status.last_action.unwrap().outcome, Some(Outcome::Improved));
    let words: Vec<_> = operator.looks.iter().filter_map(|look| look.after.summary.clone()).collect();
    assert!(words.iter().any(|one| one.contains(&format!("evicted pod {}", pods[0]))), "{words:#?}");
}

#[test]
fn wherever_the_operator_is_cut_off_one_pod_is_evicted_once() {
    for crash in [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted] {
        let mut operator = one_crashing_pod();
        operator.crash = Some(crash);
        operator.run_until("resolved", 900, is_over);
        assert_eq!(operator.crash, None, "{crash:?} came to pass");
        assert_eq!(operator.world.done.len(), 1, "{crash:?}: {:#?}", operator.world.done);
    }
}

#[test]
fn an_eviction_that_the_api_server_refuses_is_not_tried_in_a_hot_loop() {
    let mut operator = one_crashing_pod();
    operator.world.evictions_refused = true;
    operator.run(60, 1);
    assert_eq!(operator.world.done, [], "nothing is evicted against a budget");
    let refused = operator.status().incidents[0].attempts.clone();
    let outcomes: Vec<_> = refused.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Superseded)], "its mark makes the pause count");
    operator.world.evictions_refused = false;
    operator.run_until("resolved", 900, is_over);
    assert_eq!(operator.world.done.len(), 1);
}
