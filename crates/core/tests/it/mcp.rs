//! What answers of MCP servers mean: every fault in both eras, what is normal, and bytes that mean nothing.

use mcp_health_core::{
    mcp::{Answer, Asked, End, Era, Judged, LIMIT, Question, called, foreign, judge, page, sse::Events},
    signals::FaultKind,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use FaultKind::{
    Buffered, Forbidden, HostNotAllowed, Malformed, NotAcceptable, NotFound, NotMcp, RateLimited, Redirected,
    Reset, RpcError, ServerError, TimedOut, TooLarge, ToolFailed, Unauthorized, Unavailable,
    UnexpectedStatus, VersionMismatch,
};

const ID: u64 = 7;
const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream; charset=utf-8";
const TOKEN: &str = "hunter2";

/// What an answer should be judged to be, where it is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Well,
    NotOffered,
    Legacy,
    NoSession,
    Version(&'static str),
    Fault(FaultKind),
}

fn answer(status: u16, kind: &str, body: &str, end: End) -> Answer {
    let mut answer = Answer::new(ID, status, Some(kind).filter(|kind| !kind.is_empty()));
    answer.push(body.as_bytes());
    answer.ended(end)
}

fn judged(era: Era, asked: Asked, in_session: bool, answer: &Answer) -> (Is, String) {
    let judged = judge(&Question { era, asked, in_session, hidden: Some(TOKEN) }, answer);
    match judged {
        Judged::Well(_) => (Is::Well, String::new()),
        Judged::NotOffered => (Is::NotOffered, String::new()),
        Judged::Legacy => (Is::Legacy, String::new()),
        Judged::NoSession => (Is::NoSession, String::new()),
        Judged::Version(version) => (Is::Version(version), String::new()),
        Judged::Fault(fault) => (Is::Fault(fault.kind), fault.said),
    }
}

fn result(value: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": ID, "result": value}).to_string()
}

fn error(code: i64, message: &str) -> String {
    json!({"jsonrpc": "2.0", "id": ID, "error": {"code": code, "message": message}}).to_string()
}

fn unsupported(versions: &[&str]) -> String {
    let data = json!({"supported": versions, "requested": "x"});
    let error = json!({"code": -32022, "message": "Unsupported protocol version", "data": data});
    json!({"jsonrpc": "2.0", "id": ID, "error": error}).to_string()
}

fn event(data: &str) -> String {
    format!("event: message\ndata: {data}\n\n")
}

/// `tools/list` of a server that said it has tools: what is not era's own is the same in both.
const TOOLS: Asked = Asked::Tools { advertised: true };

/// Each fault, as it comes in both eras to `tools/list` of a server that is known; and the words that a person reads.
#[test]
fn every_fault_of_a_known_server_is_told_in_both_eras() {
    use End::{Cut, TimedOut as Late, Whole};
    let long = format!(r#"{{"jsonrpc":"2.0","id":{ID},"result":{{"x":"{}"}}}}"#, "a".repeat(LIMIT));
    let other = json!({"jsonrpc": "2.0", "id": 8, "result": {}}).to_string();
    let both = json!({"jsonrpc": "2.0", "id": ID, "result": {}, "error": {}}).to_string();
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/message"}).to_string();
    let faults: &[(u16, &str, &str, End, FaultKind, &str)] = &[
        (301, "", "", Whole, Redirected, "answered 301 Moved Permanently"),
        (307, "text/html", "<html>", Whole, Redirected, "answered 307 Temporary Redirect"),
        (
            401,
            JSON,
            r#"{"error":"invalid_token"}"#,
            Whole,
            Unauthorized,
            "answered 401 Unauthorized: invalid_token",
        ),
        (401, "", "", Whole, Unauthorized, "answered 401 Unauthorized"),
        (403, "text/plain", "no such role", Whole, Forbidden, "answered 403 Forbidden: no such role"),
        (
            403,
            "text/plain",
            "Forbidden: Host header is not allowed",
            Whole,
            HostNotAllowed,
            "answered 403 Forbidden: Forbidden: Host header is not allowed",
        ),
        (
            421,
            "text/plain",
            "Invalid Host header",
            Whole,
            HostNotAllowed,
            "answered 421 Misdirected Request: Invalid Host header",
        ),
        (405, "", "", Whole, NotFound, "answered 405 Method Not Allowed"),
        (406, JSON, &error(-32000, "Not Acceptable"), Whole, NotAcceptable, "answered 406 Not Acceptable"),
        (418, "text/plain", "short and stout", Whole, UnexpectedStatus, "answered 418: short and stout"),
        (429, "", "", Whole, RateLimited, "answered 429 Too Many Requests"),
        (500, "text/html", "<h1>Oh</h1>", Whole, ServerError, "answered 500 Internal Server Error"),
        (502, "text/html", "", Whole, ServerError, "answered 502 Bad Gateway"),
        (
            503,
            JSON,
            r#"{"error":"draining"}"#,
            Whole,
            Unavailable,
            "answered 503 Service Unavailable: draining",
        ),
        (504, "", "", Whole, ServerError, "answered 504 Gateway Timeout"),
        (200, "text/html", "<html>", Whole, NotMcp, "answered 200 OK with text/html"),
        (200, "text/plain", &result(&json!({})), Whole, NotMcp, "answered 200 OK with text/plain"),
        (200, "", "x", Whole, NotMcp, "answered 200 OK with what has no content type"),
        (204, "", "", Whole, NotMcp, "answered 204 No Content with nothing"),
        (200, JSON, "", Whole, NotMcp, "answered 200 OK with nothing"),
        (200, JSON, "{\"jsonrpc\":", Whole, Malformed, "answered tools/list with broken JSON-RPC"),
        (200, JSON, "{\"ok\":true}", Whole, Malformed, "answered tools/list with broken JSON-RPC"),
        (200, JSON, &both, Whole, Malformed, "answered tools/list with broken JSON-RPC"),
        (200, JSON, &other, Whole, Malformed, "answered tools/list with another request's id"),
        (200, JSON, &result(&json!([])), Whole, Malformed, "answered tools/list with a result that is none"),
        (200, JSON, &long, Whole, TooLarge, "answered tools/list with more than 1 MiB"),
        (200, JSON, "{\"jsonrpc\":", Cut, Reset, "began to answer tools/list, and broke off"),
        (200, JSON, "{\"jsonrpc\":", Late, TimedOut, "began to answer tools/list, and broke off"),
        (
            200,
            JSON,
            &error(-32603, "it broke"),
            Whole,
            RpcError,
            "answered tools/list with JSON-RPC error -32603: it broke",
        ),
        (200, JSON, &error(-32601, ""), Whole, RpcError, "answered tools/list with JSON-RPC error -32601"),
        (200, STREAM, "", Late, Buffered, "answered 200 OK, and its stream brings nothing"),
        (
            200,
            STREAM,
            ": ping\n\n",
            Late,
            TimedOut,
            "answered 200 OK; its stream lives, and does not bring the answer to tools/list",
        ),
        (
            200,
            STREAM,
            &event(&notification),
            Late,
            TimedOut,
            "answered 200 OK; its stream lives, and does not bring the answer to tools/list",
        ),
        (
            200,
            STREAM,
            &event(&notification),
            Whole,
            Malformed,
            "answered 200 OK, and its stream ended without the answer to tools/list",
        ),
        (200, STREAM, &event("nonsense"), Whole, Malformed, "answered tools/list with broken JSON-RPC"),
        (200, STREAM, "data: {\"jso", Cut, Reset, "began to answer tools/list, and broke off"),
        (200, STREAM, "", Whole, NotMcp, "answered 200 OK with nothing"),
        (
            200,
            STREAM,
            &event(&error(-32603, "it broke")),
            Whole,
            RpcError,
            "answered tools/list with JSON-RPC error -32603: it broke",
        ),
        (
            200,
            STREAM,
            &": a\n".repeat(LIMIT / 3),
            Whole,
            TooLarge,
            "answered tools/list with more than 1 MiB",
        ),
        (100, "", "", Whole, UnexpectedStatus, "answered 100"),
    ];
    for (status, kind, body, end, fault, said) in faults {
        for era in [Era::Modern, Era::Legacy] {
            let answer = answer(*status, kind, body, *end);
            let (is, words) = judged(era, TOOLS, era == Era::Legacy, &answer);
            let short = &body[..body.len().min(60)];
            assert_eq!((is, words.as_str()), (Is::Fault(*fault), *said), "{era:?} {status} {kind} {short}");
        }
    }
}

/// What only one era has, or means something else in each.
#[test]
fn the_first_questions_tell_the_era_the_session_and_the_version() {
    use Asked::{Discover, Initialize, Initialized, Ping};
    let discovered = result(&json!({"supportedVersions": ["2026-07-28", "2025-11-25"], "capabilities": {}}));
    let initialized = result(&json!({"protocolVersion": "2025-06-18", "capabilities": {}}));
    let refused = json!({"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600, "message": "Bad Request: Missing session ID"}}).to_string();
    let old_version = json!({"jsonrpc": "2.0", "id": ID, "error": {"code": -32602, "message": "Unsupported protocol version", "data": {"supported": ["2024-11-05", "2025-03-26"]}}}).to_string();
    let no_version = old_version.replace("2024-11-05", "1.0").replace("2025-03-26", "1.1");
    let cases: &[(Era, Asked, bool, u16, &str, &str, Is)] = &[
        // A modern server.
        (Era::Modern, Discover, false, 200, JSON, &discovered, Is::Well),
        (Era::Modern, Discover, false, 200, STREAM, &event(&discovered), Is::Well),
        (Era::Modern, Discover, false, 200, JSON, &result(&json!({})), Is::Fault(Malformed)),
        (
            Era::Modern,
            Discover,
            false,
            200,
            JSON,
            &result(&json!({"supportedVersions": ["2030-01-01"]})),
            Is::Fault(VersionMismatch),
        ),
        (Era::Modern, Discover, false, 400, JSON, &unsupported(&["2030-01-01"]), Is::Fault(VersionMismatch)),
        (Era::Modern, Discover, false, 400, JSON, &unsupported(&[]), Is::Fault(VersionMismatch)),
        (Era::Modern, Discover, false, 400, JSON, &error(-32020, "Header mismatch"), Is::Fault(RpcError)),
        (Era::Modern, Discover, false, 400, JSON, &error(-32021, "Missing capability"), Is::Fault(RpcError)),
        (Era::Modern, TOOLS, false, 404, "", "", Is::Fault(NotFound)),
        (Era::Modern, TOOLS, false, 400, JSON, &refused, Is::Fault(UnexpectedStatus)),
        // A legacy one, asked in the modern way: any 4xx without a modern error.
        (Era::Modern, Discover, false, 400, JSON, &unsupported(&["2025-11-25"]), Is::Legacy),
        (
            Era::Modern,
            Discover,
            false,
            200,
            JSON,
            &result(&json!({"supportedVersions": ["2025-11-25"]})),
            Is::Legacy,
        ),
        (Era::Modern, Discover, false, 400, JSON, &refused, Is::Legacy),
        (Era::Modern, Discover, false, 400, "text/plain", "Bad Request", Is::Legacy),
        (Era::Modern, Discover, false, 404, "", "", Is::Legacy),
        (Era::Modern, Discover, false, 404, JSON, &error(-32601, "Method not found"), Is::Legacy),
        (Era::Modern, Discover, false, 405, "", "", Is::Legacy),
        (Era::Modern, Discover, false, 422, JSON, "{}", Is::Legacy),
        (Era::Modern, Discover, false, 200, JSON, &error(-32601, "Method not found"), Is::Legacy),
        (Era::Modern, Discover, false, 200, JSON, &error(-32602, "Invalid request parameters"), Is::Legacy),
        // Gates and failures tell no era.
        (Era::Modern, Discover, false, 401, "", "", Is::Fault(Unauthorized)),
        (Era::Modern, Discover, false, 421, "", "", Is::Fault(HostNotAllowed)),
        (Era::Modern, Discover, false, 500, "", "", Is::Fault(ServerError)),
        // Its handshake.
        (Era::Legacy, Initialize, false, 200, JSON, &initialized, Is::Well),
        (
            Era::Legacy,
            Initialize,
            false,
            200,
            STREAM,
            &format!("id: 0\ndata: \n\n{}", event(&initialized)),
            Is::Well,
        ),
        (Era::Legacy, Initialize, false, 200, JSON, &format!("[{initialized}]"), Is::Well),
        (Era::Legacy, Initialize, false, 200, JSON, &result(&json!({})), Is::Fault(Malformed)),
        (
            Era::Legacy,
            Initialize,
            false,
            200,
            JSON,
            &result(&json!({"protocolVersion": "1.0"})),
            Is::Fault(VersionMismatch),
        ),
        (Era::Legacy, Initialize, false, 200, JSON, &old_version, Is::Version("2025-03-26")),
        (Era::Legacy, Initialize, false, 400, JSON, &old_version, Is::Version("2025-03-26")),
        (Era::Legacy, Initialize, false, 200, JSON, &no_version, Is::Fault(VersionMismatch)),
        (Era::Legacy, Initialize, false, 404, "text/plain", "Not Found", Is::Fault(NotFound)),
        (Era::Legacy, Initialize, false, 405, "", "", Is::Fault(NotFound)),
        (Era::Legacy, Initialize, false, 400, JSON, &refused, Is::Fault(UnexpectedStatus)),
        (Era::Legacy, Initialized, true, 202, "", "", Is::Well),
        (Era::Legacy, Initialized, true, 404, "text/plain", "Session not found", Is::NoSession),
        // Its session.
        (Era::Legacy, Ping, true, 200, JSON, &result(&json!({})), Is::Well),
        (Era::Legacy, Ping, true, 200, JSON, &error(-32601, "Method not found"), Is::NotOffered),
        (Era::Legacy, Ping, true, 404, JSON, &error(-32001, "Session not found"), Is::NoSession),
        (Era::Legacy, Ping, true, 400, JSON, &refused, Is::NoSession),
        (Era::Legacy, Ping, true, 400, "text/plain", "No valid session ID provided", Is::NoSession),
        (Era::Legacy, Ping, true, 400, "text/plain", "Bad Request", Is::Fault(UnexpectedStatus)),
        (Era::Legacy, Ping, true, 500, "", "", Is::Fault(ServerError)),
        // What was never advertised.
        (
            Era::Modern,
            Asked::Tools { advertised: false },
            false,
            404,
            JSON,
            &error(-32601, ""),
            Is::NotOffered,
        ),
        (
            Era::Legacy,
            Asked::Tools { advertised: false },
            true,
            200,
            JSON,
            &error(-32601, ""),
            Is::NotOffered,
        ),
        (Era::Modern, TOOLS, false, 404, JSON, &error(-32601, ""), Is::Fault(RpcError)),
        (Era::Legacy, TOOLS, true, 200, JSON, &error(-32601, ""), Is::Fault(RpcError)),
        (Era::Modern, Asked::Call, false, 200, JSON, &error(-32602, "Unknown tool"), Is::Fault(ToolFailed)),
    ];
    for (era, asked, in_session, status, kind, body, expected) in cases {
        let (is, said) = judged(*era, *asked, *in_session, &answer(*status, kind, body, End::Whole));
        assert_eq!(is, *expected, "{era:?} {asked:?} {status} {body}: {said}");
    }
}

#[test]
fn words_of_a_server_are_short_one_line_and_without_the_credential_that_it_was_shown() {
    let long = "x".repeat(500);
    for (body, said) in [
        ("no\r\nfurther", "answered 403 Forbidden: no"),
        ("token hunter2 is not known", "answered 403 Forbidden: token *** is not known"),
        ("password=abc", "answered 403 Forbidden: password=***"),
        ("<p>hunter2", "answered 403 Forbidden"),
        (r#"{"error":{"message":"Bearer abc"}}"#, "answered 403 Forbidden: Bearer ***"),
        (long.as_str(), &format!("answered 403 Forbidden: {}…", "x".repeat(157))),
    ] {
        let (_, words) =
            judged(Era::Modern, Asked::Discover, false, &answer(403, "text/plain", body, End::Whole));
        assert_eq!(words, said);
    }
    assert_eq!(foreign("a\u{1b}[31mb\0c", None), "a [31mb c");
}

#[test]
fn a_page_of_tools_is_read_and_what_is_no_tool_is_told() {
    let tools = json!([{"name": "search", "inputSchema": {"a": 1, "b": 2}}, {"name": "fetch"}]);
    let read = page(&json!({"tools": tools, "nextCursor": "2"})).unwrap();
    let names: Vec<&str> = read.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!((names, read.next.as_deref()), (vec!["search", "fetch"], Some("2")));
    let same =
        page(&json!({"tools": [{"inputSchema": {"b": 2, "a": 1}, "name": "search", "title": "x"}]})).unwrap();
    assert_eq!(same.tools[0], read.tools[0]);
    let drifted = page(&json!({"tools": [{"name": "search", "inputSchema": {"a": 1, "b": 3}}]})).unwrap();
    assert_ne!(drifted.tools[0].schema, read.tools[0].schema);
    for broken in [json!({}), json!({"tools": {}}), json!({"tools": [{"name": ""}]}), json!({"tools": [7]})] {
        assert_eq!(page(&broken).unwrap_err().kind, Malformed, "{broken}");
    }
}

#[test]
fn a_tool_that_says_that_it_failed_has_failed() {
    assert_eq!(called(&json!({"content": []}), None), Ok(()));
    let failed = json!({"isError": true, "content": [{"type": "text", "text": "no database at hunter2"}]});
    let fault = called(&failed, Some(TOKEN)).unwrap_err();
    assert_eq!((fault.kind, fault.said.as_str()), (ToolFailed, "failed: no database at ***"));
    assert_eq!(called(&json!({"resultType": "input_required"}), None).unwrap_err().kind, ToolFailed);
}

/// Bytes that look like an answer more often than chance has it.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..12),
        1 => Just(b"data: ".to_vec()),
        1 => Just(b"\r\n\r\n".to_vec()),
        1 => Just(br#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":""#.to_vec()),
        1 => Just(r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"é"#.into()),
        1 => Just(br#"","data":{"supported":["2025-11-25"]}}}"#.to_vec()),
        1 => Just(b"event: endpoint\ndata: //evil\n\n".to_vec()),
        1 => Just("[".repeat(300).into_bytes()),
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_a_server_bring_anything_down(
        bytes in bytes(), size in 1_usize..40, status in 100_u16..700, kind in 0_usize..4, end in 0_usize..3,
    ) {
        let kinds = [JSON, STREAM, "text/html", ""];
        let ends = [End::Whole, End::TimedOut, End::Cut];
        let mut answer = Answer::new(ID, status, Some(kinds[kind]));
        for piece in bytes.chunks(size) {
            answer.push(piece);
        }
        let answer = answer.ended(ends[end]);
        for era in [Era::Modern, Era::Legacy] {
            for asked in [Asked::Discover, Asked::Initialize, Asked::Initialized, Asked::Ping, TOOLS, Asked::Call] {
                for in_session in [false, true] {
                    let (_, said) = judged(era, asked, in_session, &answer);
                    prop_assert!(said.len() < 300, "{said}");
                    prop_assert!(!said.chars().any(char::is_control), "{said:?}");
                }
            }
        }
        let value = serde_json::from_slice(&bytes).unwrap_or_default();
        let _ = (page(&value), called(&value, None));
        // However a stream is cut, it says the same.
        let whole = Events::default().push(&bytes);
        let mut events = Events::default();
        let pieces: Vec<_> = bytes.chunks(size).flat_map(|piece| events.push(piece)).collect();
        prop_assert_eq!(whole, pieces);
    }
}
