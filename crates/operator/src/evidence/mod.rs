//! CollectEvidence: what an action destroys, and what a person will ask for: logs, states, Events, the
//! Deployment's status, the finding. Masked, bounded, in an immutable ConfigMap that goes with the
//! McpServerHealth.
//!
//! It is collected beside the record of an action, and when an incident is handed over. One deadline holds for all
//! of it: what did not arrive is noted in it, and not waited for.

mod tell;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod},
    events::v1::Event,
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, LogParams, PostParams},
};
use mcp_health_api::{Incident, KIND_EVIDENCE, MANAGER, McpServerHealth};
use mcp_health_core::{Server, signals::Signals};
use tokio::time::Instant;

use crate::{error::answer, observe::DeploymentWire, owned};
use tell::Secrets;

/// For everything that is asked for; and once more for the ConfigMap that is written.
const DEADLINE: Duration = Duration::from_millis(500);
/// ConfigMaps that are kept of one object.
const KEPT: usize = 10;
/// Events of the namespace that are read.
const EVENTS_READ: u32 = 500;
/// Pods whose logs are kept; the most telling ones.
const PODS: usize = 3;
/// Lines of a log that are asked for.
const LINES: i64 = 200;
/// Bytes of a log that are asked for, at the most.
const BYTES: i64 = 128 * 1024;

/// What is collected, where, and why.
#[derive(Clone)]
pub struct Collecting<'a> {
    /// The client.
    pub client: &'a Client,
    /// Whose incident it is.
    pub object: &'a McpServerHealth,
    /// What is seen of the server.
    pub signals: &'a Signals,
    /// The server, where all of it is seen.
    pub server: Option<&'a Server<'a>>,
    /// The incident.
    pub incident: Incident,
}

/// What was collected, as it came: not masked, and not kept yet.
pub struct Collected {
    name: String,
    data: BTreeMap<String, String>,
}

impl Collecting<'_> {
    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace())
    }

    /// Collects what arrives within the deadline, under the id of what it is kept for: an attempt, or the incident.
    pub async fn collect(&self, id: &str) -> Collected {
        let until = Instant::now() + DEADLINE;
        let wanted = self.server.map(|server| tell::logs_of(server, PODS)).unwrap_or_default();
        let logs = join_all(wanted.iter().map(|(pod, container, previous)| async move {
            let params = LogParams {
                container: Some(container.clone()),
                previous: *previous,
                tail_lines: Some(LINES),
                limit_bytes: Some(BYTES),
                ..LogParams::default()
            };
            in_time(until, self.api::<Pod>().logs(pod, &params)).await
        }));
        let listed = ListParams::default().limit(EVENTS_READ);
        let (deployments, events) = (self.api::<DeploymentWire>(), self.api::<Event>());
        let (deployment, events, logs) = tokio::join!(
            in_time(until, deployments.get(&self.object.spec.target_ref.name)),
            in_time(until, events.list(&listed)),
            logs,
        );
        let mut data: BTreeMap<String, String> = BTreeMap::new();
        data.insert("incident.txt".to_owned(), tell::incident(&self.incident));
        data.insert("pods.txt".to_owned(), tell::pods(self.signals));
        data.insert("deployment.txt".to_owned(), tell::or_why(deployment, |one| tell::status(&one.status)));
        let events = tell::or_why(events, |all| tell::events(&all, &tell::names(self.object, self.server)));
        data.insert("events.txt".to_owned(), events);
        for ((pod, container, previous), log) in wanted.iter().zip(logs) {
            data.insert(tell::key(pod, container, *previous), tell::or_why(log, |text| text));
        }
        Collected { name: name(id), data }
    }

    /// Keeps what was collected. The ConfigMap's name; `None` where it could not be kept, which is logged.
    pub async fn keep(&self, collected: Collected) -> Option<String> {
        let Collected { name, mut data } = collected;
        let secrets = Secrets::of(self.server);
        for (key, text) in &mut data {
            *text = tell::fit_to_be_shown(&secrets, key, text);
            // This takes its time, and others have theirs in between.
            tokio::task::yield_now().await;
        }
        let metadata = owned::metadata(self.object, name.clone(), KIND_EVIDENCE);
        let config_map = ConfigMap { metadata, data: Some(data), immutable: Some(true), binary_data: None };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let api = self.api::<ConfigMap>();
        match tokio::time::timeout(DEADLINE, api.create(&params, &config_map)).await {
            Ok(Ok(_)) => {
                // Housekeeping: nobody waits for it.
                let selector = owned::selector(self.object, KIND_EVIDENCE);
                tokio::spawn(prune(api, selector, self.object.metadata.uid.clone()));
                Some(name)
            }
            // Kept by an operator that did not live to note it.
            Ok(Err(error)) if answer(&error).is_some_and(|status| status.code == 409) => Some(name),
            Ok(Err(error)) => not_kept(&name, &error),
            Err(elapsed) => not_kept(&name, &elapsed),
        }
    }
}

/// The ConfigMap of what is collected for an attempt, or for an incident.
pub fn name(id: &str) -> String {
    format!("mcph-{id}-evidence")
}

fn not_kept(name: &str, why: &dyn Display) -> Option<String> {
    tracing::warn!(config_map = name, %why, "evidence could not be kept");
    None
}

/// The answer, or why there is none.
async fn in_time<T>(until: Instant, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout_at(until, call).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            Err(answer(&error).map_or_else(|| error.to_string(), |status| status.message.clone()))
        }
        Err(_) => Err(format!("no answer within {} ms", DEADLINE.as_millis())),
    }
}

/// Deletes the oldest of an object's evidence, beyond what is kept.
async fn prune(api: Api<ConfigMap>, selector: String, owner: Option<String>) {
    let owner = owner.unwrap_or_default();
    if let Err(error) = owned::prune(&api, &selector, &owner, KEPT, |_| None, &BTreeSet::new()).await {
        tracing::warn!(%error, "old evidence could not be deleted");
    }
}
