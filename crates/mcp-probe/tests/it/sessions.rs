//! A legacy server keeps one session for a prober, whatever happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mcp_health_core::signals::FaultKind;
use mcp_probe::{Era, Look, SessionUse, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::script::{Asked, GLANCE, Reply, Server, TOOLS, fault, reply};

const CAREFUL: Look = Look { session: SessionUse::KeepIfShared, ..GLANCE };
const PASSING: Look = Look { session: SessionUse::End, ..GLANCE };

/// A server that serves whoever initializes it first. By its own words where it `tells`.
async fn of_one_client(tells: bool) -> Server {
    let taken = AtomicBool::new(false);
    Server::start(move |asked: &Asked| -> Reply {
        let error = |message: &str| {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":-32000,"message":"{message}"}}}}"#);
            reply(400, &[], &text)
        };
        let is_taken = taken.load(Ordering::SeqCst);
        match asked.what() {
            "server/discover" if tells && !is_taken => error("Bad Request: Server not initialized"),
            "initialize" if is_taken && tells => error("Invalid Request: Server already initialized"),
            "initialize" if is_taken => error("Bad Request"),
            "initialize" => {
                taken.store(true, Ordering::SeqCst);
                asked.legacy("s")
            }
            "DELETE" => {
                taken.store(false, Ordering::SeqCst);
                reply(200, &[], "")
            }
            _ => asked.legacy("s"),
        }
    })
    .await
}

#[tokio::test]
async fn the_only_session_of_a_server_that_nobody_initialized_is_left_to_its_client() {
    let server = of_one_client(true).await;
    let mut prober = server.prober();
    for _ in 0..3 {
        let outcome = prober.ask(None, &CAREFUL).await;
        assert_eq!(fault(&outcome).0, FaultKind::SingleClient, "{outcome:?}");
    }
    assert_eq!(server.asked(), ["server/discover"; 3], "it is never initialized");
    // Now a client has come.
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    let head = format!("POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    client.read_u8().await.unwrap();
    server.requests();
    let outcome = prober.ask(None, &CAREFUL).await;
    let said = "answered 400 Bad Request: Invalid Request: Server already initialized";
    assert_eq!(fault(&outcome), (FaultKind::SingleClient, said));
    prober.close(None).await;
    assert_eq!(server.asked(), ["server/discover", "initialize"], "the client's session is not touched");
}

#[tokio::test]
async fn a_server_that_lets_no_second_client_in_is_left_by_the_first_at_once() {
    let server = of_one_client(false).await;
    let outcome = server.prober().ask(None, &CAREFUL).await;
    let said = "serves one client at a time: a second one answered 400 Bad Request";
    assert_eq!(fault(&outcome), (FaultKind::SingleClient, said));
    let begun = ["server/discover", "initialize", "notifications/initialized", "initialize", "DELETE"];
    assert_eq!(server.asked(), begun);
    assert_eq!(server.prober().ask(None, &GLANCE).await.result, Ok(()), "a client gets in");
}

#[tokio::test]
async fn where_a_second_client_is_let_in_its_session_ends_and_the_first_lasts() {
    let begun = AtomicUsize::new(0);
    let server = Server::start(move |asked| match asked.what() {
        "initialize" if begun.fetch_add(1, Ordering::SeqCst) == 1 => asked.legacy("second"),
        _ => asked.legacy("s"),
    })
    .await;
    let mut prober = server.prober();
    let outcome = prober.ask(None, &CAREFUL).await;
    assert_eq!((outcome.result, outcome.is_shared), (Ok(()), true));
    let requests = server.requests();
    let ended = requests.last().unwrap();
    assert_eq!((ended.what(), ended.header("mcp-session-id")), ("DELETE", Some("second")));
    assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
    assert_eq!(server.asked(), ["ping"]);
}

#[tokio::test]
async fn what_refuses_a_second_client_for_the_moment_is_not_known_to_serve_one_only() {
    for status in [429, 503, 500] {
        let begun = AtomicUsize::new(0);
        let server = Server::start(move |asked| match asked.what() {
            "initialize" if begun.fetch_add(1, Ordering::SeqCst) == 1 => reply(status, &[], ""),
            _ => asked.legacy("s"),
        })
        .await;
        let outcome = server.prober().ask(None, &CAREFUL).await;
        assert_eq!((outcome.result, outcome.is_shared), (Ok(()), false), "{status}");
    }
}

#[tokio::test]
async fn a_borrowed_session_is_used_and_not_ended_and_one_of_its_own_ends_with_the_probe() {
    let server = Server::start(|asked| asked.legacy("s")).await;
    let (mut of_pod, mut of_service) = (server.prober(), server.prober());
    of_pod.ask(None, &GLANCE).await;
    server.requests();
    for _ in 0..2 {
        of_service.borrow(&of_pod);
        assert_eq!(of_service.ask(None, &PASSING).await.result, Ok(()));
    }
    of_service.close(None).await;
    assert_eq!(server.asked(), ["ping", "ping"]);
    // Its requests go to another pod, which does not know the session.
    let other = Server::start(|asked| asked.legacy("other")).await;
    let mut elsewhere = other.prober();
    elsewhere.borrow(&of_pod);
    assert_eq!(elsewhere.ask(None, &PASSING).await.result, Ok(()));
    assert_eq!(other.asked(), ["ping", "initialize", "notifications/initialized", "DELETE"]);
}

#[tokio::test]
async fn one_session_lasts_from_probe_to_probe_and_ends_when_closed() {
    let server = Server::start(|asked| asked.legacy("s")).await;
    let mut prober = server.prober();
    for look in [GLANCE, GLANCE, TOOLS] {
        let outcome = prober.ask(None, &look).await;
        assert_eq!((outcome.result, outcome.era), (Ok(()), Some(Era::Legacy)));
    }
    assert_eq!(prober.ask(None, &TOOLS).await.requests, 2, "ping and tools/list");
    let first = ["server/discover", "initialize", "notifications/initialized"];
    let again = ["ping", "ping", "tools/list", "ping", "tools/list"];
    assert_eq!(server.asked(), [&first[..], &again].concat());
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

#[tokio::test]
async fn a_session_that_comes_with_a_refusal_is_ended() {
    for status in [400, 403, 406, 421, 500] {
        let server = Server::start(move |asked| match asked.what() {
            "DELETE" => reply(200, &[], ""),
            _ => reply(status, &[("Mcp-Session-Id", "stray")], ""),
        })
        .await;
        let outcome = server.prober().ask(None, &CAREFUL).await;
        assert!(outcome.result.is_err(), "{status}");
        let requests = server.requests();
        let (ended, asked): (Vec<_>, Vec<_>) = requests.iter().partition(|one| one.what() == "DELETE");
        assert_eq!(ended.len(), asked.len(), "{status}: each of them");
        assert!(ended.iter().all(|one| one.header("mcp-session-id") == Some("stray")), "{ended:?}");
    }
    let without = Server::start(|_| reply(406, &[], "")).await;
    assert_eq!(fault(&without.prober().ask(None, &GLANCE).await).0, FaultKind::NotAcceptable);
    assert_eq!(without.asked(), ["server/discover"]);
}

#[tokio::test]
async fn a_server_that_wants_no_further_request_is_sent_none_and_its_time_is_told() {
    for (at, status) in [("server/discover", 503), ("initialize", 429), ("tools/list", 429)] {
        let server = Server::start(move |asked| match asked.what() {
            what if what == at => reply(status, &[("Retry-After", "120")], ""),
            _ => asked.legacy("s"),
        })
        .await;
        let canary = mcp_probe::Canary { name: "search".to_owned(), arguments: serde_json::Map::new() };
        let outcome = server.prober().ask(None, &Look { canary: Some(canary), ..TOOLS }).await;
        assert_eq!(outcome.retry_after, Some(std::time::Duration::from_mins(2)), "{at}");
        assert_eq!(server.asked().last().map(String::as_str), Some(at));
    }
    let well = Server::start(|asked| asked.legacy("s")).await;
    assert_eq!(well.prober().ask(None, &TOOLS).await.retry_after, None);
}
