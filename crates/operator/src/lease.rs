//! The lease: of several operators, one acts. Its remaining time is counted on the monotonic clock, from
//! *before* the renewal was sent: a leader that cannot renew knows in time that it is none.

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

use crate::config::Config;

/// The longest that one effect may take.
const LONGEST_EFFECT: Duration = Duration::from_secs(10);

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
        let Some(until) = &self.until else { return true };
        let until = *until.lock().unwrap_or_else(PoisonError::into_inner);
        until.saturating_duration_since(Instant::now()) > self.effect_timeout() + self.duration / 16
    }

    /// Waits until the lease is held.
    pub async fn acquire(&self, api: &Api<Object>) {
        if self.until.is_none() {
            return;
        }
        let mut seen: Option<(LeaseSpec, Instant)> = None;
        let mut told = false;
        loop {
            match self.try_acquire(api, &mut seen).await {
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
                    tracing::info!(lease = self.name, "another operator holds the lease; waiting for it");
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
        seen: &mut Option<(LeaseSpec, Instant)>,
    ) -> Result<bool, kube::Error> {
        let asked = Instant::now();
        let Some(mut lease) = api.get_opt(&self.name).await? else {
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
                Some((before, since)) if *before == spec => *since,
                _ => {
                    *seen = Some((spec, asked));
                    return Ok(false);
                }
            };
            let duration = u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15);
            if since.elapsed() < Duration::from_secs(duration) {
                return Ok(false);
            }
        }
        lease.spec = Some(self.spec(&spec));
        let replaced = api.replace(&self.name, &PostParams::default(), &lease).await;
        self.taken(replaced, asked)
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
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            acquire_time: if same { before.acquire_time.clone() } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!same)),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// Renews until that fails for so long that the lease is over. Returns then: the operator must end.
    pub async fn keep(&self, api: &Api<Object>) {
        let Some(until) = &self.until else { return std::future::pending().await };
        loop {
            tokio::time::sleep(self.duration / 4).await;
            let asked = Instant::now();
            let renewal = async {
                let mut lease = api.get(&self.name).await?;
                let spec = lease.spec.clone().unwrap_or_default();
                if spec.holder_identity.as_deref() != Some(&self.identity) {
                    return Ok(false);
                }
                lease.spec = Some(self.spec(&spec));
                api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| true)
            };
            match tokio::time::timeout(self.duration / 2, renewal).await {
                Ok(Ok(true)) => self.extend(asked),
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "another operator holds the lease; this one ends");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the lease could not be renewed"),
                Err(_) => tracing::warn!(lease = self.name, "no answer to the renewal of the lease"),
            }
            if *until.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now() {
                tracing::error!(
                    lease = self.name,
                    "the lease is over and could not be renewed; this operator ends"
                );
                return;
            }
        }
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

/// The Lease objects of the operator's namespace.
pub fn api(client: &Client, config: &Config) -> Api<Object> {
    Api::namespaced(client.clone(), &config.lease_namespace)
}
