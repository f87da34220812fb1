//! Calls that are never answered, and calls that are refused: each ends in time, and is sent once.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, http::StatusCode, response::IntoResponse};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
};
use serde_json::json;
use tokio::net::TcpListener;
use tower_test::mock;

use super::*;

/// A client whose calls reach a server that never answers.
pub fn silent() -> Client {
    let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        let mut handle = handle;
        let mut unanswered = Vec::new();
        while let Some(request) = handle.next_request().await {
            unanswered.push(request);
        }
    });
    Client::new(InTime::new(service, Deadlines::default()), "mcp")
}

/// A real server on this machine that answers so, how often it was asked, and a client for it.
async fn serving(
    status: StatusCode,
    headers: &'static [(&'static str, &'static str)],
) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move || {
        count.fetch_add(1, Ordering::SeqCst);
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
            "message": "not now", "reason": "TooManyRequests"});
        let mut answer = axum::Json(body).into_response();
        *answer.status_mut() = status;
        for (name, value) in headers {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        std::future::ready(answer)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let config = Config::new(format!("http://{address}").parse().unwrap());
    (connect(&config, Deadlines::default()).unwrap(), asked)
}

fn after(error: &kube::Error) -> String {
    let kube::Error::Service(inner) = error else { panic!("{error:?}") };
    inner.downcast_ref::<TimedOut>().unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends_with_its_verb_its_object_and_its_seconds() {
    let client = silent();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "mcp");
    let path = "/api/v1/namespaces/mcp/configmaps";
    let begun = Instant::now();
    let patch = Patch::Merge(json!({}));
    let errors = [
        (maps.get("a").await.unwrap_err(), format!("GET {path}/a within 10 s")),
        (maps.list(&ListParams::default()).await.unwrap_err(), format!("LIST {path} within 30 s")),
        (
            maps.create(&PostParams::default(), &ConfigMap::default()).await.unwrap_err(),
            format!("POST {path} within 10 s"),
        ),
        (
            maps.patch("a", &PatchParams::default(), &patch).await.unwrap_err(),
            format!("PATCH {path}/a within 10 s"),
        ),
        (
            maps.delete("a", &DeleteParams::default()).await.unwrap_err(),
            format!("DELETE {path}/a within 10 s"),
        ),
        (maps.watch(&WatchParams::default(), "1").await.err().unwrap(), format!("WATCH {path} within 10 s")),
    ];
    for (error, says) in errors {
        assert_eq!(after(&error), format!("no answer to {says}"));
    }
    assert_eq!(begun.elapsed().as_secs(), 10 + 30 + 10 + 10 + 10 + 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_ends_at_the_deadline_of_its_call() {
    let stalls = |_: Request<Body>| async move {
        let first = stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"{"))]);
        let bytes = futures::StreamExt::chain(first, stream::pending());
        Ok::<_, BoxError>(Response::new(axum::body::Body::from_stream(bytes)))
    };
    let client = Client::new(InTime::new(tower::service_fn(stalls), Deadlines::default()), "mcp");
    let maps: Api<ConfigMap> = Api::namespaced(client, "mcp");
    let begun = Instant::now();
    let error = maps.get("a").await.unwrap_err();
    assert_eq!(after(&error), "no answer to GET /api/v1/namespaces/mcp/configmaps/a within 10 s");
    assert_eq!(begun.elapsed().as_secs(), 10);
    // A watch is such a body: it has the time that it asked for, and a margin.
    let watched = maps.watch(&WatchParams::default().timeout(28), "1").await.unwrap();
    let mut watched = std::pin::pin!(watched);
    let begun = Instant::now();
    let end = futures::TryStreamExt::try_next(&mut watched).await;
    assert!(end.unwrap_err().to_string().contains("WATCH /api/v1/namespaces/mcp/configmaps within 38 s"));
    assert_eq!(begun.elapsed().as_secs(), 38);
}

#[tokio::test]
async fn a_refusal_for_now_is_seen_at_once_and_is_asked_for_once() {
    for status in
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
    {
        let (client, asked) = serving(status, &[("retry-after", "1")]).await;
        let pods: Api<Pod> = Api::namespaced(client, "mcp");
        let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "a"}});
        let params = PostParams::default();
        let evicted = pods.create_subresource::<_, serde_json::Value>("eviction", "a", &params, &eviction);
        let Err(kube::Error::Api(refusal)) = evicted.await else { panic!("it is refused") };
        assert_eq!((refusal.code, asked.load(Ordering::SeqCst)), (status.as_u16(), 1));
        let patch = Patch::Merge(json!({}));
        assert!(pods.patch("a", &PatchParams::default(), &patch).await.is_err());
        assert!(pods.get("a").await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{status}: nothing is repeated, a read neither");
    }
}

#[tokio::test]
async fn a_peer_that_takes_the_connection_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    let short = Deadlines { call: Duration::from_millis(200), ..Deadlines::default() };
    // In clear text nothing answers the call; with TLS, not even the handshake.
    for scheme in ["http", "https"] {
        let config = Config::new(format!("{scheme}://{address}").parse().unwrap());
        let maps: Api<ConfigMap> = Api::namespaced(connect(&config, short).unwrap(), "mcp");
        let error = maps.get("a").await.unwrap_err();
        assert!(after(&error).ends_with("configmaps/a within 0.2 s"), "{scheme}: {error}");
    }
    held.abort();
}

#[test]
fn a_collection_is_told_from_an_object_by_its_path() {
    for (path, is) in [
        ("/api/v1/pods", true),
        ("/api/v1/namespaces", true),
        ("/api/v1/namespaces/mcp", false),
        ("/api/v1/namespaces/mcp/pods", true),
        ("/api/v1/namespaces/mcp/pods/a", false),
        ("/api/v1/namespaces/mcp/pods/a/log", false),
        ("/apis/apps/v1/deployments", true),
        ("/apis/apps/v1/namespaces/mcp/deployments/a", false),
        ("/apis/metrics.k8s.io/v1beta1/namespaces/mcp/pods", true),
        ("/api/v1", false),
        ("/apis", false),
        ("/version", false),
    ] {
        assert_eq!(is_collection(path), is, "{path}");
    }
}
