//! A way to what listens in the cluster, by `kubectl port-forward`.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::environment;

/// A port of this machine that leads to one of a pod. Closed when dropped.
pub struct Forward {
    /// `http://127.0.0.1:…`
    pub url: String,
    _kubectl: Child,
}

impl Forward {
    /// Opens a way to `target` (`service/name`, `pod/name`), or says why there is none.
    pub async fn open(namespace: &str, target: &str, port: u16) -> Result<Self, String> {
        // Whoever asks along it has TLS compiled in where the operator does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut kubectl = Command::new(environment::kubectl())
            .args(["--namespace", namespace, "port-forward", "--address=127.0.0.1", target])
            .arg(format!(":{port}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl can be run");
        let mut lines = BufReader::new(kubectl.stdout.take().expect("piped")).lines();
        // Forwarding from 127.0.0.1:40123 -> 8000
        let line = lines.next_line().await.ok().flatten().unwrap_or_default();
        let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
        let Some(address) = address else {
            let said = kubectl.wait_with_output().await.map(|output| output.stderr).unwrap_or_default();
            return Err(format!("kubectl port-forward {target}: {}", String::from_utf8_lossy(&said).trim()));
        };
        let url = format!("http://{address}");
        // Left unread, its lines would stop it one day.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { url, _kubectl: kubectl })
    }
}
