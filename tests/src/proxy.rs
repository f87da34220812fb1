//! A way to the API server that counts what an operator writes, and on which things can go wrong at a write that
//! was named before.
//!
//! Towards the operator it is plain HTTP on loopback; towards the API server it is the operator's own
//! ServiceAccount. Watches pass through as they come. The lease's renewals are not counted: they are no part of a
//! story.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kube::{Client, Config, client::Body};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::until::DEADLINE;

/// What is done when a write has come so far.
pub type Deed = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A deed out of an asynchronous function.
pub fn deed<F>(deed: impl Fn() -> F + Send + Sync + 'static) -> Deed
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move || Box::pin(deed()))
}

/// When something goes wrong at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before it is forwarded.
    Come,
    /// When the API server has accepted it, and its answer is complete.
    Accepted,
}

/// Something that goes wrong at a write.
#[derive(Clone)]
pub struct Disturbance {
    /// The write's label; without one, any write but an Event.
    label: Option<String>,
    moment: Moment,
    deed: Option<Deed>,
    /// Whether the write, or the answer to it, goes on after this; else the connection ends.
    passes: bool,
    /// So many writes of the label are left in peace before.
    skips: usize,
    /// To so many writes of the label it happens then.
    times: usize,
}

impl Disturbance {
    /// Before the first write of this label is forwarded.
    pub fn before(label: &str) -> Self {
        let moment = Moment::Come;
        Self { label: Some(label.to_owned()), moment, deed: None, passes: true, skips: 0, times: 1 }
    }

    /// When the API server has accepted the first write of this label, before the operator knows.
    pub fn after(label: &str) -> Self {
        Self { moment: Moment::Accepted, ..Self::before(label) }
    }

    /// When the API server has accepted the first write that is no Event, before the operator knows.
    pub fn after_any() -> Self {
        Self { label: None, ..Self::after("") }
    }

    /// This is done, and waited for.
    #[must_use]
    pub fn deed(mut self, deed: Deed) -> Self {
        self.deed = Some(deed);
        self
    }

    /// The write, or the answer to it, goes no further; the connection ends.
    #[must_use]
    pub fn lost(mut self) -> Self {
        self.passes = false;
        self
    }

    /// Not at the first of these writes, but so many later.
    #[must_use]
    pub fn skipping(mut self, writes: usize) -> Self {
        self.skips = writes;
        self
    }

    /// At so many writes of the label.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is under way.
    Underway,
    /// The API server never heard of it.
    Kept,
    /// The API server has answered, and the operator knows.
    Answered(u16),
    /// The API server has answered, and the operator does not know.
    AnswerLost(u16),
    /// There was no answer.
    Failed,
}

impl Fate {
    /// The API server has done it.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Answered(code) | Self::AnswerLost(code) if (200..300).contains(&code))
    }
}

/// A write of the operator.
#[derive(Clone, Debug)]
pub struct Write {
    /// When it came.
    pub at: Timestamp,
    /// What it is, for people: see [`label`].
    pub label: String,
    /// What was to be written.
    pub body: Value,
    /// What came of it.
    pub fate: Fate,
    /// A disturbance has happened to it.
    pub disturbed: bool,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} {} {:?}", self.at, self.label, self.fate)?;
        if self.disturbed { write!(f, " (disturbed)") } else { Ok(()) }
    }
}

/// See the module.
pub struct Proxy {
    /// Where the operator finds it.
    pub url: String,
    way: Arc<Way>,
    serving: JoinHandle<()>,
}

struct Way {
    client: Client,
    writes: watch::Sender<Vec<Write>>,
    disturbances: Mutex<Vec<Disturbance>>,
    /// How many writes were before the story.
    before: AtomicUsize,
}

impl Proxy {
    /// Opens a way to the cluster for whoever has this token.
    pub async fn open(token: &str) -> Self {
        let mut config = Config::infer().await.expect("KUBECONFIG leads to a cluster");
        config.auth_info = serde_json::from_value(json!({"token": token})).expect("a user with a token");
        // What the operator asks once is asked once.
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client can be made");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let way = Arc::new(Way {
            client,
            writes: watch::Sender::new(Vec::new()),
            disturbances: Mutex::default(),
            before: AtomicUsize::new(0),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&way)));
        Self { url, way, serving }
    }

    /// Has something go wrong, from now on.
    pub fn disturb(&self, disturbance: Disturbance) {
        self.way.disturbances.lock().unwrap_or_else(PoisonError::into_inner).push(disturbance);
    }

    /// The story begins here: writes until now are no part of it.
    pub fn begin(&self) {
        self.way.before.store(self.way.writes.borrow().len(), Ordering::Relaxed);
    }

    /// The writes of the story until now.
    pub fn writes(&self) -> Vec<Write> {
        self.of_the_story(&self.way.writes.borrow()).to_vec()
    }

    /// Awaits that something is true of the writes of the story.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut(&[Write]) -> bool) {
        let mut writes = self.way.writes.subscribe();
        let waited = timeout(DEADLINE, writes.wait_for(|all| is_so(self.of_the_story(all)))).await;
        assert!(waited.is_ok(), "waited {} s for: {what}", DEADLINE.as_secs());
    }

    fn of_the_story<'a>(&self, all: &'a [Write]) -> &'a [Write] {
        &all[self.way.before.load(Ordering::Relaxed)..]
    }

    /// All writes, a line each.
    pub fn report(&self) -> String {
        let lines: Vec<String> = self.way.writes.borrow().iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, way: Arc<Way>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let way = Arc::clone(&way);
        connections.spawn(async move {
            let service = service_fn(move |request| Arc::clone(&way).pass(request));
            // Ends with an error where the operator was killed, and where the connection is to end.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A write, or its answer, goes no further.
#[derive(Debug, PartialEq, Eq)]
struct Lost;

/// The connection ends without an answer.
type Ended = Box<dyn Error + Send + Sync>;

impl Way {
    async fn pass(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Ended> {
        let (mut head, body) = request.into_parts();
        // The hop's own; the next hop gets others.
        for name in [HOST, CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
            head.headers.remove(name);
        }
        let body = body.collect().await?.to_bytes();
        let content = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let label = label(&head.method, head.uri.path(), &content);
        let request = Request::from_parts(head, Body::from(body));
        match label {
            None => Ok(self.client.send(request).await?),
            Some(label) => self.pass_write(request, label, content).await,
        }
    }

    /// A write is not given up though the operator is gone: what has come so far goes its way.
    async fn pass_write(
        self: Arc<Self>,
        request: Request<Body>,
        label: String,
        body: Value,
    ) -> Result<Response<Body>, Ended> {
        tokio::spawn(async move {
            let number = self.note(&label, body);
            if self.disturb(&label, Moment::Come, number).await == Some(Lost) {
                self.come_to(number, Fate::Kept);
                return Err("the write is kept back".into());
            }
            let answer = self.forward(request).await.inspect_err(|_| self.come_to(number, Fate::Failed))?;
            let code = answer.status().as_u16();
            if answer.status().is_success()
                && self.disturb(&label, Moment::Accepted, number).await == Some(Lost)
            {
                self.come_to(number, Fate::AnswerLost(code));
                return Err("the answer is lost".into());
            }
            self.come_to(number, Fate::Answered(code));
            Ok(answer)
        })
        .await?
    }

    fn note(&self, label: &str, body: Value) -> usize {
        let mut number = 0;
        self.writes.send_modify(|writes| {
            number = writes.len();
            let (at, label) = (Timestamp::now(), label.to_owned());
            writes.push(Write { at, label, body, fate: Fate::Underway, disturbed: false });
        });
        number
    }

    fn come_to(&self, number: usize, fate: Fate) {
        self.writes.send_modify(|writes| writes[number].fate = fate);
    }

    /// Forwards a write, and waits for the complete answer.
    async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, Ended> {
        let (mut head, body) = self.client.send(request).await?.into_parts();
        let body: Bytes = body.collect_bytes().await?;
        for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
            head.headers.remove(name);
        }
        Ok(Response::from_parts(head, Body::from(body)))
    }

    /// Has happen what is to happen to this write at this moment; says so where the write is lost by it.
    async fn disturb(&self, label: &str, moment: Moment, number: usize) -> Option<Lost> {
        let disturbance = self.disturbance(label, moment)?;
        if let Some(deed) = &disturbance.deed {
            deed().await;
        }
        self.writes.send_modify(|writes| writes[number].disturbed = true);
        (!disturbance.passes).then_some(Lost)
    }

    fn disturbance(&self, label: &str, moment: Moment) -> Option<Disturbance> {
        let mut all = self.disturbances.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |one: &Disturbance| match &one.label {
            Some(wanted) => wanted == label,
            None => !is_event(label),
        };
        let mut meant = all.iter_mut().filter(|one| is_meant(one) && one.moment == moment && one.times > 0);
        let found = meant.next()?;
        if found.skips > 0 {
            found.skips -= 1;
            return None;
        }
        found.times -= 1;
        Some(found.clone())
    }
}

/// What a request writes, in words; `None` for what writes nothing, and for the lease.
///
/// `PUT status (CrashLoop Mitigating)`, `PATCH deployment (template)`, `POST event (IncidentOpened)`.
fn label(method: &Method, path: &str, body: &Value) -> Option<String> {
    if !matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
        return None;
    }
    let mut segments =
        path.trim_matches('/').split('/').skip_while(|&segment| segment != "namespaces").skip(2);
    let (resource, _name, subresource) = (segments.next(), segments.next(), segments.next());
    let label = match (resource.unwrap_or(path), subresource) {
        ("leases", _) => return None,
        ("mcpserverhealths", Some("status")) => format!("{method} status ({})", tells(&body["status"])),
        ("deployments", None) => format!("{method} deployment ({})", changes(body)),
        ("configmaps", None) if *method == Method::PATCH => {
            format!("{method} configmaps ({})", changes(body))
        }
        ("events", None) => {
            format!("{method} event ({})", body["reason"].as_str().unwrap_or("series"))
        }
        (resource, subresource) => {
            [method.as_str(), " ", resource, " ", subresource.unwrap_or_default()].concat().trim().to_owned()
        }
    };
    Some(label)
}

/// Whether a label is that of an Event: it tells what is known already.
pub fn is_event(label: &str) -> bool {
    label.starts_with("POST event") || label.starts_with("PATCH event")
}

/// What a status tells, in short.
fn tells(status: &Value) -> String {
    let open = &status["incidents"][0];
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    if open.is_object() {
        return format!("{} {}", word(&open["type"]), word(&open["state"]));
    }
    let past = &status["history"][0];
    if past.is_object() { format!("{} resolved", word(&past["type"])) } else { "no incident".to_owned() }
}

/// Which fields a JSON patch changes, by the last word of their paths; without the operator's own annotations.
fn changes(patch: &Value) -> String {
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    let changes = operations.iter().filter(|operation| operation["op"] != "test");
    let paths = changes.filter_map(|operation| operation["path"].as_str());
    let fields: Vec<&str> = paths
        .filter(|path| !path.starts_with("/metadata/annotations"))
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    fields.join(", ")
}
