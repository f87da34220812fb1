#![allow(clippy::unwrap_used)]

use axum::{Router, http::StatusCode, response::Redirect, routing};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

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
            let answer = answer.map(str::to_owned).map_err(str::to_owned);
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

#[test]
fn what_never_had_metrics_is_asked_less_often_unless_its_policy_wants_them() {
    let server = Server::new(&json!({}));
    server.hear([Err("it answers 404"), Err("it answers 404")], 0);
    let periods = (1..100).find(|_| server.scraped.takes_part(&server.look.key)).unwrap();
    assert_eq!(periods, REST + 1);
    let wanted = Server::new(&json!({"scrape": {}}));
    wanted.hear([Err("it answers 404"), Err("it answers 404")], 0);
    assert!(wanted.scraped.takes_part(&wanted.look.key));
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
    let client: Asking = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let ask = async |path| get(&client, address, path).await;
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
        turns[usize::try_from(place(&Key::new("mcp", &format!("server-{number}"))) % 15).unwrap()] += 1;
    }
    assert!(turns.iter().all(|servers| (40..100).contains(servers)), "{turns:?}");
}
