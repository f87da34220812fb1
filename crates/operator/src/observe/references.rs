//! What pod templates name, and whether it exists. Looked up by name, and only while a rollback could come:
//! the metadata, never the content.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, ServiceAccount};
use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use mcp_health_core::signals::{Presence, Reference, ReferenceKind, Referenced};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::table::Key;
use crate::error::answer;

/// How long a look-up counts. A rollback looks again before it acts.
const KEPT: Duration = Duration::from_mins(1);
/// Before a look-up without an answer is repeated.
const RETRIED: Duration = Duration::from_secs(4);
/// How long all answers together may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most references that are looked up at once: those of two templates.
const AT_ONCE: usize = 64;
/// The most references of a template that are kept.
const MOST: usize = 64;

/// The objects that a pod template names, and not as `optional`.
pub fn of_template(template: &Value) -> Vec<Reference> {
    let mut all = BTreeSet::new();
    let Some(spec) = template.get("spec") else { return Vec::new() };
    let mut add = |kind, source: Option<&Value>, name: &str| {
        let Some(source) = source else { return };
        let is_optional = source.get("optional").and_then(Value::as_bool).unwrap_or_default();
        let name = source.get(name).and_then(Value::as_str).filter(|name| !name.is_empty() && !is_optional);
        all.extend(name.map(|name| Reference { kind, name: name.to_owned() }));
    };
    // Every namespace has an account `default`, and makes it again.
    let account = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or("default");
    add(ReferenceKind::ServiceAccount, Some(spec).filter(|_| account != "default"), "serviceAccountName");
    for volume in items(spec, "volumes") {
        add(ReferenceKind::ConfigMap, volume.get("configMap"), "name");
        add(ReferenceKind::Secret, volume.get("secret"), "secretName");
        add(ReferenceKind::PersistentVolumeClaim, volume.get("persistentVolumeClaim"), "claimName");
        for source in volume.get("projected").into_iter().flat_map(|one| items(one, "sources")) {
            add(ReferenceKind::ConfigMap, source.get("configMap"), "name");
            add(ReferenceKind::Secret, source.get("secret"), "name");
        }
    }
    for container in items(spec, "initContainers").chain(items(spec, "containers")) {
        for from in items(container, "envFrom") {
            add(ReferenceKind::ConfigMap, from.get("configMapRef"), "name");
            add(ReferenceKind::Secret, from.get("secretRef"), "name");
        }
        for from in items(container, "env").filter_map(|one| one.get("valueFrom")) {
            add(ReferenceKind::ConfigMap, from.get("configMapKeyRef"), "name");
            add(ReferenceKind::Secret, from.get("secretKeyRef"), "name");
        }
    }
    all.into_iter().take(MOST).collect()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// What was looked up, by the object that it was looked up for.
#[derive(Default)]
pub struct References {
    known: Mutex<HashMap<Key, (Instant, Vec<Referenced>)>>,
}

impl References {
    /// Whether these exist, by look-ups of the last minute. Without any, nothing is sent.
    pub async fn of(
        &self,
        client: &Client,
        key: &Key,
        wanted: Vec<Reference>,
        is_watched: impl Fn(&Key) -> Option<bool>,
    ) -> Vec<Referenced> {
        if wanted.is_empty() {
            self.forget(key);
            return Vec::new();
        }
        if let Some(known) = self.known(key, &wanted) {
            return known;
        }
        let watched = |one: &Reference| match one.kind {
            ReferenceKind::ConfigMap => is_watched(&Key::new(&key.namespace, &one.name)),
            _ => None,
        };
        let (known, asked): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|one| watched(one).is_some());
        let mut found = look_up(client, &key.namespace, &asked).await;
        found.extend(known.into_iter().map(|reference| {
            let exists = watched(&reference).unwrap_or_default();
            Referenced { presence: if exists { Presence::Exists } else { Presence::Missing }, reference }
        }));
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.clone(), (Instant::now(), found.clone()));
        found
    }

    fn known(&self, key: &Key, wanted: &[Reference]) -> Option<Vec<Referenced>> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, found) = all.get(key)?;
        let is_unknown = found.iter().any(|one| matches!(one.presence, Presence::Unknown(_)));
        let counts = at.elapsed() < if is_unknown { RETRIED } else { KEPT };
        let covers = wanted.iter().all(|one| found.iter().any(|found| found.reference == *one));
        (counts && covers).then(|| found.clone())
    }

    /// Nothing is known of an object any more.
    pub fn forget(&self, key: &Key) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Whether each of these exists in the namespace, all looked up at once: the first 64.
pub async fn look_up(client: &Client, namespace: &str, wanted: &[Reference]) -> Vec<Referenced> {
    let look_ups = wanted.iter().take(AT_ONCE).map(|one| async {
        let late = || Presence::Unknown(format!("no answer within {} s", TIMEOUT.as_secs()));
        let presence = timeout(TIMEOUT, presence(client, namespace, one)).await.unwrap_or_else(|_| late());
        Referenced { reference: one.clone(), presence }
    });
    join_all(look_ups).await
}

async fn presence(client: &Client, namespace: &str, one: &Reference) -> Presence {
    let found = match one.kind {
        ReferenceKind::ConfigMap => exists::<ConfigMap>(client, namespace, &one.name).await,
        ReferenceKind::Secret => exists::<Secret>(client, namespace, &one.name).await,
        ReferenceKind::ServiceAccount => exists::<ServiceAccount>(client, namespace, &one.name).await,
        ReferenceKind::PersistentVolumeClaim => {
            exists::<PersistentVolumeClaim>(client, namespace, &one.name).await
        }
    };
    match found {
        Ok(true) => Presence::Exists,
        Ok(false) => Presence::Missing,
        Err(error) => match answer(&error).map(|status| status.code) {
            Some(403) => Presence::NotChecked("the operator may not read it".to_owned()),
            Some(code) => Presence::Unknown(format!("the API server answers {code}")),
            None => Presence::Unknown("the API server cannot be reached".to_owned()),
        },
    }
}

async fn exists<K>(client: &Client, namespace: &str, name: &str) -> Result<bool, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_metadata_opt(name).await?.is_some())
}

#[cfg(test)]
mod tests;
