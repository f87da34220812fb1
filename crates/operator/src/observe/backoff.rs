//! When one path of a server is asked again. Who turns the operator away is asked less and less often, and
//! so is what was never there: each question costs the server work, a line in its log, and some a session.
//! A change of what is asked, or of who, begins anew.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use mcp_health_core::signals::{Fault, FaultKind, PROBES_KEPT};
use tokio::time::Instant;

/// The longest pause while a server turns the operator away, or does not have what its policy declares.
const TURNED_AWAY: Duration = Duration::from_mins(5);
/// Evidence grows no older than by so much because it waits for its turn.
const LONGEST_TURN: Duration = Duration::from_mins(2);
/// The longest pause where nobody declared what is not there.
const ABSENT: Duration = Duration::from_hours(1);
/// The pause where nothing was declared, and nobody ever answered.
const SELDOM: Duration = Duration::from_mins(5);
/// The share of a pause after which it may be over: pauses vary.
pub const EARLIEST: f64 = 0.85;

/// What is asked, or whom, as a number that changes with it; it means nothing to another process.
pub fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// How a question was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Answered, one way or another.
    Answered,
    /// Turned away like this.
    TurnedAway(FaultKind),
    /// There is nothing at that path.
    Absent,
    /// Another fault.
    Failed,
}

impl Reception {
    /// Of the fault that a question came to, if it did.
    pub fn of(fault: Option<&Fault>) -> Self {
        use FaultKind::{Forbidden, HostNotAllowed, NotAcceptable, NotFound, RateLimited, Unauthorized};
        match fault.map(|fault| fault.kind) {
            None => Self::Answered,
            Some(kind @ (Unauthorized | Forbidden | HostNotAllowed | NotAcceptable | RateLimited)) => {
                Self::TurnedAway(kind)
            }
            Some(NotFound) => Self::Absent,
            Some(_) => Self::Failed,
        }
    }
}

/// What a path is to the policy.
#[derive(Clone, Copy, Debug)]
pub struct Stake {
    /// The pause where nothing speaks for a longer one.
    pub interval: Duration,
    /// The policy names it.
    pub is_declared: bool,
    /// It was answered well once.
    pub was_answered: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    /// What is asked, and whom: a digest.
    of: u64,
    /// How it was received the last time, and how often so in a row.
    last: Option<(Reception, u32)>,
    asked: Option<Instant>,
    /// The server wants no request for so long after it was asked.
    unwanted: Duration,
    /// It was due, and there were no requests left for it.
    is_deferred: bool,
    /// How long it waited, the last time that it was deferred.
    waited: Duration,
}

impl Backoff {
    /// Where another thing is asked than before, or another server, it is asked at once; not before the
    /// server wants to be.
    pub fn keep_to(&mut self, of: u64) {
        if self.of != of {
            (self.of, self.last) = (of, None);
        }
    }

    /// It was asked now, and received so. Failures count where somebody should have answered.
    pub fn note(&mut self, reception: Reception, counts: bool, retry_after: Option<Duration>) {
        self.waited = self.waits();
        self.is_deferred = false;
        self.asked = Some(Instant::now());
        self.unwanted = retry_after.unwrap_or_default();
        let before = self.last.filter(|(last, _)| *last == reception).map_or(0, |(_, times)| times);
        let times = before.saturating_add(u32::from(counts || reception != Reception::Failed));
        self.last = Some((reception, times));
    }

    /// The pause until it is asked again.
    pub fn pause(&self, stake: Stake) -> Duration {
        let Stake { interval, is_declared, was_answered } = stake;
        let seldom = u32::try_from(PROBES_KEPT).unwrap_or(u32::MAX);
        let pause = match self.last {
            Some((Reception::TurnedAway(_), times)) => doubled(interval, times, TURNED_AWAY),
            Some((Reception::Absent, times)) if !was_answered => {
                doubled(interval, times, if is_declared { TURNED_AWAY } else { ABSENT })
            }
            Some((Reception::Failed, times)) if !was_answered && !is_declared && times >= seldom => {
                SELDOM.max(interval)
            }
            _ => interval,
        };
        pause.max(self.unwanted)
    }

    /// It is due, and is asked later.
    pub const fn defer(&mut self) {
        self.is_deferred = true;
    }

    /// When it was asked last.
    pub const fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// How long it waits for its turn, since it was asked. What waits for longer is not known any more.
    fn waits(&self) -> Duration {
        let waits = self.asked.filter(|_| self.is_deferred).map_or(Duration::ZERO, |asked| asked.elapsed());
        waits.min(LONGEST_TURN)
    }

    /// The pause between two answers, also where it had to wait for its turn.
    pub fn pause_of_evidence(&self, stake: Stake) -> Duration {
        self.pause(stake).max(self.waited).max(self.waits())
    }

    /// Whether its pause is over.
    pub fn is_due(&self, stake: Stake) -> bool {
        let Some(asked) = self.asked else { return true };
        let (pause, past) = (self.pause(stake), asked.elapsed());
        let is_wanted = past >= self.unwanted;
        is_wanted && (self.last.is_none() || pause <= stake.interval || past >= pause.mul_f64(EARLIEST))
    }
}

/// The interval, doubled with each time but the first, up to a longest.
fn doubled(interval: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    interval.saturating_mul(factor).min(longest).max(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn stake(is_declared: bool, was_answered: bool) -> Stake {
        Stake { interval: INTERVAL, is_declared, was_answered }
    }

    /// The pauses after each of so many like answers, in seconds.
    fn pauses(reception: Reception, stake: Stake, times: usize) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let mut next = || {
            backoff.note(reception, true, None);
            backoff.pause(stake).as_secs()
        };
        (0..times).map(|_| next()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_turns_the_operator_away_is_asked_less_often_up_to_every_five_minutes() {
        let refused = Reception::TurnedAway(FaultKind::Unauthorized);
        for stake in [stake(false, false), stake(true, true)] {
            assert_eq!(pauses(refused, stake, 7), [15, 30, 60, 120, 240, 300, 300]);
        }
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            backoff.note(refused, true, None);
        }
        // Another refusal, or a good answer, is another state of things.
        backoff.note(Reception::TurnedAway(FaultKind::Forbidden), true, None);
        assert_eq!(backoff.pause(stake(true, true)), INTERVAL);
        let slow = Stake { interval: Duration::from_mins(10), ..stake(true, true) };
        assert_eq!(pauses(refused, slow, 3), [600; 3], "never more often than the policy says");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_there_is_asked_for_once_an_hour_or_every_five_minutes_where_it_was_declared() {
        let undeclared = pauses(Reception::Absent, stake(false, false), 12);
        assert_eq!((undeclared[0], undeclared[11]), (15, 3600));
        assert_eq!(pauses(Reception::Absent, stake(true, false), 12)[11], 300);
        assert_eq!(pauses(Reception::Absent, stake(false, true), 12)[11], 15, "it was there once");
        assert_eq!(pauses(Reception::Failed, stake(false, false), 6), [15, 15, 15, 15, 300, 300]);
        assert_eq!(pauses(Reception::Failed, stake(true, false), 6)[5], 15);
        assert_eq!(pauses(Reception::Failed, stake(false, true), 6)[5], 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_what_is_asked_or_of_who_is_asked_begins_anew() {
        let mut backoff = Backoff::default();
        backoff.keep_to(1);
        for _ in 0..8 {
            backoff.note(Reception::Absent, true, None);
        }
        backoff.keep_to(1);
        assert!(!backoff.is_due(stake(false, false)));
        backoff.keep_to(2);
        assert!(backoff.is_due(stake(false, false)));
        backoff.note(Reception::Absent, true, None);
        assert_eq!(backoff.pause(stake(false, false)), INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_comes_before_the_time_that_a_server_names_whatever_else_changes() {
        let mut backoff = Backoff::default();
        backoff.note(Reception::Failed, true, Some(Duration::from_mins(2)));
        assert_eq!(backoff.pause(stake(true, true)), Duration::from_mins(2));
        tokio::time::advance(Duration::from_secs(119)).await;
        backoff.keep_to(7);
        assert!(!backoff.is_due(stake(true, true)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(backoff.is_due(stake(true, true)));
        backoff.note(Reception::Answered, true, None);
        assert!(backoff.is_due(stake(true, true)));
    }
}
