//! The same for every action: killed right after any of its writes, the operator comes to the same end, and every
//! effect took place once.
//!
//! Most of them are played for a server that does not become ready: that lasts until its pod is replaced, or until it is
//! mended from outside, once the action is done. The others are played for the fault that they are there for.

use std::collections::BTreeSet;

use mcp_health_e2e::{
    ActionType, IncidentType, McpServerHealthStatus, Outcome, Planned, Server, Story, environment,
    proxy::{Disturbance, is_event},
};
use serde_json::{Value, json};

use super::{
    Play, all_end_well, play,
    stage::{Operators, PLACES},
};

/// One action, and the play for it.
#[derive(Clone, Copy)]
struct Runbook {
    action: ActionType,
    /// Its step in the runbook of the incident, as JSON; `null` leaves the catalogue's.
    step: fn() -> Value,
    /// What else the policy says of it, beside allowing it.
    policy: fn() -> Value,
    /// The server.
    server: fn(Planned) -> Planned,
    /// What it is played for.
    mishap: Mishap,
    /// The writes that are its effects, by how their labels begin: each is accepted once.
    effects: &'static [&'static str],
}

/// What an action is played for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// The server's `/health` says no, until its pod is replaced.
    NotReady,
    /// The same; the action does not replace the pod, and it is mended once that is done.
    NotReadyForAWhile,
    /// The server's containers outgrow their limit.
    OutOfMemory,
    /// The ConfigMap is broken, and the server restarted.
    BrokenConfig,
}

impl Mishap {
    fn incident(self) -> IncidentType {
        match self {
            Self::NotReady | Self::NotReadyForAWhile => IncidentType::ServiceNotResponding,
            Self::BrokenConfig => IncidentType::CrashLoop,
            Self::OutOfMemory => IncidentType::OutOfMemory,
        }
    }
}

fn nothing() -> Value {
    json!({})
}

fn as_it_is(server: Planned) -> Planned {
    server
}

/// Only the attempt is noted on the target.
const MARK: &str = "PATCH deployment ()";
/// All pods are replaced: the annotation is set, or all annotations of a template that has none.
const RESTART: &str = "PATCH deployment (";

const RUNBOOKS: &[Runbook] = &[
    Runbook {
        action: ActionType::RolloutRestart,
        step: || json!({"rolloutRestart": {}}),
        policy: nothing,
        server: as_it_is,
        mishap: Mishap::NotReady,
        effects: &[RESTART],
    },
    Runbook {
        action: ActionType::RecyclePod,
        step: || json!({"recyclePod": {}}),
        policy: nothing,
        server: as_it_is,
        mishap: Mishap::NotReady,
        effects: &["POST pods eviction"],
    },
    Runbook {
        action: ActionType::Scale,
        step: || json!({"scale": {"by": 1}}),
        policy: || json!({"scale": {"max": 3, "stateless": true}}),
        server: as_it_is,
        mishap: Mishap::NotReadyForAWhile,
        effects: &["PATCH deployment (replicas)"],
    },
    Runbook {
        action: ActionType::SetEnv,
        step: || json!({"setEnv": {"name": "MCP_LOG_LEVEL", "value": "DEBUG"}}),
        policy: || json!({"setEnv": {"allow": ["MCP_LOG_LEVEL"]}}),
        server: as_it_is,
        mishap: Mishap::NotReady,
        effects: &["PATCH deployment (template)"],
    },
    Runbook {
        action: ActionType::RunJob,
        step: || json!({"runJob": {"jobTemplateRef": {"kind": "CronJob", "name": "smoke"}}}),
        policy: nothing,
        server: as_it_is,
        mishap: Mishap::NotReadyForAWhile,
        effects: &["POST jobs"],
    },
    Runbook {
        action: ActionType::RaiseResources,
        step: || Value::Null,
        policy: || json!({"raiseResources": {"maxMemory": "256Mi"}}),
        server: |server| server.deployment(outgrows_its_limit),
        mishap: Mishap::OutOfMemory,
        effects: &["PATCH deployment (template)"],
    },
    Runbook {
        action: ActionType::RollbackConfig,
        step: || Value::Null,
        policy: nothing,
        server: |server| server.deployment(reads_config),
        mishap: Mishap::BrokenConfig,
        effects: &["PATCH configmaps (data", RESTART],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_killed_after_any_write_of_any_runbook_comes_to_the_same_end_with_one_effect() {
    let mut plays: Vec<Play> = Vec::new();
    for &runbook in RUNBOOKS {
        let name = format!("{}, undisturbed", runbook.action);
        plays.push(play(name, move |name| whole(name, runbook)));
    }
    all_end_well(plays).await;
}

/// Plays a runbook once without, and once for each of its writes with, a kill right after it.
async fn whole(name: String, runbook: Runbook) {
    let writes = played(name, runbook, None).await;
    let mut plays: Vec<Play> = Vec::new();
    // What is written before there is an incident is no part of the story, and may be under way when that begins.
    let of_the_story = writes.iter().enumerate().filter(|(_, label)| *label != "PUT status (no incident)");
    for (number, label) in of_the_story {
        let name = format!("{}, killed right after write {}, {label}", runbook.action, number + 1);
        plays.push(play(name, async move |name| {
            played(name, runbook, Some(number)).await;
        }));
    }
    all_end_well(plays).await;
}

/// Plays a runbook to its end, with a kill after so many writes. Returns what was written, and accepted, without Events.
async fn played(name: String, runbook: Runbook, kill_after: Option<usize>) -> Vec<String> {
    let _place = PLACES.acquire().await.expect("nobody closes it");
    let values = [
        "replicaCount=0",
        "metrics.service.enabled=false",
        "actions.rollbackConfig=true",
        "actions.runJob=true",
        "evidence.keep=false",
    ];
    let story = Story::begin_with_values("runbooks", &values).await;
    // Nobody needs to look for its pods then.
    story.kubectl(&["delete", "deployment", &story.namespace]).await;
    story.kubectl_with(&["apply", "--filename", "-"], &config("MCP_WORKERS: 1").to_string()).await.ok();
    story.kubectl_with(&["apply", "--filename", "-"], &cron_job().to_string()).await.ok();
    let flags = ["--config-rollback=true", "--run-jobs=true", "--keep-evidence=false"];
    let operators = Operators::at(&story, &name, &flags).await;
    operators.begin("first", &[]);
    let server = (runbook.server)(story.server().policy(spec(runbook))).healthy().await;
    server.policy.change(&json!({"overrides": overrides(runbook)})).await;
    server.policy.considered_again().await;
    operators.proxy.begin();
    if let Some(writes) = kill_after {
        operators.kill_first(Disturbance::after_any().skipping(writes));
    }

    let broken = server.pod_names().await;
    begin(runbook.mishap, &story, &server).await;
    let killed = async {
        match kill_after {
            Some(_) => operators.proxy.until("the kill", |all| all.iter().any(|write| write.disturbed)).await,
            None => std::future::pending().await,
        }
    };
    // There may be a write less than the last time: then it is over without a kill.
    tokio::select! {
        () = killed => {
            operators.begin_another_life();
            ends_for_good(runbook, &server, &broken).await;
        }
        () = ends_for_good(runbook, &server, &broken) => {}
    }
    ended_well(runbook, &server).await;
    operators.end();

    let writes = operators.proxy.writes();
    let done: Vec<_> = writes.iter().filter(|write| write.fate.is_done()).collect();
    for effect in runbook.effects {
        let is_meant =
            |label: &str| label.starts_with(effect) && !label.contains("managedFields") && label != MARK;
        let at: Vec<usize> = (0..done.len()).filter(|&at| is_meant(&done[at].label)).collect();
        assert_eq!(
            at.len(),
            1,
            "{effect}, among {:#?}",
            done.iter().map(|one| &one.label).collect::<Vec<_>>()
        );
        let recorded =
            done[..at[0]].iter().any(|write| tells_of_an_attempt(&write.body["status"], runbook.action));
        assert!(recorded, "{effect} was done before it was recorded");
    }
    done.into_iter().filter(|write| !is_event(&write.label)).map(|write| write.label.clone()).collect()
}

fn tells_of_an_attempt(status: &Value, action: ActionType) -> bool {
    let incidents = status["incidents"].as_array().into_iter().flatten();
    let mut attempts = incidents.flat_map(|one| one["attempts"].as_array().into_iter().flatten());
    attempts.any(|attempt| attempt["action"] == action.to_string())
}

fn spec(runbook: Runbook) -> Value {
    let mut actions = (runbook.policy)();
    actions["allow"] = json!([runbook.action]);
    json!({"actions": actions})
}

/// The runbook's own step, for once the server is up: its start is no incident.
fn overrides(runbook: Runbook) -> Value {
    match (runbook.step)() {
        Value::Null => json!([]),
        step => {
            let incident = runbook.mishap.incident();
            let mut own = json!({"incident": incident, "runbook": [step]});
            if IncidentType::WAITING.contains(&incident) {
                own["for"] = json!("8s");
            }
            json!([own])
        }
    }
}

/// Its Job is a demo server that ends by itself, and well.
fn cron_job() -> Value {
    let container = json!({
        "name": "smoke",
        "image": environment::demo_image(),
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "FAULT_CRASH_EXIT", "value": "0"}, {"name": "FAULT_CRASH_AFTER", "value": "1s"}],
    });
    let pod = json!({"restartPolicy": "Never", "containers": [container]});
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "smoke"},
        "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    })
}

fn config(content: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mcp-config"}, "data": {"config.yaml": content}})
}

/// What the server holds when it has started is more than its limit, and less than twice that.
fn outgrows_its_limit(deployment: &mut Value) {
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({"limits": {"memory": "48Mi"}, "requests": {"memory": "16Mi"}});
    let environment = container["env"].as_array_mut().expect("the manifest has an env");
    for (name, value) in
        [("FAULT_LEAK_MEMORY", "60"), ("FAULT_LEAK_MEMORY_CAP", "60"), ("FAULT_LEAK_MEMORY_AFTER", "15s")]
    {
        environment.push(json!({"name": name, "value": value}));
    }
}

fn reads_config(deployment: &mut Value) {
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "config", "configMap": {"name": "mcp-config"}}]);
    let container = &mut pod["containers"][0];
    container["volumeMounts"] = json!([{"name": "config", "mountPath": "/etc/mcp"}]);
    let environment = container["env"].as_array_mut().expect("the manifest has an env");
    environment.retain(|one| one["name"] != "MCP_WORKERS");
    environment.push(json!({"name": "MCP_CONFIG", "value": "/etc/mcp/config.yaml"}));
}

async fn begin(mishap: Mishap, story: &Story, server: &Server) {
    match mishap {
        Mishap::NotReady | Mishap::NotReadyForAWhile => {
            for pod in server.pod_names().await {
                server.break_pod(&pod, json!({"fault": "never-ready"})).await;
            }
        }
        Mishap::OutOfMemory => {}
        Mishap::BrokenConfig => {
            let broken = config("MCP_WORKERS: many").to_string();
            story.kubectl_with(&["apply", "--filename", "-"], &broken).await.ok();
            story.kubectl(&["rollout", "restart", &format!("deployment/{}", server.name)]).await;
        }
    }
}

/// Awaits the end of the story.
async fn ends(runbook: Runbook, server: &Server, broken: &BTreeSet<String>) {
    if runbook.mishap == Mishap::NotReadyForAWhile {
        server
            .policy
            .until("the action is carried out", |status| {
                let done = status.last_action.as_ref().is_some_and(|last| last.action == runbook.action);
                let carried_out =
                    attempts(status, runbook.action).all(|one| one.is_carried_out() || one.outcome.is_some());
                (done && carried_out).then_some(())
            })
            .await;
        for pod in broken {
            server.mend_pod(pod, "never-ready").await;
        }
    }
    server
        .policy
        .until("resolved, or mitigated", |status| {
            let resolved = status.incidents.is_empty() && !status.history.is_empty();
            let mitigated = status.incidents.iter().all(mcp_health_e2e::Incident::is_mitigated);
            (resolved || (mitigated && !status.incidents.is_empty())).then_some(())
        })
        .await;
}

/// The end, and a look after it by whoever is left: the kill may be at the very write that shows the end.
async fn ends_for_good(runbook: Runbook, server: &Server, broken: &BTreeSet<String>) {
    ends(runbook, server, broken).await;
    server.policy.considered_again().await;
}

/// One action that helped, and nothing else spent.
async fn ended_well(runbook: Runbook, server: &Server) {
    let status = server.policy.status().await;
    let last = status.last_action.as_ref().expect("the last action is told");
    assert_eq!((last.action, last.outcome), (runbook.action, Some(Outcome::Improved)), "{status:#?}");
    let open = attempts(&status, runbook.action).filter(|one| one.is_spent()).count();
    let superseded = format!("{}: Superseded", runbook.action);
    let past = status
        .history
        .iter()
        .flat_map(|past| &past.actions)
        .filter(|one| one.to_string() != superseded)
        .count();
    assert_eq!(open + past, 1, "{status:#?}");
    server.serves_mcp().await;
}

fn attempts(
    status: &McpServerHealthStatus,
    action: ActionType,
) -> impl Iterator<Item = &mcp_health_e2e::Attempt> {
    status.incidents.iter().flat_map(|one| &one.attempts).filter(move |one| one.action == action)
}
