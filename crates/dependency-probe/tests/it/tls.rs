//! TLS: what is wrong with a certificate is told apart, and the certificate is told all the same.

use std::time::{Duration, SystemTime};

use dependency_probe::{Asked, Trust, tcp, tls};
use jiff::Timestamp;
use mcp_health_core::signals::CheckStep;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa};
use tokio::io::AsyncWriteExt;
use tokio_rustls::rustls::ServerConfig;

use crate::server::{ALL, Authority, SOON, params, self_signed, serve};

const DAY: Duration = Duration::from_hours(24);

async fn asked(config: ServerConfig, name: &str, trust: &Trust) -> Asked {
    let port = serve(Some(config), async |_| ()).await;
    tls::ask("127.0.0.1", port, Some(name), trust, ALL, SOON).await.unwrap()
}

fn said(asked: &Asked) -> (CheckStep, &str) {
    let failure = asked.result.as_ref().unwrap_err();
    (failure.step, &failure.said)
}

#[tokio::test]
async fn a_certificate_that_holds_is_told_with_its_end() {
    let authority = Authority::new("Test CA");
    let trust = Trust::pem(authority.pem.as_bytes()).unwrap();
    for name in ["localhost", "127.0.0.1", "localhost."] {
        let asked = asked(authority.server(&params()), name, &trust).await;
        assert_eq!(asked.result, Ok(()), "{name}");
        let certificate = asked.certificate.unwrap();
        assert_eq!((&*certificate.subject, &*certificate.issuer), ("localhost", "Test CA"));
        assert_eq!(certificate.not_after, "2100-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_apart() {
    let authority = Authority::new("Test CA");
    let trust = Trust::pem(authority.pem.as_bytes()).unwrap();
    let now = SystemTime::now();
    let day = |at: SystemTime| Timestamp::try_from(at).unwrap().strftime("%F %H:%M UTC").to_string();
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = params();
        change(&mut params);
        params
    };
    let expired = with(&|params| params.not_after = (now - DAY).into());
    let early = with(&|params| params.not_before = (now + DAY).into());
    let cases = [
        (
            authority.server(&expired),
            "localhost",
            &trust,
            format!("shows a certificate that expired at {}", day(now - DAY)),
        ),
        (
            authority.server(&early),
            "localhost",
            &trust,
            format!(
                "shows a certificate that does not hold before {}: it is new, or a clock is wrong",
                day(now + DAY)
            ),
        ),
        (
            authority.server(&params()),
            "redis.mcp",
            &trust,
            "shows a certificate for localhost, 127.0.0.1, not for redis.mcp".to_owned(),
        ),
        (
            authority.server(&params()),
            "localhost",
            &Trust::own(),
            "shows a certificate by Test CA, which no trusted authority vouches for".to_owned(),
        ),
        (
            self_signed(&params()),
            "localhost",
            &trust,
            "shows a certificate that it signed itself, and that is not among the trusted authorities"
                .to_owned(),
        ),
    ];
    let of_authority = with(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let says = "shows a certificate of an authority that signed itself, which is none of a server (CA:TRUE)";
    let cases = cases.into_iter().chain([(self_signed(&of_authority), "localhost", &trust, says.to_owned())]);
    for (config, name, trust, says) in cases {
        let asked = asked(config, name, trust).await;
        assert_eq!(said(&asked), (CheckStep::Certificate, &*says));
        assert_eq!(asked.certificate.unwrap().subject, "localhost", "{says}");
    }
}

#[tokio::test]
async fn a_certificate_that_signed_itself_holds_where_it_is_trusted() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params().self_signed(&key).unwrap();
    let trust = Trust::pem(certificate.pem().as_bytes()).unwrap();
    let config = crate::server::config(certificate.der().to_vec(), &key);
    assert_eq!(asked(config, "localhost", &trust).await.result, Ok(()));
}

#[tokio::test]
async fn what_is_no_tls_fails_in_the_handshake() {
    let port = serve(None, |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let asked = tls::ask("127.0.0.1", port.await, None, &Trust::own(), ALL, SOON).await.unwrap();
    assert_eq!(said(&asked), (CheckStep::Handshake, "does not speak TLS"));
    let port = serve(None, async |_| ()).await;
    let asked = tls::ask("127.0.0.1", port, None, &Trust::own(), ALL, SOON).await.unwrap();
    assert_eq!(said(&asked), (CheckStep::Handshake, "cuts the connection in the TLS handshake"));
    let port = serve(None, |stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let short = Duration::from_millis(300);
    let asked = tls::ask("127.0.0.1", port.await, None, &Trust::own(), ALL, short).await.unwrap();
    assert_eq!(said(&asked).0, CheckStep::Handshake);
    assert!(said(&asked).1.ends_with("does not answer the TLS handshake in time"));
}

#[tokio::test]
async fn what_is_not_permitted_is_not_asked() {
    let port = serve(None, async |_| ()).await;
    let why = tls::ask("localhost", port, None, &Trust::own(), &|_| false, SOON).await.unwrap_err();
    assert!(why.ends_with("is not on the operator's allow-list"), "{why}");
    tcp::ask("localhost", port, &|_| false, SOON).await.unwrap_err();
    assert_eq!(tcp::ask("localhost", port, ALL, SOON).await.unwrap().result, Ok(()));
}

#[test]
fn authorities_that_are_none_are_refused_in_words() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        Trust::pem(pem.as_bytes()).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_a_server_sends_is_a_failure_and_nothing_panics(bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = runtime.block_on(async {
            let port = serve(None, move |mut stream| {
                let bytes = bytes.clone();
                async move {
                    let _ = stream.write_all(&bytes).await;
                }
            });
            tls::ask("127.0.0.1", port.await, None, &Trust::own(), ALL, SOON).await.unwrap()
        });
        prop_assert_eq!(asked.result.unwrap_err().step, CheckStep::Handshake);
    }
}
