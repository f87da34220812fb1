//! DiskFilling: the space that a pod may use runs out (guide 004, Disk Space).
//!
//! Judged by the kubelets' statistics: 80 % is SEV3, 95 % is SEV2. The pod's own space goes with the pod, before the
//! kubelet evicts it; data on a volume that outlives the pod is a person's.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use super::Entry;
use crate::{
    Case, Server,
    diagnose::{Finding, Judgement},
    signals::{Pod, Volume, VolumeKind},
    usage::mib,
};

pub const ENTRY: Entry = Entry { incident: IncidentType::DiskFilling, judge, looks_back: false, runbook };

/// Statistics that are older tell nothing of now.
const STALE: SignedDuration = SignedDuration::from_mins(5);

/// How full a space is, as far as a verdict depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fullness {
    /// Below 80 %.
    Well,
    /// From 80 %.
    Filling,
    /// From 95 %.
    Full,
}

/// How full a space is.
fn fullness(volume: &Volume) -> Fullness {
    match percent(volume) {
        95.. => Fullness::Full,
        80..95 => Fullness::Filling,
        _ => Fullness::Well,
    }
}

/// Rounded down; of a space without bounds, 0.
fn percent(volume: &Volume) -> i128 {
    if volume.capacity <= 0 { 0 } else { i128::from(volume.used) * 100 / i128::from(volume.capacity) }
}

fn judge(case: &Case, server: &Server) -> Judgement {
    if server.target.desired == 0 {
        return Judgement::Clear;
    }
    let Some(spaces) = spaces(case, server) else { return Judgement::Unknown };
    let full: Vec<_> = spaces.iter().filter(|(_, space)| fullness(space) > Fullness::Well).collect();
    let Some((_, first)) = full.first() else {
        // A claim that nobody mounts at this moment is as full as it was.
        let claims = spaces.iter().any(|(_, space)| space.kind == VolumeKind::Claim);
        return if was_a_claim(case) && !claims { Judgement::Unknown } else { Judgement::Clear };
    };
    let own = || full.iter().filter(|(_, space)| space.kind != VolumeKind::Claim);
    Judgement::Found(Finding {
        incident: IncidentType::DiskFilling,
        rule: None,
        cause: match first.kind {
            VolumeKind::Claim => Cause::VolumeData,
            VolumeKind::Logs => Cause::ContainerLogs,
            VolumeKind::Ephemeral | VolumeKind::Files => Cause::TemporaryFiles,
        },
        severity: if fullness(first) == Fullness::Full { Severity::SEV2 } else { Severity::SEV3 },
        since: full.iter().map(|(_, space)| space.at).min().unwrap_or(case.now),
        evidence: full.iter().take(4).map(|(pod, space)| describe(pod, space)).collect(),
        youngest_pod: own().map(|(pod, _)| pod.created).max(),
        lapses: super::lapse(full.iter().map(|(_, space)| space.at), STALE),
        forbids: &[],
    })
}

/// The spaces of the pods in force, the fullest first, a claim once; `None` where they cannot be seen.
fn spaces<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<Vec<(&'a Pod, &'a Volume)>> {
    let volumes = case.signals.volumes.fresh()?;
    let pods = server.current_pods();
    let fresh = |at: Timestamp| case.now.duration_since(at) <= STALE;
    let mut spaces: Vec<_> = volumes
        .iter()
        .filter(|space| space.capacity > 0)
        .filter_map(|space| Some((pods.iter().copied().find(|pod| pod.name == space.pod)?, space)))
        .collect();
    if spaces.iter().any(|(_, space)| !fresh(space.at)) {
        return None;
    }
    spaces.sort_by_key(|(pod, space)| (Reverse(percent(space)), space.kind as u8, &pod.name));
    let mut claims = BTreeSet::new();
    spaces.retain(|(_, space)| space.kind != VolumeKind::Claim || claims.insert(&space.name));
    Some(spaces)
}

fn was_a_claim(case: &Case) -> bool {
    let open = case.status.incidents.iter();
    open.into_iter()
        .any(|one| one.incident_type == IncidentType::DiskFilling && one.cause == Cause::VolumeData)
}

/// The pod whose own space is fullest.
pub(super) fn worst<'a>(case: &Case<'a>, server: &Server<'a>) -> Option<&'a Pod> {
    let spaces = spaces(case, server)?;
    let own = spaces.into_iter().find(|(_, space)| space.kind != VolumeKind::Claim);
    own.filter(|(_, space)| fullness(space) > Fullness::Well).map(|(pod, _)| pod)
}

fn describe(pod: &Pod, space: &Volume) -> String {
    let what = match space.kind {
        VolumeKind::Claim => format!("PersistentVolumeClaim {} (in pod {})", space.name, pod.name),
        VolumeKind::Ephemeral => format!("pod {}, volume {}", pod.name, space.name),
        VolumeKind::Files => format!("pod {}, mostly its containers' files", pod.name),
        VolumeKind::Logs => format!("pod {}, mostly its containers' logs", pod.name),
    };
    format!("{what}: {} of {} used ({} %)", mib(space.used), mib(space.capacity), percent(space))
}

fn runbook(cause: Cause, server: &Server) -> &'static [ActionType] {
    match cause {
        Cause::VolumeData => &[],
        _ if server.rollout_is_to_blame() => &[ActionType::Rollback, ActionType::RecyclePod],
        _ => &[ActionType::RecyclePod],
    }
}
