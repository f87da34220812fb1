//! What probes come to: when a path fails, what contradicts itself, and what is found, forbidden and done by it.

use jiff::SignedDuration;
use mcp_health_api::{
    ActionType, Answered, Cause, IncidentType, McpSignal, Measure, NamedDigest, Outcome, PastIncident,
    ToolName,
};
use mcp_health_core::{
    Server, catalogue,
    probes::{Failing, PathState, told},
    signals::{
        CheckStep, Dependency, Exit, Failure, Fault,
        FaultKind::{self, *},
        Metrics, Probe, ProbeHandler, ProbeKind, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading,
        Series, Span, Tool,
    },
};

use crate::support::{
    measured::{found, judged, word},
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

use IncidentType::{McpProtocolFailing, ServiceNotResponding, ToolsMissing};
use ProbeQuestion::{Health, Mcp, Tools};

const INTERVAL: i64 = 15;
const PAUSE: SignedDuration = SignedDuration::from_secs(INTERVAL);

/// Results, the newest last and just now: `.` is well, everything else this fault.
pub fn results(now: i64, pattern: &str, kind: FaultKind) -> Vec<ProbeResult> {
    let count = i64::try_from(pattern.len()).unwrap();
    let at = |place: usize| now - (count - 1 - i64::try_from(place).unwrap()) * INTERVAL;
    let outcome = |one: char| {
        let said = format!("fails by {kind:?}");
        if one == '.' { Ok(()) } else { Err(Fault { kind, said }) }
    };
    let results = pattern.chars().enumerate();
    results
        .map(|(place, one)| ProbeResult {
            at: moment(at(place)),
            millis: 5,
            was_ready: true,
            outcome: outcome(one),
        })
        .collect()
}

pub fn probed(now: i64, path: ProbePath, question: ProbeQuestion, fault: Option<FaultKind>) -> Probed {
    let (pattern, kind) = fault.map_or((".....", TimedOut), |kind| ("..xxx", kind));
    let results = results(now, pattern, kind);
    Probed {
        path,
        question,
        ever_answered: true,
        answered_here: true,
        leads_elsewhere: false,
        pause: PAUSE,
        results,
        tools: None,
    }
}

/// Three ready pods and their Service: what each question comes to, where it is asked.
pub fn scene(pods: &[(Option<FaultKind>, Option<FaultKind>)], service: Option<FaultKind>) -> Scene {
    Scene::healthy().with(|scene| {
        let names: Vec<String> =
            scene.signals.pods.fresh().unwrap().iter().map(|pod| pod.name.clone()).collect();
        let mut all = Vec::new();
        for (name, (mcp, health)) in names.iter().zip(pods.iter().cycle()) {
            all.push(probed(scene.now, ProbePath::Pod(name.clone()), Mcp, *mcp));
            all.push(probed(scene.now, ProbePath::Pod(name.clone()), Health, *health));
        }
        all.push(probed(scene.now, ProbePath::Service("mcp-server".to_owned()), Mcp, service));
        scene.signals.probes = Reading::Fresh(all);
        scene.status.target.as_mut().unwrap().answered = vec![Answered::McpPod];
        scene.spec.signals.mcp = Some(McpSignal::default());
    })
}

pub fn probes(scene: &mut Scene) -> &mut Vec<Probed> {
    match &mut scene.signals.probes {
        Reading::Fresh(probes) => probes,
        other => panic!("no probes: {other:?}"),
    }
}

/// The kubelet asks the container itself.
fn with_a_readiness_probe(scene: &mut Scene) {
    let (kind, handler) = (ProbeKind::Readiness, ProbeHandler::Http);
    let probe = Probe { kind, handler, port: Some("http".to_owned()), delay: 0, period: 5, failures: 3 };
    scene.target().containers[0].probes.push(probe);
}

/// A template is in force that was never seen healthy, and another one was.
pub fn on_a_new_template(scene: &mut Scene) {
    let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
    "before".clone_into(&mut healthy.template);
}

pub fn runbook(scene: &Scene, incident: IncidentType) -> &'static [ActionType] {
    let case = scene.case();
    let cause = found(scene, incident).cause;
    (catalogue::entry(incident).unwrap().runbook)(cause, &Server::of(&case).unwrap())
}

#[test]
fn a_path_fails_where_three_of_five_results_are_faults_and_the_newest_is_one() {
    let scene = Scene::healthy();
    for (pattern, ever, age, expected) in [
        (".....", true, 0, "Well"),
        ("...", true, 0, "Well"),
        ("..", true, 0, "Nothing"),
        ("xx", true, 0, "Nothing"),
        ("xxx", true, 0, "Failing"),
        ("..xxx", true, 0, "Failing"),
        ("x.x.x", true, 0, "Failing"),
        (".x.x.", true, 0, "Well"),
        ("xxxx.", true, 0, "Wavering"),
        ("...xx", true, 0, "Wavering"),
        // Of more than five, the newest count.
        ("xxx.....", true, 0, "Well"),
        ("xxxxx", false, 0, "Nothing"),
        (".....", false, 0, "Nothing"),
        ("xxxxx", true, 119 - 60, "Failing"),
        ("xxxxx", true, 121, "Nothing"),
        (".....", true, 121, "Nothing"),
    ] {
        let mut probed = probed(0, ProbePath::Pod("a".to_owned()), Mcp, None);
        (probed.results, probed.ever_answered) = (results(scene.now - age, pattern, TimedOut), ever);
        let case = scene.case();
        let told = match told(&case, &probed) {
            PathState::Nothing => "Nothing",
            PathState::Wavering => "Wavering",
            PathState::Well => "Well",
            PathState::Failing(Failing { faults, .. }) => {
                assert!(faults >= 3);
                "Failing"
            }
        };
        assert_eq!(told, expected, "{pattern} {age} s ago, ever answered: {ever}");
    }
    let mut limited = probed(0, ProbePath::Pod("a".to_owned()), Mcp, None);
    limited.results = results(scene.now, "xxxxx", RateLimited);
    assert_eq!(told(&scene.case(), &limited), PathState::Wavering, "429 asks for patience");
}

#[test]
fn evidence_does_not_lapse_because_the_operator_asks_less_often() {
    let scene = Scene::healthy();
    for (pause, expected) in [(300, true), (15, false)] {
        let mut refused = probed(0, ProbePath::Pod("a".to_owned()), Mcp, None);
        refused.pause = SignedDuration::from_secs(pause);
        refused.results = results(scene.now, "xxx", Unauthorized);
        for (result, ago) in refused.results.iter_mut().zip([720, 420, 120]) {
            result.at = moment(scene.now - ago);
        }
        let case = scene.case();
        assert_eq!(matches!(told(&case, &refused), PathState::Failing(_)), expected, "asked each {pause} s");
    }
}

/// Of pods, MCP and health; of the Service; what ServiceNotResponding and McpProtocolFailing say.
type Row = (Vec<(Option<FaultKind>, Option<FaultKind>)>, Option<FaultKind>, &'static str, &'static str);

#[test]
fn what_fails_is_told_by_how_far_a_probe_got_and_where() {
    let of_all = |mcp, health| vec![(mcp, health)];
    let of_one = |mcp, health| vec![(mcp, health), (None, None), (None, None)];
    let rows: Vec<Row> = vec![
        (of_all(None, None), None, "Clear", "Clear"),
        (of_all(Some(TimedOut), Some(TimedOut)), Some(TimedOut), "TimedOut", "Unknown"),
        (of_all(Some(Reset), Some(Reset)), Some(Reset), "TimedOut", "Unknown"),
        (of_all(Some(Unavailable), Some(Unavailable)), Some(Unavailable), "ErrorAnswers", "Unknown"),
        (of_all(Some(ServerError), Some(Unavailable)), None, "ErrorAnswers", "Unknown"),
        // MCP alone.
        (of_all(Some(TimedOut), None), Some(TimedOut), "Clear", "Wedged"),
        (of_one(Some(TimedOut), None), None, "Clear", "Wedged"),
        (of_one(Some(Buffered), None), None, "Clear", "Wedged"),
        (of_one(Some(TimedOut), Some(TimedOut)), None, "Clear", "Wedged"),
        (of_one(Some(ServerError), None), None, "Clear", "ErrorAnswers"),
        // Alive, and gated.
        (of_all(Some(Unauthorized), None), Some(Unauthorized), "Clear", "AuthenticationRequired"),
        (of_all(Some(Forbidden), Some(TimedOut)), Some(Forbidden), "Clear", "AuthenticationRequired"),
        (of_all(Some(HostNotAllowed), None), Some(HostNotAllowed), "Clear", "HostNotAllowed"),
        (of_all(Some(Redirected), None), Some(Redirected), "Clear", "Redirected"),
        // On the pods' own addresses alone: the Service is the path of clients.
        (of_all(Some(Forbidden), Some(TimedOut)), None, "Clear", "Clear"),
        (of_all(Some(HostNotAllowed), None), None, "Clear", "Clear"),
        (of_all(Some(Unauthorized), Some(Unauthorized)), None, "Clear", "Clear"),
        (of_all(Some(Redirected), None), None, "Clear", "Clear"),
        (of_all(Some(Reset), Some(Reset)), None, "Clear", "Clear"),
        (of_all(Some(Tls), Some(Tls)), None, "Clear", "Clear"),
        (of_one(Some(Reset), None), None, "Clear", "Clear"),
        // A certificate that the operator cannot verify is no fault of the server, whichever path shows it.
        (of_all(Some(Unverified), None), Some(Unverified), "Clear", "Unknown"),
        (of_all(Some(VersionMismatch), None), None, "Clear", "VersionMismatch"),
        (of_all(Some(NotMcp), None), None, "Clear", "NotMcp"),
        (of_all(Some(NotFound), None), None, "Clear", "NotMcp"),
        (of_all(Some(Malformed), None), None, "Clear", "Malformed"),
        (of_all(Some(RateLimited), None), None, "Clear", "Unknown"),
        (of_all(Some(TimedOut), Some(Unhealthy)), None, "TimedOut", "Unknown"),
        // What is unhealthy by its own word answers.
        (of_all(None, Some(Unhealthy)), None, "Clear", "Clear"),
        // Through the Service alone.
        (of_all(None, None), Some(Buffered), "Clear", "ProxyBuffering"),
        (of_all(None, None), Some(TimedOut), "Clear", "ProxyBuffering"),
        (of_all(None, None), Some(SessionLost), "Clear", "SessionLost"),
        (of_all(None, None), Some(HostNotAllowed), "Clear", "HostNotAllowed"),
        (of_all(None, None), Some(Refused), "TargetPortMismatch", "Unknown"),
        (of_all(None, None), Some(ConnectTimeout), "Dropped", "Unknown"),
        (of_all(None, None), Some(Dns), "NameNotResolved", "Unknown"),
        (of_all(None, None), Some(Tls), "TlsFailing", "Unknown"),
        // Refused by pods of which nobody else says that they listen.
        (of_all(Some(Refused), Some(Refused)), Some(Refused), "Refused", "Unknown"),
        (of_one(Some(Refused), Some(Refused)), None, "Clear", "Refused"),
        // Dropped: that may be the way.
        (of_all(Some(ConnectTimeout), Some(ConnectTimeout)), Some(ConnectTimeout), "Clear", "Unknown"),
    ];
    for (pods, service, down, protocol) in rows {
        let scene = scene(&pods, service);
        let seen = (word(&judged(&scene, ServiceNotResponding)), word(&judged(&scene, McpProtocolFailing)));
        assert_eq!(seen, (down.to_owned(), protocol.to_owned()), "{pods:?}, through the Service {service:?}");
    }
}

#[test]
fn a_service_that_also_leads_to_pods_of_others_is_no_evidence_against_the_servers_own() {
    let foreign = |fault| {
        scene(&[(None, None)], Some(fault)).with(|scene| {
            let Reading::Fresh(services) = &mut scene.signals.services else { panic!("no Services") };
            services[0].foreign = vec!["pods of Deployment web".to_owned()];
        })
    };
    for (fault, incident) in [(Buffered, McpProtocolFailing), (Refused, ServiceNotResponding)] {
        let scene = foreign(fault);
        let found = found(&scene, incident);
        assert_eq!(found.cause, mcp_health_api::Cause::ForeignEndpoints);
        assert!(found.evidence.join("\n").contains("also leads to pods of Deployment web"), "{found:#?}");
        assert_eq!(runbook(&scene, incident), []);
        assert_eq!(runbook(&scene.with(on_a_new_template), incident), [], "no rollback either");
    }
    let well = foreign(Buffered).with(|scene| {
        probes(scene).retain(|one| matches!(one.path, ProbePath::Pod(_)));
    });
    assert_eq!(word(&judged(&well, McpProtocolFailing)), "Clear", "while nothing fails, it is not said");
}

#[test]
fn what_the_kubelet_contradicts_is_no_finding_and_is_told() {
    let mut scene = scene(&[(Some(Refused), Some(Refused))], Some(Refused));
    with_a_readiness_probe(&mut scene);
    assert_eq!(word(&judged(&scene, ServiceNotResponding)), "Clear", "by readiness");
    assert_eq!(word(&judged(&scene, McpProtocolFailing)), "Unknown");
    let concluded = scene.concluded();
    assert_eq!(concluded.diagnosis.findings, []);
    let [problem] = concluded.diagnosis.contradictions.as_slice() else { panic!("one problem") };
    assert!(problem.contains("(and 2 pods more)"), "{problem}");
    assert!(problem.contains("is Ready by the kubelet"), "{problem}");
    assert!(problem.contains("NetworkPolicy"), "{problem}");
    let status = mcp_health_core::report::status(
        &scene.case(),
        &concluded.diagnosis,
        &concluded.story,
        &concluded.decision,
    );
    let signals = status.conditions.iter().find(|one| one.type_ == "SignalsAvailable").unwrap();
    assert_eq!((signals.status.as_str(), &signals.message), ("False", problem));
    assert_eq!(concluded.words(), "Wait");

    // Traffic ceased as well: clients do not get through either.
    let series = |span, value, age| Series {
        measure: Measure::Requests,
        span,
        pod: None,
        labels: Vec::new(),
        value,
        at: moment(scene.now - age),
    };
    let metrics = |now: f64| Metrics {
        source: "Prometheus".to_owned(),
        window: jiff::SignedDuration::from_mins(5),
        interval: jiff::SignedDuration::from_secs(15),
        series: vec![series(Span::Before, 20.0, 300), series(Span::Window, now, 10)],
        missing: Vec::new(),
        queries: Vec::new(),
    };
    let with = |now: f64| scene.clone().with(|scene| scene.signals.metrics = Reading::Fresh(metrics(now)));
    assert_eq!(word(&judged(&with(15.0), ServiceNotResponding)), "Clear");
    assert_eq!(word(&judged(&with(0.0), ServiceNotResponding)), "Refused");
    assert_eq!(with(0.0).concluded().diagnosis.contradictions, [""; 0]);
    let through_the_service = with(0.0).with(|scene| {
        probes(scene).retain(|one| matches!(one.path, ProbePath::Pod(_)));
    });
    assert_eq!(word(&judged(&through_the_service, ServiceNotResponding)), "Clear");
}

#[test]
fn a_new_template_whose_pods_refuse_the_operator_alone_is_not_rolled_back_and_becomes_known_good() {
    for kind in [Reset, Tls, Redirected, Unauthorized, Forbidden, HostNotAllowed] {
        let scene = scene(&[(Some(kind), Some(kind))], None).with(on_a_new_template);
        let concluded = scene.concluded();
        assert_eq!(concluded.diagnosis.findings, [], "{kind:?}");
        let [problem] = concluded.diagnosis.contradictions.as_slice() else {
            panic!("one problem: {kind:?}")
        };
        assert!(problem.contains("(and 2 pods more) refuses the operator's direct probes"), "{problem}");
        assert!(problem.ends_with("judged through Service mcp-server"), "{problem}");
        let target = concluded.story.target.unwrap();
        assert_eq!(target.last_healthy.unwrap().template, target.template, "{kind:?}");
    }
}

#[test]
fn a_mesh_that_lets_the_operator_in_no_more_is_told_and_no_pod_is_recycled() {
    let mut strict = scene(&[(Some(Reset), Some(Reset))], Some(Reset));
    with_a_readiness_probe(&mut strict);
    assert_eq!(strict.concluded().diagnosis.findings, []);
    assert_eq!(strict.concluded().words(), "Wait");
    let problem = strict.concluded().diagnosis.contradictions.join("\n");
    assert!(problem.contains("is there a NetworkPolicy or a mesh in between?"), "{problem}");
    // A connection alone proves no answer; and a server that answers its health path is reached.
    let by_tcp = strict.clone().with(|scene| {
        scene.target().containers[0].probes[0].handler = ProbeHandler::Tcp;
    });
    assert_eq!(word(&judged(&by_tcp, ServiceNotResponding)), "TimedOut");
    let mut of_mcp = scene(&[(Some(Reset), None)], Some(Reset));
    with_a_readiness_probe(&mut of_mcp);
    assert_eq!(word(&judged(&of_mcp, McpProtocolFailing)), "Wedged");
}

#[test]
fn pods_without_a_path_of_their_own_are_judged_by_what_clients_get() {
    let walled = |service| {
        scene(&[(Some(HostNotAllowed), None)], service).with(|scene| {
            let mut pods = probes(scene).iter_mut().filter(|one| matches!(one.path, ProbePath::Pod(_)));
            pods.by_ref().for_each(|one| one.ever_answered = false);
        })
    };
    assert_eq!(word(&judged(&walled(Some(ServerError)), McpProtocolFailing)), "ErrorAnswers");
    assert_eq!(word(&judged(&walled(None), McpProtocolFailing)), "Unknown");
    let no_service = scene(&[(Some(Unauthorized), None)], None).with(|scene| {
        probes(scene).retain(|one| matches!(one.path, ProbePath::Pod(_)));
    });
    assert_eq!(word(&judged(&no_service, McpProtocolFailing)), "AuthenticationRequired", "no other path");
}

type Change = fn(&mut Scene);

#[test]
fn probes_that_cannot_be_relied_on_find_nothing_and_close_nothing() {
    let down = scene(&[(Some(TimedOut), Some(TimedOut))], Some(TimedOut));
    let open = down.clone().with(|scene| drop(scene.open_incident().clone()));
    let rows: &[(&str, Change)] = &[
        ("never answered", |scene| probes(scene).iter_mut().for_each(|one| one.ever_answered = false)),
        ("too few", |scene| probes(scene).iter_mut().for_each(|one| drop(one.results.drain(..3)))),
        ("too old", |scene| scene.now += 121),
        ("none", |scene| probes(scene).clear()),
        ("stale", |scene| {
            let value = probes(scene).clone();
            scene.signals.probes = Reading::Stale { value, at: moment(scene.now) };
        }),
        ("unavailable", |scene| scene.signals.probes = Reading::Unavailable("no answer".to_owned())),
        ("off", |scene| scene.signals.probes = Reading::Off),
    ];
    for (what, change) in rows {
        let unseen = down.clone().with(change);
        assert_eq!(unseen.concluded().diagnosis.findings, [], "{what}");
        let unseen = open.clone().with(change);
        let diagnosis = unseen.concluded().diagnosis;
        assert!(!diagnosis.clear.contains(&ServiceNotResponding), "{what}");
        assert!(!diagnosis.clear.contains(&McpProtocolFailing), "{what}");
        assert!(!diagnosis.clear.contains(&ToolsMissing), "{what}");
    }
    let not_asked = open.with(|scene| scene.spec.signals.mcp.as_mut().unwrap().enabled = false);
    assert!(not_asked.concluded().diagnosis.clear.contains(&McpProtocolFailing));
}

#[test]
fn what_is_done_follows_from_the_cause() {
    use ActionType::{RecyclePod, Rollback, RolloutRestart};
    let one = |kind| vec![(Some(kind), None), (None, None), (None, None)];
    let all = |kind| vec![(Some(kind), Some(kind))];
    let rows: Vec<(Scene, IncidentType, &[ActionType], &[ActionType])> = vec![
        (scene(&all(TimedOut), None), ServiceNotResponding, &[RolloutRestart], &[Rollback, RolloutRestart]),
        (
            scene(&one(TimedOut), None),
            McpProtocolFailing,
            &[RecyclePod, RolloutRestart],
            &[Rollback, RecyclePod, RolloutRestart],
        ),
        (scene(&one(NotMcp), None), McpProtocolFailing, &[], &[Rollback]),
        (scene(&one(Unauthorized), Some(Unauthorized)), McpProtocolFailing, &[], &[]),
        (scene(&one(HostNotAllowed), Some(HostNotAllowed)), McpProtocolFailing, &[], &[]),
        (scene(&one(Redirected), Some(Redirected)), McpProtocolFailing, &[], &[]),
        (scene(&[(None, None)], Some(Buffered)), McpProtocolFailing, &[], &[Rollback]),
        (scene(&[(None, None)], Some(SessionLost)), McpProtocolFailing, &[], &[]),
        (scene(&[(None, None)], Some(Refused)), ServiceNotResponding, &[], &[]),
    ];
    for (scene, incident, known, new) in rows {
        assert_eq!(runbook(&scene, incident), known, "{:?}", found(&scene, incident));
        assert_eq!(runbook(&scene.with(on_a_new_template), incident), new);
    }
    for kind in [Unauthorized, Forbidden, HostNotAllowed, VersionMismatch, SessionLost, NotMcp] {
        let forbids = found(&scene(&one(kind), Some(kind)), McpProtocolFailing).forbids;
        assert!(forbids.contains(&RolloutRestart) && forbids.contains(&RecyclePod), "{kind:?}");
    }
    for kind in [Refused, Dns, ConnectTimeout] {
        let forbids = found(&scene(&[(None, None)], Some(kind)), ServiceNotResponding).forbids;
        assert!(forbids.contains(&RolloutRestart) && forbids.contains(&RecyclePod), "{kind:?}");
    }
}

#[test]
fn while_a_dependency_is_down_no_pod_is_restarted_for_what_follows_from_it() {
    let mut scene = scene(&[(Some(Unavailable), Some(Unavailable))], Some(Unavailable));
    assert_eq!(scene.decision(), "Act RolloutRestart");
    let spec = serde_json::json!({"name": "queue", "tcp": {"address": "queue:5672"}});
    scene.spec.signals.dependencies = vec![serde_json::from_value(spec).unwrap()];
    let failed =
        |age| (moment(scene.now - age), Err(Failure::new(CheckStep::Port, "refuses the connection")));
    let results = vec![failed(30), failed(15), failed(0)];
    let down = Dependency {
        name: "queue".to_owned(),
        words: "a connection to queue:5672".to_owned(),
        ever_answered: true,
        results,
        ..Dependency::default()
    };
    scene.signals.dependencies = Reading::Fresh(vec![down]);
    assert_eq!(scene.decision(), "Wait");
    let finding = found(&scene, ServiceNotResponding);
    assert_eq!(finding.cause, Cause::DependencyDown);
    assert!(finding.evidence.iter().any(|line| line.contains("queue:5672") && line.contains("refuses")));
    // Its answers are old: it is not known whether it answers.
    let old = scene.clone().with(|scene| match &mut scene.signals.dependencies {
        Reading::Fresh(all) => all[0].results.iter_mut().for_each(|(at, _)| *at = moment(scene.now - 121)),
        _ => unreachable!(),
    });
    assert_eq!(old.decision(), "Hold DependencyUnknown");
    // It was found down, and there is no evidence since: what it forbids stays forbidden.
    let mut was_down = scene.clone();
    was_down.open_incident();
    let was_down = was_down.with(|scene| scene.signals.dependencies = old.signals.dependencies.clone());
    assert_eq!(was_down.decision(), "Hold DependencyUnavailable");
    // Pods that are not ready, for the same reason.
    let silent = scene.clone();
    let unready = scene.with(|scene| {
        let since = moment(scene.now - 60);
        scene.target().ready = 0;
        let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
        for pod in pods {
            (pod.ready, pod.ready_changed) = (false, since);
        }
    });
    assert_eq!(found(&unready, ServiceNotResponding).cause, Cause::DependencyDown);
    assert_eq!(unready.decision(), "Wait");
    // Pods that end by themselves have a fault of their own.
    let ending = unready.clone().with(|scene| {
        let at = moment(scene.now - 70);
        let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
        let container = &mut pods[0].containers[0];
        container.restarts = 1;
        let (code, reason) = (1, "Error".to_owned());
        container.last_exit = Some(Exit { code, reason, at, started: None, message: None });
    });
    assert_eq!(found(&ending, ServiceNotResponding).cause, Cause::NotReady);
    // A new template whose pods were ready waits for it, too.
    let new = unready.with(on_a_new_template);
    assert_eq!(found(&new, ServiceNotResponding).cause, Cause::DependencyDown);
    assert_eq!(new.decision(), "Wait");
    let silent = silent.with(on_a_new_template);
    assert_eq!(found(&silent, ServiceNotResponding).cause, Cause::ErrorAnswers);
    assert_eq!(silent.decision(), "Wait");
}

/// A server that was known good, one pod of which hangs: that pod is recycled and no other. The pod, and the
/// incident once it is over.
fn one_wedged(world: World) -> (String, PastIncident) {
    let mut operator = Operator::new(world, policy::enforcing());
    operator.run(120, 1);
    assert!(operator.status().target.unwrap().last_healthy.is_some());
    operator.world.wedge_a_pod();
    let pod = operator.world.wedged[0].0.clone();
    operator.run_until("resolved", 900, |status| !status.history.is_empty());
    let evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.as_str()).collect();
    assert_eq!(evicted, [&pod]);
    let past = operator.status().history.remove(0);
    assert_eq!((past.incident_type, past.cause), (McpProtocolFailing, Cause::Wedged));
    (pod, past)
}

#[test]
fn the_pod_on_which_mcp_hangs_is_recycled_and_the_others_serve_on() {
    let mut world = World::with(Template::Good, 3);
    world.probed = true;
    let (pod, past) = one_wedged(world);
    assert_eq!(past.resolution, "RecyclePod helped");
    assert!(
        past.evidence[0].contains(&pod) && past.evidence[0].contains("3 of the last 5 times"),
        "{past:#?}"
    );
}

#[test]
fn the_pod_on_which_the_list_of_tools_hangs_while_ping_answers_is_recycled() {
    let mut world = World::with(Template::Good, 3);
    (world.probed, world.wedged_on) = (true, Tools);
    let (_, past) = one_wedged(world);
    assert!(past.evidence[0].contains("tools/list: no answer within 5s"), "{past:#?}");
    assert!(past.evidence[0].ends_with("; MCP itself answers"), "{past:#?}");
}

/// One pod that keeps its sessions to itself, known good; then a new template, scaled to so many.
fn new_template_scaled_to(pods: i32) -> (Operator, String) {
    let mut world = World::with(Template::Good, 1);
    (world.probed, world.spreads_sessions) = (true, true);
    let mut operator = Operator::new(world, policy::enforcing());
    operator.run(120, 1);
    assert!(operator.status().target.unwrap().last_healthy.is_some());
    let template = operator.world.roll_out(Template::Good);
    operator.world.change(|deployment| deployment.desired = pods);
    (operator, template)
}

#[test]
fn sessions_that_a_service_spreads_over_new_pods_are_one_incident_for_a_person_and_no_rollback() {
    let (mut operator, template) = new_template_scaled_to(2);
    operator.run_until("escalated", 300, |status| {
        status.incidents.first().is_some_and(|incident| incident.escalation.is_some())
    });
    let incident = operator.status().incidents.remove(0);
    assert_eq!((incident.incident_type, incident.cause), (McpProtocolFailing, Cause::SessionLost));
    assert!(incident.evidence[0].starts_with("through Service mcp-server: MCP: "), "{incident:#?}");
    operator.run(1200, 1);
    let status = operator.status();
    assert_eq!(operator.world.done, [], "{status:#?}");
    assert_eq!(operator.world.deployment.as_ref().unwrap().template, template);
    let ids: Vec<_> = status.incidents.iter().map(|one| &one.id).collect();
    assert_eq!((ids, status.history.len()), (vec![&incident.id], 0), "one standing fault is one incident");
    operator.world.spreads_sessions = false;
    operator.run_until("resolved", 300, |status| status.incidents.is_empty());
}

#[test]
fn a_new_template_whose_pods_lose_their_sessions_on_their_own_addresses_is_rolled_back() {
    let (mut operator, template) = new_template_scaled_to(1);
    operator.world.loses_sessions = Some(template.clone());
    operator.run_until("resolved", 600, |status| !status.history.is_empty());
    let past = &operator.status().history[0];
    assert_eq!((past.incident_type, past.resolution.as_str()), (McpProtocolFailing, "Rollback helped"));
    assert_ne!(operator.world.deployment.as_ref().unwrap().template, template);
}

#[test]
fn two_pods_with_a_fault_each_are_replaced_one_after_the_other_and_the_third_serves_on() {
    let mut world = World::with(Template::Good, 3);
    world.probed = true;
    let mut operator = Operator::new(world, policy::with_cooldown(policy::enforcing(), 30));
    operator.run(120, 1);
    let wedged = operator.world.pods[0].name.clone();
    operator.world.wedged = vec![(wedged.clone(), operator.world.now)];
    operator.run_until("the first is evicted", 120, |status| {
        status.incidents.iter().any(|incident| !incident.attempts.is_empty())
    });
    let unready = operator.world.break_a_pod();
    operator.run_until("both are over", 300, |status| status.history.len() == 2);
    let evicted: Vec<_> = operator.world.done.iter().map(|done| done.before.clone()).collect();
    assert_eq!(evicted, [wedged, unready]);
    for past in operator.status().history {
        assert_eq!(past.done(), "RecyclePod: Improved", "{past:#?}");
    }
}

/// A server of so many pods that was known good, and MCP hangs on all of them since now.
fn all_wedged(pods: i32) -> Operator {
    let mut world = World::with(Template::Good, pods);
    world.probed = true;
    let spec = policy::with_cooldown(policy::enforcing(), 0);
    let mut operator = Operator::new(world, spec);
    operator.run(120, 1);
    operator.world.wedged =
        operator.world.pods.iter().map(|pod| (pod.name.clone(), operator.world.now)).collect();
    operator
}

#[test]
fn where_mcp_hangs_on_all_pods_a_restart_of_all_comes_after_the_first() {
    let mut operator = all_wedged(3);
    // 45 s until it is found, 45 s until the successor has answered three times, a restart, and as long again.
    operator.run_until("resolved", 240, |status| !status.history.is_empty());
    let past = &operator.status().history[0];
    assert_eq!(past.done(), "RecyclePod: Improved, RolloutRestart: Improved");
}

#[test]
fn the_one_pod_that_is_left_after_a_recycle_that_helped_is_recycled_as_well_and_the_new_one_serves_on() {
    let mut operator = all_wedged(2);
    operator.run_until("the first is judged", 150, |status| {
        let mut attempts = status.incidents.iter().flat_map(|incident| &incident.attempts);
        attempts.next().is_some_and(|first| first.outcome == Some(Outcome::Improved))
    });
    let new = operator.world.pods.iter().find(|pod| pod.created > 120).unwrap().name.clone();
    operator.run_until("resolved", 120, |status| !status.history.is_empty());
    let past = &operator.status().history[0];
    assert_eq!(past.done(), "RecyclePod: Improved, RecyclePod: Improved");
    assert!(operator.world.pods.iter().any(|pod| pod.name == new), "{:#?}", operator.world.pods);
}

#[test]
fn where_a_restart_of_all_is_not_allowed_pods_are_recycled_one_by_one_within_the_limit() {
    let mut operator = all_wedged(4);
    operator.declare(|spec| {
        spec.actions.allow.retain(|action| *action != ActionType::RolloutRestart);
        spec.limits.max_attempts = 2;
    });
    operator.run_until("escalated", 400, |status| {
        status.incidents.first().is_some_and(|incident| incident.escalation.is_some())
    });
    let status = operator.status();
    let incident = &status.incidents[0];
    let outcomes: Vec<_> = incident.attempts.iter().map(|one| (one.action, one.outcome)).collect();
    assert_eq!(outcomes, [(ActionType::RecyclePod, Some(Outcome::Improved)); 2]);
    assert_eq!(operator.world.done.len(), 2, "{status:#?}");
}

#[test]
fn a_successor_on_which_mcp_hangs_as_well_is_no_success_and_no_further_pod_is_recycled() {
    let mut operator = all_wedged(3);
    operator.declare(|spec| spec.actions.allow.retain(|action| *action != ActionType::RolloutRestart));
    for _ in 0..900 {
        operator.run(1, 1);
        let world = &mut operator.world;
        world.wedged = world.pods.iter().map(|pod| (pod.name.clone(), 120)).collect();
    }
    let status = operator.status();
    assert_eq!(operator.world.done.len(), 1, "{status:#?}");
    assert_eq!(status.incidents[0].attempts[0].outcome, Some(Outcome::NoChange));
}

#[test]
fn a_successor_that_is_not_ready_yet_is_waited_for_before_the_next_pod_is_touched() {
    let mut operator = all_wedged(3);
    operator.run_until("a pod is evicted", 120, |status| {
        status.incidents.iter().any(|incident| !incident.attempts.is_empty())
    });
    let slow = operator.world.new_template(Template::ReadyAfter(90));
    for _ in 0..80 {
        operator.run(1, 1);
        for pod in operator.world.pods.iter_mut().filter(|pod| pod.created > 120) {
            pod.template.clone_from(&slow);
        }
    }
    assert_eq!(operator.world.done.len(), 1, "{:#?}", operator.world.done);
    assert_eq!(operator.status().incidents[0].attempts[0].outcome, None);
}

#[test]
fn a_template_that_does_not_answer_where_the_one_before_did_is_not_taken_for_healthy() {
    let rows: &[(&str, bool, Change)] = &[
        ("all answer", true, |_| {}),
        ("nobody asks", true, |scene| scene.signals.probes = Reading::Off),
        ("never answered", true, |scene| {
            for one in probes(scene) {
                (one.ever_answered, one.results) = (false, Vec::new());
            }
        }),
        ("the way to a pod is cut", true, |scene| {
            let now = scene.now;
            probes(scene)[2].results = results(now, "....x", ConnectTimeout);
        }),
        ("one does not answer", false, |scene| {
            let now = scene.now;
            probes(scene)[2].results = results(now, "....x", TimedOut);
        }),
        ("one was not asked yet", false, |scene| probes(scene)[2].results.clear()),
        ("one is not known", false, |scene| drop(probes(scene).remove(2))),
    ];
    for (what, proven, change) in rows {
        let scene = scene(&[(None, None)], None).with(on_a_new_template).with(change);
        let concluded = scene.concluded();
        assert_eq!(concluded.diagnosis.findings, [], "{what}");
        let target = concluded.story.target.unwrap();
        let healthy = target.last_healthy.unwrap().template;
        assert_eq!(healthy == target.template, *proven, "{what}: {healthy}");
        assert_eq!(concluded.story.look_again.is_some(), !proven, "{what}: it is looked at again");
    }
}

fn tool(name: &str, schema: &str) -> Tool {
    Tool { name: name.to_owned(), schema: schema.to_owned() }
}

/// What every pod offers; and what the template was seen to.
fn offering(tools: &[Tool], known: &[&str]) -> Scene {
    scene(&[(None, None)], None).with(|scene| {
        let of_mcp: Vec<Probed> = probes(scene).iter().filter(|one| one.question == Mcp).cloned().collect();
        let tools = Some(tools.to_vec());
        let listed = of_mcp.into_iter().map(|one| Probed { question: Tools, tools: tools.clone(), ..one });
        probes(scene).extend(listed);
        let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
        healthy.tools = known
            .iter()
            .map(|tool| tool.rsplit_once(':').unwrap())
            .map(|(name, digest)| NamedDigest::new(name, digest))
            .collect();
    })
}

/// What the second pod offers.
fn list_of_one(scene: &mut Scene) -> &mut Option<Vec<Tool>> {
    let mut lists = probes(scene).iter_mut().filter(|one| one.question == Tools);
    &mut lists.nth(1).unwrap().tools
}

fn expecting(names: &'static [&'static str]) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let mcp = scene.spec.signals.mcp.as_mut().unwrap();
        mcp.expect_tools = names.iter().map(|name| ToolName((*name).to_owned())).collect();
    }
}

#[test]
fn a_tool_is_missing_where_the_policy_names_it_or_the_same_template_offered_it() {
    let both = [tool("a", "1"), tool("b", "1")];
    let rows: Vec<(&str, Scene, &str)> = vec![
        ("as before", offering(&both, &["a:1", "b:1"]), "Clear"),
        ("one more", offering(&both, &["a:1"]), "Clear"),
        ("one gone", offering(&both[..1], &["a:1", "b:1"]), "ToolGone"),
        ("none", offering(&[], &["a:1"]), "NoTools"),
        ("never any", offering(&[], &[]), "Clear"),
        ("other arguments", offering(&[tool("a", "2")], &["a:1"]), "SchemaDrift"),
        ("a name with a colon", offering(&[tool("x:a", "1")], &["x:a:1"]), "Clear"),
        ("pods that differed", offering(&[tool("a", "2")], &["a:1", "a:2"]), "Clear"),
        ("another template's choice", offering(&both[..1], &["a:1", "b:1"]).with(on_a_new_template), "Clear"),
        ("another template's schema", offering(&[tool("a", "2")], &["a:1"]).with(on_a_new_template), "Clear"),
        ("none on another template", offering(&[], &["a:1"]).with(on_a_new_template), "NoTools"),
        ("named and there", offering(&both, &[]).with(expecting(&["b"])), "Clear"),
        ("named and gone", offering(&both, &["a:1"]).with(expecting(&["c"])), "ToolGone"),
        ("only what is named counts", offering(&both[1..], &["a:1", "b:1"]).with(expecting(&["b"])), "Clear"),
    ];
    for (what, scene, expected) in rows {
        assert_eq!(word(&judged(&scene, ToolsMissing)), expected, "{what}");
    }
    let gone = offering(&both, &[]).with(expecting(&["c"]));
    assert_eq!(runbook(&gone, ToolsMissing), []);
    assert_eq!(runbook(&gone.clone().with(on_a_new_template), ToolsMissing), [ActionType::Rollback]);
    assert_eq!(gone.concluded().diagnosis.pending.len(), 1, "first it lasts");

    // One pod of three.
    let disagreeing = offering(&both, &["a:1", "b:1"]).with(|scene| {
        *list_of_one(scene) = Some(vec![tool("a", "1")]);
    });
    let finding = found(&disagreeing, ToolsMissing);
    let pod = disagreeing.signals.pods.fresh().unwrap()[1].name.clone();
    assert!(finding.evidence[0].starts_with(&format!("pod {pod} does not offer b")), "{finding:#?}");
    assert!(finding.evidence.iter().any(|line| line == "pods disagree: 2 of 3 offer what is expected"));

    // A pod that tells nothing neither opens nor closes.
    let quiet = offering(&both, &["a:1", "b:1"]).with(|scene| *list_of_one(scene) = None);
    assert_eq!(word(&judged(&quiet, ToolsMissing)), "Unknown");
}

#[test]
fn a_tool_that_a_new_template_lacks_is_brought_back_with_the_template_before() {
    let scene = offering(&[tool("a", "1")], &[]).with(expecting(&["a", "b"])).with(on_a_new_template);
    let lasted = scene.clone().with(|scene| {
        scene.status.pending = scene.clone().concluded().diagnosis.pending;
        scene.now += 61;
        let now = scene.now;
        for one in probes(scene) {
            one.results = results(now, ".....", TimedOut);
        }
    });
    let concluded = lasted.concluded();
    assert_eq!(concluded.diagnosis.findings[0].incident, ToolsMissing);
    assert_eq!(concluded.words(), "Act Rollback");
}

#[test]
fn a_sev3_that_was_open_before_its_pods_keeps_no_template_from_becoming_known_good() {
    let mut scene = offering(&[tool("a", "1")], &[]).with(expecting(&["a", "b"])).with(on_a_new_template);
    scene.status.pending = scene.concluded().diagnosis.pending;
    scene.now += 61;
    let now = scene.now;
    for one in probes(&mut scene) {
        one.results = results(now, ".....", TimedOut);
    }
    let created = scene.signals.pods.fresh().unwrap().iter().map(|pod| pod.created).min().unwrap();
    scene.open_incident();
    for (opened, is_known_good) in [(-60, true), (60, false)] {
        let at = created + jiff::SignedDuration::from_secs(opened);
        scene.status.incidents[0].opened_at = mcp_health_api::Time(at);
        let concluded = scene.concluded();
        assert_eq!(concluded.diagnosis.findings[0].incident, ToolsMissing);
        let target = concluded.story.target.unwrap();
        let healthy = target.last_healthy.unwrap().template;
        assert_eq!(healthy == target.template, is_known_good, "opened {opened} s after the pods");
    }
}
