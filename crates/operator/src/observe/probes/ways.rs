//! The ways to a server: to its pods, and through the Services that select them, at the port that leads to
//! it.

use std::{net::SocketAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::McpServerHealth;
use mcp_health_core::{
    service_ports::PodPorts,
    signals::{ProbePath, ServicePort},
};

use super::super::{
    backoff::digest,
    deployments::DeploymentRow,
    pods::{KeyedPod, PodRow},
    services::{ServiceRow, namespace_group},
    stores::Stores,
    table::Key,
};
use super::way::{To, Way};

/// How long it takes at most until the nodes lead connections to an endpoint that became ready.
const KNOWN_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// The most ways to the pods of a server that are gone: in a fleet of hundreds of pods, the rest tells no
/// more.
const MOST: usize = 64;

/// The ways to a server; none where it has no port, or no pod that runs.
pub fn ways(stores: &Stores, object: &McpServerHealth, row: &DeploymentRow, port: Option<u16>) -> Vec<Way> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let Some(container) = row.target.container(object.spec.container.as_deref()) else { return Vec::new() };
    let Some(port) = port.or_else(|| container.port()) else { return Vec::new() };
    let mut pods = stores.pods_of(namespace, &row.target.uid);
    pods.retain(|(_, row)| row.running && row.pod.counts() && row.pod.address.is_some());
    pods.sort_by(|one, other| one.0.cmp(&other.0));
    pods.truncate(MOST);
    let pod_ports = PodPorts { containers: &row.target.containers, own: container, asked: port };
    let services = stores.services.of_group(&namespace_group(namespace));
    let services = services.into_iter().filter(|(_, service)| service.selects(&row.pod_labels));
    let services: Vec<(Key, Arc<ServiceRow>)> = services.collect();
    let leading = |service: &ServiceRow| pod_ports.leading(&service.ports).cloned();
    let by_service = services.iter().filter_map(|(_, service)| leading(service)).any(|port| port.is_https);
    let tls = |row: &PodRow| row.speaks_tls(port).unwrap_or(by_service);
    let to_pod = |(key, row): &KeyedPod| {
        let address = SocketAddr::new(row.pod.address?, port);
        Some(Way {
            path: ProbePath::Pod(key.name.to_string()),
            to: To::Address(address),
            tls: tls(row),
            host: address.to_string(),
            instance: instance([&**row]),
            ready: row.pod.ready,
            leads_elsewhere: false,
        })
    };
    // Pods that are not ready get no requests through it.
    let ready = || pods.iter().map(|(_, row)| row).filter(|row| row.pod.ready);
    let astray = astray(&services, pod_ports);
    let through = |(key, service): (Key, Arc<ServiceRow>)| {
        let leading = leading(&service);
        let leads_elsewhere = leading.is_none();
        let elsewhere = || astray.iter().find(|(of, _)| *of == key).map(|(_, port)| port.clone());
        let number = leading.or_else(elsewhere)?.number;
        let is_tls = ready().next().map_or(by_service, |row| tls(row));
        // While its pods speak different schemes, a request through it meets either.
        if ready().any(|row| tls(row) != is_tls) {
            return None;
        }
        let name = format!("{}.{namespace}.svc", key.name);
        let to = match service.address {
            Some(address) => To::Address(SocketAddr::new(address, number)),
            None => To::Pods {
                name: name.clone(),
                port,
                addresses: pods.iter().filter_map(|(_, row)| row.pod.address).collect(),
            },
        };
        let usual = if is_tls { 443 } else { 80 };
        Some(Way {
            path: ProbePath::Service(key.name.to_string()),
            to,
            tls: is_tls,
            host: if number == usual { name } else { format!("{name}:{number}") },
            instance: instance(pods.iter().map(|(_, row)| &**row)),
            ready: has_ready_endpoint(stores, &key),
            leads_elsewhere,
        })
    };
    // While no pod runs, a Service leads nowhere, and everybody knows why.
    let services = services.into_iter().filter(|_| !pods.is_empty());
    pods.iter().filter_map(to_pod).chain(services.filter_map(through)).collect()
}

fn instance<'a>(pods: impl IntoIterator<Item = &'a PodRow>) -> u64 {
    let pods: Vec<_> = pods.into_iter().map(|row| (&row.pod.uid, row.pod.restarts())).collect();
    digest(&pods)
}

/// The Services that do not lead there, each with the port of it that is meant to. A headless one has no
/// address of its own.
fn astray(services: &[(Key, Arc<ServiceRow>)], ports: PodPorts) -> Vec<(Key, ServicePort)> {
    let leads = |row: &ServiceRow| ports.leading(&row.ports).is_some();
    let elsewhere = services.iter().filter(|(_, row)| row.address.is_some() && !leads(row));
    let meant = elsewhere.filter_map(|(key, row)| {
        let others =
            services.iter().filter(|(other, _)| other != key).map(|(_, other)| other.ports.as_slice());
        Some((key.clone(), ports.astray(&row.ports, others)?.clone()))
    });
    meant.collect()
}

/// The same ways: a Service counts as ready only if it was so when it was asked, and still is.
pub fn still_ready(stores: &Stores, namespace: &str, mut ways: Vec<Way>) -> Vec<Way> {
    for way in &mut ways {
        if let ProbePath::Service(name) = &way.path {
            way.ready &= has_ready_endpoint(stores, &Key::new(namespace, name));
        }
    }
    ways
}

/// Without one, every connection to a Service is refused or dropped, whatever its ports are.
fn has_ready_endpoint(stores: &Stores, service: &Key) -> bool {
    let slices = stores.slices.of_group(service);
    let mut ready = slices.iter().filter(|(_, slice)| slice.ready > 0);
    ready.any(|(_, slice)| Timestamp::now().duration_since(slice.since) >= KNOWN_AFTER)
}
