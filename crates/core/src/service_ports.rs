//! Which port of a Service leads to the port on which MCP is asked, and which one is meant to and leads
//! elsewhere. A Service may have other purposes: metrics, a page for people. Only a port that says by its
//! name or number that it is for MCP, or the one port of the only Service, is taken for a mistake.

use crate::signals::{ContainerSpec, Service, ServicePort};

/// Names of ports that carry MCP.
const NAMES: [&str; 6] = ["mcp", "http", "https", "web", "sse", "streamable-http"];

/// The ports of a server's pods.
#[derive(Clone, Copy, Debug)]
pub struct PodPorts<'a> {
    /// All containers of the pod template.
    pub containers: &'a [ContainerSpec],
    /// The container that is the server itself.
    pub own: &'a ContainerSpec,
    /// The port on which MCP is asked.
    pub asked: u16,
}

impl PodPorts<'_> {
    /// The port of a Service that leads to the port on which MCP is asked.
    pub fn leading<'b>(&self, service: &'b [ServicePort]) -> Option<&'b ServicePort> {
        let asked = i64::from(self.asked);
        let named =
            |target: &str| self.own.ports.iter().any(|(name, number)| name == target && *number == asked);
        service.iter().find(|one| one.target.parse() == Ok(self.asked) || named(&one.target))
    }

    /// The port of a Service that is meant for MCP, and leads to a port that no container declares. `others`
    /// are the other Services that select the pods.
    pub fn astray<'b, 'c>(
        &self,
        service: &'b [ServicePort],
        mut others: impl Iterator<Item = &'c [ServicePort]>,
    ) -> Option<&'b ServicePort> {
        if self.own.ports.is_empty() || self.leading(service).is_some() {
            return None;
        }
        let is_only = service.len() == 1;
        let is_served = others.any(|other| self.leading(other).is_some());
        let is_meant = |one: &ServicePort| match one.name.as_str() {
            "mcp" => true,
            "" => one.number == self.asked || is_only && !is_served,
            name => NAMES.contains(&name) && !is_served,
        };
        service.iter().find(|one| is_meant(one) && !self.is_declared(&one.target))
    }

    fn is_declared(&self, target: &str) -> bool {
        let mut ports = self.containers.iter().flat_map(|one| &one.ports);
        ports.any(|(name, number)| name == target || target.parse() == Ok(*number))
    }

    /// `Service mcp: its port 80 (http) leads to targetPort 8081; the pods declare 8080 (http), and MCP is
    /// asked on 8080`.
    pub fn words(&self, service: &Service) -> String {
        let led = service.ports.iter().map(|one| {
            let name = if one.name.is_empty() { String::new() } else { format!(" ({})", one.name) };
            format!("its port {}{name} leads to targetPort {}", one.number, one.target)
        });
        let declared =
            self.containers.iter().flat_map(|one| &one.ports).map(|(name, number)| match name.as_str() {
                "" => number.to_string(),
                name => format!("{number} ({name})"),
            });
        format!(
            "Service {}: {}; the pods declare {}, and MCP is asked on {}",
            service.name,
            led.take(4).collect::<Vec<_>>().join(", "),
            declared.take(8).collect::<Vec<_>>().join(", "),
            self.asked
        )
    }
}
