//! How full the spaces are that the pods of targets write to, by the statistics of their kubelets, through
//! the API server. Only where the operator is asked to look (`--kubelet-stats`), and only at nodes that run
//! such pods.

pub mod poll;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use mcp_health_core::signals::{Reading, Sample, Usage, Volume, VolumeKind};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    list_watch::{Pace, is_recent},
    pods::{KeyedPod, PodRow},
    prometheus::note_usage,
    table::Key,
};
use crate::{config::Config, error::SourceFailure};

/// How long a kubelet's answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Spaces {
    inner: Mutex<Inner>,
    /// How long after its last answer a kubelet tells nothing of now.
    stale_after: SignedDuration,
}

#[derive(Default)]
struct Inner {
    /// By pod.
    spaces: HashMap<Key, Vec<Volume>>,
    /// By pod: what of its memory is no page cache.
    resident: HashMap<Key, Vec<Usage>>,
    nodes: HashMap<Arc<str>, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    answered: Option<Timestamp>,
    failing: Option<SourceFailure>,
}

impl Spaces {
    /// Nothing was asked yet.
    pub fn new(config: &Config) -> Self {
        let stale_after = Pace::of_watches(1).stale_after_polls(period(config), PATIENCE);
        Self { inner: Mutex::default(), stale_after: stale_after.try_into().unwrap_or(SignedDuration::MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What of the memory of these pods is no page cache.
    pub fn resident(&self, pods: &[KeyedPod], now: Timestamp) -> Reading<Vec<Usage>> {
        let inner = self.lock();
        let all = || pods.iter().filter_map(|(key, _)| inner.resident.get(key)).flatten().cloned().collect();
        match inner.reading(pods, now, self.stale_after) {
            Reading::Fresh(_) => Reading::Fresh(all()),
            Reading::Stale { at, .. } => Reading::Stale { value: all(), at },
            Reading::Unavailable(why) => Reading::Unavailable(why),
            Reading::Forbidden(why) => Reading::Forbidden(why),
            Reading::Off => Reading::Off,
        }
    }

    /// The spaces of these pods.
    pub fn reading(&self, pods: &[KeyedPod], now: Timestamp) -> Reading<Vec<Volume>> {
        self.lock().reading(pods, now, self.stale_after)
    }
}

impl Inner {
    fn reading(
        &self,
        pods: &[KeyedPod],
        now: Timestamp,
        stale_after: SignedDuration,
    ) -> Reading<Vec<Volume>> {
        let volumes = || pods.iter().filter_map(|(key, _)| self.spaces.get(key)).flatten().cloned().collect();
        let mut oldest: Option<Timestamp> = None;
        for (_, row) in pods.iter().filter(|(_, row)| row.pod.counts()) {
            let Some(name) = &row.node else { continue };
            match self.nodes.get(name) {
                Some(Node { answered: Some(at), .. }) => {
                    oldest = Some(oldest.map_or(*at, |oldest| oldest.min(*at)));
                }
                Some(Node { failing: Some(failing), .. }) => {
                    let why = format!("node {name}: {}", failing.why);
                    return SourceFailure { why, ..*failing }.reading();
                }
                // Not asked yet.
                _ => return Reading::Off,
            }
        }
        match oldest {
            Some(at) if !is_recent(at, now, stale_after) => Reading::Stale { value: volumes(), at },
            _ => Reading::Fresh(volumes()),
        }
    }
}

/// How often kubelets are asked.
pub fn period(config: &Config) -> Duration {
    config.kubelet_stats_period.span().unsigned_abs().max(Duration::from_secs(1))
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    pods: Vec<PodStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStats {
    pod_ref: PodRef,
    #[serde(default)]
    containers: Vec<ContainerStats>,
    #[serde(default, rename = "volume")]
    volumes: Vec<VolumeStats>,
    #[serde(rename = "ephemeral-storage")]
    ephemeral: Option<FsStats>,
}

#[derive(Deserialize)]
struct PodRef {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct ContainerStats {
    #[serde(default)]
    name: String,
    memory: Option<MemoryStats>,
    rootfs: Option<FsStats>,
    logs: Option<FsStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemoryStats {
    time: Timestamp,
    rss_bytes: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsStats {
    time: Timestamp,
    used_bytes: Option<i64>,
    capacity_bytes: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeStats {
    name: String,
    pvc_ref: Option<PvcRef>,
    #[serde(flatten)]
    stats: FsStats,
}

#[derive(Deserialize)]
struct PvcRef {
    name: String,
}

async fn summary(client: &Client, node: &str) -> Result<Summary, SourceFailure> {
    let uri = format!("/api/v1/nodes/{node}/proxy/stats/summary");
    let request = http::Request::get(uri).body(Vec::new()).map_err(|error| error.to_string())?;
    match timeout(PATIENCE, client.request(request)).await {
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs()).into()),
        Ok(answer) => answer.map_err(|error| SourceFailure::of_client(&error)),
    }
}

/// Continues the series of a pod's resident memory, container by container.
fn note_resident(known: &mut Vec<Usage>, pod: &PodStats) {
    for container in &pod.containers {
        let Some((at, memory)) = container.memory.as_ref().and_then(|one| Some((one.time, one.rss_bytes?)))
        else {
            continue;
        };
        note_usage(known, &pod.pod_ref.name, &container.name, Sample { at, cpu: 0, memory });
    }
}

/// The spaces of a pod that have bounds of their own: its claims, its `emptyDir` volumes with a size limit,
/// and all that its containers' limits count together, as the kubelet does when it evicts.
fn view(pod: &PodStats, row: &PodRow) -> Vec<Volume> {
    let name = &pod.pod_ref.name;
    let volume = |kind, of: &str, stats: &FsStats, capacity: Option<i64>| {
        let (used, capacity) = (stats.used_bytes?, capacity?);
        Some(Volume { pod: name.clone(), kind, name: of.to_owned(), used, capacity, at: stats.time })
    };
    let own = pod.volumes.iter().filter_map(|one| {
        if let Some(claim) = &one.pvc_ref {
            return volume(VolumeKind::Claim, &claim.name, &one.stats, one.stats.capacity_bytes);
        }
        let (_, limit) = row.size_limits.iter().find(|(of, _)| *of == one.name)?;
        volume(VolumeKind::Ephemeral, &one.name, &one.stats, Some(*limit))
    });
    let sum = |of: fn(&ContainerStats) -> &Option<FsStats>| -> i64 {
        let all = pod.containers.iter().filter_map(|one| of(one).as_ref()?.used_bytes);
        all.fold(0, i64::saturating_add)
    };
    let (logs, files) = (sum(|one| &one.logs), sum(|one| &one.rootfs));
    let kind = if logs > files { VolumeKind::Logs } else { VolumeKind::Files };
    let all = pod.ephemeral.as_ref().and_then(|stats| volume(kind, "", stats, row.disk_limit));
    own.chain(all).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:01:00Z";

    fn row() -> PodRow {
        let wire = json!({
            "metadata": {
                "name": "a", "namespace": "mcp",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
            },
            "spec": {
                "nodeName": "one",
                "containers": [
                    {"name": "server", "resources": {"limits": {"ephemeral-storage": "80Mi"}}},
                    {"name": "proxy", "resources": {"limits": {"ephemeral-storage": "20Mi"}}},
                ],
                "volumes": [
                    {"name": "scratch", "emptyDir": {"sizeLimit": "50Mi"}},
                    {"name": "unbounded", "emptyDir": {}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
                ],
            },
        });
        super::super::pods::view(&serde_json::from_value(wire).unwrap()).unwrap().1
    }

    fn used(mib: i64) -> Value {
        json!({"time": NOW, "usedBytes": mib << 20, "capacityBytes": 1000 << 20})
    }

    fn seen(logs: i64, files: i64) -> Vec<(VolumeKind, String, i64, i64)> {
        let volume = |name: &str, mib: i64| {
            let mut stats = used(mib);
            stats["name"] = json!(name);
            stats
        };
        let mut claim = volume("data", 900);
        claim["pvcRef"] = json!({"name": "claim", "namespace": "mcp"});
        let stats = json!({"pods": [{
            "podRef": {"name": "a", "namespace": "mcp", "uid": "u"},
            "containers": [{"name": "server", "rootfs": used(files), "logs": used(logs)}, {"name": "proxy"}],
            "volume": [volume("scratch", 40), volume("unbounded", 60), claim, volume("token", 1)],
            "ephemeral-storage": used(90),
        }]});
        let summary: Summary = serde_json::from_value(stats).unwrap();
        let volumes = view(&summary.pods[0], &row()).into_iter();
        volumes.map(|one| (one.kind, one.name, one.used >> 20, one.capacity >> 20)).collect()
    }

    #[test]
    fn the_spaces_of_a_pod_are_those_that_have_bounds() {
        let expected = |kind, name: &str, used, capacity| (kind, name.to_owned(), used, capacity);
        let own = [
            expected(VolumeKind::Ephemeral, "scratch", 40, 50),
            expected(VolumeKind::Claim, "claim", 900, 1000),
        ];
        for (logs, files, kind) in [(5, 20, VolumeKind::Files), (20, 5, VolumeKind::Logs)] {
            let seen = seen(logs, files);
            assert_eq!(seen[..2], own);
            assert_eq!(seen[2..], [expected(kind, "", 90, 100)]);
        }
    }

    #[test]
    fn what_is_no_page_cache_is_kept_by_container_as_far_as_the_kubelet_tells_it() {
        let stats = |second: i64, rss: i64| {
            let time = format!("2026-01-01T00:00:{second:02}Z");
            let memory = json!({"time": time, "workingSetBytes": 900, "rssBytes": rss});
            let containers =
                json!([{"name": "server", "memory": memory}, {"name": "proxy", "memory": {"time": time}}]);
            let pod = json!({"podRef": {"name": "a", "namespace": "mcp"}, "containers": containers});
            serde_json::from_value::<PodStats>(pod).unwrap()
        };
        let mut known = Vec::new();
        for (second, rss) in [(10, 500), (10, 500), (20, 510)] {
            note_resident(&mut known, &stats(second, rss));
        }
        assert_eq!(known.len(), 1);
        let values: Vec<i64> = known[0].samples.iter().map(|sample| sample.memory).collect();
        assert_eq!((known[0].container.as_str(), values), ("server", vec![500, 510]));
    }

    #[test]
    fn spaces_are_worth_what_their_kubelets_answer_is_worth() {
        let at = |seconds: i64| NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
        let pods = [(Key::new("mcp", "a"), Arc::new(row()))];
        let reading = |node: Option<Node>, now: i64| {
            let mut inner = Inner::default();
            inner.nodes.extend(node.map(|node| ("one".into(), node)));
            inner.reading(&pods, at(now), SignedDuration::from_secs(90))
        };
        let answered =
            |why: Option<&str>| Node { answered: Some(at(0)), failing: why.map(|why| why.to_owned().into()) };
        assert_eq!(reading(None, 0), Reading::Off, "not asked yet");
        assert_eq!(reading(Some(answered(None)), 90), Reading::Fresh(Vec::new()));
        assert_eq!(reading(Some(answered(Some("gone"))), 30), Reading::Fresh(Vec::new()), "once is no time");
        assert_eq!(
            reading(Some(answered(Some("gone"))), 91),
            Reading::Stale { value: Vec::new(), at: at(0) }
        );
        for is_forbidden in [false, true] {
            let failing = SourceFailure { why: "no way".to_owned(), is_forbidden };
            let never = Node { answered: None, failing: Some(failing) };
            let why = "node one: no way".to_owned();
            let expected = if is_forbidden { Reading::Forbidden(why) } else { Reading::Unavailable(why) };
            assert_eq!(reading(Some(never), 0), expected);
        }
    }
}
