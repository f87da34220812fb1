//! An Alertmanager of a story's own, and a Prometheus played: it posts alerts, and ends them.

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::{Story, addon::Addon, forward::Forward, until};

/// What the operator is told of it, as a value of the chart.
pub const URL: &str = "http://alertmanager.NAMESPACE:9093";

/// Nobody is told: alerts are there to be asked for.
const CONFIG: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// See the module.
pub struct Alertmanager<'a> {
    /// The program itself.
    pub addon: Addon<'a>,
    namespace: String,
    begun: Timestamp,
}

impl<'a> Alertmanager<'a> {
    /// Starts it, and waits until it answers.
    pub async fn start(story: &'a Story) -> Self {
        let addon = Addon::start(story, ("alertmanager", 9093), CONFIG, json!([])).await;
        Self { addon, namespace: story.namespace.clone(), begun: Timestamp::now() }
    }

    /// An alert fires, with these labels beside its name and the namespace.
    pub async fn fire(&self, name: &str, labels: &Value, summary: &str) {
        self.post_alert(name, labels, summary, Timestamp::now() + 30.minutes()).await;
    }

    /// It does not any more.
    pub async fn end(&self, name: &str, labels: &Value) {
        self.post_alert(name, labels, "", Timestamp::now()).await;
    }

    /// A person silences alerts of this name.
    pub async fn silence(&self, name: &str) {
        let now = Timestamp::now();
        let silence = json!({
            "matchers": [{"name": "alertname", "value": name, "isRegex": false, "isEqual": true}],
            "startsAt": now,
            "endsAt": now + 30.minutes(),
            "createdBy": "person",
            "comment": "known",
        });
        self.post("silences", &silence).await;
    }

    async fn post_alert(&self, name: &str, labels: &Value, summary: &str, ends: Timestamp) {
        let mut labels = labels.clone();
        labels["alertname"] = json!(name);
        labels["namespace"] = json!(self.namespace);
        // Without its begin, it would begin when it ends.
        let alert = json!({
            "labels": labels, "annotations": {"summary": summary}, "startsAt": self.begun, "endsAt": ends,
        });
        self.post("alerts", &json!([alert])).await;
    }

    async fn post(&self, what: &str, body: &Value) {
        until(&format!("Alertmanager takes {what}"), async || {
            let forward = Forward::open(&self.namespace, "service/alertmanager", 9093).await?;
            let url = format!("{}/api/v2/{what}", forward.url);
            let answer = reqwest::Client::new().post(url).json(body).send().await;
            let answer = answer.and_then(reqwest::Response::error_for_status);
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}
