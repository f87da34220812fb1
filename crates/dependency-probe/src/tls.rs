//! TLS: a session by a certificate that holds, or what is wrong with the certificate. The certificate is told
//! in both cases. Nothing here trusts what it should not: verification is rustls's own, only watched.

use std::{
    fmt, io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use mcp_health_core::{
    mcp::foreign,
    signals::{Certificate, CheckStep, Failure},
};
use mcp_probe::roots;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::{
            Resumption, WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::{Asked, Barred, Permit, certificate::Shown, connect};

/// Whose word on certificates is taken.
#[derive(Clone)]
pub struct Trust(Option<Arc<WebPkiServerVerifier>>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// That of the authorities that this machine trusts.
    pub fn own() -> Self {
        static OWN: OnceLock<Trust> = OnceLock::new();
        OWN.get_or_init(|| Self::of(roots::system())).clone()
    }

    /// That of these authorities alone, as PEM.
    pub fn pem(pem: &[u8]) -> Result<Self, String> {
        roots::pem(pem).map(Self::of)
    }

    fn of(roots: Arc<RootCertStore>) -> Self {
        let provider = Arc::new(ring::default_provider());
        Self(WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok())
    }
}

/// Asks whether it takes TLS connections by a certificate that holds for `server_name`, which may be another
/// than the host. `Err` where it may not be asked, with the reason for people.
pub async fn ask(
    host: &str,
    port: u16,
    server_name: Option<&str>,
    trust: &Trust,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<Asked, String> {
    let until = Instant::now() + patience;
    let mut asked = Asked::default();
    let result = match connect(host, port, permit, patience).await {
        Ok(stream) => {
            let (session, certificate) = secure(stream, server_name.unwrap_or(host), trust, &[], until).await;
            asked.certificate = certificate;
            session.map(drop).map_err(Barred::from)
        }
        Err(barred) => Err(barred),
    };
    asked.ended(result)
}

/// A TLS session over a connection, with one of the protocols named in `alpn` where there are any; and the
/// certificate that was shown, whether it holds or not.
pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server_name: &str,
    trust: &Trust,
    alpn: &[&[u8]],
    until: Instant,
) -> (Result<TlsStream<S>, Failure>, Option<Certificate>) {
    secure_as(stream, server_name, Some(trust), Proof::Name, alpn, until).await
}

/// What a certificate is to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: it is looked at.
    Nothing,
    /// That somebody who is trusted vouches for it.
    Chain,
    /// That, and that it is for its host.
    Name,
}

/// The same, by a certificate that proves as much as is asked for: some protocols ask for less than the web
/// does.
pub(crate) async fn secure_as<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server_name: &str,
    trust: Option<&Trust>,
    proof: Proof,
    alpn: &[&[u8]],
    until: Instant,
) -> (Result<TlsStream<S>, Failure>, Option<Certificate>) {
    let failed = |step, said: &str| (Err(Failure::new(step, said)), None);
    let Ok(name) =
        ServerName::try_from(server_name.trim_matches(['[', ']']).trim_end_matches('.').to_owned())
    else {
        return failed(CheckStep::Certificate, "no certificate can be for its host name");
    };
    let verifier = trust.and_then(|trust| trust.0.clone());
    if verifier.is_none() && proof != Proof::Nothing {
        return failed(CheckStep::Certificate, "this machine has no roots to verify certificates by");
    }
    let shown = Arc::new(Mutex::new(None));
    let provider = Arc::new(ring::default_provider());
    let watching = Watching { verifier, proof, shown: shown.clone(), provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider);
    let Ok(builder) = builder.with_safe_default_protocol_versions() else {
        return failed(CheckStep::Handshake, "no version of TLS is known");
    };
    let mut config = builder
        .dangerous() // It asks rustls's own verifier, and says what that says.
        .with_custom_certificate_verifier(Arc::new(watching))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    let session = timeout_at(until, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let der = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    let shown = der.as_ref().and_then(|der| Shown::read(der));
    let session = match session {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(refusal(&error, server_name, shown.as_ref())),
        Err(_) => Err(Failure::new(
            CheckStep::Handshake,
            "takes the connection, and does not answer the TLS handshake in time",
        )),
    };
    (session, shown.map(|shown| shown.certificate))
}

fn refusal(error: &io::Error, server_name: &str, shown: Option<&Shown>) -> Failure {
    let handshake = |said: String| Failure::new(CheckStep::Handshake, said);
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return handshake("cuts the connection in the TLS handshake".to_owned());
    };
    match error {
        Error::InvalidCertificate(error) => {
            let what = wrong(error, server_name, shown);
            Failure::new(CheckStep::Certificate, format!("shows a certificate {what}"))
        }
        Error::NoCertificatesPresented => {
            Failure::new(CheckStep::Certificate, "shows no certificate".to_owned())
        }
        Error::AlertReceived(alert) => handshake(format!("ends the TLS handshake: {alert:?}")),
        Error::InvalidMessage(_) => handshake("does not speak TLS".to_owned()),
        Error::PeerIncompatible(_) => {
            handshake("speaks no version or cipher of TLS that is safe to use".to_owned())
        }
        other => handshake(format!("no TLS session comes about: {}", foreign(&other.to_string(), None))),
    }
}

/// What is wrong with it, as the rest of a sentence.
fn wrong(error: &CertificateError, server_name: &str, shown: Option<&Shown>) -> String {
    let of = |second: u64| i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let its_own = shown.map(|shown| shown.certificate.not_after);
            let then = match error {
                CertificateError::ExpiredContext { not_after, .. } => of(not_after.as_secs()),
                _ => its_own,
            };
            let which = if then == its_own { "that" } else { "whose issuer's own" };
            format!("{which} expired at {}", day(then))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let from = match error {
                CertificateError::NotValidYetContext { not_before, .. } => of(not_before.as_secs()),
                _ => shown.map(|shown| shown.not_before),
            };
            format!("that does not hold before {}: it is new, or a clock is wrong", day(from))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = shown.map(|shown| shown.names.join(", ")).filter(|names| !names.is_empty());
            format!("for {}, not for {server_name}", names.as_deref().unwrap_or("no name"))
        }
        CertificateError::UnknownIssuer => match shown {
            Some(shown) if shown.is_self_signed => {
                "that it signed itself, and that is not among the trusted authorities".to_owned()
            }
            Some(Shown { certificate, .. }) if !certificate.issuer.is_empty() => {
                format!("by {}, which no trusted authority vouches for", certificate.issuer)
            }
            _ => "that no trusted authority vouches for".to_owned(),
        },
        CertificateError::Revoked => "that was revoked".to_owned(),
        CertificateError::BadSignature => "whose signature is wrong".to_owned(),
        CertificateError::BadEncoding => "that cannot be read".to_owned(),
        // What openssl makes of itself unless told otherwise, and what rustls takes from no server.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            let by_itself = shown.is_some_and(|shown| shown.is_self_signed);
            let by_itself = if by_itself { " that signed itself" } else { "" };
            format!("of an authority{by_itself}, which is none of a server (CA:TRUE)")
        }
        other => format!("that does not hold: {}", foreign(&other.to_string(), None)),
    }
}

/// `2026-11-21 12:00 UTC`.
fn day(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "a time that cannot be read".to_owned(), |at| at.strftime("%F %H:%M UTC").to_string())
}

/// Keeps the certificate that is shown, and leaves the verdict to rustls, as far as a verdict is asked for.
#[derive(Debug)]
struct Watching {
    /// None where nothing is to be proved.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    proof: Proof,
    shown: Arc<Mutex<Option<Vec<u8>>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        let Some(verifier) = self.verifier.as_ref().filter(|_| self.proof != Proof::Nothing) else {
            // Without a verifier, nothing can be proved.
            return match self.proof {
                Proof::Nothing => Ok(ServerCertVerified::assertion()),
                Proof::Chain | Proof::Name => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            };
        };
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            // The name is looked at last: all else holds.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.proof == Proof::Chain => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
