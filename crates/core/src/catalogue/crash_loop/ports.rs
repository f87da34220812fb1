//! Which ports a container declares, its probes ask and its Services lead to: where those are not the same,
//! nothing answers.

use mcp_health_api::Cause;

use crate::{
    Case, Server,
    signals::{ContainerSpec, Probe, ProbeKind},
};

/// The ports of a container in one sentence, and each that leads nowhere in one of its own.
pub fn sentences(case: &Case, server: &Server, spec: &ContainerSpec) -> Vec<String> {
    let name = &spec.name;
    let mut said = vec![format!("container {name} declares {}", declared(spec))];
    let same = server.target.containers.iter().filter(|one| one.name != *name);
    said.extend(same.filter_map(|other| {
        let (_, port) = other.ports.iter().find(|(_, port)| spec.ports.iter().any(|(_, own)| own == port))?;
        Some(format!(
            "container {} declares port {port} too: the containers of a pod share their ports",
            other.name
        ))
    }));
    let astray = spec.probes.iter().filter(|probe| leads_nowhere(spec, probe));
    said.extend(astray.map(|probe| format!("its {} asks port {}", kind(probe.kind), port(probe))));
    let services = case.signals.services.fresh().into_iter().flatten();
    for service in services.filter(|service| service.selects_pods) {
        let knows = |wanted: &str| {
            server.target.containers.iter().any(|one| one.ports.is_empty() || names(one, wanted))
        };
        let targets = service.ports.iter().map(|port| port.target.as_str());
        let astray = targets.filter(|wanted| !knows(wanted));
        said.extend(astray.map(|wanted| {
            format!("Service {} leads to port {wanted}, which no container declares", service.name)
        }));
    }
    said
}

/// The probe that asks a port which its container does not declare, while it declares others.
pub fn astray(spec: &ContainerSpec, kind: ProbeKind) -> Option<Cause> {
    let mut probes = spec.probes.iter().filter(|probe| probe.kind == kind);
    probes.any(|probe| leads_nowhere(spec, probe)).then_some(Cause::PortConflict)
}

fn leads_nowhere(spec: &ContainerSpec, probe: &Probe) -> bool {
    !spec.ports.is_empty() && probe.port.as_ref().is_some_and(|wanted| !names(spec, wanted))
}

fn names(spec: &ContainerSpec, wanted: &str) -> bool {
    spec.ports.iter().any(|(name, number)| name == wanted || number.to_string() == wanted)
}

fn declared(spec: &ContainerSpec) -> String {
    let ports = spec.ports.iter().map(|(name, number)| match name.as_str() {
        "" => number.to_string(),
        name => format!("{number} ({name})"),
    });
    let ports = ports.collect::<Vec<_>>().join(", ");
    if ports.is_empty() { "no port".to_owned() } else { format!("port {ports}") }
}

fn port(probe: &Probe) -> &str {
    probe.port.as_deref().unwrap_or_default()
}

/// As a manifest names it.
pub fn kind(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "startupProbe",
        ProbeKind::Readiness => "readinessProbe",
        ProbeKind::Liveness => "livenessProbe",
    }
}
