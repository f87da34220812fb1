//! What the demo puts into a cluster, and takes out again. What others put there is left alone.

use cluster::Cluster;
use cluster::error::{Error, Result};
use cluster::progress::Step;
use serde_json::Value;

use super::names::{NAMESPACE, OPERATOR_NAMESPACE, RELEASE};
use crate::install::helm_uninstall;

/// On the namespaces that the demo made.
const LABEL: &str = "mcphealth.dev/demo";

/// The CRD's name.
const CRD: &str = "mcpserverhealths.mcphealth.dev";

/// An error where the demo's namespaces are somebody else's, or where an operator is installed that would act
/// on the demo's server too.
pub fn refuse_what_is_not_ours(cluster: &Cluster) -> Result<()> {
    let ours = made_by_the_demo(cluster)?;
    for namespace in [NAMESPACE, OPERATOR_NAMESPACE] {
        let found =
            cluster.kubectl_run(["get", "namespace", namespace, "--ignore-not-found", "-o", "name"])?;
        if !found.trim().is_empty() && !ours.iter().any(|one| one == namespace) {
            return Err(Error::other(format!(
                "the namespace {namespace} of the cluster {} is in use, and the demo would get in the way. Run it in a \
                 cluster of its own: cargo xtask demo --name demo",
                cluster.name
            )));
        }
    }
    if let Some(other) = other_operator(cluster)? {
        return Err(Error::other(format!(
            "an operator is installed already ({other}), and would act on the demo's server too. Run the demo in a \
             cluster of its own: cargo xtask demo --name demo"
        )));
    }
    Ok(())
}

/// Removes what an earlier demo left, and makes the namespaces.
pub fn prepare(cluster: &Cluster) -> Result<()> {
    if !made_by_the_demo(cluster)?.is_empty() {
        remove(cluster, true)?;
    }
    for namespace in [NAMESPACE, OPERATOR_NAMESPACE] {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{{LABEL}: \"true\"}}}}\n"
        ))?;
    }
    Ok(())
}

/// Removes what the demo made. The CRD stays where it was there before, or while anybody uses it.
pub fn remove(cluster: &Cluster, keep_crd: bool) -> Result<()> {
    let step = Step::start("removing what the demo made");
    // The server goes while the operator is uninstalled.
    cluster.kubectl_run(["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"])?;
    helm_uninstall(cluster, RELEASE, OPERATOR_NAMESPACE)?;
    let namespaces = ["delete", "namespace", NAMESPACE, OPERATOR_NAMESPACE];
    cluster.kubectl_run(namespaces.iter().chain(&["--ignore-not-found", "--timeout=2m"]))?;
    if !keep_crd && has_crd(cluster) {
        let used = cluster.kubectl_run(["get", CRD, "--all-namespaces", "-o", "name"])?;
        if used.trim().is_empty() {
            cluster.kubectl_run(["delete", "customresourcedefinition", CRD, "--ignore-not-found"])?;
        }
    }
    step.done();
    Ok(())
}

/// Whether the CRD is in the cluster.
pub fn has_crd(cluster: &Cluster) -> bool {
    cluster
        .kubectl_run(["get", "customresourcedefinition", CRD, "--ignore-not-found", "-o", "name"])
        .is_ok_and(|found| !found.trim().is_empty())
}

/// The namespaces that a demo made.
fn made_by_the_demo(cluster: &Cluster) -> Result<Vec<String>> {
    let names = "jsonpath={range .items[*]}{.metadata.name}{'\\n'}{end}";
    let selector = format!("--selector={LABEL}=true");
    let found = cluster.kubectl_run(["get", "namespaces", &selector, "-o", names])?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// An operator outside the demo that looks after the demo's namespace.
fn other_operator(cluster: &Cluster) -> Result<Option<String>> {
    let selector = "--selector=app.kubernetes.io/name=mcp-health-operator";
    let found = cluster.kubectl_run(["get", "deployments", "--all-namespaces", selector, "-o", "json"])?;
    let found: Value = serde_json::from_str(&found)
        .map_err(|error| Error::other(format!("cannot read the cluster's Deployments: {error}")))?;
    let items = found["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let others = items.iter().filter(|one| {
        let place = one["metadata"]["namespace"].as_str().unwrap_or_default();
        place != OPERATOR_NAMESPACE && watches(one, NAMESPACE)
    });
    Ok(others
        .map(|one| {
            let text = |field: &str| one["metadata"][field].as_str().unwrap_or_default();
            format!("{} in {}", text("name"), text("namespace"))
        })
        .next())
}

/// Whether an operator's Deployment looks after a namespace: it names it, or names none.
fn watches(deployment: &Value, namespace: &str) -> bool {
    let containers = deployment.pointer("/spec/template/spec/containers");
    let arguments = containers
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|container| container["args"].as_array())
        .flatten();
    let mut named = arguments.filter_map(|argument| argument.as_str()?.strip_prefix("--watch-namespaces="));
    named.next().is_none_or(|names| names.split(',').any(|name| name == namespace))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operator_looks_after_what_it_names_or_everything() {
        let deployment =
            |args: Value| json!({"spec": {"template": {"spec": {"containers": [{"args": args}]}}}});
        assert!(watches(&deployment(json!([])), "mcp"));
        assert!(watches(&deployment(json!(["--watch-namespaces=a,mcp"])), "mcp"));
        assert!(!watches(&deployment(json!(["--watch-namespaces=a,mcp2"])), "mcp"));
    }
}
