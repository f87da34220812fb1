//! How long functions are.

use super::words::{Source, Word};

/// The functions of a file that are not tests' own, with the number of their lines; those inside others too.
pub fn functions(source: &Source) -> Vec<(String, usize)> {
    let words = source.words();
    let names = words.windows(2).enumerate().filter(|(_, two)| two[0].text == "fn" && two[1].is_name());
    names.filter_map(|(at, two)| Some((two[1].text.to_owned(), lines(&words[at..])?))).collect()
}

/// The lines from the first word to the brace that closes the body; none without a body.
fn lines(words: &[Word]) -> Option<usize> {
    let (mut depth, mut braces) = (0, 0);
    for word in words {
        match word.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            ";" if depth == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 {
                    return Some(word.line - words[0].line + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn a_function_ends_at_its_last_brace() {
    let text = "trait A { fn a(&self); }\nfn b() -> [u8; 2] {\n    if c { d() }\n}\nfn e() {}";
    let source = Source { path: "src/a.rs".to_owned(), text: text.to_owned() };
    assert_eq!(functions(&source), [("b".to_owned(), 3), ("e".to_owned(), 1)]);
}
