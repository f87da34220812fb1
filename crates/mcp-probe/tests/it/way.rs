//! What goes wrong on the way is told from what the server says, and step from step.

use std::time::{Duration, Instant};

use mcp_health_core::signals::FaultKind;
use mcp_probe::{Address, Endpoint, Outcome, Prober};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::script::{Asked, GLANCE, Reply, Server, endpoint, fault, reply};

const SHORT: Duration = Duration::from_millis(300);

async fn ask(endpoint: Endpoint) -> Outcome {
    Prober::new(endpoint).unwrap().ask(None, &GLANCE).await
}

#[tokio::test]
async fn a_port_that_nothing_listens_on_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = ask(endpoint(address)).await;
    assert_eq!(fault(&outcome), (FaultKind::Refused, &*format!("{address} refuses the connection")));
    assert!(outcome.result.unwrap_err().kind.is_of_the_way());
}

#[tokio::test]
async fn a_name_that_leads_nowhere_does_not_resolve() {
    let outcome = ask(Endpoint::new(Address::Name("mcp.invalid".to_owned(), 80), "/mcp")).await;
    assert_eq!(fault(&outcome).0, FaultKind::Dns);
}

#[tokio::test]
async fn a_name_that_resolves_leads_to_the_server() {
    let server = Server::start(Asked::modern).await;
    let named = Address::Name("localhost".to_owned(), server.address.port());
    assert_eq!(ask(Endpoint::new(named, "/mcp")).await.result, Ok(()));
    let host = format!("localhost:{}", server.address.port());
    assert_eq!(server.requests()[0].header("host"), Some(host.as_str()));
}

#[tokio::test]
async fn a_machine_that_does_not_answer_a_connection_is_told_from_a_server_that_does_not_answer_a_question() {
    // Its queue is full, and nobody takes anything out of it: further connections are not answered.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let outcome = ask(Endpoint { timeout: SHORT, ..endpoint(address) }).await;
    assert_eq!(fault(&outcome).0, FaultKind::ConnectTimeout);

    let silent = Server::start(|_| Reply::TextAndSilence(String::new())).await;
    let outcome = ask(Endpoint { timeout: SHORT, ..silent.endpoint() }).await;
    let said = "accepted the connection, and did not answer within 0.3 s";
    assert_eq!(fault(&outcome), (FaultKind::TimedOut, said));
}

#[tokio::test]
async fn a_connection_that_is_cut_is_told_wherever_it_is_cut() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let server = Server::start(move |_| Reply::TextAndCut(text.to_owned())).await;
        assert_eq!(fault(&ask(server.endpoint()).await).0, FaultKind::Reset, "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_no_mcp() {
    let server = Server::start(|_| Reply::TextAndCut("SSH-2.0-OpenSSH_9.9\r\n".to_owned())).await;
    let outcome = ask(server.endpoint()).await;
    assert_eq!(fault(&outcome).0, FaultKind::NotMcp);
}

#[tokio::test]
async fn a_stream_that_brings_nothing_is_told_from_one_that_lives() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    for (rest, kind) in [("", FaultKind::Buffered), (": ping\n\n", FaultKind::TimedOut)] {
        let server = Server::start(move |_| Reply::TextAndSilence(format!("{head}{rest}"))).await;
        let outcome = ask(Endpoint { timeout: SHORT, ..server.endpoint() }).await;
        assert_eq!(fault(&outcome).0, kind, "{rest:?}");
    }
}

#[tokio::test]
async fn an_answer_on_a_stream_that_stays_open_is_an_answer() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let server = Server::start(move |asked| {
        let result = r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#;
        let id = &asked.body["id"];
        Reply::TextAndSilence(format!(
            "{head}data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n"
        ))
    })
    .await;
    let began = Instant::now();
    assert_eq!(ask(server.endpoint()).await.result, Ok(()));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_its_end() {
    let body = "a".repeat(2 << 20);
    let server = Server::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
        Reply::TextAndSilence(format!("{head}{body}"))
    })
    .await;
    let outcome = ask(server.endpoint()).await;
    assert_eq!(fault(&outcome).0, FaultKind::TooLarge);
}

#[tokio::test]
async fn a_redirect_within_the_same_origin_is_followed_with_its_body() {
    for absolute in [false, true] {
        let server = Server::start(move |asked| {
            let path = asked.line.split(' ').nth(1).unwrap_or_default();
            let origin = format!("http://{}", asked.header("host").unwrap_or_default());
            let location = format!("{}/mcp/", if absolute { &origin } else { "" });
            if path == "/mcp" { reply(307, &[("Location", &location)], "") } else { asked.legacy("s") }
        })
        .await;
        let mut prober = server.prober();
        assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
        prober.close(None).await;
        let requests = server.requests();
        let lines: Vec<_> = requests.iter().map(|one| format!("{} {}", one.line, one.what())).collect();
        let expected = [
            "POST /mcp server/discover",
            "POST /mcp/ server/discover",
            "POST /mcp/ initialize",
            "POST /mcp/ notifications/initialized",
            "DELETE /mcp DELETE",
            "DELETE /mcp/ DELETE",
        ];
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn a_server_that_redirects_in_a_circle_is_not_followed_for_ever() {
    let server = Server::start(|asked| {
        let there = asked.line.starts_with("POST /mcp/a");
        reply(308, &[("Location", if there { "/mcp/b" } else { "/mcp/a" })], "")
    })
    .await;
    assert_eq!(fault(&ask(server.endpoint()).await).0, FaultKind::Redirected);
    assert_eq!(server.asked().len(), 4, "the request, and three redirects");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let other = Server::start(Asked::modern).await;
    let elsewhere = format!("http://{}/mcp", other.address);
    let server = Server::start(move |_| reply(307, &[("Location", &elsewhere)], "")).await;
    assert_eq!(fault(&ask(server.endpoint()).await).0, FaultKind::Redirected);
    assert!(other.asked().is_empty());
}
