//! One session of the operator's at a database: how it comes about, step by step, and how it is asked.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mcp_health_core::signals::{Certificate, CheckStep, Failure};
use net::Proof;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, error::SqlState};

use super::{
    failures,
    heard::{Duplex, Greeting, Heard},
    questions::limited,
    remembered::Remembered,
    target::{Target, Tls},
};
use crate::{Barred, Permit, Trust, connect, tls::secure};

/// Asks a server for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The share of the patience after which the server itself gives up, so that the session outlives a slow
/// answer.
const SERVERS_SHARE: f64 = 0.8;

/// A session. Dropped, it ends.
pub struct Connection {
    pub(super) target: Target,
    pub(super) client: Client,
    pub(super) remembered: Remembered,
    /// The first number of the server's version.
    pub(super) major: i32,
    /// The process that the server named when it greeted.
    pub(super) greeted_by: Option<i32>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to the first host of a target that takes the session, within `patience` for each.
    /// Certificates must be vouched for by `trust` where it is given, or the target says so. Also tells the
    /// certificate that was shown.
    pub async fn open(
        target: &Target,
        trust: Option<&Trust>,
        permit: Permit<'_>,
        patience: Duration,
    ) -> (Result<Self, Barred>, Option<Certificate>) {
        let mut last = (Err(Failure::new(CheckStep::Name, "names no host").into()), None);
        for (host, port) in target.hosts() {
            last = Self::open_one(target, (host, *port), trust, permit, patience).await;
            // Nobody else is asked in place of a host that must not be.
            if matches!(last.0, Ok(_) | Err(Barred::Forbidden(_))) {
                break;
            }
        }
        last
    }

    async fn open_one(
        target: &Target,
        (host, port): (&str, u16),
        trust: Option<&Trust>,
        permit: Permit<'_>,
        patience: Duration,
    ) -> (Result<Self, Barred>, Option<Certificate>) {
        let until = Instant::now() + patience;
        let stream = match connect(host, port, permit, patience).await {
            Ok(stream) => stream,
            Err(barred) => return (Err(barred), None),
        };
        let (stream, certificate) = secured(stream, host, target.tls, trust, until).await;
        let stream = match stream {
            Ok(stream) => stream,
            Err(barred) => return (Err(barred), certificate),
        };
        let (stream, greeting) = Heard::new(stream);
        let session = timeout_at(until, target.config.connect_raw(stream, NoTls)).await;
        let heard = |greeting: &Arc<Mutex<Greeting>>| {
            let greeting = greeting.lock().unwrap_or_else(PoisonError::into_inner);
            (greeting.pid, greeting.spoke)
        };
        let (greeted_by, spoke) = heard(&greeting);
        let (client, connection) = match session {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                return (Err(failures::of_login(&error, spoke, target.password()).into()), certificate);
            }
            Err(_) if spoke => {
                let said = format!("does not answer the login within {} s", patience.as_secs());
                return (Err(Failure::new(CheckStep::Login, said).into()), certificate);
            }
            Err(_) => return (Err(silent(patience).into()), certificate),
        };
        let version = connection.parameter("server_version").unwrap_or_default();
        let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let major = digits.parse().unwrap_or_default();
        let driver = tokio::spawn(async move {
            // What ends it is told to whoever asks next.
            let _ = connection.await;
        });
        let session = Self {
            target: target.clone(),
            client,
            remembered: Remembered::default(),
            major,
            greeted_by,
            driver,
        };
        (Ok(session), certificate)
    }

    /// It has ended, and answers nothing more.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Asks one question in a transaction of its own, and returns the last column of each row of its answer.
    pub(super) async fn ask(&self, question: &str, patience: Duration) -> Result<Vec<String>, Refusal> {
        let text = limited(question, patience.mul_f64(SERVERS_SHARE));
        let messages = match timeout(patience, self.client.simple_query(&text)).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => return Err(Refusal::Said(error)),
            Err(_) => return Err(Refusal::Silent(patience)),
        };
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(row.len().saturating_sub(1)).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The answer to a question whose last row is JSON.
    pub(super) async fn question<T: DeserializeOwned>(
        &self,
        question: &str,
        patience: Duration,
    ) -> Result<T, Refusal> {
        let rows = self.ask(question, patience).await?;
        rows.last().and_then(|text| serde_json::from_str(text).ok()).ok_or(Refusal::Unread)
    }
    /// What a question without an answer comes to.
    pub(super) fn failure(&self, refusal: &Refusal) -> Failure {
        match refusal {
            Refusal::Said(error) => failures::of_answer(error, self.target.password()),
            Refusal::Silent(patience) => {
                let said = format!("does not answer a question within {} s", patience.as_secs());
                Failure::new(CheckStep::Answer, said)
            }
            Refusal::Unread => {
                Failure::new(CheckStep::Answer, "answers what cannot be read: is it PostgreSQL 12 or later?")
            }
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Refusal {
    /// The server says so.
    Said(Error),
    /// It says nothing, for so long.
    Silent(Duration),
    /// It cannot be read.
    Unread,
}

impl Refusal {
    /// The server says so, for this reason.
    pub fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Said(error) if error.code() == Some(state))
    }
}

fn silent(patience: Duration) -> Failure {
    let said = format!("takes the connection, and says nothing within {} s", patience.as_secs());
    Failure::new(CheckStep::Handshake, said)
}

/// The connection, in TLS where it is to be. What is asked for in TLS is never asked for without.
async fn secured(
    mut stream: TcpStream,
    host: &str,
    tls: Tls,
    trust: Option<&Trust>,
    until: Instant,
) -> (Result<Box<dyn Duplex>, Barred>, Option<Certificate>) {
    if tls == Tls::Disable {
        return (Ok(Box::new(stream)), None);
    }
    let patience = until.saturating_duration_since(Instant::now());
    let asked = timeout_at(until, async {
        stream.write_all(&SSL_REQUEST).await?;
        // One byte, and none of what comes behind it: that would not be in TLS.
        stream.read_u8().await
    });
    let refused = match asked.await {
        Ok(Ok(b'S')) => None,
        Ok(Ok(b'N')) if tls == Tls::Prefer && trust.is_none() => return (Ok(Box::new(stream)), None),
        Ok(Ok(b'N')) => Some("does not offer TLS"),
        Ok(Ok(b'E')) => Some("answers with an error before the login: it has no process for a session"),
        Ok(Ok(_)) => Some("does not speak as PostgreSQL does"),
        Ok(Err(_)) => Some("ends the connection before it says anything"),
        Err(_) => return (Err(silent(patience).into()), None),
    };
    if let Some(said) = refused {
        return (Err(Failure::new(CheckStep::Handshake, said).into()), None);
    }
    let trust = match (tls, trust) {
        (Tls::Disable | Tls::Prefer | Tls::Require, None) => None,
        (_, given) => Some(given.cloned().unwrap_or_else(Trust::own)),
    };
    let proof = match &trust {
        None => Proof::Nothing,
        Some(trust) if tls == Tls::VerifyFull => Proof::Name(trust),
        Some(trust) => Proof::Chain(trust),
    };
    let (session, certificate) = secure(stream, host, proof, &[], until).await;
    (session.map(|session| Box::new(session) as Box<dyn Duplex>), certificate)
}
