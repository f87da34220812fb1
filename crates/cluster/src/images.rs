//! Container images without a container engine: OCI archives, the same bytes for the same input.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::state::{hex, write_folder};

/// The user that images run as where they do not say otherwise.
const NONROOT: u32 = 65532;

/// The certificate authorities of this machine, for programs that talk to the world.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image to build: one layer, one platform, this machine's.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    entrypoint: Vec<String>,
    user: u32,
    entries: BTreeMap<String, Entry>,
}

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The OCI archive.
    pub path: PathBuf,
    /// The image's name with its tag.
    pub name: String,
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
}

#[derive(Debug, Clone)]
enum Entry {
    Folder { mode: u32 },
    Copy { from: PathBuf },
    Text { content: String },
    Link { to: String },
}

impl Image {
    /// An image with nothing but the folders and users that programs expect. `name` includes the tag.
    pub fn empty(name: &str) -> Self {
        let passwd = format!(
            "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/tmp:/sbin/nologin\n"
        );
        let image =
            Self { name: name.to_owned(), entrypoint: Vec::new(), user: NONROOT, entries: BTreeMap::new() };
        let mut image = image
            .text("/etc/passwd", &passwd)
            .text("/etc/group", &format!("root:x:0:\nnonroot:x:{NONROOT}:\n"));
        image.add("/tmp", Entry::Folder { mode: 0o1777 });
        image
    }

    /// An image that runs one program of this machine, as a user without rights. The libraries that it is
    /// linked to come along at their own paths.
    pub fn of_program(name: &str, program: &Path) -> Result<Self> {
        let file = program
            .file_name()
            .ok_or_else(|| Error::other(format!("{} is not a program", program.display())))?
            .to_string_lossy();
        let mut image = Self::empty(name).with_program(program, &format!("/{file}"))?;
        image.entrypoint = vec![format!("/{file}")];
        if Path::new(CERTIFICATES).is_file() {
            image = image.file(CERTIFICATES, CERTIFICATES);
        }
        Ok(image)
    }

    /// An image to mount this machine's own folders into, read-only, and run its programs. It starts as root,
    /// since those folders may be open to root only, and sleeps if it is given no command.
    pub fn tiny(name: &str, pause: &Path) -> Result<Self> {
        let mut image = Self::empty(name).with_program(pause, "/pause")?;
        image.entrypoint = vec!["/pause".to_owned()];
        image.user = 0;
        for folder in
            ["/usr", "/lib", "/lib64", "/opt", "/root", "/srv", "/var", "/run", "/proc", "/sys", "/dev"]
        {
            image.add(folder, Entry::Folder { mode: 0o755 });
        }
        Ok(image.link("/bin", "usr/bin").link("/sbin", "usr/sbin"))
    }

    /// Adds a copy of a file of this machine; executable stays executable.
    #[must_use]
    pub fn file(mut self, from: impl Into<PathBuf>, to: &str) -> Self {
        self.add(to, Entry::Copy { from: from.into() });
        self
    }

    /// Adds the files of a folder of this machine, and of those in it, at their own paths: those that are
    /// wanted.
    pub fn folder(mut self, from: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Self> {
        for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
            let path = entry.map_err(Error::file("read", from))?.path();
            if !wanted(&path) {
                continue;
            }
            if path.is_dir() {
                self = self.folder(&path, wanted)?;
            } else {
                let at = path.display().to_string();
                self = self.file(path, &at);
            }
        }
        Ok(self)
    }

    /// Adds a file with this content.
    #[must_use]
    pub fn text(mut self, to: &str, content: &str) -> Self {
        self.add(to, Entry::Text { content: content.to_owned() });
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, at: &str, to: &str) -> Self {
        self.add(at, Entry::Link { to: to.to_owned() });
        self
    }

    /// Adds a program of this machine at `to`, with the libraries that it is linked to.
    pub fn with_program(mut self, program: &Path, to: &str) -> Result<Self> {
        for library in libraries(program)? {
            let at = library.display().to_string();
            self.add(&at, Entry::Copy { from: library });
        }
        Ok(self.file(program, to))
    }

    /// Replaces what the image runs.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Replaces the user, and the group of the same number.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        self.user = user;
        self
    }

    /// Writes the image as an OCI archive, whole or not at all.
    pub fn write(&self, archive: &Path) -> Result<Archive> {
        let layer = self.layer()?;
        let layer_digest = digest(&layer);
        let architecture = architecture();
        let user = format!("{0}:{0}", self.user);
        let config = bytes(&json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": user,
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        }));
        let manifest = bytes(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer_digest,
                "size": layer.len(),
            }],
        }));
        let manifest_digest = digest(&manifest);
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let index = bytes(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest_digest,
                "size": manifest.len(),
                "platform": {"architecture": architecture, "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": self.name,
                    "org.opencontainers.image.ref.name": tag,
                },
            }],
        }));

        let blob = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let files = [
            ("oci-layout".to_owned(), bytes(&json!({"imageLayoutVersion": "1.0.0"}))),
            ("index.json".to_owned(), index),
            (blob(&manifest_digest), manifest),
            (blob(&digest(&config)), config),
            (blob(&layer_digest), layer),
        ];
        write_folder(archive.parent().unwrap_or(archive))?;
        let partial = archive.with_extension(format!("{}.partial", std::process::id()));
        let write = || {
            let mut tar = tar::Builder::new(BufWriter::new(File::create(&partial)?));
            for (path, content) in &files {
                let mut header = header(0o644, tar::EntryType::Regular, content.len() as u64);
                tar.append_data(&mut header, path, content.as_slice())?;
            }
            tar.into_inner()?.flush()?;
            fs::rename(&partial, archive)
        };
        write().map_err(Error::file("write", archive))?;
        Ok(Archive { path: archive.to_owned(), name: self.name.clone(), digest: manifest_digest })
    }

    /// The paths of all that is in it, without a slash at their beginning.
    pub fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    /// Adds an entry and the folders above it.
    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/').to_owned();
        let mut above = String::new();
        for (at, _) in path.match_indices('/') {
            path[..at].clone_into(&mut above);
            self.entries.entry(above.clone()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path, entry);
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let content;
            let (mut header, data): (_, &[u8]) = match entry {
                Entry::Folder { mode } => (header(*mode, tar::EntryType::Directory, 0), &[]),
                Entry::Text { content } => {
                    (header(0o644, tar::EntryType::Regular, content.len() as u64), content.as_bytes())
                }
                Entry::Copy { from } => {
                    content = fs::read(from).map_err(Error::file("read", from))?;
                    let mode = fs::metadata(from).map_err(Error::file("read", from))?.permissions().mode();
                    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                    (header(mode, tar::EntryType::Regular, content.len() as u64), &content)
                }
                Entry::Link { to } => {
                    let mut header = header(0o777, tar::EntryType::Symlink, 0);
                    tar.append_link(&mut header, path, to).map_err(Error::file("pack", path))?;
                    continue;
                }
            };
            tar.append_data(&mut header, path, data).map_err(Error::file("pack", path))?;
        }
        tar.into_inner().map_err(Error::file("pack", &self.name))
    }
}

/// This machine's, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A header without anything that differs from one build to the next.
fn header(mode: u32, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The shared libraries and the loader of a program, at the paths where it looks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| Error::Spawn { program: "ldd".to_owned(), source, hint: String::new() })?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let all = said.into_owned() + &String::from_utf8_lossy(&output.stderr);
        if all.contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        return Err(Error::other(format!("ldd cannot read {}: {}", program.display(), all.trim())));
    }
    parse_ldd(&said).map_err(|library| {
        Error::other(format!("{} needs {library}, which is not on this machine", program.display()))
    })
}

/// The paths in what `ldd` writes; an error names a library that it did not find.
fn parse_ldd(said: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in said.lines().map(str::trim) {
        let (name, found) = line.split_once(" => ").unwrap_or((line, line));
        if found == "not found" {
            return Err(name.to_owned());
        }
        let path = found.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let build = |file: &str| {
            Image::empty("example.test/a:1")
                .file(&program, "/program")
                .link("/bin", "usr/bin")
                .write(&folder.path().join(file))
                .unwrap()
        };
        let first = build("1.tar");
        let later = std::time::SystemTime::now() + std::time::Duration::from_hours(1);
        File::options().write(true).open(&program).unwrap().set_modified(later).unwrap();
        let second = build("2.tar");
        assert_eq!(first.digest, second.digest);
        assert_eq!(fs::read(first.path).unwrap(), fs::read(second.path).unwrap());

        fs::write(&program, "#!/bin/true\n").unwrap();
        assert_ne!(build("3.tar").digest, second.digest);
    }

    #[test]
    fn the_archive_is_an_oci_layout_whose_digests_hold() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Image::empty("example.test/a:1").write(&folder.path().join("a.tar")).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&archive.path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            if let Some(expected) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{expected}"));
            }
            files.insert(path, content);
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["digest"], archive.digest);
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "example.test/a:1");
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let image = Image::empty("a:1").text("/x/y/z", "");
        let paths: Vec<&String> = image.entries.keys().collect();
        let place = |path: &str| paths.iter().position(|p| *p == path).unwrap();
        assert!(place("x") < place("x/y") && place("x/y") < place("x/y/z"));
    }

    #[test]
    fn of_a_folder_comes_what_is_wanted_at_its_own_path() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b/c", "man/d"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let unwanted = folder.path().join("man");
        let image = Image::empty("a:1").folder(folder.path(), &|path| path != unwanted).unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let has = |name: &str| image.paths().contains(&at(name).trim_start_matches('/'));
        assert_eq!([has("a"), has("b/c"), has("man/d")], [true, true, false]);
    }

    #[test]
    fn libraries_are_found_where_the_loader_looks() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(said).unwrap(), expected);
        assert_eq!(parse_ldd("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert_eq!(parse_ldd("\tlibx.so.1 => not found\n").unwrap_err(), "libx.so.1");
    }
}
