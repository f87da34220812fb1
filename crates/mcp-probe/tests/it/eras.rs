//! The modern way first; what a server turns out to speak is remembered, and forgotten when it no longer fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mcp_health_core::signals::FaultKind;
use mcp_probe::{Endpoint, Era, Prober, Transport};

use crate::script::{Asked, GLANCE, Reply, Server, TOOLS, fault, reply};

#[tokio::test]
async fn a_modern_server_is_asked_one_thing_a_probe_over_one_connection() {
    let server = Server::start(Asked::modern).await;
    let mut prober = server.prober();
    let outcome = prober.ask(None, &TOOLS).await;
    assert_eq!((outcome.result, outcome.era), (Ok(()), Some(Era::Modern)));
    let tools: Vec<_> =
        outcome.listed.unwrap().result.unwrap().unwrap().into_iter().map(|tool| tool.name).collect();
    assert_eq!(tools, ["search"]);
    assert_eq!(prober.ask(None, &GLANCE).await.listed, None);
    prober.close(None).await;
    let asked = server.requests();
    let lines: Vec<_> = asked.iter().map(|asked| (asked.line.as_str(), asked.what())).collect();
    let post = "POST /mcp";
    assert_eq!(lines, [(post, "server/discover"), (post, "tools/list"), (post, "server/discover")]);
    for asked in asked {
        assert_eq!(asked.header("mcp-method"), Some(asked.what()));
        assert_eq!(asked.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(asked.header("authorization"), None);
        let meta = &asked.body["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "mcp-health-operator");
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
    }
}

#[tokio::test]
async fn a_server_that_changes_its_era_is_well_in_the_new_one() {
    let legacy = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&legacy);
    let server =
        Server::start(
            move |asked| {
                if switch.load(Ordering::SeqCst) { asked.legacy("s") } else { asked.modern() }
            },
        )
        .await;
    let mut prober = server.prober();
    assert_eq!(prober.ask(None, &GLANCE).await.era, Some(Era::Legacy));
    legacy.store(false, Ordering::SeqCst);
    // Its answer to a ping is no sense of any kind, once.
    let between = prober.ask(None, &GLANCE).await;
    assert_eq!((between.result.unwrap_err().kind, between.era), (FaultKind::UnexpectedStatus, None));
    let modern = prober.ask(None, &GLANCE).await;
    assert_eq!((modern.result, modern.era), (Ok(()), Some(Era::Modern)));
    legacy.store(true, Ordering::SeqCst);
    let back = prober.ask(None, &GLANCE).await;
    assert_eq!((back.result, back.era), (Ok(()), Some(Era::Legacy)));
}

#[tokio::test]
async fn a_gate_or_an_outage_is_told_without_further_questions_and_forgets_nothing() {
    for (status, kind) in [
        (401, FaultKind::Unauthorized),
        (403, FaultKind::Forbidden),
        (421, FaultKind::HostNotAllowed),
        (429, FaultKind::RateLimited),
        (503, FaultKind::Unavailable),
    ] {
        let turn = AtomicUsize::new(0);
        let server = Server::start(move |asked| match turn.fetch_add(1, Ordering::SeqCst) {
            1 => reply(status, &[], ""),
            _ => asked.modern(),
        })
        .await;
        let mut prober = server.prober();
        assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
        let refused = prober.ask(None, &GLANCE).await;
        assert_eq!((fault(&refused).0, refused.era), (kind, Some(Era::Modern)));
        assert_eq!(server.asked().len(), 2, "{status}");
        assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
    }
}

#[tokio::test]
async fn a_legacy_server_that_is_silent_or_breaks_at_what_it_does_not_know_is_found_all_the_same() {
    let silent = || Reply::TextAndSilence(String::new());
    let strange: [fn() -> Reply; 3] = [silent, || reply(500, &[], ""), || reply(200, &[], "")];
    for strange in strange {
        let server = Server::start(move |asked| match asked.what() {
            "server/discover" => strange(),
            _ => asked.legacy("s"),
        })
        .await;
        let mut prober =
            Prober::new(Endpoint { timeout: Duration::from_secs(1), ..server.endpoint() }).unwrap();
        assert!(prober.ask(None, &GLANCE).await.result.is_err());
        let second = prober.ask(None, &GLANCE).await;
        assert_eq!((second.result, second.era), (Ok(()), Some(Era::Legacy)));
    }
}

#[tokio::test]
async fn an_older_transport_is_asked_for_only_where_a_post_is_refused() {
    let server = Server::start(|_| reply(404, &[], "")).await;
    let outcome = server.prober().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome), (FaultKind::NotFound, "answered 404 Not Found"));
    assert_eq!(server.asked(), ["server/discover", "initialize", "GET"]);
    let endpoint = Endpoint { transport: Transport::StreamableHttp, ..server.endpoint() };
    Prober::new(endpoint).unwrap().ask(None, &GLANCE).await;
    assert_eq!(server.asked(), ["server/discover", "initialize"]);
    let server = Server::start(|_| reply(500, &[], "")).await;
    server.prober().ask(None, &GLANCE).await;
    assert_eq!(server.asked(), ["server/discover"]);
}

#[tokio::test]
async fn an_event_stream_leads_the_probe_nowhere_else() {
    let other = Server::start(|asked| asked.legacy("s")).await;
    let elsewhere = other.address;
    let server = Server::start(move |asked| match asked.what() {
        "GET" => Reply::TextAndSilence(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: http://{elsewhere}/team/messages?s=1\n\n"
        )),
        _ if asked.line.starts_with("POST /messages") => reply(202, &[], ""),
        _ => reply(404, &[], ""),
    })
    .await;
    let (transport, timeout) = (Transport::Sse, Duration::from_millis(300));
    let endpoint = Endpoint { transport, timeout, ..server.endpoint() };
    let outcome = Prober::new(endpoint).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome).0, FaultKind::TimedOut, "the stream brings no answer");
    assert!(other.asked().is_empty());
    // A public URL: its path is asked here, and without the prefix that a proxy put before it.
    let lines: Vec<String> = server.requests().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /mcp", "POST /team/messages?s=1", "POST /messages?s=1"]);
}
