//! Services that lead to another port than MCP's: which of them is a mistake, and what shows it.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Answered, Cause, IncidentType::ServiceNotResponding};
use mcp_health_core::{
    Server,
    service_ports::PodPorts,
    signals::{
        ContainerSpec, Fault, FaultKind, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading, Service,
        ServicePort,
    },
};

use crate::support::{
    measured::{found, judged, word},
    moment,
    scene::Scene,
};

const SERVICE: &str = "mcp-server";

/// `80 http -> 8081`, as name, number and target.
fn port(name: &str, number: u16, target: &str) -> ServicePort {
    ServicePort { name: name.to_owned(), number, target: target.to_owned(), is_https: false }
}

fn services(scene: &mut Scene) -> &mut Vec<Service> {
    match &mut scene.signals.services {
        Reading::Fresh(services) => services,
        other => panic!("no Services: {other:?}"),
    }
}

/// The results of one path: of each whether there was a ready endpoint, and the fault; the newest last and
/// just now.
fn probed(scene: &Scene, path: ProbePath, results: &[(bool, Option<FaultKind>)]) -> Probed {
    let count = i64::try_from(results.len()).unwrap();
    let results = (0_i64..).zip(results).map(|(place, (was_ready, fault))| ProbeResult {
        at: moment(scene.now - (count - 1 - place) * 15),
        millis: 1,
        was_ready: *was_ready,
        outcome: fault.map_or(Ok(()), |kind| Err(Fault::new(kind, "refused the connection"))),
    });
    Probed {
        path,
        question: ProbeQuestion::Mcp,
        ever_answered: true,
        answered_here: true,
        leads_elsewhere: false,
        pause: SignedDuration::from_secs(15),
        results: results.collect(),
        tools: None,
    }
}

/// All pods answer MCP on their own addresses; through the Service, this.
fn scene(results: &[(bool, Option<FaultKind>)]) -> Scene {
    Scene::healthy().with(|scene| {
        let pods: Vec<String> =
            scene.signals.pods.fresh().unwrap().iter().map(|pod| pod.name.clone()).collect();
        let well = [(true, None); 5];
        let mut all: Vec<Probed> =
            pods.into_iter().map(|pod| probed(scene, ProbePath::Pod(pod), &well)).collect();
        all.push(probed(scene, ProbePath::Service(SERVICE.to_owned()), results));
        scene.signals.probes = Reading::Fresh(all);
        scene.status.target.as_mut().unwrap().answered = vec![Answered::McpPod, Answered::McpService];
    })
}

fn through_the_service(scene: &mut Scene) -> &mut Probed {
    match &mut scene.signals.probes {
        Reading::Fresh(all) => all.last_mut().unwrap(),
        other => panic!("no probes: {other:?}"),
    }
}

type Change = fn(&mut Service);

const REFUSED: Option<FaultKind> = Some(FaultKind::Refused);

#[test]
fn a_refusal_through_a_service_counts_only_if_it_had_a_ready_endpoint_when_it_was_asked() {
    let (with, without, well) = ((true, REFUSED), (false, REFUSED), (true, None));
    let rows = [
        ("three with an endpoint", vec![well, well, with, with, with], "TargetPortMismatch"),
        ("three without one", vec![well, well, without, without, without], "Clear"),
        ("two with one", vec![without, without, without, with, with], "Clear"),
        ("three with one among others", vec![without, with, with, without, with], "TargetPortMismatch"),
        ("dropped without one", vec![(false, Some(FaultKind::ConnectTimeout)); 5], "Clear"),
        ("its name has no address without one", vec![(false, Some(FaultKind::Dns)); 5], "Clear"),
        ("answered, though none was known", vec![(false, None); 5], "Clear"),
    ];
    for (what, results, expected) in rows {
        let seen = judged(&scene(&results), ServiceNotResponding);
        assert_eq!(word(&seen), expected, "{what}");
    }
    // What is open is over when the Service answers, and not because nobody can tell.
    let mut open = scene(&[with; 5]);
    open.open_incident();
    let then = |results: &[(bool, Option<FaultKind>)]| {
        let mut scene = open.clone();
        through_the_service(&mut scene).results =
            probed(&scene, ProbePath::Service(SERVICE.to_owned()), results).results;
        word(&judged(&scene, ServiceNotResponding))
    };
    assert_eq!(then(&[with, with, without, without, without]), "Unknown");
    assert_eq!(then(&[without, without, well, well, well]), "Unknown");
    assert_eq!(then(&[well; 5]), "Clear");
}

#[test]
fn a_refusal_from_before_a_pod_became_ready_again_is_no_fault_of_the_service() {
    let refused = scene(&[(true, REFUSED); 5]);
    assert_eq!(word(&judged(&refused, ServiceNotResponding)), "TargetPortMismatch");
    let again = refused.clone().with(|scene| {
        let since = moment(scene.now - 1);
        let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
        pods[0].ready_changed = since;
    });
    assert_eq!(word(&judged(&again, ServiceNotResponding)), "Clear");
}

#[test]
fn a_target_port_that_is_closed_is_named_with_the_ports_that_the_pods_have_and_nothing_is_done() {
    let mut scene = scene(&[(true, REFUSED); 5]);
    services(&mut scene)[0].ports = vec![port("http", 80, "8081")];
    // The policy is new: nothing was ever answered through this Service.
    scene.status.target.as_mut().unwrap().answered = vec![Answered::McpPod];
    let path = through_the_service(&mut scene);
    (path.ever_answered, path.leads_elsewhere) = (false, true);
    let finding = found(&scene, ServiceNotResponding);
    assert_eq!(finding.cause, Cause::TargetPortMismatch);
    let words = "Service mcp-server: its port 80 (http) leads to targetPort 8081; the pods declare 8000 \
                 (http), and MCP is asked on 8000";
    assert!(finding.evidence.iter().any(|line| line == words), "{:#?}", finding.evidence);
    for action in [ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::Rollback] {
        assert!(finding.forbids.contains(&action), "{action}");
    }
    assert_eq!(scene.decision(), "Escalate NoAutomaticAction");

    // Whatever else comes of a port that is not MCP's tells nothing.
    for fault in [FaultKind::NotFound, FaultKind::TimedOut, FaultKind::NotMcp, FaultKind::ConnectTimeout] {
        let other = scene.clone().with(|scene| {
            for result in &mut through_the_service(scene).results {
                result.outcome = Err(Fault::new(fault, "another answer"));
            }
        });
        assert_eq!(other.concluded().diagnosis.findings, [], "{fault:?}");
    }
    // Pods that do not answer either have a fault of their own.
    let silent = scene.with(|scene| {
        let Reading::Fresh(all) = &mut scene.signals.probes else { panic!("no probes") };
        all[0]
            .results
            .iter_mut()
            .for_each(|one| one.outcome = Err(Fault::new(FaultKind::TimedOut, "silent")));
    });
    assert_ne!(word(&judged(&silent, ServiceNotResponding)), "TargetPortMismatch");
}

#[test]
fn a_target_port_of_a_name_that_no_container_has_is_found_by_the_endpoints_alone() {
    let named = |name: &str| {
        Scene::healthy().with(|scene| {
            services(scene)[0].ports = vec![port(name, 80, "htpp")];
            services(scene)[0].unresolved = vec![name.to_owned()];
        })
    };
    let lasts = |mut scene: Scene| {
        scene.status.pending = scene.concluded().story.pending;
        scene.now += 30;
        scene
    };
    assert_eq!(named("http").decision(), "Wait", "it may be on its way");
    let scene = lasts(named("http"));
    let finding = &scene.concluded().diagnosis.findings[0];
    assert_eq!((finding.incident, finding.cause), (ServiceNotResponding, Cause::TargetPortMismatch));
    assert!(finding.evidence[0].ends_with("no container has a port of the name htpp"), "{finding:#?}");
    assert_eq!(scene.decision(), "Escalate NoAutomaticAction");
    let rows: &[(&str, Change)] = &[
        ("an injected container has it", |service| service.unresolved.clear()),
        ("it is for metrics", |service| {
            service.ports[0].name = "metrics".to_owned();
            service.unresolved = vec!["metrics".to_owned()];
        }),
        ("another port leads to MCP", |service| service.ports.push(port("mcp", 81, "http"))),
        ("its pods are others, too", |service| service.foreign = vec!["pods of Deployment web".to_owned()]),
        ("it selects other pods", |service| service.selects_pods = false),
    ];
    for (what, change) in rows {
        let scene = lasts(named("http").with(|scene| change(&mut services(scene)[0])));
        assert_eq!(scene.concluded().diagnosis.findings, [], "{what}");
    }
}

#[test]
fn a_port_is_taken_for_a_mistake_only_where_it_is_meant_for_mcp_and_nothing_declares_where_it_leads() {
    let container = |name: &str, ports: &[(&str, i64)]| ContainerSpec {
        name: name.to_owned(),
        ports: ports.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect(),
        ..ContainerSpec::default()
    };
    let containers = [container("server", &[("http", 8080)]), container("proxy", &[("", 8443)])];
    let pods = PodPorts { containers: &containers, own: &containers[0], asked: 8080 };
    let leading: &[ServicePort] = &[port("http", 80, "http")];
    let rows: &[(&str, ServicePort, &[&[ServicePort]], bool)] = &[
        ("the only port of the only Service", port("", 80, "8081"), &[], true),
        ("named for MCP", port("http", 80, "8081"), &[], true),
        ("it leads to MCP", port("http", 80, "8080"), &[], false),
        ("it leads to MCP by name", port("", 80, "http"), &[], false),
        ("a container declares it", port("http", 443, "8443"), &[], false),
        ("for metrics", port("metrics", 9090, "9090"), &[], false),
        ("another Service leads to MCP", port("", 80, "8081"), &[leading], false),
        (
            "another Service leads to MCP, and its name is a usual one",
            port("http", 80, "8081"),
            &[leading],
            false,
        ),
        (
            "another Service leads to MCP, and it is MCP by its name",
            port("mcp", 80, "8081"),
            &[leading],
            true,
        ),
        ("another Service leads to MCP, and it has MCP's number", port("", 8080, "8081"), &[leading], true),
        (
            "another Service leads astray as well",
            port("http", 80, "8081"),
            &[&[port("http", 80, "8082")]],
            true,
        ),
    ];
    for (what, one, others, expected) in rows {
        let astray = pods.astray(std::slice::from_ref(one), others.iter().copied());
        assert_eq!(astray.is_some(), *expected, "{what}");
    }
    let two = [port("http", 80, "http"), port("mcp", 81, "8081")];
    assert_eq!(pods.astray(&two, std::iter::empty()), None, "another of its ports leads to MCP");
    let undeclared = [container("server", &[])];
    let unknown = PodPorts { containers: &undeclared, own: &undeclared[0], asked: 8080 };
    assert_eq!(unknown.astray(&[port("http", 80, "8081")], std::iter::empty()), None, "nothing is declared");
    let scene = Scene::healthy();
    assert_eq!(Server::of(&scene.case()).unwrap().pod_ports(&scene.spec).unwrap().asked, 8000);
}
