//! NodeProblem: pods lost their readiness because the node that they run on fails: its kubelet reports that
//! it is not ready, or reports nothing, or the node is gone.
//!
//! Judged by the conditions and taints of nodes; where the operator may not read nodes, by what the control
//! plane did to the pods. The containers may be well all the while: nothing that is done to them brings the
//! node back. The other rules do not count these pods; pods on other nodes are healed as ever.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use mcp_health_api::{ActionType, Cause, IncidentType, Severity, Subject, SubjectKind};

use super::entry::{Class, Entry, Evidence, Needs, Rule, USUAL};
use crate::{
    Case, Server,
    case::lasting,
    finding::{Finding, Judgement},
    lost::{Loss, LostPod},
    signals::{Node, NodeReady, NodeSign},
    time::after,
    words,
};

pub const ENTRY: Entry = Entry {
    incident: IncidentType::NodeProblem,
    rule: Rule::Plain(judge),
    class: Class::Node,
    needs: Needs::All(&[Evidence::Pods]),
    lasting: Some(PATIENCE),
    explained_by_dependency: |_, _| false,
    guide: &[("004", "Service Not Responding")],
    ..USUAL
};

/// How long a node may fail: a kubelet that is restarted is not ready for some seconds.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// Nodes, and pods of a node, that are named.
const NAMED: usize = 3;

/// What is not done while all pods are on nodes that fail: the new pods, or the old ones, are not judged by
/// anything.
const NOTHING_TO_JUDGE: &[ActionType] = &[
    ActionType::RolloutRestart,
    ActionType::RecyclePod,
    ActionType::DrainAndRestart,
    ActionType::Rollback,
    ActionType::RollbackConfig,
    ActionType::RaiseResources,
    ActionType::RelaxStartupProbe,
    ActionType::SetEnv,
    ActionType::Scale,
];

fn judge(case: &Case, server: &Server) -> Judgement {
    let desired = usize::try_from(server.target.desired).unwrap_or_default();
    if server.lost.is_empty() || server.ready() >= desired {
        return Judgement::Clear;
    }
    let failing: Vec<&LostPod> = server.lost.iter().filter(|one| one.is_failing()).collect();
    let Some(since) = failing.iter().map(|one| one.since).min() else {
        let until = server.lost.iter().filter_map(|one| match one.loss {
            Loss::Recovering(until) => Some(until),
            _ => None,
        });
        return until.min().map_or(Judgement::Clear, |until| Judgement::Suspected { until });
    };
    let due = after(since, lasting(case, IncidentType::NodeProblem, PATIENCE));
    if due > case.now {
        return Judgement::Suspected { until: due };
    }
    let mut nodes: BTreeMap<&str, Vec<&LostPod>> = BTreeMap::new();
    for one in &failing {
        nodes.entry(one.name).or_default().push(one);
    }
    let mut evidence: Vec<String> =
        nodes.iter().take(NAMED).map(|(name, pods)| describe(name, pods)).collect();
    if nodes.len() > NAMED {
        evidence.push(format!("{} in all fail", words::count(nodes.len(), "node")));
    }
    evidence.push(format!(
        "{} lost readiness with the node, {} of {desired} wanted ready elsewhere",
        words::count(failing.len(), "pod"),
        words::count(server.ready(), "pod"),
    ));
    evidence.push(
        "a restart does not bring a node back: check its kubelet, its machine and its network; pods on other nodes \
         are healed as usual"
            .to_owned(),
    );
    Judgement::Found(Finding {
        subjects: nodes.keys().map(|name| Subject::new(SubjectKind::Node, *name)).collect(),
        forbids: if server.pods.is_empty() { NOTHING_TO_JUDGE } else { &[] },
        ..Finding::new(
            IncidentType::NodeProblem,
            failing.iter().map(|one| cause(one)).min().unwrap_or(Cause::NodeNotReady),
            if server.ready() == 0 { Severity::SEV1 } else { Severity::SEV2 },
            since,
            evidence,
        )
    })
}

fn cause(lost: &LostPod) -> Cause {
    match lost.loss {
        Loss::Failing(node) if node.out_of_service => Cause::NodeGone,
        Loss::Failing(node) if node.ready == NodeReady::Unknown => Cause::NodeUnreachable,
        Loss::Gone => Cause::NodeGone,
        _ => Cause::NodeNotReady,
    }
}

/// `node worker-2: NotReady (KubeletNotReady) since 12:01:07: container runtime is down; pods
/// search-6f4c-hvfpn`.
fn describe(name: &str, pods: &[&LostPod]) -> String {
    let why = pods.first().map(|first| match first.loss {
        Loss::Failing(node) => condition(node),
        Loss::Gone => "it was deleted".to_owned(),
        Loss::Sign(NodeSign::MarkedUnready) => format!(
            "the control plane marked its pods unready at {}, while their containers are ready",
            words::moment(first.since)
        ),
        Loss::Sign(NodeSign::DeletedByTaint) => "taint eviction deleted its pods".to_owned(),
        Loss::Recovering(_) => "it is ready again".to_owned(),
    });
    let named: Vec<&str> = pods.iter().take(NAMED).map(|one| one.pod.name.as_str()).collect();
    let more = if pods.len() > NAMED { ", …" } else { "" };
    format!("node {name}: {}; pods {}{more}", why.unwrap_or_default(), named.join(", "))
}

fn condition(node: &Node) -> String {
    let status = match node.ready {
        NodeReady::Ready => "Ready",
        NodeReady::NotReady => "NotReady",
        NodeReady::Unknown => "Ready is Unknown",
    };
    let mut words = format!("{status} ({}) since {}", node.reason, words::moment(node.since));
    if !node.message.is_empty() {
        words = format!("{words}: {}", words::shorten(&node.message, 120));
    }
    if node.out_of_service {
        words.push_str("; marked out of service");
    }
    if node.unschedulable {
        words.push_str("; cordoned");
    }
    if !node.pressures.is_empty() {
        words = format!("{words}; {}", node.pressures.join(", "));
    }
    words
}
