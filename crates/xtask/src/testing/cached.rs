//! What is fetched once and kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use cluster::cache;
use cluster::error::{Error, Result};
use cluster::progress::Step;
use cluster::state::{lock, write_folder};

/// A folder in the cache, by its name. Where it is not whole, `fetch` has a folder of its own to fill, and
/// moves nothing: what is in its `root` at the end takes the place.
pub fn cached(
    name: &str,
    is_whole: impl Fn(&Path) -> bool,
    what: &str,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let services = cache::root()?.join("services");
    let _lock = lock(&services.join(".lock"))?;
    let root = services.join(name);
    if is_whole(&root) {
        return Ok(root);
    }
    let step = Step::start(format!("fetching {what}"));
    let partial = services.join(".partial");
    // A fetch that was stopped may have left it.
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(Error::file("remove", &partial))?;
    }
    let fresh = partial.join("root");
    write_folder(&fresh)?;
    let outcome = fetch(&partial).and_then(|()| {
        if root.exists() {
            fs::remove_dir_all(&root).map_err(Error::file("remove", &root))?;
        }
        fs::rename(&fresh, &root).map_err(Error::file("move into place", &root))
    });
    let _ = fs::remove_dir_all(&partial);
    outcome?;
    step.done();
    Ok(root)
}
