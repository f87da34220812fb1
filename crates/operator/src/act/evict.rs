//! EvictPod: the API server evicts one pod, known by its uid, if the disruption budget that covers it allows.
//! Replayable: of a pod that is gone or on its way out, there is nothing left to do. Never a deletion.

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::Eviction},
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions},
};
use kube::{Api, api::PostParams, core::Status};
use mcp_health_api::Step;
use mcp_health_core::attempt::Effected;
use serde_json::Value;

use super::{executor::Executor, stepped::Stepped};
use crate::error::{Error, answer};

const WHAT: &str = "evicting a pod";

/// Evicts the pod that the step names.
pub async fn carry_out(target: &Executor<'_>, step: &Step) -> Result<Stepped, Error> {
    let Some(pod) = step.object.as_deref().and_then(|object| object.strip_prefix("Pod/")) else {
        return Ok(Stepped::superseded("the step names no pod"));
    };
    if target.pods.iter().any(|seen| seen.uid == step.uid && seen.deleting) {
        return Ok(done(Some(format!("pod {pod} was on its way out already"))));
    }
    let preconditions = Preconditions { uid: Some(step.uid.clone()), ..Preconditions::default() };
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(pod.to_owned()),
            namespace: Some(target.namespace.to_owned()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(preconditions),
            ..DeleteOptions::default()
        }),
    };
    let api: Api<Pod> = Api::namespaced(target.client.clone(), target.namespace);
    let params = PostParams::default();
    let evicted = api.create_subresource::<_, Value>("eviction", pod, &params, &eviction);
    match target.in_time(WHAT, evicted).await? {
        Ok(_) => Ok(done(None)),
        Err(error) => match answer(&error) {
            Some(status) => after_refusal(target, pod, status, &error),
            None => Err(target.unknown(WHAT, &error)),
        },
    }
}

fn done(note: Option<String>) -> Stepped {
    Stepped::Done(Effected { note, ..Effected::default() })
}

fn after_refusal(
    target: &Executor<'_>,
    pod: &str,
    status: &Status,
    error: &kube::Error,
) -> Result<Stepped, Error> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let by_budget = causes.clone().any(|cause| cause.reason == "DisruptionBudget");
    match status.code {
        404 => Ok(done(Some(format!("pod {pod} was gone already")))),
        // The pod of that name has another uid, so the one that was meant is gone.
        409 => Ok(done(Some(format!("pod {pod} was gone already: {}", status.message)))),
        429 if by_budget => {
            let why: Vec<&str> = causes.map(|cause| cause.message.as_str()).collect();
            Ok(Stepped::superseded(format!("pod {pod} may not be evicted now: {}", why.join("; "))))
        }
        403 => Ok(Stepped::refused(
            "Forbidden",
            format!("the API server does not let the operator evict pod {pod}: {}", status.message),
        )),
        400 | 422 => Ok(Stepped::refused(
            "EvictionRefused",
            format!("the API server does not evict pod {pod}: {}", status.message),
        )),
        _ => Err(target.unknown(WHAT, error)),
    }
}
