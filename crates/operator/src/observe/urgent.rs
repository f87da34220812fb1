//! The objects whose dependencies are asked at once and then every five seconds: something is found or
//! suspected that a dependency could explain, and it is not known whether the dependencies answer. Bounded in
//! time, and by the limits that hold for all that is asked.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::table::Key;

/// The pause between two questions.
pub const PAUSE: Duration = Duration::from_secs(5);
/// What is not known after this time is asked as often as before.
const LONGEST: Duration = Duration::from_mins(1);

/// See the module.
#[derive(Default)]
pub struct Urgent {
    /// Since when, and whether the schedule knows of it.
    objects: Mutex<HashMap<Key, (Instant, bool)>>,
}

impl Urgent {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Instant, bool)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the dependencies of an object are to be asked at once.
    pub fn set(&self, key: &Key, is_urgent: bool) {
        let mut objects = self.lock();
        if is_urgent {
            objects.entry(key.clone()).or_insert_with(|| (Instant::now(), false));
        } else {
            objects.remove(key);
        }
    }

    /// Whether the dependencies of an object are asked every five seconds.
    pub fn is_set(&self, key: &Key) -> bool {
        self.lock().get(key).is_some_and(|(since, _)| since.elapsed() < LONGEST)
    }

    /// Those that have become urgent since this was asked last.
    pub fn take_new(&self) -> Vec<Key> {
        let mut objects = self.lock();
        let new = objects.iter_mut().filter(|(_, (_, is_known))| !is_known);
        new.map(|(key, (_, is_known))| {
            *is_known = true;
            key.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_object_is_urgent_once_until_it_is_known_or_a_minute_has_passed() {
        let (urgent, key) = (Urgent::default(), Key::new("mcp", "search"));
        urgent.set(&key, true);
        assert_eq!(urgent.take_new(), std::slice::from_ref(&key));
        urgent.set(&key, true);
        assert_eq!(urgent.take_new(), []);
        assert!(urgent.is_set(&key));
        tokio::time::advance(LONGEST).await;
        urgent.set(&key, true);
        assert!(!urgent.is_set(&key), "what is not known by then is asked as often as before");
        urgent.set(&key, false);
        urgent.set(&key, true);
        assert_eq!((urgent.take_new(), urgent.is_set(&key)), (vec![key], true), "another onset");
    }
}
