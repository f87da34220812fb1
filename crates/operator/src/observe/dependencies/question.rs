//! What is asked of a dependency: of the object's word and of the Secrets that it names, a question that two
//! objects may have in common. Nothing is asked that the operator's allow-list does not permit.

use std::{net::IpAddr, time::Duration};

use dependency_probe::{Access, Asked, Trust, dns, http, oidc, rabbitmq, redis, s3, tcp, tls};
use mcp_health_api::{
    DependencySpec, DnsDependency, HttpDependency, OidcDependency, QueueSpec, RabbitMqDependency,
    RedisSignal, S3Dependency, SecretKeyRef, TcpDependency, TlsDependency,
};
use mcp_health_core::mcp::foreign;

use super::About;
use crate::{
    allowed::may_lead_to,
    endpoints::{AllowList, Endpoint},
    observe::secrets::{Secrets, Value},
};

/// How long one answer may take (guides: HTTP 5 s).
const PATIENCE: Duration = Duration::from_secs(5);

/// What an object says of a dependency.
#[derive(Clone, Copy, Debug)]
pub enum Declared<'a> {
    /// `signals.redis`.
    Redis(&'a RedisSignal),
    /// One of `signals.dependencies`.
    Other(&'a DependencySpec),
}

/// A question, and all that makes it another one: credentials and authorities, too. Those do not show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    what: What,
    ca: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Http(String),
    Tcp(Place),
    Tls(Place, Option<String>),
    Dns(String, Vec<IpAddr>),
    Oidc(String),
    Redis(Value),
    RabbitMq {
        url: Value,
        management: Option<String>,
        queues: Vec<rabbitmq::Queue>,
    },
    S3 {
        endpoint: String,
        bucket: String,
        region: String,
        virtual_hosts: bool,
        access_key: Value,
        secret_key: Value,
    },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// `redis.mcp:6379`.
    fn parse(address: &str) -> Result<Self, String> {
        let wrong = || "its address is no host and port".to_owned();
        let (host, port) = address.trim().rsplit_once(':').ok_or_else(wrong)?;
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl Declared<'_> {
    /// The kind, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Other(one) if one.http.is_some() => "http",
            Self::Other(one) if one.tcp.is_some() => "tcp",
            Self::Other(one) if one.tls.is_some() => "tls",
            Self::Other(one) if one.dns.is_some() => "dns",
            Self::Other(one) if one.rabbitmq.is_some() => "rabbitmq",
            Self::Other(one) if one.s3.is_some() => "s3",
            Self::Other(_) => "oidc",
        }
    }

    /// The object's own words, which name Secrets and hold none.
    fn written(&self) -> String {
        match self {
            Self::Redis(one) => serde_json::to_string(one),
            Self::Other(one) => serde_json::to_string(one),
        }
        .unwrap_or_default()
    }

    /// The question, and what others may know of it; `Err` where it may not be asked, as a sentence for
    /// people.
    pub async fn question(
        &self,
        namespace: &str,
        secrets: &Secrets,
        allowed: &AllowList,
    ) -> (Option<About>, Result<Question, String>) {
        let ca = async |of: &Option<SecretKeyRef>| match of {
            Some(of) => secrets.get(namespace, of).await.map(Some),
            None => Ok(None),
        };
        let about = |words: String, place: String| {
            let question = format!("{} {place}", self.written());
            About { words: foreign(&words, None), place: foreign(&place, None), question }
        };
        let url = |words: String, url: &str| match Endpoint::parse(url) {
            Ok(endpoint) => (Some(about(words, endpoint.place())), allowed.check(&endpoint)),
            Err(why) => (Some(about(words, String::new())), Err(why)),
        };
        let at = |words: &str, host: &str, port: u16| {
            let place = format!("{host}:{port}");
            (Some(about(format!("{words} {place}"), place)), allowed.check(&Endpoint::of(host, port)))
        };
        let access = async |of: &SecretKeyRef, parse: fn(&str) -> Result<Access, String>| {
            let value = secrets.get(namespace, of).await?;
            let access = parse(value.reveal())?;
            Ok((value, access))
        };
        let (about, what, of_ca) = match self {
            Self::Redis(RedisSignal { connection_secret_ref, ca_secret_ref }) => {
                match access(connection_secret_ref, Access::redis).await {
                    Ok((value, access)) => {
                        let (about, permit) = at("Redis at", &access.host, access.port);
                        (about, permit.map(|()| What::Redis(value)), ca_secret_ref)
                    }
                    Err(why) => return (None, Err(why)),
                }
            }
            Self::Other(one) => match one {
                DependencySpec { http: Some(HttpDependency { url: asked, ca_secret_ref }), .. } => {
                    let (about, permit) = url(format!("GET {asked}"), asked);
                    (about, permit.map(|()| What::Http(asked.clone())), ca_secret_ref)
                }
                DependencySpec { oidc: Some(OidcDependency { issuer, ca_secret_ref }), .. } => {
                    let (about, permit) = url(format!("the OpenID Connect issuer {issuer}"), issuer);
                    (about, permit.map(|()| What::Oidc(issuer.clone())), ca_secret_ref)
                }
                DependencySpec { rabbitmq: Some(one), .. } => {
                    let RabbitMqDependency { connection_secret_ref, management_url, queues, ca_secret_ref } =
                        one;
                    let (value, access) = match access(connection_secret_ref, Access::amqp).await {
                        Ok(found) => found,
                        Err(why) => return (None, Err(why)),
                    };
                    let (about, permit) = at("RabbitMQ at", &access.host, access.port);
                    let permit = permit.and_then(|()| match management_url {
                        Some(url) => allowed.check(&Endpoint::parse(url)?),
                        None => Ok(()),
                    });
                    let queue = |one: &QueueSpec| rabbitmq::Queue {
                        name: one.name.clone(),
                        max_messages: one.max_messages,
                        min_consumers: one.min_consumers,
                    };
                    let what = permit.map(|()| What::RabbitMq {
                        url: value,
                        management: management_url.clone(),
                        queues: queues.iter().map(queue).collect(),
                    });
                    (about, what, ca_secret_ref)
                }
                DependencySpec { s3: Some(one), .. } => {
                    let S3Dependency { endpoint, bucket, region, virtual_hosts, ca_secret_ref, .. } = one;
                    // What is contacted is what must be permitted.
                    let contacted = match endpoint.split_once("://").filter(|_| *virtual_hosts) {
                        Some((scheme, rest)) => format!("{scheme}://{bucket}.{rest}"),
                        None => endpoint.clone(),
                    };
                    let (about, permit) = url(format!("bucket {bucket} at {endpoint}"), &contacted);
                    let keys = async {
                        permit?;
                        let access_key = secrets.get(namespace, &one.access_key_secret_ref).await?;
                        let secret_key = secrets.get(namespace, &one.secret_key_secret_ref).await?;
                        Ok((access_key, secret_key))
                    };
                    let what = keys.await.map(|(access_key, secret_key)| What::S3 {
                        endpoint: endpoint.clone(),
                        bucket: bucket.clone(),
                        region: region.clone(),
                        virtual_hosts: *virtual_hosts,
                        access_key,
                        secret_key,
                    });
                    (about, what, ca_secret_ref)
                }
                DependencySpec { tcp: Some(TcpDependency { address }), .. } => match Place::parse(address) {
                    Ok(place) => {
                        let (about, permit) = at("a connection to", &place.host, place.port);
                        (about, permit.map(|()| What::Tcp(place)), &None)
                    }
                    Err(why) => (None, Err(why), &None),
                },
                DependencySpec {
                    tls: Some(TlsDependency { address, server_name, ca_secret_ref }), ..
                } => match Place::parse(address) {
                    Ok(place) => {
                        let (about, permit) = at("a TLS session with", &place.host, place.port);
                        (about, permit.map(|()| What::Tls(place, server_name.clone())), ca_secret_ref)
                    }
                    Err(why) => (None, Err(why), &None),
                },
                DependencySpec { dns: Some(DnsDependency { name, addresses }), .. } => {
                    let addresses = addresses.iter().map(|one| one.0.parse().map_err(|_| &one.0));
                    let addresses = addresses.collect::<Result<Vec<IpAddr>, _>>();
                    let addresses =
                        addresses.map_err(|wrong| format!("{} is no address", foreign(wrong, None)));
                    let about = about(format!("the name {name}"), name.clone());
                    (Some(about), addresses.map(|addresses| What::Dns(name.clone(), addresses)), &None)
                }
                _ => (None, Err("this operator does not know its kind".to_owned()), &None),
            },
        };
        let question = match what {
            Ok(what) => ca(of_ca).await.map(|ca| Question { what, ca }),
            Err(why) => Err(why),
        };
        (about, question)
    }
}

impl Question {
    /// Asks it. `before` is what the last look at a Redis gave, and what is given back is for the next. `Err`
    /// where it turns out that it may not be asked: its name leads elsewhere.
    pub async fn ask(
        &self,
        before: Option<&redis::Look>,
        allowed: &AllowList,
    ) -> Result<(Asked, Option<redis::Look>), String> {
        let trust = match &self.ca {
            Some(pem) => Trust::pem(pem.reveal().as_bytes())?,
            None => Trust::own(),
        };
        let permit = |address| may_lead_to(allowed, address);
        let may_name = |url: &str| Endpoint::parse(url).is_ok_and(|endpoint| allowed.permits(&endpoint));
        let asked = match &self.what {
            What::Http(url) => http::ask(url, &trust, &permit, PATIENCE).await,
            What::Tcp(Place { host, port }) => tcp::ask(host, *port, &permit, PATIENCE).await,
            What::Tls(Place { host, port }, name) => {
                tls::ask(host, *port, name.as_deref(), &trust, &permit, PATIENCE).await
            }
            What::Dns(name, addresses) => Ok(dns::ask(name, addresses, PATIENCE).await),
            What::Oidc(issuer) => oidc::ask(issuer, &may_name, &trust, &permit, PATIENCE).await,
            What::Redis(url) => {
                let access = Access::redis(url.reveal())?;
                return redis::ask(&access, &trust, before, &permit, PATIENCE).await;
            }
            What::RabbitMq { url, management, queues } => {
                let access = Access::amqp(url.reveal())?;
                let target = rabbitmq::Target { access: &access, management: management.as_deref(), queues };
                rabbitmq::ask(&target, &trust, &permit, PATIENCE).await
            }
            What::S3 { endpoint, bucket, region, virtual_hosts, access_key, secret_key } => {
                let target = s3::Target {
                    endpoint,
                    bucket,
                    region,
                    virtual_hosts: *virtual_hosts,
                    access_key: access_key.reveal(),
                    secret_key: secret_key.reveal(),
                };
                s3::ask(&target, &trust, &permit, PATIENCE).await
            }
        };
        asked.map(|asked| (asked, None))
    }
}
