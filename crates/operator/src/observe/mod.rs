//! observe: the tables that watches keep up, and the signals of one server read from them. Reading them is
//! all that a reconcile does to see; and a change wakes only the servers whose verdict it may change.
//!
//! Rows and sources know nothing of each other. The [stores](stores) hold them all; above those are what
//! reads them for one server (`signals`), what wakes (`wake`, `judge`), and the tasks that fill them
//! (`*/poll`, `watches`).

mod alertmanager;
mod autoscalers;
mod backoff;
mod budgets;
mod config_maps;
mod config_readers;
mod dependencies;
mod deployments;
mod guarded;
mod jobs;
mod judge;
mod judged;
mod last_words;
pub mod list_watch;
mod nodes;
mod pod_events;
mod pod_spec;
mod pods;
mod postgres;
mod probes;
mod prometheus;
mod quotas;
mod references;
mod replica_sets;
mod requests;
mod scrape;
mod secrets;
mod services;
mod signals;
mod stores;
mod switches;
pub mod table;
mod targets;
pub mod urgent;
mod usage;
mod vertical_autoscalers;
mod volumes;
mod wake;
pub mod watch;
pub mod watches;

pub use config_maps::ConfigMapWire;
pub use deployments::{DeploymentWire, Facts};
pub use guarded::{Guarded, without_bookkeeping};
pub use pod_spec::config_maps as config_maps_of;
pub use postgres::Databases;
pub use probes::Asking;
pub use prometheus::Poller;
pub use references::look_up;
pub use replica_sets::ReplicaSetWire;
pub use secrets::Secrets;
pub use stores::Stores;
pub use switches::{NamespaceWire, SwitchWire, is_suspended, is_thrown};
pub use targets::note as note_targets;
