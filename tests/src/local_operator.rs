//! The operator as a program of this machine, that can be killed at any moment.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

use serde_json::json;
use tempfile::TempDir;

use crate::environment;

/// Short, and still as honest as longer ones.
const TIMINGS: &[&str] =
    &["--settle=3s", "--seen-healthy-after=2s", "--replaces-healthy-after=5s", "--lease-duration=15s"];

/// One life of an operator. Killed when dropped.
pub struct LocalOperator {
    /// Its name among the candidates for the lease.
    pub identity: String,
    child: Mutex<Child>,
    folder: TempDir,
}

impl LocalOperator {
    /// Starts it; `url` is where it finds the API server. The chart's release, whose rights and switch it uses,
    /// is named as the namespace.
    pub fn start(url: &str, namespace: &str, identity: &str, more: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let kubeconfig = folder.path().join("kubeconfig");
        let named = |kind: &str, value| json!({"name": "proxy", kind: value});
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [named("cluster", json!({"server": url}))],
            "users": [named("user", json!({}))],
            "contexts": [named("context", json!({"cluster": "proxy", "user": "proxy"}))],
            "current-context": "proxy",
        });
        std::fs::write(&kubeconfig, content.to_string()).expect("the kubeconfig can be written");
        let log = File::create(folder.path().join("log")).expect("the log can be written");
        let child = Command::new(environment::operator_program())
            .env_clear()
            .env("KUBECONFIG", &kubeconfig)
            .args(TIMINGS)
            .arg(format!("--watch-namespaces={namespace}"))
            .arg(format!("--lease-namespace={namespace}"))
            .arg(format!("--switch-configmap={namespace}-switch"))
            .arg(format!("--identity={identity}"))
            .arg("--metrics-addr=")
            .args(more)
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .spawn()
            .expect("the operator can be started");
        Self { identity: identity.to_owned(), child: Mutex::new(child), folder }
    }

    /// SIGKILL. Returns when it is gone, and whether it was this that ended it.
    pub fn kill(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails where it is gone already; its end tells.
        let _ = child.kill();
        child.wait().is_ok_and(|status| status.signal() == Some(9))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for LocalOperator {
    fn drop(&mut self) {
        self.kill();
    }
}
