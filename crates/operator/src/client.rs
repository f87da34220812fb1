//! The client of the API server: every call has a deadline, and no call is repeated behind its caller's back. An
//! eviction that a budget refuses (429) is an answer to be judged, and an effect is sent once.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use futures::{FutureExt, future::BoxFuture, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tokio::time::{Instant, timeout, timeout_at};
use tower::{BoxError, Layer, Service, ServiceExt, layer::layer_fn};

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the network may leave what was sent without an acknowledgement before the connection is closed.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// How often a silent connection is checked.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Connections that are not used are closed before anything in between forgets them.
const IDLE: Duration = Duration::from_mins(1);

/// How long calls may take, their bodies included.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Anything that is no list and no watch; also until a watch is answered.
    pub call: Duration,
    /// A list.
    pub list: Duration,
    /// What a watch may take beyond its own `timeoutSeconds`.
    pub watch_margin: Duration,
    /// A watch that names no `timeoutSeconds`.
    pub watch: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            list: Duration::from_secs(30),
            watch_margin: Duration::from_secs(10),
            watch: Duration::from_mins(5),
        }
    }
}

/// No answer, or no end of one, in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer to {verb} {path} within {} s", seconds(.after))]
pub struct TimedOut {
    /// `GET`, `LIST`, `WATCH`, `PATCH` and so on.
    pub verb: &'static str,
    /// The object, as its path at the API server.
    pub path: String,
    /// The deadline.
    pub after: Duration,
}

fn seconds(after: &Duration) -> impl fmt::Display {
    after.as_secs_f64()
}

/// The client for a configuration. Errors name what is wrong with the configuration.
pub fn connect(config: &Config, deadlines: Deadlines) -> Result<Client, kube::Error> {
    if let Some(proxy) = &config.proxy_url {
        let (proxy_url, protocol_feature) = (Box::new(proxy.clone()), "kube/http-proxy");
        return Err(kube::Error::ProxyProtocolDisabled { proxy_url, protocol_feature });
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(2));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    // TLS included: a peer that takes the connection and says nothing holds up nobody.
    let in_time = layer_fn(|connector| tower::timeout::Timeout::new(connector, CONNECT)).layer(tls);
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(in_time.map_future(FutureExt::boxed));
    let service = config.extra_headers_layer()?.layer(http.map_err(BoxError::from));
    let namespace = config.default_namespace.clone();
    // Outermost, so that the time to refresh a credential counts as well.
    Ok(match config.auth_layer()? {
        Some(auth) => {
            let service = config.base_uri_layer().layer(auth.layer(service));
            Client::new(InTime::new(service, deadlines), namespace)
        }
        None => Client::new(InTime::new(config.base_uri_layer().layer(service), deadlines), namespace),
    })
}

/// The body of an answer: at hand, or a stream that ends in time.
type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// Ends calls of another service at their deadlines.
#[derive(Clone, Debug)]
pub struct InTime<S> {
    inner: S,
    deadlines: Deadlines,
}

impl<S> InTime<S> {
    /// Calls of `inner` end in time.
    pub fn new(inner: S, deadlines: Deadlines) -> Self {
        Self { inner, deadlines }
    }
}

impl<S, B> Service<Request<Body>> for InTime<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(&request, &self.deadlines);
        let answer = self.inner.call(request);
        Box::pin(call.answered(answer))
    }
}

/// One call, and how long it may take.
#[derive(Debug)]
struct Call {
    verb: &'static str,
    path: String,
    /// Until its answer begins; without a stream, until it ends.
    first: Duration,
    /// Until its stream ends.
    stream: Option<Duration>,
}

impl Call {
    fn of(request: &Request<Body>, deadlines: &Deadlines) -> Self {
        let path = request.uri().path().to_owned();
        let query = |name: &str| {
            let pairs = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
            pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let is_set = |name| query(name).is_some_and(|value| matches!(value.as_str(), "true" | "1"));
        if is_set("watch") {
            let own = query("timeoutSeconds").and_then(|text| text.parse().ok()).map(Duration::from_secs);
            let stream = Some(own.map_or(deadlines.watch, |own| own + deadlines.watch_margin));
            return Self { verb: "WATCH", path, first: deadlines.call, stream };
        }
        if request.method() == Method::GET && is_collection(&path) {
            return Self { verb: "LIST", path, first: deadlines.list, stream: None };
        }
        Self { verb: verb(request.method()), path, first: deadlines.call, stream: None }
    }

    fn timed_out(&self, after: Duration) -> TimedOut {
        TimedOut { verb: self.verb, path: self.path.clone(), after }
    }

    async fn answered<B, E>(
        self,
        answer: impl Future<Output = Result<Response<B>, E>>,
    ) -> Result<Response<Answer>, BoxError>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        E: Into<BoxError>,
    {
        let begun = Instant::now();
        let answer = timeout_at(begun + self.first, answer).await;
        let answer = answer.map_err(|_| self.timed_out(self.first))?.map_err(Into::into)?;
        let (parts, body) = answer.into_parts();
        let body = match self.stream {
            // An error is an answer of its own, and short.
            Some(whole) if parts.status.is_success() => self.streamed(body, begun + whole, whole),
            _ => {
                let whole = timeout_at(begun + self.first, body.collect()).await;
                let whole = whole.map_err(|_| self.timed_out(self.first))?.map_err(Into::into)?;
                Full::new(whole.to_bytes()).map_err(|never| match never {}).boxed_unsync()
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// A body that ends with an error at its deadline, and otherwise by itself.
    fn streamed<B>(self, body: B, until: Instant, whole: Duration) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let body: Pin<Box<B>> = Box::pin(body);
        let frames = stream::try_unfold((body, self), move |(mut body, call)| async move {
            match timeout_at(until, body.frame()).await {
                Ok(Some(frame)) => Ok(Some((frame.map_err(Into::into)?, (body, call)))),
                Ok(None) => Ok(None),
                Err(_) => Err(BoxError::from(call.timed_out(whole))),
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "PUT" => "PUT",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "a call of",
    }
}

/// Whether a path names a collection: `/api/v1/pods`, `/apis/apps/v1/namespaces/mcp/deployments`.
fn is_collection(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let prefix = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        _ => return false,
    };
    if parts.len() <= prefix {
        return false;
    }
    parts.drain(..prefix);
    match parts.as_slice() {
        ["namespaces", _, rest @ ..] | rest => rest.len() == 1,
    }
}

/// A call that may take so long, whatever the client allows.
pub async fn within<T>(
    after: Duration,
    verb: &'static str,
    path: impl Into<String>,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match timeout(after, call).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(Box::new(TimedOut { verb, path: path.into(), after }))),
    }
}

#[cfg(test)]
pub mod tests;
