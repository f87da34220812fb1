//! The developer's commands: `cargo xtask …`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use cluster::images::Image;
use cluster::kind::Wanted;
use cluster::preflight;
use cluster::state::{DEFAULT_NAME, name_option};
use cluster::{Cluster, Result, cache};
use cluster::{Plan, down, parts, shell_environment, status::Status};
use xtask::{demo, testing};

/// The developer's commands of mcp-health-operator.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant a command; what it does is in the library.
#[derive(Subcommand)]
enum Command {
    /// A one-node Kubernetes on this machine: real, or with a simulated node where this machine can run none.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Writes the CRD that the API types make.
    Crds,
    /// Checks everything: formatting, lints, tests, the chart, licences, and the operator on a real cluster.
    Test {
        #[command(flatten)]
        which: Which,
        /// Only what needs no cluster and no release build.
        #[arg(long)]
        fast: bool,
        /// Only the tests whose names contain this.
        #[arg(long, value_name = "PATTERN")]
        only: Option<String>,
        /// Leave the cluster, and what tests made in it, at the end.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        node: Node,
    },
    /// Measures the operator's memory and reaction beside a bare loop, on a cluster whose nodes are
    /// simulated.
    Bench,
    /// Breaks MCP servers in a cluster, and shows how the operator heals them.
    Demo {
        #[command(flatten)]
        which: Which,
        /// Only this act: bad-rollout, out-of-memory, broken-config, wedged, circuit, latency or database.
        #[arg(long, value_name = "NAME")]
        act: Option<String>,
        /// Leave the cluster, the operator and the server running at the end.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        node: Node,
    },
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Brings the cluster up, or what of it is missing, and waits until it is ready.
    Up {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        node: Node,
        /// Nodes that are simulated beside it; ordinary pods stay away from them. Without this: as many as
        /// there are.
        #[arg(long, value_name = "COUNT")]
        simulated_nodes: Option<u32>,
    },
    /// Builds the parts of a cluster, and starts nothing.
    Build(Node),
    /// Removes the cluster and everything it has on this machine.
    Down(Name),
    /// Tells what runs.
    Status(Name),
    /// Makes an image of a program of this machine and brings it into the cluster.
    Load {
        #[command(flatten)]
        which: Which,
        /// The image's name with its tag.
        image: String,
        /// The program.
        program: PathBuf,
    },
    /// Prints what points a terminal at the cluster: eval "$(cargo xtask cluster env)".
    Env(Name),
}

/// What a cluster of ours is to have for a node.
#[derive(Args)]
struct Node {
    /// A real node, which runs containers; a simulated one, which needs no rights and runs nothing; or
    /// whichever this machine can run. A cluster that you have (--context) keeps its own.
    #[arg(long, value_enum, default_value = "auto", value_name = "real|simulated|auto")]
    node: Wanted,
    /// Do not install system packages; name them and stop.
    #[arg(long)]
    no_install: bool,
}

impl Node {
    fn plan(&self, simulated_nodes: Option<u32>) -> Plan {
        Plan { node: self.node, simulated_nodes, install: !self.no_install, addons: true }
    }
}

#[derive(Args)]
struct Name {
    /// Which cluster.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

/// One of our clusters, or one that is there.
#[derive(Args)]
struct Which {
    #[command(flatten)]
    name: Name,
    /// A cluster that you already have, by its context.
    #[arg(long, conflicts_with = "name")]
    context: Option<String>,
}

impl Which {
    fn open(&self) -> Result<Cluster> {
        match &self.context {
            Some(context) => Cluster::existing(context),
            None => Cluster::open(&self.name.name),
        }
    }
}

fn main() -> ExitCode {
    // Its clients have TLS compiled in where other packages of a build do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Cluster(command) => cluster(command),
        Command::Crds => {
            xtask::crds::write(&project_root())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench => {
            xtask::bench::run()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Test { which, fast, only, keep, node } => {
            let Which { name, context } = which;
            let plan = node.plan(None);
            let options = testing::Options { fast, only, name: name.name, context, keep, plan };
            Ok(if testing::run(&options)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Demo { which, act, keep, node } => {
            let Which { name, context } = which;
            demo::run(&demo::Options { name: name.name, context, act, keep, plan: node.plan(None) })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The project's root: this crate stands two folders below it.
fn project_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cluster(command: ClusterCommand) -> Result<ExitCode> {
    match command {
        ClusterCommand::Up { name, node, simulated_nodes } => {
            let cluster = Cluster::up(&name.name, &node.plan(simulated_nodes))?;
            let option = name_option(&name.name);
            let kubeconfig = cluster.kubeconfig.display();
            eprintln!("  eval \"$(cargo xtask cluster env{option})\"   kubeconfig: {kubeconfig}");
        }
        ClusterCommand::Build(node) => {
            let wanted = parts::of(preflight::choose(node.node, None, !node.no_install)?);
            preflight::check_parts(wanted)?;
            parts::ensure(wanted)?;
        }
        ClusterCommand::Down(name) => down::down(&name.name)?,
        ClusterCommand::Status(name) => {
            let status = Status::of(&name.name)?;
            print!("{status}");
            if !status.is_ready() {
                return Ok(ExitCode::FAILURE);
            }
        }
        ClusterCommand::Load { which, image, program } => {
            let cluster = which.open()?;
            let file = image.replace(|c: char| !c.is_ascii_alphanumeric(), "-") + ".tar";
            let archive =
                Image::of_program(&image, &program)?.write(&cache::root()?.join("images").join(file))?;
            cluster.load_image(&archive)?;
            println!("{} {}", archive.name, archive.digest);
        }
        ClusterCommand::Env(name) => println!("{}", shell_environment(&name.name)?),
    }
    Ok(ExitCode::SUCCESS)
}
