//! Where the parts of a control plane listen: on the node's own address at the usual ports, or on this
//! machine's loopback at whatever ports are free.

use std::net::{Ipv4Addr, TcpListener};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::Network;

/// One address, and a port for each part that is asked something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The API server's address.
    pub address: Ipv4Addr,
    /// The API server.
    pub api: u16,
    /// etcd, for the API server; on loopback.
    pub etcd: u16,
    /// etcd, for others of its kind; on loopback.
    pub etcd_peer: u16,
    /// The controller manager's health; on loopback.
    pub controller_manager: u16,
    /// The scheduler's health; on loopback.
    pub scheduler: u16,
}

impl Endpoints {
    /// The usual ports: the node's network is its own.
    pub fn of_node(network: Network) -> Self {
        Self {
            address: network.node(),
            api: 6443,
            etcd: 2379,
            etcd_peer: 2380,
            controller_manager: 10257,
            scheduler: 10259,
        }
    }

    /// Ports of this machine's loopback that nobody has.
    pub fn free() -> Result<Self> {
        let failed = |error: std::io::Error| Error::other(format!("no free port on 127.0.0.1: {error}"));
        // All are held at the same time, so that they differ.
        let held: Vec<TcpListener> = (0..5)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let ports: Vec<u16> = held
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.port()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let [api, etcd, etcd_peer, controller_manager, scheduler] = ports[..] else {
            return Err(Error::other("no free port on 127.0.0.1"));
        };
        let address = Ipv4Addr::LOCALHOST;
        Ok(Self { address, api, etcd, etcd_peer, controller_manager, scheduler })
    }

    /// Which ports a part listens on.
    pub fn of(&self, part: &str) -> Vec<u16> {
        match part {
            "kube-apiserver" => vec![self.api],
            "etcd" => vec![self.etcd, self.etcd_peer],
            "kube-controller-manager" => vec![self.controller_manager],
            "kube-scheduler" => vec![self.scheduler],
            _ => Vec::new(),
        }
    }

    /// Whether nobody listens on any of them.
    pub fn are_free(&self) -> bool {
        [self.api, self.etcd, self.etcd_peer, self.controller_manager, self.scheduler]
            .into_iter()
            .all(is_free)
    }
}

/// Whether nobody has this port of this machine's loopback.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_a_taken_one_is_noticed() {
        let endpoints = Endpoints::free().unwrap();
        let mut ports: Vec<u16> = ["kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler"]
            .iter()
            .flat_map(|part| endpoints.of(part))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, endpoints.etcd)).unwrap();
        assert!(!endpoints.are_free());
    }
}
