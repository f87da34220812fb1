//! What happens on all servers: the one place where the limits that span servers are kept. Rebuilt at start
//! from statuses and from what the targets remember, before anything is decided; kept up as statuses are
//! written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{McpServerHealth, McpServerHealthStatus};
use mcp_health_core::{
    Decision, Fleet as Others, Settings,
    guards::{CONCURRENT_ACTIONS, FLEET_UNHEALTHY, is_storm},
    incident::breaks_the_server,
    signals::{RecordedAction, Target},
};

use crate::observe::table::Key;

/// The window of the limits.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Clocks differ by less. An action of later counts for nothing: whoever can write to a Deployment could hold
/// every other server by it.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

/// What is known of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Server {
    /// An attempt is under way.
    acting: bool,
    /// It is broken.
    unhealthy: bool,
    /// The guard that holds its action.
    held: Option<String>,
    /// An action was decided and is not in a written status yet: when, and on which Deployment.
    reserved: Option<(Timestamp, String)>,
}

/// One action that counts: reverts do not.
#[derive(Clone, Debug)]
struct Action {
    at: Timestamp,
    /// The Deployment's uid.
    target: String,
}

#[derive(Default)]
struct Inner {
    /// Scopes whose statuses were not read yet.
    unread: usize,
    servers: HashMap<Key, Server>,
    /// By namespace and attempt: the actions of the last hour. They outlive the objects that asked for them.
    actions: BTreeMap<String, BTreeMap<String, Action>>,
    /// Servers that wait for a place among those acted on.
    for_a_place: BTreeSet<Key>,
    /// Servers that wait until fewer are broken.
    for_the_fleet: BTreeSet<Key>,
}

/// See the module.
pub struct Fleet {
    settings: Settings,
    inner: Mutex<Inner>,
}

/// How many servers there are, how many of them are broken, and how many are held, by the guard's reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub servers: usize,
    /// The broken ones.
    pub unhealthy: usize,
    /// The held ones.
    pub held: BTreeMap<String, usize>,
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is known yet of the objects in so many scopes.
    pub fn new(scopes: usize, settings: Settings) -> Self {
        Self { settings, inner: Mutex::new(Inner { unread: scopes, ..Inner::default() }) }
    }

    /// Notes what the statuses of a scope and all Deployments tell, before anything is decided there. A
    /// Deployment counts whether an object still asks for it or not.
    pub fn remember<'a>(
        &self,
        objects: impl Iterator<Item = &'a McpServerHealth>,
        deployments: impl Iterator<Item = (&'a Key, &'a Target)>,
    ) {
        let (mut inner, none) = (self.lock(), McpServerHealthStatus::default());
        for object in objects {
            inner.note(&Key::of(object), object.status.as_ref().unwrap_or(&none));
        }
        for (key, target) in deployments {
            inner.count(&key.namespace, &target.uid, &target.actions);
        }
        inner.unread = inner.unread.saturating_sub(1);
    }

    /// Whether the statuses of every scope were read: before that, no limit can be kept.
    pub fn is_complete(&self) -> bool {
        self.lock().unread == 0
    }

    /// Decides about a server, knowing what happens on the others. While it does, nobody else decides: of two
    /// that could act, the second sees what the first was given.
    pub fn decide(
        &self,
        key: &Key,
        target: Option<&Target>,
        now: Timestamp,
        decide: impl FnOnce(&Others) -> Decision,
    ) -> Decision {
        let mut inner = self.lock();
        if let Some(target) = target {
            inner.count(&key.namespace, &target.uid, &target.actions);
        }
        let uid = target.map(|target| target.uid.clone()).unwrap_or_default();
        let decision = decide(&inner.others(&self.settings, key, &uid, now));
        match &decision {
            Decision::Act(plan) => {
                let server = inner.servers.entry(key.clone()).or_default();
                server.acting = true;
                // A revert takes a place, and nothing of the hour's budgets.
                server.reserved = plan.undoes.is_none().then_some((now, uid));
            }
            Decision::Hold { hold, .. } if hold.reason == CONCURRENT_ACTIONS => {
                inner.for_a_place.insert(key.clone());
            }
            Decision::Hold { hold, .. } if hold.reason == FLEET_UNHEALTHY => {
                inner.for_the_fleet.insert(key.clone());
            }
            _ => {}
        }
        decision
    }

    /// Notes what a status tells. Returns the servers that may go on now.
    pub fn note(&self, key: &Key, status: &McpServerHealthStatus) -> BTreeSet<Key> {
        let mut inner = self.lock();
        let was_acting = inner.note(key, status);
        inner.released(&self.settings, was_acting && !status.is_acting())
    }

    /// An object is gone; its actions stay counted. Returns the servers that may go on now.
    pub fn forget(&self, key: &Key) -> BTreeSet<Key> {
        let mut inner = self.lock();
        inner.for_a_place.remove(key);
        inner.for_the_fleet.remove(key);
        let was = inner.servers.remove(key).unwrap_or_default();
        inner.released(&self.settings, was.acting)
    }

    /// For the metrics.
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        let mut held = BTreeMap::new();
        for reason in inner.servers.values().filter_map(|server| server.held.as_ref()) {
            *held.entry(reason.clone()).or_default() += 1;
        }
        Counts { servers: inner.servers.len(), unhealthy: inner.unhealthy(), held }
    }
}

impl Inner {
    fn unhealthy(&self) -> usize {
        self.servers.values().filter(|server| server.unhealthy).count()
    }

    /// Returns whether it was being acted on before.
    fn note(&mut self, key: &Key, status: &McpServerHealthStatus) -> bool {
        let held = status.incidents.first().and_then(|incident| incident.hold.as_ref());
        let server = Server {
            acting: status.is_acting(),
            unhealthy: status.incidents.iter().any(breaks_the_server),
            held: held.map(|hold| hold.reason.clone()),
            reserved: None,
        };
        let before = self.servers.insert(key.clone(), server).unwrap_or_default();
        let Some(target) = &status.target else { return before.acting };
        let attempts = status.incidents.iter().flat_map(|incident| &incident.attempts);
        let actions = self.actions.entry(key.namespace.to_string()).or_default();
        for attempt in attempts {
            if attempt.is_spent() && attempt.undoes.is_none() {
                let action = Action { at: attempt.recorded_at.0, target: target.uid.clone() };
                actions.entry(attempt.id.clone()).or_insert(action);
            } else {
                actions.remove(&attempt.id);
            }
        }
        if let Some(last) = status.last_action.as_ref().filter(|last| last.undoes.is_none()) {
            let action = Action { at: last.at.0, target: target.uid.clone() };
            actions.entry(last.attempt.clone()).or_insert(action);
        }
        before.acting
    }

    fn count(&mut self, namespace: &str, target: &str, remembered: &[RecordedAction]) {
        if remembered.is_empty() {
            return;
        }
        let actions = self.actions.entry(namespace.to_owned()).or_default();
        for one in remembered.iter().filter(|one| one.undoes.is_none()) {
            let action = Action { at: one.at, target: target.to_owned() };
            actions.entry(one.id.clone()).or_insert(action);
        }
    }

    /// Forgets the actions that no limit counts any more. No namespace ever has more than its limit in an
    /// hour: what is written beyond it on a Deployment is not ours, and must not count for the cluster.
    fn forget_old(&mut self, settings: &Settings, now: Timestamp) {
        for actions in self.actions.values_mut() {
            actions.retain(|_, action| {
                let age = now.duration_since(action.at);
                age < HOUR && age > -SKEW
            });
            while actions.len() > settings.max_actions_per_hour_namespace {
                let oldest = actions.iter().min_by_key(|(_, action)| action.at).map(|(id, _)| id.clone());
                let Some(oldest) = oldest else { break };
                actions.remove(&oldest);
            }
        }
        self.actions.retain(|_, actions| !actions.is_empty());
    }

    /// What happens on other servers than this one, whose Deployment is `target`.
    fn others(&mut self, settings: &Settings, key: &Key, target: &str, now: Timestamp) -> Others {
        self.forget_old(settings, now);
        let servers = || self.servers.iter().filter(|(one, _)| *one != key);
        let reserved =
            servers().filter_map(|(one, server)| Some((&*one.namespace, server.reserved.as_ref()?)));
        let reserved = reserved.map(|(namespace, (at, uid))| (namespace, *at, uid));
        let done = self.actions.iter().flat_map(|(namespace, actions)| {
            actions.values().map(move |action| (namespace.as_str(), action.at, &action.target))
        });
        let mut others = Others::default();
        for (namespace, at, _) in done.chain(reserved).filter(|(.., uid)| *uid != target) {
            others.cluster_actions.push(at);
            if namespace == &*key.namespace {
                others.namespace_actions.push(at);
            }
        }
        for (one, server) in servers() {
            others.servers += 1;
            others.unhealthy += usize::from(server.unhealthy);
            if server.acting {
                others.acting.push(format!("{}/{}", one.namespace, one.name));
            }
        }
        others.acting.sort_unstable();
        others
    }

    /// The servers that may go on, now that something changed.
    fn released(&mut self, settings: &Settings, place_is_free: bool) -> BTreeSet<Key> {
        let mut released =
            if place_is_free { std::mem::take(&mut self.for_a_place) } else { BTreeSet::new() };
        if !self.for_the_fleet.is_empty() && !is_storm(settings, self.servers.len(), self.unhealthy()) {
            released.append(&mut self.for_the_fleet);
        }
        released
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use mcp_health_api::LastAction;
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn fleet() -> Fleet {
        let settings = Settings { max_actions_per_hour_namespace: 3, ..Settings::default() };
        Fleet::new(0, settings)
    }

    /// A status with one incident of this severity, and its attempts by id, moment and outcome.
    fn status(uid: &str, severity: &str, attempts: &[(&str, &str, Option<&str>)]) -> McpServerHealthStatus {
        let attempts: Vec<Value> = attempts
            .iter()
            .map(|(id, at, outcome)| {
                let mut attempt = json!({
                    "id": id, "action": "Rollback", "why": "", "recordedAt": at, "readyBefore": 0,
                    "steps": [{"effect": "PatchTemplate", "uid": uid, "state": "Recorded"}],
                });
                if let Some(outcome) = outcome {
                    attempt["outcome"] = json!(outcome);
                }
                attempt
            })
            .collect();
        serde_json::from_value(json!({
            "target": {"uid": uid, "readyReplicas": 0, "desiredReplicas": 1, "template": "t"},
            "incidents": [{
                "id": "crashloop-1", "type": "CrashLoop", "cause": "BadRollout", "severity": severity,
                "state": "Detected", "since": NOW, "openedAt": NOW, "respondBy": NOW, "attempts": attempts,
            }],
        }))
        .unwrap()
    }

    fn server(name: &str) -> Key {
        Key::new("mcp", name)
    }

    fn hold(reason: &str) -> Decision {
        let hold = mcp_health_api::Hold { reason: reason.to_owned(), message: String::new(), until: None };
        Decision::Hold { hold, what: String::new() }
    }

    fn act() -> Decision {
        Decision::Act(Box::new(mcp_health_core::actions::Plan {
            action: mcp_health_api::ActionType::Rollback,
            what: String::new(),
            why: String::new(),
            steps: Vec::new(),
            undoes: None,
        }))
    }

    /// Decides about a server, whose Deployment has its name as uid; returns what was known of the others.
    fn decide(fleet: &Fleet, key: &Key, now: &str, decision: Decision) -> Others {
        let target = Target { uid: key.name.to_string(), ..Target::default() };
        let mut known = Others::default();
        fleet.decide(key, Some(&target), at(now), |others| {
            known = others.clone();
            decision
        });
        known
    }

    fn look(fleet: &Fleet, key: &Key, now: &str) -> Others {
        decide(fleet, key, now, Decision::Wait { until: None, next: None })
    }

    #[test]
    fn an_action_counts_for_its_hour_by_whatever_it_is_told_of_and_once() {
        let (fleet, one, other) = (fleet(), server("one"), server("other"));
        let attempts = [("x-1", "2026-01-01T11:30:00Z", Some("Improved"))];
        let mut told = status("uid-1", "SEV1", &attempts);
        told.last_action = Some(LastAction {
            action: mcp_health_api::ActionType::Rollback,
            at: told.incidents[0].attempts[0].recorded_at.clone(),
            attempt: "x-1".to_owned(),
            undoes: None,
            from: None,
            outcome: None,
        });
        fleet.note(&one, &told);
        let mut again = fleet.lock();
        let remembered = RecordedAction {
            id: "x-1".to_owned(),
            action: mcp_health_api::ActionType::Rollback,
            at: at("2026-01-01T11:30:00Z"),
            undoes: None,
        };
        again.count("mcp", "uid-1", &[remembered]);
        drop(again);
        // It stays when the object is gone and when the attempt is: only the hour ends it.
        fleet.note(&one, &McpServerHealthStatus::default());
        fleet.forget(&one);
        let known = look(&fleet, &other, NOW);
        assert_eq!(known.namespace_actions, [at("2026-01-01T11:30:00Z")]);
        assert_eq!(known.cluster_actions, known.namespace_actions);
        assert_eq!(look(&fleet, &Key::new("elsewhere", "x"), NOW).namespace_actions, []);
        assert_eq!(look(&fleet, &other, "2026-01-01T12:30:00Z").cluster_actions, []);
        assert!(fleet.lock().actions.is_empty(), "nothing is kept longer than it counts");
    }

    #[test]
    fn a_revert_takes_a_place_and_nothing_of_any_hour() {
        let (fleet, one, other) = (fleet(), server("one"), server("other"));
        let Decision::Act(mut revert) = act() else { panic!("it acts") };
        revert.undoes = Some("x-1".to_owned());
        decide(&fleet, &one, NOW, Decision::Act(revert));
        let known = look(&fleet, &other, NOW);
        assert_eq!((known.acting, known.cluster_actions), (vec!["mcp/one".to_owned()], vec![]));
        // Nor once it is done, by whatever it is told of.
        let mut told = status("uid-1", "SEV1", &[("x-2", NOW, Some("Improved"))]);
        told.incidents[0].attempts[0].undoes = Some("x-1".to_owned());
        told.last_action = Some(LastAction {
            action: mcp_health_api::ActionType::Rollback,
            at: told.incidents[0].attempts[0].recorded_at.clone(),
            attempt: "x-2".to_owned(),
            undoes: Some("x-1".to_owned()),
            from: None,
            outcome: None,
        });
        fleet.note(&one, &told);
        let remembered = RecordedAction {
            id: "x-2".to_owned(),
            action: mcp_health_api::ActionType::Rollback,
            at: at(NOW),
            undoes: Some("x-1".to_owned()),
        };
        fleet.lock().count("mcp", "uid-1", &[remembered]);
        assert_eq!(look(&fleet, &other, NOW).cluster_actions, []);
    }

    #[test]
    fn what_touched_nothing_does_not_count() {
        let (fleet, one) = (fleet(), server("one"));
        let recorded = [("x-1", NOW, None)];
        fleet.note(&one, &status("uid-1", "SEV1", &recorded));
        assert_eq!(look(&fleet, &server("other"), NOW).namespace_actions.len(), 1);
        let overtaken = [("x-1", NOW, Some("Superseded"))];
        fleet.note(&one, &status("uid-1", "SEV1", &overtaken));
        assert_eq!(look(&fleet, &server("other"), NOW).namespace_actions, []);
    }

    #[test]
    fn an_action_that_was_decided_counts_before_its_status_is_written_and_once_after() {
        let (fleet, one, other) = (fleet(), server("one"), server("other"));
        decide(&fleet, &one, NOW, act());
        let known = look(&fleet, &other, NOW);
        assert_eq!((known.acting, known.namespace_actions), (vec!["mcp/one".to_owned()], vec![at(NOW)]));
        fleet.note(&one, &status("one", "SEV1", &[("x-1", NOW, None)]));
        assert_eq!(look(&fleet, &other, NOW).namespace_actions, [at(NOW)]);
        // Its own actions are counted by itself.
        let known = look(&fleet, &one, NOW);
        assert_eq!((known.acting, known.namespace_actions), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_is_forged_on_one_deployment_does_not_use_up_the_limit_of_the_cluster() {
        let fleet = fleet();
        let forged = |id: i32, at: Timestamp| RecordedAction {
            id: format!("forged-{id}"),
            action: mcp_health_api::ActionType::Rollback,
            at,
            undoes: None,
        };
        let mut forged: Vec<_> = (0..500).map(|id| forged(id, at(NOW))).collect();
        forged.extend((500..600).map(|id| RecordedAction {
            id: format!("forged-{id}"),
            action: mcp_health_api::ActionType::Rollback,
            at: at("2030-01-01T00:00:00Z"),
            undoes: None,
        }));
        fleet.lock().count("theirs", "uid-9", &forged);
        assert_eq!(look(&fleet, &server("one"), NOW).cluster_actions.len(), 3);
    }

    #[test]
    fn those_that_wait_go_on_when_a_place_is_free_or_the_storm_is_over() {
        let fleet = fleet();
        let names = ["a", "b", "c", "d", "e", "f"].map(server);
        for name in &names {
            assert!(fleet.note(name, &status("uid", "SEV1", &[])).is_empty());
        }
        decide(&fleet, &names[0], NOW, act());
        decide(&fleet, &names[1], NOW, hold("ConcurrentActions"));
        decide(&fleet, &names[2], NOW, hold("FleetUnhealthy"));
        assert_eq!(fleet.counts().unhealthy, 6);
        let well = McpServerHealthStatus::default();
        // Five of six are still a storm, four are not: fewer than the floor.
        assert_eq!(fleet.note(&names[5], &well), BTreeSet::new());
        assert_eq!(fleet.note(&names[4], &well), BTreeSet::from([names[2].clone()]));
        assert_eq!(fleet.forget(&names[0]), BTreeSet::from([names[1].clone()]));
        assert_eq!(fleet.counts().servers, 5);
    }

    #[test]
    fn what_is_held_is_counted_by_its_reason_and_a_degraded_server_is_not_broken() {
        let fleet = fleet();
        let mut held = status("uid", "SEV2", &[]);
        held.incidents[0].hold =
            Some(mcp_health_api::Hold { reason: "Cooldown".to_owned(), message: String::new(), until: None });
        fleet.note(&server("held"), &held);
        fleet.note(&server("degraded"), &status("uid", "SEV3", &[]));
        let held = BTreeMap::from([("Cooldown".to_owned(), 1)]);
        assert_eq!(fleet.counts(), Counts { servers: 2, unhealthy: 1, held });
    }
}
