//! RabbitMQ: a login over AMQP, and what the management API tells of alarms and queues (guide 000).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use mcp_health_core::signals::{CheckStep, Failure};
use net::Proof;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;
use url::Url;

use crate::{
    Access, Asked, Barred, Permit, Trust, connect,
    said::said,
    tls::secure,
    web::{self, Got, Web},
};

mod handshake;

/// No document of the management API that is asked for is longer than this, in bytes.
const BODY: usize = 256 << 10;

/// A broker, and what is expected of it.
pub struct Target<'a> {
    /// Where it is, and who asks; its path is the virtual host.
    pub access: &'a Access,
    /// The management API, as `http://rabbitmq.mcp:15672`; asked with the same user.
    pub management: Option<&'a str>,
    /// The queues that are looked at.
    pub queues: &'a [Queue],
}

/// A queue, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The most messages that wait in it.
    pub max_messages: Option<i64>,
    /// The fewest consumers that it has.
    pub min_consumers: Option<i64>,
}

/// `GET /api/overview`, as far as it is read.
#[derive(Deserialize)]
struct Overview {
    rabbitmq_version: String,
    #[serde(default)]
    queue_totals: Totals,
}

#[derive(Deserialize, Default)]
struct Totals {
    messages: Option<i64>,
}

/// `GET /api/health/checks/alarms` where there are any.
#[derive(Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<Alarm>,
}

#[derive(Deserialize)]
struct Alarm {
    #[serde(default)]
    resource: String,
}

/// `GET /api/queues/{virtual host}/{name}`.
#[derive(Deserialize)]
struct QueueState {
    messages: Option<i64>,
    consumers: Option<i64>,
}

/// Asks it. `Err` where it may not be asked, with the reason for people.
pub async fn ask(
    target: &Target<'_>,
    trust: &Trust,
    permit: Permit<'_>,
    patience: Duration,
) -> Result<Asked, String> {
    let until = Instant::now() + patience;
    let mut asked = Asked::default();
    let result = look(target, trust, permit, until, &mut asked).await;
    asked.ended(result)
}

async fn look(
    Target { access, management, queues }: &Target<'_>,
    trust: &Trust,
    permit: Permit<'_>,
    until: Instant,
    asked: &mut Asked,
) -> Result<(), Barred> {
    let left = until.saturating_duration_since(Instant::now());
    let stream = connect(&access.host, access.port, permit, left).await?;
    if access.tls {
        let (session, certificate) = secure(stream, &access.host, Proof::Name(trust), &[], until).await;
        asked.certificate = certificate;
        handshake::shake(session?, access, until).await?;
    } else {
        handshake::shake(stream, access, until).await?;
    }
    let Some(base) = management else { return Ok(()) };
    let mut management = Management {
        base: web::parse(base).map_err(|why| Barred::Forbidden(format!("its management API: {why}")))?,
        authorization: basic(access)?,
        web: Web::new(trust, permit),
        access,
        until,
    };
    let result = management.look(queues, &mut asked.remarks).await;
    asked.certificate = asked.certificate.take().or(management.web.certificate);
    result
}

fn basic(access: &Access) -> Result<HeaderValue, Barred> {
    let pair = STANDARD.encode(format!("{}:{}", access.user, access.password));
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))
        .map_err(|_| Barred::Forbidden("its user and password cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

struct Management<'a> {
    base: Url,
    authorization: HeaderValue,
    web: Web<'a>,
    access: &'a Access,
    until: Instant,
}

impl Management<'_> {
    async fn look(&mut self, queues: &[Queue], remarks: &mut Vec<String>) -> Result<(), Barred> {
        let overview: Overview = document(&self.get(&["overview"]).await?, "its overview")?;
        let version = self.said(&overview.rabbitmq_version);
        let messages = overview.queue_totals.messages.map(|count| format!(", {count} messages in all"));
        let overview = format!("is RabbitMQ {version}{}", messages.unwrap_or_default());
        let alarms = self.get(&["health", "checks", "alarms"]).await?;
        let mut result = match alarms.status {
            status if status.is_success() => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => Err(alarmed(&alarms)),
            // Older ones do not have it, and not every user may ask.
            status => {
                remarks.push(format!("does not tell of alarms ({})", web::words(status)));
                Ok(())
            }
        };
        for queue in queues {
            let told = self.queue(queue, remarks).await?;
            // Alarms come first: publishers are blocked.
            result = result.and(told);
        }
        remarks.push(overview);
        Ok(result?)
    }

    async fn queue(
        &mut self,
        queue: &Queue,
        remarks: &mut Vec<String>,
    ) -> Result<Result<(), Failure>, Barred> {
        let vhost =
            self.access.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let name = said(&queue.name, &[]);
        let got = self.get(&["queues", &vhost, &queue.name]).await?;
        if got.status == StatusCode::NOT_FOUND {
            return Ok(Err(Failure::new(CheckStep::Answer, format!("there is no queue {name}"))));
        }
        let state: QueueState = document(&got, "a queue")?;
        let (Some(messages), Some(consumers)) = (state.messages, state.consumers) else {
            // It has been declared, and nothing was counted yet.
            return Ok(Ok(()));
        };
        let told = format!("queue {name} has {messages} messages and {consumers} consumers");
        let wrong = match (queue.max_messages, queue.min_consumers) {
            (_, Some(least)) if consumers == 0 && least > 0 => Some(format!("{told}: nobody takes from it")),
            (_, Some(least)) if consumers < least => Some(format!("{told}: fewer than {least} consumers")),
            (Some(most), _) if messages > most => Some(format!("{told}: more than {most} messages")),
            _ => None,
        };
        remarks.push(told);
        Ok(wrong.map_or(Ok(()), |wrong| Err(Failure::new(CheckStep::Answer, wrong))))
    }

    async fn get(&mut self, path: &[&str]) -> Result<Got, Barred> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        let got = self.web.get(&url, Some(&self.authorization), BODY, self.until).await;
        got.map_err(|barred| match barred {
            Barred::Failed(Failure { step, said }) => {
                Failure::new(step, format!("its management API: {said}")).into()
            }
            forbidden @ Barred::Forbidden(_) => forbidden,
        })
    }

    fn said(&self, text: &str) -> String {
        said(text, &[&self.access.password])
    }
}

fn document<T: DeserializeOwned>(got: &Got, what: &str) -> Result<T, Failure> {
    if !got.status.is_success() {
        let Failure { step, said } = web::refusal(got.status);
        return Err(Failure::new(step, format!("its management API {said} for {what}")));
    }
    serde_json::from_slice(&got.body).map_err(|_| {
        Failure::new(CheckStep::Answer, format!("its management API answers with something else than {what}"))
    })
}

fn alarmed(got: &Got) -> Failure {
    let mut resources: Vec<String> = serde_json::from_slice::<Alarms>(&got.body)
        .map(|alarms| alarms.alarms.iter().take(8).map(|alarm| said(&alarm.resource, &[])).collect())
        .unwrap_or_default();
    resources.sort_unstable();
    resources.dedup();
    let which =
        if resources.is_empty() { String::new() } else { format!(" for {}", resources.join(" and ")) };
    Failure::new(CheckStep::Answer, format!("has an alarm{which}: publishers are blocked"))
}
