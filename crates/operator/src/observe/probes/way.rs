//! One way to a server.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use mcp_health_core::signals::ProbePath;

/// A way to a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Which.
    pub path: ProbePath,
    /// What it leads to.
    pub to: To,
    /// TLS is spoken at its end, by what its pods' own probes and ports say.
    pub tls: bool,
    /// What the `Host` header says: what clients that go this way would say.
    pub host: String,
    /// Which pods are behind it, and how often they started: a digest.
    pub instance: u64,
    /// The pod is ready; of a Service, some endpoint is, and for long enough that the nodes know of it.
    pub ready: bool,
    /// The Service leads to no port on which this is asked, and to one that no container declares.
    pub leads_elsewhere: bool,
}

/// What a way leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// An address: a pod's, or a Service's own. That needs no name to be resolved, hundreds of times a
    /// minute.
    Address(SocketAddr),
    /// Whatever the name of a headless Service resolves to, as far as it is one of the server's pods.
    Pods {
        /// The name.
        name: String,
        /// The port of the pods.
        port: u16,
        /// The addresses of the pods.
        addresses: BTreeSet<IpAddr>,
    },
}

impl Way {
    /// The address to connect to; why there is none.
    pub async fn address(&self) -> Result<SocketAddr, String> {
        match &self.to {
            To::Address(address) => Ok(*address),
            To::Pods { name, port, addresses } => {
                let resolved = tokio::net::lookup_host((name.as_str(), *port)).await;
                let resolved = resolved.map_err(|_| format!("{name} does not resolve"))?;
                let of_pods = resolved.filter(|address| addresses.contains(&address.ip()));
                // The same one each time: a session stays with its pod.
                of_pods.min().ok_or_else(|| format!("{name} resolves to none of its pods"))
            }
        }
    }
}
