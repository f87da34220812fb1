//! Metrics by hand: what is counted in a window of five minutes, as the source hands it to the rules.

use jiff::SignedDuration;
use mcp_health_api::{IncidentType, Label, Measure, Override, Thresholds};
use mcp_health_core::{
    Server, catalogue,
    finding::{Finding, Judgement},
    signals::{
        Fault, FaultKind, Metrics as Seen, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading, Series,
        Span,
    },
};

use super::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

/// The window's seconds.
pub const WINDOW: i64 = 300;

/// See the module.
#[derive(Clone, Debug)]
pub struct Measured {
    pub metrics: Seen,
    pub now: i64,
}

impl Measured {
    pub fn at(now: i64) -> Self {
        let metrics = Seen {
            source: "Prometheus http://prometheus:9090".to_owned(),
            window: SignedDuration::from_secs(WINDOW),
            interval: SignedDuration::from_secs(15),
            series: Vec::new(),
            missing: Vec::new(),
            queries: Vec::new(),
        };
        Self { metrics, now }
    }

    /// So many in the window; of a gauge, the value itself.
    pub fn with(self, measure: Measure, pod: &str, labels: &[(Label, &str)], value: f64) -> Self {
        let is_gauge = mcp_health_core::metrics::definition(measure)
            .is_some_and(|one| one.kind == mcp_health_core::metrics::Kind::Gauge);
        #[allow(clippy::cast_precision_loss)]
        let value = if is_gauge { value } else { value / WINDOW as f64 };
        self.series(measure, Span::Window, pod, labels, value)
    }

    /// So many a second in the hour before.
    pub fn before(self, measure: Measure, pod: &str, labels: &[(Label, &str)], value: f64) -> Self {
        self.series(measure, Span::Before, pod, labels, value)
    }

    /// So many a second in the last third of the window.
    pub fn recent(self, measure: Measure, pod: &str, labels: &[(Label, &str)], value: f64) -> Self {
        self.series(measure, Span::Recent, pod, labels, value)
    }

    fn series(
        mut self,
        measure: Measure,
        span: Span,
        pod: &str,
        labels: &[(Label, &str)],
        value: f64,
    ) -> Self {
        self.metrics.series.push(Series {
            measure,
            span,
            pod: (!pod.is_empty()).then(|| pod.to_owned()),
            labels: labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect(),
            value,
            at: moment(self.now - 10),
        });
        self
    }

    /// The source could not be asked for this.
    pub fn missing(mut self, measure: Measure) -> Self {
        self.metrics.missing.push((measure, Span::Window, "the query took too long".to_owned()));
        self
    }

    /// The newest samples are so many seconds old.
    pub fn aged(mut self, seconds: i64) -> Self {
        for one in &mut self.metrics.series {
            one.at = moment(self.now - seconds);
        }
        self
    }

    /// Answers of a pod: so many well, so many with 500.
    pub fn answers(self, pod: &str, well: f64, failed: f64) -> Self {
        let endpoint = (Label::Endpoint, "/mcp");
        self.with(Measure::Requests, pod, &[endpoint, (Label::Status, "200")], well).with(
            Measure::Requests,
            pod,
            &[endpoint, (Label::Status, "500")],
            failed,
        )
    }

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
