//! Two replicas of a highly available Prometheus tell the same twice: series that differ only in the labels
//! of the replicas are one. The freshest counts; they are never added up.

use std::collections::{HashMap, hash_map::Entry};

use jiff::Timestamp;

use super::answer::{Row, key};

/// One row of each series, with the moment of its sample: the freshest, and of rows that are as fresh the one
/// whose replica comes first by its labels. What has no moment tells nothing.
pub fn freshest<'b, 'a>(
    rows: &'b [Row<'a>],
    replicas: &[&str],
    moment: impl Fn(&Row<'a>) -> Option<Timestamp>,
) -> Vec<(&'b Row<'a>, Timestamp)> {
    let is_told_apart = |row: &Row| row.labels.iter().any(|(name, _)| replicas.contains(&name.as_ref()));
    if !rows.iter().any(is_told_apart) {
        return rows.iter().filter_map(|row| Some((row, moment(row)?))).collect();
    }
    let mut places: HashMap<Vec<(&str, &str)>, usize> = HashMap::new();
    let mut chosen: Vec<(&Row, Timestamp)> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(at) = moment(row) else { continue };
        match places.entry(key(row, replicas)) {
            Entry::Vacant(free) => {
                free.insert(chosen.len());
                chosen.push((row, at));
            }
            Entry::Occupied(place) => {
                let known = &mut chosen[*place.get()];
                if at > known.1 || (at == known.1 && replica(row, replicas) < replica(known.0, replicas)) {
                    *known = (row, at);
                }
            }
        }
    }
    chosen
}

/// What tells a replica from the others.
fn replica<'a>(row: &'a Row<'_>, replicas: &[&str]) -> Vec<(&'a str, &'a str)> {
    let labels = row.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    let mut labels: Vec<_> = labels.filter(|(name, _)| replicas.contains(name)).collect();
    labels.sort_unstable();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICAS: &[&str] = &["prometheus_replica"];

    fn row(labels: &[(&'static str, &'static str)], at: i64, value: f64) -> Row<'static> {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Row { labels, at: Timestamp::from_second(at).unwrap_or_default(), value }
    }

    fn values(rows: &[Row<'_>]) -> Vec<i64> {
        #[allow(clippy::cast_possible_truncation)] // They are whole numbers.
        freshest(rows, REPLICAS, |row| Some(row.at)).iter().map(|(row, _)| row.value as i64).collect()
    }

    #[test]
    fn of_two_replicas_the_freshest_counts_and_of_two_that_are_as_fresh_the_first() {
        let of = |replica, at, value| row(&[("pod", "a"), ("prometheus_replica", replica)], at, value);
        assert_eq!(values(&[of("0", 10, 60.0), of("1", 15, 61.0)]), [61]);
        assert_eq!(values(&[of("1", 15, 61.0), of("0", 10, 60.0)]), [61]);
        assert_eq!(values(&[of("1", 10, 61.0), of("0", 10, 60.0)]), [60]);
    }

    #[test]
    fn what_differs_in_another_label_stays_two() {
        let rows = [
            row(&[("pod", "a"), ("prometheus_replica", "0")], 10, 1.0),
            row(&[("pod", "b"), ("prometheus_replica", "0")], 10, 2.0),
            row(&[("pod", "a"), ("shard", "1"), ("prometheus_replica", "0")], 10, 3.0),
        ];
        assert_eq!(values(&rows), [1, 2, 3]);
    }
}
