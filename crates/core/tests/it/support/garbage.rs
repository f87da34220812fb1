//! Statuses that fit the schema and make no sense: what somebody may have written there by hand.

use jiff::Timestamp;
use mcp_health_api::{
    ActionType, Attempt, Cause, Condition, Effect, Escalation, FollowUp, HealthyRevision, Hold, Incident,
    IncidentState, IncidentType, LastAction, McpServerHealthStatus, Outcome, PastIncident, SessionFence,
    Severity, Step, StepState, TargetStatus, Time,
};
use mcp_health_core::{actions::ACTIONS, catalogue::CATALOGUE};
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
                evidence_kept: None,
                attempts,
                next: None,
                hold: hold.map(|(reason, message, until)| Hold { reason, message, until }),
                escalation: escalation.map(|(reason, message, at)| Escalation { reason, message, at }),
            }
        })
        .boxed()
}

fn past() -> BoxedStrategy<PastIncident> {
    (text(), incident_type(), cause(), severity(), time(), time(), prop::collection::vec(text(), 0..3))
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
            template,
            last_healthy: healthy.map(|(template, replica_set, uid, revision, since)| HealthyRevision {
                template,
                replica_set,
                uid,
                revision,
                since,
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
    let last = (action(), time(), text(), option::of(text()), option::of(outcome()))
        .prop_map(|(action, at, attempt, from, outcome)| LastAction { action, at, attempt, from, outcome });
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
