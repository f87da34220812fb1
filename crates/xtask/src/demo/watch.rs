//! What changes in the demo's namespace, as it changes: the watches of kubectl, as one stream.

use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use cluster::Cluster;
use cluster::command::spawn_error;
use cluster::error::{Error, Result};
use mcp_health_api::McpServerHealth;
use serde::Deserialize;
use serde_json::Value;

use super::names::NAMESPACE;

/// An object as it is now.
#[derive(Debug)]
pub enum Seen {
    /// The health policy and the story in its status.
    Health(Box<McpServerHealth>),
    /// The server's Deployment.
    Deployment(Value),
    /// One of the server's pods.
    Pod(Value),
    /// A watch ended.
    Lost(String),
}

/// Watches that end when they are dropped.
pub struct Watches {
    children: Vec<Child>,
    /// What was seen, and when.
    pub seen: Receiver<(Instant, Seen)>,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event {
    object: Value,
}

impl Watches {
    /// Starts to watch a server, its pods and its policy.
    pub fn start(cluster: &Cluster, server: &str) -> Result<Self> {
        let (sender, seen) = mpsc::channel();
        let mut watches = Self { children: Vec::new(), seen };
        let selector = format!("--selector=app={server}");
        watches.add(cluster, &sender, &["mcpserverhealths.mcphealth.dev", server], health)?;
        watches.add(cluster, &sender, &["deployments.apps", server], Seen::Deployment)?;
        watches.add(cluster, &sender, &["pods", &selector], Seen::Pod)?;
        Ok(watches)
    }

    fn add(
        &mut self,
        cluster: &Cluster,
        sender: &Sender<(Instant, Seen)>,
        what: &[&str],
        read: fn(Value) -> Seen,
    ) -> Result<()> {
        let mut kubectl = cluster.kubectl();
        kubectl.args(["get", "--namespace", NAMESPACE]).args(what);
        kubectl.args(["--watch", "--output-watch-events", "--output=json"]);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = kubectl.spawn().map_err(|source| spawn_error(&kubectl, source))?;
        let output = child.stdout.take();
        self.children.push(child);
        let sender = sender.clone();
        let name = what[0].to_owned();
        let Some(output) = output else { return Err(Error::other("kubectl has no output to read")) };
        thread::spawn(move || {
            for event in serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Event>() {
                let Ok(event) = event else { break };
                if sender.send((Instant::now(), read(event.object))).is_err() {
                    return;
                }
            }
            let _ = sender.send((Instant::now(), Seen::Lost(name)));
        });
        Ok(())
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself: then there is nothing left to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn health(object: Value) -> Seen {
    match serde_json::from_value(object) {
        Ok(health) => Seen::Health(Box::new(health)),
        Err(error) => Seen::Lost(format!("the McpServerHealth object ({error})")),
    }
}
