//! The addresses of a cluster.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::command::{run, which};
use crate::error::{Error, Result};

/// Where the cluster's networks can be: the second number of `10.x.0.0/16`.
const FIRST: u8 = 64;
const COUNT: u8 = 128;

/// The addresses of one cluster, all in one `10.x.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    second: u8,
}

impl Network {
    /// Addresses for a cluster: the same ones each time for the same id, unless the machine already uses
    /// them.
    pub fn choose(id: &str) -> Result<Self> {
        let ip =
            |args: &[&str]| run("reading this machine's addresses", Command::new(ip_program()).args(args));
        let mut taken = ip(&["-4", "-o", "address"])?;
        taken += &ip(&["-4", "route", "show", "table", "all"])?;
        taken += &fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self::free(id, &taken).ok_or_else(|| {
            Error::other("no free network: every 10.64.0.0/16 to 10.191.0.0/16 is in use here")
        })
    }

    /// Addresses that lead nowhere, for a cluster without a network.
    pub fn imagined(id: &str) -> Result<Self> {
        Self::free(id, "").ok_or_else(|| Error::other(format!("`{id}` is no cluster's id")))
    }

    fn free(id: &str, taken: &str) -> Option<Self> {
        let start = u8::from_str_radix(id.get(..2)?, 16).ok()? % COUNT;
        (0..COUNT).map(|step| Self { second: FIRST + (start + step) % COUNT }).find(|network| {
            let prefix = format!("10.{}.", network.second);
            !taken.split_ascii_whitespace().any(|word| word.starts_with(&prefix))
        })
    }

    fn address(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, third, fourth)
    }

    /// Everything of the cluster.
    pub fn all(self) -> String {
        format!("{}/16", self.address(0, 0))
    }

    /// The pods: a /22, a thousand addresses.
    pub fn pods(self) -> String {
        format!("{}/22", self.address(0, 0))
    }

    /// Pods on simulated nodes: addresses that lead nowhere.
    pub fn simulated_pods(self) -> String {
        format!("{}/18", self.address(64, 1))
    }

    /// What simulated nodes call their address.
    pub fn simulated_node(self) -> Ipv4Addr {
        self.address(255, 3)
    }

    /// The Services.
    pub fn services(self) -> String {
        format!("{}/20", self.address(128, 0))
    }

    /// The Service `kubernetes`: the first of the range.
    pub fn api_service(self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// The Service `kube-dns`.
    pub fn dns_service(self) -> Ipv4Addr {
        self.address(128, 10)
    }

    /// This machine, as pods reach it.
    pub fn host(self) -> Ipv4Addr {
        self.address(255, 1)
    }

    /// The node.
    pub fn node(self) -> Ipv4Addr {
        self.address(255, 2)
    }
}

/// The program that shows and sets addresses, links and routes.
pub(crate) fn ip_program() -> PathBuf {
    which("ip").unwrap_or_else(|| "ip".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cluster_gets_the_same_addresses() {
        let network = Network::free("05abcd", "").unwrap();
        assert_eq!(network, Network { second: 69 });
        assert_eq!(network.pods(), "10.69.0.0/22");
        assert_eq!(network.services(), "10.69.128.0/20");
        assert_eq!(network.dns_service().to_string(), "10.69.128.10");
        assert_eq!(network.node().to_string(), "10.69.255.2");
    }

    #[test]
    fn addresses_in_use_are_left_alone() {
        let taken = "2: eth0 inet 10.69.3.4/24 brd\n10.70.0.0/16 via 192.0.2.1\nnameserver 10.71.0.53";
        assert_eq!(Network::free("05abcd", taken), Some(Network { second: 72 }));
        let all = (0..=255).fold(String::new(), |all, n| format!("{all} 10.{n}.0.1"));
        assert_eq!(Network::free("05abcd", &all), None);
    }

    #[test]
    fn the_search_for_a_free_network_wraps_around() {
        assert_eq!(Network::free("7f0000", "10.191.0.1").unwrap(), Network { second: 64 });
    }
}
