//! HandBackOwnership: the fields that were changed go back to the manager that owns the rest of the pod template, or
//! of the ConfigMap, so that its next apply goes through. Replayable: done twice, it is the same.

use std::{fmt::Debug, time::Duration};

use kube::{Api, Resource};
use mcp_health_api::Step;
use mcp_health_core::{
    actions::config_name,
    attempt::Effected,
    ownership::{hand_back, hand_back_content, hand_back_replicas},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{executor::Executor, stepped::Stepped};
use crate::{
    error::{Error, answer},
    observe::DeploymentWire,
};

/// The Deployment controller writes status at the same time: so often is a lost race run again.
const TRIES: u32 = 8;
/// Before the race is run again; doubles each time, so that the controller comes to an end.
const PAUSE: Duration = Duration::from_millis(10);

/// Hands back what a step's object shows as ours: of a ConfigMap its content; of the target, as it was `seen` last, the
/// template, or the number of replicas, where the step names whose it was.
pub async fn carry_out(
    target: &Executor<'_>,
    step: &Step,
    seen: Option<DeploymentWire>,
) -> Result<Stepped, Error> {
    if let Some(name) = config_name(step) {
        let hand = |fields: &[Value]| hand_back_content(fields, step.source.as_deref()?);
        return hand_back_of(target, &target.config_maps(), name, hand, None).await;
    }
    let hand = |fields: &[Value]| match &step.source {
        None => hand_back(fields),
        Some(owner) => hand_back_replicas(fields, owner),
    };
    hand_back_of(target, &target.api(), target.name, hand, seen).await
}

/// What cannot be handed back is logged: it does no harm that the owner's own `--force-conflicts` does not mend.
async fn hand_back_of<K>(
    target: &Executor<'_>,
    api: &Api<K>,
    name: &str,
    hand: impl Fn(&[Value]) -> Option<Vec<Value>>,
    seen: Option<K>,
) -> Result<Stepped, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    const WHAT: &str = "handing back field ownership";
    let done = || Ok(Stepped::Done(Effected::default()));
    let live = async || {
        let found = target.in_time(WHAT, api.get_opt(name)).await?;
        found.map_err(|error| target.unknown(WHAT, &error))
    };
    let seen = match seen {
        Some(seen) => Some(seen),
        None => live().await?,
    };
    let Some(mut seen) = seen else { return done() };
    for lost in 0..TRIES {
        let meta = seen.meta();
        let fields: Vec<Value> = meta
            .managed_fields
            .iter()
            .flatten()
            .filter_map(|entry| serde_json::to_value(entry).ok())
            .collect();
        let Some(after) = hand(&fields) else { return done() };
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": meta.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
            {"op": "replace", "path": "/metadata/managedFields", "value": after},
        ]);
        match target.patch_object(api, name, WHAT, operations).await? {
            Ok(_) => return done(),
            Err(error) if answer(&error).is_some_and(|status| matches!(status.code, 409 | 422)) => {
                tokio::time::sleep(PAUSE * 2_u32.pow(lost)).await;
                match live().await? {
                    Some(live) => seen = live,
                    None => return done(),
                }
            }
            // Nothing was heard: it is begun again from what is live.
            Err(error) if answer(&error).is_none() => return Err(target.unknown(WHAT, &error)),
            Err(error) => {
                tracing::warn!(target = target.words(), name, %error, "field ownership could not be handed back");
                return done();
            }
        }
    }
    tracing::warn!(
        target = target.words(),
        name,
        "field ownership could not be handed back: the object changes too fast"
    );
    done()
}
