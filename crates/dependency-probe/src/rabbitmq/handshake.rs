//! AMQP 0-9-1 as far as the virtual host is open, and no further: protocol header, login, tuning, open,
//! close. The clients that there are either panic on a broker that leaves out what most send, or resolve
//! names and connect by themselves.

use mcp_health_core::signals::{CheckStep, Failure};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{Access, said::said};

const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// A frame's first byte: a method, or a heartbeat, which says nothing.
const METHOD: u8 = 1;
const HEARTBEAT: u8 = 8;
/// A frame's last byte.
const END: u8 = 0xce;
/// No frame of a handshake is longer, in bytes.
const FRAME: usize = 64 << 10;
/// More frames than these are no handshake.
const FRAMES: usize = 16;

/// Methods of the class `connection`.
const CONNECTION: u16 = 10;
const START: u16 = 10;
const START_OK: u16 = 11;
const SECURE: u16 = 20;
const TUNE: u16 = 30;
const TUNE_OK: u16 = 31;
const OPEN: u16 = 40;
const OPEN_OK: u16 = 41;
const CLOSE: u16 = 50;
const CLOSE_OK: u16 = 51;

/// Reply codes.
const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;

/// Logs in, opens the virtual host, and leaves.
pub async fn shake<S>(stream: S, access: &Access, until: Instant) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talk = Talk { stream, access, step: CheckStep::Handshake };
    let late = |step| Failure::new(step, "takes the connection, and does not answer AMQP in time");
    let done = timeout_at(until, talk.through()).await;
    done.unwrap_or_else(|_| Err(late(talk.step)))
}

struct Talk<'a, S> {
    stream: S,
    access: &'a Access,
    /// How far it is.
    step: CheckStep,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    async fn through(&mut self) -> Result<(), Failure> {
        self.write(HEADER).await?;
        let start = self.await_method(START).await?;
        if !start.offers_plain() {
            return Err(Failure::new(CheckStep::Login, "takes no login by user and password (PLAIN)"));
        }
        self.step = CheckStep::Login;
        self.send(START_OK, &start_ok(self.access)).await?;
        let tune = self.await_method(TUNE).await?;
        self.step = CheckStep::Answer;
        // What it proposes, without heartbeats: the connection ends at once.
        let mut tuned = tune.0.get(..6).unwrap_or(&[0; 6]).to_vec();
        tuned.extend([0, 0]);
        self.send(TUNE_OK, &tuned).await?;
        let vhost = self.access.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let mut open = Vec::new();
        short(&mut open, vhost);
        open.extend([0, 0]);
        self.send(OPEN, &open).await?;
        self.await_method(OPEN_OK).await?;
        // It is well; whether it hears the farewell is of no interest.
        let mut close = 200_u16.to_be_bytes().to_vec();
        close.extend([0; 5]);
        if self.send(CLOSE, &close).await.is_ok() {
            let _ = self.await_method(CLOSE_OK).await;
        }
        Ok(())
    }

    /// The arguments of the next method, which must be this one.
    async fn await_method(&mut self, wanted: u16) -> Result<Arguments, Failure> {
        for _ in 0..FRAMES {
            let Some((class, method, arguments)) = self.method().await? else { continue };
            return match (class, method) {
                (CONNECTION, method) if method == wanted => Ok(arguments),
                (CONNECTION, CLOSE) => Err(self.closed(&arguments)),
                (CONNECTION, SECURE) => {
                    Err(Failure::new(CheckStep::Login, "asks for more than a user and a password"))
                }
                _ => Err(strange()),
            };
        }
        Err(strange())
    }

    /// The next frame where it is a method: its class, its number, and its arguments.
    async fn method(&mut self) -> Result<Option<(u16, u16, Arguments)>, Failure> {
        let mut head = [0; 7];
        self.read(&mut head).await?;
        if head.starts_with(b"AMQP") {
            return Err(Failure::new(CheckStep::Handshake, "speaks another version of AMQP than 0-9-1"));
        }
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let size = usize::try_from(size).ok().filter(|size| *size <= FRAME).ok_or_else(strange)?;
        let mut payload = vec![0; size + 1];
        self.read(&mut payload).await?;
        match (head[0], payload.pop(), payload.as_slice()) {
            (HEARTBEAT, Some(END), _) => Ok(None),
            (METHOD, Some(END), [c1, c2, m1, m2, arguments @ ..]) => Ok(Some((
                u16::from_be_bytes([*c1, *c2]),
                u16::from_be_bytes([*m1, *m2]),
                Arguments(arguments.to_vec()),
            ))),
            _ => Err(strange()),
        }
    }

    async fn send(&mut self, method: u16, arguments: &[u8]) -> Result<(), Failure> {
        let size = u32::try_from(arguments.len() + 4).map_err(|_| strange())?;
        let mut frame = vec![METHOD, 0, 0];
        frame.extend(size.to_be_bytes());
        frame.extend(CONNECTION.to_be_bytes());
        frame.extend(method.to_be_bytes());
        frame.extend(arguments);
        frame.push(END);
        self.write(&frame).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|_| self.cut())
    }

    async fn read(&mut self, into: &mut [u8]) -> Result<(), Failure> {
        self.stream.read_exact(into).await.map(drop).map_err(|_| self.cut())
    }

    fn cut(&self) -> Failure {
        match self.step {
            // Brokers that do not know better close the connection on a wrong password.
            CheckStep::Login => Failure::new(CheckStep::Login, "cuts the connection on the login"),
            step => Failure::new(step, "cuts the connection before its answer"),
        }
    }

    /// Why it closes the connection.
    fn closed(&self, Arguments(arguments): &Arguments) -> Failure {
        let [c1, c2, length, text @ ..] = arguments.as_slice() else { return strange() };
        let text = String::from_utf8_lossy(&text[..usize::from(*length).min(text.len())]);
        let text = said(&text, &[&self.access.password]);
        let step = match u16::from_be_bytes([*c1, *c2]) {
            ACCESS_REFUSED => CheckStep::Login,
            // There is no such virtual host, or it is not this user's.
            NOT_ALLOWED if text.contains("refused for user") => CheckStep::Login,
            _ => self.step,
        };
        Failure::new(step, format!("ends the connection: {text}"))
    }
}

fn strange() -> Failure {
    Failure::new(CheckStep::Handshake, "does not speak AMQP")
}

/// Arguments of a method, as they are sent.
struct Arguments(Vec<u8>);

impl Arguments {
    /// Of `start`: it takes a user and a password.
    fn offers_plain(&self) -> bool {
        let longs = |bytes: &[u8]| -> Option<(usize, Vec<u8>)> {
            let length = usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
            Some((length.checked_add(4)?, bytes.get(4..length.checked_add(4)?)?.to_vec()))
        };
        // Two bytes of its version; what it tells of itself; the mechanisms.
        let mechanisms = || {
            let rest = self.0.get(2..)?;
            let (properties, _) = longs(rest)?;
            longs(rest.get(properties..)?).map(|(_, mechanisms)| mechanisms)
        };
        mechanisms().is_some_and(|all| all.split(|byte| *byte == b' ').any(|one| one == b"PLAIN"))
    }
}

fn start_ok(access: &Access) -> Vec<u8> {
    let mut capabilities = Vec::new();
    // A refusal is to be told, not only shown by a closed connection.
    short(&mut capabilities, "authentication_failure_close");
    capabilities.extend([b't', 1]);
    let mut properties = Vec::new();
    short(&mut properties, "product");
    properties.push(b'S');
    long(&mut properties, b"mcp-health-operator");
    short(&mut properties, "capabilities");
    properties.push(b'F');
    long(&mut properties, &capabilities);
    let mut arguments = Vec::new();
    long(&mut arguments, &properties);
    short(&mut arguments, "PLAIN");
    long(&mut arguments, format!("\0{}\0{}", access.user, access.password).as_bytes());
    short(&mut arguments, "en_US");
    arguments
}

/// A text of at most 255 bytes, with its length.
fn short(into: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
    into.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    into.extend(text);
}

/// Bytes, with their length.
fn long(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(bytes);
}
