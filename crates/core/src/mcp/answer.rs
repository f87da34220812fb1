//! One HTTP answer to one JSON-RPC request, piece by piece: until the message that was waited for is there, or nothing
//! more will come.

use serde_json::Value;

use super::{Message, sse::Events};

/// No answer of a server in its right mind is longer, in bytes.
pub const LIMIT: usize = 1 << 20;

/// What an answer is made of, by its `Content-Type`.
#[derive(Clone, Debug)]
enum Kind {
    /// `application/json`.
    Json(Vec<u8>),
    /// `text/event-stream`.
    Stream(Events),
    /// Anything else; its bytes are words at most.
    Foreign(Vec<u8>),
}

/// Why nothing more came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// That was all, or all that was waited for.
    Whole,
    /// The time was over.
    TimedOut,
    /// The connection was cut in the middle of it.
    Cut,
}

/// An answer, as far as it has come.
#[derive(Clone, Debug)]
pub struct Answer {
    id: u64,
    status: u16,
    content_type: String,
    kind: Kind,
    bytes: usize,
    found: Option<Message>,
    /// What came in its place.
    strange: Option<Message>,
    end: End,
}

impl Answer {
    /// The beginning of the answer to request `id`: its status, its `Content-Type`.
    pub fn new(id: u64, status: u16, content_type: Option<&str>) -> Self {
        let content_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let content_type = content_type.trim().to_ascii_lowercase();
        let kind = match content_type.as_str() {
            "text/event-stream" => Kind::Stream(Events::default()),
            json if json == "application/json" || json.ends_with("+json") => Kind::Json(Vec::new()),
            _ => Kind::Foreign(Vec::new()),
        };
        let (found, strange) = (None, None);
        Self { id, status, content_type, kind, bytes: 0, found, strange, end: End::Whole }
    }

    /// Takes the next bytes of the body; says whether more are waited for.
    pub fn push(&mut self, chunk: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(chunk.len());
        if self.is_too_long() {
            return false;
        }
        match &mut self.kind {
            Kind::Json(body) | Kind::Foreign(body) => body.extend_from_slice(chunk),
            Kind::Stream(events) => {
                for event in events.push(chunk) {
                    self.hear(&event.data);
                }
            }
        }
        self.found.is_none()
    }

    /// Takes a whole message, of a transport that brings such; says whether more are waited for.
    pub fn take(&mut self, message: &str) -> bool {
        self.bytes = self.bytes.saturating_add(message.len());
        if self.is_too_long() {
            return false;
        }
        self.hear(message);
        self.found.is_none()
    }

    /// Nothing more comes.
    #[must_use]
    pub fn ended(mut self, end: End) -> Self {
        self.end = end;
        match &mut self.kind {
            // Half an event is none.
            Kind::Stream(events) if end == End::Whole => {
                if let Some(event) = events.finish() {
                    self.hear(&event.data);
                }
            }
            Kind::Stream(_) => {}
            // Gateways and frameworks name their errors as they like: those are tried for JSON all the same.
            Kind::Json(body) | Kind::Foreign(body) => {
                let body = std::mem::take(body);
                let is_json = matches!(self.kind, Kind::Json(_)) || self.status >= 400;
                if is_json && end == End::Whole && !body.is_empty() {
                    self.hear(&String::from_utf8_lossy(&body));
                }
                self.kind = match self.kind {
                    Kind::Json(_) => Kind::Json(body),
                    _ => Kind::Foreign(body),
                };
            }
        }
        self
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Whether the answer waited for is there, or one that ends the waiting.
    pub const fn is_there(&self) -> bool {
        self.found.is_some()
    }

    /// Whether something came that is no JSON-RPC.
    pub fn is_broken(&self) -> bool {
        self.strange == Some(Message::Broken)
    }

    pub(super) fn message(&self) -> Option<&Message> {
        self.found.as_ref()
    }

    pub(super) fn strange(&self) -> Option<&Message> {
        self.strange.as_ref()
    }

    pub(super) const fn end(&self) -> End {
        self.end
    }

    pub(super) const fn is_too_long(&self) -> bool {
        self.bytes > LIMIT
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Stream(_))
    }

    pub(super) const fn is_foreign(&self) -> bool {
        matches!(self.kind, Kind::Foreign(_))
    }

    pub(super) fn content_type(&self) -> &str {
        &self.content_type
    }

    /// What it says for people: the error's message; else the body, if it is words.
    pub(super) fn words(&self) -> String {
        if let Some(Message::Error { message, .. }) = &self.found {
            return message.clone();
        }
        let (Kind::Json(body) | Kind::Foreign(body)) = &self.kind else { return String::new() };
        let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
        let object = serde_json::from_slice::<Value>(body).ok();
        let said = object.as_ref().and_then(|object| {
            let names = ["message", "detail", "error_description", "error"];
            names.iter().find_map(|name| {
                let found = object.get(name)?;
                found.as_str().or_else(|| found.get("message")?.as_str())
            })
        });
        match said {
            Some(said) => said.to_owned(),
            // A page tells nothing in one line.
            None if text.trim_start().starts_with('<') || object.is_some() => String::new(),
            None => text.lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// One message of a stream, or the whole body.
    fn hear(&mut self, text: &str) {
        // An event without data opens some streams, so that they can be resumed.
        if self.found.is_some() || text.trim().is_empty() {
            return;
        }
        let message =
            serde_json::from_str(text).map_or(Message::Broken, |value| Message::of(&value, self.id));
        match message {
            Message::Other => {}
            message if message.is_answer() => self.found = Some(message),
            message => self.strange = Some(message),
        }
    }
}
