//! The acts of the demo: a server each, what breaks it, and what the operator is to do about it.

use super::timeline::Ending;

/// One act.
pub struct Act {
    /// What it is called with `--act`.
    pub name: &'static str,
    /// The server's Deployment, and its policy.
    pub server: &'static str,
    /// The server, its Service, what it reads, its policy; `IMAGE` is put in.
    pub manifest: &'static str,
    /// What one sees first.
    pub scene: &'static str,
    /// What happens then.
    pub mishap: &'static str,
    /// What is done to it; nothing where the server breaks by itself.
    pub change: &'static [Change],
    /// The tool that MCP clients call.
    pub tool: Tool,
    /// How it is to end.
    pub ending: Ending,
    /// Why a simulated node cannot show it; none where it can.
    pub needs_a_node: Option<&'static str>,
    /// Whether the cluster has to have DNS and figures for it.
    pub needs_addons: bool,
    /// The manifest of its PostgreSQL, which is brought up first; `POSTGRES-IMAGE` and `ROLE-SQL` are put in.
    pub postgres: Option<&'static str>,
}

/// Something that is done to a server.
pub enum Change {
    /// A person types this for kubectl.
    Kubectl(&'static [&'static str]),
    /// A person types this for kubectl, and nothing of the server itself shows what it means.
    Around {
        /// What is typed.
        kubectl: &'static [&'static str],
        /// What is different from then on.
        means: &'static str,
    },
    /// A fault is switched on in one of its pods.
    Fault {
        /// What the pod is sent.
        fault: &'static str,
        /// What is wrong with the pod from then on.
        means: &'static str,
    },
    /// MCP clients call the tool so often, and fail.
    Calls(u32),
}

/// A tool of the demo server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Writes to the server's own store.
    CreateAssignment,
    /// Asks what the server depends on, where it depends on something.
    Search,
}

impl Tool {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateAssignment => "create_assignment",
            Self::Search => "search",
        }
    }
}

impl Change {
    /// What is typed for it.
    fn command(&self, tool: Tool) -> String {
        let quoted =
            |word: &&str| if word.contains([' ', '{']) { format!("'{word}'") } else { (*word).to_owned() };
        match self {
            Self::Kubectl(words) | Self::Around { kubectl: words, .. } => {
                format!("$ kubectl {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "))
            }
            Self::Fault { fault, .. } => {
                format!("$ curl -X POST http://POD:8000/admin/faults --json '{fault}'")
            }
            Self::Calls(1) => format!("An MCP client of that pod calls {}, and fails.", tool.name()),
            Self::Calls(times) => {
                format!("{times} MCP clients of that pod call {}, and fail.", tool.name())
            }
        }
    }
}

impl Act {
    /// What is typed.
    pub fn commands(&self) -> Vec<String> {
        self.change.iter().map(|change| change.command(self.tool)).collect()
    }
}

/// All acts, in order.
pub const ACTS: &[Act] = &[
    Act {
        name: "bad-rollout",
        server: "mcp-server",
        manifest: include_str!("acts/bad_rollout.yaml"),
        scene: "An MCP server runs, three pods, and the operator looks after it.",
        mishap: "Somebody rolls out a change, and forgets half of it:",
        change: &[Change::Kubectl(&[
            "set",
            "env",
            "deployment/mcp-server",
            "-n",
            "mcp",
            "MCP_REQUIRE=DATABASE_URL",
        ])],
        tool: Tool::CreateAssignment,
        ending: Ending::Resolved,
        needs_a_node: None,
        needs_addons: false,
        postgres: None,
    },
    Act {
        name: "out-of-memory",
        server: "mcp-memory",
        manifest: include_str!("acts/out_of_memory.yaml"),
        scene: "Another server runs, two pods with a memory limit of 48Mi. Its policy allows up to 128Mi.",
        mishap: "Half a minute after its start it needs more than that:",
        change: &[],
        tool: Tool::CreateAssignment,
        ending: Ending::Mitigated,
        needs_a_node: None,
        needs_addons: false,
        postgres: None,
    },
    Act {
        name: "broken-config",
        server: "mcp-config",
        manifest: include_str!("acts/broken_config.yaml"),
        scene: "A third server runs, two pods that read a ConfigMap.",
        mishap: "Somebody edits the ConfigMap, and restarts the server to have it read:",
        change: &[
            Change::Kubectl(&[
                "patch",
                "configmap",
                "mcp-config",
                "-n",
                "mcp",
                "--type=merge",
                "-p",
                "{\"data\":{\"config.yaml\":\"MCP_WORKERS: many\"}}",
            ]),
            Change::Kubectl(&["rollout", "restart", "deployment/mcp-config", "-n", "mcp"]),
        ],
        tool: Tool::CreateAssignment,
        ending: Ending::Mitigated,
        needs_a_node: Some("a simulated node reads no ConfigMap"),
        needs_addons: false,
        postgres: None,
    },
    Act {
        name: "wedged",
        server: "mcp-wedged",
        manifest: include_str!("acts/wedged.yaml"),
        scene: "A fourth server runs, two pods. The operator asks each of them over MCP, every second.",
        mishap: "One pod stops to answer at /mcp. Its /health says 200, so that Kubernetes finds it ready:",
        change: &[
            Change::Fault {
                fault: r#"{"fault":"wedge-mcp"}"#,
                means: "takes requests at /mcp, and does not answer",
            },
            Change::Calls(1),
        ],
        tool: Tool::CreateAssignment,
        ending: Ending::Resolved,
        needs_a_node: Some("nothing in a simulated pod speaks MCP"),
        needs_addons: false,
        postgres: None,
    },
    Act {
        name: "circuit",
        server: "mcp-circuit",
        manifest: include_str!("acts/circuit.yaml"),
        scene: "A fifth server runs, whose tool search asks another one, mcp-upstream, through a circuit breaker.",
        mishap: "mcp-upstream is away for a moment. The circuit opens, as it should, and then never closes again:",
        change: &[
            Change::Kubectl(&["scale", "deployment/mcp-upstream", "-n", "mcp", "--replicas=0"]),
            Change::Fault {
                fault: r#"{"fault":"stuck-circuit"}"#,
                means: "keeps its circuit open, whatever answers behind it",
            },
            Change::Calls(3),
            Change::Kubectl(&["scale", "deployment/mcp-upstream", "-n", "mcp", "--replicas=1"]),
        ],
        tool: Tool::Search,
        ending: Ending::Resolved,
        needs_a_node: Some("nothing in a simulated pod has a circuit breaker"),
        needs_addons: true,
        postgres: None,
    },
    Act {
        name: "latency",
        server: "mcp-latency",
        manifest: include_str!("acts/latency.yaml"),
        scene: "A sixth server runs, one pod that answers four calls at once, 200 ms each. 20 clients, made by the demo \
                inside the cluster, call it through its Service every three seconds or so. Its policy says what to do \
                about answers that take long: scale, up to three pods.",
        mishap: "Five times as many clients come, and queue:",
        change: &[Change::Around {
            kubectl: &["scale", "deployment/mcp-load", "-n", "mcp", "--replicas=5"],
            means: "100 clients call it instead of 20: more than one pod can answer in time",
        }],
        tool: Tool::CreateAssignment,
        ending: Ending::Mitigated,
        needs_a_node: Some("nothing in a simulated pod answers, fast or slowly"),
        needs_addons: true,
        postgres: None,
    },
    Act {
        name: "database",
        server: "mcp-database",
        manifest: include_str!("acts/database.yaml"),
        scene: "A seventh server runs, one pod that keeps its data in PostgreSQL, by a pool of five connections. The \
                operator looks at PostgreSQL too, as a role of its own that reads no row of a table.",
        mishap: "The server begins five transactions and forgets them. Its pool is empty; its /health says 200:",
        change: &[
            Change::Fault {
                fault: r#"{"fault":"hold-db-connections","count":5}"#,
                means: "keeps all connections of its pool in transactions that it never ends",
            },
            Change::Calls(1),
        ],
        tool: Tool::CreateAssignment,
        ending: Ending::Mitigated,
        needs_a_node: Some("nothing in a simulated pod speaks to a database"),
        needs_addons: true,
        postgres: Some(include_str!("acts/postgres.yaml")),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_has_a_name_and_a_server_of_its_own() {
        for (at, act) in ACTS.iter().enumerate() {
            assert!(act.manifest.contains(&format!("name: {}", act.server)), "{}", act.name);
            assert!(ACTS[..at].iter().all(|other| other.name != act.name && other.server != act.server));
        }
    }

    #[test]
    fn what_a_person_types_is_shown_as_a_shell_takes_it() {
        let commands: Vec<_> = ACTS.iter().flat_map(Act::commands).collect();
        assert_eq!(commands[0], "$ kubectl set env deployment/mcp-server -n mcp MCP_REQUIRE=DATABASE_URL");
        assert!(
            commands[1].ends_with(r#"-p '{"data":{"config.yaml":"MCP_WORKERS: many"}}'"#),
            "{}",
            commands[1]
        );
    }
}
