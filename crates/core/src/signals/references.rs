//! The objects that a pod template names: without them, its pods do not start.

use std::fmt;

/// A kind of object that a pod template names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// Read as environment, or mounted.
    ConfigMap,
    /// Read as environment, or mounted.
    Secret,
    /// What the pods run as.
    ServiceAccount,
    /// Mounted.
    PersistentVolumeClaim,
}

/// An object that a pod template names, and not as `optional`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// Whether an object exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Exists,
    /// It does not.
    Missing,
    /// The operator may not read it.
    NotChecked(String),
    /// The API server did not answer.
    Unknown(String),
}

/// What a look-up of a reference found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referenced {
    /// What was looked up.
    pub reference: Reference,
    /// Whether it exists.
    pub presence: Presence,
}
