//! TLS: a session by a certificate that holds, or what is wrong with the certificate. The certificate is told
//! in both cases.

use std::time::Duration;

use mcp_health_core::signals::Certificate;
use net::{Permit, Proof, Trust};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::client::TlsStream;

use crate::{Asked, Barred, barred::Asking, certificate::Shown, connect};

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
            let (session, certificate) =
                secure(stream, server_name.unwrap_or(host), Proof::Name(trust), &[], until).await;
            asked.certificate = certificate;
            session.map(drop)
        }
        Err(barred) => Err(barred),
    };
    asked.ended(result)
}

/// A TLS session over a connection, by a certificate that proves as much as is asked for, with one of the
/// protocols named in `alpn` where there are any; and the certificate that was shown, whether it holds or
/// not.
pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server_name: &str,
    proof: Proof<'_>,
    alpn: &[&[u8]],
    until: Instant,
) -> (Result<TlsStream<S>, Barred>, Option<Certificate>) {
    let patience = until.saturating_duration_since(Instant::now());
    let (session, der) = net::secure(stream, server_name, proof, alpn, until).await;
    let shown = der.as_ref().and_then(|der| Shown::read(der));
    let asking = Asking { host: server_name, patience, shown: shown.as_ref() };
    (session.map_err(|failed| asking.barred(&failed)), shown.map(|shown| shown.certificate))
}
