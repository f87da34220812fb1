//! DatabaseCorruption: the database finds its own data damaged (guide 004, Severity Levels: SEV1).
//!
//! Judged by failed checksums, and by SQLSTATE XX001 and XX002. Whatever writes makes it worse, so nothing is
//! done, and nothing else is while it is so: a person restores. It stays until the counter was reset, or a
//! person says since when all is well.

use mcp_health_api::{ActionType, Cause, IncidentType, SETTLED_ANNOTATION, Severity};

use super::entry::{Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server, database,
    finding::{Finding, Judgement},
    signals::Database,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::DatabaseCorruption,
    rule: Rule::Plain(judge),
    needs: Needs::All(&[Evidence::Database]),
    at_zero: true,
    guide: &[("004", "Severity Levels")],
    ..USUAL
};

/// New pods write, whatever brings them; so do Jobs and hooks.
const WRITES: &[ActionType] = &[
    ActionType::RolloutRestart,
    ActionType::RecyclePod,
    ActionType::DrainAndRestart,
    ActionType::Rollback,
    ActionType::RollbackConfig,
    ActionType::Scale,
    ActionType::RaiseResources,
    ActionType::RelaxStartupProbe,
    ActionType::SetEnv,
    ActionType::CallHook,
    ActionType::RunJob,
    ActionType::ResetCircuit,
    ActionType::EndDatabaseSessions,
];

fn judge(case: &Case, _: &Server) -> Judgement {
    let Some(seen) = database::asked(case) else { return Judgement::Unknown };
    if let Some(words) = database::damage(case, seen) {
        return Judgement::Found(finding(case, words, seen));
    }
    if database::of(case).is_some() && is_settled(case, seen) { Judgement::Clear } else { Judgement::Unknown }
}

/// What was found once is not undone by reading elsewhere, nor by a counter that is off.
fn is_settled(case: &Case, seen: &Database) -> bool {
    let Some(open) = case.open(IncidentType::DatabaseCorruption) else { return true };
    let by_a_person = case.signals.settled.is_some_and(|settled| settled >= open.since.0);
    let by_counter = seen.checksum_failures.is_some_and(|(count, _)| count == 0);
    by_a_person || (by_counter && open.cause == Cause::ChecksumFailure)
}

fn finding(case: &Case, words: String, seen: &Database) -> Finding {
    let last = seen.checksum_failures.filter(|(count, _)| *count > 0).and_then(|(_, last)| last);
    let cause = if seen.damage.is_some() { Cause::DataDamaged } else { Cause::ChecksumFailure };
    let since = last.map_or(case.now, |last| database::since(case, seen.at.duration_since(last)));
    let evidence = vec![
            words,
            "keep its files as they are; stop what writes to it; restore the last backup that is whole (guide 004, \
             Restore), or fail over to a replica that is well"
                .to_owned(),
            "nothing is restarted, rolled back, ended or vacuumed meanwhile".to_owned(),
            format!(
                "over when the counter of failed checksums was reset (pg_stat_reset), or when annotation \
                 {SETTLED_ANNOTATION} of this object holds a later moment, as {:.0}",
                case.now
            ),
    ];
    Finding {
        forbids: WRITES,
        ..Finding::new(IncidentType::DatabaseCorruption, cause, Severity::SEV1, since, evidence)
    }
}
