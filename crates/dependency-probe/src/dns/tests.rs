#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use proptest::prelude::*;
use tokio::net::UdpSocket;

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A DNS server that answers every question with what `answer` makes of it. Its address.
async fn server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            if let Some(answer) = answer(&question[..length]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    address
}

/// The question as an answer: without anything but itself, with this code, and with this address where it
/// asks for IPv4.
fn answer(question: &[u8], code: u8, address: Option<[u8; 4]>) -> Vec<u8> {
    // The question ends after its name's last label, type and class; what comes after is of the asker's own.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = question[..end].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    answer[6..12].fill(0);
    if let Some(address) = address.filter(|_| question[end - 3] == 1) {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address);
    }
    answer
}

async fn asked(server: SocketAddr, name: &str, expected: &[IpAddr], patience: Duration) -> Asked {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    resolve(builder, name, expected, patience).await
}

fn said(asked: &Asked) -> (CheckStep, &str) {
    let failure = asked.result.as_ref().unwrap_err();
    (failure.step, &failure.said)
}

#[tokio::test]
async fn a_name_resolves_to_what_is_expected_or_to_something_else() {
    let server = server(|question| Some(answer(question, 0, Some([10, 0, 0, 7])))).await;
    let right = asked(server, "postgres.mcp.", &["10.0.0.7".parse().unwrap()], SOON).await;
    assert_eq!(right.result, Ok(()));
    assert!(right.remarks[0].starts_with("resolves to 10.0.0.7 in "), "{right:?}");
    assert_eq!(asked(server, "postgres.mcp.", &[], SOON).await.result, Ok(()));
    let wrong = asked(server, "postgres.mcp.", &["10.0.0.8".parse().unwrap()], SOON).await;
    let says = "resolves to 10.0.0.7, which is not among the addresses expected (10.0.0.8)";
    assert_eq!(said(&wrong), (CheckStep::Answer, says));
}

#[tokio::test]
async fn why_a_name_does_not_resolve_is_told_apart() {
    for (code, says) in [
        (3, "there is no such name (NXDOMAIN)"),
        (2, "the DNS server fails to resolve the name (SERVFAIL)"),
        (5, "the DNS server refuses to resolve the name (REFUSED)"),
        (0, "the name is there, and has no address"),
    ] {
        let server = server(move |question| Some(answer(question, code, None))).await;
        assert_eq!(said(&asked(server, "postgres.mcp.", &[], SOON).await), (CheckStep::Name, says));
    }
    let silent = server(|_| None).await;
    let late = asked(silent, "postgres.mcp.", &[], Duration::from_millis(300)).await;
    assert_eq!(said(&late).1, "no DNS server answers for the name within 0.3 s");
}

#[tokio::test]
async fn the_machine_s_own_way_resolves_localhost() {
    assert_eq!(ask("localhost", &[], SOON).await.result, Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn whatever_a_server_answers_nothing_panics(bytes: Vec<u8>, code in 0_u8..16) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = runtime.block_on(async {
            let server = server(move |question| {
                let mut answer = answer(question, code, None);
                answer.extend(&bytes);
                Some(answer)
            });
            asked(server.await, "postgres.mcp.", &[], Duration::from_millis(100)).await
        });
        prop_assert!(asked.result.is_err());
    }
}
