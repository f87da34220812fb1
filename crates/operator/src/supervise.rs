//! Background tasks, each with a name. One that ends while the operator runs, or panics, ends the operator with that as
//! its reason: decisions on what nothing keeps up any more would be made on old evidence.

use std::{borrow::Cow, collections::HashMap, future::pending, pin::Pin};

use tokio::task::{Id, JoinSet};

use crate::caught;

/// What runs until the operator ends.
pub struct Task {
    name: Cow<'static, str>,
    run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Task {
    /// A task by this name, as in `the watch of Pods`.
    pub fn new(name: impl Into<Cow<'static, str>>, run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name: name.into(), run: Box::pin(run) }
    }
}

/// The tasks that run. Dropping it aborts them.
#[derive(Default)]
pub struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, Cow<'static, str>>,
}

impl Tasks {
    /// Starts a task.
    pub fn start(&mut self, task: Task) {
        let id = self.running.spawn(task.run).id();
        self.names.insert(id, task.name);
    }

    /// Waits for the first task that ends, and returns why, as a sentence.
    pub async fn ended(&mut self) -> String {
        let Some(ended) = self.running.join_next_with_id().await else { return pending().await };
        let (id, why) = match ended {
            Ok((id, ())) => (id, "it returned".to_owned()),
            Err(error) => {
                let id = error.id();
                (
                    id,
                    error
                        .try_into_panic()
                        .map_or_else(|_| "it was aborted".to_owned(), |panic| caught::words(&*panic)),
                )
            }
        };
        let name = self.names.remove(&id).unwrap_or(Cow::Borrowed("a background task"));
        format!("{name} ended: {why}")
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_background_task_that_panics_or_returns_is_named_with_the_reason() {
        let mut tasks = Tasks::default();
        tasks.start(Task::new("the watch of Pods", pending()));
        tasks.start(Task::new("the poll of Prometheus", async { panic!("index out of bounds") }));
        assert_eq!(tasks.ended().await, "the poll of Prometheus ended: panicked: index out of bounds");
        tasks.start(Task::new("the scrape of pods", ready(())));
        assert_eq!(tasks.ended().await, "the scrape of pods ended: it returned");
    }

    #[tokio::test]
    async fn while_every_background_task_runs_nothing_ends() {
        let mut tasks = Tasks::default();
        tasks.start(Task::new("the watch of Pods", pending()));
        tokio::select! {
            biased;
            why = tasks.ended() => panic!("{why}"),
            () = tokio::task::yield_now() => {}
        }
    }
}
