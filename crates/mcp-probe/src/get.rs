//! What is asked of a server beside MCP, over the same way: one `GET`.

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use mcp_health_core::signals::{Fault, FaultKind};
use tokio::time::{Instant, timeout_at};

use crate::connection::{self, Connection};
use crate::endpoint::Endpoint;
use crate::request::CLIENT;

/// An answer to `GET`. Where it points elsewhere, nobody went there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its status.
    pub status: u16,
    /// Its body, as far as it is of interest.
    pub body: Vec<u8>,
}

/// Gets the endpoint's path; of the body, `limit` bytes and what came with them.
pub async fn get(endpoint: &Endpoint, limit: usize) -> Result<Got, Fault> {
    let deadline = Instant::now() + endpoint.timeout;
    let (host, path) =
        endpoint.checked().map_err(|error| Fault::new(FaultKind::Unreachable, error.to_string()))?;
    let within = endpoint.timeout.as_secs_f32();
    let late = |did: &str| Fault::new(FaultKind::TimedOut, format!("{did} within {within} s"));
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = path.into();
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(CLIENT));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    let mut connection = Connection::open(endpoint, deadline).await?;
    let response = timeout_at(deadline, connection.sender.send_request(request)).await;
    let response = response
        .map_err(|_| late("accepted the connection, and did not answer"))?
        .map_err(|error| connection::broken(&error))?;
    let (head, mut rest) = response.into_parts();
    let mut body = Vec::new();
    while body.len() < limit {
        let frame = timeout_at(deadline, rest.frame()).await;
        match frame.map_err(|_| late("began to answer, and did not end"))? {
            Some(Ok(frame)) => body.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return Err(Fault::new(FaultKind::Reset, "cut the connection within its answer")),
            None => break,
        }
    }
    Ok(Got { status: head.status.as_u16(), body })
}
