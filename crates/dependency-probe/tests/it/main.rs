//! Asks servers on loopback that play every part, the wrong ones above all.
#![allow(clippy::unwrap_used)]

mod server;
mod tls;
