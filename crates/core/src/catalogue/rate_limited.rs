//! RateLimited: more requests than before are turned away because their clients send too many (guide 000, Rate
//! Limiting: 429). Whoever sends them, or sets the limit, is a person.

use mcp_health_api::{Cause, IncidentType, Label, Measure, Severity};

use super::{
    Entry, by_metrics as by,
    rise::{LASTING, Rise},
};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    metrics::View,
    signals::Span,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::RateLimited,
    judge,
    looks_back: true,
    explained_by_dependency: super::by_dependency,
    runbook: |_, _| &[],
};

/// By the status of answers, or by the server's own count, whichever sees more.
fn counted(view: &View, span: Span) -> Option<f64> {
    let by_status = view.requests(span).filter(|one| one.label(Label::Status) == Some("429"));
    let by_status: f64 = by_status.map(|one| one.value.max(0.0)).sum();
    Some(view.failures(Measure::RateLimited, span, |_| true)?.max(by_status))
}

fn judge(case: &Case, server: &Server) -> Judgement {
    if server.target.desired == 0 {
        return Judgement::Clear;
    }
    let Some(view) = View::of(case, server) else { return Judgement::Unknown };
    let rise = match Rise::of(server, &view, &counted) {
        Ok(rise) => rise,
        Err(none) => return none.judgement(case),
    };
    let mut evidence = vec![rise.words(&view, "are turned away (429)")];
    let clients = view.by(view.series(Measure::RateLimited, Span::Window), Label::Client);
    evidence.push(match by::top(&view, &clients) {
        Some(clients) => format!("most by client: {clients}"),
        None => "the server does not tell which clients".to_owned(),
    });
    evidence.push("the clients slow down (Retry-After), or a person raises their limit".to_owned());
    evidence.push(by::source(&view, Measure::Requests));
    let finding = Finding {
        incident: IncidentType::RateLimited,
        rule: None,
        cause: Cause::Clients,
        severity: Severity::SEV4,
        since: case.now,
        evidence,
        youngest_pod: None,
        lapses: by::lapse(&view, Measure::Requests),
        forbids: &[],
    };
    Judgement::Symptom { finding, lasting: LASTING }
}
