//! The demo's own MCP client: whether the server serves is for a client to say.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use cluster::Cluster;
use cluster::command::spawn_error;
use cluster::error::{Error, Result};
use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt};
use serde_json::json;

use super::acts::Tool;
use super::names::NAMESPACE;
use crate::interrupt;

/// How long the server has to answer one client.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a client waits that is expected to wait in vain.
const IMPATIENT: Duration = Duration::from_secs(2);
/// How often, and for how long, a client tries again: a Service takes a moment to know its new pods.
const TRIES: Duration = Duration::from_secs(20);

/// Asks a server through its Service, as an MCP client would: lists the tools and calls one. The answer is a
/// sentence.
pub fn ask(cluster: &Cluster, server: &str, tool: Tool) -> Result<String> {
    let deadline = Instant::now() + TRIES;
    loop {
        interrupt::check()?;
        let forward = Forward::to(cluster, &format!("service/{server}"), ":http");
        let answer = forward.and_then(|forward| ask_at(&forward, tool, LIMIT));
        match answer {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            answer => return answer,
        }
    }
}

/// Has MCP clients of one pod fail so often: an error where one is served.
pub fn fail(cluster: &Cluster, pod: &str, tool: Tool, times: u32) -> Result<()> {
    let forward = Forward::to(cluster, &format!("pod/{pod}"), ":8000")?;
    for _ in 0..times {
        interrupt::check()?;
        if let Ok(served) = ask_at(&forward, tool, IMPATIENT) {
            return Err(Error::other(format!(
                "the fault does not show: an MCP client of pod {pod} {served}"
            )));
        }
    }
    Ok(())
}

/// Switches a fault on in a pod.
pub fn switch_on(cluster: &Cluster, pod: &str, fault: &str) -> Result<()> {
    let forward = Forward::to(cluster, &format!("pod/{pod}"), ":8000")?;
    runtime()?.block_on(async {
        let request = http()?.post(format!("{}/admin/faults", forward.url));
        let request = request.header("content-type", "application/json").body(fault.to_owned());
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let refused = |error| Error::other(format!("pod {pod} does not take the fault {fault}: {error}"));
        answer.map(drop).map_err(refused)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::other(format!("cannot start an MCP client: {error}")))
}

/// The way to this machine's own ports never leads through a proxy.
fn http() -> Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().build().map_err(|error| failed(&error))
}

fn ask_at(forward: &Forward, tool: Tool, limit: Duration) -> Result<String> {
    let conversation = async {
        let http = http()?;
        let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", forward.url));
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        let client = ClientConfig::default()
            .serve_with_lifecycle(transport, lifecycle)
            .await
            .map_err(|error| failed(&error))?;
        let tools = client.list_all_tools().await.map_err(|error| failed(&error))?;
        let (name, arguments) = match tool {
            Tool::CreateAssignment => (tool.name(), json!({"title": "look at the operator"})),
            Tool::Search => (tool.name(), json!({"query": "log"})),
        };
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let request = CallToolRequestParams::new(name).with_arguments(arguments);
        let result = client.call_tool(request).await.map_err(|error| failed(&error))?;
        if result.is_error == Some(true) {
            let said = result.content.iter().filter_map(|one| Some(one.as_text()?.text.as_str()));
            let said = said.collect::<Vec<_>>().join(" ");
            return Err(Error::other(format!("the MCP server answers, and its tool {name} fails: {said}")));
        }
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        let _ = client.cancel().await;
        Ok(format!("lists {} tools ({}), and {name} works", tools.len(), names.join(", ")))
    };
    runtime()?.block_on(async {
        tokio::time::timeout(limit, conversation)
            .await
            .unwrap_or_else(|_| Err(failed(&format!("no answer within {} s", limit.as_secs()))))
    })
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::other(format!("the MCP server does not serve its client: {error}"))
}

/// A port of this machine that leads to a Service or a pod, until it is dropped.
struct Forward {
    child: Child,
    url: String,
    /// Kept open: kubectl writes to it, and would end if nobody could read.
    _output: Option<BufReader<ChildStdout>>,
}

impl Forward {
    fn to(cluster: &Cluster, target: &str, port: &str) -> Result<Self> {
        let mut kubectl = cluster.kubectl();
        kubectl.args(["port-forward", "--namespace", NAMESPACE, "--address=127.0.0.1"]);
        kubectl.args([target, port]);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = kubectl.spawn().map_err(|source| spawn_error(&kubectl, source))?;
        let mut line = String::new();
        let mut output = child.stdout.take().map(BufReader::new);
        if let Some(output) = &mut output {
            // It ends by itself where it finds no pod that runs.
            let _ = output.read_line(&mut line);
        }
        // "Forwarding from 127.0.0.1:40123 -> 8000"
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next());
        let url = format!("http://127.0.0.1:{}", port.unwrap_or_default());
        let forward = Self { child, url, _output: output };
        if port.is_none() {
            return Err(failed(&format!("kubectl port-forward does not reach {target}")));
        }
        Ok(forward)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
