//! observe: the tables that watches keep up, and the signals of one server read from them. Reading them is
//! all that a reconcile does to see; and a change wakes only the servers whose verdict it may change.

mod autoscalers;
mod budgets;
mod config_maps;
mod deployments;
mod jobs;
mod judged;
mod last_words;
mod pod_spec;
mod pods;
mod quotas;
mod replica_sets;
mod services;
mod switches;
pub mod table;
mod targets;
mod usage;
mod vertical_autoscalers;
mod volumes;
mod watch;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::watcher};
use mcp_health_api::{ActionType, KIND_JOB, KIND_LABEL, McpServerHealth, REPORT_ANNOTATION};
use mcp_health_core::{
    Settings,
    signals::{
        Autoscaler, Budget, Config as ConfigSeen, Job, Pod, Quota, Reading, Revision, Service, Signals,
        Target,
    },
};
use serde::de::DeserializeOwned;

pub use config_maps::ConfigMapWire;
pub use deployments::{DeploymentRow, DeploymentWire, Facts};
pub use pod_spec::config_maps as config_maps_of;
pub use replica_sets::ReplicaSetWire;
use services::namespace_group;
use table::{Key, Row, Table};
pub use targets::{Guarded, Targets, note as note_targets};
use watch::{Told, watch};

use crate::config::Config;

/// A watch that runs until the operator ends.
pub type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A pod, by its key.
type KeyedPod = (Key, Arc<pods::PodRow>);
/// Vertical autoscalers, and what the namespace limits.
type LimitsSeen = (Reading<Vec<Autoscaler>>, Reading<Vec<Quota>>);

/// All tables.
pub struct Stores {
    deployments: Table<DeploymentRow>,
    replica_sets: Table<replica_sets::ReplicaSetRow>,
    pods: Table<pods::PodRow>,
    services: Table<services::ServiceRow>,
    slices: Table<services::EndpointSliceRow>,
    autoscalers: Table<autoscalers::AutoscalerRow>,
    vertical_autoscalers: Table<autoscalers::AutoscalerRow>,
    /// The cluster does not have the kind.
    no_vertical_autoscalers: AtomicBool,
    quotas: Table<quotas::QuotaRow>,
    limit_ranges: Table<quotas::QuotaRow>,
    budgets: Table<budgets::BudgetRow>,
    /// Only where the operator may run Jobs.
    jobs: Option<Table<jobs::JobRow>>,
    /// Without a scope where the operator does not roll configuration back.
    config_maps: Table<config_maps::ConfigMapRow>,
    rolls_config_back: bool,
    namespaces: Table<switches::SwitchRow>,
    switch: Option<(Key, Table<switches::SwitchRow>)>,
    usage: usage::Measured,
    /// Only where kubelets are asked.
    volumes: Option<volumes::Spaces>,
    /// What was asked for beside the tables.
    hearing: last_words::Hearing,
    settings: Settings,
    /// What the rules made of it all.
    pub judged: judged::Judged,
    /// Which objects have which target.
    pub targets: Targets,
    wake: UnboundedSender<Key>,
}

impl Stores {
    /// Empty tables; `wake` hears the keys of the objects that are to be looked at.
    pub fn new(config: &Config, wake: UnboundedSender<Key>) -> Self {
        let scopes = config.scopes();
        let all = [None];
        let switch = (!config.switch_configmap.is_empty()).then(|| {
            let key = Key::new(&config.lease_namespace, &config.switch_configmap);
            (key, Table::new(&[Some(config.lease_namespace.clone())]))
        });
        Self {
            deployments: Table::new(&scopes),
            replica_sets: Table::new(&scopes),
            pods: Table::new(&scopes),
            services: Table::new(&scopes),
            slices: Table::new(&scopes),
            autoscalers: Table::new(&scopes),
            vertical_autoscalers: Table::new(&scopes),
            no_vertical_autoscalers: AtomicBool::new(false),
            quotas: Table::new(&scopes),
            limit_ranges: Table::new(&scopes),
            budgets: Table::new(&scopes),
            jobs: config.run_jobs.then(|| Table::new(&scopes)),
            config_maps: Table::new(if config.rolls_config_back { &scopes } else { &[] }),
            rolls_config_back: config.rolls_config_back,
            namespaces: Table::new(&all),
            switch,
            usage: usage::Measured::new(&scopes),
            volumes: config.kubelet_stats.then(volumes::Spaces::default),
            hearing: last_words::Hearing::default(),
            settings: config.settings(),
            judged: judged::Judged::default(),
            targets: Targets::default(),
            wake,
        }
    }

    /// Whether every table was listed once, or is refused.
    pub fn are_settled(&self) -> bool {
        self.deployments.is_settled()
            && self.replica_sets.is_settled()
            && self.pods.is_settled()
            && self.services.is_settled()
            && self.slices.is_settled()
            && self.autoscalers.is_settled()
            && (self.no_vertical_autoscalers.load(Relaxed) || self.vertical_autoscalers.is_settled())
            && self.quotas.is_settled()
            && self.limit_ranges.is_settled()
            && self.budgets.is_settled()
            && self.jobs.as_ref().is_none_or(Table::is_settled)
            && self.config_maps.is_settled()
            && self.namespaces.is_settled()
            && self.switch.as_ref().is_none_or(|(_, table)| table.is_settled())
    }

    /// The watches that keep the tables up.
    pub fn watches(self: &Arc<Self>, client: &Client, config: &Config) -> Vec<Watching> {
        let mut watches: Vec<Watching> = Vec::new();
        for scope in config.scopes() {
            let scope = scope.as_deref();
            watches.extend([
                self.watching(
                    client,
                    scope,
                    |stores| &stores.deployments,
                    deployments::view,
                    |stores, key, _| {
                        stores.wake_target(key);
                    },
                ),
                self.watching(
                    client,
                    scope,
                    |stores| &stores.replica_sets,
                    replica_sets::view,
                    |stores, _, row| {
                        stores.wake_target(&row.deployment);
                    },
                ),
                self.watching(
                    client,
                    scope,
                    |stores| &stores.pods,
                    pods::view,
                    |stores, key, row| {
                        if stores.pods.get(key).is_none() {
                            stores.hearing.forget(key);
                        }
                        if let Some(owner) = stores.replica_sets.get(&row.owner) {
                            stores.wake_target(&owner.deployment);
                        }
                    },
                ),
                // Which servers a changed selector used to select is not known: all of the namespace.
                self.watching(
                    client,
                    scope,
                    |stores| &stores.services,
                    services::view_service,
                    |stores, key, _| {
                        stores.wake_namespace(&key.namespace);
                    },
                ),
                self.watching(
                    client,
                    scope,
                    |stores| &stores.slices,
                    services::view_slice,
                    |stores, _, row| {
                        stores.wake_behind(&row.service);
                    },
                ),
                self.watching(
                    client,
                    scope,
                    |stores| &stores.autoscalers,
                    autoscalers::view,
                    |stores, _, row| {
                        stores.wake_target(&row.target);
                    },
                ),
                self.watching_vertical_autoscalers(client, scope),
                self.watching(client, scope, |stores| &stores.quotas, quotas::view_quota, |_, _, _| {}),
                self.watching(
                    client,
                    scope,
                    |stores| &stores.limit_ranges,
                    quotas::view_limit_range,
                    |_, _, _| {},
                ),
                // Which servers a changed budget used to cover is not known: all of the namespace.
                self.watching(
                    client,
                    scope,
                    |stores| &stores.budgets,
                    budgets::view,
                    |stores, key, _| {
                        stores.wake_namespace(&key.namespace);
                    },
                ),
            ]);
            if config.rolls_config_back {
                // What the operator made itself is nobody's configuration.
                let config = watcher::Config::default().labels(&format!("!{KIND_LABEL}"));
                watches.push(self.watching_some(
                    client,
                    scope,
                    config,
                    |stores| &stores.config_maps,
                    config_maps::view,
                    |stores, key, _| {
                        stores.wake_readers(key);
                    },
                ));
            }
        }
        if self.jobs.is_some() {
            watches.extend(config.scopes().into_iter().map(|scope| self.watching_jobs(client, scope)));
        }
        if !config.usage_period.span().is_zero() {
            watches.extend(config.scopes().into_iter().map(|scope| -> Watching {
                Box::pin(usage::keep(
                    Arc::clone(self),
                    client.clone(),
                    scope,
                    config.usage_period.span().unsigned_abs(),
                ))
            }));
        }
        if config.kubelet_stats {
            let period =
                config.kubelet_stats_period.span().unsigned_abs().max(std::time::Duration::from_secs(1));
            watches.push(Box::pin(volumes::keep(Arc::clone(self), client.clone(), period)));
        }
        watches.push(Box::pin(last_words::listen(Arc::clone(self), client.clone())));
        let (stores, api) = (Arc::clone(self), Api::all(client.clone()));
        watches.push(Box::pin(async move {
            let tell = |told: Told<switches::SwitchRow>| match told {
                Told::Row(key, _) => stores.wake_namespace(&key.name),
                Told::Health => stores.wake_all(),
            };
            let config = watcher::Config::default();
            watch(api, None, config, &stores.namespaces, switches::view_namespace, tell).await;
        }));
        if let Some((key, _)) = &self.switch {
            let (stores, scope) = (Arc::clone(self), key.namespace.to_string());
            let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
            let api = Api::namespaced(client.clone(), &scope);
            watches.push(Box::pin(async move {
                let Some((_, table)) = &stores.switch else { return };
                let tell = |_: Told<switches::SwitchRow>| stores.wake_all();
                watch(api, Some(scope), config, table, switches::view_switch, tell).await;
            }));
        }
        watches
    }

    /// The watch of one kind in one scope; `wake` has those looked at whose verdict a changed row may change.
    fn watching<W, V>(
        self: &Arc<Self>,
        client: &Client,
        scope: Option<&str>,
        table: fn(&Self) -> &Table<V>,
        view: fn(&W) -> Option<(Key, V)>,
        wake: fn(&Self, &Key, &V),
    ) -> Watching
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        W: Clone + DeserializeOwned + Debug + Send + 'static,
        V: Row,
    {
        self.watching_some(client, scope, watcher::Config::default(), table, view, wake)
    }

    /// The same, of those objects that `config` selects.
    fn watching_some<W, V>(
        self: &Arc<Self>,
        client: &Client,
        scope: Option<&str>,
        config: watcher::Config,
        table: fn(&Self) -> &Table<V>,
        view: fn(&W) -> Option<(Key, V)>,
        wake: fn(&Self, &Key, &V),
    ) -> Watching
    where
        W: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        W: Clone + DeserializeOwned + Debug + Send + 'static,
        V: Row,
    {
        let (stores, api) = (Arc::clone(self), scoped(client, scope));
        let scope = scope.map(str::to_owned);
        Box::pin(async move {
            let tell = |told: Told<V>| match told {
                Told::Row(key, row) => wake(&stores, key, row),
                Told::Health => stores.wake_all(),
            };
            watch(api, scope, config, table(&stores), view, tell).await;
        })
    }

    /// The watch of the vertical autoscalers, where the cluster has that kind.
    fn watching_vertical_autoscalers(self: &Arc<Self>, client: &Client, scope: Option<&str>) -> Watching {
        let watching = self.watching(
            client,
            scope,
            |stores| &stores.vertical_autoscalers,
            vertical_autoscalers::view,
            |stores, _, row| {
                stores.wake_target(&row.target);
            },
        );
        let (stores, client) = (Arc::clone(self), client.clone());
        Box::pin(async move {
            if vertical_autoscalers::are_installed(&client).await {
                watching.await;
            } else {
                stores.no_vertical_autoscalers.store(true, Relaxed);
                stores.wake_all();
            }
        })
    }

    /// What else than the policy speaks on requests and limits: vertical autoscalers, and what the namespace limits.
    /// Only a policy that lets limits be raised needs to know.
    fn limits_of(&self, object: &McpServerHealth, target: &Key, now: Timestamp) -> LimitsSeen {
        if !object.spec.raises_resources() {
            return (Reading::Off, Reading::Off);
        }
        let namespace = &target.namespace;
        let rows = self.vertical_autoscalers.of_group(target).into_iter();
        let autoscalers = if self.no_vertical_autoscalers.load(Relaxed) {
            Reading::Off
        } else {
            let autoscalers = rows.map(|(_, row)| row.autoscaler.clone()).collect();
            self.vertical_autoscalers.reading(namespace, now, autoscalers)
        };
        let group = namespace_group(namespace);
        let both = self.quotas.of_group(&group).into_iter().chain(self.limit_ranges.of_group(&group));
        let quotas = both.map(|(_, row)| row.quota.clone()).collect();
        let limit_ranges = self.limit_ranges.reading(namespace, now, ());
        let quotas = limit_ranges.then(quotas, |quotas| self.quotas.reading(namespace, now, quotas));
        (autoscalers, quotas)
    }

    /// The watch of the Jobs that the operator made.
    fn watching_jobs(self: &Arc<Self>, client: &Client, scope: Option<String>) -> Watching {
        let (stores, api) = (Arc::clone(self), scoped(client, scope.as_deref()));
        let config = watcher::Config::default().labels(&format!("{KIND_LABEL}={KIND_JOB}"));
        Box::pin(async move {
            let Some(table) = &stores.jobs else { return };
            let tell = |told: Told<jobs::JobRow>| match told {
                Told::Row(_, row) => stores.wake([row.object.clone()]),
                Told::Health => stores.wake_all(),
            };
            watch(api, scope, config, table, jobs::view, tell).await;
        })
    }

    /// The Jobs that were made for an object. Only a policy that names one needs to know.
    fn jobs_of(&self, object: &McpServerHealth, now: Timestamp) -> Reading<Vec<Job>> {
        let Some(table) = self.jobs.as_ref().filter(|_| object.spec.runs_jobs()) else { return Reading::Off };
        let key = Key::of(object);
        let jobs = table.of_group(&key).into_iter().map(|(_, row)| row.job.clone()).collect();
        table.reading(&key.namespace, now, jobs)
    }

    /// Has these objects looked at.
    pub fn wake(&self, objects: impl IntoIterator<Item = Key>) {
        for object in objects {
            // Fails only when the operator is ending.
            let _ = self.wake.unbounded_send(object);
        }
    }

    fn wake_target(&self, deployment: &Key) {
        self.wake(self.targets.of(deployment));
    }

    fn wake_namespace(&self, namespace: &str) {
        self.wake(self.targets.in_namespace(namespace));
    }

    fn wake_all(&self) {
        self.wake(self.targets.all());
    }

    /// Wakes the servers that read a ConfigMap.
    fn wake_readers(&self, config_map: &Key) {
        for (deployment, row) in self.deployments.of_group(&namespace_group(&config_map.namespace)) {
            if row.reads(&config_map.name) {
                self.wake_target(&deployment);
            }
        }
    }

    /// Wakes the servers behind a Service.
    fn wake_behind(&self, service: &Key) {
        let Some(row) = self.services.get(service) else { return };
        for (deployment, object) in self.targets.pairs_in_namespace(&service.namespace) {
            let behind = deployment.name == service.name
                || self.deployments.get(&deployment).is_some_and(|one| row.selects(&one.pod_labels));
            if behind {
                self.wake([object]);
            }
        }
    }

    /// What is seen of the server of an object, now. Reads stores; calls nobody, but has it asked what containers
    /// said before they ended.
    pub fn signals(&self, object: &McpServerHealth, now: Timestamp) -> Signals {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let name = object.meta().name.as_deref().unwrap_or_default();
        let key = Key::new(namespace, &object.spec.target_ref.name);
        let row = self.deployments.get(&key);
        let target = row.as_ref().map(|row| row.target.clone());
        let (revisions, pods) =
            self.revisions_and_pods(&key, target.as_ref().map_or("", |target| &target.uid), now);
        let labels = row.as_ref().map(|row| &row.pod_labels);
        let services = labels.map(|labels| self.services_of(&key, labels)).unwrap_or_default();
        let autoscalers =
            self.autoscalers.of_group(&key).into_iter().map(|(_, row)| row.autoscaler.clone()).collect();
        let budgets = labels.map(|labels| self.budgets_of(namespace, labels)).unwrap_or_default();
        let (vertical_autoscalers, quotas) = self.limits_of(object, &key, now);
        let slices = self.slices.reading(namespace, now, ());
        let services = slices.then(services, |services| self.services.reading(namespace, now, services));
        let usage = self.usage.reading(namespace, &pods, now);
        let rows = || self.pods_of(namespace, target.as_ref().map_or("", |target| &target.uid));
        let volumes = self.volumes.as_ref().map_or(Reading::Off, |spaces| spaces.reading(&rows(), now));
        let suspended = |row: Option<Arc<switches::SwitchRow>>| row.is_some_and(|row| row.suspended);
        Signals {
            target: self.deployments.reading(namespace, now, target),
            revisions: self.replica_sets.reading(namespace, now, revisions),
            pods: self.pods.reading(namespace, now, pods),
            services,
            autoscalers: self.autoscalers.reading(namespace, now, autoscalers),
            vertical_autoscalers,
            budgets: self.budgets.reading(namespace, now, budgets),
            quotas,
            jobs: self.jobs_of(object, now),
            configs: self.configs_of(object, &key, row.as_ref().map(|row| &row.target), now),
            usage,
            volumes,
            metrics: Reading::Off,
            rules: Reading::Off,
            probes: Reading::Off,
            circuits: Reading::Off,
            dependencies: Reading::Off,
            alerts: Reading::Off,
            report: object.meta().annotations.as_ref().and_then(|all| all.get(REPORT_ANNOTATION)).cloned(),
            namespace_suspended: {
                let row = self.namespaces.get(&Key::new("", namespace));
                self.namespaces.reading("", now, suspended(row))
            },
            cluster_suspended: self.switch.as_ref().map_or(Reading::Fresh(false), |(key, table)| {
                table.reading(&key.namespace, now, suspended(table.get(key)))
            }),
            rival: self.targets.older_than(&key, &Key::new(namespace, name)),
        }
    }

    /// What the next patch of an object's target must know.
    pub fn facts(&self, object: &McpServerHealth) -> Facts {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let row = self.deployments.get(&Key::new(namespace, &object.spec.target_ref.name));
        row.map(|row| row.facts.clone()).unwrap_or_default()
    }

    /// All Deployments, whoever asks for them.
    pub fn deployments(&self) -> Vec<(Key, Arc<DeploymentRow>)> {
        self.deployments.all()
    }

    fn revisions_and_pods(&self, target: &Key, uid: &str, now: Timestamp) -> (Vec<Revision>, Vec<Pod>) {
        let mut revisions = Vec::new();
        let mut pods = Vec::new();
        for (key, row) in self.replica_sets.of_group(&Key::new(&target.namespace, uid)) {
            revisions.push(row.revision.clone());
            for (key, row) in self.pods.of_group(&key) {
                let mut pod = row.pod.clone();
                self.hearing.add_to(target, &key, &mut pod, now);
                pods.push(pod);
            }
        }
        (revisions, pods)
    }

    /// The rows of a Deployment's pods, by its uid.
    fn pods_of(&self, namespace: &str, uid: &str) -> Vec<KeyedPod> {
        let sets = self.replica_sets.of_group(&Key::new(namespace, uid)).into_iter();
        sets.flat_map(|(set, _)| self.pods.of_group(&set)).collect()
    }

    /// All targets, with the rows of their pods.
    fn pods_of_targets(&self) -> Vec<(Key, Vec<KeyedPod>)> {
        let targets = self.targets.targets().into_iter();
        let pods = |target: Key| {
            let row = self.deployments.get(&target)?;
            let pods = self.pods_of(&target.namespace, &row.target.uid);
            Some((target, pods))
        };
        targets.filter_map(pods).collect()
    }

    /// Whether a pod belongs to a target of any object.
    fn is_of_a_target(&self, pod: &Key) -> bool {
        let set = self.pods.get(pod).and_then(|row| self.replica_sets.get(&row.owner));
        set.is_some_and(|set| !self.targets.of(&set.deployment).is_empty())
    }

    /// The disruption budgets that cover the pods.
    fn budgets_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Budget> {
        let all = self.budgets.of_group(&namespace_group(namespace)).into_iter();
        all.filter(|(_, row)| row.covers(labels)).map(|(_, row)| row.budget.clone()).collect()
    }

    /// The ConfigMaps that a server reads, each with the other Deployments that read it. Off where its policy does not
    /// let the operator change any: then they are no evidence, and nothing waits for them.
    fn configs_of(
        &self,
        object: &McpServerHealth,
        deployment: &Key,
        target: Option<&Target>,
        now: Timestamp,
    ) -> Reading<Vec<ConfigSeen>> {
        let used = target.map(|target| target.config_maps.as_slice()).unwrap_or_default();
        if !self.rolls_config_back || !object.spec.actions.allow.contains(&ActionType::RollbackConfig) {
            return Reading::Off;
        }
        if used.is_empty() {
            return Reading::Fresh(Vec::new());
        }
        let all = self.deployments.of_group(&namespace_group(&deployment.namespace));
        let found = used.iter().filter_map(|used| {
            let row = self.config_maps.get(&Key::new(&deployment.namespace, &used.name))?;
            let others = all.iter().filter(|(key, row)| key != deployment && row.reads(&used.name));
            let shared_with = others.map(|(key, _)| key.name.to_string()).collect();
            Some(ConfigSeen { shared_with, ..row.config.clone() })
        });
        self.config_maps.reading(&deployment.namespace, now, found.collect())
    }

    /// The Services that select the pods; and the one of the Deployment's name, whatever it selects.
    fn services_of(&self, deployment: &Key, labels: &BTreeMap<String, String>) -> Vec<Service> {
        let all = self.services.of_group(&namespace_group(&deployment.namespace));
        let leading = all.into_iter().filter(|(key, row)| row.selects(labels) || key.name == deployment.name);
        leading
            .map(|(key, row)| {
                let slices = self.slices.of_group(&key);
                let selector = row.selector.iter().map(|(name, value)| format!("{name}={value}"));
                Service {
                    name: key.name.to_string(),
                    selects_pods: row.selects(labels),
                    selector: selector.collect::<Vec<_>>().join(","),
                    sticky: row.sticky,
                    target_ports: row.target_ports.clone(),
                    ready_endpoints: slices.iter().map(|(_, slice)| slice.ready).sum(),
                    since: slices.iter().map(|(_, slice)| slice.since).max().unwrap_or(row.created),
                }
            })
            .collect()
    }
}

fn scoped<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
