//! The HTTP clients for Prometheus and Alertmanager. Certificates that the system trusts, or those of a file
//! instead; no redirect is followed, no proxy is used, and answers are bounded. What the operator's own flags
//! name is contacted wherever its name leads; what an object names, only where the [allow-list](AllowList)
//! permits the address.

use std::{error::Error, fs, io, sync::Arc, time::Duration};

use mcp_health_api::MANAGER;
use net::{Failed, roots};
use reqwest::{
    Client, ClientBuilder, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use rustls::{ClientConfig, crypto::ring};
use tokio::time::Instant;

use crate::{allowed::may_lead_to, endpoints::AllowList};

/// Connections that nobody uses are kept for as long.
const IDLE: Duration = Duration::from_secs(90);
/// How long a name may take to resolve: resolvers ask a second server after 5 s.
const RESOLVED: Duration = Duration::from_secs(10);

/// Why a body was not read.
pub enum Unread {
    /// It is longer than the reader takes.
    TooLong,
    /// It breaks off.
    Broken,
}

/// What certificates are trusted: the system's, or those in `ca_file` instead.
pub fn trust(ca_file: &str) -> Result<ClientConfig, String> {
    let of = |file| roots::pem(&fs::read(file).map_err(|error| error.to_string())?);
    let roots = match ca_file {
        "" => roots::system(),
        file => of(file).map_err(|why| format!("{file}: {why}"))?,
    };
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

/// A client for what the operator's own flags name.
pub fn client(trust: &ClientConfig) -> Result<Client, String> {
    builder(trust).build().map_err(|error| error.to_string())
}

/// A client for a host and port that an object names: it connects to the addresses that were judged, and to
/// none where one of them is not permitted. A host that is written as an address is not resolved, and so not
/// judged here.
pub fn guarded_client(trust: &ClientConfig, allowed: Arc<AllowList>, port: u16) -> Result<Client, String> {
    let guard = AddressGuard { allowed, port };
    builder(trust).dns_resolver(Arc::new(guard)).build().map_err(|error| error.to_string())
}

fn builder(trust: &ClientConfig) -> ClientBuilder {
    let builder = Client::builder().tls_backend_preconfigured(trust.clone()).http1_only().no_proxy();
    builder.redirect(Policy::none()).pool_idle_timeout(IDLE).user_agent(MANAGER)
}

/// Resolves a name, and permits all of its addresses or none.
struct AddressGuard {
    allowed: Arc<AllowList>,
    port: u16,
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, port) = (Arc::clone(&self.allowed), self.port);
        Box::pin(async move {
            let permit = |address| may_lead_to(&allowed, address);
            let addresses = net::resolve((name.as_str(), port), &permit, Instant::now() + RESOLVED).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
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
pub fn refusal(error: &(dyn Error + 'static)) -> &'static str {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let of_request =
        |is: fn(&reqwest::Error) -> bool| causes.iter().any(|one| one.downcast_ref().is_some_and(is));
    let is_refused = |one: &io::Error| one.kind() == io::ErrorKind::ConnectionRefused;
    if causes.iter().any(|one| matches!(one.downcast_ref(), Some(Failed::Forbidden(_)))) {
        "its name resolves to an address that the operator may not contact (signals.allowedEndpoints)"
    } else if of_request(reqwest::Error::is_dns) {
        "its name cannot be resolved"
    } else if causes.iter().any(|one| one.is::<rustls::Error>() || is_of_tls(*one)) {
        "its certificate is not trusted, or it does not speak TLS"
    } else if causes.iter().any(|one| one.downcast_ref().is_some_and(is_refused)) {
        "connection refused"
    } else if of_request(reqwest::Error::is_connect) {
        "no connection"
    } else {
        "the connection broke off"
    }
}

/// TLS ends a handshake with an I/O error that holds its own.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
}
