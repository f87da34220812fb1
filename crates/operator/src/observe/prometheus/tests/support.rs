//! A stand-in for Prometheus that answers what a test says and counts what it is asked, and servers to ask about.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::post,
};
use clap::Parser;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use jiff::Timestamp;
use mcp_health_api::{McpServerHealth, PrometheusSignal};
use mcp_health_core::{
    diagnose::Verdict,
    signals::{Metrics, Reading, RuleReading},
};
use serde_json::{Value, json};

use super::super::Poller;
use crate::{
    config::Config,
    observe::{Stores, deployments, pods, replica_sets, services, table::Key, targets},
};

/// Status and body of an answer.
pub type Said = (u16, Value);
/// No answer, ever.
pub const SILENCE: Said = (0, Value::Null);
/// What the stand-in answers to a query.
pub type Says = dyn Fn(&str) -> Said + Send + Sync;

/// See the module.
pub struct StandIn {
    pub url: String,
    pub asked: Arc<Mutex<Vec<String>>>,
    says: Arc<Mutex<Arc<Says>>>,
}

impl StandIn {
    pub async fn new(says: impl Fn(&str) -> Said + Send + Sync + 'static) -> Self {
        let says: Arc<Says> = Arc::new(says);
        let (asked, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(says)));
        let state = (Arc::clone(&asked), Arc::clone(&says));
        let routes = Router::new().route("/api/v1/query", post(answer)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, asked, says }
    }

    /// A proxy in front of it lets GET through, and answers this to a POST.
    pub async fn behind_proxy(status: u16, says: impl Fn(&str) -> Said + Send + Sync + 'static) -> Self {
        let says: Arc<Says> = Arc::new(says);
        let (asked, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(says)));
        let state = (Arc::clone(&asked), Arc::clone(&says));
        let refused = Arc::clone(&asked);
        let refuse = move || async move {
            refused.lock().unwrap().push("POST".to_owned());
            StatusCode::from_u16(status).unwrap()
        };
        let got = |state: State<Shared>, RawQuery(query): RawQuery| answer(state, query.unwrap().into());
        let routes = Router::new().route("/api/v1/query", post(refuse).get(got)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, asked, says }
    }

    pub fn say(&self, says: impl Fn(&str) -> Said + Send + Sync + 'static) {
        *self.says.lock().unwrap() = Arc::new(says);
    }

    /// How often it was asked since the last time this was.
    pub fn count(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

type Shared = (Arc<Mutex<Vec<String>>>, Arc<Mutex<Arc<Says>>>);

async fn answer(State((asked, says)): State<Shared>, form: Bytes) -> (StatusCode, String) {
    let mut form = form_urlencoded::parse(&form);
    let query = form.find(|(name, _)| name == "query").unwrap().1.into_owned();
    asked.lock().unwrap().push(query.clone());
    let says = Arc::clone(&says.lock().unwrap());
    let (status, body) = says(&query);
    if (status, &body) == (SILENCE.0, &SILENCE.1) {
        return std::future::pending().await;
    }
    let body = if let Value::String(text) = body { text } else { body.to_string() };
    (StatusCode::from_u16(status).unwrap(), body)
}

/// An answer with these values.
pub fn vector(rows: impl IntoIterator<Item = (Value, f64)>) -> Said {
    let now = seconds(Timestamp::now());
    let rows =
        rows.into_iter().map(|(metric, value)| json!({"metric": metric, "value": [now, value.to_string()]}));
    let rows: Vec<Value> = rows.collect();
    (200, json!({"status": "success", "data": {"resultType": "vector", "result": rows}}))
}

pub fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// Objects, their servers of three pods each, and what is seen of them.
pub struct World {
    pub stores: Arc<Stores>,
    pub poller: Poller,
    pub objects: Vec<Arc<McpServerHealth>>,
    _woken: UnboundedReceiver<Key>,
}

/// The namespace of a server.
pub fn namespace(number: usize) -> String {
    format!("ns-{}", number % 5)
}

/// The labels of a pod of a server.
pub fn pod(number: usize, pod: usize) -> Value {
    json!({"namespace": namespace(number), "pod": format!("server-{number}-rs-{pod}"), "instance": format!("{}:8000", address(number, pod))})
}

/// The address of a pod of a server.
pub fn address(number: usize, pod: usize) -> String {
    format!("10.{pod}.{}.{}", number / 250, number % 250 + 1)
}

impl World {
    /// `count` servers; `spec` is what the object of each says beside its target.
    pub fn new(count: usize, flags: &[&str], spec: impl Fn(usize) -> Value) -> Self {
        let config = Config::parse_from([&["operator"], flags].concat());
        let (wake, woken) = unbounded();
        let stores = Arc::new(Stores::new(&config, wake).unwrap());
        let poller = Poller::new(&config, Arc::default()).unwrap();
        let mut world = Self { stores, poller, objects: Vec::new(), _woken: woken };
        for number in 0..count {
            world.add(number, &spec(number));
        }
        world
    }

    fn add(&mut self, number: usize, spec: &Value) {
        let (namespace, name) = (namespace(number), format!("server-{number}"));
        let labels = json!({"app": name});
        let deployment = json!({
            "metadata": {"namespace": namespace, "name": name, "uid": format!("d{number}"), "resourceVersion": "1"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": []}}},
        });
        let (key, row) = deployments::view(&serde_json::from_value(deployment).unwrap()).unwrap();
        self.stores.deployments.apply("", key, row);
        let owner = |kind: &str, name: String, uid: String| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        let set = json!({"metadata": {
            "namespace": namespace, "name": format!("{name}-rs"), "uid": format!("r{number}"),
            "ownerReferences": owner("Deployment", name.clone(), format!("d{number}")),
        }});
        let (key, row) = replica_sets::view(&serde_json::from_value(set).unwrap()).unwrap();
        self.stores.replica_sets.apply("", key, row);
        for one in 0..3 {
            let pod = json!({
                "metadata": {
                    "namespace": namespace, "name": format!("{name}-rs-{one}"), "uid": format!("p{number}-{one}"),
                    "ownerReferences": owner("ReplicaSet", format!("{name}-rs"), format!("r{number}")),
                },
                "status": {"phase": "Running", "podIP": address(number, one)},
            });
            let (key, row) = pods::view(&serde_json::from_value(pod).unwrap()).unwrap();
            self.stores.pods.apply("", key, row);
        }
        let service = json!({"metadata": {"namespace": namespace, "name": format!("{name}-svc")}, "spec": {"selector": labels}});
        let (key, row) = services::view_service(&serde_json::from_value(service).unwrap()).unwrap();
        self.stores.services.apply("", key, row);
        let mut object = json!({
            "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
            "metadata": {"namespace": namespace, "name": format!("object-{number}")},
            "spec": spec,
        });
        object["spec"]["targetRef"] = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
        let object: McpServerHealth = serde_json::from_value(object).unwrap();
        let guarded = crate::observe::Guarded(Ok(Arc::new(object.clone())));
        targets::note(&self.stores.targets, "", &kube::runtime::watcher::Event::Apply(guarded));
        self.look(object);
    }

    /// A reconcile looks at an object.
    pub fn look(&mut self, object: McpServerHealth) {
        let object = Arc::new(object);
        self.stores.judged.note(&Key::of(&*object), Arc::clone(&object), Verdict::default());
        self.objects.retain(|one| Key::of(&**one) != Key::of(&*object));
        self.objects.push(object);
    }

    /// One tick, to its end.
    pub async fn tick(&self) {
        let targets = Arc::new(self.stores.known_targets());
        for poll in self.stores.polls() {
            self.poller.poll(&self.stores, Arc::clone(&targets), poll).await;
        }
    }

    pub fn metrics(&self, number: usize) -> Reading<Metrics> {
        self.stores.prometheus.readings(&self.objects[number], Timestamp::now()).0
    }

    pub fn rules(&self, number: usize) -> Reading<Vec<RuleReading>> {
        self.stores.prometheus.readings(&self.objects[number], Timestamp::now()).1
    }
}

/// What an object says that has this mapping.
pub fn mapped(signal: &PrometheusSignal) -> Value {
    json!({"signals": {"prometheus": signal}})
}
