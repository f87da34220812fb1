//! Scenes with metrics, and what the rules on metrics say of them.

use jiff::SignedDuration;
use mcp_health_api::{IncidentType, Override, Thresholds};
use mcp_health_core::{
    Server, catalogue,
    finding::{Finding, Judgement},
    signals::{Fault, FaultKind, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading},
};

use super::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

pub use super::series::Measured;

impl Measured {
    /// Put into a scene.
    pub fn into_scene(self, scene: &mut Scene) {
        scene.signals.metrics = Reading::Fresh(self.metrics);
    }
}

pub type Metrics = fn(Measured, &[String]) -> Measured;

/// Three pods of a template that was seen healthy.
pub fn healthy() -> Scene {
    Scene::healthy()
}

/// Three pods of a template that was never seen healthy, half a minute after its rollout.
pub fn rolled_out() -> Scene {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
    operator.run(120, 1);
    operator.world.roll_out(Template::Good);
    operator.run(30, 1);
    let scene = Scene::of(&operator);
    assert!(Server::of(&scene.case()).unwrap().rollout_is_to_blame());
    scene
}

pub fn pods(scene: &Scene) -> Vec<String> {
    let case = scene.case();
    let server = Server::of(&case).unwrap();
    server.current_pods().iter().map(|pod| pod.name.clone()).collect()
}

pub fn measured(mut scene: Scene, metrics: Metrics) -> Scene {
    let pods = pods(&scene);
    metrics(Measured::at(scene.now), &pods).into_scene(&mut scene);
    scene
}

pub fn judged(scene: &Scene, incident: IncidentType) -> Judgement {
    let case = scene.case();
    catalogue::entry(incident).unwrap().judge(&case, &Server::of(&case).unwrap())
}

pub fn found(scene: &Scene, incident: IncidentType) -> Finding {
    match judged(scene, incident) {
        Judgement::Symptom { finding, .. } | Judgement::Found(finding) => finding,
        other => panic!("{incident} is not found: {other:?}"),
    }
}

/// `Clear`, `Unknown`, or the cause.
pub fn word(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Clear => "Clear".to_owned(),
        Judgement::Unknown => "Unknown".to_owned(),
        Judgement::Suspected { .. } => "Suspected".to_owned(),
        Judgement::Symptom { finding, .. } | Judgement::Found(finding) => finding.cause.to_string(),
    }
}

/// `Clear`, `Unknown`, or the severity and the cause.
pub fn words(scene: &Scene, incident: IncidentType) -> String {
    match judged(scene, incident) {
        Judgement::Symptom { finding, .. } | Judgement::Found(finding) => {
            format!("{} {}", finding.severity, finding.cause)
        }
        other => word(&other),
    }
}

pub fn with_thresholds(scene: &mut Scene, incident: IncidentType, thresholds: Thresholds) {
    scene.spec.overrides.push(Override {
        incident,
        severity: None,
        hold_for: None,
        thresholds: Some(thresholds),
        runbook: None,
    });
}

/// Every pod answers its probes, or none does.
pub fn probed(scene: &mut Scene, well: bool) {
    let fault = || Fault { kind: FaultKind::TimedOut, said: "did not answer within 5s".to_owned() };
    let probes = pods(scene).into_iter().map(|pod| Probed {
        path: ProbePath::Pod(pod),
        question: ProbeQuestion::Mcp,
        ever_answered: true,
        answered_here: true,
        pause: SignedDuration::from_secs(15),
        leads_elsewhere: false,
        results: vec![ProbeResult {
            at: moment(scene.now),
            was_ready: true,
            millis: 3,
            outcome: if well { Ok(()) } else { Err(fault()) },
        }],
        tools: None,
    });
    scene.signals.probes = Reading::Fresh(probes.collect());
}

/// All pods have been ready for so many seconds.
pub fn ready_for(scene: &mut Scene, seconds: i64) {
    let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
    for pod in pods {
        pod.ready_changed = moment(scene.now - seconds);
    }
}
