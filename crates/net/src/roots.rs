//! The certificate authorities whose word is taken, for all of the operator that speaks TLS.

use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

/// Those that this machine trusts. They are read once, and shared: they alone are some hundred kilobytes.
pub fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    Arc::clone(SYSTEM.get_or_init(read))
}

/// Those of a text in PEM. `Err` is a sentence for people.
pub fn pem(text: &[u8]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|_| "the certificate authorities are no PEM".to_owned())?;
        if roots.add(certificate).is_err() {
            return Err("a certificate authority's certificate cannot be read".to_owned());
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate among the certificate authorities".to_owned());
    }
    Ok(Arc::new(roots))
}
