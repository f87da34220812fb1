//! record and report, as far as they are I/O: the status is written under its resourceVersion, and only when
//! it differs. What was written and the cache does not show yet is remembered here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
};
use mcp_health_api::{MANAGER, McpServerHealth, McpServerHealthStatus};

use crate::{client::within, config::Config, error::Error, observe::without_bookkeeping};

/// How long a write of the status may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Objects that are listed at once.
const PAGE: u32 = 500;

/// An object as it was last written, and the versions that it replaced.
struct Written {
    replaced: Vec<String>,
    object: Arc<McpServerHealth>,
}

/// See the module.
#[derive(Default)]
pub struct Statuses {
    written: Mutex<HashMap<String, Written>>,
}

impl Statuses {
    /// The newer of what the cache shows and what was written. (The cache can only be older while it shows
    /// a version that was replaced.)
    pub fn latest(&self, cached: &Arc<McpServerHealth>) -> Arc<McpServerHealth> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = cached.meta().uid.clone().unwrap_or_default();
        let version = cached.meta().resource_version.clone().unwrap_or_default();
        match written.get(&uid) {
            Some(known) if known.replaced.contains(&version) => Arc::clone(&known.object),
            Some(_) => {
                written.remove(&uid);
                Arc::clone(cached)
            }
            None => Arc::clone(cached),
        }
    }

    /// Writes the status if it says anything new. Returns the object as it is then; `None` where the object
    /// is gone.
    pub async fn write(
        &self,
        client: &Client,
        object: &Arc<McpServerHealth>,
        status: McpServerHealthStatus,
    ) -> Result<Option<Arc<McpServerHealth>>, Error> {
        if says_the_same(object.status.as_ref(), &status) {
            return Ok(Some(Arc::clone(object)));
        }
        let meta = object.meta();
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let api: Api<McpServerHealth> = Api::namespaced(client.clone(), namespace);
        let mut next = McpServerHealth { status: Some(status), ..McpServerHealth::clone(object) };
        next.metadata.managed_fields = None;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let failed =
            |source| Error::Status { object: format!("{namespace}/{name}"), source: Box::new(source) };
        let what = format!("the status of McpServerHealth {namespace}/{name}");
        let written = match within(TIMEOUT, "PUT", what, api.replace_status(name, &params, &next)).await {
            Ok(written) => Arc::new(without_bookkeeping(written)),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all
            .entry(meta.uid.clone().unwrap_or_default())
            .or_insert_with(|| Written { replaced: Vec::new(), object: Arc::clone(&written) });
        entry.replaced.push(meta.resource_version.clone().unwrap_or_default());
        entry.object = Arc::clone(&written);
        Ok(Some(written))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Whether no operator was ever at work here: no object bears a status. Where that cannot be told, one was.
pub async fn none_was_written(client: &Client, config: &Config) -> bool {
    for scope in config.scopes() {
        let api: Api<McpServerHealth> = match &scope {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let Ok(list) = api.list_metadata(&page).await else { return false };
            let fields = list.items.iter().flat_map(|object| object.metadata.managed_fields.iter().flatten());
            if fields.into_iter().any(|entry| entry.subresource.as_deref() == Some("status")) {
                return false;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => break,
            }
        }
    }
    true
}

/// Compared as they are on the wire: there, times are of whole seconds and what is empty is absent.
fn says_the_same(before: Option<&McpServerHealthStatus>, after: &McpServerHealthStatus) -> bool {
    let wire = |status: &McpServerHealthStatus| serde_json::to_value(status).ok();
    before.is_some_and(|before| wire(before) == wire(after))
}
