//! Changes of the target itself: PatchTemplate, EditTemplate, RestartPods, SetReplicas, MarkTarget.
//!
//! Each is one JSON patch that tests the uid and the resourceVersion that were recorded, and marks the target
//! with the attempt in the same patch. An attempt has one such step at most, so that the mark tells of it.

use std::fmt::Debug;

use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use mcp_health_api::{Attempt, Effect, MANAGER, Step};
use mcp_health_core::{
    actions::template_edit::edited, attempt::Effected, digest, references::LOOKED_UP, refusals::Refused,
    signals::Presence,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    executor::Executor,
    patch,
    stepped::{Prepared, Stepped},
};
use crate::{
    error::Error,
    observe::{DeploymentWire, Facts, ReplicaSetWire, look_up},
};

/// How often a change is sent while nothing but the target's status changes. During a rollout its controller
/// writes that several times a second, and each time the version that the change tests is over.
const SENT_AGAIN: usize = 4;

/// What came of sending a change.
enum Sent {
    /// The step is over.
    Ended(Stepped),
    /// It did not take place: only the target's status has changed, which has this version now.
    StatusChanged(String),
}

/// Whether the effect leaves the attempt's mark on the target.
pub fn is_marking(effect: Effect) -> bool {
    matches!(
        effect,
        Effect::PatchTemplate
            | Effect::EditTemplate
            | Effect::RestartPods
            | Effect::SetReplicas
            | Effect::MarkTarget
    )
}

impl Executor<'_> {
    /// Fetches the template that comes back.
    pub(super) async fn prepare_template(&self, step: &Step) -> Result<Prepared, Error> {
        const WHAT: &str = "reading the ReplicaSet to go back to";
        let Some(replica_set) = step.source.as_deref() else {
            return Ok(Prepared::Superseded("the step names no ReplicaSet".to_owned()));
        };
        let api: Api<ReplicaSetWire> = Api::namespaced(self.client.clone(), self.namespace);
        let seen = self.revisions.iter().find(|revision| revision.name == replica_set);
        let named = seen.map(|seen| seen.references.as_slice()).unwrap_or_default();
        let named = &named[..named.len().min(LOOKED_UP)];
        let both =
            async { tokio::join!(api.get_opt(replica_set), look_up(self.client, self.namespace, named)) };
        let (found, referenced) = self.in_time(WHAT, both).await?;
        let found = match found {
            Ok(found) => found,
            Err(error) => return Err(self.unknown(WHAT, &error)),
        };
        let Some(found) = found else {
            return Ok(Prepared::Superseded(format!("ReplicaSet {replica_set} is gone")));
        };
        let digest = digest::of_template(&found.spec.template);
        if Some(&digest) != step.to.as_ref() {
            return Ok(Prepared::Superseded(format!(
                "ReplicaSet {replica_set} holds another template now ({digest})"
            )));
        }
        for one in referenced {
            match one.presence {
                Presence::Exists | Presence::NotChecked(_) => {}
                Presence::Missing => {
                    return Ok(Prepared::Superseded(format!(
                        "{} is gone, which ReplicaSet {replica_set} needs",
                        one.reference
                    )));
                }
                Presence::Unknown(why) => {
                    let (what, object) = (WHAT, one.reference.to_string());
                    return Err(Error::Unknown { what, object, why });
                }
            }
        }
        Ok(Prepared::Template(patch::without_hash(found.spec.template)))
    }

    /// Fetches the template in force, and edits it.
    pub(super) async fn prepare_edits(&self, step: &Step) -> Result<Prepared, Error> {
        let Some(live) = self.live().await? else {
            return Ok(Prepared::Superseded(format!("{} is gone", self.words())));
        };
        let template = live.spec.template;
        if step.from.as_ref() != Some(&digest::of_template(&template)) {
            return Ok(Prepared::Superseded(format!("{} has another template now", self.words())));
        }
        Ok(match edited(template, &step.edits) {
            Ok(template) => Prepared::Template(template),
            Err(why) => Prepared::Superseded(why),
        })
    }

    /// Makes the change, unless the target bears the attempt's mark already.
    pub(super) async fn change(
        &self,
        attempt: &Attempt,
        step: &Step,
        fresh: Option<(Prepared, Facts)>,
    ) -> Result<Stepped, Error> {
        // Not known how far it came, or fenced by its content alone: what is live decides.
        let (prepared, facts, version) =
            if let (Some((prepared, facts)), Some(version)) = (fresh, &step.resource_version) {
                (prepared, facts, version.clone())
            } else {
                let Some(live) = self.live().await? else {
                    return Ok(Stepped::superseded(format!("{} is gone", self.words())));
                };
                if patch::bears_mark(&live, attempt) {
                    return Ok(found(live, step));
                }
                if !fences_hold(&live, step) {
                    return Ok(Stepped::superseded(format!(
                        "{} changed before it was carried out",
                        self.words()
                    )));
                }
                let version = live.meta().resource_version.clone().unwrap_or_default();
                (self.prepare(step).await?, Facts::of(&live), version)
            };
        let changes = match (step.effect, prepared) {
            (_, Prepared::Superseded(why)) => return Ok(Stepped::superseded(why)),
            (_, Prepared::Refused(acted)) => return Ok(Stepped::Ended(acted)),
            (Effect::PatchTemplate | Effect::EditTemplate, Prepared::Template(template)) => {
                vec![json!({"op": "replace", "path": "/spec/template", "value": template})]
            }
            (Effect::RestartPods, _) => vec![patch::restart(step, &facts)],
            (Effect::SetReplicas, _) => {
                let Some(replicas) = step.to.as_deref().and_then(|to| to.parse::<i32>().ok()) else {
                    return Ok(Stepped::superseded("the step names no number of replicas"));
                };
                vec![json!({"op": "replace", "path": "/spec/replicas", "value": replicas})]
            }
            (Effect::MarkTarget, _) => Vec::new(),
            (effect, _) => return Ok(Stepped::superseded(format!("{effect:?} was not prepared"))),
        };
        let mut version = version;
        for _ in 0..SENT_AGAIN {
            match self.send(attempt, step, &version, &facts, &changes).await? {
                Sent::Ended(stepped) => return Ok(stepped),
                Sent::StatusChanged(now) => version = now,
            }
            // It has had its look at the lease for the first.
            if !self.lease.has_left() {
                break;
            }
        }
        Ok(self.overtaken())
    }

    /// Sends the change once, fenced by a version of the target.
    async fn send(
        &self,
        attempt: &Attempt,
        step: &Step,
        version: &str,
        facts: &Facts,
        changes: &[Value],
    ) -> Result<Sent, Error> {
        let operations = patch::fenced(attempt, &step.uid, version, facts, changes);
        match self.patch("changing it", operations).await? {
            Ok(changed) => Ok(Sent::Ended(effected(changed, step))),
            Err(error) => self.after_refusal(attempt, step, (version, facts), &error).await,
        }
    }

    fn overtaken(&self) -> Stepped {
        Stepped::superseded(format!("{} changed at the same moment", self.words()))
    }

    /// The API server said no: a fence held, a right is missing, or somebody's admission rule objects.
    async fn after_refusal(
        &self,
        attempt: &Attempt,
        step: &Step,
        (version, facts): (&str, &Facts),
        error: &kube::Error,
    ) -> Result<Sent, Error> {
        let (refused, said) = self.refused("changing it", "patch", error)?;
        let denied = |reason| {
            let message = format!("the API server does not let the operator change {}: {said}", self.words());
            Ok(Sent::Ended(Stepped::refused(reason, message)))
        };
        match refused {
            Refused::Gone => {
                return Ok(Sent::Ended(Stepped::superseded(format!("{} is gone", self.words()))));
            }
            Refused::NoRight => return denied("Forbidden"),
            Refused::Denied => return denied("AdmissionDenied"),
            Refused::Invalid | Refused::Undecided => {}
        }
        let Some(live) = self.live().await? else {
            return Ok(Sent::Ended(Stepped::superseded(format!("{} is gone", self.words()))));
        };
        if patch::bears_mark(&live, attempt) {
            return Ok(Sent::Ended(found(live, step)));
        }
        let meta = live.meta();
        if meta.uid.as_deref() == Some(&step.uid) && meta.resource_version.as_deref() == Some(version) {
            let message = format!("the API server refuses the change of {}: {said}", self.words());
            return Ok(Sent::Ended(Stepped::refused("ChangeRefused", message)));
        }
        let seen = Facts::of(&live);
        let is_decided_on = step.resource_version.as_ref().is_none_or(|recorded| *recorded == facts.version);
        if is_decided_on && meta.uid.as_deref() == Some(&step.uid) && seen.fence == facts.fence {
            return Ok(Sent::StatusChanged(seen.version));
        }
        Ok(Sent::Ended(self.overtaken()))
    }

    async fn patch(
        &self,
        what: &'static str,
        operations: Value,
    ) -> Result<Result<DeploymentWire, kube::Error>, Error> {
        self.patch_object(&self.api(), self.name, what, operations).await
    }

    /// A JSON patch of an object, under our name.
    pub(super) async fn patch_object<K>(
        &self,
        api: &Api<K>,
        name: &str,
        what: &'static str,
        operations: Value,
    ) -> Result<Result<K, kube::Error>, Error>
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let operations: json_patch::Patch = serde_json::from_value(operations)
            .map_err(|error| Error::Unknown { what, object: self.words(), why: error.to_string() })?;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(operations);
        self.in_time(what, api.patch(name, &params, &patch)).await
    }
}

/// Whether the target is still what was recorded: the same object at the same version; where no version was
/// recorded, with the same template.
fn fences_hold(live: &DeploymentWire, step: &Step) -> bool {
    let meta = live.meta();
    let same = match (&step.resource_version, &step.from) {
        (Some(version), _) => meta.resource_version.as_ref() == Some(version),
        (None, Some(template)) => digest::of_template(&live.spec.template) == *template,
        (None, None) => true,
    };
    same && meta.uid.as_deref() == Some(&step.uid)
}

/// The change is there, by its mark; what is in force now may be somebody's change after it. A template that
/// comes back is known before; one that was edited is the one in force, if nobody has changed anything since.
fn found(live: DeploymentWire, step: &Step) -> Stepped {
    let Stepped::Changed(mut effected, live) = effected(live, step) else {
        return Stepped::superseded("the change cannot be told");
    };
    if step.effect == Effect::PatchTemplate {
        effected.template = step.to.clone().or(effected.template);
    }
    if step.generation.is_some_and(|generation| live.meta().generation != Some(generation)) {
        effected.template = None;
        effected.generation = step.generation;
    }
    Stepped::Changed(effected, live)
}

fn effected(changed: DeploymentWire, step: &Step) -> Stepped {
    let template = matches!(step.effect, Effect::PatchTemplate | Effect::EditTemplate)
        .then(|| digest::of_template(&changed.spec.template));
    let effected = Effected { generation: changed.meta().generation, template, ..Effected::default() };
    Stepped::Changed(effected, Box::new(changed))
}
