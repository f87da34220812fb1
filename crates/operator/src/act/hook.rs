//! CallHook: `POST` to a declared path on every ready pod of the server, and on nothing else. Nothing tells
//! afterwards whether it took place, so that it was recorded by itself before, and is never repeated.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{StreamExt, stream};
use http::Method;
use mcp_health_api::{Attempt, Hook, Step};
use mcp_health_core::{
    actions::{Answers, hears},
    attempt::Effected,
};
use net::Failed;
use tokio::time::Instant;

use super::{executor::Executor, stepped::Stepped};
use crate::pod_http;

/// Pods that are asked at the same time.
const AT_ONCE: usize = 64;
/// Pods that are named of those that did not do it.
const NAMED: usize = 3;

/// Calls the hook, and says what came of it. No redirect is followed, and what an answer says beside its
/// status is not read.
pub async fn carry_out(target: &Executor<'_>, attempt: &Attempt, step: &Step) -> Stepped {
    let name = step.to.as_deref().unwrap_or_default();
    let Some(hook) = target.object.spec.hooks.iter().find(|hook| hook.name == name) else {
        return Stepped::superseded(format!("spec.hooks has no hook {name} any more"));
    };
    let Some(port) = hook.port.or(target.port) else {
        return Stepped::superseded(format!(
            "hook {name} names no port, and the server's container has none"
        ));
    };
    // One time for all: the calls begin at once, and an answer that comes later is not waited for.
    let until = Instant::now() + Duration::try_from(hook.timeout.span()).unwrap_or_default();
    let hearing = target.pods.iter().filter(|pod| hears(pod, attempt));
    let calls = hearing.map(async |pod| {
        let answer = match pod.address {
            Some(address) => call(address, port, hook, until).await,
            None => Err("it has no address".to_owned()),
        };
        answer.map_err(|why| format!("{}: {why}", pod.name))
    });
    let answers: Vec<Result<(), String>> = stream::iter(calls).buffer_unordered(AT_ONCE).collect().await;
    Stepped::Done(Effected {
        note: Some(note(&answers)),
        answers: Some(Answers { well: answers.iter().filter(|one| one.is_ok()).count(), all: answers.len() }),
        ..Effected::default()
    })
}

async fn call(address: IpAddr, port: u16, hook: &Hook, until: Instant) -> Result<(), String> {
    let address = SocketAddr::new(address, port);
    let request = pod_http::request(Method::POST, address, &hook.path)
        .map_err(|error| format!("its path is none: {error}"))?;
    match pod_http::ask(address, request, until).await {
        Ok(answer) if answer.head.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.head.status.as_u16())),
        Err(Failed::Late(_)) => Err(format!("no answer within {}", hook.timeout)),
        Err(failed) => Err(pod_http::refusal(&failed).to_owned()),
    }
}

/// `2 of 2 pods did it`; or who did not, and why.
fn note(answers: &[Result<(), String>]) -> String {
    let failed: Vec<&str> = answers.iter().filter_map(|one| one.as_ref().err()).map(String::as_str).collect();
    let well = answers.len() - failed.len();
    let pods = if answers.len() == 1 { "pod" } else { "pods" };
    let mut text = format!("{well} of {} {pods} answered with success", answers.len());
    if !failed.is_empty() {
        text.push_str(&format!("; {}", failed[..failed.len().min(NAMED)].join("; ")));
    }
    if failed.len() > NAMED {
        text.push_str(&format!("; and {} more", failed.len() - NAMED));
    }
    text
}
