//! Which file takes what from which.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Root;
use super::words::Word;

/// For each file the files that it imports from, and the names that it takes from there.
pub type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// How many imports of imports are followed.
const FOLLOWED: usize = 8;

/// One name that a `use` brings in.
struct Use {
    path: Vec<String>,
    /// What it is called here; `*` for all.
    name: String,
    is_public: bool,
}

/// What a file says of others.
#[derive(Default)]
struct Read {
    uses: Vec<Use>,
    /// Paths in the code, of two names at least.
    paths: BTreeSet<Vec<String>>,
    /// Names in the code.
    names: BTreeSet<String>,
    /// Names that are declared here.
    declared: BTreeSet<String>,
}

/// What a path leads to.
enum Found {
    Module(Vec<String>),
    /// What the module's own file has under this name.
    Item(Vec<String>, String),
}

/// What comes before the name of what is declared.
const DECLARES: [&str; 8] = ["const", "enum", "fn", "mod", "static", "struct", "trait", "type"];

struct Names<'a> {
    root: &'a Root,
    read: BTreeMap<&'a Vec<String>, Read>,
}

/// The imports between the files of a crate. That a module declares those below it, or passes on what they
/// have, is no import of theirs; that it uses it, is.
pub fn of(root: &Root) -> Imports {
    let read = root.files.iter().map(|(module, source)| (module, read(&source.words()))).collect();
    let names = Names { root, read };
    let mut imports = Imports::new();
    for (module, source) in &root.files {
        let taken = imports.entry(source.path.clone()).or_default();
        for (from, name) in names.taken(module) {
            let from = &root.files[&from].path;
            if *from != source.path {
                taken.entry(from.clone()).or_default().insert(name);
            }
        }
    }
    imports
}

impl Names<'_> {
    /// The modules that this one takes something from, with the names.
    fn taken(&self, module: &Vec<String>) -> Vec<(Vec<String>, String)> {
        let read = &self.read[module];
        let mut taken = Vec::new();
        for one in &read.uses {
            let Some(found) = self.find(module, &one.path, FOLLOWED) else { continue };
            match found {
                Found::Module(other) if one.name == "*" => {
                    if !(one.is_public && other.starts_with(module)) {
                        taken.push((other, "*".to_owned()));
                    }
                }
                // Which of it is used is told by the paths that begin with its name.
                Found::Module(_) => {}
                Found::Item(other, name) => {
                    let is_passed_on = one.is_public && other.starts_with(module);
                    if !is_passed_on || read.names.contains(&one.name) {
                        taken.push((other, name));
                    }
                }
            }
        }
        for path in &read.paths {
            if let Some(Found::Item(other, name)) = self.find(module, path, FOLLOWED) {
                taken.push((other, name));
            }
        }
        taken
    }

    /// What a path leads to, as it stands in a module; none outside this crate.
    fn find(&self, module: &[String], path: &[String], followed: usize) -> Option<Found> {
        let (mut at, mut rest) = (module.to_vec(), path);
        match rest.first()?.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop()?;
            }
            first if self.is_module(module, first) => at.push(first.to_owned()),
            first => {
                let used = self.read.get(&at)?.uses.iter().find(|one| one.name == first)?;
                if used.path == path || used.path.first().is_some_and(|one| one == first) || followed == 0 {
                    return None;
                }
                match self.find(module, &used.path, followed - 1)? {
                    Found::Module(found) => at = found,
                    Found::Item(..) => return None,
                }
            }
        }
        rest = &rest[1..];
        while let Some(next) = rest.first() {
            if next == "super" {
                at.pop()?;
            } else if self.is_module(&at, next) {
                at.push(next.clone());
            } else if next != "self" {
                break;
            }
            rest = &rest[1..];
        }
        let Some(name) = rest.first() else { return Some(Found::Module(at)) };
        if name == "*" {
            return Some(Found::Module(at));
        }
        self.item(module, at, name, followed)
    }

    /// What a module has under a name: passed on, it is taken from where it comes from.
    fn item(&self, asks: &[String], at: Vec<String>, name: &str, followed: usize) -> Option<Found> {
        let read = self.read.get(&at)?;
        match read.uses.iter().find(|one| one.name == name) {
            Some(one) if followed > 0 && at != asks => return self.find(&at, &one.path, followed - 1),
            Some(_) => return None,
            None => {}
        }
        if !read.declared.contains(name) && followed > 0 {
            let all = read.uses.iter().filter(|one| one.name == "*" && one.is_public);
            for one in all {
                let Some(Found::Module(other)) = self.find(&at, &one.path, followed - 1) else { continue };
                if self.read.get(&other).is_some_and(|read| read.declared.contains(name)) {
                    return Some(Found::Item(other, name.to_owned()));
                }
            }
        }
        Some(Found::Item(at, name.to_owned()))
    }

    fn is_module(&self, below: &[String], name: &str) -> bool {
        let module: Vec<String> = below.iter().cloned().chain([name.to_owned()]).collect();
        self.root.files.contains_key(&module)
    }
}

fn read(words: &[Word]) -> Read {
    let (mut read, mut at) = (Read::default(), 0);
    while at < words.len() {
        let word = words[at];
        if word.text == "use" {
            let is_public = at > 0 && ["pub", ")"].contains(&words[at - 1].text);
            at = tree(words, at + 1, &[], is_public, &mut read.uses);
        } else if word.is_name() || word.text == "$" {
            let (path, next) = path(words, at);
            read.names.extend(path.first().cloned());
            if at > 0 && DECLARES.contains(&words[at - 1].text) {
                read.declared.extend(path.first().cloned());
            }
            if path.len() > 1 {
                read.paths.insert(path);
            }
            at = next.max(at + 1);
        } else {
            at += 1;
        }
    }
    read
}

/// The names from here on that `::` ties, and the place behind them.
fn path(words: &[Word], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while at < words.len() && words[at].is_name() {
        path.push(words[at].text.to_owned());
        at += 1;
        if !(ties(words, at) && words.get(at + 2).is_some_and(Word::is_name)) {
            break;
        }
        at += 2;
    }
    (path, at)
}

fn ties(words: &[Word], at: usize) -> bool {
    words.len() > at + 1 && words[at].text == ":" && words[at + 1].text == ":"
}

/// Reads one tree of a `use`, to behind its end.
fn tree(words: &[Word], mut at: usize, above: &[String], is_public: bool, uses: &mut Vec<Use>) -> usize {
    let mut path = above.to_vec();
    while at < words.len() {
        let word = words[at];
        match word.text {
            "{" => {
                at += 1;
                while words.get(at).is_some_and(|word| word.text != "}") {
                    at = tree(words, at, &path, is_public, uses);
                    if words.get(at).is_some_and(|word| word.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => {
                let name = words.get(at + 1).map(|word| word.text.to_owned()).unwrap_or_default();
                uses.push(Use { path, name, is_public });
                return at + 2;
            }
            ":" => at += 1,
            "*" => {
                path.push("*".to_owned());
                uses.push(Use { path, name: "*".to_owned(), is_public });
                return at + 1;
            }
            _ if word.is_name() => {
                if word.text != "self" || path.is_empty() {
                    path.push(word.text.to_owned());
                }
                at += 1;
            }
            _ => break,
        }
    }
    if let Some(name) = path.last().cloned() {
        uses.push(Use { path, name, is_public });
    }
    at
}

#[test]
fn imports_are_read_as_they_are_written() {
    let text = "pub use a::{b, c::{self, d as e}}; use super::f::*; fn g() { crate::h::i(); b::j() }";
    let read = read(&super::words::words(text));
    let uses: Vec<_> = read
        .uses
        .iter()
        .map(|one| format!("{} {} {}", one.path.join("::"), one.name, one.is_public))
        .collect();
    assert_eq!(uses, ["a::b b true", "a::c c true", "a::c::d e true", "super::f::* * false"]);
    let paths: Vec<_> = read.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["b::j", "crate::h::i"]);
}
