//! Whose a series is, by its labels: an index of what is known of all targets, built once a tick.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use mcp_health_api::{Label, PrometheusSignal};
use mcp_health_core::metrics::label_names_of;

use super::answer::Row;

/// What is known of a target.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The Deployment's name.
    pub deployment: Arc<str>,
    /// Its pods of today, with their addresses.
    pub pods: Vec<(String, Option<IpAddr>)>,
    /// Its ReplicaSets: pods of before had their names.
    pub replica_sets: Vec<String>,
    /// The Services that lead to it.
    pub services: Vec<String>,
}

/// See the module. Targets are numbered as they were given.
#[derive(Default)]
pub struct Index {
    namespaces: HashMap<Arc<str>, Namespace>,
    /// None where several pods have the address: nothing tells which one it was.
    addresses: HashMap<IpAddr, Option<(usize, String)>>,
}

#[derive(Default)]
struct Namespace {
    deployments: HashMap<Arc<str>, usize>,
    pods: HashMap<String, usize>,
    replica_sets: HashMap<String, usize>,
    /// None where a Service leads to several.
    services: HashMap<String, Option<usize>>,
}

/// Whose a series is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The target of this number, and the pod where it is known.
    Target(usize, Option<&'a str>),
    /// Nothing tells: whoever asked for just this gets it. The namespace, where it is told.
    Unsaid(Option<&'a str>),
    /// Somebody else.
    Nobody,
}

/// The names of the labels that tell whose a series is.
pub struct Names<'a> {
    namespace: Vec<&'a str>,
    pod: Vec<&'a str>,
    service: Vec<&'a str>,
    deployment: Vec<&'a str>,
    instance: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// Those of a mapping.
    pub fn of(signal: &'a PrometheusSignal) -> Self {
        Self {
            namespace: label_names_of(Label::Namespace, signal),
            pod: label_names_of(Label::Pod, signal),
            service: label_names_of(Label::Service, signal),
            deployment: label_names_of(Label::Deployment, signal),
            instance: label_names_of(Label::Instance, signal),
        }
    }

    /// The address that was scraped.
    pub fn instance<'b>(&self, row: &'b Row<'_>) -> Option<&'b str> {
        row.first(&self.instance)
    }

    /// Whether a label tells whose a series is.
    pub fn has(&self, name: &str) -> bool {
        let mut all =
            [&self.namespace, &self.pod, &self.service, &self.deployment, &self.instance].into_iter();
        all.any(|names| names.contains(&name))
    }
}

impl Index {
    /// The index of these targets.
    pub fn new(targets: &[Known]) -> Self {
        let mut index = Self::default();
        for (number, target) in targets.iter().enumerate() {
            let namespace = index.namespaces.entry(Arc::clone(&target.namespace)).or_default();
            namespace.deployments.insert(Arc::clone(&target.deployment), number);
            namespace.replica_sets.extend(target.replica_sets.iter().map(|set| (set.clone(), number)));
            for service in &target.services {
                let among = namespace.services.entry(service.clone());
                among.and_modify(|known| *known = None).or_insert(Some(number));
            }
            for (pod, address) in &target.pods {
                namespace.pods.insert(pod.clone(), number);
                let Some(address) = address else { continue };
                match index.addresses.entry(*address) {
                    Entry::Occupied(mut known) => *known.get_mut() = None,
                    Entry::Vacant(free) => {
                        free.insert(Some((number, pod.clone())));
                    }
                }
            }
        }
        index
    }

    /// Whose a series is: the pod's that it names; else the pod's at the address that was scraped; else the Service's
    /// or the Deployment's that it names. Without a namespace, only the address tells.
    pub fn owner<'a>(&'a self, row: &'a Row<'_>, names: &Names) -> Owner<'a> {
        let said = row.first(&names.namespace);
        let namespace = said.and_then(|name| self.namespaces.get(name));
        if let Some(pod) = row.first(&names.pod) {
            let Some(namespace) = namespace else { return Owner::Nobody };
            let before = || namespace.replica_sets.get(pod.rsplit_once('-')?.0);
            return match namespace.pods.get(pod).or_else(before) {
                Some(number) => Owner::Target(*number, Some(pod)),
                None => Owner::Nobody,
            };
        }
        let instance = names.instance(row);
        let at_address = || self.addresses.get(&address(instance?)?)?.as_ref();
        if let Some((number, pod)) = at_address() {
            let is_there = said.is_none() || namespace.is_some_and(|one| one.pods.get(pod) == Some(number));
            return if is_there { Owner::Target(*number, Some(pod)) } else { Owner::Nobody };
        }
        let (service, deployment) = (row.first(&names.service), row.first(&names.deployment));
        if instance.is_none() && service.is_none() && deployment.is_none() {
            return Owner::Unsaid(said);
        }
        let Some(namespace) = namespace else { return Owner::Nobody };
        let behind = || namespace.services.get(service?).copied().flatten();
        let deployed = || namespace.deployments.get(deployment?).copied();
        match behind().or_else(deployed) {
            Some(number) => Owner::Target(number, None),
            None => Owner::Nobody,
        }
    }
}

/// The address of `10.0.0.7:8000`, `[fd00::7]:8000` or `10.0.0.7`.
fn address(instance: &str) -> Option<IpAddr> {
    let host = match instance.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if instance.matches(':').count() == 1 => instance.split_once(':')?.0,
        None => instance,
    };
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;

    use super::*;

    fn target(namespace: &str, name: &str, pod: &str, address: &str, services: &[&str]) -> Known {
        Known {
            namespace: namespace.into(),
            deployment: name.into(),
            pods: vec![(pod.to_owned(), address.parse().ok())],
            replica_sets: vec![pod.rsplit_once('-').unwrap().0.to_owned(), format!("{name}-old")],
            services: services.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    /// `mcp/web` is 0, `other/web` 1, of the same names; `mcp/api` 2 and `mcp/job` 3 share a node's address.
    fn index() -> Index {
        Index::new(&[
            target("mcp", "web", "web-6f4c-aaaaa", "10.0.0.1", &["web", "all"]),
            target("other", "web", "web-6f4c-aaaaa", "10.0.0.2", &["web"]),
            target("mcp", "api", "api-77aa-bbbbb", "192.168.0.1", &["all"]),
            target("mcp", "job", "job-55cc-ccccc", "192.168.0.1", &[]),
        ])
    }

    fn owner(labels: &[(&str, &str)]) -> String {
        let labels =
            labels.iter().map(|(name, value)| ((*name).to_owned().into(), (*value).to_owned().into()));
        let row = Row { labels: labels.collect(), at: Timestamp::UNIX_EPOCH, value: 1.0 };
        let (index, signal) = (index(), PrometheusSignal::default());
        match index.owner(&row, &Names::of(&signal)) {
            Owner::Target(number, pod) => format!("{number} {}", pod.unwrap_or("-")),
            Owner::Unsaid(namespace) => format!("unsaid {}", namespace.unwrap_or("-")),
            Owner::Nobody => "nobody".to_owned(),
        }
    }

    #[test]
    fn a_series_is_its_pods_whatever_its_monitor_calls_the_labels() {
        for labels in [["namespace", "pod"], ["kubernetes_namespace", "kubernetes_pod_name"]] {
            let of = |namespace: &str| {
                owner(&[(labels[0], namespace), (labels[1], "web-6f4c-aaaaa"), ("instance", "10.0.0.9:1")])
            };
            assert_eq!(of("mcp"), "0 web-6f4c-aaaaa");
            assert_eq!(of("other"), "1 web-6f4c-aaaaa");
            assert_eq!(of("third"), "nobody");
        }
    }

    #[test]
    fn a_pod_of_before_is_known_by_its_replica_set() {
        assert_eq!(owner(&[("namespace", "mcp"), ("pod", "web-6f4c-zzzzz")]), "0 web-6f4c-zzzzz");
        assert_eq!(owner(&[("namespace", "other"), ("pod", "web-old-zzzzz")]), "1 web-old-zzzzz");
        for stranger in ["web-6f4cx-zzzzz", "web-zzzzz", "web", "web-6f4c-zz-zzz", "api-other-zzzzz"] {
            assert_eq!(owner(&[("namespace", "mcp"), ("pod", stranger)]), "nobody", "{stranger}");
        }
    }

    #[test]
    fn an_address_tells_where_no_pod_is_named() {
        assert_eq!(owner(&[("instance", "10.0.0.2:8000")]), "1 web-6f4c-aaaaa");
        assert_eq!(owner(&[("instance", "10.0.0.2:8000"), ("namespace", "mcp")]), "nobody");
        assert_eq!(owner(&[("instance", "192.168.0.1:9100")]), "nobody", "two pods have that address");
        assert_eq!(owner(&[("instance", "10.0.0.77:8000")]), "nobody");
        assert_eq!(owner(&[("instance", "web:8000")]), "nobody");
    }

    #[test]
    fn a_pod_without_a_namespace_may_be_anybodys() {
        assert_eq!(owner(&[("pod", "api-77aa-bbbbb")]), "nobody");
        assert_eq!(owner(&[("pod", "web-6f4c-aaaaa"), ("instance", "10.0.0.1:80")]), "nobody");
    }

    #[test]
    fn a_service_or_a_deployment_tells_only_in_its_namespace_and_where_it_leads_to_one() {
        assert_eq!(owner(&[("namespace", "mcp"), ("service", "web")]), "0 -");
        assert_eq!(owner(&[("namespace", "other"), ("service", "web")]), "1 -");
        assert_eq!(owner(&[("namespace", "mcp"), ("service", "all")]), "nobody");
        assert_eq!(owner(&[("namespace", "mcp"), ("service", "all"), ("deployment", "api")]), "2 -");
        assert_eq!(owner(&[("namespace", "mcp"), ("deployment", "api")]), "2 -");
        assert_eq!(owner(&[("service", "web")]), "nobody");
    }

    #[test]
    fn what_says_nothing_of_whose_it_is_is_left_to_who_asked() {
        assert_eq!(owner(&[("tool", "search")]), "unsaid -");
        assert_eq!(owner(&[("namespace", "mcp"), ("tool", "search")]), "unsaid mcp");
    }

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        for (text, read) in [
            ("10.0.0.7:8000", Some("10.0.0.7")),
            ("10.0.0.7", Some("10.0.0.7")),
            ("[fd00::7]:8000", Some("fd00::7")),
            ("fd00::7", Some("fd00::7")),
            ("host:1", None),
            ("[", None),
            ("", None),
        ] {
            assert_eq!(address(text), read.map(|one| one.parse().unwrap()), "{text}");
        }
    }
}
