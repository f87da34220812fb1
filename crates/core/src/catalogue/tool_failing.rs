//! ToolFailing: a tool fails while others are well (guide 001, Tool Execution Errors; 004: a single tool
//! failing is SEV3).
//!
//! Judged by the server's own count of errors and of calls, by tool. Where calls are not counted, nothing is
//! told.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Label, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, METRIC, Rule, Threshold},
    metric_rule::{Found, Read},
};
use crate::{Case, Server, database, metrics::View, signals::Span, words};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::ToolFailing,
    rule: Rule::Metric(judge),
    lasting: Some(LASTING),
    thresholds: &[Threshold::Percent, Threshold::MinRequests],
    runbook,
    guide: &[("001", "Tool Execution Failures"), ("004", "Severity Levels")],
    ..METRIC
};

/// More than this share of a tool's calls fails, in percent.
const PERCENT: f64 = 25.0;
/// Fewer calls of a tool in the window tell nothing.
const FEWEST: u32 = 10;
/// The window smooths already.
const LASTING: SignedDuration = SignedDuration::from_mins(1);

/// What becomes of a tool's calls, in the window.
#[derive(Clone, Copy, Debug)]
struct Tool<'a> {
    name: &'a str,
    calls: f64,
    failed: f64,
}

impl Tool<'_> {
    fn percent(&self) -> f64 {
        by::share(self.failed, self.calls)
    }
}

/// Every tool whose calls are counted, the one that fails most first; `None` where nothing is.
fn tools<'a>(view: &View<'a>) -> Option<Vec<Tool<'a>>> {
    let metrics = view.metrics();
    let unseen = |measure| metrics.missing(measure, Span::Window).is_some();
    let calls = view.by(view.series(Measure::ToolCalls, Span::Window), Label::Tool);
    if calls.is_empty() || unseen(Measure::ToolCalls) || unseen(Measure::Errors) {
        return None;
    }
    let failed: BTreeMap<&str, f64> =
        view.by(view.series(Measure::Errors, Span::Window), Label::Tool).into_iter().collect();
    let failed = |name| failed.get(name).copied().unwrap_or_default();
    let tool =
        |(name, calls)| Tool { name, calls: view.in_window(calls), failed: view.in_window(failed(name)) };
    let mut tools: Vec<Tool> = calls.into_iter().map(tool).collect();
    tools.sort_by(|a, b| b.percent().total_cmp(&a.percent()).then(b.failed.total_cmp(&a.failed)));
    Some(tools)
}

fn judge(case: &Case, server: &Server, view: &View) -> Read {
    let Some(tools) = tools(view) else { return Read::Unknown };
    let thresholds = by::thresholds(case, IncidentType::ToolFailing);
    let (threshold, fewest) = (by::percent(&thresholds, PERCENT), by::fewest(&thresholds, FEWEST));
    let fails = |tool: &&Tool| by::is_above(tool.percent(), threshold);
    let failing: Vec<Tool> =
        tools.iter().filter(fails).filter(|tool| tool.calls >= fewest).copied().collect();
    let well = tools.iter().filter(|tool| tool.calls > 0.0 && !fails(tool)).count();
    if !failing.is_empty() {
        // Where most tools fail, it is no tool's fault: that is a high error rate.
        return if failing.len() <= well {
            Read::Found(find(case, server, view, &failing, threshold))
        } else {
            Read::Unknown
        };
    }
    let is_open = case.open(IncidentType::ToolFailing).is_some();
    let unsure = tools.iter().any(|tool| fails(&tool));
    if unsure || !view.unseen(&server.current_pods()).is_empty() {
        Read::Unknown
    } else if is_open && tools.iter().any(|tool| tool.calls < fewest) {
        // The tool that failed may be the one that nobody calls any more.
        Read::Quiet
    } else {
        Read::Clear
    }
}

fn find(case: &Case, server: &Server, view: &View, failing: &[Tool], threshold: f64) -> Found {
    let window = words::span(view.metrics().window);
    let describe = |tool: &Tool| {
        format!(
            "tool {}: {} % of its calls fail: {} of {} in the last {window} (threshold {} %)",
            by::foreign(tool.name),
            by::number(tool.percent()),
            by::count(tool.failed.min(tool.calls)),
            by::count(tool.calls),
            by::number(threshold),
        )
    };
    let mut evidence: Vec<String> = failing.iter().take(3).map(describe).collect();
    if failing.len() > evidence.len() {
        evidence.push(format!("{} in all fail in this way", words::count(failing.len(), "tool")));
    }
    let types = types(view, failing);
    evidence.extend(by::top(view, &types).map(|types| format!("most by type: {types}")));
    let fails = |view: &View, span: Span| {
        // Calls of the hour before are not kept.
        let tools = tools(view).filter(|_| span == Span::Window)?;
        let same = tools.into_iter().filter(|one| failing.iter().any(|known| known.name == one.name));
        let mut same = same.filter(|tool| tool.calls > 0.0).peekable();
        same.peek().is_some().then(|| same.any(|tool| by::is_above(tool.percent(), threshold)))
    };
    let cause = if by::rollout_is_to_blame(case, IncidentType::ToolFailing, server, view, fails) {
        evidence.push(by::blame_words(server));
        Cause::BadRollout
    } else {
        types.first().map_or(Cause::ToolErrors, |(kind, _)| of_type(kind))
    };
    evidence.push("the other tools are well".to_owned());
    evidence.extend(by::unseen_words(&view.unseen(&server.current_pods())));
    let found = Found::by(Measure::Errors, cause, Severity::SEV3, evidence);
    Found { shown_by: Measure::ToolCalls, ..found }
}

/// What the failing tools fail with, the most first.
fn types<'a>(view: &View<'a>, failing: &[Tool]) -> Vec<(&'a str, f64)> {
    let errors = view.series(Measure::Errors, Span::Window);
    let theirs = errors.filter(|one| {
        one.label(Label::Tool).is_some_and(|name| failing.iter().any(|tool| tool.name == name))
    });
    view.by(theirs, Label::Type)
}

/// What a type of error speaks of, by the words of the guides (001, Tool Execution Errors).
fn of_type(kind: &str) -> Cause {
    let kind = kind.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    if is(&["timeout", "timed_out"]) {
        Cause::ToolTimeout
    } else if is(&["not_found", "unknown_tool"]) {
        Cause::ToolNotFound
    } else if is(&["validation", "argument", "invalid"]) {
        Cause::ToolArguments
    } else if database::is_named_by(&kind)
        || is(&["dependency", "circuit", "connection", "network", "unavailable", "upstream"])
    {
        Cause::ToolDependency
    } else {
        Cause::ToolErrors
    }
}

fn runbook(cause: Cause, _: &Server) -> &'static [ActionType] {
    match cause {
        Cause::BadRollout => &[ActionType::Rollback],
        _ => &[],
    }
}
