//! act: carries out the steps of the open attempt, one effect at a time, each fenced by what was recorded.
//!
//! A change of the target is a JSON patch that tests the uid and the resourceVersion that were recorded, and
//! marks the target with the attempt in the same patch. Whatever happens in between (a crash, a race, a lost
//! answer), the mark tells whether it took place.

mod hand_back;
mod patch;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use mcp_health_api::{ATTEMPT_ANNOTATION, Attempt, Effect, MANAGER, Step};
use mcp_health_core::attempt::Acted;
use serde_json::Value;

use crate::{
    error::{Error, answer},
    observe::{DeploymentWire, ReplicaSetWire, read_actions},
};

/// The target of an attempt.
pub struct Target<'a> {
    /// The client.
    pub client: &'a Client,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// How long one call may take: less than what the lease leaves.
    pub timeout: Duration,
}

/// What a step needs beside what is recorded; asked for while the intent is being recorded.
#[derive(Debug)]
pub enum Prepared {
    /// Nothing.
    Nothing,
    /// The template that comes back.
    Template(Value),
    /// It cannot be carried out.
    Superseded(String),
}

impl Target<'_> {
    fn api(&self) -> Api<DeploymentWire> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    fn words(&self) -> String {
        format!("Deployment {}/{}", self.namespace, self.name)
    }

    /// Fetches what the first step needs.
    pub async fn prepare(&self, step: &Step) -> Result<Prepared, Error> {
        let Some(replica_set) = step.replica_set.as_deref().filter(|_| step.effect == Effect::PatchTemplate)
        else {
            return Ok(Prepared::Nothing);
        };
        let api: Api<ReplicaSetWire> = Api::namespaced(self.client.clone(), self.namespace);
        let found = in_time("reading the ReplicaSet to go back to", self, api.get_opt(replica_set)).await?;
        let found = match found {
            Ok(found) => found,
            Err(error) => return Err(self.unknown("reading the ReplicaSet to go back to", &error)),
        };
        let Some(found) = found else {
            return Ok(Prepared::Superseded(format!("ReplicaSet {replica_set} is gone")));
        };
        let digest = mcp_health_core::digest::of_template(&found.spec.template);
        if Some(&digest) != step.to.as_ref() {
            return Ok(Prepared::Superseded(format!(
                "ReplicaSet {replica_set} holds another template now ({digest})"
            )));
        }
        Ok(Prepared::Template(patch::without_hash(found.spec.template)))
    }

    /// Carries out an attempt that was recorded just now.
    ///
    /// `remembered` is what the target remembers of past actions; `has_annotations` and
    /// `template_has_annotations` say which maps a patch may add to.
    pub async fn carry_out(
        &self,
        attempt: &Attempt,
        prepared: Prepared,
        facts: patch::Facts<'_>,
    ) -> Result<Acted, Error> {
        let Some(step) = attempt.steps.first() else {
            return Ok(Acted::Superseded("the attempt has no step".to_owned()));
        };
        let operations = match (step.effect, prepared) {
            (_, Prepared::Superseded(why)) => return Ok(Acted::Superseded(why)),
            (Effect::PatchTemplate, Prepared::Template(template)) => {
                patch::template(attempt, step, &template, &facts)
            }
            (Effect::RestartPods, _) => patch::restart(attempt, step, &facts),
            (effect, _) => return Ok(Acted::Superseded(format!("{effect:?} cannot come first"))),
        };
        match self.patch("changing the pod template", operations).await? {
            Ok(changed) => self.finish(attempt, changed).await,
            Err(error) => self.after_refusal(attempt, step, &error).await,
        }
    }

    /// Continues an attempt of which it is not known whether it was carried out: reads live, and only then
    /// goes on. `against` says why it may not be carried out any more, if it was not.
    pub async fn resume(&self, attempt: &Attempt, against: Option<&str>) -> Result<Acted, Error> {
        let Some(step) = attempt.steps.first() else {
            return Ok(Acted::Superseded("the attempt has no step".to_owned()));
        };
        let Some(live) = self.live().await? else {
            return Ok(Acted::Superseded(format!("{} is gone", self.words())));
        };
        if bears_mark(&live, attempt) {
            return self.finish(attempt, live).await;
        }
        if let Some(why) = against {
            return Ok(Acted::Superseded(format!(
                "it was not carried out before the operator restarted, and now: {why}"
            )));
        }
        let meta = live.meta();
        if meta.uid.as_deref() != Some(&step.target_uid)
            || meta.resource_version.as_deref() != Some(&step.resource_version)
        {
            return Ok(Acted::Superseded(format!("{} changed before it was carried out", self.words())));
        }
        let prepared = self.prepare(step).await?;
        let actions = meta.annotations.as_ref().and_then(|all| all.get(mcp_health_api::ACTIONS_ANNOTATION));
        let actions = actions.map(|text| read_actions(text)).unwrap_or_default();
        let has_annotations = meta.annotations.as_ref().is_some_and(|all| !all.is_empty());
        let facts = patch::Facts {
            actions: &actions,
            has_annotations,
            template_has_annotations: live.template_has_annotations(),
        };
        self.carry_out(attempt, prepared, facts).await
    }

    /// The API server said no: a fence held, a right is missing, or somebody's admission rule objects.
    async fn after_refusal(
        &self,
        attempt: &Attempt,
        step: &Step,
        error: &kube::Error,
    ) -> Result<Acted, Error> {
        let Some(status) =
            answer(error).filter(|status| (400..500).contains(&status.code) && status.code != 429)
        else {
            return Err(self.unknown("changing the pod template", error));
        };
        if status.code == 404 {
            return Ok(Acted::Superseded(format!("{} is gone", self.words())));
        }
        if status.code == 403 {
            let reason =
                if status.message.contains("cannot patch") { "Forbidden" } else { "AdmissionDenied" };
            let message = format!(
                "the API server does not let the operator change {}: {}",
                self.words(),
                status.message
            );
            return Ok(Acted::Refused { reason: reason.to_owned(), message });
        }
        let Some(live) = self.live().await? else {
            return Ok(Acted::Superseded(format!("{} is gone", self.words())));
        };
        if bears_mark(&live, attempt) {
            return self.finish(attempt, live).await;
        }
        let meta = live.meta();
        let unchanged = meta.uid.as_deref() == Some(&step.target_uid)
            && meta.resource_version.as_deref() == Some(&step.resource_version);
        if unchanged {
            let message =
                format!("the API server refuses the change of {}: {}", self.words(), status.message);
            return Ok(Acted::Refused { reason: "ChangeRefused".to_owned(), message });
        }
        Ok(Acted::Superseded(format!("{} changed at the same moment", self.words())))
    }

    /// The steps after the change.
    async fn finish(&self, attempt: &Attempt, changed: DeploymentWire) -> Result<Acted, Error> {
        let generation = changed.meta().generation.unwrap_or_default();
        if attempt.steps.iter().any(|step| step.effect == Effect::HandBackOwnership) {
            hand_back::carry_out(self, changed).await?;
        }
        Ok(Acted::Done { generation })
    }

    async fn live(&self) -> Result<Option<DeploymentWire>, Error> {
        let found = in_time("reading it", self, self.api().get_opt(self.name)).await?;
        found.map_err(|error| self.unknown("reading it", &error))
    }

    async fn patch(
        &self,
        what: &'static str,
        operations: Value,
    ) -> Result<Result<DeploymentWire, kube::Error>, Error> {
        let operations: json_patch::Patch = serde_json::from_value(operations)
            .map_err(|error| Error::Unknown { what, object: self.words(), why: error.to_string() })?;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.api();
        let patch = Patch::Json::<()>(operations);
        in_time(what, self, api.patch(self.name, &params, &patch)).await
    }

    fn unknown(&self, what: &'static str, error: &kube::Error) -> Error {
        Error::Unknown { what, object: self.words(), why: error.to_string() }
    }
}

/// The target bears the mark of this attempt: the change took place.
fn bears_mark(live: &DeploymentWire, attempt: &Attempt) -> bool {
    let annotations = live.meta().annotations.as_ref();
    annotations.and_then(|all| all.get(ATTEMPT_ANNOTATION)) == Some(&attempt.id)
}

async fn in_time<T>(
    what: &'static str,
    target: &Target<'_>,
    call: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::time::timeout(target.timeout, call).await.map_err(|_| Error::Unknown {
        what,
        object: target.words(),
        why: format!("no answer within {} s", target.timeout.as_secs()),
    })
}

pub use patch::Facts;
