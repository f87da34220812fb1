//! Tools are listed to the last page, and called only where one is named.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mcp_health_core::signals::{Fault, FaultKind, Tool};
use mcp_probe::{Canary, Endpoint, Look, Outcome, Prober, SessionUse, Token};
use serde_json::{Map, json};

use crate::script::{Asked, GLANCE, Reply, Server, TOOLS, fault, reply};

fn canary(name: &str) -> Look {
    let arguments = Map::from_iter([("query".to_owned(), json!("x"))]);
    Look {
        session: SessionUse::Keep,
        tools: false,
        canary: Some(Canary { name: name.to_owned(), arguments }),
    }
}

fn listed(outcome: &Outcome) -> Result<Option<Vec<Tool>>, Fault> {
    outcome.listed.clone().expect("it was asked").result
}

fn error(asked: &Asked, code: i64) -> Reply {
    let error = json!({"code": code, "message": "no registry"});
    reply(200, &[], &json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string())
}

#[tokio::test]
async fn a_list_of_tools_that_fails_is_a_fault_of_its_own_and_mcp_and_the_canary_are_asked_all_the_same() {
    for modern in [true, false] {
        let server = Server::start(move |asked| match asked.what() {
            "tools/list" => error(asked, -32603),
            "tools/call" => asked.result(&json!({"content": []})),
            _ if modern => asked.modern(),
            _ => asked.legacy("s"),
        })
        .await;
        let mut prober = server.prober();
        let look = Look { tools: true, ..canary("search") };
        for _ in 0..3 {
            let outcome = prober.ask(None, &look).await;
            let fault = listed(&outcome).unwrap_err();
            let said = "answered tools/list with JSON-RPC error -32603: no registry";
            assert_eq!((fault.kind, fault.said.as_str()), (FaultKind::RpcError, said));
            assert_eq!((outcome.result, outcome.canary.unwrap().result), (Ok(()), Ok(())));
        }
        // The era is known all the same, and so is the session.
        let asked = server.asked();
        let begun = asked.iter().filter(|what| matches!(what.as_str(), "initialize")).count();
        assert_eq!(begun, usize::from(!modern), "{asked:?}");
    }
}

#[tokio::test]
async fn a_list_that_hangs_has_its_own_time_and_takes_none_from_the_canary() {
    let server = Server::start(|asked| match asked.what() {
        "tools/list" => Reply::TextAndSilence(String::new()),
        "tools/call" => asked.result(&json!({"content": []})),
        _ => asked.modern(),
    })
    .await;
    let endpoint = Endpoint { timeout: Duration::from_millis(300), ..server.endpoint() };
    let outcome = Prober::new(endpoint).unwrap().ask(None, &Look { tools: true, ..canary("search") }).await;
    assert_eq!(listed(&outcome).unwrap_err().kind, FaultKind::TimedOut);
    assert_eq!((outcome.result, outcome.canary.unwrap().result), (Ok(()), Ok(())));
}

#[tokio::test]
async fn what_never_said_that_it_has_tools_may_turn_their_list_down_as_it_likes() {
    for (code, capabilities, is_well) in [
        (-32603, json!({}), true),
        (-32601, json!({}), true),
        (-32603, json!({"tools": {}}), false),
        (-32601, json!({"tools": {}}), false),
    ] {
        let server = Server::start(move |asked| match asked.what() {
            "tools/list" => error(asked, code),
            _ => asked.result(&json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities})),
        })
        .await;
        let result = listed(&server.prober().ask(None, &TOOLS).await);
        assert_eq!(result == Ok(Some(Vec::new())), is_well, "{code}: {result:?}");
    }
}

#[tokio::test]
async fn all_pages_are_one_list() {
    let server = Server::start(|asked| match (asked.what(), asked.body["params"]["cursor"].as_str()) {
        ("tools/list", None) => asked.result(&json!({"tools": [{"name": "b"}], "nextCursor": "2"})),
        ("tools/list", Some("2")) => asked.result(&json!({"tools": [{"name": "a"}], "nextCursor": "3"})),
        ("tools/list", Some("3")) => asked.result(&json!({"tools": [{"name": "c"}, {"name": "a"}]})),
        _ => asked.modern(),
    })
    .await;
    let tools = listed(&server.prober().ask(None, &TOOLS).await).unwrap().unwrap();
    assert_eq!(tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_list_without_an_end_is_not_taken_for_a_whole_one() {
    let server = Server::start(|asked| match asked.what() {
        "tools/list" => {
            asked.result(&json!({"tools": [{"name": "a"}], "nextCursor": asked.body["id"].to_string()}))
        }
        _ => asked.modern(),
    })
    .await;
    let outcome = server.prober().ask(None, &TOOLS).await;
    assert_eq!((&outcome.result, listed(&outcome)), (&Ok(()), Ok(None)));
    assert_eq!(server.asked().len(), 65);
    let server = Server::start(|asked| match asked.what() {
        "tools/list" => asked.result(&json!({"tools": [], "nextCursor": "again"})),
        _ => asked.modern(),
    })
    .await;
    let outcome = server.prober().ask(None, &TOOLS).await;
    assert_eq!((&outcome.result, listed(&outcome).unwrap_err().kind), (&Ok(()), FaultKind::Malformed));
    assert_eq!(server.asked(), ["server/discover", "tools/list", "tools/list"]);
}

#[tokio::test]
async fn no_tool_is_called_unless_it_is_named_and_then_it_is_called_once() {
    let server = Server::start(Asked::modern).await;
    let mut prober = server.prober();
    assert_eq!(prober.ask(None, &TOOLS).await.canary, None);
    assert_eq!(server.asked(), ["server/discover", "tools/list"]);
    let outcome = prober.ask(None, &canary("search")).await;
    assert_eq!(outcome.canary.unwrap().result, Ok(()));
    let asked = server.requests();
    assert_eq!(asked[1].header("mcp-name"), Some("search"));
    assert_eq!(asked[1].body["params"]["arguments"], json!({"query": "x"}));
}

#[tokio::test]
async fn a_tool_whose_answer_is_cut_off_is_not_called_again() {
    let server = Server::start(|asked| match asked.what() {
        "tools/call" => Reply::TextAndCut(String::new()),
        _ => asked.modern(),
    })
    .await;
    let outcome = server.prober().ask(None, &canary("search")).await;
    assert_eq!(
        (outcome.result, outcome.canary.unwrap().result.unwrap_err().kind),
        (Ok(()), FaultKind::Reset)
    );
    assert_eq!(server.asked(), ["server/discover", "tools/call"]);
}

#[tokio::test]
async fn what_else_is_asked_is_asked_once_more_where_the_server_closed_in_between() {
    let closed = AtomicBool::new(false);
    let server = Server::start(move |asked| match asked.what() {
        "tools/list" if !closed.swap(true, Ordering::SeqCst) => Reply::TextAndCut(String::new()),
        _ => asked.modern(),
    })
    .await;
    let outcome = server.prober().ask(None, &TOOLS).await;
    assert!(outcome.result.is_ok() && listed(&outcome).is_ok(), "{outcome:?}");
    assert_eq!(server.asked(), ["server/discover", "tools/list", "tools/list"]);
}

#[tokio::test]
async fn more_tools_than_are_kept_are_not_known_to_be_all() {
    let server = Server::start(|asked| match asked.what() {
        "tools/list" => {
            let tools: Vec<_> = (0..5000).map(|number| json!({"name": format!("tool-{number}")})).collect();
            asked.result(&json!({"tools": tools}))
        }
        _ => asked.modern(),
    })
    .await;
    let outcome = server.prober().ask(None, &TOOLS).await;
    assert_eq!((&outcome.result, listed(&outcome)), (&Ok(()), Ok(None)));
}

#[tokio::test]
async fn a_server_that_is_not_well_is_not_sent_a_canary() {
    let server = Server::start(|_| reply(503, &[], "")).await;
    assert_eq!(server.prober().ask(None, &canary("search")).await.canary, None);
    assert_eq!(server.asked(), ["server/discover"]);
}

#[tokio::test]
async fn a_server_without_tools_is_well() {
    let server = Server::start(|asked| {
        if asked.what() == "server/discover" {
            return asked.result(&json!({"supportedVersions": ["2026-07-28"], "capabilities": {}}));
        }
        let error = json!({"code": -32601, "message": "Method not found"});
        reply(404, &[], &json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}).to_string())
    })
    .await;
    let outcome = server.prober().ask(None, &TOOLS).await;
    assert_eq!((&outcome.result, listed(&outcome)), (&Ok(()), Ok(Some(Vec::new()))));
}

#[tokio::test]
async fn no_word_of_the_credential_comes_back() {
    let server = Server::start(|_| reply(401, &[], r#"{"error": "who is hunter2?"}"#)).await;
    let outcome = server.prober().ask(Token::new("hunter2").as_ref(), &GLANCE).await;
    assert_eq!(fault(&outcome), (FaultKind::Unauthorized, "answered 401 Unauthorized: who is ***?"));
    assert!(!format!("{outcome:?}").contains("hunter2"));
}
