//! Tasks that have to end before the nodes go down.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::subject::Subject;
use crate::sync::lock;

/// The tasks in flight, by name. Clones share the set.
#[derive(Clone, Default)]
pub(crate) struct InFlight {
    shared: Arc<InFlightState>,
}

#[derive(Default)]
struct InFlightState {
    tasks: Mutex<Tasks>,
    ended: Notify,
}

#[derive(Default)]
struct Tasks {
    /// How many tasks have begun: the number of the next one.
    begun: u64,
    running: Vec<Task>,
}

struct Task {
    number: u64,
    name: String,
    /// The part whose step has begun it.
    of: Option<Subject>,
}

/// A task in flight. It counts as ended when this is dropped, so a task drops its ticket last.
pub(crate) struct Ticket {
    number: u64,
    shared: Arc<InFlightState>,
}

impl InFlight {
    pub(crate) fn begin(&self, name: &str, of: Option<&Subject>) -> Ticket {
        let mut tasks = lock(&self.shared.tasks);
        let number = tasks.begun;
        tasks.begun += 1;
        tasks.running.push(Task { number, name: name.to_owned(), of: of.cloned() });
        Ticket { number, shared: Arc::clone(&self.shared) }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.shared.tasks).running.iter().map(|task| task.name.clone()).collect()
    }

    /// The names of the tasks that a step of `subject` has begun.
    pub(crate) fn names_of(&self, subject: &Subject) -> Vec<String> {
        let tasks = lock(&self.shared.tasks);
        let begun = tasks.running.iter().filter(|task| task.of.as_ref() == Some(subject));
        begun.map(|task| task.name.clone()).collect()
    }

    /// Stops counting tasks of this name.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.shared.tasks).running.retain(|task| task.name != name);
    }

    /// Waits until no task is left whose name fits. Cancel-safe.
    pub(crate) async fn none(&self, fits: impl Fn(&str) -> bool) {
        loop {
            let ended = self.shared.ended.notified();
            if !lock(&self.shared.tasks).running.iter().any(|task| fits(&task.name)) {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.shared.tasks).running.retain(|task| task.number != self.number);
        self.shared.ended.notify_waiters();
    }
}
