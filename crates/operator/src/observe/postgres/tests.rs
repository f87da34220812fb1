//! A real PostgreSQL, and objects that name it in Secrets.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser;
use futures::channel::mpsc::unbounded;
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use kube::{client::Body, runtime::watcher::Event};
use mcp_health_api::{McpServerHealth, PostgresSignal};
use mcp_health_core::{
    attempt::Acted,
    diagnose::Verdict,
    signals::{CheckStep, Database, Dependency, Reading},
};
use serde_json::json;
use tokio::{task::JoinHandle, time::timeout};

use self::support::{APPLICATION, Postgres, awaited};
use super::*;
use crate::{
    config::Config,
    endpoints::AllowList,
    observe::{Asking, Stores, deployments, note_targets, secrets::Secrets},
    telemetry::Metrics,
};

#[path = "../../../../dependency-probe/tests/postgres/support.rs"]
#[allow(dead_code)]
mod support;

/// An operator's stores, and what asks for them.
struct World {
    stores: Arc<Stores>,
    /// What Secrets hold, by namespace and name.
    secrets: Arc<Mutex<BTreeMap<String, String>>>,
    read: Arc<AtomicUsize>,
    asking: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

impl World {
    fn new(postgres: &Postgres) -> Self {
        let allowed = format!("--allowed-endpoints=127.0.0.1:{}", postgres.port);
        Self::with(&["operator", "--read-secrets=true", &allowed])
    }

    fn with(flags: &[&str]) -> Self {
        let config = Config::parse_from(flags);
        let secrets: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let read = Arc::new(AtomicUsize::new(0));
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let (content, count) = (Arc::clone(&secrets), Arc::clone(&read));
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                count.fetch_add(1, Relaxed);
                let path = request.uri().path().to_owned();
                let parts: Vec<&str> = path.split('/').collect();
                let place = format!("{}/{}", parts[4], parts[6]);
                let url = content.lock().unwrap().get(&place).map(|url| BASE64_STANDARD.encode(url));
                let (status, body) = match url {
                    Some(url) => {
                        (StatusCode::OK, json!({"metadata": {"name": parts[6]}, "data": {"url": url}}))
                    }
                    None => {
                        (StatusCode::NOT_FOUND, json!({"kind": "Status", "code": 404, "reason": "NotFound"}))
                    }
                };
                let body = Body::from(body.to_string().into_bytes());
                send.send_response(Response::builder().status(status).body(body).unwrap());
            }
        });
        let client = kube::Client::new(service, "mcp");
        let (wake, _woken) = unbounded();
        let stores = Arc::new(Stores::new(&config, wake).unwrap());
        let allowed = AllowList::parse(&config.allowed_endpoints).unwrap();
        let reader = Arc::new(Secrets::new(config.read_secrets.then_some(client)));
        let asking = Asking::new(Arc::clone(&stores), reader, &config, allowed, Arc::new(Metrics::default()));
        let asking = tokio::spawn(asking.keep());
        Self { stores, secrets, read, asking }
    }

    /// What a Secret holds from now on.
    fn secret(&self, place: &str, url: &str) {
        self.secrets.lock().unwrap().insert(place.to_owned(), url.to_owned());
    }

    /// An object that declares a database.
    fn declare(&self, namespace: &str, name: &str, postgres: &serde_json::Value) -> McpServerHealth {
        let object: McpServerHealth = serde_json::from_value(json!({
            "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
            "metadata": {"name": name, "namespace": namespace, "uid": name},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "signals": {"postgres": postgres},
            },
        }))
        .unwrap();
        let metadata = json!({"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"});
        let deployment = json!({"metadata": metadata, "spec": {}});
        let (key, row) = deployments::view(&serde_json::from_value(deployment).unwrap()).unwrap();
        self.stores.deployments.apply("", key, row);
        note_targets(&self.stores.targets, "", &Event::Apply(guarded(&object)));
        self.stores.judged.note(&Key::of(&object), Arc::new(object.clone()), Verdict::default());
        object
    }

    fn forget(&self, object: &McpServerHealth) {
        note_targets(&self.stores.targets, "", &Event::Delete(guarded(object)));
        self.stores.judged.forget(&Key::of(object));
    }

    fn reading(&self, object: &McpServerHealth) -> Reading<Database> {
        self.stores.database_of(object, Timestamp::now()).0
    }

    fn dependency(&self, object: &McpServerHealth) -> Dependency {
        let signals = self.stores.signals(object, Timestamp::now());
        assert!(!format!("{signals:?}").contains("pl4nted"), "a password shows");
        signals.dependencies.fresh().unwrap()[0].clone()
    }

    /// Awaits that a database is seen, and that it is as wanted.
    async fn seen(&self, object: &McpServerHealth, wanted: impl Fn(&Database) -> bool) -> Database {
        awaited(async || self.reading(object).fresh().filter(|seen| wanted(seen)).cloned()).await
    }

    async fn unavailable(&self, object: &McpServerHealth, wanted: &str) {
        awaited(async || match self.reading(object) {
            Reading::Unavailable(why) => why.contains(wanted).then_some(()),
            _ => None,
        })
        .await;
    }
}

fn guarded(object: &McpServerHealth) -> crate::observe::Guarded {
    serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap()
}

fn signal(secret: &str, application: &str) -> serde_json::Value {
    json!({
        "connectionSecretRef": {"name": secret, "key": "url"}, "applicationName": application,
        "interval": "1s", "timeout": "1s",
    })
}

fn url(postgres: &Postgres) -> String {
    format!("postgres://mcp_health:pl4nted@127.0.0.1:{}/mcp_prod", postgres.port)
}

async fn connections(postgres: &Postgres) -> i64 {
    let admin = postgres.client("postgres", "test").await;
    let question = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mcp-health-operator'";
    admin.query_one(question, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn objects_with_the_same_url_share_a_connection_and_the_last_of_them_hangs_up() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    let world = World::new(&postgres);
    let _idle = postgres.session().await;
    let mut objects = Vec::new();
    for number in 0..6 {
        let namespace = if number % 2 == 0 { "mcp" } else { "other" };
        world.secret(&format!("{namespace}/db"), &url(&postgres));
        let application = if number < 4 { APPLICATION } else { "another" };
        objects.push(world.declare(namespace, &format!("server-{number}"), &signal("db", application)));
    }
    for object in &objects[..4] {
        let seen = world.seen(object, |seen| seen.counts.total == 1).await;
        assert_eq!(seen.sessions[0].application, APPLICATION);
    }
    for object in &objects[4..] {
        world.seen(object, |seen| seen.counts.total == 0).await;
    }
    assert_eq!(connections(&postgres).await, 1);
    assert!(world.read.load(Relaxed) <= objects.len(), "a Secret is not read again for each look");
    let dependency = world.dependency(&objects[0]);
    assert_eq!(dependency.name, "postgres");
    assert_eq!(dependency.words, format!("PostgreSQL mcp_prod at 127.0.0.1:{}", postgres.port));
    assert_eq!(dependency.place, format!("127.0.0.1:{}", postgres.port));
    for object in &objects[..5] {
        world.forget(object);
    }
    let databases = world.stores.databases.as_ref().unwrap();
    awaited(async || (databases.objects().len() == 1).then_some(())).await;
    assert_eq!((connections(&postgres).await, databases.lines().len()), (1, 1));
    world.forget(&objects[5]);
    awaited(async || (connections(&postgres).await == 0).then_some(())).await;
}

#[tokio::test]
async fn what_fails_is_told_by_its_step_is_no_evidence_and_is_found_again() {
    let Some(mut postgres) = Postgres::start(&[]).await else { return };
    let world = World::new(&postgres);
    world.secret("mcp/db", &url(&postgres));
    let object = world.declare("mcp", "server", &signal("db", APPLICATION));
    world.seen(&object, |_| true).await;
    postgres.stop().await;
    world.unavailable(&object, "refuses the connection (port)").await;
    let down = awaited(async || Some(world.dependency(&object)).filter(Dependency::is_down)).await;
    assert_eq!(down.failure().map(|failure| failure.step), Some(CheckStep::Port));
    postgres.run().await;
    world.seen(&object, |_| true).await;
    awaited(async || Some(world.dependency(&object)).filter(Dependency::answers)).await;
    // Paused: connected as before, and no answer.
    postgres.signal_all("-STOP");
    world.unavailable(&object, "does not answer a question within 1 s (answer)").await;
    world.unavailable(&object, "(handshake)").await;
    postgres.signal_all("-CONT");
    world.seen(&object, |_| true).await;
}

#[tokio::test]
async fn what_may_not_be_asked_is_not_and_says_why() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    let world = World::with(&["operator", "--read-secrets=true", "--allowed-endpoints=postgres.mcp:5432"]);
    world.secret("mcp/db", &url(&postgres));
    world.secret("mcp/odd", "pl4nted");
    let barred = world.declare("mcp", "one", &signal("db", APPLICATION));
    let why = format!("127.0.0.1:{} is not on the operator's allow-list", postgres.port);
    world.unavailable(&barred, &why).await;
    assert!(world.dependency(&barred).barred.is_some_and(|said| said.starts_with(&why)));
    let none = world.declare("mcp", "two", &signal("gone", APPLICATION));
    world.unavailable(&none, "Secret gone does not exist").await;
    // Another namespace's Secret is nobody else's.
    let elsewhere = world.declare("other", "three", &signal("db", APPLICATION));
    world.unavailable(&elsewhere, "Secret db does not exist").await;
    let odd = world.declare("mcp", "four", &signal("odd", APPLICATION));
    world.unavailable(&odd, "its URL is of no use").await;
    assert!(!format!("{:?}", world.dependency(&odd)).contains("pl4nted"));
    assert_eq!(connections(&postgres).await, 0);
    // A name on the list that leads to this machine is refused once it is resolved.
    let port = postgres.port;
    let world =
        World::with(&["operator", "--read-secrets=true", &format!("--allowed-endpoints=localhost:{port}")]);
    world.secret("mcp/db", &url(&postgres).replace("127.0.0.1", "localhost"));
    let led = world.declare("mcp", "one", &signal("db", APPLICATION));
    world.unavailable(&led, "localhost leads to ").await;
    assert_eq!(connections(&postgres).await, 0);
}

#[test]
fn what_nothing_changes_in_is_no_news() {
    let seen = |database: Database| line::Came {
        at: Timestamp::now(),
        result: Ok(Arc::new(database)),
        certificate: None,
    };
    let quiet = Database { max_connections: 100, connections: 10, ..Database::default() };
    let asked: PostgresSignal = serde_json::from_value(signal("db", APPLICATION)).unwrap();
    let mut one = Seen::new(&asked);
    for _ in 0..3 {
        assert!(one.note(seen(quiet.clone())), "so few answers tell nothing yet");
    }
    assert!(!one.note(seen(Database { connections: 12, ..quiet.clone() })));
    assert!(one.note(seen(Database { connections: 60, ..quiet.clone() })));
    assert!(one.note(seen(quiet.clone())));
    assert!(one.note(seen(Database { checksum_failures: Some((1, None)), ..quiet })));
}

#[tokio::test]
async fn sessions_are_ended_over_the_line_that_is_there_and_over_no_other() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    let world = World::new(&postgres);
    world.secret("mcp/db", &url(&postgres));
    let object = world.declare("mcp", "server", &signal("db", APPLICATION));
    let leaked = postgres.leak("SELECT 1").await;
    let kept = postgres.leak("SELECT 2").await;
    let seen = world.seen(&object, |seen| seen.counts.idle_in_transaction == 2).await;
    kept.batch_execute("COMMIT; BEGIN; SELECT 3").await.unwrap();
    let line = |one: &mcp_health_core::signals::database::Session| {
        let (xact, changed) = (one.xact_start.unwrap(), one.state_change.unwrap());
        format!("{} {} {xact} {changed}", one.pid, one.backend_start)
    };
    let fence = SessionFence {
        database: "mcp_prod".to_owned(),
        user: "mcp".to_owned(),
        application: APPLICATION.to_owned(),
        state: "idle in transaction".to_owned(),
        list: seen.sessions.iter().map(line).collect(),
    };
    let databases = world.stores.databases.as_ref().unwrap();
    let stranger = databases.end_sessions(&Key::new("mcp", "stranger"), &fence, support::SOON).await;
    assert!(matches!(stranger, Err(NotEnded::Refused(_))), "{stranger:?}");
    let (acted, word) = crate::act::tests::end_sessions(databases, &object, &fence).await;
    assert_eq!(word.as_deref(), Some("ended 1 of 2 sessions; 1 was not so any more"), "{acted:?}");
    awaited(async || leaked.is_closed().then_some(())).await;
    // Nothing of it is left: nothing was done, and it does not count as done.
    let (again, _) = crate::act::tests::end_sessions(databases, &object, &fence).await;
    assert!(
        matches!(&again, Acted::Superseded(why) if why.starts_with("of 2 sessions recorded, none")),
        "{again:?}"
    );
    assert!(timeout(support::SOON, kept.batch_execute("SELECT 4")).await.unwrap().is_ok());
}
