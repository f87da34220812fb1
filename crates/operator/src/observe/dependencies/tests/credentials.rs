//! Credentials from Secrets show nowhere (invariant 9): every kind of dependency is asked with planted ones, of servers
//! that refuse, are silent, hang up, or give back what they were told in whatever their protocol has for words; and
//! then everything that people see is looked through.

use std::{fmt::Write as _, io};

use base64::{Engine, prelude::BASE64_STANDARD};
use mcp_health_api::McpServerHealthStatus;
use mcp_health_core::{
    Case, Fleet, Settings, decide, diagnose, report,
    signals::{Signals, Target},
    verify,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tracing::subscriber::set_default;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Names are no secret: a dependency may say whom it refuses.
const USER: &str = "mcp-user";
const PASSWORD: &str = "pl4nted-word";

/// What a server does with what it is told.
#[derive(Clone, Copy, Debug)]
enum Echo {
    Silent,
    HangsUp,
    Bytes,
    /// A Redis that says so in an error; or in `INFO`.
    RedisError,
    RedisInfo,
    /// A RabbitMQ that says so as it closes the connection.
    RabbitMq,
    /// A server over HTTP that says so with this status.
    Http(u16),
}

const ALL: [Echo; 12] = [
    Echo::Silent,
    Echo::HangsUp,
    Echo::Bytes,
    Echo::RedisError,
    Echo::RedisInfo,
    Echo::RabbitMq,
    Echo::Http(200),
    Echo::Http(302),
    Echo::Http(400),
    Echo::Http(401),
    Echo::Http(403),
    Echo::Http(503),
];

async fn listen(echo: Echo) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = serve(stream, echo).await;
            });
        }
    });
    port
}

async fn serve(mut stream: TcpStream, echo: Echo) -> io::Result<()> {
    let (mut told, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        told.extend_from_slice(&bytes[..count]);
        let words: String = String::from_utf8_lossy(&told)
            .chars()
            .map(|one| if one.is_ascii_graphic() { one } else { ' ' })
            .collect();
        let answer = match echo {
            Echo::Silent => continue,
            Echo::HangsUp => return Ok(()),
            Echo::Bytes => bytes[..count].to_vec(),
            Echo::RedisError => format!("-WRONGPASS {words}\r\n").into_bytes(),
            Echo::RedisInfo => {
                let info = format!("redis_version:{words}\r\nmaxmemory_policy:{words}\r\nrole:{words}\r\n");
                format!("${}\r\n{info}\r\n", info.len()).into_bytes()
            }
            Echo::RabbitMq if told.len() <= 8 => {
                let mut start = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 0];
                for text in ["PLAIN", "en_US"] {
                    start.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    start.extend(text.as_bytes());
                }
                frame(&start)
            }
            Echo::RabbitMq => {
                let tail = &words.as_bytes()[words.len().saturating_sub(120)..];
                let mut close = vec![0, 10, 0, 50, 1, 147, u8::try_from(tail.len()).unwrap()];
                close.extend(tail);
                close.extend([0, 0, 0, 0]);
                frame(&close)
            }
            Echo::Http(_) if !told.windows(4).any(|end| end == b"\r\n\r\n") => continue,
            Echo::Http(status) => {
                let body = format!("<Error><Code>{words}</Code><Message>{words}</Message></Error>");
                let mut answer =
                    format!("HTTP/1.1 {status} {words}\r\nlocation: /?{}\r\n", words.replace(' ', "+"));
                write!(answer, "server: {words}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
                told.clear();
                answer.into_bytes()
            }
        };
        stream.write_all(&answer).await?;
    }
}

fn frame(method: &[u8]) -> Vec<u8> {
    let length = u32::try_from(method.len()).unwrap().to_be_bytes();
    [&[1, 0, 0], &length[..], method, &[0xce]].concat()
}

/// An API server whose Secrets hold what the test says, by `name/key`.
fn secrets(content: BTreeMap<String, BTreeMap<String, String>>) -> Secrets {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let data = content.get(&name).cloned().unwrap_or_default();
            let data: BTreeMap<String, String> =
                data.into_iter().map(|(key, value)| (key, BASE64_STANDARD.encode(value))).collect();
            let secret = json!({"metadata": {"name": name}, "data": data});
            send.send_response(Response::new(Body::from(secret.to_string().into_bytes())));
        }
    });
    Secrets::new(Some(kube::Client::new(service, "mcp")))
}

/// What the log holds.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Every kind of dependency that takes credentials, at this port, plain and over TLS.
fn declare(
    name: &str,
    host: &str,
    port: u16,
    held: &mut BTreeMap<String, BTreeMap<String, String>>,
) -> Vec<Value> {
    let of = |key: &str| json!({"name": name, "key": key});
    let keys = held.entry(name.to_owned()).or_default();
    let mut all = Vec::new();
    for scheme in ["amqp", "amqps"] {
        keys.insert(scheme.to_owned(), format!("{scheme}://{USER}:{PASSWORD}@{host}:{port}/%2f"));
        all.push(json!({"name": format!("{name}-{scheme}"), "rabbitmq": {
            "connectionSecretRef": of(scheme), "managementUrl": format!("http://{host}:{port}"),
            "queues": [{"name": "orders", "maxMessages": 1}],
        }}));
    }
    keys.insert("id".to_owned(), USER.to_owned());
    keys.insert("key".to_owned(), PASSWORD.to_owned());
    for scheme in ["http", "https"] {
        all.push(json!({"name": format!("{name}-s3-{scheme}"), "s3": {
            "endpoint": format!("{scheme}://{host}:{port}"), "bucket": "mcp-storage", "region": "us-east-1",
            "accessKeySecretRef": of("id"), "secretKeySecretRef": of("key"),
        }}));
        let url = format!("{scheme}://{USER}:{PASSWORD}@{host}:{port}/");
        all.push(json!({"name": format!("{name}-{scheme}"), "http": {"url": url}}));
        all.push(json!({"name": format!("{name}-oidc-{scheme}"), "oidc": {"issuer": url}}));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn credentials_show_nowhere_whatever_the_dependencies_do_with_them() {
    use CheckStep::{Answer, Handshake, Login, Name, Port};
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    let _guard = set_default(subscriber.finish());
    let mut held = BTreeMap::new();
    let mut places = vec![
        ("closed".to_owned(), "127.0.0.1", closed().await),
        ("nameless".to_owned(), "nobody.invalid", 1),
        ("elsewhere".to_owned(), "elsewhere.example", 1),
    ];
    for echo in ALL {
        let name = format!("{echo:?}").to_lowercase().replace(['(', ')'], "");
        places.push((name, "127.0.0.1", listen(echo).await));
    }
    let mut objects = Vec::new();
    for (name, host, port) in &places {
        let dependencies = declare(name, host, *port, &mut held);
        for scheme in ["redis", "rediss"] {
            let url = format!("{scheme}://{USER}:{PASSWORD}@{host}:{port}/0");
            held.get_mut(name).unwrap().insert(scheme.to_owned(), url);
            let redis = json!({"connectionSecretRef": {"name": name, "key": scheme}});
            let signals = json!({"redis": redis, "dependencies": dependencies});
            objects.push(object("mcp", &format!("{name}-{scheme}"), &signals, &[]));
        }
    }
    // A Secret that holds something else than it should.
    let odd = json!({"name": "odd", "rabbitmq": {"connectionSecretRef": {"name": "odd", "key": "url"}}});
    let redis = json!({"connectionSecretRef": {"name": "odd", "key": "url"}, "caSecretRef": {"name": "odd", "key": "ca"}});
    let content = [("url", format!("redis://{USER}:{PASSWORD}@a:b")), ("ca", PASSWORD.to_owned())];
    held.insert("odd".to_owned(), content.map(|(key, value)| (key.to_owned(), value)).into());
    objects.push(object("mcp", "odd", &json!({"redis": redis, "dependencies": [odd]}), &[]));

    let world = World::with("127.0.0.1,*.invalid", secrets(held));
    let mut steps = BTreeSet::new();
    let mut shown = String::new();
    for object in &objects {
        let all = world.after(3, object).await;
        steps.extend(all.iter().filter_map(|one| Some(one.failure()?.step)));
        assert!(all.iter().all(|one| one.barred.is_some() || !one.results.is_empty()), "{all:#?}");
        let answered = all.iter().map(|one| Dependency { ever_answered: true, ..one.clone() });
        shown.push_str(&told_to_people(object, answered.collect()));
        write!(shown, "{all:?}").unwrap();
    }
    for step in [Name, Port, Handshake, Login, Answer] {
        assert!(steps.contains(&step), "{step} never failed: {steps:?}");
    }
    world.metrics.certify(world.stores.dependencies.as_ref().unwrap().certificates());
    shown.push_str(&world.metrics.text().unwrap());
    shown.push_str(&String::from_utf8_lossy(&log.0.lock().unwrap()));
    assert!(shown.contains("dependency_checks_total{kind=\"redis\",outcome=\"Login\"}"), "{shown}");
    // By the object's own word, in a URL of it, it may show to nobody either.
    let basic = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for secret in [PASSWORD, &basic, "pl4nted"] {
        let at =
            shown.find(secret).map(|at| &shown[shown.floor_char_boundary(at.saturating_sub(300))..at + 40]);
        assert_eq!(at, None, "{secret} shows");
    }
}

/// Status, conditions, Events and problems of a server that depends on these.
fn told_to_people(object: &McpServerHealth, dependencies: Vec<Dependency>) -> String {
    let signals = Signals {
        target: Reading::Fresh(Some(Target { uid: "uid".to_owned(), desired: 1, ..Target::default() })),
        revisions: Reading::Fresh(Vec::new()),
        pods: Reading::Fresh(Vec::new()),
        dependencies: Reading::Fresh(dependencies),
        ..Signals::default()
    };
    let (before, settings) = (McpServerHealthStatus::default(), Settings::default());
    let case = Case {
        generation: 1,
        spec: &object.spec,
        status: &before,
        signals: &signals,
        settings: &settings,
        now: Timestamp::now(),
    };
    let diagnosis = diagnose(&case);
    let draft = verify(&case, &diagnosis);
    let decision = decide(&case, &diagnosis, &draft, &Fleet::default());
    let status = report::status(&case, &diagnosis, &draft, &decision);
    let news = report::news(&before, &status);
    format!("{} {news:?} {:?}", serde_json::to_string(&status).unwrap(), diagnosis.problems(&signals))
}
