//! Why there is no connection, or no answer over it.

use std::{io, net::SocketAddr};

use tokio_rustls::rustls;

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The name does not resolve.
    #[error("the name does not resolve: {0}")]
    Resolve(io::Error),
    /// The name resolves, to nothing.
    #[error("the name resolves to no address")]
    NoAddress,
    /// The name leads to an address that is not permitted. No address of it was contacted.
    #[error("the name resolves to {0}, which is not permitted")]
    Forbidden(SocketAddr),
    /// The address takes no connection.
    #[error("{0} takes no connection: {1}")]
    Connect(SocketAddr, io::Error),
    /// The host is no name that a certificate could be for.
    #[error("no certificate can be for the host")]
    NoServerName,
    /// There is nobody whose word on certificates could be taken.
    #[error("there are no roots to verify certificates by")]
    NoRoots,
    /// No TLS session came about, or none by a certificate that proves what it should.
    #[error("no TLS session came about: {0}")]
    Tls(rustls::Error),
    /// The connection was cut in the TLS handshake.
    #[error("the connection was cut in the TLS handshake: {0}")]
    CutInHandshake(io::Error),
    /// What came is no HTTP.
    #[error("the answer is no HTTP: {0}")]
    NotHttp(hyper::Error),
    /// The connection was cut before the answer. The request may have been read.
    #[error("the connection was cut before the answer")]
    Cut,
    /// The connection was cut within the answer.
    #[error("the connection was cut within the answer")]
    CutWithin,
    /// The time was over.
    #[error("there was no answer in time")]
    Late(Late),
}

/// What was waited for when the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The addresses of a name.
    Resolve,
    /// A connection to this address.
    Connect(SocketAddr),
    /// The TLS handshake.
    Tls,
    /// The head of an answer.
    Answer,
    /// The rest of an answer.
    Body,
}

impl From<hyper::Error> for Failed {
    /// Of what happened between a request and the head of its answer.
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() { Self::NotHttp(error) } else { Self::Cut }
    }
}
