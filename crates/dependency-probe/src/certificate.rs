//! What a certificate says of itself, as far as people ask.

use std::net::IpAddr;

use jiff::Timestamp;
use mcp_health_core::{mcp::foreign, signals::Certificate};
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
    time::Time,
};

/// `commonName`.
const COMMON_NAME: &str = "2.5.4.3";
/// More names than these are not told.
const NAMES: usize = 4;

/// A certificate that was shown.
pub struct Shown {
    /// As people see it.
    pub certificate: Certificate,
    /// It holds from then.
    pub not_before: Timestamp,
    /// Whom it is for, the first few.
    pub names: Vec<String>,
    /// It is vouched for by nobody else.
    pub is_self_signed: bool,
}

impl Shown {
    /// Of a certificate in DER. Whoever wrote it need not have kept to any rules.
    pub fn read(der: &[u8]) -> Option<Self> {
        let whole = CertificateInner::<Raw>::from_der(der).ok()?;
        let read = whole.tbs_certificate();
        let names = match read.get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().filter_map(name).take(NAMES).collect(),
            _ => Vec::new(),
        };
        let subject = words(read.subject()).or_else(|| names.first().cloned()).unwrap_or_default();
        let certificate = Certificate {
            subject,
            issuer: words(read.issuer()).unwrap_or_default(),
            not_after: moment(read.validity().not_after)?,
        };
        Some(Self {
            certificate,
            not_before: moment(read.validity().not_before)?,
            names,
            is_self_signed: read.issuer() == read.subject(),
        })
    }
}

/// A name's common name, or all of it.
fn words(name: &Name) -> Option<String> {
    let common = name.iter().find(|part| part.oid.to_string() == COMMON_NAME);
    let text = match common {
        Some(part) => String::from_utf8_lossy(part.value.value()).into_owned(),
        None => name.to_string(),
    };
    Some(foreign(&text, None)).filter(|text| !text.is_empty())
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(foreign(name.as_str(), None)),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn moment(time: Time) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    proptest! {
        #[test]
        fn what_is_no_certificate_is_none_and_nothing_panics(der: Vec<u8>) {
            prop_assert!(Shown::read(&der).is_none());
        }

        #[test]
        fn a_certificate_with_a_byte_changed_never_panics(at in 0_usize..400, byte: u8) {
            let key = KeyPair::generate().unwrap();
            let names = ["a.b".to_owned(), "10.0.0.7".to_owned()];
            let mut der = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der().to_vec();
            let at = at % der.len();
            der[at] = byte;
            let _ = Shown::read(&der);
        }
    }
}
