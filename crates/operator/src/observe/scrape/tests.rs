#![allow(clippy::unwrap_used)]

use axum::{Router, http::StatusCode, response::Redirect, routing};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::observe::backoff::digest;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object(signals: &serde_json::Value) -> Arc<McpServerHealth> {
    let object = json!({
        "apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth",
        "metadata": {"name": "server", "namespace": "mcp"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "server"}, "signals": signals,
        },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A pod that has been ready since 1970.
fn pod(name: &str) -> Pod {
    Pod {
        name: name.to_owned(),
        uid: name.to_owned(),
        revision: String::new(),
        created: at(0),
        deleting: false,
        finished: false,
        ready: true,
        ready_changed: at(0),
        was_ready: true,
        address: None,
        unschedulable: None,
        placement: None,
        containers: Vec::new(),
        troubles: Vec::new(),
        lifecycle: mcp_health_core::signals::Lifecycle::default(),
    }
}

struct Server {
    scraped: Scraped,
    look: Look,
}

impl Server {
    fn new(signals: &serde_json::Value) -> Self {
        let asked = |name: &str| Asked {
            name: name.to_owned(),
            address: "127.0.0.1:1".parse().unwrap(),
            ready: true,
            restarts: 0,
        };
        let look = Look {
            key: Key::new("mcp", "server"),
            object: object(signals),
            pods: vec![asked("a"), asked("b")],
            port: 8000,
        };
        Self { scraped: Scraped::new(Duration::from_secs(15), Naming::default()), look }
    }

    /// Both pods answer this; then the look is over.
    fn hear(&self, answers: [Result<&str, &str>; 2], second: i64) {
        for (pod, answer) in self.look.pods.iter().zip(answers) {
            let refused = |why: &str| match why.strip_prefix("it answers ").map(str::parse) {
                Some(Ok(status)) => NoMetrics::of(status, &HeaderMap::new()),
                _ => NoMetrics::new(why, Reception::Failed),
            };
            let answer = answer.map(str::to_owned).map_err(refused);
            self.scraped.note(&self.look, pod, answer, at(second));
        }
        self.scraped.end(&self.look, |_| true);
    }

    fn reading(&self, second: i64) -> Reading<Metrics> {
        self.scraped.reading(&self.look.key, &self.look.object, &[pod("a"), pod("b")], at(second))
    }
}

#[test]
fn a_server_without_metrics_is_no_fault_unless_its_policy_wants_them_and_then_it_says_why() {
    let server = Server::new(&json!({}));
    assert_eq!(server.reading(0), Reading::Off);
    server.hear([Err("it answers 404"), Err("no connection")], 0);
    assert_eq!(server.reading(0), Reading::Off);
    let wanted = Server::new(&json!({"scrape": {"path": "/stats"}}));
    assert_eq!(wanted.reading(0), Reading::Off);
    wanted.hear([Err("it answers 404"), Err("no connection")], 0);
    // The first reason stands: which pod is slower today is no news.
    wanted.hear([Err("no connection"), Err("it answers 404")], 15);
    assert_eq!(wanted.reading(15), Reading::Unavailable("GET :8000/stats: it answers 404".to_owned()));
    wanted.hear([Ok("<html></html>"), Ok("mcp_sessions 1\n")], 30);
    assert!(matches!(wanted.reading(30), Reading::Fresh(_)));
}

impl Server {
    /// How often it is asked in an hour in which it answers so.
    async fn asked_in_an_hour(&self, is_declared: bool, answer: &str) -> usize {
        let mut asked = 0;
        for second in 0..240 {
            if self.scraped.takes_part(&self.look.key, 1, is_declared) {
                asked += 1;
                self.hear([Err(answer), Err(answer)], second * 15);
            }
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        asked
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_had_metrics_is_asked_less_and_less_and_at_once_where_its_template_or_policy_changes() {
    for status in [404, 405, 501] {
        let server = Server::new(&json!({}));
        let absent = format!("it answers {status}");
        let first = server.asked_in_an_hour(false, &absent).await;
        assert!((8..=9).contains(&first), "{status}: {first}");
        let later =
            server.asked_in_an_hour(false, &absent).await + server.asked_in_an_hour(false, &absent).await;
        assert!((2..=3).contains(&later), "{status}: {later}");
        assert!(!server.scraped.takes_part(&server.look.key, 1, false));
        assert!(server.scraped.takes_part(&server.look.key, 2, false));
    }
    let declared = Server::new(&json!({"scrape": {}}));
    let first = declared.asked_in_an_hour(true, "it answers 404").await;
    assert!((12..=20).contains(&first), "every five minutes: {first}");
    // What fails otherwise may be about to come.
    let failing = Server::new(&json!({"scrape": {}}));
    assert_eq!(failing.asked_in_an_hour(true, "it answers 500").await, 240);
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_metrics_were_told_once_is_asked_each_period_whatever_it_answers() {
    let server = Server::new(&json!({}));
    server.hear([Ok("mcp_sessions 1\n"), Ok("mcp_sessions 2\n")], 0);
    assert_eq!(server.asked_in_an_hour(false, "it answers 404").await, 240);
}

#[test]
fn metrics_are_stale_once_no_pod_that_should_has_answered_for_a_while() {
    let server = Server::new(&json!({}));
    server.hear([Ok("mcp_sessions 1\n"), Ok("mcp_sessions 2\n")], 1000);
    server.hear([Ok("mcp_sessions 1\n"), Err("no connection")], 1100);
    assert!(matches!(server.reading(1100), Reading::Fresh(_)));
    assert!(matches!(server.reading(1160), Reading::Fresh(_)));
    let Reading::Stale { at: last, .. } = server.reading(1161) else { panic!("it is stale") };
    assert_eq!(last, at(1100));
    // Where none is ready for so long, none has to answer.
    let unready = [Pod { ready: false, ..pod("a") }, Pod { ready_changed: at(1150), ..pod("b") }];
    let reading = server.scraped.reading(&server.look.key, &server.look.object, &unready, at(1161));
    assert!(matches!(reading, Reading::Fresh(_)));
}

#[tokio::test]
async fn a_pod_is_asked_at_its_own_address_and_no_redirect_is_followed() {
    let too_long = "x 1\n".repeat(LONGEST / 4 + 1);
    let router = Router::new()
        .route("/metrics", routing::get("mcp_sessions 1\n"))
        .route("/elsewhere", routing::get(|| async { Redirect::temporary("/metrics") }))
        .route("/refused", routing::get(|| async { StatusCode::FORBIDDEN }))
        .route("/long", routing::get(|| async move { too_long }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let ask = async |path| get(address, path).await.map_err(|one| one.said);
    assert_eq!(ask("/metrics").await.as_deref(), Ok("mcp_sessions 1\n"));
    let failed = |why: &str| Err(why.to_owned());
    assert_eq!(ask("/elsewhere").await, failed("it answers 307"));
    assert_eq!(ask("/refused").await, failed("it answers 403"));
    assert_eq!(ask("/long").await, failed("the connection broke off, or told more than 4 MiB"));
    serving.abort();
    assert!(serving.await.is_err());
    assert_eq!(ask("/metrics").await, failed("no connection"));
}

#[test]
fn servers_have_their_turns_over_the_whole_period() {
    let mut turns = [0; 15];
    for number in 0..1000 {
        turns[usize::try_from(digest(&Key::new("mcp", &format!("server-{number}"))) % 15).unwrap()] += 1;
    }
    assert!(turns.iter().all(|servers| (40..100).contains(servers)), "{turns:?}");
}
