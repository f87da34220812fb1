//! etcd, the API server, the controller manager and the scheduler.

use std::time::Duration;

use crate::command::succeeds;
use crate::endpoints::Endpoints;
use crate::error::Result;
use crate::handle::Cluster;
use crate::network::Network;
use crate::node::Node;
use crate::parts::Programs;
use crate::state::{Layout, Saved};

const LIMIT: Duration = Duration::from_mins(2);

/// Starts etcd and the API server, without waiting for them.
pub fn start(
    layout: &Layout,
    at: (Network, Endpoints),
    node: &Node,
    saved: &mut Saved,
    programs: &Programs,
) -> Result<()> {
    node.daemon(saved, "etcd", programs.path("etcd")?, &etcd(layout, at.1))?;
    node.daemon(saved, "kube-apiserver", programs.path("kube-apiserver")?, &api_server(layout, at))
}

/// Waits until the API server serves.
pub fn await_ready(cluster: &Cluster, node: &Node, saved: &Saved) -> Result<()> {
    let ready = || succeeds(cluster.kubectl().args(["--request-timeout=5s", "get", "--raw", "/readyz"]));
    node.await_daemon(saved, "etcd", Duration::from_secs(1), || true)?;
    node.await_daemon(saved, "kube-apiserver", LIMIT, ready)
}

/// Starts the controller manager and the scheduler, without waiting for them.
pub fn start_controllers(
    layout: &Layout,
    (network, endpoints): (Network, Endpoints),
    node: &Node,
    saved: &mut Saved,
    programs: &Programs,
) -> Result<()> {
    let manager = programs.path("kube-controller-manager")?;
    node.daemon(saved, "kube-controller-manager", manager, &controller_manager(layout, network, endpoints))?;
    node.daemon(saved, "kube-scheduler", programs.path("kube-scheduler")?, &scheduler(layout, endpoints))
}

fn etcd(layout: &Layout, endpoints: Endpoints) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    let clients = format!("https://127.0.0.1:{}", endpoints.etcd);
    let peers = format!("https://127.0.0.1:{}", endpoints.etcd_peer);
    vec![
        "--name=default".to_owned(),
        format!("--data-dir={}", layout.dir.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        format!("--cert-file={}", pki("etcd.crt")),
        format!("--key-file={}", pki("etcd.key")),
        format!("--trusted-ca-file={}", pki("etcd-ca.crt")),
        "--client-cert-auth".to_owned(),
        format!("--peer-cert-file={}", pki("etcd.crt")),
        format!("--peer-key-file={}", pki("etcd.key")),
        format!("--peer-trusted-ca-file={}", pki("etcd-ca.crt")),
        "--peer-client-cert-auth".to_owned(),
        // The data need not outlive a power cut, and the disk is the slowest part of a write.
        "--unsafe-no-fsync".to_owned(),
        "--auto-compaction-retention=1h".to_owned(),
        "--quota-backend-bytes=4294967296".to_owned(),
        "--logger=zap".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server(layout: &Layout, (network, endpoints): (Network, Endpoints)) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    let mut arguments = vec![
        format!("--bind-address={}", endpoints.address),
        format!("--secure-port={}", endpoints.api),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--etcd-servers=https://127.0.0.1:{}", endpoints.etcd),
        format!("--etcd-cafile={}", pki("etcd-ca.crt")),
        format!("--etcd-certfile={}", pki("apiserver-etcd-client.crt")),
        format!("--etcd-keyfile={}", pki("apiserver-etcd-client.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
        // Else logs and exec look the node's name up in DNS.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-cluster-ip-range={}", network.services()),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
        "--profiling=false".to_owned(),
    ];
    // No Service leads to a loopback address: there, the Service `kubernetes` has no endpoints.
    arguments.push(if endpoints.address.is_loopback() {
        "--endpoint-reconciler-type=none".to_owned()
    } else {
        format!("--advertise-address={}", endpoints.address)
    });
    arguments
}

fn controller_manager(layout: &Layout, network: Network, endpoints: Endpoints) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    let kubeconfig = layout.config("controller-manager.kubeconfig").display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", endpoints.controller_manager),
        // The one real node has the pods' network in its configuration, and simulated ones have none.
        "--allocate-node-cidrs=false".to_owned(),
        format!("--service-cluster-ip-range={}", network.services()),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
        format!("--service-account-private-key-file={}", pki("service-accounts.key")),
        "--use-service-account-credentials=true".to_owned(),
        // With the default of 20 a second it needs five seconds to create its own credentials.
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        // There is one; an election only delays it.
        "--leader-elect=false".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn scheduler(layout: &Layout, endpoints: Endpoints) -> Vec<String> {
    let kubeconfig = layout.config("scheduler.kubeconfig").display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", endpoints.scheduler),
        "--leader-elect=false".to_owned(),
        "--profiling=false".to_owned(),
    ]
}
