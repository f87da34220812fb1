//! The server in a process of its own.

mod faults;
mod hooks;
mod server;
mod start;
mod support;
