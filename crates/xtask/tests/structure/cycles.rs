//! Files that import each other, in however many steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::imports::Imports;

/// A cycle: its files, and what each takes from which other.
pub struct Cycle(Imports);

/// All cycles, each as large as it is.
pub fn of(imports: &Imports) -> Vec<Cycle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(imports, file))).collect();
    let mut cycles: Vec<BTreeSet<&str>> = Vec::new();
    for (file, others) in &reached {
        let cycle: BTreeSet<&str> =
            others.iter().copied().filter(|other| reached[other].contains(file)).collect();
        if cycle.contains(file) && !cycles.contains(&cycle) {
            cycles.push(cycle);
        }
    }
    cycles.iter().map(|cycle| Cycle::of(imports, cycle)).collect()
}

/// The files that a file imports, and those that these import, and so on.
fn reached<'a>(imports: &'a Imports, file: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        for other in imports[file].keys() {
            if found.insert(other.as_str()) {
                next.push(other);
            }
        }
    }
    found
}

impl Cycle {
    fn of(imports: &Imports, files: &BTreeSet<&str>) -> Self {
        let inside = |file: &&str| {
            let taken = imports[*file].iter().filter(|(other, _)| files.contains(other.as_str()));
            ((*file).to_owned(), taken.map(|(other, names)| (other.clone(), names.clone())).collect())
        };
        Self(files.iter().map(inside).collect())
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// As text: one line for each two files.
    pub fn drawn(&self) -> String {
        let mut text = format!("{} files:\n", self.0.len());
        for (file, taken) in &self.0 {
            for (other, names) in taken {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let _ = writeln!(text, "  {file} -> {other}: {}", names.join(", "));
            }
        }
        text
    }
}

#[test]
fn a_cycle_of_three_is_found_and_what_hangs_on_it_is_not_part_of_it() {
    let imports: Imports = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("c", "e")].into_iter().fold(
        ["a", "b", "c", "d", "e"].map(|file| (file.to_owned(), BTreeMap::new())).into(),
        |mut imports: Imports, (from, to)| {
            let names = BTreeSet::from(["N".to_owned()]);
            imports.get_mut(from).unwrap().insert(to.to_owned(), names);
            imports
        },
    );
    let cycles = of(&imports);
    assert_eq!(cycles.len(), 1);
    assert_eq!(cycles[0].drawn(), "3 files:\n  a -> b: N\n  b -> c: N\n  c -> a: N\n");
}
