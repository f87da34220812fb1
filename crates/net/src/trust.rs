//! Whose word on certificates is taken, and for what.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::roots;

/// Whose word on certificates is taken.
#[derive(Clone)]
pub struct Trust(pub(crate) Option<Arc<WebPkiServerVerifier>>);

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

    /// That of these authorities alone, as PEM. `Err` is a sentence for people.
    pub fn pem(pem: &[u8]) -> Result<Self, String> {
        roots::pem(pem).map(Self::of)
    }

    fn of(roots: Arc<RootCertStore>) -> Self {
        let provider = Arc::new(ring::default_provider());
        Self(WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok())
    }
}

/// What a certificate is to prove: some protocols ask for less than the web does.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// Nothing: it is looked at.
    Nothing,
    /// That somebody who is trusted vouches for it.
    Chain(&'a Trust),
    /// That, and that it is for its host.
    Name(&'a Trust),
}

/// Keeps the certificate that is shown, and leaves the verdict to rustls, as far as a verdict is asked for.
#[derive(Debug)]
pub struct Watching {
    /// None where nothing is to be proved.
    pub verifier: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the certificate must be for its host.
    pub is_for_host: bool,
    /// The certificate, once it was shown.
    pub shown: Arc<Mutex<Option<Vec<u8>>>>,
    /// What signatures are checked with.
    pub provider: Arc<CryptoProvider>,
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
        let Some(verifier) = &self.verifier else { return Ok(ServerCertVerified::assertion()) };
        match verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            // The name is looked at last: all else holds.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.is_for_host => Ok(ServerCertVerified::assertion()),
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
