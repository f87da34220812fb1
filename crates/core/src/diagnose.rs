//! diagnose: from signals to findings. Every rule of the [`catalogue`](crate::catalogue) is asked; of what
//! they find, one is the primary, and the others follow from it.

use jiff::Timestamp;
use mcp_health_api::{ActionType, Cause, IncidentType, Severity};

use crate::{Case, Server, catalogue::CATALOGUE};

/// Something that is wrong, and what shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The catalogue's entry.
    pub incident: IncidentType,
    /// Why, as far as the signals tell.
    pub cause: Cause,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub since: Timestamp,
    /// What was seen, as sentences; the most telling first.
    pub evidence: Vec<String>,
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
    /// What the rule needs cannot be seen. Neither opens nor closes anything.
    Unknown,
}

/// What all rules say of one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// What is wrong; the primary finding first.
    pub findings: Vec<Finding>,
    /// Incident types whose rule says that all is well. Only these may close.
    pub clear: Vec<IncidentType>,
    /// When a rule wants to look again though nothing changes.
    pub look_again: Option<Timestamp>,
}

impl Diagnosis {
    /// The finding of a type.
    pub fn finding(&self, incident: IncidentType) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.incident == incident)
    }

    /// Whether an action is forbidden, by any finding.
    pub fn forbidding(&self, action: ActionType) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.forbids.contains(&action))
    }
}

/// How near to the root a cause is; the smallest is the primary (DESIGN: dependency, database, node → bad
/// revision or configuration → resource → process → symptom).
fn distance_from_root(finding: &Finding) -> u8 {
    match finding.cause {
        // What kills the pods in force is why they loop, whatever the rollout has to do with it.
        _ if finding.incident == IncidentType::OutOfMemory && finding.youngest_pod.is_some() => 1,
        Cause::DatabaseConnection => 0,
        Cause::BadRollout
        | Cause::NeverHealthy
        | Cause::ConfigError
        | Cause::MissingDependency
        | Cause::PermissionDenied
        | Cause::StartupTimeout
        | Cause::PortConflict
        | Cause::ImagePull
        | Cause::ServiceMismatch => 1,
        Cause::QuotaExceeded
        | Cause::Unschedulable
        | Cause::OutOfMemory
        | Cause::LimitTooSmall
        | Cause::Leak
        | Cause::Saturation
        | Cause::ContainerLogs
        | Cause::TemporaryFiles
        | Cause::VolumeData => 2,
        Cause::ProcessExit => 3,
        Cause::NotReady => 4,
        Cause::PersonsReport => 5,
    }
}

/// Asks every rule. Without fresh evidence of the target, its revisions and its pods, nothing is concluded;
/// nor by an object that is not in charge of its target.
pub fn diagnose(case: &Case) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    let Some(server) = Server::of(case).filter(|_| case.signals.rival.is_none()) else { return diagnosis };
    for entry in CATALOGUE {
        match (entry.judge)(case, &server) {
            Judgement::Clear => diagnosis.clear.push(entry.incident),
            Judgement::Suspected { until } => {
                diagnosis.look_again = diagnosis.look_again.into_iter().chain([until]).min();
            }
            Judgement::Found(mut finding) => {
                diagnosis.look_again = diagnosis.look_again.into_iter().chain(finding.lapses).min();
                let wanted = case.spec.overrides.iter().find(|wanted| wanted.incident == entry.incident);
                if let Some(severity) = wanted.and_then(|wanted| wanted.severity) {
                    finding.severity = severity;
                }
                diagnosis.findings.push(finding);
            }
            Judgement::Unknown => {}
        }
    }
    rank(&mut diagnosis.findings);
    diagnosis
}

/// The primary finding first: the one nearest to the root; among equals, the catalogue's order: what shows most of
/// the fault comes first.
pub fn rank(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| {
        let place = CATALOGUE.iter().position(|entry| entry.incident == finding.incident);
        (distance_from_root(finding), place.unwrap_or(CATALOGUE.len()), finding.incident)
    });
}
