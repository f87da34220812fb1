//! The policy's own rules (`spec.rules`): each is a query and a number, and what lies beyond it is an
//! incident of the rule's name. Asked after the catalogue; what the catalogue finds is nearer to the root.
//!
//! Absent is not zero: a query without an answer, a number that is none, and an answer of some time ago
//! neither open nor close anything. A rule that is gone from the policy finds nothing any more.

use std::cmp::Ordering;

use jiff::SignedDuration;
use mcp_health_api::{Cause, Decimal, Incident, IncidentType, UserRule};

use super::entry::{Entry, USUAL};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    mask::mask,
    metrics::STALE,
    signals::Pod,
    time::lapse,
    words,
};

/// What holds for the incidents of these rules: their queries look back, and their numbers are the policy's.
pub const ENTRY: Entry = Entry { looks_back: true, explained_by_dependency: |_, _| true, ..USUAL };

/// The most values that evidence names.
const SHOWN: usize = 4;

/// Which side of the number is an incident.
#[derive(Clone, Copy)]
enum Bound {
    Above(f64),
    Below(f64),
}

impl Bound {
    /// The rule's; `None` where it has no number.
    fn of(rule: &UserRule) -> Option<Self> {
        let number = |decimal: &Decimal| Some(decimal.value()).filter(|value| value.is_finite());
        match (&rule.above, &rule.below) {
            (Some(above), None) => number(above).map(Self::Above),
            (None, Some(below)) => number(below).map(Self::Below),
            _ => None,
        }
    }

    fn is_crossed_by(self, value: f64) -> bool {
        match self {
            Self::Above(bound) => value > bound,
            Self::Below(bound) => value < bound,
        }
    }

    /// The worst value first.
    fn order(self, (one, a): (&str, f64), (other, b): (&str, f64)) -> Ordering {
        let by_value = match self {
            Self::Above(_) => b.total_cmp(&a),
            Self::Below(_) => a.total_cmp(&b),
        };
        by_value.then_with(|| one.cmp(other))
    }
}

/// What a rule's answer comes to: the values beyond its number, the worst first.
fn beyond<'a>(case: &Case<'a>, rule: &UserRule) -> Option<Vec<(&'a str, f64)>> {
    let bound = Bound::of(rule)?;
    let reading = case.signals.rules.fresh()?.iter().find(|reading| reading.name == rule.name)?;
    let values = reading.values.as_ref().ok().filter(|values| !values.is_empty())?;
    if case.now.duration_since(reading.at) > STALE {
        return None;
    }
    let finite = values.iter().filter(|(_, value)| value.is_finite());
    let beyond = finite.map(|(labels, value)| (labels.as_str(), *value));
    let mut beyond: Vec<_> = beyond.filter(|(_, value)| bound.is_crossed_by(*value)).collect();
    beyond.sort_by(|one, other| bound.order(*one, *other));
    // What is no number may be beyond it as well: only a whole answer tells that all is well.
    (!beyond.is_empty() || values.iter().all(|(_, value)| value.is_finite())).then_some(beyond)
}

/// What one rule says.
pub fn judge(case: &Case, rule: &UserRule) -> Judgement {
    let Some(values) = beyond(case, rule) else { return Judgement::Unknown };
    if values.is_empty() {
        return Judgement::Clear;
    }
    let seen = case.signals.rules.fresh().into_iter().flatten().filter(|reading| reading.name == rule.name);
    let finding = Finding {
        rule: Some(rule.name.clone()),
        lapses: lapse(seen.map(|reading| reading.at), STALE),
        ..Finding::new(IncidentType::Rule, Cause::OwnRule, rule.severity, case.now, evidence(rule, &values))
    };
    let lasting = rule.hold_for.map_or(SignedDuration::ZERO, mcp_health_api::Duration::span);
    Judgement::Symptom { finding, lasting }
}

fn evidence(rule: &UserRule, values: &[(&str, f64)]) -> Vec<String> {
    let (side, bound) = match (&rule.above, &rule.below) {
        (Some(above), _) => ("above", above.0.as_str()),
        (None, Some(below)) => ("below", below.0.as_str()),
        (None, None) => ("beyond", ""),
    };
    let lasting = rule.hold_for.filter(|lasting| *lasting != mcp_health_api::Duration::default());
    let lasting = lasting.map(|lasting| format!(" for {lasting}")).unwrap_or_default();
    let line = |(labels, value): &(&str, f64)| {
        let what = if labels.is_empty() { rule.name.clone() } else { words::shorten(&mask(labels), 200) };
        format!("{what}: {} is {side} {bound}{lasting}", words::number(*value))
    };
    let mut lines: Vec<_> = values.iter().take(SHOWN).map(line).collect();
    if values.len() > SHOWN {
        lines.push(format!("and {} besides", words::count(values.len() - SHOWN, "value")));
    }
    lines.push(format!("query: {}", rule.promql));
    lines
}

/// The pod that shows it most: the one whose name stands among what tells the worst value from the others.
pub fn worst<'a>(case: &Case<'a>, server: &Server<'a>, rule: &str) -> Option<&'a Pod> {
    let rule = case.spec.rules.iter().find(|one| one.name == rule)?;
    let values = beyond(case, rule)?;
    values.iter().find_map(|(labels, _)| {
        let mut names = labels.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'));
        names.find_map(|name| server.pods.iter().copied().find(|pod| pod.name == name))
    })
}

/// Whether the rule that opened an incident is gone from the policy.
pub fn is_gone(case: &Case, incident: &Incident) -> bool {
    match &incident.rule {
        Some(rule) => !case.spec.rules.iter().any(|one| &one.name == rule),
        None => incident.incident_type == IncidentType::Rule,
    }
}
