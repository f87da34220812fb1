//! `cargo xtask crds`: writes the CRD that the API types make, where people and the chart take it from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cluster::{Error, Result};
use mcp_health_api::{CustomResourceExt, McpServerHealth};

/// The file's name, by custom `plural.group.yaml`.
const FILE: &str = "mcpserverhealths.mcphealth.dev.yaml";

/// Where the CRD stands, below the project's root: for kubectl and kustomize, and for the chart.
pub fn places(root: &Path) -> [PathBuf; 2] {
    [root.join("crds").join(FILE), root.join("charts/mcp-health-operator/files/crds").join(FILE)]
}

/// The CRD as YAML.
pub fn yaml() -> Result<String> {
    let crd = serde_yaml_ng::to_string(&McpServerHealth::crd())
        .map_err(|error| Error::other(format!("the CRD cannot be written as YAML: {error}")))?;
    Ok(format!("# Made by `cargo xtask crds` from crates/api; not to be edited.\n{crd}"))
}

/// Writes it to all its places.
pub fn write(root: &Path) -> Result<()> {
    let text = yaml()?;
    for place in places(root) {
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        }
        fs::write(&place, &text).map_err(Error::file("write", &place))?;
        println!("{}", place.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crds_that_are_committed_are_those_that_the_types_make() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for place in places(&root) {
            let committed = fs::read_to_string(&place).unwrap_or_default();
            assert!(committed == yaml().unwrap(), "{} is old: run `cargo xtask crds`", place.display());
        }
    }
}
