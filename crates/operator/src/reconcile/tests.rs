//! A reconcile against an API server that never answers.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use futures::channel::mpsc::unbounded;
use serde_json::json;

use super::*;
use crate::{client::tests::silent, config::Config};

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_gets_no_answer_ends_with_an_error_that_names_the_call() {
    let config = Config::try_parse_from(["operator"]).unwrap();
    let (wake, _woken) = unbounded();
    let client = silent();
    let context = Context {
        client: client.clone(),
        stores: Arc::new(Stores::new(&config, wake).unwrap()),
        statuses: Statuses::default(),
        fleet: Fleet::new(0, config.settings()),
        copies: Copies::default(),
        lease: Lease::new(&config),
        unsent: Unsent::default(),
        switch: None,
        recorder: events::recorder(client, "operator-0"),
        settings: config.settings(),
        keep_evidence: false,
        metrics: Arc::new(Metrics::default()),
    };
    let spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mcp-server"}});
    let mut object = McpServerHealth::new("mcp-server", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some("mcp".to_owned());
    let begun = tokio::time::Instant::now();
    let key = Key::of(&object);
    let error = reconcile(Arc::new(object), key, Arc::new(context)).await.unwrap_err().to_string();
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(
        error.contains("no answer to PUT") && error.contains("mcp-server") && error.contains("within 10 s"),
        "{error}"
    );
}
