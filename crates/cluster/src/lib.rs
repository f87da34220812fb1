//! A real one-node Kubernetes on this machine, without a container engine or a registry.
//!
//! ```text
//! preflight ──► parts ──► pki ─┬─► node ──► network ──► control_plane ─┐
//! (look first)  (build)        │   (namespaces)         containerd ────┴─► kubelet ──► addons ──► ready
//!                              └─► simulated: control_plane ──► kwok ──► ready
//! ```
//!
//! Where this machine cannot run a node, the same control plane runs without one, and KWOK plays the node.
//!
//! [`Cluster::up`] goes that way and leaves alone what is already there, so that it also repairs.
//! [`down::down`] ends the node's first process; everything else lives in the node's namespaces and ends with
//! it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod addons;
pub mod cache;
mod cgroups;
pub mod command;
mod connect;
mod containerd;
mod control_plane;
pub mod down;
pub mod endpoints;
pub mod error;
mod handle;
pub mod images;
pub mod kind;
mod kubelet;
pub mod kwok;
pub mod link;
mod machine;
pub mod network;
pub mod node;
pub mod packages;
pub mod parts;
mod pki;
pub mod preflight;
pub mod process;
pub mod progress;
mod simulated;
pub mod state;
pub mod status;
mod up;

pub use error::{Error, Result};
pub use handle::Cluster;
pub use handle::shell_environment;
pub use up::Plan;
