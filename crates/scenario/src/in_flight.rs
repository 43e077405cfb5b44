//! Tasks that have to end before the nodes go down.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::sync::lock;

/// The tasks in flight, by name. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tasks: Mutex<Tasks>,
    ended: Notify,
}

#[derive(Default)]
struct Tasks {
    /// How many there ever were: the number of the next one.
    begun: u64,
    running: Vec<(u64, String)>,
}

/// Belongs to a task, which counts as ended when this is dropped: drop it last.
pub(crate) struct Ticket {
    number: u64,
    shared: Arc<Shared>,
}

impl InFlight {
    pub(crate) fn begin(&self, name: &str) -> Ticket {
        let mut tasks = lock(&self.shared.tasks);
        let number = tasks.begun;
        tasks.begun += 1;
        tasks.running.push((number, name.to_owned()));
        Ticket { number, shared: Arc::clone(&self.shared) }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.shared.tasks).running.iter().map(|(_, name)| name.clone()).collect()
    }

    /// No longer counts those of this name.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.shared.tasks).running.retain(|(_, known)| known != name);
    }

    /// Waits until none of those is left whose name fits. Cancel safe.
    pub(crate) async fn none(&self, fits: impl Fn(&str) -> bool) {
        loop {
            let ended = self.shared.ended.notified();
            if !lock(&self.shared.tasks).running.iter().any(|(_, name)| fits(name)) {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.shared.tasks).running.retain(|(number, _)| *number != self.number);
        self.shared.ended.notify_waiters();
    }
}
