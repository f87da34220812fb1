//! All that runs beside the reconciles: a watch for each kind and scope, and what looks by the clock.

use std::{
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::watcher};
use mcp_health_api::{KIND_JOB, KIND_LABEL};
use serde::de::DeserializeOwned;

use super::{
    Stores, alertmanager, autoscalers, budgets, config_maps, config_readers, deployments, jobs, last_words,
    nodes, pods, quotas, replica_sets, scrape, services, switches,
    table::{Key, Row, Table},
    usage, vertical_autoscalers, volumes,
    watch::{Told, watch},
};
use crate::config::Config;

/// What runs until the operator ends.
pub type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Stores {
    /// What keeps the stores up.
    pub fn watches(self: &Arc<Self>, client: &Client, config: &Config) -> Vec<Watching> {
        let mut watches = Vec::new();
        for scope in config.scopes() {
            let of = Scope { stores: self, client, namespace: scope };
            watches.extend([
                of.watch(|stores| &stores.deployments, deployments::view),
                of.watch(|stores| &stores.replica_sets, replica_sets::view),
                of.watch(|stores| &stores.pods, pods::view),
                of.watch(|stores| &stores.services, services::view_service),
                of.watch(|stores| &stores.slices, services::view_slice),
                of.watch(|stores| &stores.autoscalers, autoscalers::view),
                of.watch_vertical_autoscalers(),
                of.watch(|stores| &stores.quotas, quotas::view_quota),
                of.watch(|stores| &stores.limit_ranges, quotas::view_limit_range),
                of.watch(|stores| &stores.budgets, budgets::view),
            ]);
            if config.rolls_config_back {
                // What the operator made itself is nobody's configuration.
                let others = format!("!{KIND_LABEL}");
                watches.push(of.watch_labelled(&others, |stores| &stores.config_maps, config_maps::view));
                watches.extend([
                    of.watch(
                        |stores| &stores.config_readers.stateful_sets,
                        config_readers::view_stateful_set,
                    ),
                    of.watch(|stores| &stores.config_readers.daemon_sets, config_readers::view_daemon_set),
                    of.watch(|stores| &stores.config_readers.cron_jobs, config_readers::view_cron_job),
                ]);
            }
            if config.run_jobs {
                let ours = format!("{KIND_LABEL}={KIND_JOB}");
                watches.push(of.watch_labelled(&ours, |stores| &stores.jobs, jobs::view));
            }
            let period = config.usage_period.span();
            if !period.is_zero() {
                let (stores, client) = (Arc::clone(self), client.clone());
                watches.push(Box::pin(usage::keep(stores, client, of.namespace, period.unsigned_abs())));
            }
        }
        if config.kubelet_stats {
            let period =
                config.kubelet_stats_period.span().unsigned_abs().max(std::time::Duration::from_secs(1));
            watches.push(Box::pin(volumes::keep(Arc::clone(self), client.clone(), period)));
        }
        watches.push(Box::pin(alertmanager::keep(Arc::clone(self))));
        watches.push(Box::pin(scrape::keep(Arc::clone(self))));
        watches.push(Box::pin(last_words::listen(Arc::clone(self), client.clone())));
        watches.push(self.watch_namespaces(client));
        watches.extend(self.watch_switch(client));
        watches.extend(self.watch_nodes(client));
        watches
    }

    /// The namespaces, for what they say on suspension.
    fn watch_namespaces(self: &Arc<Self>, client: &Client) -> Watching {
        let (stores, api) = (Arc::clone(self), Api::all(client.clone()));
        Box::pin(async move {
            let tell = |told: Told<switches::SwitchRow>| match told {
                Told::Row(key, _) => stores.wake_namespace(&key.name),
                Told::Health => stores.wake_all(),
            };
            let config = watcher::Config::default();
            watch(api, None, config, &stores.namespaces, switches::view_namespace, tell).await;
        })
    }

    /// The nodes, where the operator may read them.
    fn watch_nodes(self: &Arc<Self>, client: &Client) -> Option<Watching> {
        self.nodes.as_ref()?;
        let (stores, api) = (Arc::clone(self), Api::all(client.clone()));
        Some(Box::pin(async move {
            let Some(table) = &stores.nodes else { return };
            let tell = |told: Told<nodes::NodeRow>| match told {
                Told::Row(key, row) => row.wake(key, &stores),
                Told::Health => stores.wake_all(),
            };
            watch(api, None, watcher::Config::default(), table, nodes::view, tell).await;
        }))
    }

    /// The cluster-wide switch, where there is one.
    fn watch_switch(self: &Arc<Self>, client: &Client) -> Option<Watching> {
        let (key, _) = self.switch.as_ref()?;
        let (stores, scope) = (Arc::clone(self), key.namespace.to_string());
        let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
        let api = Api::namespaced(client.clone(), &scope);
        Some(Box::pin(async move {
            let Some((_, table)) = &stores.switch else { return };
            let tell = |_: Told<switches::SwitchRow>| stores.wake_all();
            watch(api, Some(scope), config, table, switches::view_switch, tell).await;
        }))
    }
}

/// A namespace, or all of them.
struct Scope<'a> {
    stores: &'a Arc<Stores>,
    client: &'a Client,
    namespace: Option<String>,
}

impl Scope<'_> {
    /// The watch of one kind.
    fn watch<W, V>(&self, table: fn(&Stores) -> &Table<V>, view: fn(&W) -> Option<(Key, V)>) -> Watching
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        W: Clone + DeserializeOwned + Debug + Send + 'static,
        V: Row,
    {
        self.watch_labelled("", table, view)
    }

    /// The same, of those objects that bear these labels.
    fn watch_labelled<W, V>(
        &self,
        labels: &str,
        table: fn(&Stores) -> &Table<V>,
        view: fn(&W) -> Option<(Key, V)>,
    ) -> Watching
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        W: Clone + DeserializeOwned + Debug + Send + 'static,
        V: Row,
    {
        let (stores, scope) = (Arc::clone(self.stores), self.namespace.clone());
        let api: Api<W> = match &scope {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let config = watcher::Config::default();
        let config = if labels.is_empty() { config } else { config.labels(labels) };
        Box::pin(async move {
            let tell = |told: Told<V>| match told {
                Told::Row(key, row) => row.wake(key, &stores),
                Told::Health => stores.wake_all(),
            };
            watch(api, scope, config, table(&stores), view, tell).await;
        })
    }

    /// The watch of the vertical autoscalers, where the cluster has that kind.
    fn watch_vertical_autoscalers(&self) -> Watching {
        let watching = self.watch(|stores| &stores.vertical_autoscalers, vertical_autoscalers::view);
        let (stores, client) = (Arc::clone(self.stores), self.client.clone());
        Box::pin(async move {
            if vertical_autoscalers::are_installed(&client).await {
                watching.await;
            } else {
                stores.no_vertical_autoscalers.store(true, Relaxed);
                stores.wake_all();
            }
        })
    }
}
