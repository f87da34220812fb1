//! What a database tells of a server: what is found, why, what it forbids, and what it explains.

use std::net::IpAddr;

use jiff::SignedDuration;
use mcp_health_api::{
    ActionType, Cause, Duration, IncidentType, Label, Measure, Override, SETTLED_ANNOTATION, Severity,
};
use mcp_health_core::signals::{
    Database, Reading,
    database::{BlockingChain, DatabaseTable, Frequent, Recent, Session, SessionState, Statement},
};

use crate::support::{
    measured::{Measured, Metrics, found, measured, pods, words},
    moment,
    operator::Operator,
    policy,
    postgres::{MAX_CONNECTIONS, RESERVED, idle, left_alone, ran, well},
    scene::Scene,
    world::{Template, World},
};

use IncidentType::{
    DatabaseBlockingLocks, DatabaseCorruption, DatabaseIdleInTransaction, DatabasePoolExhausted,
    DatabaseSlowQueries, HighErrorRate, HighLatency,
};

/// A healthy server whose database is seen.
pub fn scene() -> Scene {
    Scene::healthy().with(|scene| {
        scene.spec = policy::with_database(scene.spec.clone());
        scene.signals.database = Reading::Fresh(well(scene.now));
    })
}

pub fn database(scene: &mut Scene) -> &mut Database {
    match &mut scene.signals.database {
        Reading::Fresh(database) => database,
        other => panic!("no database: {other:?}"),
    }
}

/// The address of one of the pods.
pub fn pod(scene: &Scene) -> IpAddr {
    scene.signals.pods.fresh().unwrap()[0].address.unwrap()
}

/// So many sessions of one pod, idle in a transaction for so long.
pub fn leaking(count: i32, seconds: i64) -> impl Fn(&mut Scene) {
    move |scene| {
        let (client, since) = (pod(scene), scene.now - seconds);
        let database = database(scene);
        for pid in 1..=count {
            database.sessions.push(left_alone(pid, since, client));
        }
        database.counts.total += i64::from(count);
        database.counts.idle_in_transaction += i64::from(count);
        database.connections += i64::from(count);
    }
}

/// So many sessions of one pod, idle for so long.
fn unused(count: i32, seconds: i64) -> impl Fn(&mut Scene) {
    move |scene| {
        let (client, since) = (pod(scene), scene.now - seconds);
        let database = database(scene);
        for pid in 1..=count {
            database.sessions.push(idle(5000 + pid, since, client));
        }
        database.counts.total += i64::from(count);
        database.connections += i64::from(count);
    }
}

const FULL: i64 = MAX_CONNECTIONS - RESERVED;

fn others(scene: &mut Scene) {
    database(scene).connections = FULL;
}

fn off(scene: &mut Scene) {
    scene.signals.database = Reading::Off;
}

fn gone(scene: &mut Scene) {
    scene.signals.database = Reading::Unavailable("it does not answer".to_owned());
}

fn gauges(in_use: f64, waiters: f64, now: f64, before: f64) -> impl Fn(Scene) -> Scene {
    move |scene| {
        let pods = pods(&scene);
        let mut all = Measured::at(scene.now);
        for pod in &pods {
            let endpoint = [(Label::Endpoint, "/mcp"), (Label::Status, "200")];
            all = all
                .with(Measure::DatabasePoolSize, pod, &[], 20.0)
                .with(Measure::DatabasePoolInUse, pod, &[], in_use)
                .with(Measure::DatabasePoolWaiters, pod, &[], waiters)
                .with(Measure::Requests, pod, &endpoint, now * 300.0)
                .before(Measure::Requests, pod, &endpoint, before);
        }
        scene.with(|scene| all.into_scene(scene))
    }
}

#[test]
fn a_pool_is_exhausted_by_its_gauges_or_by_the_database_and_what_holds_it_tells_why() {
    type Change = Box<dyn Fn(Scene) -> Scene>;
    fn on(change: impl Fn(&mut Scene) + 'static) -> Change {
        Box::new(move |scene| scene.with(&change))
    }
    fn both(gauges: impl Fn(Scene) -> Scene + 'static, change: impl Fn(&mut Scene) + 'static) -> Change {
        Box::new(move |scene| gauges(scene).with(&change))
    }
    let rows: Vec<(&str, Change, &str)> = vec![
        ("all is well", on(|_| {}), "Clear"),
        ("nothing is seen", on(gone), "Unknown"),
        (
            "stale",
            on(|scene| {
                let value = database(scene).clone();
                scene.signals.database = Reading::Stale { value, at: moment(scene.now) };
            }),
            "Unknown",
        ),
        ("max_connections is not told", on(|scene| database(scene).max_connections = 0), "Unknown"),
        ("88 % in use", on(|scene| database(scene).connections = FULL * 88 / 100), "Clear"),
        (
            "nearly full of others",
            on(|scene| database(scene).connections = FULL * 91 / 100),
            "SEV2 OthersConnections",
        ),
        ("full of others", on(others), "SEV2 OthersConnections"),
        ("full of transactions left alone", on(leaking(89, 61)), "SEV2 IdleTransactions"),
        ("full of transactions that have just begun", on(leaking(89, 59)), "Suspected"),
        ("full of connections that are not used", on(unused(89, 601)), "SEV2 ConnectionLeak"),
        ("that may be kept in reserve", on(unused(89, 599)), "SEV2 DatabasePool"),
        ("nobody waits", both(gauges(17.0, 0.0, 1.0, 1.0), off), "Unknown"),
        ("nobody waits, by both", both(gauges(17.0, 0.0, 1.0, 1.0), |_| {}), "Clear"),
        ("nine of ten are in use", both(gauges(18.0, 0.0, 1.0, 1.0), |_| {}), "SEV2 DatabasePool"),
        ("somebody waits", both(gauges(3.0, 1.0, 1.0, 1.0), |_| {}), "SEV2 DatabasePool"),
        ("by gauges alone", both(gauges(20.0, 0.0, 1.0, 1.0), gone), "SEV2 DatabasePool"),
        ("more is asked for than before", both(gauges(20.0, 0.0, 3.0, 1.0), |_| {}), "SEV2 PoolTooSmall"),
        (
            "held, and no more is asked for",
            both(gauges(20.0, 0.0, 1.0, 1.0), unused(60, 61)),
            "SEV2 ConnectionLeak",
        ),
        (
            "held, and more is asked for",
            both(gauges(20.0, 0.0, 3.0, 1.0), unused(60, 61)),
            "SEV2 PoolTooSmall",
        ),
        ("held for less", both(gauges(20.0, 0.0, 1.0, 1.0), unused(60, 59)), "Suspected"),
        ("held for a moment", both(gauges(20.0, 0.0, 1.0, 1.0), unused(60, 4)), "SEV2 DatabasePool"),
        (
            "held by transactions, whatever is asked for",
            both(gauges(20.0, 0.0, 3.0, 1.0), leaking(40, 61)),
            "SEV2 IdleTransactions",
        ),
        (
            "by a few of them only",
            both(gauges(20.0, 0.0, 1.0, 1.0), |scene| {
                leaking(10, 61)(scene);
                database(scene).counts.total = 60;
            }),
            "SEV2 DatabasePool",
        ),
    ];
    for (what, change, expected) in rows {
        assert_eq!(words(&change(scene()), DatabasePoolExhausted), expected, "{what}");
    }
}

#[test]
fn what_was_found_by_gauges_is_over_only_by_them() {
    let mut scene = gauges(20.0, 0.0, 1.0, 1.0)(scene());
    scene.status.pending = scene.concluded().diagnosis.pending;
    assert_eq!(scene.status.pending[0].incident_type, DatabasePoolExhausted);
    scene.now += 31;
    scene.open_incident();
    assert_eq!(scene.status.incidents[0].incident_type, DatabasePoolExhausted);
    let silent: Metrics = |all, pods| pods.iter().fold(all, |all, pod| all.answers(pod, 300.0, 0.0));
    assert_eq!(words(&measured(scene.clone(), silent), DatabasePoolExhausted), "Unknown");
    assert_eq!(words(&gauges(2.0, 0.0, 1.0, 1.0)(scene.clone()), DatabasePoolExhausted), "Clear");
    assert_eq!(words(&gauges(2.0, 0.0, 1.0, 1.0)(scene).with(gone), DatabasePoolExhausted), "Unknown");
}

#[test]
fn a_database_that_is_full_forbids_what_opens_connections_and_a_pool_only_more_pods() {
    let forbids = |scene: &Scene| found(scene, DatabasePoolExhausted).forbids.to_vec();
    let full = forbids(&scene().with(others));
    for action in
        [ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::Rollback, ActionType::Scale]
    {
        assert!(full.contains(&action), "{action}");
    }
    assert!(!full.contains(&ActionType::EndDatabaseSessions));
    assert_eq!(forbids(&gauges(20.0, 0.0, 1.0, 1.0)(scene())), [ActionType::Scale]);
}

#[test]
fn while_pods_of_another_template_are_well_a_bad_rollout_is_rolled_back_whatever_the_database() {
    for full in [false, true] {
        let mut operator = based();
        operator.world.postgres.as_mut().unwrap().crowded = full;
        operator.run(120, 1);
        assert_eq!(operator.status().incidents.len(), usize::from(full));
        operator.world.roll_out(Template::CrashesAtOnce);
        operator.run_until("a rollback", 120, |status| status.last_action.is_some());
        assert_eq!(operator.status().last_action.unwrap().action, ActionType::Rollback);
    }
}

#[test]
fn a_new_template_that_fills_the_database_and_crashes_is_rolled_back_though_no_old_pod_is_left() {
    let mut operator = based();
    operator.world.postgres.as_mut().unwrap().crowded = true;
    operator.run(120, 1);
    assert_eq!(operator.status().incidents[0].incident_type, DatabasePoolExhausted);
    operator.world.deployment.as_mut().unwrap().recreate = true;
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run_until("a rollback", 300, |status| status.last_action.is_some());
    assert_eq!(operator.status().last_action.unwrap().action, ActionType::Rollback);
}

#[test]
fn a_database_that_is_full_holds_every_restart() {
    let mut operator = based();
    operator.world.postgres.as_mut().unwrap().crowded = true;
    operator.run(120, 1);
    operator.world.dependency_down = true;
    operator.run(900, 1);
    assert_eq!(operator.world.done, []);
    let status = operator.status();
    let types: Vec<_> = status.incidents.iter().map(|one| (one.incident_type, one.cause)).collect();
    assert_eq!(types[0], (DatabasePoolExhausted, Cause::OthersConnections));
    assert!(types.contains(&(IncidentType::CrashLoop, Cause::DatabaseConnection)), "{types:?}");
}

/// Three pods, and their database.
pub fn based() -> Operator {
    let mut world = World::with(Template::Good, 3);
    world.postgres = Some(crate::support::postgres::Postgres::default());
    let mut operator = Operator::new(world, policy::with_database(policy::enforcing()));
    operator.run(120, 1);
    operator
}

#[test]
fn transactions_left_alone_are_found_by_the_change_of_their_state() {
    type Change = fn(&mut Scene);
    let rows: &[(&str, Change, &str)] = &[
        ("all is well", |_| {}, "Clear"),
        ("for five minutes", |scene| leaking(1, 300)(scene), "Clear"),
        ("for longer", |scene| leaking(1, 301)(scene), "SEV3 IdleTransactions"),
        (
            "aborted",
            |scene| {
                leaking(1, 301)(scene);
                database(scene).sessions[0].state = SessionState::IdleInTransactionAborted;
            },
            "SEV3 IdleTransactions",
        ),
        (
            "a statement that ran for an hour, and ended just now",
            |scene| {
                leaking(1, 3600)(scene);
                let now = moment(scene.now);
                database(scene).sessions[0].state_change = Some(now);
            },
            "Clear",
        ),
        (
            "at work",
            |scene| {
                leaking(1, 3600)(scene);
                database(scene).sessions[0].state = SessionState::Active;
            },
            "Clear",
        ),
        ("just idle", |scene| unused(1, 3600)(scene), "Clear"),
        (
            "another application",
            |scene| {
                leaking(1, 3600)(scene);
                database(scene).sessions[0].application = "psql".to_owned();
            },
            "Clear",
        ),
        (
            "another database",
            |scene| {
                leaking(1, 3600)(scene);
                database(scene).sessions[0].database = "postgres".to_owned();
            },
            "Clear",
        ),
        (
            "a superuser",
            |scene| {
                leaking(1, 3600)(scene);
                database(scene).sessions[0].is_privileged = true;
            },
            "Clear",
        ),
        (
            "as the policy has it",
            |scene| {
                leaking(1, 61)(scene);
                patience(scene, DatabaseIdleInTransaction, 60);
            },
            "SEV3 IdleTransactions",
        ),
        (
            "without a moment",
            |scene| {
                leaking(1, 3600)(scene);
                database(scene).sessions[0].state_change = None;
            },
            "Clear",
        ),
        ("nothing is seen", gone, "Unknown"),
        ("it is not declared any more", |scene| scene.spec.signals.postgres = None, "Clear"),
    ];
    for (what, change, expected) in rows {
        assert_eq!(words(&scene().with(change), DatabaseIdleInTransaction), *expected, "{what}");
    }
}

fn patience(scene: &mut Scene, incident: IncidentType, seconds: u32) {
    scene.spec.overrides.push(Override {
        incident,
        severity: None,
        hold_for: Some(Duration::from_secs(seconds)),
        thresholds: None,
        runbook: None,
    });
}

/// So many sessions of a pod wait for a root for so long.
pub fn chain(scene: &mut Scene, root: Session, count: i32, seconds: i64) {
    let client = pod(scene);
    let now = scene.now;
    let waits = SignedDuration::from_secs(seconds);
    let waiting = (1..=count).map(|pid| (idle(900 + pid, now, client), waits)).collect();
    database(scene).chains.push(BlockingChain { root, waiting, count: usize::try_from(count).unwrap() });
}

#[test]
fn locks_that_others_wait_for_are_found_with_what_their_root_is() {
    type Root = fn(&mut Session);
    let rows: &[(&str, Root, i64, i64, &str)] = &[
        ("for a minute", |_| {}, 200, 60, "Clear"),
        ("left alone", |_| {}, 200, 61, "SEV2 IdleTransactions"),
        ("left alone for a moment, between two statements", |_| {}, 30, 200, "SEV2 ActiveTransaction"),
        (
            "at work, as a migration",
            |root| root.state = SessionState::Active,
            200,
            200,
            "SEV2 ActiveTransaction",
        ),
        ("somebody else's", |root| root.application = "reports".to_owned(), 200, 200, "SEV2 OthersSession"),
        ("a superuser's", |root| root.is_privileged = true, 200, 200, "SEV2 OthersSession"),
        (
            "prepared",
            |root| *root = Session { pid: 0, ..Session::default() },
            200,
            200,
            "SEV2 PreparedTransaction",
        ),
        (
            "autovacuum",
            |root| {
                (root.is_client, root.query) = (false, "autovacuum: VACUUM public.orders".to_owned());
            },
            200,
            200,
            "SEV2 DatabaseUpkeep",
        ),
        (
            "gone meanwhile",
            |root| *root = Session { pid: 77, ..Session::default() },
            200,
            200,
            "SEV2 OthersSession",
        ),
    ];
    for (what, change, idle, waits, expected) in rows {
        let mut scene = scene();
        let mut root = left_alone(7, scene.now - idle, pod(&scene));
        change(&mut root);
        chain(&mut scene, root, 5, *waits);
        assert_eq!(words(&scene, DatabaseBlockingLocks), *expected, "{what}");
        if *waits > 60 {
            let finding = found(&scene, DatabaseBlockingLocks);
            assert!(finding.evidence[0].starts_with("5 sessions wait for a lock"), "{:#?}", finding.evidence);
            assert!(finding.forbids.contains(&ActionType::RolloutRestart), "{what}");
        }
    }
}

#[test]
fn a_chain_in_which_nobody_is_of_this_server_is_somebody_elses() {
    let mut scene = scene();
    let mut root = left_alone(7, scene.now - 500, pod(&scene));
    root.application = "reports".to_owned();
    chain(&mut scene, root, 2, 400);
    assert_eq!(words(&scene, DatabaseBlockingLocks), "SEV2 OthersSession");
    for (waiting, _) in &mut database(&mut scene).chains[0].waiting {
        waiting.application = "billing".to_owned();
    }
    assert_eq!(words(&scene, DatabaseBlockingLocks), "Clear");
}

#[test]
fn evidence_of_a_lock_names_the_root_its_age_and_its_statement() {
    let mut scene = scene();
    let root = left_alone(7, scene.now - 200, pod(&scene));
    chain(&mut scene, root, 5, 130);
    let name = scene.signals.pods.fresh().unwrap()[0].name.clone();
    assert_eq!(
        found(&scene, DatabaseBlockingLocks).evidence[0],
        format!(
            "5 sessions wait for a lock in PostgreSQL mcp_prod at postgres.mcp:5432, the longest for 2m10s; all for \
             pid 7 of mcp (mcp-server, pod {name}), idle in transaction for 3m20s: UPDATE accounts SET balance = \
             balance - $1 WHERE id = $2"
        )
    );
}

/// A statement that takes so long.
fn slow(query: &str, mean_ms: f64) -> Statement {
    Statement {
        id: 1,
        query: query.to_owned(),
        calls: 120,
        mean_ms,
        total_ms: mean_ms * 120.0,
        max_ms: mean_ms,
        recent: Some(ran(mean_ms)),
        ..Statement::default()
    }
}

#[test]
fn slow_statements_are_advice_with_a_cause() {
    type Change = fn(&mut Database);
    const QUERY: &str = "SELECT * FROM orders WHERE customer_id = $1";
    let rows: &[(&str, Change, &str, &str)] = &[
        ("fast", |one| one.statements = Reading::Fresh(vec![slow(QUERY, 1000.0)]), "Clear", ""),
        ("slow", |_| {}, "SEV4 SlowStatement", "EXPLAIN"),
        ("no number", |one| one.statements = Reading::Fresh(vec![slow(QUERY, f64::NAN)]), "Clear", ""),
        (
            "not installed",
            |one| one.statements = Reading::Unavailable("CREATE EXTENSION".to_owned()),
            "Unknown",
            "",
        ),
        (
            "a column without an index",
            |one| one.index_candidates = vec!["stock.id".to_owned(), "orders.customer_id".to_owned()],
            "SEV4 MissingIndex",
            "CREATE INDEX CONCURRENTLY ON orders (customer_id)",
        ),
        (
            "a column that the statement does not name",
            |one| one.index_candidates = vec!["orders.note".to_owned()],
            "SEV4 SlowStatement",
            "EXPLAIN",
        ),
        (
            "a table that is never read whole",
            |one| {
                one.index_candidates = vec!["orders.customer_id".to_owned()];
                one.tables =
                    vec![DatabaseTable { name: "public.orders".to_owned(), ..DatabaseTable::default() }];
            },
            "SEV4 SlowStatement",
            "EXPLAIN",
        ),
        (
            "old statistics",
            |one| {
                one.tables = vec![DatabaseTable {
                    name: "public.orders".to_owned(),
                    live_rows: 10_000,
                    changed_rows: 9_000,
                    ..DatabaseTable::default()
                }];
            },
            "SEV4 StaleStatistics",
            "ANALYZE public.orders",
        ),
    ];
    for (what, change, expected, advice) in rows {
        let scene = scene().with(|scene| {
            database(scene).statements = Reading::Fresh(vec![slow(QUERY, 1001.0)]);
            change(database(scene));
        });
        assert_eq!(words(&scene, DatabaseSlowQueries), *expected, "{what}");
        if !advice.is_empty() {
            let finding = found(&scene, DatabaseSlowQueries);
            assert!(finding.evidence[0].contains(QUERY), "{:#?}", finding.evidence);
            assert!(finding.evidence[1].contains(advice), "{what}: {:#?}", finding.evidence);
        }
    }
}

#[test]
fn a_statement_is_slow_by_what_ran_of_it_lately_and_over_by_nothing_else() {
    let idle = Recent { calls: 0, mean_ms: 0.0, ..ran(0.0) };
    let rows: &[(&str, f64, Option<Recent>, &str)] = &[
        ("slow now, and never before", 20.0, Some(ran(1001.0)), "SEV4 SlowStatement"),
        ("slow before, and mended", 5000.0, Some(ran(20.0)), "Clear"),
        ("slow before, and not run since", 5000.0, Some(idle), "Clear"),
        ("slow before, and nobody knows of now", 5000.0, None, "Unknown"),
        ("never slow, as far as is known", 999.0, None, "Clear"),
        ("nonsense", 5000.0, Some(Recent { mean_ms: f64::NAN, ..idle }), "Clear"),
    ];
    for (what, mean_ms, recent, expected) in rows {
        let scene = scene().with(|scene| {
            let one = Statement { recent: *recent, ..slow("SELECT $1", *mean_ms) };
            database(scene).statements = Reading::Fresh(vec![one]);
        });
        assert_eq!(words(&scene, DatabaseSlowQueries), *expected, "{what}");
    }
    // A single run that was slow may be one of the last ones.
    let outlier = Statement { max_ms: 1001.0, recent: None, ..slow("SELECT $1", 20.0) };
    let scene = scene().with(|scene| database(scene).statements = Reading::Fresh(vec![outlier]));
    assert_eq!(words(&scene, DatabaseSlowQueries), "Unknown");
}

#[test]
fn evidence_of_a_slow_statement_says_which_number_is_of_when() {
    let scene = scene().with(|scene| {
        let idle = Recent { calls: 0, mean_ms: 0.0, ..ran(0.0) };
        database(scene).statements = Reading::Fresh(vec![
            Statement { mean_ms: 20.0, stddev_ms: 3.0, ..slow("SELECT $1", 2300.0) },
            Statement { recent: Some(ran(5.0)), ..slow("SELECT $2", 4000.0) },
            Statement { recent: Some(idle), ..slow("SELECT $3", 4000.0) },
        ]);
    });
    let evidence = found(&scene, DatabaseSlowQueries).evidence;
    assert_eq!(
        evidence[0],
        "2300 ms on average in 12 runs of the last 9m (threshold 1000 ms); since it is counted 20 ms ± 3, 120 calls, \
         276 s in all, 2300 ms at most: SELECT $1"
    );
    assert_eq!(
        evidence[2..4],
        [
            "1 statement above 1000 ms on average, 1 above 100 ms, of what ran in the last 9m (by pg_stat_statements)",
            "slower than that since they are counted, and not lately: 1 statement ran faster, 1 did not run",
        ]
    );
}

#[test]
fn a_statement_that_runs_again_and_again_for_one_request_is_told() {
    let scene = gauges(1.0, 0.0, 2.0, 2.0)(scene()).with(|scene| {
        let seen = database(scene);
        seen.statements = Reading::Fresh(vec![slow("SELECT $1", 1500.0)]);
        seen.frequent =
            vec![Frequent { id: 2, query: "SELECT * FROM items WHERE id = $1".to_owned(), a_second: 240.0 }];
    });
    let finding = found(&scene, DatabaseSlowQueries);
    assert_eq!(finding.cause, Cause::RepeatedStatement);
    assert!(
        finding.evidence[1]
            .starts_with("one statement runs 40 times for each request (240 against 6 a second)"),
        "{:#?}",
        finding.evidence
    );
    let few = scene.with(|scene| database(scene).frequent[0].a_second = 59.0);
    assert_eq!(found(&few, DatabaseSlowQueries).cause, Cause::SlowStatement);
}

#[test]
fn advice_neither_acts_nor_keeps_a_template_from_being_known_as_healthy() {
    let mut operator = based();
    operator.world.postgres.as_mut().unwrap().slow = true;
    operator.run(60, 1);
    assert_eq!(operator.status().incidents[0].incident_type, DatabaseSlowQueries);
    let template = operator.world.roll_out(Template::Good);
    operator.run(300, 1);
    assert_eq!(operator.status().target.unwrap().last_healthy.unwrap().template, template);
    assert_eq!(operator.world.done, []);
}

#[test]
fn damaged_data_is_a_persons_at_once_and_nothing_is_done_meanwhile() {
    let mut operator = based();
    operator.declare(|spec| *spec = policy::with_database(policy::with_all_actions(policy::enforcing())));
    operator.world.postgres.as_mut().unwrap().failures = 2;
    operator.run(20, 1);
    let incident = operator.status().incidents[0].clone();
    assert_eq!((incident.incident_type, incident.severity), (DatabaseCorruption, Severity::SEV1));
    assert_eq!(incident.escalation.unwrap().reason, "NoAutomaticAction");
    assert!(incident.evidence[0].contains("2 pages failed their checksum"), "{:#?}", incident.evidence);
    assert!(incident.evidence.iter().any(|line| line.contains("restore") && !line.contains("restarted")));
    // Whatever else happens, also what would be rolled back.
    operator.world.leak(200);
    operator.world.roll_out(Template::CrashesAtOnce);
    operator.run(600, 1);
    assert_eq!(operator.world.done, []);
    operator.world.postgres.as_mut().unwrap().failures = 0;
    operator.run_until("the rollback that was held", 600, |status| {
        status.last_action.as_ref().is_some_and(|last| last.action == ActionType::Rollback)
    });
    operator.run_until("its end", 600, |status| {
        status.incidents.iter().all(|one| one.incident_type != DatabaseCorruption)
    });
}

#[test]
fn damage_is_over_when_the_counter_was_reset_or_a_person_says_so() {
    let failed = |scene: &mut Scene| {
        let last = moment(scene.now - 100);
        database(scene).checksum_failures = Some((3, Some(last)));
    };
    let said =
        |scene: &mut Scene| database(scene).damage = Some("invalid page in block 7 (XX001)".to_owned());
    let reset = |scene: &mut Scene| database(scene).checksum_failures = Some((0, None));
    let settled =
        |after: i64| move |scene: &mut Scene| scene.signals.settled = Some(moment(scene.now + after));
    let opened = |change: &dyn Fn(&mut Scene)| {
        scene().with(change).with(|scene| {
            scene.open_incident();
        })
    };
    let now = |scene: Scene| words(&scene, DatabaseCorruption);
    assert_eq!(now(scene()), "Clear");
    assert_eq!(now(scene().with(failed)), "SEV1 ChecksumFailure");
    assert_eq!(now(scene().with(said)), "SEV1 DataDamaged");
    assert_eq!(now(scene().with(gone)), "Unknown");
    assert_eq!(now(opened(&failed).with(reset)), "Clear");
    assert_eq!(now(opened(&failed).with(gone)), "Unknown");
    assert_eq!(now(opened(&failed).with(settled(-101))), "SEV1 ChecksumFailure", "it failed after that");
    assert_eq!(now(opened(&failed).with(settled(-99))), "Clear");
    let passed = |scene: &mut Scene| database(scene).damage = None;
    assert_eq!(now(opened(&said).with(passed)), "Unknown", "what is not read is not mended");
    assert_eq!(now(opened(&said).with(passed).with(settled(0))), "Clear");
    assert_eq!(now(opened(&said).with(settled(0))), "SEV1 DataDamaged", "while it is damaged, no word helps");
    let forbids = found(&scene().with(failed), DatabaseCorruption).forbids;
    assert!(mcp_health_core::actions::ACTIONS.iter().all(|one| forbids.contains(&one.action)), "{forbids:?}");
    let evidence = found(&scene().with(failed), DatabaseCorruption).evidence;
    assert!(evidence.iter().any(|line| line.contains(SETTLED_ANNOTATION)), "{evidence:#?}");
}

#[test]
fn errors_and_slow_answers_are_blamed_on_a_database_that_hinders_by_its_own_word() {
    let fails: Metrics = |all, pods| pods.iter().fold(all, |all, pod| all.answers(pod, 100.0, 50.0));
    let locked = |scene: &mut Scene| {
        let root = left_alone(7, scene.now - 200, pod(scene));
        chain(scene, root, 5, 130);
    };
    for hindrance in [&others as &dyn Fn(&mut Scene), &locked] {
        let finding = found(&measured(scene(), fails).with(hindrance), HighErrorRate);
        assert_eq!(finding.cause, Cause::DatabaseConnection);
        assert!(
            finding.evidence.iter().any(|line| line.contains("PostgreSQL mcp_prod")),
            "{:#?}",
            finding.evidence
        );
        assert!(finding.forbids.contains(&ActionType::RolloutRestart));
    }
    assert_eq!(found(&measured(scene(), fails), HighErrorRate).cause, Cause::ServerErrors);
    let slow: Metrics = |all, pods| {
        pods.iter().fold(all, |all, pod| {
            [("1", 10.0), ("5", 100.0), ("+Inf", 100.0)].iter().fold(
                all.answers(pod, 100.0, 0.0),
                |all, (bound, below)| {
                    all.with(Measure::DurationBucket, pod, &[(Label::Bound, bound)], *below)
                },
            )
        })
    };
    assert_eq!(found(&measured(scene(), slow).with(others), HighLatency).cause, Cause::DatabaseConnection);
    assert_eq!(found(&measured(scene(), slow), HighLatency).cause, Cause::SlowAnswers);
}
