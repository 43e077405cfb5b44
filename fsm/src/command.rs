//! What goes out: commands, for the driver to carry out in the order given.

use std::fmt;
use std::iter::Take;
use std::ops::Deref;

use crate::{Cause, Event, Stage, State, StopReason, WorkId};

/// One thing for the driver to do.
///
/// `Refresh`, `Init` and `Poll` each start a unit of work; never more than one is in flight, and the
/// driver reports its outcome as an [`Event`] with the same `work`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Fetch the source set; report [`Event::Refreshed`] or [`Event::WorkFailed`]. A cycle begins
    /// with it.
    Refresh {
        /// The work to report.
        work: WorkId,
        /// The cycle that begins.
        cycle: u64,
    },
    /// Build a new observer state from the sources just fetched, and its snapshot; report
    /// [`Event::Initialized`] or [`Event::WorkFailed`].
    Init {
        /// The work to report.
        work: WorkId,
        /// The cycle it belongs to.
        cycle: u64,
    },
    /// Let the observer poll the sources just fetched, and take its snapshot; report
    /// [`Event::Polled`] or [`Event::WorkFailed`].
    Poll {
        /// The work to report.
        work: WorkId,
        /// The cycle it belongs to.
        cycle: u64,
    },
    /// The cycle succeeded: publish its snapshot and its events.
    Publish {
        /// The cycle that ends.
        cycle: u64,
        /// The build of the observer state that the snapshot comes from.
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
    /// Send no tick: what was armed is off.
    Disarm,
    /// Drop the work in flight. An outcome that comes all the same will be rejected.
    Cancel {
        /// The work to drop.
        work: WorkId,
    },
    /// Publish the end and let go of everything. No command but `Rejected` follows.
    Finish {
        /// Why it ended.
        reason: StopReason,
    },
    /// Nothing was done: the event means nothing in this state. The driver tells whoever sent it.
    Rejected {
        /// The event that was not taken.
        event: Event,
        /// The state, unchanged.
        state: State,
    },
}

/// The commands that one event gave rise to, in the order in which to carry them out.
///
/// Reads as a slice and iterates by value. It is held in place: making one allocates nothing.
#[derive(Clone, Copy)]
pub struct Commands {
    items: [Command; Self::CAPACITY],
    len: usize,
}

impl Commands {
    /// The most that one event can give rise to. The exhaustive test reaches it and never exceeds it.
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
