//! All that runs beside the reconciles: a watch for each kind and scope, and what looks by the clock.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use kube::{
    Client, Resource,
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use mcp_health_api::{KIND_JOB, KIND_LABEL};
use serde::de::DeserializeOwned;

use super::{
    alertmanager, autoscalers, budgets, config_maps, config_readers, deployments, jobs, last_words,
    list_watch::{Pace, Source},
    nodes, pod_events, pods, quotas, replica_sets, scrape, services,
    stores::Stores,
    switches,
    table::{Key, Row, Table},
    usage, vertical_autoscalers, volumes,
    watch::{Told, source, watch},
};
use crate::{config::Config, supervise::Task};

impl Stores {
    /// What keeps the stores up. Each runs until the operator ends.
    pub fn watches(self: &Arc<Self>, client: &Client, config: &Config) -> Vec<Task> {
        let mut watches = Vec::new();
        let pace = Pace::of(config);
        for scope in config.scopes() {
            let of = Scope { stores: self, client, namespace: scope, pace };
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
            let events = pod_events::watch::run(Arc::clone(self), client.clone(), of.namespace.clone(), pace);
            watches.push(Task::new("the watch of Events", events));
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
                let polls = usage::poll::keep(stores, client, of.namespace, period.unsigned_abs());
                watches.push(Task::new("the poll of metrics-server", polls));
            }
        }
        if config.kubelet_stats {
            let polls = volumes::poll::keep(Arc::clone(self), client.clone(), volumes::period(config));
            watches.push(Task::new("the poll of kubelets", polls));
        }
        if self.alerts.is_some() {
            watches.push(Task::new("the poll of Alertmanager", alertmanager::poll::keep(Arc::clone(self))));
        }
        if self.scraped.is_some() {
            watches.push(Task::new("the scrape of pods", scrape::poll::keep(Arc::clone(self))));
        }
        let logs = last_words::fetch::listen(Arc::clone(self), client.clone());
        watches.push(Task::new("the fetching of logs", logs));
        watches.push(self.watch_namespaces(client, pace));
        watches.extend(self.watch_switch(client, pace));
        watches.extend(self.watch_nodes(client, pace));
        watches
    }

    /// The namespaces, for what they say on suspension.
    fn watch_namespaces(self: &Arc<Self>, client: &Client, pace: Pace) -> Task {
        let stores = Arc::clone(self);
        let source = source::<switches::NamespaceWire, ClusterResourceScope>(client, None, pace);
        Task::new("the watch of Namespaces", async move {
            let tell = |told: Told<switches::SwitchRow>| match told {
                Told::Row(key, _) | Told::Readable(key) => stores.wake_namespace(&key.name),
                Told::Fitness => stores.wake_all(),
            };
            watch(source, None, &stores.namespaces, switches::view_namespace, tell).await;
        })
    }

    /// The nodes, where the operator may read them.
    fn watch_nodes(self: &Arc<Self>, client: &Client, pace: Pace) -> Option<Task> {
        self.nodes.as_ref()?;
        let stores = Arc::clone(self);
        let source = source::<nodes::NodeWire, ClusterResourceScope>(client, None, pace);
        Some(Task::new("the watch of Nodes", async move {
            let Some(table) = &stores.nodes else { return };
            let tell = |told: Told<nodes::NodeRow>| match told {
                Told::Row(key, row) => stores.wake_concerned(row.concerns(key)),
                Told::Readable(_) | Told::Fitness => stores.wake_all(),
            };
            watch(source, None, table, nodes::view, tell).await;
        }))
    }

    /// The cluster-wide switch, where there is one.
    fn watch_switch(self: &Arc<Self>, client: &Client, pace: Pace) -> Option<Task> {
        let (key, _) = self.switch.as_ref()?;
        let (stores, scope) = (Arc::clone(self), key.namespace.to_string());
        let fields = format!("metadata.name={}", key.name);
        let source = source::<switches::SwitchWire, NamespaceResourceScope>(client, Some(&scope), pace);
        let source = Source { fields, ..source };
        Some(Task::new("the watch of the cluster-wide switch", async move {
            let Some((_, table)) = &stores.switch else { return };
            let tell = |_: Told<switches::SwitchRow>| stores.wake_all();
            watch(source, Some(scope), table, switches::view_switch, tell).await;
        }))
    }
}

/// A namespace, or all of them.
struct Scope<'a> {
    stores: &'a Arc<Stores>,
    client: &'a Client,
    namespace: Option<String>,
    pace: Pace,
}

impl Scope<'_> {
    /// The watch of one kind.
    fn watch<W, V>(&self, table: fn(&Stores) -> &Table<V>, view: fn(&W) -> Option<(Key, V)>) -> Task
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Send + 'static,
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
    ) -> Task
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Send + 'static,
        V: Row,
    {
        Task::new(format!("the watch of {}s", W::kind(&())), self.rows(labels, table, view))
    }

    fn rows<W, V>(
        &self,
        labels: &str,
        table: fn(&Stores) -> &Table<V>,
        view: fn(&W) -> Option<(Key, V)>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Send + 'static,
        V: Row,
    {
        let (stores, scope) = (Arc::clone(self.stores), self.namespace.clone());
        let source = source::<W, _>(self.client, scope.as_deref(), self.pace);
        let source = Source { labels: labels.to_owned(), ..source };
        Box::pin(async move {
            let in_scope = scope.clone().unwrap_or_default();
            let tell = |told: Told<V>| match told {
                Told::Row(key, row) => stores.wake_concerned(row.concerns(key)),
                Told::Readable(key) => stores.wake_namespace(&key.namespace),
                Told::Fitness => stores.wake(stores.targets.in_scope(&in_scope)),
            };
            watch(source, scope, table(&stores), view, tell).await;
        })
    }

    /// The watch of the vertical autoscalers, where the cluster has that kind.
    fn watch_vertical_autoscalers(&self) -> Task {
        let watching = self.rows("", |stores| &stores.vertical_autoscalers, vertical_autoscalers::view);
        let (stores, client) = (Arc::clone(self.stores), self.client.clone());
        Task::new("the watch of VerticalPodAutoscalers", async move {
            if vertical_autoscalers::are_installed(&client).await {
                watching.await;
            } else {
                stores.no_vertical_autoscalers.store(true, Relaxed);
                stores.wake_all();
                pending::<()>().await;
            }
        })
    }
}
