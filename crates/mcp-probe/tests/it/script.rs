//! A server on a port of its own that answers as a test wants it, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_health_core::signals::FaultKind;
use mcp_probe::{Address, Endpoint, Look, Outcome, Prober, SessionUse};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /mcp`.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Asked {
    /// The JSON-RPC method; else that of HTTP.
    pub fn what(&self) -> &str {
        self.body["method"].as_str().unwrap_or_else(|| self.line.split(' ').next().unwrap_or_default())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// 200, and this result.
    pub fn result(&self, result: &Value) -> Reply {
        reply(200, &[], &json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result}).to_string())
    }

    /// What a well server of the modern era says to it.
    pub fn modern(&self) -> Reply {
        match self.what() {
            "server/discover" => self.result(&json!({
                "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            })),
            "tools/list" => self.result(&json!({"tools": [{"name": "search", "inputSchema": {}}]})),
            "tools/call" => self.result(&json!({"content": []})),
            _ => reply(400, &[], ""),
        }
    }

    /// What a well server of the legacy era says to it, in this session.
    pub fn legacy(&self, session: &str) -> Reply {
        let known = self.header("mcp-session-id") == Some(session);
        match self.what() {
            "initialize" => {
                let result = json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}});
                let body = json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result}).to_string();
                reply(200, &[("Mcp-Session-Id", session)], &body)
            }
            "server/discover" => reply(400, &[], r#"{"error": "Bad Request: Missing session ID"}"#),
            _ if !known => reply(404, &[], ""),
            "notifications/initialized" => reply(202, &[], ""),
            "ping" => self.result(&json!({})),
            "tools/list" => self.result(&json!({"tools": []})),
            _ => reply(200, &[], ""),
        }
    }
}

/// What it does then.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Says this.
    Text(String),
    /// Says this, and nothing more while the connection lasts.
    TextAndSilence(String),
    /// Says this, and cuts the connection.
    TextAndCut(String),
}

pub fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = headers.iter().fold(String::new(), |all, (name, value)| all + name + ": " + value + "\r\n");
    let length = body.len();
    Reply::Text(format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    listening: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Server {
    pub async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let (all, answer) = (Arc::clone(&asked), Arc::new(answer));
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, answer) = (Arc::clone(&all), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, &asked, answer.as_ref()).await });
            }
        });
        Self { address, asked, listening }
    }

    /// What it was asked since the last time, by name.
    pub fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|asked| asked.what().to_owned()).collect()
    }

    pub fn requests(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub fn endpoint(&self) -> Endpoint {
        endpoint(self.address)
    }

    pub fn prober(&self) -> Prober {
        Prober::new(self.endpoint()).unwrap()
    }
}

async fn serve(
    stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        asked.lock().unwrap().push(request.clone());
        let (text, goes_on) = match answer(&request) {
            Reply::Text(text) => (text, true),
            Reply::TextAndSilence(text) => {
                stream.write_all(text.as_bytes()).await.unwrap();
                std::future::pending().await
            }
            Reply::TextAndCut(text) => (text, false),
        };
        if stream.write_all(text.as_bytes()).await.is_err() || !goes_on {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |line: &String| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers: Vec<_> = lines.iter().skip(1).filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    let line = lines.first()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// A patient one is for answers that come; where none comes, a short time is as good.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { timeout: Duration::from_secs(20), ..Endpoint::new(Address::Socket(address), "/mcp") }
}

pub const GLANCE: Look = Look { tools: false, canary: None, session: SessionUse::Keep };
pub const TOOLS: Look = Look { tools: true, canary: None, session: SessionUse::Keep };

/// The fault that an outcome is.
pub fn fault(outcome: &Outcome) -> (FaultKind, &str) {
    let fault = outcome.result.as_ref().expect_err("it is a fault");
    (fault.kind, &fault.said)
}
