//! RestoreConfig: the content of a ConfigMap is replaced by that of a copy (guide 003, Configuration Rollback).
//!
//! What is in force is kept in a copy of its own first. Then one JSON patch tests the uid and the resourceVersion
//! that were recorded, and marks the ConfigMap with the attempt: that mark tells, after a crash, that it took place.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Resource, api::ListParams};
use mcp_health_api::{ATTEMPT_ANNOTATION, Attempt, Step};
use mcp_health_core::{
    actions::config_name,
    attempt::{Acted, Effected},
    healthy::copy_name,
    refusals::Refused,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    executor::Executor,
    patch::escape,
    stepped::{Contents, Prepared, Stepped},
};
use crate::{
    error::{Error, answer},
    keep::{self, NoCopy},
    observe::{ConfigMapWire, config_maps_of},
};

/// Pods are listed in pages of this size: it bounds the memory that the list takes.
const PAGE: u32 = 100;

/// A pod as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Pod)]
struct PodWire {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
}

impl Executor<'_> {
    /// Fetches both contents, and looks for whoever else reads the ConfigMap.
    pub(super) async fn prepare_config(&self, step: &Step) -> Result<Prepared, Error> {
        const WHAT: &str = "reading the ConfigMaps";
        let (Some(name), Some(source)) = (config_name(step), step.source.as_deref()) else {
            return Ok(Prepared::Superseded("the step names no ConfigMap, or no copy".to_owned()));
        };
        let api = self.config_maps();
        let read = async { tokio::join!(api.get_opt(source), api.get_opt(name), self.other_reader(name)) };
        let (copy, live, reader) = self.in_time(WHAT, read).await?;
        let (copy, live, reader) = match (copy, live, reader) {
            (Ok(copy), Ok(live), Ok(reader)) => (copy, live, reader),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                return match answer(&error).filter(|status| status.code == 403) {
                    Some(status) => Ok(refused("Forbidden", status.message.clone())),
                    None => Err(self.unknown(WHAT, &error)),
                };
            }
        };
        let Some(live) = live else {
            return Ok(Prepared::Superseded(format!("ConfigMap {name} is gone")));
        };
        if live.metadata.uid.as_deref() != Some(&step.uid) || step.from.as_ref() != Some(&live.content()) {
            return Ok(Prepared::Superseded(format!("ConfigMap {name} holds another content now")));
        }
        if let Some(reader) = reader {
            let why =
                format!("ConfigMap {name} is also read by {reader}: what mends this server may break it");
            return Ok(refused("ConfigShared", why));
        }
        let Some(copy) = copy.filter(|copy| step.to.as_ref() == Some(&copy.content())) else {
            let why = format!("ConfigMap {source}, the copy of the healthy content, is gone or is another");
            return Ok(refused("CopyGone", why));
        };
        Ok(Prepared::Config(Box::new(Contents { copy, live })))
    }

    pub(super) fn config_maps(&self) -> Api<ConfigMapWire> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// A pod that is not the target's, and reads the ConfigMap.
    async fn other_reader(&self, config_map: &str) -> Result<Option<String>, kube::Error> {
        let api: Api<PodWire> = Api::namespaced(self.client.clone(), self.namespace);
        let ours: BTreeSet<&str> = self.revisions.iter().map(|revision| revision.uid.as_str()).collect();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            for pod in page.items {
                let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
                let is_other = !owners.iter().any(|owner| ours.contains(owner.uid.as_str()));
                let reads = || config_maps_of(&pod.spec).iter().any(|used| used.name == config_map);
                if is_other && pod.metadata.deletion_timestamp.is_none() && reads() {
                    return Ok(Some(format!("pod {}", pod.metadata.name.unwrap_or_default())));
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(None),
            }
        }
    }

    /// Whether the ConfigMap bears the attempt's mark: the step took place.
    pub(super) async fn config_is_restored(&self, attempt: &Attempt, step: &Step) -> Result<bool, Error> {
        const WHAT: &str = "reading the ConfigMap";
        let Some(name) = config_name(step) else { return Ok(false) };
        let api = self.config_maps();
        let live =
            self.in_time(WHAT, api.get_opt(name)).await?.map_err(|error| self.unknown(WHAT, &error))?;
        Ok(live.is_some_and(|live| bears_mark(&live, attempt)))
    }

    /// Replaces the content, unless the ConfigMap bears the attempt's mark already.
    pub(super) async fn restore_config(
        &self,
        attempt: &Attempt,
        step: &Step,
        prepared: Option<Prepared>,
    ) -> Result<Stepped, Error> {
        let prepared = match prepared {
            Some(prepared) => prepared,
            None if self.config_is_restored(attempt, step).await? => return Ok(restored(step)),
            None => self.prepare_config(step).await?,
        };
        let contents = match prepared {
            Prepared::Config(contents) => contents,
            Prepared::Superseded(why) => return Ok(Stepped::superseded(why)),
            Prepared::Refused(acted) => return Ok(Stepped::Ended(acted)),
            Prepared::Nothing | Prepared::Template(_) => {
                return Ok(Stepped::superseded("no content was prepared"));
            }
        };
        if let Some(ended) = self.keep_before(step, &contents.live).await? {
            return Ok(ended);
        }
        let operations = operations(attempt, step, &contents);
        let name = config_name(step).unwrap_or_default();
        match self.patch_object(&self.config_maps(), name, "changing a ConfigMap", operations).await? {
            Ok(_) => Ok(restored(step)),
            Err(error) => self.after_config_refusal(attempt, step, &error).await,
        }
    }

    /// What is in force is kept before it is replaced: without that, nothing is.
    async fn keep_before(&self, step: &Step, live: &ConfigMapWire) -> Result<Option<Stepped>, Error> {
        const WHAT: &str = "keeping the content of a ConfigMap";
        match self.in_time(WHAT, keep::copy(self.client, self.object, live)).await? {
            Ok(()) => Ok(None),
            Err(NoCopy::Api(error)) => {
                let (refused, said) = self.refused(WHAT, "create", &error)?;
                let reason = if refused == Refused::NoRight { "Forbidden" } else { "CopyRefused" };
                let message = format!("what ConfigMap {} holds cannot be kept: {said}", words(step));
                Ok(Some(Stepped::refused(reason, message)))
            }
            Err(other) => {
                let message = format!("what ConfigMap {} holds cannot be kept: {other}", words(step));
                Ok(Some(Stepped::refused("CopyRefused", message)))
            }
        }
    }

    /// The API server said no: a fence held, a right is missing, or somebody's admission rule objects.
    async fn after_config_refusal(
        &self,
        attempt: &Attempt,
        step: &Step,
        error: &kube::Error,
    ) -> Result<Stepped, Error> {
        const WHAT: &str = "changing a ConfigMap";
        let (refused, said) = self.refused(WHAT, "patch", error)?;
        let name = words(step);
        let reason = match refused {
            Refused::NoRight => Some("Forbidden"),
            Refused::Denied => Some("AdmissionDenied"),
            _ => None,
        };
        if let Some(reason) = reason {
            let message = format!("the API server does not let the operator change ConfigMap {name}: {said}");
            return Ok(Stepped::refused(reason, message));
        }
        let api = self.config_maps();
        let live =
            self.in_time(WHAT, api.get_opt(name)).await?.map_err(|error| self.unknown(WHAT, &error))?;
        let Some(live) = live else { return Ok(Stepped::superseded(format!("ConfigMap {name} is gone"))) };
        if bears_mark(&live, attempt) {
            return Ok(restored(step));
        }
        if live.metadata.uid.as_deref() == Some(&step.uid)
            && live.metadata.resource_version == step.resource_version
        {
            let message = format!("the API server refuses the change of ConfigMap {name}: {said}");
            return Ok(Stepped::refused("ChangeRefused", message));
        }
        Ok(Stepped::superseded(format!("ConfigMap {name} changed at the same moment")))
    }
}

fn refused(reason: &str, message: String) -> Prepared {
    Prepared::Refused(Acted::Refused { reason: reason.to_owned(), message })
}

fn words(step: &Step) -> &str {
    config_name(step).unwrap_or_default()
}

fn restored(step: &Step) -> Stepped {
    let kept = copy_name(words(step), step.from.as_deref().unwrap_or_default());
    let note = Some(format!("the content before is kept in ConfigMap {kept}"));
    Stepped::Done(Effected { note, ..Effected::default() })
}

fn bears_mark(live: &ConfigMapWire, attempt: &Attempt) -> bool {
    let annotations = live.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)) == Some(&attempt.id)
}

/// Tests the fences, marks the ConfigMap, and replaces its content.
fn operations(attempt: &Attempt, step: &Step, contents: &Contents) -> Value {
    let Contents { copy, live } = contents;
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": step.uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": step.resource_version}),
    ];
    if live.metadata.annotations.as_ref().is_some_and(|all| !all.is_empty()) {
        let path = format!("/metadata/annotations/{}", escape(ATTEMPT_ANNOTATION));
        operations.push(json!({"op": "add", "path": path, "value": attempt.id}));
    } else {
        let value = json!({ATTEMPT_ANNOTATION: attempt.id});
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": value}));
    }
    let maps = [("/data", &copy.data, &live.data), ("/binaryData", &copy.binary_data, &live.binary_data)];
    for (path, wanted, now) in maps {
        if wanted != now {
            // A map that is not there cannot be replaced; adding does both.
            operations.push(json!({"op": "add", "path": path, "value": wanted}));
        }
    }
    Value::Array(operations)
}
