//! Where built parts and running clusters live, outside the checkout.

use std::env;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// `$MCP_HEALTH_CACHE`, else `mcp-health-operator` in the user's cache folder.
pub fn root() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("MCP_HEALTH_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("mcp-health-operator")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/mcp-health-operator")))
        .ok_or_else(|| Error::other("cannot tell where to keep the cache: set MCP_HEALTH_CACHE or HOME"))?;
    std::path::absolute(&root).map_err(Error::file("resolve", &root))
}
