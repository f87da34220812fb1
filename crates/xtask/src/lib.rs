//! The developer's commands as a library: what they share with the end-to-end tests.
//!
//! The demo and the end-to-end tests use the same [`Cluster`] as `cargo xtask cluster`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod background;
pub mod bench;
pub mod crds;
pub mod demo;
pub mod install;
pub mod interrupt;
pub mod local_operator;
pub mod postgres;
pub mod testing;
pub mod workspace;

pub use cluster::{Cluster, Error, Result};
