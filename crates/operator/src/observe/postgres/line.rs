//! One connection to one database as one role, shared by all objects that name the same. Their applications are asked
//! one after another; who is asked for again within the interval shares the answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dependency_probe::{
    Barred, Permit, Trust,
    postgres::{Connection, Ended, NotEnded, Target},
};
use jiff::Timestamp;
use mcp_health_api::{PostgresSignal, SessionFence};
use mcp_health_core::signals::{Certificate, CheckStep, Database, Failure};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::observe::secrets::Value;

/// A look is shared by those who ask again within this share of their interval.
const SHARED: f64 = 0.85;
/// After so many failures in a row, the pause before the next try doubles with each.
const PATIENT: u32 = 3;
/// The longest pause before another try, unless the interval is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// Unanswered so often in a row, a connection is given up.
const UNANSWERED: u32 = 2;
/// The most applications whose answers are remembered.
const APPLICATIONS: usize = 64;

/// What makes two connections one: the same URL, credentials and parameters in it, and the same authorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The URL.
    pub url: Value,
    /// The certificate authorities, as PEM.
    pub authorities: Option<Value>,
}

/// What a look came to.
#[derive(Clone)]
pub struct Came {
    /// When.
    pub at: Timestamp,
    /// What was seen, or the step that failed.
    pub result: Result<Arc<Database>, Failure>,
    /// The certificate that was shown.
    pub certificate: Option<Certificate>,
}

/// See the module.
pub struct Line {
    /// Where it leads.
    pub target: Target,
    trust: Option<Trust>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    certificate: Option<Certificate>,
    /// Tries to connect that failed in a row; what the last came to, and when another is made.
    failures: u32,
    failed: Option<(Came, Instant)>,
    unanswered: u32,
    looks: HashMap<String, (Instant, Came)>,
}

impl Line {
    /// Not connected yet; `Err` where what the Secrets hold is of no use, with the reason for people.
    pub fn new(identity: &Identity) -> Result<Self, String> {
        let target =
            Target::parse(identity.url.reveal()).map_err(|why| format!("its URL is of no use: {why}"))?;
        let authorities = identity.authorities.as_ref();
        let trust = authorities.map(|pem| Trust::pem(pem.reveal().as_bytes())).transpose()?;
        Ok(Self { target, trust, state: Mutex::default() })
    }

    /// Looks as an application, unless somebody did a moment ago. `Err` where it may not be asked; true: it was asked
    /// now.
    pub async fn look(
        &self,
        postgres: &PostgresSignal,
        permit: Permit<'_>,
        draw: f64,
    ) -> (Result<Came, String>, bool) {
        let (interval, patience) =
            (postgres.interval.span().unsigned_abs(), postgres.timeout.span().unsigned_abs());
        let application = &postgres.application_name;
        let mut state = self.state.lock().await;
        if let Some((asked, came)) = state.looks.get(application)
            && asked.elapsed() < interval.mul_f64(SHARED)
        {
            return (Ok(came.clone()), false);
        }
        // Whoever asks in the pause after a failure hears what the last try came to.
        if let Some((came, retry)) = &state.failed
            && Instant::now() < *retry
        {
            return (Ok(came.clone()), false);
        }
        let at = Timestamp::now();
        let failures = state.failures;
        let result = match self.ask(&mut state, application, patience, permit).await {
            Ok(result) => result.map(Arc::new),
            Err(why) => return (Err(why), true),
        };
        let came = Came { at, result, certificate: state.certificate.clone() };
        state.failed = (state.failures > failures).then(|| {
            let pause = pause(interval, state.failures).mul_f64(SHARED + 0.15 * draw);
            (came.clone(), Instant::now() + pause)
        });
        if state.looks.len() >= APPLICATIONS {
            state.looks.clear();
        }
        state.looks.insert(application.clone(), (Instant::now(), came.clone()));
        (Ok(came), true)
    }

    /// Asks over the connection that there is, or another. `Err` where that must not be.
    async fn ask(
        &self,
        state: &mut State,
        application: &str,
        patience: Duration,
        permit: Permit<'_>,
    ) -> Result<Result<Database, Failure>, String> {
        if let Some(mut connection) = state.connection.take().filter(|connection| !connection.is_closed()) {
            match connection.look(application, patience).await {
                Ok(seen) => {
                    state.unanswered = 0;
                    state.connection = Some(connection);
                    return Ok(Ok(seen));
                }
                // It has ended since it was asked last: another may do.
                Err(_) if connection.is_closed() => {}
                Err(failure) => {
                    state.unanswered += 1;
                    if state.unanswered < UNANSWERED {
                        state.connection = Some(connection);
                    }
                    return Ok(Err(failure));
                }
            }
        }
        let (opened, certificate) =
            Connection::open(&self.target, self.trust.as_ref(), permit, patience).await;
        if certificate.is_some() || opened.is_ok() {
            state.certificate = certificate;
        }
        match opened {
            Ok(mut connection) => {
                (state.failures, state.unanswered) = (0, 0);
                let looked = connection.look(application, patience).await;
                state.connection = Some(connection);
                Ok(looked)
            }
            Err(Barred::Forbidden(why)) => Err(why),
            Err(Barred::Failed(failure)) => {
                state.failures = state.failures.saturating_add(1);
                Ok(Err(failure))
            }
        }
    }

    /// Ends recorded sessions over the connection that there is; none is made for it.
    pub async fn end_sessions(&self, fence: &SessionFence, patience: Duration) -> Result<Ended, NotEnded> {
        let until = Instant::now() + patience;
        let late = || Failure::new(CheckStep::Answer, "is being asked something else for too long");
        let state = timeout(patience, self.state.lock()).await;
        let state = state.map_err(|_| NotEnded::Refused(format!("{} {}", self.target.words(), late())))?;
        let connection = state.connection.as_ref().filter(|connection| !connection.is_closed());
        let Some(connection) = connection else {
            let why = format!("the operator is not connected to {} at the moment", self.target.words());
            return Err(NotEnded::Refused(why));
        };
        connection.end_sessions(fence, until.saturating_duration_since(Instant::now())).await
    }
}

/// The pause after so many tries that failed.
fn pause(interval: Duration, failures: u32) -> Duration {
    let doubled = interval.saturating_mul(1 << failures.saturating_sub(PATIENT).min(8));
    doubled.min(LONGEST.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_after_a_few_failures_and_stay_bounded() {
        let second = Duration::from_secs(1);
        let pauses: Vec<u64> = (0..12).map(|failures| pause(second, failures).as_secs()).collect();
        assert_eq!(pauses, [1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30, 30]);
        assert_eq!(pause(60 * second, u32::MAX), 60 * second);
    }
}
