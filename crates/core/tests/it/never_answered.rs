//! What was declared to be asked and never answered is a problem with a name; it is no evidence. What the
//! API server does not let the operator see stalls the object.

use jiff::SignedDuration;
use mcp_health_api::ConditionType;
use mcp_health_core::{
    report::status,
    signals::{Fault, FaultKind, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading},
};

use crate::support::{moment, scene::Scene};

/// A path that came to these results.
fn path(path: ProbePath, ever_answered: bool, results: usize) -> Probed {
    let fault = Fault::new(FaultKind::Refused, "10.0.0.1:8000 refuses the connection");
    let result = ProbeResult { at: moment(0), millis: 1, was_ready: true, outcome: Err(fault) };
    let results = vec![result; results];
    let (answered_here, pause) = (ever_answered, SignedDuration::from_secs(15));
    let question = ProbeQuestion::Mcp;
    Probed {
        path,
        question,
        ever_answered,
        answered_here,
        leads_elsewhere: false,
        pause,
        results,
        tools: None,
    }
}

fn problems(change: impl FnOnce(&mut Scene) -> Vec<Probed>) -> Vec<String> {
    let mut scene = Scene::healthy();
    let probes = change(&mut scene);
    scene.signals.probes = Reading::Fresh(probes);
    scene.signals.problems()
}

fn pod(scene: &Scene) -> ProbePath {
    ProbePath::Pod(scene.signals.pods.fresh().unwrap()[0].name.clone())
}

#[test]
fn what_was_never_answered_by_a_ready_pod_is_named_once_it_was_tried_three_times() {
    let told = problems(|scene| {
        vec![path(pod(scene), false, 3), path(ProbePath::Service("a".to_owned()), false, 4)]
    });
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("its probes: NeverAnswered: MCP by pod "), "{told:?}");
    assert!(told[0].contains("like 1 other path (10.0.0.1:8000 refuses the connection)"), "{told:?}");
}

#[test]
fn a_server_of_one_client_is_named_at_the_first_answer() {
    let told = problems(|scene| {
        let mut single = path(pod(scene), false, 1);
        single.results[0].outcome = Err(Fault::new(FaultKind::SingleClient, "serves one client at a time"));
        vec![single]
    });
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("SingleClient: pod ") && told[0].contains("MCP is not probed"), "{told:?}");
}

#[test]
fn what_was_answered_once_was_tried_too_little_or_is_not_ready_is_not_named() {
    assert_eq!(problems(|scene| vec![path(pod(scene), true, 5)]), Vec::<String>::new());
    assert_eq!(problems(|scene| vec![path(pod(scene), false, 2)]), Vec::<String>::new());
    assert_eq!(problems(|_| vec![path(ProbePath::Pod("gone".to_owned()), false, 5)]), Vec::<String>::new());
    let unready = problems(|scene| {
        let probes = vec![path(pod(scene), false, 5), path(ProbePath::Service("a".to_owned()), false, 5)];
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods are seen") };
        for pod in pods {
            pod.ready = false;
        }
        probes
    });
    assert_eq!(unready, Vec::<String>::new());
}

#[test]
fn what_the_api_server_forbids_stalls_and_what_others_say_of_forbidding_does_not() {
    let stalled = |change: &dyn Fn(&mut Scene)| {
        let scene = Scene::healthy().with(change);
        let concluded = scene.concluded();
        let status = status(&scene.case(), &concluded.diagnosis, &concluded.story, &concluded.decision);
        let kind = ConditionType::Stalled.to_string();
        let stalled = status.conditions.into_iter().find(|one| one.type_ == kind).unwrap();
        (stalled.status == "True").then_some((stalled.reason, stalled.message))
    };
    let words = || "pods is forbidden: User \"operator\" cannot list".to_owned();
    let forbidden = Some(("Forbidden".to_owned(), format!("its nodes: forbidden: {}", words())));
    assert_eq!(stalled(&|_| {}), None);
    assert_eq!(stalled(&|scene| scene.signals.nodes = Reading::Forbidden(words())), forbidden);
    assert_eq!(stalled(&|scene| scene.signals.nodes = Reading::Unavailable(words())), None);
}
