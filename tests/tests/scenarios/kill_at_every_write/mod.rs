//! Whatever ends the operator, and whenever: an incident comes to the same end, by one rollback.
//!
//! The operator is a program of this machine that reaches the API server by a proxy, with the rights that the
//! chart gives it. The proxy knows each write, and kills the operator right before the API server hears of it, or
//! right after the API server has accepted it. Then another life begins, with nothing but what the API server knows.

mod runbooks;
mod sessions;
mod stage;
mod witness;

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt, future::join_all};
use mcp_health_e2e::proxy::{Disturbance, Fate, deed};
use tokio::{sync::Barrier, time::timeout};

use stage::{Stage, TEMPLATE, annotate};

/// The ownership of the changed fields goes back to the team.
const HANDED_BACK: &str = "PATCH deployment (managedFields)";
/// The rollback is recorded.
const INTENT: &str = "PUT status (CrashLoop Mitigating)";
/// The rollback is done; later, the template in force is the good one again.
const DONE: &str = "PUT status (CrashLoop Verifying)";
/// The rollback helped.
const RESOLVED: &str = "PUT status (CrashLoop resolved)";
/// The last that is written.
const LAST: &str = "POST event (IncidentResolved)";

/// All that the operator writes from a bad rollout to the end of its incident. The operator is killed at each of
/// these, so whoever has it write something more adds it here.
const WRITES: &[&str] = &[
    "PUT status (no incident)", // a new template is in force
    INTENT,
    TEMPLATE,
    HANDED_BACK,
    "POST configmaps",
    DONE,
    "POST event (IncidentOpened)",
    "POST event (ActionTaken)",
    "POST event (EvidenceKept)",
    DONE,
    RESOLVED,
    LAST,
];

/// So long one operator waits for the other.
const MEETING: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_killed_right_before_or_right_after_any_of_its_writes_comes_to_the_same_end() {
    assert_eq!(undisturbed().await, WRITES, "what the operator writes: see WRITES");
    let mut plays: Vec<Play> = Vec::new();
    for (number, &label) in WRITES.iter().enumerate() {
        let skips = WRITES[..number].iter().filter(|&&one| one == label).count();
        let name = |when| format!("killed right {when} write {}, {label}", number + 1);
        let (before, after) = (Disturbance::before(label), Disturbance::after(label));
        plays.push(play(name("before"), move |name| killed(name, label, before.skipping(skips))));
        plays.push(play(name("after"), move |name| killed(name, label, after.skipping(skips))));
    }
    all_end_well(plays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_does_not_know_whether_it_wrote_looks_before_it_writes_again() {
    let mut plays: Vec<Play> = Vec::new();
    for label in [INTENT, TEMPLATE, HANDED_BACK, DONE, RESOLVED] {
        let (before, after) = (Disturbance::before(label).lost(), Disturbance::after(label).lost());
        plays.push(play(format!("lost: {label}"), move |name| unanswered(name, label, before)));
        plays.push(play(format!("lost: the answer to {label}"), move |name| unanswered(name, label, after)));
    }
    all_end_well(plays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_where_another_writer_was_faster_than_the_record() {
    let stage = Stage::set("another writer comes first").await;
    let policy = stage.server.policy.clone();
    let annotating = move || {
        let policy = policy.clone();
        async move { annotate(&policy).await }
    };
    stage.operators.proxy.disturb(Disturbance::before(INTENT).deed(deed(annotating)));
    stage.roll_out_what_crashes().await;
    stage.operators.disturbed(INTENT).await;
    stage.ends_well().await;

    let writes = stage.operators.proxy.writes();
    let first = writes.iter().position(|write| write.label == INTENT).expect("it was disturbed");
    assert_eq!(writes[first].fate, Fate::Answered(409), "the API server's own answer");
    let next = writes[first + 1..].iter().find(|write| write.label == INTENT || write.label == TEMPLATE);
    assert_eq!(next.map(|write| write.label.as_str()), Some(INTENT), "it is recorded before it is done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_at_once_without_a_lease_roll_back_once() {
    let (operators, flags) = (["first", "second"], ["--leader-election=false"]);
    let stage = Stage::set_with("two operators at once", &operators, &flags).await;
    for label in [INTENT, TEMPLATE] {
        let barrier = Arc::new(Barrier::new(2));
        let meet = move || {
            let barrier = Arc::clone(&barrier);
            async move {
                let _ = timeout(MEETING, barrier.wait()).await;
            }
        };
        stage.operators.proxy.disturb(Disturbance::before(label).deed(deed(meet)).times(2));
    }
    stage.roll_out_what_crashes().await;
    stage.operators.disturbed(INTENT).await;
    stage.ends_well().await;

    let writes = stage.operators.proxy.writes();
    let fates = |label: &str| -> Vec<Fate> {
        writes.iter().filter(|write| write.label == label).map(|write| write.fate).take(2).collect()
    };
    let mut intents = fates(INTENT);
    intents.sort_by_key(|fate| !fate.is_done());
    assert_eq!(intents, [Fate::Answered(200), Fate::Answered(409)], "both wanted to act, and one could");
}

/// Nothing goes wrong. Returns what was written, and accepted; the same several times in a row counts once.
async fn undisturbed() -> Vec<String> {
    let stage = Stage::set("undisturbed").await;
    stage.roll_out_what_crashes().await;
    stage
        .operators
        .proxy
        .until("the last write", |all| all.iter().any(|one| one.label == LAST && one.fate.is_done()))
        .await;
    let writes = stage.operators.proxy.writes();
    stage.ends_well().await;
    let done = writes.into_iter().filter(|write| write.fate.is_done());
    let mut labels: Vec<String> = done.map(|write| write.label).collect();
    // A rollout may be seen in one look, or in two.
    labels.dedup();
    labels
}

/// The operator is killed at a write, and begins anew.
async fn killed(name: String, label: &'static str, at: Disturbance) {
    let stage = Stage::set(&name).await;
    stage.operators.kill_first(at);
    stage.roll_out_what_crashes().await;
    stage.operators.disturbed(label).await;
    assert!(stage.operators.first().kill(), "the operator ended by SIGKILL");
    stage.operators.begin_another_life();
    stage.ends_well().await;
}

/// The operator lives, and never hears what came of a write.
async fn unanswered(name: String, label: &'static str, at: Disturbance) {
    let stage = Stage::set(&name).await;
    stage.operators.proxy.disturb(at);
    stage.roll_out_what_crashes().await;
    stage.operators.disturbed(label).await;
    stage.ends_well().await;
}

/// A story with a name, to be played.
type Play = (String, Pin<Box<dyn Future<Output = ()>>>);

fn play<F>(name: String, story: impl FnOnce(String) -> F) -> Play
where
    F: Future<Output = ()> + 'static,
{
    let future = Box::pin(story(name.clone()));
    (name, future)
}

/// Plays them, as many at once as there are places, each to its end; and fails if any failed.
async fn all_end_well(plays: Vec<Play>) {
    let played = plays.into_iter().map(async |(name, play)| {
        let ended = AssertUnwindSafe(play).catch_unwind().await;
        ended.is_err().then_some(name)
    });
    let failed: Vec<String> = join_all(played).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "the stories that failed (see above): {failed:#?}");
}
