//! Asking servers on the loopback, by a clock that the tests turn.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, response::IntoResponse};
use clap::Parser;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use kube::{client::Body, runtime::watcher::Event};
use mcp_health_api::McpServerHealth;
use mcp_health_core::{
    Case, Settings, diagnose,
    diagnose::Verdict,
    signals::{FaultKind, PROBES_KEPT, ProbePath, ProbeQuestion, Probed, Reading, Signals},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use super::{super::*, *};
use crate::{config::Config, endpoints::AllowList, telemetry::Metrics};

/// What a test's server answers, and what it was asked.
#[derive(Default)]
struct Script {
    /// By path; what is not here is 404.
    answers: Mutex<BTreeMap<String, (u16, String)>>,
    /// Method and path, and of MCP its method.
    asked: Mutex<Vec<String>>,
    /// The token that it wants to see.
    token: Mutex<Option<String>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    slow: Mutex<Duration>,
}

impl Script {
    fn set(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }

    fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|one| *one == what).count()
    }

    fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

async fn answer(
    State(script): State<Arc<Script>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let what = message["method"].as_str().unwrap_or(uri.path());
    script.asked.lock().unwrap().push(format!("{method} {what}"));
    script.most.fetch_max(script.under_way.fetch_add(1, Relaxed) + 1, Relaxed);
    let slow = *script.slow.lock().unwrap();
    if !slow.is_zero() {
        sleep(slow).await;
    }
    script.under_way.fetch_sub(1, Relaxed);
    let json = [("content-type", "application/json")];
    let token = script.token.lock().unwrap().clone().map(|token| format!("Bearer {token}"));
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if uri.path() == "/mcp" && token.is_some() && shown != token.as_deref() {
        return (StatusCode::UNAUTHORIZED, json, String::new()).into_response();
    }
    let known = script.answers.lock().unwrap().get(uri.path()).cloned();
    let Some((status, text)) = known else { return StatusCode::NOT_FOUND.into_response() };
    let status = StatusCode::from_u16(status).unwrap();
    if uri.path() != "/mcp" || !status.is_success() || method != Method::POST {
        return (status, json, text).into_response();
    }
    // What is said of a method in particular is said in place of its result.
    let error = script.answers.lock().unwrap().get(what).map(|(_, error)| error.clone());
    if let Some(error) = error {
        let error: Value = serde_json::from_str(&error).unwrap();
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "error": error}).to_string();
        return (json, answer).into_response();
    }
    let result = match what {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "test", "version": "1"},
        }),
        "ping" => json!({}),
        "tools/list" => json!({"tools": [{"name": "search", "inputSchema": {"type": "object"}}]}),
        "notifications/initialized" => return StatusCode::ACCEPTED.into_response(),
        _ => return (StatusCode::BAD_REQUEST, json, "no session".to_owned()).into_response(),
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
    ([("content-type", "application/json"), ("mcp-session-id", "s")], answer).into_response()
}

/// A server that listens on the loopback, as all its pods and as its Service.
struct Listening {
    script: Arc<Script>,
    port: u16,
    task: JoinHandle<()>,
}

impl Listening {
    /// It speaks MCP, is healthy, and has no circuits.
    async fn new() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::default())
    }

    fn on(listener: TcpListener, script: Arc<Script>) -> Self {
        let port = listener.local_addr().unwrap().port();
        script.set("/health", 200, r#"{"status":"healthy"}"#);
        script.set("/mcp", 200, "");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { script, port, task }
    }

    /// Nobody listens any more.
    async fn stop(&self) {
        self.task.abort();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// It listens again.
    async fn again(&self) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        Self::on(listener, Arc::clone(&self.script))
    }
}

/// An operator's stores, and what asks for them.
struct World {
    stores: Arc<Stores>,
    woken: UnboundedReceiver<Key>,
    asking: JoinHandle<()>,
}

impl World {
    fn new(flags: &[&str]) -> Self {
        let (service, _) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        Self::with(flags, &kube::Client::new(service, "mcp"))
    }

    fn with(flags: &[&str], client: &kube::Client) -> Self {
        let config = Config::parse_from([&["operator"], flags].concat());
        let (wake, woken) = unbounded();
        let stores = Arc::new(Stores::new(&config, wake).unwrap());
        stores.pods.begin_list("");
        stores.pods.end_list("");
        let allowed = AllowList::parse(&config.allowed_endpoints).unwrap();
        let secrets = Arc::new(Secrets::new(config.read_secrets.then(|| client.clone())));
        let asking =
            Asking::new(Arc::clone(&stores), secrets, &config, allowed, Arc::new(Metrics::default()));
        let asking = tokio::spawn(asking.keep());
        Self { stores, woken, asking }
    }

    /// A server of this name, with one ready pod and a Service, that listens there; and its object.
    fn server(&self, name: &str, port: u16, signals: &Value, answered: &[&str]) -> Server {
        let uid = format!("uid-{name}");
        let labels = json!({"app": name});
        apply(
            &self.stores.deployments,
            deployments::view,
            &json!({
                "metadata": {"name": name, "namespace": "mcp", "uid": uid, "resourceVersion": "1"},
                "spec": {"template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "server", "ports": [{"name": "http", "containerPort": port}]}]},
                }},
            }),
        );
        let owner = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        let set = format!("set-{name}");
        apply(
            &self.stores.replica_sets,
            replica_sets::view,
            &json!({
                "metadata": {
                    "name": set, "namespace": "mcp", "uid": set, "ownerReferences": owner("Deployment", name, &uid),
                },
                "spec": {"replicas": 1, "template": {}},
            }),
        );
        let server = Server { stores: Arc::clone(&self.stores), name: name.to_owned() };
        server.service(&json!([{"port": 1, "targetPort": 1}, {"port": port, "targetPort": "http"}]));
        server.endpoint(true, Timestamp::UNIX_EPOCH);
        server.pod("a", &json!({"phase": "Running"}), &json!({}));
        server.declare(signals, answered);
        server
    }

    /// The objects that were woken since the last time.
    fn woken(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(key) = self.woken.try_recv() {
            all.push(key.name.to_string());
        }
        all
    }
}

fn apply<W, V: table::Row>(table: &table::Table<V>, view: fn(&W) -> Option<(Key, V)>, wire: &Value)
where
    W: serde::de::DeserializeOwned,
{
    let (key, row) = view(&serde_json::from_value(wire.clone()).unwrap()).unwrap();
    table.apply("", key, row);
}

struct Server {
    stores: Arc<Stores>,
    name: String,
}

impl Server {
    fn pod(&self, name: &str, status: &Value, metadata: &Value) {
        let ready =
            json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let set = format!("set-{}", self.name);
        let mut wire = json!({
            "metadata": {
                "name": format!("{}-{name}", self.name), "namespace": "mcp", "uid": name,
                "ownerReferences":
                    [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set, "controller": true}],
            },
            "status": {"podIP": "127.0.0.1", "conditions": ready},
        });
        for (part, more) in [("status", status), ("metadata", metadata)] {
            for (key, value) in more.as_object().unwrap() {
                wire[part][key] = value.clone();
            }
        }
        apply(&self.stores.pods, pods::view, &wire);
    }

    /// Its Service has these ports.
    fn service(&self, ports: &Value) {
        apply(
            &self.stores.services,
            services::view_service,
            &json!({
                "metadata": {"name": self.name, "namespace": "mcp"},
                "spec": {"clusterIP": "127.0.0.1", "selector": {"app": self.name}, "ports": ports},
            }),
        );
    }

    /// Its Service has one endpoint, which is ready, or not, since then.
    fn endpoint(&self, ready: bool, since: Timestamp) {
        let wire = json!({
            "metadata": {
                "name": self.name, "namespace": "mcp", "labels": {"kubernetes.io/service-name": self.name},
            },
            "endpoints": [{"conditions": {"ready": ready}}],
        });
        let (key, row) = services::view_slice(&serde_json::from_value(wire).unwrap()).unwrap();
        self.stores.slices.apply("", key, services::EndpointSliceRow { since, ..row });
    }

    fn through_the_service(&self) -> Option<Probed> {
        let Reading::Fresh(probed) = self.signals().probes else { return None };
        let of_mcp = probed.into_iter().filter(|one| one.question == ProbeQuestion::Mcp);
        of_mcp.into_iter().find(|one| matches!(one.path, ProbePath::Service(_)))
    }

    fn key(&self) -> Key {
        Key::new("mcp", &self.name)
    }

    /// The object says this of signals; its status, that this was answered before.
    fn declare(&self, signals: &Value, answered: &[&str]) {
        let object: McpServerHealth = serde_json::from_value(json!({
            "apiVersion": "mcphealth.dev/v1alpha1",
            "kind": "McpServerHealth",
            "metadata": {"name": self.name, "namespace": "mcp", "uid": "object"},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name},
                "signals": signals,
            },
            "status": {"target": {
                "uid": format!("uid-{}", self.name), "readyReplicas": 1, "desiredReplicas": 1, "template": "t",
                "answered": answered,
            }},
        }))
        .unwrap();
        let guarded = serde_json::from_value(serde_json::to_value(&object).unwrap()).unwrap();
        note_targets(&self.stores.targets, "", &Event::Apply(guarded));
        self.stores.judged.note(&self.key(), Arc::new(object), Verdict::default());
    }

    /// The object is gone.
    fn delete(&self) {
        let object = self.stores.judged.object(&self.key()).unwrap();
        let guarded = serde_json::from_value(serde_json::to_value(&*object).unwrap()).unwrap();
        note_targets(&self.stores.targets, "", &Event::Delete(guarded));
    }

    /// A reconcile looks, and notes what the rules say.
    fn look(&self) {
        let object = self.stores.judged.object(&self.key()).unwrap();
        let signals = self.signals();
        let case = Case {
            generation: 1,
            spec: &object.spec,
            status: object.status.as_ref().unwrap(),
            signals: &signals,
            settings: &Settings::default(),
            now: Timestamp::now(),
        };
        let verdict = Verdict::of(&diagnose(&case), &signals, &case.status.incidents);
        self.stores.judged.note(&self.key(), Arc::clone(&object), verdict);
    }

    fn signals(&self) -> Signals {
        let object = self.stores.judged.object(&self.key()).unwrap();
        self.stores.signals(&object, Timestamp::now())
    }

    /// Its paths of these questions: question, way, answered once, and what came of the last.
    fn paths_of(
        &self,
        questions: &[ProbeQuestion],
    ) -> Vec<(ProbeQuestion, ProbePath, bool, Option<FaultKind>)> {
        let Reading::Fresh(probed) = self.signals().probes else { return Vec::new() };
        let view = |one: Probed| {
            let fault = one.fault().map(|fault| fault.kind);
            (one.question, one.path, one.ever_answered, fault)
        };
        probed.into_iter().filter(|one| questions.contains(&one.question)).map(view).collect()
    }

    /// The same of MCP itself and of its health.
    fn paths(&self) -> Vec<(ProbeQuestion, ProbePath, bool, Option<FaultKind>)> {
        self.paths_of(&[ProbeQuestion::Mcp, ProbeQuestion::Health])
    }
}

const ALL: &[&str] = &["McpPod", "McpService", "ToolsPod", "ToolsService", "HealthPod", "HealthService"];

fn way(question: ProbeQuestion, service: bool) -> (ProbeQuestion, ProbePath) {
    let path =
        if service { ProbePath::Service("one".to_owned()) } else { ProbePath::Pod("one-a".to_owned()) };
    (question, path)
}

/// All four paths, with the same end.
fn all(answered: bool, fault: Option<FaultKind>) -> Vec<(ProbeQuestion, ProbePath, bool, Option<FaultKind>)> {
    let questions = [ProbeQuestion::Mcp, ProbeQuestion::Health].into_iter();
    let ways = questions.flat_map(|question| [way(question, false), way(question, true)]);
    ways.map(|(question, path)| (question, path, answered, fault)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_is_asked_by_its_pod_and_its_service_at_its_interval_and_what_it_answered_first_is_told() {
    let listening = Listening::new().await;
    let mut world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), &[]);
    assert_eq!(server.signals().probes, Reading::Off);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.paths(), all(true, None));
    assert!(world.woken().contains(&"one".to_owned()), "the status is to be told");
    server.declare(&json!({}), ALL);
    server.look();
    sleep(Duration::from_secs(75)).await;
    assert_eq!(world.woken(), Vec::<String>::new(), "a healthy server costs no look");
    let script = &listening.script;
    let health = script.asked("GET /health");
    assert!((10..=14).contains(&health), "two ways, and five or six times: {health}");
    // One session is begun and kept, beside which another is tried once; the Service is asked in the pod's.
    // The tools are asked for three times, and each fourth time after.
    assert_eq!((script.asked("POST initialize"), script.asked("POST tools/list")), (2, 8));
    let pings = script.asked("POST ping");
    assert!((8..=12).contains(&pings), "{pings}");
    let Reading::Fresh(probed) = server.signals().probes else { panic!("probes are fresh") };
    assert!(probed.iter().all(|one| one.results.len() <= PROBES_KEPT));
    let listed = probed.iter().find(|one| one.question == ProbeQuestion::Tools).unwrap();
    assert_eq!(listed.tools.as_ref().map(Vec::len), Some(1));
    let later = Timestamp::now() + SignedDuration::from_mins(5);
    let object = world.stores.judged.object(&server.key()).unwrap();
    assert!(matches!(world.stores.signals(&object, later).probes, Reading::Stale { .. }));

    world.stores.probes.as_ref().unwrap().end().await;
    assert_eq!(script.asked("DELETE /mcp"), 1, "the session is ended");
    assert!(world.asking.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_never_answered_is_asked_seldom_and_is_nothing_unless_it_was_declared() {
    let listening = Listening::new().await;
    listening.stop().await;
    let world = World::new(&[]);
    let undeclared = world.server("one", listening.port, &json!({}), &[]);
    let declared = world.server("two", listening.port, &json!({"mcp": {}, "http": {}}), &[]);
    sleep(Duration::from_mins(2)).await;
    world.stores.pods.alive("");
    assert_eq!(undeclared.signals().probes, Reading::Off);
    assert_eq!(undeclared.signals().problems().iter().filter(|one| one.contains("robes")).count(), 0);
    let problems = declared.signals().problems();
    assert!(problems.iter().any(|one| one.contains("NeverAnswered: MCP by pod two-a")), "{problems:?}");
    assert!(problems.iter().any(|one| one.contains("127.0.0.1 only")), "{problems:?}");
    let paths = declared.paths();
    assert_eq!(paths.len(), 4);
    assert!(paths.iter().all(|one| !one.2 && one.3 == Some(FaultKind::Refused)), "{paths:?}");

    // It comes up at last.
    let listening = listening.again().await;
    undeclared.declare(&json!({}), &[]);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(declared.paths().iter().filter(|one| one.2 && one.3.is_none()).count(), 4);
    assert_eq!(undeclared.signals().probes, Reading::Off, "it is asked every five minutes");
    sleep(Duration::from_mins(5)).await;
    assert_eq!(undeclared.paths(), all(true, None));
    listening.task.abort();
}

#[tokio::test(start_paused = true)]
async fn what_answered_an_earlier_operator_is_evidence_from_the_first_refusal_on() {
    let listening = Listening::new().await;
    listening.stop().await;
    let mut world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), ALL);
    let Reading::Fresh(probed) = server.signals().probes else { panic!("paths are known") };
    assert!(probed.iter().all(|one| one.ever_answered && one.results.is_empty()), "{probed:?}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.paths(), all(true, Some(FaultKind::Refused)));
    world.woken();
    // Another path is another question.
    server.declare(&json!({"mcp": {"path": "/other"}, "http": {"health": "/other"}}), ALL);
    sleep(Duration::from_secs(20)).await;
    assert!(server.paths().iter().all(|one| !one.2), "{:?}", server.paths());
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_not_there_is_no_health_path_until_it_was() {
    let listening = Listening::new().await;
    listening.script.answers.lock().unwrap().remove("/health");
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"mcp": {"enabled": false}}), &[]);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(server.signals().probes, Reading::Off);
    assert_eq!(listening.script.asked("POST initialize"), 0, "it is not to be asked");
    listening.script.set("/health", 200, "");
    sleep(Duration::from_secs(35)).await;
    listening.script.answers.lock().unwrap().remove("/health");
    sleep(Duration::from_secs(20)).await;
    let lost = |service| {
        let (question, path) = way(ProbeQuestion::Health, service);
        (question, path, true, Some(FaultKind::NotFound))
    };
    assert_eq!(server.paths(), [lost(false), lost(true)]);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_tools_that_fails_is_asked_for_at_every_probe_until_it_is_well_again() {
    let listening = Listening::new().await;
    let world = World::new(&[]);
    let signals = json!({"http": {"enabled": false}});
    let server = world.server("one", listening.port, &signals, &["McpPod", "ToolsPod"]);
    let script = &listening.script;
    sleep(Duration::from_mins(4)).await;
    let lists = |questions: &[ProbeQuestion]| server.paths_of(questions);
    assert!(lists(&[ProbeQuestion::Tools]).iter().all(|one| one.2 && one.3.is_none()));
    script.set("tools/list", 200, r#"{"code": -32603, "message": "no registry"}"#);
    // Within four probes the first one fails; from then on each does.
    sleep(Duration::from_mins(1)).await;
    script.forget();
    sleep(Duration::from_secs(45)).await;
    let (pings, asked) = (script.asked("POST ping"), script.asked("POST tools/list"));
    assert!(asked >= 4 && asked == pings, "{asked} lists and {pings} pings");
    let failed = [false, true].map(|service| {
        let (question, path) = way(ProbeQuestion::Tools, service);
        (question, path, true, Some(FaultKind::RpcError))
    });
    assert_eq!(lists(&[ProbeQuestion::Tools]), failed);
    assert!(lists(&[ProbeQuestion::Mcp]).iter().all(|one| one.3.is_none()), "ping answers");
    script.answers.lock().unwrap().remove("tools/list");
    sleep(Duration::from_mins(2)).await;
    script.forget();
    sleep(Duration::from_mins(2)).await;
    assert!(lists(&[ProbeQuestion::Tools]).iter().all(|one| one.3.is_none()));
    assert!(script.asked("POST tools/list") <= 6, "each fourth time again");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_one_client_is_left_to_its_clients_and_judged_by_its_health() {
    let listening = Listening::new().await;
    let script = &listening.script;
    script.set("initialize", 200, r#"{"code": -32600, "message": "Server already initialized"}"#);
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), ALL);
    for name in ["b", "c"] {
        server.pod(name, &json!({"phase": "Running"}), &json!({}));
    }
    sleep(Duration::from_mins(3)).await;
    assert_eq!(script.asked("POST initialize"), 1, "one pod tells it of all");
    let problems = server.signals().problems();
    let said = "SingleClient: pod one-a answered 200";
    assert!(problems.iter().any(|one| one.contains(said)), "{problems:?}");
    let health = server.paths_of(&[ProbeQuestion::Health]);
    assert!(health.len() == 4 && health.iter().all(|one| one.3.is_none()), "{health:?}");
    assert_eq!(server.paths_of(&[ProbeQuestion::Mcp]).len(), 1, "MCP is no evidence of any pod");
    // Its pods start anew: clients come first.
    script.answers.lock().unwrap().remove("initialize");
    world.stores.pods.delete(&Key::new("mcp", "one-a"));
    server.pod("d", &json!({"phase": "Running"}), &json!({}));
    sleep(Duration::from_mins(3)).await;
    assert_eq!(script.asked("POST initialize"), 1);
    // Asked in another way it may be another server.
    server.declare(&json!({"mcp": {"path": "/mcp?"}}), ALL);
    sleep(Duration::from_mins(1)).await;
    assert!(script.asked("POST initialize") > 1);
    assert_eq!(server.paths_of(&[ProbeQuestion::Mcp]).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_sessions_of_a_server_of_many_clients_are_one_a_pod() {
    let listening = Listening::new().await;
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"http": {"enabled": false}}), &[]);
    for name in ["b", "c"] {
        server.pod(name, &json!({"phase": "Running"}), &json!({}));
    }
    sleep(Duration::from_secs(2)).await;
    let script = &listening.script;
    // Three pods, a second one tried at the first; and that of the Service, which ends with the probe.
    assert_eq!((script.asked("POST initialize"), script.asked("DELETE /mcp")), (5, 1));
    world.stores.probes.as_ref().unwrap().end().await;
    assert_eq!(script.asked("DELETE /mcp"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_tools_that_was_never_told_or_is_empty_is_no_path_that_was_answered() {
    let listening = Listening::new().await;
    listening.script.set("tools/list", 200, r#"{"code": -32603, "message": "no registry"}"#);
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"http": {"enabled": false}}), &[]);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(server.paths_of(&[ProbeQuestion::Tools]), [], "nobody declared it");
    listening.script.forget();
    sleep(Duration::from_mins(2)).await;
    let lists = listening.script.asked("POST tools/list");
    assert!(lists <= 6, "and it is not asked more often for that: {lists}");
}

#[tokio::test(start_paused = true)]
async fn an_earlier_operators_list_of_tools_is_evidence_from_the_first_fault_on() {
    let listening = Listening::new().await;
    listening.script.set("tools/list", 200, r#"{"code": -32603, "message": "no registry"}"#);
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"http": {"enabled": false}}), ALL);
    sleep(Duration::from_secs(50)).await;
    let Reading::Fresh(probed) = server.signals().probes else { panic!("fresh") };
    let lists: Vec<_> = probed.iter().filter(|one| one.question == ProbeQuestion::Tools).collect();
    assert!(
        lists.iter().all(|one| one.ever_answered && !one.answered_here && one.faults() >= 3),
        "{lists:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_turns_the_operator_away_is_asked_less_often_and_stays_judged() {
    let listening = Listening::new().await;
    let script = &listening.script;
    for status in [401, 403, 406, 421] {
        script.set("/mcp", status, "");
        let world = World::new(&[]);
        let signals = json!({"http": {"enabled": false}});
        let server = world.server("one", listening.port, &signals, &["McpPod", "McpService"]);
        script.forget();
        sleep(Duration::from_mins(30)).await;
        world.stores.pods.alive("");
        let asked = script.asked.lock().unwrap().len();
        // A legacy server would be asked twice each time; each five minutes in the end.
        assert!((16..=26).contains(&asked), "{status}: two ways, about eleven times: {asked}");
        let Reading::Fresh(probed) = server.signals().probes else { panic!("{status}: it is stale") };
        let of_mcp = probed.iter().filter(|one| one.question == ProbeQuestion::Mcp);
        for one in of_mcp {
            assert_eq!(one.faults(), PROBES_KEPT);
            let oldest = one.results[0].at;
            let patience = mcp_health_core::probes::patience(one.pause);
            assert!(Timestamp::now().duration_since(oldest) <= patience, "{one:?}");
        }
        // Another pod, another policy: at once.
        script.set("/mcp", 200, "");
        server.declare(&json!({"http": {"enabled": false}, "mcp": {"timeout": "4s"}}), &["McpPod"]);
        sleep(Duration::from_secs(17)).await;
        assert!(server.paths().iter().all(|one| one.3.is_none()), "{status}: {:?}", server.paths());
        world.asking.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_that_starts_again_is_asked_at_once() {
    let listening = Listening::new().await;
    listening.script.set("/mcp", 403, "");
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"http": {"enabled": false}}), ALL);
    sleep(Duration::from_mins(20)).await;
    // Both ways were just asked.
    listening.script.forget();
    while listening.script.asked.lock().unwrap().len() < 2 {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(1)).await;
    listening.script.set("/mcp", 200, "");
    sleep(Duration::from_mins(1)).await;
    assert!(server.paths().iter().all(|one| one.3.is_some()), "nothing says that it changed");
    let again = json!([{
        "name": "server", "ready": true, "restartCount": 1, "image": "", "imageID": "",
    }]);
    server.pod("a", &json!({"phase": "Running", "containerStatuses": again}), &json!({}));
    sleep(Duration::from_secs(17)).await;
    assert!(server.paths().iter().all(|one| one.3.is_none()), "{:?}", server.paths());
}

#[tokio::test(start_paused = true)]
async fn what_was_never_there_is_asked_for_once_an_hour_and_told_once_where_it_was_declared() {
    let listening = Listening::new().await;
    let script = &listening.script;
    script.answers.lock().unwrap().remove("/health");
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"mcp": {"enabled": false}}), &[]);
    sleep(Duration::from_hours(3)).await;
    script.forget();
    sleep(Duration::from_hours(4)).await;
    for path in ["GET /health", "GET /circuit-breakers"] {
        let ways = if path == "GET /health" { 2 } else { 1 };
        assert!((3 * ways..=5 * ways).contains(&script.asked(path)), "{path}: {}", script.asked(path));
    }
    world.stores.pods.alive("");
    assert_eq!(server.signals().problems().iter().filter(|one| one.contains("GET")).count(), 0);
    // A policy that declares them is another matter, and at once.
    let declared = json!({"mcp": {"enabled": false}, "http": {"circuitBreakers": "/circuits"}});
    server.declare(&declared, &[]);
    script.forget();
    sleep(Duration::from_secs(20)).await;
    assert!(script.asked("GET /health") >= 2 && script.asked("GET /circuits") >= 1);
    sleep(Duration::from_hours(1)).await;
    script.forget();
    sleep(Duration::from_hours(1)).await;
    assert!((11..=14).contains(&script.asked("GET /circuits")), "{}", script.asked("GET /circuits"));
    world.stores.pods.alive("");
    let problems = server.signals().problems();
    let told = |what: &str| problems.iter().filter(|one| one.contains(what)).count();
    assert_eq!((told("GET /circuits of"), told("NeverAnswered: the health path")), (1, 1), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_gets_no_more_requests_than_allowed_and_its_pods_take_turns() {
    let listening = Listening::new().await;
    let world = World::new(&["--probe-requests-per-minute=12"]);
    let server = world.server("one", listening.port, &json!({"mcp": {"enabled": false}}), ALL);
    for name in ["b", "c", "d", "e", "f", "g", "h"] {
        server.pod(name, &json!({"phase": "Running"}), &json!({}));
    }
    listening.script.set("/circuit-breakers", 404, "");
    sleep(Duration::from_mins(10)).await;
    listening.script.forget();
    sleep(Duration::from_mins(10)).await;
    let all = listening.script.asked.lock().unwrap().len();
    assert!((90..=150).contains(&all), "about twelve a minute: {all}");
    world.stores.pods.alive("");
    let Reading::Fresh(probed) = server.signals().probes else { panic!("it is stale") };
    assert_eq!(probed.len(), 9);
    for one in probed {
        assert_eq!(one.results.len(), PROBES_KEPT, "each has its turn: {one:?}");
        let age = Timestamp::now().duration_since(one.results[0].at);
        assert!(age <= mcp_health_core::probes::patience(one.pause), "{one:?}");
    }
    assert!(world.stores.requests.counts()[&Some(server.key())] >= 200);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_circuits_that_fails_is_asked_for_at_every_probe() {
    let listening = Listening::new().await;
    listening.script.set("/circuit-breakers", 200, r#"[{"name":"api","state":"open"}]"#);
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({"mcp": {"enabled": false}}), &[]);
    sleep(Duration::from_secs(20)).await;
    assert!(matches!(server.signals().circuits, Reading::Fresh(_)));
    listening.script.set("/circuit-breakers", 500, "");
    sleep(Duration::from_mins(3)).await;
    listening.script.forget();
    sleep(Duration::from_mins(1)).await;
    assert!((3..=5).contains(&listening.script.asked("GET /circuit-breakers")));
}

#[tokio::test(start_paused = true)]
async fn circuits_are_off_where_there_are_none_and_stale_where_they_are_not_told_any_more() {
    let listening = Listening::new().await;
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), &[]);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(server.signals().circuits, Reading::Off);
    listening.script.set("/circuit-breakers", 200, r#"[{"name":"api","state":"open"}]"#);
    sleep(Duration::from_secs(35)).await;
    let Reading::Fresh(circuits) = server.signals().circuits else { panic!("circuits are told") };
    assert_eq!((circuits.len(), circuits[0].pod.as_str()), (1, "one-a"));
    listening.script.set("/circuit-breakers", 500, "");
    sleep(Duration::from_secs(20)).await;
    assert!(matches!(server.signals().circuits, Reading::Stale { .. }));
}

#[tokio::test(start_paused = true)]
async fn where_no_server_at_all_can_be_reached_nothing_is_evidence() {
    let (one, two) = (Listening::new().await, Listening::new().await);
    let world = World::new(&[]);
    let first = world.server("one", one.port, &json!({}), &[]);
    let second = world.server("two", two.port, &json!({}), &[]);
    sleep(Duration::from_secs(2)).await;
    one.stop().await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(first.paths(), all(true, Some(FaultKind::Refused)), "the other one answers");
    two.stop().await;
    sleep(Duration::from_secs(20)).await;
    for server in [&first, &second] {
        assert_eq!(server.signals().probes, Reading::Unavailable(NO_WAY.to_owned()));
    }
    let two = two.again().await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(first.paths(), all(true, Some(FaultKind::Refused)));
    two.task.abort();
}

#[tokio::test(start_paused = true)]
async fn only_pods_that_run_and_stay_are_asked_and_no_more_at_once_than_allowed() {
    let listening = Listening::new().await;
    *listening.script.slow.lock().unwrap() = Duration::from_millis(100);
    let world = World::new(&["--probe-concurrency=3"]);
    let server = world.server("one", listening.port, &json!({"mcp": {"enabled": false}}), &[]);
    for name in ["b", "c", "d", "e", "f", "g"] {
        server.pod(name, &json!({"phase": "Running", "conditions": []}), &json!({}));
    }
    server.pod("pending", &json!({"phase": "Pending"}), &json!({}));
    server.pod("going", &json!({"phase": "Running"}), &json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
    server.pod("over", &json!({"phase": "Failed"}), &json!({}));
    sleep(Duration::from_secs(2)).await;
    let pods = server.paths().into_iter().filter(|one| matches!(one.1, ProbePath::Pod(_)));
    let names: Vec<_> = pods.map(|one| one.1.to_string()).collect();
    assert_eq!(names.join(" ").replace("pod one-", ""), "a b c d e f g");
    assert_eq!(listening.script.asked("GET /health"), 8, "seven pods and a Service");
    assert_eq!(listening.script.most.load(Relaxed), 3);
    // One is gone, and is not asked any more.
    world.stores.pods.delete(&Key::new("mcp", "one-a"));
    assert_eq!(server.paths().len(), 7);
    sleep(Duration::from_secs(20)).await;
    listening.script.forget();
    sleep(Duration::from_secs(15)).await;
    assert!(listening.script.asked("GET /health") <= 14);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_a_token_is_shown_the_one_of_the_secret_and_a_new_one_once_it_is_refused() {
    let listening = Listening::new().await;
    *listening.script.token.lock().unwrap() = Some("planted-one".to_owned());
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let (secret, read) = (Arc::new(Mutex::new("cGxhbnRlZC1vbmUK")), Arc::new(AtomicUsize::new(0)));
    let (content, count) = (Arc::clone(&secret), Arc::clone(&read));
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/mcp/secrets/auth");
            count.fetch_add(1, Relaxed);
            let secret = json!({"metadata": {"name": "auth"}, "data": {"token": *content.lock().unwrap()}});
            send.send_response(Response::new(Body::from(secret.to_string().into_bytes())));
        }
    });
    let client = kube::Client::new(service, "mcp");
    let signals = json!({
        "mcp": {"auth": {"tokenSecretRef": {"name": "auth", "key": "token"}}}, "http": {"enabled": false},
    });
    let world = World::with(&["--read-secrets=true"], &client);
    let server = world.server("one", listening.port, &signals, &[]);
    sleep(Duration::from_secs(2)).await;
    let told = |answered, fault| {
        [false, true].map(|service| {
            let (question, path) = way(ProbeQuestion::Mcp, service);
            (question, path, answered, fault)
        })
    };
    assert_eq!((server.paths(), read.load(Relaxed)), (told(true, None).to_vec(), 1));
    // The token is changed: in the server first.
    *listening.script.token.lock().unwrap() = Some("planted-two".to_owned());
    sleep(Duration::from_secs(16)).await;
    assert_eq!(server.paths(), told(true, Some(FaultKind::Unauthorized)));
    *secret.lock().unwrap() = "cGxhbnRlZC10d28=";
    sleep(Duration::from_secs(16)).await;
    assert_eq!(server.paths(), told(true, None));
    assert!(read.load(Relaxed) <= 4, "{read:?}");
    assert!(!format!("{:?}", server.signals()).contains("planted"));
    world.stores.probes.as_ref().unwrap().end().await;
    assert_eq!(listening.script.asked("DELETE /mcp"), 1);

    // Without the right, nobody is asked, and it is said why.
    let world = World::with(&[], &client);
    let server = world.server("one", listening.port, &signals, &[]);
    let before = read.load(Relaxed);
    sleep(Duration::from_secs(2)).await;
    let problems = server.signals().problems();
    assert!(
        problems.iter().any(|one| one.contains("may not read Secrets (signals.secrets)")),
        "{problems:?}"
    );
    assert_eq!(read.load(Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_goes_while_it_is_asked_is_forgotten_and_its_sessions_are_ended() {
    let listening = Listening::new().await;
    *listening.script.slow.lock().unwrap() = Duration::from_millis(1500);
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), &[]);
    sleep(Duration::from_secs(1)).await;
    assert_ne!(listening.script.under_way.load(Relaxed), 0);
    server.delete();
    sleep(Duration::from_mins(1)).await;
    let begun = listening.script.asked("POST initialize");
    assert_eq!((begun, listening.script.asked("DELETE /mcp")), (2, 1), "the second one is the same");
    assert!(world.stores.probes.as_ref().unwrap().lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_forgotten_and_its_sessions_are_ended() {
    let listening = Listening::new().await;
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), &[]);
    sleep(Duration::from_secs(2)).await;
    server.delete();
    listening.script.forget();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(*listening.script.asked.lock().unwrap(), ["DELETE /mcp"]);
    assert!(world.stores.probes.as_ref().unwrap().lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_scheme_is_that_of_a_pods_own_probe_or_of_its_port() {
    let spec =
        |port: &Value, probe: &Value| json!({"containers": [{"ports": [port], "readinessProbe": probe}]});
    let (http, https) =
        (json!({"name": "http", "containerPort": 8443}), json!({"name": "https", "containerPort": 8443}));
    let get =
        |port: Value, scheme: &str| json!({"httpGet": {"path": "/health", "port": port, "scheme": scheme}});
    for (spec, expected) in [
        (json!({}), None),
        (spec(&http, &Value::Null), None),
        (spec(&https, &Value::Null), Some(true)),
        (spec(&http, &get(json!("http"), "HTTPS")), Some(true)),
        (spec(&http, &get(json!(8443), "HTTPS")), Some(true)),
        (spec(&https, &get(json!(8443), "HTTP")), Some(false)),
        (spec(&http, &get(json!(9090), "HTTPS")), None),
    ] {
        let wire = json!({
            "metadata": {"name": "a", "namespace": "mcp", "ownerReferences":
                [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "s", "controller": true}]},
            "spec": spec,
        });
        let (_, row) = pods::view(&serde_json::from_value(wire.clone()).unwrap()).unwrap();
        assert_eq!(row.speaks_tls(8443), expected, "{wire}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_result_through_a_service_says_whether_it_had_a_ready_endpoint_when_it_was_asked() {
    let listening = Listening::new().await;
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), ALL);
    let had_endpoint = || server.through_the_service().unwrap().last().unwrap().was_ready;
    sleep(Duration::from_secs(2)).await;
    assert!(had_endpoint());
    server.endpoint(false, Timestamp::UNIX_EPOCH);
    sleep(Duration::from_secs(20)).await;
    assert!(!had_endpoint());
    // The nodes do not know of it yet.
    server.endpoint(true, Timestamp::now() + SignedDuration::from_mins(1));
    sleep(Duration::from_secs(20)).await;
    assert!(!had_endpoint());
    // It went while the question was under way.
    server.endpoint(false, Timestamp::UNIX_EPOCH);
    server.endpoint(true, Timestamp::UNIX_EPOCH);
    *listening.script.slow.lock().unwrap() = Duration::from_secs(2);
    while listening.script.under_way.load(Relaxed) == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    server.endpoint(false, Timestamp::UNIX_EPOCH);
    sleep(Duration::from_secs(5)).await;
    assert!(!had_endpoint());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_meant_for_mcp_is_followed_to_a_port_that_nothing_declares_and_others_are_not() {
    let listening = Listening::new().await;
    let closed = Listening::new().await;
    closed.stop().await;
    let world = World::new(&[]);
    let server = world.server("one", listening.port, &json!({}), &[]);
    for (ports, followed) in [
        (json!([{"name": "metrics", "port": closed.port, "targetPort": closed.port}]), false),
        (json!([{"name": "http", "port": closed.port, "targetPort": closed.port}]), true),
    ] {
        server.service(&ports);
        sleep(Duration::from_mins(1)).await;
        world.stores.pods.alive("");
        let seen = server.through_the_service();
        assert_eq!(seen.is_some(), followed, "{ports}");
        if let Some(seen) = seen {
            assert!(seen.leads_elsewhere && !seen.ever_answered, "{seen:?}");
            assert!(seen.results.len() >= 3 && seen.results.iter().all(|one| one.was_ready), "{seen:?}");
            assert_eq!(seen.fault().map(|fault| fault.kind), Some(FaultKind::Refused));
        }
    }
}
