//! The core, told by tables, by a simulated world, and by the statuses that people read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod alerts;
mod arbitration;
mod at_rest;
mod blame;
mod bodies;
mod catalogue;
mod circuits;
mod config;
mod crash_causes;
mod cut_off;
mod database_disk;
mod database_rules;
mod database_sessions;
mod dependencies;
mod durations;
mod error_rules;
mod failing_server;
mod garbage;
mod guards;
mod latency_rules;
mod leak_and_load;
mod mcp;
mod never_answered;
mod no_pods;
mod nodes;
mod outages;
mod outcomes;
mod own_rules;
mod partially_unready;
mod probes;
mod prohibitions;
mod properties;
mod recycle_pod;
mod references;
mod resources;
mod scraped;
mod service_ports;
mod slow_starts;
mod story;
mod support;
mod tool_probes;
mod tool_rules;
mod traffic_and_sessions;
mod usage;
