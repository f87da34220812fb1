//! Steps whose beginning is being written or is written, and that this process has not sent. A restart makes them
//! unknown, and what is unknown counts as done. While the process lives, it knows better: such a step is not done.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use mcp_health_api::{Attempt, McpServerHealthStatus, StepState};

/// See the module.
#[derive(Debug, Default)]
pub struct Unsent {
    /// By the object's uid: the attempt, and which of its steps.
    steps: Mutex<HashMap<String, (String, usize)>>,
}

impl Unsent {
    /// It is about to be written that the next step of an attempt begins.
    pub fn note(&self, object: &str, attempt: &Attempt) {
        let step = attempt.steps.iter().position(|step| step.state == StepState::Started);
        let Some(step) = step else { return };
        self.steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(object.to_owned(), (attempt.id.clone(), step));
    }

    /// What was noted of an object is sent now, or the object is gone.
    pub fn forget(&self, object: &str) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }

    /// Shows a step that was not sent as recorded, whatever the status says of it.
    pub fn restore(&self, object: &str, status: &mut McpServerHealthStatus) {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((attempt, step)) = steps.get(object) else { return };
        let attempts = status.incidents.iter_mut().flat_map(|incident| &mut incident.attempts);
        let step = attempts
            .filter(|one| one.id == *attempt && one.outcome.is_none())
            .find_map(|one| one.steps.get_mut(*step));
        if let Some(step) = step.filter(|step| step.state == StepState::Started) {
            step.state = StepState::Recorded;
        }
    }
}
