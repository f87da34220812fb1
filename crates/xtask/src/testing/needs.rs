//! Which tests need a node that runs containers: one list, `tests/needs_a_node.txt`.

use cluster::kind::Kind;

/// One test a line: its name, and why.
const LIST: &str = include_str!("../../../../tests/needs_a_node.txt");

/// The tests that a simulated node cannot run, each with its reason.
pub fn a_node() -> Vec<(&'static str, &'static str)> {
    let lines = LIST.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").unwrap_or((line, "needs a node"))).collect()
}

/// What tells a test program to leave them out.
pub fn skipped(kind: Option<Kind>) -> Vec<&'static str> {
    if kind != Some(Kind::Simulated) {
        return Vec::new();
    }
    a_node().into_iter().flat_map(|(name, _)| ["--skip", name]).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else {
                *all += &fs::read_to_string(&path).unwrap();
            }
        }
    }

    #[test]
    fn every_test_in_the_list_is_there() {
        let root = crate::workspace::root();
        let mut all = String::new();
        for folder in ["tests/tests", "crates/xtask/tests", "crates/cluster/tests"] {
            sources(&root.join(folder), &mut all);
        }
        for (name, why) in a_node() {
            assert!(all.contains(&format!("fn {name}(")), "{name}");
            assert!(why.len() > 10, "{name}: {why}");
        }
    }

    #[test]
    fn only_a_simulated_node_leaves_tests_out() {
        assert!(skipped(Some(Kind::Real)).is_empty() && skipped(None).is_empty());
        assert_eq!(skipped(Some(Kind::Simulated)).len(), 2 * a_node().len());
    }
}
