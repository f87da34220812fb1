//! What a server depends on goes away, in every way that it can: that is told, by the step that failed, and no pod is
//! restarted for any of it.

use std::time::{Duration, SystemTime};

use mcp_health_e2e::{
    Cause, ConditionType, Incident, IncidentType, Server, Story, host,
    host::Killer,
    policy,
    postgres::{self, Postgres},
    services::{self, Authority, BUCKET},
    until,
};
use serde_json::{Value, json};

/// The operator may read the Secrets of the story, and ask what is in its namespace.
const VALUES: &[&str] =
    &["signals.secrets=true", "signals.allowedEndpoints={*.NAMESPACE,*.NAMESPACE.svc.cluster.local}"];

/// Awaits that the operator has been answered by all of these: what never answered is no evidence.
async fn answered(server: &Server, names: &[&str]) {
    server
        .policy
        .until(&format!("{names:?} have answered"), |status| {
            let known = &status.target.as_ref()?.answered_dependencies;
            let has = |name: &&str| known.iter().any(|one| one.name == **name);
            names.iter().all(has).then_some(())
        })
        .await;
}

/// Awaits that something is told to be down.
async fn is_down(server: &Server, cause: Cause, evidence: &[&str]) -> Incident {
    let incident = server.incident(IncidentType::DependencyDown, cause).await;
    for line in evidence {
        server.policy.evidence(&incident, line).await;
    }
    assert_eq!(incident.attempts, []);
    incident
}

/// Awaits that it is over, without an action.
async fn is_back(server: &Server, incident: &Incident) {
    assert_eq!(server.policy.resolved(incident).await.done(), "");
}

#[tokio::test]
async fn a_database_that_is_stopped_hangs_or_refuses_restarts_nobody() {
    if !host::is_this_machine("a database that is away") {
        return;
    }
    let story = Story::begin_with_values("database-away", VALUES).await;
    let postgres = Postgres::start(&story, &["max_connections = 20"]).await;
    let killer = Killer::ready(&story).await;
    let signals = json!({"signals": {"postgres": postgres.signal()}});
    // One is not ready without its database, and one is.
    let first = story.server().policy(signals.clone()).deployment(postgres.used(2)).healthy().await;
    let listens = json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1});
    let second = story.server().named("second").policy(signals).deployment(postgres.used(2));
    let second = second.deployment(move |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = listens;
    });
    let second = second.healthy().await;
    let lives = (first.lives().await, second.lives().await);
    answered(&first, &["postgres"]).await;
    answered(&second, &["postgres"]).await;

    postgres.stop().await;
    let incident = is_down(&first, Cause::DatabaseConnection, &["dependency postgres is down (port)"]).await;
    let other = is_down(&second, Cause::DatabaseConnection, &["1 other server leans on", "mcp-server"]).await;
    first.policy.considered_again().await;
    postgres.start_again().await;
    is_back(&first, &incident).await;
    is_back(&second, &other).await;

    postgres.program.pause(&killer).await;
    let incident = is_down(&first, Cause::DatabaseConnection, &["dependency postgres is down"]).await;
    let other = is_down(&second, Cause::DatabaseConnection, &["dependency postgres is down"]).await;
    postgres.program.resume(&killer).await;
    is_back(&first, &incident).await;
    is_back(&second, &other).await;

    postgres.query("ALTER ROLE mcp_health PASSWORD 'another'").await;
    postgres.hang_up("mcp_health").await;
    let incident =
        is_down(&second, Cause::DatabaseConnection, &["dependency postgres is down (login)"]).await;
    story.secret("postgres", &[("url", &postgres.url("mcp_health", "another"))]).await;
    is_back(&second, &incident).await;

    first.policy.healthy().await;
    assert_eq!((first.lives().await, second.lives().await), lives, "no pod was restarted");
    first.is_untouched().await;
    second.is_untouched().await;
    first.serves_mcp().await;
    story.is_silent_about(&[postgres::SERVER_PASSWORD, postgres::OPERATOR_PASSWORD, "another@"]).await;
}

/// The numbers that stand before this word.
fn numbers_before(line: &str, word: &str) -> Vec<i64> {
    line.split(word).filter_map(|part| part.rsplit(' ').next()?.parse().ok()).collect()
}

/// A name that resolves to this address.
async fn resolves_to(story: &Story, name: &str, address: &str) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": [address]}],
        },
    ]});
    story.kubectl_with(&["apply", "--server-side", "--filename=-"], &list.to_string()).await.ok();
}

async fn fill(redis: &mcp_health_e2e::program::Running<'_>) {
    let script = "for i=1,9000 do redis.call('set', i, string.rep('x', 1000)) end";
    services::redis_cli(redis, &["eval", script, "0"]).await;
    // Whether there is room is asked when a script begins.
    let said = services::redis_cli(redis, &["set", "more", "x"]).await;
    assert!(said.contains("OOM"), "Redis still has room: {said}");
}

#[tokio::test]
async fn of_what_a_server_depends_on_each_failure_is_told_by_its_step_and_no_pod_is_touched() {
    if !host::is_this_machine("Redis, RabbitMQ, S3, TLS and DNS that fail") {
        return;
    }
    let story = Story::begin_with_values("dependencies", VALUES).await;
    let at = |name: &str| format!("{name}.{}", story.namespace);
    let (day, authority) = (Duration::from_hours(24), Authority::new());
    let host = at("api");
    let api = authority.endpoint("api", &[&host], SystemTime::now() + 90 * day).start(&story).await;
    authority.endpoint("expired", &[&host], SystemTime::now() - day).start(&story).await;
    let redis =
        services::redis(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]).start(&story).await;
    services::s3().start(&story).await;
    let rabbitmq = services::rabbitmq().start(&story).await;
    let ask = async |method: &str, path: &str, body: Value| {
        services::ask_rabbitmq(&rabbitmq, method, path, &body).await
    };
    until("a queue", async || ask("PUT", "queues/%2f/work", json!({})).await).await;
    resolves_to(&story, "upstream", "10.20.30.40").await;
    story
        .secret(
            "dependencies",
            &[
                ("redis", &format!("redis://:{}@{}:6379/0", services::REDIS_PASSWORD, at("redis"))),
                ("queue", &format!("amqp://mcp:{}@{}:5672/%2f", services::RABBITMQ_PASSWORD, at("rabbitmq"))),
                ("key", services::S3_KEY),
                ("secret", services::S3_SECRET),
                ("ca", &authority.pem),
            ],
        )
        .await;
    let secret = |key: &str| json!({"name": "dependencies", "key": key});
    let policy = json!({"signals": {
        "redis": {"connectionSecretRef": secret("redis")},
        "dependencies": [
            {"name": "api", "tls": {"address": format!("{host}:8443"), "caSecretRef": secret("ca")}},
            {"name": "queue", "rabbitmq": {
                "connectionSecretRef": secret("queue"),
                "managementUrl": format!("http://{}:15672", at("rabbitmq")),
                "queues": [{"name": "work", "maxMessages": 2}],
            }},
            {"name": "storage", "s3": {
                "endpoint": format!("http://{}:7070", at("s3")),
                "bucket": BUCKET,
                "accessKeySecretRef": secret("key"),
                "secretKeySecretRef": secret("secret"),
            }},
            {"name": "upstream", "dns": {
                "name": format!("{}.svc.cluster.local", at("upstream")),
                "addresses": ["10.20.30.40"],
            }},
            {"name": "elsewhere", "tcp": {"address": "elsewhere.example.com:5432"}},
        ],
    }});
    let server = story.server().policy(policy).healthy().await;
    let lives = server.lives().await;
    answered(&server, &["redis", "api", "queue", "storage", "upstream"]).await;
    let barred = |status: &mcp_health_api::McpServerHealthStatus| {
        let one = policy::condition(status, ConditionType::SignalsAvailable)?;
        (one.status == "False"
            && one.message.contains("elsewhere.example.com:5432 is not on the operator's allow-list"))
        .then_some(())
    };
    server.policy.until("what may not be asked is told", barred).await;

    api.leads_to("expired").await;
    fill(&redis).await;
    story.secret("dependencies", &[("secret", "pl4nted-wr0ng-key")]).await;
    resolves_to(&story, "upstream", "10.66.66.66").await;
    for _ in 0..4 {
        let message =
            json!({"properties": {}, "routing_key": "work", "payload": "x", "payload_encoding": "string"});
        ask("POST", "exchanges/%2f/amq.default/publish", message).await.expect("it is published");
    }
    let told = [
        "dependency api is down (certificate)",
        "dependency redis is down (answer)",
        "dependency storage is down (login)",
        "dependency upstream is down (answer)",
        "dependency queue is down (answer)",
    ];
    let incident = is_down(&server, Cause::DependencyDown, &told).await;
    let expired = server.policy.until("the certificate that has ended", |status| {
        status.incidents.iter().find(|one| one.incident_type == IncidentType::CertificateExpiring).cloned()
    });
    assert_eq!(expired.await.attempts, []);
    server.policy.considered_again().await;

    api.leads_to("api").await;
    services::redis_cli(&redis, &["flushall"]).await;
    story.secret("dependencies", &[("secret", services::S3_SECRET)]).await;
    resolves_to(&story, "upstream", "10.20.30.40").await;
    ask("DELETE", "queues/%2f/work/contents", json!({})).await.expect("it is emptied");
    is_back(&server, &incident).await;
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.is_untouched().await;
    let planted =
        [services::REDIS_PASSWORD, services::RABBITMQ_PASSWORD, services::S3_SECRET, "pl4nted-wr0ng-key"];
    story.is_silent_about(&planted).await;
}

#[tokio::test]
async fn a_queue_that_nobody_consumes_is_told_by_its_depth_and_no_pod_is_touched() {
    if !host::is_this_machine("RabbitMQ without consumers") {
        return;
    }
    let story = Story::begin_with_values("queue", VALUES).await;
    let rabbitmq = services::rabbitmq().start(&story).await;
    let ask = async |method: &str, path: &str, body: Value| {
        services::ask_rabbitmq(&rabbitmq, method, path, &body).await
    };
    until("a queue", async || ask("PUT", "queues/%2f/work", json!({})).await).await;
    let url = format!("amqp://mcp:{}@{}:5672/%2f", services::RABBITMQ_PASSWORD, rabbitmq.host());
    story.secret("rabbitmq", &[("url", &url)]).await;
    let policy = json!({"signals": {"dependencies": [{"name": "jobs", "rabbitmq": {
        "connectionSecretRef": {"name": "rabbitmq", "key": "url"},
        "managementUrl": format!("http://{}:15672", rabbitmq.host()),
        "queues": [{"name": "work", "minConsumers": 1}],
    }}]}});
    let consumer = services::consumer(&rabbitmq, "work").await;
    let server = story.server().policy(policy).healthy().await;
    let lives = server.lives().await;
    answered(&server, &["jobs"]).await;

    // Whoever consumed ends, and others go on to publish.
    drop(consumer);
    let publishing = async {
        loop {
            let message = json!({"properties": {}, "routing_key": "work", "payload": "x", "payload_encoding": "string"});
            ask("POST", "exchanges/%2f/amq.default/publish", message).await.expect("it is published");
        }
    };
    let told = ["0 consumers: nobody takes from it", "; at first: queue work has "];
    let incident = tokio::select! {
        () = publishing => unreachable!("it has no end"),
        incident = is_down(&server, Cause::DependencyDown, &told) => incident,
    };
    let depths = numbers_before(&incident.evidence[0], " messages");
    assert!(matches!(depths[..], [now, first] if now > first), "it grows: {}", incident.evidence[0]);
    server.policy.considered_again().await;

    let _consumer = services::consumer(&rabbitmq, "work").await;
    is_back(&server, &incident).await;
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.is_untouched().await;
    story.is_silent_about(&[services::RABBITMQ_PASSWORD]).await;
}

#[tokio::test]
async fn two_servers_with_one_broken_dependency_have_a_story_each_and_are_left_alone() {
    let story = Story::begin_with_values("dependency-shared", VALUES).await;
    let upstream = story.server().named("upstream").without_policy().applied().await;
    upstream.rolled_out().await;
    let url = format!("http://upstream.{}:80/health", story.namespace);
    let policy = json!({"signals": {"dependencies": [{"name": "external-api", "http": {"url": url}}]}});
    let first = story.server().policy(policy.clone()).healthy().await;
    let second = story.server().named("second").policy(policy).healthy().await;
    let lives = (first.lives().await, second.lives().await);
    answered(&first, &["external-api"]).await;
    answered(&second, &["external-api"]).await;

    upstream.patch(&json!({"spec": {"replicas": 0}}), true).await;
    let down = ["dependency external-api is down (port)"];
    let one = is_down(&first, Cause::DependencyDown, &[down[0], "1 other server leans on", "second"]).await;
    let other = is_down(&second, Cause::DependencyDown, &[down[0], "1 other server leans on"]).await;
    upstream.patch(&json!({"spec": {"replicas": 1}}), true).await;
    is_back(&first, &one).await;
    is_back(&second, &other).await;
    assert_eq!((first.lives().await, second.lives().await), lives, "no pod was restarted");
    first.is_untouched().await;
    second.is_untouched().await;
}
