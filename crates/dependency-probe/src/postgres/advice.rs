//! Settings against what guide 004 suggests. Its sizes fit a host of 16 GB, and PostgreSQL does not tell how
//! much memory it has: they are told as shares of it. Advice, never more.

use std::collections::BTreeMap;

/// What is asked for.
pub const SETTINGS: [&str; 10] = [
    "max_connections",
    "shared_buffers",
    "effective_cache_size",
    "maintenance_work_mem",
    "work_mem",
    "random_page_cost",
    "effective_io_concurrency",
    "autovacuum",
    "autovacuum_max_workers",
    "autovacuum_vacuum_scale_factor",
];
/// A page, in KiB.
const PAGE: f64 = 8.0;
const MIB: f64 = 1024.0;

/// What differs, each as a sentence. `version` is `server_version_num`.
pub fn advice(settings: &BTreeMap<String, Option<String>>, version: i32) -> Vec<String> {
    let text = |name: &str| settings.get(name).and_then(Option::as_deref);
    let number =
        |name: &str| text(name).and_then(|text| text.parse::<f64>().ok()).filter(|value| value.is_finite());
    let mut advice = Vec::new();
    if text("autovacuum") == Some("off") {
        advice.push("autovacuum is off: dead rows stay, and statistics grow old".to_owned());
    }
    if let Some(value) = number("max_connections").filter(|value| *value < 200.0) {
        advice.push(format!("max_connections is {value}; 200 is suggested (takes a restart)"));
    }
    let buffers = number("shared_buffers").map(|pages| pages * PAGE);
    if let Some(value) = buffers.filter(|value| *value <= 128.0 * MIB) {
        let words = size(value);
        advice.push(format!(
            "shared_buffers is {words}; a quarter of the machine's memory is suggested (takes a restart)"
        ));
    }
    let cache = number("effective_cache_size").map(|pages| pages * PAGE);
    if let Some((cache, buffers)) = cache.zip(buffers).filter(|(cache, buffers)| cache < &(2.0 * buffers)) {
        let (cache, buffers) = (size(cache), size(buffers));
        advice.push(format!("effective_cache_size is {cache} with shared_buffers of {buffers}; three times as much is suggested"));
    }
    if let Some(value) = number("maintenance_work_mem").filter(|value| *value <= 64.0 * MIB) {
        let words = size(value);
        advice.push(format!(
            "maintenance_work_mem is {words}; a sixteenth of the machine's memory is suggested"
        ));
    }
    if let Some(value) = number("work_mem").filter(|value| *value < 16.0 * MIB) {
        advice.push(format!("work_mem is {}; 16 MiB is suggested on a machine with 16 GiB", size(value)));
    }
    if let Some(value) = number("random_page_cost").filter(|value| *value > 2.0) {
        advice.push(format!("random_page_cost is {value}; 1.1 is suggested on solid-state disks"));
    }
    if let Some(value) = number("effective_io_concurrency").filter(|value| *value < 16.0) {
        advice.push(format!("effective_io_concurrency is {value}; 200 is suggested on solid-state disks"));
    }
    if let Some(value) = number("autovacuum_max_workers").filter(|value| *value < 4.0) {
        let how = if version < 180_000 { " (takes a restart)" } else { "" };
        advice.push(format!("autovacuum_max_workers is {value}; 4 is suggested{how}"));
    }
    if let Some(value) = number("autovacuum_vacuum_scale_factor").filter(|value| *value > 0.1) {
        advice.push(format!("autovacuum_vacuum_scale_factor is {value}; 0.1 is suggested"));
    }
    advice
}

/// KiB in words.
fn size(kib: f64) -> String {
    if kib >= MIB * MIB { format!("{} GiB", kib / MIB / MIB) } else { format!("{} MiB", kib / MIB) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
        all.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
    }

    #[test]
    fn what_differs_is_told_with_its_value_and_what_takes_a_restart() {
        let defaults = settings(&[
            ("max_connections", "100"),
            ("shared_buffers", "16384"),
            ("effective_cache_size", "524288"),
            ("work_mem", "4096"),
            ("autovacuum_max_workers", "3"),
            ("autovacuum", "off"),
            ("random_page_cost", "nan"),
        ]);
        let told = advice(&defaults, 150_000);
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!(
            told[2],
            "shared_buffers is 128 MiB; a quarter of the machine's memory is suggested (takes a restart)"
        );
        assert!(told[4].ends_with("4 is suggested (takes a restart)"));
        assert!(advice(&defaults, 180_000)[4].ends_with("4 is suggested"));
        let as_suggested = settings(&[
            ("max_connections", "200"),
            ("shared_buffers", "524288"),
            ("effective_cache_size", "1572864"),
            ("maintenance_work_mem", "1048576"),
            ("work_mem", "16384"),
            ("random_page_cost", "1.1"),
            ("effective_io_concurrency", "200"),
            ("autovacuum", "on"),
            ("autovacuum_max_workers", "4"),
            ("autovacuum_vacuum_scale_factor", "0.1"),
        ]);
        assert!(advice(&as_suggested, 150_000).is_empty());
    }
}
