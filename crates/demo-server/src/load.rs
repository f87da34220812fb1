//! `mcp-demo-server load URL`: clients that call a tool of another demo server again and again, each call
//! over a connection of its own, so that a Service spreads them. Until SIGTERM.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::fmt::friendly::SpanParser;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tool that is called: it changes nothing.
const ROUTE: &str = "/tools/list_assignments/execute";
const ARGUMENTS: &[u8] = br#"{"limit": 1}"#;
/// A call that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// More clients than that are no load of a demo.
const MOST_CLIENTS: u32 = 1000;

/// Why there is no such load.
#[derive(Debug, thiserror::Error)]
#[error("{0}: mcp-demo-server load http://HOST[:PORT] [--clients N, 1 to 1000] [--pause 1s]")]
pub struct LoadError(String);

/// So many clients, and what they call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    uri: Uri,
    clients: u32,
    /// Between an answer and the next call of a client.
    pause: Duration,
}

impl Load {
    /// Reads the arguments that follow `load`.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, LoadError> {
        let (mut server, mut clients, mut pause) = (None, 1, Duration::from_secs(1));
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| LoadError(format!("{argument} has no value")));
            match argument.as_str() {
                "--clients" => {
                    let known = value()?.parse().ok().filter(|clients| (1..=MOST_CLIENTS).contains(clients));
                    clients = known.ok_or_else(|| LoadError("--clients is not valid".to_owned()))?;
                }
                "--pause" => {
                    let known = SpanParser::new().parse_unsigned_duration(value()?);
                    pause = known.map_err(|error| LoadError(format!("--pause is not valid: {error}")))?;
                }
                _ if server.is_none() => server = Some(argument),
                _ => return Err(LoadError(format!("{argument} is not known"))),
            }
        }
        let server = server.ok_or_else(|| LoadError("the server is not named".to_owned()))?;
        let uri = format!("{}{ROUTE}", server.trim_end_matches('/')).parse().ok();
        let uri = uri.filter(|uri: &Uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        let uri = uri.ok_or_else(|| LoadError(format!("{server} is no http:// address")))?;
        Ok(Self { uri, clients, pause })
    }

    /// Calls until `stop`. What fails is called again: the server is the one that is looked at.
    pub async fn run(self, stop: CancellationToken) {
        // Nothing idle is kept: the next call finds its pod anew.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let mut clients = JoinSet::new();
        for at in 0..self.clients {
            let (load, client) = (self.clone(), client.clone());
            clients.spawn(async move {
                // They do not all call at the same moment.
                tokio::time::sleep(load.pause * at / load.clients).await;
                loop {
                    let _ = tokio::time::timeout(PATIENCE, load.call(&client)).await;
                    tokio::time::sleep(load.pause).await;
                }
            });
        }
        println!("{} clients call {}, {:?} after each answer", self.clients, self.uri, self.pause);
        // The clients end with their set.
        stop.cancelled().await;
    }

    async fn call(&self, client: &Client<HttpConnector, Full<Bytes>>) {
        let request = Request::builder().method(Method::POST).uri(self.uri.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let Ok(request) = request.body(Full::from(ARGUMENTS)) else { return };
        if let Ok(answer) = client.request(request).await {
            // To its end: the call is not over before.
            let _ = answer.into_body().collect().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Load, String> {
        Load::parse(arguments.split(' ').map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn clients_and_pause_are_read_and_what_is_wrong_is_named() {
        let load = parse("http://mcp-server.mcp/ --clients 20 --pause 500ms").expect("valid");
        assert_eq!(load.uri, "http://mcp-server.mcp/tools/list_assignments/execute");
        assert_eq!((load.clients, load.pause), (20, Duration::from_millis(500)));
        for (arguments, says) in [
            ("--clients 2", "the server is not named"),
            ("https://a", "https://a is no http:// address"),
            ("http://a --clients 0", "--clients is not valid"),
            ("http://a --pause", "--pause has no value"),
            ("http://a b", "b is not known"),
        ] {
            let error = parse(arguments).expect_err("not valid");
            assert!(error.starts_with(says), "{error}");
        }
    }
}
