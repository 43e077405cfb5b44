//! What was posted or given up, and until when it cools down.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::document::{Letter, is_valid_id};

/// How many ids are known. The oldest is dropped: it may be posted again before its cooldown is over.
pub(super) const MOST_ENTRIES: usize = 4_096;

/// The version of the file.
const VERSION: u32 = 1;

/// How an escalation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    Posted,
    Failed,
}

/// One escalation that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) sequence: u64,
    #[serde(with = "rfc3339")]
    pub(super) at: Timestamp,
    pub(super) ending: Ending,
}

/// What is kept over restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) version: u32,
    /// What may have been posted, and must be again if the process ends before its outcome is written.
    pub(super) pending: Option<Letter>,
    /// Oldest first.
    pub(super) escalated: Vec<Entry>,
}

impl Default for Record {
    fn default() -> Self {
        Self { version: VERSION, pending: None, escalated: Vec::new() }
    }
}

impl Record {
    /// Why it cannot be used, if it cannot.
    pub(super) fn fault(&self) -> Option<String> {
        if self.version != VERSION {
            return Some(format!("its version is {}, and {VERSION} is known", self.version));
        }
        let mut ids = self.escalated.iter().map(|entry| &entry.id);
        let is_valid = ids.all(|id| is_valid_id(id))
            && self.pending.as_ref().is_none_or(|letter| {
                is_valid_id(&letter.document.cluster.id)
                    && letter.key.len() <= 200
                    && letter.key.bytes().all(|byte| byte.is_ascii_graphic())
            });
        (!is_valid).then(|| "it has an id that is none".to_owned())
    }
}

/// The newest escalations by their ids.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    cooldown: Duration,
    known: HashMap<String, Known>,
    /// The ids in their order.
    order: BTreeMap<u64, String>,
    ended: u64,
}

#[derive(Clone, Debug)]
struct Known {
    entry: Entry,
    until: Instant,
    number: u64,
}

impl Ledger {
    /// `now` and `wall` are the same moment. A time in the future, by a clock that was set back, counts as now.
    pub(super) fn of(escalated: Vec<Entry>, cooldown: Duration, now: Instant, wall: Timestamp) -> Self {
        let mut ledger = Self { cooldown, known: HashMap::new(), order: BTreeMap::new(), ended: 0 };
        for entry in escalated {
            let age = Duration::try_from(wall.duration_since(entry.at)).unwrap_or_default();
            ledger.insert(entry, now + cooldown.saturating_sub(age));
        }
        ledger
    }

    /// An escalation has ended, and cools down.
    pub(super) fn ended(&mut self, entry: Entry, now: Instant) {
        self.insert(entry, now + self.cooldown);
    }

    fn insert(&mut self, entry: Entry, until: Instant) {
        self.ended += 1;
        let (id, number) = (entry.id.clone(), self.ended);
        self.order.insert(number, id.clone());
        if let Some(older) = self.known.insert(id, Known { entry, until, number }) {
            self.order.remove(&older.number);
        }
        while self.order.len() > MOST_ENTRIES {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether a cluster with this newest operation may be posted: after the cooldown, if it has newer errors or was given up. A sequence
    /// below the known one is of another journal.
    pub(super) fn allows(&self, id: &str, last_sequence: u64, now: Instant) -> bool {
        self.known.get(id).is_none_or(|Known { entry, until, .. }| {
            *until <= now && (entry.ending == Ending::Failed || entry.sequence != last_sequence)
        })
    }

    /// When this very escalation was given up, if it was: the next one needs another key, since its document is another.
    pub(super) fn given_up(&self, id: &str, last_sequence: u64) -> Option<Timestamp> {
        let entry = &self.known.get(id)?.entry;
        (entry.ending == Ending::Failed && entry.sequence == last_sequence).then_some(entry.at)
    }

    /// How many escalations have ended in the hour before now.
    pub(super) fn ended_within_an_hour(&self, wall: Timestamp) -> u32 {
        let hour = Duration::from_hours(1);
        let is_recent = |known: &&Known| {
            Duration::try_from(wall.duration_since(known.entry.at)).unwrap_or_default() < hour
        };
        u32::try_from(self.known.values().filter(is_recent).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn record(&self, pending: Option<Letter>) -> Record {
        let known = self.order.values().filter_map(|id| self.known.get(id));
        Record { pending, escalated: known.map(|known| known.entry.clone()).collect(), ..Record::default() }
    }
}

mod rfc3339 {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
