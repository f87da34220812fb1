//! What the pods of targets use, by metrics-server: one LIST a scope whenever the clock ticks, and of each
//! container a bounded series. Where Prometheus tells it, metrics-server is not asked. Values wake nobody; a
//! reconcile is woken where the rules would judge a series otherwise.

pub mod poll;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use mcp_health_core::{
    signals::{Pod, Reading, Usage},
    usage::remember,
};

use super::{
    list_watch::Pace,
    table::{Key, Row, Table},
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Measured {
    table: Table<UsageRow>,
    /// The cluster has the API, and it has answered or failed once.
    is_on: AtomicBool,
}

/// What the containers of a pod used.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow(Vec<Usage>);

impl Row for UsageRow {
    fn group(&self) -> Option<Key> {
        None
    }

    fn changes_verdict(&self, _: &Self) -> bool {
        false
    }

    /// The new samples continue the series.
    fn succeed(&mut self, before: &Self) {
        for usage in &mut self.0 {
            let Some(known) = before.0.iter().find(|one| one.container == usage.container) else { continue };
            let new = std::mem::replace(&mut usage.samples, known.samples.clone());
            for sample in new {
                remember(&mut usage.samples, sample);
            }
        }
    }
}

impl Measured {
    /// Nothing was measured yet.
    pub fn new(scopes: &[Option<String>], pace: Pace, period: Duration) -> Self {
        let table = Table::new(scopes, pace.stale_after_polls(period, PATIENCE));
        Self { table, is_on: AtomicBool::new(false) }
    }

    /// What these pods used.
    pub fn reading(&self, namespace: &str, pods: &[Pod], now: Timestamp) -> Reading<Vec<Usage>> {
        if !self.is_on.load(Ordering::Relaxed) {
            return Reading::Off;
        }
        self.table.reading(namespace, now, self.of(namespace, pods.iter()))
    }

    fn of<'a>(&self, namespace: &str, pods: impl Iterator<Item = &'a Pod>) -> Vec<Usage> {
        let rows = pods.filter_map(|pod| self.table.get(&Key::new(namespace, &pod.name)));
        rows.flat_map(|row| row.0.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mcp_health_core::signals::Sample;

    use super::*;

    #[test]
    fn a_series_goes_on_over_rows_and_the_same_sample_counts_once() {
        let row = |seconds: i64| {
            let sample = Sample { at: Timestamp::from_second(seconds).unwrap(), cpu: 1, memory: seconds };
            UsageRow(vec![Usage {
                pod: "a".to_owned(),
                container: "server".to_owned(),
                samples: vec![sample],
            }])
        };
        let mut all = row(15);
        for seconds in [15, 30, 30, 45] {
            let mut next = row(seconds);
            next.succeed(&all);
            all = next;
        }
        let seen: Vec<_> = all.0[0].samples.iter().map(|sample| sample.memory).collect();
        assert_eq!(seen, [15, 30, 45]);
    }
}
