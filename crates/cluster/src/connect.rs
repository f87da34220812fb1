//! Links the node to this machine.
//!
//! The node has a network namespace of its own. Its bridges, its packet filter and its ports cannot collide
//! with anything here, and they end with it.

use std::process::Command;

use crate::command::{run, succeeds};
use crate::error::Result;
use crate::link::{ip, iptables_program, link_name, rules};
use crate::network::{Network, ip_program};
use crate::node::Node;
use crate::state::Layout;

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
        // A restarted API server asks metrics-server what it serves before kube-proxy knows the way there,
        // and is not ready until that succeeds or fails: refused, it fails at once instead of after five
        // seconds.
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
