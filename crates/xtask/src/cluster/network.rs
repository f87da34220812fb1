//! The cluster's addresses, and the one link between this machine and the node's network namespace.
//!
//! The node has a network namespace of its own. Its bridges, its packet filter and its ports cannot collide with
//! anything here, and they end with it. On this side there are a virtual link, a route and four filter rules.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::node::Node;
use super::state::Layout;
use crate::command::{run, succeeds, which};
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
    /// Addresses for a cluster: the same ones each time for the same id, unless the machine already uses them.
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

/// Links the node to this machine; what is there already stays.
pub fn ensure(layout: &Layout, network: Network, node: &Node) -> Result<()> {
    let link = link_name(layout);
    if !succeeds(ip().args(["link", "show", "dev", &link])) {
        let host = |args: &[&str]| run("linking the node to this machine", ip().args(args)).map(drop);
        let inside = |args: &[&str]| {
            run("setting up the node's network", node.enter().arg(ip_program()).args(args)).map(drop)
        };
        let Some(node_pid) = node.pid().map(|pid| pid.to_string()) else { return Ok(()) };
        let (host_address, node_address) =
            (format!("{}/30", network.host()), format!("{}/30", network.node()));
        host(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &node_pid])?;
        inside(&["address", "add", &node_address, "dev", "eth0"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "add", "default", "via", &network.host().to_string()])?;
        // A restarted API server asks metrics-server what it serves before kube-proxy knows the way there, and is not
        // ready until that succeeds or fails: refused, it fails at once instead of after five seconds.
        let refuse = ["-w", "-A", "OUTPUT", "-d", &network.services(), "-j", "REJECT"];
        run("setting up the node's network", node.enter().arg(iptables_program()).args(refuse))?;
        host(&["address", "add", &host_address, "dev", &link])?;
        host(&["link", "set", &link, "up"])?;
        host(&["route", "add", &network.all(), "via", &network.node().to_string(), "dev", &link])?;
    }
    for (table, chain, rule) in rules(layout, network) {
        let filter = |action: &str| {
            let mut command = Command::new(iptables_program());
            command.args(["-w", "-t", table, action, chain]).args(&rule);
            command
        };
        if !succeeds(&mut filter("-C")) {
            run("letting the cluster's packets through", &mut filter("-I"))?;
        }
    }
    Ok(())
}

/// Takes away what [`ensure`] did on this machine's side, whatever of it is there.
pub fn remove(layout: &Layout) -> Result<()> {
    let link = link_name(layout);
    let is_there = || which("ip").is_some() && succeeds(ip().args(["link", "show", "dev", &link]));
    if is_there() {
        let removed = run("removing the link to the node", ip().args(["link", "delete", "dev", &link]));
        // The kernel removes it too, a moment after the node's namespace is gone: whoever comes first.
        if is_there() {
            removed?;
        }
    }
    if which("iptables").is_none() {
        return Ok(());
    }
    for (table, chain) in [("nat", "POSTROUTING"), ("filter", "FORWARD")] {
        let filter = || {
            let mut command = Command::new(iptables_program());
            command.args(["-w", "-t", table]);
            command
        };
        let listed = run("reading the packet filter", filter().args(["-S", chain]))?;
        for rule in ours(&listed, &comment(layout)) {
            run("removing a packet filter rule", filter().args(rule))?;
        }
    }
    Ok(())
}

/// The arguments that delete each listed rule that carries the comment.
fn ours(listed: &str, comment: &str) -> Vec<Vec<String>> {
    listed
        .lines()
        .map(|line| line.split_ascii_whitespace().map(|word| word.trim_matches('"').to_owned()).collect())
        .filter(|words: &Vec<String>| words.iter().any(|word| word == comment))
        .map(|mut words| {
            "-D".clone_into(&mut words[0]);
            words
        })
        .collect()
}

/// Pods reach the world through this machine; the world does not reach pods. Later ones end up before earlier ones.
fn rules(layout: &Layout, network: Network) -> Vec<(&'static str, &'static str, Vec<String>)> {
    let link = link_name(layout);
    let all = network.all();
    let comment = comment(layout);
    let rule = |table, chain, words: &[&str]| {
        let words = words.iter().copied().chain(["-m", "comment", "--comment", &comment]);
        (table, chain, words.map(str::to_owned).collect())
    };
    vec![
        rule("nat", "POSTROUTING", &["-s", &all, "!", "-d", &all, "-j", "MASQUERADE"]),
        rule("filter", "FORWARD", &["-o", &link, "-j", "DROP"]),
        rule("filter", "FORWARD", &["-i", &link, "-j", "ACCEPT"]),
        rule(
            "filter",
            "FORWARD",
            &["-o", &link, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        ),
    ]
}

/// The name of the link on this machine's side; the kernel allows 15 characters.
pub fn link_name(layout: &Layout) -> String {
    format!("mcph-{}", layout.id)
}

fn comment(layout: &Layout) -> String {
    format!("mcp-health-{}", layout.id)
}

fn ip() -> Command {
    Command::new(ip_program())
}

pub(super) fn ip_program() -> std::path::PathBuf {
    which("ip").unwrap_or_else(|| "ip".into())
}

fn iptables_program() -> std::path::PathBuf {
    which("iptables").unwrap_or_else(|| "iptables".into())
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

    #[test]
    fn only_rules_with_our_comment_are_deleted() {
        let listed = "-P FORWARD ACCEPT\n\
            -A FORWARD -i docker0 -j ACCEPT\n\
            -A FORWARD -i mcph-abc -m comment --comment mcp-health-abc -j ACCEPT\n\
            -A FORWARD -o x -m comment --comment \"mcp-health-abcdef\" -j DROP";
        let deletions = ours(listed, "mcp-health-abc");
        assert_eq!(deletions.len(), 1);
        assert_eq!(
            deletions[0].join(" "),
            "-D FORWARD -i mcph-abc -m comment --comment mcp-health-abc -j ACCEPT"
        );
    }
}
