//! Whether a revision can still be started: what its template names must exist. `optional` references never count, and
//! what the operator may not read does not block.

use mcp_health_api::ActionType;

use crate::{
    Case, Server,
    signals::{Presence, Reference, Revision},
};

/// The most references of a template that are looked up.
pub const LOOKED_UP: usize = 32;

/// What the look-ups of a revision's references say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Everything that could be read exists; what could not be read, and why.
    Yes {
        /// As sentences.
        not_checked: Vec<String>,
    },
    /// These are gone.
    Missing(Vec<String>),
    /// Not known yet: why.
    Unknown(String),
}

/// Whether a revision can still be started.
pub fn usable(case: &Case, revision: &Revision) -> Usable {
    let (mut missing, mut not_checked, mut unknown) = (Vec::new(), Vec::new(), None);
    for reference in revision.references.iter().take(LOOKED_UP) {
        let known = case.signals.references.iter().find(|known| known.reference == *reference);
        match known.map(|known| &known.presence) {
            Some(Presence::Exists) => {}
            Some(Presence::Missing) => missing.push(reference.to_string()),
            Some(Presence::NotChecked(why)) => not_checked.push(format!("{reference} ({why})")),
            Some(Presence::Unknown(why)) => unknown = Some(format!("{reference}: {why}")),
            None => unknown = Some(format!("{reference}: not looked up yet")),
        }
    }
    let rest = revision.references.len().saturating_sub(LOOKED_UP);
    if rest > 0 {
        not_checked.push(format!("{rest} more references"));
    }
    match unknown {
        _ if !missing.is_empty() => Usable::Missing(missing),
        Some(why) => Usable::Unknown(why),
        None => Usable::Yes { not_checked },
    }
}

/// What must be looked up before a rollback can be decided: nothing while the known-good template is the target's.
pub fn wanted(case: &Case) -> Vec<Reference> {
    let Some(server) = Server::of(case) else { return Vec::new() };
    if !case.spec.actions.allow.contains(&ActionType::Rollback) {
        return Vec::new();
    }
    let healthy = server.last_healthy.filter(|healthy| healthy.template != server.target.template);
    let remembered = healthy.into_iter().flat_map(|healthy| {
        let revisions = server.revisions.iter();
        revisions.filter(|one| one.uid == healthy.uid || one.template == healthy.template)
    });
    let beside = server.serving_beside().map(|(revision, _)| revision);
    let revisions = beside.into_iter().chain(remembered);
    let mut all: Vec<Reference> =
        revisions.flat_map(|revision| revision.references.iter().take(LOOKED_UP).cloned()).collect();
    all.sort();
    all.dedup();
    all
}
