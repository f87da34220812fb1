//! The story of one incident, told from what is seen of it: each step once, in the order in which it happens.
//!
//! Pure: it knows objects and no cluster, so that it is tested with objects.

use std::collections::{BTreeMap, BTreeSet};

use mcp_health_api::{
    ATTEMPT_ANNOTATION, Attempt, Effect, Incident, IncidentState, McpServerHealth, Outcome, SessionFence,
    StepState,
};
use serde_json::Value;

use super::watch::Seen;

/// The steps of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The Deployment has a new template.
    Rollout,
    /// No pod is ready any more.
    Down,
    /// A container ends.
    Fault,
    /// The operator opens an incident.
    Detected,
    /// It says why.
    Cause,
    /// It writes down what it is about to do.
    Recorded,
    /// A guard keeps it from acting.
    Held,
    /// It has done it.
    Acted,
    /// All pods are ready again.
    Up,
    /// It says whether that helped.
    Verified,
    /// It is well again by something temporary, and says what is left to do.
    Mitigated,
    /// The incident is over.
    Resolved,
    /// It hands over to a person.
    Escalated,
}

impl Step {
    /// Its name in the timeline.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Down => "down",
            Self::Fault => "fault",
            Self::Detected => "detected",
            Self::Cause => "cause",
            Self::Recorded => "recorded",
            Self::Held => "held",
            Self::Acted => "acted",
            Self::Up => "up",
            Self::Verified => "verified",
            Self::Mitigated => "mitigated",
            Self::Resolved => "resolved",
            Self::Escalated => "escalated",
        }
    }
}

/// How a story may end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The incident is over.
    Resolved,
    /// The server is well, and something is left for people to do.
    Mitigated,
}

/// One step, with what there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which step.
    pub step: Step,
    /// In a sentence.
    pub text: String,
    /// Ready pods of those wanted.
    pub ready: (i64, i64),
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Timeline {
    ready: (i64, i64),
    generation: i64,
    healthy: bool,
    /// Incidents from before.
    before: BTreeSet<String>,
    /// Pods from before, and how often their containers had been started anew.
    restarts: BTreeMap<String, i64>,
    begun: bool,
    told: BTreeSet<Step>,
    incident: Option<String>,
    /// What the attempt sets out to do, as words for when it is done.
    done: Option<String>,
    /// The Deployment is only marked by it: what it changes is elsewhere.
    elsewhere: bool,
    /// The pod that it takes away, until that is on its way out.
    to_go: Option<String>,
    next: Option<String>,
}

impl Timeline {
    /// Whether the operator has seen the server healthy, and knows the template to go back to.
    pub fn is_healthy(&self) -> bool {
        self.healthy && self.ready.0 == self.ready.1 && self.ready.1 > 0
    }

    /// Ready pods of those wanted.
    pub fn ready(&self) -> (i64, i64) {
        self.ready
    }

    /// From here on what is seen belongs to the story.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether a step was told.
    pub fn has(&self, step: Step) -> bool {
        self.told.contains(&step)
    }

    /// What the operator says comes next.
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Whether there is nothing more to wait for.
    pub fn is_over(&self, ending: Ending) -> bool {
        let last = match ending {
            Ending::Resolved => Step::Resolved,
            Ending::Mitigated => Step::Mitigated,
        };
        self.has(Step::Escalated) || (self.has(last) && self.ready.0 == self.ready.1)
    }

    /// Takes in that a fault was switched on, which no object tells.
    pub fn fault(&mut self, text: String) -> Vec<Line> {
        let mut lines = Vec::new();
        self.tell(&mut lines, Step::Fault, text);
        lines
    }

    /// Takes an object in, and gives the steps that it tells.
    pub fn see(&mut self, seen: &Seen) -> Vec<Line> {
        let mut lines = Vec::new();
        match seen {
            Seen::Health(health) => self.health(health, &mut lines),
            Seen::Deployment(deployment) => self.deployment(deployment, &mut lines),
            Seen::Pod(pod) => self.pod(pod, &mut lines),
            Seen::Lost(_) => {}
        }
        lines
    }

    fn tell(&mut self, lines: &mut Vec<Line>, step: Step, text: impl Into<String>) {
        if self.begun && self.told.insert(step) {
            lines.push(Line { step, text: text.into(), ready: self.ready });
        }
    }

    fn deployment(&mut self, deployment: &Value, lines: &mut Vec<Line>) {
        let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64).unwrap_or_default();
        self.ready = (number("/status/readyReplicas"), number("/spec/replicas"));
        let generation = number("/metadata/generation");
        if self.generation != 0 && generation > self.generation && !self.has(Step::Recorded) {
            self.tell(lines, Step::Rollout, "the Deployment has a new pod template");
        }
        self.generation = generation;
        if !self.begun {
            return;
        }
        let (ready, wanted) = self.ready;
        if ready == 0 {
            self.tell(lines, Step::Down, "no pod is ready: the server is down");
        }
        let annotations = deployment.pointer("/metadata/annotations");
        let attempt = annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)).and_then(Value::as_str);
        let ours = |attempt: &str| {
            self.incident.as_ref().is_some_and(|incident| attempt.starts_with(incident.as_str()))
        };
        if attempt.is_some_and(ours) && !self.elsewhere {
            self.acted(lines);
        }
        if ready == wanted && self.has(Step::Acted) && self.to_go.is_none() {
            self.tell(lines, Step::Up, "all pods are ready again");
        }
    }

    fn pod(&mut self, pod: &Value, lines: &mut Vec<Line>) {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let name = text("/metadata/name").to_owned();
        let status = "/status/containerStatuses/0";
        let restarts =
            pod.pointer(&format!("{status}/restartCount")).and_then(Value::as_i64).unwrap_or_default();
        if !self.begun {
            self.restarts.insert(name, restarts);
            return;
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            if self.to_go.as_ref() == Some(&name) {
                self.to_go = None;
            }
            return;
        }
        let ends_now = pod.pointer(&format!("{status}/state/terminated")).is_some();
        if self.restarts.get(&name).is_some_and(|before| *before == restarts) && !ends_now {
            return;
        }
        for state in ["state", "lastState"] {
            let Some(ended) = pod.pointer(&format!("{status}/{state}/terminated")) else { continue };
            let code = ended["exitCode"].as_i64().unwrap_or_default();
            let reason = ended["reason"].as_str().filter(|reason| *reason != "Error");
            // Who is killed says nothing about it.
            let said = ended["message"].as_str().filter(|_| reason.is_none()).unwrap_or_default().trim();
            let said = said.lines().last().map(|line| format!(": {}", shorten(line))).unwrap_or_default();
            let how =
                reason.map_or_else(|| format!("with exit code {code}"), |reason| format!("as {reason}"));
            self.tell(lines, Step::Fault, format!("pod {name} ends {how}{said}"));
        }
    }

    fn health(&mut self, health: &McpServerHealth, lines: &mut Vec<Line>) {
        let Some(status) = &health.status else { return };
        let ready = status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        let target = status.target.as_ref();
        let restorable = target.is_some_and(|target| {
            target.last_healthy.as_ref().is_some_and(|healthy| healthy.template == target.template)
        });
        self.healthy = ready && restorable;
        if !self.begun {
            self.before.extend(status.history.iter().map(|past| past.id.clone()));
            return;
        }

        let open = status.incidents.iter().find(|one| one.caused_by.is_none());
        self.next = open.and_then(|incident| incident.next.clone());
        if let Some(incident) = open.filter(|incident| !self.before.contains(&incident.id)) {
            self.incident(incident, lines);
        }
        let past = status.history.iter().find(|past| !self.before.contains(&past.id));
        if let Some(past) = past {
            self.tell(lines, Step::Verified, past.done());
            let acted =
                past.time_to_mitigate.as_ref().map(|time| format!(", {time} to act")).unwrap_or_default();
            let (detect, resolve) = (&past.time_to_detect, &past.time_to_resolve);
            let text = format!("{}: {detect} to detect{acted}, {resolve} to be sure", past.resolution);
            self.tell(lines, Step::Resolved, text);
        }
    }

    fn incident(&mut self, incident: &Incident, lines: &mut Vec<Line>) {
        self.incident = Some(incident.id.clone());
        let (kind, severity) = (incident.incident_type, incident.severity);
        let mut evidence = incident.evidence.iter();
        let first = evidence.next().map(|line| format!(": {line}")).unwrap_or_default();
        self.tell(lines, Step::Detected, format!("{kind}, {severity}{first}"));
        let last = evidence.next_back().map(|line| format!(": {line}")).unwrap_or_default();
        self.tell(lines, Step::Cause, format!("{}{last}", incident.cause));
        if let Some(hold) = &incident.hold {
            self.tell(lines, Step::Held, format!("{}: {}", hold.reason, hold.message));
        }
        for attempt in &incident.attempts {
            self.attempt(attempt, lines);
        }
        if incident.state == IncidentState::Mitigated {
            let to_do = incident.follow_ups.iter().map(|one| one.message.as_str()).collect::<Vec<_>>();
            self.tell(lines, Step::Mitigated, format!("to do: {}", to_do.join("; ")));
        }
        if let Some(escalation) = &incident.escalation {
            self.tell(lines, Step::Escalated, escalation.message.clone());
        }
    }

    fn acted(&mut self, lines: &mut Vec<Line>) {
        let text = self.done.clone().unwrap_or_else(|| "the Deployment is patched".to_owned());
        self.tell(lines, Step::Acted, text);
    }

    fn attempt(&mut self, attempt: &Attempt, lines: &mut Vec<Line>) {
        let (change, done) = words(attempt);
        self.done = Some(done).filter(|done| !done.is_empty());
        let is_elsewhere =
            |effect: Effect| matches!(effect, Effect::EvictPod | Effect::ResetCircuit | Effect::EndSessions);
        self.elsewhere = attempt.steps.iter().any(|step| is_elsewhere(step.effect));
        if !self.has(Step::Recorded) {
            let evicted = attempt.steps.iter().find(|step| step.effect == Effect::EvictPod);
            self.to_go = evicted.and_then(pod_of).map(str::to_owned);
        }
        let text = format!("{}{change}; written to .status before anything is touched", attempt.action);
        self.tell(lines, Step::Recorded, text);
        let counts = |effect: Effect| !self.elsewhere || is_elsewhere(effect);
        if attempt.steps.iter().any(|step| step.state == StepState::Done && counts(step.effect)) {
            self.acted(lines);
        }
        // What was overtaken touched nothing, and is decided anew.
        if let Some(outcome) = attempt.outcome.filter(|outcome| *outcome != Outcome::Superseded) {
            let message = attempt.message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            self.tell(lines, Step::Verified, format!("{outcome}{message}"));
        }
    }
}

/// What an attempt sets out to do, and how that reads once it is done.
fn words(attempt: &Attempt) -> (String, String) {
    let changes = |effect: Effect| attempt.steps.iter().find(move |step| step.effect == effect);
    if let Some(step) = changes(Effect::RestoreConfig) {
        let object = step.object.as_deref().unwrap_or("ConfigMap").replace('/', " ");
        let (from, to) = (step.from.as_deref().unwrap_or_default(), step.to.as_deref().unwrap_or_default());
        return (
            format!(", {object} from content {from} to {to}"),
            format!("{object} has content {to} again"),
        );
    }
    if let Some(step) = changes(Effect::EditTemplate) {
        let edits = step.edits.iter().map(|edit| {
            let from = edit.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
            format!("{} of container {}{from} to {}", edit.field, edit.container, edit.to)
        });
        let edits = edits.collect::<Vec<_>>().join(", ");
        return (format!(", {edits}"), format!("the Deployment is changed: {edits}"));
    }
    if let Some((from, to)) =
        changes(Effect::SetReplicas).and_then(|step| step.from.as_ref().zip(step.to.as_ref()))
    {
        return (
            format!(", {to} replicas instead of {from}"),
            format!("the Deployment wants {to} pods instead of {from}"),
        );
    }
    if let Some(pod) = changes(Effect::EvictPod).and_then(pod_of) {
        return (format!(", pod {pod}"), format!("pod {pod} is evicted: another takes its place"));
    }
    if let Some(step) = changes(Effect::ResetCircuit) {
        let (circuit, pod) = (step.to.as_deref().unwrap_or_default(), pod_of(step).unwrap_or_default());
        return (
            format!(", circuit {circuit} on pod {pod}"),
            format!("pod {pod} was told to close its circuit {circuit}"),
        );
    }
    if let Some(fence) = changes(Effect::EndSessions).and_then(|step| step.sessions.as_ref()) {
        let SessionFence { database, user, application, state, list } = fence;
        let count = list.len();
        let sessions = if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") };
        return (
            format!(", {sessions} of {application} in {database}, as long as they are {state}"),
            format!("PostgreSQL was told to end {sessions} of {user} in {database}"),
        );
    }
    let change = attempt.steps.iter().find_map(|step| step.from.as_ref().zip(step.to.as_ref()));
    change.map_or_else(Default::default, |(from, to)| {
        (format!(", template {from} to {to}"), format!("the Deployment has template {to} again"))
    })
}

/// The pod that a step is about.
fn pod_of(step: &mcp_health_api::Step) -> Option<&str> {
    step.object.as_deref()?.strip_prefix("Pod/")
}

/// A line of a log, not longer than a person wants to read here.
fn shorten(line: &str) -> String {
    const MOST: usize = 160;
    if line.chars().count() <= MOST {
        return line.to_owned();
    }
    line.chars().take(MOST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn health(status: &Value) -> Seen {
        let object = json!({
            "apiVersion": "mcphealth.dev/v1alpha1",
            "kind": "McpServerHealth",
            "metadata": {"name": "mcp-server"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"}},
            "status": status,
        });
        Seen::Health(Box::new(serde_json::from_value(object).unwrap()))
    }

    fn deployment(generation: i64, ready: i64, attempt: Option<&str>) -> Seen {
        Seen::Deployment(json!({
            "metadata": {"generation": generation, "annotations": {ATTEMPT_ANNOTATION: attempt}},
            "spec": {"replicas": 3},
            "status": {"readyReplicas": ready},
        }))
    }

    fn incident(step: &str) -> Seen {
        let at = "2026-01-01T00:00:00Z";
        health(&json!({"incidents": [{
            "id": "crashloop-1", "type": "CrashLoop", "cause": "BadRollout", "severity": "SEV1", "state": "Mitigating",
            "since": at, "openedAt": at, "respondBy": at, "evidence": ["pod a: exit code 1", "template b is new"],
            "attempts": [{
                "id": "crashloop-1-1", "action": "Rollback", "why": "why", "recordedAt": at, "readyBefore": 0,
                "steps": [{"effect": "PatchTemplate", "from": "b", "to": "a", "uid": "u", "resourceVersion": "1",
                           "state": step}],
            }],
        }]}))
    }

    fn past() -> Seen {
        let at = "2026-01-01T00:00:00Z";
        health(&json!({"history": [{
            "id": "crashloop-1", "type": "CrashLoop", "cause": "BadRollout", "severity": "SEV1", "openedAt": at,
            "resolvedAt": at, "resolution": "Rollback helped",
            "actions": [{"action": "Rollback", "outcome": "Improved"}],
            "timeToDetect": "2s", "timeToMitigate": "0s", "timeToResolve": "18s",
        }]}))
    }

    fn steps(timeline: &mut Timeline, seen: &[Seen]) -> Vec<&'static str> {
        seen.iter().flat_map(|one| timeline.see(one)).map(|line| line.step.name()).collect()
    }

    #[test]
    fn an_incident_is_told_once_and_in_order() {
        let mut timeline = Timeline::default();
        assert!(steps(&mut timeline, &[deployment(1, 3, None)]).is_empty());
        timeline.begin();
        let crashed = json!({"metadata": {"name": "new"}, "status": {"containerStatuses": [
            {"state": {"terminated": {"exitCode": 1, "message": "first\nKeyError\n"}}}]}});
        let told = steps(
            &mut timeline,
            &[
                deployment(2, 3, None),
                deployment(2, 0, None),
                Seen::Pod(crashed),
                incident("Recorded"),
                deployment(3, 0, Some("crashloop-1-1")),
                incident("Done"),
                deployment(3, 3, Some("crashloop-1-1")),
                past(),
                past(),
            ],
        );
        let expected = [
            "rollout", "down", "fault", "detected", "cause", "recorded", "acted", "up", "verified",
            "resolved",
        ];
        assert_eq!(told, expected);
        assert!(timeline.is_over(Ending::Resolved));
    }

    #[test]
    fn an_evicted_pod_is_told_once_it_goes_and_all_are_up_once_another_is_there() {
        let mut timeline = Timeline::default();
        steps(&mut timeline, &[deployment(1, 3, None)]);
        timeline.begin();
        let named: Vec<_> =
            timeline.fault("pod a hangs".to_owned()).into_iter().map(|line| line.step.name()).collect();
        assert_eq!(named, ["fault"]);
        let at = "2026-01-01T00:00:00Z";
        let step = |effect: &str, state: &str| json!({"effect": effect, "object": "Pod/a", "uid": "u", "state": state});
        let recycles = |marked: &str, evicted: &str| {
            health(&json!({"incidents": [{
                "id": "wedged-1", "type": "CrashLoop", "cause": "ProcessExit", "severity": "SEV2",
                "state": "Mitigating", "since": at, "openedAt": at, "respondBy": at, "evidence": ["pod a hangs"],
                "attempts": [{
                    "id": "wedged-1-1", "action": "RecyclePod", "why": "why", "recordedAt": at, "readyBefore": 3,
                    "steps": [step("MarkTarget", marked), step("EvictPod", evicted)],
                }],
            }]}))
        };
        let gone = json!({"metadata": {"name": "a", "deletionTimestamp": at}});
        let told = |timeline: &mut Timeline, seen: Seen| steps(timeline, &[seen]);
        assert_eq!(told(&mut timeline, recycles("Recorded", "Recorded")), ["detected", "cause", "recorded"]);
        assert!(told(&mut timeline, deployment(1, 3, Some("wedged-1-1"))).is_empty(), "it is marked only");
        assert!(told(&mut timeline, recycles("Done", "Recorded")).is_empty());
        assert_eq!(told(&mut timeline, recycles("Done", "Done")), ["acted"]);
        assert!(told(&mut timeline, deployment(1, 3, Some("wedged-1-1"))).is_empty(), "it is not gone yet");
        assert!(told(&mut timeline, Seen::Pod(gone)).is_empty());
        assert!(told(&mut timeline, deployment(1, 2, Some("wedged-1-1"))).is_empty());
        assert!(!timeline.is_over(Ending::Resolved));
        assert_eq!(told(&mut timeline, deployment(1, 3, Some("wedged-1-1"))), ["up"]);
    }

    #[test]
    fn ended_sessions_are_counted_and_told_once_the_database_was_asked() {
        let mut timeline = Timeline::default();
        steps(&mut timeline, &[deployment(1, 1, None)]);
        timeline.begin();
        let at = "2026-01-01T00:00:00Z";
        let ends = |state: &str| {
            health(&json!({"incidents": [{
                "id": "idle-1", "type": "DatabaseIdleInTransaction", "cause": "IdleTransactions", "severity": "SEV3",
                "state": "Mitigating", "since": at, "openedAt": at, "respondBy": at, "evidence": ["2 sessions"],
                "attempts": [{
                    "id": "idle-1-1", "action": "EndDatabaseSessions", "why": "why", "recordedAt": at, "readyBefore": 1,
                    "steps": [
                        {"effect": "MarkTarget", "uid": "u", "state": "Done"},
                        {"effect": "EndSessions", "object": "Database/mcp_prod", "uid": "u", "state": state, "sessions": {
                            "database": "mcp_prod", "user": "mcp_user", "application": "mcp-server",
                            "state": "idle in transaction", "list": ["1 a b", "2 a b"],
                        }},
                    ],
                }],
            }]}))
        };
        let recorded = timeline.see(&ends("Recorded"));
        let last = recorded.last().unwrap();
        assert!(
            last.text.starts_with("EndDatabaseSessions, 2 sessions of mcp-server in mcp_prod"),
            "{last:?}"
        );
        assert_eq!(last.step, Step::Recorded);
        let acted = timeline.see(&ends("Done"));
        assert_eq!(acted[0].text, "PostgreSQL was told to end 2 sessions of mcp_user in mcp_prod");
    }

    #[test]
    fn an_incident_of_before_is_not_told() {
        let mut timeline = Timeline::default();
        steps(&mut timeline, &[deployment(1, 3, None), past()]);
        timeline.begin();
        assert_eq!(steps(&mut timeline, &[deployment(2, 3, None), past()]), ["rollout"]);
    }

    #[test]
    fn what_a_container_said_last_is_told() {
        let mut timeline = Timeline::default();
        steps(&mut timeline, &[deployment(1, 3, None)]);
        timeline.begin();
        steps(&mut timeline, &[deployment(2, 3, None)]);
        let pod = json!({"metadata": {"name": "new"}, "status": {"containerStatuses": [
            {"lastState": {"terminated": {"exitCode": 1, "message": "first\nKeyError\n"}}}]}});
        let lines = timeline.see(&Seen::Pod(pod));
        assert_eq!(lines[0].text, "pod new ends with exit code 1: KeyError");
    }
}
