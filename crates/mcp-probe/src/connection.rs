//! The way to a server, and what kind of fault each step of it is when it fails.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mcp_health_core::mcp;
use mcp_health_core::signals::{Fault, FaultKind};
use net::{Connection, Failed, Late, Permit, Proof, Stream, Trust};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::rustls::{CertificateError, Error};

use crate::endpoint::{Address, Endpoint};

/// How long a server's machine may take to accept a connection (guides: port checks, 3 s).
const CONNECT: Duration = Duration::from_secs(3);
/// Where a server is says Kubernetes, and no object: its pods and Services may have any address.
const ANYWHERE: Permit<'static> = &|_| true;

/// Connects; nothing has been asked yet. A credential goes over no connection whose certificate was not
/// verified. Without one, a probe sends nothing that is worth protecting, and may accept any, as the kubelet
/// does in its own.
pub async fn open(
    endpoint: &Endpoint,
    has_credential: bool,
    deadline: Instant,
) -> Result<Connection, Failed> {
    let tcp = tcp(endpoint, deadline).await?;
    let stream: Box<dyn Stream> = if !endpoint.tls {
        Box::new(tcp)
    } else if has_credential || !endpoint.unverified {
        Box::new(tls(tcp, endpoint, Proof::Name(&Trust::own()), deadline).await?)
    } else {
        Box::new(tls(tcp, endpoint, Proof::Nothing, deadline).await?)
    };
    Connection::over(stream).await
}

/// Whether a server that was asked in plain HTTP speaks TLS: it completes a handshake, over which nothing is
/// sent.
pub async fn speaks_tls(endpoint: &Endpoint, deadline: Instant) -> bool {
    match tcp(endpoint, deadline).await {
        Ok(tcp) => tls(tcp, endpoint, Proof::Nothing, deadline).await.is_ok(),
        Err(_) => false,
    }
}

async fn tcp(endpoint: &Endpoint, deadline: Instant) -> Result<TcpStream, Failed> {
    let by = deadline.min(Instant::now() + CONNECT);
    match &endpoint.address {
        Address::Socket(address) => net::dial(address, ANYWHERE, by).await,
        Address::Name(name, port) => net::dial((name.as_str(), *port), ANYWHERE, by).await,
    }
}

async fn tls(
    tcp: TcpStream,
    endpoint: &Endpoint,
    proof: Proof<'_>,
    deadline: Instant,
) -> Result<impl Stream + use<>, Failed> {
    net::secure(tcp, endpoint.bare_host(), proof, &[b"http/1.1"], deadline).await.0
}

/// What a step that failed says of the server.
pub fn fault(failed: &Failed, endpoint: &Endpoint) -> Fault {
    let within = || format!("within {} s", endpoint.timeout.as_secs_f32());
    let no_tls = |why: &str| (FaultKind::Tls, format!("no TLS session came about: {why}"));
    let unresolved = |why: &str| (FaultKind::Dns, format!("its name does not resolve: {why}"));
    let (kind, said) = match failed {
        Failed::Resolve(error) => unresolved(&words(error)),
        Failed::Late(Late::Resolve) => unresolved("no answer in time"),
        Failed::NoAddress => (FaultKind::Dns, "its name resolves to no address".to_owned()),
        Failed::Forbidden(address) => (FaultKind::Unreachable, format!("{address} may not be contacted")),
        Failed::Connect(address, error) => not_connected(*address, error),
        Failed::Late(Late::Connect(address)) => {
            (FaultKind::ConnectTimeout, format!("{address} does not accept the connection in time"))
        }
        Failed::NoServerName => no_tls("no certificate can be for its host"),
        Failed::NoRoots => no_tls("this machine has no roots to verify certificates by"),
        Failed::Tls(error) if is_unverifiable(error) => (
            FaultKind::Unverified,
            format!("its certificate cannot be verified with the operator's roots: {}", words(error)),
        ),
        Failed::Tls(error) => no_tls(&words(error)),
        Failed::CutInHandshake(error) => no_tls(&words(error)),
        Failed::Late(Late::Tls) => (
            FaultKind::TimedOut,
            "accepted the connection, and did not answer the TLS handshake in time".to_owned(),
        ),
        Failed::NotHttp(error) => (FaultKind::NotMcp, format!("does not speak HTTP: {}", words(error))),
        Failed::Cut => (FaultKind::Reset, "cut the connection before its answer".to_owned()),
        Failed::CutWithin => (FaultKind::Reset, "cut the connection within its answer".to_owned()),
        Failed::Late(Late::Answer) => {
            (FaultKind::TimedOut, format!("accepted the connection, and did not answer {}", within()))
        }
        Failed::Late(Late::Body) => {
            (FaultKind::TimedOut, format!("began to answer, and did not end {}", within()))
        }
    };
    Fault::new(kind, said)
}

fn not_connected(address: SocketAddr, error: &io::Error) -> (FaultKind, String) {
    match error.kind() {
        ErrorKind::ConnectionRefused => (FaultKind::Refused, format!("{address} refuses the connection")),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            (FaultKind::Reset, format!("{address} cuts the connection"))
        }
        ErrorKind::TimedOut => {
            (FaultKind::ConnectTimeout, format!("{address} does not accept the connection in time"))
        }
        _ => (FaultKind::Unreachable, format!("{address} cannot be reached: {}", words(error))),
    }
}

/// Whether a handshake failed only because the operator cannot verify the certificate: of a private
/// authority, or for another name than the address that was dialled. Clients may know better. One that has
/// ended is bad for all of them.
fn is_unverifiable(error: &Error) -> bool {
    let Error::InvalidCertificate(why) = error else { return false };
    !matches!(
        why,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Revoked
    )
}

fn words(error: &impl std::fmt::Display) -> String {
    mcp::foreign(&error.to_string(), None)
}
