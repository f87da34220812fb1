//! RunJob: creates a Job from a CronJob's template, as `kubectl create job --from=cronjob/…` does. Its name is
//! the attempt's, so that a second try meets the first; it goes with the McpServerHealth.

use k8s_openapi::{
    api::batch::v1::{CronJob, Job},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource,
    api::{ListParams, PostParams},
};
use mcp_health_api::{ATTEMPT_ANNOTATION, Attempt, KIND_JOB, MANAGER, Step};
use mcp_health_core::{
    actions::{JOB_PATIENCE, job_name},
    attempt::Effected,
    refusals::Refused,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{executor::Executor, stepped::Stepped};
use crate::{
    error::{Error, answer},
    owned,
};

/// A finished Job is there for people to look at for a day.
const KEPT_SECONDS: i64 = 24 * 3600;
/// However short a template wants it: what came of the Job must be seen first, over a restart of the operator.
const SEEN_SECONDS: i64 = 300;
/// What `kubectl create job --from` notes on a Job that no schedule made.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";

/// A CronJob, as far as a Job is made from it.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = CronJob)]
struct CronJobWire {
    metadata: ObjectMeta,
    spec: CronJobSpec,
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct CronJobSpec {
    job_template: JobTemplate,
}

#[derive(Deserialize, Clone, Debug)]
struct JobTemplate {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Map<String, Value>,
}

/// A Job as it is created: the rest of its spec is the API server's to judge.
#[derive(Resource, Serialize, Deserialize, Clone, Debug)]
#[resource(inherit = Job)]
struct JobWire {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: ObjectMeta,
    spec: Map<String, Value>,
}

/// Creates the Job, unless it is there already.
pub async fn carry_out(target: &Executor<'_>, attempt: &Attempt, step: &Step) -> Result<Stepped, Error> {
    const READING: &str = "reading the CronJob of a Job";
    const CREATING: &str = "creating a Job";
    let source = step.source.as_deref().unwrap_or_default();
    let Some(cron_job) = source.strip_prefix("CronJob/") else {
        return Ok(Stepped::superseded("the step names no CronJob"));
    };
    let api: Api<CronJobWire> = Api::namespaced(target.client.clone(), target.namespace);
    let found = match target.in_time(READING, api.get_opt(cron_job)).await? {
        Ok(Some(found)) => found,
        Ok(None) => {
            let message = format!("there is no CronJob {cron_job} in {}: no Job was run", target.namespace);
            return Ok(Stepped::refused("CronJobGone", message));
        }
        Err(error) => return no_right(target, READING, "get", &error),
    };
    let job = job_of(target, attempt, found.spec.job_template);
    let api: Api<JobWire> = Api::namespaced(target.client.clone(), target.namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let name = job_name(attempt);
    match target.in_time(CREATING, api.create(&params, &job)).await? {
        Ok(_) => Ok(made(&name, source)),
        Err(error) if answer(&error).is_some_and(|status| status.code == 409) => {
            let named = ListParams::default().fields(&format!("metadata.name={name}"));
            let there = target.in_time(CREATING, api.list_metadata(&named)).await?;
            let there = there.map_err(|error| target.unknown(CREATING, &error))?;
            match there.items.first() {
                Some(job) if owned::is_of(job.meta(), target.object, &attempt.id) => Ok(made(&name, source)),
                Some(_) => Ok(Stepped::refused(
                    "NameTaken",
                    format!("somebody else has made a Job {name}: it stays"),
                )),
                // It was there a moment ago: its namespace or its owner goes.
                None => Err(target.unknown(CREATING, &error)),
            }
        }
        Err(error) => no_right(target, CREATING, "create", &error),
    }
}

fn made(name: &str, source: &str) -> Stepped {
    Stepped::Done(Effected { note: Some(format!("Job {name}, from {source}")), ..Effected::default() })
}

/// The API server said no, in so many words; or it is not known what it did.
fn no_right(
    target: &Executor,
    what: &'static str,
    verb: &str,
    error: &kube::Error,
) -> Result<Stepped, Error> {
    let (refused, said) = target.refused(what, verb, error)?;
    let (reason, hint) = if refused == Refused::NoRight {
        ("Forbidden", "; the operator's chart gives the right by actions.runJob=true")
    } else {
        ("JobRefused", "")
    };
    let message = format!("{what} for {} is refused: {said}{hint}", target.words());
    Ok(Stepped::refused(reason, message))
}

/// The Job, with an end: it neither runs nor stays for ever.
fn job_of(target: &Executor, attempt: &Attempt, template: JobTemplate) -> JobWire {
    let own = owned::metadata(target.object, job_name(attempt), KIND_JOB);
    let mut labels = template.metadata.labels.unwrap_or_default();
    labels.extend(own.labels.unwrap_or_default());
    let mut annotations = template.metadata.annotations.unwrap_or_default();
    annotations.insert(INSTANTIATE.to_owned(), "manual".to_owned());
    annotations.insert(ATTEMPT_ANNOTATION.to_owned(), attempt.id.clone());
    let mut spec = template.spec;
    let kept = spec.get("ttlSecondsAfterFinished").and_then(Value::as_i64).unwrap_or(KEPT_SECONDS);
    spec.insert("ttlSecondsAfterFinished".to_owned(), json!(kept.max(SEEN_SECONDS)));
    spec.entry("activeDeadlineSeconds").or_insert(json!(JOB_PATIENCE.as_secs()));
    JobWire {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        metadata: ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..own },
        spec,
    }
}
