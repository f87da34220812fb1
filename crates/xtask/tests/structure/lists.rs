//! What was found, beside what is listed as not yet right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Something that a check does not hold for, and by how much.
pub struct Listed {
    name: String,
    amount: usize,
}

impl Listed {
    pub fn new(name: impl Into<String>, amount: usize) -> Self {
        Self { name: name.into(), amount }
    }
}

/// What is wrong, one line each: found and not listed, more than listed, or listed and not found any more. A
/// line of the list is a name and an amount; 1 where there is none.
pub fn compare(found: &[Listed], list: &str, what: &str) -> String {
    let listed: BTreeMap<&str, usize> = list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.rsplit_once(' ').map(|(name, amount)| (name, amount.parse())) {
            Some((name, Ok(amount))) => (name, amount),
            _ => (line, 1),
        })
        .collect();
    let mut wrong = String::new();
    for Listed { name, amount } in found {
        let allowed = listed.get(name.as_str()).copied().unwrap_or_default();
        if *amount > allowed {
            let _ = writeln!(wrong, "{name} {what}: {amount}, listed {allowed}");
        }
    }
    for name in listed.keys().filter(|name| found.iter().all(|one| one.name != **name)) {
        let _ = writeln!(wrong, "{name}: take it off the list, since it is right now");
    }
    wrong
}

#[test]
fn a_list_only_gets_shorter() {
    let found = [Listed::new("a b", 3), Listed::new("c", 1), Listed::new("d", 1)];
    let wrong = compare(&found, "# why\na b 2\nc\ne\n", "is long");
    assert_eq!(
        wrong,
        "a b is long: 3, listed 2\nd is long: 1, listed 0\ne: take it off the list, since it is right now\n"
    );
}
