//! TLS: verified by the roots of the machine, and by nothing less.

use std::process::Stdio;
use std::sync::Arc;

use mcp_health_core::signals::FaultKind;
use mcp_probe::{Endpoint, Prober, Token, get};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::script::{Asked, GLANCE, Server, endpoint, fault};

/// Tells the test below where the server is.
const PORT: &str = "MCP_PROBE_TEST_PORT";

/// A server whose certificate is for localhost; says 503 to whatever it is asked. Its port, and its certificate.
async fn server() -> (u16, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n").await
            });
        }
    });
    (port, cert.pem())
}

fn localhost(port: u16) -> Endpoint {
    Endpoint { tls: true, host: format!("localhost:{port}"), ..endpoint(([127, 0, 0, 1], port).into()) }
}

#[tokio::test]
async fn a_certificate_that_no_root_vouches_for_is_not_trusted() {
    let (port, _) = server().await;
    let outcome = Prober::new(localhost(port)).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::Unverified, "{outcome:?}");
}

#[tokio::test]
async fn without_a_credential_any_certificate_may_be_accepted_and_with_one_none_is() {
    let (port, _) = server().await;
    let mut prober = Prober::new(Endpoint { unverified: true, ..localhost(port) }).unwrap();
    assert_eq!(fault(&prober.ask(None, &GLANCE).await).0, FaultKind::Unavailable);
    let token = Token::new("hunter2");
    assert_eq!(fault(&prober.ask(token.as_ref(), &GLANCE).await).0, FaultKind::Unverified);
}

#[tokio::test]
async fn a_server_that_was_asked_in_plain_http_and_speaks_tls_is_asked_over_tls() {
    let (port, _) = server().await;
    let plain = Endpoint { tls: false, unverified: true, ..localhost(port) };
    let outcome = Prober::new(plain.clone()).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::Unavailable, "{outcome:?}");
    assert_eq!(get(&plain, 64).await.unwrap().status, 503);
}

#[tokio::test]
async fn a_server_without_tls_is_told_by_its_handshake() {
    let server = Server::start(Asked::modern).await;
    let outcome = Prober::new(localhost(server.address.port())).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::Tls, "{outcome:?}");
}

/// The roots of a machine are read once by a process, so that this one asks in another, whose roots are the server's.
#[tokio::test]
async fn a_certificate_that_a_root_vouches_for_is_trusted() {
    let (port, certificate) = server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    let mut asking = tokio::process::Command::new(std::env::current_exe().unwrap());
    asking.args(["--exact", "tls::in_a_process_of_its_own", "--ignored", "--nocapture"]);
    asking.env("SSL_CERT_FILE", file.path()).env(PORT, port.to_string());
    let output = asking.stdout(Stdio::piped()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "asks the server of the test above"]
async fn in_a_process_of_its_own() {
    let Ok(port) = std::env::var(PORT) else { return };
    let port = port.parse().unwrap();
    let outcome = Prober::new(localhost(port)).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::Unavailable);
    let other_name = Endpoint { host: format!("127.0.0.1:{port}"), ..localhost(port) };
    let outcome = Prober::new(other_name).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::Unverified);
}
