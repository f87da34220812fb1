//! diagnose: from signals to findings. Every rule of the [`catalogue`](crate::catalogue) is asked; of what
//! they find, one is the primary, and the others follow from it.

use jiff::SignedDuration;
use jiff::Timestamp;
use mcp_health_api::{ActionType, Cause, Incident, IncidentType, Pending, Severity, Subject, Time};

use crate::{
    Case, Server,
    case::lasting,
    catalogue::{CATALOGUE, Class, Entry, facts, own_rules},
    dependencies,
    finding::{Diagnosis, Finding, Judgement},
    probes, prohibition,
    signals::Signals,
    time::after,
};

/// What two looks at a server must differ in for its story to change. Values alone do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    found: Vec<(IncidentType, Option<String>, Cause, Severity)>,
    /// What those are about that do not lie in the server itself.
    subjects: Vec<Subject>,
    /// Open incidents whose rule says that all is well. Of what is not open, that is nobody's news.
    clear: Vec<String>,
    pending: Vec<Pending>,
    problems: Vec<String>,
    /// Dependencies: which are down, and of which that is not known.
    dependencies: (Vec<String>, Vec<String>),
}

impl Verdict {
    /// The verdict of a look at a server of which these incidents are open.
    pub fn of(diagnosis: &Diagnosis, signals: &Signals, open: &[Incident]) -> Self {
        let found = diagnosis.findings.iter();
        let clear = open.iter().filter(|incident| diagnosis.is_clear(incident));
        Self {
            found: found
                .clone()
                .map(|one| (one.incident, one.rule.clone(), one.cause, one.severity))
                .collect(),
            subjects: found.flat_map(told_subjects).cloned().collect(),
            clear: clear.map(|incident| incident.id.clone()).collect(),
            pending: diagnosis.pending.clone(),
            dependencies: (diagnosis.down.clone(), diagnosis.undecided.clone()),
            problems: diagnosis.problems(signals),
        }
    }
}

/// What a finding is about, where it is another story once that becomes more or less.
pub(crate) fn told_subjects(finding: &Finding) -> &[Subject] {
    let class = class(finding);
    if class.is_outside() || class.is_told() { &finding.subjects } else { &[] }
}

/// Whether something that does not answer, or can write nothing, may be why. What a rollback remediates
/// follows from it only where that forbids a rollback; and what is wrong in a database that lets the operator
/// in is its own.
fn follows_from(down: &Finding, finding: &Finding, server: &Server) -> bool {
    let entry = facts(finding.incident);
    if entry.class == Class::Sessions {
        return down.cause == Cause::DatabaseConnection;
    }
    let is_rolled_back = (entry.runbook)(finding.cause, server).contains(&ActionType::Rollback);
    let may_roll_back = class(down) != Class::Dependency || !down.forbids.contains(&ActionType::Rollback);
    is_explained_by_dependency(finding, server) && !(is_rolled_back && may_roll_back)
}

/// Asks every rule of the catalogue, and every one of the policy's own. Without fresh evidence of the target,
/// its revisions and its pods, nothing is concluded; nor by an object that is not in charge of its target.
pub fn diagnose(case: &Case) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    let Some(server) = Server::of(case).filter(|_| case.signals.rival.is_none()) else {
        diagnosis.pending = case.status.pending.iter().map(|known| unseen(case, known)).collect();
        return diagnosis;
    };
    for entry in CATALOGUE {
        diagnosis.note(case, entry.incident, None, judge(case, &server, entry));
    }
    for rule in &case.spec.rules {
        let judgement =
            if server.is_scaled_to_zero() { Judgement::Clear } else { own_rules::judge(case, rule) };
        diagnosis.note(case, IncidentType::Rule, Some(&rule.name), judgement);
    }
    // A rule that is gone finds nothing: what was done for a time can be taken back.
    let gone = case.status.incidents.iter().filter(|incident| own_rules::is_gone(case, incident));
    diagnosis.clear_rules.extend(gone.filter_map(|incident| incident.rule.clone()));
    rank(&mut diagnosis.findings, &server);
    diagnosis.contradictions = probes::contradictions(case, &server);
    diagnosis.contradictions.extend(prohibition::problem(case));
    diagnosis.down = dependencies::down(case).map(|one| one.name.clone()).collect();
    diagnosis.down.sort();
    diagnosis.undecided = undecided(case, &server, &diagnosis);
    diagnosis
}

/// Whether something that the server depends on could explain a finding.
pub(crate) fn is_explained_by_dependency(finding: &Finding, server: &Server) -> bool {
    (facts(finding.incident).explained_by_dependency)(finding, server)
}

fn class(finding: &Finding) -> Class {
    facts(finding.incident).class
}

/// Since when an incident's fault is known, for what must have answered since: the onset that was recorded
/// first.
pub(crate) fn onset(finding: &Finding, incident: Option<&Incident>) -> Timestamp {
    incident.map_or(finding.since, |open| open.since.0.min(finding.since))
}

/// See [`Diagnosis::undecided`].
fn undecided(case: &Case, server: &Server, diagnosis: &Diagnosis) -> Vec<String> {
    let explained = diagnosis.findings.iter().filter(|one| is_explained_by_dependency(one, server));
    let found = explained.map(|one| {
        let mut open = case.status.incidents.iter();
        onset(one, open.find(|incident| one.is_of(incident)))
    });
    let suspected = diagnosis.suspected.iter().filter(|one| facts(**one).shows_outage).map(|_| case.now);
    let mut all: Vec<String> = found
        .chain(suspected)
        .flat_map(|since| dependencies::undecided(case, since))
        .map(str::to_owned)
        .collect();
    all.sort();
    all.dedup();
    all
}

impl Diagnosis {
    fn note(&mut self, case: &Case, incident: IncidentType, rule: Option<&str>, judgement: Judgement) {
        let of_this = |one: &&Pending| one.incident_type == incident && one.rule.as_deref() == rule;
        let known = case.status.pending.iter().find(of_this);
        match judgement {
            Judgement::Clear => match rule {
                Some(rule) => self.clear_rules.push(rule.to_owned()),
                None => self.clear.push(incident),
            },
            Judgement::Suspected { until } => {
                self.suspected.push(incident);
                self.look_again_at(until);
            }
            Judgement::Found(finding) => match own_wait(case, &finding, known) {
                Some((since, due)) => self.wait(incident, rule, since, due),
                None => self.find(case, finding),
            },
            Judgement::Symptom { mut finding, lasting: default } => {
                let mut open = case.status.incidents.iter();
                if open.any(|one| finding.is_of(one)) {
                    return self.find(case, finding);
                }
                let since = known.map_or(case.now, |known| seen_since(case, known));
                let due = after(since, lasting(case, incident, default));
                if due <= case.now {
                    finding.since = finding.since.min(since);
                    return self.find(case, finding);
                }
                self.wait(incident, rule, since, due);
            }
            Judgement::Unknown => self.pending.extend(known.map(|known| unseen(case, known))),
        }
    }

    /// It is an incident if it lasts until `due`.
    fn wait(&mut self, incident_type: IncidentType, rule: Option<&str>, since: Timestamp, due: Timestamp) {
        let rule = rule.map(str::to_owned);
        self.pending.push(Pending { incident_type, rule, since: Time(since), unseen_since: None });
        self.look_again_at(due);
    }

    fn find(&mut self, case: &Case, mut finding: Finding) {
        if let Some(at) = finding.lapses {
            self.look_again_at(at);
        }
        let wanted = case.spec.overrides.iter().find(|wanted| wanted.incident == finding.incident);
        if let Some(severity) = wanted.and_then(|wanted| wanted.severity) {
            finding.severity = severity;
        }
        self.findings.push(finding);
    }

    fn look_again_at(&mut self, at: Timestamp) {
        self.look_again = self.look_again.into_iter().chain([at]).min();
    }
}

/// What a rule says. An incident that is open is not over because the pods that show it are lost with their
/// node.
fn judge(case: &Case, server: &Server, entry: &Entry) -> Judgement {
    let judgement = entry.judge(case, server);
    if judgement != Judgement::Clear || server.lost.is_empty() || case.open(entry.incident).is_none() {
        return judgement;
    }
    let shows_it = || entry.judge(case, &server.with_lost_pods()) != Judgement::Clear;
    if entry.class != Class::Node && shows_it() { Judgement::Unknown } else { Judgement::Clear }
}

/// Since when a finding is observed, and until when it must last, where the policy's own `for` is not over:
/// whatever its rule makes of the wish, a type that waits opens no incident before. What forbids an action is
/// not put off.
fn own_wait(case: &Case, finding: &Finding, known: Option<&Pending>) -> Option<(Timestamp, Timestamp)> {
    let mut overrides = case.spec.overrides.iter();
    let waits = facts(finding.incident).lasting.is_some();
    let own = overrides.find(|one| one.incident == finding.incident && waits)?.hold_for?;
    let is_open = case.status.incidents.iter().any(|one| finding.is_of(one));
    let since = known.map_or(case.now, |known| seen_since(case, known));
    let due = after(since.min(finding.since), own.span());
    (!is_open && due > case.now && finding.forbids.is_empty()).then_some((since, due))
}

/// Since when something is so, by the operator's own sight: while it could not be seen, it did not last.
fn seen_since(case: &Case, known: &Pending) -> Timestamp {
    let blind = known.unseen_since.as_ref().map(|since| case.now.duration_since(since.0));
    after(known.since.0, blind.unwrap_or_default().max(SignedDuration::ZERO)).min(case.now)
}

/// It cannot be seen whether it is still so.
fn unseen(case: &Case, known: &Pending) -> Pending {
    let unseen_since = known.unseen_since.clone().or(Some(Time(case.now)));
    Pending { unseen_since, ..known.clone() }
}

/// The primary finding first: the one nearest to the root; among equals, the catalogue's order: what shows
/// most of the fault comes first. While something that the server depends on is down, or its database can
/// write nothing more, what that does not explain comes before it, and is mended all the same.
pub fn rank(findings: &mut [Finding], server: &Server) {
    let is_disk = |finding: &Finding| finding.cause == Cause::DatabaseDisk;
    let is_down = |finding: &Finding| class(finding) == Class::Dependency;
    let mut all = findings.iter();
    let down = all.clone().find(|one| is_down(one)).or_else(|| all.find(|one| is_disk(one))).cloned();
    let lost = findings.iter().any(|one| class(one) == Class::Node);
    findings.sort_by_key(|finding| {
        let entry = facts(finding.incident);
        let place = CATALOGUE.iter().position(|entry| entry.incident == finding.incident);
        let follows = down.as_ref().is_some_and(|down| follows_from(down, finding, server))
            || (lost && entry.follows_from_node(finding));
        let (distance, place) = ((entry.rank)(finding), place.unwrap_or(CATALOGUE.len()));
        (follows, distance, !is_disk(finding), place, finding.incident)
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mcp_health_api::{McpServerHealth, McpServerHealthSpec, McpServerHealthStatus};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Settings, signals::Signals};

    /// The incident types of the API, and the rule by which admission takes `for`.
    fn of_the_crd() -> (Vec<IncidentType>, String) {
        let crd = serde_json::to_value(<McpServerHealth as kube::CustomResourceExt>::crd()).unwrap();
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/overrides/items";
        let items = crd.pointer(schema).unwrap();
        let types = serde_json::from_value(items["properties"]["incident"]["enum"].clone()).unwrap();
        let rules = items["x-kubernetes-validations"].as_array().unwrap().iter();
        let mut rules = rules.filter_map(|rule| rule["rule"].as_str());
        let rule = rules.find(|rule| rule.starts_with("!has(self.for) || self.incident in [")).unwrap();
        (types, rule.to_owned())
    }

    fn spec(incident: IncidentType) -> McpServerHealthSpec {
        let own: Value = json!({"incident": incident, "for": "10m"});
        serde_json::from_value(json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"},
            "overrides": [own],
        }))
        .unwrap()
    }

    fn found(incident: IncidentType, since: i64) -> Judgement {
        Judgement::Found(Finding::new(
            incident,
            Cause::Saturation,
            Severity::SEV3,
            Timestamp::from_second(since).unwrap(),
            Vec::new(),
        ))
    }

    #[test]
    fn for_delays_an_incident_of_every_type_that_waits_and_admission_refuses_it_of_all_others() {
        let (types, rule) = of_the_crd();
        let (signals, settings) = (Signals::default(), Settings::default());
        for incident in types {
            let spec = spec(incident);
            let opens = |now: i64, since: i64, pending: Vec<Pending>| {
                let status = McpServerHealthStatus { pending, ..McpServerHealthStatus::default() };
                let now = Timestamp::from_second(now).unwrap();
                let (spec, status, signals, settings) = (&spec, &status, &signals, &settings);
                let case = Case { generation: 1, spec, status, signals, settings, now };
                let mut diagnosis = Diagnosis::default();
                diagnosis.note(&case, incident, None, found(incident, since));
                (diagnosis.findings.len() == 1, diagnosis.pending)
            };
            let (opened, pending) = opens(1000, 1000, Vec::new());
            let waits = facts(incident).lasting.is_some();
            assert_eq!(opened, !waits, "{incident}: at once");
            assert_eq!(rule.contains(&format!("'{incident}'")), waits, "{incident}: {rule}");
            // A rule that finds it since just now, at every look, does not put it off for ever.
            assert!(opens(1600, 1600, pending.clone()).0, "{incident}: after ten minutes");
            assert_eq!(opens(1599, 1599, pending).0, !waits, "{incident}: before");
            assert!(opens(1000, 400, Vec::new()).0, "{incident}: it has lasted already");
        }
    }
}
