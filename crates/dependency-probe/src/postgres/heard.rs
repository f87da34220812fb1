//! A stream from a server, overheard until it is ready: whether it said anything at all, and the process id
//! that it names in its greeting. A pooler names another than that of the session which it lends.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `BackendKeyData`.
const KEY: u8 = b'K';
/// `ReadyForQuery`.
const READY: u8 = b'Z';

/// A stream to a server.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// What was overheard.
#[derive(Debug, Default)]
pub struct Greeting {
    /// The process id that the server names.
    pub pid: Option<i32>,
    /// It said anything.
    pub spoke: bool,
    ready: bool,
    /// The kind and length of the message that is read, as far as they came, and its first bytes.
    head: Vec<u8>,
    /// How much of the message is still to come.
    left: usize,
}

impl Greeting {
    fn hear(&mut self, mut bytes: &[u8]) {
        self.spoke |= !bytes.is_empty();
        while !self.ready && !bytes.is_empty() {
            if self.left > 0 && self.head.len() >= 9 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                if self.left == 0 {
                    self.head.clear();
                }
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            match self.head.len() {
                1 => self.ready = self.head[0] == READY,
                5 => {
                    let length = self.number(1);
                    self.left = usize::try_from(length).unwrap_or_default().saturating_sub(4);
                }
                6.. => self.left -= 1,
                _ => {}
            }
            if self.head.len() == 9 && self.head[0] == KEY {
                self.pid = Some(self.number(5));
            }
            if self.head.len() >= 5 && self.left == 0 {
                self.head.clear();
            }
        }
    }

    fn number(&self, at: usize) -> i32 {
        let bytes = self.head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i32::from_be_bytes)
    }
}

/// See the module.
pub struct Heard {
    stream: Box<dyn Duplex>,
    greeting: Arc<Mutex<Greeting>>,
    done: bool,
}

impl Heard {
    /// Overhears a stream.
    pub fn new(stream: Box<dyn Duplex>) -> (Self, Arc<Mutex<Greeting>>) {
        let greeting = Arc::new(Mutex::new(Greeting::default()));
        (Self { stream, greeting: Arc::clone(&greeting), done: false }, greeting)
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buf);
        if !self.done {
            let mut greeting = self.greeting.lock().unwrap_or_else(PoisonError::into_inner);
            greeting.hear(buf.filled().get(before..).unwrap_or_default());
            let ready = greeting.ready;
            drop(greeting);
            self.done = ready;
        }
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn greeting() -> Vec<u8> {
        let mut bytes = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x1aapplication_name\0Kx\0y\0".to_vec();
        bytes.extend(b"N\0\0\0\x04K\0\0\0\x0c\0\0\x12\x67\0\0\0\x07Z\0\0\0\x05I");
        bytes
    }

    proptest! {
        #[test]
        fn the_process_id_is_heard_however_the_greeting_is_cut(cuts in prop::collection::vec(1_usize..9, 1..40)) {
            let (bytes, mut heard, mut at) = (greeting(), Greeting::default(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                heard.hear(&bytes[at..end]);
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert_eq!((heard.pid, heard.ready), (Some(4711), true));
        }

        #[test]
        fn nothing_that_is_heard_panics(bytes: Vec<u8>) {
            Greeting::default().hear(&bytes);
        }
    }
}
