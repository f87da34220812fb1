//! The developer's commands as a library: a real one-node Kubernetes on this machine, and images for it.
//!
//! The demo and the end-to-end tests use the same [`cluster::Cluster`] as `cargo xtask cluster`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cache;
pub mod cluster;
pub mod command;
pub mod crds;
pub mod demo;
pub mod error;
pub mod images;
pub mod install;
pub mod interrupt;
pub mod local_operator;
pub mod postgres;
pub mod progress;
pub mod testing;
pub mod workspace;

pub use cluster::Cluster;
pub use error::{Error, Result};
