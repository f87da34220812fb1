//! One moment, held still: a server, its policy and its status, to ask what would be decided if one thing
//! were different.

use mcp_health_api::{Incident, McpServerHealthSpec, McpServerHealthStatus};
use mcp_health_core::{
    Case, Decision, Diagnosis, Fleet, Settings, StatusDraft, decide, diagnose,
    signals::{Reading, Signals, Target},
    verify,
};

use super::{
    moment,
    operator::Operator,
    policy,
    world::{Template, World},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Scene {
    pub spec: McpServerHealthSpec,
    pub status: McpServerHealthStatus,
    pub signals: Signals,
    pub settings: Settings,
    pub fleet: Fleet,
    pub now: i64,
}

/// What is concluded and decided in a scene.
pub struct Concluded {
    pub diagnosis: Diagnosis,
    pub story: StatusDraft,
    pub decision: Decision,
}

impl Scene {
    /// Where the operator stands now.
    pub fn of(operator: &Operator) -> Self {
        Self {
            spec: operator.object.as_ref().unwrap().spec.clone(),
            status: operator.status(),
            signals: operator.watches.look(&operator.world),
            settings: operator.settings.clone(),
            fleet: operator.fleet.clone(),
            now: operator.world.now,
        }
    }

    /// A template that crashes was rolled out: the operator is about to roll back.
    pub fn bad_rollout() -> Self {
        let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
        operator.run(120, 1);
        operator.world.roll_out(Template::CrashesAtOnce);
        Self::before_the_act(&mut operator)
    }

    /// All is well.
    pub fn healthy() -> Self {
        let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
        operator.run(120, 1);
        Self::of(&operator)
    }

    /// All containers end, on a template that was well: the operator is about to restart them.
    pub fn process_exit() -> Self {
        let mut operator = Operator::new(World::with(Template::Good, 3), policy::enforcing());
        operator.run(120, 1);
        operator.world.dependency_down = true;
        Self::before_the_act(&mut operator)
    }

    fn before_the_act(operator: &mut Operator) -> Self {
        for _ in 0..120 {
            operator.run(1, 1);
            let acting = operator.looks.iter().find(|look| look.intent.is_some());
            if let Some(look) = acting {
                let (status, signals) = (look.before.clone(), look.signals.clone());
                return Self { status, signals, now: look.at, ..Self::of(operator) };
            }
        }
        panic!("it does not act: {:#?}", operator.status());
    }

    /// The same with one thing different.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn target(&mut self) -> &mut Target {
        match &mut self.signals.target {
            Reading::Fresh(Some(target)) => target,
            other => panic!("no target: {other:?}"),
        }
    }

    pub fn case(&self) -> Case<'_> {
        Case {
            generation: 1,
            spec: &self.spec,
            status: &self.status,
            signals: &self.signals,
            settings: &self.settings,
            now: moment(self.now),
        }
    }

    pub fn concluded(&self) -> Concluded {
        self.concluded_from(diagnose(&self.case()))
    }

    /// What is concluded and decided from what is found; by hand, or by the rules.
    pub fn concluded_from(&self, diagnosis: Diagnosis) -> Concluded {
        let case = self.case();
        let story = verify(&case, &diagnosis);
        let decision = decide(&case, &diagnosis, &story, &self.fleet);
        Concluded { diagnosis, story, decision }
    }

    /// The incident that is found, put into the status, to be changed.
    pub fn open_incident(&mut self) -> &mut Incident {
        self.status.incidents = self.concluded().story.incidents;
        for incident in &mut self.status.incidents {
            // What it says is for people: nothing that is decided later reads it.
            incident.evidence.fill("told".to_owned());
        }
        &mut self.status.incidents[0]
    }

    /// The decision in one or two words: `Act Rollback`, `Hold Cooldown`, `Escalate LockedOut`.
    pub fn decision(&self) -> String {
        self.concluded().words()
    }
}

impl Concluded {
    /// The decision in one or two words.
    pub fn words(&self) -> String {
        match &self.decision {
            Decision::Act(plan) if plan.undoes.is_some() => format!("Undo {}", plan.action),
            Decision::Act(plan) => format!("Act {}", plan.action),
            Decision::Hold { hold, .. } => format!("Hold {}", hold.reason),
            Decision::Escalate { reason, .. } => format!("Escalate {reason}"),
            Decision::Resume { against: None } => "Resume".to_owned(),
            Decision::Resume { against: Some(_) } => "Resume only if done".to_owned(),
            Decision::Wait { .. } => "Wait".to_owned(),
        }
    }
}
