//! Logs of contracts, asked by block or by range.

mod range_size;
mod reader;

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use watchkeeper::report::debug_as_text;

use crate::{Hash, Height};

pub use range_size::{InvalidRangeSize, OneBlock, RangeSize};
pub use reader::{LogPiece, LogReader, LogWalk, LogsError};

/// A contract that recorded a log: 20 bytes, shown as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogAddress(pub [u8; 20]);

impl fmt::Display for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a contract recorded in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The block.
    pub block: Hash,
    /// The block's height.
    pub height: Height,
    /// The transaction that made it.
    pub transaction: Hash,
    /// Its position among the logs of the block, from 0; on some chains among those of its transaction.
    pub index: u64,
    /// The contract.
    pub address: LogAddress,
    /// Up to four words by which it can be found.
    pub topics: Vec<Hash>,
    /// The rest of its content.
    pub data: Vec<u8>,
}

/// Which logs are asked for. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// The contracts, any of them; all if empty.
    pub addresses: Vec<LogAddress>,
    /// The topics 0 to 3: any of the words at each; a log without a topic there matches only if no word is given.
    pub topics: [Vec<Hash>; 4],
}

impl LogFilter {
    /// Whether a log is asked for.
    #[must_use]
    pub fn matches(&self, log: &Log) -> bool {
        let is_any = |words: &Vec<Hash>, nth| {
            words.is_empty() || log.topics.get(nth).is_some_and(|topic| words.contains(topic))
        };
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.iter().zip(0..).all(|(words, nth)| is_any(words, nth))
    }

    /// Checks that these logs can be the answer of a node to this filter for this scope: they match, are in the scope and
    /// in order, each is there once, and they are of one branch. Logs that are left out are not noticed.
    ///
    /// # Errors
    ///
    /// [`WrongLogs`]: they cannot.
    pub fn check(&self, scope: &LogScope, logs: &[Log]) -> Result<(), WrongLogs> {
        check(self, scope, logs).map_err(|reason| WrongLogs { reason })
    }
}

/// The blocks whose logs are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogScope {
    /// One block, on any branch: for new blocks, which a reorg may replace while they are asked.
    Block(Hash),
    /// The node's own branch at these heights; none if the first is above the last.
    Range(RangeInclusive<Height>),
}

impl LogScope {
    /// How many blocks these are.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        match self {
            Self::Block(_) => 1,
            Self::Range(range) => width(range),
        }
    }

    fn contains(&self, log: &Log) -> bool {
        match self {
            Self::Block(hash) => log.block == *hash,
            Self::Range(range) => range.contains(&log.height),
        }
    }
}

impl fmt::Display for LogScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(hash) => write!(f, "block {hash:.8}"),
            Self::Range(range) if range.start() == range.end() => write!(f, "block {}", range.start()),
            Self::Range(range) => write!(f, "blocks {} to {}", range.start(), range.end()),
        }
    }
}

/// How many heights a range has.
fn width(range: &RangeInclusive<Height>) -> u64 {
    if range.is_empty() { 0 } else { (range.end() - range.start()).saturating_add(1) }
}

/// An answer that cannot be true: its text says which log contradicts the question, itself or another one.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct WrongLogs {
    reason: String,
}

debug_as_text!(WrongLogs);

/// Why these logs cannot be the answer to this question; `Ok` if they can.
fn check(filter: &LogFilter, scope: &LogScope, logs: &[Log]) -> Result<(), String> {
    for log in logs {
        let named = || format!("log {} of block {:.8} at height {}", log.index, log.block, log.height);
        if !scope.contains(log) {
            return Err(format!("{} was given for {scope}", named()));
        }
        if log.topics.len() > 4 {
            return Err(format!("{} has {} topics, and a log has at most 4", named(), log.topics.len()));
        }
        if !filter.matches(log) {
            return Err(format!("{} has an address or a topic that was not asked for", named()));
        }
    }
    let named = |log: &Log| format!("log {} at height {}", log.index, log.height);
    let mut known = HashSet::with_capacity(logs.len());
    if let Some(twice) = logs.iter().find(|log| !known.insert((log.height, log.transaction, log.index))) {
        return Err(format!("{} is there twice", named(twice)));
    }
    for pair in logs.windows(2) {
        let [one, next] = pair else { continue };
        // Some chains count the logs of each transaction.
        let is_behind = one.transaction == next.transaction && one.index > next.index;
        if one.height > next.height || one.height == next.height && is_behind {
            return Err(format!("{} is behind {}", named(one), named(next)));
        }
        if (one.height == next.height) != (one.block == next.block) {
            let (one, next) = (format!("{:.8}", one.block), format!("{:.8}", next.block));
            return Err(format!("blocks {one} and {next} fit no one branch"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn word(byte: u8) -> Hash {
        Hash([byte; 32])
    }

    pub(crate) fn log(height: u8, index: u64, address: u8, topics: &[u8]) -> Log {
        Log {
            block: word(height),
            height: height.into(),
            transaction: word(0xaa),
            index,
            address: LogAddress([address; 20]),
            topics: topics.iter().map(|topic| word(*topic)).collect(),
            data: vec![1, 2],
        }
    }

    #[test]
    fn a_filter_matches_any_of_its_addresses_and_any_of_the_words_at_each_topic() {
        let words = |words: &[u8]| words.iter().map(|byte| word(*byte)).collect::<Vec<_>>();
        let filter = |addresses: &[u8], topics: [&[u8]; 4]| LogFilter {
            addresses: addresses.iter().map(|byte| LogAddress([*byte; 20])).collect(),
            topics: topics.map(words),
        };
        let one = log(1, 0, 7, &[1, 2]);
        for (filter, matches) in [
            (LogFilter::default(), true),
            (filter(&[7], [&[], &[], &[], &[]]), true),
            (filter(&[8, 7], [&[], &[], &[], &[]]), true),
            (filter(&[8], [&[], &[], &[], &[]]), false),
            (filter(&[], [&[1], &[], &[], &[]]), true),
            (filter(&[], [&[2], &[], &[], &[]]), false),
            (filter(&[], [&[3, 1], &[2], &[], &[]]), true),
            (filter(&[], [&[], &[2, 9], &[], &[]]), true),
            (filter(&[], [&[], &[1], &[], &[]]), false),
            // The log has no topic 2.
            (filter(&[], [&[], &[], &[2], &[]]), false),
            (filter(&[8], [&[1], &[], &[], &[]]), false),
        ] {
            assert_eq!(filter.matches(&one), matches, "{filter:?}");
        }
        let bare = log(1, 0, 7, &[]);
        assert!(LogFilter::default().matches(&bare));
        assert!(!filter(&[], [&[1], &[], &[], &[]]).matches(&bare));
    }

    #[test]
    fn an_answer_that_does_not_fit_its_question_is_noticed() {
        let range = LogScope::Range(3..=5);
        let asked = LogFilter { topics: [vec![word(1)], vec![], vec![], vec![]], ..LogFilter::default() };
        let elsewhere = Log { block: word(9), ..log(3, 1, 7, &[1]) };
        for (logs, scope, says) in [
            (
                vec![log(2, 0, 7, &[1])],
                &range,
                "log 0 of block 02020202 at height 2 was given for blocks 3 to 5",
            ),
            (vec![log(6, 0, 7, &[1])], &range, "was given for blocks 3 to 5"),
            (vec![log(3, 0, 7, &[1])], &LogScope::Block(word(4)), "was given for block 04040404"),
            (vec![log(3, 0, 7, &[2])], &range, "has an address or a topic that was not asked for"),
            (vec![log(3, 0, 7, &[1, 2, 3, 4, 5])], &range, "has 5 topics, and a log has at most 4"),
            (vec![log(3, 0, 7, &[1]), log(3, 0, 7, &[1])], &range, "log 0 at height 3 is there twice"),
            (
                vec![log(3, 1, 7, &[1]), log(3, 0, 7, &[1])],
                &range,
                "log 1 at height 3 is behind log 0 at height 3",
            ),
            (
                vec![log(4, 0, 7, &[1]), log(3, 1, 7, &[1])],
                &range,
                "log 0 at height 4 is behind log 1 at height 3",
            ),
            (vec![log(3, 0, 7, &[1]), elsewhere], &range, "blocks 03030303 and 09090909 fit no one branch"),
        ] {
            let error = asked.check(scope, &logs).unwrap_err().to_string();
            assert!(error.ends_with(says), "{error}");
        }
        let logs = [log(3, 0, 7, &[1]), log(3, 4, 8, &[1, 1, 1, 1]), log(5, 0, 7, &[1])];
        assert_eq!(asked.check(&range, &logs), Ok(()));
        assert_eq!(asked.check(&LogScope::Block(word(3)), &logs[..2]), Ok(()));
    }

    #[test]
    fn a_scope_has_its_blocks() {
        #[expect(clippy::reversed_empty_ranges, reason = "the case")]
        for (scope, blocks) in [
            (LogScope::Block(word(1)), 1),
            (LogScope::Range(3..=3), 1),
            (LogScope::Range(0..=9), 10),
            (LogScope::Range(4..=3), 0),
            (LogScope::Range(0..=u64::MAX), u64::MAX),
        ] {
            assert_eq!(scope.blocks(), blocks, "{scope}");
        }
    }
}
