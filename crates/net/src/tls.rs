//! TLS over a connection. Nothing here trusts what it should not: verification is rustls's own, only watched.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, ClientConfig, client::Resumption, crypto::ring, pki_types::ServerName},
};

use crate::{Failed, Late, Proof, trust::Watching};

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a certificate of this host must be for. `None` where none can be.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).trim_end_matches('.').to_owned()).ok()
}

/// A TLS session over a connection, by a certificate that proves what it should, with one of the protocols
/// named in `alpn` where there are any. Beside it the certificate that was shown, in DER, whether it holds or
/// not.
pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    proof: Proof<'_>,
    alpn: &[&[u8]],
    until: Instant,
) -> (Result<TlsStream<S>, Failed>, Option<Vec<u8>>) {
    let Some(name) = server_name(host) else { return (Err(Failed::NoServerName), None) };
    let (trust, is_for_host) = match proof {
        Proof::Nothing => (None, false),
        Proof::Chain(trust) => (Some(trust), false),
        Proof::Name(trust) => (Some(trust), true),
    };
    let verifier = trust.and_then(|trust| trust.0.clone());
    if trust.is_some() && verifier.is_none() {
        return (Err(Failed::NoRoots), None);
    }
    let shown = Arc::new(Mutex::new(None));
    let provider = Arc::new(ring::default_provider());
    let watching = Watching { verifier, is_for_host, shown: shown.clone(), provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder,
        Err(error) => return (Err(Failed::Tls(error)), None),
    };
    let mut config = builder
        .dangerous() // It asks rustls's own verifier, and says what that says.
        .with_custom_certificate_verifier(Arc::new(watching))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // A resumed session shows no certificate, and verifies none.
    config.resumption = Resumption::disabled();
    let session = timeout_at(until, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let session = match session {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(match error.downcast::<rustls::Error>() {
            Ok(error) => Failed::Tls(error),
            Err(error) => Failed::CutInHandshake(error),
        }),
        Err(_) => Err(Failed::Late(Late::Tls)),
    };
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    (session, shown)
}
