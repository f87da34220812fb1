//! The programs a cluster is made of, built from the Go module proxy once and kept in the cache.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::cache;
use crate::command::{display, last_lines, spawn_error};
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::progress::Step;
use crate::state::{self, Layout, hex, write_folder};

/// The oldest Go that builds the parts.
pub const GO: (u32, u32, u32) = (1, 26, 6);

/// One Go module that gives one or more programs.
pub struct Part {
    /// Its name and its folder under `parts/`.
    pub name: &'static str,
    /// The Go module whose version is the part's version; none for a module of our own.
    module: Option<&'static str>,
    /// The files of the pinned module.
    files: &'static [(&'static str, &'static str)],
    /// Program name and Go package.
    programs: &'static [(&'static str, &'static str)],
    /// Go build tags, separated by commas: what is left out.
    tags: &'static str,
    /// Go variables that hold the version, as `-X` takes them; `{}` stands for the version.
    version_variables: &'static [&'static str],
}

macro_rules! files {
    ($part:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../parts/", $part, "/", $file)))),+]
    };
}

/// What needs no node first; the last two are the node's agents.
const KUBERNETES_PROGRAMS: [(&str, &str); 6] = [
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
];

/// Kubernetes: the control plane, the node's agents and kubectl.
pub const KUBERNETES: Part = Part {
    name: "kubernetes",
    module: Some("k8s.io/kubernetes"),
    files: files!("kubernetes": "go.mod", "go.sum"),
    programs: &KUBERNETES_PROGRAMS,
    // Without them the version is a placeholder that clients fail to parse.
    tags: "",
    version_variables: &[
        "k8s.io/component-base/version.gitVersion={}",
        "k8s.io/component-base/version.gitMajor={major}",
        "k8s.io/component-base/version.gitMinor={minor}",
        "k8s.io/component-base/version.gitTreeState=clean",
        "k8s.io/client-go/pkg/version.gitVersion={}",
        "k8s.io/client-go/pkg/version.gitMajor={major}",
        "k8s.io/client-go/pkg/version.gitMinor={minor}",
        "k8s.io/client-go/pkg/version.gitTreeState=clean",
    ],
};

/// Kubernetes without the node's agents, which are built on Linux only.
pub const CONTROL_PLANE: Part = Part { programs: KUBERNETES_PROGRAMS.split_at(4).0, ..KUBERNETES };

/// The container runtime and the network plugins.
pub const CONTAINERD: Part = Part {
    name: "containerd",
    module: Some("github.com/containerd/containerd/v2"),
    files: files!("containerd": "go.mod", "go.sum"),
    programs: &[
        ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        ("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
        ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
        ("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
        ("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
        ("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
    ],
    tags: "",
    version_variables: &["github.com/containerd/containerd/v2/version.Version={}"],
};

/// The API server's store.
pub const ETCD: Part = Part {
    name: "etcd",
    module: Some("go.etcd.io/etcd/server/v3"),
    files: files!("etcd": "go.mod", "go.sum"),
    programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
    tags: "",
    version_variables: &[],
};

/// The cluster's DNS server.
pub const COREDNS: Part = Part {
    name: "coredns",
    module: Some("github.com/coredns/coredns"),
    files: files!("coredns": "go.mod", "go.sum", "main.go"),
    programs: &[("coredns", ".")],
    tags: "",
    version_variables: &[],
};

/// What pods and nodes use, as `kubectl top` asks for it.
pub const METRICS_SERVER: Part = Part {
    name: "metrics-server",
    module: Some("sigs.k8s.io/metrics-server"),
    files: files!("metrics-server": "go.mod", "go.sum"),
    programs: &[("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")],
    tags: "",
    version_variables: &["k8s.io/client-go/pkg/version.gitVersion={}"],
};

/// Scrapes pods and the kubelet, and answers queries.
pub const PROMETHEUS: Part = Part {
    name: "prometheus",
    module: Some("github.com/prometheus/prometheus"),
    files: files!("prometheus": "go.mod", "go.sum"),
    programs: &[("prometheus", "github.com/prometheus/prometheus/cmd/prometheus")],
    // The clients of all the clouds would take most of the build.
    tags: "remove_all_sd,enable_kubernetes_sd",
    version_variables: &["github.com/prometheus/common/version.Version={}"],
};

/// Takes alerts, and shows which are active.
pub const ALERTMANAGER: Part = Part {
    name: "alertmanager",
    module: Some("github.com/prometheus/alertmanager"),
    files: files!("alertmanager": "go.mod", "go.sum"),
    programs: &[("alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager")],
    tags: "",
    version_variables: &["github.com/prometheus/common/version.Version={}"],
};

/// Installs charts.
pub const HELM: Part = Part {
    name: "helm",
    module: Some("helm.sh/helm/v4"),
    files: files!("helm": "go.mod", "go.sum"),
    programs: &[("helm", "helm.sh/helm/v4/cmd/helm")],
    tags: "",
    version_variables: &["helm.sh/helm/v4/internal/version.version={}"],
};

/// The process that holds namespaces open: a pod's, and the node's.
pub const PAUSE: Part = Part {
    name: "pause",
    module: None,
    files: files!("pause": "go.mod", "main.go"),
    programs: &[("pause", ".")],
    tags: "",
    version_variables: &[],
};

/// Plays nodes that nothing runs on.
pub const KWOK: Part = Part {
    name: "kwok",
    module: Some("sigs.k8s.io/kwok"),
    files: files!("kwok": "go.mod", "go.sum"),
    programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")],
    tags: "",
    version_variables: &[],
};

/// An S3 server, which verifies signatures; no part of a cluster, but built like one.
pub const VERSITYGW: Part = Part {
    name: "versitygw",
    module: Some("github.com/versity/versitygw"),
    files: files!("versitygw": "go.mod", "go.sum", "main.go"),
    programs: &[("versitygw", ".")],
    tags: "",
    version_variables: &[],
};

/// What a cluster with a simulated node needs.
pub const SIMULATED: [&Part; 4] = [&CONTROL_PLANE, &ETCD, &HELM, &KWOK];

/// What a cluster with a real node has.
pub const REAL: [&Part; 9] =
    [&KUBERNETES, &CONTAINERD, &ETCD, &HELM, &PAUSE, &COREDNS, &METRICS_SERVER, &PROMETHEUS, &ALERTMANAGER];

/// Of those, what pods need to run and charts to be installed.
pub const FIRST: &[&Part] = REAL.split_at(5).0;

/// The others: names, and figures.
pub const ADDONS: &[&Part] = REAL.split_at(5).1;

/// Programs by name, and the versions of the parts they come from.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// Where each program is.
    pub paths: BTreeMap<String, PathBuf>,
    /// The version of each part.
    pub versions: BTreeMap<String, String>,
}

impl Programs {
    /// The path of a program that a part provides.
    pub fn path(&self, program: &str) -> Result<&Path> {
        self.paths.get(program).map(PathBuf::as_path).ok_or_else(|| {
            Error::other(format!("no part provides `{program}`: run `cargo xtask cluster down`, then `up`"))
        })
    }

    /// Links the programs that a person may want into one folder.
    pub(crate) fn link(&self, layout: &Layout) -> Result<()> {
        let bin = layout.bin();
        write_folder(&bin)?;
        for name in ["kubectl", "helm", "ctr"] {
            let link = bin.join(name);
            let Ok(target) = self.path(name) else { continue };
            if fs::read_link(&link).is_ok_and(|old| old == target) {
                continue;
            }
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(target, &link).map_err(Error::file("link", &link))?;
        }
        Ok(())
    }
}

/// The parts of a cluster of this kind.
pub fn of(kind: Kind) -> &'static [&'static Part] {
    match kind {
        Kind::Real => &REAL,
        Kind::Simulated => &SIMULATED,
    }
}

impl Part {
    /// The names of its programs.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.programs.iter().map(|(name, _)| *name)
    }

    /// The version that the pinned module requires.
    pub fn version(&self) -> &'static str {
        let Some(module) = self.module else { return "v1" };
        self.files[0]
            .1
            .lines()
            .map(|line| line.trim().trim_start_matches("require ").split_ascii_whitespace())
            .find_map(|mut words| if words.next() == Some(module) { words.next() } else { None })
            .unwrap_or("unknown")
    }

    /// Where its programs are once it is built: a change of the pinned module or its flags is another folder.
    pub fn folder(&self) -> Result<PathBuf> {
        let mut hash = Sha256::new();
        for (name, content) in self.files {
            hash.update(name);
            hash.update(content);
        }
        hash.update(self.tags);
        hash.update(self.linker_flags());
        let key = &hex(&hash.finalize())[..12];
        Ok(cache::root()?.join("parts").join(format!("{}-{}-{key}", self.name, self.version())))
    }

    /// Whether it is built, with all its programs.
    pub fn is_built(&self) -> Result<bool> {
        let bin = self.folder()?.join("bin");
        Ok(self.programs().all(|name| bin.join(name).is_file()))
    }

    fn linker_flags(&self) -> String {
        let version = self.version();
        let mut numbers = version.trim_start_matches('v').split('.');
        let major = numbers.next().unwrap_or_default();
        let minor = numbers.next().unwrap_or_default();
        self.version_variables.iter().fold("-s -w".to_owned(), |flags, variable| {
            let set = variable.replace("{}", version).replace("{major}", major).replace("{minor}", minor);
            flags + " -X " + &set
        })
    }

    /// Builds it into a folder beside its own, and moves that into place when all is there.
    fn build(&self, cache: &Path) -> Result<()> {
        let folder = self.folder()?;
        let partial = cache.join(".partial");
        // A build that was killed may have left it.
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(Error::file("remove", &partial))?;
        }
        let source = partial.join("source");
        let bin = partial.join("bin");
        write_folder(&source)?;
        write_folder(&bin)?;
        for (name, content) in self.files {
            let file = source.join(name);
            fs::write(&file, content).map_err(Error::file("write", &file))?;
        }
        let outcome = self.compile(&source, &bin).and_then(|()| {
            fs::remove_dir_all(&source).map_err(Error::file("remove", &source))?;
            // There may be one with fewer programs; what runs of it goes on.
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
            }
            fs::rename(&partial, &folder).map_err(Error::file("move into place", &folder))
        });
        if partial.exists() {
            let _ = fs::remove_dir_all(&partial);
        }
        outcome
    }

    fn compile(&self, source: &Path, bin: &Path) -> Result<()> {
        let step = Step::start(format!("building {} {}", self.name, self.version()));
        let log = source.join("build.log");
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let mut go = Command::new("go");
        go.current_dir(source).args([
            "build",
            "-buildvcs=false",
            "-trimpath",
            "-tags",
            self.tags,
            "-ldflags",
            &self.linker_flags(),
        ]);
        match self.programs {
            [(name, _)] => go.arg("-o").arg(bin.join(name)),
            _ => go.arg("-o").arg(format!("{}/", bin.display())),
        };
        go.args(self.programs.iter().map(|(_, package)| package))
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOWORK", "off")])
            .env_remove("GOOS")
            .env_remove("GOARCH")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        let mut child = go.spawn().map_err(|source| spawn_error(&go, source))?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|source| spawn_error(&go, source))? {
                break status;
            }
            let said = fs::read_to_string(&log).unwrap_or_default();
            step.note(said.lines().last().unwrap_or_default());
            std::thread::sleep(std::time::Duration::from_millis(200));
        };
        if !status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Error::Command {
                what: format!("building {} {}", self.name, self.version()),
                status: status.to_string(),
                command: display(&go),
                output: last_lines(&said, 15),
            });
        }
        step.done();
        Ok(())
    }
}

/// The parts that are still to be built.
pub fn missing(wanted: &[&'static Part]) -> Result<Vec<&'static Part>> {
    let mut missing = Vec::new();
    for part in wanted {
        let provided = part.programs.iter().all(|(name, _)| from_assets(name).is_some());
        if !provided && !part.is_built()? {
            missing.push(*part);
        }
    }
    Ok(missing)
}

/// Builds what is missing of `wanted`, and tells where every program is.
pub fn ensure(wanted: &[&'static Part]) -> Result<Programs> {
    let cache = cache::root()?.join("parts");
    let _lock = state::lock(&cache.join(".lock"))?;
    for part in missing(wanted)? {
        part.build(&cache)?;
    }
    let mut programs = Programs::default();
    for part in wanted {
        programs.versions.insert(part.name.to_owned(), part.version().to_owned());
        let bin = part.folder()?.join("bin");
        for (name, _) in part.programs {
            let path = from_assets(name).unwrap_or_else(|| bin.join(name));
            programs.paths.insert((*name).to_owned(), path);
        }
    }
    Ok(programs)
}

/// The programs that a folder of ready-made ones may have: what needs no node.
pub const ASSETS: [&str; 7] =
    ["etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "helm", "kwok"];

/// A program that a folder of ready-made programs provides.
pub fn from_assets(program: &str) -> Option<PathBuf> {
    if !ASSETS.contains(&program) {
        return None;
    }
    let folder = env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty())?;
    let path = std::path::absolute(Path::new(&folder).join(program)).ok()?;
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_pins_a_version() {
        for part in [&REAL[..], &SIMULATED, &[&VERSITYGW]].concat() {
            assert!(part.version().starts_with('v'), "{}: {}", part.name, part.version());
        }
        assert_eq!(KUBERNETES.version(), "v1.36.3");
    }

    #[test]
    fn no_part_asks_for_a_newer_go_than_the_preflight() {
        for part in [&REAL[..], &SIMULATED, &[&VERSITYGW]].concat() {
            let asked = part.files[0].1.lines().find_map(|line| line.strip_prefix("go ")).unwrap();
            let numbers: Vec<u32> = asked.split('.').map(|number| number.parse().unwrap()).collect();
            assert!(numbers <= vec![GO.0, GO.1, GO.2], "{} asks for Go {asked}", part.name);
        }
    }

    #[test]
    fn the_version_reaches_the_linker() {
        let flags = KUBERNETES.linker_flags();
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.36.3"), "{flags}");
        assert!(flags.contains("gitMinor=36"), "{flags}");
    }
}
