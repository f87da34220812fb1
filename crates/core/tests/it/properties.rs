//! What holds over every history, whatever happens in it. The numbers are those of the invariants in the design.

use std::collections::BTreeMap;

use mcp_health_api::{ActionType, Effect, Incident, IncidentType, McpServerHealthStatus, Outcome, StepState};
use mcp_health_core::{
    Decision,
    signals::{Signals, database::SessionState},
};
use proptest::prelude::*;

use crate::support::{
    history::{histories, make_well},
    operator::Look,
    watches::QUEUE,
    world::Done,
};

const MOST: usize = 24;

/// Some histories each time; `PROPTEST_CASES` asks for more.
fn config(cases: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    // Histories that once failed are told by tables; nothing is written beside the sources.
    ProptestConfig {
        cases: wanted.unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    }
}

fn sees_the_server(signals: &Signals) -> bool {
    signals.target.fresh().is_some() && signals.revisions.fresh().is_some() && signals.pods.fresh().is_some()
}

/// The incidents that a look has closed.
fn closed(look: &Look) -> impl Iterator<Item = &mcp_health_api::PastIncident> {
    look.after.history.iter().filter(|past| !look.before.history.iter().any(|one| one.id == past.id))
}

fn attempts(status: &McpServerHealthStatus) -> impl Iterator<Item = &mcp_health_api::Attempt> {
    status.incidents.iter().flat_map(|incident| &incident.attempts)
}

/// The attempt that made things worse, and is to be reverted.
fn due_revert(incident: &Incident) -> Option<&mcp_health_api::Attempt> {
    let last = incident.attempts.iter().rev().find(|attempt| attempt.is_spent())?;
    let is_final = incident.escalation.as_ref().is_some_and(|one| one.reason == "MadeThingsWorse");
    (last.outcome == Some(Outcome::Worse) && last.undoes.is_none() && !is_final).then_some(last)
}

proptest! {
    #![proptest_config(config(8))]

    /// Invariant 1.
    #[test]
    fn what_cannot_be_seen_is_never_acted_on_and_closes_nothing(history in histories(MOST)) {
        for look in &history.live().looks {
            let gone = matches!(look.signals.target.fresh(), Some(None))
                || look.before.target.as_ref().zip(look.signals.target.fresh()).is_some_and(
                    |(known, seen)| seen.as_ref().is_none_or(|seen| seen.uid != known.uid));
            let acted = look.effects.1 > look.effects.0;
            if look.intent.is_some() {
                prop_assert!(look.signals.autoscalers.fresh().is_some(), "{look:#?}");
            }
            if acted {
                prop_assert!(sees_the_server(&look.signals), "{look:#?}");
                prop_assert_eq!(look.signals.cluster_suspended.fresh(), Some(&false));
                prop_assert_eq!(look.signals.namespace_suspended.fresh(), Some(&false));
            }
            if gone || look.signals.rival.is_some() {
                continue;
            }
            for past in closed(look) {
                prop_assert!(sees_the_server(&look.signals), "{past:#?} was closed by {look:#?}");
                let target = look.signals.target.fresh().and_then(Option::as_ref).unwrap();
                let of_metrics = [IncidentType::SessionLeak, IncidentType::TrafficLost];
                if of_metrics.contains(&past.incident_type) && target.desired > 0 {
                    prop_assert!(look.signals.metrics.fresh().is_some(), "{past:#?} was closed by {look:#?}");
                }
                let removed = past.resolution == "the rule was removed from the policy";
                if past.rule.is_some() && target.desired > 0 && !removed {
                    let answers = look.signals.rules.fresh().and_then(|rules| rules.first());
                    let answered = answers.is_some_and(|one| one.values.as_ref().is_ok_and(|all| !all.is_empty()));
                    prop_assert!(answered, "{past:#?} was closed by {look:#?}");
                }
                if past.incident_type == IncidentType::ServiceNotResponding && target.desired > 0 {
                    prop_assert!(look.signals.services.fresh().is_some(), "{past:#?} was closed by {look:#?}");
                }
                let seen = match past.incident_type {
                    IncidentType::McpProtocolFailing => look.signals.probes.fresh().is_some(),
                    IncidentType::CircuitStuckOpen => look.signals.circuits.fresh().is_some(),
                    IncidentType::DependencyDown => look.signals.dependencies.fresh().is_some(),
                    IncidentType::DatabasePoolExhausted
                    | IncidentType::DatabaseIdleInTransaction
                    | IncidentType::DatabaseBlockingLocks
                    | IncidentType::DatabaseCorruption => look.signals.database.fresh().is_some(),
                    _ => true,
                };
                prop_assert!(seen || target.desired == 0, "{past:#?} was closed by {look:#?}");
            }
        }
    }

    /// Never restarts pods (DESIGN §6), nor adds any.
    #[test]
    fn no_pod_is_restarted_or_added_while_a_dependency_is_down(history in histories(MOST)) {
        for look in &history.live().looks {
            let Some(intent) = &look.intent else { continue };
            let seen = look.signals.dependencies.fresh().map(Vec::as_slice).unwrap_or_default();
            let now = crate::support::moment(look.at);
            let is_fresh = |at: jiff::Timestamp| now.duration_since(at).as_secs() <= 60;
            let down = seen.iter().any(|one| {
                one.name == QUEUE && one.is_down() && one.results.last().is_some_and(|(at, _)| is_fresh(*at))
            });
            let attempt = intent.incidents[0].open_attempt().unwrap();
            let restarts = [
                ActionType::RolloutRestart, ActionType::RecyclePod, ActionType::DrainAndRestart, ActionType::Scale,
            ];
            prop_assert!(!down || !restarts.contains(&attempt.action), "{look:#?}");
        }
    }

    /// Invariant 2.
    #[test]
    fn a_step_has_one_effect_at_most_wherever_the_operator_is_cut_off(history in histories(MOST)) {
        let operator = history.live();
        let mut seen = Vec::new();
        for done in &operator.world.done {
            let step = (&done.attempt, done.step);
            prop_assert!(!seen.contains(&step), "twice: {done:?} in {:#?}", operator.world.done);
            seen.push(step);
        }
        for look in &operator.looks {
            let mut done = operator.world.done[look.effects.0..look.effects.1].iter();
            if let Some(first) = done.next() {
                prop_assert!(done.all(|one| one.attempt == first.attempt && one.step > first.step), "{look:#?}");
            }
        }
    }

    /// Sessions are ended only as they were seen: the server's own, from its pods, and doing nothing.
    #[test]
    fn only_idle_sessions_of_the_servers_own_are_ever_ended(history in histories(MOST)) {
        let operator = history.live();
        for look in &operator.looks {
            let steps = look.intent.iter().flat_map(attempts).filter(|one| one.outcome.is_none());
            for fence in steps.flat_map(|one| &one.steps).filter_map(|step| step.sessions.as_ref()) {
                let database = look.signals.database.fresh().unwrap();
                let pods = look.signals.pods.fresh().unwrap();
                prop_assert!(!fence.list.is_empty() && fence.list.len() <= mcp_health_api::SESSIONS_LIMIT);
                for line in &fence.list {
                    let pid = line.split(' ').next().unwrap();
                    let session = database.sessions.iter().find(|one| one.pid.to_string() == pid).unwrap();
                    let idle = database.at.duration_since(session.state_change.unwrap());
                    prop_assert!(session.state != SessionState::Active && idle.as_secs() >= 60, "{session:#?}");
                    prop_assert!(session.is_client && !session.is_privileged, "{session:#?}");
                    prop_assert_eq!((&fence.application, &fence.user), (&session.application, &session.user));
                    let client = session.client.as_ref().unwrap().parse().unwrap();
                    prop_assert!(pods.iter().any(|pod| pod.address == Some(client)), "{session:#?}");
                }
            }
        }
        let ended = operator.world.postgres.iter().flat_map(|one| &one.ended);
        prop_assert!(ended.into_iter().all(|one| one.state != SessionState::Active));
    }

    /// Invariant 3.
    #[test]
    fn every_effect_was_recorded_before_and_every_record_comes_to_an_end(history in histories(MOST)) {
        let mut operator = history.live();
        make_well(&mut operator);
        operator.run(3600, 15);
        for look in &operator.looks {
            let written = || [&look.before].into_iter().chain(&look.intent).chain(&look.begun);
            for done in &operator.world.done[look.effects.0..look.effects.1] {
                let step = written().flat_map(attempts).filter(|one| one.id == done.attempt).last();
                let step = step.map(|attempt| &attempt.steps[done.step]);
                let expected = match done.effect {
                    // Nothing tells of it afterwards: what may have happened has happened.
                    effect if effect.is_untraceable() => StepState::Started,
                    _ => StepState::Recorded,
                };
                prop_assert!(
                    step.is_some_and(|step| (step.effect, step.state) == (done.effect, expected)),
                    "{done:?} was not recorded: {look:#?}"
                );
            }
            // Nothing is dropped: an attempt stays, or its incident is closed.
            for incident in &look.before.incidents {
                let kept = look.after.incidents.iter().find(|one| one.id == incident.id);
                let is_over = look.after.history.iter().any(|past| past.id == incident.id);
                prop_assert!(kept.is_some() || is_over, "{incident:#?} is forgotten by {look:#?}");
                for attempt in incident.attempts.iter().filter(|attempt| attempt.outcome.is_none()) {
                    let kept = kept.is_none_or(|kept| kept.attempts.iter().any(|one| one.id == attempt.id));
                    prop_assert!(kept, "{attempt:#?} is forgotten by {look:#?}");
                }
            }
        }
        let open: Vec<_> = operator.status().incidents;
        prop_assert!(open.iter().all(|incident| incident.open_attempt().is_none()), "still open: {open:#?}");
    }

    /// Invariant 4.
    #[test]
    fn no_limit_is_exceeded_in_any_window(history in histories(MOST)) {
        let operator = history.live();
        let mut by_server: BTreeMap<&str, Vec<&Done>> = BTreeMap::new();
        let mut by_incident: BTreeMap<&str, usize> = BTreeMap::new();
        // The clock of a window starts with the record; an effect follows it within seconds, or not at all.
        let late = 20;
        let mut counted = Vec::new();
        for done in &operator.world.done {
            // An action counts once, whatever number of steps it has.
            if counted.contains(&&done.attempt) {
                continue;
            }
            counted.push(&done.attempt);
            let recent = by_server.entry(&done.uid).or_default();
            recent.push(done);
            // Reverts do not count, and are not limited: each attempt has at most one.
            let in_the_hour =
                recent.iter().filter(|one| one.undoes.is_none() && done.at - one.at < 3600 - late).count();
            let same = recent.iter().filter(|one| one.undoes.is_some() && one.undoes == done.undoes).count();
            prop_assert!(same <= 1, "{:#?}", operator.world.done);
            prop_assert!(in_the_hour <= history.max_actions_per_hour as usize, "{:#?}", operator.world.done);
            if done.undoes.is_none() {
                if let Some(before) = recent.iter().rev().nth(1) {
                    prop_assert!(
                        done.at - before.at >= i64::from(history.cooldown) - late,
                        "{:#?}", operator.world.done
                    );
                }
                let incident = done.attempt.rsplit_once('-').unwrap().0;
                let of_it = by_incident.entry(incident).or_default();
                *of_it += 1;
                prop_assert!(*of_it <= history.max_attempts as usize, "{:#?}", operator.world.done);
            }
        }
    }

    /// Invariant 5.
    #[test]
    fn while_signals_hold_still_the_status_settles_and_actions_stop(history in histories(MOST)) {
        let mut operator = history.live();
        operator.away_until = 0;
        operator.crash = None;
        let looks = operator.looks.len();
        // Longer than any answer may take: a rule of the policy's own is answered within four hours (SEV3).
        let seconds = 5 * 3600;
        // Sessions of a database that is read no more grow no older: again and again they are about to show, at most each
        // five seconds, beside the looks that every history has.
        let most = 500 + if history.based { seconds / 5 } else { 0 };
        let still = operator.run_with_still_signals(seconds);
        let (status, done) = (operator.status(), operator.world.done.len());
        let looks = i64::try_from(operator.looks.len() - looks).unwrap();
        prop_assert!(looks <= most, "{looks} looks");
        for _ in 0..3 {
            operator.world.now += 24 * 3600;
            operator.look_at(&still);
            prop_assert_eq!(&operator.status(), &status);
        }
        prop_assert_eq!(operator.world.done.len(), done);
    }

    /// Invariant 7.
    #[test]
    fn only_what_is_still_ours_is_taken_back(history in histories(MOST)) {
        let operator = history.live();
        for undo in operator.world.done.iter().filter(|done| done.undoes.is_some()) {
            let undone = operator.world.done.iter().find(|done| Some(&done.attempt) == undo.undoes.as_ref()).unwrap();
            prop_assert_eq!(&undo.before, &undone.after, "{:?} takes back {:?}", undo, undone);
            prop_assert_eq!(&undo.after, &undone.before);
            prop_assert_eq!(&undo.uid, &undone.uid);
            prop_assert!(undone.undoes.is_none());
            let judged = operator.looks.iter().flat_map(|look| attempts(&look.after));
            let for_a_time = undone.effect == Effect::EditTemplate;
            prop_assert!(judged.into_iter().any(|one| one.id == undone.attempt
                && (one.outcome == Some(Outcome::Worse) || for_a_time && one.outcome == Some(Outcome::Improved))));
        }
    }

    /// Invariant 7.
    #[test]
    fn a_revert_that_is_due_is_held_or_done_and_never_dropped(history in histories(MOST)) {
        for look in &history.live().looks {
            let seen = look.signals.target.fresh();
            let target = seen.and_then(Option::as_ref);
            let uid = look.before.target.as_ref().map(|known| &known.uid);
            if look.signals.rival.is_some() || seen.is_some() && target.map(|target| &target.uid) != uid {
                continue;
            }
            for incident in &look.before.incidents {
                let Some(worse) = due_revert(incident) else { continue };
                let Some(after) = look.after.incidents.iter().find(|one| one.id == incident.id) else {
                    // What it would revert serves by now, and its rule sees nothing wrong.
                    prop_assert!(target.is_some_and(|target| target.ready >= target.desired), "{look:#?}");
                    continue;
                };
                let reverted = after.attempts.iter().any(|one| one.undoes.as_ref() == Some(&worse.id));
                let kept = due_revert(after).is_some_and(|one| one.id == worse.id);
                let ours = target.is_some_and(|target| worse.steps.iter().any(|step| {
                    step.template.as_ref() == Some(&target.template) && step.template != step.from
                }));
                let source = look.signals.revisions.fresh().is_some_and(|all| all.iter().any(|revision| {
                    worse.steps.iter().any(|step| step.from.as_ref() == Some(&revision.template))
                }));
                prop_assert!(kept || reverted || !(ours && source), "{look:#?}");
            }
        }
    }

    /// Invariant 11.
    #[test]
    fn only_the_primary_incident_acts_one_attempt_at_a_time(history in histories(MOST)) {
        for look in &history.live().looks {
            let open = look.after.incidents.iter().filter(|incident| incident.open_attempt().is_some());
            prop_assert!(open.count() <= 1, "{:#?}", look.after);
            let Some(intent) = &look.intent else { continue };
            let primary = intent.incidents.first().unwrap();
            prop_assert!(primary.open_attempt().is_some() && primary.caused_by.is_none(), "{intent:#?}");
            prop_assert!(matches!(look.decision, Some(Decision::Act(_))));
            prop_assert!(look.signals.rival.is_none());
        }
    }

    /// A healed server does not stay an incident, whatever was before.
    #[test]
    fn a_server_that_is_well_again_has_no_incident_in_the_end(history in histories(MOST)) {
        let mut operator = history.live();
        make_well(&mut operator);
        operator.run(2 * 3600, 15);
        let status = operator.status();
        // What holds something temporary at bay stays to be told; nothing else does.
        prop_assert!(status.incidents.iter().all(Incident::is_mitigated), "{:#?}", status.incidents);
        let target = status.target.unwrap();
        prop_assert_eq!(target.last_healthy.map(|healthy| healthy.template), Some(target.template));
    }

    /// What a status says does not depend on how often it was looked at.
    #[test]
    fn a_look_that_finds_nothing_new_writes_nothing_and_is_not_repeated_at_once(history in histories(MOST)) {
        let operator = history.live();
        let mut same = 0;
        let mut before: Option<&Look> = None;
        for look in &operator.looks {
            same = if before.is_some_and(|before| before.at == look.at && !before.wrote) { same + 1 } else { 0 };
            prop_assert!(same < 3, "{look:#?}");
            before = Some(look);
        }
    }
}
