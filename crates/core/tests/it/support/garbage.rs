//! Statuses that fit the schema and make no sense: what somebody may have written there by hand.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{
    ActionOutcome, ActionType, Attempt, Cause, Condition, Effect, Escalation, FollowUp, HealthyRevision,
    Hold, Incident, IncidentState, IncidentType, LastAction, McpServerHealthStatus, Outcome, PastIncident,
    SessionFence, Severity, Step, StepState, TargetStatus, Time,
};
use mcp_health_core::{
    actions::ACTIONS,
    catalogue::CATALOGUE,
    signals::{
        Database, Reading,
        database::{
            BlockingChain, DatabaseTable, DiskFull, Frequent, Recent, Session, SessionCounts, SessionState,
            Slot, Statement,
        },
    },
};
use proptest::{option, prelude::*, sample::select};

use super::moment;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("crashloop-7f3a9c-1".to_owned()),
        Just("crashloop-7f3a9c".to_owned()),
        Just("-".to_owned()),
        Just("x-99999999999999999999".to_owned()),
        Just("deployment-1".to_owned()),
        Just("mcp-server-3".to_owned()),
        Just("postgres://mcp:päss@db/é".to_owned()),
        "\\PC{0,12}",
    ]
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        4 => (-4000_i64..8000).prop_map(|at| Time(moment(at))),
        // 0001-01-01, as the wire holds it.
        1 => Just(Time(Timestamp::from_second(-62_135_596_800).unwrap())),
        1 => Just(Time(Timestamp::MAX)),
        1 => Just(Time(Timestamp::UNIX_EPOCH)),
    ]
}

fn action() -> impl Strategy<Value = ActionType> {
    select(ACTIONS.iter().map(|entry| entry.action).collect::<Vec<_>>())
}

fn outcome() -> impl Strategy<Value = Outcome> {
    select(vec![
        Outcome::Improved,
        Outcome::NoChange,
        Outcome::Worse,
        Outcome::Inconclusive,
        Outcome::Superseded,
        Outcome::Reverted,
        Outcome::Refused,
    ])
}

fn severity() -> impl Strategy<Value = Severity> {
    select(vec![Severity::SEV1, Severity::SEV2, Severity::SEV3, Severity::SEV4])
}

fn incident_type() -> impl Strategy<Value = IncidentType> {
    select(CATALOGUE.iter().map(|entry| entry.incident).collect::<Vec<_>>())
}

fn cause() -> impl Strategy<Value = Cause> {
    select(vec![
        Cause::BadRollout,
        Cause::QuotaExceeded,
        Cause::Unschedulable,
        Cause::AdmissionRefused,
        Cause::ReadinessGate,
        Cause::NeverHealthy,
        Cause::ProcessExit,
        Cause::NotReady,
        Cause::ServiceMismatch,
        Cause::ConfigError,
        Cause::DatabaseConnection,
        Cause::LimitTooSmall,
        Cause::Leak,
        Cause::Wedged,
        Cause::CircuitOpen,
        Cause::TimedOut,
    ])
}

/// A number that no sane database tells, among others.
fn count() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0_i64..200, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

fn millis() -> impl Strategy<Value = f64> {
    prop_oneof![3 => 0.0..5000.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => any::<f64>()]
}

fn session() -> BoxedStrategy<Session> {
    let state = select(vec![
        SessionState::Active,
        SessionState::Idle,
        SessionState::IdleInTransaction,
        SessionState::IdleInTransactionAborted,
        SessionState::Other,
    ]);
    let client = prop_oneof![
        Just(None),
        Just(Some("10.1.0.4".to_owned())),
        Just(Some("10.1.0.5/32".to_owned())),
        text().prop_map(Some)
    ];
    let named = |name: &'static str| prop_oneof![3 => Just(name.to_owned()), 1 => text()];
    let times = (time(), option::of(time()), option::of(time()));
    (
        any::<i32>(),
        times,
        state,
        named("mcp"),
        named("mcp_prod"),
        named("mcp-server"),
        client,
        any::<(bool, bool)>(),
        text(),
    )
        .prop_map(|(pid, times, state, user, database, application, client, flags, query)| Session {
            pid: pid % 400,
            backend_start: times.0.0,
            xact_start: times.1.as_ref().map(|at| at.0),
            query_start: times.1.map(|at| at.0),
            state_change: times.2.map(|at| at.0),
            state,
            user,
            is_privileged: flags.0,
            database,
            application,
            client,
            is_client: flags.1,
            waits_for: None,
            query,
        })
        .boxed()
}

/// What no sane database tells.
pub fn databases() -> BoxedStrategy<Database> {
    let chain = (session(), prop::collection::vec((session(), count()), 0..4)).prop_map(|(root, waiting)| {
        let waiting = waiting.into_iter().map(|(one, waits)| (one, SignedDuration::from_secs(waits)));
        BlockingChain { root, waiting: waiting.collect(), count: 0 }
    });
    let statement = (text(), count(), millis(), millis(), option::of((count(), millis()))).prop_map(
        |(query, calls, mean_ms, total_ms, ran)| Statement {
            query: format!("select id from orders where {query}"),
            calls,
            mean_ms,
            total_ms,
            max_ms: total_ms,
            recent: ran.map(|(calls, mean_ms)| Recent { calls, mean_ms, span: SignedDuration::MAX }),
            ..Statement::default()
        },
    );
    let table =
        (count(), count(), count(), option::of(time())).prop_map(|(live, dead, changed, at)| DatabaseTable {
            name: "public.orders".to_owned(),
            live_rows: live,
            dead_rows: dead,
            changed_rows: changed,
            analyzed: at.map(|at| at.0),
            ..DatabaseTable::default()
        });
    let frequent =
        (text(), millis()).prop_map(|(query, a_second)| Frequent { query, a_second, ..Frequent::default() });
    (
        (time(), count(), count(), count(), count()),
        prop::collection::vec(session(), 0..20),
        prop::collection::vec(chain, 0..3),
        prop::collection::vec(statement, 0..4),
        prop::collection::vec(table, 0..3),
        prop::collection::vec(frequent, 0..3),
        (
            option::of((count(), count())),
            option::of((count(), option::of(time()))),
            option::weighted(0.1, text()),
            (option::weighted(0.1, (text(), option::of(count()), count())), option::weighted(0.1, text())),
        ),
        (text(), option::of(text()), any::<bool>()),
    )
        .prop_map(
            |(numbers, sessions, chains, statements, tables, frequent, counted, (words, pooler, may))| {
                let (at, max_connections, reserved_connections, connections, total) = numbers;
                let (cache, checksums, damage, (disk, unread)) = counted;
                let disk = disk.map(|(said, bytes, kept)| DiskFull {
                    said: said.clone(),
                    database: bytes,
                    wal: bytes,
                    slots: vec![Slot { name: said, is_active: false, kept }],
                    ..DiskFull::default()
                });
                Database {
                    words,
                    database: "mcp_prod".to_owned(),
                    application: "mcp-server".to_owned(),
                    at: at.0,
                    may_end_sessions: may,
                    pooler: pooler.filter(|_| !may),
                    max_connections,
                    reserved_connections,
                    connections,
                    counts: SessionCounts { total, active: total, ..SessionCounts::default() },
                    oldest_transaction: sessions.first().cloned(),
                    sessions,
                    chains,
                    statements: Reading::Fresh(statements),
                    frequent,
                    cache,
                    tables,
                    index_candidates: vec!["orders.id".to_owned(), "nonsense".to_owned(), ".".to_owned()],
                    checksum_failures: checksums.map(|(count, at)| (count, at.map(|at| at.0))),
                    damage,
                    disk_full: Reading::Fresh(disk),
                    unread,
                    ..Database::default()
                }
            },
        )
        .boxed()
}

/// A digest: of a template that may be in force, or of none.
fn template(known: Vec<String>) -> impl Strategy<Value = String> {
    prop_oneof![3 => select(known), 1 => text()]
}

fn step(known: &[String]) -> BoxedStrategy<Step> {
    let effect = select(vec![
        Effect::PatchTemplate,
        Effect::EditTemplate,
        Effect::RestartPods,
        Effect::SetReplicas,
        Effect::MarkTarget,
        Effect::HandBackOwnership,
        Effect::EvictPod,
        Effect::RestoreConfig,
        Effect::CallHook,
        Effect::Wait,
        Effect::AwaitRollout,
        Effect::RunJob,
        Effect::ResetCircuit,
        Effect::EndSessions,
    ]);
    let state = select(vec![StepState::Recorded, StepState::Started, StepState::Done]);
    let digest = || option::of(template(known.to_vec()));
    let fence = (text(), option::of(text()));
    let after = (option::of(any::<i64>()), digest(), option::of(time()));
    (effect, digest(), digest(), option::of(text()), option::of(text()), fence, after, state)
        .prop_map(|(effect, from, to, source, object, fence, after, state)| Step {
            effect,
            object,
            edits: Vec::new(),
            sessions: (effect == Effect::EndSessions).then(sessions),
            from,
            to,
            source,
            uid: fence.0,
            resource_version: fence.1,
            generation: after.0,
            template: after.1,
            until: after.2,
            note: None,
            state,
        })
        .boxed()
}

/// What somebody may have written there.
fn sessions() -> SessionFence {
    SessionFence {
        database: "mcp_prod".to_owned(),
        user: "mcp".to_owned(),
        application: "mcp-server".to_owned(),
        state: "idle in transaction".to_owned(),
        list: vec!["4711 nonsense é".to_owned(), String::new()],
    }
}

fn attempt(known: &[String]) -> BoxedStrategy<Attempt> {
    let steps = prop::collection::vec(step(known), 0..3);
    let ended = (option::of(outcome()), option::of(text()), option::of(time()));
    (
        text(),
        action(),
        option::of(text()),
        time(),
        any::<i32>(),
        steps,
        option::of(time()),
        any::<bool>(),
        ended,
    )
        .prop_map(|(id, action, undoes, recorded_at, ready_before, steps, verify_at, extended, ended)| {
            Attempt {
                id,
                action,
                undoes,
                why: "somebody wrote it".to_owned(),
                recorded_at,
                ready_before,
                steps,
                verify_at,
                extended,
                outcome: ended.0,
                message: ended.1,
                finished_at: ended.2,
            }
        })
        .boxed()
}

fn incident(known: &[String]) -> BoxedStrategy<Incident> {
    let attempts = prop::collection::vec(attempt(known), 0..18);
    let times = (time(), time(), time(), option::of(time()));
    let hold = option::of((text(), text(), option::of(time())));
    let escalation = option::of((text(), text(), time()));
    (text(), incident_type(), cause(), option::of(text()), severity(), times, attempts, hold, escalation)
        .prop_map(|(id, incident_type, cause, caused_by, severity, times, attempts, hold, escalation)| {
            Incident {
                id,
                incident_type,
                rule: None,
                cause,
                caused_by,
                severity,
                state: IncidentState::Held,
                since: times.0,
                opened_at: times.1,
                respond_by: times.2,
                quiet_since: times.3,
                evidence: vec!["é".repeat(300)],
                follow_ups: attempts
                    .iter()
                    .take(1)
                    .map(|attempt: &Attempt| FollowUp {
                        attempt: attempt.id.clone(),
                        message: "somebody wrote it".to_owned(),
                        take_back_at: attempt.verify_at.clone(),
                    })
                    .collect(),
                subjects: Vec::new(),
                forbids: vec![mcp_health_api::ActionType::RolloutRestart],
                unseen_since: None,
                reevaluations: i32::MAX,
                evidence_kept: None,
                attempts,
                next: None,
                hold: hold.map(|(reason, message, until)| Hold { reason, message, until }),
                escalation: escalation.map(|(reason, message, at)| Escalation {
                    cause: Some(cause),
                    reevaluated_at: None,
                    reason,
                    message,
                    at,
                }),
            }
        })
        .boxed()
}

fn past() -> BoxedStrategy<PastIncident> {
    let done =
        (action(), option::of(outcome())).prop_map(|(action, outcome)| ActionOutcome { action, outcome });
    (text(), incident_type(), cause(), severity(), time(), time(), prop::collection::vec(done, 0..3))
        .prop_map(|(id, incident_type, cause, severity, opened_at, resolved_at, actions)| PastIncident {
            evidence_kept: None,
            id,
            incident_type,
            rule: None,
            cause,
            severity,
            opened_at,
            resolved_at,
            resolution: String::new(),
            evidence: Vec::new(),
            actions,
            time_to_detect: String::new(),
            time_to_mitigate: None,
            time_to_resolve: String::new(),
        })
        .boxed()
}

fn target(known: Vec<String>) -> BoxedStrategy<TargetStatus> {
    let healthy = (template(known.clone()), text(), text(), option::of(any::<i64>()), time());
    let uid = prop_oneof![4 => Just("deployment-1".to_owned()), 1 => text()];
    (uid, any::<i32>(), any::<i32>(), template(known), option::of(healthy))
        .prop_map(|(uid, ready_replicas, desired_replicas, template, healthy)| TargetStatus {
            uid,
            ready_replicas,
            desired_replicas,
            became_ready: ready_replicas > 1,
            template,
            last_healthy: healthy.map(|(template, replica_set, uid, revision, since)| HealthyRevision {
                template,
                replica_set,
                uid,
                revision,
                since,
                longest_start: None,
                config: Vec::new(),
                tools: Vec::new(),
            }),
            answered_dependencies: Vec::new(),
            answered: Vec::new(),
        })
        .boxed()
}

fn condition() -> impl Strategy<Value = Condition> {
    (select(vec!["Ready", "Escalated", "Nonsense"]), text(), time(), text()).prop_map(
        |(kind, status, last_transition_time, reason)| Condition {
            last_transition_time,
            message: String::new(),
            observed_generation: None,
            reason,
            status,
            type_: kind.to_owned(),
        },
    )
}

/// Any status; `known` are the digests that a server has.
pub fn statuses(known: &[String]) -> BoxedStrategy<McpServerHealthStatus> {
    let last = (action(), time(), text(), option::of(text()), option::of(text()), option::of(outcome()))
        .prop_map(|(action, at, attempt, undoes, from, outcome)| LastAction {
            action,
            at,
            attempt,
            undoes,
            from,
            outcome,
        });
    (
        option::of(target(known.to_vec())),
        option::of(last),
        prop::collection::vec(incident(known), 0..5),
        prop::collection::vec(past(), 0..25),
        prop::collection::vec(condition(), 0..4),
    )
        .prop_map(|(target, last_action, incidents, history, conditions)| McpServerHealthStatus {
            observed_generation: Some(7),
            severity: None,
            summary: None,
            conditions,
            pending: Vec::new(),
            target,
            last_action,
            incidents,
            history,
        })
        .boxed()
}
