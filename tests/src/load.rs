//! Requests of users, a few at a time, from now until it is dropped.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::forward::Forward;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);
/// No test needs more.
const MOST: usize = 10_000;
/// A forward leads to one pod: after so many requests, another way is taken.
const TURN: usize = 40;

/// See the module.
pub struct Load(JoinHandle<()>);

impl Load {
    /// Calls of the tool `search` through a Service.
    pub fn on(namespace: &str, service: &str) -> Self {
        Self::of(namespace, service, "/tools/search/execute", json!({"query": "log"}))
    }

    /// Pings at its MCP endpoint, of clients that have not begun a session.
    pub fn on_mcp(namespace: &str, service: &str) -> Self {
        Self::of(namespace, service, "/mcp", json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}))
    }

    fn of(namespace: &str, service: &str, path: &'static str, body: Value) -> Self {
        let (namespace, target) = (namespace.to_owned(), format!("service/{service}"));
        Self(tokio::spawn(async move {
            for _ in 0..MOST / TURN {
                let Ok(forward) = Forward::open(&namespace, &target, 80).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let client = reqwest::Client::new();
                let url = format!("{}{path}", forward.url);
                for _ in 0..TURN {
                    // Whether it is answered well is for metrics to tell; a pod that is gone answers nothing.
                    if client.post(&url).json(&body).send().await.is_err() {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}
