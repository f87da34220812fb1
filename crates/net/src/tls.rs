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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, pki_types::PrivateKeyDer},
    };

    use super::*;
    use crate::Trust;

    /// A server's certificate for `redis.mcp`, which it signed itself.
    struct Server {
        config: Arc<ServerConfig>,
        pem: String,
    }

    impl Server {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["redis.mcp".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let config = ServerConfig::builder_with_provider(ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
            Self { config: Arc::new(config), pem: certificate.pem() }
        }

        /// What a handshake with it comes to, and whether its certificate was seen.
        async fn shakes(&self, host: &str, proof: Proof<'_>) -> (Result<(), Failed>, bool) {
            let (here, there) = tokio::io::duplex(16 << 10);
            let accepting = TlsAcceptor::from(self.config.clone()).accept(there);
            let until = Instant::now() + Duration::from_secs(5);
            let ((session, shown), _) = tokio::join!(secure(here, host, proof, &[], until), accepting);
            (session.map(drop), shown.is_some())
        }
    }

    #[tokio::test]
    async fn a_certificate_proves_as_much_as_is_asked_for_and_is_shown_in_any_case() {
        let (server, other) = (Server::new(), Server::new());
        let own = Trust::pem(server.pem.as_bytes()).unwrap();
        let foreign = Trust::pem(other.pem.as_bytes()).unwrap();
        for (host, proof, holds) in [
            ("redis.mcp", Proof::Name(&own), true),
            ("rabbit.mcp", Proof::Name(&own), false),
            ("rabbit.mcp", Proof::Chain(&own), true),
            ("redis.mcp", Proof::Chain(&foreign), false),
            ("redis.mcp", Proof::Name(&foreign), false),
            ("10.0.0.7", Proof::Nothing, true),
        ] {
            let (result, was_shown) = server.shakes(host, proof).await;
            assert!(was_shown, "{host} {proof:?}");
            match result {
                Ok(()) => assert!(holds, "{host} {proof:?}"),
                Err(Failed::Tls(rustls::Error::InvalidCertificate(why))) => {
                    assert!(!holds, "{host} {proof:?}: {why:?}");
                }
                Err(other) => panic!("{host} {proof:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn who_never_answers_the_handshake_is_told_as_late() {
        let (here, _there) = tokio::io::duplex(16 << 10);
        let (session, _) = secure(here, "redis.mcp", Proof::Nothing, &[], Instant::now()).await;
        assert!(matches!(session, Err(Failed::Late(Late::Tls))));
    }
}
