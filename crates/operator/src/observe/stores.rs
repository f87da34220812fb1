//! The tables that watches keep up, and what sources tell, for all servers. Reconciles read it; it calls
//! nobody.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use kube::Resource;
use mcp_health_api::McpServerHealth;
use mcp_health_core::Settings;

use super::{
    alertmanager, autoscalers, budgets, config_maps, config_readers, dependencies,
    deployments::{DeploymentRow, Facts},
    jobs, judged, last_words,
    list_watch::Pace,
    nodes, pod_events,
    pods::{self, KeyedPod},
    postgres::Databases,
    probes, prometheus, quotas, references, replica_sets, requests, scrape, services, switches,
    table::{Key, Table},
    targets::Targets,
    urgent, usage, volumes,
};
use crate::config::Config;

/// All tables.
pub struct Stores {
    /// How the watch of McpServerHealth objects is doing, by scope.
    pub objects: Table<()>,
    pub deployments: Table<DeploymentRow>,
    pub replica_sets: Table<replica_sets::ReplicaSetRow>,
    pub pods: Table<pods::PodRow>,
    pub services: Table<services::ServiceRow>,
    pub slices: Table<services::EndpointSliceRow>,
    pub autoscalers: Table<autoscalers::AutoscalerRow>,
    pub vertical_autoscalers: Table<autoscalers::AutoscalerRow>,
    /// The cluster does not have the kind.
    pub no_vertical_autoscalers: AtomicBool,
    pub quotas: Table<quotas::QuotaRow>,
    pub limit_ranges: Table<quotas::QuotaRow>,
    pub budgets: Table<budgets::BudgetRow>,
    /// Without a scope where the operator does not run Jobs.
    pub jobs: Table<jobs::JobRow>,
    pub runs_jobs: bool,
    /// Without a scope where the operator does not roll configuration back.
    pub config_maps: Table<config_maps::ConfigMapRow>,
    pub rolls_config_back: bool,
    /// Without a scope where the operator does not roll configuration back.
    pub config_readers: config_readers::ConfigReaders,
    pub namespaces: Table<switches::SwitchRow>,
    /// Only where the operator may read nodes.
    pub nodes: Option<Table<nodes::NodeRow>>,
    pub switch: Option<(Key, Table<switches::SwitchRow>)>,
    pub usage: usage::Measured,
    /// Only where pods are asked for their metrics.
    pub scraped: Option<scrape::Scraped>,
    /// Only where there is an Alertmanager.
    pub alerts: Option<alertmanager::Alerts>,
    pub prometheus: prometheus::Sight,
    /// Only where kubelets are asked.
    pub volumes: Option<volumes::Spaces>,
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
    pub hearing: last_words::Hearing,
    /// What Events say of pods.
    pub events: pod_events::PodEvents,
    pub settings: Settings,
    /// Whose dependencies are asked at once.
    pub urgent: urgent::Urgent,
    /// What the rules made of it all.
    pub judged: judged::Judged,
    /// Which objects have which target.
    pub targets: Targets,
    pub wake: UnboundedSender<Key>,
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

    /// Whether a ConfigMap exists, where they are watched.
    pub fn has_config_map(&self, key: &Key, now: Timestamp) -> Option<bool> {
        let exists = self.rolls_config_back.then(|| self.config_maps.get(key).is_some())?;
        self.config_maps.reading(&key.namespace, now, exists).fresh().copied()
    }

    /// The rows of a Deployment's pods, by its uid.
    pub fn pods_of(&self, namespace: &str, uid: &str) -> Vec<KeyedPod> {
        let sets = self.replica_sets.of_group(&Key::new(namespace, uid)).into_iter();
        sets.flat_map(|(set, _)| self.pods.of_group(&set)).collect()
    }

    /// All targets, with the rows of their pods.
    pub fn pods_of_targets(&self) -> Vec<(Key, Vec<KeyedPod>)> {
        let targets = self.targets.targets().into_iter();
        let pods = |target: Key| {
            let row = self.deployments.get(&target)?;
            let pods = self.pods_of(&target.namespace, &row.target.uid);
            Some((target, pods))
        };
        targets.filter_map(pods).collect()
    }

    /// Whether Prometheus tells what the pods of all targets in a scope use: nobody else is asked then.
    pub fn prometheus_tells_usage(&self, scope: &str, now: Timestamp) -> bool {
        let all = self.pods_of_targets();
        let mut in_scope = all.iter().filter(|(target, _)| scope.is_empty() || &*target.namespace == scope);
        in_scope.all(|(target, pods)| {
            let mut objects = self.targets.of(target).into_iter();
            objects
                .all(|object| self.prometheus.tells_usage(&object, pods.iter().map(|(_, row)| &row.pod), now))
        })
    }

    /// Whether a pod belongs to a target of any object.
    pub fn is_of_a_target(&self, pod: &Key) -> bool {
        let set = self.pods.get(pod).and_then(|row| self.replica_sets.get(&row.owner));
        set.is_some_and(|set| !self.targets.of(&set.deployment).is_empty())
    }
}
