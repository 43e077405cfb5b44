//! The status of a group member.

use std::fmt;
use std::sync::Arc;

use watchkeeper_fsm::State;

use crate::error::ObservationFailure;
use crate::observer::Observer;
use crate::status::ObservationStatus;
use crate::status::freshness::Freshness;
use crate::text::{NAME, NAMES, names, quoted};

/// The status of one member, without its observer's types. `Debug` truncates the source names to one line.
#[derive(Clone)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The member's name.
    pub name: Arc<str>,
    /// Its machine's state.
    pub state: State,
    /// Whether ticks and wakes are held back.
    pub paused: bool,
    /// The generation of its observer's state.
    pub generation: u64,
    /// The cycle in flight, or the last one.
    pub cycle: u64,
    /// How old its data was when this was read.
    pub freshness: Freshness,
    /// The last failure, if no success came after it.
    pub last_error: Option<Arc<ObservationFailure>>,
    /// The names of its sources.
    pub source_names: Arc<[Arc<str>]>,
    /// How many ticks it missed.
    pub missed_ticks: u64,
}

impl GroupStatus {
    pub(crate) fn of<O: Observer>(name: &Arc<str>, status: ObservationStatus<O>) -> Self {
        Self {
            name: Arc::clone(name),
            state: status.state,
            paused: status.paused,
            generation: status.generation,
            cycle: status.cycle,
            freshness: status.freshness,
            last_error: status.last_error,
            source_names: status.source_names,
            missed_ticks: status.missed_ticks,
        }
    }
}

impl fmt::Debug for GroupStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = names(self.source_names.iter().map(|name| &**name), NAMES);
        f.debug_struct("GroupStatus")
            .field("name", &format_args!("{}", quoted(&self.name, NAME)))
            .field("state", &self.state)
            .field("paused", &self.paused)
            .field("generation", &self.generation)
            .field("cycle", &self.cycle)
            .field("freshness", &self.freshness)
            .field("last_error", &self.last_error)
            .field("source_names", &format_args!("{sources}"))
            .field("missed_ticks", &self.missed_ticks)
            .finish()
    }
}
