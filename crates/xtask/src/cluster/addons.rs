//! What goes into a new cluster through its API: DNS, and the images that have to be there from the start.

use super::containerd::{self, PAUSE_IMAGE};
use super::kubelet::upstream_dns;
use super::network::Network;
use super::parts::{COREDNS, Programs};
use super::state::Layout;
use crate::error::Result;
use crate::images::Image;

/// The base for host programs in tests: empty folders to mount `/usr`, `/lib` and the like over.
pub const TINY_IMAGE: &str = "mcp-health.local/tiny:1";

/// Builds the first images and brings them in.
pub fn import_images(layout: &Layout, programs: &Programs) -> Result<()> {
    let images = layout.dir.join("images");
    let ctr = programs.path("ctr")?;
    let pause = programs.path("pause")?;
    let all = [
        ("pause.tar", Image::of_program(PAUSE_IMAGE, pause)?),
        ("coredns.tar", Image::of_program(&coredns_image(), programs.path("coredns")?)?),
        ("tiny.tar", Image::tiny(TINY_IMAGE, pause)?),
    ];
    for (file, image) in all {
        containerd::import(layout, ctr, &image.write(&images.join(file))?)?;
    }
    Ok(())
}

/// The objects to apply.
pub fn manifest(network: Network) -> String {
    // Names outside the cluster need a name server outside; without one they fail at once instead of timing out.
    let forward = if upstream_dns().is_empty() { "" } else { "forward . /etc/resolv.conf" };
    include_str!("addons.yaml")
        .replace("{{image}}", &coredns_image())
        .replace("{{dns}}", &network.dns_service().to_string())
        .replace("{{forward}}", forward)
}

fn coredns_image() -> String {
    format!("mcp-health.local/coredns:{}", COREDNS.version())
}
