//! What runs of a cluster.

use std::fmt;
use std::path::PathBuf;

use crate::command::{run, succeeds};
use crate::error::Result;
use crate::handle::Cluster;
use crate::kind::Kind;
use crate::node;
use crate::process::PidRecord;
use crate::state::{Layout, Saved};

/// The state of a cluster of ours at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What it has for a node.
    pub kind: Kind,
    /// The number of the node's first process, or of any where it is simulated; none when the cluster is
    /// down.
    pub node: Option<i32>,
    /// Each part and the number of its process; none for one that ended.
    pub parts: Vec<(String, Option<i32>)>,
    /// The versions of the parts.
    pub versions: Vec<(String, String)>,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// What the API server says about the node: `Ready`, `NotReady`, or why that is not known.
    pub readiness: String,
    /// Whether `kubectl top` has the node's figures: it has none in the first seconds.
    pub metrics: bool,
    /// Whether Prometheus is ready to be asked, as `prometheus.monitoring:9090`.
    pub prometheus: bool,
    /// Whether Alertmanager is ready to be asked, as `alertmanager.monitoring:9093`.
    pub alertmanager: bool,
}

impl Status {
    /// Looks at the cluster called `name`.
    pub fn of(name: &str) -> Result<Self> {
        let layout = Layout::new(name)?;
        let saved = Saved::load(&layout);
        let node = node::find(&layout, &saved).map(|record| record.pid);
        let running = |record: &PidRecord| record.is_alive().then_some(record.pid);
        let readiness = match (node, Cluster::open(name)) {
            (None, _) => "the cluster is down".to_owned(),
            (Some(_), Err(error)) => error.to_string(),
            (Some(_), Ok(cluster)) => {
                let query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
                let mut command = cluster.kubectl();
                command.args(["--request-timeout=5s", "get", "node", &layout.node_name(), "-o", query]);
                match run("asking for the node", &mut command) {
                    Ok(answer) if answer == "True" => "Ready".to_owned(),
                    Ok(_) => "NotReady".to_owned(),
                    Err(_) => "unknown: the API server does not answer".to_owned(),
                }
            }
        };
        let addons = match Cluster::open(name) {
            Ok(cluster) if readiness == "Ready" && saved.kind == Kind::Real => Some(cluster),
            _ => None,
        };
        // From here through the API server to a pod.
        let answers = |path: &str| {
            addons.as_ref().is_some_and(|cluster| {
                succeeds(cluster.kubectl().args(["--request-timeout=5s", "get", "--raw", path]))
            })
        };
        Ok(Self {
            name: name.to_owned(),
            kind: saved.kind,
            node,
            parts: saved.daemons.iter().map(|(name, record)| (name.clone(), running(record))).collect(),
            versions: saved.versions.clone().into_iter().collect(),
            kubeconfig: layout.kubeconfig(),
            // Its figures come from the kubelet.
            metrics: answers(&format!("/apis/metrics.k8s.io/v1beta1/nodes/{}", layout.node_name())),
            prometheus: answers("/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/-/ready"),
            alertmanager: answers("/api/v1/namespaces/monitoring/services/alertmanager:9093/proxy/-/ready"),
            readiness,
        })
    }

    /// Whether everything runs and the node is ready.
    pub fn is_ready(&self) -> bool {
        self.node.is_some() && self.readiness == "Ready" && self.parts.iter().all(|(_, pid)| pid.is_some())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster     {}", self.name)?;
        let simulated = self.kind == Kind::Simulated;
        let played = if simulated { ", simulated: nothing runs in its pods" } else { "" };
        writeln!(f, "node        {}{}", self.readiness, if self.node.is_some() { played } else { "" })?;
        let Some(node) = self.node else { return Ok(()) };
        if !simulated {
            let served = |yes| if yes { "served" } else { "not served, or not yet" };
            writeln!(f, "metrics     {}", served(self.metrics))?;
            let (prometheus, alertmanager) = (served(self.prometheus), served(self.alertmanager));
            writeln!(f, "prometheus  prometheus.monitoring:9090      {prometheus}")?;
            writeln!(f, "alerts      alertmanager.monitoring:9093    {alertmanager}")?;
        }
        writeln!(f, "kubeconfig  {}", self.kubeconfig.display())?;
        if !simulated {
            writeln!(f, "inside      nsenter -t {node} -m -n -p")?;
        }
        writeln!(f, "\n{:<26}PID", "PART")?;
        for (name, pid) in &self.parts {
            let pid = pid.map_or_else(|| "ended".to_owned(), |pid| pid.to_string());
            writeln!(f, "{name:<26}{pid}")?;
        }
        writeln!(f, "\n{:<26}VERSION", "BUILT")?;
        for (name, version) in &self.versions {
            writeln!(f, "{name:<26}{version}")?;
        }
        Ok(())
    }
}
