//! HTTP+SSE, the transport of 2024-11-05: a `GET` brings a stream whose first event names where to `POST`; answers
//! come on the stream. The session is the stream, and ends with it.

use std::collections::VecDeque;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mcp_health_core::mcp::sse::{Event, Events};
use mcp_health_core::mcp::{Answer, Asked, End, LIMIT};
use mcp_health_core::signals::{Fault, FaultKind};
use tokio::time::{Instant, timeout_at};

use crate::endpoint::Endpoint;
use crate::request::Request;
use crate::streamable::Http;

/// The stream, and the way to the endpoint that it named.
pub struct EventStream {
    stream: Stream,
    /// Keeps the stream's connection.
    _held: Http,
    posts: Http,
}

/// Events as they come.
struct Stream {
    body: Incoming,
    events: Events,
    waiting: VecDeque<Event>,
    bytes: usize,
}

impl EventStream {
    /// Opens the stream of `endpoint`, and waits for its endpoint event.
    pub async fn open(mut http: Http, endpoint: &Endpoint, hidden: Option<&str>) -> Result<Self, Fault> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/event-stream"))]);
        let response = http.send(Method::GET, headers, String::new(), true).await?;
        let status = response.status();
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
        if !status.is_success() || !is_stream {
            return Err(http.refused(response, hidden).await);
        }
        let body = response.into_body();
        let mut stream = Stream { body, events: Events::default(), waiting: VecDeque::new(), bytes: 0 };
        let event = loop {
            match stream.next(http.deadline).await {
                Ok(event) if event.name == "endpoint" => break event,
                Ok(_) => {}
                Err(End::TimedOut) => {
                    let said = format!("answered GET with {status}, and its stream brings no endpoint");
                    return Err(Fault::new(FaultKind::Buffered, said));
                }
                Err(_) => {
                    let said = "ended its stream before it named an endpoint";
                    return Err(Fault::new(FaultKind::Malformed, said));
                }
            }
        };
        let path = path_of(event.data.trim(), endpoint).ok_or_else(|| {
            Fault::new(FaultKind::Malformed, "names an endpoint elsewhere, which is not asked")
        })?;
        let posts = http.beside(path);
        Ok(Self { stream, _held: http, posts })
    }

    /// Posts a message; its answer comes on the stream.
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Fault> {
        let (_, posted) = self.posts.post(request, None).await?;
        if !(200..300).contains(&posted.status()) || request.asked == Asked::Initialized {
            return Ok(posted);
        }
        let mut answer = Answer::new(request.id, 200, Some("text/event-stream"));
        // It brought the endpoint: nothing in between keeps it back.
        answer.push(b": endpoint\n");
        loop {
            match self.stream.next(self.posts.deadline).await {
                Ok(event) if event.name == "message" => {
                    if !answer.take(&event.data) {
                        return Ok(answer);
                    }
                }
                Ok(_) => {}
                Err(end) => return Ok(answer.ended(end)),
            }
        }
    }

    /// When it has to be over.
    pub fn deadline(&self) -> Instant {
        self.posts.deadline
    }

    /// Sets when it has to be over.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.posts.deadline = deadline;
    }
}

impl Stream {
    /// The next event, or why there is none.
    async fn next(&mut self, deadline: Instant) -> Result<Event, End> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let frame = match timeout_at(deadline, self.body.frame()).await {
                Err(_) => return Err(End::TimedOut),
                Ok(None) => return Err(End::Whole),
                Ok(Some(Err(_))) => return Err(End::Cut),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                self.bytes += data.len();
                if self.bytes > 4 * LIMIT {
                    return Err(End::Cut);
                }
                self.waiting.extend(self.events.push(&data));
            }
        }
    }
}

/// The path that an endpoint event names: on the same server, or none. A server that could send the probe, and the
/// credential with it, elsewhere would be a way out of the cluster.
fn path_of(named: &str, endpoint: &Endpoint) -> Option<PathAndQuery> {
    if named.starts_with('/') && !named.starts_with("//") {
        return PathAndQuery::try_from(named).ok();
    }
    if let Ok(uri) = named.parse::<Uri>()
        && let Some(scheme) = uri.scheme_str()
    {
        let same_scheme = scheme == if endpoint.tls { "https" } else { "http" };
        let same_host =
            uri.authority().is_some_and(|host| host.as_str().eq_ignore_ascii_case(&endpoint.host));
        return uri.path_and_query().filter(|_| same_scheme && same_host).cloned();
    }
    if named.is_empty() || named.starts_with("//") || named.contains("://") {
        return None;
    }
    // Beside the stream's own path.
    let path = endpoint.path.split('?').next().unwrap_or_default();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    PathAndQuery::try_from(format!("{folder}/{named}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Address;

    #[test]
    fn an_endpoint_event_leads_to_the_same_server_or_nowhere() {
        let address = Address::Name("mcp.example".to_owned(), 8000);
        let endpoint = Endpoint::new(address, "/v1/sse?x=1");
        for (named, path) in [
            ("/messages/?session_id=1", Some("/messages/?session_id=1")),
            ("messages?s=1", Some("/v1/messages?s=1")),
            ("?s=1", Some("/v1/?s=1")),
            ("http://mcp.example:8000/messages", Some("/messages")),
            ("http://MCP.example:8000/messages", Some("/messages")),
            ("https://mcp.example:8000/messages", None),
            ("http://mcp.example/messages", None),
            ("http://169.254.169.254/latest", None),
            ("//169.254.169.254/latest", None),
            ("http://mcp.example:8000@evil/messages", None),
            ("", None),
            ("/a b", None),
        ] {
            let found = path_of(named, &endpoint);
            assert_eq!(found.as_ref().map(PathAndQuery::as_str), path, "{named}");
        }
    }
}
