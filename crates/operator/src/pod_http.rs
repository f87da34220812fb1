//! One request to a pod of a target, at the address that Kubernetes says. Without TLS, over a connection of
//! its own; no redirect is followed.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{
    Method, Request,
    header::{HOST, USER_AGENT},
};
use http_body_util::Full;
use mcp_health_api::MANAGER;
use net::{Answer, Connection, Failed, dial};
use tokio::time::Instant;

/// A request for a path. `Err` where it is none.
pub fn request(method: Method, address: SocketAddr, path: &str) -> Result<Request<Full<Bytes>>, http::Error> {
    // What does not begin with a slash could name another host.
    let path = if path.starts_with('/') { path } else { "" };
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    request.header(USER_AGENT, MANAGER).body(Full::default())
}

/// Sends it, and brings the head of the answer.
pub async fn ask(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    until: Instant,
) -> Result<Answer, Failed> {
    // No object names this address.
    let stream = dial(address, &|_| true, until).await?;
    Connection::over(Box::new(stream)).await?.ask(request, until).await
}

/// Why there is no answer, in a few words.
pub const fn refusal(failed: &Failed) -> &'static str {
    match failed {
        Failed::Connect(..) => "no connection",
        _ => "the connection broke off",
    }
}
