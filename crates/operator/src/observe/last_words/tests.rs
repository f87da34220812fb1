#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use clap::Parser;
use futures::channel::mpsc::unbounded;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_test::mock;

use super::{
    fetch::{answer, listen},
    queue::MOST,
    *,
};
use crate::{
    config::Config,
    observe::{Stores, pods},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_268_800 + second).unwrap()
}

fn pod(ends: &[i64]) -> Pod {
    let last = ends.last().map(|end| Exit {
        code: 1,
        reason: "Error".to_owned(),
        at: at(*end),
        started: None,
        message: None,
    });
    Pod {
        name: "a".to_owned(),
        uid: "u".to_owned(),
        revision: "r".to_owned(),
        created: at(0),
        deleting: false,
        finished: false,
        ready: true,
        ready_changed: at(0),
        was_ready: true,
        unschedulable: None,
        placement: None,
        address: None,
        containers: vec![Container {
            name: "server".to_owned(),
            role: Role::Main,
            restarts: i32::from(!ends.is_empty()),
            ended: false,
            waiting: None,
            last_exit: last,
            recent_exits: ends.iter().map(|end| at(*end)).collect(),
            memory_limit: None,
            memory_request: None,
            last_words: LastWords::NotAsked,
        }],
        troubles: Vec::new(),
        lifecycle: mcp_health_core::signals::Lifecycle::default(),
    }
}

#[derive(Default)]
struct Scene {
    hearing: Hearing,
}

impl Scene {
    /// The pod as a reconcile sees it, and what was asked.
    fn look(&self, mut pod: Pod, now: i64) -> (Pod, Vec<Ask>) {
        let key = Key::new("mcp", "a");
        self.hearing.ask(&Key::new("mcp", "server"), &key, &pod, at(now));
        self.hearing.add_to(&key, &mut pod);
        let asks: Vec<Ask> = std::iter::from_fn(|| self.hearing.queue.try_next()).collect();
        for ask in &asks {
            self.hearing.queue.done(&ask.pod.namespace);
        }
        (pod, asks)
    }

    fn hear(&self, ask: &Ask, line: &str) {
        assert!(self.hearing.note(ask, LastWords::Lines(vec![line.to_owned()])));
    }
}

fn words(pod: &Pod) -> &LastWords {
    &pod.containers[0].last_words
}

#[test]
fn each_end_is_asked_about_once_and_from_the_third_on_not_in_quick_succession() {
    let scene = Scene::default();
    assert!(scene.look(pod(&[]), 0).1.is_empty(), "a healthy pod is left alone");
    let (seen, asks) = scene.look(pod(&[1]), 1);
    assert_eq!(asks.len(), 1);
    assert!(matches!(words(&seen), LastWords::Awaited(_)));
    assert!(scene.look(pod(&[1]), 2).1.is_empty(), "asked already");
    scene.hear(&asks[0], "boom");
    let (seen, asks) = scene.look(pod(&[1, 3]), 3);
    assert_eq!(asks.len(), 1, "what makes a loop may have another reason than what began it");
    assert!(matches!(words(&seen), LastWords::Awaited(_)));
    scene.hear(&asks[0], "no database");
    let old = LastWords::Lines(vec!["no database".to_owned()]);
    let (seen, asks) = scene.look(pod(&[1, 3, 9]), 9);
    assert!(asks.is_empty(), "too soon after the last");
    assert_eq!(*words(&seen), old);
    let (seen, asks) = scene.look(pod(&[1, 3, 9, 13]), 13);
    assert_eq!(asks.len(), 1);
    assert_eq!(*words(&seen), old, "as good until then");
}

#[test]
fn the_second_of_two_ends_within_one_second_is_asked_about_too() {
    let scene = Scene::default();
    let started = |seconds: i64, mut pod: Pod| {
        pod.containers[0].last_exit.as_mut().unwrap().started = Some(at(seconds));
        pod
    };
    let (_, asks) = scene.look(started(-30, pod(&[1])), 1);
    scene.hear(&asks[0], "first fault");
    let (seen, asks) = scene.look(started(1, pod(&[1, 1])), 1);
    assert_eq!(asks.len(), 1, "pods tell whole seconds: the runs differ in their start");
    assert!(matches!(words(&seen), LastWords::Awaited(_)));
    assert!(scene.look(started(1, pod(&[1, 1])), 2).1.is_empty(), "asked already");
}

#[test]
fn logs_that_are_awaited_still_are_awaited_since_the_first_request_whatever_ends_after_it() {
    let scene = Scene::default();
    let (first, _) = scene.look(pod(&[1]), 1);
    let (second, asks) = scene.look(pod(&[1, 3]), 3);
    assert_eq!((asks.len(), words(&second)), (1, words(&first)));
    let unavailable = LastWords::Missing("no answer within 5 s".to_owned());
    scene.hearing.note(&asks[0], unavailable.clone());
    let (third, asks) = scene.look(pod(&[1, 3, 14]), 14);
    assert_eq!(
        (asks.len(), words(&third)),
        (1, &unavailable),
        "what cannot be had holds nothing again and again"
    );
}

#[test]
fn what_ended_long_ago_or_did_its_work_or_has_told_already_is_not_asked_for_its_log() {
    assert!(Scene::default().look(pod(&[1]), 1_000_000).1.is_empty());
    let mut done = pod(&[1]);
    done.containers[0].role = Role::Init;
    done.containers[0].last_exit.as_mut().unwrap().code = 0;
    assert!(Scene::default().look(done, 2).1.is_empty());
    let mut told = pod(&[1]);
    told.containers[0].last_exit.as_mut().unwrap().message = Some("boom".to_owned());
    let (seen, asks) = Scene::default().look(told, 2);
    assert_eq!((asks.len(), words(&seen)), (0, &LastWords::NotAsked));
}

#[test]
fn what_was_heard_goes_with_the_pod_and_never_to_another_of_its_name() {
    let scene = Scene::default();
    let (_, asks) = scene.look(pod(&[1]), 1);
    let mut other = pod(&[2]);
    other.uid = "v".to_owned();
    scene.look(other.clone(), 2);
    assert!(!scene.hearing.note(&asks[0], LastWords::NotAsked), "it is another pod");
    assert!(matches!(words(&scene.look(other, 3).0), LastWords::Awaited(_)));
    scene.hearing.forget(&Key::new("mcp", "a"));
    assert!(scene.hearing.lock().is_empty());
}

/// A pod that ended before this moment, so many times, and is ready or not.
fn crashed(name: &str, now: Timestamp, ends: i64, ready: bool) -> Value {
    let ended = |ago: i64| {
        let at = (now - SignedDuration::from_secs(ago)).to_string();
        json!({"terminated": {"exitCode": 1, "reason": "Error", "startedAt": at, "finishedAt": at}})
    };
    let status = json!({
        "name": "server", "image": "", "imageID": "", "ready": ready, "restartCount": ends,
        "state": ended(1), "lastState": if ends > 1 { ended(5) } else { json!({}) },
    });
    json!({
        "metadata": {
            "name": name, "namespace": "mcp", "uid": name,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": now.to_string()}],
            "containerStatuses": [status],
        },
    })
}

fn put(stores: &Stores, wire: &Value) -> (Key, Pod) {
    let (key, row) = pods::view(&serde_json::from_value(wire.clone()).unwrap()).unwrap();
    let pod = row.pod.clone();
    stores.pods.apply("", key.clone(), row);
    (key, pod)
}

#[tokio::test]
async fn of_a_thousand_pods_that_crashed_and_are_ready_no_log_is_fetched_and_a_real_crash_comes_first() {
    let (wake, _woken) = unbounded();
    let stores = Arc::new(Stores::new(&Config::parse_from(["mcp-health-operator"]), wake).unwrap());
    let server = Key::new("mcp", "server");
    let ask = |(key, pod): (Key, Pod)| {
        stores.hearing.ask(&server, &key, &pod, Timestamp::now());
    };
    let now = nearest_second(Timestamp::now());
    for number in 0..3000 {
        ask(put(&stores, &crashed(&format!("pod-{number}"), now, 1, false)));
        assert!(stores.hearing.queue.len() <= MOST);
    }
    assert_eq!(stores.hearing.queue.len(), MOST);
    for number in 0..3000 {
        put(&stores, &crashed(&format!("pod-{number}"), now, 1, true));
    }
    ask(put(&stores, &crashed("real", now, 2, false)));

    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let working = tokio::spawn(listen(Arc::clone(&stores), Client::new(service, "default")));
    let (request, send) = timeout(Duration::from_secs(10), handle.next_request()).await.unwrap().unwrap();
    assert_eq!(request.uri().path(), "/api/v1/namespaces/mcp/pods/real/log");
    send.send_response(Response::new(Body::from(b"no database".to_vec())));
    let emptied = async {
        while stores.hearing.queue.len() > 0 || stores.hearing.lock()[&Key::new("mcp", "real")].is_awaited() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), emptied).await.unwrap();
    working.abort();
    assert!(working.await.unwrap_err().is_cancelled());
    assert!(handle.next_request().await.is_none(), "no request for a pod that is ready");
}

impl Heard {
    fn is_awaited(&self) -> bool {
        self.containers.values().any(|words| matches!(words.said, LastWords::Awaited(_)))
    }
}

#[tokio::test]
async fn a_request_that_waited_for_too_long_is_unavailable_without_being_sent() {
    let (wake, _woken) = unbounded();
    let stores = Arc::new(Stores::new(&Config::parse_from(["mcp-health-operator"]), wake).unwrap());
    let (key, pod) = put(&stores, &crashed("real", nearest_second(Timestamp::now()), 2, false));
    stores.hearing.ask(&Key::new("mcp", "server"), &key, &pod, Timestamp::now());
    let ask = stores.hearing.queue.try_next().unwrap();
    let since = ask.since - LastWords::LONGEST_WAIT - SignedDuration::from_secs(1);
    let ask = Ask { since, ..ask };
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    answer(&stores, &Client::new(service, "default"), &ask).await;
    let heard = stores.hearing.lock()[&key].containers["server"].said.clone();
    assert_eq!(heard, LastWords::Missing("not fetched within 30 s".to_owned()));
    assert!(handle.next_request().await.is_none());
}
