//! HTTP/1.1 over one connection. Nobody goes where an answer points.

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{Failed, Late, Stream};

/// How much of an answer is read ahead of whoever waits for it, in bytes.
const READ_AHEAD: usize = 64 << 10;

/// A connection that HTTP is spoken on. Dropped, it is closed.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Nothing was asked yet.
    pub async fn over(stream: Box<dyn Stream>) -> Result<Self, Failed> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(READ_AHEAD);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // How it ended is told to whoever waits for the answer.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, driver })
    }

    /// Whether it takes another request by then.
    pub async fn is_ready(&mut self, until: Instant) -> bool {
        matches!(timeout_at(until, self.sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request, and brings the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        until: Instant,
    ) -> Result<Response<Incoming>, Failed> {
        let answer = timeout_at(until, self.sender.send_request(request)).await;
        Ok(answer.map_err(|_| Failed::Late(Late::Answer))??)
    }

    /// Sends the only request that goes over this connection.
    pub async fn ask(mut self, request: Request<Full<Bytes>>, until: Instant) -> Result<Answer, Failed> {
        let (head, body) = self.send(request, until).await?.into_parts();
        Ok(Answer { head, body, _connection: self })
    }
}

/// An answer whose body nobody has read yet.
pub struct Answer {
    /// Its status and headers.
    pub head: Parts,
    body: Incoming,
    _connection: Connection,
}

impl Answer {
    /// Of the body, `limit` bytes and what came with them.
    pub async fn read(mut self, limit: usize, until: Instant) -> Result<Vec<u8>, Failed> {
        let mut body = Vec::new();
        while body.len() < limit {
            let frame = timeout_at(until, self.body.frame()).await;
            match frame.map_err(|_| Failed::Late(Late::Body))? {
                Some(Ok(frame)) => body.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) => return Err(Failed::CutWithin),
                None => break,
            }
        }
        Ok(body)
    }
}
