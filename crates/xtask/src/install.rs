//! The operator in a cluster as users have it: its image, and the chart installed with Helm.

use std::env;
use std::path::{Path, PathBuf};

use cluster::Cluster;
use cluster::cache;
use cluster::command::{last_lines, run};
use cluster::error::{Error, Result};
use cluster::images::{Archive, Image};
use cluster::node::OPERATOR;
use cluster::progress::Step;
use cluster::state::{lock, write_folder};
use serde_json::Value;

use crate::{crds, postgres, workspace};

/// The demo server's package and program.
pub const DEMO_SERVER: &str = "mcp-demo-server";

/// How long the chart may take to come up.
const TIMEOUT: &str = "120s";

/// What is installed: names of images that the cluster has, and the programs that are in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The operator's image, with a tag that changes with its content.
    pub operator: String,
    /// The demo MCP server's image, with a tag that changes with its content.
    pub demo_server: String,
    /// The operator as a program of this machine.
    pub operator_binary: PathBuf,
    /// The demo MCP server as a program of this machine; empty where nothing runs it.
    pub demo_server_binary: PathBuf,
}

/// What tells the end-to-end tests which images to use.
const VARIABLES: [&str; 4] =
    ["MCP_HEALTH_OPERATOR_IMAGE", "MCP_HEALTH_DEMO_IMAGE", "MCP_HEALTH_OPERATOR_BIN", "MCP_HEALTH_DEMO_BIN"];

impl Images {
    /// The environment by which [`Images::from_environment`] finds them again.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let [operator, demo_server, operator_binary, demo_server_binary] = VARIABLES;
        [
            (operator, self.operator.clone()),
            (demo_server, self.demo_server.clone()),
            (operator_binary, self.operator_binary.display().to_string()),
            (demo_server_binary, self.demo_server_binary.display().to_string()),
        ]
    }

    /// The images that a caller has built, from the environment.
    pub fn from_environment() -> Result<Self> {
        let [operator, demo_server, operator_binary, demo_server_binary] = VARIABLES;
        let get = |name: &str| {
            env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                Error::other(format!("{name} is not set: these tests are run by `cargo xtask test`"))
            })
        };
        Ok(Self {
            operator: get(operator)?,
            demo_server: get(demo_server)?,
            operator_binary: get(operator_binary)?.into(),
            demo_server_binary: get(demo_server_binary)?.into(),
        })
    }
}

/// Builds the operator and the demo server as they are released, makes images of them, and brings these into
/// the cluster. What is there already is not brought again.
pub fn build_images(cluster: &Cluster) -> Result<Images> {
    if cluster.is_simulated() {
        return without_images();
    }
    let programs = workspace::build_release(&[OPERATOR, DEMO_SERVER])?;
    let [operator_binary, demo_server_binary] = programs.as_slice() else {
        return Err(Error::other("cargo did not build the operator and the demo server"));
    };
    load_images(cluster, operator_binary, demo_server_binary)
}

/// For a cluster whose pods run nothing: names of images, and the operator as a program of this machine.
fn without_images() -> Result<Images> {
    let operator_binary = workspace::build_release(&[OPERATOR])?.into_iter().next();
    let name = |image: &str| format!("mcp-health.local/{image}:simulated");
    Ok(Images {
        operator: name("operator"),
        demo_server: name("demo-server"),
        operator_binary: operator_binary.ok_or_else(|| Error::other("cargo did not build the operator"))?,
        demo_server_binary: PathBuf::new(),
    })
}

/// Makes images of programs that are built, and brings them into the cluster.
pub fn load_images(cluster: &Cluster, operator: &Path, demo_server: &Path) -> Result<Images> {
    let step = Step::start(format!("bringing the images into the cluster {}", cluster.name));
    let folder = cache::root()?.join("images");
    write_folder(&folder)?;
    let _lock = lock(&folder.join(".lock"))?;
    let load = |image: &str, program: &Path| {
        step.note(image);
        let archive = archive(image, &folder, |name| Image::of_program(name, program))?;
        cluster.load_image(&archive)?;
        Ok::<_, Error>(archive.name)
    };
    let images = Images {
        operator: load("operator", operator)?,
        demo_server: load("demo-server", demo_server)?,
        operator_binary: operator.to_owned(),
        demo_server_binary: demo_server.to_owned(),
    };
    step.done();
    Ok(images)
}

/// Makes an image of this machine's PostgreSQL, and brings it into the cluster; gives its name.
pub fn load_postgres(cluster: &Cluster) -> Result<String> {
    let step = Step::start(format!("bringing PostgreSQL into the cluster {}", cluster.name));
    let folder = cache::root()?.join("images");
    write_folder(&folder)?;
    let _lock = lock(&folder.join(".lock"))?;
    let archive = archive("postgres", &folder, postgres::image)?;
    cluster.load_image(&archive)?;
    step.done();
    Ok(archive.name)
}

/// The image's archive, under a name that tells its content.
fn archive(image: &str, folder: &Path, make: impl Fn(&str) -> Result<Image>) -> Result<Archive> {
    let path = folder.join(format!("{image}.tar"));
    // The name is not part of what the digest is of.
    let digest = make("unnamed:0")?.write(&path)?.digest;
    let tag = digest.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    make(&format!("mcp-health.local/{image}:{tag}"))?.write(&path)
}

/// Installs the chart with Helm, or upgrades it, and waits until the operator is ready. `values` are as for
/// Helm's `--set`.
///
/// The chart brings the CRD along, which belongs to one release only. Where another one has it, or somebody
/// applied it, it is brought up to date there.
pub fn helm_install(
    cluster: &Cluster,
    images: &Images,
    release: &str,
    namespace: &str,
    values: &[(&str, &str)],
) -> Result<()> {
    let (repository, tag) = images
        .operator
        .rsplit_once(':')
        .ok_or_else(|| Error::other(format!("the image {} has no tag", images.operator)))?;
    let mut helm = cluster.helm();
    helm.args(["upgrade", "--install", release]).arg(workspace::chart());
    helm.args(["--namespace", namespace, "--create-namespace", "--wait", "--timeout", TIMEOUT]);
    helm.args(["--set-string", &format!("image.repository={repository},image.tag={tag}")]);
    helm.args(["--set", "image.pullPolicy=Never"]);
    if !values.iter().any(|(name, _)| name.starts_with("crds.")) && !may_own_crd(cluster, release, namespace)?
    {
        cluster.apply(&crds::yaml()?)?;
        helm.args(["--set", "crds.install=false"]);
    }
    for (name, value) in values {
        helm.arg("--set").arg(format!("{name}={value}"));
    }
    run(&format!("installing the chart as {release} in {namespace}"), &mut helm)
        .map(drop)
        .map_err(|error| Error::other(format!("{error}{}", state(cluster, release, namespace))))
}

/// Removes a release. What the chart keeps stays: the CRD, and with it all objects of its kind.
pub fn helm_uninstall(cluster: &Cluster, release: &str, namespace: &str) -> Result<()> {
    let mut helm = cluster.helm();
    helm.args(["uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"]);
    helm.args(["--timeout", TIMEOUT]);
    run(&format!("uninstalling {release} from {namespace}"), &mut helm).map(drop)
}

/// Whether the CRD is not there, or is this release's.
fn may_own_crd(cluster: &Cluster, release: &str, namespace: &str) -> Result<bool> {
    let found = cluster.kubectl_run([
        "get",
        "customresourcedefinition",
        "mcpserverhealths.mcphealth.dev",
        "--ignore-not-found",
        "--output=json",
    ])?;
    if found.trim().is_empty() {
        return Ok(true);
    }
    let found: Value = serde_json::from_str(&found)
        .map_err(|error| Error::other(format!("cannot read the CRD that is in the cluster: {error}")))?;
    let annotation = |name: &str| found["metadata"]["annotations"][name].as_str().unwrap_or_default();
    Ok(annotation("meta.helm.sh/release-name") == release
        && annotation("meta.helm.sh/release-namespace") == namespace)
}

/// What the release's pods do and say, for the end of an error.
fn state(cluster: &Cluster, release: &str, namespace: &str) -> String {
    let selector = format!("--selector=app.kubernetes.io/instance={release}");
    let namespace = format!("--namespace={namespace}");
    let ask = |title: &str, arguments: &[&str]| {
        let said = cluster.kubectl_run(arguments).unwrap_or_default();
        let lines = last_lines(&said, 12);
        if lines.is_empty() { String::new() } else { format!("\n  {title}:{lines}") }
    };
    [
        ask("its pods", &["get", "pods", &namespace, &selector, "--output=wide"]),
        ask(
            "its last events",
            &[
                "get",
                "events",
                &namespace,
                "--sort-by=.lastTimestamp",
                "--output=custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message",
            ],
        ),
        ask("its last words", &["logs", &namespace, &selector, "--tail=8", "--prefix"]),
    ]
    .concat()
}
