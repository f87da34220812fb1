//! decide: what to do about the primary incident, now: wait, act, hold, or hand over; and when to look
//! again. The runbook is a ladder: a step that did not help gives way to the next.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Attempt, Effect, Hold, Incident, Outcome, RunbookStep, Time};

use crate::{
    Case, Diagnosis, Fleet, Server, StatusDraft,
    actions::{self, Plan, Planned},
    attempt::past_actions,
    catalogue::{facts, worst_pod},
    escalation::{
        MADE_THINGS_WORSE, NEEDED_FOR_GOOD, NO_AUTOMATIC_ACTION, RESPONSE_OVERDUE, REVERTED, STEP_OVERDUE,
    },
    guards::{GuardAnswer, GuardQuestion, ask, ask_to_go_on},
    revert::{self, Revert},
    runbook::runbook,
    signals::{Pod, RecordedAction},
    time::after,
    words,
};

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing; look again then, or when something changes.
    Wait {
        /// The time of the next look.
        until: Option<Timestamp>,
        /// What is waited for, as the incident's `next`.
        next: Option<String>,
    },
    /// This, now.
    Act(Box<Plan>),
    /// Continue the recorded attempt: what it did is not known. Where a guard now speaks against it, it may
    /// only be found done, not be done.
    Resume {
        /// Why it may not be done any more.
        against: Option<String>,
    },
    /// Not now.
    Hold {
        /// The guard's answer.
        hold: Hold,
        /// What would be done.
        what: String,
    },
    /// Nothing that automation should do.
    Escalate {
        /// In one word.
        reason: String,
        /// In a sentence.
        message: String,
    },
}

impl Decision {
    fn wait(until: Option<Timestamp>) -> Self {
        Self::Wait { until, next: None }
    }

    fn hold(reason: &str, message: String, until: Option<Timestamp>, plan: Plan) -> Self {
        let hold = Hold { reason: reason.to_owned(), message, until: until.map(Time) };
        Self::Hold { hold, what: plan.what }
    }

    fn escalate(reason: &str, message: impl Into<String>) -> Self {
        Self::Escalate { reason: reason.to_owned(), message: message.into() }
    }
}

/// Decides about the primary incident. The others follow from it and never act.
pub fn decide(case: &Case, diagnosis: &Diagnosis, draft: &StatusDraft, fleet: &Fleet) -> Decision {
    let Some(incident) = draft.primary() else { return Decision::wait(draft.look_again) };
    let server = Server::of(case);
    let situation =
        server.as_ref().map(|server| Situation { case, server, diagnosis, draft, fleet, incident });
    if let Some(attempt) = incident.open_attempt() {
        if attempt.is_carried_out() {
            return overdue(case, draft, incident)
                .unwrap_or_else(|| verifying(case, incident, draft.look_again));
        }
        if let Some(waiting) = waiting(case, attempt) {
            return overdue(case, draft, incident).unwrap_or(waiting);
        }
        return match &situation {
            Some(situation) => situation.resume(attempt),
            None => overdue(case, draft, incident).unwrap_or_else(|| blind(draft)),
        };
    }
    if incident.is_mitigated() {
        return situation.map_or_else(|| blind(draft), |situation| situation.mitigated());
    }
    if incident.is_escalated() && revert::due(incident).is_none() {
        return Decision::wait(draft.look_again);
    }
    if let Some(needed) = needed_for_good(incident) {
        return needed;
    }
    if let Some(overdue) = overdue(case, draft, incident) {
        return overdue;
    }
    // What cannot be seen cannot be acted on; what is quiet needs no action.
    let Some(situation) = situation else { return blind(draft) };
    if let Some(quiet) = &incident.quiet_since {
        let until = facts(incident.incident_type).closes_at(case, incident, quiet.0);
        let next = format!("resolved if quiet until {}", words::moment(until));
        return Decision::Wait { until: Some(until), next: Some(next) };
    }
    if let Some(until) = overtaken(case, incident) {
        return Decision::wait(Some(until));
    }
    match incident.attempts.iter().rev().find(|attempt| attempt.is_spent()).map(|last| (last, last.outcome)) {
        Some((last, Some(outcome))) if last.undoes.is_some() && outcome != Outcome::Improved => {
            Decision::escalate(MADE_THINGS_WORSE, "an action made things worse and was reverted")
        }
        Some((last, Some(Outcome::Worse))) => situation.revert(last),
        Some((last, Some(Outcome::Reverted))) => Decision::escalate(
            REVERTED,
            format!("{}: {}", last.id, last.message.as_deref().unwrap_or("somebody took the action back")),
        ),
        Some((last, Some(Outcome::Failed))) => {
            Decision::escalate(STEP_OVERDUE, last.message.clone().unwrap_or_default())
        }
        Some((last, Some(Outcome::Inconclusive))) => Decision::escalate(
            "Inconclusive",
            format!("{}: {}", last.id, last.message.as_deref().unwrap_or("its effect could not be judged")),
        ),
        // What helped is not in force any more, and the fault does not show: what came instead is on its way.
        Some((_, Some(Outcome::Improved))) if diagnosis.finding_of(incident).is_none() => {
            let next = "waits until what replaced the last action is through".to_owned();
            Decision::Wait { until: draft.look_again, next: Some(next) }
        }
        // Its rule waits for evidence, or sees nothing of it at this moment: what it forbade, it would
        // forbid.
        _ if diagnosis.finding_of(incident).is_none() => Decision::wait(draft.look_again),
        _ => situation.climb(),
    }
}

/// One server, one incident, and everything a guard may ask.
struct Situation<'a> {
    case: &'a Case<'a>,
    server: &'a Server<'a>,
    diagnosis: &'a Diagnosis,
    draft: &'a StatusDraft,
    fleet: &'a Fleet,
    incident: &'a Incident,
}

impl Situation<'_> {
    fn may(&self, plan: &Plan) -> GuardAnswer {
        let past = past_actions(self.case, self.server, &self.draft.incidents, None);
        ask(&self.question(plan, None, &past))
    }

    fn question<'b>(
        &'b self,
        plan: &'b Plan,
        resumed: Option<&'b Attempt>,
        past: &'b [RecordedAction],
    ) -> GuardQuestion<'b> {
        GuardQuestion {
            case: self.case,
            server: self.server,
            diagnosis: self.diagnosis,
            incidents: &self.draft.incidents,
            incident: self.incident,
            plan,
            resumed,
            past,
            fleet: self.fleet,
        }
    }

    /// A recorded intent passes all guards again: somebody may have edited the status, or thrown a switch.
    fn resume(&self, attempt: &Attempt) -> Decision {
        let plan = Plan {
            action: attempt.action,
            what: String::new(),
            why: attempt.why.clone(),
            steps: attempt.steps.clone(),
            undoes: attempt.undoes.clone(),
        };
        // Limits count from the record: what was meant long ago is not done now, but decided anew.
        let age = self.case.now.duration_since(attempt.recorded_at.0);
        if !attempt.has_begun() && age > self.case.settings.settle {
            let recorded = words::moment(attempt.recorded_at.0);
            return Decision::Resume { against: Some(format!("it was meant for {recorded}")) };
        }
        let past = past_actions(self.case, self.server, &self.draft.incidents, Some(&attempt.id));
        let question = self.question(&plan, Some(attempt), &past);
        match if attempt.has_begun() { ask_to_go_on(&question) } else { ask(&question) } {
            GuardAnswer::Permit => Decision::Resume { against: None },
            GuardAnswer::Hold { message, .. } | GuardAnswer::Refuse { message, .. } => {
                Decision::Resume { against: Some(message) }
            }
        }
    }

    /// All is well by something temporary: its time may be over, else it waits for a permanent fix.
    fn mitigated(&self) -> Decision {
        let Self { case, incident, .. } = *self;
        let is_due = |at: &Time| at.0 <= case.now;
        let due = incident.follow_ups.iter().find(|one| one.take_back_at.as_ref().is_some_and(is_due));
        let done = due.and_then(|due| incident.attempts.iter().find(|attempt| attempt.id == due.attempt));
        if let Some(Revert::Possible(plan)) =
            done.map(|attempt| revert::plan(case, self.server, incident, attempt))
        {
            return self.act_or_hold(*plan);
        }
        let next = incident.follow_ups.first().map(|one| format!("a permanent fix: {}", one.message));
        Decision::Wait { until: self.draft.look_again, next }
    }

    /// The revert of an attempt that made things worse.
    fn revert(&self, worse: &Attempt) -> Decision {
        match revert::plan(self.case, self.server, self.incident, worse) {
            Revert::Possible(plan) => self.act_or_hold(*plan),
            Revert::Unknown(problem) => {
                let hold = Hold { reason: "EvidenceNotFresh".to_owned(), message: problem, until: None };
                Decision::Hold { hold, what: format!("revert {}", worse.id) }
            }
            Revert::Impossible => Decision::escalate(
                MADE_THINGS_WORSE,
                format!("{} made things worse, and nothing of it can be reverted", worse.id),
            ),
        }
    }

    /// A revert waits until it may be done, whatever speaks against it at this moment.
    fn act_or_hold(&self, plan: Plan) -> Decision {
        let refused = revert::refused_until(self.incident).filter(|until| *until > self.case.now);
        if let Some(until) = refused {
            let last = self.incident.attempts.last().and_then(|attempt| attempt.message.clone());
            return Decision::hold("RevertRefused", last.unwrap_or_default(), Some(until), plan);
        }
        match self.may(&plan) {
            GuardAnswer::Permit => Decision::Act(Box::new(plan)),
            GuardAnswer::Hold { reason, message, until } => Decision::hold(reason, message, until, plan),
            GuardAnswer::Refuse { reason, message } => Decision::hold(reason, message, None, plan),
        }
    }

    /// The first step of the runbook that was not tried and can be taken.
    fn climb(&self) -> Decision {
        let incident = self.incident;
        let mut tried: Vec<ActionType> = incident
            .attempts
            .iter()
            .filter(|attempt| attempt.is_spent())
            .map(|attempt| attempt.action)
            .collect();
        let next = self.next_to_recycle();
        let mut obstacles: Vec<(&'static str, String)> = Vec::new();
        let runbook = runbook(self.case, self.server, incident);
        for step in &runbook {
            let Some(action) = step.action else {
                return Decision::escalate("Runbook", "the runbook hands over to a person at this step");
            };
            if let Some(at) = tried.iter().position(|one| *one == action) {
                tried.remove(at);
                if action != ActionType::RecyclePod || !next.is_some_and(|pod| self.is_last_of_all(pod)) {
                    continue;
                }
            }
            if let Some(decision) = self.take(action, step.own, &mut obstacles) {
                return decision;
            }
        }
        // No other step can be taken: what helped one pod may help the next.
        let again = runbook.iter().find(|step| step.action == Some(ActionType::RecyclePod));
        let again = again.filter(|_| next.is_some());
        again
            .and_then(|step| self.take(ActionType::RecyclePod, step.own, &mut obstacles))
            .unwrap_or_else(|| self.hand_over(obstacles))
    }

    /// One step of the runbook; or what speaks against it for good.
    fn take(
        &self,
        action: ActionType,
        step: Option<&RunbookStep>,
        obstacles: &mut Vec<(&'static str, String)>,
    ) -> Option<Decision> {
        let Self { case, server, diagnosis, incident, .. } = *self;
        let asked = actions::Asked { case, server, diagnosis, incident, step };
        let (reason, message) = match actions::plan(action, &asked) {
            Planned::Later { until, why } => {
                return Some(Decision::Wait { until: Some(until), next: Some(format!("{action}: {why}")) });
            }
            Planned::Impossible { reason, message } => (reason, message),
            Planned::Ready(plan) => match self.may(&plan) {
                GuardAnswer::Permit => return Some(Decision::Act(Box::new(plan))),
                GuardAnswer::Refuse { reason, message } => (reason, message),
                GuardAnswer::Hold { reason, message, until } => {
                    return Some(Decision::hold(reason, message, until, plan));
                }
            },
        };
        obstacles.push((reason, message));
        None
    }

    /// The pod that would be recycled next, where that helped the last one: a pod from before it, which still
    /// shows the fault. A successor that fails as well is proof that it did not help.
    fn next_to_recycle(&self) -> Option<&Pod> {
        let last = self.incident.attempts.iter().rev().find(|attempt| attempt.is_spent())?;
        let helped = last.action == ActionType::RecyclePod && last.outcome == Some(Outcome::Improved);
        let worst = worst_pod(self.incident.incident_type, self.case, self.server)?;
        (helped && self.incident.rule.is_none() && worst.created < last.recorded_at.0).then_some(worst)
    }

    /// No other pod shows the fault: to replace it touches less than any later step of the runbook.
    fn is_last_of_all(&self, pod: &Pod) -> bool {
        let others = self.server.without(pod);
        worst_pod(self.incident.incident_type, self.case, &others).is_none()
    }

    fn hand_over(&self, obstacles: Vec<(&'static str, String)>) -> Decision {
        let incident = self.incident;
        let spent: Vec<_> = incident.attempts.iter().filter(|attempt| attempt.is_spent()).collect();
        if let Some((reason, message)) = obstacles.into_iter().next() {
            return Decision::escalate(reason, message);
        }
        match spent.last() {
            None if facts(incident.incident_type).class.is_told() => Decision::escalate(
                &incident.incident_type.to_string(),
                incident.evidence.first().map_or("others say that something is wrong", String::as_str),
            ),
            Some(last) if last.outcome == Some(Outcome::Improved) => Decision::escalate(
                "RunbookExhausted",
                format!("{} helped for a time only: it happens again", last.action),
            ),
            Some(last) => Decision::escalate(
                "RunbookExhausted",
                format!("{} did not help: {}", last.action, last.message.as_deref().unwrap_or("no change")),
            ),
            None if incident.rule.is_some() => Decision::escalate(
                NO_AUTOMATIC_ACTION,
                format!("rule {} names no action: see the evidence", incident.name()),
            ),
            None if facts(incident.incident_type).class.is_outside() => Decision::Wait {
                until: self.draft.look_again,
                next: Some(facts(incident.incident_type).class.next().to_owned()),
            },
            None => Decision::escalate(
                NO_AUTOMATIC_ACTION,
                format!("no action mends {} ({}): see the evidence", incident.name(), incident.cause),
            ),
        }
    }
}

/// The next step only lets time pass.
fn waiting(case: &Case, attempt: &Attempt) -> Option<Decision> {
    let step = attempt.next_step()?;
    let until = step.until.as_ref().map(|until| until.0);
    let until_words =
        until.map(|at| format!(" until {} at the latest", words::moment(at))).unwrap_or_default();
    let next = match step.effect {
        Effect::Wait => format!("waits{until_words}, then goes on with {}", attempt.action),
        Effect::AwaitRollout => {
            format!("waits for the rollout{until_words}, then goes on with {}", attempt.action)
        }
        _ => return None,
    };
    // Once its time is over, whoever judges it says when to look again.
    Some(Decision::Wait { until: until.filter(|at| *at > case.now), next: Some(next) })
}

/// The last attempt came too late: until when to wait. What is seen may still be what was decided on; and
/// what keeps getting in between has its way for longer each time.
fn overtaken(case: &Case, incident: &Incident) -> Option<Timestamp> {
    let mut overtaken =
        incident.attempts.iter().rev().take_while(|attempt| attempt.outcome == Some(Outcome::Superseded));
    let last = overtaken.next()?.finished_at.as_ref()?.0;
    let again = u32::try_from(overtaken.count()).unwrap_or(u32::MAX).min(8);
    let until = after(last, SignedDuration::from_secs(1 << again));
    (until > case.now).then_some(until)
}

/// What had helped and was only for a time was taken back, and all is not well.
fn needed_for_good(incident: &Incident) -> Option<Decision> {
    let last = incident.attempts.iter().rev().find(|attempt| attempt.is_spent())?;
    let undone = incident.attempts.iter().find(|one| Some(&one.id) == last.undoes.as_ref())?;
    let failed = matches!(last.outcome, Some(Outcome::NoChange | Outcome::Worse | Outcome::Inconclusive));
    (undone.outcome == Some(Outcome::Improved) && failed && incident.quiet_since.is_none()).then(|| {
        let why = format!("{} is needed for good: without it, it happens again", last.action);
        Decision::escalate(NEEDED_FOR_GOOD, why)
    })
}

/// The answer is due, whatever the runbook has left. What follows from the incident may be due before it is.
fn overdue(case: &Case, draft: &StatusDraft, incident: &Incident) -> Option<Decision> {
    let urgent = draft.most_urgent()?;
    let due = urgent.respond_by.0;
    let whose = if urgent.id == incident.id {
        String::new()
    } else {
        format!("{} ({}), which follows from it, is ", urgent.name(), urgent.severity)
    };
    let held = incident.hold.as_ref().map(|hold| format!("; held ({}): {}", hold.reason, hold.message));
    let held = held.unwrap_or_default();
    (incident.escalation.is_none() && !incident.is_answered() && due <= case.now).then(|| {
        Decision::escalate(
            RESPONSE_OVERDUE,
            format!("{whose}unresolved after {}{held}", words::span(due.duration_since(urgent.opened_at.0))),
        )
    })
}

fn verifying(case: &Case, incident: &Incident, look_again: Option<Timestamp>) -> Decision {
    let deadline = incident.open_attempt().and_then(|attempt| attempt.verify_at.as_ref()).map(|at| at.0);
    // Past its deadline, what is ready just settles: that has a time of its own.
    let deadline = deadline.filter(|at| *at > case.now);
    let next =
        deadline.map(|at| format!("resolved once ready and settled; given up at {}", words::moment(at)));
    Decision::Wait { until: look_again.into_iter().chain(deadline).min(), next }
}

fn blind(draft: &StatusDraft) -> Decision {
    let waiting = draft.primary().filter(|incident| incident.escalation.is_none());
    let overdue = waiting.and(draft.most_urgent()).map(|incident| incident.respond_by.0);
    Decision::Wait {
        until: draft.look_again.into_iter().chain(overdue).min(),
        next: Some("waits for evidence: see the condition SignalsAvailable".to_owned()),
    }
}
