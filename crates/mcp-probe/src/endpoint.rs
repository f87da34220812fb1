//! Where an MCP server is, and how it is spoken to.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

/// How long a probe may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// To an address.
    Socket(SocketAddr),
    /// To whatever a name resolves to, at a port.
    Name(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// How MCP is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Streamable HTTP; where that is refused, HTTP+SSE.
    #[default]
    Auto,
    /// `POST`, answered with JSON or with a stream of events.
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05: `GET` brings a stream, and the endpoint to `POST` to.
    Sse,
    /// Messages over a WebSocket (guide 002).
    WebSocket,
}

/// An MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where the connection goes.
    pub address: Address,
    /// What the `Host` header says, with the port where clients say one; with TLS also the name that the
    /// certificate must be for.
    pub host: String,
    /// The path, from its slash on; a query may follow.
    pub path: String,
    /// Whether TLS is spoken. Certificates are verified by the roots of the machine.
    pub tls: bool,
    /// Certificates are not verified, as the kubelet does not verify them in its own probes. Where a
    /// credential is sent, they are verified all the same.
    pub unverified: bool,
    /// How MCP is carried.
    pub transport: Transport,
    /// How long a probe may take, from the connection to the last answer. A canary has as long again.
    pub timeout: Duration,
}

/// Why an endpoint cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The path is none.
    #[error("{0:?} is not a path: it begins with a slash, and holds what may stand in a URL")]
    Path(String),
    /// The host cannot stand in a header, or no certificate can be for it.
    #[error("{0:?} is not a host")]
    Host(String),
}

impl Endpoint {
    /// The server at an address, without TLS, in whichever transport, within 5 s.
    pub fn new(address: Address, path: impl Into<String>) -> Self {
        let (host, path) = (address.to_string(), path.into());
        let (tls, unverified) = (false, false);
        Self { address, host, path, tls, unverified, transport: Transport::Auto, timeout: TIMEOUT }
    }

    /// Its parts as they go over the wire.
    pub(crate) fn checked(&self) -> Result<(HeaderValue, PathAndQuery), InvalidEndpoint> {
        let host = || InvalidEndpoint::Host(self.host.clone());
        if self.host.is_empty() || self.tls && net::server_name(self.bare_host()).is_none() {
            return Err(host());
        }
        let value = HeaderValue::try_from(&self.host).map_err(|_| host())?;
        let path = Some(&self.path).filter(|path| path.starts_with('/'));
        let path = path.and_then(|path| PathAndQuery::try_from(path.as_str()).ok());
        Ok((value, path.ok_or_else(|| InvalidEndpoint::Path(self.path.clone()))?))
    }

    /// What its certificate must be for: the host without its port.
    pub(crate) fn bare_host(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((bare, port)) if !bare.ends_with(':') && port.parse::<u16>().is_ok() => bare,
            _ => &self.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn a_certificate_is_for_the_host_without_its_port() {
        let mut endpoint = Endpoint::new(Address::Name("mcp.example".to_owned(), 443), "/mcp");
        for (host, name) in [
            ("mcp.example:8443", "mcp.example"),
            ("mcp.example", "mcp.example"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[fd00::1]:80", "fd00::1"),
        ] {
            host.clone_into(&mut endpoint.host);
            let expected = ServerName::try_from(name).expect("a name");
            assert_eq!(net::server_name(endpoint.bare_host()), Some(expected), "{host}");
        }
    }

    #[test]
    fn what_cannot_go_over_the_wire_is_told_beforehand() {
        let address = || Address::Name("mcp".to_owned(), 80);
        for path in ["", "mcp", "/a b", "/a\nb"] {
            let told = Endpoint::new(address(), path).checked();
            assert_eq!(told, Err(InvalidEndpoint::Path(path.to_owned())));
        }
        let host = Endpoint { host: "a\nb".to_owned(), ..Endpoint::new(address(), "/") };
        assert_eq!(host.checked(), Err(InvalidEndpoint::Host("a\nb".to_owned())));
    }
}
