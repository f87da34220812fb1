//! The node's agents: the kubelet and kube-proxy.

use std::fs;

use serde_json::json;

use crate::cgroups;
use crate::containerd::SOCKET;
use crate::error::Result;
use crate::network::Network;
use crate::node::Node;
use crate::parts::Programs;
use crate::state::{Layout, Saved, write_file};

/// Starts both, without waiting for them.
pub fn start(
    layout: &Layout,
    network: Network,
    node: &Node,
    saved: &mut Saved,
    programs: &Programs,
) -> Result<()> {
    let resolv = layout.config("resolv.conf");
    write_file(&resolv, &upstream_dns())?;
    fs::set_permissions(&resolv, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .map_err(crate::error::Error::file("open to all", &resolv))?;

    let config = layout.config("kubelet.json");
    write_file(&config, &kubelet(layout, network))?;
    let arguments = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", layout.config("kubelet.kubeconfig").display()),
        format!("--hostname-override={}", layout.node_name()),
        format!("--node-ip={}", network.node()),
    ];
    node.daemon(saved, "kubelet", programs.path("kubelet")?, &arguments)?;

    let config = layout.config("kube-proxy.json");
    write_file(&config, &kube_proxy(layout, network))?;
    let arguments = [format!("--config={}", config.display())];
    node.daemon(saved, "kube-proxy", programs.path("kube-proxy")?, &arguments)
}

fn kubelet(layout: &Layout, network: Network) -> String {
    let pki = |file: &str| layout.pki(file).display().to_string();
    // Pods are never evicted for what else fills this machine's disk or memory.
    let eviction = json!({
        "memory.available": "50Mi",
        "nodefs.available": "1%",
        "nodefs.inodesFree": "1%",
        "imagefs.available": "1%",
        "imagefs.inodesFree": "1%",
    });
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node().to_string(),
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki("kubelet-server.crt"),
        "tlsPrivateKeyFile": pki("kubelet-server.key"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "clusterDomain": "cluster.local",
        "clusterDNS": [network.dns_service().to_string()],
        "resolvConf": layout.config("resolv.conf").display().to_string(),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::name(layout),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "maxPods": 250,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "evictionHard": eviction,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // A test waits for what these delay.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "30s",
        "shutdownGracePeriod": "0s",
    });
    format!("{config:#}\n")
}

fn kube_proxy(layout: &Layout, network: Network) -> String {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": network.node().to_string(),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": network.pods(),
        "hostnameOverride": layout.node_name(),
        "oomScoreAdj": 0,
        "nodePortAddresses": ["primary"],
        "clientConnection": {"kubeconfig": layout.config("kube-proxy.kubeconfig").display().to_string()},
        // The machine's limits stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "200ms", "syncPeriod": "30s"},
    });
    format!("{config:#}\n")
}

/// The name servers that pods may ask, as a resolv.conf: one on this machine's loopback is out of their
/// reach.
pub fn upstream_dns() -> String {
    let read = |path: &str| fs::read_to_string(path).map(|text| reachable(&text)).unwrap_or_default();
    let servers = read("/etc/resolv.conf");
    if servers.is_empty() { read("/run/systemd/resolve/resolv.conf") } else { servers }
}

fn reachable(resolv: &str) -> String {
    resolv
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .filter(|server| server.parse::<std::net::Ipv4Addr>().is_ok_and(|address| !address.is_loopback()))
        .take(3)
        .fold(String::new(), |all, server| all + "nameserver " + server + "\n")
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn name_servers_out_of_the_pods_reach_are_left_out() {
        let resolv =
            "# local\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch x\n";
        assert_eq!(reachable(resolv), "nameserver 192.0.2.53\n");
    }
}
