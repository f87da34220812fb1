//! DiskFilling: the space that a pod may use runs out, or its database can write nothing more.
//!
//! Judged by the kubelets' statistics: 80 % is SEV3, 95 % is SEV2. The pod's own space goes with the pod,
//! before the kubelet evicts it; data on a volume that outlives the pod is a person's.
//!
//! And by PostgreSQL, which is asked each minute to write a temporary file: reads go on when its disk is
//! full. That is SEV2 and comes before a space of the server's own; a person makes room, and no pod is
//! restarted or added meanwhile. Each is over by its own word only: what of it an open incident tells must be
//! seen to be well.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, IncidentType, PostgresSignal, Severity, Subject, SubjectKind};

use super::{
    by_metrics as by,
    dependency_down::forbidden,
    entry::{Entry, Evidence, Needs, Rule, USUAL},
};
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement, is_about},
    signals::{Database, Pod, Volume, VolumeKind, database::DiskFull},
    time::lapse,
    usage::mib,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DiskFilling,
    rule: Rule::Plain(judge),
    needs: Needs::Any(&[Evidence::Volumes, Evidence::Database]),
    explained_by_dependency: |finding, _| finding.cause == Cause::DatabaseDisk,
    worst_pod: worst,
    runbook,
    guide: &[("003", "Resource Usage")],
    ..USUAL
};

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
    let seen = spaces(case, server);
    let spaces = seen.as_deref().unwrap_or_default();
    let full: Vec<_> = spaces.iter().filter(|(_, space)| fullness(space) > Fullness::Well).copied().collect();
    let disk = database::asked(case).and_then(|one| Some((one, one.disk_full.fresh()?)));
    let told = told(case);
    if let Some((database, Some(disk))) = disk {
        let mut finding = of_database(case, server, (database, disk), &full);
        // A space of the server's own that only this look cannot see stays told.
        if seen.is_none() {
            for hidden in told.spaces {
                let (kind, name) = (hidden.kind, &hidden.name);
                finding.evidence.push(format!("{kind} {name}: it cannot be seen whether it has room again"));
                finding.subjects.push(hidden.clone());
            }
        }
        return Judgement::Found(finding);
    }
    // That nobody can ask does not mean that there is room again.
    let hidden = told.of_database && disk.is_none() && case.spec.signals.postgres.is_some();
    if full.is_empty() {
        return if !hidden && is_over(&told, seen.as_deref()) {
            Judgement::Clear
        } else {
            Judgement::Unknown
        };
    }
    Judgement::Found(of_spaces(case, server, &full, hidden))
}

/// What an open incident tells of.
#[derive(Default)]
struct Told<'a> {
    of_database: bool,
    of_spaces: bool,
    of_claim: bool,
    /// The spaces of the server's own.
    spaces: Vec<&'a Subject>,
}

fn told<'a>(case: &Case<'a>) -> Told<'a> {
    let Some(open) = case.open(IncidentType::DiskFilling) else { return Told::default() };
    let spaces: Vec<_> = open.subjects.iter().filter(|one| one.kind != SubjectKind::Database).collect();
    Told {
        of_database: open.cause == Cause::DatabaseDisk || is_about(open, SubjectKind::Database),
        of_spaces: open.cause != Cause::DatabaseDisk || !spaces.is_empty(),
        of_claim: open.cause == Cause::VolumeData || is_about(open, SubjectKind::PersistentVolumeClaim),
        spaces,
    }
}

/// The database that is declared.
fn the_database() -> Subject {
    Subject::new(SubjectKind::Database, PostgresSignal::NAME)
}

/// What spaces are of: the claims behind them, or pods.
fn subjects(spaces: &[(&Pod, &Volume)]) -> BTreeSet<Subject> {
    let subject = |(pod, space): &(&Pod, &Volume)| match space.kind {
        VolumeKind::Claim => Subject::new(SubjectKind::PersistentVolumeClaim, &space.name),
        VolumeKind::Ephemeral | VolumeKind::Files | VolumeKind::Logs => {
            Subject::new(SubjectKind::Pod, &pod.name)
        }
    };
    spaces.iter().map(subject).collect()
}

/// Whether the spaces, of which none is full, are known to be well as far as an open incident tells of them.
fn is_over(told: &Told, spaces: Option<&[(&Pod, &Volume)]>) -> bool {
    let Some(spaces) = spaces else { return told.of_database && !told.of_spaces };
    // A claim that nobody mounts at this moment is as full as it was.
    !told.of_claim || spaces.iter().any(|(_, space)| space.kind == VolumeKind::Claim)
}

/// Spaces of the server's own. `hidden`: the database's disk was full, and it cannot be seen whether it still
/// is.
fn of_spaces(case: &Case, server: &Server, full: &[(&Pod, &Volume)], hidden: bool) -> Finding {
    let kind = full.first().map(|(_, space)| space.kind);
    let is_full = full.iter().any(|(_, space)| fullness(space) == Fullness::Full);
    let mut evidence: Vec<String> = full.iter().take(4).map(|(pod, space)| describe(pod, space)).collect();
    if hidden {
        evidence.push("PostgreSQL: it cannot be seen whether its disk, which was full, still is".to_owned());
    }
    let own = full.iter().filter(|(_, space)| space.kind != VolumeKind::Claim);
    Finding {
        subjects: hidden.then(the_database).into_iter().chain(subjects(full)).collect(),
        youngest_pod: own.map(|(pod, _)| pod.created).max(),
        lapses: lapse(full.iter().map(|(_, space)| space.at), STALE),
        forbids: if hidden { forbidden(server) } else { &[] },
        ..Finding::new(
            IncidentType::DiskFilling,
            match kind {
                Some(VolumeKind::Claim) => Cause::VolumeData,
                Some(VolumeKind::Logs) => Cause::ContainerLogs,
                _ => Cause::TemporaryFiles,
            },
            if is_full { Severity::SEV2 } else { Severity::SEV3 },
            full.iter().map(|(_, space)| space.at).min().unwrap_or(case.now),
            evidence,
        )
    }
}

/// The database's disk, and what else is full.
fn of_database(
    case: &Case,
    server: &Server,
    (database, disk): (&Database, &DiskFull),
    full: &[(&Pod, &Volume)],
) -> Finding {
    let mut evidence: Vec<String> = database::disk_words(database).into_iter().collect();
    evidence.extend(what_takes_the_space(disk));
    let slot = if disk.slots.iter().any(|slot| !slot.is_active) {
        ", or drop the replication slot that nobody reads from (pg_drop_replication_slot)"
    } else {
        ""
    };
    evidence.push(format!(
        "enlarge its volume{slot}, or remove rows or tables that nobody needs; never remove files from pg_wal"
    ));
    evidence.push("no pod is restarted or added meanwhile: that would make no room".to_owned());
    evidence.extend(full.iter().take(3).map(|(pod, space)| describe(pod, space)));
    Finding {
        subjects: [the_database()].into_iter().chain(subjects(full)).collect(),
        forbids: forbidden(server),
        ..Finding::new(IncidentType::DiskFilling, Cause::DatabaseDisk, Severity::SEV2, case.now, evidence)
    }
}

/// `its space: 9.5 GiB this database, …; replication slot standby, which nobody reads from, keeps … of it`.
fn what_takes_the_space(disk: &DiskFull) -> Option<String> {
    let sizes = [
        ("this database", disk.database),
        ("all databases", disk.all),
        ("the write-ahead log (pg_wal)", disk.wal),
    ];
    let sizes = sizes.into_iter().filter_map(|(what, bytes)| Some(format!("{what} {}", mib(bytes?))));
    let slots = disk.slots.iter().map(|slot| {
        format!(
            "replication slot {}, {}, keeps {} of the log",
            by::foreign(&slot.name),
            if slot.is_active { "which is read from" } else { "which nobody reads from" },
            mib(slot.kept)
        )
    });
    let all: Vec<String> = sizes.chain(slots).collect();
    (!all.is_empty()).then(|| format!("what takes its space: {}", words::shorten(&all.join("; "), 400)))
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
        Cause::VolumeData | Cause::DatabaseDisk => &[],
        _ if server.rollout_is_to_blame() => &[ActionType::Rollback, ActionType::RecyclePod],
        _ => &[ActionType::RecyclePod],
    }
}
