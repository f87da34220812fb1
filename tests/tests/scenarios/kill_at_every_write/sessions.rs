//! Between the record of which sessions are to end and the statement that ends them, anything may happen: a session that
//! went on meanwhile is not ended, and what it does then is looked at anew.

use std::sync::Arc;

use mcp_health_e2e::{
    Attempt, McpServerHealthStatus, Outcome, Server, SessionFence, Story, host,
    postgres::{APPLICATION, OPERATOR_PASSWORD, Postgres, Session},
    proxy::{Disturbance, deed},
};
use serde_json::json;
use tokio::sync::Notify;

use super::stage::{Operators, PLACES};

/// What is recorded: that the attempt begins, then that the target bears its mark, then that the statement begins.
const RECORD: &str = "PUT status (DatabaseIdleInTransaction Mitigating)";

/// A session that is left alone in its transaction, and whoever would end it.
struct Scene<'a> {
    operators: Operators,
    server: Server,
    postgres: Postgres<'a>,
    session: Session,
}

impl<'a> Scene<'a> {
    async fn set(story: &'a Story, name: &str) -> Self {
        // Nobody needs to look for its pods then.
        story.kubectl(&["delete", "deployment", &story.namespace]).await;
        let postgres = Postgres::start(story, &["max_connections = 20"]).await;
        // The operator is a program of this machine, which asks another DNS.
        let address = ["get", "service", "postgres", "--output=jsonpath={.spec.clusterIP}:5432"];
        let address = story.kubectl(&address).await;
        postgres.operator_asks(&address).await;
        let allowed: &str = format!("--allowed-endpoints={address}").leak();
        let operators =
            Operators::at(story, name, &["--read-secrets=true", "--keep-evidence=false", allowed]).await;
        operators.begin("first", &[]);
        let policy = json!({
            "actions": {"allow": ["EndDatabaseSessions"]},
            "signals": {"postgres": postgres.signal()},
            "overrides": [{"incident": "DatabaseIdleInTransaction", "for": "5s"}],
            "limits": {"cooldown": "1s"},
        });
        let server = story.server().policy(policy).deployment(postgres.used(2)).healthy().await;
        let pod = server.pod_names().await.pop_first().expect("a pod");
        let session = postgres.session_of(&pod, APPLICATION).await;
        Self { operators, server, postgres, session }
    }

    async fn leaks(&mut self) {
        self.operators.proxy.begin();
        self.session.tell_until(&self.postgres, "BEGIN; SELECT 1", "idle in transaction").await;
    }

    /// The session goes on, and is left alone once more: all that shows is another transaction.
    async fn goes_on(&mut self) {
        self.session.tell_until(&self.postgres, "COMMIT; BEGIN; SELECT 2", "idle in transaction").await;
    }

    /// Awaits what the first attempt came to.
    async fn first(&self) -> Attempt {
        let ended = |status: &McpServerHealthStatus| {
            let attempt = status.incidents.first()?.attempts.first()?;
            attempt.outcome.is_some().then(|| attempt.clone())
        };
        self.server.policy.until("the first attempt has come to something", ended).await
    }

    /// Awaits that another attempt, which saw the session as it is now, has ended it.
    async fn is_ended_by_another(&self, first: &Attempt) {
        let helped = |status: &McpServerHealthStatus| {
            let mut attempts = status.incidents.iter().flat_map(|one| &one.attempts);
            attempts.find(|one| one.id != first.id && one.outcome == Some(Outcome::Improved)).cloned()
        };
        let another = self.server.policy.until("another attempt has helped", helped).await;
        assert_ne!(recorded(&another), recorded(first));
        assert_eq!(note(&another), Some("ended 1 of 1 session"));
        assert!(!self.session.is_there(&self.postgres).await);
    }
}

async fn begun() -> Story {
    let values =
        ["replicaCount=0", "metrics.service.enabled=false", "signals.secrets=true", "evidence.keep=false"];
    Story::begin_with_values("sessions", &values).await
}

fn recorded(attempt: &Attempt) -> Option<&SessionFence> {
    attempt.steps.iter().find_map(|step| step.sessions.as_ref())
}

fn note(attempt: &Attempt) -> Option<&str> {
    attempt.steps.iter().find(|step| step.sessions.is_some())?.note.as_deref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_went_on_while_the_statement_was_late_is_not_ended_and_looked_at_anew() {
    if !host::is_this_machine("a session that is used again before it is ended") {
        return;
    }
    let _place = PLACES.acquire().await.expect("nobody closes it");
    let story = begun().await;
    let mut scene = Scene::set(&story, "a late statement").await;
    let lives = scene.server.lives().await;
    let (recorded, on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let wait = {
        let (recorded, on) = (Arc::clone(&recorded), Arc::clone(&on));
        move || {
            let (recorded, on) = (Arc::clone(&recorded), Arc::clone(&on));
            async move {
                recorded.notify_one();
                on.notified().await;
            }
        }
    };
    scene.operators.proxy.disturb(Disturbance::after(RECORD).skipping(2).deed(deed(wait)));
    scene.leaks().await;
    recorded.notified().await;
    scene.goes_on().await;
    on.notify_one();

    let first = scene.first().await;
    assert_eq!(first.outcome, Some(Outcome::Superseded), "{first:#?}");
    let why = "of 1 session recorded, none was as it was any more: no session was ended";
    assert_eq!(first.message.as_deref(), Some(why), "{first:#?}");
    scene.is_ended_by_another(&first).await;
    assert_eq!(scene.server.lives().await, lives, "no pod was restarted");
    assert!(!scene.operators.first().log().contains(OPERATOR_PASSWORD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_went_on_after_its_operator_was_killed_is_not_ended_and_looked_at_anew() {
    if !host::is_this_machine("a session that is used again before it is ended") {
        return;
    }
    let _place = PLACES.acquire().await.expect("nobody closes it");
    let story = begun().await;
    let mut scene = Scene::set(&story, "killed before the statement").await;
    let lives = scene.server.lives().await;
    scene.operators.kill_first(Disturbance::after(RECORD).skipping(2));
    scene.leaks().await;
    scene.operators.disturbed(RECORD).await;
    scene.goes_on().await;
    scene.operators.begin_another_life();

    let first = scene.first().await;
    assert_eq!(note(&first), Some("its answer is not known: the operator was restarted"), "{first:#?}");
    scene.is_ended_by_another(&first).await;
    assert_eq!(scene.server.lives().await, lives, "no pod was restarted");
}
