//! What every server goes through: well, then each fault that it can be put into.

use std::time::Duration;

use mcp_health_core::signals::{Fault, FaultKind, Tool};
use mcp_probe::{Canary, Endpoint, Era, Look, Outcome, Prober, SessionUse, Token};
use rustix::process::Signal;
use serde_json::{Map, json};
use tokio::process::Command;

use crate::process::Server;

pub const GLANCE: Look = Look { tools: false, canary: None, session: SessionUse::Keep };
pub const TOOLS: Look = Look { tools: true, canary: None, session: SessionUse::Keep };

/// The settings of every foreign server.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

pub fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| tool.name.as_str()).collect()
}

/// All tools, which are told.
pub fn tools(outcome: &Outcome) -> Vec<Tool> {
    outcome.listed.clone().expect("asked").result.expect("well").expect("whole")
}

pub fn canary(query: &str) -> Look {
    let arguments = Map::from_iter([("query".to_owned(), json!(query))]);
    Look {
        session: SessionUse::Keep,
        tools: false,
        canary: Some(Canary { name: "search".to_owned(), arguments }),
    }
}

pub fn fault(outcome: &Outcome) -> FaultKind {
    outcome.result.as_ref().expect_err("it is a fault").kind
}

/// A server that is well, by whatever path and transport: its tools, its session, a call that works and one that does
/// not; a tool that is gone; then no answer, an answer again, and the end.
pub async fn lives_and_dies(
    command: impl Fn(Settings) -> Command,
    endpoint: impl Fn(&Server) -> Endpoint,
    era: Era,
) {
    let (mut server, smaller) =
        tokio::join!(Server::start(command(&[])), Server::start(command(&[("TOOLS", "1")])));
    let mut prober = Prober::new(endpoint(&server)).unwrap();
    for look in [TOOLS, GLANCE, TOOLS] {
        let outcome = prober.ask(None, &look).await;
        assert_eq!((&outcome.result, outcome.era), (&Ok(()), Some(era)));
        if look.tools {
            assert_eq!(names(&tools(&outcome)), ["search", "search-1"]);
        }
    }
    let well = prober.ask(None, &canary("x")).await;
    assert_eq!((well.result, well.canary.unwrap().result), (Ok(()), Ok(())));
    let failed = prober.ask(None, &canary("fail")).await;
    assert_eq!(
        (failed.result, failed.canary.unwrap().result.unwrap_err().kind),
        (Ok(()), FaultKind::ToolFailed)
    );

    let mut other = Prober::new(endpoint(&smaller)).unwrap();
    assert_eq!(names(&tools(&other.ask(None, &TOOLS).await)), ["search"]);
    other.close(None).await;
    drop(smaller);

    // Stopped, its machine still takes connections; nobody answers.
    server.stop().await;
    let hurried = Endpoint { timeout: Duration::from_millis(500), ..endpoint(&server) };
    let wedged = Prober::new(hurried).unwrap().ask(None, &GLANCE).await;
    assert_eq!(fault(&wedged), FaultKind::TimedOut, "{wedged:?}");
    server.send(Signal::CONT);
    assert_eq!(prober.ask(None, &GLANCE).await.result, Ok(()));
    prober.close(None).await;
    server.kill().await;
    let gone = prober.ask(None, &GLANCE).await;
    assert_eq!((fault(&gone), gone.era), (FaultKind::Refused, Some(era)));
}

/// What is asked at a path where no MCP is.
pub async fn knows_its_path(server: &Server) {
    let outcome = server.prober("/elsewhere").ask(None, &GLANCE).await;
    assert_eq!(fault(&outcome), FaultKind::NotFound, "{outcome:?}");
}

/// With a credential, with another one, and without.
pub async fn asks_for_its_token(server: &Server, path: &str) {
    let right = Token::new("correct-horse");
    let mut prober = server.prober(path);
    assert_eq!(prober.ask(right.as_ref(), &TOOLS).await.result, Ok(()));
    for wrong in [None, Token::new("battery-staple")] {
        let outcome = server.prober(path).ask(wrong.as_ref(), &TOOLS).await;
        let Err(Fault { kind, said }) = outcome.result else { panic!("{outcome:?}") };
        assert_eq!(kind, FaultKind::Unauthorized, "{said}");
        assert!(!said.contains("battery"), "{said}");
        // Also where it was well before: the session is no credential.
        assert_eq!(fault(&prober.ask(wrong.as_ref(), &GLANCE).await), FaultKind::Unauthorized);
    }
    assert_eq!(prober.ask(right.as_ref(), &GLANCE).await.result, Ok(()));
    prober.close(right.as_ref()).await;
}

/// By a name that it knows, and by one that it does not.
pub async fn asks_for_its_name(server: &Server, path: &str) {
    let ask = async |host: &str| {
        let named = Endpoint { host: host.to_owned(), ..server.endpoint(path) };
        Prober::new(named).unwrap().ask(None, &GLANCE).await
    };
    assert_eq!(ask("mcp.example").await.result, Ok(()));
    let outcome = ask("other.example").await;
    assert_eq!(fault(&outcome), FaultKind::HostNotAllowed, "{outcome:?}");
}
