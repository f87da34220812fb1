//! What is seen of one server, read from the stores.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use jiff::Timestamp;
use kube::Resource;
use mcp_health_api::{
    ActionType, LIFT_PROHIBITION_ANNOTATION, McpServerHealth, REPORT_ANNOTATION, SETTLED_ANNOTATION,
};
use mcp_health_core::{
    prohibition,
    signals::{
        Alert, Autoscaler, Budget, Config as ConfigSeen, Job, Pod, Quota, Reading, Revision, Service,
        Signals, Target, Usage,
    },
};

use super::{
    dependencies, nodes,
    pods::KeyedPod,
    services::{EndpointSliceRow, ServiceRow, namespace_group},
    stores::Stores,
    table::Key,
};

/// A target, its revisions and its pods.
type WorkloadSeen = (Reading<Option<Target>>, Reading<Vec<Revision>>, Reading<Vec<Pod>>);
/// Vertical autoscalers, and what the namespace limits.
type LimitsSeen = (Reading<Vec<Autoscaler>>, Reading<Vec<Quota>>);

impl Stores {
    /// Has the logs fetched of containers of a server that ended, where none was yet. What is seen next of
    /// the server says that they are awaited.
    pub fn ask_for_logs(&self, object: &McpServerHealth, now: Timestamp) {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let target = Key::new(namespace, &object.spec.target_ref.name);
        let Some(row) = self.deployments.get(&target) else { return };
        for (key, row) in self.pods_of(namespace, &row.target.uid) {
            self.hearing.ask(&target, &key, &row.pod, now);
        }
    }

    /// What is seen of the server of an object, now. Reads stores; calls nobody, and changes nothing.
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
        let rows = self.pods_of(namespace, target.as_ref().map_or("", |target| &target.uid));
        let (usage, resident) = self.used_by(&own, &pods, &rows, now);
        let volumes = self.volumes.as_ref().map_or(Reading::Off, |spaces| spaces.reading(&rows, now));
        let (probes, circuits) = self.probed(object, row.as_deref(), now);
        let (database, postgres) = self.database_of(object, now);
        let nodes = nodes::reading(self.nodes.as_ref(), rows.iter().map(|(_, row)| &**row), now);
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
            dependencies: dependencies::aged(self.depended_on(object, postgres.as_ref()), now),
            database,
            alerts,
            report: annotation(object, REPORT_ANNOTATION).map(str::to_owned),
            // What is no moment says nothing.
            settled: annotation(object, SETTLED_ANNOTATION).and_then(|at| at.trim().parse().ok()),
            lift: annotation(object, LIFT_PROHIBITION_ANNOTATION).map(prohibition::parse_lift),
            namespace_suspended: self.namespace_is_suspended(namespace, now),
            cluster_suspended: self.cluster_is_suspended(now),
            rival: self.targets.older_than(&key, &own),
        }
    }

    /// What the containers of these pods use, and what of their memory is no page cache: as Prometheus tells
    /// it, or else metrics-server and the kubelets.
    fn used_by(
        &self,
        object: &Key,
        pods: &[Pod],
        rows: &[KeyedPod],
        now: Timestamp,
    ) -> (Reading<Vec<Usage>>, Reading<Vec<Usage>>) {
        let usage = match self.prometheus.usage(object, pods, now) {
            Some(usage) => Reading::Fresh(usage),
            None => self.usage.reading(&object.namespace, pods, now),
        };
        let resident = match self.prometheus.resident(object, pods, now) {
            Some(resident) => Reading::Fresh(resident),
            None => self.volumes.as_ref().map_or(Reading::Off, |spaces| spaces.resident(rows, now)),
        };
        (usage, resident)
    }

    fn namespace_is_suspended(&self, namespace: &str, now: Timestamp) -> Reading<bool> {
        let is_it = |key: &Key, _: &[String]| key.name.is_empty() || &*key.name == namespace;
        let is_suspended = self.namespaces.get(&Key::new("", namespace)).is_some_and(|row| row.suspended);
        self.namespaces.reading_of("", now, is_suspended, is_it)
    }

    fn cluster_is_suspended(&self, now: Timestamp) -> Reading<bool> {
        let Some((key, table)) = &self.switch else { return Reading::Fresh(false) };
        let is_suspended = table.get(key).is_some_and(|row| row.suspended);
        table.reading(&key.namespace, now, is_suspended)
    }

    /// What else than the policy speaks on requests and limits: vertical autoscalers, and what the namespace
    /// limits. Only a policy that lets limits be raised needs to know.
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

    /// A target, its revisions and its pods, each worth what its watch is worth, and what its own objects
    /// are: one that cannot be read makes unavailable what it belongs to, and nothing else.
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

    fn revisions_and_pods(&self, target: &Key, uid: &str, now: Timestamp) -> (Vec<Revision>, Vec<Pod>) {
        let mut revisions = Vec::new();
        let mut pods = Vec::new();
        for (key, row) in self.replica_sets.of_group(&Key::new(&target.namespace, uid)) {
            revisions.push(row.revision.clone());
            for (key, row) in self.pods.of_group(&key) {
                let mut pod = row.pod.clone();
                self.hearing.add_to(&key, &mut pod);
                if !pod.ready && !pod.deleting {
                    pod.troubles = self.events.of(&pod.uid, now);
                }
                pods.push(pod);
            }
        }
        (revisions, pods)
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

    /// Whose pods are among these endpoints beside the Deployment's own. A pod that is not known yet may be
    /// its own.
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
