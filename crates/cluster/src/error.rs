//! What can go wrong in the developer's commands, said so that a person knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// The result of a developer's command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the developer's commands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something; the text lists all of it, with what to do instead.
    #[error("{0}")]
    Preflight(String),

    /// The machine cannot run a node; the text lists what is missing.
    #[error(
        "this machine cannot run a node here and now:\n{0}\nInstead: mend this, take a cluster that you have \
         (--context NAME), or let the node be simulated (--node simulated)"
    )]
    NoNode(String),

    /// A program could not be started at all.
    #[error("cannot run `{program}`: {source}{hint}")]
    Spawn {
        /// The program as it was called.
        program: String,
        /// Why it could not be started.
        source: io::Error,
        /// What to do about it; empty where there is nothing to say.
        hint: String,
    },

    /// A program ran and failed.
    #[error("{what} failed ({status}): `{command}`{output}")]
    Command {
        /// What the program was to do, as a noun phrase.
        what: String,
        /// Its exit status.
        status: String,
        /// The command line.
        command: String,
        /// The last lines that it wrote, indented; empty where it wrote none.
        output: String,
    },

    /// A part of the cluster ended or did not become ready.
    #[error("{part} {problem}{log}")]
    Part {
        /// Which part.
        part: String,
        /// What is wrong with it.
        problem: String,
        /// The last lines of its log and where the log is.
        log: String,
    },

    /// A file or a folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// A certificate could not be made.
    #[error("cannot make the certificate of {subject}: {source}")]
    Certificate {
        /// Whose certificate.
        subject: String,
        /// Why it failed.
        source: rcgen::Error,
    },

    /// Anything else, in a full sentence.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// An error from a sentence.
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// For `map_err`: what was tried on which path.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { action, path, source }
    }
}
