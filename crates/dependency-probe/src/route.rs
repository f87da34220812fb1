//! The way to a dependency: a connection to its name, where the addresses that it leads to are permitted.

use std::time::Duration;

use net::Permit;
use tokio::{net::TcpStream, time::Instant};

use crate::barred::{Asking, Barred};

/// Connects to the first address of a host that takes the connection, within `patience`. All its addresses
/// must be permitted: a name that leads elsewhere is not asked at all.
pub async fn connect(
    host: &str,
    port: u16,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<TcpStream, Barred> {
    let host = host.trim_matches(['[', ']']);
    let stream = net::dial((host, port), permit, Instant::now() + patience).await;
    stream.map_err(|failed| Asking { host, patience, shown: None }.barred(&failed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mcp_health_core::signals::CheckStep;
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_step_that_fails_is_told_and_nobody_is_contacted_without_a_permit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port, &|_| true, SOON).await.is_ok());
        let barred = connect("localhost", port, &|_| false, SOON).await.unwrap_err();
        assert!(barred.to_string().ends_with("is not on the operator's allow-list"), "{barred}");
        drop(listener);
        let step = async |host| match connect(host, port, &|_| true, SOON).await {
            Err(Barred::Failed(failure)) => failure.step,
            other => panic!("{other:?}"),
        };
        assert_eq!(step("127.0.0.1").await, CheckStep::Port);
        assert_eq!(step("nobody.invalid").await, CheckStep::Name);
    }
}
