//! One question to a Prometheus: a POST of its HTTP API, bounded in time and in size. No redirect is followed.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use mcp_health_api::MANAGER;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::{Instant, timeout_at};

use super::answer::Trouble;
use crate::endpoints::Endpoint;

/// The largest answer.
const LARGEST: usize = 32 << 20;
/// Connections that nobody uses are kept for as long.
const IDLE: Duration = Duration::from_secs(90);

/// See the module.
pub struct Asking {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    timeout: Duration,
}

/// An answer as it came.
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Asking {
    /// Asks with certificates that the system trusts, or those in `ca_file` instead.
    pub fn new(ca_file: &str, timeout: Duration) -> Result<Self, String> {
        let roots = if ca_file.is_empty() { system_roots() } else { roots_of(ca_file)? };
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, timeout })
    }

    /// The answer to one query, which comes before `deadline`, or there is none.
    pub async fn ask(
        &self,
        endpoint: &Endpoint,
        authorization: Option<&HeaderValue>,
        query: &str,
        deadline: Instant,
    ) -> Result<Answered, Trouble> {
        let failed = |why: &str| Trouble::Failed(why.to_owned());
        let seconds = self.timeout.as_secs().max(1);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .append_pair("timeout", &format!("{seconds}s"))
            .finish();
        let mut request = Request::post(format!("{endpoint}/api/v1/query"))
            .header(USER_AGENT, MANAGER)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .map_err(|_| failed("its URL is none"))?;
        let own = endpoint.credentials().and_then(basic);
        if let Some(value) = own.or_else(|| authorization.cloned()) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let until = deadline.min(Instant::now() + self.timeout);
        let answer = async {
            let answer = self.client.request(request).await.map_err(|error| {
                failed(if error.is_connect() { refusal(&error) } else { "the connection broke off" })
            })?;
            let status = answer.status().as_u16();
            if answer.status().is_redirection() {
                return Err(failed("it answers with a redirect, which is not followed"));
            }
            match Limited::new(answer.into_body(), LARGEST).collect().await {
                Ok(body) => Ok(Answered { status, body: body.to_bytes() }),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(failed("its answer is larger than 32 MiB"))
                }
                Err(_) => Err(failed("the connection broke off")),
            }
        };
        match timeout_at(until, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Failed(format!("no answer within {seconds} s"))),
        }
    }
}

/// The bearer token of a file, as a header.
pub fn bearer(file: &str) -> Result<HeaderValue, String> {
    let token = std::fs::read_to_string(file).map_err(|error| format!("{file}: {}", error.kind()))?;
    sensitive(&format!("Bearer {}", token.trim())).ok_or_else(|| format!("{file} holds no token"))
}

fn basic(credentials: &str) -> Option<HeaderValue> {
    let credentials: Vec<u8> = percent_encoding::percent_decode_str(credentials).collect();
    sensitive(&format!("Basic {}", STANDARD.encode(credentials)))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why there is no connection, in words that do not change from one try to the next.
fn refusal(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(one) = cause {
        let text = one.to_string();
        if one.is::<rustls::Error>() || text.contains("certificate") {
            return "its certificate is not trusted, or it does not speak TLS";
        }
        if text.contains("lookup address") || text.contains("dns error") {
            return "its name cannot be resolved";
        }
        if one.downcast_ref::<io::Error>().is_some_and(|one| one.kind() == io::ErrorKind::ConnectionRefused) {
            return "connection refused";
        }
        cause = one.source();
    }
    "no connection"
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn roots_of(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| format!("{file}: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{file}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("{file}: {error}"))?;
    }
    if roots.is_empty() { Err(format!("{file} holds no certificate")) } else { Ok(roots) }
}
