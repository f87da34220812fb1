//! One request over HTTP/1.1, on a connection of its own; the answer's body is bounded. Where an answer
//! points elsewhere, nobody goes there. Credentials that a URL holds are neither sent nor shown.

use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use mcp_health_core::signals::{Certificate, CheckStep, Failure};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use url::Url;

use crate::{Barred, Permit, Trust, connect, tls::secure};

/// What the operator calls itself.
const CLIENT: &str = concat!("mcp-health-operator/", env!("CARGO_PKG_VERSION"));
/// How much of an answer is read ahead of whoever waits for it, in bytes.
const READ_AHEAD: usize = 64 << 10;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Asks over HTTP.
pub struct Web<'a> {
    pub trust: &'a Trust,
    pub permit: Permit<'a>,
    /// The first certificate that was shown.
    pub certificate: Option<Certificate>,
}

/// An answer.
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// At most `limit` bytes of it, and what came with them.
    pub body: Vec<u8>,
}

/// The URL of something that speaks HTTP. `Err` is a sentence for people.
pub fn parse(url: &str) -> Result<Url, String> {
    let url = Url::parse(url.trim()).map_err(|error| format!("it is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it begins neither with http:// nor with https://".to_owned());
    }
    Ok(url)
}

impl<'a> Web<'a> {
    pub const fn new(trust: &'a Trust, permit: Permit<'a>) -> Self {
        Self { trust, permit, certificate: None }
    }

    /// Gets a URL; of the body, `limit` bytes and what came with them.
    pub async fn get(
        &mut self,
        url: &Url,
        authorization: Option<&HeaderValue>,
        limit: usize,
        until: Instant,
    ) -> Result<Got, Barred> {
        let began = Instant::now();
        let late = |did: &str| {
            let seconds = began.elapsed().as_secs_f32();
            Barred::from(Failure::new(CheckStep::Answer, format!("{did} within {seconds:.1} s")))
        };
        let cut = || Failure::new(CheckStep::Answer, "cuts the connection before its answer");
        let host = url.host_str().unwrap_or_default();
        let tls = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or(80);
        let stream = connect(host, port, self.permit, until.saturating_duration_since(began)).await?;
        // One small message, which is waited for.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = if tls {
            let (session, certificate) = secure(stream, host, self.trust, &[b"http/1.1"], until).await;
            self.certificate = self.certificate.take().or(certificate);
            Box::new(session?)
        } else {
            Box::new(stream)
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(READ_AHEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| cut())?;
        let asking = async {
            let request = request(url, authorization).map_err(Barred::Forbidden)?;
            let response = timeout_at(until, sender.send_request(request)).await;
            let response = response.map_err(|_| late("takes the connection, and does not answer"))?;
            let (head, mut rest) = response
                .map_err(|error| {
                    if error.is_parse() {
                        Failure::new(CheckStep::Handshake, "does not speak HTTP")
                    } else {
                        cut()
                    }
                })?
                .into_parts();
            let mut body = Vec::new();
            while body.len() < limit {
                let frame = timeout_at(until, rest.frame()).await;
                match frame.map_err(|_| late("begins to answer, and does not end"))? {
                    Some(Ok(frame)) => body.extend(frame.into_data().unwrap_or_default()),
                    Some(Err(_)) => {
                        return Err(
                            Failure::new(CheckStep::Answer, "cuts the connection within its answer").into()
                        );
                    }
                    None => break,
                }
            }
            Ok(Got { status: head.status, headers: head.headers, body })
        };
        // How the connection ends is told to whoever waits for the answer; it is closed when both are
        // dropped.
        tokio::pin!(connection);
        tokio::pin!(asking);
        tokio::select! {
            biased;
            got = &mut asking => got,
            _ = &mut connection => asking.await,
        }
    }
}

fn request(url: &Url, authorization: Option<&HeaderValue>) -> Result<Request<Empty<Bytes>>, String> {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
    let target = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.parse().map_err(|_| "its path cannot be asked for".to_owned())?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| "its host cannot be asked".to_owned())?);
    headers.insert(USER_AGENT, HeaderValue::from_static(CLIENT));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.5"));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

/// What an answer with this status failed at.
pub fn refusal(status: StatusCode) -> Failure {
    let step = match status.as_u16() {
        401 | 403 | 407 => CheckStep::Login,
        _ => CheckStep::Answer,
    };
    Failure::new(step, format!("answers {}", words(status)))
}

/// `503 Service Unavailable`.
pub fn words(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or(status.as_u16().to_string(), |reason| format!("{} {reason}", status.as_u16()))
}
