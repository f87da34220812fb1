//! End-to-end scenarios on a real cluster, each with a namespace and an operator of its own.
//!
//! Run them by `cargo xtask test`, which builds the images and sets the environment. `MCP_HEALTH_KEEP=1` leaves
//! everything in place for a person to look at.

mod alert_firing;
mod bad_days;
mod bad_input;
mod bad_rollout;
mod circuit;
mod config_rollback;
mod crash_causes;
mod crash_loop;
mod database;
mod dependencies;
mod errors;
mod fleet;
mod full_disk;
mod guards;
mod hooks;
mod kill_at_every_write;
mod missed_outages;
mod own_rules;
mod owner_after_us;
mod pooler;
mod probes;
mod prometheus;
mod protocol;
mod python_server;
mod reported;
mod resources;
mod rollout_stuck;
mod scrape;
mod service_not_responding;
mod sessions;
mod slow_is_not_broken;
mod usage;
