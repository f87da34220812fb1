//! CpuSaturation: the containers use more than 80 % of the CPU that they may, for five minutes (guide 003,
//! Application Monitoring; 004, Scaling).
//!
//! Judged by what metrics-server tells, averaged over the server's containers. Without a CPU limit there is nothing
//! to compare with.

use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::Entry;
use crate::{
    Case, Server,
    diagnose::{Finding, Judgement},
    signals::Pod,
    usage::{self, Load, Windows},
    words,
};

pub const ENTRY: Entry = Entry { incident: IncidentType::CpuSaturation, judge, looks_back: false, runbook };

fn judge(case: &Case, server: &Server) -> Judgement {
    if server.target.desired == 0 {
        return Judgement::Clear;
    }
    match load(case, server) {
        Load::Unknown => Judgement::Unknown,
        Load::Below => Judgement::Clear,
        Load::Rising { until } => Judgement::Suspected { until },
        Load::Saturated(load) => {
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
            Judgement::Found(Finding {
                incident: IncidentType::CpuSaturation,
                rule: None,
                cause: Cause::Saturation,
                severity: Severity::SEV3,
                since: load.since,
                evidence,
                youngest_pod: None,
                lapses: super::once_stale([load.seen].into_iter()),
                forbids: &[],
            })
        }
    }
}

fn load(case: &Case, server: &Server) -> Load {
    let Some(usage) = case.signals.usage.fresh() else { return Load::Unknown };
    let (pods, window) = (server.current_pods(), Windows::of(case.spec).load);
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
