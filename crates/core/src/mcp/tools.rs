//! What `tools/list` and `tools/call` bring.

use serde_json::Value;

use super::foreign;
use crate::{
    digest,
    signals::{Fault, FaultKind, Tool},
    words,
};

/// More tools than this are not kept: a list that is not whole tells of no tool that it is missing.
pub const MAX_TOOLS: usize = 4096;
/// Nor are more pages asked for.
pub const MAX_PAGES: usize = 64;

/// The longest name of a tool that is told apart, in bytes.
const NAME: usize = 128;
/// The longest cursor that is sent back, in bytes.
const CURSOR: usize = 4096;

/// A page of `tools/list`.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Its tools, in the server's order.
    pub tools: Vec<Tool>,
    /// Where the next one begins; `None` on the last.
    pub next: Option<String>,
}

/// Reads the result of `tools/list`.
pub fn page(result: &Value) -> Result<Page, Fault> {
    let malformed = |said: &str| Fault::new(FaultKind::Malformed, format!("answered tools/list {said}"));
    let tools = result.get("tools").and_then(Value::as_array).ok_or_else(|| malformed("without tools"))?;
    let tools = tools.iter().take(MAX_TOOLS + 1).map(|tool| {
        let name = tool.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())?;
        let schema = tool.get("inputSchema").unwrap_or(&Value::Null);
        Some(Tool { name: words::shorten(name, NAME), schema: digest::of_schema(schema) })
    });
    let tools: Option<Vec<Tool>> = tools.collect();
    let next = result.get("nextCursor").and_then(Value::as_str).filter(|next| !next.is_empty());
    if next.is_some_and(|next| next.len() > CURSOR) {
        return Err(malformed("with a cursor longer than any reasonable one"));
    }
    Ok(Page {
        tools: tools.ok_or_else(|| malformed("with a tool that has no name"))?,
        next: next.map(str::to_owned),
    })
}

/// Reads the result of `tools/call`: whether the tool did what it is for.
pub fn called(result: &Value, hidden: Option<&str>) -> Result<(), Fault> {
    let failed = |said: String| Err(Fault::new(FaultKind::ToolFailed, said));
    if result.get("isError").and_then(Value::as_bool) == Some(true) {
        let text = result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
        let text = foreign(text, hidden);
        return failed(if text.is_empty() { "failed".to_owned() } else { format!("failed: {text}") });
    }
    if result.get("resultType").and_then(Value::as_str) == Some("input_required") {
        return failed("asks for further input, which a probe cannot give".to_owned());
    }
    Ok(())
}
