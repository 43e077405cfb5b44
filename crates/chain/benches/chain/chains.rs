//! The chains that are measured, and the plain way to keep one.

use std::collections::HashMap;

use watchkeeper_chain::{Hash, Header, Height};

pub(crate) const HEADERS: u64 = 1_000_000;
pub(crate) const RIVAL_EVERY: u64 = 20;

pub(crate) type Plain = HashMap<Hash, Header>;

/// One branch; every 20th header forks from it and has no child.
pub(crate) fn one_branch() -> impl Iterator<Item = Header> {
    let (mut parent, mut height) = (hash(u64::MAX), 0);
    (0..HEADERS).map(move |nth| {
        let header = Header { hash: hash(nth), parent, height, work: 1, time: nth };
        if nth % RIVAL_EVERY != 0 || nth == 0 {
            (parent, height) = (header.hash, height + 1);
        }
        header
    })
}

/// Two branches of the same weight that fork at the first block, inserted in turn: headers with odd numbers are on one,
/// those with even numbers on the other, which is never the heaviest.
pub(crate) fn two_branches() -> impl Iterator<Item = Header> {
    (0..HEADERS).map(|nth| {
        let parent = if nth == 0 { hash(u64::MAX) } else { hash(nth.saturating_sub(2)) };
        Header { hash: hash(nth), parent, height: nth.div_ceil(2), work: 1, time: nth }
    })
}

/// Uniformly distributed, as hashes are.
pub(crate) fn hash(nth: u64) -> Hash {
    let mut random = fastrand::Rng::with_seed(nth);
    let words: [u64; 4] = std::array::from_fn(|_| random.u64(..));
    Hash(std::array::from_fn(|byte| words[byte / 8].to_le_bytes()[byte % 8]))
}

pub(crate) fn walk(plain: &Plain, tip: Hash, height: Height) -> Header {
    let mut block = plain[&tip];
    while block.height > height {
        block = plain[&block.parent];
    }
    block
}

pub(crate) fn meet(plain: &Plain, one: Hash, other: Hash) -> Header {
    let (mut one, mut other) = (plain[&one], plain[&other]);
    while one.hash != other.hash {
        if one.height >= other.height {
            one = plain[&one.parent];
        } else {
            other = plain[&other.parent];
        }
    }
    one
}
