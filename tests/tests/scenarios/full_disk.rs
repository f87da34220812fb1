//! PostgreSQL's disk is full: reads go on and writes fail; the object names the disk, a person makes room, and nothing is
//! restarted meanwhile.

use mcp_health_e2e::{
    Cause, IncidentType, Server, Story,
    forward::Forward,
    host,
    postgres::{OPERATOR_PASSWORD, Postgres, SERVER_PASSWORD},
    until,
};
use serde_json::json;

/// The operator may read the Secrets of the story, and ask what is in its namespace.
const VALUES: &[&str] = &["signals.secrets=true", "signals.allowedEndpoints={*.NAMESPACE}"];

/// Has the server keep something; what it answers.
async fn create(server: &Server) -> Result<String, String> {
    let forward = Forward::open(&server.namespace, &format!("service/{}", server.name), 80).await?;
    let url = format!("{}/tools/create_assignment/execute", forward.url);
    let request = reqwest::Client::new().post(url).json(&json!({"title": "Make room"}));
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    Ok(format!("{status} {}", answer.text().await.map_err(|error| error.to_string())?))
}

/// Awaits that it answers so.
async fn creates(server: &Server, says: &[&str]) {
    until(&format!("create_assignment answers {says:?}"), async || {
        let said = create(server).await?;
        if says.iter().all(|word| said.contains(word)) { Ok(()) } else { Err(said) }
    })
    .await;
}

#[tokio::test]
async fn a_database_whose_disk_is_full_is_a_persons_until_there_is_room_and_nothing_is_restarted() {
    if !host::is_this_machine("a database whose disk is full") {
        return;
    }
    let story = Story::begin_with_values("database-disk", VALUES).await;
    // What a full disk leaves in its files is not taken back behind the story's back.
    let settings = ["max_connections = 20", "autovacuum = off"];
    let postgres = Postgres::start_on_a_small_disk(&story, &settings, "48Mi").await;
    let policy = json!({
        "actions": {"allow": ["RolloutRestart", "RecyclePod", "Rollback", "Scale", "EndDatabaseSessions"]},
        "signals": {"postgres": postgres.signal()},
    });
    let server = story.server().policy(policy).deployment(postgres.used(2)).healthy().await;
    let lives = server.lives().await;

    postgres.fill().await;
    creates(&server, &["500", "No space left on device"]).await;
    let incident = server.incident(IncidentType::DiskFilling, Cause::DatabaseDisk).await;
    let says = ["its disk is full, and nothing more can be written", "what takes its space: this database"];
    for says in says.into_iter().chain(["enlarge its volume, or remove rows", "no pod is restarted or added"])
    {
        server.policy.evidence(&incident, says).await;
    }
    server.policy.escalated("NoAutomaticAction").await;
    server.policy.considered_again().await;
    // Reads go on.
    server.serves_mcp().await;

    postgres.query("DROP TABLE filler").await;
    creates(&server, &["200"]).await;
    assert_eq!(server.policy.resolved(&incident).await.done(), "");
    assert_eq!(server.lives().await, lives, "no pod was restarted");
    server.is_untouched().await;
    story.is_silent_about(&[SERVER_PASSWORD, OPERATOR_PASSWORD]).await;
}
