//! Pods that are evicted by their node, replaced, and evicted again: the kubelet's reason is the evidence.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Cause, IncidentType, Severity};

use crate::{Case, Server, finding::Finding, mask::mask, signals::Pod, time::after, words};

/// Evictions within this time count.
const WINDOW: SignedDuration = SignedDuration::from_mins(15);
/// So many in a row, each of a pod that was created after the one before was evicted, are a loop. Pods that
/// are evicted together, because their node was under pressure once, are none.
const IN_A_ROW: usize = 3;

/// The loop, if there is one.
pub fn find(case: &Case, server: &Server) -> Option<Finding> {
    let mut evicted: Vec<&Pod> =
        server.uncounted.iter().copied().filter(|pod| pod.eviction().is_some()).collect();
    evicted.retain(|pod| case.now.duration_since(evicted_at(pod)) < WINDOW);
    evicted.sort_by_key(|pod| evicted_at(pod));
    let mut row: Vec<&Pod> = Vec::new();
    for pod in evicted {
        if row.last().is_none_or(|before| pod.created >= evicted_at(before)) {
            row.push(pod);
        }
    }
    let last = row.last().filter(|_| row.len() >= IN_A_ROW)?;
    let message = last.eviction()?;
    let first = row.first().map_or(case.now, |pod| evicted_at(pod));
    let lapses = row.iter().rev().nth(IN_A_ROW - 1).map(|pod| after(evicted_at(pod), WINDOW));
    Some(Finding {
        lapses,
        ..Finding::new(
            IncidentType::CrashLoop,
            Cause::Evicted,
            if server.ready() == 0 { Severity::SEV1 } else { Severity::SEV2 },
            first,
            vec![
                format!(
                    "pods are evicted again and again: {} in a row since {}",
                    row.len(),
                    words::moment(first)
                ),
                format!("pod {}: Evicted: {}", last.name, words::shorten(&mask(message), 300)),
            ],
        )
    })
}

fn evicted_at(pod: &Pod) -> Timestamp {
    pod.ready_changed.max(pod.created)
}

impl Pod {
    /// What its node says of why it ended it: for want of resources, or because it used more than it may.
    /// Where the containers end with code 0, the pod has succeeded, and only the Event tells.
    fn eviction(&self) -> Option<&str> {
        let said = self.lifecycle.failure.iter().chain(&self.troubles);
        let mut evicted = said.filter(|(reason, _)| self.finished && reason == "Evicted");
        evicted.next().map(|(_, message)| message.as_str())
    }
}
