//! Idempotency keys: a request that is sent again is answered again, and recorded once.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{Durability, Record};

use crate::recorded::Recorded;

/// The most bytes of a key.
pub const MAX_KEY: usize = 200;

/// The first half of the SHA-256 of a request's body, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let sum = Sha256::digest(body);
        let half = sum.iter().take(16).fold(0_u128, |half, byte| (half << 8) | u128::from(*byte));
        Self(format!("{half:032x}"))
    }
}

/// An idempotency key with what it is given for.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key: 1 to 200 bytes.
    pub key: String,
    /// The fingerprint of the request's body.
    pub fingerprint: Fingerprint,
}

impl Key {
    /// A key for a body.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`].
    pub fn new(key: &str, body: &[u8]) -> Result<Self, KeyError> {
        let is_valid =
            (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if !is_valid {
            return Err(KeyError::Invalid);
        }
        Ok(Self { key: key.to_owned(), fingerprint: Fingerprint::of(body) })
    }

    /// How the key stands in the tail of a record.
    pub(crate) fn tail(&self) -> String {
        format!("{}:{}", self.fingerprint.0, self.key)
    }
}

/// The keys of the newest records.
#[derive(Debug)]
pub(crate) struct Keys {
    window: u64,
    known: HashMap<String, KnownKey>,
    /// In the order in which they became known.
    order: VecDeque<(u64, String)>,
}

#[derive(Debug)]
struct KnownKey {
    fingerprint: Fingerprint,
    /// `None` while the request is being recorded.
    recorded: Option<Recorded>,
    /// The number of the last record of the request; of one that the journal could not take, of the record after it.
    last: u64,
}

impl Keys {
    pub(crate) fn new(window: u64) -> Self {
        Self { window, known: HashMap::new(), order: VecDeque::new() }
    }

    /// Takes the key of a record that was read at the start: the last one of its batch. A restart has no other promise than that it is
    /// in the journal.
    pub(crate) fn restore(&mut self, tail: &str, record: &Record) {
        let Some((fingerprint, key)) = tail.split_once(':') else { return };
        let (number, count) = record.batch().map_or((record.number(), 1), |batch| (batch.first, batch.count));
        let recorded = Recorded {
            sequence: Some(number),
            count,
            cursor: Some(record.after()),
            durability: Durability::Buffered,
            is_repeated: false,
        };
        let key = Key { key: key.to_owned(), fingerprint: Fingerprint(fingerprint.to_owned()) };
        self.done(&key, recorded, record.number());
    }

    /// Begins a request: the answer of the earlier one if its key is known. `next` is the number of the next record.
    pub(crate) fn begin(&mut self, key: &Key, next: u64) -> Result<Option<Recorded>, KeyError> {
        self.forget(next);
        match self.known.get(&key.key) {
            None => {
                let fingerprint = key.fingerprint.clone();
                self.known.insert(key.key.clone(), KnownKey { fingerprint, recorded: None, last: next });
                Ok(None)
            }
            Some(known) if known.fingerprint != key.fingerprint => Err(KeyError::Reused),
            Some(KnownKey { recorded: None, .. }) => Err(KeyError::InProgress),
            Some(KnownKey { recorded: Some(recorded), .. }) => {
                Ok(Some(Recorded { is_repeated: true, ..*recorded }))
            }
        }
    }

    /// The request was recorded; `last` is its last record.
    pub(crate) fn done(&mut self, key: &Key, recorded: Recorded, last: u64) {
        let known = KnownKey { fingerprint: key.fingerprint.clone(), recorded: Some(recorded), last };
        self.known.insert(key.key.clone(), known);
        self.order.push_back((last, key.key.clone()));
        // While the disk takes nothing the numbers stand still, and the keys must not grow.
        while self.order.len() as u64 > self.window {
            self.forget_oldest();
        }
    }

    /// The request was not recorded: the key is free.
    pub(crate) fn abandon(&mut self, key: &Key) {
        if self.known.get(&key.key).is_some_and(|known| known.recorded.is_none()) {
            self.known.remove(&key.key);
        }
    }

    /// Keys of records before the window are free. Those of requests that end late may be known a little longer.
    fn forget(&mut self, next: u64) {
        while self.order.front().is_some_and(|(last, _)| next.saturating_sub(*last) > self.window) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((last, name)) = self.order.pop_front() else { return };
        // It may have been used again since.
        let is_of_it = |known: &KnownKey| known.recorded.is_some() && known.last == last;
        if self.known.get(&name).is_some_and(is_of_it) {
            self.known.remove(&name);
        }
    }
}

/// Why an idempotency key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is empty, too long, or has other bytes.
    #[error("the idempotency key must have 1 to {MAX_KEY} visible characters of ASCII")]
    Invalid,
    /// It was used for another body.
    #[error("the idempotency key was used for another body: give each request a key of its own")]
    Reused,
    /// The request that has it is still being recorded.
    #[error("a request with this idempotency key is being recorded: send it again in a second")]
    InProgress,
}

debug_as_text!(KeyError);

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations that a full disk leaves in memory have no numbers, and the next one stays the same.
    #[test]
    fn keys_are_bounded_while_the_numbers_stand_still() {
        let mut keys = Keys::new(10);
        let recorded = Recorded {
            sequence: None,
            count: 1,
            cursor: None,
            durability: Durability::Memory,
            is_repeated: false,
        };
        for nth in 0..1_000 {
            let key = Key::new(&format!("k{nth}"), b"body").unwrap();
            assert_eq!(keys.begin(&key, 7), Ok(None));
            keys.done(&key, recorded, 7);
            assert_eq!(keys.begin(&key, 7), Ok(Some(Recorded { is_repeated: true, ..recorded })));
            assert!(keys.known.len() <= 10 && keys.order.len() <= 10);
        }
        let forgotten = Key::new("k5", b"body").unwrap();
        assert_eq!(keys.begin(&forgotten, 7), Ok(None));
    }
}
