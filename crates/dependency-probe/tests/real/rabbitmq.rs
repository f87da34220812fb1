//! A real RabbitMQ, with its management API.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
};

use dependency_probe::{
    Access, Asked, Trust,
    rabbitmq::{self, Queue, Target},
};
use mcp_health_core::signals::CheckStep;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::process::{ALL, SOON, Server, found, port};

/// Where a broker is.
#[derive(Clone, Copy)]
struct Broker {
    amqp: u16,
    management: u16,
}

/// A RabbitMQ with these settings, once its management API answers. Its user is mcp with the password s3cret.
async fn broker(settings: &str) -> (Server, Broker) {
    let root = found("MCP_HEALTH_RABBITMQ");
    let mut server = Server::new();
    let folder = server.folder.path().to_owned();
    let (amqp, management, distribution, names) = (port(), port(), port(), port());
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let config = write(
        "rabbitmq.conf",
        &format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             default_user = mcp\ndefault_pass = s3cret\n{settings}\n"
        ),
    );
    let plugins = write("plugins", "[rabbitmq_management].");
    // Erlang's own starter names the folder that it would be installed in.
    let erlang = root.join("usr/lib/erlang");
    let runtime = fs::read_dir(&erlang).unwrap().flatten().map(|entry| entry.path().join("bin"));
    let runtime = runtime.into_iter().find(|path| path.join("erlexec").is_file()).unwrap();
    fs::create_dir(folder.join("bin")).unwrap();
    let erl = write("bin/erl", "#!/bin/sh\nexec \"$BINDIR/erlexec\" \"$@\"\n");
    fs::set_permissions(&erl, fs::Permissions::from_mode(0o700)).unwrap();
    // The register of names that Erlang starts as a daemon where there is none.
    server.run(
        Command::new(runtime.join("epmd"))
            .args(["-port", &names.to_string()])
            .env("ERL_EPMD_ADDRESS", "127.0.0.1"),
    );
    server.awaited(async || TcpStream::connect(("127.0.0.1", names)).ok()).await;
    let path = std::env::var("PATH").unwrap_or_default();
    server.run(
        Command::new(root.join("usr/lib/rabbitmq/bin/rabbitmq-server"))
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .env("ROOTDIR", &erlang)
            .env("BINDIR", &runtime)
            .env("EMU", "beam")
            .env("PROGNAME", "erl")
            .env("HOME", &folder)
            .env("ERL_EPMD_PORT", names.to_string())
            .env("LD_LIBRARY_PATH", root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH)))
            .env("RABBITMQ_NODENAME", format!("mcp{amqp}@localhost"))
            .env("RABBITMQ_CONFIG_FILE", &config)
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false")
            // So that the process is the broker itself, not a shell that waits for it.
            .env("RUNNING_UNDER_SYSTEMD", "true"),
    );
    server
        .awaited(async || {
            call(management, "GET", "/api/overview", "").filter(|answer| answer.contains(" 200 "))
        })
        .await;
    // It listens for others once all its plugins run.
    listens(&mut server, amqp).await;
    (server, Broker { amqp, management })
}

async fn listens(server: &mut Server, port: u16) {
    server.awaited(async || TcpStream::connect(("127.0.0.1", port)).ok()).await;
}

/// A call of the management API; the answer, where there is one.
fn call(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // mcp:s3cret
    let head = "Host: localhost\r\nAuthorization: Basic bWNwOnMzY3JldA==\r\nConnection: close";
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}

impl Broker {
    fn call(self, method: &str, path: &str, body: &str) {
        let answer = call(self.management, method, path, body).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{path}: {answer}");
    }

    async fn ask(self, who: &str, vhost: &str, queues: &[Queue]) -> Asked {
        let access = Access::amqp(&format!("amqp://{who}@127.0.0.1:{}/{vhost}", self.amqp)).unwrap();
        let management = format!("http://127.0.0.1:{}", self.management);
        let target = Target { access: &access, management: Some(&management), queues };
        let asked = rabbitmq::ask(&target, &Trust::own(), ALL, SOON).await.unwrap();
        assert!(!format!("{asked:?}").contains("s3cret"), "{asked:?}");
        asked
    }
}

fn said(asked: &Asked) -> (CheckStep, &str) {
    let failure = asked.result.as_ref().unwrap_err();
    (failure.step, &failure.said)
}

fn queue(name: &str, max_messages: Option<i64>, min_consumers: Option<i64>) -> Vec<Queue> {
    vec![Queue { name: name.to_owned(), max_messages, min_consumers }]
}

#[tokio::test]
#[ignore = "runs RabbitMQ"]
async fn a_broker_is_logged_in_to_and_tells_of_its_queues() {
    let (mut server, broker) = broker("").await;
    let well = broker.ask("mcp:s3cret", "", &[]).await;
    assert_eq!(well.result, Ok(()));
    assert!(well.remarks[0].starts_with("is RabbitMQ 3."), "{well:?}");

    let refused = broker.ask("mcp:s3cretly", "", &[]).await;
    assert_eq!(said(&refused).0, CheckStep::Login, "{refused:?}");
    assert!(said(&refused).1.starts_with("ends the connection: ACCESS_REFUSED"), "{refused:?}");
    let nowhere = broker.ask("mcp:s3cret", "nowhere", &[]).await;
    assert_eq!(
        said(&nowhere),
        (CheckStep::Answer, "ends the connection: NOT_ALLOWED - vhost nowhere not found")
    );
    broker.call("PUT", "/api/users/stranger", r#"{"password": "pw", "tags": ""}"#);
    let stranger = broker.ask("stranger:pw", "", &[]).await;
    assert_eq!(said(&stranger).0, CheckStep::Login, "{stranger:?}");
    broker.call("PUT", "/api/permissions/%2F/stranger", r#"{"configure": "", "write": "", "read": ""}"#);
    let stranger = broker.ask("stranger:pw", "", &[]).await;
    let says = "its management API answers 401 Unauthorized for its overview";
    assert_eq!(said(&stranger), (CheckStep::Login, says));

    broker.call("PUT", "/api/queues/%2F/jobs%2Fslow", "{}");
    let none = broker.ask("mcp:s3cret", "", &queue("other", None, None)).await;
    assert_eq!(said(&none), (CheckStep::Answer, "there is no queue other"));
    let idle = broker.ask("mcp:s3cret", "%2f", &queue("jobs/slow", Some(1), Some(0))).await;
    assert_eq!(idle.result, Ok(()));
    let message =
        r#"{"properties": {}, "routing_key": "jobs/slow", "payload": "a", "payload_encoding": "string"}"#;
    for _ in 0..3 {
        broker.call("POST", "/api/exchanges/%2F/amq.default/publish", message);
    }
    // It counts every few seconds.
    let deep = server.awaited(async || {
        let asked = broker.ask("mcp:s3cret", "", &queue("jobs/slow", Some(2), None)).await;
        asked.result.is_err().then_some(asked)
    });
    let deep = deep.await;
    let says = "queue jobs/slow has 3 messages and 0 consumers: more than 2 messages";
    assert_eq!(said(&deep), (CheckStep::Answer, says));
    let lonely = broker.ask("mcp:s3cret", "", &queue("jobs/slow", None, Some(1))).await;
    let says = "queue jobs/slow has 3 messages and 0 consumers: nobody takes from it";
    assert_eq!(said(&lonely), (CheckStep::Answer, says));
}

#[tokio::test]
#[ignore = "runs RabbitMQ"]
async fn alarms_are_told_by_what_they_are_for() {
    let (mut server, broker) =
        broker("vm_memory_high_watermark.absolute = 1MB\ndisk_free_limit.absolute = 900000GB").await;
    let alarmed = server.awaited(async || {
        let asked = broker.ask("mcp:s3cret", "", &[]).await;
        asked.result.as_ref().is_err_and(|failure| failure.said.contains(" and ")).then_some(asked)
    });
    let alarmed = alarmed.await;
    let says = "has an alarm for disk space and memory: publishers are blocked";
    assert_eq!(said(&alarmed), (CheckStep::Answer, says));
}

#[tokio::test]
#[ignore = "runs RabbitMQ"]
async fn tls_is_spoken_by_a_certificate_that_an_authority_vouches_for() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, crt, pem) = (
        file("ca.crt", authority.pem()),
        file("tls.crt", certificate.pem()),
        file("tls.key", key.serialize_pem()),
    );
    let (amqps, https) = (port(), port());
    let (mut server, broker) = broker(&format!(
        "listeners.ssl.1 = 127.0.0.1:{amqps}\nssl_options.cacertfile = {ca}\nssl_options.certfile = {crt}\n\
         ssl_options.keyfile = {pem}\nmanagement.ssl.ip = 127.0.0.1\nmanagement.ssl.port = {https}\n\
         management.ssl.cacertfile = {ca}\nmanagement.ssl.certfile = {crt}\nmanagement.ssl.keyfile = {pem}"
    ))
    .await;
    for port in [amqps, https] {
        listens(&mut server, port).await;
    }
    let trust = Trust::pem(authority.pem().as_bytes()).unwrap();
    let management = format!("https://127.0.0.1:{https}");
    let ask = async |host: &str, port, password, trust: &Trust| {
        let access = Access::amqp(&format!("amqps://mcp:{password}@{host}:{port}")).unwrap();
        let target = Target { access: &access, management: Some(&management), queues: &[] };
        rabbitmq::ask(&target, trust, ALL, SOON).await.unwrap()
    };
    let well = ask("127.0.0.1", amqps, "s3cret", &trust).await;
    assert_eq!(well.result, Ok(()));
    assert!(well.remarks[0].starts_with("is RabbitMQ 3."), "{well:?}");
    assert!(well.certificate.is_some_and(|shown| shown.not_after > jiff::Timestamp::now()));
    let refused = ask("127.0.0.1", amqps, "s3cretly", &trust).await;
    assert_eq!(said(&refused).0, CheckStep::Login, "{refused:?}");
    let stranger = ask("127.0.0.1", amqps, "s3cret", &Trust::own()).await;
    assert_eq!(said(&stranger).0, CheckStep::Certificate, "{stranger:?}");
    let elsewhere = ask("localhost", amqps, "s3cret", &trust).await;
    assert_eq!(said(&elsewhere).0, CheckStep::Certificate, "{elsewhere:?}");
    let plain = ask("127.0.0.1", broker.amqp, "s3cret", &trust).await;
    assert_eq!(said(&plain).0, CheckStep::Handshake, "{plain:?}");
}
