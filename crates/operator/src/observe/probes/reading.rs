//! What probes tell of a server, and who is told of what they came to.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed};

use jiff::Timestamp;
use mcp_health_api::McpServerHealth;
use mcp_health_core::signals::{ProbeQuestion, Reading};

use super::{
    super::{deployments::DeploymentRow, stores::Stores, table::Key},
    NO_WAY, Readings, keep,
    seen::unless_late,
    ways,
};

impl Stores {
    /// What these servers answered, or what they depend on did, may be news: has the rules asked again; where
    /// the operator's own way is lost or found, about all.
    pub fn tell(&self, news: BTreeSet<Key>, now: Timestamp) {
        let Some((probes, dependencies)) = self.probes.as_ref().zip(self.dependencies.as_ref()) else {
            return;
        };
        if news.is_empty() {
            return;
        }
        let (servers, others) =
            (probes.look_at_own_way(), dependencies.look_at_own_way(probes.reaches_some()));
        if servers || others {
            // What one server showed is nothing of its own any more; or is again.
            return self.judge_again(self.targets.all(), now);
        }
        // What the status keeps is written, whatever the rules say.
        let is_to_be_kept = |key: &Key| {
            let object = self.judged.object(key);
            object.is_some_and(|one| probes.is_to_be_kept(key, &one) || dependencies.is_to_be_kept(key, &one))
        };
        let (written, others): (Vec<_>, Vec<_>) = news.into_iter().partition(is_to_be_kept);
        self.wake(written);
        self.judge_again(others, now);
    }

    /// What probes tell of an object's server.
    pub fn probed(&self, object: &McpServerHealth, row: Option<&DeploymentRow>, now: Timestamp) -> Readings {
        let none = (Reading::Off, Reading::Off);
        let Some((probes, row)) = self.probes.as_ref().zip(row) else { return none };
        let (signals, key) = (&object.spec.signals, Key::of(object));
        let (mcp, http) = (keep::mcp_of(object), keep::http_of(object));
        let ways = |enabled, port| {
            if enabled { ways::ways(self, object, row, port) } else { Vec::new() }
        };
        let (mcp_ways, http_ways) = (ways(mcp.enabled, mcp.port), ways(http.enabled, http.port));
        let (probed, circuits) = probes.read(&key, &row.target.uid, object, |server| {
            let trouble = server.mcp_trouble.as_ref().filter(|_| mcp.enabled).cloned();
            let mut probed = server.probed_of_mcp(&mcp, &mcp_ways, signals.mcp.is_some());
            let rate = keep::rate(http.interval, signals.http.is_some());
            probed.extend(server.probed(ProbeQuestion::Health, &http_ways, rate, 1));
            let probed = match trouble {
                Some(why) => Reading::Unavailable(why),
                None if probed.is_empty() => Reading::Off,
                None => unless_late(probed, now),
            };
            let circuits = server.circuits(&http_ways, &http, signals.http.is_some());
            (probed, circuits)
        });
        if probes.no_way.load(Relaxed) {
            return (lost(probed), lost(circuits));
        }
        (probed, circuits)
    }
}

/// What a reading is worth while no server can be reached.
fn lost<T>(reading: Reading<T>) -> Reading<T> {
    match reading {
        Reading::Fresh(_) | Reading::Stale { .. } => Reading::Unavailable(NO_WAY.to_owned()),
        other => other,
    }
}
