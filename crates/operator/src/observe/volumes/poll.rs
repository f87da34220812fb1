//! The poll of kubelets.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    super::{pods::PodRow, stores::Stores, table::Key},
    Node, note_resident, summary, view,
};

/// Kubelets that are asked at the same time: one that is dead must not make what the others told old.
const AT_ONCE: usize = 8;

/// Asks the kubelets whenever the clock ticks, until the operator ends.
pub async fn keep(stores: Arc<Stores>, client: Client, period: Duration) {
    let Some(spaces) = &stores.volumes else { return };
    let mut clock = interval(period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let servers = stores.pods_of_targets();
        let pods: HashMap<&Key, &Arc<PodRow>> =
            servers.iter().flat_map(|(_, pods)| pods).map(|(key, row)| (key, row)).collect();
        let nodes: BTreeSet<Arc<str>> = pods.values().filter_map(|row| row.node.clone()).collect();
        let ask = |node: Arc<str>| {
            let client = &client;
            async move {
                let answer = summary(client, &node).await;
                (node, answer)
            }
        };
        let mut answers = stream::iter(nodes.clone()).map(ask).buffer_unordered(AT_ONCE);
        while let Some((node, answer)) = answers.next().await {
            let mut inner = spaces.lock();
            let known = inner.nodes.entry(Arc::clone(&node)).or_default();
            match answer {
                Ok(summary) => {
                    *known = Node { answered: Some(Timestamp::now()), failing: None };
                    for pod in summary.pods {
                        let key = Key::new(&pod.pod_ref.namespace, &pod.pod_ref.name);
                        if let Some(row) = pods.get(&key) {
                            let view = view(&pod, row);
                            note_resident(inner.resident.entry(key.clone()).or_default(), &pod);
                            inner.spaces.insert(key, view);
                        }
                    }
                }
                Err(failing) => {
                    if known.failing.as_ref() != Some(&failing) {
                        tracing::warn!(
                            node = &*node,
                            why = failing.why,
                            "a kubelet's statistics cannot be had; it is asked again"
                        );
                    }
                    known.failing = Some(failing);
                }
            }
        }
        let mut inner = spaces.lock();
        inner.nodes.retain(|node, _| nodes.contains(node));
        inner.spaces.retain(|key, _| pods.contains_key(key));
        inner.resident.retain(|key, _| pods.contains_key(key));
        drop(inner);
        let targets = servers.iter().map(|(deployment, _)| deployment);
        stores.judge_again(targets.flat_map(|deployment| stores.targets.of(deployment)), Timestamp::now());
    }
}
