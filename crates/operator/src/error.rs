//! What can go wrong in a reconcile. Each says what failed, on what object, and what happens next.

use kube::core::Status;
use mcp_health_core::signals::Reading;

/// A reconcile that could not be finished. It is tried again, with a pause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take the status.
    #[error(
        "cannot write the status of McpServerHealth {object}: {source}; nothing was touched, it is tried again"
    )]
    Status {
        /// `namespace/name`.
        object: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// It is not known whether an effect took place. The attempt is recorded, and is looked at again.
    #[error(
        "{what} on {object} has no answer: {why}; the attempt is recorded, its effect is looked up before anything else"
    )]
    Unknown {
        /// What was being done.
        what: &'static str,
        /// `Kind namespace/name`.
        object: String,
        /// Why.
        why: String,
    },
    /// The lease has too little left to begin an effect.
    #[error(
        "the lease has too little left to begin an effect on {object}; it is begun after the next renewal"
    )]
    Lease {
        /// `Kind namespace/name`.
        object: String,
    },
}

/// The API server's answer, where it gave one.
pub fn answer(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Why a source does not answer, or refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFailure {
    /// As a sentence: the API server's own, where there is one.
    pub why: String,
    /// The API server does not let the operator see it.
    pub is_forbidden: bool,
}

impl SourceFailure {
    /// What the API server answered.
    pub fn of_status(status: &Status) -> Self {
        let why = match status.message.as_str() {
            "" => format!("the API server answers {} {}", status.code, status.reason),
            message => message.to_owned(),
        };
        Self { why, is_forbidden: status.is_forbidden() }
    }

    /// What a request came to that was not answered well.
    pub fn of_client(error: &kube::Error) -> Self {
        answer(error).map_or_else(|| error.to_string().into(), Self::of_status)
    }

    /// What can be seen while it was never seen.
    pub fn reading<T>(&self) -> Reading<T> {
        let why = self.why.clone();
        if self.is_forbidden { Reading::Forbidden(why) } else { Reading::Unavailable(why) }
    }
}

impl From<String> for SourceFailure {
    fn from(why: String) -> Self {
        Self { why, is_forbidden: false }
    }
}
