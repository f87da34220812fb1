//! Which step fails, and what is said of it: never the password.

use std::time::Duration;

use dependency_probe::{Barred, Trust, postgres::Connection};
use mcp_health_core::signals::CheckStep;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::support::*;

#[tokio::test]
async fn a_server_that_is_stopped_paused_or_full_fails_at_its_own_step_and_is_found_again() {
    let Some(mut postgres) =
        Postgres::start(&["max_connections=8", "superuser_reserved_connections=3"]).await
    else {
        return;
    };
    let mut connection = postgres.connection().await;
    connection.look(APPLICATION, SOON).await.unwrap();
    // Full: the connection that is kept goes on answering.
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(postgres.session().await);
    }
    fails(&postgres.target(""), CheckStep::Answer, "has no connection left: ").await;
    let seen = connection.look(APPLICATION, SOON).await.unwrap();
    assert_eq!((seen.connections, seen.max_connections, seen.reserved_connections), (5, 8, 3));
    taken.clear();
    awaited(async || (postgres.count().await == 0).then_some(())).await;
    // Paused: the kernel takes connections still.
    let patience = Duration::from_millis(300);
    postgres.signal_all("-STOP");
    let paused = failure(&postgres.target(""), patience).await;
    assert_eq!(paused.step, CheckStep::Handshake, "{paused}");
    let unanswered = connection.look(APPLICATION, patience).await.unwrap_err();
    assert_eq!(unanswered.step, CheckStep::Answer);
    postgres.signal_all("-CONT");
    awaited(async || connection.look(APPLICATION, SOON).await.ok()).await;
    // Stopped: what is connected is told so, and nobody listens.
    postgres.stop().await;
    let ended = connection.look(APPLICATION, SOON).await.unwrap_err();
    assert_eq!(ended.step, CheckStep::Answer);
    awaited(async || connection.is_closed().then_some(())).await;
    fails(&postgres.target(""), CheckStep::Port, "refuses the connection").await;
    postgres.run().await;
    postgres.connection().await.look(APPLICATION, SOON).await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_from_all_else() {
    let Some(postgres) = Postgres::start(&[]).await else { return };
    postgres
        .let_in(
            "local all all trust\nhost mcp_prod mcp_health 127.0.0.1/32 scram-sha-256\n\
             host nowhere mcp_health 127.0.0.1/32 trust\n",
        )
        .await;
    postgres.connection().await.look(APPLICATION, SOON).await.unwrap();
    postgres.administer("ALTER ROLE mcp_health PASSWORD 'another'").await;
    fails(&postgres.target(""), CheckStep::Login, "refuses the password: ").await;
    let other = |url: &str| {
        let url = url.replace("PORT", &postgres.port.to_string());
        dependency_probe::postgres::Target::parse(&url).unwrap()
    };
    fails(&other("postgres://mcp_health@127.0.0.1:PORT/nowhere"), CheckStep::Login, "has no such database")
        .await;
    fails(&other("postgres://mcp@127.0.0.1:PORT/mcp_prod"), CheckStep::Login, "does not let the role in")
        .await;
    fails(&other("postgres://mcp_health@127.0.0.1:PORT/mcp_prod"), CheckStep::Login, "wants a way to log in")
        .await;
    fails(&other("postgres://me:pl4nted@nobody.invalid:PORT/a"), CheckStep::Name, "does not resolve").await;
    // The second host is there; and nobody is asked in place of one that must not be.
    postgres.administer("ALTER ROLE mcp_health PASSWORD 'pl4nted'").await;
    let two = format!(
        "postgres://mcp_health:pl4nted@127.0.0.1:{},127.0.0.1:{}/mcp_prod",
        free_port(),
        postgres.port
    );
    let two = dependency_probe::postgres::Target::parse(&two).unwrap();
    assert!(Connection::open(&two, None, ALL, SOON).await.0.is_ok());
    let first = two.hosts()[0].1;
    let barred = Connection::open(&two, None, &|address| address.port() != first, SOON).await.0;
    assert!(matches!(barred, Err(Barred::Forbidden(_))));
}

#[tokio::test]
async fn what_is_no_postgresql_is_told_at_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port(), "");
    let says = async |answer: &'static [u8]| {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream
        };
        let (_stream, failure) = tokio::join!(serve, failure(&target, Duration::from_millis(300)));
        failure
    };
    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak as PostgreSQL does"),
        (b"", "says nothing within"),
        (b"N", "says nothing within"),
        (
            b"NE\0\0\0\x37SFATAL\0C57P03\0Mthe database system is starting up\0\0",
            "takes no sessions now: the database system is starting up",
        ),
    ] {
        let failure = says(answer).await;
        assert!(failure.said.contains(expected), "{failure}");
    }
}

#[tokio::test]
async fn certificates_are_verified_as_far_as_is_asked_and_told_in_any_case() {
    let Some(mut postgres) = Postgres::start(&[]).await else { return };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["postgres.mcp".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let trust = Trust::pem(authority.pem().as_bytes()).unwrap();
    // Without TLS, what asks for it fails; what only prefers it does not.
    fails(&postgres.target("?sslmode=require"), CheckStep::Handshake, "does not offer TLS").await;
    assert!(Connection::open(&postgres.target(""), None, ALL, SOON).await.0.is_ok());
    assert!(Connection::open(&postgres.target(""), Some(&trust), ALL, SOON).await.0.is_err());
    postgres.file("data/server.crt", &certificate.pem());
    postgres.file("data/server.key", &key.serialize_pem());
    postgres.administer("ALTER SYSTEM SET ssl = on").await;
    postgres.stop().await;
    postgres.run().await;
    let open = async |mode: &str, trust: Option<&Trust>| {
        let (opened, shown) = Connection::open(&postgres.target(mode), trust, ALL, SOON).await;
        if mode != "?sslmode=disable" {
            assert!(
                shown.is_some_and(|shown| shown.subject == "postgres.mcp" || shown.subject.contains("rcgen"))
            );
        }
        match opened {
            Ok(mut connection) => Ok(connection.look(APPLICATION, SOON).await.unwrap()),
            Err(Barred::Failed(failure)) => Err(failure.step),
            Err(other) => panic!("{other:?}"),
        }
    };
    let stranger = CertifiedIssuer::self_signed(
        CertificateParams::new(Vec::new()).unwrap(),
        KeyPair::generate().unwrap(),
    )
    .unwrap();
    let stranger = Trust::pem(stranger.pem().as_bytes()).unwrap();
    for (mode, trust, is_taken) in [
        ("?sslmode=disable", None, true),
        ("", None, true),
        ("?sslmode=require", None, true),
        ("", Some(&trust), true),
        ("?sslmode=require", Some(&trust), true),
        ("?sslmode=verify-ca", Some(&trust), true),
        // 127.0.0.1 is none of its names.
        ("?sslmode=verify-full", Some(&trust), false),
        ("?sslmode=require", Some(&stranger), false),
        ("", Some(&stranger), false),
        ("?sslmode=verify-ca", Some(&stranger), false),
    ] {
        let opened = open(mode, trust).await;
        let step = if is_taken { None } else { Some(CheckStep::Certificate) };
        assert_eq!(opened.err(), step, "{mode:?}");
    }
}
