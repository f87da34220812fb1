#![allow(clippy::unwrap_used)]

use tokio::time::advance;

use super::*;
use crate::observe::switches::SwitchRow;

const STALE_AFTER: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A table whose one row says that a namespace is not suspended.
fn listed() -> Table<SwitchRow> {
    let table = Table::new(&[None], STALE_AFTER);
    table.begin_list("");
    table.apply("", Key::new("", "mcp"), SwitchRow { suspended: false });
    table.end_list("");
    assert!(table.has_changed_fitness(""));
    table
}

fn suspended(table: &Table<SwitchRow>) -> Reading<bool> {
    let row = table.get(&Key::new("", "mcp")).unwrap();
    table.reading("", now(), row.suspended)
}

#[tokio::test(start_paused = true)]
async fn a_relist_that_begins_and_fails_each_second_for_ten_minutes_does_not_keep_rows_fresh() {
    let table = listed();
    let mut changes = 0;
    for second in 1..=600 {
        advance(SECOND).await;
        if second % 2 == 0 {
            table.begin_list("");
        } else {
            table.failed("", format!("forbidden, request {second}").into());
        }
        changes += usize::from(table.has_changed_fitness(""));
        let seen = suspended(&table);
        if second <= 60 {
            assert_eq!(seen, Reading::Fresh(false), "after {second} s");
        } else {
            assert!(matches!(seen, Reading::Stale { value: false, .. }), "after {second} s: {seen:?}");
            assert_eq!(seen, suspended(&table), "since the same moment, however often it is read");
        }
    }
    assert_eq!(changes, 1, "the fleet is woken once");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_switch_does_not_go_on_saying_not_suspended() {
    let table = listed();
    assert_eq!(table.stale_at(""), Instant::now() + STALE_AFTER + Duration::from_millis(1));
    advance(STALE_AFTER).await;
    assert_eq!(suspended(&table), Reading::Fresh(false));
    advance(SECOND).await;
    assert_eq!(suspended(&table).fresh(), None);
    assert!(table.has_changed_fitness("") && !table.has_changed_fitness(""));
    table.alive("");
    assert_eq!(suspended(&table), Reading::Fresh(false));
    assert!(table.has_changed_fitness(""));
}

#[tokio::test(start_paused = true)]
async fn proof_of_life_each_half_minute_keeps_quiet_rows_fresh() {
    let table = listed();
    for _ in 0..20 {
        advance(SECOND * 30).await;
        assert_eq!(suspended(&table), Reading::Fresh(false));
        table.alive("");
        assert!(!table.has_changed_fitness(""));
    }
}

#[test]
fn what_was_never_listed_tells_why_and_wakes_once_whatever_the_words() {
    let table: Table<SwitchRow> = Table::new(&[None], STALE_AFTER);
    assert!(!table.is_settled() && !table.has_changed_fitness(""));
    table.failed("", "forbidden: request 1".to_owned().into());
    assert!(table.is_settled() && table.has_changed_fitness(""));
    table.failed("", "forbidden: request 2".to_owned().into());
    assert!(!table.has_changed_fitness(""), "other words are not another fitness");
    assert_eq!(table.reading("", now(), ()), Reading::Unavailable("forbidden: request 2".to_owned()));
}

#[test]
fn an_object_that_cannot_be_read_makes_unavailable_what_rests_on_it_and_nothing_else() {
    let table = listed();
    let (bad, owners) = (Key::new("mcp", "a"), vec!["set".to_owned()]);
    assert!(table.cannot_read("", bad.clone(), owners, "Pod mcp/a cannot be read".to_owned()));
    assert!(!table.cannot_read("", bad.clone(), vec!["set".to_owned()], "again".to_owned()), "no news");
    let owned_by = |uid: &'static str| {
        table.reading_of("mcp", now(), (), move |_, owners| owners.iter().any(|owner| owner == uid))
    };
    assert_eq!(owned_by("set"), Reading::Unavailable("again".to_owned()));
    assert_eq!(owned_by("other"), Reading::Fresh(()));
    assert_eq!(table.reading("other", now(), ()), Reading::Fresh(()), "another tenant");
    assert_eq!(table.reading("mcp", now(), ()).fresh(), None);
    assert!(table.can_read(&bad) && !table.can_read(&bad));
    assert_eq!(owned_by("set"), Reading::Fresh(()));
}

#[test]
fn a_list_that_does_not_show_an_unreadable_object_any_more_ends_it() {
    let table = listed();
    table.cannot_read("", Key::new("mcp", "a"), Vec::new(), "a".to_owned());
    table.begin_list("");
    table.cannot_read("", Key::new("mcp", "b"), Vec::new(), "b".to_owned());
    assert!(table.reading("mcp", now(), ()).fresh().is_none());
    table.end_list("");
    assert_eq!(table.reading("mcp", now(), ()), Reading::Unavailable("b".to_owned()));
}
