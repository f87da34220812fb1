//! What is built beside everything else where this machine runs the demo for the first time: the programs of
//! the images while the cluster's parts are built, and what only later acts need while the first ones play.

use std::process::Command;

use cluster::error::{Error, Result};
use cluster::node::OPERATOR;
use cluster::parts::{self, ADDONS, REAL};
use cluster::progress::say;
use cluster::{Cluster, Plan};

use crate::background::Background;
use crate::install::DEMO_SERVER;
use crate::workspace;

/// Says what has to be built for a real node, and how long that takes; starts to build the images' programs
/// where it takes long.
pub fn begin() -> Result<Option<Background>> {
    let missing = parts::missing(&REAL)?;
    if missing.is_empty() {
        return Ok(None);
    }
    let names = missing.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
    say(&format!(
        "This machine has to build first, once: {names}. The first act plays after 15 to 20 minutes on 2 \
         cores; the next demo begins at once."
    ));
    let cargo = workspace::release_build(&[OPERATOR, DEMO_SERVER]);
    Background::start("building the operator and the demo server", "programs.log", 0, cargo).map(Some)
}

/// How the cluster is brought up: at first without what has to be built and only later acts need.
pub fn plan(plan: Plan) -> Result<Plan> {
    Ok(Plan { addons: parts::missing(ADDONS)?.is_empty(), ..plan })
}

/// Brings up what the cluster does not have yet.
pub fn complete(cluster: &Cluster, plan: Plan) -> Result<Option<Background>> {
    if plan.addons || !cluster.is_ours() || cluster.is_simulated() {
        return Ok(None);
    }
    let program = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    let mut command = Command::new(program);
    command.args(["cluster", "up", "--name", &cluster.name]);
    if !plan.install {
        command.arg("--no-install");
    }
    let what = "bringing up what the later acts need: DNS, metrics-server, Prometheus, Alertmanager";
    Background::start(what, "addons.log", 15, command).map(Some)
}
