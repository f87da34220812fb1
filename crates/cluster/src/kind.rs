//! What kind of node a cluster has: one that runs containers, or one that plays them.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a cluster of ours has for a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A kubelet and a container runtime in namespaces of their own.
    #[default]
    Real,
    /// None: the control plane runs as plain processes of whoever called, and KWOK says what pods do.
    Simulated,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// A real node; what this machine lacks for one is an error.
    Real,
    /// A simulated node: needs no rights, and runs nothing.
    Simulated,
    /// A real node where this machine can run one, else a simulated one.
    #[default]
    Auto,
}

impl Wanted {
    /// Whether a cluster of this kind is what was asked for.
    pub fn allows(self, kind: Kind) -> bool {
        match self {
            Self::Auto => true,
            Self::Real => kind == Kind::Real,
            Self::Simulated => kind == Kind::Simulated,
        }
    }
}

impl From<Kind> for Wanted {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Real => Self::Real,
            Kind::Simulated => Self::Simulated,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::Simulated => "simulated",
            Self::Auto => "auto",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::Simulated => "simulated",
        })
    }
}
