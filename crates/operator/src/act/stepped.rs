//! What a step needs before it is sent, and what it came to.

use mcp_health_core::attempt::{Acted, Effected};
use serde_json::Value;

use crate::observe::{ConfigMapWire, DeploymentWire};

/// What the first step needs beside what is recorded; asked for while the intent is being recorded.
#[derive(Debug)]
pub enum Prepared {
    /// Nothing.
    Nothing,
    /// The template that is to be in force.
    Template(Value),
    /// The content of a ConfigMap that is to be in force, and the one that is.
    Config(Box<Contents>),
    /// It cannot be carried out: the world has changed.
    Superseded(String),
    /// It must not be carried out.
    Refused(Acted),
}

/// What one step came to.
pub enum Stepped {
    /// It took place.
    Done(Effected),
    /// It took place on the target, which is so now.
    Changed(Effected, Box<DeploymentWire>),
    /// It did not, and the attempt ends so.
    Ended(Acted),
}

impl Stepped {
    /// The world has changed: the attempt ends.
    pub fn superseded(why: impl Into<String>) -> Self {
        Self::Ended(Acted::Superseded(why.into()))
    }

    /// The API server or the server itself refuses: the attempt ends.
    pub fn refused(reason: &str, message: String) -> Self {
        Self::Ended(Acted::Refused { reason: reason.to_owned(), message })
    }
}

/// The content that comes back, and the ConfigMap that it comes back to.
#[derive(Debug)]
pub struct Contents {
    /// The copy of what comes back.
    pub copy: ConfigMapWire,
    /// The ConfigMap as it is.
    pub live: ConfigMapWire,
}
