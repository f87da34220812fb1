//! JSON-RPC messages of a server.

use serde_json::Value;

/// A message, as far as whoever waits for one answer has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The result.
    Result(Value),
    /// An error: its code, its message, and the versions that it says the server speaks.
    Error {
        /// `-32601` and the like; 0 where it is none.
        code: i64,
        /// In the server's words.
        message: String,
        /// `data.supported`.
        supported: Vec<String>,
    },
    /// A notification, or a request of the server's own.
    Other,
    /// The answer to something else.
    OfAnother,
    /// No JSON-RPC, or neither result nor error, or both.
    Broken,
}

impl Message {
    /// What `value` is to whoever asked with `id`.
    pub fn of(value: &Value, id: u64) -> Self {
        // Some servers of 2025-03-26 put a lone answer into a batch.
        if let Some(batch) = value.as_array() {
            let mut messages = batch.iter().map(|value| Self::single(value, id));
            let first = messages.next().unwrap_or(Self::Broken);
            if first.is_answer() {
                return first;
            }
            return messages.find(Self::is_answer).unwrap_or(first);
        }
        Self::single(value, id)
    }

    /// An answer to what was asked.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Result(_) | Self::Error { .. })
    }

    fn single(value: &Value, id: u64) -> Self {
        if value.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Self::Broken;
        }
        if value.get("method").is_some() {
            return Self::Other;
        }
        let of = value.get("id").unwrap_or(&Value::Null);
        let ours = of.as_u64() == Some(id);
        match (value.get("result"), value.get("error")) {
            (Some(result), None) if ours => Self::Result(result.clone()),
            // What is refused before it is read cannot name the id: null, none, or a word in its place.
            (None, Some(error)) if ours || of.as_u64().is_none() => Self::Error {
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
                supported: strings(error.pointer("/data/supported")),
            },
            (Some(_), None) | (None, Some(_)) => Self::OfAnother,
            _ => Self::Broken,
        }
    }
}

/// The strings of an array; no more than anybody would list versions.
pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).take(32).map(str::to_owned).collect()
}
