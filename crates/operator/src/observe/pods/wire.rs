//! A pod as the API server sends it: only the fields that are looked at.
#![allow(missing_docs)] // Each field is that of the API.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod as KubernetesPod, PodCondition},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::Resource;
use serde::Deserialize;

/// A pod as it comes over the wire: of its spec, only its node, its init containers, the bounds of the space
/// that it may write to, and what tells the scheme of its ports are read.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = KubernetesPod)]
pub struct PodWire {
    /// Its metadata.
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: PodSpec,
    /// What the kubelet says.
    #[serde(default)]
    pub status: PodStatus,
}

/// The fields of a pod's spec that are looked at.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: Option<String>,
    pub init_containers: Vec<InitContainer>,
    pub readiness_gates: Vec<ReadinessGate>,
    pub containers: Vec<SpecContainer>,
    pub volumes: Vec<SpecVolume>,
}

/// A container of the spec.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecContainer {
    pub name: String,
    pub resources: SpecResources,
    pub ports: Vec<SpecPort>,
    pub readiness_probe: Option<SpecProbe>,
    pub liveness_probe: Option<SpecProbe>,
    pub startup_probe: Option<SpecProbe>,
}

/// A port that it declares.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecPort {
    pub name: String,
    pub container_port: u16,
}

/// A probe of it.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecProbe {
    pub http_get: Option<SpecHttpGet>,
}

/// What an HTTP probe asks.
#[derive(Deserialize, Clone, Debug)]
pub struct SpecHttpGet {
    pub port: IntOrString,
    pub scheme: Option<String>,
}

/// Its resources.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct SpecResources {
    pub limits: SpecLimits,
    pub requests: SpecRequests,
}

/// What it requests.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
pub struct SpecRequests {
    pub memory: Option<String>,
}

/// Its limits.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "kebab-case", default)]
pub struct SpecLimits {
    pub memory: Option<String>,
    pub ephemeral_storage: Option<String>,
}

/// A volume.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecVolume {
    pub name: String,
    pub empty_dir: Option<SpecEmptyDir>,
}

/// An `emptyDir`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecEmptyDir {
    pub size_limit: Option<String>,
}

/// An init container.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct InitContainer {
    pub name: String,
    pub restart_policy: Option<String>,
    pub resources: SpecResources,
}

/// A readiness gate.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    pub condition_type: String,
}

/// The fields of a pod's status that are looked at.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: String,
    pub reason: String,
    pub message: String,
    pub conditions: Vec<PodCondition>,
    pub container_statuses: Vec<ContainerStatus>,
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<IpAddr>,
}
