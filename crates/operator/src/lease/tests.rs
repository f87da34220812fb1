//! The lease against a Lease object that is kept by hand, with a clock that only goes on where all wait.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use clap::Parser;
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower_test::mock;

use super::*;
use crate::client::tests::silent;

/// A lease of so many milliseconds for this operator.
fn lease(identity: &str, milliseconds: u64) -> Lease {
    let duration = format!("{milliseconds}ms");
    let config = ["operator", "--identity", identity, "--lease-duration", duration.as_str()];
    Lease::new(&Config::try_parse_from(config).unwrap())
}

/// A lease of 15 s of which so much is left.
pub fn with_left(left: Duration) -> Lease {
    let lease = lease("operator-0", 15_000);
    *lease.until.as_ref().unwrap().lock().unwrap() = Instant::now() + left;
    lease
}

/// The Lease object, and whether calls are answered.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    silent: bool,
    /// How often the Lease was written.
    writes: usize,
}

impl Server {
    fn answer(&mut self, method: &Method, body: Value) -> (StatusCode, Value) {
        let gone = || {
            (
                StatusCode::NOT_FOUND,
                json!({"kind": "Status", "code": 404, "reason": "NotFound", "status": "Failure"}),
            )
        };
        match (method, &self.lease) {
            (&Method::GET, Some(lease)) => return (StatusCode::OK, lease.clone()),
            (&Method::GET | &Method::PUT, None) => return gone(),
            (&Method::PUT, Some(lease))
                if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] =>
            {
                return (
                    StatusCode::CONFLICT,
                    json!({"kind": "Status", "code": 409, "reason": "Conflict", "status": "Failure"}),
                );
            }
            (&Method::POST, Some(_)) => {
                return (
                    StatusCode::CONFLICT,
                    json!({"kind": "Status", "code": 409, "reason": "AlreadyExists", "status": "Failure"}),
                );
            }
            _ => {}
        }
        self.write(body);
        self.writes += 1;
        (StatusCode::OK, self.lease.clone().unwrap())
    }

    fn write(&mut self, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease);
    }

    fn held_by(&mut self, identity: &str, seconds: i32) {
        let renewed = format!("2026-01-01T12:00:00.{:06}Z", self.version);
        self.write(json!({"metadata": {"name": "mcp-health-operator"},
            "spec": {"holderIdentity": identity, "leaseDurationSeconds": seconds, "renewTime": renewed}}));
    }

    fn spec(&self, field: &str) -> &Value {
        &self.lease.as_ref().unwrap()["spec"][field]
    }
}

fn serving(server: Server) -> (Arc<Mutex<Server>>, Api<Object>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let server = Arc::new(Mutex::new(server));
    let kept = Arc::clone(&server);
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            if kept.lock().unwrap().silent {
                unanswered.push(send);
                continue;
            }
            let (status, body) = kept.lock().unwrap().answer(&parts.method, body);
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            send.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    (server, Api::namespaced(kube::Client::new(service, "mcp-health-system"), "mcp-health-system"))
}

const YES: fn() -> std::future::Ready<bool> = || std::future::ready(true);
const NO: fn() -> std::future::Ready<bool> = || std::future::ready(false);

/// After how many seconds the lease is held.
async fn seconds_to_acquire(server: Server, is_first: fn() -> std::future::Ready<bool>) -> f64 {
    let (_, api) = serving(server);
    let begun = Instant::now();
    lease("operator-1", 15_000).acquire(&api, is_first).await;
    begun.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_never_there_is_taken_at_once_only_where_no_operator_was_ever_at_work() {
    assert!(seconds_to_acquire(Server::default(), YES).await < 0.1);
    let waited = seconds_to_acquire(Server::default(), NO).await;
    assert!((15.0..17.0).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_waited_for_as_long_as_its_leader_may_believe_in_it() {
    let mut held = Server::default();
    held.held_by("operator-0", 40);
    let (server, api) = serving(held);
    let candidate = lease("operator-1", 15_000);
    let begun = Instant::now();
    let deletion = async {
        sleep(Duration::from_secs(10)).await;
        server.lock().unwrap().lease = None;
    };
    // Whether this is a first installation is not asked any more: there was a leader.
    tokio::join!(candidate.acquire(&api, YES), deletion);
    let waited = begun.elapsed().as_secs_f64();
    assert!((50.0..52.0).contains(&waited), "{waited}");
    assert_eq!(server.lock().unwrap().spec("holderIdentity"), "operator-1");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_deleted_or_taken_ends_at_its_next_renewal() {
    for taken in [false, true] {
        let (server, api) = serving(Server::default());
        let leader = lease("operator-0", 15_000);
        leader.acquire(&api, YES).await;
        if taken {
            server.lock().unwrap().held_by("operator-1", 15);
        } else {
            server.lock().unwrap().lease = None;
        }
        let begun = Instant::now();
        leader.keep(&api).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_when_its_lease_is_over_and_not_later() {
    let (server, api) = serving(Server::default());
    let leader = lease("operator-0", 15_000);
    leader.acquire(&api, YES).await;
    let begun = Instant::now();
    server.lock().unwrap().silent = true;
    leader.keep(&api).await;
    let held = begun.elapsed().as_secs_f64();
    assert!((14.9..=15.01).contains(&held), "{held}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_renews_goes_on() {
    let (server, api) = serving(Server::default());
    let leader = lease("operator-0", 15_000);
    leader.acquire(&api, YES).await;
    let renewed = tokio::time::timeout(Duration::from_secs(100), leader.keep(&api)).await;
    assert!(renewed.is_err(), "it goes on");
    assert!(leader.has_left());
    assert!(server.lock().unwrap().writes > 20);
}

#[tokio::test(start_paused = true)]
async fn another_leader_is_waited_for_from_the_answer_that_shows_it() {
    let mut held = Server::default();
    held.held_by("operator-0", 15);
    let waited = seconds_to_acquire(held, YES).await;
    assert!((15.0..17.0).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_no_shorter_than_what_is_believed() {
    let (server, api) = serving(Server::default());
    let leader = lease("operator-0", 2_500);
    leader.acquire(&api, YES).await;
    assert_eq!(server.lock().unwrap().spec("leaseDurationSeconds"), 3);
    assert!(leader.until().unwrap() <= Instant::now() + Duration::from_millis(2_500));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_gets_no_answer_asks_again() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let asked = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while unanswered.len() < 3 {
            unanswered.push(handle.next_request().await.unwrap());
        }
    });
    let api: Api<Object> = Api::namespaced(kube::Client::new(service, "x"), "x");
    let candidate = lease("operator-1", 15_000);
    tokio::select! {
        () = candidate.acquire(&api, NO) => panic!("there is no answer"),
        asked = asked => asked.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn whether_an_operator_was_at_work_is_not_told_by_silence() {
    let config = Config::try_parse_from(["operator"]).unwrap();
    assert!(!crate::status::none_was_written(&silent(), &config).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_lease_allows_an_effect_or_a_record_and_an_effect() {
    for (left, effect, record) in
        [(15_000, true, true), (12_000, true, false), (8_500, true, false), (8_400, false, false)]
    {
        let lease = with_left(Duration::from_millis(left));
        assert_eq!((lease.has_left(), lease.has_left_to_record()), (effect, record), "{left} ms");
    }
}
