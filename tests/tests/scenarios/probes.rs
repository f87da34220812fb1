//! Servers that are asked how they are: by their pods, and through their Service.

use mcp_health_api::Answered;
use mcp_health_e2e::{ConditionType, Reason, Server, Story, forward::Forward, host, python::Python, until};
use serde_json::json;

/// What the pod of a server tells of itself by `GET /metrics`: the sum of a metric's series whose labels contain this.
async fn metric(server: &Server, name: &str, labels: &str) -> f64 {
    let pod = server.pod_names().await.first().expect("a pod").clone();
    let page = until("the server's metrics", async || {
        let forward = Forward::open(&server.namespace, &format!("pod/{pod}"), 8000).await?;
        let answer = reqwest::get(format!("{}/metrics", forward.url)).await;
        answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
    })
    .await;
    let series = page.lines().filter(|line| line.starts_with(name) && line.contains(labels));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Awaits that this was answered at least once.
async fn answered(server: &Server, wanted: &[Answered]) {
    server
        .policy
        .until(&format!("answered: {wanted:?}"), |status| {
            let answered = &status.target.as_ref()?.answered;
            wanted.iter().all(|one| answered.contains(one)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_server_that_is_well_is_asked_by_its_pod_and_its_service_and_its_own_traffic_does_not_grow() {
    let story = Story::begin("probes").await;
    let signals = json!({"signals": {"mcp": {"interval": "1s"}, "http": {"interval": "1s"}}});
    let server = story.server().policy(signals).healthy().await;
    let ways = [Answered::McpPod, Answered::McpService, Answered::HealthPod, Answered::HealthService];
    answered(&server, &ways).await;
    server
        .policy
        .until("its tools are known", |status| {
            let tools = &status.target.as_ref()?.last_healthy.as_ref()?.tools;
            tools.iter().any(|tool| tool.name == "search").then_some(())
        })
        .await;
    until("it was asked ten times by each way", async || {
        let asked = story.operator().metric("mcp_health_operator_probes_total", r#"outcome="Ok""#).await;
        if asked >= 40.0 { Ok(()) } else { Err(format!("{asked}")) }
    })
    .await;
    assert!(metric(&server, "mcp_requests_total", "/mcp").await < 1.0, "nobody else has asked");
    assert!(metric(&server, "mcp_sessions", "").await <= 2.0, "one session a way at most");
    server.is_untouched().await;
    assert!(server.policy.status().await.incidents.is_empty());
}

/// Listens where nobody else can reach it.
const HIDDEN: &str = r#"
from http.server import HTTPServer, BaseHTTPRequestHandler

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"#;

#[tokio::test]
async fn a_server_that_was_never_answered_from_day_one_is_named_and_left_alone() {
    if !host::is_this_machine("a_server_that_was_never_answered_from_day_one_is_named_and_left_alone") {
        return;
    }
    let python = Python::ready().await;
    let mut pod = python.pod(HIDDEN);
    let program = pod["containers"][0]["command"][0].clone();
    let connect = "import socket; socket.create_connection(('127.0.0.1', 8000), 1)";
    pod["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": [program, "-c", connect]}, "periodSeconds": 2, "timeoutSeconds": 5});
    let story = Story::begin("never-answered").await;
    let signals = json!({"signals": {"mcp": {"interval": "1s"}, "http": {"interval": "1s"}}});
    let server = story.server().container(pod).policy(signals).applied().await;
    server.rolled_out().await;
    let missing = server
        .policy
        .until("its silence is named", |status| {
            let kind = ConditionType::SignalsAvailable.to_string();
            let told = status.conditions.iter().find(|one| one.type_ == kind)?;
            told.message.contains("NeverAnswered").then(|| told.clone())
        })
        .await;
    assert_eq!(missing.reason, Reason::SignalsMissing.to_string());
    assert!(missing.message.contains("refuses the connection"), "{missing:?}");
    until("it was asked many times", async || {
        let asked = story.operator().metric("mcp_health_operator_probes_total", r#"outcome="Refused""#).await;
        if asked >= 40.0 { Ok(()) } else { Err(format!("{asked}")) }
    })
    .await;
    let status = server.policy.status().await;
    assert!(status.incidents.is_empty() && status.history.is_empty(), "{status:#?}");
    server.is_untouched().await;
}

/// Speaks MCP to those who show its token.
const GATED: &str = r#"
import json
from http.server import ThreadingHTTPServer, BaseHTTPRequestHandler

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.headers.get("Authorization") != "Bearer planted-token":
            return self.answer(401, {"error": "not " + str(self.headers.get("Authorization"))})
        results = {
            "initialize": {
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "gated", "version": "1"},
            },
            "ping": {},
            "tools/list": {"tools": []},
        }
        if "id" not in body:
            return self.answer(202, None)
        if body.get("method") not in results:
            return self.answer(400, {"error": "what?"})
        self.answer(200, {"jsonrpc": "2.0", "id": body["id"], "result": results[body["method"]]})

    def answer(self, status, body):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

/// All that a person may read of a story, the Secret itself aside.
async fn all_words(story: &Story) -> String {
    let operator = format!("deployment/{}", story.operator().name());
    let mut words = vec![story.kubectl(&["logs", &operator]).await];
    for kind in ["mcph", "events", "events.events.k8s.io", "configmaps"] {
        words.push(story.kubectl(&["get", kind, "--output=yaml"]).await);
    }
    let metrics = until("the operator's metrics", async || {
        let forward = Forward::open(&story.namespace, &operator, 8080).await?;
        let answer = reqwest::get(format!("{}/metrics", forward.url)).await;
        answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
    });
    words.push(metrics.await);
    words.join("\n")
}

#[tokio::test]
async fn a_server_that_wants_a_token_is_shown_the_one_of_the_secret_and_nobody_else_sees_it() {
    if !host::is_this_machine(
        "a_server_that_wants_a_token_is_shown_the_one_of_the_secret_and_nobody_else_sees_it",
    ) {
        return;
    }
    let python = Python::ready().await;
    let values = ["signals.secrets=true", "log.level=debug"];
    let story = Story::begin_with_values("token", &values).await;
    let secret = |token: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mcp-auth"}, "stringData": {"token": token},
        })
        .to_string()
    };
    story.kubectl_with(&["apply", "--filename=-"], &secret("planted-token")).await.ok();
    let auth = json!({"tokenSecretRef": {"name": "mcp-auth", "key": "token"}});
    let signals = json!({"signals": {"mcp": {"interval": "1s", "auth": auth}, "http": {"enabled": false}}});
    let server = story.server().container(python.pod(GATED)).policy(signals).applied().await;
    server.rolled_out().await;
    answered(&server, &[Answered::McpPod, Answered::McpService]).await;

    // A token that the server does not know: it repeats it in its answer.
    story.kubectl_with(&["apply", "--filename=-"], &secret("planted-wrong")).await.ok();
    until("the wrong token is refused", async || {
        let labels = r#"outcome="Unauthorized""#;
        let count = story.operator().metric("mcp_health_operator_probes_total", labels).await;
        if count > 3.0 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    server.policy.considered_again().await;
    let words = all_words(&story).await;
    assert!(words.contains("mcp-auth"), "the policy names the Secret");
    assert!(!words.contains("planted"), "{words}");
    server.is_untouched().await;
}
