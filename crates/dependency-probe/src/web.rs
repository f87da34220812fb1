//! One request over HTTP/1.1, on a connection of its own; the answer's body is bounded. Where an answer
//! points elsewhere, nobody goes there. Credentials that a URL holds are neither sent nor shown.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT},
};
use http_body_util::Full;
use mcp_health_core::signals::{Certificate, CheckStep, Failure};
use net::{Connection, Permit, Proof, Stream, Trust};
use tokio::time::Instant;
use url::Url;

use crate::{Barred, barred::Asking, connect, tls::secure};

/// What the operator calls itself.
const CLIENT: &str = concat!("mcp-health-operator/", env!("CARGO_PKG_VERSION"));
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
        let patience = until.saturating_duration_since(Instant::now());
        let request = request(url, authorization).map_err(Barred::Forbidden)?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let stream = connect(host, port, self.permit, patience).await?;
        let stream: Box<dyn Stream> = if url.scheme() == "https" {
            let proof = Proof::Name(self.trust);
            let (session, certificate) = secure(stream, host, proof, &[b"http/1.1"], until).await;
            self.certificate = self.certificate.take().or(certificate);
            Box::new(session?)
        } else {
            Box::new(stream)
        };
        let got = async {
            let answer = Connection::over(stream).await?.ask(request, until).await?;
            let (status, headers) = (answer.head.status, answer.head.headers.clone());
            Ok(Got { status, headers, body: answer.read(limit, until).await? })
        };
        got.await.map_err(|failed| Asking { host, patience, shown: None }.barred(&failed))
    }
}

fn request(url: &Url, authorization: Option<&HeaderValue>) -> Result<Request<Full<Bytes>>, String> {
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
    let target = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut request = Request::new(Full::default());
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
