//! The HTTP client for what the operator's own flags name: Prometheus and Alertmanager. Certificates that the system
//! trusts, or those of a file instead; no redirect is followed, no proxy is used, and answers are bounded.

use std::{fs, io, time::Duration};

use mcp_health_api::MANAGER;
use mcp_probe::roots;
use reqwest::{Client, Response, redirect::Policy};
use rustls::{ClientConfig, crypto::ring};

/// Connections that nobody uses are kept for as long.
const IDLE: Duration = Duration::from_secs(90);

/// Why a body was not read.
pub enum Unread {
    /// It is longer than the reader takes.
    TooLong,
    /// It breaks off.
    Broken,
}

/// A client that trusts what the system does, or the certificates in `ca_file` instead.
pub fn client(ca_file: &str) -> Result<Client, String> {
    let of = |file| roots::pem(&fs::read(file).map_err(|error| error.to_string())?);
    let roots = match ca_file {
        "" => roots::system(),
        file => of(file).map_err(|why| format!("{file}: {why}"))?,
    };
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = Client::builder().tls_backend_preconfigured(tls).http1_only().no_proxy();
    let builder = builder.redirect(Policy::none()).pool_idle_timeout(IDLE).user_agent(MANAGER);
    builder.build().map_err(|error| error.to_string())
}

/// The whole body, if it is no longer than `most` bytes.
pub async fn body(mut answer: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let told = answer.content_length().and_then(|length| usize::try_from(length).ok());
    if told.is_some_and(|length| length > most) {
        return Err(Unread::TooLong);
    }
    let mut body = Vec::with_capacity(told.unwrap_or_default());
    while let Some(chunk) = answer.chunk().await.map_err(|_| Unread::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why there is no answer, in words that do not change from one try to the next.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    let mut is_connecting = false;
    while let Some(one) = cause {
        is_connecting |= one.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect);
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
    if is_connecting { "no connection" } else { "the connection broke off" }
}
