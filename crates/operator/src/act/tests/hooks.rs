//! Hooks, called on pods that are there: little servers on this machine's own addresses.

use std::net::{IpAddr, SocketAddr};

use axum::{Router, extract::State, response::Redirect, routing::post};
use mcp_health_core::{actions::Answers, signals::Pod};
use tokio::net::TcpListener;

use super::*;

/// A pod's server, and what it was asked.
async fn served(address: &str) -> Option<(SocketAddr, Arc<Mutex<Vec<String>>>)> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = |path: &'static str| {
        move |State(heard): State<Arc<Mutex<Vec<String>>>>, body: String| async move {
            heard.lock().unwrap().push(format!("{path}{body}"));
        }
    };
    let router = Router::new()
        .route("/drain", post(hear("drain")))
        .route("/elsewhere", post(hear("elsewhere")))
        .route("/redirect", post(|| async { Redirect::temporary("/elsewhere") }))
        .route("/hangs", post(|| async { std::future::pending::<()>().await }))
        .with_state(Arc::clone(&heard));
    let listener = TcpListener::bind((address, 0)).await.ok()?;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Some((address, heard))
}

pub fn pod(name: &str, address: Option<IpAddr>, ready: bool, created: i64, ready_changed: i64) -> Pod {
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    Pod {
        name: name.to_owned(),
        uid: String::new(),
        revision: String::new(),
        created: at(created),
        deleting: false,
        finished: false,
        ready,
        ready_changed: at(ready_changed),
        was_ready: true,
        address,
        unschedulable: None,
        placement: None,
        containers: Vec::new(),
        troubles: Vec::new(),
        lifecycle: mcp_health_core::signals::Lifecycle::default(),
    }
}

/// Calls `/path` on these pods, on a port.
async fn call(path: &str, port: u16, pods: &[Pod]) -> (Acted, String, Option<Answers>) {
    let (client, sent) = api_server(Vec::new());
    let mut object = target(&client).object.clone();
    let hook = json!({"name": "hook", "path": path, "port": port, "timeout": "300ms"});
    object.spec.hooks = vec![serde_json::from_value(hook).unwrap()];
    let mut attempt = attempt();
    attempt.recorded_at = Time(Timestamp::from_second(100).unwrap());
    attempt.steps.truncate(1);
    let step = &mut attempt.steps[0];
    (step.effect, step.to, step.state) = (Effect::CallHook, Some("hook".to_owned()), StepState::Started);
    let acted = Executor { object: &object, pods, ..target(&client) }.resume(&attempt, None).await.unwrap();
    assert!(sent.lock().unwrap().is_empty(), "no word to the API server");
    let done = if let Acted::Done(done) = &acted {
        done.first().cloned().unwrap_or_default()
    } else {
        Effected::default()
    };
    (acted, done.note.unwrap_or_default(), done.answers)
}

#[tokio::test]
async fn every_pod_that_is_to_hear_a_hook_hears_it_once() {
    let mut sides = vec!["127.0.0.1"];
    if TcpListener::bind("[::1]:0").await.is_ok() {
        sides.push("::1");
    }
    for side in sides {
        let (address, heard) = served(side).await.unwrap();
        let ip = Some(address.ip());
        let pods = [
            pod("ready", ip, true, 0, 10),
            pod("drained", ip, false, 0, 101),
            pod("was-not-ready-before", ip, false, 0, 99),
            pod("made-since", ip, false, 101, 101),
            Pod { deleting: true, ..pod("goes", ip, true, 0, 10) },
        ];
        let (_, note, answers) = call("/drain", address.port(), &pods).await;
        assert_eq!(note, "2 of 2 pods answered with success", "{side}");
        assert_eq!(answers, Some(Answers { well: 2, all: 2 }));
        assert_eq!(*heard.lock().unwrap(), ["drain", "drain"]);
    }
}

#[tokio::test]
async fn a_hook_that_a_pod_does_not_answer_with_success_is_told_with_the_pods_name() {
    let (address, heard) = served("127.0.0.1").await.unwrap();
    let (ip, port) = (Some(address.ip()), address.port());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (path, port, ip, says) in [
        ("/nothing-here", port, ip, "a: it answered 404"),
        ("/redirect", port, ip, "a: it answered 307"),
        ("/hangs", port, ip, "a: no answer within 300ms"),
        ("/drain", closed, ip, "a: no connection"),
        ("/drain", port, None, "a: it has no address"),
    ] {
        let (_, note, answers) = call(path, port, &[pod("a", ip, true, 0, 10)]).await;
        assert_eq!(note, format!("0 of 1 pod answered with success; {says}"));
        assert_eq!(answers, Some(Answers { well: 0, all: 1 }));
    }
    assert!(heard.lock().unwrap().is_empty(), "a redirect is not followed");
}

#[tokio::test]
async fn a_hook_that_was_not_recorded_by_itself_is_not_called() {
    let (address, heard) = served("127.0.0.1").await.unwrap();
    let (client, _) = api_server(Vec::new());
    let mut object = target(&client).object.clone();
    let hook = json!({"name": "hook", "path": "/drain", "port": address.port()});
    object.spec.hooks = vec![serde_json::from_value(hook).unwrap()];
    let mut attempt = attempt();
    attempt.steps.truncate(1);
    (attempt.steps[0].effect, attempt.steps[0].to) = (Effect::CallHook, Some("hook".to_owned()));
    let pods = [pod("a", Some(address.ip()), true, 0, 10)];
    let target = Executor { object: &object, pods: &pods, ..target(&client) };
    assert_eq!(target.resume(&attempt, None).await.unwrap(), Acted::Done(Vec::new()));
    assert!(heard.lock().unwrap().is_empty());
}
