//! Memory and reaction, measured on a cluster of its own whose nodes are simulated, and which is removed at
//! the end.

use cluster::command::spawn_error;
use cluster::error::{Error, Result};
use cluster::kind::Wanted;
use cluster::{Cluster, Plan, down};

use crate::{crds, workspace};

/// The cluster's name.
const NAME: &str = "mcp-health-bench";

/// The simulated nodes take 250 pods each.
const NODES: u32 = 15;

/// Builds the operator, and runs `tests/benches/numbers.rs`.
pub fn run() -> Result<()> {
    // Both, as everywhere: alone, what they share would be built once more.
    let programs = workspace::build_release(&["mcp-health-operator", "mcp-demo-server"])?;
    let operator = programs.first().ok_or_else(|| Error::other("cargo has built no operator"))?;
    let plan =
        Plan { node: Wanted::Simulated, simulated_nodes: Some(NODES), addons: false, ..Plan::default() };
    let cluster = Cluster::up(NAME, &plan)?;
    let measured = measure(&cluster, operator);
    down::down(NAME)?;
    measured
}

fn measure(cluster: &Cluster, operator: &std::path::Path) -> Result<()> {
    cluster.apply(&crds::yaml()?)?;
    let mut bench = workspace::cargo();
    bench.args(["bench", "--quiet", "--package=mcp-health-e2e", "--bench=numbers"]);
    bench.env("KUBECONFIG", &cluster.kubeconfig).env("MCP_HEALTH_OPERATOR_BIN", operator);
    let status = bench.status().map_err(|error| spawn_error(&bench, error))?;
    status.success().then_some(()).ok_or_else(|| Error::other("the measurement has failed; see above"))
}
