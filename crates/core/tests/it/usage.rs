//! MemoryLeak, CpuSaturation and DiskFilling: what series and spaces come to, as tables.

use std::sync::LazyLock;

use jiff::SignedDuration;
use mcp_health_api::{Duration, IncidentType, Override};
use mcp_health_core::{
    Server,
    catalogue::worst_pod,
    signals::{Exit, Reading, Sample, Usage, Volume, VolumeKind},
};
use proptest::prelude::*;

use crate::support::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

const MIB: i64 = 1 << 20;
/// The moment of the tables, and the age of the pods: two hours.
const NOW: i64 = 7200;

/// Two pods that are well for two hours; their limits are 128 MiB and 500 m each.
fn well() -> Scene {
    static WELL: LazyLock<Scene> = LazyLock::new(|| {
        let mut operator = Operator::new(World::with(Template::Good, 2), policy::enforcing());
        operator.run(120, 1);
        Scene { now: NOW, ..Scene::of(&operator) }
    });
    WELL.clone()
}

fn pods(scene: &Scene) -> Vec<String> {
    scene.signals.pods.fresh().unwrap().iter().map(|pod| pod.name.clone()).collect()
}

fn series(pod: &str, samples: impl Iterator<Item = (i64, i64, i64)>) -> Usage {
    let samples = samples.map(|(at, cpu, memory)| Sample { at: moment(at), cpu, memory }).collect();
    Usage { pod: pod.to_owned(), container: "server".to_owned(), samples }
}

/// Every half minute of the last quarter of an hour: memory in KiB by the minutes since then.
fn memory(pod: &str, kib: impl Fn(i64) -> i64) -> Usage {
    series(pod, (0..=30).map(|half| (NOW - 900 + half * 30, 100, kib(half * 30) * 1024)))
}

/// Every quarter of a minute of the last six minutes: millicores by the seconds since then.
fn cpu(pod: &str, millicores: impl Fn(i64) -> i64) -> Usage {
    series(pod, (0..=24).map(|quarter| (NOW - 360 + quarter * 15, millicores(quarter * 15), 40 * MIB)))
}

/// Without page cache, where nothing else is said.
fn without_cache(scene: &Scene) -> Scene {
    scene.clone().with(|scene| {
        if scene.signals.resident == Reading::Off {
            scene.signals.resident = scene.signals.usage.clone();
        }
    })
}

fn verdict(scene: &Scene, incident: IncidentType) -> String {
    let diagnosis = without_cache(scene).concluded().diagnosis;
    match diagnosis.finding(incident) {
        Some(finding) => format!("{} {}", finding.cause, finding.severity),
        None if diagnosis.clear.contains(&incident) => "Clear".to_owned(),
        None => "Unknown".to_owned(),
    }
}

fn evidence(scene: &Scene, incident: IncidentType) -> Vec<String> {
    without_cache(scene).concluded().diagnosis.finding(incident).unwrap().evidence.clone()
}

fn worst(scene: &Scene, incident: IncidentType) -> Option<String> {
    let scene = without_cache(scene);
    let case = scene.case();
    worst_pod(incident, &case, &Server::of(&case).unwrap()).map(|pod| pod.name.clone())
}

fn lasting(scene: &mut Scene, incident: IncidentType, seconds: u32) {
    let hold_for = Some(Duration::from_secs(seconds));
    scene.spec.overrides.push(Override {
        incident,
        severity: None,
        hold_for,
        thresholds: None,
        runbook: None,
    });
}

/// A number between -`most` and `most`, another one each time, the same ones always.
fn noise(at: i64, most: i64) -> i64 {
    (at * 7919 + 104_729) % (2 * most + 1) - most
}

#[test]
fn memory_that_rises_steadily_to_its_limit_within_the_hour_is_a_leak_and_nothing_else_is() {
    type Shape = fn(i64) -> i64;
    // From 60 MiB on, in KiB, by seconds.
    let rows: &[(&str, Shape, &str)] = &[
        ("flat", |_| 60_000, "Clear"),
        ("flat, with noise", |at| 60_000 + noise(at, 2000), "Clear"),
        ("flat, just below its limit", |at| 130_000 + noise(at, 100), "Clear"),
        ("2 MiB a minute", |at| 60_000 + at * 2048 / 60, "Leak SEV3"),
        ("2 MiB a minute, with noise", |at| 60_000 + at * 2048 / 60 + noise(at, 1000), "Leak SEV3"),
        ("2 MiB a minute, in steps", |at| 60_000 + at / 120 * 4096, "Leak SEV3"),
        ("0.5 MiB a minute: the limit is two hours away", |at| 60_000 + at * 512 / 60, "Clear"),
        ("0.5 MiB a minute, near its limit", |at| 115_000 + at * 512 / 60, "Leak SEV3"),
        ("it falls", |at| 100_000 - at * 2048 / 60, "Clear"),
        ("a sawtooth of two minutes", |at| 60_000 + at % 120 * 300, "Clear"),
        ("a sawtooth of eight minutes", |at| 60_000 + at % 480 * 80, "Clear"),
        ("it fell back five minutes ago", |at| 60_000 + (at % 600) * 80, "Clear"),
        ("one step", |at| if at < 450 { 60_000 } else { 90_000 }, "Clear"),
        ("one spike", |at| if at == 600 { 120_000 } else { 60_000 }, "Clear"),
        ("it warms up and levels off", |at| 100_000 - 40_000 * 150 / (at + 150), "Clear"),
        ("it fills a cache, and then the cache is full", |at| 60_000 + at.min(600) * 60, "Clear"),
        ("it is at its limit", |at| (90_000 + at * 100).min(131_072), "Clear"),
    ];
    for (what, shape, expected) in rows {
        let mut scene = well();
        let [leaking, other] = &pods(&scene)[..] else { panic!("two pods") };
        scene.signals.usage = Reading::Fresh(vec![memory(leaking, shape), memory(other, |_| 50_000)]);
        assert_eq!(verdict(&scene, IncidentType::MemoryLeak), *expected, "{what}");
    }
}

#[test]
fn page_cache_that_grows_is_no_leak_and_without_the_resident_set_only_a_kill_before_tells() {
    let rising = |at: i64| 60_000 + at * 2048 / 60;
    let resident = |scene: &Scene, shape: fn(i64) -> i64| {
        Reading::Fresh(pods(scene).iter().map(|pod| memory(pod, shape)).collect())
    };
    let mut scene = well();
    scene.signals.usage = Reading::Fresh(pods(&scene).iter().map(|pod| memory(pod, rising)).collect());
    let says = |scene: &Scene| verdict(scene, IncidentType::MemoryLeak);
    scene.signals.resident = resident(&scene, |_| 50_000);
    assert_eq!(says(&scene), "Clear", "only the page cache grows");
    scene.signals.resident = resident(&scene, |at| 50_000 + at * 2048 / 60);
    assert_eq!(says(&scene), "Leak SEV3", "what is resident grows too");
    for unknown in [Reading::Fresh(Vec::new()), Reading::Unavailable("gone".to_owned())] {
        scene.signals.resident = unknown;
        assert_eq!(says(&scene), "Unknown", "it may be page cache");
    }
    let killed = scene.with(|scene| {
        let Reading::Fresh(seen) = &mut scene.signals.pods else { panic!("pods") };
        seen[1].containers[0].last_exit = Some(Exit {
            code: 137,
            reason: "OOMKilled".to_owned(),
            at: moment(NOW - 5000),
            started: None,
            message: None,
        });
    });
    assert_eq!(says(&killed), "Leak SEV3", "page cache is given back before the kill");
}

#[test]
fn the_evidence_of_a_leak_names_the_pod_that_is_killed_first_and_when() {
    let mut scene = well();
    let names = pods(&scene);
    scene.signals.usage = Reading::Fresh(vec![
        memory(&names[0], |at| 60_000 + at * 1024 / 60),
        memory(&names[1], |at| 60_000 + at * 2048 / 60),
    ]);
    let expected = format!(
        "pod {}, container server: memory has grown by 120.0 MiB/h for 10m; it uses 88.5 MiB of 128.0 MiB and reaches it in 19m42s",
        names[1]
    );
    let evidence = evidence(&scene, IncidentType::MemoryLeak);
    assert_eq!((evidence.len(), &evidence[0]), (2, &expected));
    assert_eq!(worst(&scene, IncidentType::MemoryLeak).as_ref(), Some(&names[1]));
}

#[test]
fn what_is_not_known_of_a_pods_memory_neither_opens_nor_closes() {
    let leak = |at: i64| 60_000 + at * 2048 / 60;
    let mut scene = well();
    let names = pods(&scene);
    let steady = memory(&names[1], |_| 50_000);
    let mut says = |usage: Reading<Vec<Usage>>| {
        scene.signals.usage = usage;
        verdict(&scene, IncidentType::MemoryLeak)
    };
    let leaking = vec![memory(&names[0], leak), steady.clone()];
    assert_eq!(says(Reading::Off), "Unknown");
    assert_eq!(says(Reading::Unavailable("gone".to_owned())), "Unknown");
    assert_eq!(says(Reading::Stale { value: leaking.clone(), at: moment(NOW - 60) }), "Unknown");
    assert_eq!(says(Reading::Fresh(Vec::new())), "Unknown", "no pod has samples");
    assert_eq!(says(Reading::Fresh(vec![steady.clone()])), "Unknown", "one pod has none");
    let few = series(&names[0], (0..3).map(|at| (NOW - 600 + at * 300, 100, 60 * MIB + at * MIB)));
    assert_eq!(says(Reading::Fresh(vec![few, steady.clone()])), "Unknown", "too few");
    let short = series(&names[0], (0..20).map(|at| (NOW - 300 + at * 15, 100, 60 * MIB + at * MIB)));
    assert_eq!(says(Reading::Fresh(vec![short, steady.clone()])), "Unknown", "not for long enough");
    let mut old = memory(&names[0], leak);
    for sample in &mut old.samples {
        sample.at -= SignedDuration::from_mins(4);
    }
    assert_eq!(says(Reading::Fresh(vec![old, steady])), "Unknown", "measured long ago");
    assert_eq!(says(Reading::Fresh(leaking)), "Leak SEV3");
    for container in &mut scene.target().containers {
        container.memory_limit = None;
    }
    assert_eq!(verdict(&scene, IncidentType::MemoryLeak), "Unknown", "no limit to reach");
}

#[test]
fn a_pod_that_was_just_started_warms_up_and_is_no_leak() {
    let rising = |pod: &str| memory(pod, |at| 60_000 + at * 2048 / 60);
    for (age, expected) in [(7200, "Leak SEV3"), (910, "Leak SEV3"), (890, "Clear"), (120, "Clear")] {
        let mut scene = well();
        let names = pods(&scene);
        let Reading::Fresh(seen) = &mut scene.signals.pods else { panic!("pods") };
        seen[0].created = moment(NOW - age);
        scene.signals.usage = Reading::Fresh(vec![rising(&names[0]), memory(&names[1], |_| 50_000)]);
        assert_eq!(verdict(&scene, IncidentType::MemoryLeak), expected, "{age} s old");
    }
}

#[test]
fn a_shorter_wish_is_heard_and_a_minute_is_the_shortest() {
    for (wish, expected) in [(0, "Leak SEV3"), (60, "Leak SEV3"), (600, "Unknown")] {
        let mut scene = well();
        let names = pods(&scene);
        lasting(&mut scene, IncidentType::MemoryLeak, wish);
        let fast = series(&names[0], (0..=5).map(|at| (NOW - 65 + at * 13, 100, 10 * MIB + at * 13 * MIB)));
        scene.signals.usage = Reading::Fresh(vec![fast, memory(&names[1], |_| 50_000)]);
        assert_eq!(verdict(&scene, IncidentType::MemoryLeak), expected, "for: {wish}s");
    }
}

#[test]
fn a_server_whose_containers_are_busy_for_five_minutes_is_saturated() {
    type Shape = fn(i64) -> i64;
    let rows: &[(&str, Shape, Shape, &str)] = &[
        ("idle", |_| 10, |_| 10, "Clear"),
        ("at 80 %", |_| 400, |_| 400, "Clear"),
        ("above", |_| 410, |_| 410, "Saturation SEV3"),
        ("one busy, one idle", |_| 500, |_| 10, "Clear"),
        ("one busy, one busier than it may be", |_| 350, |_| 500, "Saturation SEV3"),
        ("busy for two minutes", |at| if at < 240 { 100 } else { 500 }, |_| 400, "Unknown"),
        ("busy until two minutes ago", |at| if at < 240 { 500 } else { 10 }, |_| 400, "Clear"),
        ("a peak of one minute", |at| if (240..300).contains(&at) { 500 } else { 200 }, |_| 200, "Clear"),
    ];
    for (what, one, other, expected) in rows {
        let mut scene = well();
        let names = pods(&scene);
        scene.signals.usage = Reading::Fresh(vec![cpu(&names[0], one), cpu(&names[1], other)]);
        assert_eq!(verdict(&scene, IncidentType::CpuSaturation), *expected, "{what}");
    }
}

#[test]
fn the_evidence_of_saturation_is_in_numbers_and_names_the_busiest_pod() {
    let mut scene = well();
    let names = pods(&scene);
    scene.signals.usage = Reading::Fresh(vec![cpu(&names[0], |_| 420), cpu(&names[1], |_| 480)]);
    assert_eq!(
        evidence(&scene, IncidentType::CpuSaturation),
        [
            "CPU: 900 m of 1000 m used for 5m (90 %), averaged over 2 containers".to_owned(),
            format!("the busiest pod is {}: 96 %", names[1])
        ]
    );
    assert_eq!(worst(&scene, IncidentType::CpuSaturation).as_ref(), Some(&names[1]));
}

#[test]
fn what_is_not_known_of_the_cpu_neither_opens_nor_closes() {
    let mut scene = well();
    let names = pods(&scene);
    let busy = || vec![cpu(&names[0], |_| 490), cpu(&names[1], |_| 490)];
    let mut says = |usage: Reading<Vec<Usage>>| {
        scene.signals.usage = usage;
        verdict(&scene, IncidentType::CpuSaturation)
    };
    assert_eq!(says(Reading::Off), "Unknown");
    assert_eq!(says(Reading::Stale { value: busy(), at: moment(NOW - 60) }), "Unknown");
    assert_eq!(says(Reading::Fresh(busy()[..1].to_vec())), "Unknown", "the other pod is not measured");
    assert_eq!(says(Reading::Fresh(Vec::new())), "Unknown");
    let once = series(&names[0], [(NOW, 490, MIB)].into_iter());
    assert_eq!(
        says(Reading::Fresh(vec![once, busy()[1].clone()])),
        "Saturation SEV3",
        "a mean of one is none"
    );
    assert_eq!(says(Reading::Fresh(busy())), "Saturation SEV3");
    for container in &mut scene.target().containers {
        container.cpu_limit = None;
    }
    assert_eq!(verdict(&scene, IncidentType::CpuSaturation), "Unknown", "no limit to compare with");
}

#[test]
fn a_pod_that_was_just_started_is_busy_with_its_start() {
    let mut scene = well();
    let names = pods(&scene);
    let Reading::Fresh(seen) = &mut scene.signals.pods else { panic!("pods") };
    for pod in seen {
        pod.created = moment(NOW - 280);
    }
    scene.signals.usage = Reading::Fresh(vec![cpu(&names[0], |_| 490), cpu(&names[1], |_| 490)]);
    assert_eq!(verdict(&scene, IncidentType::CpuSaturation), "Unknown");
}

fn space(pod: &str, kind: VolumeKind, name: &str, percent: i64) -> Volume {
    let (used, capacity) = (percent * MIB, 100 * MIB);
    Volume { pod: pod.to_owned(), kind, name: name.to_owned(), used, capacity, at: moment(NOW) }
}

#[test]
fn a_space_that_runs_out_is_judged_by_how_full_it_is_and_whose_it_is() {
    use VolumeKind::{Claim, Ephemeral, Files, Logs};
    let rows: &[(VolumeKind, i64, &str, &str)] = &[
        (Ephemeral, 79, "Clear", ""),
        (Ephemeral, 80, "TemporaryFiles SEV3", "Act RecyclePod"),
        (Ephemeral, 94, "TemporaryFiles SEV3", "Act RecyclePod"),
        (Ephemeral, 95, "TemporaryFiles SEV2", "Act RecyclePod"),
        (Files, 85, "TemporaryFiles SEV3", "Act RecyclePod"),
        (Logs, 120, "ContainerLogs SEV2", "Act RecyclePod"),
        (Claim, 79, "Clear", ""),
        (Claim, 85, "VolumeData SEV3", "Escalate NoAutomaticAction"),
        (Claim, 99, "VolumeData SEV2", "Escalate NoAutomaticAction"),
    ];
    for (kind, percent, expected, decision) in rows {
        let mut scene = well();
        let names = pods(&scene);
        let others = [space(&names[0], Claim, "data", 20), space(&names[1], Ephemeral, "scratch", 10)];
        let fills = space(&names[0], *kind, if *kind == Claim { "data" } else { "scratch" }, *percent);
        scene.signals.volumes = Reading::Fresh(others.into_iter().chain([fills]).collect());
        assert_eq!(verdict(&scene, IncidentType::DiskFilling), *expected, "{kind:?} {percent} %");
        if !decision.is_empty() {
            assert_eq!(scene.decision(), *decision, "{kind:?} {percent} %");
        }
    }
}

#[test]
fn the_evidence_of_a_full_space_says_which_and_how_full() {
    let mut scene = well();
    let names = pods(&scene);
    scene.signals.volumes = Reading::Fresh(vec![
        space(&names[0], VolumeKind::Claim, "data", 91),
        space(&names[1], VolumeKind::Claim, "data", 91),
        space(&names[0], VolumeKind::Ephemeral, "scratch", 50),
        space(&names[1], VolumeKind::Ephemeral, "scratch", 83),
    ]);
    assert_eq!(
        evidence(&scene, IncidentType::DiskFilling),
        [
            format!("PersistentVolumeClaim data (in pod {}): 91.0 MiB of 100.0 MiB used (91 %)", names[0]),
            format!("pod {}, volume scratch: 83.0 MiB of 100.0 MiB used (83 %)", names[1]),
        ]
    );
    assert_eq!(worst(&scene, IncidentType::DiskFilling).as_ref(), Some(&names[1]), "a claim is in no pod");
}

#[test]
fn what_is_not_known_of_a_space_neither_opens_nor_closes() {
    let mut scene = well();
    let names = pods(&scene);
    let full = vec![space(&names[0], VolumeKind::Claim, "data", 91)];
    let old = Volume { at: moment(NOW - 600), ..full[0].clone() };
    let unlimited = Volume { capacity: 0, ..full[0].clone() };
    let mut says = |volumes: Reading<Vec<Volume>>| {
        scene.signals.volumes = volumes;
        verdict(&scene, IncidentType::DiskFilling)
    };
    assert_eq!(says(Reading::Off), "Unknown");
    assert_eq!(says(Reading::Stale { value: full.clone(), at: moment(NOW - 60) }), "Unknown");
    assert_eq!(says(Reading::Fresh(vec![old])), "Unknown");
    assert_eq!(says(Reading::Fresh(vec![unlimited])), "Clear");
    assert_eq!(says(Reading::Fresh(Vec::new())), "Clear");
    assert_eq!(says(Reading::Fresh(full)), "VolumeData SEV3");
    // A claim that was full, and that no pod mounts at this moment.
    let _ = scene.open_incident();
    scene.signals.volumes = Reading::Fresh(Vec::new());
    assert_eq!(verdict(&scene, IncidentType::DiskFilling), "Unknown");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was measured: what is not fresh opens nothing, closes nothing and acts on nothing.
    #[test]
    fn usage_and_spaces_that_are_not_fresh_never_act_and_never_close(
        samples in prop::collection::vec((0_i64..NOW + 600, any::<i64>(), any::<i64>()), 0..40),
        spaces in prop::collection::vec((any::<i64>(), any::<i64>(), any::<bool>()), 0..4),
        sight in 0..3,
    ) {
        let mut scene = well();
        let names = pods(&scene);
        let mut samples = samples;
        samples.sort_unstable();
        let usage = vec![series(&names[0], samples.into_iter())];
        let volumes = spaces.into_iter().map(|(used, capacity, claim)| Volume {
            used,
            capacity,
            ..space(&names[0], if claim { VolumeKind::Claim } else { VolumeKind::Ephemeral }, "v", 0)
        });
        let volumes: Vec<_> = volumes.collect();
        // Fresh or not, nothing panics.
        scene.signals.usage = Reading::Fresh(usage.clone());
        scene.signals.volumes = Reading::Fresh(volumes.clone());
        let _ = scene.decision();
        let at = moment(NOW - 100);
        (scene.signals.usage, scene.signals.volumes) = match sight {
            0 => (Reading::Off, Reading::Off),
            1 => (Reading::Unavailable("gone".to_owned()), Reading::Unavailable("gone".to_owned())),
            _ => (Reading::Stale { value: usage, at }, Reading::Stale { value: volumes, at }),
        };
        for incident in [IncidentType::MemoryLeak, IncidentType::CpuSaturation, IncidentType::DiskFilling] {
            prop_assert_eq!(verdict(&scene, incident), "Unknown");
        }
        prop_assert_eq!(scene.decision(), "Wait");
    }
}
