//! observe: the tables that watches keep up, and the signals of one server read from them. Reading them is
//! all that a reconcile does to see; and a change wakes only the servers whose verdict it may change.

mod alertmanager;
mod autoscalers;
mod backoff;
mod budgets;
mod config_maps;
mod config_readers;
mod dependencies;
mod deployments;
mod guarded;
mod jobs;
mod judged;
mod last_words;
pub mod list_watch;
mod nodes;
mod pod_events;
mod pod_spec;
mod pods;
mod postgres;
mod probes;
mod prometheus;
mod quotas;
mod references;
mod replica_sets;
mod requests;
mod scrape;
mod secrets;
mod services;
mod switches;
pub mod table;
mod targets;
pub mod urgent;
mod usage;
mod vertical_autoscalers;
mod volumes;
pub mod watch;
pub mod watches;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use kube::Resource;
use mcp_health_api::{
    ActionType, LIFT_PROHIBITION_ANNOTATION, McpServerHealth, REPORT_ANNOTATION, SETTLED_ANNOTATION,
};
use mcp_health_core::{
    Settings, prohibition,
    signals::{
        Alert, Autoscaler, Budget, Config as ConfigSeen, Job, Pod, Quota, Reading, Revision, Service,
        Signals, Target,
    },
};

pub use config_maps::ConfigMapWire;
pub use deployments::{DeploymentRow, DeploymentWire, Facts};
pub use guarded::{Guarded, without_bookkeeping};
use list_watch::Pace;
pub use pod_spec::config_maps as config_maps_of;
pub use postgres::Databases;
pub use probes::Asking;
pub use prometheus::Poller;
pub use references::look_up;
pub use replica_sets::ReplicaSetWire;
pub use secrets::Secrets;
use services::{EndpointSliceRow, ServiceRow, namespace_group};
pub use switches::{NamespaceWire, SwitchWire, is_suspended, is_thrown};
use table::{Key, Table};
pub use targets::{Targets, note as note_targets};

use crate::config::Config;

/// A pod, by its key.
type KeyedPod = (Key, Arc<pods::PodRow>);
/// A target, its revisions and its pods.
type WorkloadSeen = (Reading<Option<Target>>, Reading<Vec<Revision>>, Reading<Vec<Pod>>);
/// Vertical autoscalers, and what the namespace limits.
type LimitsSeen = (Reading<Vec<Autoscaler>>, Reading<Vec<Quota>>);

/// All tables.
pub struct Stores {
    /// How the watch of McpServerHealth objects is doing, by scope.
    pub objects: Table<()>,
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
    /// Without a scope where the operator does not run Jobs.
    jobs: Table<jobs::JobRow>,
    runs_jobs: bool,
    /// Without a scope where the operator does not roll configuration back.
    config_maps: Table<config_maps::ConfigMapRow>,
    rolls_config_back: bool,
    /// Without a scope where the operator does not roll configuration back.
    config_readers: config_readers::ConfigReaders,
    namespaces: Table<switches::SwitchRow>,
    /// Only where the operator may read nodes.
    nodes: Option<Table<nodes::NodeRow>>,
    switch: Option<(Key, Table<switches::SwitchRow>)>,
    usage: usage::Measured,
    /// Only where pods are asked for their metrics.
    scraped: Option<scrape::Scraped>,
    /// Only where there is an Alertmanager.
    alerts: Option<alertmanager::Alerts>,
    prometheus: prometheus::Sight,
    /// Only where kubelets are asked.
    volumes: Option<volumes::Spaces>,
    /// The operator's own requests at servers.
    pub requests: requests::Requests<Key>,
    /// Only where servers are asked.
    pub probes: Option<probes::Probes>,
    /// Only where servers are asked.
    pub databases: Option<Databases>,
    /// Only where what they depend on is asked, which is where they are.
    pub dependencies: Option<dependencies::Dependencies>,
    /// Whether what a rollback's template names exists.
    pub references: references::References,
    /// The logs of containers that ended.
    hearing: last_words::Hearing,
    /// What Events say of pods.
    events: pod_events::PodEvents,
    settings: Settings,
    /// Whose dependencies are asked at once.
    pub urgent: urgent::Urgent,
    /// What the rules made of it all.
    pub judged: judged::Judged,
    /// Which objects have which target.
    pub targets: Targets,
    wake: UnboundedSender<Key>,
}

impl Stores {
    /// Empty tables; `wake` hears the keys of the objects that are to be looked at.
    pub fn new(config: &Config, wake: UnboundedSender<Key>) -> Result<Self, String> {
        let scopes = config.scopes();
        let all = [None];
        let pace = Pace::of(config);
        let stale_after = pace.stale_after();
        let switch = (!config.switch_configmap.is_empty()).then(|| {
            let key = Key::new(&config.lease_namespace, &config.switch_configmap);
            (key, Table::new(&[Some(config.lease_namespace.clone())], stale_after))
        });
        Ok(Self {
            objects: Table::new(&scopes, stale_after),
            deployments: Table::new(&scopes, stale_after),
            replica_sets: Table::new(&scopes, stale_after),
            pods: Table::new(&scopes, stale_after),
            services: Table::new(&scopes, stale_after),
            slices: Table::new(&scopes, stale_after),
            autoscalers: Table::new(&scopes, stale_after),
            vertical_autoscalers: Table::new(&scopes, stale_after),
            no_vertical_autoscalers: AtomicBool::new(false),
            quotas: Table::new(&scopes, stale_after),
            limit_ranges: Table::new(&scopes, stale_after),
            budgets: Table::new(&scopes, stale_after),
            jobs: Table::new(if config.run_jobs { &scopes } else { &[] }, stale_after),
            runs_jobs: config.run_jobs,
            config_maps: Table::new(if config.rolls_config_back { &scopes } else { &[] }, stale_after),
            rolls_config_back: config.rolls_config_back,
            config_readers: config_readers::ConfigReaders::new(
                if config.rolls_config_back { &scopes } else { &[] },
                stale_after,
            ),
            namespaces: Table::new(&all, stale_after),
            nodes: config.nodes.then(|| Table::new(&all, stale_after)),
            switch,
            usage: usage::Measured::new(&scopes, pace, config.usage_period.span().unsigned_abs()),
            scraped: (!config.scrape_period.span().is_zero())
                .then(|| scrape::Scraped::new(config.scrape_period.span().unsigned_abs(), config.naming())),
            alerts: config
                .alertmanager_url
                .clone()
                .map(|url| alertmanager::Alerts::new(url, config.alertmanager_period.span().unsigned_abs())),
            prometheus: prometheus::Sight::new(config)?,
            volumes: config.kubelet_stats.then(|| volumes::Spaces::new(config)),
            requests: requests::Requests::new(config.probe_requests_per_minute),
            probes: config.probes.then(probes::Probes::default),
            databases: config.probes.then(Databases::default),
            dependencies: config.probes.then(dependencies::Dependencies::default),
            references: references::References::default(),
            hearing: last_words::Hearing::default(),
            events: pod_events::PodEvents::default(),
            settings: config.settings(),
            urgent: urgent::Urgent::default(),
            judged: judged::Judged::default(),
            targets: Targets::default(),
            wake,
        })
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
            && self.jobs.is_settled()
            && self.config_maps.is_settled()
            && self.namespaces.is_settled()
            && self.nodes.as_ref().is_none_or(Table::is_settled)
            && self.switch.as_ref().is_none_or(|(_, table)| table.is_settled())
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

    /// The Jobs that were made for an object. Only a policy that names one needs to know.
    fn jobs_of(&self, object: &McpServerHealth, now: Timestamp) -> Reading<Vec<Job>> {
        if !self.runs_jobs || !object.spec.runs_jobs() {
            return Reading::Off;
        }
        let key = Key::of(object);
        let jobs = self.jobs.of_group(&key).into_iter().map(|(_, row)| row.job.clone()).collect();
        self.jobs.reading(&key.namespace, now, jobs)
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
        let alerts = self.alerts_of(object, &key, (&pods, &services), now);
        let slices = self.slices.reading(namespace, now, ());
        let services = slices.then(services, |services| self.services.reading(namespace, now, services));
        let own = Key::new(namespace, name);
        let (told, rules) = self.prometheus.readings(object, now);
        let scraped = self.scraped.as_ref().filter(|_| self.is_scraped(object));
        let metrics = scraped.map_or(told, |scraped| scraped.reading(&own, object, &pods, now));
        let usage = match self.prometheus.usage(&own, &pods, now) {
            Some(usage) => Reading::Fresh(usage),
            None => self.usage.reading(namespace, &pods, now),
        };
        let rows = || self.pods_of(namespace, target.as_ref().map_or("", |target| &target.uid));
        let volumes = self.volumes.as_ref().map_or(Reading::Off, |spaces| spaces.reading(&rows(), now));
        let resident = match self.prometheus.resident(&own, &pods, now) {
            Some(resident) => Reading::Fresh(resident),
            None => self.volumes.as_ref().map_or(Reading::Off, |spaces| spaces.resident(&rows(), now)),
        };
        let (probes, circuits) = self.probed(object, row.as_deref(), now);
        let (database, postgres) = self.database_of(object, now);
        let suspended = |row: Option<Arc<switches::SwitchRow>>| row.is_some_and(|row| row.suspended);
        let nodes = self.nodes_of(rows().iter().map(|(_, row)| &**row), now);
        let (target, revisions, pods) = self.worth_of(&key, now, (target, revisions, pods));
        Signals {
            policy: self.objects.reading(namespace, now, ()),
            target,
            revisions,
            pods,
            nodes,
            services,
            autoscalers: self.autoscalers.reading(namespace, now, autoscalers),
            vertical_autoscalers,
            budgets: self.budgets.reading(namespace, now, budgets),
            quotas,
            references: Vec::new(),
            jobs: self.jobs_of(object, now),
            configs: self.configs_of(object, &key, row.as_ref().map(|row| &row.target), now),
            usage,
            resident,
            volumes,
            metrics,
            rules,
            probes,
            circuits,
            dependencies: dependencies::aged(self.depended_on(object, postgres), now),
            database,
            alerts,
            report: annotation(object, REPORT_ANNOTATION).map(str::to_owned),
            // What is no moment says nothing.
            settled: annotation(object, SETTLED_ANNOTATION).and_then(|at| at.trim().parse().ok()),
            lift: annotation(object, LIFT_PROHIBITION_ANNOTATION).map(prohibition::parse_lift),
            namespace_suspended: {
                let row = self.namespaces.get(&Key::new("", namespace));
                let is_it = |key: &Key, _: &[String]| key.name.is_empty() || &*key.name == namespace;
                self.namespaces.reading_of("", now, suspended(row), is_it)
            },
            cluster_suspended: self.switch.as_ref().map_or(Reading::Fresh(false), |(key, table)| {
                table.reading(&key.namespace, now, suspended(table.get(key)))
            }),
            rival: self.targets.older_than(&key, &own),
        }
    }

    /// Whether a ConfigMap exists, where they are watched.
    fn has_config_map(&self, key: &Key, now: Timestamp) -> Option<bool> {
        let exists = self.rolls_config_back.then(|| self.config_maps.get(key).is_some())?;
        self.config_maps.reading(&key.namespace, now, exists).fresh().copied()
    }

    /// A target, its revisions and its pods, each worth what its watch is worth, and what its own objects are: one that
    /// cannot be read makes unavailable what it belongs to, and nothing else.
    fn worth_of(
        &self,
        key: &Key,
        now: Timestamp,
        (target, revisions, pods): (Option<Target>, Vec<Revision>, Vec<Pod>),
    ) -> WorkloadSeen {
        let uid = target.as_ref().map(|target| target.uid.clone()).unwrap_or_default();
        let sets: Vec<String> = revisions.iter().map(|revision| revision.uid.clone()).collect();
        let namespace = &*key.namespace;
        let is_it = |one: &Key, _: &[String]| one.name.is_empty() || one == key;
        let of_target = |one: &Key, owners: &[String]| one.name.is_empty() || owners.contains(&uid);
        let of_sets = |one: &Key, owners: &[String]| {
            one.name.is_empty() || owners.iter().any(|owner| sets.contains(owner))
        };
        (
            self.deployments.reading_of(namespace, now, target, is_it),
            self.replica_sets.reading_of(namespace, now, revisions, of_target),
            self.pods.reading_of(namespace, now, pods, of_sets),
        )
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
                if !pod.ready && !pod.deleting {
                    pod.troubles = self.events.of(&pod.uid, now);
                }
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

    /// Whether Prometheus tells what the pods of all targets in a scope use: nobody else is asked then.
    fn prometheus_tells_usage(&self, scope: &str, now: Timestamp) -> bool {
        let all = self.pods_of_targets();
        let mut in_scope = all.iter().filter(|(target, _)| scope.is_empty() || &*target.namespace == scope);
        in_scope.all(|(target, pods)| {
            let mut objects = self.targets.of(target).into_iter();
            objects
                .all(|object| self.prometheus.tells_usage(&object, pods.iter().map(|(_, row)| &row.pod), now))
        })
    }

    /// Whether a pod belongs to a target of any object.
    fn is_of_a_target(&self, pod: &Key) -> bool {
        let set = self.pods.get(pod).and_then(|row| self.replica_sets.get(&row.owner));
        set.is_some_and(|set| !self.targets.of(&set.deployment).is_empty())
    }

    /// The alerts about a server, unless its policy does not want to hear of any.
    fn alerts_of(
        &self,
        object: &McpServerHealth,
        target: &Key,
        (pods, services): (&[Pod], &[Service]),
        now: Timestamp,
    ) -> Reading<Vec<Alert>> {
        let wanted = object.spec.signals.alertmanager.as_ref().is_none_or(|own| own.enabled);
        let Some(alerts) = self.alerts.as_ref().filter(|_| wanted) else { return Reading::Off };
        let pods: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let leading = services.iter().filter(|service| service.selects_pods);
        let services: Vec<&str> = leading.map(|service| service.name.as_str()).collect();
        alerts.reading(&target.namespace, &target.name, (&pods, &services), now)
    }

    /// The disruption budgets that cover the pods.
    fn budgets_of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Budget> {
        let all = self.budgets.of_group(&namespace_group(namespace)).into_iter();
        all.filter(|(_, row)| row.covers(labels)).map(|(_, row)| row.budget.clone()).collect()
    }

    /// The ConfigMaps that a server reads; where its policy lets the operator change them, each with what
    /// else reads it. Where it does not, nothing waits for them.
    fn configs_of(
        &self,
        object: &McpServerHealth,
        deployment: &Key,
        target: Option<&Target>,
        now: Timestamp,
    ) -> Reading<Vec<ConfigSeen>> {
        let used = target.map(|target| target.config_maps.as_slice()).unwrap_or_default();
        if !self.rolls_config_back {
            return Reading::Off;
        }
        if used.is_empty() {
            return Reading::Fresh(Vec::new());
        }
        let may_change = object.spec.actions.allow.contains(&ActionType::RollbackConfig);
        let of_namespace = || self.deployments.of_group(&namespace_group(&deployment.namespace));
        let all = if may_change { of_namespace() } else { Vec::new() };
        let found = used.iter().filter_map(|used| {
            let row = self.config_maps.get(&Key::new(&deployment.namespace, &used.name))?;
            if !may_change {
                return Some(row.config.clone());
            }
            let others = all.iter().filter(|(key, row)| key != deployment && row.reads(&used.name));
            let mut shared_with: Vec<String> =
                others.map(|(key, _)| format!("Deployment {}", key.name)).collect();
            shared_with.extend(self.config_readers.of(&deployment.namespace, &used.name));
            let unchecked = self.config_readers.unchecked(&deployment.namespace, now);
            Some(ConfigSeen { shared_with, unchecked, ..row.config.clone() })
        });
        match self.config_maps.reading(&deployment.namespace, now, found.collect()) {
            Reading::Fresh(configs) => Reading::Fresh(configs),
            _ if !may_change => Reading::Off,
            missing => missing,
        }
    }

    /// Whose pods are among these endpoints beside the Deployment's own. A pod that is not known yet may be its own.
    fn foreign_of<'a>(&self, deployment: &Key, pods: impl Iterator<Item = &'a Box<str>>) -> Vec<String> {
        let mut foreign: Vec<String> = pods
            .filter_map(|name| {
                let pod = self.pods.get(&Key::new(&deployment.namespace, name))?;
                let set = self.replica_sets.get(&pod.owner)?;
                (set.deployment != *deployment).then(|| format!("pods of Deployment {}", set.deployment.name))
            })
            .collect();
        foreign.sort();
        foreign.dedup();
        foreign
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
                    ports: row.ports.clone(),
                    unresolved: unresolved(&row, &slices),
                    ready_endpoints: slices.iter().map(|(_, slice)| slice.ready).sum(),
                    foreign: self.foreign_of(deployment, slices.iter().flat_map(|(_, slice)| &slice.pods)),
                    since: slices.iter().map(|(_, slice)| slice.since).max().unwrap_or(row.created),
                }
            })
            .collect()
    }
}

/// The ports of a Service, by name, that no ready endpoint of it has a port for.
fn unresolved(service: &ServiceRow, slices: &[(Key, Arc<EndpointSliceRow>)]) -> Vec<String> {
    let ready = || slices.iter().map(|(_, slice)| slice).filter(|slice| slice.ready > 0);
    let is_resolved = |name: &str| {
        ready().next().is_none() || ready().any(|one| one.ports.iter().any(|port| **port == *name))
    };
    service.ports.iter().filter(|port| !is_resolved(&port.name)).map(|port| port.name.clone()).collect()
}

/// What stands in an annotation of an object.
fn annotation<'a>(object: &'a McpServerHealth, name: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(name).map(String::as_str)
}
