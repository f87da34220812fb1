//! What an exchange with an MCP server means: JSON-RPC answers, event streams, the two eras of the protocol, and what
//! of it is a fault. Whoever asks (`mcp-probe`) carries bytes; this tells what they say.
//!
//! The specification of 2026-07-28 removed `initialize`, sessions and `ping`; `server/discover` took their place. A
//! server of either era is well if it answers as its own era has it (DESIGN §10).

mod answer;
mod judge;
mod message;
pub mod sse;
mod tools;

pub use answer::{Answer, End, LIMIT};
pub use judge::{Asked, Judged, Question, judge};
pub use message::Message;
pub use tools::{MAX_PAGES, MAX_TOOLS, Page, called, page};

use crate::{mask::mask, words};

/// The version of the modern era that is spoken here.
pub const MODERN: &str = "2026-07-28";
/// The versions of the legacy era that are spoken here, newest first.
pub const LEGACY: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// How much of a foreign program's words is kept, in bytes.
const WORDS: usize = 160;

/// Which of the protocol's eras a server speaks; what it is asked with first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Era {
    /// From 2026-07-28 on: each request speaks for itself.
    Modern,
    /// `initialize`, a session, `ping`.
    Legacy,
}

/// Words of a foreign program as a person may see them: one line, without the credential that it was shown, masked
/// and shortened. Empty where it said nothing.
pub fn foreign(text: &str, hidden: Option<&str>) -> String {
    let text = match hidden.filter(|hidden| !hidden.is_empty()) {
        Some(hidden) => text.replace(hidden, "***"),
        None => text.to_owned(),
    };
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // What is shown at the end is short: a page of a megabyte need not be read to its end for it.
    let line = words::shorten(&line, 8 * WORDS);
    words::shorten(&mask(&line.split_whitespace().collect::<Vec<_>>().join(" ")), WORDS)
}
