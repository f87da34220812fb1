//! When what is to be asked next: a heap of due times, spread so that many servers do not come all at once.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::super::table::Key;
use crate::draw::draw;

/// Servers that are new at the same time begin so far apart, within an interval.
const SPACING: Duration = Duration::from_millis(15);
/// The most that a new server waits.
const FIRST: Duration = Duration::from_secs(15);

/// What is asked in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// MCP, by its pods and Services.
    Mcp,
    /// Its health and its circuit breakers, over HTTP.
    Http,
    /// What it depends on, but its PostgreSQL.
    Dependencies,
    /// Its PostgreSQL.
    Postgres,
}

/// All topics.
const TOPICS: [Topic; 4] = [Topic::Mcp, Topic::Http, Topic::Dependencies, Topic::Postgres];

/// See the module.
#[derive(Default)]
pub struct Schedule {
    due: BinaryHeap<Reverse<(Instant, Key, Topic, u64)>>,
    /// The objects, each with the number of its life: what is due of an earlier one is void.
    known: HashMap<Key, u64>,
    lives: u64,
}

impl Schedule {
    /// Takes up the objects that are new, and returns those that are gone.
    pub fn keep_to(&mut self, objects: Vec<Key>, now: Instant) -> Vec<Key> {
        let all: HashMap<Key, u64> = objects.into_iter().map(|key| (key, 0)).collect();
        let gone: Vec<Key> = self.known.keys().filter(|key| !all.contains_key(*key)).cloned().collect();
        for key in &gone {
            self.known.remove(key);
        }
        let new: Vec<Key> = all.into_keys().filter(|key| !self.known.contains_key(key)).collect();
        let spread = FIRST.min(SPACING * u32::try_from(new.len()).unwrap_or(u32::MAX));
        for key in new {
            self.lives += 1;
            self.known.insert(key.clone(), self.lives);
            for topic in TOPICS {
                let at = now + spread.mul_f64(draw());
                self.due.push(Reverse((at, key.clone(), topic, self.lives)));
            }
        }
        gone
    }

    /// Whether an object is there.
    pub fn knows(&self, object: &Key) -> bool {
        self.known.contains_key(object)
    }

    /// What is due. It is due again once it was [asked](Self::again).
    pub fn take_due(&mut self, now: Instant) -> Vec<(Key, Topic, u64)> {
        let mut taken = Vec::new();
        while let Some(Reverse((at, ..))) = self.due.peek()
            && *at <= now
            && let Some(Reverse((_, key, topic, life))) = self.due.pop()
        {
            if self.known.get(&key) == Some(&life) {
                taken.push((key, topic, life));
            }
        }
        taken
    }

    /// What these objects depend on is due at once, unless it is being asked.
    pub fn hasten(&mut self, objects: &[Key], now: Instant) {
        if objects.is_empty() {
            return;
        }
        let all =
            std::mem::take(&mut self.due).into_vec().into_iter().map(|Reverse((at, key, topic, life))| {
                let is_meant =
                    matches!(topic, Topic::Dependencies | Topic::Postgres) && objects.contains(&key);
                Reverse((if is_meant { at.min(now) } else { at }, key, topic, life))
            });
        self.due = all.collect();
    }

    /// It was asked at `begun`: it is due again a pause later, or a little less or more.
    pub fn again(&mut self, (key, topic, life): (Key, Topic, u64), begun: Instant, pause: Duration) {
        let at = begun + pause.mul_f64(0.9 + 0.2 * draw());
        self.due.push(Reverse((at, key, topic, life)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|number| Key::new("mcp", &number.to_string())).collect()
    }

    #[test]
    fn many_servers_that_are_new_at_once_are_spread_over_an_interval_and_one_is_asked_soon() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        assert!(schedule.keep_to(keys(1), now).is_empty());
        assert_eq!(schedule.take_due(now + SPACING).len(), TOPICS.len());

        let mut schedule = Schedule::default();
        schedule.keep_to(keys(1000), now);
        let of_a_second: Vec<usize> =
            (0..15).map(|second| schedule.take_due(now + Duration::from_secs(second + 1)).len()).collect();
        let all = 1000 * TOPICS.len();
        assert_eq!(of_a_second.iter().sum::<usize>(), all);
        let even = all / of_a_second.len();
        assert!(of_a_second.iter().all(|count| (even / 2..even * 3 / 2).contains(count)), "{of_a_second:?}");
    }

    #[test]
    fn what_is_urgent_is_due_at_once_and_only_what_the_server_depends_on() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.keep_to(keys(2), now);
        for one in schedule.take_due(now + FIRST) {
            schedule.again(one, now, FIRST);
        }
        schedule.hasten(&keys(1), now);
        let due: Vec<_> = schedule.take_due(now).into_iter().map(|(key, topic, _)| (key, topic)).collect();
        let first = || keys(1).remove(0);
        assert_eq!(due, [(first(), Topic::Dependencies), (first(), Topic::Postgres)]);
        schedule.hasten(&keys(1), now);
        assert!(schedule.take_due(now).is_empty(), "it is being asked");
    }

    #[test]
    fn what_was_asked_is_due_again_about_a_pause_later() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.keep_to(keys(1), now);
        let pause = Duration::from_secs(10);
        for one in schedule.take_due(now + FIRST) {
            schedule.again(one, now, pause);
        }
        assert!(schedule.take_due(now + pause.mul_f64(0.89)).is_empty());
        assert_eq!(schedule.take_due(now + pause.mul_f64(1.11)).len(), TOPICS.len());
        assert!(schedule.take_due(now + pause * 9).is_empty(), "it is being asked");
    }

    #[test]
    fn an_object_that_is_gone_is_not_asked_and_one_of_its_name_begins_anew() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.keep_to(keys(2), now);
        assert_eq!(schedule.keep_to(keys(1), now), keys(2)[1..]);
        schedule.keep_to(keys(2), now);
        let due = schedule.take_due(now + FIRST);
        assert_eq!(due.len(), 2 * TOPICS.len(), "{due:?}");
    }
}
