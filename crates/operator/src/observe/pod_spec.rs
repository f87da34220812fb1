//! What is read of a pod template: its containers, and what they take from elsewhere.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, PodSpec, Probe as KubernetesProbe},
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use mcp_health_core::{
    quantity,
    signals::{ConfigUse, ContainerSpec, Probe, ProbeHandler, ProbeKind, Role, SecretUse},
};

/// The containers, init containers first.
pub fn containers(pods: &PodSpec) -> Vec<ContainerSpec> {
    let init = pods.init_containers.iter().flatten().map(|one| {
        let stays = one.restart_policy.as_deref() == Some("Always");
        container(one, if stays { Role::Sidecar } else { Role::Init })
    });
    init.chain(pods.containers.iter().map(|one| container(one, Role::Main))).collect()
}

fn container(container: &Container, role: Role) -> ContainerSpec {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let probes = [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
    ];
    ContainerSpec {
        name: container.name.clone(),
        role,
        memory_request: read(requests, "memory", quantity::bytes),
        memory_limit: read(limits, "memory", quantity::bytes),
        cpu_request: read(requests, "cpu", quantity::millis),
        cpu_limit: read(limits, "cpu", quantity::millis),
        disk_limit: read(limits, "ephemeral-storage", quantity::bytes),
        ports: container
            .ports
            .iter()
            .flatten()
            .map(|port| (port.name.clone().unwrap_or_default(), port.container_port.into()))
            .collect(),
        probes: probes
            .into_iter()
            .filter_map(|(kind, probe)| Some(view_probe(kind, probe.as_ref()?)))
            .collect(),
        env: container.env.iter().flatten().map(view_env).collect(),
    }
}

/// A variable without a value is empty; one that is taken from elsewhere is not known.
fn view_env(one: &EnvVar) -> (String, Option<String>) {
    let value = one.value_from.is_none().then(|| one.value.clone().unwrap_or_default());
    (one.name.clone(), value)
}

fn read(
    amounts: Option<&BTreeMap<String, Quantity>>,
    name: &str,
    read: fn(&str) -> Option<i64>,
) -> Option<i64> {
    read(&amounts?.get(name)?.0)
}

fn view_probe(kind: ProbeKind, probe: &KubernetesProbe) -> Probe {
    let http = probe.http_get.as_ref().map(|http| &http.port);
    let tcp = probe.tcp_socket.as_ref().map(|tcp| &tcp.port);
    let grpc = probe.grpc.as_ref().map(|grpc| grpc.port.to_string());
    let is_https = probe.http_get.as_ref().is_some_and(|http| http.scheme.as_deref() == Some("HTTPS"));
    let handler = match (http, tcp) {
        (Some(_), _) if is_https => ProbeHandler::Https,
        (Some(_), _) => ProbeHandler::Http,
        (None, Some(_)) => ProbeHandler::Tcp,
        (None, None) => ProbeHandler::Other,
    };
    Probe {
        kind,
        handler,
        port: http.or(tcp).map(port_words).or(grpc),
        delay: probe.initial_delay_seconds.unwrap_or_default().into(),
        period: probe.period_seconds.unwrap_or(10).into(),
        failures: probe.failure_threshold.unwrap_or(3).into(),
    }
}

/// A port as it is written: a number or a name.
pub fn port_words(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// How long a container's own probes let it take to become ready.
pub fn startup_budget(container: &ContainerSpec) -> SignedDuration {
    let probes = container.probes.iter().filter(|probe| probe.kind != ProbeKind::Liveness);
    SignedDuration::from_secs(probes.map(|probe| probe.delay + probe.failures * probe.period).sum())
}

/// The ConfigMaps that the template names, each once.
pub fn config_maps(pods: &PodSpec) -> Vec<ConfigUse> {
    let all = || pods.init_containers.iter().flatten().chain(&pods.containers);
    let mut uses: BTreeMap<String, bool> = BTreeMap::new();
    let volumes = pods.volumes.iter().flatten();
    let projected = volumes.clone().filter_map(|volume| volume.projected.as_ref());
    let projected = projected.flat_map(|volume| volume.sources.iter().flatten());
    let mounted = volumes
        .filter_map(|volume| volume.config_map.as_ref().map(|map| &map.name))
        .chain(projected.filter_map(|source| source.config_map.as_ref().map(|map| &map.name)));
    for name in mounted {
        uses.entry(name.clone()).or_default();
    }
    let whole = all().flat_map(|one| one.env_from.iter().flatten());
    let whole = whole.filter_map(|from| from.config_map_ref.as_ref().map(|map| &map.name));
    let keys = all().flat_map(|one| one.env.iter().flatten());
    let keys =
        keys.filter_map(|one| one.value_from.as_ref()?.config_map_key_ref.as_ref().map(|key| &key.name));
    for name in whole.chain(keys) {
        uses.insert(name.clone(), true);
    }
    let uses = uses.into_iter().filter(|(name, _)| !name.is_empty());
    uses.map(|(name, as_env)| ConfigUse { name, as_env }).collect()
}

/// The Secrets that the template's containers read, each once for a container. What a container reads both ways counts as
/// environment.
pub fn secrets(pods: &PodSpec) -> Vec<SecretUse> {
    let volumes = || pods.volumes.iter().flatten();
    let of_volume = |name: &str| {
        let volume = volumes().find(|volume| volume.name == name);
        let own = volume.and_then(|volume| volume.secret.as_ref()?.secret_name.clone());
        let projected = volume.and_then(|volume| volume.projected.as_ref()?.sources.as_ref());
        let projected = projected.into_iter().flatten().filter_map(|source| source.secret.as_ref());
        own.into_iter().chain(projected.map(|secret| secret.name.clone())).collect::<Vec<_>>()
    };
    let mut uses: BTreeMap<(String, String), bool> = BTreeMap::new();
    for container in pods.init_containers.iter().flatten().chain(&pods.containers) {
        for mount in container.volume_mounts.iter().flatten() {
            for name in of_volume(&mount.name) {
                uses.entry((container.name.clone(), name)).or_default();
            }
        }
        let whole = container.env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref());
        let whole = whole.map(|secret| secret.name.clone());
        let keys = container.env.iter().flatten();
        let keys = keys.filter_map(|one| one.value_from.as_ref()?.secret_key_ref.as_ref());
        for name in whole.chain(keys.map(|key| key.name.clone())) {
            uses.insert((container.name.clone(), name), true);
        }
    }
    let uses = uses.into_iter().filter(|((_, name), _)| !name.is_empty());
    uses.map(|((container, name), as_env)| SecretUse { container, name, as_env }).collect()
}

/// The PersistentVolumeClaims that all pods of the template share.
pub fn claims(pods: &PodSpec) -> Vec<String> {
    let claims = pods.volumes.iter().flatten().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.map(|claim| claim.claim_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn the_secrets_that_each_container_reads_are_known_by_name_and_way() {
        let pods: PodSpec = serde_json::from_value(json!({
            "containers": [
                {
                    "name": "server",
                    "env": [
                        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                        {"name": "B", "value": "1"},
                    ],
                    "envFrom": [{"secretRef": {"name": "tokens"}}, {"configMapRef": {"name": "settings"}}],
                    "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "all", "mountPath": "/all"}],
                },
                {"name": "proxy"},
            ],
            "volumes": [
                {"name": "tls", "secret": {"secretName": "tls"}},
                {"name": "all", "projected": {"sources": [{"secret": {"name": "db"}}, {"secret": {"name": "ca"}}]}},
                {"name": "unused", "secret": {"secretName": "unused"}},
            ],
        }))
        .unwrap();
        let used = secrets(&pods);
        let used: Vec<_> = used.iter().map(|one| (&*one.container, &*one.name, one.as_env)).collect();
        assert_eq!(
            used,
            [
                ("server", "ca", false),
                ("server", "db", true),
                ("server", "tls", false),
                ("server", "tokens", true),
            ]
        );
    }
}
