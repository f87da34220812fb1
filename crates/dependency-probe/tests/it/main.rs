//! Asks servers on loopback that play every part, the wrong ones above all.
#![allow(clippy::unwrap_used)]

mod garbage;
mod http;
mod server;
mod tls;
