//! RateLimited: more requests than before are turned away because their clients send too many (429). Whoever
//! sends them, or sets the limit, is a person.

use mcp_health_api::{Cause, IncidentType, Label, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, METRIC, Rule},
    metric_rule::{Found, Read},
    rise::{LASTING, Rise},
};
use crate::{Case, Server, metrics::View, signals::Span};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::RateLimited,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    guide: &[("000", "Rate Limiting Problems")],
    ..METRIC
};

/// By the status of answers, or by the server's own count, whichever sees more.
fn counted(view: &View, span: Span) -> Option<f64> {
    let by_status = view.requests(span).filter(|one| one.label(Label::Status) == Some("429"));
    let by_status: f64 = by_status.map(|one| one.value.max(0.0)).sum();
    Some(view.failures(Measure::RateLimited, span, |_| true)?.max(by_status))
}

fn judge(_: &Case, server: &Server, view: &View) -> Read {
    let rise = match Rise::of(server, view, &counted) {
        Ok(rise) => rise,
        Err(none) => return none,
    };
    let mut evidence = vec![rise.words(view, "are turned away (429)")];
    let clients = view.by(view.series(Measure::RateLimited, Span::Window), Label::Client);
    evidence.push(match by::top(view, &clients) {
        Some(clients) => format!("most by client: {clients}"),
        None => "the server does not tell which clients".to_owned(),
    });
    evidence.push("the clients slow down (Retry-After), or a person raises their limit".to_owned());
    Read::Found(Found::by(Measure::Requests, Cause::Clients, Severity::SEV4, evidence))
}
