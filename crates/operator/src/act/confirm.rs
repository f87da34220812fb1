//! What must still hold when the first effect is sent, asked of the API server itself while the intent is being recorded:
//! watches may lag behind. No answer counts as a change: nothing is sent on it. (The target is not asked for: its
//! patch tests its uid and version.)

use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{Api, Resource};
use mcp_health_api::{Effect, SUSPEND_ANNOTATION, Step, StepState};

use super::executor::Executor;
use crate::{
    error::{Error, answer},
    observe::{NamespaceWire, SwitchWire, is_suspended, is_thrown},
};

/// What became of what an attempt rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It is as it was decided on.
    Unchanged,
    /// It has changed: how.
    Changed(String),
    /// The operator may not ask: what right is missing.
    Forbidden(String),
}

impl Confirmed {
    /// What speaks against going on.
    pub fn against(self) -> Option<String> {
        match self {
            Self::Unchanged => None,
            Self::Changed(why) | Self::Forbidden(why) => Some(why),
        }
    }
}

/// What one question came to: what speaks against going on, if anything.
type Objection = Result<Option<Confirmed>, Error>;

impl Executor<'_> {
    /// Asks for the switch, the namespace and, for an eviction, the pod: at the same time.
    pub async fn confirm(&self, steps: &[Step]) -> Result<Confirmed, Error> {
        let (switch, namespace, pod) = tokio::join!(
            Box::pin(self.confirm_switch()),
            Box::pin(self.confirm_namespace()),
            Box::pin(self.confirm_pod(steps)),
        );
        let answers = [switch, namespace, pod];
        // What was answered counts, whatever was not.
        let objection = answers.iter().find_map(|answer| answer.as_ref().ok()?.clone());
        match objection {
            Some(objection) => Ok(objection),
            None => answers.into_iter().collect::<Result<Vec<_>, _>>().map(|_| Confirmed::Unchanged),
        }
    }

    async fn confirm_switch(&self) -> Objection {
        const WHAT: &str = "reading the cluster-wide switch before it";
        let Some((namespace, name)) = self.switch else { return Ok(None) };
        let api: Api<SwitchWire> = Api::namespaced(self.client.clone(), namespace);
        let Ok(found) = self.asked(WHAT, api.get_opt(name)).await? else {
            return Ok(Some(forbidden("configmaps", &format!("{namespace}/{name}"))));
        };
        let thrown = found.is_some_and(|switch| is_thrown(&switch));
        Ok(thrown.then(|| Confirmed::Changed("the operator was suspended for the whole cluster".to_owned())))
    }

    async fn confirm_namespace(&self) -> Objection {
        const WHAT: &str = "reading its namespace before it";
        let name = self.namespace;
        let api: Api<NamespaceWire> = Api::all(self.client.clone());
        let Ok(found) = self.asked(WHAT, api.get_opt(name)).await? else {
            return Ok(Some(forbidden("namespaces", name)));
        };
        Ok(match found {
            None => Some(Confirmed::Changed(format!("namespace {name} is gone"))),
            Some(found) if found.meta().deletion_timestamp.is_some() => {
                Some(Confirmed::Changed(format!("namespace {name} is being deleted")))
            }
            Some(found) if is_suspended(&found) => Some(Confirmed::Changed(format!(
                "namespace {name} was suspended by its annotation {SUSPEND_ANNOTATION}"
            ))),
            Some(_) => None,
        })
    }

    /// A pod that is gone, or is another by now, needs no eviction; the eviction's own answer says so.
    async fn confirm_pod(&self, steps: &[Step]) -> Objection {
        const WHAT: &str = "reading the pod before its eviction";
        let mut left = steps.iter().filter(|step| step.state != StepState::Done);
        let Some(step) = left.find(|step| step.effect == Effect::EvictPod) else { return Ok(None) };
        let Some(name) = step.object.as_deref().and_then(|object| object.strip_prefix("Pod/")) else {
            return Ok(None);
        };
        let api: Api<PodObject> = Api::namespaced(self.client.clone(), self.namespace);
        let Ok(found) = self.asked(WHAT, api.get_opt(name)).await? else {
            return Ok(Some(forbidden("pods", &format!("{}/{name}", self.namespace))));
        };
        let stays = |pod: &PodObject| {
            pod.metadata.uid.as_ref() == Some(&step.uid) && pod.metadata.deletion_timestamp.is_none()
        };
        let was_ready = self.pods.iter().any(|pod| pod.uid == step.uid && pod.ready);
        let is_ready = found.filter(stays).is_some_and(|pod| is_ready(&pod));
        Ok((is_ready && !was_ready).then(|| Confirmed::Changed(format!("pod {name} became ready"))))
    }

    /// The answer; `Err` inside where the operator has no right to it.
    async fn asked<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<Option<T>, kube::Error>>,
    ) -> Result<Result<Option<T>, ()>, Error> {
        match self.in_time(what, call).await? {
            Ok(found) => Ok(Ok(found)),
            Err(error) if answer(&error).is_some_and(|status| status.code == 403) => Ok(Err(())),
            Err(error) => Err(self.unknown(what, &error)),
        }
    }
}

fn forbidden(resource: &str, name: &str) -> Confirmed {
    Confirmed::Forbidden(format!(
        "the operator may not get {resource} ({name}), which it asks for before each action: grant it the verb get"
    ))
}

fn is_ready(pod: &PodObject) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}
