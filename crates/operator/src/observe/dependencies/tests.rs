//! Asking dependencies on the loopback, and what is made of what they came to.

#![allow(clippy::unwrap_used)]

mod credentials;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse};
use clap::Parser;
use futures::channel::mpsc::unbounded;
use http::{Method, Request, Response, Uri};
use jiff::SignedDuration;
use kube::client::Body;
use mcp_health_api::NamedDigest;
use mcp_health_core::signals::{Certificate, Failure};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{round::Rounds, *};
use crate::{
    config::Config,
    endpoints::AllowList,
    observe::{Stores, secrets::Secrets},
    telemetry::Metrics,
};

/// A server on the loopback that answers by its path, and what it was asked.
struct Listening {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Listening {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, asked }
    }

    fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|one| *one == what).count()
    }
}

async fn answer(State(asked): State<Arc<Mutex<Vec<String>>>>, method: Method, uri: Uri) -> impl IntoResponse {
    asked.lock().unwrap().push(format!("{method} {}", uri.path()));
    match uri.path() {
        "/redirect" => (StatusCode::FOUND, [("location", "/elsewhere")], "").into_response(),
        "/down" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => StatusCode::OK.into_response(),
    }
}

/// A port on which nobody listens.
async fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// An operator's stores, and what asks for them.
struct World {
    stores: Stores,
    rounds: Rounds,
    metrics: Arc<Metrics>,
}

impl World {
    fn new(allowed: &str) -> Self {
        Self::with(allowed, Secrets::new(None))
    }

    fn with(allowed: &str, secrets: Secrets) -> Self {
        let config = Config::parse_from(["operator", &format!("--allowed-endpoints={allowed}")]);
        let stores = Stores::new(&config, unbounded().0).unwrap();
        let allowed = AllowList::parse(&config.allowed_endpoints).unwrap();
        let metrics = Arc::new(Metrics::default());
        let rounds = Rounds::new(Arc::new(secrets), allowed, Arc::clone(&metrics), 4);
        Self { stores, rounds, metrics }
    }

    async fn ask(&self, object: &McpServerHealth) -> bool {
        self.rounds.ask(&self.stores, &Key::of(object), object).await
    }

    fn seen(&self, object: &McpServerHealth) -> Vec<Dependency> {
        match self.stores.depended_on(object, None) {
            Reading::Fresh(all) => all,
            other => panic!("{other:?}"),
        }
    }

    /// After so many rounds, each with answers of its own.
    async fn after(&self, rounds: usize, object: &McpServerHealth) -> Vec<Dependency> {
        for _ in 0..rounds {
            tokio::time::advance(round::INTERVAL).await;
            self.ask(object).await;
        }
        self.seen(object)
    }
}

fn object(namespace: &str, name: &str, signals: &Value, answered: &[NamedDigest]) -> McpServerHealth {
    serde_json::from_value(json!({
        "apiVersion": "mcphealth.dev/v1alpha1",
        "kind": "McpServerHealth",
        "metadata": {"name": name, "namespace": namespace, "uid": name},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "signals": signals,
        },
        "status": {"target": {
            "uid": "uid", "readyReplicas": 1, "desiredReplicas": 1, "template": "t", "answeredDependencies": answered,
        }},
    }))
    .unwrap()
}

fn http(name: &str, url: &str) -> Value {
    json!({"name": name, "http": {"url": url}})
}

fn told(one: &Dependency) -> (String, String) {
    let failure = one.results.last().and_then(|(_, result)| result.clone().err());
    failure.map_or_else(Default::default, |why| (why.step.to_string(), why.said))
}

#[tokio::test(start_paused = true)]
async fn what_the_list_permits_is_asked_and_the_step_that_failed_is_told() {
    let listening = Listening::new().await;
    let (port, closed) = (listening.port, closed().await);
    let world = World::new(&format!("127.0.0.1:{port},127.0.0.1:{closed},localhost,*.invalid"));
    let object = object(
        "mcp",
        "one",
        &json!({"dependencies": [
            http("well", &format!("http://user:planted@127.0.0.1:{port}/redirect?q=1")),
            http("down", &format!("http://127.0.0.1:{port}/down")),
            {"name": "port", "tcp": {"address": format!("127.0.0.1:{port}")}},
            {"name": "closed", "tcp": {"address": format!("127.0.0.1:{closed}")}},
            http("nobody", "http://nobody.invalid/health"),
            {"name": "plain", "tls": {"address": format!("127.0.0.1:{port}")}},
            http("elsewhere", "http://elsewhere.example/"),
            http("inward", "http://localhost:1/"),
            {"name": "nowhere", "tcp": {"address": format!("10.0.0.1:{port}")}},
        ]}),
        &[],
    );
    let all = world.after(3, &object).await;
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        ["well", "down", "port", "closed", "nobody", "plain", "elsewhere", "inward", "nowhere"]
    );
    let states: Vec<_> = all.iter().map(|one| (one.answers(), one.is_down(), one.barred.is_some())).collect();
    let (up, down, barred) = ((true, false, false), (false, true, false), (false, false, true));
    assert_eq!(states, [up, down, up, down, down, down, barred, barred, barred], "{all:#?}");
    let steps: Vec<String> = all.iter().map(|one| told(one).0).collect();
    assert_eq!(steps, ["", "answer", "", "port", "name", "handshake", "", "", ""], "{all:#?}");
    assert_eq!(all[0].words, format!("GET http://***@127.0.0.1:{port}/redirect?q=1"));
    assert_eq!(all[0].place, format!("127.0.0.1:{port}"));
    assert_eq!(listening.asked("GET /elsewhere"), 0, "nobody follows where an answer points");
    let barred: Vec<&str> = all[6..].iter().map(|one| one.barred.as_deref().unwrap()).collect();
    assert_eq!(
        barred[0],
        "elsewhere.example:80 is not on the operator's allow-list (signals.allowedEndpoints)"
    );
    assert!(barred[1].starts_with("localhost leads to "), "{barred:?}");
    assert!(barred[2].starts_with("10.0.0.1:"), "{barred:?}");
}

#[tokio::test(start_paused = true)]
async fn what_several_objects_ask_alike_is_asked_once_an_interval_and_all_hear_of_it() {
    let listening = Listening::new().await;
    let world = World::new("127.0.0.1");
    let down = json!({"dependencies": [http("api", &format!("http://127.0.0.1:{}/down", listening.port))]});
    let objects: Vec<_> =
        (0..20).map(|number| object("mcp", &format!("server-{number}"), &down, &[])).collect();
    for round in 1..=4 {
        tokio::time::advance(round::INTERVAL).await;
        let news = futures::future::join_all(objects.iter().map(|one| world.ask(one))).await;
        assert_eq!(news, [true; 20]);
        assert_eq!(listening.asked("GET /down"), round);
        // A round that comes a little early finds the answer that there is, and nothing new in it.
        assert!(!world.ask(&objects[0]).await);
        assert_eq!(listening.asked("GET /down"), round);
    }
    let stranger = object("other", "stranger", &down, &[]);
    world.ask(&stranger).await;
    let seen = &world.seen(&objects[3])[0];
    assert_eq!((seen.results.len(), seen.others), (4, 20));
    assert_eq!(seen.shared_with.len(), LEANING_NAMED);
    assert_eq!(seen.shared_with[..2], ["server-0", "server-1"]);
    for object in &objects[..18] {
        world.stores.dependencies.as_ref().unwrap().forget(&Key::of(object));
    }
    let seen = &world.seen(&objects[19])[0];
    assert_eq!(
        (seen.others, seen.shared_with.as_slice()),
        (2, ["server-18".to_owned(), "other/stranger".to_owned()].as_slice())
    );
    // It names something else from now on.
    let other = json!({"dependencies": [http("api", &format!("http://127.0.0.1:{}/well", listening.port))]});
    world.ask(&object("mcp", "server-18", &other, &[])).await;
    world.ask(&object("other", "stranger", &json!({}), &[])).await;
    assert_eq!(world.seen(&objects[19])[0].others, 1, "the place is the same");
}

/// An API server with one Secret in each namespace, which differ.
fn secrets() -> (Secrets, Arc<AtomicUsize>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            count.fetch_add(1, Relaxed);
            let status = if request.uri().path() == "/api/v1/namespaces/mcp/secrets/ca" { 404 } else { 403 };
            let body = json!({"kind": "Status", "status": "Failure", "code": status, "message": "planted"});
            send.send_response(
                Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap(),
            );
        }
    });
    (Secrets::new(Some(kube::Client::new(service, "mcp"))), read)
}

#[tokio::test(start_paused = true)]
async fn without_its_secret_one_is_not_asked_and_the_others_are() {
    let listening = Listening::new().await;
    let (secrets, read) = secrets();
    let world = World::with("127.0.0.1", secrets);
    let url = format!("http://127.0.0.1:{}/", listening.port);
    let with_ca = |name: &str, secret: &str| json!({"name": name, "http": {"url": url, "caSecretRef": {"name": secret, "key": "ca.crt"}}});
    let signals =
        json!({"dependencies": [with_ca("gone", "ca"), with_ca("refused", "other"), http("well", &url)]});
    let object = object("mcp", "one", &signals, &[]);
    let all = world.after(2, &object).await;
    assert_eq!(all[0].barred.as_deref(), Some("Secret ca does not exist"));
    assert!(all[1].barred.as_ref().unwrap().contains("may not read Secrets (signals.secrets)"), "{all:#?}");
    assert!(all[2].answers());
    assert_eq!((listening.asked("GET /"), read.load(Relaxed)), (10, 4));
    assert!(!format!("{all:?}").contains("planted"));
}

fn certificate() -> Certificate {
    let not_after = Timestamp::now().saturating_add(SignedDuration::from_hours(24)).unwrap();
    Certificate { subject: "idp".to_owned(), issuer: "CA".to_owned(), not_after }
}

fn about(place: &str, question: &str) -> About {
    About { words: format!("GET {place}"), place: place.to_owned(), question: question.to_owned() }
}

fn failed(step: CheckStep) -> Asked {
    Asked { result: Err(Failure::new(step, "it fails")), ..Asked::default() }
}

#[test]
fn only_what_may_change_a_verdict_is_news_and_what_was_answered_is_of_that_question_alone() {
    let dependencies = Dependencies::default();
    let signals = json!({"dependencies": [http("api", "http://api/")]});
    let one = object("mcp", "one", &signals, &[]);
    let (key, mut second) = (Key::of(&one), 0);
    let mut note = |question: &str, came: Came| {
        second += 1;
        let at = Timestamp::from_second(second).unwrap();
        dependencies.note(&key, "api", at, (Some(about("api:80", question)), came), &[])
    };
    let seen = || match dependencies.reading(&one, None) {
        Reading::Fresh(all) => all[0].clone(),
        other => panic!("{other:?}"),
    };
    let with = |remark: &str, certificate: Option<Certificate>| {
        Ok(Asked { certificate, remarks: vec![remark.to_owned()], ..Asked::default() })
    };
    assert!(note("a", with("1 ms", None)), "the first");
    assert!(dependencies.is_to_be_kept(&key, &one));
    assert!(!note("a", with("2 ms", None)), "a value");
    let certificate = certificate();
    assert!(note("a", with("2 ms", Some(certificate.clone()))));
    assert!(!note("a", with("3 ms", Some(certificate.clone()))));
    assert_eq!(dependencies.certificates(), [("api:80".to_owned(), certificate.not_after)].into());
    assert!(note("a", Ok(failed(CheckStep::Port))));
    assert_eq!(seen().certificate, Some(certificate));
    for _ in 0..5 {
        assert!(note("a", Ok(Asked::default())), "a failure is among those that are kept");
    }
    assert!(!note("a", Ok(Asked::default())));
    assert_eq!(seen().results.len(), DEPENDENCY_KEPT);
    assert!(note("a", Err("not on the list".to_owned())));
    assert!(!note("a", Err("not on the list".to_owned())));
    assert!(seen().results.is_empty() && seen().ever_answered);
    // Another question, which was never answered; nor was it by an earlier operator.
    let before = seen().known_as;
    note("b", Ok(failed(CheckStep::Route)));
    assert!(!seen().ever_answered && seen().known_as != before);
    let told = object("mcp", "one", &signals, &[seen().known_as.unwrap()]);
    assert!(matches!(dependencies.reading(&told, None), Reading::Fresh(all) if all[0].ever_answered));
    dependencies.keep_to(&key, &object("mcp", "one", &json!({}), &[]));
    assert!(dependencies.lock().by_object.is_empty() && dependencies.lock().leaning.is_empty());
}

#[test]
fn since_when_it_answers_is_kept_longer_than_its_answers_and_begins_anew_after_a_failure_or_another_question()
{
    let dependencies = Dependencies::default();
    let one = object("mcp", "one", &json!({"dependencies": [http("api", "http://api/")]}), &[]);
    let at = |second| Timestamp::from_second(second).unwrap();
    let since = |second: i64, question: &str, came: Came| {
        let about = Some(about("api:80", question));
        dependencies.note(&Key::of(&one), "api", at(second), (about, came), &[]);
        match dependencies.reading(&one, None) {
            Reading::Fresh(all) => all[0].answers_since,
            other => panic!("{other:?}"),
        }
    };
    let answers = |second, had_failed| Some(AnswersSince { at: at(second), had_failed });
    for second in 1..20 {
        assert_eq!(since(second, "a", Ok(Asked::default())), answers(1, false));
    }
    assert_eq!(since(20, "a", Ok(failed(CheckStep::Port))), None);
    assert_eq!(since(21, "a", Ok(Asked::default())), answers(21, true));
    assert_eq!(since(22, "b", Ok(Asked::default())), answers(22, false));
    assert_eq!(since(23, "b", Err("not on the list".to_owned())), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_operator_takes_the_one_dependency_that_refuses_for_down_by_what_the_status_remembers() {
    let address = format!("127.0.0.1:{}", closed().await);
    let signals = json!({"dependencies": [{"name": "db", "tcp": {"address": address}}]});
    let before = World::new("127.0.0.1").after(1, &object("mcp", "one", &signals, &[])).await.remove(0);
    assert!(!before.ever_answered, "nobody knows it");
    let object = object("mcp", "one", &signals, &[before.known_as.unwrap()]);
    let world = World::new("127.0.0.1");
    assert_eq!(world.seen(&object)[0].known_as, None, "it was not asked yet");
    let after = world.after(3, &object).await.remove(0);
    world.stores.dependencies.as_ref().unwrap().look_at_own_way(false);
    assert!(after.ever_answered && after.is_down(), "{after:#?}");
    assert_eq!(world.seen(&object), [after], "it is no fault of the operator's own way");
}

/// The server, the place, and the step that fails.
type OfPlace = (&'static str, &'static str, Option<CheckStep>);

#[test]
fn where_there_is_a_way_to_nothing_it_is_the_operators_own_and_no_evidence() {
    use CheckStep::{Answer, Name, Port, Route};
    let come = |steps: &[(&str, &str, Option<CheckStep>)], servers_are_reached| {
        let dependencies = Dependencies::default();
        for (second, came) in [(1, true), (2, false)] {
            let at = Timestamp::from_second(second).unwrap();
            for (server, place, step) in steps {
                let came = match step {
                    Some(step) if !came => Ok(failed(*step)),
                    _ => Ok(Asked::default()),
                };
                let key = Key::new("mcp", server);
                dependencies.note(&key, place, at, (Some(about(place, place)), came), &[]);
            }
        }
        dependencies.look_at_own_way(servers_are_reached);
        dependencies.no_way.load(Relaxed)
    };
    let three = |step| [("one", "a", step), ("one", "b", step), ("two", "c", step)];
    let rows: &[(&str, &[OfPlace], bool, bool)] = &[
        ("no way to any", &three(Some(Route)), false, true),
        ("but to servers", &three(Some(Route)), true, false),
        ("no name resolves, whatever of addresses", &three(Some(Name)), true, true),
        ("they refuse: that came from there", &three(Some(Port)), false, false),
        ("they answer with errors", &three(Some(Answer)), false, false),
        (
            "one answers",
            &[("one", "a", Some(Name)), ("one", "b", Some(Name)), ("two", "c", None)],
            false,
            false,
        ),
        (
            "of one server alone",
            &[("one", "a", Some(Name)), ("one", "b", Some(Name)), ("one", "c", Some(Name))],
            false,
            false,
        ),
        ("two that lean on one", &[("one", "a", Some(Name)), ("two", "a", Some(Name))], false, false),
    ];
    for (what, steps, servers_are_reached, expected) in rows {
        assert_eq!(come(steps, *servers_are_reached), *expected, "{what}");
    }
    let dependencies = Dependencies::default();
    let object = object("mcp", "one", &json!({"dependencies": [http("a", "http://a/")]}), &[]);
    dependencies.no_way.store(true, Relaxed);
    assert_eq!(dependencies.reading(&object, None), Reading::Unavailable(NO_WAY.to_owned()));
}
