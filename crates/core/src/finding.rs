//! finding: what one rule of the catalogue says of one server, and what all of them say.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{ActionType, Cause, Incident, IncidentType, Pending, Severity, Subject, SubjectKind};

use crate::signals::Signals;

/// Something that is wrong, and what shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The catalogue's entry.
    pub incident: IncidentType,
    /// The rule of the policy's own, where it is one of those.
    pub rule: Option<String>,
    /// Why, as far as the signals tell.
    pub cause: Cause,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub since: Timestamp,
    /// What was seen, as sentences; the most telling first.
    pub evidence: Vec<String>,
    /// What it is about, where that is not the server itself; in the same order while these are the same.
    pub subjects: Vec<Subject>,
    /// When the youngest of the pods that show it was created.
    pub youngest_pod: Option<Timestamp>,
    /// When it ends to be so though nothing changes.
    pub lapses: Option<Timestamp>,
    /// What must not be done to this server while this is so, whatever else is found.
    pub forbids: &'static [ActionType],
}

/// What one rule says of one server.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// It is not so.
    Clear,
    /// It may be so; look again then.
    Suspected {
        /// The time of the next look.
        until: Timestamp,
    },
    /// It is so.
    Found(Finding),
    /// It is so at this moment, and is an incident once it has been so for this long (or for as long as the
    /// policy says), by the operator's own first sight. What is open already stays found.
    Symptom {
        /// What is so.
        finding: Finding,
        /// How long it lasts by default.
        lasting: SignedDuration,
    },
    /// What the rule needs cannot be seen. Neither opens nor closes anything.
    Unknown,
}

impl Finding {
    /// What is wrong and shown by no pod in particular, forbids nothing, and does not end by itself.
    pub fn new(
        incident: IncidentType,
        cause: Cause,
        severity: Severity,
        since: Timestamp,
        evidence: Vec<String>,
    ) -> Self {
        let (rule, youngest_pod, lapses) = (None, None, None);
        let (subjects, forbids) = (Vec::new(), [].as_slice());
        Self { incident, rule, cause, severity, since, evidence, subjects, youngest_pod, lapses, forbids }
    }

    /// Whether an incident was opened for this.
    pub fn is_of(&self, incident: &Incident) -> bool {
        self.incident == incident.incident_type && self.rule == incident.rule
    }
}

/// Whether an incident is about something of this kind.
pub(crate) fn is_about(incident: &Incident, kind: SubjectKind) -> bool {
    incident.subjects.iter().any(|subject| subject.kind == kind)
}

/// Whether an incident is about this.
pub(crate) fn is_about_the(incident: &Incident, kind: SubjectKind, name: &str) -> bool {
    incident.subjects.iter().any(|subject| subject.kind == kind && subject.name == name)
}

/// What all rules say of one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// What is wrong; the primary finding first.
    pub findings: Vec<Finding>,
    /// Incident types whose rule says that all is well. Only these may close.
    pub clear: Vec<IncidentType>,
    /// The policy's own rules that say so.
    pub clear_rules: Vec<String>,
    /// What may become an incident if it lasts.
    pub pending: Vec<Pending>,
    /// When a rule wants to look again though nothing changes.
    pub look_again: Option<Timestamp>,
    /// What contradicts itself, and therefore shows nothing, as sentences.
    pub contradictions: Vec<String>,
    /// The dependencies that are down.
    pub down: Vec<String>,
    /// The dependencies that could explain what is found or suspected, and of which it is not known whether
    /// they answer: they are to be asked at once.
    pub undecided: Vec<String>,
    /// What may be so, by its rule.
    pub suspected: Vec<IncidentType>,
}

impl Diagnosis {
    /// The finding of a type.
    pub fn finding(&self, incident: IncidentType) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.incident == incident)
    }

    /// The finding that an incident was opened for.
    pub fn finding_of(&self, incident: &Incident) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.is_of(incident))
    }

    /// Whether the rule that an incident was opened by says that all is well.
    pub fn is_clear(&self, incident: &Incident) -> bool {
        match &incident.rule {
            Some(rule) => self.clear_rules.contains(rule),
            None => self.clear.contains(&incident.incident_type),
        }
    }

    /// Everything that cannot be relied on, as sentences.
    pub fn problems(&self, signals: &Signals) -> Vec<String> {
        signals.problems().into_iter().chain(self.contradictions.iter().cloned()).collect()
    }
}
