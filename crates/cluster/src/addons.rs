//! What goes into a new cluster through its API: DNS, metrics, monitoring, and the images that have to be
//! there from the start.

use crate::containerd::{self, PAUSE_IMAGE};
use crate::error::Result;
use crate::handle::Cluster;
use crate::images::Image;
use crate::kubelet::upstream_dns;
use crate::network::Network;
use crate::parts::{COREDNS, METRICS_SERVER, Part, Programs};
use crate::state::Layout;

/// The base for host programs in tests: empty folders to mount `/usr`, `/lib` and the like over.
pub const TINY_IMAGE: &str = "mcp-health.local/tiny:1";

/// The API server's right to reach the kubelet.
pub const RIGHTS: &str = include_str!("rights.yaml");

/// Builds the first images and brings them in.
pub fn import_images(layout: &Layout, programs: &Programs) -> Result<()> {
    let images = layout.dir.join("images");
    let ctr = programs.path("ctr")?;
    let pause = programs.path("pause")?;
    let mut all = vec![
        ("pause.tar", Image::of_program(PAUSE_IMAGE, pause)?),
        ("tiny.tar", Image::tiny(TINY_IMAGE, pause)?),
    ];
    if let Ok(coredns) = programs.path("coredns") {
        all.push(("coredns.tar", Image::of_program(&image(&COREDNS), coredns)?));
    }
    for (file, image) in all {
        containerd::import(layout, ctr, &image.write(&images.join(file))?)?;
    }
    Ok(())
}

/// The objects of the DNS server.
pub fn dns(network: Network) -> String {
    // Names outside the cluster need a name server outside; without one they fail at once instead of timing
    // out.
    let forward = if upstream_dns().is_empty() { "" } else { "forward . /etc/resolv.conf" };
    include_str!("dns.yaml")
        .replace("{{image}}", &image(&COREDNS))
        .replace("{{dns}}", &network.dns_service().to_string())
        .replace("{{forward}}", forward)
}

/// Brings metrics-server's image in and applies it, with Prometheus and Alertmanager, without waiting for
/// their figures. They come apart from the rest since that image is the largest, and nothing else needs them.
pub fn add_metrics(cluster: &Cluster, layout: &Layout, programs: &Programs) -> Result<()> {
    let name = image(&METRICS_SERVER);
    let image = Image::of_program(&name, programs.path("metrics-server")?)?;
    cluster.load_image(&image.write(&layout.dir.join("images").join("metrics-server.tar"))?)?;
    let metrics_server = include_str!("metrics_server.yaml").replace("{{image}}", &name);
    cluster.apply(&format!("{metrics_server}---\n{}", monitoring(programs)?))
}

/// The objects of Prometheus and Alertmanager.
fn monitoring(programs: &Programs) -> Result<String> {
    let folder = |program| -> Result<String> {
        let path = programs.path(program)?;
        Ok(path.parent().unwrap_or(path).display().to_string())
    };
    Ok(include_str!("monitoring.yaml")
        .replace("{{image}}", TINY_IMAGE)
        .replace("{{prometheus}}", &folder("prometheus")?)
        .replace("{{alertmanager}}", &folder("alertmanager")?))
}

/// The name of the image of a part that runs as a pod.
fn image(part: &Part) -> String {
    format!("mcp-health.local/{}:{}", part.name, part.version())
}
