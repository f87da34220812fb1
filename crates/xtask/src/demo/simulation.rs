//! What the demo says where the node is simulated: before and after, what was played and what was not shown.

use super::acts::Act;
use super::screen::heading;
use crate::Cluster;
use crate::error::Error;

/// The acts that this cluster can show, and those that it cannot.
pub fn split(cluster: &Cluster, acts: Vec<&'static Act>) -> (Vec<&'static Act>, Vec<&'static Act>) {
    acts.into_iter().partition(|act| !cluster.is_simulated() || act.needs_a_node.is_none())
}

/// An error that names the acts that need a node.
pub fn nothing_to_show(not_shown: &[&Act]) -> Error {
    Error::other(format!("nothing can be shown on a simulated node: {}", listed(not_shown).join("; ")))
}

/// Says what is real and what is played.
pub fn say_before(not_shown: &[&Act]) {
    heading("The node is SIMULATED.");
    println!(
        "Real: etcd, the API server, the controllers, the scheduler, the chart's rights, and the operator, which runs \
         as a process of this machine with a token of its ServiceAccount.\n\
         Played: the node and what it reports about pods. They get ready, end with an exit code and are killed at \
         their memory limit by what their template says; no container runs and no probe is asked."
    );
    for line in listed(not_shown) {
        println!("Not shown: {line}.");
    }
}

/// Says it again, once one has seen it.
pub fn say_after(acts: &[&Act], not_shown: &[&Act]) {
    heading("What this does not show");
    let names = acts.iter().map(|act| act.name).collect::<Vec<_>>().join(", ");
    println!(
        "The pods of {names} were simulated: every crash, every kill and every ready pod above was played. That an MCP \
         client is served again was not shown: nothing ran that could have served one."
    );
    for line in listed(not_shown) {
        println!("Not shown: {line}.");
    }
    println!("A machine with root, or a cluster of yours (--context NAME), shows all of it.");
}

fn listed(acts: &[&Act]) -> Vec<String> {
    acts.iter().filter_map(|act| Some(format!("the act {}, since {}", act.name, act.needs_a_node?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::acts::ACTS;
    use super::*;

    #[test]
    fn what_is_not_shown_is_named_with_its_reason() {
        let acts: Vec<&Act> = ACTS.iter().filter(|act| act.needs_a_node.is_some()).collect();
        let error = nothing_to_show(&acts).to_string();
        assert!(error.contains("broken-config") && error.contains("ConfigMap"), "{error}");
    }
}
