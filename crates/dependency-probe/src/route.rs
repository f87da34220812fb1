//! The way to a dependency: its name, a permit for the addresses that it leads to, a connection.

use std::{fmt, io, net::SocketAddr, time::Duration};

use mcp_health_core::signals::{CheckStep, Failure};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

/// Which addresses may be contacted.
pub type Permit<'a> = &'a (dyn Fn(SocketAddr) -> bool + Send + Sync);

/// Why something is not asked at all, or why it did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It may not be asked: a sentence for people.
    Forbidden(String),
    /// It was asked, and did not answer as it should.
    Failed(Failure),
}

impl From<Failure> for Barred {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(why) => f.write_str(why),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Connects to the first address of a host that takes the connection, within `patience`. All its addresses
/// must be permitted: a name that leads elsewhere is not asked at all.
pub async fn connect(
    host: &str,
    port: u16,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<TcpStream, Barred> {
    let until = Instant::now() + patience;
    let host = host.trim_matches(['[', ']']);
    let failed = |step, said: String| Barred::Failed(Failure::new(step, said));
    let addresses: Vec<SocketAddr> = match timeout_at(until, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) => return Err(failed(CheckStep::Name, format!("its name {host} does not resolve"))),
        Err(_) => {
            let seconds = patience.as_secs();
            return Err(failed(CheckStep::Name, format!("its name {host}: no answer within {seconds} s")));
        }
    };
    if let Some(address) = addresses.iter().find(|address| !permit(**address)) {
        let why = format!("{host} leads to {}, which is not on the operator's allow-list", address.ip());
        return Err(Barred::Forbidden(why));
    }
    let mut last = failed(CheckStep::Name, format!("its name {host} resolves to no address"));
    for address in addresses {
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            // Another address may be of use where this one is not there.
            Ok(Err(error)) => last = refusal(address, &error).into(),
            Err(_) => {
                let said = format!("{address} does not answer a connection within {} s", patience.as_secs());
                return Err(failed(CheckStep::Route, said));
            }
        }
    }
    Err(last)
}

fn refusal(address: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Failure::new(CheckStep::Port, format!("{address} refuses the connection"))
        }
        _ => Failure::new(CheckStep::Route, format!("there is no way to {address}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
