//! What every chain has: blocks that name their parents.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use watchkeeper::report::one_line;

use watchkeeper::report::debug_as_text;

/// How many ancestors a block has.
pub type Height = u64;

/// What a block adds to the weight of its branch: its difficulty if blocks are mined, else 1. The weight of a branch is
/// the sum of its blocks.
pub type Work = u128;

/// The identity of a block or of a transaction: 32 bytes, shown as hexadecimal digits in the order they are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// What links a block into the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its identity.
    pub hash: Hash,
    /// The block before it; a genesis block names none that exists.
    pub parent: Hash,
    /// Its height: its parent's height plus 1.
    pub height: Height,
    /// Its weight, without that of its ancestors.
    pub work: Work,
    /// The time that it claims: seconds since 1970.
    pub time: u64,
}

/// A block with its transactions, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<T> {
    /// What links it into the graph.
    pub header: Header,
    /// Its transactions; none below [`Detail::Transactions`].
    pub transactions: Vec<T>,
    /// How much of the block was read.
    pub detail: Detail,
}

/// How much of a block is read, or was read; each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Detail {
    /// The header alone: which transactions the block has is unknown.
    Header,
    /// The transactions, without what became of them.
    Transactions,
    /// The transactions with their results, such as fees and failures.
    Results,
}

impl<T> Block<T> {
    /// A block that was read in full.
    #[must_use]
    pub fn new(header: Header, transactions: Vec<T>) -> Self {
        Self { header, transactions, detail: Detail::Results }
    }

    /// A block of which only the header is known.
    #[must_use]
    pub fn unread(header: Header) -> Self {
        Self { header, transactions: Vec::new(), detail: Detail::Header }
    }
}

/// A transaction of any chain.
pub trait Transaction: Clone + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Its identity; the same on every branch.
    fn id(&self) -> Hash;

    /// What it has in common with any replacement, so that one branch includes at most one of them: sender and nonce,
    /// or the outputs that it spends. Empty if nobody signed it: nothing can replace it.
    fn conflicts(&self) -> Vec<Vec<u8>>;
}

/// A text that is not 32 bytes of hex.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is no hash: give 64 hexadecimal digits, with or without 0x", one_line(text, 100))]
pub struct ParseHashError {
    text: String,
}

debug_as_text!(ParseHashError);

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseHashError { text: text.to_owned() };
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit =
                |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            *byte = digit(high).ok_or_else(wrong)? << 4 | digit(low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// All digits; with `{:.8}` only the first eight, for people.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = f.precision().map_or(32, |digits| digits.div_ceil(2)).min(32);
        self.0[..bytes].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.8}")
    }
}

/// As a text of 64 digits.
impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = Hash(std::array::from_fn(|nth| u8::try_from(nth * 8).unwrap()));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(format!("0x{hash}").parse(), Ok(hash));
        assert_eq!(format!("{hash:.8}"), "00081018");
        for wrong in ["", "0x", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }
}
