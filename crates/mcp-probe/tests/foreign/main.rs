//! Servers that others wrote, each as a process of its own: how they are when they are well, and in each fault.
//!
//! Needs Python, Node and, the first time, package registries: `cargo test -p mcp-probe --test foreign -- --ignored`;
//! `cargo xtask test` runs what it can of them.

#![allow(clippy::unwrap_used)]

mod endurance;
mod install;
mod node;
mod process;
mod python;
mod rust;
mod trial;
