//! What is asked before an effect is sent, and what an answer, or none, comes to.

use super::*;
use crate::act::Confirmed;

/// An API server that answers by the path; `None` is no answer at all.
fn by_path(
    answer: impl Fn(&str) -> Option<(StatusCode, Value)> + Send + 'static,
) -> (kube::Client, Arc<Mutex<Vec<String>>>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let path = request.uri().path().to_owned();
            kept.lock().unwrap().push(format!("{} {path}", request.method()));
            match answer(&path) {
                Some((status, body)) => {
                    let body = Body::from(serde_json::to_vec(&body).unwrap());
                    send.send_response(Response::builder().status(status).body(body).unwrap());
                }
                None => unanswered.push(send),
            }
        }
    });
    (kube::Client::new(service, "mcp"), asked)
}

/// The world as it was decided on; a test changes one answer.
fn unchanged(path: &str) -> (StatusCode, Value) {
    let body = match path {
        "/api/v1/namespaces/mcp-health-system/configmaps/switch" => {
            json!({"metadata": {"name": "switch"}, "data": {"suspend": "false"}})
        }
        "/api/v1/namespaces/mcp" => json!({"metadata": {"name": "mcp"}}),
        "/api/v1/namespaces/mcp/pods/mcp-server-1-a" => live_pod("uid-of-a", "False"),
        other => panic!("{other} is not asked for"),
    };
    (StatusCode::OK, body)
}

fn live_pod(uid: &str, ready: &str) -> Value {
    json!({"metadata": {"name": "mcp-server-1-a", "uid": uid},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}})
}

const SWITCH: &str = "/api/v1/namespaces/mcp-health-system/configmaps/switch";
const NAMESPACE: &str = "/api/v1/namespaces/mcp";
const POD: &str = "/api/v1/namespaces/mcp/pods/mcp-server-1-a";

/// What comes of it where one path is answered differently.
async fn confirm(
    of: &'static str,
    changed: Option<(StatusCode, Value)>,
    seen_ready: bool,
) -> Result<Confirmed, crate::error::Error> {
    let (client, _) = by_path(move |path| if path == of { changed.clone() } else { Some(unchanged(path)) });
    let mut seen = pod("uid-of-a", false);
    seen.ready = seen_ready;
    let pods = [seen];
    let switch = Some(("mcp-health-system", "switch"));
    Executor { pods: &pods, switch, ..target(&client) }.confirm(&recycling().steps).await
}

#[tokio::test]
async fn an_eviction_asks_for_the_switch_the_namespace_and_the_pod_and_goes_on_where_all_are_unchanged() {
    let (client, asked) = by_path(|path| Some(unchanged(path)));
    let pods = [hooks::pod("a", None, false, 0, 0)];
    let switch = Some(("mcp-health-system", "switch"));
    let target = Executor { pods: &pods, switch, ..target(&client) };
    assert_eq!(target.confirm(&recycling().steps).await.unwrap(), Confirmed::Unchanged);
    let mut asked_for = asked.lock().unwrap().clone();
    asked_for.sort();
    assert_eq!(asked_for, [NAMESPACE, SWITCH, POD].map(|path| format!("GET {path}")).to_vec());
    // What evicts no pod asks for none, and where there is no switch, there is nothing to ask.
    asked.lock().unwrap().clear();
    let target = Executor { switch: None, ..target };
    assert_eq!(target.confirm(&attempt().steps).await.unwrap(), Confirmed::Unchanged);
    assert_eq!(*asked.lock().unwrap(), [format!("GET {NAMESPACE}")]);
}

#[tokio::test]
async fn what_has_changed_in_the_meantime_is_named_and_nothing_is_done() {
    let ok = |body: Value| Some((StatusCode::OK, body));
    let gone = || Some(refusal(404, "not found"));
    let suspended = json!({"metadata": {"name": "mcp", "annotations": {"mcphealth.dev/suspend": "true"}}});
    let ending = json!({"metadata": {"name": "mcp", "deletionTimestamp": "2026-01-01T12:00:00Z"}});
    let rows = [
        (SWITCH, ok(json!({"metadata": {}, "data": {"suspend": "true"}})), "suspended for the whole cluster"),
        (NAMESPACE, ok(suspended), "namespace mcp was suspended"),
        (NAMESPACE, ok(ending), "namespace mcp is being deleted"),
        (NAMESPACE, gone(), "namespace mcp is gone"),
        (POD, ok(live_pod("uid-of-a", "True")), "pod mcp-server-1-a became ready"),
    ];
    for (path, answer, says) in rows {
        let Confirmed::Changed(why) = confirm(path, answer, false).await.unwrap() else { panic!("{says}") };
        assert!(why.contains(says), "{why}");
    }
    // No switch is no suspension; a pod that is gone, or was ready when it was chosen, is the eviction's to judge.
    for (path, answer, seen_ready) in [
        (SWITCH, gone(), false),
        (POD, gone(), false),
        (POD, ok(live_pod("another", "True")), false),
        (POD, ok(live_pod("uid-of-a", "True")), true),
    ] {
        assert_eq!(confirm(path, answer, seen_ready).await.unwrap(), Confirmed::Unchanged, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nothing_is_done_and_a_missing_right_is_named() {
    for path in [SWITCH, NAMESPACE, POD] {
        for answer in [None, Some(refusal(500, "etcd")), Some(refusal(429, "busy"))] {
            let error = confirm(path, answer, false).await.unwrap_err();
            assert!(error.to_string().contains("the attempt is recorded"), "{path}: {error}");
        }
        let Confirmed::Forbidden(why) = confirm(path, Some(refusal(403, "no")), false).await.unwrap() else {
            panic!("{path}: it is forbidden")
        };
        assert!(why.contains("the operator may not get"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_have_changed_counts_whatever_else_is_not_answered() {
    let (client, _) = by_path(|path| match path {
        SWITCH => Some((StatusCode::OK, json!({"metadata": {}, "data": {"suspend": "yes"}}))),
        _ => None,
    });
    let switch = Some(("mcp-health-system", "switch"));
    let confirmed = Executor { switch, ..target(&client) }.confirm(&attempt().steps).await.unwrap();
    assert!(matches!(confirmed, Confirmed::Changed(_)));
}
