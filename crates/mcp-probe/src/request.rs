//! What is sent: JSON-RPC messages, and the headers of each era.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_health_core::mcp::{Asked, Era, MODERN};
use serde_json::{Map, Value, json};

/// Who asks.
pub const CLIENT: &str = "mcp-health-operator";
/// Which version of it.
pub const CLIENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A legacy session's id.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// A session of the legacy era, or what stands for one with servers that keep none.
#[derive(Clone)]
pub struct Session {
    /// What the server knows it by, if it does.
    pub id: Option<HeaderValue>,
    /// The version agreed on.
    pub version: &'static str,
    /// The server said that it has tools.
    pub tools: bool,
}

/// A message to a server.
pub struct Request {
    /// In the way of this era.
    pub era: Era,
    /// What it asks.
    pub asked: Asked,
    /// Its number. What asks nothing has one too, and does not send it.
    pub id: u64,
    params: Map<String, Value>,
}

impl Request {
    /// A message; `params` beside what its era wants in each.
    pub fn new(era: Era, asked: Asked, id: u64, mut params: Map<String, Value>) -> Self {
        if era == Era::Modern {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": CLIENT, "version": CLIENT_VERSION},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            params.insert("_meta".to_owned(), meta);
        }
        Self { era, asked, id, params }
    }

    /// The message.
    pub fn body(&self) -> String {
        let mut message = json!({"jsonrpc": "2.0", "method": self.asked.method()});
        if self.asked != Asked::Initialized {
            message["id"] = self.id.into();
        }
        if !self.params.is_empty() {
            message["params"] = Value::Object(self.params.clone());
        }
        message.to_string()
    }

    /// The headers that repeat it.
    pub fn headers(&self, session: Option<&Session>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match (self.era, session) {
            (Era::Modern, _) => {
                headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
                headers.insert(METHOD, HeaderValue::from_static(self.asked.method()));
                let name = self.params.get("name").and_then(Value::as_str);
                if let Some(name) = name.and_then(|name| HeaderValue::try_from(in_header(name)).ok()) {
                    headers.insert(NAME, name);
                }
            }
            (Era::Legacy, Some(session)) => {
                headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(session.version));
                if let Some(id) = &session.id {
                    headers.insert(SESSION_ID, id.clone());
                }
            }
            (Era::Legacy, None) => {}
        }
        headers
    }
}

/// A name as the value of a header: in base64 where it could not stand there, or would be read as such.
fn in_header(name: &str) -> String {
    let plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim() == name
        && !(name.starts_with("=?base64?") && name.ends_with("?="));
    if plain { name.to_owned() } else { format!("=?base64?{}?=", BASE64_STANDARD.encode(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modern_request_speaks_for_itself_and_repeats_it_in_its_headers() {
        let params = Map::from_iter([("name".to_owned(), json!("search"))]);
        let request = Request::new(Era::Modern, Asked::Call, 7, params);
        let body: Value = serde_json::from_str(&request.body()).expect("JSON");
        assert_eq!((&body["id"], &body["method"]), (&json!(7), &json!("tools/call")));
        let version = &body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        let headers = request.headers(None);
        assert_eq!(version, headers["mcp-protocol-version"].to_str().expect("text"));
        assert_eq!(
            (&headers["mcp-method"], &headers["mcp-name"]),
            (&"tools/call".parse().expect("a value"), &"search".parse().expect("a value"))
        );
    }

    #[test]
    fn names_that_cannot_stand_in_a_header_are_wrapped() {
        for (name, value) in [
            ("search", "search"),
            ("find all", "find all"),
            (" x", "=?base64?IHg=?="),
            ("größe", "=?base64?Z3LDtsOfZQ==?="),
            ("=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="),
        ] {
            assert_eq!(in_header(name), value);
        }
    }

    #[test]
    fn a_legacy_request_names_its_session_and_no_more() {
        let request = Request::new(Era::Legacy, Asked::Ping, 1, Map::new());
        assert_eq!(request.body(), r#"{"id":1,"jsonrpc":"2.0","method":"ping"}"#);
        assert!(request.headers(None).is_empty());
        let session = Session { id: Some(HeaderValue::from_static("s")), version: "2025-06-18", tools: true };
        let headers = request.headers(Some(&session));
        assert_eq!((&headers["mcp-session-id"], headers.len()), (&HeaderValue::from_static("s"), 2));
    }
}
