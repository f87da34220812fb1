//! What can be wrong with a revision of the demo server.

use serde_json::{Value, json};

/// A rollout that goes wrong, in one way.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It ends at once, because this variable is not set.
    RefusesToStart(&'static str),
    /// It ends this long after each start.
    CrashesAfter(&'static str),
    /// It starts and its `/health` never answers 200.
    NeverReady,
    /// It is ready, and every call of this tool fails.
    FailsTool(&'static str),
    /// Its image does not exist.
    MissingImage,
    /// It asks for a node with a label that no node has.
    NoSuchNode,
    /// Nothing is wrong with it; it only differs. The text tells revisions apart.
    None(&'static str),
}

/// The image that no registry has; the name cannot resolve, by RFC 6761.
const MISSING_IMAGE: &str = "registry.invalid/mcp-server:2";

impl Fault {
    /// Puts the fault into a Deployment's manifest, in place of any other.
    pub fn put_into(self, deployment: &mut Value, image: &str) {
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["nodeSelector"] = json!({});
        pod["containers"][0]["image"] = json!(image);
        pod["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
        let environment = pod["containers"][0]["env"].as_array_mut().expect("the manifest has an env");
        environment.retain(|one| {
            let name = one["name"].as_str().unwrap_or_default();
            name != "MCP_REQUIRE" && name != "MCP_DRAIN" && !name.starts_with("FAULT_")
        });
        let mut set = |name: &str, value: &str| environment.push(json!({"name": name, "value": value}));
        match self {
            Self::RefusesToStart(variable) => set("MCP_REQUIRE", variable),
            Self::CrashesAfter(time) => {
                set("FAULT_CRASH_EXIT", "1");
                set("FAULT_CRASH_AFTER", time);
            }
            Self::NeverReady => set("FAULT_NEVER_READY", "true"),
            Self::FailsTool(tool) => set("FAULT_FAIL_TOOL", tool),
            // A setting that changes nothing that is tested here, and the template.
            Self::None(text) => set("MCP_DRAIN", text),
            // A registry that is not reached may be back soon; an image that may not be pulled is definitely missing.
            Self::MissingImage => {
                pod["containers"][0]["image"] = json!(MISSING_IMAGE);
                pod["containers"][0]["imagePullPolicy"] = json!("Never");
            }
            Self::NoSuchNode => pod["nodeSelector"] = json!({"mcphealth.dev/no-such-node": "true"}),
        }
    }
}
