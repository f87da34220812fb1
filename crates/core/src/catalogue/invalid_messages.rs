//! InvalidMessages: more messages than before are no valid MCP (error 1001; JSON-RPC −32700, −32600, −32602).
//! A new revision may understand less than the one before it; else it is the clients, and a person tells
//! them.

use mcp_health_api::{ActionType, Cause, IncidentType, Label, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, METRIC, Rule},
    metric_rule::{Found, Read},
    rise::{LASTING, Rise},
};
use crate::{
    Case, Server,
    metrics::View,
    signals::{Series, Span},
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::InvalidMessages,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    runbook,
    guide: &[("003", "Invalid Message Format"), ("002", "Message Format Issues")],
    ..METRIC
};

/// What the codes mean.
const CODES: [(&str, &str); 4] = [
    ("1001", "no valid message"),
    ("-32700", "no JSON"),
    ("-32600", "no valid request"),
    ("-32602", "wrong arguments"),
];
/// What the server's own count of errors calls it.
const TYPES: [&str; 3] = ["validation_error", "invalid_message", "invalid_arguments"];

/// What has no code is invalid in a way that nobody tells.
fn is_invalid(series: &Series) -> bool {
    series.label(Label::Code).is_none_or(|code| CODES.iter().any(|(known, _)| *known == code))
}

/// By code, or by the type of errors, whichever sees more.
fn counted(view: &View, span: Span) -> Option<f64> {
    let by_code = view.failures(Measure::InvalidMessages, span, is_invalid)?;
    let is_of_type = |one: &Series| one.label(Label::Type).is_some_and(|kind| TYPES.contains(&kind));
    Some(view.failures(Measure::Errors, span, is_of_type)?.max(by_code))
}

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let rise = match Rise::of(server, view, &counted) {
        Ok(rise) => rise,
        Err(none) => return none,
    };
    let mut evidence = vec![rise.words(view, "are no valid MCP")];
    let invalid = view.series(Measure::InvalidMessages, Span::Window).filter(|one| is_invalid(one));
    let codes = view.by(invalid, Label::Code);
    if let Some(codes) = by::top(view, &codes) {
        let known = CODES.iter().find(|(code, _)| codes.starts_with(&format!("{code} ")));
        let means = known.map(|(code, means)| format!("; {code}: {means}")).unwrap_or_default();
        evidence.push(format!("most by code: {codes}{means}"));
    }
    let is_to_blame =
        by::rollout_is_to_blame(case, IncidentType::InvalidMessages, server, view, |view, span| {
            rise.is_so_of(view, span, &counted)
        });
    evidence.push(if is_to_blame {
        by::blame_words(server)
    } else {
        "the clients send what the server does not understand: compare their versions with its".to_owned()
    });
    let (cause, severity) =
        if is_to_blame { (Cause::BadRollout, Severity::SEV3) } else { (Cause::Clients, Severity::SEV4) };
    let found = Found::by(Measure::InvalidMessages, cause, severity, evidence);
    Read::Found(Found { shown_by: Measure::Requests, ..found })
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    if cause == Cause::BadRollout { &[ActionType::Rollback] } else { &[] }
}
