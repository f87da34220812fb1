//! Reconciles against an API server that answers slowly, or never.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{sync::Mutex, time::Duration};

use clap::Parser;
use futures::channel::mpsc::unbounded;
use http::{Method, Request, Response};
use kube::client::Body;
use mcp_health_api::StepState;
use mcp_health_core::{attempt::Acted, signals::Reading};
use serde_json::{Value, json};
use tokio::time::Instant as Moment;
use tower_test::mock;

use kube::Client;
use mcp_health_core::Server;

use super::{
    acting::{Acting, target},
    *,
};
use crate::{
    act::Unsent, fleet::Fleet, keep::Copies, lease::Lease, observe::Stores, status::Statuses,
    telemetry::Metrics,
};
use crate::{client::tests::silent, config::Config, lease::tests::with_left};

fn context(client: &Client, lease: Lease) -> Context {
    let config = Config::try_parse_from(["operator"]).unwrap();
    let (wake, _woken) = unbounded();
    Context {
        client: client.clone(),
        stores: Arc::new(Stores::new(&config, wake).unwrap()),
        statuses: Statuses::default(),
        fleet: Fleet::new(0, config.settings()),
        copies: Copies::default(),
        lease,
        unsent: Unsent::default(),
        switch: None,
        recorder: events::recorder(client.clone(), "operator-0"),
        settings: config.settings(),
        keep_evidence: false,
        metrics: Arc::new(Metrics::default()),
    }
}

fn object(status: &Value) -> McpServerHealth {
    let object = json!({
        "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
        "metadata": {"name": "mcp-server", "namespace": "mcp", "uid": "object-1", "resourceVersion": "1"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
            "hooks": [{"name": "drain", "path": "/drain", "port": 1}],
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_gets_no_answer_ends_with_an_error_that_names_the_call() {
    let client = silent();
    let context = context(&client, with_left(Duration::from_secs(15)));
    let object = object(&json!({}));
    let (begun, key) = (Moment::now(), Key::of(&object));
    let error = Box::pin(reconcile(Arc::new(object), key, Arc::new(context))).await.unwrap_err().to_string();
    assert_eq!(begun.elapsed().as_secs(), 10);
    for part in ["no answer to PUT", "mcp/mcp-server", "within 10 s"] {
        assert!(error.contains(part), "{error}");
    }
}

/// An incident with a drain that is recorded, and a restart after it.
fn draining(state: &str) -> Value {
    let moment = "2026-01-01T12:00:00Z";
    let step =
        |effect: &str, state: &str| json!({"effect": effect, "uid": "uid-1", "to": "drain", "state": state});
    json!({"incidents": [{
        "id": "crashloop-1", "type": "CrashLoop", "cause": "ProcessExit", "severity": "SEV1", "state": "Mitigating",
        "since": moment, "openedAt": moment, "respondBy": moment, "attempts": [{
            "id": "crashloop-1-1", "action": "DrainAndRestart", "why": "", "recordedAt": moment, "readyBefore": 1,
            "steps": [step("CallHook", state), step("RestartPods", "Recorded")],
        }],
    }]})
}

/// What acts on what was decided.
fn acting<'a>(
    context: &'a Context,
    case: &'a Case<'a>,
    (diagnosis, decision): (&'a Diagnosis, &'a Decision),
    object: &'a Arc<McpServerHealth>,
    server: Option<&'a Server<'a>>,
) -> Acting<'a> {
    let target = target(context, case, object, "mcp", server);
    Acting { context, case, diagnosis, decision, object, server, target }
}

/// Goes on with the drain; returns what came of it, and the state of its first step as this process sees it when the
/// status says that it has begun.
async fn go_on(client: &Client, lease: Lease) -> (Result<Option<Acted>, Error>, StepState) {
    let (context, object) = (context(client, lease), Arc::new(object(&draining("Recorded"))));
    let status = object.status.clone().unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let signals = context.stores.signals(&object, now);
    let case = case(&context, &object, &status, &signals, now);
    let diagnosis = diagnose(&case);
    let mut draft = StatusDraft { incidents: status.incidents.clone(), ..StatusDraft::default() };
    let decision = Decision::Resume { against: None };
    let acting = acting(&context, &case, (&diagnosis, &decision), &object, None);
    let acted = acting.resume(None, &mut draft).await.map(|(_, acted)| acted);
    let mut seen: McpServerHealthStatus = serde_json::from_value(draining("Started")).unwrap();
    context.unsent.restore("object-1", &mut seen);
    (acted, seen.incidents[0].attempts[0].steps[0].state)
}

/// An API server that answers 500 to all but a change of the status.
fn broken() -> Client {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let (status, body) = match *request.method() {
                Method::PUT => (200, serde_json::to_value(object(&draining("Recorded"))).unwrap()),
                _ => (500, json!({"kind": "Status", "code": 500, "message": "etcd is down"})),
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            send.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    Client::new(service, "mcp")
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_cannot_be_looked_up_fails_ten_minutes_after_its_record_and_not_before() {
    let went_on = async |minutes: i64| {
        let lease = with_left(Duration::from_secs(15));
        let (context, object) = (context(&broken(), lease), Arc::new(object(&draining("Recorded"))));
        let status = object.status.clone().unwrap();
        let recorded = status.incidents[0].attempts[0].recorded_at.0;
        let now = recorded + SignedDuration::from_mins(minutes) + SignedDuration::from_secs(1);
        let signals = context.stores.signals(&object, now);
        let case = case(&context, &object, &status, &signals, now);
        let diagnosis = diagnose(&case);
        let mut draft = StatusDraft { incidents: status.incidents.clone(), ..StatusDraft::default() };
        let decision = Decision::Resume { against: None };
        let acting = acting(&context, &case, (&diagnosis, &decision), &object, None);
        acting.resume(None, &mut draft).await.map(|(_, acted)| acted)
    };
    let early = Box::pin(went_on(9)).await.unwrap_err().to_string();
    assert!(early.contains("etcd is down"), "{early}");
    let Some(Acted::Failed(why)) = Box::pin(went_on(10)).await.unwrap() else { panic!("it goes on") };
    assert!(why.contains("Deployment mcp/mcp-server") && why.contains("etcd is down"), "{why}");
}

/// An API server that answers all, and says whether the namespace is suspended; and what it was sent.
fn answering(suspended: bool) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let body = match (&method, path.as_str()) {
                (&Method::PUT, _) => serde_json::to_value(object(&draining("Recorded"))).unwrap(),
                (_, "/api/v1/namespaces/mcp") => {
                    let annotations = json!({"mcphealth.dev/suspend": suspended.to_string()});
                    json!({"metadata": {"name": "mcp", "annotations": annotations}})
                }
                _ => json!({
                    "metadata": {"name": "mcp-server", "namespace": "mcp", "uid": "uid-1", "resourceVersion": "8"},
                    "spec": {"template": {}},
                }),
            };
            kept.lock().unwrap().push(format!("{method} {path}"));
            send.send_response(Response::new(Body::from(serde_json::to_vec(&body).unwrap())));
        }
    });
    (Client::new(service, "mcp"), sent)
}

/// Begins a restart that was decided on before the namespace was read again; returns what came of it, and how often the
/// target was changed.
async fn begin(suspended: bool) -> (Acted, usize) {
    let (client, sent) = answering(suspended);
    let (context, object) =
        (context(&client, with_left(Duration::from_secs(15))), Arc::new(object(&draining("Recorded"))));
    let mut status = object.status.clone().unwrap();
    status.incidents[0].attempts.clear();
    let now = Timestamp::UNIX_EPOCH;
    let target_seen = mcp_health_core::signals::Target { uid: "uid-1".to_owned(), ..Default::default() };
    let signals = Signals {
        target: Reading::Fresh(Some(target_seen)),
        revisions: Reading::Fresh(Vec::new()),
        pods: Reading::Fresh(Vec::new()),
        ..context.stores.signals(&object, now)
    };
    let case = case(&context, &object, &status, &signals, now);
    let (diagnosis, server) = (diagnose(&case), Server::of(&case));
    let server = server.as_ref().unwrap();
    let step = json!({"effect": "RestartPods", "uid": "uid-1", "resourceVersion": "7", "to": "now", "state": "Recorded"});
    let plan = Box::new(mcp_health_core::actions::Plan {
        action: mcp_health_api::ActionType::RolloutRestart,
        what: String::new(),
        why: String::new(),
        steps: vec![serde_json::from_value(step).unwrap()],
        undoes: None,
    });
    let decision = Decision::Act(plan.clone());
    let mut draft = StatusDraft { incidents: status.incidents.clone(), ..StatusDraft::default() };
    let acting = acting(&context, &case, (&diagnosis, &decision), &object, Some(server));
    let (_, acted) = acting.begin(&plan, server, &mut draft).await.unwrap();
    let patched = sent.lock().unwrap().iter().filter(|sent| sent.starts_with("PATCH")).count();
    (acted.unwrap(), patched)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_where_the_namespace_was_suspended_while_the_intent_was_written() {
    let (acted, patched) = Box::pin(begin(true)).await;
    assert!(
        matches!(&acted, Acted::Superseded(why) if why.contains("namespace mcp was suspended")),
        "{acted:?}"
    );
    assert_eq!(patched, 0);
    let (acted, patched) = Box::pin(begin(false)).await;
    assert!(matches!(acted, Acted::Done(_)), "{acted:?}");
    assert_eq!(patched, 1);
}

/// Answers after so long, all that is asked.
fn slow(after: Duration) -> Client {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            tokio::spawn(async move {
                let body = match *request.method() {
                    Method::PUT => {
                        tokio::time::sleep(after).await;
                        serde_json::to_value(object(&draining("Started"))).unwrap()
                    }
                    _ => json!({"metadata": {"name": "mcp"}}),
                };
                send.send_response(Response::new(Body::from(serde_json::to_vec(&body).unwrap())));
            });
        }
    });
    Client::new(service, "mcp")
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_not_skipped_though_the_status_that_says_that_it_begins_is_written_slowly_or_not_answered()
{
    let enough = Duration::from_secs(13);
    // Written, and then too little of the lease is left.
    let (acted, state) = go_on(&slow(Duration::from_secs(6)), with_left(enough)).await;
    assert!(matches!(acted, Err(Error::Lease { .. })), "{acted:?}");
    assert_eq!(state, StepState::Recorded);
    // Written or not: there is no answer.
    let (acted, state) = go_on(&silent(), with_left(enough)).await;
    assert!(matches!(acted, Err(Error::Status { .. })), "{acted:?}");
    assert_eq!(state, StepState::Recorded);
    // Too little for the write and the call: nothing is written to have begun.
    let (acted, _) = go_on(&silent(), with_left(Duration::from_secs(12))).await;
    assert!(matches!(acted, Err(Error::Lease { .. })), "{acted:?}");
    // In time, it is called, once: what comes of that is noted.
    let (acted, state) = go_on(&slow(Duration::from_secs(1)), with_left(enough)).await;
    assert!(matches!(acted, Ok(Some(Acted::Done(_)))), "{acted:?}");
    assert_eq!(state, StepState::Started);
}
