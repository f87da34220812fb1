//! OutOfMemory, and the actions that edit the pod template: what is planned, what holds it, what comes of it, and how
//! it ends.

use jiff::SignedDuration;
use mcp_health_api::{
    ActionType, Cause, Duration, Edit, Effect, Incident, IncidentState, IncidentType, McpServerHealthSpec,
    McpServerHealthStatus, Outcome, Severity,
};
use mcp_health_core::{
    Server,
    actions::{self, Asked, Plan, Planned},
    signals::{Autoscaler, ContainerSpec, Probe, ProbeKind, Quota, Reading, Role, Sample, Scaled, Usage},
};
use serde_json::json;

use crate::support::{
    moment,
    operator::{Crash, Operator},
    policy,
    scene::Scene,
    world::{Template, World},
};

const MI: i64 = 1 << 20;

/// Killed a second after its start until it has 200Mi; it has 128Mi.
const HUNGRY: Template = Template::NeedsMemory { needs: 200, limit: 128, after: 5 };

/// Enforce, with everything allowed that is tried here.
fn generous() -> McpServerHealthSpec {
    let mut spec = policy::with_cooldown(policy::enforcing(), 0);
    spec.actions = serde_json::from_value(json!({
        "allow": ["Rollback", "RolloutRestart", "RaiseResources", "RelaxStartupProbe", "SetEnv"],
        "raiseResources": {"maxMemory": "1Gi"},
        "setEnv": {"allow": ["MCP_WORKERS", "DB_POOL_SIZE"]},
    }))
    .unwrap();
    spec
}

/// A crash loop is answered by one step.
fn answered_by(step: &serde_json::Value) -> McpServerHealthSpec {
    let mut spec = generous();
    spec.overrides = serde_json::from_value(json!([{"incident": "CrashLoop", "runbook": [step]}])).unwrap();
    spec
}

/// A server of so many pods whose containers are killed at their limit, seen for the first time.
fn hungry(kind: Template, spec: McpServerHealthSpec) -> Operator {
    Operator::new(World::with(kind, 3), spec)
}

/// The moment at which the operator is about to act on it.
fn hungry_scene() -> Scene {
    let mut operator = hungry(HUNGRY, generous());
    operator.run_until("an action", 60, |status| status.last_action.is_some());
    let look = operator.looks.iter().find(|look| look.intent.is_some()).unwrap();
    let (status, signals, now) = (look.before.clone(), look.signals.clone(), look.at);
    Scene { status, signals, now, ..Scene::of(&operator) }
}

fn planned(scene: &Scene, action: ActionType) -> Planned {
    let (case, concluded) = (scene.case(), scene.concluded());
    let server = Server::of(&case).unwrap();
    let own = scene.spec.overrides.first().and_then(|own| own.runbook.as_ref()?.first());
    actions::plan(
        action,
        &Asked {
            case: &case,
            server: &server,
            diagnosis: &concluded.diagnosis,
            incident: concluded.story.primary().unwrap(),
            step: own,
        },
    )
}

fn ready(scene: &Scene, action: ActionType) -> Plan {
    match planned(scene, action) {
        Planned::Ready(plan) => plan,
        other => panic!("{action} is not planned: {other:?}"),
    }
}

/// The edits of a plan, as `field: from → to`.
fn edits(plan: &Plan) -> Vec<String> {
    assert_eq!(plan.steps[0].effect, Effect::EditTemplate);
    assert_eq!(plan.steps[1].effect, Effect::HandBackOwnership);
    let words = |edit: &Edit| {
        let from = edit.from.as_deref().unwrap_or("nothing");
        format!("{} {}: {from} → {}", edit.container, edit.field, edit.to)
    };
    plan.steps[0].edits.iter().map(words).collect()
}

/// In one word why it cannot be planned, and the sentence.
fn impossible(scene: &Scene, action: ActionType) -> (&'static str, String) {
    match planned(scene, action) {
        Planned::Impossible { reason, message } => (reason, message),
        other => panic!("{action} is possible: {other:?}"),
    }
}

fn container(scene: &mut Scene) -> &mut ContainerSpec {
    &mut scene.target().containers[0]
}

fn primary(status: &McpServerHealthStatus) -> &Incident {
    status.incidents.first().unwrap_or_else(|| panic!("no incident: {status:#?}"))
}

fn escalation(status: &McpServerHealthStatus) -> Option<&str> {
    Some(status.incidents.first()?.escalation.as_ref()?.reason.as_str())
}

fn is_mitigated(status: &McpServerHealthStatus) -> bool {
    status.incidents.first().is_some_and(|incident| incident.state == IncidentState::Mitigated)
}

fn mitigated(spec: McpServerHealthSpec) -> Operator {
    let mut operator = hungry(HUNGRY, spec);
    operator.run_until("mitigated", 120, is_mitigated);
    operator
}

// ---- the rule

#[test]
fn a_kill_at_the_limit_is_found_with_what_tells_a_small_limit_from_a_leak() {
    type Change = fn(&mut Scene);
    fn exit_after(scene: &mut Scene, minutes: i64, restarts: i32) {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
        for pod in pods {
            let container = &mut pod.containers[0];
            container.restarts = restarts;
            if let Some(exit) = &mut container.last_exit {
                exit.started = Some(exit.at - SignedDuration::from_mins(minutes));
            }
        }
    }
    fn usage(scene: &mut Scene, memory: impl Fn(i64) -> i64) {
        let Reading::Fresh(pods) = &scene.signals.pods else { panic!("pods") };
        let series = pods.iter().filter_map(|pod| {
            let at = pod.containers[0].last_exit.as_ref()?.at;
            let samples = (1..=9_i64).map(|ago| Sample {
                at: at - SignedDuration::from_mins(10 - ago),
                cpu: 10,
                memory: memory(ago),
            });
            let container = "server".to_owned();
            Some(Usage { pod: pod.name.clone(), container, samples: samples.collect() })
        });
        scene.signals.usage = Reading::Fresh(series.collect());
    }
    let rows: &[(&str, Change, Cause)] = &[
        ("soon after its start", |scene| exit_after(scene, 1, 9), Cause::LimitTooSmall),
        ("long after it, for the first time", |scene| exit_after(scene, 300, 1), Cause::LimitTooSmall),
        ("long after it, again", |scene| exit_after(scene, 300, 2), Cause::Leak),
        (
            "long after it, for the first time, and seen to grow",
            |scene| {
                exit_after(scene, 300, 1);
                usage(scene, |at| 50 * at * MI);
            },
            Cause::Leak,
        ),
        (
            "long after it, for the first time, all of a sudden",
            |scene| {
                exit_after(scene, 300, 1);
                usage(scene, |_| 50 * MI);
            },
            Cause::LimitTooSmall,
        ),
        ("without a limit of its own", |scene| container(scene).memory_limit = None, Cause::OutOfMemory),
    ];
    for (what, change, cause) in rows {
        let finding = hungry_scene().with(change).concluded().diagnosis.findings.remove(0);
        assert_eq!((finding.incident, finding.cause), (IncidentType::OutOfMemory, *cause), "{what}");
        assert_eq!(finding.severity, Severity::SEV1, "{what}: none is ready");
    }
}

/// What every container that ended is changed to.
fn exits(scene: &mut Scene, code: i32, restarts: i32) {
    let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
    for container in pods.iter_mut().map(|pod| &mut pod.containers[0]) {
        container.restarts = restarts;
        container.last_exit.as_mut().unwrap().code = code;
    }
}

#[test]
fn a_child_that_was_killed_is_no_kill_of_the_server_unless_it_keeps_failing() {
    let found = |scene: &Scene| scene.concluded().diagnosis.finding(IncidentType::OutOfMemory).cloned();
    for (code, restarts, expected) in
        [(137, 1, true), (0, 1, false), (143, 5, false), (1, 1, false), (1, 2, true)]
    {
        let scene = hungry_scene().with(|scene| exits(scene, code, restarts));
        assert_eq!(found(&scene).is_some(), expected, "exit code {code}, {restarts} restarts");
        if code == 1 && expected {
            assert!(
                found(&scene).unwrap().evidence[0]
                    .contains("a child process killed at its memory limit of 128Mi")
            );
        }
    }
    // An init container that succeeded is done, whatever the kernel killed in it.
    let init = hungry_scene().with(|scene| {
        exits(scene, 0, 0);
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
        for pod in pods {
            pod.containers[0].role = Role::Init;
            pod.containers[0].recent_exits.truncate(1);
            pod.containers[0].waiting = None;
        }
    });
    assert!(init.concluded().diagnosis.findings.iter().all(|one| one.incident != IncidentType::OutOfMemory));
}

/// A template that is known good, and outgrew its limit: the operator is about to act.
fn outgrown() -> Scene {
    let mut operator = hungry(Template::NeedsMemory { needs: 100, limit: 128, after: 5 }, generous());
    operator.run(120, 1);
    operator.world.outgrow(200);
    operator.run_until("an action", 60, |status| status.last_action.is_some());
    let look = operator.looks.iter().find(|look| look.intent.is_some()).unwrap();
    let (status, signals, now) = (look.before.clone(), look.signals.clone(), look.at);
    Scene { status, signals, now, ..Scene::of(&operator) }
}

/// The shape of the second end within seconds: the kubelet has counted one restart, and the container waits for the next.
fn loses_a_child_again(scene: &mut Scene) {
    exits(scene, 1, 1);
    let now = scene.now;
    let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
    for container in pods.iter_mut().map(|pod| &mut pod.containers[0]) {
        container.waiting = Some(("CrashLoopBackOff".to_owned(), "back-off 10s".to_owned()));
        container.recent_exits = vec![moment(now - 14), moment(now - 1)];
    }
}

#[test]
fn a_main_process_that_exits_again_with_an_error_after_its_child_was_killed_gets_more_memory_and_no_restart()
{
    let again = outgrown().with(loses_a_child_again);
    let found = again.concluded().diagnosis.findings.remove(0);
    assert_eq!((found.incident, found.cause), (IncidentType::OutOfMemory, Cause::LimitTooSmall));
    assert_eq!(again.decision(), "Act RaiseResources");
    let not_allowed = again.clone().with(|scene| {
        scene.spec.actions.allow.retain(|one| *one != ActionType::RaiseResources);
    });
    assert_eq!(not_allowed.decision(), "Escalate ActionNotAllowed", "nothing else is done instead");
    // What is known after a restart of the operator: the last end, and the kubelet's count.
    let forgotten = again.clone().with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
        for pod in pods {
            pod.containers[0].recent_exits.truncate(1);
        }
    });
    assert_eq!(forgotten.decision(), "Act RaiseResources");
}

#[test]
fn a_main_process_that_ends_normally_again_and_again_after_its_child_was_killed_is_told_of_and_not_restarted()
{
    let finding =
        |scene: &Scene| scene.concluded().diagnosis.finding(IncidentType::CrashLoop).cloned().unwrap();
    for code in [0, 143] {
        let normal = outgrown().with(loses_a_child_again).with(|scene| exits(scene, code, 1));
        let concluded = normal.concluded();
        assert!(
            concluded.diagnosis.finding(IncidentType::OutOfMemory).is_none(),
            "{code}: it proves nothing"
        );
        let crash = finding(&normal);
        assert_eq!(crash.cause, Cause::OutOfMemory, "{code}");
        assert!(crash.evidence[0].contains("a child process was killed at the memory limit"), "{crash:#?}");
        assert_eq!(concluded.words(), "Escalate NoAutomaticAction", "{code}");
        // What the program says of its end, or a probe that had it killed, is why it ends.
        let spoken = normal.clone().with(|scene| {
            let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
            for exit in pods.iter_mut().filter_map(|pod| pod.containers[0].last_exit.as_mut()) {
                exit.message = Some("ModuleNotFoundError: No module named 'search'".to_owned());
            }
        });
        assert_eq!(finding(&spoken).cause, Cause::MissingDependency, "{code}");
        let probe = normal.with(|scene| {
            let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
            let killing = "Container server failed liveness probe, will be restarted".to_owned();
            for pod in pods {
                pod.troubles = vec![("Killing".to_owned(), killing.clone())];
            }
        });
        assert_ne!(finding(&probe).cause, Cause::OutOfMemory, "{code}");
    }
}

#[test]
fn a_kill_at_a_default_limit_of_the_namespace_is_raised_explicitly_and_is_no_want_of_the_node() {
    let default = |request: Option<i64>| {
        hungry_scene().with(|scene| {
            (container(scene).memory_limit, container(scene).memory_request) = (None, None);
            let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
            for container in pods.iter_mut().map(|pod| &mut pod.containers[0]) {
                (container.memory_limit, container.memory_request) = (Some(128 * MI), request);
            }
        })
    };
    let scene = default(Some(32 * MI));
    let found = scene.concluded().diagnosis.finding(IncidentType::OutOfMemory).cloned().unwrap();
    assert_eq!(found.cause, Cause::LimitTooSmall);
    assert!(
        found.evidence[0].contains("killed at its memory limit of 128Mi (a default of the namespace"),
        "{found:#?}"
    );
    let plan = ready(&scene, ActionType::RaiseResources);
    assert_eq!(
        edits(&plan),
        [
            "server resources.limits.memory: nothing → 256Mi",
            "server resources.requests.memory: nothing → 32Mi"
        ]
    );
    assert_eq!(
        edits(&ready(&default(Some(128 * MI)), ActionType::RaiseResources)),
        ["server resources.limits.memory: nothing → 256Mi"],
        "a Guaranteed pod stays one"
    );
}

#[test]
fn an_exit_code_of_137_alone_is_no_want_of_memory_and_what_is_up_for_long_is_forgotten() {
    let found = |scene: &Scene| scene.concluded().diagnosis.finding(IncidentType::OutOfMemory).cloned();
    let killed = hungry_scene().with(|scene| {
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
        for exit in pods.iter_mut().filter_map(|pod| pod.containers[0].last_exit.as_mut()) {
            "Error".clone_into(&mut exit.reason);
        }
    });
    assert_eq!(found(&killed), None);
    let up_for = |minutes: i64| {
        hungry_scene().with(|scene| {
            scene.now += minutes * 60;
            let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
            for pod in pods {
                (pod.ready, pod.ready_changed) = (true, moment(0));
            }
        })
    };
    let finding = found(&up_for(9)).expect("nine minutes are not long");
    assert!(finding.lapses.is_some_and(|at| at > moment(9 * 60) && at < moment(11 * 60)));
    assert_eq!(found(&up_for(10)), None);
}

#[test]
fn the_crash_loop_of_the_pods_that_are_killed_follows_from_it() {
    let mut operator = hungry(HUNGRY, policy::observing());
    operator.run(120, 1);
    let status = operator.status();
    let types: Vec<_> = status.incidents.iter().map(|incident| incident.incident_type).collect();
    assert_eq!(types[..2], [IncidentType::OutOfMemory, IncidentType::CrashLoop]);
    assert_eq!(status.incidents[1].caused_by, Some(status.incidents[0].id.clone()));
}

// ---- what is planned

#[test]
fn a_limit_is_doubled_within_the_cap_and_the_quality_of_service_stays() {
    type Change = fn(&mut Scene);
    let rows: &[(&str, Change, &[&str])] = &[
        ("burstable", |_| {}, &["server resources.limits.memory: 128Mi → 256Mi"]),
        (
            "guaranteed",
            |scene| container(scene).memory_request = Some(128 * MI),
            &[
                "server resources.limits.memory: 128Mi → 256Mi",
                "server resources.requests.memory: 128Mi → 256Mi",
            ],
        ),
        (
            "a request that is the limit's by default",
            |scene| container(scene).memory_request = None,
            &["server resources.limits.memory: 128Mi → 256Mi"],
        ),
        (
            "the cap is nearer",
            |scene| scene.spec.actions.raise_resources.as_mut().unwrap().max_memory = "200Mi".to_owned(),
            &["server resources.limits.memory: 128Mi → 200Mi"],
        ),
    ];
    for (what, change, expected) in rows {
        let plan = ready(&hungry_scene().with(change), ActionType::RaiseResources);
        assert_eq!(edits(&plan), *expected, "{what}");
    }
}

#[test]
fn the_container_that_was_killed_is_raised_whichever_it_is() {
    let scene = hungry_scene().with(|scene| {
        let proxy = ContainerSpec {
            name: "proxy".to_owned(),
            role: Role::Sidecar,
            memory_limit: Some(32 * MI),
            ..ContainerSpec::default()
        };
        scene.target().containers.insert(0, proxy);
        let Reading::Fresh(pods) = &mut scene.signals.pods else { panic!("pods") };
        for container in pods.iter_mut().flat_map(|pod| &mut pod.containers) {
            (container.name, container.role) = ("proxy".to_owned(), Role::Sidecar);
        }
    });
    let plan = ready(&scene, ActionType::RaiseResources);
    assert_eq!(edits(&plan), ["proxy resources.limits.memory: 32Mi → 64Mi"]);
    assert!(scene.concluded().diagnosis.findings[0].evidence[0].contains("sidecar container proxy"));
}

fn quota() -> Quota {
    Quota {
        words: "ResourceQuota/mcp".to_owned(),
        memory_limits_left: None,
        memory_requests_left: None,
        memory_limit_max: None,
        pod_memory_limit_max: None,
    }
}

#[test]
fn what_does_not_fit_is_not_raised_and_named() {
    type Change = fn(&mut Scene);
    // Three pods take 128Mi more each, and one beside them 256Mi.
    let rows: &[(&str, Change, &str)] = &[
        ("no cap", |scene| scene.spec.actions.raise_resources = None, "NoMemoryCap"),
        (
            "at the cap",
            |scene| scene.spec.actions.raise_resources.as_mut().unwrap().max_memory = "128Mi".to_owned(),
            "MemoryCapReached",
        ),
        ("no limit of its own", |scene| container(scene).memory_limit = None, "NodeOutOfMemory"),
        (
            "limits: a byte less than all take",
            |scene| {
                let left = Some(640 * MI - 1);
                scene.signals.quotas = Reading::Fresh(vec![Quota { memory_limits_left: left, ..quota() }]);
            },
            "QuotaTooSmall",
        ),
        (
            "requests, where they follow the limit",
            |scene| {
                container(scene).memory_request = None;
                let left = Some(640 * MI - 1);
                scene.signals.quotas = Reading::Fresh(vec![Quota { memory_requests_left: left, ..quota() }]);
            },
            "QuotaTooSmall",
        ),
        (
            "a container may not have so much",
            |scene| {
                let max = Some(200 * MI);
                scene.signals.quotas = Reading::Fresh(vec![Quota { memory_limit_max: max, ..quota() }]);
            },
            "QuotaTooSmall",
        ),
        (
            "a pod may not have so much",
            |scene| {
                let max = Some(200 * MI);
                scene.signals.quotas = Reading::Fresh(vec![Quota { pod_memory_limit_max: max, ..quota() }]);
            },
            "QuotaTooSmall",
        ),
    ];
    for (what, change, reason) in rows {
        let (found, message) = impossible(&hungry_scene().with(change), ActionType::RaiseResources);
        assert_eq!(found, *reason, "{what}: {message}");
    }
    // What it takes is left, and requests stay what they are.
    let enough = hungry_scene().with(|scene| {
        scene.signals.quotas = Reading::Fresh(vec![Quota {
            memory_limits_left: Some(640 * MI),
            memory_requests_left: Some(64 * MI),
            memory_limit_max: Some(256 * MI),
            pod_memory_limit_max: Some(256 * MI),
            ..quota()
        }]);
    });
    ready(&enough, ActionType::RaiseResources);
}

#[test]
fn what_a_vertical_autoscaler_sets_or_what_cannot_be_seen_holds_it_and_holds_no_rollback() {
    type Change = fn(&mut Scene, &Autoscaler);
    let vpa = Autoscaler { words: "VerticalPodAutoscaler/mcp".to_owned(), sets: Scaled::Resources };
    let rows: [(&str, Change, &str); 4] = [
        ("nothing is in the way", |_, _| {}, "Act RaiseResources"),
        (
            "a vertical autoscaler",
            |scene, vpa| scene.signals.vertical_autoscalers = Reading::Fresh(vec![vpa.clone()]),
            "Hold AutoscalerOwned",
        ),
        (
            "vertical autoscalers cannot be seen",
            |scene, _| scene.signals.vertical_autoscalers = Reading::Unavailable("forbidden".to_owned()),
            "Hold EvidenceNotFresh",
        ),
        (
            "quotas cannot be seen",
            |scene, _| scene.signals.quotas = Reading::Unavailable("forbidden".to_owned()),
            "Hold EvidenceNotFresh",
        ),
    ];
    for (what, change, decision) in rows {
        assert_eq!(hungry_scene().with(|scene| change(scene, &vpa)).decision(), decision, "{what}");
        if decision != "Act RaiseResources" {
            let rollback = Scene::bad_rollout().with(|scene| change(scene, &vpa));
            assert_eq!(rollback.decision(), "Act Rollback", "{what}");
        }
    }
}

/// A server that is killed before its start is over.
fn slow_scene(change: impl FnOnce(&mut Scene)) -> Scene {
    let spec = answered_by(&json!({"relaxStartupProbe": {}}));
    let mut operator = Operator::new(World::with(Template::NeedsTime { needs: 50, threshold: 30 }, 2), spec);
    operator.run_until("an action", 600, |status| status.last_action.is_some());
    let look = operator.looks.iter().find(|look| look.intent.is_some()).unwrap();
    let (status, signals, now) = (look.before.clone(), look.signals.clone(), look.at);
    Scene { status, signals, now, ..Scene::of(&operator) }.with(change)
}

#[test]
fn a_start_gets_twice_the_tries_within_the_longest_start() {
    let plan = ready(&slow_scene(|_| {}), ActionType::RelaxStartupProbe);
    assert_eq!(edits(&plan), ["server startupProbe.failureThreshold: 30 → 60"]);
    assert_eq!(plan.what, "give container server 1m to start instead of 30s");
    let most = |seconds: u32| {
        move |scene: &mut Scene| {
            scene.spec.actions.relax_startup_probe.max_startup_time = Duration::from_secs(seconds);
        }
    };
    let plan = ready(&slow_scene(most(45)), ActionType::RelaxStartupProbe);
    assert_eq!(edits(&plan), ["server startupProbe.failureThreshold: 30 → 45"]);
    let scene = slow_scene(most(30));
    assert_eq!(impossible(&scene, ActionType::RelaxStartupProbe).0, "StartupTimeReached");
    // The delay is part of the start, and whole periods count.
    let delayed = slow_scene(|scene| {
        most(100)(scene);
        let probe = &mut container(scene).probes[0];
        (probe.delay, probe.period, probe.failures) = (25, 10, 5);
    });
    let plan = ready(&delayed, ActionType::RelaxStartupProbe);
    assert_eq!(edits(&plan), ["server startupProbe.failureThreshold: 5 → 7"]);
}

#[test]
fn a_liveness_probe_that_ends_the_start_is_named() {
    let scene = slow_scene(|scene| container(scene).probes[0].kind = ProbeKind::Liveness);
    let (reason, message) = impossible(&scene, ActionType::RelaxStartupProbe);
    assert_eq!(reason, "NoStartupProbe");
    assert!(message.contains("its livenessProbe ends it after 30s"), "{message}");
    let scene = slow_scene(|scene| container(scene).probes = Vec::<Probe>::new());
    assert_eq!(impossible(&scene, ActionType::RelaxStartupProbe).0, "NoStartupProbe");
}

#[test]
fn a_variable_is_set_where_it_is_allowed_and_weakens_nothing() {
    let scene = |step: &serde_json::Value| {
        let mut scene = hungry_scene();
        scene.spec.overrides =
            serde_json::from_value(json!([{"incident": "OutOfMemory", "runbook": [{"setEnv": step}]}]))
                .unwrap();
        scene
    };
    let workers = json!({"name": "MCP_WORKERS", "value": "1"});
    let plan = ready(&scene(&workers), ActionType::SetEnv);
    assert_eq!(edits(&plan), ["server env.MCP_WORKERS: nothing → 1"]);
    assert_eq!(plan.steps[0].until, None);
    let set = |value: Option<&str>| {
        let value = value.map(str::to_owned);
        scene(&workers).with(|scene| container(scene).env = vec![("MCP_WORKERS".to_owned(), value)])
    };
    let plan = ready(&set(Some("4")), ActionType::SetEnv);
    assert_eq!(edits(&plan), ["server env.MCP_WORKERS: 4 → 1"]);
    assert_eq!(impossible(&set(Some("1")), ActionType::SetEnv).0, "AlreadySet");
    assert_eq!(impossible(&set(None), ActionType::SetEnv).0, "VariableFromElsewhere");
    let scene_for = scene(&json!({"name": "MCP_WORKERS", "value": "1", "for": "30m"}));
    let plan = ready(&scene_for, ActionType::SetEnv);
    assert_eq!(plan.steps[0].until.as_ref().unwrap().0, moment(scene_for.now + 1800));
    let other = scene(&json!({"name": "MCP_TIMEOUT", "value": "60"}));
    assert_eq!(impossible(&other, ActionType::SetEnv).0, "VariableNotAllowed");
    for name in
        ["MCP_AUTH_ENABLED", "NODE_TLS_REJECT_UNAUTHORIZED", "LD_PRELOAD", "DATABASE_URL", "https_proxy"]
    {
        let mut denied = scene(&json!({"name": name, "value": "0"}));
        // Also where an older rule let it in.
        denied.spec.actions.set_env = serde_json::from_value(json!({"allow": [name]})).unwrap();
        assert_eq!(impossible(&denied, ActionType::SetEnv).0, "VariableDenied", "{name}");
    }
    let spec = hungry_scene();
    assert_eq!(impossible(&spec, ActionType::SetEnv).0, "NoVariable");
}

// ---- the whole story

#[test]
fn a_small_limit_is_raised_and_mitigated_until_the_owner_puts_it_into_the_manifest() {
    let mut operator = mitigated(generous());
    insta::assert_yaml_snapshot!("mitigated", operator.status());
    // Hours pass, somebody restarts the pods: still no person is needed.
    operator.run(6 * 3600, 15);
    operator.world.restart();
    operator.run(60, 1);
    assert!(is_mitigated(&operator.status()), "{:#?}", operator.status());
    assert_eq!(operator.world.done.len(), 1);

    operator.world.roll_out(Template::Good);
    operator.run(60, 1);
    let status = operator.status();
    assert!(status.incidents.is_empty(), "{status:#?}");
    assert_eq!(
        status
            .history
            .iter()
            .find(|past| past.incident_type == IncidentType::OutOfMemory)
            .unwrap()
            .resolution,
        "RaiseResources was only for the time being: its owner has changed the server since, and all is well"
    );
    assert_eq!(operator.world.done.len(), 1);
}

#[test]
fn wherever_the_operator_is_cut_off_the_limit_is_raised_once() {
    for crash in [Crash::Unrecorded, Crash::Undone, Crash::Unnoted] {
        for away in [1, 3, 40] {
            let mut operator = hungry(HUNGRY, generous());
            operator.crash = Some(crash);
            for _ in 0..60 {
                operator.run(1, 1);
                if operator.crash.is_none() {
                    operator.restart(away);
                    break;
                }
            }
            assert_eq!(operator.crash, None);
            operator.run(300, 1);
            assert_eq!(
                operator.world.done.len(),
                1,
                "{crash:?}, away for {away} s: {:#?}",
                operator.status()
            );
            assert!(is_mitigated(&operator.status()), "{crash:?}, {away} s: {:#?}", operator.status());
        }
    }
}

#[test]
fn a_rollout_that_runs_out_of_memory_is_rolled_back_and_not_raised() {
    let mut operator = hungry(Template::Good, generous());
    operator.run(120, 1);
    operator.world.roll_out(HUNGRY);
    operator.run_until("an action", 60, |status| status.last_action.is_some());
    let status = operator.status();
    assert_eq!(primary(&status).incident_type, IncidentType::OutOfMemory);
    operator.run(120, 1);
    let status = operator.status();
    assert!(status.incidents.is_empty(), "{status:#?}");
    assert_eq!(status.history[0].done(), "Rollback: Improved");
}

#[test]
fn at_the_cap_a_person_is_called() {
    let mut spec = generous();
    spec.actions.raise_resources.as_mut().unwrap().max_memory = "128Mi".to_owned();
    let mut operator = hungry(HUNGRY, spec);
    operator.run(60, 1);
    assert_eq!(escalation(&operator.status()), Some("MemoryCapReached"));
    assert_eq!(operator.world.done, []);
}

#[test]
fn what_is_raised_and_killed_again_is_not_raised_twice_nor_rolled_back_to_less() {
    let needs_more = Template::NeedsMemory { needs: 900, limit: 128, after: 5 };
    let mut operator = hungry(Template::Good, generous());
    operator.run(120, 1);
    // It was well for long: what is edited of it is nobody's rollout.
    operator.world.roll_out(Template::NeedsMemory { needs: 900, limit: 128, after: 200 });
    operator.run(190, 1);
    operator.run_until("a person", 1200, |status| escalation(status).is_some());
    let status = operator.status();
    assert_eq!(operator.world.done.len(), 1, "{status:#?}");
    let mut operator = hungry(needs_more, generous());
    operator.run(120, 1);
    assert_eq!(escalation(&operator.status()), Some("RunbookExhausted"), "{:#?}", operator.status());
    assert_eq!(primary(&operator.status()).attempts[0].outcome, Some(Outcome::NoChange));
    assert_eq!(operator.world.done.len(), 1);
}

#[test]
fn what_helped_for_a_time_only_is_a_persons_with_a_new_time_to_answer() {
    let mut operator = mitigated(generous());
    operator.run(2 * 3600, 15);
    // The same template needs more now.
    operator.world.outgrow(900);
    operator.run_until("a person", 600, |status| escalation(status).is_some());
    let status = operator.status();
    let incident = primary(&status);
    assert_eq!(escalation(&status), Some("RunbookExhausted"), "{status:#?}");
    assert!(incident.respond_by.0 > moment(operator.world.now), "{incident:#?}");
}

#[test]
fn a_raise_that_makes_things_worse_is_taken_back_to_the_very_template_and_locked() {
    let mut operator = hungry(HUNGRY, generous());
    operator.run_until("an action", 60, |status| status.last_action.is_some());
    let mut status = operator.status();
    status.incidents[0].attempts[0].ready_before = 3;
    operator.overwrite_status(&status);
    operator.world.outgrow(900);
    operator.run(120, 1);
    let done = operator.world.done.clone();
    assert_eq!(done.len(), 2, "{done:#?} {:#?}", operator.status());
    assert_eq!(done[1].undoes.as_ref(), Some(&done[0].attempt));
    assert_eq!((&done[1].before, &done[1].after), (&done[0].after, &done[0].before));
    operator.create_object(generous());
    operator.run(600, 1);
    assert_eq!(operator.world.done.len(), 2);
    assert_eq!(escalation(&operator.status()), Some("LockedOut"));
}

#[test]
fn a_variable_that_is_set_for_a_time_is_taken_back_and_the_incident_is_over_if_all_stays_well() {
    let spec = answered_by(&json!({"setEnv": {"name": "MCP_WORKERS", "value": "1", "for": "30m"}}));
    let mut operator = hungry(Template::Good, spec);
    operator.run(120, 1);
    operator.world.dependency_down = true;
    operator.run_until("an action", 120, |status| status.last_action.is_some());
    operator.world.dependency_down = false;
    operator.run_until("mitigated", 300, is_mitigated);
    let due = primary(&operator.status()).follow_ups[0].take_back_at.clone().unwrap();
    insta::assert_yaml_snapshot!("for_a_time", primary(&operator.status()).follow_ups);
    operator.run_until("taken back", 1900, |status| status.incidents.is_empty());
    let status = operator.status();
    let past = status.history.iter().find(|past| past.incident_type == IncidentType::CrashLoop).unwrap();
    assert_eq!(past.done(), "SetEnv: Improved, SetEnv: Improved");
    assert_eq!(past.resolution, "SetEnv was only for a time, and all stays well without it");
    let done = &operator.world.done;
    assert_eq!((done.len(), &done[1].after), (2, &done[0].before));
    assert!(moment(done[1].at) >= due.0 && moment(done[1].at) <= due.0 + SignedDuration::from_secs(2));
}

#[test]
fn a_variable_that_cannot_be_done_without_is_a_persons() {
    let spec = answered_by(&json!({"setEnv": {"name": "MCP_WORKERS", "value": "1", "for": "2h"}}));
    let mut operator = hungry(Template::NeedsVariable { set: false }, spec);
    operator.run_until("mitigated", 300, is_mitigated);
    operator.run(2 * 3600, 5);
    operator.run_until("a person", 600, |status| escalation(status).is_some());
    assert_eq!(escalation(&operator.status()), Some("NeededForGood"), "{:#?}", operator.status());
    assert_eq!(operator.world.done.len(), 2);
    assert!(primary(&operator.status()).follow_ups.is_empty());
}

#[test]
fn a_start_that_is_given_more_time_is_mitigated() {
    let mut operator = Operator::new(
        World::with(Template::NeedsTime { needs: 50, threshold: 30 }, 2),
        answered_by(&json!({"relaxStartupProbe": {}})),
    );
    operator.run_until("mitigated", 900, is_mitigated);
    let status = operator.status();
    assert_eq!(primary(&status).attempts.len(), 1, "{status:#?}");
    assert!(primary(&status).follow_ups[0].message.contains("is 60 instead of 30"));
}

#[test]
fn what_was_raised_before_a_variable_was_set_stays_to_be_done() {
    let mut spec = generous();
    spec.overrides = serde_json::from_value(json!([{"incident": "OutOfMemory", "runbook": [
        {"raiseResources": {}}, {"setEnv": {"name": "MCP_WORKERS", "value": "1"}},
    ]}]))
    .unwrap();
    let mut operator = mitigated(spec);
    operator.world.outgrow(300);
    operator.run_until("another action", 300, |status| primary(status).attempts.len() == 2);
    operator.world.outgrow(200);
    operator.run_until("mitigated", 300, is_mitigated);
    let follow_ups: Vec<_> =
        primary(&operator.status()).follow_ups.iter().map(|one| one.attempt.clone()).collect();
    assert_eq!(follow_ups.len(), 2, "{:#?}", operator.status());
}
