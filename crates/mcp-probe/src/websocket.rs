//! WebSocket: one connection, over which either side speaks when it likes (guide 002). The session is the connection,
//! and ends with it.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use mcp_health_core::mcp::{Answer, Asked, End, LIMIT};
use mcp_health_core::signals::{Fault, FaultKind};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::frames::{self, Frame, Kind};
use crate::request::Request;
use crate::streamable::Http;

/// How long a pong may take (guide 002).
const PONG: Duration = Duration::from_secs(10);
/// What a server adds to the key before it hashes it (RFC 6455).
const TO_ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What a ping carries, and its pong repeats.
const PING: &[u8] = b"mcp-probe";

/// The connection.
pub struct WebSocket {
    /// When it has to be over.
    pub deadline: Instant,
    stream: TokioIo<Upgraded>,
    read: Vec<u8>,
    /// The message that has begun.
    message: Vec<u8>,
    bytes: usize,
    is_open: bool,
}

/// What a server sent.
enum Came {
    Message(String),
    Pong,
}

impl WebSocket {
    /// Opens it.
    pub async fn open(mut http: Http, hidden: Option<&str>) -> Result<Self, Fault> {
        let key = BASE64_STANDARD.encode(random::<16>()?);
        let value = HeaderValue::from_static;
        let headers = HeaderMap::from_iter([
            (CONNECTION, value("Upgrade")),
            (UPGRADE, value("websocket")),
            (SEC_WEBSOCKET_VERSION, value("13")),
            (SEC_WEBSOCKET_PROTOCOL, value("mcp")),
            (SEC_WEBSOCKET_KEY, HeaderValue::try_from(&key).unwrap_or(value(""))),
        ]);
        let response = http.send(Method::GET, headers, String::new(), true).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(http.refused(response, hidden).await);
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(accept(&key).as_bytes()) {
            return Err(Fault::new(FaultKind::NotMcp, "switches to another protocol than WebSocket"));
        }
        let upgraded = timeout_at(http.deadline, hyper::upgrade::on(response)).await;
        let upgraded =
            upgraded.map_err(|_| late("the upgrade"))?.map_err(|error| http.fault(&error.into()))?;
        let (stream, deadline) = (TokioIo::new(upgraded), http.deadline);
        Ok(Self { deadline, stream, read: Vec::new(), message: Vec::new(), bytes: 0, is_open: true })
    }

    /// A ping of the protocol itself, and its pong.
    pub async fn ping(&mut self) -> Result<(), Fault> {
        self.send(Kind::Ping, PING).await?;
        let by = self.deadline.min(Instant::now() + PONG);
        loop {
            match self.next(by).await {
                Ok(Came::Pong) => return Ok(()),
                // It speaks unasked.
                Ok(Came::Message(_)) => {}
                Err(End::TimedOut) => return Err(late("a WebSocket ping")),
                Err(_) => return Err(cut()),
            }
        }
    }

    /// Sends a message, and waits for its answer, or for what cannot be one.
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Fault> {
        self.send(Kind::Text, request.body().as_bytes()).await?;
        let mut answer =
            Answer::new(request.id, StatusCode::SWITCHING_PROTOCOLS.as_u16(), Some("text/event-stream"));
        // It switched: nothing in between keeps it back.
        answer.push(b": open\n");
        if request.asked == Asked::Initialized {
            return Ok(answer.ended(End::Whole));
        }
        loop {
            match self.next(self.deadline).await {
                Ok(Came::Message(text)) => {
                    if !answer.take(&text) || answer.is_broken() {
                        return Ok(answer.ended(End::Whole));
                    }
                }
                Ok(Came::Pong) => {}
                Err(end) => {
                    self.is_open = end == End::TimedOut;
                    return Ok(answer.ended(end));
                }
            }
        }
    }

    /// Whether it has not ended, as far as is known.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// What guide 002's servers are asked: `{"type": "ping"}`, and any answer is one.
    pub async fn ask_plainly(&mut self) -> Result<(), Fault> {
        let message = json!({"type": "ping", "id": "mcp-probe"}).to_string();
        self.send(Kind::Text, message.as_bytes()).await?;
        loop {
            match self.next(self.deadline).await {
                Ok(Came::Message(_)) => return Ok(()),
                Ok(Came::Pong) => {}
                Err(End::TimedOut) => return Err(late("any message")),
                Err(_) => return Err(cut()),
            }
        }
    }

    /// Says that this was all, and waits for nothing.
    pub async fn close(&mut self) {
        let _ = self.send(Kind::Close, &1000_u16.to_be_bytes()).await;
    }

    async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Fault> {
        let frame = frames::written(kind, payload, random()?);
        let write = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        match timeout_at(self.deadline, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(cut()),
            Err(_) => Err(late("anything, nor reads")),
        }
    }

    /// The next whole message, or why there is none.
    async fn next(&mut self, by: Instant) -> Result<Came, End> {
        loop {
            while let Some(frame) = frames::read(&mut self.read, LIMIT).map_err(|_| End::Cut)? {
                if let Some(came) = self.take(frame).await? {
                    return Ok(came);
                }
            }
            let read = timeout_at(by, self.stream.read_buf(&mut self.read)).await;
            match read {
                Err(_) => return Err(End::TimedOut),
                Ok(Err(_)) => return Err(End::Cut),
                Ok(Ok(0)) => return Err(End::Whole),
                Ok(Ok(count)) => self.bytes += count,
            }
            if self.bytes > 4 * LIMIT {
                return Err(End::Cut);
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<Option<Came>, End> {
        match frame.kind {
            Kind::Text | Kind::Binary | Kind::More => {
                if frame.kind != Kind::More {
                    self.message.clear();
                }
                self.message.extend(frame.payload);
                let whole = frame.is_last.then(|| std::mem::take(&mut self.message));
                Ok(whole.map(|message| Came::Message(String::from_utf8_lossy(&message).into_owned())))
            }
            Kind::Ping => {
                self.send(Kind::Pong, &frame.payload).await.map_err(|_| End::Cut)?;
                Ok(None)
            }
            Kind::Pong => Ok((frame.payload == PING).then_some(Came::Pong)),
            Kind::Close => Err(End::Whole),
        }
    }
}

/// What a server makes of a key (RFC 6455).
fn accept(key: &str) -> String {
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{TO_ACCEPT}").as_bytes()))
}

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    let none =
        |_| Fault::new(FaultKind::Unreachable, "cannot be asked: this machine has no randomness to give");
    SystemRandom::new().fill(&mut bytes).map_err(none)?;
    Ok(bytes)
}

fn cut() -> Fault {
    Fault::new(FaultKind::Reset, "closed its WebSocket before it answered")
}

fn late(what: &str) -> Fault {
    Fault::new(FaultKind::TimedOut, format!("opened its WebSocket, and does not answer {what} in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_accepted_as_the_standard_has_it() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
