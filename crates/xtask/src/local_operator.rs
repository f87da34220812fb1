//! The operator as a process of this machine, with the rights that the chart gives it: where no pod can run
//! it.
//!
//! The chart is installed as ever, with no replica. What its Deployment would have started is started here,
//! with a kubeconfig that holds a token of its ServiceAccount and nothing else.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::Cluster;
use cluster::command::{last_lines, spawn_error};
use cluster::error::{Error, Result};
use cluster::node::OPERATOR;
use cluster::process::wait_until;
use cluster::state::{write_file, write_folder};
use serde_json::{Value, json};

/// A running operator. It ends when this is dropped, unless it is to stay.
pub struct LocalOperator {
    child: Child,
    log: PathBuf,
    lease: Option<String>,
    namespace: String,
    stays: bool,
}

/// How long it may take to lead.
const LIMIT: Duration = Duration::from_mins(1);

impl LocalOperator {
    /// Starts what the Deployment `name` in `namespace` describes, from `program`.
    pub fn start(cluster: &Cluster, program: &Path, name: &str, namespace: &str) -> Result<Self> {
        let folder = cluster
            .folder()
            .ok_or_else(|| Error::other("the operator runs in a pod of a cluster that was there, not here"))?
            .join("operators")
            .join(namespace);
        write_folder(&folder)?;
        let deployment = format!("deployment/{name}");
        let found = cluster.kubectl_run(["get", &deployment, "--namespace", namespace, "--output=json"])?;
        let found: Value = serde_json::from_str(&found)
            .map_err(|error| Error::other(format!("cannot read the operator's Deployment: {error}")))?;
        let pod = &found["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().unwrap_or("default");
        let arguments = pod["containers"][0]["args"].as_array().map(Vec::as_slice).unwrap_or_default();

        let kubeconfig = folder.join("kubeconfig");
        write_file(&kubeconfig, &kubeconfig_of(cluster, account, namespace)?)?;
        // Under the cluster's folder, by which `cluster down` knows it for the cluster's own.
        let link = folder.join(OPERATOR);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(program, &link).map_err(Error::file("link", &link))?;
        let log = folder.join("log");
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("open", &log))?;
        let mut command = Command::new(&link);
        command
            .args(
                arguments.iter().filter_map(Value::as_str).filter(|one| !one.starts_with("--metrics-addr=")),
            )
            // Its port is the pod's own there; here there may be several operators.
            .arg("--metrics-addr=")
            .env_clear()
            .env("KUBECONFIG", &kubeconfig)
            .env("POD_NAME", format!("{name}-local"))
            .env("POD_NAMESPACE", namespace)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let child = command.spawn().map_err(|source| spawn_error(&command, source))?;
        let lease = arguments.iter().find_map(|one| one.as_str()?.strip_prefix("--lease-name="));
        let (lease, namespace) = (lease.map(str::to_owned), namespace.to_owned());
        Ok(Self { child, log, lease, namespace, stays: false })
    }

    /// Waits until it has its lease, and with it the right to act.
    pub fn await_lead(&mut self, cluster: &Cluster) -> Result<()> {
        let Some(lease) = self.lease.clone() else { return Ok(()) };
        let namespace = self.namespace.clone();
        let holder = "jsonpath={.spec.holderIdentity}";
        let mut ended = Ok(());
        let leads = wait_until(LIMIT, || {
            ended = self.check();
            let asked = ["get", "lease", &lease, "--namespace", &namespace, "--output", holder];
            ended.is_err() || cluster.kubectl_run(asked).is_ok_and(|name| !name.is_empty())
        });
        ended?;
        if leads { Ok(()) } else { Err(Error::other(format!("the operator does not get its lease {lease}"))) }
    }

    /// An error with its last words, once it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                Err(Error::other(format!("the operator ended ({status}):{}", last_lines(&said, 12))))
            }
            _ => Ok(()),
        }
    }

    /// It goes on after this command, until the cluster is taken down.
    pub fn stay(&mut self) {
        self.stays = true;
    }
}

impl Drop for LocalOperator {
    fn drop(&mut self) {
        if !self.stays {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A kubeconfig with a token of a ServiceAccount.
fn kubeconfig_of(cluster: &Cluster, account: &str, namespace: &str) -> Result<String> {
    let token = ["create", "token", account, "--namespace", namespace, "--duration=24h"];
    let token = cluster.kubectl_run(token)?;
    let text = fs::read_to_string(&cluster.kubeconfig).map_err(Error::file("read", &cluster.kubeconfig))?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|error| Error::other(format!("cannot read the cluster's kubeconfig: {error}")))?;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": account,
        "clusters": config["clusters"],
        "users": [{"name": account, "user": {"token": token.trim()}}],
        "contexts": [{"name": account, "context": {
            "cluster": config["clusters"][0]["name"], "user": account, "namespace": namespace,
        }}],
    });
    Ok(format!("{config:#}\n"))
}
