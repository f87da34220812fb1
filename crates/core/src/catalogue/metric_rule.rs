//! The shape that rules on metrics have in common: without metrics they say nothing; what they find is so
//! now, lapses with the series that show it, and says where those come from.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Measure, Severity};

use super::by_metrics as by;
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    metrics::View,
};

/// A rule that is asked with the metrics of the server, where there are any.
pub type MetricRule = fn(&Case, &Server, &View) -> Read;

/// What such a rule says.
pub enum Read {
    /// It is not so.
    Clear,
    /// It cannot be told.
    Unknown,
    /// Nobody asks the server for anything, or too few do to tell: the operator's own probes tell whether all
    /// is well.
    Quiet,
    /// It is so.
    Found(Found),
}

/// What such a rule finds.
pub struct Found {
    pub cause: Cause,
    pub severity: Severity,
    pub evidence: Vec<String>,
    /// Its series show it: the finding lapses with them.
    pub shown_by: Measure,
    /// Evidence ends with where this comes from.
    pub source: Measure,
    pub youngest_pod: Option<Timestamp>,
    pub forbids: &'static [ActionType],
}

impl Found {
    /// What one measure shows and forbids nothing.
    pub fn by(measure: Measure, cause: Cause, severity: Severity, evidence: Vec<String>) -> Self {
        let (shown_by, source) = (measure, measure);
        Self { cause, severity, evidence, shown_by, source, youngest_pod: None, forbids: &[] }
    }
}

/// Asks the rule of an incident type. Where it waits for a symptom to last, what is found is one.
pub fn judge(
    incident: IncidentType,
    lasting: Option<SignedDuration>,
    rule: MetricRule,
    case: &Case,
    server: &Server,
) -> Judgement {
    let Some(view) = View::of(case, server) else { return Judgement::Unknown };
    let mut found = match rule(case, server, &view) {
        Read::Clear => return Judgement::Clear,
        Read::Unknown => return Judgement::Unknown,
        Read::Quiet => return by::by_probes(case),
        Read::Found(found) => found,
    };
    found.evidence.push(by::source(&view, found.source));
    let finding = Finding {
        youngest_pod: found.youngest_pod,
        lapses: by::lapses(&view, found.shown_by),
        forbids: found.forbids,
        ..Finding::new(incident, found.cause, found.severity, case.now, found.evidence)
    };
    match lasting {
        Some(lasting) => Judgement::Symptom { finding, lasting },
        None => Judgement::Found(finding),
    }
}
