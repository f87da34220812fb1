//! Evidence, against an API server that answers by path.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use mcp_health_api::{Cause, IncidentState, IncidentType, McpServerHealthStatus, Severity, Time};
use mcp_health_core::{
    Case, Settings,
    signals::{Container, ContainerSpec, Exit, LastWords, Pod as Seen, Reading, Role, Target},
};
use serde_json::{Value, json};
use tower_test::mock;

use super::*;

type Sent = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// An API server; where `answer` has none, there is none.
fn api_server(
    answer: impl Fn(&Method, &str) -> Option<(StatusCode, String)> + Send + 'static,
) -> (Client, Sent) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let sent = Sent::default();
    let kept = Arc::clone(&sent);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let uri = parts.uri.to_string();
            kept.lock().unwrap().push((parts.method.clone(), uri.clone(), body));
            match answer(&parts.method, &uri) {
                Some((status, text)) => send.send_response(
                    Response::builder().status(status).body(Body::from(text.into_bytes())).unwrap(),
                ),
                None => silent.push(send),
            }
        }
    });
    (Client::new(service, "mcp"), sent)
}

fn object() -> McpServerHealth {
    let spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"}});
    let mut object = McpServerHealth::new("mcp-server", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some("mcp".to_owned());
    object.metadata.uid = Some("object-1".to_owned());
    object
}

fn pod(name: &str, ready: bool, restarts: i32) -> Seen {
    let exit =
        Exit { code: 1, reason: "Error".to_owned(), at: Timestamp::UNIX_EPOCH, started: None, message: None };
    let container = Container {
        name: "server".to_owned(),
        role: Role::Main,
        restarts,
        waiting: Some(("CrashLoopBackOff".to_owned(), "token=planted-0".to_owned())),
        ended: false,
        last_exit: Some(exit),
        recent_exits: Vec::new(),
        memory_limit: None,
        memory_request: None,
        last_words: LastWords::NotAsked,
    };
    Seen {
        name: name.to_owned(),
        uid: String::new(),
        revision: String::new(),
        created: Timestamp::UNIX_EPOCH,
        deleting: false,
        finished: false,
        ready,
        ready_changed: Timestamp::UNIX_EPOCH,
        was_ready: true,
        address: None,
        unschedulable: None,
        placement: None,
        containers: vec![container],
        troubles: Vec::new(),
        lifecycle: mcp_health_core::signals::Lifecycle::default(),
    }
}

fn signals() -> Signals {
    let given = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let server = ContainerSpec {
        name: "server".to_owned(),
        env: vec![
            given("API_TOKEN", "planted-1"),
            given("DATABASE_URL", "postgres://mcp:planted-2@db/mcp"),
            given("MCP_WORKERS", "1"),
        ],
        ..ContainerSpec::default()
    };
    let target = Target { containers: vec![server], ..Target::default() };
    Signals {
        target: Reading::Fresh(Some(target)),
        revisions: Reading::Fresh(Vec::new()),
        pods: Reading::Fresh(vec![pod("well", true, 0), pod("unready", false, 0), pod("crashed", false, 2)]),
        ..Signals::default()
    }
}

fn incident() -> Incident {
    let now = Time(Timestamp::UNIX_EPOCH);
    Incident {
        id: "crashloop-1".to_owned(),
        incident_type: IncidentType::CrashLoop,
        rule: None,
        cause: Cause::BadRollout,
        caused_by: None,
        severity: Severity::SEV2,
        state: IncidentState::Detected,
        since: now.clone(),
        opened_at: now.clone(),
        respond_by: now,
        quiet_since: None,
        evidence: vec!["it said planted-1".to_owned()],
        attempts: Vec::new(),
        subjects: Vec::new(),
        forbids: Vec::new(),
        unseen_since: None,
        reevaluations: 0,
        evidence_kept: None,
        follow_ups: Vec::new(),
        next: None,
        hold: None,
        escalation: None,
    }
}

/// Collects, and keeps what was collected: as it was kept, and where.
async fn collected(client: &Client, sent: &Sent) -> (BTreeMap<String, String>, Option<String>) {
    let (object, signals) = (object(), signals());
    let (status, settings) = (McpServerHealthStatus::default(), Settings::default());
    let now = Timestamp::UNIX_EPOCH;
    let case = Case {
        generation: 1,
        spec: &object.spec,
        status: &status,
        signals: &signals,
        settings: &settings,
        now,
    };
    let server = Server::of(&case);
    let collecting = Collecting {
        client,
        object: &object,
        signals: &signals,
        server: server.as_ref(),
        incident: incident(),
    };
    let kept = collecting.keep(collecting.collect("crashloop-1-1").await).await;
    let sent = sent.lock().unwrap();
    let (_, _, made) = sent.iter().find(|(method, ..)| method == Method::POST).unwrap();
    (serde_json::from_value(made["data"].clone()).unwrap(), kept)
}

const LOG: &str = "started with planted-1\npassword=planted-3 refused\nconnected to db as planted-2\n\
    {\"authorization\": \"Bearer planted-4\"}\nGET https://me:planted-5@example.org/\nthe last line\n";

fn answer(uri: &str) -> (StatusCode, String) {
    let deployment = json!({
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "planted-6"}},
        "spec": {"template": {"spec": {"containers": [{"env": [{"value": "planted-1"}]}]}}},
        "status": {"readyReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "token=planted-7"},
        ]},
    });
    let event = |name: &str, note: &str| json!({"metadata": {}, "regarding": {"kind": "Pod", "name": name}, "type": "Warning", "reason": "BackOff", "note": note});
    let events = json!({"metadata": {}, "items": [event("crashed", "secret=planted-8"), event("a-neighbour", "of others")]});
    let text = match uri {
        uri if uri.contains("/log") => LOG.to_owned(),
        uri if uri.contains("/events") => events.to_string(),
        _ => deployment.to_string(),
    };
    (StatusCode::OK, text)
}

#[tokio::test]
async fn logs_events_and_states_are_collected_and_no_credential_is_among_them() {
    let (client, sent) = api_server(|_, uri| Some(answer(uri)));
    let (data, _) = collected(&client, &sent).await;
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    let texts =
        ["crashed.server.log", "crashed.server.previous.log", "deployment.txt", "events.txt", "incident.txt"];
    assert_eq!(keys, [&texts[..], &["pods.txt", "unready.server.log", "well.server.log"]].concat());
    assert!(data["crashed.server.previous.log"].ends_with("the last line"));
    assert!(data["events.txt"].contains("Pod/crashed x1 BackOff"), "{}", data["events.txt"]);
    assert!(!data["events.txt"].contains("of others"));
    assert!(data["deployment.txt"].contains("Progressing=False ProgressDeadlineExceeded"));
    assert!(data["pods.txt"].starts_with("crashed: not ready"), "{}", data["pods.txt"]);
    let all = data.values().cloned().collect::<Vec<_>>().join("\n");
    assert!(!all.contains("planted"), "{all}");
    let sent = sent.lock().unwrap();
    assert_eq!(sent.iter().filter(|(_, uri, _)| uri.contains("previous=true")).count(), 1);
}

#[tokio::test]
async fn what_does_not_arrive_in_time_is_noted_and_not_waited_for() {
    let (client, sent) = api_server(|_, uri| (!uri.contains("/pods/crashed/log")).then(|| answer(uri)));
    let begun = Instant::now();
    let (data, _) = collected(&client, &sent).await;
    assert!(begun.elapsed() < DEADLINE * 2, "one deadline for all: {:?}", begun.elapsed());
    assert_eq!(data["crashed.server.log"], "(not kept: no answer within 500 ms)");
    assert!(data["unready.server.log"].ends_with("the last line"), "what arrived is kept");
}

#[tokio::test]
async fn however_much_there_is_it_stays_below_200_kib() {
    let line = "a line of a log that goes on and on, and says nothing\n";
    let log = format!("the first line\n{}the last line\n", line.repeat(10_000));
    let (client, sent) = api_server(move |_, uri| {
        Some(if uri.contains("/log") { (StatusCode::OK, log.clone()) } else { answer(uri) })
    });
    let (data, _) = collected(&client, &sent).await;
    assert!(data.values().map(String::len).sum::<usize>() < 200 * 1024);
    let kept = &data["crashed.server.log"];
    assert!(kept.starts_with("(what was before is left out)\na line"), "{}", &kept[..100]);
    assert!(kept.ends_with("the last line") && kept.len() <= 16 * 1024);
}

/// Evidence that there is: so many ConfigMaps of this object, and one of another with its name.
fn kept_before(ours: usize) -> (StatusCode, String) {
    let one = |at: usize, uid: &str| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "name": format!("{uid}-{at}"),
            "creationTimestamp": format!("2026-01-01T00:00:{at:02}Z"),
            "ownerReferences": [{"apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth", "name": "mcp-server", "uid": uid}],
        }})
    };
    let items: Vec<Value> =
        (0..ours).rev().map(|at| one(at, "object-1")).chain([one(0, "object-0")]).collect();
    let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items});
    (StatusCode::OK, list.to_string())
}

#[tokio::test]
async fn it_is_kept_unchangeable_with_the_object_and_the_oldest_goes() {
    let (client, sent) = api_server(|method, uri| {
        Some(match (method, uri.contains("/configmaps")) {
            (&Method::POST, _) => (StatusCode::CREATED, json!({"metadata": {}}).to_string()),
            (&Method::GET, true) => kept_before(12),
            (&Method::DELETE, _) => {
                (StatusCode::OK, json!({"kind": "Status", "status": "Success"}).to_string())
            }
            _ => answer(uri),
        })
    });
    let (_, kept) = collected(&client, &sent).await;
    assert_eq!(kept.as_deref(), Some("mcph-crashloop-1-1-evidence"));
    let deleted = || -> Vec<String> {
        let sent = sent.lock().unwrap();
        let deleted = sent.iter().filter(|(method, ..)| method == Method::DELETE);
        deleted
            .filter_map(|(_, uri, _)| {
                Some(uri.split(['/', '?']).rfind(|part| part.starts_with("object-"))?.to_owned())
            })
            .collect()
    };
    while deleted().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(deleted(), ["object-1-0", "object-1-1"]);
    let sent = sent.lock().unwrap();
    let (_, _, made) = sent.iter().find(|(method, ..)| method == Method::POST).unwrap();
    assert_eq!(made["immutable"], true);
    assert_eq!(made["metadata"]["name"], "mcph-crashloop-1-1-evidence");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "object-1");
    let labels = json!({"mcphealth.dev/kind": "evidence", "mcphealth.dev/object": "mcp-server"});
    assert_eq!(made["metadata"]["labels"], labels);
}

#[tokio::test]
async fn what_cannot_be_kept_stops_nothing_and_what_is_kept_already_is_named() {
    for (code, name) in [(403, None), (409, Some("mcph-crashloop-1-1-evidence"))] {
        let (client, sent) = api_server(move |method, uri| {
            Some(if method == Method::POST {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "x", "code": code});
                (StatusCode::from_u16(code).unwrap(), status.to_string())
            } else {
                answer(uri)
            })
        });
        assert_eq!(collected(&client, &sent).await.1.as_deref(), name, "{code}");
    }
}
