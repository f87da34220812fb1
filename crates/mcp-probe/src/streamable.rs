//! Streamable HTTP: each question a `POST`, answered with JSON or with a stream of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use mcp_health_core::mcp::{Answer, Asked, End, Era, Judged, LEGACY, Question, judge};
use mcp_health_core::signals::{Fault, FaultKind};
use net::{Connection, Failed};
use serde_json::Map;
use tokio::time::{Instant, timeout_at};

use crate::connection;
use crate::endpoint::Endpoint;
use crate::origin;
use crate::request::{CLIENT, Request, SESSION_ID, Session};
use crate::token::Token;

/// How long the end of a stream is waited for, once the answer on it is there: a connection whose answer was
/// read to its end serves the next question, and behind a Service the next question then goes to the same
/// pod.
const LINGER: Duration = Duration::from_millis(250);
/// The most redirects that are followed, each within the same origin.
pub const REDIRECTS: usize = 3;

/// HTTP to one path of an endpoint, over one connection at a time.
pub struct Http {
    /// When it has to be over.
    pub deadline: Instant,
    endpoint: Arc<Endpoint>,
    token: Option<Token>,
    host: HeaderValue,
    path: PathAndQuery,
    connection: Option<Connection>,
    /// How many requests were sent, over all ways of one prober.
    sent: Arc<AtomicU32>,
}

impl Http {
    /// Not connected yet. Its time begins to run.
    pub fn new(
        endpoint: &Arc<Endpoint>,
        host: HeaderValue,
        path: PathAndQuery,
        token: Option<&Token>,
        sent: &Arc<AtomicU32>,
    ) -> Self {
        let deadline = Instant::now() + endpoint.timeout;
        let (endpoint, token, sent) = (Arc::clone(endpoint), token.cloned(), Arc::clone(sent));
        Self { deadline, endpoint, token, host, path, connection: None, sent }
    }

    /// The same with another path, over a connection of its own.
    pub fn beside(&self, path: PathAndQuery) -> Self {
        let mut other = Self::new(&self.endpoint, self.host.clone(), path, self.token.as_ref(), &self.sent);
        other.deadline = self.deadline;
        other
    }

    /// The path that is asked: another than the endpoint's once a redirect was followed.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// The same, as it goes over the wire.
    pub const fn path_and_query(&self) -> &PathAndQuery {
        &self.path
    }

    /// Posts a message, and reads the answer as far as it is waited for.
    pub async fn post(
        &mut self,
        request: &Request,
        session: Option<&Session>,
    ) -> Result<(HeaderMap, Answer), Fault> {
        let mut headers = request.headers(session);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        // A tool is called once, whatever becomes of it.
        let repeatable = request.asked != Asked::Call;
        let response = self.send(Method::POST, headers, request.body(), repeatable).await?;
        let (head, mut body) = response.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut answer = Answer::new(request.id, head.status.as_u16(), content_type);
        let end = self.read(&mut body, &mut answer).await;
        Ok((head.headers, answer.ended(end)))
    }

    /// Why a `GET` did not bring the stream that it asked for.
    pub async fn refused(&mut self, response: Response<Incoming>, hidden: Option<&str>) -> Fault {
        let (head, mut body) = response.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut answer = Answer::new(0, head.status.as_u16(), content_type);
        let end = self.read(&mut body, &mut answer).await;
        self.end_stray(&head.headers).await;
        let question = Question { era: Era::Legacy, asked: Asked::Initialize, in_session: false, hidden };
        match judge(&question, &answer.ended(end)) {
            Judged::Fault(fault) => fault,
            _ => Fault::new(FaultKind::NotMcp, "answered GET, and brought no stream of events"),
        }
    }

    /// `DELETE` of a session. Servers may refuse: they keep what they keep.
    pub async fn end_session(&mut self, session: &Session) {
        let request = Request::new(Era::Legacy, Asked::Ping, 0, Map::new());
        let _ = self.send(Method::DELETE, request.headers(Some(session)), String::new(), true).await;
    }

    /// Some servers begin a session with whatever they answer, a refusal too: they need not keep it.
    pub async fn end_stray(&mut self, headers: &HeaderMap) {
        if let Some(id) = headers.get(SESSION_ID).cloned() {
            let version = LEGACY[LEGACY.len() - 1];
            self.end_session(&Session { id: Some(id), version, tools: false }).await;
        }
    }

    /// Sends a request, and again where the server redirects it within the same origin: method and body are
    /// kept.
    pub async fn send(
        &mut self,
        method: Method,
        headers: HeaderMap,
        body: String,
        repeatable: bool,
    ) -> Result<Response<Incoming>, Fault> {
        let mut response = self.send_once(method.clone(), headers.clone(), body.clone(), repeatable).await?;
        for _ in 0..REDIRECTS {
            let head = (response.status(), response.headers());
            let Some(path) = redirected(&method, head, &self.endpoint, self.path.as_str()) else {
                break;
            };
            self.path = path;
            response = self.send_once(method.clone(), headers.clone(), body.clone(), repeatable).await?;
        }
        Ok(response)
    }

    /// Sends a request, on the connection that is there or on a new one.
    async fn send_once(
        &mut self,
        method: Method,
        headers: HeaderMap,
        body: String,
        repeatable: bool,
    ) -> Result<Response<Incoming>, Fault> {
        let request = self.request(method, headers, body);
        if let Some(connection) = self.idle().await {
            match self.over(connection, request.clone()).await {
                // Between two requests a server may close; that is no fault.
                Err(fault) if repeatable && fault.kind == FaultKind::Reset => {}
                otherwise => return otherwise,
            }
        }
        let has_credential = self.token.is_some();
        let connection = connection::open(&self.endpoint, has_credential, self.deadline).await;
        self.over(connection.map_err(|failed| self.fault(&failed))?, request).await
    }

    async fn over(
        &mut self,
        mut connection: Connection,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Fault> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let response = connection.send(request, self.deadline).await;
        let response = response.map_err(|failed| self.fault(&failed))?;
        self.connection = Some(connection);
        Ok(response)
    }

    /// What a step that failed says of the server.
    pub fn fault(&self, failed: &Failed) -> Fault {
        connection::fault(failed, &self.endpoint)
    }

    /// The connection, if another request may go over it.
    async fn idle(&mut self) -> Option<Connection> {
        let mut connection = self.connection.take()?;
        connection.is_ready(Instant::now() + LINGER).await.then_some(connection)
    }

    fn request(&self, method: Method, headers: HeaderMap, body: String) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = self.path.clone().into();
        *request.headers_mut() = headers;
        let all = request.headers_mut();
        all.insert(HOST, self.host.clone());
        all.insert(USER_AGENT, HeaderValue::from_static(CLIENT));
        if let Some(token) = &self.token {
            all.insert(AUTHORIZATION, token.header());
        }
        request
    }

    /// Reads until the answer is there, or nothing more comes.
    async fn read(&mut self, body: &mut Incoming, answer: &mut Answer) -> End {
        let mut wanted = true;
        let mut until = self.deadline;
        loop {
            let frame = match timeout_at(until, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) if wanted => return End::Cut,
                Err(_) if wanted => return End::TimedOut,
                // The end; or what breaks after the answer, which is nobody's fault.
                Ok(None | Some(Err(_))) | Err(_) => return End::Whole,
            };
            if let Ok(data) = frame.into_data()
                && wanted
                && !answer.push(&data)
            {
                wanted = false;
                until = until.min(Instant::now() + LINGER);
                if !answer.is_there() {
                    // Too long: its rest is of no interest.
                    self.connection = None;
                    return End::Whole;
                }
            }
        }
    }
}

/// The path that a response redirects to, within the same origin. A `GET` may be redirected by any status; of
/// what has a body, only 307 and 308 keep it.
pub fn redirected(
    method: &Method,
    (status, headers): (StatusCode, &HeaderMap),
    endpoint: &Endpoint,
    from: &str,
) -> Option<PathAndQuery> {
    let keeps = match status.as_u16() {
        307 | 308 => true,
        301..=303 => method == Method::GET,
        _ => false,
    };
    let location = headers.get(LOCATION).filter(|_| keeps)?.to_str().ok()?;
    origin::same_origin(location, endpoint, from).filter(|path| path.as_str() != from)
}
