//! What ends database sessions, and what it leaves alone; and how far a pool is raised.

use std::net::IpAddr;

use jiff::SignedDuration;
use mcp_health_api::{
    ActionType, Attempt, Cause, Effect, EndDatabaseSessionsPolicy, EnvName, IncidentType, IpNetwork, Outcome,
    SessionFence, SetEnvPolicy,
};
use mcp_health_core::{
    Decision,
    actions::Plan,
    report,
    signals::{
        Reading,
        database::{Grant, MissingGrant, Session, SessionState},
    },
};

use crate::{
    database_rules::{chain, database, leaking, pod, scene},
    support::{
        moment,
        operator::Operator,
        policy,
        postgres::{Postgres, idle, left_alone},
        scene::Scene,
        world::{Template, World},
    },
};

use ActionType::{EndDatabaseSessions, SetEnv};

/// Transactions of one pod are left alone, and may be ended.
fn leaked() -> Scene {
    scene().with(|scene| {
        leaking(3, 301)(scene);
        scene.spec.actions.allow.push(EndDatabaseSessions);
    })
}

fn plan(scene: &Scene) -> Plan {
    match scene.concluded().decision {
        Decision::Act(plan) => *plan,
        other => panic!("it does not act: {other:?}"),
    }
}

/// The fences of a plan, after its mark.
fn fences(plan: &Plan) -> Vec<SessionFence> {
    assert_eq!(plan.steps[0].effect, Effect::MarkTarget);
    plan.steps[1..].iter().map(|step| step.sessions.clone().unwrap()).collect()
}

fn pids(scene: &Scene) -> Vec<i32> {
    let fences = fences(&plan(scene));
    let mut pids: Vec<i32> = fences
        .iter()
        .flat_map(|fence| &fence.list)
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    pids.sort_unstable();
    pids
}

/// Another session of the server's own, idle in a transaction for long, with one thing different.
fn and(scene: &mut Scene, pid: i32, change: impl FnOnce(&mut Session)) {
    let mut session = left_alone(pid, scene.now - 900, pod(scene));
    change(&mut session);
    database(scene).sessions.push(session);
}

#[test]
fn sessions_are_recorded_by_all_that_tells_them_from_others() {
    let scene = leaked();
    let plan = plan(&scene);
    let fence = &fences(&plan)[0];
    assert_eq!(
        (fence.database.as_str(), fence.user.as_str(), fence.application.as_str(), fence.state.as_str()),
        ("mcp_prod", "mcp", "mcp-server", "idle in transaction")
    );
    let (begun, xact) = (moment(scene.now - 306), moment(scene.now - 301));
    let changed = database(&mut scene.clone()).sessions[0].state_change.unwrap();
    assert_eq!(fence.list[0], format!("1 {begun} {xact} {changed}"));
    let step = &plan.steps[1];
    assert_eq!((step.effect, step.object.as_deref()), (Effect::EndSessions, Some("Database/mcp_prod")));
    assert_eq!(plan.what, "end 3 sessions in PostgreSQL mcp_prod at postgres.mcp:5432");
    let evidence = &scene.concluded().story.incidents[0].evidence;
    assert!(evidence[1].starts_with("pid 1 of mcp (mcp-server, pod mcp-server-"), "{evidence:#?}");
    assert!(evidence[1].contains("for 5m1s: UPDATE accounts"), "{evidence:#?}");
}

#[test]
fn what_is_not_the_servers_own_or_does_something_is_left_alone() {
    let mut scene = leaked();
    and(&mut scene, 11, |one| one.state = SessionState::Active);
    and(&mut scene, 12, |one| one.is_privileged = true);
    and(&mut scene, 13, |one| one.is_client = false);
    and(&mut scene, 14, |one| one.application = "psql".to_owned());
    and(&mut scene, 15, |one| one.database = "postgres".to_owned());
    and(&mut scene, 16, |one| one.client = Some("10.244.0.1".to_owned()));
    and(&mut scene, 17, |one| one.client = None);
    and(&mut scene, 18, |one| one.xact_start = None);
    and(&mut scene, 19, |one| one.state_change = None);
    and(&mut scene, 20, |one| one.user = String::new());
    and(&mut scene, 21, |one| one.state = SessionState::Other);
    and(&mut scene, 0, |_| {});
    and(&mut scene, -5, |_| {});
    let (now, client) = (scene.now, pod(&scene));
    database(&mut scene).sessions.push(idle(22, now - 900, client));
    database(&mut scene).sessions.push(left_alone(23, now - 299, client));
    assert_eq!(pids(&scene), [1, 2, 3]);
}

#[test]
fn what_is_just_idle_is_ended_only_while_connections_are_exhausted() {
    let mut scene = leaked();
    let (now, client) = (scene.now, pod(&scene));
    database(&mut scene).sessions.push(idle(22, now - 601, client));
    database(&mut scene).sessions.push(idle(23, now - 599, client));
    assert_eq!(pids(&scene), [1, 2, 3]);
    (database(&mut scene).max_connections, database(&mut scene).connections) = (8, 5);
    scene.status.pending = scene.concluded().diagnosis.pending;
    scene.now += 31;
    // Ages are by PostgreSQL's clock, which stood still.
    assert_eq!(pids(&scene), [1, 2, 3, 22]);
    let states: Vec<String> = fences(&plan(&scene)).into_iter().map(|fence| fence.state).collect();
    assert_eq!(states, ["idle in transaction", "idle"]);
}

#[test]
fn a_step_ends_sessions_of_one_role_in_one_state_and_is_bounded() {
    let mut scene = leaked();
    for number in 0..30 {
        and(&mut scene, 100 + number, |one| one.user = format!("role {number}"));
    }
    for number in 0..300 {
        and(&mut scene, 1000 + number, |one| one.state = SessionState::IdleInTransactionAborted);
    }
    let plan = plan(&scene);
    let fences = fences(&plan);
    assert_eq!(plan.steps.len(), 8);
    assert_eq!(fences[0].list.len(), mcp_health_api::SESSIONS_LIMIT);
    assert_eq!(fences[0].state, "idle in transaction (aborted)");
    assert_eq!(fences[1].list.len(), 3);
    let groups: std::collections::BTreeSet<_> = fences.iter().map(|one| (&one.user, &one.state)).collect();
    assert_eq!(groups.len(), 7);
    assert!(plan.what.ends_with("and leave 125 others"), "{}", plan.what);
}

#[test]
fn where_it_is_not_known_whose_sessions_they_are_a_person_is_told_why() {
    type Change = fn(&mut Scene);
    let strange = |scene: &mut Scene| {
        for one in &mut database(scene).sessions {
            one.client = Some("10.244.0.1".to_owned());
        }
    };
    let rows: &[(&str, Change, &str)] = &[
        ("all is known", |_| {}, "Act EndDatabaseSessions"),
        ("nobody allows it", |scene| scene.spec.actions.allow.clear(), "Escalate ActionNotAllowed"),
        (
            "a pooler",
            |scene| database(scene).pooler = Some("it answers to SHOW VERSION".to_owned()),
            "Escalate PoolerBetween",
        ),
        ("no grant", |scene| database(scene).may_end_sessions = false, "Escalate GrantMissing"),
        ("addresses that are translated", strange, "Escalate UnknownClients"),
        (
            "which the policy names",
            |scene| {
                for one in &mut database(scene).sessions {
                    one.client = Some("10.244.0.1/32".to_owned());
                }
                let clients = vec![IpNetwork("10.244.0.0/24".to_owned())];
                scene.spec.actions.end_database_sessions = Some(EndDatabaseSessionsPolicy { clients });
            },
            "Act EndDatabaseSessions",
        ),
        (
            "pods of another server under the same name",
            |scene| {
                for one in &mut database(scene).sessions {
                    one.client = Some("10.1.200.7".to_owned());
                }
            },
            "Escalate UnknownClients",
        ),
        (
            "a pod that is over, whose address may be another's by now",
            |scene| {
                let Reading::Fresh(pods) = &mut scene.signals.pods else { unreachable!() };
                pods[0].finished = true;
            },
            "Escalate UnknownClients",
        ),
        (
            "damaged data",
            |scene| database(scene).damage = Some("XX001".to_owned()),
            "Escalate NoAutomaticAction",
        ),
        (
            "a database that is not seen any more",
            |scene| {
                scene.open_incident();
                scene.signals.database = Reading::Unavailable("it does not answer".to_owned());
            },
            "Wait",
        ),
    ];
    for (what, change, expected) in rows {
        assert_eq!(leaked().with(change).decision(), *expected, "{what}");
    }
    let told = leaked().with(|scene| {
        let seen = database(scene);
        seen.may_end_sessions = false;
        seen.missing_grants =
            vec![MissingGrant { grant: Grant::SignalBackend, role: "mcp_health".to_owned() }];
    });
    let Decision::Escalate { message, .. } = told.concluded().decision else { panic!() };
    assert!(message.contains("GRANT pg_signal_backend TO mcp_health"), "{message}");
}

#[test]
fn of_locks_only_a_root_of_ones_own_that_was_left_alone_is_ended() {
    let locked = |change: fn(&mut Session)| {
        let mut scene = scene();
        scene.spec.actions.allow.push(EndDatabaseSessions);
        let mut root = left_alone(7, scene.now - 200, pod(&scene));
        change(&mut root);
        chain(&mut scene, root, 5, 130);
        scene
    };
    assert_eq!(pids(&locked(|_| {})), [7]);
    // And nothing beside it, though it were old enough.
    let with_others = locked(|_| {}).with(|scene| leaking(3, 900)(scene));
    assert_eq!(pids(&with_others), [7]);
    for (what, change) in [
        ("a migration at work", (|one| one.state = SessionState::Active) as fn(&mut Session)),
        ("somebody else's", |one| one.application = "reports".to_owned()),
        ("a prepared transaction", |one| *one = Session { pid: 0, ..Session::default() }),
        ("autovacuum", |one| one.is_client = false),
    ] {
        assert_eq!(locked(change).decision(), "Escalate NoAutomaticAction", "{what}");
    }
    assert_eq!(locked(|one| one.client = Some("10.9.9.9".to_owned())).decision(), "Escalate UnknownClients");
}

/// Three pods and their database, with all that may be done.
fn based(change: impl FnOnce(&mut mcp_health_api::McpServerHealthSpec)) -> Operator {
    let mut spec = policy::with_database(policy::with_cooldown(policy::enforcing(), 0));
    spec.actions.allow.push(EndDatabaseSessions);
    change(&mut spec);
    let mut world = World::with(Template::Good, 3);
    world.measured = true;
    world.postgres = Some(Postgres::default());
    let mut operator = Operator::new(world, spec);
    operator.run(120, 1);
    operator
}

fn effects(operator: &Operator) -> Vec<Effect> {
    operator.world.done.iter().map(|done| done.effect).collect()
}

/// With two of the sessions that are recorded.
fn shortened(mut status: mcp_health_api::McpServerHealthStatus) -> mcp_health_api::McpServerHealthStatus {
    let attempts = status.incidents.iter_mut().flat_map(|one| &mut one.attempts);
    for fence in attempts.flat_map(|one| &mut one.steps).filter_map(|step| step.sessions.as_mut()) {
        fence.list.truncate(2);
    }
    status
}

#[test]
fn leaked_transactions_that_exhaust_the_pool_are_ended_and_what_leaks_is_a_persons_to_find() {
    let mut operator = based(|_| {});
    operator.world.leak(80);
    operator.run_until("the end of sessions", 600, |status| status.last_action.is_some());
    assert_eq!(effects(&operator), [Effect::EndSessions]);
    assert_eq!(operator.world.postgres.as_ref().unwrap().ended.len(), 80);
    insta::assert_yaml_snapshot!("sessions_ended", shortened(operator.status()));
    operator.run_until("its judgement", 120, |status| {
        status.last_action.as_ref().unwrap().outcome == Some(Outcome::Improved)
    });
    insta::assert_yaml_snapshot!("sessions_ended_and_watched", shortened(operator.status()));
    let incident = operator.status().incidents[0].clone();
    assert_eq!(
        (incident.incident_type, incident.cause),
        (IncidentType::DatabasePoolExhausted, Cause::IdleTransactions)
    );
    assert!(incident.is_mitigated(), "{incident:#?}");
    let to_do = &incident.follow_ups[0].message;
    assert!(
        to_do.contains("80 of 80 come from pod mcp-server-") && to_do.contains("UPDATE accounts"),
        "{to_do}"
    );
    operator.run(3700, 5);
    let status = operator.status();
    assert_eq!(status.incidents, []);
    assert_eq!(status.history[0].resolution, "EndDatabaseSessions helped, and it did not happen again");
    let news = operator.looks.iter().flat_map(|look| report::news(&look.before, &look.after));
    let taken: Vec<String> = news.filter(|one| one.reason == "ActionTaken").map(|one| one.note).collect();
    assert!(taken[0].starts_with("asked for the end of 80 sessions in database mcp_prod"), "{taken:?}");
}

#[test]
fn a_leak_that_shows_again_within_the_hour_is_handed_over() {
    let mut operator = based(|_| {});
    for _ in 0..3 {
        operator.world.leak(80);
        operator.run(700, 1);
    }
    assert_eq!(effects(&operator), [Effect::EndSessions; 2]);
    let escalation = operator.status().incidents[0].escalation.clone().unwrap();
    assert_eq!(escalation.reason, "VariableNotAllowed", "{}", escalation.message);
}

#[test]
fn a_session_that_went_on_between_record_and_act_is_not_ended() {
    let mut operator = based(|_| {});
    operator.crash = Some(crate::support::operator::Crash::Undone);
    operator.world.leak(80);
    operator.run_until("the record", 600, |status| {
        status.incidents.iter().any(|one| one.open_attempt().is_some())
    });
    operator.world.postgres.as_mut().unwrap().go_on();
    operator.run(60, 1);
    let postgres = operator.world.postgres.as_ref().unwrap();
    assert!(postgres.ended.iter().all(|one| one.state == SessionState::IdleInTransaction));
    assert!(postgres.sessions.iter().filter(|one| one.state == SessionState::Active).count() == 40);
}

#[test]
fn pods_are_not_restarted_for_a_leak() {
    let mut operator = based(|spec| spec.actions.allow.retain(|one| *one != EndDatabaseSessions));
    operator.world.leak(80);
    operator.run(3600, 5);
    assert_eq!(effects(&operator), []);
    let status = operator.status();
    assert_eq!(status.incidents[0].escalation.as_ref().unwrap().reason, "ActionNotAllowed");
}

/// More is asked for than before, and the pool's 20 connections are all in use.
fn too_small(change: impl FnOnce(&mut Scene)) -> Scene {
    use mcp_health_api::{Label, Measure};
    let mut scene = scene();
    scene.spec.actions.allow.push(SetEnv);
    let allow = vec![EnvName("DB_POOL_SIZE".to_owned())];
    scene.spec.actions.set_env = Some(SetEnvPolicy { allow });
    let set = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    scene.target().containers[0].env = vec![set("DB_POOL_SIZE", "5"), set("DB_POOL_MAX_OVERFLOW", "5")];
    let pods = crate::support::measured::pods(&scene);
    let mut all = crate::support::measured::Measured::at(scene.now + 31);
    for pod in &pods {
        let labels = [(Label::Endpoint, "/mcp"), (Label::Status, "200")];
        all = all
            .with(Measure::DatabasePoolSize, pod, &[], 10.0)
            .with(Measure::DatabasePoolInUse, pod, &[], 10.0)
            .with(Measure::Requests, pod, &labels, 900.0)
            .before(Measure::Requests, pod, &labels, 1.0);
    }
    all.into_scene(&mut scene);
    change(&mut scene);
    scene.status.pending = scene.concluded().diagnosis.pending;
    scene.now += 31;
    scene
}

#[test]
fn a_pool_is_raised_as_far_as_max_connections_permits_and_for_an_hour() {
    // Three pods and one of a rollout; 8 connections of others, 3 reserved: (80 - 11) / 4 - 5.
    let scene = too_small(|_| {});
    let plan = plan(&scene);
    assert_eq!((plan.action, plan.steps[0].edits[0].to.as_str()), (SetEnv, "12"), "{plan:#?}");
    let until = plan.steps[0].until.as_ref().unwrap().0;
    assert_eq!(until.duration_since(moment(scene.now)), SignedDuration::from_hours(1));
    let large = too_small(|scene| database(scene).max_connections = 1000);
    assert_eq!(self::plan(&large).steps[0].edits[0].to, "50", "the guides go no further");
}

#[test]
fn a_pool_that_may_not_be_raised_is_a_persons() {
    type Change = fn(&mut Scene);
    let rows: &[(&str, Change, &str)] = &[
        ("nobody allows it", |scene| scene.spec.actions.set_env = None, "Escalate VariableNotAllowed"),
        ("it is at its bound", |scene| database(scene).max_connections = 60, "Escalate PoolAtItsBound"),
        ("others take what is left", |scene| database(scene).connections = 60, "Escalate PoolAtItsBound"),
        (
            "max_connections is not known",
            |scene| scene.signals.database = Reading::Unavailable("it does not answer".to_owned()),
            "Escalate PoolBoundUnknown",
        ),
        ("it is not told", |scene| database(scene).max_connections = 0, "Escalate PoolBoundUnknown"),
    ];
    for (what, change, expected) in rows {
        assert_eq!(too_small(change).decision(), *expected, "{what}");
    }
}

#[test]
fn a_runbooks_own_pool_is_held_to_the_same_bound() {
    let decision = |name: &str, value: &str, change: fn(&mut Scene)| {
        let (name, value) = (name.to_owned(), value.to_owned());
        too_small(move |scene| {
            let set = mcp_health_api::SetEnvParameters { name: EnvName(name.clone()), value, hold_for: None };
            scene.spec.actions.set_env = Some(SetEnvPolicy { allow: vec![EnvName(name)] });
            let steps = [Some(SetEnv)];
            let incident = IncidentType::DatabasePoolExhausted;
            scene.spec = policy::with_runbook(scene.spec.clone(), incident, &steps);
            let own = scene.spec.overrides.last_mut().unwrap();
            own.runbook.as_mut().unwrap()[0].set_env = Some(set);
            change(scene);
        })
        .decision()
    };
    let gone: fn(&mut Scene) = |scene| scene.signals.database = Reading::Off;
    for (name, value, change, expected) in [
        ("DB_POOL_SIZE", "12", (|_| {}) as fn(&mut Scene), "Act SetEnv"),
        ("DB_POOL_SIZE", "13", |_| {}, "Escalate PoolBound"),
        ("DB_POOL_MAX_OVERFLOW", "12", |_| {}, "Act SetEnv"),
        ("DB_POOL_MAX_OVERFLOW", "13", |_| {}, "Escalate PoolBound"),
        ("DB_POOL_MAX_OVERFLOW", "-1", |_| {}, "Escalate PoolBound"),
        ("DB_POOL_SIZE", "0", |_| {}, "Escalate PoolBound"),
        ("DB_POOL_SIZE", "many", |_| {}, "Escalate PoolBound"),
        ("DB_POOL_SIZE", "9223372036854775807", |_| {}, "Escalate PoolBound"),
        ("DB_POOL_SIZE", "6", gone, "Escalate PoolBound"),
        ("DB_POOL_SIZE", "4", gone, "Act SetEnv"),
        ("MCP_WORKERS", "64", gone, "Act SetEnv"),
    ] {
        assert_eq!(decision(name, value, change), expected, "{name}={value}");
    }
}

#[test]
fn an_attempt_is_begun_once_however_often_the_operator_ends() {
    use crate::support::operator::Crash;
    for crash in [Crash::Unrecorded, Crash::Undone, Crash::HalfDone, Crash::Unnoted] {
        for spared in 0..3 {
            let mut operator = based(|_| {});
            (operator.crash, operator.spared) = (Some(crash), spared);
            operator.world.leak(80);
            operator.run(900, 3);
            let done = effects(&operator);
            assert!(done.len() <= 1, "{crash:?} after {spared}: {done:?}");
            let attempts = operator.status().incidents.into_iter().flat_map(|one| one.attempts);
            let open: Vec<Attempt> = attempts.filter(|one| one.outcome.is_none()).collect();
            assert_eq!(open, [], "{crash:?} after {spared}");
        }
    }
}

#[test]
fn an_address_in_version_six_is_that_of_version_four() {
    let mut scene = leaked();
    let client = pod(&scene);
    let IpAddr::V4(four) = client else { panic!("{client}") };
    for one in &mut database(&mut scene).sessions {
        one.client = Some(four.to_ipv6_mapped().to_string());
    }
    assert_eq!(scene.decision(), "Act EndDatabaseSessions");
}

#[test]
fn what_was_recorded_is_not_done_once_the_database_is_not_seen_any_more() {
    use crate::support::{
        operator::Crash,
        watches::{Sight, Source},
    };
    // Found without the database, and nearer to the root than what it tells.
    let mut operator = based(|spec| {
        let incident = IncidentType::ServiceNotResponding;
        *spec = policy::with_runbook(spec.clone(), incident, &[Some(EndDatabaseSessions)]);
    });
    operator.world.leak(5);
    operator.run(30, 1);
    operator.world.service_astray = true;
    operator.crash = Some(Crash::Undone);
    let attempt = |status: &mcp_health_api::McpServerHealthStatus| {
        let found = status.incidents.iter().find(|one| one.cause == Cause::ServiceMismatch);
        found.and_then(|found| found.attempts.first().cloned())
    };
    operator.run_until("the record", 600, |status| attempt(status).is_some());
    operator.watches.set(&operator.world.clone(), Source::Database, Sight::Gone);
    operator.run(5, 1);
    assert_eq!(effects(&operator), []);
    let attempt = attempt(&operator.status()).unwrap();
    assert_eq!(attempt.outcome, Some(Outcome::Superseded), "{attempt:#?}");
}

#[test]
fn connections_that_leak_without_a_transaction_are_ended_once_they_are_old_enough() {
    use mcp_health_api::Measure;
    let leaking = |age: i64| {
        too_small(|scene| {
            scene.spec.actions.allow.push(EndDatabaseSessions);
            let (now, client) = (scene.now, pod(scene));
            database(scene).sessions = (1..=30).map(|pid| idle(pid, now - age, client)).collect();
            let Reading::Fresh(metrics) = &mut scene.signals.metrics else { panic!() };
            // No more is asked for than before.
            for one in metrics.series.iter_mut().filter(|one| one.measure == Measure::Requests) {
                one.value = 1.0;
            }
        })
    };
    assert_eq!(leaking(599).decision(), "Wait");
    assert_eq!(leaking(601).decision(), "Act EndDatabaseSessions");
    let fences = fences(&plan(&leaking(601)));
    assert_eq!((fences.len(), fences[0].state.as_str(), fences[0].list.len()), (1, "idle", 30));
}

#[test]
fn what_was_left_alone_one_soon_after_the_other_is_ended_together_and_nobody_waits_for_long() {
    let burst = |ages: &[i64]| {
        leaked().with(|scene| {
            let now = scene.now;
            for (one, age) in database(scene).sessions.iter_mut().zip(ages) {
                (one.state_change, one.xact_start) = (Some(moment(now - age)), Some(moment(now - age)));
            }
        })
    };
    for (ages, decision) in [
        ([301, 301, 301], "Act EndDatabaseSessions"),
        ([301, 290, 286], "Wait"),
        ([301, 290, 284], "Wait"),
        ([301, 284, 200], "Act EndDatabaseSessions"),
        ([331, 299, 290], "Act EndDatabaseSessions"),
    ] {
        assert_eq!(burst(&ages).decision(), decision, "{ages:?}");
    }
    assert_eq!(pids(&burst(&[331, 299, 200])).len(), 1);
}
