//! The cluster's own certificate authorities, certificates, service-account key and kubeconfigs.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::endpoints::Endpoints;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::state::{Layout, write_file};

/// Makes what is missing; what is there stays, so that a restarted cluster keeps trusting itself.
pub fn ensure(layout: &Layout, network: Network) -> Result<()> {
    // Written last, so that a half-made set is made anew.
    let complete = layout.pki("complete");
    if complete.exists() {
        return Ok(());
    }
    let node = layout.node_name();
    let node_address = network.node().to_string();
    let api_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        &node_address,
        &network.api_service().to_string(),
    ]
    .map(str::to_owned);

    let cluster = Authority::new(layout, "ca", "kubernetes-ca")?;
    cluster.issue("apiserver", "kube-apiserver", None, &api_names, &[Usage::ServerAuth])?;
    cluster.issue("kubelet-server", &node, None, &[node.clone(), node_address], &[Usage::ServerAuth])?;
    let clients = [
        ("admin", "kubernetes-admin".to_owned(), Some("system:masters")),
        ("apiserver-kubelet-client", "kube-apiserver-kubelet-client".to_owned(), None),
        ("controller-manager", "system:kube-controller-manager".to_owned(), None),
        ("scheduler", "system:kube-scheduler".to_owned(), None),
        ("kube-proxy", "system:kube-proxy".to_owned(), None),
        ("kubelet", format!("system:node:{node}"), Some("system:nodes")),
    ];
    for (file, user, group) in clients {
        cluster.issue(file, &user, group, &[], &[Usage::ClientAuth])?;
    }

    let etcd = Authority::new(layout, "etcd-ca", "etcd-ca")?;
    let loopback = ["localhost", "127.0.0.1"].map(str::to_owned);
    etcd.issue("etcd", "etcd", None, &loopback, &[Usage::ServerAuth, Usage::ClientAuth])?;
    etcd.issue("apiserver-etcd-client", "kube-apiserver", None, &[], &[Usage::ClientAuth])?;

    let front = Authority::new(layout, "front-proxy-ca", "front-proxy-ca")?;
    front.issue("front-proxy-client", "front-proxy-client", None, &[], &[Usage::ClientAuth])?;

    let key = KeyPair::generate().map_err(certificate_error("service accounts"))?;
    write_file(&layout.pki("service-accounts.key"), &key.serialize_pem())?;
    write_file(&layout.pki("service-accounts.pub"), &key.public_key_pem())?;

    write_file(&complete, "")
}

/// Writes the kubeconfigs of the parts and of the administrator, where they do not lead to this API server
/// already.
pub fn kubeconfigs(layout: &Layout, endpoints: Endpoints) -> Result<()> {
    for user in ["controller-manager", "scheduler", "kube-proxy", "kubelet"] {
        write_kubeconfig(layout, endpoints, user, &layout.config(&format!("{user}.kubeconfig")))?;
    }
    write_kubeconfig(layout, endpoints, "admin", &layout.kubeconfig())
}

/// A certificate authority that signs into the cluster's folder.
struct Authority<'a> {
    layout: &'a Layout,
    issuer: Issuer<'static, KeyPair>,
}

impl<'a> Authority<'a> {
    fn new(layout: &'a Layout, file: &str, name: &str) -> Result<Self> {
        let make = || {
            let mut params = parameters(name, None, &[])?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            Ok((certificate.pem(), key.serialize_pem(), Issuer::new(params, key)))
        };
        let (certificate, key, issuer) = make().map_err(certificate_error(name))?;
        write_file(&layout.pki(&format!("{file}.crt")), &certificate)?;
        write_file(&layout.pki(&format!("{file}.key")), &key)?;
        Ok(Self { layout, issuer })
    }

    fn issue(
        &self,
        file: &str,
        name: &str,
        group: Option<&str>,
        hosts: &[String],
        usages: &[Usage],
    ) -> Result<()> {
        let make = || {
            let mut params = parameters(name, group, hosts)?;
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = usages.to_vec();
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok((certificate.pem(), key.serialize_pem()))
        };
        let (certificate, key) = make().map_err(certificate_error(name))?;
        write_file(&self.layout.pki(&format!("{file}.crt")), &certificate)?;
        write_file(&self.layout.pki(&format!("{file}.key")), &key)
    }
}

fn parameters(name: &str, group: Option<&str>, hosts: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

fn certificate_error(subject: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Certificate { subject, source }
}

/// Writes a kubeconfig that holds its certificates itself, so that it can be copied elsewhere.
fn write_kubeconfig(layout: &Layout, endpoints: Endpoints, user: &str, path: &Path) -> Result<()> {
    let data = |file: String| {
        let path = layout.pki(&file);
        fs::read(&path).map(|bytes| BASE64.encode(bytes)).map_err(Error::file("read", &path))
    };
    let name = &layout.name;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": format!("https://{}:{}", endpoints.address, endpoints.api),
            "certificate-authority-data": data("ca.crt".into())?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": data(format!("{user}.crt"))?,
            "client-key-data": data(format!("{user}.key"))?,
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
    });
    let config = format!("{config:#}\n");
    if fs::read_to_string(path).is_ok_and(|there| there == config) {
        return Ok(());
    }
    write_file(path, &config)
}
