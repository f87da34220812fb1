//! A connection, to none but permitted addresses.

use std::net::SocketAddr;

use tokio::{
    net::{TcpStream, ToSocketAddrs, lookup_host},
    time::{Instant, timeout_at},
};

use crate::{Failed, Late};

/// Which addresses may be contacted.
pub type Permit<'a> = &'a (dyn Fn(SocketAddr) -> bool + Send + Sync);

/// The addresses of a name, all of which are permitted.
pub async fn resolve(
    to: impl ToSocketAddrs,
    permit: Permit<'_>,
    until: Instant,
) -> Result<Vec<SocketAddr>, Failed> {
    let addresses = timeout_at(until, lookup_host(to)).await.map_err(|_| Failed::Late(Late::Resolve))?;
    let addresses: Vec<SocketAddr> = addresses.map_err(Failed::Resolve)?.collect();
    match addresses.iter().find(|address| !permit(**address)) {
        Some(forbidden) => Err(Failed::Forbidden(*forbidden)),
        None => Ok(addresses),
    }
}

/// Connects to the first address that takes the connection. All addresses of a name must be permitted: a name
/// that leads elsewhere is not contacted at all.
pub async fn dial(to: impl ToSocketAddrs, permit: Permit<'_>, until: Instant) -> Result<TcpStream, Failed> {
    let mut last = Failed::NoAddress;
    for address in resolve(to, permit, until).await? {
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Messages are small, and each is waited for.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            // Another address may be of use where this one is not there.
            Ok(Err(error)) => last = Failed::Connect(address, error),
            Err(_) => return Err(Failed::Late(Late::Connect(address))),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{io::ErrorKind, time::Duration};

    use tokio::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn nothing_is_contacted_without_a_permit_for_each_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let other: SocketAddr = "127.0.0.2:9".parse().unwrap();
        let both = [own, other];
        let barred = dial(&both[..], &|address| address == own, soon()).await;
        assert!(matches!(barred, Err(Failed::Forbidden(address)) if address == other), "{barred:?}");
        let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(accepted.is_err(), "it was contacted all the same");
        assert!(dial(&both[..], &|_| true, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn the_step_that_fails_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let refused = dial(address, &|_| true, soon()).await;
        assert!(
            matches!(&refused, Err(Failed::Connect(at, error)) if *at == address
                && error.kind() == ErrorKind::ConnectionRefused),
            "{refused:?}"
        );
        let nobody = dial(("nobody.invalid", 80), &|_| true, soon()).await;
        assert!(matches!(nobody, Err(Failed::Resolve(_))), "{nobody:?}");
    }
}
