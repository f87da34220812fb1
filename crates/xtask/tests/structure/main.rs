//! What holds for the structure of all crates: no file imports one that imports it; functions and lines are
//! short; a name of a public type means one thing; no code reads a sentence that the program wrote.
//!
//! Each check has a list of what it does not hold for yet, in `exceptions/`. These lists only get shorter:
//! what is not needed there any more fails too.

#![allow(clippy::unwrap_used)]

mod cycles;
mod imports;
mod lists;
mod modules;
mod sentences;
mod sizes;
mod types;
mod words;

use lists::{Listed, compare};
use modules::Root;
use words::Source;
use xtask::workspace;

/// The longest function, from the line of its name to its closing brace.
const FUNCTION: usize = 70;
/// The widest line.
const LINE: usize = 110;

#[test]
fn no_file_imports_one_that_imports_it() {
    let mut found = Vec::new();
    let mut drawn = String::new();
    for root in Root::all() {
        for cycle in cycles::of(&imports::of(root)) {
            drawn += &cycle.drawn();
            found.extend(cycle.files().map(|file| Listed::new(file, 1)));
        }
    }
    let wrong = compare(&found, include_str!("exceptions/cycles.txt"), "is part of a cycle of imports");
    assert!(wrong.is_empty(), "{wrong}\nThe cycles, and what ties them:\n{drawn}");
}

#[test]
fn functions_are_short() {
    let long = Root::sources().flat_map(|source| {
        let functions = sizes::functions(source).into_iter().filter(|(_, lines)| *lines > FUNCTION);
        functions
            .map(|(name, lines)| Listed::new(format!("{} {name}", source.path), lines))
            .collect::<Vec<_>>()
    });
    let what = format!("has more than {FUNCTION} lines");
    let wrong = compare(&long.collect::<Vec<_>>(), include_str!("exceptions/functions.txt"), &what);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn lines_are_narrow() {
    let wide = Source::all().filter_map(|source| {
        let count = source.text.lines().filter(|line| line.chars().count() > LINE).count();
        (count > 0).then(|| Listed::new(&source.path, count))
    });
    let what = format!("has so many lines of more than {LINE} columns");
    let wrong = compare(&wide.collect::<Vec<_>>(), include_str!("exceptions/lines.txt"), &what);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn only_sentences_of_others_are_read() {
    let folders = ["crates/core/", "crates/operator/"];
    let sources = Root::sources().filter(|source| folders.iter().any(|one| source.path.starts_with(one)));
    let read = sources.filter_map(|source| {
        let lines = sentences::read_on(source);
        (!lines.is_empty()).then(|| Listed::new(&source.path, lines.len()))
    });
    let what = "reads sentences so often; a fact of our own stands in a typed field";
    let wrong = compare(&read.collect::<Vec<_>>(), include_str!("exceptions/foreign_text.txt"), what);
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_name_of_a_public_type_means_one_thing_in_core_and_operator() {
    let folders = ["crates/core/", "crates/operator/"];
    let is_of_them = |source: &&Source| folders.iter().any(|folder| source.path.starts_with(folder));
    let sources: Vec<&Source> = Root::sources().filter(is_of_them).collect();
    let twice = types::named_twice(&sources);
    let wrong = compare(&twice, include_str!("exceptions/types.txt"), "is declared so often");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn each_file_that_the_picture_of_the_architecture_names_is_there() {
    let page = std::fs::read_to_string(workspace::root().join("ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> =
        page.split('`').skip(1).step_by(2).filter(|one| one.starts_with("crates/")).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|one| !workspace::root().join(one).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}
