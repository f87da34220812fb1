//! The loop against an API server that answers by script, on a clock that stands still unless all wait.

#![allow(clippy::unwrap_used)]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::body::{Body as AnswerBody, Bytes};
use futures::{StreamExt, stream};
use http::{Request as HttpRequest, Response};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use mcp_health_core::signals::Reading;
use serde_json::{Value, json};
use tower_test::mock;

use super::*;
use crate::observe::{
    table::{Key, Row, Table},
    watch::{Told, watch},
};

/// How the API server answers one request.
pub enum Answer {
    /// With a status and a body.
    Json(u16, Value),
    /// With these events, and then a clean end after so long.
    Events(Vec<Value>, Duration),
    /// With these events, and then with nothing for ever.
    HalfOpen(Vec<Value>),
}

/// What a request asks for, without what is alike in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub query: BTreeMap<String, String>,
}

impl Asked {
    pub fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    pub fn get(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

pub type Requests = Arc<Mutex<Vec<Asked>>>;

/// An API server that answers each request by what was asked and how many came before.
pub fn api_server(answer: impl Fn(&Asked, usize) -> Answer + Send + 'static) -> (Client, Requests) {
    let (service, mut handle) = mock::pair::<HttpRequest<Body>, Response<AnswerBody>>();
    let requests = Requests::default();
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let query = request.uri().query().unwrap_or_default();
            let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let asked = Asked { path: request.uri().path().to_owned(), query };
            let number = kept.lock().unwrap().len();
            let answer = answer(&asked, number);
            kept.lock().unwrap().push(asked);
            let line = |event: Value| Ok::<_, io::Error>(Bytes::from(format!("{event}\n")));
            let (status, body) = match answer {
                Answer::Json(status, body) => (status, AnswerBody::from(body.to_string())),
                Answer::Events(events, after) => {
                    let end = stream::once(sleep(after)).filter_map(|()| async { None });
                    (200, AnswerBody::from_stream(stream::iter(events).map(line).chain(end)))
                }
                Answer::HalfOpen(events) => {
                    (200, AnswerBody::from_stream(stream::iter(events).map(line).chain(stream::pending())))
                }
            };
            send.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    (Client::new(service, "default"), requests)
}

/// A list of objects.
pub fn list(version: &str, items: &[Value]) -> Answer {
    Answer::Json(200, json!({"metadata": {"resourceVersion": version}, "items": items}))
}

fn refused() -> Answer {
    Answer::Json(
        403,
        json!({
            "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "configmaps is forbidden",
        }),
    )
}

fn object(name: &str, version: &str) -> Value {
    json!({"metadata": {"namespace": "mcp", "name": name, "resourceVersion": version}})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn expired() -> Value {
    event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}))
}

#[derive(Debug)]
struct Version(String);

impl Row for Version {
    fn group(&self) -> Option<Key> {
        None
    }

    fn changes_verdict(&self, _: &Self) -> bool {
        true
    }
}

fn view(wire: &ConfigMap) -> Option<(Key, Version)> {
    let version = wire.metadata.resource_version.clone()?;
    assert_ne!(version, "666", "a row that cannot be made");
    Some((Key::of(wire), Version(version)))
}

/// A table that the loop keeps up, for so many seconds of its own clock.
struct Scene {
    table: Arc<Table<Version>>,
    told: RefCell<Vec<&'static str>>,
    requests: Requests,
    client: Client,
}

impl Scene {
    fn new(answer: impl Fn(&Asked, usize) -> Answer + Send + 'static) -> Self {
        let (client, requests) = api_server(answer);
        let pace = Pace::of_watches(1);
        let table = Arc::new(Table::new(&[None], pace.stale_after()));
        Self { table, told: RefCell::default(), requests, client }
    }

    /// Watches for so long, and has a look each second.
    async fn run(&self, seconds: u64, mut look: impl FnMut(u64, &Self)) {
        let path = "/api/v1/configmaps".to_owned();
        let pace = Pace::of_watches(1);
        let (labels, fields) = (String::new(), String::new());
        let source = Source { client: self.client.clone(), path, labels, fields, pace };
        let tell = |told: Told<Version>| {
            self.told.borrow_mut().push(match told {
                Told::Row(..) => "row",
                Told::Readable(_) => "readable",
                Told::Fitness => "fitness",
            });
        };
        let looks = async {
            for second in 1..=seconds {
                sleep(Duration::from_secs(1)).await;
                look(second, self);
            }
        };
        tokio::select! {
            () = watch(source, None, &self.table, view, tell) => panic!("the watch ended"),
            () = looks => {}
        }
    }

    fn reading(&self) -> Reading<()> {
        self.table.reading("mcp", Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1), ())
    }

    fn is_fresh(&self) -> bool {
        self.reading().fresh().is_some()
    }

    fn told(&self, what: &str) -> usize {
        self.told.borrow().iter().filter(|one| **one == what).count()
    }

    fn asked(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }

    fn lists(&self) -> usize {
        self.asked().iter().filter(|one| !one.is_watch()).count()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.table.all().into_iter().map(|(key, row)| format!("{}@{}", key.name, row.0)).collect();
        names.sort();
        names
    }
}

const LONG: Duration = Duration::from_secs(28);

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_that_ends_cleanly_stays_fresh_and_is_resumed_without_a_list() {
    let scene = Scene::new(|asked, _| match (asked.is_watch(), asked.get("resourceVersion")) {
        (false, _) => list("7", &[object("a", "5")]),
        (true, "7") => Answer::Events(
            vec![
                event("BOOKMARK", &json!({"metadata": {"resourceVersion": "9"}})),
                event("MODIFIED", &object("a", "11")),
            ],
            LONG,
        ),
        _ => Answer::Events(Vec::new(), LONG),
    });
    scene.run(600, |second, scene| assert!(scene.is_fresh(), "after {second} s")).await;
    assert_eq!((scene.lists(), scene.told("fitness"), scene.told("row")), (1, 1, 2));
    assert_eq!(scene.names(), ["a@11"]);
    let watches: Vec<Asked> = scene.asked().into_iter().filter(Asked::is_watch).collect();
    assert!(watches.len() >= 600 / 30, "{}", watches.len());
    for (number, watch) in watches.iter().enumerate() {
        assert_eq!(watch.get("resourceVersion"), if number == 0 { "7" } else { "11" });
        assert_eq!(watch.get("allowWatchBookmarks"), "true");
        let seconds: u32 = watch.get("timeoutSeconds").parse().unwrap();
        assert!((25..=30).contains(&seconds), "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relist_that_is_refused_for_ever_makes_rows_stale_and_wakes_once() {
    let scene = Scene::new(|asked, number| match (asked.is_watch(), number) {
        (false, 0) => list("7", &[object("a", "5")]),
        (false, _) => refused(),
        (true, _) => Answer::Events(vec![expired()], Duration::ZERO),
    });
    scene
        .run(1800, |second, scene| match second {
            ..=60 => assert!(scene.is_fresh(), "after {second} s"),
            _ => assert!(matches!(scene.reading(), Reading::Stale { .. }), "after {second} s"),
        })
        .await;
    assert_eq!(scene.told("fitness"), 2, "once fresh, once stale");
    assert!(scene.lists() > 100 && scene.lists() < 400, "{} lists in half an hour", scene.lists());
}

#[tokio::test(start_paused = true)]
async fn a_first_list_that_is_refused_for_ever_is_unavailable_and_wakes_once() {
    let scene = Scene::new(|_, _| refused());
    scene.run(600, |_, scene| assert!(scene.table.is_settled())).await;
    let why = "configmaps is forbidden".to_owned();
    assert_eq!((scene.reading(), scene.told("fitness")), (Reading::Forbidden(why), 1));
}

#[tokio::test(start_paused = true)]
async fn opens_that_are_answered_and_break_each_second_prove_nothing() {
    let broken = || event("ERROR", &json!({"kind": "Status", "code": 500, "message": "etcd is gone"}));
    let scene = Scene::new(move |asked, _| {
        if asked.is_watch() {
            Answer::Events(vec![broken()], Duration::ZERO)
        } else {
            list("7", &[object("a", "5")])
        }
    });
    scene.run(600, |second, scene| assert_eq!(scene.is_fresh(), second <= 60, "after {second} s")).await;
    assert_eq!((scene.lists(), scene.told("fitness")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_ends_each_watch_at_once_proves_nothing() {
    let scene = Scene::new(move |asked, _| {
        if asked.is_watch() {
            Answer::Events(Vec::new(), Duration::ZERO)
        } else {
            list("7", &[object("a", "5")])
        }
    });
    scene.run(300, |second, scene| assert_eq!(scene.is_fresh(), second <= 60, "after {second} s")).await;
    assert!(scene.asked().len() < 100, "{} requests in five minutes", scene.asked().len());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_carries_nothing_is_given_up_and_the_watch_resumed_where_it_was() {
    let scene = Scene::new(|asked, _| match (asked.is_watch(), asked.get("resourceVersion")) {
        (false, _) => list("7", &[object("a", "5")]),
        (true, "7") => Answer::HalfOpen(vec![event("ADDED", &object("b", "8"))]),
        _ => Answer::HalfOpen(Vec::new()),
    });
    scene.run(600, |second, scene| assert!(scene.is_fresh(), "after {second} s")).await;
    assert_eq!((scene.lists(), scene.names()), (1, vec!["a@5".to_owned(), "b@8".to_owned()]));
    let watches = scene.asked().len() - 1;
    assert!((600 / 37..=600 / 30).contains(&watches), "{watches} watches in ten minutes");
    assert_eq!(scene.asked()[2].get("resourceVersion"), "8");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_is_listed_again_and_what_the_list_does_not_show_is_gone() {
    let scene = Scene::new(|asked, number| match (asked.is_watch(), number) {
        (false, 0) => list("7", &[object("a", "5"), object("b", "6")]),
        (false, _) => list("20", &[object("b", "15")]),
        (true, 1) => Answer::Events(vec![expired()], Duration::ZERO),
        (true, _) => Answer::Events(Vec::new(), LONG),
    });
    scene.run(120, |second, scene| assert!(scene.is_fresh(), "after {second} s")).await;
    assert_eq!((scene.lists(), scene.told("fitness")), (2, 1));
    assert_eq!(scene.names(), ["b@15"]);
    assert_eq!(scene.asked().last().unwrap().get("resourceVersion"), "20");
}

#[tokio::test(start_paused = true)]
async fn an_open_that_is_answered_with_gone_is_a_relist_too() {
    let gone = || json!({"kind": "Status", "code": 410, "reason": "Gone", "message": "too old"});
    let scene = Scene::new(move |asked, number| match (asked.is_watch(), number) {
        (false, _) => list("7", &[]),
        (true, 1) => Answer::Json(410, gone()),
        (true, _) => Answer::Events(Vec::new(), LONG),
    });
    scene.run(60, |_, scene| assert!(scene.is_fresh())).await;
    assert_eq!(scene.lists(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages() {
    let scene = Scene::new(|asked, _| match (asked.is_watch(), asked.get("continue")) {
        (false, "") => {
            assert_eq!(asked.get("limit"), "100");
            let metadata = json!({"resourceVersion": "7", "continue": "next"});
            Answer::Json(200, json!({"metadata": metadata, "items": [object("a", "1")]}))
        }
        (false, "next") => list("7", &[object("b", "2")]),
        _ => Answer::Events(Vec::new(), LONG),
    });
    scene.run(10, |_, scene| assert!(scene.is_fresh())).await;
    assert_eq!(
        (scene.names(), scene.asked()[2].get("resourceVersion")),
        (vec!["a@1".into(), "b@2".into()], "7")
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_row_is_that_objects_alone_and_ends_when_it_can_be_read() {
    let scene = Scene::new(|asked, number| match (asked.is_watch(), number) {
        (false, _) => list("7", &[object("a", "5"), object("bad", "666"), object("c", "6")]),
        (true, 2) => Answer::Events(vec![event("MODIFIED", &object("bad", "8"))], LONG),
        (true, _) => Answer::Events(Vec::new(), LONG),
    });
    scene
        .run(50, |second, scene| {
            let others = scene.table.reading_of("mcp", Timestamp::UNIX_EPOCH, (), |key, _| &*key.name == "a");
            assert_eq!(others, Reading::Fresh(()));
            match (second, scene.reading()) {
                (..=27, Reading::Unavailable(why)) => {
                    assert!(why.starts_with("ConfigMap mcp/bad cannot be read: panicked: "), "{why}");
                    assert_eq!(scene.names(), ["a@5", "c@6"]);
                }
                (30.., Reading::Fresh(())) => assert_eq!(scene.names(), ["a@5", "bad@8", "c@6"]),
                (28 | 29, _) => {}
                (_, other) => panic!("after {second} s: {other:?}"),
            }
        })
        .await;
    assert_eq!(scene.told("readable"), 2);
}

#[test]
fn above_two_hundred_watches_all_is_four_times_as_slow() {
    for _ in 0..100 {
        assert!((25..=30).contains(&Pace::of_watches(200).watch_seconds()));
        assert!((100..=120).contains(&Pace::of_watches(201).watch_seconds()));
    }
    assert_eq!(Pace::of_watches(200).stale_after(), Duration::from_mins(1));
    assert_eq!(Pace::of_watches(201).stale_after(), Duration::from_mins(4));
    let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
    assert_eq!(Pace::of_watches(1).stale_after_polls(second, second), minute);
    assert_eq!(Pace::of_watches(1).stale_after_polls(minute, second * 10), second * 130);
}
