//! What a probe asks, and what it makes of servers that answer by a script.

#![allow(clippy::unwrap_used)]

mod calls;
mod eras;
mod script;
mod sessions;
mod tls;
mod way;
