//! Asks a real PostgreSQL, run as a process of the test's own.
#![allow(clippy::unwrap_used)]

mod disk;
mod ends;
mod looks;
mod pooler;
mod steps;
mod support;
mod versions;
