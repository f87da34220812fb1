//! The way to a server: name, TCP, TLS, HTTP/1.1. Each step that fails is told from the others.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mcp_health_core::mcp;
use mcp_health_core::signals::{Fault, FaultKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::endpoint::{Address, Endpoint};
use crate::trust;

/// How long a server's machine may take to accept a connection (guides: port checks, 3 s).
const CONNECT: Duration = Duration::from_secs(3);
/// How much of an answer is read ahead of whoever waits for it, in bytes.
const READ_AHEAD: usize = 64 << 10;

/// A connection that HTTP is spoken on. Dropped, it is closed.
pub struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Connection {
    /// Connects; nothing has been asked yet. A credential goes over no connection whose certificate was not verified.
    pub async fn open(endpoint: &Endpoint, has_credential: bool, deadline: Instant) -> Result<Self, Fault> {
        let tcp = tcp(endpoint, deadline).await?;
        // Small messages, each of which is waited for.
        let _ = tcp.set_nodelay(true);
        let verify = has_credential || !endpoint.unverified;
        let stream: Box<dyn Stream> =
            if endpoint.tls { Box::new(tls(tcp, endpoint, verify, deadline).await?) } else { Box::new(tcp) };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(READ_AHEAD);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let driver = tokio::spawn(async move {
            // How it ended is told to whoever waits for the answer.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, driver })
    }
}

/// The TCP connection.
async fn tcp(endpoint: &Endpoint, deadline: Instant) -> Result<TcpStream, Fault> {
    let by = deadline.min(Instant::now() + CONNECT);
    let addresses: Vec<SocketAddr> = match &endpoint.address {
        Address::Socket(address) => vec![*address],
        Address::Name(name, port) => {
            let unresolved =
                |why: String| Fault::new(FaultKind::Dns, format!("its name does not resolve: {why}"));
            match timeout_at(by, tokio::net::lookup_host((name.as_str(), *port))).await {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(error)) => return Err(unresolved(words(&error))),
                Err(_) => return Err(unresolved("no answer in time".to_owned())),
            }
        }
    };
    let mut fault = Fault::new(FaultKind::Dns, "its name resolves to no address");
    for address in addresses {
        fault = match timeout_at(by, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => not_connected(address, &error),
            Err(_) => Fault::new(
                FaultKind::ConnectTimeout,
                format!("{address} does not accept the connection in time"),
            ),
        };
    }
    Err(fault)
}

fn not_connected(address: SocketAddr, error: &io::Error) -> Fault {
    let (kind, said) = match error.kind() {
        ErrorKind::ConnectionRefused => (FaultKind::Refused, "refuses the connection"),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            (FaultKind::Reset, "cuts the connection")
        }
        ErrorKind::TimedOut => (FaultKind::ConnectTimeout, "does not accept the connection in time"),
        _ => (FaultKind::Unreachable, "cannot be reached"),
    };
    let why = match kind {
        FaultKind::Unreachable => format!(": {}", words(error)),
        _ => String::new(),
    };
    Fault::new(kind, format!("{address} {said}{why}"))
}

/// Whether a server that was asked in plain HTTP speaks TLS: it completes a handshake, over which nothing is sent.
pub async fn speaks_tls(endpoint: &Endpoint, deadline: Instant) -> bool {
    match tcp(endpoint, deadline).await {
        Ok(tcp) => tls(tcp, endpoint, false, deadline).await.is_ok(),
        Err(_) => false,
    }
}

async fn tls(
    tcp: TcpStream,
    endpoint: &Endpoint,
    verify: bool,
    deadline: Instant,
) -> Result<impl Stream + use<>, Fault> {
    let none = |why: &str| Fault::new(FaultKind::Tls, format!("no TLS session came about: {why}"));
    let config = if verify { trust::verifying() } else { trust::accepting() };
    let config = config.ok_or_else(|| none("this machine has no roots to verify certificates by"))?;
    let name = endpoint.server_name().ok_or_else(|| none("no certificate can be for its host"))?;
    match timeout_at(deadline, TlsConnector::from(config).connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if trust::is_unverifiable(&error) => Err(Fault::new(
            FaultKind::Unverified,
            format!("its certificate cannot be verified with the operator's roots: {}", words(&error)),
        )),
        Ok(Err(error)) => Err(none(&words(&error))),
        Err(_) => Err(Fault::new(
            FaultKind::TimedOut,
            "accepted the connection, and did not answer the TLS handshake in time",
        )),
    }
}

/// What broke between the request and the first byte of its answer, or within it.
pub fn broken(error: &hyper::Error) -> Fault {
    if error.is_parse() {
        return Fault::new(FaultKind::NotMcp, format!("does not speak HTTP: {}", words(error)));
    }
    Fault::new(FaultKind::Reset, "cut the connection before its answer")
}

fn words(error: &impl std::fmt::Display) -> String {
    mcp::foreign(&error.to_string(), None)
}
