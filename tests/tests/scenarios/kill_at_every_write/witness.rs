//! A witness who watches the server and its policy on a way of its own, past the proxy.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Resource,
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt, watcher},
};
use mcp_health_api::Attempt;
use mcp_health_e2e::{McpServerHealth, Server};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Testimony {
    /// The templates of the Deployment, one after the other, with the generations that brought them.
    pub templates: Vec<(i64, Value)>,
    /// The most spent attempts that any status told of.
    pub most_spent: usize,
}

/// See the module.
pub struct Witness {
    saw: Arc<Mutex<Testimony>>,
    watching: [JoinHandle<()>; 2],
}

impl Witness {
    /// Watches from now on.
    pub fn of(server: &Server) -> Self {
        let saw = Arc::new(Mutex::new(Testimony::default()));
        let note = Arc::clone(&saw);
        let deployments = watch::<Deployment>(server, move |deployment| {
            let generation = deployment.metadata.generation.unwrap_or_default();
            let template = serde_json::to_value(deployment.spec.template).expect("a template is JSON");
            let mut saw = note.lock().unwrap_or_else(PoisonError::into_inner);
            if saw.templates.last().is_none_or(|(_, last)| *last != template) {
                saw.templates.push((generation, template));
            }
        });
        let note = Arc::clone(&saw);
        let policies = watch::<McpServerHealth>(server, move |policy| {
            let incidents = policy.status.into_iter().flat_map(|status| status.incidents);
            let spent = incidents.flat_map(|one| one.attempts).filter(Attempt::is_spent).count();
            let mut saw = note.lock().unwrap_or_else(PoisonError::into_inner);
            saw.most_spent = saw.most_spent.max(spent);
        });
        Self { saw, watching: [deployments, policies] }
    }

    /// What was seen until now.
    pub fn testimony(&self) -> Testimony {
        self.saw.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

/// Tells of every version of the object that has the server's name.
fn watch<K>(server: &Server, mut tell: impl FnMut(K) + Send + 'static) -> JoinHandle<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(server.client.clone(), &server.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", server.name));
    tokio::spawn(async move {
        let mut events = Box::pin(watcher::watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event {
                tell(object);
            }
        }
    })
}
