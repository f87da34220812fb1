//! Why containers crash or cannot start: every cause, what is done about it, and what no log line can bring about.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, HealthyConfig, IncidentType, Mode};
use mcp_health_core::{
    Decision, Server, catalogue,
    finding::Finding,
    signals::{
        Config, Container, ContainerSpec, Exit, LastWords, Pod, Probe, ProbeHandler, ProbeKind, Reading, Role,
    },
};

use crate::support::{
    moment,
    operator::Operator,
    policy,
    scene::Scene,
    world::{Template, World},
};

use Cause::{
    BadRollout, ConfigError, DatabaseConnection, ImagePull, MissingDependency, OutOfMemory, PermissionDenied,
    PortConflict, ProcessExit, StartupTimeout,
};

const NO_DATABASE: &str = "connection to server at \"db\", port 5432 failed: Connection refused";

/// One word for each cause that words can name, and some that name none.
const WORDS: &[&str] = &[
    "RuntimeError: boom",
    NO_DATABASE,
    "KeyError: 'DATABASE_URL'",
    "ModuleNotFoundError: No module named 'x'",
    "PermissionError: [Errno 13] Permission denied: '/data'",
    "OSError: [Errno 98] Address already in use",
    "OOMKilled",
    "java.lang.OutOfMemoryError: Java heap space",
    "Container server failed startup probe, will be restarted",
    "ImagePullBackOff: Back-off pulling image",
    "please roll back to revision 1 and restart everything",
];

/// The looping containers of the template in force, or of all pods.
fn each(scene: &mut Scene, change: impl Fn(&mut Pod)) {
    match &mut scene.signals.pods {
        Reading::Fresh(pods) => pods.iter_mut().filter(|pod| !pod.ready).for_each(change),
        other => panic!("no pods: {other:?}"),
    }
}

fn server_of(pod: &mut Pod) -> &mut Container {
    pod.containers.iter_mut().find(|one| one.name == "server").unwrap()
}

fn exit_of(pod: &mut Pod) -> &mut Exit {
    server_of(pod).last_exit.as_mut().unwrap()
}

fn says(words: &'static str) -> impl FnOnce(&mut Scene) {
    move |scene| each(scene, |pod| exit_of(pod).message = Some(words.to_owned()))
}

/// The log says so; there is no termination message.
fn logs(words: &LastWords) -> impl FnOnce(&mut Scene) + use<> {
    let words = words.clone();
    move |scene| {
        each(scene, |pod| {
            exit_of(pod).message = None;
            server_of(pod).last_words = words.clone();
        });
    }
}

/// None of the containers ends: each waits, for this reason, since more than its patience.
fn waits(reason: &'static str, message: &'static str) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let created = moment(scene.now - 20);
        each(scene, |pod| {
            pod.created = created;
            let server = server_of(pod);
            server.waiting = Some((reason.to_owned(), message.to_owned()));
            (server.last_exit, server.restarts) = (None, 0);
            server.recent_exits.clear();
        });
    }
}

fn probe(kind: ProbeKind, port: &str, period: i64, failures: i64) -> Probe {
    let handler = ProbeHandler::Http;
    Probe { kind, handler, port: Some(port.to_owned()), delay: 0, period, failures }
}

/// It was killed with this code after so many seconds, and the template has this probe.
fn killed(code: i32, ran: i64, probe: &Probe) -> impl FnOnce(&mut Scene) + use<> {
    let probe = probe.clone();
    move |scene| {
        scene.target().containers[0].probes = vec![probe];
        scene.target().grace_period = SignedDuration::from_secs(2);
        each(scene, |pod| {
            let exit = exit_of(pod);
            (exit.code, exit.message) = (code, None);
            exit.started = exit.at.checked_sub(SignedDuration::from_secs(ran)).ok();
        });
    }
}

fn troubled(reason: &'static str, message: &'static str) -> impl FnOnce(&mut Scene) {
    move |scene| each(scene, |pod| pod.troubles.push((reason.to_owned(), message.to_owned())))
}

fn finding(scene: &Scene) -> Finding {
    let concluded = scene.concluded();
    let found = concluded.diagnosis.finding(IncidentType::CrashLoop).cloned();
    found.unwrap_or_else(|| panic!("no CrashLoop: {:#?} {:#?}", concluded.decision, scene.signals.pods))
}

fn evidence(scene: &Scene) -> String {
    finding(scene).evidence.join("\n")
}

/// What may be done at all: the runbooks of everything that is found, without what anything forbids.
fn possible(scene: &Scene) -> BTreeSet<String> {
    let case = scene.case();
    let (server, diagnosis) = (Server::of(&case).unwrap(), scene.concluded().diagnosis);
    let steps = diagnosis.findings.iter().flat_map(|finding| {
        (catalogue::entry(finding.incident).unwrap().runbook)(finding.cause, &server).iter()
    });
    steps
        .filter(|step| diagnosis.findings.iter().all(|one| !one.forbids.contains(*step)))
        .map(ToString::to_string)
        .collect()
}

/// A ConfigMap of the healthy template, changed so many seconds before the first end.
fn with_changed_config(before: i64) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let Reading::Fresh(pods) = &scene.signals.pods else { panic!("no pods") };
        let ends = pods.iter().flat_map(|pod| &pod.containers[0].recent_exits);
        let changed = *ends.min().unwrap() - SignedDuration::from_secs(before);
        let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
        healthy.config = vec![HealthyConfig {
            name: "settings".to_owned(),
            content: "good".to_owned(),
            copy: "settings.good".to_owned(),
        }];
        scene.signals.configs = Reading::Fresh(vec![changed_config(changed)]);
    }
}

fn changed_config(changed: Timestamp) -> Config {
    Config {
        name: "settings".to_owned(),
        uid: "1".to_owned(),
        resource_version: "1".to_owned(),
        content: "bad".to_owned(),
        changed,
        first_seen: changed,
        owner: None,
        immutable: false,
        gitops: None,
        shared_with: Vec::new(),
        unchecked: Vec::new(),
    }
}

#[test]
fn every_cause_is_told_by_what_shows_it() {
    type Change = Box<dyn FnOnce(&mut Scene)>;
    let startup = probe(ProbeKind::Startup, "8000", 2, 3);
    let liveness = probe(ProbeKind::Liveness, "http", 2, 3);
    let refused = "Startup probe failed: Get \"http://10.244.0.5:9000/health\": connect: connection refused";
    let killing = "Container server failed startup probe, will be restarted";
    let rows: Vec<(&str, Change, Cause, &str)> = vec![
        ("words that name nothing", Box::new(says("RuntimeError: boom")), BadRollout, "RuntimeError: boom"),
        ("a setting", Box::new(says("KeyError: 'API_TOKEN'")), ConfigError, "KeyError: 'API_TOKEN'"),
        (
            "words from the log",
            Box::new(logs(&LastWords::Lines(vec![
                "ModuleNotFoundError: No module named 'x'".to_owned(),
                "Sentry flushed".to_owned(),
            ]))),
            MissingDependency,
            "ModuleNotFoundError: No module named 'x' ⏎ Sentry flushed",
        ),
        (
            "a log that is gone",
            Box::new(logs(&LastWords::Missing("it was removed".to_owned()))),
            BadRollout,
            "it was removed",
        ),
        (
            "the memory limit",
            Box::new(|scene| {
                each(scene, |pod| {
                    let exit = exit_of(pod);
                    (exit.code, exit.reason) = (137, "OOMKilled".to_owned());
                });
            }),
            OutOfMemory,
            "killed at its memory limit",
        ),
        (
            "a kill that is not the memory limit's",
            Box::new(|scene| each(scene, |pod| exit_of(pod).code = 137)),
            BadRollout,
            "exit code 137",
        ),
        (
            "code 127",
            Box::new(|scene| each(scene, |pod| exit_of(pod).code = 127)),
            MissingDependency,
            "exit code 127",
        ),
        (
            "code 126",
            Box::new(|scene| each(scene, |pod| exit_of(pod).code = 126)),
            PermissionDenied,
            "exit code 126",
        ),
        (
            "a program that is not there",
            Box::new(|scene| {
                each(scene, |pod| {
                    let exit = exit_of(pod);
                    (exit.code, exit.reason) = (128, "StartError".to_owned());
                    exit.message = Some("failed to create containerd task: exec: \"mcp\": executable file not found in $PATH: unknown".to_owned());
                });
            }),
            MissingDependency,
            "executable file not found",
        ),
        (
            "no image",
            Box::new(waits("ImagePullBackOff", "Back-off pulling image \"registry.invalid/x\"")),
            ImagePull,
            "registry.invalid",
        ),
        (
            "no ConfigMap",
            Box::new(waits("CreateContainerConfigError", "configmap \"settings\" not found")),
            ConfigError,
            "configmap \"settings\" not found",
        ),
        (
            "no key",
            Box::new(waits("CreateContainerConfigError", "couldn't find key url in Secret mcp/db")),
            ConfigError,
            "couldn't find key url in Secret mcp/db",
        ),
        (
            "root",
            Box::new(waits(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root",
            )),
            PermissionDenied,
            "runAsNonRoot",
        ),
        (
            "not executable",
            Box::new(waits("RunContainerError", "exec: \"/app/server\": permission denied: unknown")),
            PermissionDenied,
            "permission denied",
        ),
        (
            "no volume",
            Box::new(|scene| {
                waits("ContainerCreating", "")(scene);
                troubled(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"config\" : configmap \"settings\" not found",
                )(scene);
            }),
            ConfigError,
            "FailedMount: MountVolume.SetUp failed",
        ),
        (
            "a start that its probe does not wait for, by the Events",
            Box::new(move |scene| {
                killed(0, 8, &probe(ProbeKind::Startup, "8000", 2, 3))(scene);
                troubled("Killing", killing)(scene);
            }),
            StartupTimeout,
            "killed by its startupProbe before it was up",
        ),
        (
            "a start that its probe does not wait for, by the time",
            Box::new(killed(137, 8, &startup)),
            StartupTimeout,
            "killed by its startupProbe",
        ),
        (
            "a start that its livenessProbe does not wait for",
            Box::new(killed(143, 7, &liveness)),
            StartupTimeout,
            "killed by its livenessProbe",
        ),
        ("killed too early to be a probe's", Box::new(killed(137, 1, &startup)), BadRollout, "exit code 137"),
        ("killed after it was up", Box::new(killed(137, 600, &liveness)), BadRollout, "exit code 137"),
        (
            "a probe that asks where nobody listens",
            Box::new(move |scene| {
                killed(137, 8, &probe(ProbeKind::Startup, "9000", 2, 3))(scene);
                troubled("Unhealthy", refused)(scene);
                troubled("Killing", killing)(scene);
            }),
            PortConflict,
            "its startupProbe asks port 9000",
        ),
        (
            "a port of two",
            Box::new(|scene| {
                says("cannot listen on 0.0.0.0:8000: Address already in use")(scene);
                let proxy = ContainerSpec {
                    name: "proxy".to_owned(),
                    ports: vec![(String::new(), 8000)],
                    ..ContainerSpec::default()
                };
                scene.target().containers.push(proxy);
            }),
            PortConflict,
            "container proxy declares port 8000 too",
        ),
        (
            "a database that a probe's kill hides",
            Box::new(move |scene| {
                killed(137, 8, &probe(ProbeKind::Startup, "8000", 2, 3))(scene);
                each(scene, |pod| server_of(pod).last_words = LastWords::Lines(vec![NO_DATABASE.to_owned()]));
            }),
            DatabaseConnection,
            NO_DATABASE,
        ),
    ];
    for (what, change, cause, told) in rows {
        let scene = Scene::bad_rollout().with(change);
        let found = finding(&scene);
        assert_eq!(found.cause, cause, "{what}: {found:#?}");
        assert!(evidence(&scene).contains(told), "{what}: {found:#?}");
        let which = if cause == BadRollout { "was never seen healthy" } else { "container server" };
        assert!(evidence(&scene).contains(which), "{what}: {found:#?}");
    }
}

const REFUSED: &str = "psycopg.OperationalError: connection to server at \"db\", port 5432 failed: FATAL:  password \
                       authentication failed for user \"mcp\"";

#[test]
fn credentials_that_are_refused_are_no_outage_and_name_the_secrets_that_the_container_reads() {
    let refused = Scene::process_exit().with(says(REFUSED));
    assert_eq!(finding(&refused).cause, Cause::CredentialsRejected);
    let told = evidence(&refused);
    assert!(told.contains("container server reads Secrets db-credentials (environment)"), "{told}");
    assert!(told.contains("this is no outage"), "{told}");
    assert_eq!(refused.decision(), "Escalate NoAutomaticAction");
    let bare = refused.with(|scene| scene.target().secrets.clear());
    assert!(evidence(&bare).contains("reads no Secret"));
    for (words, cause) in [
        ("ssl.SSLError: certificate verify failed: certificate has expired", Cause::CertificateRejected),
        (
            "asyncpg.exceptions.InsufficientPrivilegeError: permission denied for table x",
            Cause::PermissionMissing,
        ),
    ] {
        let scene = Scene::process_exit().with(says(words));
        assert_eq!((finding(&scene).cause, scene.decision().as_str()), (cause, "Escalate NoAutomaticAction"));
    }
}

#[test]
fn a_rollout_whose_credentials_are_refused_is_rolled_back_only_beside_pods_that_work() {
    assert_eq!(Scene::bad_rollout().with(says(REFUSED)).decision(), "Act Rollback");
    // None of the template before works: whether it would, nothing tells.
    let alone = Scene::bad_rollout().with(says(REFUSED)).with(|scene| {
        scene.target().ready = 0;
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
        pods.retain(|pod| !pod.ready);
    });
    assert_eq!(alone.decision(), "Escalate Prohibited");
}

#[test]
fn a_loop_is_over_when_its_pod_is_ready_for_longer_than_it_ran_and_not_before() {
    let up = |ran: i64, ready_for: i64| {
        Scene::process_exit().with(move |scene| {
            let since = moment(scene.now - ready_for);
            let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
            for pod in pods {
                (pod.ready, pod.ready_changed) = (true, since);
                let server = server_of(pod);
                server.waiting = None;
                server.recent_exits =
                    [40, 20, 2].iter().map(|ago| moment(scene.now - ready_for - ago)).collect();
                let exit = server.last_exit.as_mut().unwrap();
                exit.at = moment(scene.now - ready_for - 2);
                exit.started = Some(exit.at - SignedDuration::from_secs(ran));
            }
        })
    };
    let found = |scene: &Scene| scene.concluded().diagnosis.finding(IncidentType::CrashLoop).is_some();
    assert!(found(&up(1, 20)), "it did not settle");
    assert!(!found(&up(1, 31)), "it settled, whatever ends lie behind it");
    assert!(found(&up(60, 80)), "it ran for a minute before: it may end again");
    assert!(!found(&up(60, 91)));
}

#[test]
fn a_rollout_that_is_to_blame_is_rolled_back_whatever_the_cause() {
    for words in WORDS.iter().filter(|words| **words != NO_DATABASE) {
        assert_eq!(Scene::bad_rollout().with(says(words)).decision(), "Act Rollback", "{words}");
    }
    for (reason, message) in [
        ("ImagePullBackOff", "Back-off pulling image"),
        ("CreateContainerConfigError", "secret \"mcp\" not found"),
    ] {
        assert_eq!(Scene::bad_rollout().with(waits(reason, message)).decision(), "Act Rollback", "{reason}");
    }
}

#[test]
fn without_a_rollout_to_blame_each_cause_has_its_own_answer() {
    type Change = Box<dyn FnOnce(&mut Scene)>;
    let startup = probe(ProbeKind::Startup, "8000", 2, 3);
    let rows: Vec<(Change, Cause, &str)> = vec![
        (Box::new(says("RuntimeError: boom")), ProcessExit, "Act RolloutRestart"),
        (Box::new(says("KeyError: 'API_TOKEN'")), ConfigError, "Escalate NoAutomaticAction"),
        (
            Box::new(says("ModuleNotFoundError: No module named 'x'")),
            MissingDependency,
            "Escalate NoAutomaticAction",
        ),
        (
            Box::new(says("PermissionError: [Errno 13] Permission denied")),
            PermissionDenied,
            "Escalate NoAutomaticAction",
        ),
        (
            Box::new(says("OSError: [Errno 98] Address already in use")),
            PortConflict,
            "Escalate NoAutomaticAction",
        ),
        (Box::new(says(NO_DATABASE)), DatabaseConnection, "Hold DatabaseUnavailable"),
        (
            Box::new(waits("CreateContainerConfigError", "secret \"mcp\" not found")),
            ConfigError,
            "Escalate NoAutomaticAction",
        ),
        (Box::new(waits("ErrImagePull", "not found")), ImagePull, "Escalate NoAutomaticAction"),
    ];
    for (change, cause, decision) in rows {
        let scene = Scene::process_exit().with(change);
        assert_eq!(
            (finding(&scene).cause, scene.decision().as_str()),
            (cause, decision),
            "{}",
            evidence(&scene)
        );
    }
    let slow = Scene::process_exit().with(killed(137, 8, &startup));
    assert_eq!(possible(&slow), BTreeSet::from(["RelaxStartupProbe".to_owned()]));
}

#[test]
fn a_config_map_that_was_changed_before_the_first_end_is_what_goes_back() {
    let config = Scene::process_exit().with(with_changed_config(5));
    assert_eq!(finding(&config).cause, ConfigError);
    assert!(evidence(&config).contains("ConfigMap settings was changed"), "{}", evidence(&config));
    assert!(possible(&config).contains("RollbackConfig"));
    // Somebody tries to mend it by changing the ConfigMap: that is not to blame.
    let mended = Scene::process_exit().with(with_changed_config(-1));
    assert_eq!(finding(&mended).cause, ProcessExit);
    // The database is what the words name, and nothing shows that it is there.
    let doubt = config.clone().with(says(NO_DATABASE));
    assert_eq!(
        (finding(&doubt).cause, doubt.decision().as_str()),
        (DatabaseConnection, "Hold DatabaseUnavailable")
    );
    // A pod that still has the settings of before serves: then it is there.
    let proven = doubt.with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
        let pod = &mut pods[0];
        (pod.ready, pod.created) = (true, moment(0));
        let server = server_of(pod);
        (server.waiting, server.last_exit, server.restarts) = (None, None, 0);
        server.recent_exits.clear();
    });
    assert_eq!(finding(&proven).cause, ConfigError);
}

#[test]
fn a_key_that_is_missing_in_the_changed_config_map_is_brought_back_and_one_of_another_object_is_not() {
    let rolled_back = BTreeSet::from(["RollbackConfig".to_owned()]);
    for (reason, message, expected) in [
        ("CreateContainerConfigError", "couldn't find key MODE in ConfigMap mcp/settings", &rolled_back),
        ("CreateContainerConfigError", "couldn't find key MODE in ConfigMap mcp/other", &BTreeSet::new()),
        ("CreateContainerConfigError", "couldn't find key TOKEN in Secret mcp/settings", &BTreeSet::new()),
        ("ImagePullBackOff", "Back-off pulling image", &BTreeSet::new()),
    ] {
        let scene = Scene::process_exit().with(waits(reason, message));
        let scene = scene.with(|scene| {
            let created = scene.now - 20;
            let healthy = scene.status.target.as_mut().unwrap().last_healthy.as_mut().unwrap();
            healthy.config = vec![HealthyConfig {
                name: "settings".to_owned(),
                content: "good".to_owned(),
                copy: "settings.good".to_owned(),
            }];
            scene.signals.configs = Reading::Fresh(vec![changed_config(moment(created - 5))]);
        });
        assert_eq!(&possible(&scene), expected, "{message}");
    }
}

#[test]
fn a_log_line_never_makes_anything_possible() {
    type Change = fn(&mut Scene);
    let startup = |scene: &mut Scene| killed(137, 8, &probe(ProbeKind::Startup, "8000", 2, 3))(scene);
    let sidecar = |scene: &mut Scene| each(scene, |pod| pod.containers[0].name = "proxy".to_owned());
    let changes: &[Change] = &[
        |_| {},
        startup,
        sidecar,
        |scene| with_changed_config(5)(scene),
        |scene| each(scene, |pod| exit_of(pod).reason = "OOMKilled".to_owned()),
        |scene| each(scene, |pod| exit_of(pod).code = 127),
        |scene| scene.status.target = None,
        waits_for_a_secret,
    ];
    for scene in [Scene::bad_rollout(), Scene::process_exit()] {
        for change in changes {
            let silent = scene.clone().with(logs(&LastWords::NotAsked)).with(*change);
            let (allowed, done) = (possible(&silent), silent.decision());
            for words in WORDS {
                let lines = LastWords::Lines(vec![(*words).to_owned()]);
                let speaking = silent.clone().with(|scene| {
                    each(scene, |pod| pod.containers[0].last_words = lines.clone());
                });
                let possible = possible(&speaking);
                assert!(possible.is_subset(&allowed), "{words}: {possible:?}, without it {allowed:?}");
                let decision = speaking.decision();
                assert!(
                    !decision.starts_with("Act") || decision == done,
                    "{words}: {decision}, without it {done}"
                );
            }
        }
    }
}

fn waits_for_a_secret(scene: &mut Scene) {
    waits("CreateContainerConfigError", "secret \"mcp\" not found")(scene);
}

#[test]
fn a_database_that_is_down_is_held_and_nothing_is_restarted_or_rolled_back() {
    // All pods are of the template that was well.
    let down = Scene::process_exit().with(says(NO_DATABASE));
    let forbids = finding(&down).forbids;
    for action in [
        ActionType::RolloutRestart,
        ActionType::RecyclePod,
        ActionType::DrainAndRestart,
        ActionType::Rollback,
    ] {
        assert!(forbids.contains(&action), "{action}");
    }
    let Decision::Hold { hold, what } = down.concluded().decision else { panic!("{}", down.decision()) };
    assert_eq!((hold.reason.as_str(), what.as_str()), ("DatabaseUnavailable", "restart all pods, rolling"));

    // A rollout meets a database that is down: the old pods are not ready either.
    let both = Scene::bad_rollout().with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
        for pod in pods.iter_mut() {
            pod.ready = false;
        }
        each_crashing(scene, NO_DATABASE);
    });
    assert_eq!(both.decision(), "Hold DatabaseUnavailable");
    assert!(evidence(&both).contains("are not ready either: the database is down"), "{}", evidence(&both));
    // It replaced all pods at once: nothing shows whether the database is there.
    let alone = Scene::bad_rollout().with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
        pods.retain(|pod| !pod.ready);
        each_crashing(scene, NO_DATABASE);
    });
    assert_eq!(alone.decision(), "Hold DatabaseUnavailable");
}

/// Those that have ended say so.
fn each_crashing(scene: &mut Scene, words: &str) {
    each(scene, |pod| {
        if let Some(exit) = &mut server_of(pod).last_exit {
            exit.message = Some(words.to_owned());
        }
    });
}

#[test]
fn where_old_pods_reach_the_database_the_new_settings_are_rolled_back_once_their_probes_had_time_to_notice() {
    let mut scene = Scene::bad_rollout().with(says(NO_DATABASE));
    scene.target().containers[0].probes = vec![probe(ProbeKind::Readiness, "http", 5, 3)];
    assert_eq!(finding(&scene).cause, DatabaseConnection);
    assert!(evidence(&scene).contains("are well at this moment"), "{}", evidence(&scene));
    assert!(possible(&scene).contains("Rollback"));
    assert!(!possible(&scene).contains("RolloutRestart"));
    assert_eq!(scene.decision(), "Wait");
    let later = scene.with(|scene| scene.now += 20);
    assert_eq!(later.decision(), "Act Rollback");
}

#[test]
fn actions_are_held_while_previous_logs_are_fetched_and_no_longer_than_half_a_minute() {
    let now = moment(Scene::bad_rollout().now);
    let asked = |scene: Scene| scene.with(logs(&LastWords::Awaited(now)));
    assert_eq!(asked(Scene::bad_rollout()).decision(), "Wait");
    assert_eq!(asked(Scene::bad_rollout()).with(|scene| scene.now += 2).decision(), "Wait");
    let later = |seconds: i64| asked(Scene::bad_rollout()).with(move |scene| scene.now += seconds);
    assert_eq!(later(3).decision(), "Hold LogsAwaited");
    assert!(evidence(&later(3)).contains(" are being fetched"), "{}", evidence(&later(3)));
    assert_eq!(later(29).decision(), "Hold LogsAwaited");
    assert_eq!(later(30).decision(), "Act Rollback");
    assert!(
        evidence(&later(30)).contains("unavailable: not fetched within 30 s"),
        "{}",
        evidence(&later(30))
    );
    // One pod's logs are enough.
    let known = later(3).with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("no pods") };
        let first = pods.iter_mut().find(|pod| !pod.ready).unwrap();
        server_of(first).last_words = LastWords::Lines(vec![NO_DATABASE.to_owned()]);
    });
    assert_ne!(known.decision(), "Hold LogsAwaited");
    let exit = asked(Scene::process_exit());
    assert_eq!(exit.decision(), "Wait");
    assert_eq!(exit.with(|scene| scene.now += 20).decision(), "Hold LogsAwaited");
    // Something else decides.
    let killed = asked(Scene::bad_rollout()).with(|scene| each(scene, |pod| exit_of(pod).code = 127));
    assert_eq!(killed.decision(), "Act Rollback");
}

#[test]
fn what_is_held_for_the_database_stays_so_while_an_operator_that_just_started_awaits_the_words_anew() {
    let mut scene = Scene::process_exit().with(says(NO_DATABASE));
    scene.open_incident();
    let now = moment(scene.now);
    let scene = scene.with(logs(&LastWords::Awaited(now)));
    assert!(scene.concluded().diagnosis.findings.is_empty());
    assert_eq!(scene.decision(), "Wait");
}

#[test]
fn a_container_beside_the_server_restarts_nothing() {
    let sidecar = |role: Role| {
        Scene::process_exit().with(move |scene| {
            scene.target().containers.push(ContainerSpec {
                name: "proxy".to_owned(),
                role,
                ..ContainerSpec::default()
            });
            each(scene, |pod| {
                let mut proxy = pod.containers[0].clone();
                (proxy.name, proxy.role) = ("proxy".to_owned(), role);
                let server = server_of(pod);
                (server.waiting, server.last_exit, server.restarts) = (None, None, 0);
                server.recent_exits.clear();
                pod.containers.push(proxy);
            });
        })
    };
    for (role, says, decision) in [
        (Role::Main, "only proxy beside it does not", "Escalate NoAutomaticAction"),
        (Role::Sidecar, ", sidecar proxy: exit code", "Escalate NoAutomaticAction"),
        // The server waits for it.
        (Role::Init, ", init container proxy: exit code", "Act RolloutRestart"),
    ] {
        let scene = sidecar(role);
        assert!(evidence(&scene).contains(says), "{}", evidence(&scene));
        assert_eq!(scene.decision(), decision, "{says}");
    }
}

#[test]
fn credentials_in_last_words_never_reach_the_status() {
    for words in [
        "cannot connect to postgres://mcp:s3cret@db:5432/mcp",
        "psycopg: connection failed: host=db password=s3cret",
        "{\"level\":\"error\",\"msg\":\"redis://:s3cret@redis:6379 connection refused\"}",
        "Authorization: Bearer s3cret",
    ] {
        let scene = Scene::process_exit().with(|scene| {
            scene.spec.mode = Mode::Observe;
            each(scene, |pod| exit_of(pod).message = Some(words.to_owned()));
        });
        let concluded = scene.concluded();
        assert!(!format!("{:?}{:?}", concluded.story, concluded.decision).contains("s3cret"), "{words}");
    }
}

#[test]
fn a_missing_image_is_the_primary_and_the_stuck_rollout_follows_from_it() {
    let mut operator = Operator::new(World::with(Template::Good, 3), policy::observing());
    operator.run(120, 1);
    operator.world.roll_out(Template::NoImage);
    operator.run(180, 1);
    let incidents = operator.status().incidents;
    let types: Vec<_> = incidents.iter().map(|one| (one.incident_type, one.cause)).collect();
    assert_eq!(types, [(IncidentType::CrashLoop, ImagePull), (IncidentType::RolloutStuck, BadRollout)]);
    assert_eq!(incidents[1].caused_by.as_ref(), Some(&incidents[0].id));
}
