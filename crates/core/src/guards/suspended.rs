//! The three switches that stop the operator: on the object, on its namespace, on the whole cluster.
//! A switch that cannot be read counts as thrown.

use mcp_health_api::SUSPEND_ANNOTATION;

use super::question::{GuardAnswer, GuardQuestion};
use crate::signals::Reading;

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    if question.case.spec.suspend {
        return GuardAnswer::hold("Suspended", "spec.suspend is true on this object");
    }
    let signals = question.case.signals;
    // It may have been suspended since.
    if let Some(problem) = signals.policy.problem("this object") {
        return GuardAnswer::hold("SwitchUnreadable", format!("{problem}; treated as suspended"));
    }
    let namespace = format!("the namespace is suspended by its annotation {SUSPEND_ANNOTATION}");
    switch(&signals.namespace_suspended, "NamespaceSuspended", &namespace, "the namespace's switch")
        .or_else(|| {
            let cluster = "the operator is suspended for the whole cluster by its switch";
            switch(&signals.cluster_suspended, "ClusterSuspended", cluster, "the cluster-wide switch")
        })
        .unwrap_or(GuardAnswer::Permit)
}

fn switch(reading: &Reading<bool>, reason: &'static str, thrown: &str, source: &str) -> Option<GuardAnswer> {
    match reading {
        Reading::Fresh(false) => None,
        Reading::Fresh(true) => Some(GuardAnswer::hold(reason, thrown)),
        Reading::Stale { .. } | Reading::Unavailable(_) | Reading::Forbidden(_) | Reading::Off => {
            let problem = reading.problem(source).unwrap_or_default();
            Some(GuardAnswer::hold("SwitchUnreadable", format!("{problem}; it counts as thrown")))
        }
    }
}
