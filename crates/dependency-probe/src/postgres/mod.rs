//! PostgreSQL: what its own views tell of one application's sessions, statements and upkeep (guides 000, 001
//! and 004), and the end of sessions that were recorded before.
//!
//! Target (a URL) → connection → one question each look (`questions`), and others each minute → answer. Each
//! question is a transaction of its own that sets its own limits and is read-only: so that nothing is ever
//! left open or set, even where a pooler hands the session to somebody else afterwards. No literal of
//! anybody's statement leaves [`normalise`](normalise::normalise).

mod advice;
mod answers;
mod chains;
mod connection;
mod counts;
mod disk;
mod end_sessions;
mod failures;
mod heard;
mod look;
pub mod normalise;
mod questions;
mod remembered;
mod target;

pub use connection::Connection;
pub use end_sessions::{Ended, NotEnded};
pub use target::Target;
