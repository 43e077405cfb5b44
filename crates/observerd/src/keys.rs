//! Idempotency keys: a request that is sent again is answered again, and recorded once.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{Cursor, Durability, Record};

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
    recorded: Option<(u64, u64, Durability)>,
}

impl Keys {
    pub(crate) fn new(window: u64) -> Self {
        Self { window, known: HashMap::new(), order: VecDeque::new() }
    }

    /// Takes the key of a record that was read at the start. A restart has no other promise than that it is in the journal.
    pub(crate) fn restore(&mut self, tail: &str, record: &Record) {
        let Some((fingerprint, key)) = tail.split_once(':') else { return };
        let count = record.batch().map_or(1, |batch| batch.count);
        let key = Key { key: key.to_owned(), fingerprint: Fingerprint(fingerprint.to_owned()) };
        self.done(&key, record.number(), count, Durability::Buffered);
    }

    /// Begins a request: the answer of the earlier one if its key is known.
    pub(crate) fn begin(&mut self, key: &Key, identity: Cursor) -> Result<Option<Recorded>, KeyError> {
        match self.known.get(&key.key) {
            None => {
                let fingerprint = key.fingerprint.clone();
                self.known.insert(key.key.clone(), KnownKey { fingerprint, recorded: None });
                Ok(None)
            }
            Some(known) if known.fingerprint != key.fingerprint => Err(KeyError::Reused),
            Some(KnownKey { recorded: None, .. }) => Err(KeyError::InProgress),
            Some(KnownKey { recorded: Some((number, count, durability)), .. }) => Ok(Some(Recorded {
                sequence: Some(*number),
                count: *count,
                cursor: Some(identity.at(number + count)),
                durability: *durability,
                is_repeated: true,
            })),
        }
    }

    /// The request was recorded.
    pub(crate) fn done(&mut self, key: &Key, number: u64, count: u64, durability: Durability) {
        let known =
            KnownKey { fingerprint: key.fingerprint.clone(), recorded: Some((number, count, durability)) };
        self.known.insert(key.key.clone(), known);
        self.order.push_back((number, key.key.clone()));
        while let Some((oldest, name)) = self.order.front()
            && number.saturating_sub(*oldest) >= self.window
        {
            let is_of_it = |known: &KnownKey| known.recorded.is_some_and(|(number, ..)| number == *oldest);
            if self.known.get(name).is_some_and(is_of_it) {
                self.known.remove(name);
            }
            self.order.pop_front();
        }
    }

    /// The request was not recorded: the key is free.
    pub(crate) fn abandon(&mut self, key: &Key) {
        if self.known.get(&key.key).is_some_and(|known| known.recorded.is_none()) {
            self.known.remove(&key.key);
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
