//! Whether a server lets other clients in beside the operator. Of one that serves a single client nothing
//! is asked by MCP: its only session is for clients, also after a pod of it started again. What is known is
//! of one template.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcp_health_core::signals::{Fault, FaultKind, ProbePath, ProbeQuestion, ProbeResult, Probed};
use mcp_probe::SessionUse;

/// What is known stays so: it is not asked again.
const FOR_GOOD: SignedDuration = SignedDuration::from_hours(24 * 365);

/// See the module.
#[derive(Debug, Default)]
pub struct Clients {
    /// The template, and what it was asked.
    of: String,
    known: Known,
}

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Many,
    One(Probed),
}

impl Clients {
    /// What is known counts for this template, asked in this way; of another, nothing is known.
    pub fn keep_to(&mut self, of: String) {
        if self.of != of {
            *self = Self { of, known: Known::Nothing };
        }
    }

    /// Nothing is known: one pod is asked before the others.
    pub const fn is_unknown(&self) -> bool {
        matches!(self.known, Known::Nothing)
    }

    /// It serves one client at a time, by this answer.
    pub const fn single(&self) -> Option<&Probed> {
        match &self.known {
            Known::One(probed) => Some(probed),
            Known::Nothing | Known::Many => None,
        }
    }

    /// What becomes of a session on a path. Through a Service none is kept: at most one stays with a pod.
    pub const fn session_use(&self, path: &ProbePath) -> SessionUse {
        match (path, &self.known) {
            (ProbePath::Service(_), _) => SessionUse::End,
            (ProbePath::Pod(_), Known::Many) => SessionUse::Keep,
            (ProbePath::Pod(_), _) => SessionUse::KeepIfShared,
        }
    }

    /// Another client was let in.
    pub fn note_shared(&mut self) {
        if self.is_unknown() {
            self.known = Known::Many;
        }
    }

    /// Notes an answer on a path. True where it says that the server serves one client at a time.
    pub fn note(&mut self, path: &ProbePath, at: Timestamp, took: Duration, fault: &Fault) -> bool {
        if fault.kind != FaultKind::SingleClient {
            return false;
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.known = Known::One(Probed {
            path: path.clone(),
            question: ProbeQuestion::Mcp,
            ever_answered: false,
            answered_here: false,
            leads_elsewhere: false,
            pause: FOR_GOOD,
            results: vec![ProbeResult { at, millis, was_ready: false, outcome: Err(fault.clone()) }],
            tools: None,
        });
        true
    }
}
