//! CertificateExpiring: the certificate of something that the server depends on ends soon, or has ended.
//!
//! Judged by the certificate of the last TLS handshake, whatever the dependency speaks: less than 21 days are
//! to be looked at, less than 7 are a warning, and none are an outage. Nobody acts. It is looked at again
//! when the next of these moments comes, and when the certificate is another one.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::{Cause, IncidentType, Severity, Subject, SubjectKind};

use super::entry::{Class, Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    dependencies::{declared, is_fresh},
    finding::{Finding, Judgement, is_about_the},
    mask::mask,
    signals::{Certificate, Dependency},
    time::after,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::CertificateExpiring,
    rule: Rule::Plain(judge),
    class: Class::Ahead,
    needs: Needs::All(&[Evidence::Dependencies]),
    speaks_against_template: |_| false,
    guide: &[("000", "Network Diagnostics")],
    ..USUAL
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// So much is left, and so bad is it; the worst first.
const THRESHOLDS: [(i32, Severity); 3] = [(0, Severity::SEV1), (7, Severity::SEV3), (21, Severity::SEV4)];
/// Timers are not for years.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(24 * 30);

fn judge(case: &Case, _: &Server) -> Judgement {
    let Some(seen) = case.signals.dependencies.fresh() else { return Judgement::Unknown };
    let seen = seen.iter().filter(|one| declared(case.spec).any(|name| name == one.name));
    let known: Vec<(&Dependency, &Certificate)> = seen
        .clone()
        .filter(|one| is_fresh(case, one))
        .filter_map(|one| Some((one, one.certificate()?)))
        .collect();
    let mut ending: Vec<(Severity, &Dependency, &Certificate)> = known
        .iter()
        .filter_map(|(one, certificate)| Some((severity(certificate, case.now)?, *one, *certificate)))
        .collect();
    let next = known.iter().filter_map(|(_, certificate)| next_threshold(certificate, case.now)).min();
    let Some(severity) = ending.iter().map(|(severity, ..)| *severity).min() else {
        let open = case.open(IncidentType::CertificateExpiring);
        let told = |one: &Dependency| {
            open.is_some_and(|open| is_about_the(open, SubjectKind::Certificate, &one.name))
        };
        // One that was told of and is not shown any more may be as it was.
        let is_hidden = |one: &Dependency| told(one) && known.iter().all(|(other, _)| other.name != one.name);
        return match (open, next) {
            (Some(_), _) if seen.clone().any(is_hidden) => Judgement::Unknown,
            (Some(_), _) | (None, None) => Judgement::Clear,
            (None, Some(next)) => Judgement::Suspected { until: next.min(after(case.now, LOOK_AGAIN)) },
        };
    };
    ending.sort_by_key(|(_, one, certificate)| (certificate.not_after, one.name.clone()));
    let subject = |(severity, one, _): &(Severity, &Dependency, &Certificate)| Subject {
        severity: Some(*severity),
        ..Subject::new(SubjectKind::Certificate, &one.name)
    };
    Judgement::Found(Finding {
        subjects: ending.iter().map(subject).collect(),
        lapses: next.map(|next| next.min(after(case.now, LOOK_AGAIN))),
        ..Finding::new(
            IncidentType::CertificateExpiring,
            Cause::Certificate,
            severity,
            case.now,
            ending.iter().map(|(_, one, certificate)| describe(one, certificate, case.now)).collect(),
        )
    })
}

fn severity(certificate: &Certificate, now: Timestamp) -> Option<Severity> {
    let left = certificate.not_after.duration_since(now);
    let mut thresholds = THRESHOLDS.into_iter();
    // With none left, it has ended; with 7 or 21 days left to the second, it is not less than that yet.
    thresholds
        .find(|(days, _)| left < DAY * *days || (*days == 0 && left.is_zero()))
        .map(|(_, severity)| severity)
}

/// The next moment at which it is worse, a second past it.
fn next_threshold(certificate: &Certificate, now: Timestamp) -> Option<Timestamp> {
    let moments = THRESHOLDS.into_iter().filter_map(|(days, _)| {
        certificate.not_after.checked_sub(DAY * days).ok().map(|at| after(at, SignedDuration::from_secs(1)))
    });
    moments.filter(|at| *at > now).min()
}

/// `the certificate of idp ends in less than 7 days: idp.example.com, issued by Example CA, until
/// 2026-11-28T12:00:00Z (6 days left)`.
fn describe(one: &Dependency, certificate: &Certificate, now: Timestamp) -> String {
    let left = certificate.not_after.duration_since(now);
    let days = usize::try_from(left.abs().as_hours() / 24).unwrap_or_default();
    let (ends, left) = match severity(certificate, now) {
        Some(Severity::SEV1) => ("has ended".to_owned(), format!("{} ago", words::count(days, "day"))),
        Some(Severity::SEV3) => {
            ("ends in less than 7 days".to_owned(), format!("{} left", words::count(days, "day")))
        }
        _ => ("ends in less than 21 days".to_owned(), format!("{} left", words::count(days, "day"))),
    };
    let foreign = |name: &str| words::shorten(&mask(name), 100);
    format!(
        "the certificate of {} {ends}: {}, issued by {}, until {} ({left})",
        one.name,
        foreign(&certificate.subject),
        foreign(&certificate.issuer),
        certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
}
