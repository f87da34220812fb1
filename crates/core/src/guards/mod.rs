//! The guards: one file each, a pure function from a [`GuardQuestion`] to a [`GuardAnswer`]. They are asked
//! in the order of [`GUARDS`]; the first that does not permit decides, and its reason shows in `hold`, in a
//! condition and in a metric.

mod action_allowed;
mod actions_an_hour;
mod attempt_in_flight;
mod attempts_an_incident;
mod autoscaler;
mod concurrent_actions;
mod cooldown;
mod dependency_unknown;
mod disruption_budget;
mod evidence_fresh;
mod flapping;
mod fleet_actions_an_hour;
mod fleet_unhealthy;
mod gitops;
mod grace_period;
mod last_ready_pod;
mod locked_out;
mod logs_awaited;
mod mode;
mod paused;
mod prohibition;
mod question;
mod recreate;
mod rollout_in_progress;
mod suspended;
mod window_passed;

pub use concurrent_actions::CONCURRENT_ACTIONS;
pub use fleet_unhealthy::{FLEET_UNHEALTHY, is_storm};
pub use question::{GuardAnswer, GuardQuestion};

/// All guards, in order.
pub const GUARDS: &[fn(&GuardQuestion) -> GuardAnswer] = &[
    mode::check,
    suspended::check,
    action_allowed::check,
    evidence_fresh::check,
    prohibition::check,
    logs_awaited::check,
    dependency_unknown::check,
    attempt_in_flight::check,
    rollout_in_progress::check,
    paused::check,
    gitops::check,
    grace_period::check,
    autoscaler::check,
    last_ready_pod::check,
    disruption_budget::check,
    recreate::check,
    window_passed::check,
    cooldown::check,
    attempts_an_incident::check,
    actions_an_hour::check,
    fleet_actions_an_hour::check,
    concurrent_actions::check,
    fleet_unhealthy::check,
    flapping::check,
    locked_out::check,
];

/// The first answer that is not a permit. A refusal comes before a hold: waiting for what will not be done
/// helps nobody.
pub fn ask(question: &GuardQuestion) -> GuardAnswer {
    let verdicts = GUARDS.iter().map(|guard| guard(question));
    let mut held = None;
    for verdict in verdicts {
        match verdict {
            GuardAnswer::Permit => {}
            GuardAnswer::Refuse { .. } => return verdict,
            GuardAnswer::Hold { .. } => held = held.or(Some(verdict)),
        }
    }
    held.unwrap_or(GuardAnswer::Permit)
}

/// Of an attempt that has begun: whether it may go on. Only what stops the operator altogether stops it
/// half-way.
pub fn ask_to_go_on(question: &GuardQuestion) -> GuardAnswer {
    let stops: [fn(&GuardQuestion) -> GuardAnswer; 3] =
        [mode::check, suspended::check, action_allowed::check];
    let mut verdicts = stops.iter().map(|guard| guard(question));
    verdicts.find(|verdict| *verdict != GuardAnswer::Permit).unwrap_or(GuardAnswer::Permit)
}
