//! Why a dependency was not asked, or at which step it failed, as people are told.

use std::{fmt, io, time::Duration};

use jiff::Timestamp;
use mcp_health_core::{
    mcp::foreign,
    signals::{CheckStep, Failure},
};
use net::{Failed, Late};
use tokio_rustls::rustls::{CertificateError, Error, OtherError};

use crate::certificate::Shown;

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

/// What is asked, as far as it is told when the way there fails.
pub struct Asking<'a> {
    pub host: &'a str,
    pub patience: Duration,
    /// The certificate that it showed.
    pub shown: Option<&'a Shown>,
}

impl Asking<'_> {
    /// What a step that failed is for people.
    pub fn barred(&self, failed: &Failed) -> Barred {
        let Self { host, patience, shown } = self;
        let (step, said) = match failed {
            Failed::Forbidden(address) => {
                let ip = address.ip();
                let why = format!("{host} leads to {ip}, which is not on the operator's allow-list");
                return Barred::Forbidden(why);
            }
            Failed::Tls(error) => return refusal(error, host, *shown).into(),
            Failed::Resolve(_) => (CheckStep::Name, format!("its name {host} does not resolve")),
            Failed::NoAddress => (CheckStep::Name, format!("its name {host} resolves to no address")),
            Failed::Late(Late::Resolve) => {
                (CheckStep::Name, format!("its name {host}: no answer within {} s", patience.as_secs()))
            }
            Failed::Connect(address, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                (CheckStep::Port, format!("{address} refuses the connection"))
            }
            Failed::Connect(address, _) => (CheckStep::Route, format!("there is no way to {address}")),
            Failed::Late(Late::Connect(address)) => {
                let said = format!("{address} does not answer a connection within {} s", patience.as_secs());
                (CheckStep::Route, said)
            }
            Failed::NoServerName => {
                (CheckStep::Certificate, "no certificate can be for its host name".to_owned())
            }
            Failed::NoRoots => {
                let said = "this machine has no roots to verify certificates by";
                (CheckStep::Certificate, said.to_owned())
            }
            Failed::CutInHandshake(_) => {
                (CheckStep::Handshake, "cuts the connection in the TLS handshake".to_owned())
            }
            Failed::Late(Late::Tls) => {
                let said = "takes the connection, and does not answer the TLS handshake in time";
                (CheckStep::Handshake, said.to_owned())
            }
            Failed::NotHttp(_) => (CheckStep::Handshake, "does not speak HTTP".to_owned()),
            Failed::Cut => (CheckStep::Answer, "cuts the connection before its answer".to_owned()),
            Failed::CutWithin => (CheckStep::Answer, "cuts the connection within its answer".to_owned()),
            Failed::Late(Late::Answer) => {
                let within = patience.as_secs_f32();
                (CheckStep::Answer, format!("takes the connection, and does not answer within {within:.1} s"))
            }
            Failed::Late(Late::Body) => {
                let within = patience.as_secs_f32();
                (CheckStep::Answer, format!("begins to answer, and does not end within {within:.1} s"))
            }
        };
        Failure::new(step, said).into()
    }
}

/// What is wrong with a session that did not come about.
fn refusal(error: &Error, server_name: &str, shown: Option<&Shown>) -> Failure {
    let handshake = |said: String| Failure::new(CheckStep::Handshake, said);
    match error {
        Error::InvalidCertificate(error) => {
            let what = wrong(error, server_name, shown);
            Failure::new(CheckStep::Certificate, format!("shows a certificate {what}"))
        }
        Error::NoCertificatesPresented => {
            Failure::new(CheckStep::Certificate, "shows no certificate".to_owned())
        }
        Error::AlertReceived(alert) => handshake(format!("ends the TLS handshake: {alert:?}")),
        Error::InvalidMessage(_) => handshake("does not speak TLS".to_owned()),
        Error::PeerIncompatible(_) => {
            handshake("speaks no version or cipher of TLS that is safe to use".to_owned())
        }
        other => handshake(format!("no TLS session comes about: {}", foreign(&other.to_string(), None))),
    }
}

/// What is wrong with it, as the rest of a sentence.
fn wrong(error: &CertificateError, server_name: &str, shown: Option<&Shown>) -> String {
    let of = |second: u64| i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let its_own = shown.map(|shown| shown.certificate.not_after);
            let then = match error {
                CertificateError::ExpiredContext { not_after, .. } => of(not_after.as_secs()),
                _ => its_own,
            };
            let which = if then == its_own { "that" } else { "whose issuer's own" };
            format!("{which} expired at {}", day(then))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let from = match error {
                CertificateError::NotValidYetContext { not_before, .. } => of(not_before.as_secs()),
                _ => shown.map(|shown| shown.not_before),
            };
            format!("that does not hold before {}: it is new, or a clock is wrong", day(from))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = shown.map(|shown| shown.names.join(", ")).filter(|names| !names.is_empty());
            format!("for {}, not for {server_name}", names.as_deref().unwrap_or("no name"))
        }
        CertificateError::UnknownIssuer => match shown {
            Some(shown) if shown.is_self_signed => {
                "that it signed itself, and that is not among the trusted authorities".to_owned()
            }
            Some(Shown { certificate, .. }) if !certificate.issuer.is_empty() => {
                format!("by {}, which no trusted authority vouches for", certificate.issuer)
            }
            _ => "that no trusted authority vouches for".to_owned(),
        },
        CertificateError::Revoked => "that was revoked".to_owned(),
        CertificateError::BadSignature => "whose signature is wrong".to_owned(),
        CertificateError::BadEncoding => "that cannot be read".to_owned(),
        // What openssl makes of itself unless told otherwise, and what rustls takes from no server.
        CertificateError::Other(OtherError(why))
            if why.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            let by_itself = shown.is_some_and(|shown| shown.is_self_signed);
            let by_itself = if by_itself { " that signed itself" } else { "" };
            format!("of an authority{by_itself}, which is none of a server (CA:TRUE)")
        }
        other => format!("that does not hold: {}", foreign(&other.to_string(), None)),
    }
}

/// `2026-11-21 12:00 UTC`.
fn day(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "a time that cannot be read".to_owned(), |at| at.strftime("%F %H:%M UTC").to_string())
}
