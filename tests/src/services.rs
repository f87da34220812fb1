//! Real services that servers depend on, as pods of a story: Redis, RabbitMQ, an S3 server, TLS endpoints, and PgBouncer
//! before a PostgreSQL.

use std::{path::Path, time::SystemTime};

use cluster::parts;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use xtask::testing::services::{PGBOUNCER, RABBITMQ, REDIS, Service};

use crate::{
    forward::Forward,
    postgres::{DATABASE, OPERATOR, OPERATOR_PASSWORD, Postgres, SERVER_PASSWORD, USER},
    program::{Program, Running},
    until,
};

/// What clients of Redis log in with; nobody is to see it.
pub const REDIS_PASSWORD: &str = "pl4nted-r3dis";

/// What clients of RabbitMQ log in with; nobody is to see it.
pub const RABBITMQ_PASSWORD: &str = "pl4nted-r4bbit";
/// What clients of the S3 server sign with; nobody is to see it.
pub const S3_SECRET: &str = "pl4nted-s3-key";
/// Who they are.
pub const S3_KEY: &str = "mcp-storage-user";
/// The bucket that is there.
pub const BUCKET: &str = "mcp-storage";

fn root(service: &Service) -> std::path::PathBuf {
    service.root().unwrap_or_else(|error| panic!("it cannot be had: {error}"))
}

/// Libraries that came with a service, since this machine lacks them.
fn libraries(root: &Path) -> String {
    root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)).display().to_string()
}

/// A RabbitMQ with its management API; its user is `mcp`.
pub fn rabbitmq() -> Program {
    let root = root(&RABBITMQ);
    let lib = root.join("usr/lib");
    let system = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    // Its scripts name its folders as they are in the root of a system, so that all of /usr cannot come from here.
    let folders = ["/usr/bin", &system, "/lib", "/lib64"].map(Path::new);
    let config = format!(
        "default_user = mcp\ndefault_pass = {RABBITMQ_PASSWORD}\nloopback_users = none\nlisteners.tcp.default = 5672\n\
         management.tcp.port = 15672\n"
    );
    let environment = [
        ("PATH", "/usr/lib/erlang/bin:/usr/bin"),
        ("HOME", "/data"),
        ("RABBITMQ_NODENAME", "rabbit@localhost"),
        ("RABBITMQ_MNESIA_BASE", "/data"),
        ("RABBITMQ_LOGS", "-"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "/files/enabled_plugins"),
        ("RABBITMQ_CONFIG_FILE", "/files/rabbitmq.conf"),
    ];
    let start = ["/usr/bin/sh", "/usr/lib/rabbitmq/bin/rabbitmq-server"];
    let program = Program::new("rabbitmq", &start, &[5672, 15672, 61613])
        .only_folders(&folders)
        .folder(&root.join(&system[1..]))
        .folder_at(&lib.join("rabbitmq"), Path::new("/usr/lib/rabbitmq"))
        .folder_at(&lib.join("erlang"), Path::new("/usr/lib/erlang"))
        .environment("LD_LIBRARY_PATH", &libraries(&root))
        .files(json!({"rabbitmq.conf": config, "enabled_plugins": "[rabbitmq_management, rabbitmq_stomp]."}));
    environment.iter().fold(program, |program, (name, value)| program.environment(name, value))
}

/// Asks RabbitMQ's management API to do something.
pub async fn ask_rabbitmq(
    rabbitmq: &Running<'_>,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<(), String> {
    let forward = Forward::open(&rabbitmq.story.namespace, "service/rabbitmq", 15672).await?;
    let method = method.parse().expect("a method");
    let request = reqwest::Client::new().request(method, format!("{}/api/{path}", forward.url));
    let request = request.basic_auth("mcp", Some(RABBITMQ_PASSWORD)).json(body);
    let answer = request.send().await.and_then(reqwest::Response::error_for_status);
    answer.map(drop).map_err(|error| error.to_string())
}

/// Consumes a queue until it is dropped.
pub struct Consumer {
    _stream: TcpStream,
    _forward: Forward,
}

/// Consumes a queue: by STOMP, which is words.
pub async fn consumer(rabbitmq: &Running<'_>, queue: &str) -> Consumer {
    let consume = async || {
        let forward = Forward::open(&rabbitmq.story.namespace, "service/rabbitmq", 61613).await?;
        let address = forward.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let words = format!(
            "CONNECT\naccept-version:1.2\nhost:/\nlogin:mcp\npasscode:{RABBITMQ_PASSWORD}\n\n\0\
             SUBSCRIBE\nid:0\ndestination:/amq/queue/{queue}\nreceipt:there\n\n\0"
        );
        stream.write_all(words.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains("receipt-id:there") {
            let read = stream.read_buf(&mut heard).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(String::from_utf8_lossy(&heard).into_owned());
            }
        }
        Ok(Consumer { _stream: stream, _forward: forward })
    };
    until(&format!("queue {queue} is consumed"), consume).await
}

/// A PgBouncer before this PostgreSQL: a session there is whoever's has a transaction at the moment.
pub fn pgbouncer(postgres: &Postgres<'_>) -> Program {
    let root = root(&PGBOUNCER);
    let config = format!(
        "[databases]\n{DATABASE} = host={} port=5432\n[pgbouncer]\nlisten_addr = *\nlisten_port = 6432\n\
         unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = /files/users.txt\npool_mode = transaction\n",
        postgres.program.host()
    );
    let users = format!("\"{USER}\" \"{SERVER_PASSWORD}\"\n\"{OPERATOR}\" \"{OPERATOR_PASSWORD}\"\n");
    let program = root.join("usr/sbin/pgbouncer").display().to_string();
    Program::new("pgbouncer", &[&program, "/files/pgbouncer.ini"], &[6432])
        .environment("LD_LIBRARY_PATH", &libraries(&root))
        .folder(&root)
        .files(json!({"pgbouncer.ini": config, "users.txt": users}))
        .user(65532)
}

/// An S3 server with one bucket.
pub fn s3() -> Program {
    let built = parts::ensure(&[&parts::VERSITYGW]);
    let built = built.and_then(|programs| programs.path("versitygw").map(Path::to_owned));
    let program = built.unwrap_or_else(|error| panic!("the S3 server cannot be had: {error}"));
    let folder = program.parent().expect("it is in a folder").to_owned();
    let serve = format!(
        "mkdir -p /data/buckets/{BUCKET} && exec {} --address :7070 --folder /data",
        program.display()
    );
    Program::new("s3", &["/usr/bin/sh", "-c", &serve], &[7070])
        .environment("PATH", "/usr/bin")
        .environment("ROOT_ACCESS_KEY", S3_KEY)
        .environment("ROOT_SECRET_KEY", S3_SECRET)
        .folder(&folder)
}

/// A Redis that wants the password, with these settings.
pub fn redis(settings: &[&str]) -> Program {
    let root = root(&REDIS);
    let program = root.join("usr/bin/redis-server").display().to_string();
    let password = ["--requirepass", REDIS_PASSWORD, "--save", "", "--protected-mode", "no", "--dir", "/tmp"];
    Program::new("redis", &[&[program.as_str()], &password[..], settings].concat(), &[6379])
        .environment("LD_LIBRARY_PATH", &libraries(&root))
        .folder(&root)
}

/// What Redis answers, or says instead.
pub async fn redis_cli(redis: &Running<'_>, words: &[&str]) -> String {
    let root = root(&REDIS);
    let program = root.join("usr/bin/redis-cli").display().to_string();
    let said =
        redis.run(&[&[program.as_str(), "-a", REDIS_PASSWORD, "--no-auth-warning"], words].concat()).await;
    said.out + &said.err
}

/// An authority that nobody else knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    pub pem: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are no problem");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("a certificate can be made").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Something that takes TLS connections under these names, by a certificate that holds until then.
    pub fn endpoint(&self, program: &'static str, names: &[&str], until: SystemTime) -> Program {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("host names");
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
        params.not_after = until.into();
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        let files = ["-cert", "/files/tls.crt", "-key", "/files/tls.key"];
        let serve = ["/usr/bin/openssl", "s_server", "-accept", "8443", "-www", "-quiet"];
        Program::new(program, &[&serve[..], &files].concat(), &[8443])
            .files(json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()}))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
