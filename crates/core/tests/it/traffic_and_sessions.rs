//! TrafficLost, SessionLeak, HeartbeatFailing, ConnectionDrops, RateLimited and InvalidMessages: what series come to,
//! as tables.

use std::sync::LazyLock;

use jiff::SignedDuration;
use mcp_health_api::{
    ActionType, Cause, Duration, IncidentType, Label, Measure, Override, PastIncident, Severity, Thresholds,
    Time,
};
use mcp_health_core::{
    Server,
    catalogue::{entry, worst_pod},
    signals::{
        Fault, FaultKind, Metrics, ProbePath, ProbeQuestion, ProbeResult, Probed, Reading, Series, Span,
    },
};

use crate::support::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

/// The moment of the tables, and the age of the pods: two hours.
const NOW: i64 = 7200;
/// How far back rates look.
const WINDOW: f64 = 300.0;

/// Two pods that are well for two hours, and whatever lasts is an incident at once.
fn well() -> Scene {
    static WELL: LazyLock<Scene> = LazyLock::new(|| {
        let mut operator = Operator::new(World::with(Template::Good, 2), policy::enforcing());
        operator.run(120, 1);
        let mut scene = Scene { now: NOW, ..Scene::of(&operator) };
        for incident in [
            IncidentType::TrafficLost,
            IncidentType::ConnectionDrops,
            IncidentType::RateLimited,
            IncidentType::InvalidMessages,
        ] {
            override_of(&mut scene, incident).hold_for = Some(Duration::from_secs(0));
        }
        scene
    });
    WELL.clone()
}

fn override_of(scene: &mut Scene, incident: IncidentType) -> &mut Override {
    let all = &mut scene.spec.overrides;
    if !all.iter().any(|one| one.incident == incident) {
        all.push(Override { incident, severity: None, hold_for: None, thresholds: None, runbook: None });
    }
    all.iter_mut().find(|one| one.incident == incident).unwrap()
}

fn pods(scene: &Scene) -> Vec<String> {
    scene.signals.pods.fresh().unwrap().iter().map(|pod| pod.name.clone()).collect()
}

/// What one pod of two, by its place, tells of the window.
fn of(scene: &Scene, pod: usize, measure: Measure, value: f64) -> Series {
    let pod = Some(pods(scene)[pod].clone());
    Series { measure, span: Span::Window, pod, labels: Vec::new(), value, at: moment(NOW - 10) }
}

trait Told {
    fn before(self) -> Self;
    fn label(self, label: Label, value: &str) -> Self;
    fn aged(self, seconds: i64) -> Self;
}

impl Told for Series {
    fn before(self) -> Self {
        Self { span: Span::Before, ..self }
    }

    fn label(mut self, label: Label, value: &str) -> Self {
        self.labels.push((label, value.to_owned()));
        self
    }

    fn aged(self, seconds: i64) -> Self {
        Self { at: moment(NOW - seconds), ..self }
    }
}

fn tell(scene: &mut Scene, series: Vec<Series>) {
    scene.signals.metrics = Reading::Fresh(Metrics {
        source: "Prometheus http://prometheus:9090".to_owned(),
        window: SignedDuration::from_secs(300),
        interval: SignedDuration::from_secs(15),
        series,
        missing: Vec::new(),
        queries: vec![(
            Measure::Requests,
            Span::Window,
            "sum by (pod) (rate(mcp_requests_total[5m]))".to_owned(),
        )],
    });
}

/// Requests a second, of each of the two pods: now, and in the hour before.
fn traffic(scene: &Scene, now: f64, before: Option<f64>) -> Vec<Series> {
    let mut series = Vec::new();
    for pod in 0..2 {
        let told = |value| of(scene, pod, Measure::Requests, value).label(Label::Endpoint, "/mcp");
        series.push(told(now / 2.0));
        series.extend(before.map(|before| told(before / 2.0).before()));
    }
    series
}

fn verdict(scene: &Scene, incident: IncidentType) -> String {
    let diagnosis = scene.concluded().diagnosis;
    match diagnosis.finding(incident) {
        Some(finding) => format!("{} {}", finding.cause, finding.severity),
        None if diagnosis.clear.contains(&incident) => "Clear".to_owned(),
        None => "Unknown".to_owned(),
    }
}

fn evidence(scene: &Scene, incident: IncidentType) -> Vec<String> {
    scene.concluded().diagnosis.finding(incident).unwrap().evidence.clone()
}

fn worst(scene: &Scene, incident: IncidentType) -> Option<String> {
    let case = scene.case();
    worst_pod(incident, &case, &Server::of(&case).unwrap()).map(|pod| pod.name.clone())
}

fn runbook(scene: &Scene, incident: IncidentType, cause: Cause) -> &'static [ActionType] {
    (entry(incident).unwrap().runbook)(cause, &Server::of(&scene.case()).unwrap())
}

/// Probes of the two pods and of the Service; those of the Service fail where they are not `well`.
fn probed(scene: &mut Scene, well: bool) {
    let probed = |path, well: bool| Probed {
        path,
        question: ProbeQuestion::Mcp,
        ever_answered: true,
        answered_here: true,
        pause: SignedDuration::from_secs(15),
        leads_elsewhere: false,
        results: vec![ProbeResult {
            at: moment(NOW - 5),
            was_ready: true,
            millis: 3,
            outcome: if well {
                Ok(())
            } else {
                Err(Fault { kind: FaultKind::Unavailable, said: "answered 503".to_owned() })
            },
        }],
        tools: None,
    };
    let mut all: Vec<_> = pods(scene).into_iter().map(|name| probed(ProbePath::Pod(name), true)).collect();
    all.push(probed(ProbePath::Service("mcp-server".to_owned()), well));
    scene.signals.probes = Reading::Fresh(all);
}

#[test]
fn traffic_is_lost_where_many_asked_before_and_the_counter_stands_still() {
    use IncidentType::TrafficLost;
    // Requests a second: now, and in the hour before.
    let rows: &[(&str, f64, Option<f64>, &str)] = &[
        ("one a second, and none", 0.0, Some(1.0), "Upstream SEV2"),
        ("thirty in five minutes, and none", 0.0, Some(0.1), "Upstream SEV2"),
        ("five a minute, and none", 0.0, Some(5.0 / 60.0), "Unknown"),
        ("nobody, ever", 0.0, Some(0.0), "Unknown"),
        ("nobody knows what was before", 0.0, None, "Unknown"),
        ("one request in the window", 1.0 / WINDOW, Some(1.0), "Clear"),
        ("as many as before", 1.0, Some(1.0), "Clear"),
        ("a tenth", 0.1, Some(1.0), "Clear"),
        ("a rate below nothing", -1.0, Some(1.0), "Upstream SEV2"),
    ];
    for (what, now, before, expected) in rows {
        let mut scene = well();
        let series = traffic(&scene, *now, *before);
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, TrafficLost), *expected, "{what}");
    }
}

#[test]
fn traffic_that_cannot_be_seen_is_not_lost() {
    use IncidentType::TrafficLost;
    let lost = || {
        let mut scene = well();
        let series = traffic(&scene, 0.0, Some(1.0));
        tell(&mut scene, series);
        scene
    };
    let with = |change: &dyn Fn(&mut Metrics)| {
        lost().with(|scene| match &mut scene.signals.metrics {
            Reading::Fresh(metrics) => change(metrics),
            other => panic!("{other:?}"),
        })
    };
    let absent = with(&|metrics| metrics.series.retain(|one| one.span == Span::Before));
    assert_eq!(verdict(&absent, TrafficLost), "Unknown", "absent is not zero");
    let stale = with(&|metrics| metrics.series.iter_mut().for_each(|one| one.at = moment(NOW - 121)));
    assert_eq!(verdict(&stale, TrafficLost), "Unknown");
    let recent = with(&|metrics| metrics.series.iter_mut().for_each(|one| one.at = moment(NOW - 120)));
    assert_eq!(verdict(&recent, TrafficLost), "Upstream SEV2");
    let failed =
        with(&|metrics| metrics.missing.push((Measure::Requests, Span::Before, "time-out".to_owned())));
    assert_eq!(verdict(&failed, TrafficLost), "Unknown");
    let partial = with(&|metrics| drop(metrics.series.remove(0)));
    assert_eq!(
        verdict(&partial, TrafficLost),
        "Unknown",
        "the pod that is not seen may be the one that is asked"
    );
    let no_number = with(&|metrics| metrics.series.iter_mut().for_each(|one| one.value = f64::NAN));
    assert_eq!(verdict(&no_number, TrafficLost), "Unknown");
    let off = lost().with(|scene| scene.signals.metrics = Reading::Off);
    assert_eq!(verdict(&off, TrafficLost), "Unknown");
    let scaled = lost().with(|scene| scene.target().desired = 0);
    assert_eq!(verdict(&scaled, TrafficLost), "Clear");
    let unready = lost().with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!() };
        for pod in pods.iter_mut() {
            pod.ready = false;
        }
    });
    assert_eq!(verdict(&unready, TrafficLost), "Unknown", "nobody can be served");
}

#[test]
fn what_is_asked_for_operations_sake_is_no_traffic() {
    let mut scene = well();
    let mut series = traffic(&scene, 0.0, Some(1.0));
    for endpoint in ["/health", "/metrics", "/circuit-breakers"] {
        series.push(of(&scene, 0, Measure::Requests, 0.5).label(Label::Endpoint, endpoint));
    }
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, IncidentType::TrafficLost), "Upstream SEV2");
}

#[test]
fn the_operators_own_probes_are_no_traffic() {
    use IncidentType::TrafficLost;
    // Three paths, four times a minute: 0.2 requests a second, and some more where tools are listed.
    let rows: &[(&str, f64, f64, &str)] = &[
        ("only they are left", 0.21, 2.0, "Upstream SEV3"),
        ("clients are left as well", 0.4, 2.0, "Clear"),
        ("too little was before to tell it from them", 0.21, 0.9, "Clear"),
        ("they were all there was", 0.21, 0.21, "Clear"),
    ];
    for (what, now, before, expected) in rows {
        let mut scene = well();
        probed(&mut scene, true);
        let series = traffic(&scene, *now, Some(*before));
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, TrafficLost), *expected, "{what}");
        scene.signals.probes = Reading::Unavailable("not asked yet".to_owned());
        assert_eq!(verdict(&scene, TrafficLost), "Unknown", "{what}");
    }
}

#[test]
fn lost_traffic_pages_where_the_way_to_the_server_is_broken_or_not_known() {
    use IncidentType::TrafficLost;
    let mut scene = well();
    let series = traffic(&scene, 0.2, Some(2.0));
    tell(&mut scene, series);
    probed(&mut scene, true);
    assert_eq!(verdict(&scene, TrafficLost), "Upstream SEV3", "it answers through its Service");
    let told = evidence(&scene, TrafficLost);
    assert_eq!(
        told[0],
        "no request in the last 5m, but for the operator's own (60); in the hour before, clients made 506 in 5m (the hour before alone is compared with)"
    );
    assert!(told[1].contains("answers through Service mcp-server"), "{told:?}");
    assert!(told.last().unwrap().contains("rate(mcp_requests_total[5m])"), "{told:?}");
    probed(&mut scene, false);
    assert_eq!(verdict(&scene, TrafficLost), "Upstream SEV2");
    let Reading::Fresh(services) = &mut scene.signals.services else { panic!() };
    services[0].ready_endpoints = 0;
    assert_eq!(verdict(&scene, TrafficLost), "ServiceMismatch SEV2");
    assert_eq!(scene.concluded().story.primary().unwrap().incident_type, IncidentType::ServiceNotResponding);
    assert_eq!(runbook(&scene, TrafficLost, Cause::Upstream), []);
}

#[test]
fn clients_that_leave_every_evening_page_once_at_the_most() {
    use IncidentType::TrafficLost;
    let mut scene = well();
    let series = traffic(&scene, 0.0, Some(1.0));
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, TrafficLost), "Upstream SEV2");
    let past = |ago: i64| {
        let incident = scene.concluded().story.incidents[0].clone();
        PastIncident {
            id: incident.id,
            incident_type: TrafficLost,
            rule: None,
            cause: Cause::Upstream,
            severity: Severity::SEV2,
            opened_at: Time(moment(NOW - ago)),
            resolved_at: Time(moment(NOW - ago + 3600)),
            resolution: "all is well again, without an action of the operator".to_owned(),
            evidence: Vec::new(),
            evidence_kept: None,
            actions: Vec::new(),
            time_to_detect: String::new(),
            time_to_mitigate: None,
            time_to_resolve: String::new(),
        }
    };
    for (hours, expected) in
        [(24, "SEV3"), (23, "SEV3"), (49, "SEV3"), (72, "SEV3"), (0, "SEV2"), (12, "SEV2"), (34, "SEV2")]
    {
        let mut scene = scene.clone();
        scene.status.history = vec![past(hours * 3600)];
        assert_eq!(verdict(&scene, TrafficLost), format!("Upstream {expected}"), "{hours} h ago");
    }
}

#[test]
fn a_slow_fade_is_no_fall() {
    use IncidentType::TrafficLost;
    // Five a second at first; each twenty minutes, two of three clients go. In an evening, whoever is left last asks
    // once in a while: a window without a request comes when one in it is less likely than not.
    let rate = |minute: f64| 5.0 * (-minute / 20.0).exp();
    let average = |from: i32, to: i32| {
        let minutes = f64::from(to - from);
        (from..to).map(|minute| if minute < 0 { 5.0 } else { rate(f64::from(minute)) }).sum::<f64>() / minutes
    };
    let mut silent = 0;
    for minute in 0..600 {
        let now = average(minute - 5, minute);
        let now = if now * WINDOW < 0.7 { 0.0 } else { now };
        silent += i32::from(now == 0.0);
        let mut scene = well();
        let series = traffic(&scene, now, Some(average(minute - 65, minute - 5)));
        tell(&mut scene, series);
        assert!(!verdict(&scene, TrafficLost).contains("SEV"), "after {minute} minutes: {now}");
    }
    assert!(silent > 100, "it does become silent: {silent}");
}

#[test]
fn lost_traffic_lasts_before_it_is_an_incident() {
    let mut scene = well();
    scene.spec.overrides.clear();
    let series = traffic(&scene, 0.0, Some(1.0));
    tell(&mut scene, series);
    let concluded = scene.concluded();
    assert_eq!(concluded.story.incidents, []);
    scene.status.pending = concluded.story.pending;
    assert_eq!(scene.status.pending[0].incident_type, IncidentType::TrafficLost);
    scene.status.pending[0].since = Time(moment(NOW - 299));
    assert_eq!(verdict(&scene, IncidentType::TrafficLost), "Unknown");
    scene.status.pending[0].since = Time(moment(NOW - 300));
    assert_eq!(verdict(&scene, IncidentType::TrafficLost), "Upstream SEV2");
}

#[test]
fn sessions_leak_where_more_are_idle_than_a_hundred_or_a_pod_has_more_than_a_thousand() {
    type Told = &'static [(usize, Measure, f64)];
    use Measure::{IdleSessions as Idle, Sessions as Open};
    let rows: &[(&str, Told, &str)] = &[
        ("a hundred idle", &[(0, Idle, 60.0), (1, Idle, 40.0)], "Clear"),
        ("one more", &[(0, Idle, 60.0), (1, Idle, 41.0)], "IdleSessions SEV3"),
        ("idle on one pod, the other is silent", &[(0, Idle, 101.0)], "IdleSessions SEV3"),
        ("well on one pod, the other is silent", &[(0, Idle, 3.0)], "Unknown"),
        ("a thousand open on a pod", &[(0, Open, 1000.0), (1, Open, 1000.0)], "Clear"),
        ("one more on one", &[(0, Open, 1001.0), (1, Open, 0.0)], "TooManySessions SEV3"),
        (
            "all idle sessions are too many",
            &[(0, Idle, 1500.0), (1, Idle, 0.0), (0, Open, 1500.0)],
            "IdleSessions SEV3",
        ),
        ("nobody tells", &[(0, Measure::Requests, 1.0)], "Unknown"),
        ("fewer than none", &[(0, Idle, -500.0), (1, Idle, 101.0)], "IdleSessions SEV3"),
        ("no number", &[(0, Idle, f64::NAN), (1, Idle, 3.0)], "Unknown"),
    ];
    for (what, told, expected) in rows {
        let mut scene = well();
        let series = told.iter().map(|(pod, measure, value)| of(&scene, *pod, *measure, *value)).collect();
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, IncidentType::SessionLeak), *expected, "{what}");
    }
}

#[test]
fn the_sessions_of_the_server_as_a_whole_are_shared_by_its_pods() {
    let whole = |measure, value| {
        let mut scene = well();
        let series = Series { pod: None, ..of(&scene, 0, measure, value) };
        tell(&mut scene, vec![series]);
        verdict(&scene, IncidentType::SessionLeak)
    };
    assert_eq!(whole(Measure::Sessions, 2000.0), "Clear");
    assert_eq!(whole(Measure::Sessions, 2001.0), "TooManySessions SEV3");
    assert_eq!(whole(Measure::IdleSessions, 101.0), "IdleSessions SEV3");
    assert_eq!(whole(Measure::IdleSessions, 100.0), "Clear");
}

#[test]
fn a_leak_of_sessions_is_over_only_when_what_showed_it_tells_so() {
    let mut scene = well();
    let idle = |scene: &Scene, sessions| {
        vec![of(scene, 0, Measure::IdleSessions, sessions), of(scene, 1, Measure::IdleSessions, 0.0)]
    };
    let open =
        |scene: &Scene| vec![of(scene, 0, Measure::Sessions, 5.0), of(scene, 1, Measure::Sessions, 5.0)];
    let series = idle(&scene, 150.0);
    tell(&mut scene, series);
    scene.open_incident();
    let series = open(&scene);
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, IncidentType::SessionLeak), "Unknown", "the gauge is gone");
    let series = [idle(&scene, 3.0), open(&scene)].concat();
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, IncidentType::SessionLeak), "Clear");
    let stale = idle(&scene, 3.0).into_iter().map(|one| one.aged(121)).collect();
    tell(&mut scene, stale);
    assert_eq!(verdict(&scene, IncidentType::SessionLeak), "Unknown");
}

#[test]
fn the_pod_with_most_sessions_makes_room_with_its_successor_up_first() {
    let mut scene = well();
    let series =
        vec![of(&scene, 0, Measure::IdleSessions, 30.0), of(&scene, 1, Measure::IdleSessions, 120.0)];
    tell(&mut scene, series);
    let names = pods(&scene);
    assert_eq!(worst(&scene, IncidentType::SessionLeak).as_ref(), Some(&names[1]));
    let told = evidence(&scene, IncidentType::SessionLeak);
    assert_eq!(told[0], "150 sessions had no message for an hour");
    assert_eq!(told[1], format!("most by pod: {} (120), {} (30)", names[1], names[0]));
    let cause = Cause::IdleSessions;
    assert_eq!(runbook(&scene, IncidentType::SessionLeak, cause), [ActionType::RecyclePod]);
    assert_eq!(scene.decision(), "Act RecyclePod");
    // The only pod is not taken away before another is there.
    scene.target().desired = 1;
    assert_eq!(runbook(&scene, IncidentType::SessionLeak, cause), [ActionType::RolloutRestart]);
    scene.target().surge = 0;
    assert_eq!(runbook(&scene, IncidentType::SessionLeak, cause), []);
    scene.target().desired = 2;
    let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
    healthy.template = "another".to_owned();
    let ladder = [ActionType::Rollback, ActionType::RecyclePod];
    assert_eq!(runbook(&scene, IncidentType::SessionLeak, cause), ladder);
}

#[test]
fn policies_wish_for_other_numbers() {
    let with = |incident, count| {
        let mut scene = well();
        let thresholds = Thresholds { count: Some(count), ..Thresholds::default() };
        override_of(&mut scene, incident).thresholds = Some(thresholds);
        scene
    };
    for (count, expected) in [(500, "Clear"), (10, "IdleSessions SEV3")] {
        let mut scene = with(IncidentType::SessionLeak, count);
        let series =
            vec![of(&scene, 0, Measure::IdleSessions, 30.0), of(&scene, 1, Measure::IdleSessions, 40.0)];
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, IncidentType::SessionLeak), expected, "{count}");
    }
    for (count, expected) in [(1000, "Clear"), (100, "Upstream SEV3")] {
        let mut scene = with(IncidentType::ConnectionDrops, count);
        // 240 an hour.
        let series = drops(&scene, [0.033_4, 0.033_4], None);
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, IncidentType::ConnectionDrops), expected, "{count}");
    }
}

/// Seconds since 1970, `ago` before the moment of the tables.
fn beat(ago: i64) -> f64 {
    f64::from(u32::try_from(moment(NOW - ago).as_second()).unwrap())
}

#[test]
fn a_heart_fails_that_is_silent_for_more_than_twice_its_interval() {
    // The heartbeat so many seconds before now, its reading so many, its interval, and what comes of it.
    let rows: &[(&str, i64, i64, Option<f64>, &str)] = &[
        ("as it should be", 20, 10, Some(30.0), "Clear"),
        ("twice the interval, when it was read", 70, 10, Some(30.0), "Clear"),
        ("more", 71, 10, Some(30.0), "HeartbeatSilent SEV3"),
        ("read long ago, and well then", 130, 110, Some(30.0), "Clear"),
        ("read too long ago", 400, 121, Some(30.0), "Unknown"),
        ("no interval, five minutes", 310, 10, None, "Clear"),
        ("no interval, more", 311, 10, None, "HeartbeatSilent SEV3"),
        ("an interval of nothing is none", 311, 10, Some(0.0), "HeartbeatSilent SEV3"),
        ("an interval below nothing is none", 100, 10, Some(-30.0), "Clear"),
        ("an interval in nanoseconds is none", 311, 10, Some(3e10), "HeartbeatSilent SEV3"),
        ("a little ahead of its reading", 5, 10, Some(30.0), "Clear"),
        ("another clock, far ahead", -3600, 10, Some(30.0), "Unknown"),
    ];
    for (what, ago, read, interval, expected) in rows {
        let mut scene = well();
        let mut series = Vec::new();
        for pod in 0..2 {
            let silent = if pod == 0 { beat(*ago) } else { beat(read + 5) };
            series.push(of(&scene, pod, Measure::HeartbeatTime, silent).aged(*read));
            let interval = interval.map(|interval| of(&scene, pod, Measure::HeartbeatInterval, interval));
            series.extend(interval);
        }
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, IncidentType::HeartbeatFailing), *expected, "{what}");
        if expected.contains("SEV") {
            let names = pods(&scene);
            assert_eq!(worst(&scene, IncidentType::HeartbeatFailing).as_ref(), Some(&names[0]), "{what}");
        }
    }
}

#[test]
fn a_heart_is_judged_from_its_pods_readiness_on_and_only_then() {
    let with = |ready: i64, value: f64| {
        let mut scene = well();
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!() };
        pods[0].ready_changed = moment(NOW - ready);
        let series = vec![
            of(&scene, 0, Measure::HeartbeatTime, value),
            of(&scene, 1, Measure::HeartbeatTime, beat(15)),
            of(&scene, 0, Measure::HeartbeatInterval, 30.0),
            of(&scene, 1, Measure::HeartbeatInterval, 30.0),
        ];
        tell(&mut scene, series);
        scene
    };
    let judged = |scene: &Scene| verdict(scene, IncidentType::HeartbeatFailing);
    assert_eq!(judged(&with(40, 0.0)), "Clear", "it has just become ready");
    let never = with(80, 0.0);
    assert_eq!(judged(&never), "HeartbeatSilent SEV3");
    let told = evidence(&never, IncidentType::HeartbeatFailing);
    assert!(
        told[0].ends_with("no heartbeat for 70 s, since it is ready (more than 60 s is failing)"),
        "{told:?}"
    );
    assert_eq!(told[1], "the heartbeat of 1 other pod is well");
    let unready = never.with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!() };
        pods[0].ready = false;
    });
    assert_eq!(judged(&unready), "Clear", "a pod that is not ready has another fault");
    let mut lonely = well();
    let series = vec![of(&lonely, 1, Measure::HeartbeatTime, beat(15))];
    tell(&mut lonely, series);
    assert_eq!(judged(&lonely), "Unknown", "of one pod nothing is told");
    // What is told of the server as a whole is told of its only pod.
    let whole = Series { pod: None, ..of(&lonely, 0, Measure::HeartbeatTime, beat(900)) };
    tell(&mut lonely, vec![whole]);
    assert_eq!(judged(&lonely), "Unknown", "of which of the two?");
    let Reading::Fresh(pods) = &mut lonely.signals.pods else { panic!() };
    pods.truncate(1);
    assert_eq!(judged(&lonely), "HeartbeatSilent SEV3");
}

/// Connections that broke off a second, of each pod: now, and of both in the hour before.
fn drops(scene: &Scene, now: [f64; 2], before: Option<f64>) -> Vec<Series> {
    let told = |pod, value| of(scene, pod, Measure::ConnectionDrops, value);
    let mut series = vec![told(0, now[0]), told(1, now[1])];
    series.extend(before.map(|before| told(0, before).before()));
    series
}

#[test]
fn connections_drop_where_they_are_many_more_than_before_and_enough_to_tell() {
    // Of both pods, in the window; and in the hour before.
    let rows: &[(&str, [f64; 2], Option<f64>, &str)] = &[
        ("none", [0.0, 0.0], Some(0.0), "Clear"),
        ("nine in the window", [5.0, 4.0], Some(0.0), "Clear"),
        ("ten in the window", [5.0, 5.0], Some(0.0), "Upstream SEV3"),
        ("nothing is known of before", [5.0, 5.0], None, "Upstream SEV3"),
        ("twice as many as before", [10.0, 10.0], Some(120.0), "Clear"),
        ("more than twice", [10.0, 11.0], Some(120.0), "Upstream SEV3"),
        ("nearly all of one pod", [19.0, 1.0], Some(0.0), "OnePod SEV3"),
        ("three of four of one pod", [15.0, 5.0], Some(0.0), "Upstream SEV3"),
    ];
    for (what, [one, other], before, expected) in rows {
        let mut scene = well();
        let series = drops(&scene, [one / WINDOW, other / WINDOW], before.map(|before| before / 3600.0));
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, IncidentType::ConnectionDrops), *expected, "{what}");
    }
    let mut scene = well();
    let series = drops(&scene, [19.0 / WINDOW, 1.0 / WINDOW], None);
    tell(&mut scene, series.clone());
    assert_eq!(scene.decision(), "Act RecyclePod");
    assert_eq!(worst(&scene, IncidentType::ConnectionDrops), Some(pods(&scene)[0].clone()));
    let partial = |value: f64| {
        let mut scene = well();
        let series = vec![of(&scene, 0, Measure::ConnectionDrops, value / WINDOW)];
        tell(&mut scene, series);
        verdict(&scene, IncidentType::ConnectionDrops)
    };
    assert_eq!(partial(20.0), "Upstream SEV3", "the other's are not seen: nobody knows that it is one pod");
    assert_eq!(partial(0.0), "Unknown");
    tell(&mut scene, series.into_iter().map(|one| one.aged(121)).collect());
    assert_eq!(verdict(&scene, IncidentType::ConnectionDrops), "Unknown");
}

/// A share of the requests, now and before: `(requests in the window, of them)`, `(in the hour before, of them)`.
type Shares = ((f64, f64), Option<(f64, f64)>);

/// The shares that both rules on them judge, and whether it is a rise.
const SHARES: &[(&str, Shares, &str)] = &[
    ("nothing", ((300.0, 0.0), Some((3600.0, 0.0))), "Clear"),
    ("from none, just one of a hundred", ((1000.0, 10.0), Some((3600.0, 0.0))), "Clear"),
    ("from none, more", ((1000.0, 11.0), Some((3600.0, 0.0))), "Found"),
    ("nine of them", ((30.0, 9.0), Some((3600.0, 0.0))), "Clear"),
    ("ten of them", ((30.0, 10.0), Some((3600.0, 0.0))), "Found"),
    ("twice the share", ((300.0, 30.0), Some((3600.0, 180.0))), "Clear"),
    ("more than twice", ((300.0, 31.0), Some((3600.0, 180.0))), "Found"),
    ("twice as many of twice as many requests", ((600.0, 30.0), Some((3600.0, 180.0))), "Clear"),
    ("next to none before is as none", ((2000.0, 19.0), Some((3600.0, 3.0))), "Clear"),
    ("fifty requests before", ((300.0, 100.0), Some((50.0, 0.0))), "Found"),
    ("fewer", ((300.0, 100.0), Some((49.0, 0.0))), "Unknown"),
    ("no requests before", ((300.0, 100.0), Some((0.0, 0.0))), "Unknown"),
    ("nobody knows what was before", ((300.0, 100.0), None), "Unknown"),
    ("nobody knows what was before, and it is well", ((300.0, 2.0), None), "Clear"),
    ("no requests", ((0.0, 0.0), Some((3600.0, 0.0))), "Unknown"),
    ("five requests a minute, and all of them", ((25.0, 25.0), Some((300.0, 0.0))), "Found"),
];

fn told(scene: &Scene, (now, before): Shares, of_them: &dyn Fn(f64) -> Vec<Series>) -> Vec<Series> {
    let mut series = traffic(scene, now.0 / WINDOW, before.map(|(requests, _)| requests / 3600.0));
    series.extend(of_them(now.1 / WINDOW));
    series.extend(before.into_iter().flat_map(|(_, part)| of_them(part / 3600.0)).map(Told::before));
    series
}

#[test]
fn clients_are_turned_away_where_the_share_of_429_is_more_than_twice_what_it_was() {
    use IncidentType::RateLimited;
    for (what, shares, expected) in SHARES {
        let expected = expected.replace("Found", "Clients SEV4");
        let mut scene = well();
        let by_client =
            |value: f64| vec![of(&scene, 0, Measure::RateLimited, value).label(Label::Client, "u1")];
        let series = told(&scene, *shares, &by_client);
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, RateLimited), expected, "{what}, by client");
    }
    // By status, where the server counts nothing else: they are among the requests.
    let mut scene = well();
    let mut series = traffic(&scene, 0.9, Some(1.0));
    series.push(
        of(&scene, 0, Measure::Requests, 0.1).label(Label::Endpoint, "/mcp").label(Label::Status, "429"),
    );
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, RateLimited), "Clients SEV4");
    let told = evidence(&scene, RateLimited);
    assert_eq!(
        told[0],
        "10 % of requests (30 in the last 5m) are turned away (429); in the hour before, 0 %"
    );
    assert_eq!(told[1], "the server does not tell which clients");
    assert_eq!(runbook(&scene, RateLimited, Cause::Clients), []);
}

#[test]
fn the_clients_that_are_turned_away_most_are_named_without_what_is_secret() {
    let mut scene = well();
    let mut series = traffic(&scene, 1.0, Some(1.0));
    for (client, value) in [("nightly", 0.2), ("password=hunter2", 0.3), ("c", 0.1), ("d", 0.01)] {
        series.push(of(&scene, 0, Measure::RateLimited, value).label(Label::Client, client));
    }
    tell(&mut scene, series);
    let told = evidence(&scene, IncidentType::RateLimited);
    assert!(told[1].starts_with("most by client: password="), "{told:?}");
    assert!(told[1].ends_with("(90), nightly (60), c (30)"), "{told:?}");
    assert!(!told[1].contains("hunter2"), "{told:?}");
}

#[test]
fn messages_are_invalid_where_their_share_is_more_than_twice_what_it_was() {
    use IncidentType::InvalidMessages;
    for (what, shares, expected) in SHARES {
        let expected = expected.replace("Found", "Clients SEV4");
        for code in ["1001", "-32700", "-32600", "-32602"] {
            let mut scene = well();
            let by_code =
                |value: f64| vec![of(&scene, 0, Measure::InvalidMessages, value).label(Label::Code, code)];
            let series = told(&scene, *shares, &by_code);
            tell(&mut scene, series);
            assert_eq!(verdict(&scene, InvalidMessages), expected, "{what}, {code}");
        }
        let mut scene = well();
        let by_type = |value: f64| {
            let errors = of(&scene, 0, Measure::Errors, value).label(Label::Type, "validation_error");
            vec![errors.label(Label::Tool, "search")]
        };
        let series = told(&scene, *shares, &by_type);
        tell(&mut scene, series);
        assert_eq!(verdict(&scene, InvalidMessages), expected, "{what}, by type");
    }
    let mut scene = well();
    let mut series = traffic(&scene, 1.0, Some(1.0));
    series.push(of(&scene, 0, Measure::InvalidMessages, 0.5).label(Label::Code, "-32601"));
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, InvalidMessages), "Clear", "-32601 for what was not advertised is normal");
}

#[test]
fn a_new_revision_that_understands_less_is_rolled_back() {
    use IncidentType::InvalidMessages;
    let mut scene = well();
    let mut series = traffic(&scene, 1.0, Some(1.0));
    series.push(of(&scene, 0, Measure::InvalidMessages, 0.2).label(Label::Code, "-32602"));
    tell(&mut scene, series);
    assert_eq!(verdict(&scene, InvalidMessages), "Clients SEV4");
    let told = evidence(&scene, InvalidMessages);
    assert_eq!(told[1], "most by code: -32602 (60); -32602: wrong arguments");
    let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
    healthy.template = "another".to_owned();
    assert_eq!(verdict(&scene, InvalidMessages), "BadRollout SEV3");
    assert_eq!(runbook(&scene, InvalidMessages, Cause::BadRollout), [ActionType::Rollback]);
    assert_eq!(runbook(&scene, InvalidMessages, Cause::Clients), []);
}

#[test]
fn what_is_found_by_metrics_lapses_with_them() {
    let mut scene = well();
    let series = vec![of(&scene, 0, Measure::IdleSessions, 500.0)];
    tell(&mut scene, series);
    let look = scene.concluded().diagnosis.look_again;
    assert_eq!(look, Some(moment(NOW - 10 + 121)), "two minutes after it was read");
}
