//! The guards: one file each, a pure function from a [`Question`] to a [`Verdict`]. They are asked in the
//! order of [`GUARDS`]; the first that does not permit decides, and its reason shows in `hold`, in a
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
pub use question::{Question, Verdict};

/// All guards, in order.
pub const GUARDS: &[fn(&Question) -> Verdict] = &[
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
pub fn ask(question: &Question) -> Verdict {
    let verdicts = GUARDS.iter().map(|guard| guard(question));
    let mut held = None;
    for verdict in verdicts {
        match verdict {
            Verdict::Permit => {}
            Verdict::Refuse { .. } => return verdict,
            Verdict::Hold { .. } => held = held.or(Some(verdict)),
        }
    }
    held.unwrap_or(Verdict::Permit)
}

/// Of an attempt that has begun: whether it may go on. Only what stops the operator altogether stops it
/// half-way.
pub fn ask_to_go_on(question: &Question) -> Verdict {
    let stops: [fn(&Question) -> Verdict; 3] = [mode::check, suspended::check, action_allowed::check];
    let mut verdicts = stops.iter().map(|guard| guard(question));
    verdicts.find(|verdict| *verdict != Verdict::Permit).unwrap_or(Verdict::Permit)
}
