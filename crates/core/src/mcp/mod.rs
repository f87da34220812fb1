//! What an exchange with an MCP server means: JSON-RPC answers, event streams, the two eras of the protocol, and what
//! of it is a fault. Whoever asks (`mcp-probe`) carries bytes; this tells what they say.
//!
//! The specification of 2026-07-28 removed `initialize`, sessions and `ping`; `server/discover` took their place. A
//! server of either era is well if it answers as its own era has it (DESIGN §10).

mod answer;
mod era;
mod foreign;
mod judge;
mod message;
pub mod sse;
mod tools;

pub use answer::{Answer, End, LIMIT};
pub use era::{Era, LEGACY, MODERN};
pub use foreign::foreign;
pub use judge::{Asked, Judged, Question, judge};
pub use message::Message;
pub use tools::{MAX_PAGES, MAX_TOOLS, Page, called, page};
