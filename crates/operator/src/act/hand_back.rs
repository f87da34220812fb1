//! HandBackOwnership: the fields that were changed go back to the manager that owns the rest of the pod
//! template, so that its next apply goes through. Replayable: done twice, it is the same.

use std::time::Duration;

use kube::Resource;
use mcp_health_api::Step;
use mcp_health_core::{
    attempt::Effected,
    ownership::{hand_back, hand_back_replicas},
};
use serde_json::{Value, json};

use super::{Stepped, Target};
use crate::{
    error::{Error, answer},
    observe::DeploymentWire,
};

/// The Deployment controller writes status at the same time: so often is a lost race run again.
const TRIES: u32 = 8;
/// Before the race is run again; doubles each time, so that the controller comes to an end.
const PAUSE: Duration = Duration::from_millis(10);

/// Hands back what the target, as it was `seen` last, shows as ours: the template; or the number of replicas, where the
/// step names whose it was. What cannot be handed back is logged: it does no harm that the
/// owner's own `--force-conflicts` does not mend.
pub async fn carry_out(
    target: &Target<'_>,
    step: &Step,
    seen: Option<DeploymentWire>,
) -> Result<Stepped, Error> {
    let done = || Ok(Stepped::Done(Effected::default()));
    let seen = match seen {
        Some(seen) => Some(seen),
        None => target.live().await?,
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
        let after = match &step.source {
            None => hand_back(&fields),
            Some(owner) => hand_back_replicas(&fields, owner),
        };
        let Some(after) = after else { return done() };
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": meta.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
            {"op": "replace", "path": "/metadata/managedFields", "value": after},
        ]);
        match target.patch("handing back field ownership", operations).await? {
            Ok(_) => return done(),
            Err(error) if answer(&error).is_some_and(|status| matches!(status.code, 409 | 422)) => {
                tokio::time::sleep(PAUSE * 2_u32.pow(lost)).await;
                match target.live().await? {
                    Some(live) => seen = live,
                    None => return done(),
                }
            }
            // Nothing was heard: it is begun again from what is live.
            Err(error) if answer(&error).is_none() => {
                return Err(target.unknown("handing back field ownership", &error));
            }
            Err(error) => {
                tracing::warn!(target = target.words(), %error, "field ownership could not be handed back");
                return done();
            }
        }
    }
    tracing::warn!(
        target = target.words(),
        "field ownership could not be handed back: the object changes too fast"
    );
    done()
}
