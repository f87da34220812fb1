//! Words of a foreign program.

use crate::{mask::mask, words};

/// How much of a foreign program's words is kept, in bytes.
const WORDS: usize = 160;

/// Words of a foreign program as a person may see them: one line, without the credential that it was shown,
/// masked and shortened. Empty where it said nothing.
pub fn foreign(text: &str, hidden: Option<&str>) -> String {
    let text = match hidden.filter(|hidden| !hidden.is_empty()) {
        Some(hidden) => text.replace(hidden, "***"),
        None => text.to_owned(),
    };
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // What is shown at the end is short: a page of a megabyte need not be read to its end for it.
    let line = words::shorten(&line, 8 * WORDS);
    words::shorten(&mask(&line.split_whitespace().collect::<Vec<_>>().join(" ")), WORDS)
}
