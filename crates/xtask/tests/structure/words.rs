//! Rust as words: without comments, spaces, and what stands in strings.

use std::fs;
use std::path::{Path, PathBuf};

/// One word, or one sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// A name, a keyword or a number; a single sign; `"` for a string or a character.
    pub text: &'a str,
    /// Its line, from 1.
    pub line: usize,
}

impl Word<'_> {
    pub fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A file of the project.
pub struct Source {
    /// Its path below the project's root.
    pub path: String,
    pub text: String,
}

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Source {
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// All files of all crates, tests included.
    pub fn all() -> impl Iterator<Item = Self> {
        let mut paths = Vec::new();
        for folder in ["crates", "tests"] {
            below(folder, &mut paths);
        }
        paths.sort();
        paths.into_iter().map(|path| Self::read(&path))
    }

    /// Its words, without those of what only tests are compiled with.
    pub fn words(&self) -> Vec<Word<'_>> {
        without_tests(&words(&self.text))
    }
}

fn below(folder: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("/target") {
                below(&path, paths);
            }
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// All words of a text.
pub fn words(text: &str) -> Vec<Word<'_>> {
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(first) = text[at..].chars().next() {
        let length = length(&text[at..], first);
        let piece = &text[at..at + length];
        if first.is_alphanumeric() || first == '_' || first == '"' || first == '\'' {
            let quoted = piece.ends_with(['"', '#']) || (piece.len() > 1 && piece.ends_with('\''));
            found.push(Word { text: if quoted { "\"" } else { piece.trim_start_matches("r#") }, line });
        } else if !first.is_whitespace() && !piece.starts_with("//") && !piece.starts_with("/*") {
            found.push(Word { text: piece, line });
        }
        line += piece.matches('\n').count();
        at += length;
    }
    found
}

/// How long the next word is, a comment or a space being one too.
fn length(text: &str, first: char) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return comment(text);
    }
    if first == '"' {
        return string(text);
    }
    if first == '\'' {
        return character(text);
    }
    if !(first.is_alphanumeric() || first == '_') {
        return first.len_utf8();
    }
    let name = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let rest = &text[name..];
    match (&text[..name], rest.chars().next()) {
        ("b" | "c", Some('"')) => name + string(rest),
        ("b", Some('\'')) => name + character(rest),
        ("r" | "br" | "cr", Some('"' | '#')) => {
            let hashes = rest.find(|c| c != '#').unwrap_or(0);
            if !rest[hashes..].starts_with('"') {
                // A name that is a keyword elsewhere: r#type.
                let word = &rest[1..];
                return name
                    + 1
                    + word.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(word.len());
            }
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 1;
            name + body + rest[body..].find(&end).map_or(rest.len() - body, |found| found + end.len())
        }
        _ => name,
    }
}

/// Comments of this kind may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// A character, or a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text.char_indices().skip(1);
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), _) => text[3..].find('\'').map_or(text.len(), |at| at + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => {
            let name = &text[1..];
            1 + name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len())
        }
    }
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests<'a>(words: &[Word<'a>]) -> Vec<Word<'a>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let is_marked = words.len() >= at + MARK.len()
            && words[at..at + MARK.len()].iter().zip(MARK).all(|(word, mark)| word.text == mark);
        if is_marked {
            at = end_of_item(words, at + MARK.len());
        } else {
            kept.push(words[at]);
            at += 1;
        }
    }
    kept
}

/// The place behind an item: behind its semicolon, or behind its braces.
fn end_of_item(words: &[Word], mut at: usize) -> usize {
    let (mut depth, mut ends_with_brace) = (0, true);
    while at < words.len() {
        match words[at].text {
            "use" | "const" | "static" | "let" | "type" if depth == 0 => {
                ends_with_brace = words.get(at + 1).is_some_and(|next| next.text == "fn");
            }
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        let last = words[at - 1].text;
        if depth == 0 && (last == ";" || (last == "}" && ends_with_brace)) {
            break;
        }
    }
    at
}

#[test]
fn words_are_read_without_comments_and_strings() {
    let text =
        "fn a<'x>(b: &'x str) { /* c /* d */ */ \"e \\\" f\"; 'g'; '\\n'; r#\"h\"#; b'i' } // j\nr#type é";
    let read: Vec<_> = words(text).iter().map(|word| word.text).collect();
    let all =
        ["fn", "a", "<", "'x", ">", "(", "b", ":", "&", "'x", "str", ")", "{", "\"", ";", "\"", ";", "\""];
    assert_eq!(read[..18], all);
    assert_eq!(read[18..], [";", "\"", ";", "\"", "}", "type", "é"]);
    assert_eq!(words(text).last().unwrap().line, 2);
}

#[test]
fn what_only_tests_have_is_left_out() {
    let text = "#[cfg(test)] use a::{b}; #[cfg(test)] #[x] mod tests { fn c() {} } fn d() {}";
    let read: Vec<_> = without_tests(&words(text)).iter().map(|word| word.text).collect();
    assert_eq!(read, ["fn", "d", "(", ")", "{", "}"]);
}
