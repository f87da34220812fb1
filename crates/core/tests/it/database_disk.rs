//! A disk that PostgreSQL can write nothing more to: what is found beside the spaces of the server's own, what it forbids,
//! what it explains, and by whose word it is over.

use mcp_health_api::{ActionType, Cause, IncidentType};
use mcp_health_core::signals::{
    Circuit, CircuitState, Database, Reading, Volume, VolumeKind,
    database::{DiskFull, Slot},
};

use crate::{
    database_rules::{based, database, scene},
    support::{
        measured::{Metrics, found, measured, pods, words},
        moment,
        operator::Operator,
        postgres::full_disk,
        scene::Scene,
        world::Template,
    },
};

use IncidentType::{CircuitStuckOpen, CrashLoop, DatabaseCorruption, DiskFilling, HighErrorRate};

type Change = &'static dyn Fn(&mut Scene);

const FULL: Change = &|scene| database(scene).disk_full = Reading::Fresh(Some(full_disk()));
const WELL: Change = &|scene| database(scene).disk_full = Reading::Fresh(None);
const HIDDEN: Change =
    &|scene| database(scene).disk_full = Reading::Unavailable("temp_file_limit (53400)".to_owned());
const GONE: Change = &|scene| scene.signals.database = Reading::Unavailable("it does not answer".to_owned());
/// Nothing but that is told.
const UNREAD: Change = &|scene| {
    let disk_full = Reading::Fresh(Some(full_disk()));
    let unread = Some("does not answer: no room (53100)".to_owned());
    scene.signals.database = Reading::Fresh(Database { disk_full, unread, ..Database::default() });
};

/// A claim, or the pod's own files, so many percent full.
fn space(scene: &mut Scene, kind: VolumeKind, percent: i64) {
    let pod = pods(scene)[0].clone();
    let (used, capacity, at) = (percent << 20, 100 << 20, moment(scene.now));
    scene.signals.volumes =
        Reading::Fresh(vec![Volume { pod, kind, name: "data".to_owned(), used, capacity, at }]);
}

const CLAIM: Change = &|scene| space(scene, VolumeKind::Claim, 99);
const FILES: Change = &|scene| space(scene, VolumeKind::Files, 85);
const ROOM: Change = &|scene| space(scene, VolumeKind::Claim, 10);
const UNSEEN: Change = &|scene| scene.signals.volumes = Reading::Unavailable("no statistics".to_owned());

#[test]
fn a_full_disk_of_the_database_comes_before_a_space_of_the_servers_own_and_neither_hides_the_other() {
    let rows: &[(&str, &[Change], &[Change], &str)] = &[
        ("all is well", &[], &[WELL, ROOM], "Clear"),
        ("full", &[], &[FULL], "SEV2 DatabaseDisk"),
        ("full, and nobody tells of spaces", &[], &[FULL, UNSEEN], "SEV2 DatabaseDisk"),
        ("full, and nothing else is told", &[], &[UNREAD, ROOM], "SEV2 DatabaseDisk"),
        ("full, and so is a claim", &[], &[FULL, CLAIM], "SEV2 DatabaseDisk"),
        ("a claim is", &[], &[WELL, CLAIM], "SEV2 VolumeData"),
        ("a claim is, and PostgreSQL is gone", &[], &[GONE, CLAIM], "SEV2 VolumeData"),
        ("there is room again", &[FULL], &[WELL], "Clear"),
        ("and nobody tells of spaces", &[FULL], &[WELL, UNSEEN], "Clear"),
        ("nobody can ask", &[FULL], &[GONE, ROOM], "Unknown"),
        ("nor does it say", &[FULL], &[HIDDEN, ROOM], "Unknown"),
        ("it is not declared any more", &[FULL], &[&|scene| scene.spec.signals.postgres = None], "Clear"),
        ("both were full, and the claim is", &[FULL, CLAIM], &[WELL, CLAIM], "SEV2 VolumeData"),
        ("both were, and the claim is unseen", &[FULL, CLAIM], &[WELL, UNSEEN], "Unknown"),
        ("both were, and the database is", &[FULL, CLAIM], &[FULL, ROOM], "SEV2 DatabaseDisk"),
        ("both were, and both are well", &[FULL, CLAIM], &[WELL, ROOM], "Clear"),
        ("a claim was, and PostgreSQL is gone", &[CLAIM], &[GONE, ROOM], "Clear"),
    ];
    for (what, before, now, expected) in rows {
        let scene = opened(before).with(|scene| now.iter().for_each(|change| change(scene)));
        assert_eq!(words(&scene, DiskFilling), *expected, "{what}");
    }
}

/// An incident of this is open, where there is anything.
fn opened(before: &[Change]) -> Scene {
    let mut scene = scene().with(|scene| before.iter().for_each(|change| change(scene)));
    if !before.is_empty() {
        assert_eq!(scene.open_incident().incident_type, DiskFilling);
    }
    scene
}

#[test]
fn while_it_is_full_or_nobody_can_tell_that_it_is_not_no_pod_is_restarted_or_added() {
    use ActionType::{DrainAndRestart, RecyclePod, Rollback, RolloutRestart, Scale};
    let all = [RolloutRestart, RecyclePod, DrainAndRestart, Scale, Rollback];
    let forbids = |scene: &Scene| found(scene, DiskFilling).forbids.to_vec();
    assert_eq!(forbids(&opened(&[]).with(FULL)), all);
    assert_eq!(opened(&[]).with(FULL).decision(), "Escalate NoAutomaticAction");
    let hidden = opened(&[FULL]).with(GONE).with(FILES);
    assert_eq!(forbids(&hidden), all);
    let evidence = found(&hidden, DiskFilling).evidence;
    assert!(evidence[1].contains("cannot be seen whether its disk"), "{evidence:#?}");
    // And what is told of it keeps it from being over.
    let mut hidden = hidden;
    hidden.open_incident();
    assert_eq!(words(&hidden.clone().with(ROOM), DiskFilling), "Unknown");
    assert_eq!(forbids(&opened(&[FILES]).with(GONE)), []);
}

#[test]
fn the_evidence_says_what_was_said_what_takes_the_space_and_what_not_to_remove() {
    let evidence = |disk: DiskFull| {
        let scene = scene().with(|scene| database(scene).disk_full = Reading::Fresh(Some(disk)));
        found(&scene, DiskFilling).evidence
    };
    assert_eq!(
        evidence(full_disk()),
        [
            "PostgreSQL mcp_prod at postgres.mcp:5432: its disk is full, and nothing more can be written: could not \
             write to file \"base/pgsql_tmp/pgsql_tmp81.0\": No space left on device (53100)",
            "what takes its space: this database 2048.0 MiB; all databases 2100.0 MiB; the write-ahead log (pg_wal) \
             8192.0 MiB; replication slot standby, which nobody reads from, keeps 8000.0 MiB of the log",
            "enlarge its volume, or drop the replication slot that nobody reads from (pg_drop_replication_slot), or \
             remove rows or tables that nobody needs; never remove files from pg_wal",
            "no pod is restarted or added meanwhile: that would make no room",
        ]
    );
    let slots = vec![Slot { name: "password=pl4nted".to_owned(), is_active: true, kept: 1 << 20 }];
    let told = evidence(DiskFull { said: "password=pl4nted".to_owned(), slots, ..DiskFull::default() });
    assert!(!told.iter().any(|line| line.contains("pl4nted")), "{told:#?}");
    assert!(told[2].starts_with("enlarge its volume, or remove rows"), "{told:#?}");
}

#[test]
fn what_it_explains_is_blamed_on_it() {
    let fails: Metrics = |all, pods| pods.iter().fold(all, |all, pod| all.answers(pod, 100.0, 50.0));
    for full in [FULL, UNREAD] {
        let finding = found(&measured(scene(), fails).with(full), HighErrorRate);
        assert_eq!(finding.cause, Cause::DatabaseConnection);
        assert!(finding.evidence.iter().any(|line| line.contains("its disk is full")), "{finding:#?}");
    }
    // A circuit that guards the database does its work.
    let circuit = |name: &'static str| {
        move |scene: &mut Scene| {
            let (pod, now) = (pods(scene)[0].clone(), scene.now);
            let last_failure = Some(moment(now - 600));
            scene.signals.circuits = Reading::Fresh(vec![Circuit {
                pod,
                name: name.to_owned(),
                state: CircuitState::Open,
                failures: None,
                threshold: None,
                last_failure,
                recovery: None,
                at: moment(now),
            }]);
        }
    };
    for (name, full, expected) in [
        ("database", WELL, "SEV3 GuardUnknown"),
        ("database", FULL, "Clear"),
        ("external-api", FULL, "SEV3 GuardUnknown"),
    ] {
        let scene = scene().with(circuit(name)).with(full);
        assert_eq!(words(&scene, CircuitStuckOpen), expected, "{name}");
    }
}

#[test]
fn a_view_of_which_the_sessions_could_not_be_read_tells_only_what_is_wrong_with_the_files() {
    let unread = scene().with(UNREAD);
    for incident in [
        IncidentType::DatabasePoolExhausted,
        IncidentType::DatabaseIdleInTransaction,
        IncidentType::DatabaseBlockingLocks,
        IncidentType::DatabaseSlowQueries,
        DatabaseCorruption,
    ] {
        assert_eq!(words(&unread, incident), "Unknown", "{incident}");
    }
    let problems = unread.signals.problems();
    assert!(problems.iter().any(|problem| problem == "its database: does not answer: no room (53100)"));
    assert_eq!(unread.signals.problems_of_sessions().len(), 1, "no session is ended by it");
    let damaged = unread.with(|scene| {
        let seen = database(scene);
        (seen.damage, seen.disk_full) = (Some("invalid page in block 7 (XX001)".to_owned()), Reading::Off);
    });
    assert_eq!(words(&damaged, DatabaseCorruption), "SEV1 DataDamaged");
    assert_eq!(damaged.decision(), "Escalate NoAutomaticAction");
    // What was found before is neither over by it, nor by a person's word that nobody can compare.
    let mut damaged = damaged;
    damaged.open_incident();
    let passed = damaged.with(UNREAD).with(|scene| scene.signals.settled = Some(moment(scene.now)));
    assert_eq!(words(&passed, DatabaseCorruption), "Unknown");
}

/// A disk that is full, and pods that end without a word.
fn full() -> Operator {
    let mut operator = based();
    operator.world.postgres.as_mut().unwrap().disk_full = true;
    operator.run(60, 1);
    operator.world.dependency_down = true;
    operator.run(600, 1);
    operator
}

#[test]
fn a_full_disk_holds_every_restart_until_there_is_room_again() {
    let mut operator = full();
    assert_eq!(operator.world.done, []);
    let status = operator.status();
    let types: Vec<_> = status.incidents.iter().map(|one| (one.incident_type, one.cause)).collect();
    assert_eq!(types[0], (DiskFilling, Cause::DatabaseDisk));
    assert!(types.contains(&(CrashLoop, Cause::DatabaseConnection)), "{types:?}");
    insta::assert_yaml_snapshot!(status.incidents[0]);
    operator.world.postgres.as_mut().unwrap().disk_full = false;
    operator.world.dependency_down = false;
    operator.run_until("its end", 900, |status| status.incidents.is_empty());
}

#[test]
fn a_bad_rollout_is_rolled_back_all_the_same() {
    let mut operator = based();
    operator.world.postgres.as_mut().unwrap().disk_full = true;
    operator.run(60, 1);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("a rollback", 300, |status| status.last_action.is_some());
    assert_eq!(operator.status().last_action.unwrap().action, ActionType::Rollback);
}
