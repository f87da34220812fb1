//! ResetCircuit: `POST` to the reset of one circuit breaker, on the pod that has it, and on nothing else.
//! Nothing tells afterwards whether it took place, so that it was recorded by itself before, and is never
//! repeated.

use std::{net::SocketAddr, time::Duration};

use http::{Method, StatusCode};
use mcp_health_api::Step;
use mcp_health_core::{attempt::Effected, circuits::name_words};
use net::Failed;
use tokio::time::Instant;

use super::{executor::Executor, stepped::Stepped};
use crate::pod_http;

/// How long the pod may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Resets the circuit, and says what came of it. No redirect is followed, and what an answer says beside its
/// status is not read.
pub async fn carry_out(target: &Executor<'_>, step: &Step) -> Stepped {
    let name = step.object.as_deref().and_then(|object| object.strip_prefix("Pod/")).unwrap_or_default();
    let named = step.to.as_deref().unwrap_or_default();
    let circuit = name_words(named);
    let Some(pod) = target.pods.iter().find(|pod| pod.uid == step.uid && pod.counts()) else {
        return done(format!("pod {name} is gone, and its circuit with it"));
    };
    let http = target.object.spec.signals.http.clone().unwrap_or_default();
    let Some((address, port)) = pod.address.zip(http.port.or(target.port)) else {
        return Stepped::superseded(format!("pod {name} has no address, or no port"));
    };
    let path = http.circuit_breakers.trim_end_matches('/');
    let address = SocketAddr::new(address, port);
    let reset = format!("{path}/{}/reset", encoded(named));
    let Ok(request) = pod_http::request(Method::POST, address, &reset) else {
        let message = format!("circuit {circuit} of pod {name} cannot be named in a path");
        return Stepped::refused("ResetRefused", message);
    };
    let until = Instant::now() + PATIENCE.min(target.timeout);
    let answer = pod_http::ask(address, request, until).await;
    match answer.map(|answer| answer.head.status) {
        Ok(status) if status.is_success() => done(format!("pod {name} has reset circuit {circuit}")),
        Ok(StatusCode::NOT_FOUND) => Stepped::refused(
            "CircuitUnknown",
            format!("pod {name} knows no circuit {circuit} to reset: it answered 404 at {path}/…/reset"),
        ),
        Ok(status) => Stepped::refused(
            "ResetRefused",
            format!("pod {name} did not reset circuit {circuit}: it answered {}", status.as_u16()),
        ),
        Err(Failed::Connect(..)) => Stepped::refused(
            "CircuitsOnlyOnLocalhost",
            format!(
                "pod {name} takes no connection on port {port}: its circuits are to be reached on 127.0.0.1 only, or \
                 there is a NetworkPolicy in between; reset circuit {circuit} by kubectl exec"
            ),
        ),
        // It was asked, and may have done it.
        Err(Failed::Late(_)) => {
            done(format!("pod {name} did not answer in time: it may have reset circuit {circuit}"))
        }
        Err(_) => done(format!("pod {name} cut the connection: it may have reset circuit {circuit}")),
    }
}

fn done(note: String) -> Stepped {
    Stepped::Done(Effected { note: Some(note), ..Effected::default() })
}

/// A name as one segment of a path.
fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
