//! How many connections the pools of a server may open: with all its pods and those of a rollout, whatever
//! others use and what is reserved, at most 80 % of `max_connections`. For SetEnv, which sets the pool's
//! variables (guide 000, Database Pool).

use jiff::SignedDuration;
use mcp_health_api::{EnvName, Measure, SetEnvParameters};

use super::plan::Asked;
use crate::{
    database,
    metrics::View,
    signals::{ContainerSpec, Database, Span},
    words,
};

/// The variable that sizes a pool.
pub const SIZE: &str = "DB_POOL_SIZE";
/// The variable that says how many connections it may open beside that.
pub const OVERFLOW: &str = "DB_POOL_MAX_OVERFLOW";

/// The most that the guides raise a pool to, in an emergency (guide 000) …
const MOST: i64 = 50;
/// … and how much it may overflow then: counted with where the template does not say.
const MOST_OVERFLOW: i64 = 20;
/// A pool that was raised is given back after this time.
const HOLD: SignedDuration = SignedDuration::from_hours(1);
/// The share of `max_connections` that may be used up, in percent.
const PERCENT: i128 = 80;

/// What the bound rests on.
struct Room<'a> {
    seen: &'a Database,
    /// Pods, with those that a rolling update makes beside them.
    pods: i64,
    /// Connections of others, and those that are reserved.
    taken: i64,
}

impl<'a> Room<'a> {
    fn of(asked: &Asked<'a>) -> Result<Self, String> {
        let Asked { case, server, .. } = *asked;
        let Some(seen) = database::of(case) else {
            let why = case.signals.problem_of_database();
            let why = why.unwrap_or_else(|| "spec.signals.postgres names no database".to_owned());
            return Err(format!("max_connections is not known, so neither is how far a pool may go: {why}"));
        };
        if database::usable(seen).is_none() {
            return Err("the database does not tell its max_connections: how far a pool may go is not known"
                .to_owned());
        }
        let others = seen.connections.saturating_sub(seen.counts.total).max(0);
        let pods = i64::from(server.target.desired.max(0)) + i64::from(server.target.surge.max(0));
        Ok(Self { seen, pods: pods.max(1), taken: others.saturating_add(seen.reserved_connections.max(0)) })
    }

    fn limit(&self) -> i128 {
        i128::from(self.seen.max_connections) * PERCENT / 100
    }

    fn holds(&self, pool: i64, overflow: i64) -> bool {
        let each = i128::from(pool.max(0)) + i128::from(overflow.max(0));
        i128::from(self.pods) * each + i128::from(self.taken) <= self.limit()
    }

    /// The largest pool for which it holds.
    fn largest(&self, overflow: i64) -> i64 {
        let each = (self.limit() - i128::from(self.taken)) / i128::from(self.pods);
        i64::try_from(each - i128::from(overflow.max(0))).unwrap_or_default()
    }

    /// `4 pods × (50 + 20) + 12 of others and reserved are more than 80 of 100 connections`.
    fn words(&self, pool: i64, overflow: i64) -> String {
        format!(
            "{} pods (with those of a rollout) × ({pool} + {overflow}) + {} of others and reserved are more than {} of \
             {} connections",
            self.pods,
            self.taken,
            self.limit(),
            self.seen.max_connections
        )
    }
}

/// A number that the template sets in the clear.
fn known(container: &ContainerSpec, name: &str) -> Option<i64> {
    let (_, value) = container.env.iter().find(|(one, _)| one == name)?;
    value.as_ref()?.trim().parse().ok().filter(|value| *value >= 0)
}

/// Why a variable may not be set to this value. Of variables that size no pool, and of what makes one
/// smaller, nothing speaks against it.
pub fn against(asked: &Asked, container: &ContainerSpec, name: &str, value: &str) -> Option<String> {
    if ![SIZE, OVERFLOW].contains(&name) {
        return None;
    }
    let Ok(value) = value.trim().parse::<i64>() else {
        return Some(format!("{name} is a number, and {} is none", words::shorten(value, 32)));
    };
    // SQLAlchemy takes a negative overflow, and a pool of 0, for no bound at all.
    if value < 0 || (name == SIZE && value == 0) {
        return Some(format!("{name}={value} would leave the pool without a bound"));
    }
    if known(container, name).is_some_and(|before| value <= before) {
        return None;
    }
    let (pool, overflow) = if name == SIZE {
        (value, known(container, OVERFLOW).unwrap_or(MOST_OVERFLOW))
    } else {
        (known(container, SIZE).unwrap_or(MOST), value)
    };
    match Room::of(asked) {
        Err(why) => Some(why),
        Ok(room) if room.holds(pool, overflow) => None,
        Ok(room) => Some(room.words(pool, overflow)),
    }
}

/// The pool raised for a time, as far as the bound permits; or the reason in one word, and in a sentence.
pub fn raised(asked: &Asked, container: &ContainerSpec) -> Result<SetEnvParameters, (&'static str, String)> {
    let room = Room::of(asked).map_err(|why| ("PoolBoundUnknown", why))?;
    let before = known(container, SIZE).or_else(|| of_gauges(asked)).ok_or_else(|| {
        let why = format!("neither the template nor a metric tells how large the pool is: {SIZE} is not set");
        ("PoolNotKnown", why)
    })?;
    let overflow = known(container, OVERFLOW).unwrap_or(MOST_OVERFLOW);
    let size = room.largest(overflow).min(MOST);
    if size <= before {
        let why = if before >= MOST {
            format!("{SIZE} is {before} already, and the guides go no further than {MOST}")
        } else {
            format!(
                "{SIZE} is {before} and goes no further: {}",
                room.words(before.saturating_add(1), overflow)
            )
        };
        return Err(("PoolAtItsBound", why));
    }
    Ok(SetEnvParameters {
        name: EnvName(SIZE.to_owned()),
        value: size.to_string(),
        hold_for: Some(HOLD.into()),
    })
}

/// The largest pool of a pod, by its own gauge.
fn of_gauges(asked: &Asked) -> Option<i64> {
    let view = View::of(asked.case, asked.server)?;
    let sizes = view.series(Measure::DatabasePoolSize, Span::Window).filter(|one| one.pod.is_some());
    let largest = sizes.map(|one| one.value).max_by(f64::total_cmp)?;
    #[allow(clippy::cast_possible_truncation)] // Saturates.
    let largest = largest.ceil() as i64;
    (largest > 0).then_some(largest)
}
