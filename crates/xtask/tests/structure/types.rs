//! The public types of a crate by their names.

use std::collections::BTreeMap;

use super::lists::Listed;
use super::words::Source;

/// The names that more than one public type has, with how many have it.
pub fn named_twice(sources: &[&Source]) -> Vec<Listed> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources {
        let words = source.words();
        for at in 1..words.len() {
            let is_type = ["struct", "enum", "trait", "type", "union"].contains(&words[at].text);
            let is_public = ["pub", ")"].contains(&words[at - 1].text);
            if let (true, true, Some(name)) = (is_type, is_public, words.get(at + 1)) {
                *names.entry(name.text.to_owned()).or_default() += 1;
            }
        }
    }
    names.into_iter().filter(|(_, count)| *count > 1).map(|(name, count)| Listed::new(name, count)).collect()
}
