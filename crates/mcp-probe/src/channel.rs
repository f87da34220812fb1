//! What questions go over while one probe lasts.

use http::HeaderMap;
use mcp_health_core::mcp::Answer;
use mcp_health_core::signals::Fault;
use tokio::time::Instant;

use crate::event_stream::EventStream;
use crate::request::{Request, Session};
use crate::streamable::Http;
use crate::websocket::WebSocket;

/// One transport, in use.
pub enum Channel {
    /// Streamable HTTP.
    Http(Http),
    /// HTTP+SSE.
    Events(Box<EventStream>),
    /// WebSocket.
    Socket(Box<WebSocket>),
}

impl Channel {
    /// Asks, and brings the answer as far as it came in time, with the headers that came with it.
    pub async fn ask(
        &mut self,
        request: &Request,
        session: Option<&Session>,
    ) -> Result<(HeaderMap, Answer), Fault> {
        match self {
            Self::Http(http) => http.post(request, session).await,
            Self::Events(stream) => Ok((HeaderMap::new(), stream.ask(request).await?)),
            Self::Socket(socket) => Ok((HeaderMap::new(), socket.ask(request).await?)),
        }
    }

    /// When it has to be over.
    pub fn deadline(&self) -> Instant {
        match self {
            Self::Http(http) => http.deadline,
            Self::Events(stream) => stream.deadline(),
            Self::Socket(socket) => socket.deadline,
        }
    }

    /// Sets when it has to be over.
    pub fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Self::Http(http) => http.deadline = deadline,
            Self::Events(stream) => stream.set_deadline(deadline),
            Self::Socket(socket) => socket.deadline = deadline,
        }
    }
}
