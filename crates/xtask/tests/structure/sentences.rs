//! Where code reads a sentence.

use super::words::{Source, Word};

/// What sentences are called, here and in what others send.
const SENTENCES: [&str; 10] =
    ["evidence", "headline", "line", "message", "note", "problem", "reason", "resolution", "summary", "why"];
/// How a part of a text is looked for.
const LOOKS: [&str; 10] = [
    "contains",
    "ends_with",
    "find",
    "rsplit_once",
    "split",
    "split_once",
    "splitn",
    "starts_with",
    "strip_prefix",
    "strip_suffix",
];
/// What makes a text of a field, before it is looked into.
const ON_THE_WAY: [&str; 3] = ["as_deref", "as_ref", "as_str"];

/// The lines on which a sentence is looked into for a part that is written there.
pub fn read_on(source: &Source) -> Vec<usize> {
    of_words(&source.words())
}

fn of_words(words: &[Word]) -> Vec<usize> {
    let text = |at: usize| words.get(at).map_or("", |word| word.text);
    let is_read = |at: usize| {
        let mut next = at + 1;
        while text(next) == "." && ON_THE_WAY.contains(&text(next + 1)) {
            next += 4;
        }
        let looks = text(next) == "." && LOOKS.contains(&text(next + 1)) && text(next + 2) == "(";
        let part = text(next + 3);
        looks && (["\"", "&", "["].contains(&part) || part.starts_with(char::is_uppercase))
    };
    let sentences = (0..words.len()).filter(|at| SENTENCES.contains(&words[*at].text));
    sentences.filter(|at| is_read(*at)).map(|at| words[at].line).collect()
}

#[test]
fn a_sentence_that_is_read_is_found_as_a_field_and_as_a_name() {
    let text = "one.message.contains(\"a\");
                line.starts_with(BEGIN) || line.starts_with(&b(c));
                why.as_str().split_once(\": \");
                lines.contains(\"d\") || message.len() > reasons.find(reason);";
    assert_eq!(of_words(&super::words::words(text)), [1, 2, 2, 3]);
}
