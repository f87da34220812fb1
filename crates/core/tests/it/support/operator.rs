//! The operator's own loop over a simulated world: the same pure calls in the same order as its reconcile,
//! the same two writes, the same fences, and everything that can cut it off in between. What is not in the
//! status is lost between two looks, because the status goes through JSON every time.

use mcp_health_api::{
    Attempt, Effect, HealthyConfig, McpServerHealthSpec, McpServerHealthStatus, Step, StepState,
};
use mcp_health_core::{
    Case, Decision, Diagnosis, Fleet, Server, Settings, StatusDraft,
    attempt::{self, Acted, Effected},
    decide, diagnose, escalation, report,
    signals::{AnswersSince, Dependency, Reading, Signals},
    verify,
};
use serde_json::Value;

use super::{
    moment, policy,
    watches::{QUEUE, Watches},
    world::{Template, World},
};

/// Where the operator ends, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before the intent is written.
    Unrecorded,
    /// With the intent written, and nothing done.
    Undone,
    /// With the first effect done, and nothing noted.
    HalfDone,
    /// With all effects done, and nothing noted.
    Unnoted,
}

/// Where the queue is.
pub const QUEUE_PLACE: &str = "rabbitmq.mcp:5672";

/// The McpServerHealth.
#[derive(Clone, Debug)]
pub struct Object {
    pub generation: i64,
    pub spec: McpServerHealthSpec,
    status: Value,
}

impl Object {
    pub fn status(&self) -> McpServerHealthStatus {
        serde_json::from_value(self.status.clone()).unwrap()
    }
}

/// One look at the server.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: i64,
    pub signals: Signals,
    pub before: McpServerHealthStatus,
    pub after: McpServerHealthStatus,
    /// The status that carried the intent, where one was written.
    pub intent: Option<McpServerHealthStatus>,
    /// The status that says that a hook is about to be called, where one was written.
    pub begun: Option<McpServerHealthStatus>,
    pub decision: Option<Decision>,
    /// How many effects the world knows of, before and after.
    pub effects: (usize, usize),
    /// Whether any status was written.
    pub wrote: bool,
}

/// The operator, its cluster, and one object.
#[derive(Clone, Debug)]
pub struct Operator {
    pub world: World,
    pub watches: Watches,
    pub object: Option<Object>,
    pub settings: Settings,
    pub fleet: Fleet,
    /// The next write of this kind is its last.
    pub crash: Option<Crash>,
    /// So many writes of that kind come before it.
    pub spared: usize,
    /// It is away until then, and what was asked before is not in its memory.
    pub away_until: i64,
    pub looks: Vec<Look>,
    seen: Option<Signals>,
    woken: bool,
    next_look: Option<jiff::Timestamp>,
}

/// More looks than that without the clock moving are a busy loop.
const BUSY: usize = 12;

impl Operator {
    /// Of three healthy pods that need a queue, which is asked at this interval.
    pub fn of_pods_that_need_a_queue(interval: i64) -> Self {
        let mut world = World::with(Template::Good, 3);
        (world.probed, world.queue_interval) = (true, interval);
        let spec = policy::with_cooldown(policy::enforcing(), 0);
        let mut operator = Self::new(world, policy::with_dependency(spec, QUEUE, QUEUE_PLACE));
        operator.run(150, 1);
        assert!(operator.status().incidents.is_empty(), "{:#?}", operator.status());
        operator
    }

    pub fn new(world: World, spec: McpServerHealthSpec) -> Self {
        let mut operator = Self {
            world,
            watches: Watches::default(),
            object: None,
            settings: Settings::default(),
            fleet: Fleet::default(),
            crash: None,
            spared: 0,
            away_until: 0,
            looks: Vec::new(),
            seen: None,
            woken: true,
            next_look: None,
        };
        operator.create_object(spec);
        operator
    }

    pub fn create_object(&mut self, spec: McpServerHealthSpec) {
        self.object = Some(Object { generation: 1, spec, status: Value::Object(serde_json::Map::new()) });
        self.woken = true;
    }

    /// Changes the object's spec.
    pub fn declare(&mut self, change: impl FnOnce(&mut McpServerHealthSpec)) {
        if let Some(object) = &mut self.object {
            change(&mut object.spec);
            object.generation += 1;
            self.woken = true;
        }
    }

    pub fn status(&self) -> McpServerHealthStatus {
        self.object.as_ref().map(Object::status).unwrap_or_default()
    }

    /// Somebody, or a test, puts another status there.
    pub fn overwrite_status(&mut self, status: &McpServerHealthStatus) {
        if let Some(object) = &mut self.object {
            object.status = serde_json::to_value(status).unwrap();
            self.woken = true;
        }
    }

    /// It ends, and starts again: what it had in memory is lost.
    pub fn restart(&mut self, away: i64) {
        self.away_until = self.world.now + away;
        (self.seen, self.woken, self.next_look) = (None, true, None);
    }

    /// Lets time pass, in steps of so many seconds.
    pub fn run(&mut self, seconds: i64, step: i64) {
        let end = self.world.now + seconds;
        while self.world.now < end {
            self.world.tick(step);
            self.look_while_there_is_reason();
        }
    }

    /// Lets time pass until the status is as wanted. Panics where it takes longer than `limit` seconds.
    pub fn run_until(&mut self, what: &str, limit: i64, wanted: impl Fn(&McpServerHealthStatus) -> bool) {
        let end = self.world.now + limit;
        while !wanted(&self.status()) {
            assert!(self.world.now < end, "not within {limit} s: {what}: {:#?}", self.status());
            self.run(1, 1);
        }
    }

    /// Only the clock goes on, and nothing that is seen changes.
    pub fn run_with_still_signals(&mut self, seconds: i64) -> Signals {
        let end = self.world.now + seconds;
        let still = self.sight();
        while self.world.now < end {
            let due = self.next_look.map_or(end, |at| at.as_second() - moment(0).as_second());
            self.world.now = if self.woken { self.world.now } else { due.clamp(self.world.now + 1, end) };
            if self.woken || due <= self.world.now {
                self.look_at(&still);
            }
        }
        still
    }

    fn look_while_there_is_reason(&mut self) {
        for looks in 0.. {
            if self.world.now < self.away_until || self.object.is_none() {
                return;
            }
            let signals = self.sight();
            let due = self.next_look.is_some_and(|at| at <= moment(self.world.now));
            if !self.woken && !due && self.seen.as_ref() == Some(&signals) {
                return;
            }
            assert!(looks < BUSY, "a busy loop: {:#?}", self.looks.last());
            self.look_at(&signals);
        }
    }

    /// What it sees: of dependencies, what they came to since it started, and what the status says of before.
    fn sight(&self) -> Signals {
        let mut signals = self.watches.look(&self.world);
        let started = moment(self.away_until);
        let Reading::Fresh(dependencies) = &mut signals.dependencies else { return signals };
        let remembered = self.status().target.map(|target| target.answered_dependencies).unwrap_or_default();
        for one in dependencies.iter_mut().filter(|_| self.away_until > 0) {
            one.results.retain(|(at, _)| *at >= started);
            let Some(first) = one.results.first().map(|(at, _)| *at) else {
                *one = Dependency { name: one.name.clone(), ..Dependency::default() };
                continue;
            };
            one.ever_answered = mcp_health_core::dependencies::is_known(&remembered, one)
                || one.results.iter().any(|(_, result)| result.is_ok());
            if let Some(since) = one.answers_since.as_mut().filter(|since| since.at < started) {
                *since = AnswersSince { at: first, had_failed: false };
            }
        }
        signals
    }

    /// One look, as the operator's reconcile takes it.
    pub fn look_at(&mut self, signals: &Signals) {
        let Some(mut object) = self.object.clone() else { return };
        (self.woken, self.next_look, self.seen) = (false, None, Some(signals.clone()));
        let before = object.status();
        let settings = self.settings.clone();
        let case = Case {
            generation: object.generation,
            spec: &self.object.as_ref().unwrap().spec.clone(),
            status: &before,
            signals,
            settings: &settings,
            now: moment(self.world.now),
        };
        let mut look = Look {
            at: self.world.now,
            signals: signals.clone(),
            before: before.clone(),
            after: before.clone(),
            intent: None,
            begun: None,
            decision: None,
            effects: (self.world.done.len(), self.world.done.len()),
            wrote: false,
        };
        let next = self.conclude(&case, &mut object, &mut look);
        look.effects.1 = self.world.done.len();
        look.after = object.status();
        look.wrote = self.object.as_ref().is_some_and(|known| known.status != object.status);
        self.woken |= look.wrote;
        self.object = Some(object);
        match next {
            Ok(at) => self.next_look = at,
            Err(()) => self.restart(3),
        }
        self.looks.push(look);
    }

    /// Everything after the observation; `Err` where the operator ends in the middle of it.
    fn conclude(
        &mut self,
        case: &Case,
        object: &mut Object,
        look: &mut Look,
    ) -> Result<Option<jiff::Timestamp>, ()> {
        let diagnosis = diagnose(case);
        self.world.queue_is_urgent = !diagnosis.undecided.is_empty();
        let mut story = verify(case, &diagnosis);
        self.keep(&mut story, case.status);
        let decision = decide(case, &diagnosis, &story, &self.fleet);
        look.decision = Some(decision.clone());
        self.record_and_act(case, &diagnosis, &mut story, &decision, object, look)?;
        self.ends_here(Crash::Unnoted, &decision)?;
        object.status = serde_json::to_value(report::status(case, &diagnosis, &story, &decision)).unwrap();
        Ok(report::next_look(&story, &decision))
    }

    fn ends_here(&mut self, place: Crash, decision: &Decision) -> Result<(), ()> {
        let acting = matches!(decision, Decision::Act(_) | Decision::Resume { .. });
        if acting && self.crash == Some(place) {
            if self.spared > 0 {
                self.spared -= 1;
                return Ok(());
            }
            self.crash = None;
            return Err(());
        }
        Ok(())
    }

    fn record_and_act(
        &mut self,
        case: &Case,
        diagnosis: &Diagnosis,
        story: &mut StatusDraft,
        decision: &Decision,
        object: &mut Object,
        look: &mut Look,
    ) -> Result<(), ()> {
        let server = Server::of(case);
        let acted = match (decision, &server) {
            (Decision::Act(plan), Some(server)) => {
                self.ends_here(Crash::Unrecorded, decision)?;
                let Some(incident) = story.primary_mut() else { return Ok(()) };
                attempt::record(case, server, incident, plan);
                story.begin_step();
                let attempt = story.open_attempt().unwrap().clone();
                let intent = report::status(case, diagnosis, story, decision);
                object.status = serde_json::to_value(&intent).unwrap();
                look.intent = Some(intent);
                self.ends_here(Crash::Undone, decision)?;
                self.carry_out(&attempt, decision)?
            }
            (Decision::Resume { against }, _) => {
                if against.is_none() && story.begin_step() {
                    let begun = report::status(case, diagnosis, story, decision);
                    object.status = serde_json::to_value(&begun).unwrap();
                    look.begun = Some(begun);
                }
                let Some(attempt) = story.open_attempt().cloned() else { return Ok(()) };
                let is_done =
                    self.world.bears_mark(&attempt) && attempt.next_step().is_some_and(changes_the_target);
                let restored = attempt.next_step().is_some_and(|step| step.effect == Effect::RestoreConfig)
                    && self.world.config_bears_mark(&attempt);
                let evicted = self.world.has_evicted(&attempt);
                match against {
                    _ if self.world.deployment.is_none() => {
                        Acted::Superseded("the Deployment is gone".to_owned())
                    }
                    Some(_) if restored => Acted::Done(vec![Effected::default()]),
                    Some(_) if evicted > 0 => Acted::Done(vec![Effected::default(); evicted]),
                    Some(why) if !is_done => Acted::Superseded(format!(
                        "it was not carried out before the operator restarted, and now: {why}"
                    )),
                    _ => {
                        self.ends_here(Crash::Undone, decision)?;
                        self.carry_out(&attempt, decision)?
                    }
                }
            }
            (Decision::Escalate { reason, message }, _) => {
                if let Some(incident) = story.primary_mut() {
                    escalation::escalate(case, incident, reason, message);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        story.acted(case, server.as_ref(), &acted);
        Ok(())
    }

    /// Takes the steps that are not done, as the operator does: what was done is noted before one that fails.
    fn carry_out(&mut self, attempt: &Attempt, decision: &Decision) -> Result<Acted, ()> {
        let mut effects = Vec::new();
        let fresh = matches!(decision, Decision::Act(_));
        for step in attempt.steps.iter().filter(|step| step.state != StepState::Done) {
            let wants_record = step.effect.is_untraceable() && step.state != StepState::Started;
            if wants_record || matches!(step.effect, Effect::Wait | Effect::AwaitRollout) {
                break;
            }
            match self.world.take(attempt, step, fresh && effects.is_empty()) {
                Ok(generation) => effects.push(Effected {
                    generation: Some(generation),
                    template: match step.effect {
                        Effect::PatchTemplate => step.to.clone(),
                        Effect::EditTemplate => {
                            self.world.deployment.as_ref().map(|one| one.template.clone())
                        }
                        _ => None,
                    },
                    answers: (step.effect == Effect::CallHook).then(|| self.world.answers()),
                    ..Effected::default()
                }),
                Err(why) if effects.is_empty() => return Ok(Acted::Superseded(why)),
                Err(_) => break,
            }
            self.ends_here(Crash::HalfDone, decision)?;
            if step.effect == Effect::CallHook {
                break;
            }
        }
        Ok(Acted::Done(effects))
    }

    /// Makes the copies that the story names; what cannot be copied is left out of it.
    fn keep(&mut self, story: &mut StatusDraft, before: &McpServerHealthStatus) {
        let known = before.target.as_ref().and_then(|target| target.last_healthy.as_ref());
        let known = known.map(|healthy| healthy.config.clone()).unwrap_or_default();
        if let Some(healthy) = story.target.as_mut().and_then(|target| target.last_healthy.as_mut()) {
            let world = &mut self.world;
            let mut is_kept =
                |one: &HealthyConfig| one.copy.is_empty() || world.keep(&one.copy, &one.content);
            healthy.config.retain(|one| known.contains(one) || is_kept(one));
        }
    }
}

/// Whether the effect bears the attempt's mark, and is more than the mark.
fn changes_the_target(step: &Step) -> bool {
    matches!(
        step.effect,
        Effect::PatchTemplate | Effect::EditTemplate | Effect::RestartPods | Effect::SetReplicas
    )
}
