#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use clap::Parser;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use kube::runtime::watcher::Event as Watched;
use mcp_health_api::McpServerHealth;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::{
    config::Config,
    observe::{
        Stores,
        list_watch::{
            Pace,
            tests::{Answer, Asked, Requests, api_server, list},
        },
        note_targets, pods, replica_sets,
    },
};

fn event(name: &str, pod: &str, reason: &str, message: &str, ago: i64) -> Value {
    let at = Timestamp::now() - SignedDuration::from_secs(ago);
    json!({
        "metadata": {"namespace": "mcp", "name": name, "resourceVersion": "5"},
        "involvedObject": {"kind": "Pod", "namespace": "mcp", "name": pod, "uid": pod},
        "reason": reason, "message": message, "type": "Warning", "lastTimestamp": at.to_string(),
    })
}

fn unhealthy(name: &str, pod: &str) -> Value {
    event(name, pod, "Unhealthy", "Readiness probe failed: postgres://mcp:s3cret@db", 5)
}

fn noted(events: &PodEvents, event: &Value) -> bool {
    events.note(serde_json::from_value(event.clone()).unwrap(), Timestamp::now())
}

fn messages(events: &PodEvents, uid: &str) -> Vec<String> {
    events.of(uid, Timestamp::now()).into_iter().map(|(_, message)| message).collect()
}

/// An object whose server `server` has the pod `server-r-a`; another Deployment's pod is `foreign-r-a`.
fn world() -> (Arc<Stores>, UnboundedReceiver<Key>) {
    let (wake, woken) = unbounded();
    let stores = Arc::new(Stores::new(&Config::parse_from(["mcp-health-operator"]), wake).unwrap());
    let owned = |kind: &str, name: &str, uid: &str, owner: &str| {
        json!({
            "namespace": "mcp", "name": name, "uid": uid,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": owner, "controller": true}],
        })
    };
    stores.replica_sets.begin_list("");
    stores.pods.begin_list("");
    for server in ["server", "foreign"] {
        let (set, pod) = (format!("{server}-r"), format!("{server}-r-a"));
        let wire = json!({"metadata": owned("Deployment", &set, &set, server)});
        let (key, row) = replica_sets::view(&serde_json::from_value(wire).unwrap()).unwrap();
        stores.replica_sets.apply("", key, row);
        let wire = json!({"metadata": owned("ReplicaSet", &pod, &pod, &set), "status": {"phase": "Running"}});
        let (key, row) = pods::view(&serde_json::from_value(wire).unwrap()).unwrap();
        stores.pods.apply("", key, row);
    }
    stores.replica_sets.end_list("");
    stores.pods.end_list("");
    (stores, woken)
}

fn declare(stores: &Stores, server: &str) {
    let object: McpServerHealth = serde_json::from_value(json!({
        "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
        "metadata": {"name": format!("{server}-health"), "namespace": "mcp"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": server}},
    }))
    .unwrap();
    note_targets(
        &stores.targets,
        "",
        &Watched::Apply(crate::observe::Guarded(Ok(std::sync::Arc::new(object)))),
    );
}

/// Runs the watch of Events for so many seconds of its own clock.
async fn run(
    stores: &Arc<Stores>,
    seconds: u64,
    answer: impl Fn(&Asked, usize) -> Answer + Send + 'static,
) -> Requests {
    let (client, requests) = api_server(answer);
    let pace = Pace::of_watches(1);
    let watching = super::watch::run(Arc::clone(stores), client, None, pace);
    tokio::select! {
        () = watching => panic!("the watch of Events ended"),
        () = sleep(Duration::from_secs(seconds)) => {}
    }
    requests
}

#[test]
fn of_the_events_those_are_told_that_are_recent_each_once_masked_and_newest_last() {
    let events = PodEvents::default();
    assert!(noted(&events, &unhealthy("one", "a")));
    assert!(!noted(&events, &unhealthy("one", "a")), "a repeated Event says nothing new");
    assert!(!noted(&events, &unhealthy("two", "a")));
    assert!(noted(&events, &event("three", "a", "Failed", "Error: cannot start", 1)));
    noted(&events, &event("four", "a", "FailedMount", "long ago", 2000));
    assert_eq!(messages(&events, "a"), ["Readiness probe failed: postgres://***@db", "Error: cannot start"]);
    assert!(messages(&events, "b").is_empty());
}

#[test]
fn rows_are_bounded_by_pod_and_over_all() {
    let events = PodEvents::default();
    for number in 0..50 {
        noted(
            &events,
            &event(&format!("e{number}"), "a", "Failed", &format!("Error {number}"), 100 - number),
        );
    }
    assert_eq!((events.len(), messages(&events, "a").len()), (MOST.0, TOLD));
    assert_eq!(messages(&events, "a").last().unwrap(), "Error 49");
    for pod in 0..5000 {
        noted(&events, &event("e", &format!("pod-{pod}"), "Failed", "Error", 10));
        assert!(events.len() <= MOST.1);
    }
    let longest = event("e", "long", "Failed", &"x".repeat(100_000), 0);
    noted(&events, &longest);
    assert!(messages(&events, "long")[0].len() <= LONGEST + 3);
}

#[test]
fn rows_that_are_old_and_rows_of_pods_that_are_gone_are_dropped() {
    let events = PodEvents::default();
    noted(&events, &unhealthy("one", "a"));
    noted(&events, &unhealthy("two", "b"));
    noted(&events, &event("three", "c", "Failed", "Error", 899));
    events.sweep(Timestamp::now() + SignedDuration::from_secs(1), |pod, _, _| &*pod.name != "b");
    assert_eq!(events.len(), 1);
    assert!(!messages(&events, "a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_watch_of_warnings_keeps_rows_of_targets_pods_only_and_wakes_their_server() {
    let (stores, mut woken) = world();
    declare(&stores, "server");
    let requests = run(&stores, 100, |asked, _| {
        assert_eq!(asked.get("fieldSelector"), FIELDS);
        if asked.is_watch() {
            Answer::Events(
                vec![
                    json!({"type": "ADDED", "object": event("three", "foreign-r-b", "Failed", "Error", 1)}),
                    json!({"type": "ADDED", "object": event("four", "server-r-a", "Failed", "Error", 1)}),
                    json!({"type": "ADDED", "object": event("five", "server-r-a", "Scheduled", "to a", 1)}),
                    json!({"type": "ADDED", "object": {"metadata": {"name": "odd", "resourceVersion": "9"}}}),
                ],
                Duration::from_secs(28),
            )
        } else {
            list("7", &[unhealthy("one", "server-r-a"), unhealthy("two", "foreign-r-a")])
        }
    })
    .await;
    assert_eq!(
        messages(&stores.events, "server-r-a"),
        ["Readiness probe failed: postgres://***@db", "Error"]
    );
    assert_eq!(stores.events.len(), 2, "none of pods that are no target's");
    assert_eq!(woken.try_recv().unwrap(), Key::new("mcp", "server-health"));
    assert_eq!(woken.try_recv().unwrap(), Key::new("mcp", "server-health"));
    assert!(woken.try_recv().is_err(), "what is said again wakes nobody");
    let lists = requests.lock().unwrap().iter().filter(|asked| !asked.is_watch()).count();
    assert_eq!(lists, 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_before_its_pod_is_kept_for_a_minute() {
    let (stores, _woken) = world();
    declare(&stores, "server");
    let answer = |asked: &Asked, _| {
        if asked.is_watch() {
            Answer::Events(Vec::new(), Duration::from_secs(28))
        } else {
            list("7", &[unhealthy("one", "server-r-new")])
        }
    };
    run(&stores, 20, answer).await;
    assert_eq!(stores.events.len(), 1);
    let empty = |asked: &Asked, _| {
        if asked.is_watch() { Answer::Events(Vec::new(), Duration::from_secs(28)) } else { list("8", &[]) }
    };
    run(&stores, 150, empty).await;
    assert_eq!(stores.events.len(), 0, "its pod was never seen");
}

#[tokio::test(start_paused = true)]
async fn events_are_not_asked_for_before_there_is_a_target_and_listed_again_for_a_new_one() {
    let (stores, _woken) = world();
    let answer = |asked: &Asked, _| {
        if asked.is_watch() {
            Answer::Events(Vec::new(), Duration::from_secs(28))
        } else {
            list("7", &[unhealthy("one", "server-r-a"), unhealthy("two", "foreign-r-a")])
        }
    };
    let later = async {
        sleep(Duration::from_secs(20)).await;
        assert_eq!(stores.events.len(), 0);
        declare(&stores, "server");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(stores.events.len(), 1);
        declare(&stores, "foreign");
        sleep(Duration::from_mins(1)).await;
        assert_eq!(stores.events.len(), 2);
    };
    let (requests, ()) = tokio::join!(run(&stores, 120, answer), later);
    assert_eq!(requests.lock().unwrap().iter().filter(|asked| !asked.is_watch()).count(), 2);
}
