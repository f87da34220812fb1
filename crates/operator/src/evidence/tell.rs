//! How evidence reads: pure texts, masked and bounded.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::DeploymentStatus, events::v1::Event};
use kube::core::ObjectList;
use mcp_health_api::{Incident, McpServerHealth};
use mcp_health_core::{
    Server,
    mask::mask,
    signals::{Pod, Signals},
};

/// The longest key of a ConfigMap.
const KEY: usize = 253;
/// Bytes that are kept of one text, the end of it: all of them together stay below 200 KiB.
const TEXT: usize = 16 * 1024;
/// Bytes that are kept of the Events.
const EVENTS: usize = 32 * 1024;
/// Pods whose state is told.
const PODS: usize = 50;
/// A value that is shorter says nothing, and would be found everywhere.
const SECRET: usize = 4;

/// Values that must not be shown, wherever they turn up: what the pod template gives in the clear to variables
/// whose names speak of secrets, and the passwords of its URLs.
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Of a server.
    pub fn of(server: Option<&Server>) -> Self {
        let containers = server.into_iter().flat_map(|server| &server.target.containers);
        let given =
            containers.flat_map(|one| &one.env).filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let mut secrets: Vec<String> = given
            .filter_map(|(name, value)| {
                let is_secret = mask(&format!("{name}=x")) != format!("{name}=x");
                if is_secret { Some(value.clone()) } else { password(value) }
            })
            .filter(|secret| secret.len() >= SECRET)
            .collect();
        // What contains another one goes first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The text without them, and without what looks like one.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.lines().map(mask).collect::<Vec<_>>().join("\n");
        for secret in &self.0 {
            masked = masked.replace(secret.as_str(), "***");
        }
        masked
    }
}

/// `secret` of `postgres://user:secret@host/`.
fn password(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password.to_owned())
}

/// The end of what was collected under a key, without secrets.
pub fn fit_to_be_shown(secrets: &Secrets, key: &str, text: &str) -> String {
    let limit = if key == "events.txt" { EVENTS } else { TEXT };
    // Cut twice: where the first cut went through a secret, the second leaves out what is left of it.
    bounded(&secrets.mask(&bounded(text, limit * 2)), limit)
}

/// The end of a text, by whole lines, with a word about what was left out.
fn bounded(text: &str, limit: usize) -> String {
    const CUT: &str = "(what was before is left out)\n";
    if text.len() <= limit {
        return text.to_owned();
    }
    let from = text.ceil_char_boundary(text.len() - limit + CUT.len());
    let from = text[from..].find('\n').map_or(from, |end| from + end + 1);
    format!("{CUT}{}", &text[from..])
}

/// What arrived; or why it did not.
pub fn or_why<T>(arrived: Result<T, String>, tell: impl FnOnce(T) -> String) -> String {
    arrived.map_or_else(|why| format!("(not kept: {why})\n"), tell)
}

/// The key of a log.
pub fn key(pod: &str, container: &str, previous: bool) -> String {
    let kind = if previous { "previous.log" } else { "log" };
    let mut name = format!("{pod}.{container}");
    name.truncate(name.floor_char_boundary(KEY - kind.len() - 1));
    format!("{name}.{kind}")
}

/// The logs that tell most: of so many pods, those that are not ready or crashed first; of each, the server's
/// container and those that ended; before their last end, too.
pub fn logs_of(server: &Server, pods: usize) -> Vec<(String, String, bool)> {
    let mut by_trouble = server.pods.clone();
    by_trouble.sort_by_key(|pod| (pod.ready, std::cmp::Reverse((pod.restarts(), pod.created))));
    let own = server.container().map(|one| one.name.as_str());
    let mut logs = Vec::new();
    for pod in by_trouble.into_iter().take(pods) {
        for container in &pod.containers {
            let crashed = container.restarts > 0;
            if Some(container.name.as_str()) == own || crashed {
                logs.push((pod.name.clone(), container.name.clone(), false));
                logs.extend(crashed.then(|| (pod.name.clone(), container.name.clone(), true)));
            }
        }
    }
    logs.truncate(pods * 2);
    logs
}

/// The finding, and what was done until now.
pub fn incident(incident: &Incident) -> String {
    let mut text = format!(
        "{} {} ({}), {}, since {}, seen {}\n",
        incident.name(),
        incident.id,
        incident.cause,
        incident.severity,
        incident.since.0,
        incident.opened_at.0
    );
    for line in &incident.evidence {
        text.push_str(&format!("seen: {line}\n"));
    }
    for attempt in &incident.attempts {
        let outcome = attempt.outcome.map_or_else(|| "recorded".to_owned(), |outcome| outcome.to_string());
        text.push_str(&format!(
            "{} {} at {}, because {}: {outcome} {}\n",
            attempt.id,
            attempt.action,
            attempt.recorded_at.0,
            attempt.why,
            attempt.message.as_deref().unwrap_or_default()
        ));
    }
    if let Some(escalation) = &incident.escalation {
        text.push_str(&format!("handed over: {}: {}\n", escalation.reason, escalation.message));
    }
    if let Some(kept) = &incident.evidence_kept {
        text.push_str(&format!("before: ConfigMap {kept}\n"));
    }
    text
}

/// The Deployment's status.
pub fn status(status: &DeploymentStatus) -> String {
    let number = |number: Option<i32>| number.unwrap_or_default();
    let mut text = format!(
        "replicas {}, updated {}, ready {}, available {}, observed generation {}\n",
        number(status.replicas),
        number(status.updated_replicas),
        number(status.ready_replicas),
        number(status.available_replicas),
        status.observed_generation.unwrap_or_default()
    );
    for one in status.conditions.iter().flatten() {
        let (reason, message) = (one.reason.as_deref(), one.message.as_deref());
        text.push_str(&format!(
            "{}={} {}: {}\n",
            one.type_.as_deref().unwrap_or_default(),
            one.status.as_deref().unwrap_or_default(),
            reason.unwrap_or_default(),
            message.unwrap_or_default()
        ));
    }
    text
}

/// The pods' states.
pub fn pods(signals: &Signals) -> String {
    let Some(pods) = signals.pods.fresh() else {
        return or_why::<()>(Err(signals.pods.problem("its pods").unwrap_or_default()), |()| String::new());
    };
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| (pod.ready, std::cmp::Reverse(pod.restarts())));
    let mut text: String = pods.iter().take(PODS).map(|pod| one_pod(pod)).collect();
    if pods.len() > PODS {
        text.push_str(&format!("and {} more\n", pods.len() - PODS));
    }
    text
}

fn one_pod(pod: &Pod) -> String {
    let mut text = format!(
        "{}: {} since {}, created {}{}{}\n",
        pod.name,
        if pod.ready { "ready" } else { "not ready" },
        pod.ready_changed,
        pod.created,
        if pod.deleting { ", on its way out" } else { "" },
        if pod.finished { ", over" } else { "" },
    );
    if let Some(why) = &pod.unschedulable {
        text.push_str(&format!("  no node takes it: {why}\n"));
    }
    for container in &pod.containers {
        text.push_str(&format!("  {}: {} restarts", container.name, container.restarts));
        if let Some((reason, message)) = &container.waiting {
            text.push_str(&format!("; waits: {reason}: {message}"));
        }
        if let Some(exit) = &container.last_exit {
            text.push_str(&format!("; ended {} with exit code {} ({})", exit.at, exit.code, exit.reason));
        }
        text.push('\n');
    }
    for (reason, message) in &pod.troubles {
        text.push_str(&format!("  {reason}: {message}\n"));
    }
    text
}

/// The names of the objects whose Events concern the server.
pub fn names(object: &McpServerHealth, server: Option<&Server>) -> BTreeSet<String> {
    let own = [object.metadata.name.clone(), Some(object.spec.target_ref.name.clone())];
    let pods = server.into_iter().flat_map(|server| server.pods.iter().map(|pod| pod.name.clone()));
    let sets = server.into_iter().flat_map(|server| server.revisions.iter().map(|one| one.name.clone()));
    own.into_iter().flatten().chain(pods).chain(sets).collect()
}

/// The Events that concern the server, oldest first.
pub fn events(all: &ObjectList<Event>, names: &BTreeSet<String>) -> String {
    let at = |event: &Event| -> Option<Timestamp> {
        let series = event.series.as_ref().map(|series| series.last_observed_time.0);
        let old = event.deprecated_last_timestamp.as_ref().map(|at| at.0);
        series.or(old).or(event.event_time.as_ref().map(|at| at.0))
    };
    let about = |event: &Event| event.regarding.as_ref().and_then(|about| about.name.clone());
    let concerns = |event: &&Event| about(event).is_some_and(|name| names.contains(&name));
    let mut concerned: Vec<&Event> = all.items.iter().filter(concerns).collect();
    concerned.sort_by_key(|event| at(event));
    let mut text = String::new();
    for event in concerned {
        let count = event.series.as_ref().map(|series| series.count).or(event.deprecated_count);
        text.push_str(&format!(
            "{} {} {}/{} x{} {}: {}\n",
            at(event).map(|at| at.to_string()).unwrap_or_default(),
            event.type_.as_deref().unwrap_or_default(),
            event.regarding.as_ref().and_then(|about| about.kind.as_deref()).unwrap_or_default(),
            about(event).unwrap_or_default(),
            count.unwrap_or(1),
            event.reason.as_deref().unwrap_or_default(),
            event.note.as_deref().unwrap_or_default().replace('\n', " "),
        ));
    }
    if all.metadata.continue_.as_ref().is_some_and(|more| !more.is_empty()) {
        text.push_str("(the namespace has more Events than were read)\n");
    }
    text
}
