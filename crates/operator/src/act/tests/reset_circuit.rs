//! Circuits, reset on a pod that is there: a little server on this machine's own addresses.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{StatusCode as Answer, Uri},
    response::{IntoResponse, Redirect, Response as Page},
};
use mcp_health_core::signals::Pod;
use tokio::net::TcpListener;

use super::{hooks::pod, *};

/// A pod's server, and the paths that were posted to.
async fn served() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = |State(heard): State<Arc<Mutex<Vec<String>>>>, method: axum::http::Method, uri: Uri| async move {
        heard.lock().unwrap().push(format!("{method} {}", uri.path()));
        match uri.path() {
            path if path.contains("/hangs/") => std::future::pending::<Page>().await,
            path if path.contains("/refuses/") => Answer::CONFLICT.into_response(),
            path if path.contains("/elsewhere/") => Redirect::temporary("/x").into_response(),
            path if path.contains("/unknown/") => Answer::NOT_FOUND.into_response(),
            _ => Answer::NO_CONTENT.into_response(),
        }
    };
    let router = Router::new().fallback(hear).with_state(Arc::clone(&heard));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, heard)
}

/// Resets a circuit on pod `a`, whose uid is `uid-1`, as one step that was recorded by itself.
async fn reset(circuit: &str, port: u16, pods: &[Pod], state: StepState) -> Acted {
    let (client, sent) = api_server(Vec::new());
    let mut object = target(&client).object.clone();
    let http = json!({"circuitBreakers": "/admin/circuits/", "port": port});
    object.spec.signals.http = Some(serde_json::from_value(http).unwrap());
    let mut attempt = attempt();
    attempt.steps.truncate(1);
    let step = &mut attempt.steps[0];
    (step.effect, step.to, step.state) = (Effect::ResetCircuit, Some(circuit.to_owned()), state);
    step.object = Some("Pod/a".to_owned());
    let timeout = Duration::from_millis(300);
    let target = Executor { object: &object, pods, timeout, ..target(&client) };
    let acted = target.resume(&attempt, None).await.unwrap();
    assert!(sent.lock().unwrap().is_empty(), "no word to the API server");
    acted
}

fn a(address: Option<IpAddr>) -> Pod {
    Pod { uid: "uid-1".to_owned(), ..pod("a", address, true, 0, 10) }
}

fn note(acted: &Acted) -> &str {
    match acted {
        Acted::Done(done) => done[0].note.as_deref().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn refused(acted: Acted) -> (String, String) {
    match acted {
        Acted::Refused { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_circuit_is_reset_once_on_its_pod_and_on_no_other() {
    let (address, heard) = served().await;
    let pods = [Pod { uid: "uid-2".to_owned(), ..a(Some(address.ip())) }, a(Some(address.ip()))];
    let acted = reset("external-api", address.port(), &pods, StepState::Started).await;
    assert_eq!(note(&acted), "pod a has reset circuit external-api");
    assert_eq!(*heard.lock().unwrap(), ["POST /admin/circuits/external-api/reset"]);
}

#[tokio::test]
async fn the_name_of_a_circuit_leads_nowhere_else() {
    let (address, heard) = served().await;
    for name in ["../../shutdown?now=1#x", "a b/c", "ä%2f"] {
        reset(name, address.port(), &[a(Some(address.ip()))], StepState::Started).await;
    }
    let expected = [
        "POST /admin/circuits/%2E%2E%2F%2E%2E%2Fshutdown%3Fnow%3D1%23x/reset",
        "POST /admin/circuits/a%20b%2Fc/reset",
        "POST /admin/circuits/%C3%A4%252f/reset",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_pod_that_was_replaced_is_left_alone() {
    let (address, heard) = served().await;
    let another = Pod { uid: "uid-2".to_owned(), ..a(Some(address.ip())) };
    let going = Pod { deleting: true, ..a(Some(address.ip())) };
    for pods in [vec![another], vec![going], Vec::new()] {
        let acted = reset("external-api", address.port(), &pods, StepState::Started).await;
        assert_eq!(note(&acted), "pod a is gone, and its circuit with it");
    }
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_pod_answers_decides_how_it_ends() {
    let (address, heard) = served().await;
    let (port, pods) = (address.port(), [a(Some(address.ip()))]);
    for (circuit, reason, says) in [
        ("unknown", "CircuitUnknown", "pod a knows no circuit unknown to reset: it answered 404"),
        ("refuses", "ResetRefused", "pod a did not reset circuit refuses: it answered 409"),
        ("elsewhere", "ResetRefused", "pod a did not reset circuit elsewhere: it answered 307"),
    ] {
        let (named, message) = refused(reset(circuit, port, &pods, StepState::Started).await);
        assert_eq!(named, reason);
        assert!(message.starts_with(says), "{message}");
    }
    assert_eq!(heard.lock().unwrap().len(), 3, "a redirect is not followed");
    // It was asked, and may have done it: that is not repeated.
    let late = reset("hangs", port, &pods, StepState::Started).await;
    assert_eq!(note(&late), "pod a did not answer in time: it may have reset circuit hangs");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (named, message) = refused(reset("external-api", closed, &pods, StepState::Started).await);
    assert_eq!(named, "CircuitsOnlyOnLocalhost");
    assert!(message.contains("127.0.0.1 only"), "{message}");
    let nowhere = reset("external-api", port, &[a(None)], StepState::Started).await;
    assert!(matches!(nowhere, Acted::Superseded(_)));
}

#[tokio::test]
async fn a_reset_that_was_not_recorded_by_itself_is_not_made() {
    let (address, heard) = served().await;
    let acted = reset("external-api", address.port(), &[a(Some(address.ip()))], StepState::Recorded).await;
    assert_eq!(acted, Acted::Done(Vec::new()));
    assert!(heard.lock().unwrap().is_empty());
}
