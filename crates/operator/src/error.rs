//! What can go wrong in a reconcile. Each says what failed, on what object, and what happens next.

use kube::core::Status;

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
