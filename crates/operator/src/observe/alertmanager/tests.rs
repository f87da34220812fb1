#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// As Alertmanager writes one.
fn alert(fingerprint: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    labels["alertname"] = json!("McpSlow");
    json!({
        "annotations": {"summary": "P99 is\n 2.1 s", "description": "long"},
        "endsAt": "2026-01-01T00:05:00.000Z",
        "fingerprint": fingerprint,
        "receivers": [{"name": "nobody"}],
        "startsAt": "2026-01-01T00:00:00.000Z",
        "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2026-01-01T00:01:00.000Z",
        "labels": labels,
    })
}

fn listed(alerts: &[Value]) -> BTreeMap<String, Vec<Labelled>> {
    read(&serde_json::to_vec(alerts).unwrap()).unwrap()
}

fn source() -> Alerts {
    Alerts::new("http://127.0.0.1:1".parse().unwrap(), Duration::from_secs(15))
}

/// The alerts on `mcp/server`, which has the pod `server-1` and a Service `front`.
fn seen(alerts: &Alerts, now: i64) -> Reading<Vec<String>> {
    let names = |all: Vec<Alert>| all.into_iter().map(|one| one.fingerprint).collect();
    match alerts.reading("mcp", "server", (&["server-1"], &["front"]), at(now)) {
        Reading::Fresh(all) => Reading::Fresh(names(all)),
        Reading::Stale { value, at } => Reading::Stale { value: names(value), at },
        Reading::Unavailable(why) => Reading::Unavailable(why),
        Reading::Forbidden(why) => Reading::Forbidden(why),
        Reading::Off => Reading::Off,
    }
}

#[test]
fn an_alert_is_a_servers_by_namespace_and_pod_service_or_deployment() {
    let alerts = source();
    let about = |label: &str, value: &str| json!({"namespace": "mcp", label: value});
    alerts.take(
        listed(&[
            alert("pod", &about("pod", "server-1")),
            alert("service", &about("service", "front")),
            alert("deployment", &about("deployment", "server")),
            alert("other pod", &about("pod", "server-2")),
            alert("other Service", &about("service", "back")),
            alert("other deployment", &about("deployment", "server-1")),
            alert("the namespace alone", &json!({"namespace": "mcp"})),
            alert("other namespace", &json!({"namespace": "other", "deployment": "server"})),
            alert("no namespace", &json!({"deployment": "server"})),
        ]),
        at(100),
    );
    let expected = ["pod", "service", "deployment"].map(str::to_owned).to_vec();
    assert_eq!(seen(&alerts, 100), Reading::Fresh(expected));
}

#[test]
fn what_an_alert_says_is_one_short_line_without_credentials() {
    let mut long = alert("a", &json!({"namespace": "mcp", "pod": "server-1", "severity": "critical"}));
    let read_one = |one: &Value| listed(std::slice::from_ref(one))["mcp"][0].alert.clone();
    let told = read_one(&long);
    assert_eq!(told.summary.as_deref(), Some("P99 is 2.1 s"));
    assert_eq!((told.name.as_str(), told.severity.as_deref()), ("McpSlow", Some("critical")));
    assert_eq!(told.since, "2026-01-01T00:00:00Z".parse().unwrap());
    long["annotations"] = json!({"description": format!("password=hunter2 {}", "x".repeat(9000))});
    let told = read_one(&long).summary.unwrap();
    assert!(told.starts_with("password=*** ") && told.len() < 330, "{told}");
    long["annotations"] = json!({});
    assert_eq!(read_one(&long).summary, None);
}

#[test]
fn one_that_cannot_be_read_does_not_hide_the_others_and_garbage_is_no_answer() {
    let good = alert("a", &json!({"namespace": "mcp", "pod": "server-1"}));
    let mut odd = good.clone();
    odd["labels"]["pod"] = json!({"no": "string"});
    assert_eq!(listed(&[odd.clone(), json!(null), good])["mcp"].len(), 1);
    assert!(listed(&[]).is_empty());
    for garbage in [&b"{}"[..], b"", b"<html>", b"[1, 2]", b"{\"status\": \"error\"}"] {
        assert!(read(garbage).is_none(), "{}", String::from_utf8_lossy(garbage));
    }
    assert!(read(&serde_json::to_vec(&[odd]).unwrap()).is_none());
}

#[test]
fn a_source_that_fails_is_unavailable_before_its_first_answer_and_stale_some_time_after_it() {
    let alerts = source();
    assert_eq!(seen(&alerts, 0), Reading::Off, "not asked yet");
    assert!(alerts.fail("no connection to Alertmanager"));
    assert!(!alerts.fail("Alertmanager answers 503"));
    assert_eq!(seen(&alerts, 0), Reading::Unavailable("no connection to Alertmanager".to_owned()));
    let fires = [alert("a", &json!({"namespace": "mcp", "pod": "server-1"}))];
    alerts.take(listed(&fires), at(100));
    assert_eq!(seen(&alerts, 100), Reading::Fresh(vec!["a".to_owned()]));
    assert!(alerts.fail("Alertmanager answers 503"));
    assert_eq!(seen(&alerts, 160), Reading::Fresh(vec!["a".to_owned()]), "a miss is no news");
    assert_eq!(seen(&alerts, 161), Reading::Stale { value: vec!["a".to_owned()], at: at(100) });
    alerts.take(listed(&[]), at(165));
    assert_eq!(seen(&alerts, 165), Reading::Fresh(Vec::new()));
    let silent = Reading::Stale { value: Vec::new(), at: at(165) };
    assert_eq!(seen(&alerts, 226), silent, "silence is no answer, though nothing has failed");
}

#[test]
fn only_a_namespace_in_which_an_alert_begins_or_ends_is_named() {
    let alerts = source();
    let one = |fingerprint: &str, namespace: &str| {
        alert(fingerprint, &json!({"namespace": namespace, "deployment": "server"}))
    };
    assert_eq!(alerts.take(listed(&[one("a", "mcp"), one("b", "other")]), at(0)), ["mcp", "other"]);
    let mut again = one("a", "mcp");
    again["annotations"]["summary"] = json!("P99 is 2.2 s");
    assert!(alerts.take(listed(&[again.clone(), one("b", "other")]), at(15)).is_empty());
    assert_eq!(alerts.take(listed(&[again.clone(), one("c", "other")]), at(30)), ["other"]);
    assert_eq!(alerts.take(listed(&[one("c", "other")]), at(45)), ["mcp"]);
}

/// What is told of a server that answers every request with these bytes; none: it never does.
async fn asked(answer: Option<String>) -> Result<usize, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/am/", listener.local_addr().unwrap()).parse().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
        assert!(
            asked.starts_with("GET /am/api/v2/alerts?active=true&silenced=false&inhibited=false "),
            "{asked}"
        );
        match answer {
            // The one who asks may have had enough before the end.
            Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
            None => std::future::pending().await,
        }
    };
    let client = web::client(&web::trust("").unwrap()).unwrap();
    let asking = ask(&client, &url, Duration::from_secs(1));
    tokio::pin!(asking);
    tokio::select! {
        told = &mut asking => return told.map(|all| all.len()),
        () = serve => {}
    }
    asking.await.map(|all| all.len())
}

#[tokio::test]
async fn whatever_answers_ends_in_alerts_or_in_a_sentence() {
    let answer = |status: &str, body: &str| {
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let fires = json!([alert("a", &json!({"namespace": "mcp", "pod": "server-1"}))]).to_string();
    assert_eq!(asked(answer("200 OK", &fires)).await, Ok(1));
    assert_eq!(asked(answer("200 OK", "[]")).await, Ok(0));
    let why = async |answer| asked(answer).await.unwrap_err();
    assert_eq!(why(answer("503 Service Unavailable", "")).await, "Alertmanager answers 503");
    assert_eq!(why(answer("302 Found", "")).await, "Alertmanager answers 302");
    assert_eq!(why(answer("200 OK", "<html>")).await, "what Alertmanager answers is no list of alerts");
    assert_eq!(why(None).await, "Alertmanager has not answered within 1 s");
    assert_eq!(why(Some("nonsense\r\n\r\n".to_owned())).await, "Alertmanager: the connection broke off");
    let long = answer("200 OK", &" ".repeat(LONGEST + 1));
    assert_eq!(why(long).await, "Alertmanager's answer is longer than 8388608 bytes");
    let client = web::client(&web::trust("").unwrap()).unwrap();
    let nobody = ask(&client, &"http://127.0.0.1:1".parse().unwrap(), PATIENCE).await;
    assert_eq!(nobody.unwrap_err(), "Alertmanager: connection refused");
}
