//! How far a stage has committed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use watchkeeper::report::debug_as_text;
use watchkeeper::subscription::{Cursor, PositionError};

/// How far one upstream is committed.
///
/// # The text
///
/// `Display` and `FromStr` write and read it: a [`Cursor`], a `+` and the number of committed items of the next batch;
/// or the number of committed items alone. Two positions are equal exactly if their texts are.
///
/// ```
/// use watchkeeper_pipeline::UpstreamPosition;
///
/// for text in ["0f8e1a2b3c4d5e6f708192a3b4c5d6e7.3.1729+2", "41"] {
///     let position: UpstreamPosition = text.parse()?;
///     assert_eq!(position.to_string(), text);
/// }
/// assert!("41+".parse::<UpstreamPosition>().is_err());
/// # Ok::<(), watchkeeper_pipeline::UpstreamPositionError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamPosition {
    /// Of an observation, a stage or a log.
    Batch {
        /// The position before the next batch.
        cursor: Cursor,
        /// How many items of the next batch are committed.
        done: u64,
    },
    /// Of a stream: how many of its items are committed.
    Count(u64),
}

impl UpstreamPosition {
    /// The position `items` after this one, in the same batch.
    pub(crate) fn after(self, items: u64) -> Self {
        match self {
            Self::Batch { cursor, done } => Self::Batch { cursor, done: done + items },
            Self::Count(count) => Self::Count(count + items),
        }
    }

    /// The position of an item of a piece that begins here. In a log each item has a number of its own.
    pub(crate) fn of_item(self, index: u64, is_numbered: bool) -> Self {
        match self {
            Self::Batch { cursor, .. } if is_numbered => {
                Self::Batch { cursor: cursor.at(cursor.seq() + index), done: 0 }
            }
            start => start.after(index),
        }
    }

    /// The number of batches before it of an observation or a stage, or of items of a log or a stream.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Batch { cursor, .. } => cursor.seq(),
            Self::Count(count) => count,
        }
    }
}

impl fmt::Display for UpstreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { cursor, done } => write!(f, "{cursor}+{done}"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// Its text.
impl fmt::Debug for UpstreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`UpstreamPosition`]. It shows nothing of the text.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamPositionError {
    /// The number of items is missing, or is no decimal number up to `u64::MAX` without sign and leading zeros.
    #[error(
        "not a position: {part} is not a decimal number without leading zeros; write it as `Display` does: CURSOR+DONE, \
         or COUNT"
    )]
    Number {
        /// What is wrong: `the number of items`, or `the number of items after the +`.
        part: &'static str,
    },
    /// The cursor is wrong.
    #[error("not a position: {0}")]
    Cursor(PositionError),
}

debug_as_text!(UpstreamPositionError);

fn number(text: &str, part: &'static str) -> Result<u64, UpstreamPositionError> {
    let number = text.parse().map_err(|_| UpstreamPositionError::Number { part })?;
    if u64::to_string(&number) == text { Ok(number) } else { Err(UpstreamPositionError::Number { part }) }
}

impl FromStr for UpstreamPosition {
    type Err = UpstreamPositionError;

    fn from_str(text: &str) -> Result<Self, UpstreamPositionError> {
        match text.split_once('+') {
            Some((cursor, done)) => Ok(Self::Batch {
                cursor: cursor.parse().map_err(UpstreamPositionError::Cursor)?,
                done: number(done, "the number of items after the +")?,
            }),
            None => Ok(Self::Count(number(text, "the number of items")?)),
        }
    }
}

impl Serialize for UpstreamPosition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UpstreamPosition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// How far each upstream of a stage is committed, by the upstream's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagePosition {
    /// Sorted by name.
    upstreams: Vec<(Arc<str>, UpstreamPosition)>,
}

impl StagePosition {
    /// The position of the upstream `name`; `None` before its first commit.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<UpstreamPosition> {
        let place = self.upstreams.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.upstreams[place].1)
    }

    /// All upstreams, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, UpstreamPosition)> {
        self.upstreams.iter().map(|(name, position)| (&**name, *position))
    }

    pub(crate) fn set(&mut self, name: &Arc<str>, position: UpstreamPosition) {
        match self.upstreams.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(place) => self.upstreams[place].1 = position,
            Err(place) => self.upstreams.insert(place, (Arc::clone(name), position)),
        }
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, UpstreamPosition)> for StagePosition {
    fn from_iter<I: IntoIterator<Item = (N, UpstreamPosition)>>(upstreams: I) -> Self {
        let mut position = Self::default();
        for (name, at) in upstreams {
            position.set(&name.into(), at);
        }
        position
    }
}
