//! The Job of a runbook: what is created, and that it is created once.

use super::*;

fn run(step_of: &str) -> Attempt {
    let mut attempt = attempt();
    let step = &mut attempt.steps[0];
    (step.effect, step.source) = (Effect::RunJob, Some(step_of.to_owned()));
    (step.from, step.to, step.resource_version) = (None, None, None);
    attempt.steps.truncate(1);
    attempt
}

async fn act(answers: Vec<(StatusCode, Value)>) -> (Result<Acted, crate::error::Error>, Vec<Sent>) {
    let (client, sent) = api_server(answers);
    let acted = target(&client).resume(&run("CronJob/smoke"), None).await;
    let sent = sent.lock().unwrap().clone();
    (acted, sent)
}

fn cron_job(template: &Value) -> (StatusCode, Value) {
    let spec = json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": template});
    (
        StatusCode::OK,
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "smoke"}, "spec": spec}),
    )
}

fn plain() -> (StatusCode, Value) {
    cron_job(&json!({
        "metadata": {"labels": {"team": "mcp"}, "annotations": {"team/note": "n"}},
        "spec": {"backoffLimit": 0, "template": {"spec": {"containers": [{"name": "ask", "image": "ask"}]}}},
    }))
}

fn created() -> (StatusCode, Value) {
    (StatusCode::CREATED, json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, "spec": {}}))
}

fn note(acted: Result<Acted, crate::error::Error>) -> String {
    let Acted::Done(done) = acted.unwrap() else { panic!("done") };
    done[0].note.clone().unwrap()
}

#[tokio::test]
async fn a_job_is_made_as_kubectl_makes_one_and_is_ours() {
    let (acted, sent) = act(vec![plain(), created()]).await;
    assert_eq!(note(acted), "Job mcph-crashloop-1-1, from CronJob/smoke");
    assert_eq!(sent[0].path, "/apis/batch/v1/namespaces/mcp/cronjobs/smoke");
    assert_eq!(
        (&sent[1].method, sent[1].path.as_str()),
        (&Method::POST, "/apis/batch/v1/namespaces/mcp/jobs")
    );
    let job = &sent[1].body;
    assert_eq!((&job["apiVersion"], &job["kind"]), (&json!("batch/v1"), &json!("Job")));
    let meta = &job["metadata"];
    assert_eq!(meta["name"], "mcph-crashloop-1-1");
    let labels = json!({"team": "mcp", "mcphealth.dev/kind": "job", "mcphealth.dev/object": "mcp-server"});
    assert_eq!(meta["labels"], labels);
    let annotations = json!({
        "team/note": "n",
        "cronjob.kubernetes.io/instantiate": "manual",
        "mcphealth.dev/attempt": "crashloop-1-1",
    });
    assert_eq!(meta["annotations"], annotations);
    assert_eq!(meta["ownerReferences"][0]["uid"], "object-1");
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["image"], "ask");
    assert_eq!(job["spec"]["backoffLimit"], 0);
    // It ends, and it goes.
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 600);
    assert_eq!(job["spec"]["ttlSecondsAfterFinished"], 86400);
}

#[tokio::test]
async fn the_templates_own_limits_stay_but_what_came_of_the_job_can_be_seen() {
    for (wanted, kept) in [(0, 300), (900, 900)] {
        let spec = json!({"activeDeadlineSeconds": 20, "ttlSecondsAfterFinished": wanted, "template": {}});
        let (_, sent) = act(vec![cron_job(&json!({"spec": spec})), created()]).await;
        assert_eq!(sent[1].body["spec"]["activeDeadlineSeconds"], 20);
        assert_eq!(sent[1].body["spec"]["ttlSecondsAfterFinished"], kept);
    }
}

fn existing(owner: &str, attempt: &str) -> (StatusCode, Value) {
    let meta = json!({
        "name": "mcph-crashloop-1-1",
        "annotations": {"mcphealth.dev/attempt": attempt},
        "ownerReferences": [{"apiVersion": "mcphealth.dev/v1alpha1", "kind": "McpServerHealth", "name": "mcp-server", "uid": owner}],
    });
    let items = json!([{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta}]);
    (
        StatusCode::OK,
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items}),
    )
}

#[tokio::test]
async fn a_job_that_an_operator_made_before_it_ended_is_not_made_again() {
    let taken = || refusal(409, "jobs.batch \"mcph-crashloop-1-1\" already exists");
    let (acted, sent) = act(vec![plain(), taken(), existing("object-1", "crashloop-1-1")]).await;
    assert!(note(acted).starts_with("Job mcph-"));
    assert_eq!(sent.iter().filter(|sent| sent.method == Method::POST).count(), 1);
    for (owner, attempt) in [("object-2", "crashloop-1-1"), ("object-1", "other-1")] {
        let (acted, _) = act(vec![plain(), taken(), existing(owner, attempt)]).await;
        let Acted::Refused { reason, .. } = acted.unwrap() else { panic!("refused") };
        assert_eq!(reason, "NameTaken");
    }
}

#[tokio::test]
async fn what_keeps_a_job_from_being_made_is_said() {
    let forbidden = |verb: &str| refusal(403, &format!("it is forbidden: User x cannot {verb} resource"));
    for (answers, wanted, says) in [
        (vec![refusal(404, "not found")], "CronJobGone", "no CronJob smoke"),
        (vec![forbidden("get")], "Forbidden", "actions.runJob=true"),
        (vec![plain(), forbidden("create")], "Forbidden", "actions.runJob=true"),
        (vec![plain(), refusal(403, "exceeded quota: count/jobs.batch=1")], "JobRefused", "exceeded quota"),
        (vec![plain(), refusal(422, "spec.template: Required value")], "JobRefused", "Required value"),
    ] {
        let (acted, _) = act(answers).await;
        let Acted::Refused { reason, message } = acted.unwrap() else { panic!("refused") };
        assert_eq!(reason, wanted);
        assert!(message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn an_answer_that_tells_nothing_of_the_job_is_asked_for_again() {
    for answers in [vec![SILENCE], vec![plain(), SILENCE], vec![plain(), refusal(503, "busy")]] {
        let (acted, _) = act(answers).await;
        assert!(matches!(acted, Err(crate::error::Error::Unknown { .. })));
    }
}
