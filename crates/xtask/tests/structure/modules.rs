//! The files of a crate, by their modules.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use super::words::{Source, root};

/// A crate, or a program of one: the file that it begins with, and all that belongs to it.
pub struct Root {
    /// The files by their modules' paths; the first one's is empty.
    pub files: BTreeMap<Vec<String>, Source>,
}

impl Root {
    /// Every library and program of the workspace, tests that are programs included.
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Root>> = LazyLock::new(Root::read_all);
        &ALL
    }

    fn read_all() -> Vec<Self> {
        let mut crates: Vec<String> = fs::read_dir(root().join("crates"))
            .unwrap()
            .map(|entry| format!("crates/{}", entry.unwrap().file_name().to_string_lossy()))
            .collect();
        crates.push("tests".to_owned());
        crates.sort();
        let mut first: Vec<String> = Vec::new();
        for folder in crates {
            first.extend(["lib", "main"].map(|name| format!("{folder}/src/{name}.rs")));
            let programs = fs::read_dir(root().join(&folder).join("tests")).into_iter().flatten();
            let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            first.extend(programs.map(|entry| format!("{folder}/tests/{}/main.rs", name(entry.unwrap()))));
        }
        first.retain(|path| root().join(path).is_file());
        first.iter().map(|path| Self::beginning_with(path)).collect()
    }

    /// The files of all libraries and programs that are not tests, and hold none.
    pub fn sources() -> impl Iterator<Item = &'static Source> {
        let files = Self::all().iter().flat_map(|root| root.files.values());
        files.filter(|source| source.path.contains("/src/"))
    }

    fn beginning_with(path: &str) -> Self {
        let mut files = BTreeMap::new();
        add(&mut files, Vec::new(), Source::read(path));
        Self { files }
    }
}

/// Adds a file, and those of the modules that it declares.
fn add(files: &mut BTreeMap<Vec<String>, Source>, module: Vec<String>, source: Source) {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or_default();
    let below = match file {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    for name in declared(&source) {
        let places = [format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")];
        // One with a path of its own is not followed: it is a table of a test, or is a test.
        if let Some(place) = places.into_iter().find(|place| root().join(place).is_file()) {
            let module: Vec<String> = module.iter().cloned().chain([name]).collect();
            add(files, module, Source::read(&place));
        }
    }
    files.insert(module, source);
}

/// The modules that a file declares and has not in itself.
fn declared(source: &Source) -> Vec<String> {
    let words = source.words();
    let each = words.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
    each.map(|three| three[1].text.to_owned()).collect()
}
