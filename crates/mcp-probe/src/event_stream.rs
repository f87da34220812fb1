//! HTTP+SSE, the transport of 2024-11-05: a `GET` brings a stream whose first event names where to `POST`; answers
//! come on the stream. The session is the stream, and ends with it. An endpoint at another origin is asked by its path on
//! the address that was dialled, and never at that origin.

use std::collections::VecDeque;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mcp_health_core::mcp::sse::{Event, Events};
use mcp_health_core::mcp::{Answer, Asked, End, LIMIT};
use mcp_health_core::signals::{Fault, FaultKind};
use tokio::time::{Instant, timeout_at};

use crate::endpoint::Endpoint;
use crate::origin;
use crate::request::Request;
use crate::streamable::Http;

/// The stream, and the way to the endpoint that it named.
pub struct EventStream {
    stream: Stream,
    /// Keeps the stream's connection.
    _held: Http,
    posts: Http,
    /// The endpoint was announced at another origin, as clients outside the cluster reach it: its path is asked here,
    /// and a proxy may have put a prefix before it.
    is_public: bool,
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
        let named = event.data.trim();
        let own = origin::same_origin(named, endpoint, http.path());
        let is_public = own.is_none();
        let path = own.or_else(|| origin::of_another_origin(named)).ok_or_else(|| {
            Fault::new(FaultKind::Malformed, "names an endpoint elsewhere, which is not asked")
        })?;
        let posts = http.beside(path);
        Ok(Self { stream, _held: http, posts, is_public })
    }

    /// Posts a message; its answer comes on the stream.
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Fault> {
        let mut posted = self.posts.post(request, None).await?.1;
        while posted.status() == 404
            && self.is_public
            && let Some(path) = origin::without_prefix(self.posts.path_and_query())
        {
            self.posts = self.posts.beside(path);
            posted = self.posts.post(request, None).await?.1;
        }
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
