//! A legacy server keeps one session for a prober, whatever happens.

use std::sync::atomic::{AtomicUsize, Ordering};

use mcp_health_core::signals::FaultKind;
use mcp_probe::{Era, Token};

use crate::script::{GLANCE, Server, TOOLS, fault, reply};

#[tokio::test]
async fn one_session_lasts_from_probe_to_probe_and_ends_when_closed() {
    let server = Server::start(|asked| asked.legacy("s")).await;
    let mut prober = server.prober();
    for look in [GLANCE, GLANCE, TOOLS] {
        let outcome = prober.ask(None, &look).await;
        assert_eq!((outcome.result, outcome.era), (Ok(()), Some(Era::Legacy)));
    }
    let first = ["server/discover", "initialize", "notifications/initialized"];
    assert_eq!(server.asked(), [&first[..], &["ping", "ping", "tools/list"]].concat());
    prober.close(None).await;
    prober.close(None).await;
    let closed = server.requests();
    assert_eq!((closed.len(), closed[0].line.as_str()), (1, "DELETE /mcp"));
    assert_eq!(closed[0].header("mcp-session-id"), Some("s"));
    assert_eq!(closed[0].header("mcp-protocol-version"), Some("2025-06-18"));
}

#[tokio::test]
async fn another_session_begins_only_where_the_one_before_is_not_known_any_more() {
    for status in [404, 400] {
        let pings = AtomicUsize::new(0);
        let server = Server::start(move |asked| {
            if asked.what() == "ping" && pings.fetch_add(1, Ordering::SeqCst) == 1 {
                return reply(status, &[], r#"{"error": "No valid session"}"#);
            }
            asked.legacy("s")
        })
        .await;
        let mut prober = server.prober();
        for _ in 0..4 {
            assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
        }
        let again = ["initialize", "notifications/initialized"];
        let expected = [&["server/discover"], &again[..], &["ping", "ping"], &again[..], &["ping"]].concat();
        assert_eq!(server.asked(), expected, "{status}");
    }
}

#[tokio::test]
async fn a_fault_begins_no_session() {
    for status in [500, 503, 400, 401, 429] {
        let server = Server::start(move |asked| match asked.what() {
            "ping" => reply(status, &[], ""),
            _ => asked.legacy("s"),
        })
        .await;
        let mut prober = server.prober();
        for _ in 0..5 {
            prober.ask(None, &GLANCE).await;
        }
        let begun = server.asked().iter().filter(|what| *what == "initialize").count();
        assert_eq!(begun, 1, "{status}");
    }
}

#[tokio::test]
async fn sessions_that_are_lost_again_and_again_are_not_kept() {
    let server = Server::start(|asked| match asked.what() {
        "ping" => reply(404, &[], ""),
        _ => asked.legacy("s"),
    })
    .await;
    let mut prober = server.prober();
    for _ in 0..8 {
        assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
    }
    let asked = server.asked();
    let count = |what: &str| asked.iter().filter(|other| *other == what).count();
    // Two are lost before it is plain; from then on each ends with its probe.
    assert_eq!((count("initialize"), count("DELETE")), (8, 6), "{asked:?}");
}

#[tokio::test]
async fn a_session_that_is_not_known_at_once_is_a_fault() {
    let server = Server::start(|asked| match asked.what() {
        "notifications/initialized" => reply(404, &[], ""),
        _ => asked.legacy("s"),
    })
    .await;
    let outcome = server.prober().ask(None, &GLANCE).await;
    let said = "does not know the session that it gave a moment before";
    assert_eq!(fault(&outcome), (FaultKind::SessionLost, said));
}

#[tokio::test]
async fn a_session_of_a_version_that_is_not_spoken_is_ended_at_once() {
    let server = Server::start(|asked| match asked.what() {
        "initialize" => {
            let body = r#"{"jsonrpc":"2.0","id":2,"result":{"protocolVersion":"1.0"}}"#;
            reply(200, &[("Mcp-Session-Id", "s")], body)
        }
        _ => asked.legacy("s"),
    })
    .await;
    let outcome = server.prober().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::VersionMismatch);
    assert_eq!(server.asked(), ["server/discover", "initialize", "DELETE"]);
}

#[tokio::test]
async fn the_end_of_a_session_carries_the_credential() {
    let server = Server::start(|asked| asked.legacy("s")).await;
    let (mut prober, token) = (server.prober(), Token::new("hunter2"));
    prober.ask(token.as_ref(), &GLANCE).await;
    prober.close(token.as_ref()).await;
    for asked in server.requests() {
        assert_eq!(asked.header("authorization"), Some("Bearer hunter2"), "{asked:?}");
    }
}
