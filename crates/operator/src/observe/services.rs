//! Services and their EndpointSlices: whether what people call leads to pods that answer.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Service as KubernetesService, ServicePort as KubernetesServicePort},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mcp_health_core::signals::ServicePort;
use serde::Deserialize;

use super::{
    pod_spec::port_words,
    table::{Concerns, Key, Row},
};

/// A Service as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = KubernetesService)]
pub struct ServiceWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// The fields of a Service's spec that are looked at.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    selector: BTreeMap<String, String>,
    session_affinity: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    ports: Vec<KubernetesServicePort>,
}

/// A Service with a selector.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRow {
    namespace: Key,
    /// When it was created.
    pub created: Timestamp,
    /// What it selects pods by.
    pub selector: BTreeMap<String, String>,
    /// It keeps a client on its pod.
    pub sticky: bool,
    /// Its own address; a headless one has none.
    pub address: Option<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

impl ServiceRow {
    /// Whether it selects pods with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// The group of all of a kind in a namespace.
pub fn namespace_group(namespace: &str) -> Key {
    Key::new(namespace, "")
}

impl Row for ServiceRow {
    fn group(&self) -> Option<Key> {
        Some(self.namespace.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self != before
    }

    fn concerns(&self, key: &Key) -> Concerns {
        // Which servers a changed selector used to select is not known.
        Concerns::Namespace(key.namespace.clone())
    }
}

/// The row of a Service. One without a selector has its endpoints from somebody else: it is not looked at.
pub fn view_service(wire: &ServiceWire) -> Option<(Key, ServiceRow)> {
    let namespace = wire.metadata.namespace.as_deref()?;
    let selector = wire.spec.selector.clone();
    let created = wire.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    let ports = wire.spec.ports.iter();
    let row = ServiceRow {
        namespace: namespace_group(namespace),
        created,
        selector,
        sticky: wire.spec.session_affinity.as_deref() == Some("ClientIP"),
        address: wire.spec.cluster_ip.as_deref().and_then(|address| address.parse().ok()),
        ports: ports
            .map(|port| ServicePort {
                name: port.name.clone().unwrap_or_default(),
                number: u16::try_from(port.port).unwrap_or_default(),
                target: port.target_port.as_ref().map_or_else(|| port.port.to_string(), port_words),
                is_https: matches!(port.app_protocol.as_deref(), Some("https" | "kubernetes.io/wss")),
            })
            .collect(),
    };
    (!row.selector.is_empty()).then(|| (Key::of(wire), row))
}

/// An EndpointSlice as it comes over the wire.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = EndpointSlice)]
pub struct EndpointSliceWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct EndpointPort {
    name: Option<String>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct Endpoint {
    conditions: EndpointConditions,
    #[serde(rename = "targetRef")]
    target: Option<EndpointTarget>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct EndpointTarget {
    kind: String,
    name: String,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct EndpointConditions {
    ready: Option<bool>,
}

/// The ready endpoints of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSliceRow {
    /// The Service.
    pub service: Key,
    /// How many of its endpoints are ready.
    pub ready: usize,
    /// The pods of those, by name.
    pub pods: Vec<Box<str>>,
    /// The ports of the Service, by name, that its endpoints have a port for.
    pub ports: Vec<Box<str>>,
    /// Since when some are, or none, as far as was seen.
    pub since: Timestamp,
}

impl Row for EndpointSliceRow {
    fn group(&self) -> Option<Key> {
        Some(self.service.clone())
    }

    fn changes_verdict(&self, before: &Self) -> bool {
        self.service != before.service
            || (self.ready == 0) != (before.ready == 0)
            || (&self.pods, &self.ports) != (&before.pods, &before.ports)
    }

    fn succeed(&mut self, before: &Self) {
        if (self.ready == 0) == (before.ready == 0) {
            self.since = before.since;
        }
    }

    fn concerns(&self, _: &Key) -> Concerns {
        Concerns::Service(self.service.clone())
    }
}

/// The row of an EndpointSlice that belongs to a Service.
pub fn view_slice(wire: &EndpointSliceWire) -> Option<(Key, EndpointSliceRow)> {
    let meta = &wire.metadata;
    let namespace = meta.namespace.as_deref()?;
    let service = meta.labels.as_ref()?.get("kubernetes.io/service-name")?;
    // No word on readiness is to be read as ready, by the API's own rule.
    let endpoints = wire.endpoints.iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint.conditions.ready.unwrap_or(true));
    let pods = ready.clone().filter_map(|endpoint| endpoint.target.as_ref()).filter(|one| one.kind == "Pod");
    let mut pods: Vec<Box<str>> = pods.map(|one| one.name.as_str().into()).collect();
    pods.sort_unstable();
    let (service, ready) = (Key::new(namespace, service), ready.count());
    let ports = wire.ports.iter().flatten().map(|port| port.name.as_deref().unwrap_or_default().into());
    let row = EndpointSliceRow { service, ready, pods, ports: ports.collect(), since: Timestamp::now() };
    Some((Key::new(namespace, meta.name.as_deref()?), row))
}
