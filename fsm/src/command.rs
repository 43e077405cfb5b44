//! The commands, which the driver executes in order.

use std::fmt;
use std::iter::Take;
use std::ops::Deref;

use crate::{Cause, Event, Stage, State, StopReason, WorkId};

/// One instruction to the driver.
///
/// `Refresh`, `Init` and `Poll` each start a unit of work. At most one is in flight; the driver reports its
/// outcome as an [`Event`] with the same `work`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Fetch the source set; report [`Event::Refreshed`] or [`Event::WorkFailed`]. Begins a cycle.
    Refresh {
        /// The id to report.
        work: WorkId,
        /// The cycle that begins.
        cycle: u64,
    },
    /// Build an observer state and take its snapshot; report [`Event::Initialized`] or [`Event::WorkFailed`].
    Init {
        /// The id to report.
        work: WorkId,
        /// The cycle it belongs to.
        cycle: u64,
    },
    /// Poll the fetched sources and take a snapshot; report [`Event::Polled`] or [`Event::WorkFailed`].
    Poll {
        /// The id to report.
        work: WorkId,
        /// The cycle it belongs to.
        cycle: u64,
    },
    /// The cycle succeeded: publish its snapshot and its events.
    Publish {
        /// The cycle that ends.
        cycle: u64,
        /// Which build of the observer state the snapshot comes from.
        generation: u64,
    },
    /// The cycle failed: publish the failure.
    Record {
        /// The cycle that ends.
        cycle: u64,
        /// What failed.
        stage: Stage,
        /// How it failed.
        cause: Cause,
        /// How many consecutive cycles have failed, this one included.
        consecutive: u64,
    },
    /// Drop the observer state: it may be half changed.
    Forget,
    /// Send [`Event::Tick`] when the next cycle is due.
    Arm,
    /// Send no tick: an armed one is cancelled.
    Disarm,
    /// Drop the work in flight. If its outcome still arrives, it is rejected.
    Cancel {
        /// The work to drop.
        work: WorkId,
    },
    /// Publish the end and release everything. Only `Rejected` can follow.
    Finish {
        /// Why it ended.
        reason: StopReason,
    },
    /// The event has no meaning in this state and changed nothing.
    Rejected {
        /// The rejected event.
        event: Event,
        /// The state, unchanged.
        state: State,
    },
}

/// The commands for one event, in the order of execution.
///
/// Dereferences to a slice and iterates by value. Stored inline, without an allocation.
#[derive(Clone, Copy)]
pub struct Commands {
    items: [Command; Self::CAPACITY],
    len: usize,
}

impl Commands {
    /// The most commands for one event. The exhaustive test reaches this number and never exceeds it.
    pub(crate) const CAPACITY: usize = 3;

    pub(crate) const fn new() -> Self {
        Self { items: [Command::Arm; Self::CAPACITY], len: 0 }
    }

    pub(crate) const fn push(&mut self, command: Command) {
        self.items[self.len] = command;
        self.len += 1;
    }
}

impl Deref for Commands {
    type Target = [Command];

    fn deref(&self) -> &[Command] {
        &self.items[..self.len]
    }
}

impl IntoIterator for Commands {
    type Item = Command;
    type IntoIter = Take<std::array::IntoIter<Command, { Self::CAPACITY }>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter().take(self.len)
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Commands {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Commands {}
