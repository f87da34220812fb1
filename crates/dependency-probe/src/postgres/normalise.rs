//! Statements without their literals: no string, number, comment or dollar quote of anybody's comes further
//! than this. Where it is not certain where a literal ends, everything after its beginning is left out.

use mcp_health_core::{mask::mask, words::shorten};

/// The most characters of a statement that are told (guide 000).
pub const LENGTH: usize = 200;
/// What stands for a literal.
const LITERAL: &str = "?";

/// A statement, on one line, without literals, comments and control characters, at most [`LENGTH`] characters
/// long.
pub fn normalise(query: &str) -> String {
    let mut rest = query;
    let mut tokens: Vec<&str> = Vec::new();
    while let Some(first) = rest.chars().next() {
        // It ends far behind what is told.
        if tokens.len() > 4 * LENGTH {
            break;
        }
        let (token, length) = token(rest, first);
        rest = rest.get(length.max(first.len_utf8())..).unwrap_or_default();
        let Some(token) = token else { continue };
        if !(token == LITERAL && in_list(&tokens)) {
            tokens.push(token);
        } else if tokens.last() == Some(&",") {
            tokens.pop();
        }
    }
    shorten(&mask(&joined(&tokens)), LENGTH)
}

/// The token that a text begins with, as it is told, and its length in bytes.
fn token(text: &str, first: char) -> (Option<&str>, usize) {
    let second = text[first.len_utf8()..].chars().next();
    match (first, second) {
        ('-', Some('-')) => (None, text.find(['\n', '\r']).unwrap_or(text.len())),
        ('/', Some('*')) => (None, comment(text)),
        ('\'', _) => (Some(LITERAL), string(text, 1, true)),
        ('e' | 'E', Some('\'')) => (Some(LITERAL), string(text, 2, false)),
        ('b' | 'B' | 'x' | 'X' | 'n' | 'N', Some('\'')) => (Some(LITERAL), string(text, 2, true)),
        ('u' | 'U', Some('&')) if text[2..].starts_with('\'') => (Some(LITERAL), string(text, 3, true)),
        ('"', _) => quoted_name(text),
        ('$', _) => dollar(text),
        ('0'..='9', _) | ('.', Some('0'..='9')) => (Some(LITERAL), number(text)),
        (c, _) if is_name_start(c) => {
            let length = text.find(|c: char| !is_name_part(c)).unwrap_or(text.len());
            (Some(&text[..length]), length)
        }
        (c, _) if c.is_whitespace() || c.is_control() => (None, c.len_utf8()),
        (c, _) => (Some(&text[..c.len_utf8()]), c.len_utf8()),
    }
}

/// The length of a string that begins with a prefix and a quote of so many bytes. Whether a backslash escapes
/// in a plain string is a setting of somebody else's session: with one before a quote, nothing after it is
/// certain.
fn string(text: &str, begin: usize, is_plain: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = begin;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if is_plain && bytes[at..].iter().find(|byte| **byte != b'\\') == Some(&b'\'') => {
                return text.len();
            }
            b'\\' if !is_plain => at += 1,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 1,
            b'\'' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// A name in quotes is told without them; one that does not end may be anything.
fn quoted_name(text: &str) -> (Option<&str>, usize) {
    match text[1..].find('"') {
        Some(length) => (Some(&text[1..=length]).filter(|name| !name.is_empty()), length + 2),
        None => (Some(LITERAL), text.len()),
    }
}

/// `$1`, or `$tag$ … $tag$`.
fn dollar(text: &str) -> (Option<&str>, usize) {
    let name = text[1..].find(|c: char| !is_name_part(c) || c == '$').map_or(text.len(), |length| length + 1);
    if text[1..name].starts_with(|c: char| c.is_ascii_digit()) {
        let digits = text[1..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |length| length + 1);
        return (Some(&text[..digits]), digits);
    }
    if !text[name..].starts_with('$') {
        // A tag that is cut off, at the end; a lone dollar before.
        return if name == text.len() { (Some(LITERAL), name) } else { (Some("$"), 1) };
    }
    let tag = &text[..=name];
    let end = text[tag.len()..].find(tag).map_or(text.len(), |length| length + 2 * tag.len());
    (Some(LITERAL), end)
}

/// `12`, `1.5e-10`, `0x1F`, `1_000`; and whatever is written right behind it.
fn number(text: &str) -> usize {
    let mut before = ' ';
    let is_part = |c: char| {
        let part = c.is_alphanumeric()
            || matches!(c, '.' | '_')
            || (matches!(c, '+' | '-') && matches!(before, 'e' | 'E'));
        before = c;
        part
    };
    let mut is_part = is_part;
    text.find(|c: char| !is_part(c)).unwrap_or(text.len())
}

/// The length of a comment, with those inside of it.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(next) = text[at..].find(['/', '*']) {
        at += next;
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => depth += 1,
            Some(b"*/") => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())
}

fn is_name_part(c: char) -> bool {
    is_name_start(c) || c.is_numeric() || c == '$'
}

/// Whether a literal that comes now follows another one: `IN (?, ?, ?)` is told as `IN (?)`.
fn in_list(tokens: &[&str]) -> bool {
    matches!(tokens, [.., one, ","] if *one == LITERAL) || matches!(tokens, [.., one] if *one == LITERAL)
}

/// Words that a bracket does not belong to, as it does to a function.
const NO_CALLS: [&str; 10] = ["in", "values", "and", "or", "not", "as", "from", "select", "where", "on"];

fn joined(tokens: &[&str]) -> String {
    let mut text = String::new();
    let mut before = "";
    let is_word = |token: &str| token.chars().next().is_some_and(|c| is_name_part(c) || c == '?');
    for token in tokens {
        let is_close = match *token {
            "(" => {
                matches!(before, "(" | ".")
                    || (is_word(before) && !NO_CALLS.contains(&before.to_ascii_lowercase().as_str()))
            }
            "," | ";" | ")" | "." | "[" | "]" | ":" => true,
            _ if matches!(before, "(" | "." | "[" | ":") => true,
            token => !(is_word(token) || is_word(before) || matches!(before, "," | ")")),
        };
        if !text.is_empty() && !is_close {
            text.push(' ');
        }
        text.extend(token.chars().map(|c| if c.is_control() { ' ' } else { c }));
        before = token;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_are_told_without_their_literals() {
        for (query, told) in [
            ("SELECT * FROM users WHERE id = 42", "SELECT * FROM users WHERE id = ?"),
            (
                "select name from t1 where a='it''s' and b=E'x\\'y' -- z\n limit 1",
                "select name from t1 where a = ? and b = ? limit ?",
            ),
            (
                "INSERT INTO a.b (c, d) VALUES (1, 'x', 3.5e-3), (.5, NULL)",
                "INSERT INTO a.b(c, d) VALUES (?), (?, NULL)",
            ),
            ("SELECT /* a /* b */ c */ f(x) FROM \"My Table\"", "SELECT f(x) FROM My Table"),
            ("DO $body$ secret $$ $body$", "DO ?"),
            ("SELECT $1, a2 WHERE b IN (1,2,3)", "SELECT $1, a2 WHERE b IN (?)"),
            ("SELECT U&'x', B'1', X'ff', N'q', 0xFFsecret", "SELECT ?"),
            ("SELECT 'it\\'s secret", "SELECT ?"),
            ("SELECT 'cut off", "SELECT ?"),
            ("SELECT a::text, b->>'key'", "SELECT a::text, b ->> ?"),
            ("BEGIN", "BEGIN"),
            ("", ""),
        ] {
            assert_eq!(normalise(query), told, "{query}");
        }
        let long = normalise(&"a b ".repeat(1000)).chars().count();
        assert!((LENGTH - 5..=LENGTH).contains(&long), "{long}");
    }

    /// The beginning of a statement, a literal in each of the ways that there are, and an end.
    fn planted() -> impl Strategy<Value = String> {
        let around = prop::sample::select(vec![
            "SELECT a FROM b WHERE c = ",
            "INSERT INTO t VALUES (1, ",
            "x",
            "f(",
            " \n",
            "'it''s' || ",
            "\"q\" = ",
            "/* note */ ",
            "-- note\n",
            "$1 + ",
            "E'\\\\' || ",
            "$a$ $b$ $a$ || ",
            "ä = ",
            "a - ",
            "",
        ]);
        let literal = prop::sample::select(vec![
            "'PLANTED'",
            "E'\\'PLANTED'",
            "'\\' PLANTED",
            "$$PLANTED$$",
            "$t$ $$ PLANTED $t$",
            "/* PLANTED */",
            "-- PLANTED",
            "/* /* */ PLANTED",
            "U&'PLANTED'",
            "'PLANTED",
            "'x''PLANTED'",
            "'a\\\\'' PLANTED'",
            "$x$PLANTED",
            "12PLANTED",
            "E'\\\\\\'PLANTED'",
            "b'PLANTED'",
            "'x\n-- PLANTED'",
            "E'a''PLANTED'",
            "0xPLANTED",
            "'\\\\\\' PLANTED'",
            " 1.5PLANTED",
        ]);
        (prop::collection::vec(around.clone(), 0..5), literal, prop::collection::vec(around, 0..3))
            .prop_map(|(before, literal, after)| format!("{} {literal}\n{}", before.concat(), after.concat()))
    }

    proptest! {
        #[test]
        fn no_literal_comes_through(query in planted()) {
            let told = normalise(&query);
            prop_assert!(!told.contains("PLANTED"), "{query:?} -> {told:?}");
        }

        #[test]
        fn wherever_a_statement_is_cut_off_its_literal_does_not_come_through(query in planted(), cut in 0_usize..120) {
            let cut: String = query.chars().take(cut).collect();
            prop_assert!(!normalise(&cut).contains("PLANTED"), "{cut:?}");
        }

        #[test]
        fn nothing_panics_and_everything_is_bounded(query in "(?s).{0,300}") {
            let told = normalise(&query);
            prop_assert!(told.chars().count() <= LENGTH);
            prop_assert!(!told.contains(char::is_control));
        }

        #[test]
        fn digits_that_are_no_part_of_a_name_do_not_come_through(number in 100_u32.., space in "[ =(,+-]") {
            let told = normalise(&format!("SELECT a{space}{number} FROM t2"));
            prop_assert!(!told.contains(&number.to_string()), "{told}");
        }
    }
}
