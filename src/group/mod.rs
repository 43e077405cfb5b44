//! Groups of runtimes.

pub(crate) mod erased;
pub(crate) mod status;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchkeeper_fsm::StopReason;

use crate::config::{LONGEST_NAME, ObservationConfig};
use crate::control::ObservationControl;
use crate::observer::Observer;
use crate::parent::Parent;
use crate::report::debug_as_text;
use crate::runtime::ObservationRuntime;
use crate::sync::{Mutex, lock};
use crate::task::lifetime::StopOutcome;
use crate::text::{NAME, quoted};

#[cfg(feature = "json")]
pub use erased::json::{JsonBatch, JsonEvent, JsonSubscription, JsonSubscriptionError};
pub use erased::{AnyHandle, AnySnapshot, AnyWait, AnyWaitBuilder};
pub use status::GroupStatus;

/// A group of named runtimes of any kind, spread over their interval and stopped together.
///
/// Each runtime stays its own task; the group schedules nothing. The group owns its members. Dropping it drops them,
/// which requests their stop. `examples/group.rs` is a whole program; `examples/metrics.rs` shows a group's metrics.
///
/// # Examples
///
/// ```
/// # use watchkeeper::{ObservationConfig, ObservationRuntime, Observer, SourceProvider};
/// # use watchkeeper::group::{GroupError, ObservationGroup};
/// # async fn example<O: Observer>(
/// #     first: (impl SourceProvider<O::Source>, O), second: (impl SourceProvider<O::Source>, O),
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let group = ObservationGroup::new();
/// for (name, (provider, observer)) in [("raft", first)] {
///     let config = ObservationConfig { name: Some(name.to_owned()), ..Default::default() };
///     let config = group.spread(config); // members do not all work at once
///     group.add(ObservationRuntime::start(provider, observer, config).await?)?;
/// }
/// for member in group.statuses() {
///     println!("{}: {} in cycle {}", member.name, member.state, member.cycle);
/// }
/// for (name, outcome) in group.stop_all().await {
///     println!("{name}: {outcome:?}");
/// }
/// # let _ = second;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct ObservationGroup {
    members: Mutex<Members>,
    parent: Option<CancellationToken>,
}

#[derive(Default)]
struct Members {
    by_age: Vec<Arc<Member>>,
    names: std::collections::HashSet<Arc<str>>,
    /// How many offsets were assigned.
    spread: u32,
}

/// Why a runtime was not added.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The name is taken.
    #[error("the group already has a member named {}: give each a name of its own", quoted(name, NAME))]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The name is empty.
    #[error("a member needs a name: it may not be empty")]
    EmptyName,
    /// The name is too long.
    #[error("a member's name may have 256 bytes, and this one has {length}: give it a shorter one")]
    LongName {
        /// Its length in bytes.
        length: usize,
    },
    /// The runtime was started without a name.
    #[error("the runtime has no name: set ObservationConfig::name, or name it with ObservationGroup::add_as")]
    Unnamed,
}

debug_as_text!(GroupError);

/// A runtime with an erased observer. Dropping the member drops the runtime.
struct Member {
    handle: AnyHandle,
    control: ObservationControl,
    _parent: Option<Parent>,
    _runtime: Box<dyn Any + Send + Sync>,
}

impl ObservationGroup {
    /// A group without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A group without members that `parent` stops. Cancelling it requests the stop of all members, including those
    /// added afterwards.
    ///
    /// A member's config may also have its own [`parent`](ObservationConfig::parent): the one cancelled first stops
    /// the member.
    #[must_use]
    pub fn with_parent(parent: CancellationToken) -> Self {
        Self { parent: Some(parent), ..Self::default() }
    }

    /// Gives the next member's config its own `offset`. Offsets of any number of members are spread evenly over the
    /// interval.
    pub fn spread(&self, config: ObservationConfig) -> ObservationConfig {
        // The golden ratio's fractional parts: each further point falls into the largest gap left
        // (the three-distance theorem; Knuth, The Art of Computer Programming 3, 6.4).
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let nth = {
            let mut members = lock(&self.members);
            let nth = members.spread;
            members.spread = nth.wrapping_add(1);
            nth
        };
        let share = (f64::from(nth) * GOLDEN).fract();
        let offset = Duration::try_from_secs_f64(config.interval.as_secs_f64() * share).unwrap_or_default();
        ObservationConfig { offset, ..config }
    }

    /// Adds a runtime under the name in its config.
    ///
    /// # Errors
    ///
    /// [`GroupError`]: the runtime has no name, or the name is taken. The runtime is then dropped, which stops it.
    pub fn add<O: Observer>(&self, runtime: ObservationRuntime<O>) -> Result<(), GroupError> {
        let handle = runtime.handle();
        let name = handle.name().ok_or(GroupError::Unnamed)?;
        self.insert(AnyHandle::new(name, &handle), runtime)
    }

    /// Adds a runtime under `name` and ignores the name in its config.
    ///
    /// # Errors
    ///
    /// [`GroupError`]: the name is taken, empty, or has more than 256 bytes. The runtime is then dropped, which
    /// stops it.
    pub fn add_as<O: Observer>(&self, name: &str, runtime: ObservationRuntime<O>) -> Result<(), GroupError> {
        let handle = AnyHandle::new(name, &runtime.handle());
        self.insert(handle, runtime)
    }

    /// Adds a runtime under `name`. Its [`handle`](Self::handle) can convert snapshots to JSON.
    ///
    /// # Errors
    ///
    /// [`GroupError`], as for [`add_as`](Self::add_as).
    #[cfg(feature = "json")]
    pub fn add_with_json<O: Observer>(
        &self,
        name: &str,
        runtime: ObservationRuntime<O>,
        json: impl Fn(&O::Snapshot) -> serde_json::Value + Send + Sync + 'static,
    ) -> Result<(), GroupError> {
        let handle = AnyHandle::with_json(name, &runtime.handle(), json);
        self.insert(handle, runtime)
    }

    /// Adds a runtime under `name`. Its [`handle`](Self::handle) can convert snapshots and events to JSON: see
    /// [`AnyHandle::with_json_events`].
    ///
    /// # Errors
    ///
    /// [`GroupError`], as for [`add_as`](Self::add_as).
    #[cfg(feature = "json")]
    pub fn add_with_json_events<O: Observer>(
        &self,
        name: &str,
        runtime: ObservationRuntime<O>,
        snapshot: impl Fn(&O::Snapshot) -> serde_json::Value + Send + Sync + 'static,
        event: impl Fn(&O::Event) -> serde_json::Result<serde_json::Value> + Send + Sync + 'static,
    ) -> Result<(), GroupError> {
        let handle = AnyHandle::with_json_events(name, &runtime.handle(), snapshot, event);
        self.insert(handle, runtime)
    }

    fn insert<O: Observer>(
        &self,
        handle: AnyHandle,
        runtime: ObservationRuntime<O>,
    ) -> Result<(), GroupError> {
        match handle.name().len() {
            0 => return Err(GroupError::EmptyName),
            length if length > LONGEST_NAME => return Err(GroupError::LongName { length }),
            _ => {}
        }
        let control = runtime.control();
        let parent = self.parent.as_ref().map(|parent| control.stopped_by(parent));
        let mut members = lock(&self.members);
        if !members.names.insert(Arc::clone(handle.name())) {
            return Err(GroupError::DuplicateName { name: handle.name().to_string() });
        }
        members.by_age.push(Arc::new(Member {
            handle,
            control,
            _parent: parent,
            _runtime: Box::new(runtime),
        }));
        Ok(())
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.members).by_age.len()
    }

    /// Whether the group has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The status of each member, in the order they were added.
    #[must_use]
    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.members().iter().map(|member| member.handle.status()).collect()
    }

    /// The status of the member called `name`.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<GroupStatus> {
        self.member(name).map(|member| member.handle.status())
    }

    /// The read side of the member called `name`, with the waits.
    #[must_use]
    pub fn handle(&self, name: &str) -> Option<AnyHandle> {
        self.member(name).map(|member| member.handle.clone())
    }

    /// The read sides of all members, in the order they were added.
    #[must_use]
    pub fn handles(&self) -> Vec<AnyHandle> {
        self.members().iter().map(|member| member.handle.clone()).collect()
    }

    /// The control of the member called `name`.
    #[must_use]
    pub fn control(&self, name: &str) -> Option<ObservationControl> {
        self.member(name).map(|member| member.control.clone())
    }

    /// Stops all members concurrently and returns the outcome of each stop.
    ///
    /// All stops are requested before the first is awaited, so this takes at most the largest `stop_timeout`. The
    /// members stay in the group.
    pub async fn stop_all(&self) -> Vec<(Arc<str>, StopOutcome)> {
        let controls: Vec<_> = self
            .members()
            .iter()
            .map(|member| (Arc::clone(member.handle.name()), member.control.clone()))
            .collect();
        for (_, control) in &controls {
            control.request_stop(StopReason::Requested);
        }
        let mut outcomes = Vec::with_capacity(controls.len());
        for (name, control) in controls {
            outcomes.push((name, control.stop().await));
        }
        outcomes
    }

    fn members(&self) -> Vec<Arc<Member>> {
        lock(&self.members).by_age.clone()
    }

    fn member(&self, name: &str) -> Option<Arc<Member>> {
        lock(&self.members).by_age.iter().find(|member| **member.handle.name() == *name).cloned()
    }
}

impl fmt::Debug for ObservationGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservationGroup").field("members", &self.len()).finish_non_exhaustive()
    }
}
