//! Reported: a person says that something is wrong, by an annotation on the object (`SEV2: searches hang`). A
//! person's word opens an incident, with what is seen at that moment; it never leads to an action. It is over
//! when the annotation is gone.

use mcp_health_api::{Cause, IncidentType, REPORT_ANNOTATION, Severity, Subject, SubjectKind};

use super::entry::{Class, Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server, digest,
    finding::{Finding, Judgement},
    mask::mask,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::Reported,
    rule: Rule::Plain(judge),
    class: Class::Report,
    needs: Needs::All(&[Evidence::Annotation]),
    at_zero: true,
    guide: &[("004", "Incident Response Checklist")],
    ..USUAL
};

/// How bad it is where the person does not say: something is degraded (guide 004, Severity Levels).
const DEFAULT: Severity = Severity::SEV3;
/// The most of a report that is kept, in bytes.
const LONGEST: usize = 300;
/// The most lines on what is seen meanwhile.
const SEEN: usize = 4;

fn judge(case: &Case, server: &Server) -> Judgement {
    let Some(text) = &case.signals.report else { return Judgement::Clear };
    let (severity, said, remark) = read(text);
    let mut evidence = vec![match said.as_str() {
        "" => format!("somebody reports a fault, without a word on it (annotation {REPORT_ANNOTATION})"),
        said => format!("somebody reports: {said}"),
    }];
    evidence.extend(remark);
    evidence.extend(seen(case, server).into_iter().take(SEEN));
    Judgement::Found(Finding {
        subjects: vec![Subject::new(SubjectKind::Report, digest::short(said.as_bytes(), 6))],
        ..Finding::new(IncidentType::Reported, Cause::PersonsReport, severity, case.now, evidence)
    })
}

/// `SEV2: searches hang`: the severity, the words in one line without credentials, and what is odd about
/// them.
fn read(text: &str) -> (Severity, String, Option<String>) {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (head, rest) = line.split_once(':').unwrap_or((line.as_str(), ""));
    let words = |text: &str| words::shorten(&mask(text.trim()), LONGEST);
    let named = head.trim().to_ascii_uppercase();
    let number = named.strip_prefix("SEV").map(|number| number.trim_start_matches([' ', '-']));
    let severity = match number {
        Some("1") => Severity::SEV1,
        Some("2") => Severity::SEV2,
        Some("3") => Severity::SEV3,
        Some("4") => Severity::SEV4,
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            let remark = format!("{} is no severity (SEV1 to SEV4): taken as {DEFAULT}", words(head));
            return (DEFAULT, words(rest), Some(remark));
        }
        _ => return (DEFAULT, words(&line), None),
    };
    (severity, words(rest), None)
}

/// What is seen of the server at this moment.
fn seen(case: &Case, server: &Server) -> Vec<String> {
    let restarts: i32 = server.pods.iter().map(|pod| pod.restarts()).sum();
    let mut seen = vec![format!(
        "{} of {} wanted pods are ready, on {}; their containers were started anew {}",
        server.ready(),
        server.target.desired,
        server.current_words(),
        words::count(usize::try_from(restarts).unwrap_or_default(), "time"),
    )];
    if let Some(since) = server.ready_since() {
        seen.push(format!("the last pod became ready at {}", words::moment(since)));
    }
    if let Some((config, _)) = server.changed_config() {
        let at = words::moment(config.changed);
        seen.push(format!("ConfigMap {} was changed at {at}, since the pods were well", config.name));
    }
    for service in case.signals.services.fresh().into_iter().flatten() {
        let endpoints = words::count(service.ready_endpoints, "ready endpoint");
        seen.push(format!("Service {} has {endpoints}", service.name));
    }
    seen
}
