//! Which logs are fetched next: bounded, shared fairly among namespaces; within one, of pods that are not
//! ready first, and of those the container that ended last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{super::table::Key, run::Run};

/// How many logs are fetched at the same time.
pub const AT_ONCE: usize = 8;
/// How many of those may be of one namespace.
const OF_ONE_NAMESPACE: usize = 6;
/// The most requests that wait.
pub const MOST: usize = 1024;

/// A log to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The server that is woken.
    pub deployment: Key,
    pub pod: Key,
    pub uid: String,
    pub container: String,
    /// The run of the container that ended.
    pub run: Run,
    /// Its pod was not ready.
    pub unready: bool,
    /// Since when it is waited for.
    pub since: Timestamp,
    /// Its number in the queue, which gives it: of several alike, the last comes first.
    pub order: u64,
}

impl Ask {
    /// What comes first; the greater, the sooner.
    fn urgency(&self) -> (bool, Timestamp, u64) {
        (self.unready, self.run.end, self.order)
    }
}

/// By pod and container.
type OfNamespace = HashMap<(Arc<str>, String), Ask>;

#[derive(Default)]
struct Inner {
    /// By namespace; and in it by pod and container.
    waiting: BTreeMap<Arc<str>, OfNamespace>,
    len: usize,
    under_way: HashMap<Arc<str>, usize>,
    /// When each namespace was served last, by a count of all.
    served: HashMap<Arc<str>, u64>,
    count: u64,
    pushed: u64,
}

/// See the module.
#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    news: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request, in place of an earlier one for the same container. Where too many wait, returns the
    /// least urgent one, which is dropped.
    pub fn push(&self, ask: Ask) -> Option<Ask> {
        let mut inner = self.lock();
        inner.pushed += 1;
        let ask = Ask { order: inner.pushed, ..ask };
        let of_namespace = inner.waiting.entry(Arc::clone(&ask.pod.namespace)).or_default();
        let before = of_namespace.insert((Arc::clone(&ask.pod.name), ask.container.clone()), ask);
        inner.len += usize::from(before.is_none());
        let dropped = if inner.len > MOST { inner.drop_one() } else { None };
        drop(inner);
        self.news.notify_one();
        dropped
    }

    /// The next request; it is under way until [`Queue::done`].
    pub async fn next(&self) -> Ask {
        loop {
            let next = self.lock().take();
            if let Some(ask) = next {
                // Another may be free as well.
                self.news.notify_one();
                return ask;
            }
            self.news.notified().await;
        }
    }

    /// A request of this namespace is not under way any more.
    pub fn done(&self, namespace: &str) {
        let mut inner = self.lock();
        if let Some(under_way) = inner.under_way.get_mut(namespace) {
            *under_way -= 1;
            if *under_way == 0 {
                inner.under_way.remove(namespace);
            }
        }
        drop(inner);
        self.news.notify_one();
    }

    /// How many requests wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len
    }

    /// The next request, if there is one now.
    #[cfg(test)]
    pub fn try_next(&self) -> Option<Ask> {
        self.lock().take()
    }
}

impl Inner {
    fn take(&mut self) -> Option<Ask> {
        let under_way = |namespace: &Arc<str>| self.under_way.get(namespace).copied().unwrap_or_default();
        let open = self.waiting.keys().filter(|one| under_way(one) < OF_ONE_NAMESPACE);
        let served = |namespace: &Arc<str>| self.served.get(namespace).copied().unwrap_or_default();
        let namespace = open.min_by_key(|one| (under_way(one), served(one)))?.clone();
        let of_namespace = self.waiting.get(&namespace)?;
        let (key, _) = of_namespace.iter().max_by_key(|(_, ask)| ask.urgency())?;
        let (key, count) = (key.clone(), self.count + 1);
        let ask = self.remove(&namespace, &key)?;
        *self.under_way.entry(Arc::clone(&namespace)).or_default() += 1;
        self.count = count;
        self.served.insert(namespace, count);
        // Namespaces that ask no more are forgotten; there are never more than that which wait.
        if self.served.len() > 2 * MOST {
            let waiting = &self.waiting;
            self.served.retain(|namespace, _| waiting.contains_key(namespace));
        }
        Some(ask)
    }

    /// Drops the least urgent request of the namespace that has the most.
    fn drop_one(&mut self) -> Option<Ask> {
        let (namespace, of_namespace) = self.waiting.iter().max_by_key(|(_, all)| all.len())?;
        let (key, _) = of_namespace.iter().min_by_key(|(_, ask)| ask.urgency())?;
        let (namespace, key) = (Arc::clone(namespace), key.clone());
        self.remove(&namespace, &key)
    }

    fn remove(&mut self, namespace: &Arc<str>, key: &(Arc<str>, String)) -> Option<Ask> {
        let of_namespace = self.waiting.get_mut(namespace)?;
        let ask = of_namespace.remove(key)?;
        self.len -= 1;
        if of_namespace.is_empty() {
            self.waiting.remove(namespace);
        }
        Some(ask)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_268_800 + second).unwrap()
    }

    fn ask(namespace: &str, pod: &str, end: i64, unready: bool) -> Ask {
        Ask {
            deployment: Key::new(namespace, "server"),
            pod: Key::new(namespace, pod),
            uid: pod.to_owned(),
            container: "server".to_owned(),
            run: Run { started: None, end: at(end), follows_another: false },
            unready,
            since: at(end),
            order: 0,
        }
    }

    fn order(queue: &Queue) -> Vec<String> {
        let next = || {
            let ask = queue.try_next()?;
            queue.done(&ask.pod.namespace);
            Some(ask.pod.name.to_string())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn the_newest_end_of_a_pod_that_is_not_ready_comes_first() {
        let queue = Queue::default();
        for (pod, end, unready) in [("old", 1, true), ("ready", 9, false), ("new", 5, true)] {
            assert_eq!(queue.push(ask("mcp", pod, end, unready)), None);
        }
        queue.push(ask("mcp", "old", 2, true));
        assert_eq!(queue.len(), 3, "a container is asked about once");
        assert_eq!(order(&queue), ["new", "old", "ready"]);
    }

    #[test]
    fn a_namespace_with_a_thousand_crashes_does_not_keep_another_waiting() {
        let queue = Queue::default();
        for number in 0..1000 {
            queue.push(ask("storm", &format!("pod-{number}"), 100 + number, true));
        }
        queue.push(ask("quiet", "other", 1, true));
        let first: Vec<_> = std::iter::from_fn(|| queue.try_next()).map(|ask| ask.pod.namespace).collect();
        assert_eq!(first.iter().position(|one| &**one == "quiet"), Some(0));
        assert_eq!(first.len(), OF_ONE_NAMESPACE + 1, "two places are always left for others");
        queue.push(ask("late", "another", 1, true));
        assert_eq!(queue.try_next().unwrap().pod, Key::new("late", "another"));
    }

    #[test]
    fn where_too_many_wait_the_least_urgent_of_the_largest_namespace_is_dropped() {
        let queue = Queue::default();
        queue.push(ask("quiet", "other", -100, false));
        for number in 0..2000_i64 {
            let dropped = queue.push(ask("storm", &format!("pod-{number}"), number, true));
            let expected = (number >= 1023).then(|| Key::new("storm", &format!("pod-{}", number - 1023)));
            assert_eq!(dropped.map(|ask| ask.pod), expected);
        }
        assert_eq!(queue.len(), MOST);
    }

    #[tokio::test]
    async fn all_who_wait_are_woken_by_one_push_after_another() {
        let queue = Queue::default();
        let both = futures::future::join(queue.next(), queue.next());
        let pushes = async {
            queue.push(ask("mcp", "a", 1, true));
            queue.push(ask("mcp", "b", 2, true));
        };
        let ((first, second), ()) = tokio::join!(both, pushes);
        assert_ne!(first.pod, second.pod);
    }
}
