//! Copies of ConfigMaps: the content that healthy pods were started with, and what an action replaces. Each is an
//! immutable ConfigMap of its own, made before the status says that there is one.
//!
//! What cannot be copied is left out of the status, and tried again later: nothing waits for it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use mcp_health_api::{
    CONFIG_ANNOTATION, CONTENT_ANNOTATION, Effect, HealthyConfig, Incident, KIND_CONFIG_COPY, MANAGER,
    McpServerHealth, TargetStatus,
};
use mcp_health_core::{Case, StatusDraft, actions::config_name, healthy::copy_name};
use serde_json::json;

use crate::{error::answer, observe::ConfigMapWire, owned};

/// The most copies of one ConfigMap that are kept without anything naming them.
const KEPT: usize = 3;
/// How long one copy may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Before a copy that could not be made is tried again.
const PAUSE: Duration = Duration::from_mins(1);

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NoCopy {
    /// The ConfigMap is not what was to be copied any more.
    #[error("ConfigMap {0} is gone, or was changed meanwhile")]
    Changed(String),
    /// Something else has the copy's name, or is about to end.
    #[error("ConfigMap {0} has the name of the copy, and is none, or is being deleted")]
    NameTaken(String),
    /// The API server says no, or nothing.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// Not in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

/// Makes copies, and remembers which could not be made.
#[derive(Default)]
pub struct Copies {
    failed: Mutex<HashMap<String, Instant>>,
}

impl Copies {
    /// Makes the copies that the draft names and the status does not, and deletes those that nothing needs any more.
    /// Calls nobody while both name the same.
    pub async fn keep(
        &self,
        client: &Client,
        object: &McpServerHealth,
        case: &Case<'_>,
        draft: &mut StatusDraft,
    ) {
        if case.signals.rival.is_some() {
            return;
        }
        let known = healthy(case.status.target.as_ref());
        let wanted: Vec<HealthyConfig> = healthy(draft.target.as_ref()).to_vec();
        let mut missing = BTreeSet::new();
        let is_new = |config: &&HealthyConfig| !config.copy.is_empty() && !known.contains(config);
        for config in wanted.iter().filter(is_new) {
            if !self.is_made(client, object, config).await {
                missing.insert(&config.name);
                let later = case.now.saturating_add(SignedDuration::try_from(PAUSE).unwrap_or_default()).ok();
                draft.look_again = draft.look_again.into_iter().chain(later).min();
            }
        }
        if let Some(healthy) = draft.target.as_mut().and_then(|target| target.last_healthy.as_mut()) {
            healthy.config.retain(|config| !missing.contains(&config.name));
        }
        let before = named(case.status.target.as_ref(), &case.status.incidents);
        let after = named(draft.target.as_ref(), &draft.incidents);
        // While an incident is open, what may have to come back is not known yet: nothing is deleted.
        let is_open = |incidents: &[Incident]| !incidents.is_empty();
        let changes = before != after || (is_open(&case.status.incidents) && !before.is_empty());
        if changes && !is_open(&draft.incidents) {
            let needed: BTreeSet<_> = before.into_iter().chain(after).collect();
            if let Err(error) = in_time(delete_surplus(client, object, &needed)).await {
                tracing::warn!(%error, "old copies of ConfigMaps could not be deleted; the next copy tries again");
            }
        }
    }

    async fn is_made(&self, client: &Client, object: &McpServerHealth, config: &HealthyConfig) -> bool {
        let key = format!("{}/{}", object.meta().uid.as_deref().unwrap_or_default(), config.copy);
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed().get(&key).is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        let made = in_time(async {
            let live = api::<ConfigMapWire>(client, object).get_opt(&config.name).await?;
            match live.filter(|live| live.content() == config.content) {
                Some(live) => copy(client, object, &live).await,
                None => Err(NoCopy::Changed(config.name.clone())),
            }
        });
        match made.await {
            Ok(()) => {
                failed().remove(&key);
                true
            }
            Err(error) => {
                tracing::warn!(config_map = config.name, %error, "no copy could be made; it is tried again");
                let mut failed = failed();
                failed.retain(|_, at| at.elapsed() < PAUSE);
                failed.insert(key, Instant::now());
                false
            }
        }
    }
}

fn healthy(target: Option<&TargetStatus>) -> &[HealthyConfig] {
    let healthy = target.and_then(|target| target.last_healthy.as_ref());
    healthy.map(|healthy| healthy.config.as_slice()).unwrap_or_default()
}

/// The copies that must not be deleted: those of the healthy content, and those of every attempt that is still told of.
fn named(target: Option<&TargetStatus>, incidents: &[Incident]) -> BTreeSet<String> {
    let kept = healthy(target).iter().map(|config| config.copy.clone()).filter(|copy| !copy.is_empty());
    let mut named: BTreeSet<String> = kept.collect();
    let attempts = incidents.iter().flat_map(|incident| &incident.attempts);
    for step in attempts.flat_map(|attempt| &attempt.steps) {
        if step.effect == Effect::RestoreConfig {
            named.extend(step.source.clone());
            let before = config_name(step).zip(step.from.as_deref());
            named.extend(before.map(|(name, content)| copy_name(name, content)));
        }
    }
    named
}

async fn in_time(work: impl Future<Output = Result<(), NoCopy>>) -> Result<(), NoCopy> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or(Err(NoCopy::TimedOut))
}

fn api<K>(client: &Client, object: &McpServerHealth) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), object.meta().namespace.as_deref().unwrap_or_default())
}

/// Makes the immutable copy of what a ConfigMap holds, owned by the object. Done twice, it is the same.
pub async fn copy(client: &Client, object: &McpServerHealth, live: &ConfigMapWire) -> Result<(), NoCopy> {
    let of = live.metadata.name.clone().unwrap_or_default();
    let content = live.content();
    let name = copy_name(&of, &content);
    let taken = || NoCopy::NameTaken(name.clone());
    let owner = owner(object);
    let manifest = json!({
        "metadata": {
            "name": name,
            "labels": owned::labels(object, KIND_CONFIG_COPY),
            "annotations": {CONFIG_ANNOTATION: of, CONTENT_ANNOTATION: content},
            "ownerReferences": [owner],
        },
        "immutable": true,
        "data": live.data,
        "binaryData": live.binary_data,
    });
    let manifest: ConfigMap = serde_json::from_value(manifest).map_err(|_| NoCopy::Changed(of.clone()))?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let api = api::<ConfigMap>(client, object);
    match api.create(&params, &manifest).await {
        Ok(_) => return Ok(()),
        Err(error) if answer(&error).is_some_and(|status| status.code == 409) => {}
        Err(error) => return Err(error.into()),
    }
    let known = self::api::<ConfigMapWire>(client, object).get_opt(&name).await?.ok_or_else(taken)?;
    let meta = &known.metadata;
    if known.content() != content || !known.immutable || meta.deletion_timestamp.is_some() {
        return Err(taken());
    }
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if !owners.contains(&owner) {
        // It outlives the object that it was made for.
        let all: Vec<_> = owners.iter().chain([&owner]).collect();
        let patch = json!({"metadata": {"uid": meta.uid, "ownerReferences": all}});
        api.patch(&name, &PatchParams::apply(MANAGER), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

/// Whatever the object owns ends with it.
fn owner(object: &McpServerHealth) -> OwnerReference {
    OwnerReference {
        api_version: McpServerHealth::api_version(&()).into_owned(),
        kind: McpServerHealth::kind(&()).into_owned(),
        name: object.meta().name.clone().unwrap_or_default(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// Deletes the copies that the object alone owns, but for the newest of each ConfigMap and those that are needed.
async fn delete_surplus(
    client: &Client,
    object: &McpServerHealth,
    needed: &BTreeSet<String>,
) -> Result<(), NoCopy> {
    let selector = owned::selector(object, KIND_CONFIG_COPY);
    let owner = object.meta().uid.as_deref().unwrap_or_default();
    let api = api::<ConfigMap>(client, object);
    Ok(owned::prune(&api, &selector, owner, KEPT, copied, needed).await?)
}

/// The ConfigMap that a copy is of.
fn copied(copy: &ObjectMeta) -> Option<&String> {
    copy.annotations.as_ref()?.get(CONFIG_ANNOTATION)
}

#[cfg(test)]
mod tests;
