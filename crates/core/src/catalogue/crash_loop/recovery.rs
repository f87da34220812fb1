//! What the pods waited for is back: only the kubelet's back-off, of up to five minutes, keeps them from it.
//!
//! Judged by typed evidence alone: an open DependencyDown, fresh answers of all that is declared, and ends
//! that all lie before those. What a program said before it ended tells of the time in which the dependency
//! was down.

use jiff::Timestamp;
use mcp_health_api::{ActionType, IncidentType, SubjectKind};

use super::sick::Sick;
use crate::{
    Case, Server,
    dependencies::{declared, is_fresh},
    finding::is_about_the,
    signals::{Container, Pod},
    words,
};

/// Restarts from which on the back-off is longer than it takes to replace a pod: 40 seconds and more.
const LONG_BACK_OFF: i32 = 3;

/// Whether what the pods waited for answers again, none of them has tried since, and some of them are in a
/// long back-off: a sentence that says so. Only where a pod may be recycled: else they are waited for.
pub fn is_back(case: &Case, sick: &[Sick]) -> Option<String> {
    let allowed = case.spec.actions.allow.contains(&ActionType::RecyclePod);
    let down = case.open(IncidentType::DependencyDown).filter(|_| allowed)?;
    let seen = case.signals.dependencies.fresh()?;
    let mut back: Option<(&str, Timestamp)> = None;
    for name in declared(case.spec) {
        let one = seen.iter().find(|one| one.name == name)?;
        if one.barred.is_some() || one.never_answered() {
            continue;
        }
        if !one.answers() || !is_fresh(case, one) {
            return None;
        }
        if is_about_the(down, SubjectKind::Dependency, name) {
            let since = one.answers_since?.at;
            back = back.filter(|(_, known)| *known >= since).or(Some((name, since)));
        }
    }
    let (name, since) = back?;
    let has_tried = |one: &Sick| one.container.last_exit.as_ref().is_none_or(|exit| exit.at >= since);
    let waits = sick.iter().filter(|one| waits_long(one.pod, one.container)).count();
    if waits == 0 || sick.iter().any(|one| one.cannot_start.is_some() || has_tried(one)) {
        return None;
    }
    Some(format!(
        "dependency {name} answers since {}; {} in the kubelet's back-off did not try since",
        words::moment(since),
        words::count(waits, "pod")
    ))
}

fn waits_long(pod: &Pod, container: &Container) -> bool {
    let backs_off = container.waiting.as_ref().is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
    !pod.ready && backs_off && container.restarts >= LONG_BACK_OFF
}

/// The unready pods of the template in force that wait in a long back-off; those that wait longest first.
pub(crate) fn backing_off<'a>(server: &Server<'a>) -> Vec<&'a Pod> {
    let mut pods = server.current_pods();
    pods.retain(|pod| pod.containers.iter().any(|one| waits_long(pod, one)));
    pods.sort_by_key(|pod| (std::cmp::Reverse(pod.restarts()), pod.created));
    pods
}
