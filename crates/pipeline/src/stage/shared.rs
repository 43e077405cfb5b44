//! What a stage's worker shares with the handles: figures, dead letters, requests.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::item::Item;
use crate::link::lock;
use crate::position::UpstreamPosition;
use crate::stage::caught::{NOTE, catch};
use crate::upstream::Head;

/// A request for the worker, between two items.
pub(crate) struct LetterRequest {
    pub(crate) id: u64,
    pub(crate) what: LetterWork,
    pub(crate) reply: oneshot::Sender<Result<(), LetterRefusal>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterWork {
    Replay,
    Discard,
}

/// Why a dead letter stays.
#[derive(Clone, Debug)]
pub(crate) enum LetterRefusal {
    Unknown,
    /// The handler has failed again.
    Failed(String),
    /// The store has refused it: it is committed by a later commit.
    NotCommitted(String),
}

/// A dead letter for people and programs that do not know the type of its item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterView {
    /// Its number in its stage, from 0.
    pub id: u64,
    /// The name of its upstream.
    pub upstream: Arc<str>,
    /// Its position there.
    pub position: UpstreamPosition,
    /// The event by its `Debug`, or what else the item is: one line, escaped, at most 400 bytes.
    pub item: String,
    /// The last error with its causes: one line, escaped, at most 1 KiB.
    pub error: String,
    /// How many attempts have failed.
    pub attempts: u64,
    /// When the last one failed, for display.
    pub at: SystemTime,
}

/// The figures of one upstream.
struct Gauge {
    head: Option<Head>,
    /// In batches, or in items of a stream; `u64::MAX` before it is open.
    committed: AtomicU64,
}

#[derive(Default)]
pub(crate) struct StageShared {
    gauges: Vec<Gauge>,
    pub(crate) items: AtomicU64,
    pub(crate) outputs: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) handler_nanos: AtomicU64,
    letters: Mutex<BTreeMap<u64, DeadLetterView>>,
}

impl StageShared {
    pub(crate) fn new(heads: Vec<Option<Head>>) -> Self {
        let gauge = |head| Gauge { head, committed: AtomicU64::new(u64::MAX) };
        Self { gauges: heads.into_iter().map(gauge).collect(), ..Self::default() }
    }

    pub(crate) fn committed(&self, upstream: usize, number: u64) {
        self.gauges[upstream].committed.store(number, Relaxed);
    }

    /// Batches that the upstreams have published and the stage has not committed; `None` if one of them is a stream or
    /// not open.
    pub(crate) fn lag(&self) -> Option<u64> {
        let lags = self.gauges.iter().map(|gauge| {
            let committed = gauge.committed.load(Relaxed);
            let head = gauge.head.as_ref()?()?;
            (committed != u64::MAX).then(|| head.saturating_sub(committed))
        });
        lags.sum()
    }

    pub(crate) fn handled_for(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.handler_nanos.fetch_add(nanos, Relaxed);
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetterView> {
        lock(&self.letters).values().cloned().collect()
    }

    pub(crate) fn dead_letter_count(&self) -> u64 {
        lock(&self.letters).len() as u64
    }

    pub(crate) fn put_letter(&self, letter: DeadLetterView) {
        lock(&self.letters).insert(letter.id, letter);
    }

    pub(crate) fn remove_letter(&self, id: u64) {
        lock(&self.letters).remove(&id);
    }

    pub(crate) fn clear_letters(&self) {
        lock(&self.letters).clear();
    }
}

/// The event's `Debug`, or the gap; with a note of what is left out at most 400 bytes.
pub(crate) fn shown<T: std::fmt::Debug>(item: &Item<T>) -> String {
    const LIMIT: usize = 400 - NOTE;
    let text = catch(|| match item {
        Item::Event(event) => watchkeeper::report::debug_line(event, LIMIT),
        Item::Lagged { missed } => format!("Lagged {{ missed: {missed} }}"),
        Item::Rebuilt { generation } => format!("Rebuilt {{ generation: {generation} }}"),
    });
    text.unwrap_or_else(|_| "an item whose Debug panicked".to_owned())
}
