//! A real S3 server, which verifies signatures.

use std::{fs, process::Command};

use dependency_probe::{Asked, Trust, s3, tcp};
use jiff::{SignedDuration, Timestamp};
use mcp_health_core::signals::CheckStep;

use crate::process::{ALL, SOON, Server, found, port};

/// A store with an empty bucket `mcp-backups` in its folder. Its endpoint.
async fn store() -> (Server, String) {
    let mut server = Server::new();
    let port = port();
    fs::create_dir_all(server.folder.path().join("buckets/mcp-backups")).unwrap();
    server.run(
        Command::new(found("MCP_HEALTH_S3"))
            .args(["-folder", ".", "-address", &format!("127.0.0.1:{port}")])
            .env("ROOT_ACCESS_KEY", "AKIDEXAMPLE")
            .env("ROOT_SECRET_KEY", "s3cretkey"),
    );
    server.awaited(async || tcp::ask("127.0.0.1", port, ALL, SOON).await.unwrap().result.ok()).await;
    (server, format!("http://127.0.0.1:{port}"))
}

#[tokio::test]
#[ignore = "runs an S3 server"]
async fn clocks_that_are_apart_are_named_and_not_the_key() {
    let (_server, endpoint) = store().await;
    let target = s3::Target {
        endpoint: &endpoint,
        bucket: "mcp-backups",
        region: "us-east-1",
        virtual_hosts: false,
        access_key: "AKIDEXAMPLE",
        secret_key: "s3cretkey",
    };
    let now = Timestamp::now();
    for (minutes, names_it) in [(-40, true), (-10, false), (0, false), (10, false), (40, true)] {
        let now = now + SignedDuration::from_mins(minutes);
        let asked = s3::ask_at(&target, now, &Trust::own(), ALL, SOON).await.unwrap();
        match asked.result {
            Err(failure) if names_it => {
                assert_eq!(failure.step, CheckStep::Login);
                let says = "refuses the request: its clock and the operator's are ";
                let apart = failure.said.strip_prefix(says).and_then(|rest| rest.strip_suffix(" min apart"));
                assert!(matches!(apart, Some("39" | "40")), "{minutes} min: {failure}");
            }
            other => assert_eq!(other, Ok(()), "{minutes} min"),
        }
    }
}

#[tokio::test]
#[ignore = "runs an S3 server"]
async fn a_bucket_is_counted_and_refusals_are_told_by_their_step() {
    let (server, endpoint) = store().await;
    let bucket = server.folder.path().join("buckets/mcp-storage");
    fs::create_dir_all(&bucket).unwrap();
    let ask = async |bucket, access_key, secret_key| -> Asked {
        let target = s3::Target {
            endpoint: &endpoint,
            bucket,
            region: "us-east-1",
            virtual_hosts: false,
            access_key,
            secret_key,
        };
        let asked = s3::ask(&target, &Trust::own(), ALL, SOON).await.unwrap();
        assert!(!format!("{asked:?}").contains("s3cret"), "{asked:?}");
        asked
    };
    let said = |asked: Asked| {
        let failure = asked.result.unwrap_err();
        (failure.step, failure.said)
    };
    let empty = ask("mcp-backups", "AKIDEXAMPLE", "s3cretkey").await;
    assert_eq!((empty.result, empty.remarks), (Ok(()), vec!["has no objects".to_owned()]));
    for number in 0..3 {
        fs::write(bucket.join(number.to_string()), [0; 2048]).unwrap();
    }
    let few = ask("mcp-storage", "AKIDEXAMPLE", "s3cretkey").await;
    assert_eq!((few.result, few.remarks), (Ok(()), vec!["has 3 objects with 6 KiB".to_owned()]));
    for number in 3..1100 {
        fs::write(bucket.join(number.to_string()), "").unwrap();
    }
    let many = ask("mcp-storage", "AKIDEXAMPLE", "s3cretkey").await;
    assert_eq!(many.remarks, vec!["has more than 1000 objects".to_owned()]);
    let wrong = ask("mcp-storage", "AKIDEXAMPLE", "another-s3cret").await;
    assert_eq!(said(wrong), (CheckStep::Login, "refuses the secret key (SignatureDoesNotMatch)".to_owned()));
    let stranger = said(ask("mcp-storage", "AKIDSTRANGER", "s3cretkey").await);
    assert_eq!(stranger.0, CheckStep::Login, "{stranger:?}");
    assert!(!stranger.1.contains("AKIDSTRANGER"), "{stranger:?}");
    let nowhere = ask("mcp-nowhere", "AKIDEXAMPLE", "s3cretkey").await;
    assert_eq!(
        said(nowhere),
        (CheckStep::Answer, "there is no bucket mcp-nowhere (NoSuchBucket)".to_owned())
    );
}
