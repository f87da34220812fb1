//! What servers answer on their health path, and how they list their circuit breakers.

use jiff::{SignedDuration, Timestamp};
use mcp_health_core::{
    circuits_body, health_body,
    signals::{Circuit, CircuitState, FaultKind},
};
use proptest::prelude::*;

fn at() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// What an answer comes to: empty where the server is well.
fn health(status: u16, body: &str) -> String {
    health_body::judge(status, body.as_bytes()).map_or_else(|fault| fault.said, |()| String::new())
}

#[test]
fn a_good_answer_is_well_unless_its_body_says_otherwise() {
    for body in [
        "",
        "OK",
        "not JSON: unhealthy",
        "[]",
        "\"pong\"",
        "7",
        "{}",
        r#"{"status":"healthy"}"#,
        r#"{"status":"UP"}"#,
        r#"{"status":" ok "}"#,
        r#"{"status":"pass"}"#,
        r#"{"status":200}"#,
        r#"{"status":null}"#,
        r#"{"healthy":true}"#,
        r#"{"status":"healthy","issues":["memory"],"failed_components":["cache"]}"#,
        r#"{"issues":["memory"]}"#,
        r#"{"failed_components":[]}"#,
        r#"{"components":{"database":{"status":"up"},"tools":"ok","other":3}}"#,
        r#"{"components":["database"]}"#,
        r#"{"version":"1.2"}"#,
    ] {
        assert_eq!(health(200, body), "", "{body}");
    }
    for (body, said) in [
        (r#"{"status":"degraded"}"#, "says that it is degraded"),
        (r#"{"healthy":false}"#, "says that it is not healthy"),
        (
            r#"{"status":"unhealthy","failed_components":["database"],"issues":["memory","connections"]}"#,
            "says that it is unhealthy: database, memory, connections",
        ),
        (
            r#"{"status":"DOWN","components":{"db":{"status":"DOWN"},"disk":{"status":"UP"}}}"#,
            "says that it is DOWN: db",
        ),
        (r#"{"failed_components":[{"name":"queue"}]}"#, "says that a part of it is not well: queue"),
        (r#"{"components":{"tools":"down"}}"#, "says that a part of it is not well: tools"),
        (
            r#"{"checks":{"db:time":[{"status":"pass"},{"status":"fail"}]}}"#,
            "says that a part of it is not well: db:time",
        ),
        (r#"{"status":"bad","failed_components":["a","b","c","d","e"]}"#, "says that it is bad: a, b, c, d"),
    ] {
        assert_eq!(health(200, body), said, "{body}");
        assert_eq!(health_body::judge(200, body.as_bytes()).unwrap_err().kind, FaultKind::Unhealthy);
    }
}

#[test]
fn other_answers_are_told_apart_by_their_status() {
    for (status, kind) in [
        (204, None),
        (302, Some(FaultKind::Redirected)),
        (401, Some(FaultKind::Unauthorized)),
        (403, Some(FaultKind::Forbidden)),
        (404, Some(FaultKind::NotFound)),
        (405, Some(FaultKind::NotFound)),
        (418, Some(FaultKind::UnexpectedStatus)),
        (421, Some(FaultKind::HostNotAllowed)),
        (429, Some(FaultKind::RateLimited)),
        (500, Some(FaultKind::ServerError)),
        (503, Some(FaultKind::Unhealthy)),
        (600, Some(FaultKind::UnexpectedStatus)),
    ] {
        let fault = health_body::judge(status, b"").err().map(|fault| fault.kind);
        assert_eq!(fault, kind, "{status}");
    }
    let body = r#"{"status":"unhealthy","components":{"database":{"status":"unhealthy"}}}"#;
    assert_eq!(health(503, body), "answered 503: database");
    assert_eq!(health(404, body), "answered 404", "that answer is not of the health path");
}

#[test]
fn what_a_body_names_is_masked_short_and_on_one_line() {
    let long = "x".repeat(200);
    let body = format!(r#"{{"status":"down","issues":["password=hunter2","a\nb","{long}"]}}"#);
    let said = health(200, &body);
    assert!(said.starts_with("says that it is down: password=***, a b, xxx"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains('\n') && said.len() < 120, "{said}");
}

fn circuits(body: &str) -> Option<Vec<(String, CircuitState)>> {
    let read = circuits_body::read(body.as_bytes(), "a", at())?;
    Some(read.into_iter().map(|circuit| (circuit.name, circuit.state)).collect())
}

#[test]
fn circuits_are_read_in_every_usual_shape() {
    use CircuitState::{Closed, HalfOpen, Open};
    for (body, expected) in [
        (r#"[{"name":"api","state":"open"}]"#, vec![("api", Open)]),
        (r#"{"circuits":[{"name":"api","state":"HALF_OPEN"}]}"#, vec![("api", HalfOpen)]),
        (r#"{"circuit_breakers":{"api":{"state":"CLOSED"}}}"#, vec![("api", Closed)]),
        (r#"{"circuitBreakers":{"api":"half-open"}}"#, vec![("api", HalfOpen)]),
        (
            r#"{"api":{"State":"HalfOpen"},"db":{"state":"CircuitState.OPEN"}}"#,
            vec![("api", HalfOpen), ("db", Open)],
        ),
        (r#"{"circuits":{"state":"open"}}"#, vec![("circuits", Open)]),
        (
            r#"[{"name":"api","state":"open"},{"name":"","state":"open"},{"state":"open"},7]"#,
            vec![("api", Open)],
        ),
        ("[]", vec![]),
        ("{}", vec![]),
        (r#"{"circuits":[]}"#, vec![]),
    ] {
        let expected = expected.into_iter().map(|(name, state)| (name.to_owned(), state)).collect();
        assert_eq!(circuits(body), Some(expected), "{body}");
    }
    for body in [
        "",
        "<html>",
        "null",
        "7",
        "[7]",
        r#"{"error":"not found"}"#,
        r#"{"detail":{"state":"unknown"}}"#,
        r#"{"status":"open"}"#,
    ] {
        assert_eq!(circuits(body), None, "{body}");
    }
    let many: Vec<_> = (0..100).map(|number| format!(r#""c{number}":"open""#)).collect();
    assert_eq!(circuits(&format!(r#"{{"circuits":{{{}}}}}"#, many.join(","))).unwrap().len(), 64);
}

/// The one circuit of a body with these fields.
fn circuit(fields: &str) -> Circuit {
    let body = format!(r#"[{{"name":"api","state":"open",{fields}}}]"#);
    circuits_body::read(body.as_bytes(), "a", at()).unwrap().remove(0)
}

#[test]
fn times_are_read_in_every_usual_form_and_what_is_none_is_none() {
    let expected = Some("2025-01-01T12:00:00.5Z".parse().unwrap());
    for time in [
        "1735732800.5",
        "1735732800500",
        "\"1735732800.5\"",
        "\"2025-01-01T12:00:00.5Z\"",
        "\"2025-01-01T13:00:00.5+01:00\"",
        "\"2025-01-01T12:00:00.5\"",
    ] {
        assert_eq!(circuit(&format!(r#""last_failure_time":{time}"#)).last_failure, expected, "{time}");
    }
    for time in ["null", "0", "0.0", "-1", "1e300", "\"never\"", "\"NaN\"", "\"inf\"", "true", "[]"] {
        assert_eq!(circuit(&format!(r#""lastFailureTime":{time}"#)).last_failure, None, "{time}");
    }
    let half = Some(SignedDuration::from_millis(30_500));
    for span in ["30.5", "\"30.5\"", "\"30.5s\"", "\"PT30.5S\"", "\"30s 500ms\""] {
        assert_eq!(circuit(&format!(r#""recovery_timeout":{span}"#)).recovery, half, "{span}");
    }
    for span in ["null", "-3", "\"-3s\"", "\"soon\"", "1e300"] {
        assert_eq!(circuit(&format!(r#""recovery_timeout":{span}"#)).recovery, None, "{span}");
    }
    let both = circuit(r#""failure_count":7,"failureThreshold":5"#);
    assert_eq!((both.failures, both.threshold), (Some(7), Some(5)));
    let none = circuit(r#""failure_count":-7,"failureThreshold":"5""#);
    assert_eq!((none.failures, none.threshold), (None, None));
}

/// JSON that looks like the real thing here and there.
fn bodies() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "null",
        "-0",
        "1e308",
        "-1e308",
        "18446744073709551615",
        "\"open\"",
        "\"down\"",
        "\"\\u0000é\"",
        "\"9999-12-31T23:59:60Z\"",
        "\"-P1Y\"",
        "\"9223372036854775807s\"",
        "true",
    ]);
    let keys = prop::sample::select(vec![
        "status",
        "name",
        "state",
        "circuits",
        "components",
        "issues",
        "failed_components",
        "last_failure_time",
        "recovery_timeout",
        "failure_count",
    ]);
    let leaf = words.prop_map(str::to_owned);
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let fields = prop::collection::vec((keys.clone(), inner.clone()), 0..5);
        let object = fields.prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        });
        let list = prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(",")));
        prop_oneof![object, list]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_body_makes_it_panic(
        status in any::<u16>(),
        body in bodies(),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for body in [body.as_bytes(), &bytes] {
            let _ = health_body::judge(status, body);
            let _ = circuits_body::read(body, "a", at());
        }
    }
}
