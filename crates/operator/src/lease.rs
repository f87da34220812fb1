//! The lease: of several operators, one acts. Its remaining time is counted on the monotonic clock, from
//! *before* the renewal was sent: a leader that cannot renew knows in time that it is none. A candidate counts from
//! *after* the answer that showed it the lease.
//!
//! Whoever deletes the Lease does not end a leader at once: it ends at its next renewal, or, where it cannot reach the API
//! server, when its time is over. So a candidate that finds no Lease waits for a whole lease duration before it
//! creates one. Only where no operator has ever written a status, as after a first installation, it does not wait.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::Instant;

use crate::{client::within, config::Config};

/// The longest that one effect may take.
const LONGEST_EFFECT: Duration = Duration::from_secs(10);

/// What a candidate has seen of the Lease.
enum Seen {
    /// It has not looked yet.
    Nothing,
    /// Another holds it, in these words since then.
    Held(LeaseSpec, Instant),
    /// It is missing since then, and a leader may believe in it for so long.
    Missing(Instant, Duration),
}

/// A lease that is held, or not needed.
pub struct Lease {
    /// `None`: election is off.
    until: Option<Mutex<Instant>>,
    name: String,
    identity: String,
    duration: Duration,
}

impl Lease {
    /// Not held yet.
    pub fn new(config: &Config) -> Self {
        let duration = Duration::try_from(config.lease_duration.span()).unwrap_or(Duration::from_secs(15));
        Self {
            until: config.leader_election.then(|| Mutex::new(Instant::now())),
            name: config.lease_name.clone(),
            identity: config.identity.clone(),
            duration: duration.max(Duration::from_secs(2)),
        }
    }

    /// How long one effect may take: half a lease at most, so that one that is renewed every quarter always
    /// leaves enough to begin.
    pub fn effect_timeout(&self) -> Duration {
        if self.until.is_some() { LONGEST_EFFECT.min(self.duration / 2) } else { LONGEST_EFFECT }
    }

    /// Whether enough is left to begin an effect: its time-out and a margin.
    pub fn has_left(&self) -> bool {
        self.leaves(Duration::ZERO)
    }

    /// Whether enough is left to write that an effect begins, and to begin it then.
    pub fn has_left_to_record(&self) -> bool {
        self.leaves(self.duration / 4)
    }

    fn leaves(&self, before: Duration) -> bool {
        let Some(until) = self.until() else { return true };
        let left = until.saturating_duration_since(Instant::now());
        left > before + self.effect_timeout() + self.duration / 16
    }

    /// When it is over, if it is needed.
    fn until(&self) -> Option<Instant> {
        Some(*self.until.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the lease is held. `is_first` tells whether no operator was ever at work here; it is asked where no
    /// Lease is found.
    pub async fn acquire(&self, api: &Api<Object>, is_first: impl AsyncFn() -> bool) {
        if self.until.is_none() {
            return;
        }
        let mut seen = Seen::Nothing;
        let mut told = false;
        loop {
            let tried = self.try_acquire(api, &mut seen, &is_first);
            match within(self.duration / 2, "acquiring", self.name.clone(), tried).await {
                Ok(true) => {
                    tracing::info!(
                        lease = self.name,
                        identity = self.identity,
                        "the lease is held: this operator acts"
                    );
                    return;
                }
                Ok(false) if !told => {
                    told = true;
                    tracing::info!(lease = self.name, "another operator holds the lease, or may; waiting");
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(lease = self.name, %error, "the lease cannot be taken; trying again");
                }
            }
            tokio::time::sleep((self.duration / 8).min(Duration::from_secs(1))).await;
        }
    }

    async fn try_acquire(
        &self,
        api: &Api<Object>,
        seen: &mut Seen,
        is_first: &impl AsyncFn() -> bool,
    ) -> Result<bool, kube::Error> {
        let asked = Instant::now();
        let Some(mut lease) = api.get_opt(&self.name).await? else {
            if !self.may_create(seen, is_first).await {
                return Ok(false);
            }
            let asked = Instant::now();
            let spec = self.spec(&LeaseSpec::default());
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let created = api.create(&PostParams::default(), &Object { metadata, spec: Some(spec) }).await;
            return self.taken(created, asked);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity {
            // Another's clock is not to be trusted: it is over when it did not change for its whole duration,
            // by this clock.
            let since = match seen {
                Seen::Held(before, since) if *before == spec => *since,
                _ => {
                    *seen = Seen::Held(spec, Instant::now());
                    return Ok(false);
                }
            };
            if since.elapsed() < duration_of(&spec) {
                return Ok(false);
            }
        }
        lease.spec = Some(self.spec(&spec));
        let replaced = api.replace(&self.name, &PostParams::default(), &lease).await;
        self.taken(replaced, asked)
    }

    /// Whether a Lease that is missing may be created: not while a leader may believe in the one that was deleted.
    async fn may_create(&self, seen: &mut Seen, is_first: &impl AsyncFn() -> bool) -> bool {
        let wait = match seen {
            Seen::Missing(since, wait) => return since.elapsed() >= *wait,
            Seen::Held(spec, _) => duration_of(spec).max(self.duration),
            // Without an answer in time, an operator may have been at work.
            Seen::Nothing
                if tokio::time::timeout(self.duration / 4, is_first()).await.unwrap_or_default() =>
            {
                return true;
            }
            Seen::Nothing => self.duration,
        };
        *seen = Seen::Missing(Instant::now(), wait);
        false
    }

    fn taken(&self, answer: Result<Object, kube::Error>, asked: Instant) -> Result<bool, kube::Error> {
        match answer {
            Ok(_) => {
                self.extend(asked);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn extend(&self, asked: Instant) {
        if let Some(until) = &self.until {
            *until.lock().unwrap_or_else(PoisonError::into_inner) = asked + self.duration;
        }
    }

    fn spec(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let same = before.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(whole_seconds(self.duration)).ok(),
            acquire_time: if same { before.acquire_time.clone() } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!same)),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// Renews until the lease is lost or over. Returns then, at once: the operator must end, and with it every effect
    /// under way.
    pub async fn keep(&self, api: &Api<Object>) {
        loop {
            let Some(until) = self.until() else { return std::future::pending().await };
            tokio::time::sleep_until(until.min(Instant::now() + self.duration / 4)).await;
            let asked = Instant::now();
            if until <= asked {
                let lease = &self.name;
                tracing::error!(lease, "the lease is over and could not be renewed; this operator ends");
                return;
            }
            let answer = tokio::time::timeout_at(until.min(asked + self.duration / 2), self.renew(api)).await;
            match answer {
                Ok(Ok(None)) => self.extend(asked),
                Ok(Ok(Some(lost))) => {
                    tracing::error!(lease = self.name, "{lost}; this operator ends");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the lease could not be renewed"),
                Err(_) => tracing::warn!(lease = self.name, "no answer to the renewal of the lease"),
            }
        }
    }

    /// Renews the lease once; or says by what it is lost.
    async fn renew(&self, api: &Api<Object>) -> Result<Option<&'static str>, kube::Error> {
        let Some(mut lease) = api.get_opt(&self.name).await? else {
            return Ok(Some("the Lease was deleted"));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(Some("another operator holds the lease"));
        }
        lease.spec = Some(self.spec(&spec));
        api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| None)
    }

    /// Gives the lease up, so that a successor need not wait for its end.
    pub async fn release(&self, api: &Api<Object>) {
        if self.until.is_none() {
            return;
        }
        let give_up = async {
            let mut lease = api.get(&self.name).await?;
            if let Some(spec) =
                lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
            {
                spec.holder_identity = Some(String::new());
                api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), give_up).await {
            tracing::warn!(lease = self.name, %error, "the lease could not be given up; it ends by itself");
        }
    }
}

/// For how long its leader may believe in a lease, by what is written in it.
fn duration_of(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// Rounded up: others wait for no less than the leader believes.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The Lease objects of the operator's namespace.
pub fn api(client: &Client, config: &Config) -> Api<Object> {
    Api::namespaced(client.clone(), &config.lease_namespace)
}

#[cfg(test)]
pub mod tests;
