//! RaiseResources: a container that was killed at its memory limit gets twice as much (guide 000, Memory
//! Issues), within the object's cap, the namespace's quotas, and the pods' quality of service. Once an
//! incident. Undone by the template before.

use mcp_health_api::{ActionType, Attempt, Edit, FollowUp};

use super::plan::{
    Action, Asked, Plan, Planned, TEMPLATE, Touches, UNTIL, edit_steps, edits_of, undo_template,
};
use crate::{
    Case,
    catalogue::out_of_memory::killed,
    quantity,
    signals::{ContainerSpec, Quota, Role, Target},
    words,
};

pub const ACTION: Action = Action {
    action: ActionType::RaiseResources,
    touches: Touches { resources: true, mends_rollout: true, ..TEMPLATE },
    plan,
    undo: undo_template,
    did,
    follow_up,
};

/// The most containers that are raised at once: two fields each, and a step holds eight.
const MOST: usize = 4;

const LIMIT: &str = "resources.limits.memory";
const REQUEST: &str = "resources.requests.memory";

fn plan(asked: &Asked) -> Planned {
    let Asked { case, server, incident, .. } = *asked;
    let before = incident.attempts.iter().filter(|attempt| attempt.is_spent() && attempt.undoes.is_none());
    if let Some(before) = before.into_iter().find(|one| one.action == ActionType::RaiseResources) {
        return Planned::impossible(
            "RaisedAlready",
            format!("{} has {} already: once an incident", before.id, did(before)),
        );
    }
    let Some(policy) = &case.spec.actions.raise_resources else {
        return Planned::impossible(
            "NoMemoryCap",
            "spec.actions.raiseResources.maxMemory does not say how far a memory limit may be raised",
        );
    };
    let mut hurt: Vec<Hurt> = Vec::new();
    for one in &killed(server) {
        let Some(spec) = one.spec(server) else { continue };
        if hurt.len() < MOST && !hurt.iter().any(|known| known.spec.name == spec.name) {
            let request = spec.memory_request.or(one.container.memory_request);
            hurt.push(Hurt { spec, limit: one.limit(server), request });
        }
    }
    let Some(first) = hurt.first() else {
        return Planned::impossible(
            "NothingKilled",
            "no container of the template in force was killed at its limit",
        );
    };
    let cap = quantity::bytes(&policy.max_memory).unwrap_or_default();
    let raised: Vec<Raised> = hurt.iter().filter_map(|one| Raised::of(one, cap)).collect();
    if raised.is_empty() {
        let name = &first.spec.name;
        return match first.limit {
            Some(limit) => Planned::impossible(
                "MemoryCapReached",
                format!(
                    "the memory limit of container {name} is {}, and may be {} at most \
                     (spec.actions.raiseResources.maxMemory)",
                    quantity::of_bytes(limit),
                    policy.max_memory
                ),
            ),
            None => Planned::impossible(
                "NodeOutOfMemory",
                format!("container {name} has no memory limit of its own: its node ran out of memory"),
            ),
        };
    }
    if let Some(quotas) = case.signals.quotas.fresh()
        && let Some(obstacle) = obstacle(server.target, &raised, quotas)
    {
        return Planned::impossible("QuotaTooSmall", obstacle);
    }
    let changes: Vec<String> = raised.iter().map(Raised::words).collect();
    Planned::Ready(Plan {
        action: ActionType::RaiseResources,
        what: format!("raise {}", changes.join(", and ")),
        why: format!("{} ({}): it needs more than it may have", incident.name(), incident.cause),
        steps: edit_steps(server.target, raised.iter().flat_map(Raised::edits).collect()),
        undoes: None,
    })
}

/// A container that was killed, with the limit and the request that its pod has: where the template names
/// none, a LimitRange may have set them.
struct Hurt<'a> {
    spec: &'a ContainerSpec,
    limit: Option<i64>,
    request: Option<i64>,
}

/// A container with more memory.
struct Raised<'a> {
    spec: &'a ContainerSpec,
    request: Option<i64>,
    from: i64,
    to: i64,
}

impl<'a> Raised<'a> {
    /// Twice the limit, or what the cap leaves; `None` where there is no limit, or the cap leaves nothing.
    fn of(hurt: &Hurt<'a>, cap: i64) -> Option<Self> {
        let from = hurt.limit?;
        let to = from.saturating_mul(2).min(cap);
        (to > from).then_some(Self { spec: hurt.spec, request: hurt.request, from, to })
    }

    /// Kubernetes takes the limit for a request that is not there; and a Guaranteed pod stays one.
    fn request_follows(&self) -> bool {
        self.request.is_none_or(|request| request >= self.from)
    }

    fn edits(&self) -> Vec<Edit> {
        let edit = |field: &str, from: Option<i64>, to: i64| Edit {
            container: self.spec.name.clone(),
            field: field.to_owned(),
            from: from.map(quantity::of_bytes),
            to: quantity::of_bytes(to),
        };
        let request = match (self.spec.memory_request, self.request) {
            (Some(request), _) => self.request_follows().then(|| edit(REQUEST, Some(request), self.to)),
            // With a limit of its own, Kubernetes would take that for the request instead of the namespace's
            // default.
            (None, Some(default)) if !self.request_follows() => Some(edit(REQUEST, None, default)),
            (None, _) => None,
        };
        [edit(LIMIT, self.spec.memory_limit, self.to)].into_iter().chain(request).collect()
    }

    fn words(&self) -> String {
        let (from, to) = (quantity::of_bytes(self.from), quantity::of_bytes(self.to));
        format!("the memory limit of container {} from {from} to {to}", self.spec.name)
    }
}

/// What of the namespace's limits is too small: for all replicas, and for the pods that a rolling update
/// makes beside them.
fn obstacle(target: &Target, raised: &[Raised], quotas: &[Quota]) -> Option<String> {
    let of = |spec: &ContainerSpec| raised.iter().find(|one| one.spec.name == spec.name);
    let now =
        |spec: &ContainerSpec| of(spec).map_or_else(|| spec.memory_limit.unwrap_or_default(), |one| one.from);
    let then = |spec: &ContainerSpec| of(spec).map_or_else(|| now(spec), |one| one.to);
    let asked_now = |spec: &ContainerSpec| {
        of(spec).and_then(|one| one.request).or(spec.memory_request).unwrap_or_else(|| now(spec))
    };
    let asked_then = |spec: &ContainerSpec| {
        of(spec).filter(|one| one.request_follows()).map_or_else(|| asked_now(spec), |one| one.to)
    };
    let limits = needed(target, of_pod(target, now), of_pod(target, then));
    let requests = needed(target, of_pod(target, asked_now), of_pod(target, asked_then));
    let largest = raised.iter().map(|one| one.to).max().unwrap_or_default();
    quotas.iter().find_map(|quota| {
        let too_small = |what: &str, needed: i64, left: Option<i64>| {
            let left = left.filter(|left| needed > *left)?;
            Some(format!(
                "{}: {what} takes {} more for {} and the rollout, and {} is left",
                quota.words,
                quantity::of_bytes(needed),
                words::count(usize::try_from(target.desired).unwrap_or_default(), "pod"),
                quantity::of_bytes(left.max(0))
            ))
        };
        let most = |whose: &str, wanted: i64, max: Option<i64>| {
            let max = max.filter(|max| wanted > *max)?;
            Some(format!(
                "{}: a {whose} may have {} of memory, and would be given {}",
                quota.words,
                quantity::of_bytes(max),
                quantity::of_bytes(wanted)
            ))
        };
        too_small("limits.memory", limits, quota.memory_limits_left)
            .or_else(|| too_small("requests.memory", requests, quota.memory_requests_left))
            .or_else(|| most("container", largest, quota.memory_limit_max))
            .or_else(|| most("pod", of_pod(target, then), quota.pod_memory_limit_max))
    })
}

/// What all pods take more at the height of the rollout: each wanted one the difference, each one beside them
/// all.
fn needed(target: &Target, now: i64, then: i64) -> i64 {
    let (wanted, surge) = (i64::from(target.desired), i64::from(target.surge));
    then.saturating_sub(now).saturating_mul(wanted).saturating_add(surge.saturating_mul(then))
}

/// What one pod takes, as Kubernetes counts: all that run beside each other; or, if that is more, an init
/// container and the sidecars started before it.
fn of_pod(target: &Target, amount: impl Fn(&ContainerSpec) -> i64) -> i64 {
    let (mut beside, mut most) = (0_i64, 0_i64);
    for spec in &target.containers {
        match spec.role {
            Role::Init => most = most.max(beside.saturating_add(amount(spec))),
            Role::Main | Role::Sidecar => beside = beside.saturating_add(amount(spec)),
        }
    }
    most.max(beside)
}

fn did(attempt: &Attempt) -> String {
    if let Some(undone) = &attempt.undoes {
        return format!("took {undone} back: the memory limit is what it was");
    }
    let limits = edits_of(attempt).filter(|edit| edit.field == LIMIT).map(|edit| {
        let from = edit.from.as_deref().unwrap_or("nothing");
        format!("the memory limit of container {} from {from} to {}", edit.container, edit.to)
    });
    let limits: Vec<_> = limits.collect();
    format!(
        "raised {}",
        if limits.is_empty() { "the memory limit".to_owned() } else { limits.join(", and ") }
    )
}

fn follow_up(_: &Case, attempt: &Attempt) -> Option<FollowUp> {
    if attempt.undoes.is_some() {
        return None;
    }
    let limits = edits_of(attempt).filter(|edit| edit.field == LIMIT).map(|edit| {
        let from = edit.from.as_deref().unwrap_or("nothing");
        format!("the memory limit of container {} is {} instead of {from}", edit.container, edit.to)
    });
    let limits: Vec<_> = limits.collect();
    let message =
        format!("{}: put it into the manifest, or mend what needs it; {UNTIL}", limits.join(", and "));
    Some(FollowUp { attempt: attempt.id.clone(), message, take_back_at: None })
}
