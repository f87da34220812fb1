//! What `cargo xtask test` tells the scenarios.

use std::path::PathBuf;

/// The value of a variable; without it there is no cluster to tell a story on.
fn set(name: &str) -> String {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test`, which sets it"))
}

/// kubectl.
pub fn kubectl() -> PathBuf {
    set("MCP_HEALTH_KUBECTL").into()
}

/// Helm.
pub fn helm() -> PathBuf {
    set("MCP_HEALTH_HELM").into()
}

/// The folder of the operator's chart.
pub fn chart() -> PathBuf {
    set("MCP_HEALTH_CHART").into()
}

/// The operator's image, with its tag.
pub fn operator_image() -> String {
    set("MCP_HEALTH_OPERATOR_IMAGE")
}

/// The demo server's image, with its tag.
pub fn demo_image() -> String {
    set("MCP_HEALTH_DEMO_IMAGE")
}

/// The operator as a program of this machine.
pub fn operator_program() -> PathBuf {
    set("MCP_HEALTH_OPERATOR_BIN").into()
}

/// The kubeconfig whose current context is the cluster.
pub fn kubeconfig() -> PathBuf {
    set("KUBECONFIG").into()
}

/// The context of a cluster that was there before; none for the one that `cargo xtask cluster` brought up.
pub fn foreign_context() -> Option<String> {
    std::env::var("MCP_HEALTH_CONTEXT").ok().filter(|context| !context.is_empty())
}

/// The cluster of `cargo xtask cluster`, by its name, where its node is simulated: nothing runs in its pods.
pub fn simulated() -> Option<String> {
    std::env::var_os("MCP_HEALTH_NOT_SHOWN").map(|_| set("MCP_HEALTH_CLUSTER"))
}

/// Notes that the running test could not ask an MCP client, for the report at the end.
pub fn not_shown() {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("{}\n", thread.name().unwrap_or("a scenario"));
    let file = std::fs::File::options().append(true).create(true).open(set("MCP_HEALTH_NOT_SHOWN"));
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("what was not shown can be noted");
}

/// Fails a test that needs a node which runs containers, where there is none.
pub fn needs_a_node(what: &str) {
    assert!(
        simulated().is_none(),
        "{what} needs a node that runs containers: put this test into tests/needs_a_node.txt, with the reason"
    );
}

/// Whether what a scenario made stays for a person to look at.
pub fn keep() -> bool {
    std::env::var_os("MCP_HEALTH_KEEP").is_some_and(|value| !value.is_empty())
}

/// Where what takes long to make is kept from one run to the next.
pub fn cache() -> PathBuf {
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("MCP_HEALTH_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("mcp-health-operator")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/mcp-health-operator")))
        .expect("MCP_HEALTH_CACHE or HOME is set: there is nowhere to keep the cache")
}
