//! The poller against a stand-in for Prometheus, as a whole: what it asks, and what objects are told of the answers.

#![allow(clippy::unwrap_used)]

mod answers;
mod questions;
mod support;
