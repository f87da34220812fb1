//! The server in a process of its own.

mod faults;
mod server;
mod start;
mod support;
