//! Real servers of what MCP servers depend on: Redis, RabbitMQ and PgBouncer from Debian's packages, unpacked
//! into the cache and not installed, so that no daemon starts and nothing of the system changes; PostgreSQL
//! of each version from npm's packages; an S3 server built like the parts of the cluster. And the stage whose
//! tests run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster::command::{run as command, which};
use cluster::error::{Error, Result};
use cluster::{parts, preflight};

use super::cached::cached;
use super::options::{Options, in_ci, tests};
use super::report::Report;
use super::versions;

/// RabbitMQ takes half a minute to start; the first time, packages are fetched and the S3 server is built.
const LIMIT: Duration = Duration::from_mins(20);

/// A server from Debian's packages.
pub struct Service {
    name: &'static str,
    /// The packages that it is in; what they need comes with them.
    packages: &'static [&'static str],
    /// A file that is there once it is unpacked.
    has: &'static str,
}

/// `usr/bin/redis-server`.
pub const REDIS: Service =
    Service { name: "redis", packages: &["redis-server", "redis-tools"], has: "usr/bin/redis-server" };

/// `usr/lib/rabbitmq` and `usr/lib/erlang`. Scripts in them name these folders as they are in the root of a
/// system.
pub const RABBITMQ: Service = Service {
    name: "rabbitmq",
    packages: &["rabbitmq-server", "erlang-base"],
    has: "usr/lib/rabbitmq/bin/rabbitmq-server",
};

/// `usr/sbin/pgbouncer`.
pub const PGBOUNCER: Service =
    Service { name: "pgbouncer", packages: &["pgbouncer"], has: "usr/sbin/pgbouncer" };

/// Whether Debian's packages can be had here.
pub fn is_debian() -> bool {
    which("apt-get").is_some() && which("dpkg-deb").is_some()
}

impl Service {
    /// The folder that it is unpacked in, as in the root of a system; fetched where it is not there yet.
    /// Libraries that this machine has anyway are not in it.
    pub fn root(&self) -> Result<PathBuf> {
        let is_whole = |root: &Path| root.join(self.has).exists();
        cached(self.name, is_whole, &self.packages.join(", "), |partial| {
            self.fetch(partial).and_then(|()| unpack(partial, &partial.join("root")))
        })
    }

    /// Its packages, and those that they need and this machine lacks.
    fn fetch(&self, into: &Path) -> Result<()> {
        let list = || {
            let mut apt = Command::new("apt-get");
            apt.args(["install", "--reinstall", "--no-install-recommends", "--print-uris", "-q", "-y"]);
            command("listing packages", apt.args(self.packages))
        };
        let download = || {
            // `'address' name_version_architecture.deb size hash`.
            let listed = list()?;
            let files = listed
                .lines()
                .filter(|line| line.starts_with('\''))
                .filter_map(|line| line.split(' ').nth(1));
            let names: Vec<&str> = files.filter_map(|file| file.split('_').next()).collect();
            command(
                "fetching packages",
                Command::new("apt-get").current_dir(into).args(["download", "-q"]).args(names),
            )
        };
        // With fresh package lists the first try succeeds; without, they are fetched once.
        if download().is_err() {
            command("fetching the package lists", Command::new("apt-get").args(["-q", "update"]))?;
            download()?;
        }
        Ok(())
    }
}

fn unpack(packages: &Path, into: &Path) -> Result<()> {
    let files =
        fs::read_dir(packages).map_err(Error::file("read", packages))?.flatten().map(|file| file.path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "deb")) {
        command("unpacking a package", Command::new("dpkg-deb").arg("-x").arg(&file).arg(into))?;
    }
    Ok(())
}

/// Runs the tests that ask real servers; notes the servers that cannot be had here. With `CI` set, all are
/// required.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let debian = is_debian();
    let go = preflight::check_parts(&[&parts::VERSITYGW]).is_ok();
    let npm = versions::can_be_had();
    let lacking: Vec<_> = [
        (debian, "redis::", "Redis", "Debian's packages (apt-get, dpkg-deb)"),
        (debian, "rabbitmq::", "RabbitMQ", "Debian's packages (apt-get, dpkg-deb)"),
        (debian, "pooler::", "PgBouncer", "Debian's packages (apt-get, dpkg-deb)"),
        (npm, "versions::", "PostgreSQL 12 to 18", versions::WANTS),
        (go, "s3::", "S3", "Go, and room to build"),
    ]
    .into_iter()
    .filter(|(is_here, ..)| !is_here)
    .collect();
    report.run("services", |stage| {
        if let (true, Some((_, _, name, wants))) = (in_ci(), lacking.first()) {
            return Err(Error::other(format!("CI is set, which requires {name}: {wants}")));
        }
        let skipped = lacking.iter().flat_map(|(_, tests, ..)| ["--skip", *tests]);
        let to_harness: Vec<&str> = ["--ignored", "--skip", "figures"].into_iter().chain(skipped).collect();
        let which = ["--workspace", "--test", "real", "--test", "postgres"];
        let mut command = tests(&which, options, &to_harness);
        if debian {
            command.env("MCP_HEALTH_REDIS", REDIS.root()?).env("MCP_HEALTH_RABBITMQ", RABBITMQ.root()?);
            command.env("MCP_HEALTH_PGBOUNCER", PGBOUNCER.root()?);
        }
        if npm {
            command.env("MCP_HEALTH_POSTGRES", versions::folder()?);
        }
        if go {
            command.env("MCP_HEALTH_S3", parts::ensure(&[&parts::VERSITYGW])?.path("versitygw")?);
        }
        stage.tests(&mut command, LIMIT)
    })?;
    if options.only.is_none() {
        for (_, _, name, wants) in lacking {
            report.lacking(name, wants);
        }
    }
    Ok(())
}
