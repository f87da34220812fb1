//! Lists one kind of object in pages, and watches it from there, until the operator ends.
//!
//! Every answer of the API server is told to the observer as proof of life: a completed list, the answered open of a
//! watch, each event, each bookmark, and the clean end. The API server ends a watch after its `timeoutSeconds`, so a
//! quiet watch gives proof at least that often, and a connection that carries nothing is given up soon after.

mod pace;
#[cfg(test)]
pub mod tests;

use std::{io, time::Duration};

use futures::{AsyncBufRead, AsyncBufReadExt, pin_mut};
use http::header::{ACCEPT_ENCODING, HeaderValue};
use kube::{
    Client,
    api::{ListParams, WatchParams},
    core::{Request, Status},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::SourceFailure;
use pace::Retry;
pub use pace::{Pace, is_recent};

/// Lists come in pages of this size: it bounds the memory that a list takes.
const PAGE: u32 = 100;
/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the API server may take to answer the open of a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after its `timeoutSeconds` a watch may end before its connection counts as dead.
const MARGIN: Duration = Duration::from_secs(5);
/// A watch that ends sooner, and said nothing, has failed: a proxy may answer opens without an API server behind it.
const SHORTEST: Duration = Duration::from_secs(1);
/// After a watch that broke sooner than this and said nothing, the answered open of the next one is no proof.
const LIVED: Duration = Duration::from_secs(10);
/// The longest event, in bytes; etcd stores no object that comes near.
const LONGEST_EVENT: usize = 16 << 20;
/// What the buffer of events keeps between two events, in bytes.
const BUFFER: usize = 64 << 10;

/// What is listed and watched.
pub struct Source {
    /// The client.
    pub client: Client,
    /// The path of the collection.
    pub path: String,
    /// A label selector; empty for none.
    pub labels: String,
    /// A field selector; empty for none.
    pub fields: String,
    /// How long watches last.
    pub pace: Pace,
}

/// What a [`Source`] tells, in order. Objects are as they came: the observer parses them, and is responsible for those
/// that it cannot parse.
pub trait Observer {
    /// A list begins; objects follow, and then its end. It may begin again before its end.
    fn list_begins(&mut self);
    /// An object of the list, or one that was added or changed since.
    fn present(&mut self, object: &RawValue);
    /// An object was deleted.
    fn gone(&mut self, object: &RawValue);
    /// The list is complete: objects that it did not show are gone.
    fn list_ends(&mut self);
    /// The API server has answered in a way that proves that what was told is still so.
    fn alive(&mut self);
    /// It does not answer, or refuses, for this reason; it is tried again after a pause.
    fn failed(&mut self, failing: SourceFailure);
}

/// Why a list or a watch came to nothing.
#[derive(Debug)]
enum Fault {
    /// The API server does not remember the version any more: the kind is listed again.
    Gone,
    /// Anything else, and how long the API server asks to be left alone.
    Failed { failing: SourceFailure, retry_after: Duration },
}

impl Fault {
    fn new(why: impl Into<String>) -> Self {
        Self::Failed { failing: why.into().into(), retry_after: Duration::ZERO }
    }

    /// The API server's own sentence, where there is one.
    fn of_status(status: &Status) -> Self {
        if status.code == 410 {
            return Self::Gone;
        }
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Self::Failed {
            failing: SourceFailure::of_status(status),
            retry_after: Duration::from_secs(seconds.into()),
        }
    }

    fn of_client(error: &kube::Error) -> Self {
        crate::error::answer(error).map_or_else(|| Self::new(error.to_string()), Self::of_status)
    }

    fn late(what: &str, after: Duration) -> Self {
        Self::new(format!("{what} within {} s", after.as_secs()))
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    token: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: VersionedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionedMeta {
    resource_version: String,
}

/// Where the loop is.
struct Position {
    /// The version to watch from; empty: it is to be listed.
    version: String,
    /// The answered open of the next watch is proof.
    opens_count: bool,
}

impl Source {
    /// Lists and watches until the operator ends.
    pub async fn run(&self, observer: &mut impl Observer) {
        let mut at = Position { version: String::new(), opens_count: true };
        let mut retry = Retry::default();
        loop {
            let came = if at.version.is_empty() {
                self.list(&mut at, observer).await
            } else {
                self.watch(&mut at, &mut retry, observer).await
            };
            match came {
                Ok(()) => {}
                Err(Fault::Gone) => {
                    at.version.clear();
                    sleep(retry.pause(Duration::ZERO)).await;
                }
                Err(Fault::Failed { failing, retry_after }) => {
                    observer.failed(failing);
                    sleep(retry.pause(retry_after)).await;
                }
            }
        }
    }

    fn selectors(&self) -> (Option<String>, Option<String>) {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        (given(&self.labels), given(&self.fields))
    }

    async fn list(&self, at: &mut Position, observer: &mut impl Observer) -> Result<(), Fault> {
        observer.list_begins();
        let (label_selector, field_selector) = self.selectors();
        let mut params =
            ListParams { label_selector, field_selector, limit: Some(PAGE), ..ListParams::default() };
        loop {
            let request = Request::new(&self.path).list(&params);
            let request = request.map_err(|error| Fault::new(error.to_string()))?;
            let text = match timeout(PAGE_TIMEOUT, self.client.request_text(request)).await {
                Ok(text) => text.map_err(|error| Fault::of_client(&error))?,
                Err(_) => return Err(Fault::late("no answer to a list", PAGE_TIMEOUT)),
            };
            let page: Page = serde_json::from_str(&text)
                .map_err(|error| Fault::new(format!("what the API server answers is no list: {error}")))?;
            for object in page.items.iter().flatten() {
                observer.present(object);
            }
            if !page.metadata.token.is_empty() {
                params.continue_token = Some(page.metadata.token);
                continue;
            }
            if page.metadata.resource_version.is_empty() {
                return Err(Fault::new("the list has no resourceVersion"));
            }
            observer.list_ends();
            at.version = page.metadata.resource_version;
            return Ok(());
        }
    }

    async fn watch(
        &self,
        at: &mut Position,
        retry: &mut Retry,
        observer: &mut impl Observer,
    ) -> Result<(), Fault> {
        let seconds = self.pace.watch_seconds();
        let (label_selector, field_selector) = self.selectors();
        let params = WatchParams {
            label_selector,
            field_selector,
            timeout: Some(seconds),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(&self.path).watch(&params, &at.version);
        let mut request = request.map_err(|error| Fault::new(error.to_string()))?;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let events = match timeout(OPEN_TIMEOUT, self.client.request_stream(request)).await {
            Ok(events) => events.map_err(|error| Fault::of_client(&error))?,
            Err(_) => return Err(Fault::late("a watch was not answered", OPEN_TIMEOUT)),
        };
        if at.opens_count {
            observer.alive();
        }
        let (opened, mut heard) = (Instant::now(), false);
        let until = opened + Duration::from_secs(seconds.into()) + MARGIN;
        let came = self.read(events, until, at, observer, &mut heard).await;
        let lived = opened.elapsed();
        let came = match came {
            Ok(()) if !heard && lived < SHORTEST => {
                Err(Fault::new("the watch ended at once, without a word"))
            }
            came => came,
        };
        at.opens_count = came.is_ok() || heard || lived >= LIVED;
        if came.is_ok() {
            observer.alive();
        }
        if at.opens_count {
            retry.reset();
        }
        came
    }

    /// Reads events until the watch ends. `heard` is set by the first event.
    async fn read(
        &self,
        events: impl AsyncBufRead,
        until: Instant,
        at: &mut Position,
        observer: &mut impl Observer,
        heard: &mut bool,
    ) -> Result<(), Fault> {
        pin_mut!(events);
        let mut line = Vec::new();
        loop {
            match timeout_at(until, read_line(&mut events, &mut line)).await {
                Err(_) => return Err(Fault::new("the connection of a watch carries nothing any more")),
                Ok(Err(error)) => return Err(Fault::new(format!("the watch broke off: {error}"))),
                Ok(Ok(false)) => return Ok(()),
                Ok(Ok(true)) => {}
            }
            let event: Line = serde_json::from_slice(&line)
                .map_err(|error| Fault::new(format!("what a watch tells is no event: {error}")))?;
            let version = || serde_json::from_str::<Versioned>(event.object.get()).ok();
            match event.kind {
                "ADDED" | "MODIFIED" => observer.present(event.object),
                "DELETED" => observer.gone(event.object),
                "BOOKMARK" => {}
                "ERROR" => {
                    return Err(match serde_json::from_str::<Status>(event.object.get()) {
                        Ok(status) => Fault::of_status(&status),
                        Err(error) => Fault::new(format!("a watch tells an error that is none: {error}")),
                    });
                }
                other => return Err(Fault::new(format!("a watch tells {other:?}"))),
            }
            let Some(version) = version() else {
                return Err(Fault::new("a watch tells of an object without a resourceVersion"));
            };
            at.version = version.metadata.resource_version;
            *heard = true;
            observer.alive();
        }
    }
}

/// Reads up to the end of a line; false at the end of all.
async fn read_line(events: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    line.shrink_to(BUFFER);
    loop {
        let read = events.fill_buf().await?;
        if read.is_empty() {
            let is_cut = !line.iter().all(u8::is_ascii_whitespace);
            return if is_cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(false) };
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&read[..end.unwrap_or(read.len())]);
        let taken = end.map_or(read.len(), |end| end + 1);
        events.consume_unpin(taken);
        if line.len() > LONGEST_EVENT {
            return Err(io::Error::other("an event is longer than 16 MiB"));
        }
        if end.is_some() && !line.is_empty() {
            return Ok(true);
        }
    }
}
