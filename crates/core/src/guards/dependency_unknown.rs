//! What a dependency could explain is not restarted, recycled or rolled back before it is known whether the
//! dependencies answer: each has answered since the fault began, or is down by three failures. They are asked
//! at once, and then every five seconds. One that never answered is waited for during 20 seconds, and counts
//! for nothing then.
//!
//! Nor is it while the pods may still show what was before the dependencies answered again: they have the
//! time of a start since then, and a rule that looks back has its window.

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause};

use super::question::{GuardAnswer, GuardQuestion};
use crate::{
    catalogue::reach_of,
    dependencies::{reached_until, undecided},
    diagnose::{is_explained_by_dependency, onset},
    finding::Finding,
    signals::AnswersSince,
    start_budget,
    time::after,
    words,
};

pub fn check(question: &GuardQuestion) -> GuardAnswer {
    let GuardQuestion { case, plan, .. } = *question;
    let concerns = matches!(
        plan.action,
        ActionType::RolloutRestart
            | ActionType::RecyclePod
            | ActionType::DrainAndRestart
            | ActionType::Rollback
    );
    let finding = question.diagnosis.finding_of(question.incident);
    let Some(finding) = finding.filter(|_| concerns && plan.undoes.is_none()) else {
        return GuardAnswer::Permit;
    };
    if !is_explained_by_dependency(finding, question.server) {
        return GuardAnswer::Permit;
    }
    let since = onset(finding, Some(question.incident));
    let undecided = undecided(case, since);
    if undecided.is_empty() {
        return settling(question, finding);
    }
    let until = Some(reached_until(since)).filter(|until| *until > case.now);
    let message = format!(
        "it is not known whether {} answers: no answer and no three failures since {}",
        undecided.join(", "),
        words::moment(since)
    );
    GuardAnswer::Hold { reason: "DependencyUnknown", message, until }
}

/// Until when pods may show what was before the dependencies answered again. Pods that only the kubelet's
/// back-off keeps from what is back are recycled at once.
fn settling(question: &GuardQuestion, finding: &Finding) -> GuardAnswer {
    let GuardQuestion { case, server, plan, .. } = *question;
    let answer = server.dependencies_answer.filter(|_| finding.cause != Cause::BackOff);
    let Some(AnswersSince { at: back, had_failed }) = answer else { return GuardAnswer::Permit };
    let is_from_before = server.pods.iter().any(|pod| pod.created < back);
    // Pods of a new revision that were created since show a fault of its own, unless there was an outage just
    // before.
    let is_new = finding.youngest_pod.is_some_and(|created| created >= back);
    if !had_failed && (!is_from_before || is_new && plan.action == ActionType::Rollback) {
        return GuardAnswer::Permit;
    }
    let window = if is_from_before { reach_of(case, question.incident) } else { SignedDuration::ZERO };
    let settled = after(back, start_budget::running(server).max(window));
    let excuses: Vec<_> =
        server.failing().into_iter().map(|pod| start_budget::excused_until(server, pod)).collect();
    // One pod that fails by itself speaks against its revision; a restart would take down the others as well.
    let is_shown = plan.action == ActionType::Rollback && excuses.contains(&None);
    let excused = excuses.into_iter().flatten().filter(|_| !is_shown);
    let until = excused.chain([settled]).max().unwrap_or(settled);
    if until <= case.now {
        return GuardAnswer::Permit;
    }
    let before = if had_failed { "one did not before" } else { "it is not known whether they did before" };
    let message = format!(
        "all dependencies answer since {}, and {before}: what pods show counts from {} on",
        words::moment(back),
        words::moment(until)
    );
    GuardAnswer::hold_until("DependencySettling", message, until)
}
