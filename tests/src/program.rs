//! A program of this machine in a pod of a story, with a Service of the same name: what servers depend on.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{
    Story, command, environment,
    host::{self, Killer},
};

/// Where its files are.
pub const FILES: &str = "/files";
/// Where it may write.
pub const DATA: &str = "/data";

/// A program that is not there yet.
pub struct Program {
    name: &'static str,
    command: Vec<String>,
    ports: Vec<u16>,
    environment: Vec<(String, String)>,
    files: Value,
    folders: Vec<(PathBuf, PathBuf)>,
    small: Option<(&'static str, &'static str)>,
    user: u32,
}

impl Program {
    /// What is run, and where it listens; ready once it listens at the first of the ports.
    pub fn new(name: &'static str, command: &[&str], ports: &[u16]) -> Self {
        Self {
            name,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ports: ports.to_vec(),
            environment: Vec::new(),
            files: json!({}),
            folders: host::system().into_iter().map(|path| (path.to_owned(), path.to_owned())).collect(),
            small: None,
            user: 0,
        }
    }

    /// With this in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With files under [`FILES`], from a Secret of its name.
    #[must_use]
    pub fn files(mut self, files: Value) -> Self {
        self.files = files;
        self
    }

    /// With a folder of this machine at its own place.
    #[must_use]
    pub fn folder(self, folder: &Path) -> Self {
        self.folder_at(folder, folder)
    }

    /// With a folder of this machine at another place.
    #[must_use]
    pub fn folder_at(mut self, folder: &Path, at: &Path) -> Self {
        self.folders.push((folder.to_owned(), at.to_owned()));
        self
    }

    /// With these folders of this machine only.
    #[must_use]
    pub fn only_folders(mut self, folders: &[&Path]) -> Self {
        self.folders = folders.iter().map(|&path| (path.to_owned(), path.to_owned())).collect();
        self
    }

    /// With a folder that holds no more than so much (`64Mi`): in memory, where a limit is one.
    #[must_use]
    pub fn small_folder(mut self, at: &'static str, size: &'static str) -> Self {
        self.small = Some((at, size));
        self
    }

    /// As this user, in place of root.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        self.user = user;
        self
    }

    /// Starts it; waits until it listens.
    pub async fn start(self, story: &Story) -> Running<'_> {
        environment::needs_a_node("a program in a pod");
        let name = self.name;
        let mut volumes = vec![
            json!({"name": "files", "secret": {"secretName": format!("{name}-files")}}),
            json!({"name": "data", "emptyDir": {}}),
        ];
        let mut mounts =
            vec![json!({"name": "files", "mountPath": FILES}), json!({"name": "data", "mountPath": DATA})];
        if let Some((at, size)) = self.small {
            volumes.push(json!({"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": size}}));
            mounts.push(json!({"name": "small", "mountPath": at}));
        }
        for (number, (folder, at)) in self.folders.iter().enumerate() {
            let volume = format!("host-{number}");
            volumes.push(json!({"name": volume, "hostPath": {"path": folder}}));
            mounts.push(json!({"name": volume, "mountPath": at, "readOnly": true}));
        }
        let environment = self.environment.iter().map(|(name, value)| json!({"name": name, "value": value}));
        let port = |port: &u16| json!({"name": format!("port-{port}"), "port": port});
        let labels = json!({"app": name});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            secret(&format!("{name}-files"), &self.files),
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": name,
                        "image": host::IMAGE,
                        "command": self.command,
                        "env": environment.collect::<Value>(),
                        "readinessProbe": {"tcpSocket": {"port": self.ports[0]}, "periodSeconds": 1},
                        "securityContext": {"runAsUser": self.user, "runAsGroup": self.user},
                        "volumeMounts": mounts,
                    }],
                    "volumes": volumes,
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": labels, "ports": self.ports.iter().map(port).collect::<Value>()},
            },
        ]});
        story.kubectl_with(&["create", "--filename=-"], &list.to_string()).await.ok();
        let running = Running { story, name };
        running.ready().await;
        running
    }
}

/// A program that runs.
pub struct Running<'a> {
    /// Its story.
    pub story: &'a Story,
    name: &'static str,
}

impl Running<'_> {
    /// Waits until it listens.
    pub async fn ready(&self) {
        let pod = format!("pod/{}", self.name);
        self.story.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=110s"]).await;
    }

    /// The name of its Service, as it is known to other namespaces.
    pub fn host(&self) -> String {
        format!("{}.{}", self.name, self.story.namespace)
    }

    /// Runs something in its container to the end; it may fail.
    pub async fn run(&self, words: &[&str]) -> command::Said {
        self.story.kubectl_with(&[&["exec", self.name, "--"], words].concat(), "").await
    }

    /// Has its Service lead to another program's pod, or nowhere.
    pub async fn leads_to(&self, name: &str) {
        let patch = json!({"spec": {"selector": {"app": name}}}).to_string();
        self.story.kubectl(&["patch", "service", self.name, "--patch", &patch]).await;
    }

    /// Halts it: it takes connections, and does not answer.
    pub async fn pause(&self, killer: &Killer<'_>) {
        killer.signal(&self.container().await, "STOP").await;
    }

    /// Lets it go on.
    pub async fn resume(&self, killer: &Killer<'_>) {
        killer.signal(&self.container().await, "CONT").await;
    }

    /// Its container, by the container runtime's id.
    async fn container(&self) -> String {
        let path = "--output=jsonpath={.status.containerStatuses[0].containerID}";
        let id = self.story.kubectl(&["get", "pod", self.name, path]).await;
        id.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// Its manifest.
fn secret(name: &str, content: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content})
}

impl Story {
    /// Creates a Secret, or changes what it holds.
    pub async fn secret(&self, name: &str, content: &[(&str, &str)]) {
        let content: Map<String, Value> =
            content.iter().map(|&(key, value)| (key.to_owned(), json!(value))).collect();
        let manifest = secret(name, &Value::Object(content)).to_string();
        self.kubectl_with(&["apply", "--server-side", "--filename=-"], &manifest).await.ok();
    }
}
