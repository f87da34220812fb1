//! How moments and spans read in sentences.

use jiff::{SignedDuration, Timestamp};
use mcp_health_api::Duration;

/// Longest text of a condition, an escalation or an Event, in bytes.
pub const LONGEST: usize = 900;

/// `12:01:07`, in UTC.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

/// `1m30s`; to the second.
pub fn span(span: SignedDuration) -> String {
    Duration::from(SignedDuration::from_secs(span.as_secs())).to_string()
}

/// `1 pod`, `3 pods`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `12`, `0.05`: two digits after the point; of what is smaller, six.
pub fn number(value: f64) -> String {
    let text = if value.abs() < 0.1 { format!("{value:.6}") } else { format!("{value:.2}") };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// At most `limit` bytes (the API server counts those), ended by an ellipsis where something is left out.
pub fn shorten(text: &str, limit: usize) -> String {
    let text = text.trim();
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}
