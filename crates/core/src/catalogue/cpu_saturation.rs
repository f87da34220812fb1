//! CpuSaturation: the containers use more than 80 % of the CPU that they may, for five minutes.
//!
//! Judged by what metrics-server or Prometheus tells, averaged over the server's containers; or by how often
//! their limit stops them, which short peaks show and means do not. Without a CPU limit there is nothing to
//! compare with.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Measure, Severity};

use super::{
    by_metrics as by,
    entry::{Entry, Evidence, Needs, Rule, USUAL},
};
use crate::{
    Case, Server,
    finding::{Finding, Judgement},
    metrics::View,
    signals::{Pod, Reading},
    usage::{self, Load, UsageWindows},
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::CpuSaturation,
    rule: Rule::Plain(judge),
    needs: Needs::Any(&[Evidence::Usage, Evidence::Metrics]),
    lasting: Some(usage::LOAD_WINDOW),
    looks_back: true,
    worst_pod: worst,
    runbook,
    guide: &[("003", "Resource Usage"), ("002", "High CPU Usage")],
    ..USUAL
};

/// How long containers are throttled; the window smooths already.
const LASTING: SignedDuration = SignedDuration::from_mins(1);

fn judge(case: &Case, server: &Server) -> Judgement {
    let view = View::of(case, server);
    let throttled = view.as_ref().and_then(by::throttled_words);
    match (load(case, server), throttled) {
        (Load::Saturated(load), throttled) => {
            let mut evidence = vec![format!(
                "CPU: {} m of {} m used for {} ({} %), averaged over {}",
                load.used,
                load.limit,
                words::span(load.seen.duration_since(load.since)),
                load.percent,
                words::count(load.containers, "container"),
            )];
            if load.containers > 1 {
                evidence.push(format!("the busiest pod is {}: {} %", load.busiest.0, load.busiest.1));
            }
            evidence.extend(throttled);
            let lapses = usage::once_stale([load.seen].into_iter());
            Judgement::Found(Finding {
                lapses,
                since: load.since,
                ..finding(Cause::Saturation, evidence, case)
            })
        }
        (_, Some(throttled)) => {
            let view = view.as_ref();
            let source = view.map(|view| by::source(view, Measure::CpuThrottledPeriods));
            let evidence = [throttled].into_iter().chain(source).collect();
            let lapses = view.and_then(|view| by::lapses(view, Measure::CpuPeriods));
            let finding = Finding { lapses, ..finding(Cause::CpuThrottled, evidence, case) };
            Judgement::Symptom { finding, lasting: LASTING }
        }
        (Load::Rising { until }, None) => Judgement::Suspected { until },
        (load, None) => match (load, view.as_ref().and_then(by::throttled)) {
            (Load::Below, None) if was_throttled(case) => Judgement::Unknown,
            (Load::Below, _) => Judgement::Clear,
            (_, Some(_)) if case.signals.usage == Reading::Off => Judgement::Clear,
            _ => Judgement::Unknown,
        },
    }
}

fn finding(cause: Cause, evidence: Vec<String>, case: &Case) -> Finding {
    Finding::new(IncidentType::CpuSaturation, cause, Severity::SEV3, case.now, evidence)
}

/// What is open was found by what cannot be seen now.
fn was_throttled(case: &Case) -> bool {
    let mut open = case.status.incidents.iter();
    open.any(|one| one.incident_type == IncidentType::CpuSaturation && one.cause == Cause::CpuThrottled)
}

fn load(case: &Case, server: &Server) -> Load {
    let Some(usage) = case.signals.usage.fresh() else { return Load::Unknown };
    let (pods, window) = (server.current_pods(), UsageWindows::of(case.spec).load);
    usage::load(&pods, &server.target.containers, usage, window, case.now)
}

/// The busiest pod.
pub(super) fn worst<'a>(case: &Case, server: &Server<'a>) -> Option<&'a Pod> {
    let Load::Saturated(load) = load(case, server) else { return None };
    server.pods.iter().copied().find(|pod| pod.name == load.busiest.0)
}

fn runbook(_: Cause, server: &Server) -> &'static [ActionType] {
    if server.rollout_is_to_blame() {
        &[ActionType::Rollback, ActionType::Scale]
    } else {
        &[ActionType::Scale]
    }
}
