//! The first items of a list, for serde: a run journal has each snapshot, and is to stay small.
//!
//! A list that has them is beside a number that says how many are left out.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many items are written.
pub(super) const FIRST: usize = 10;

/// How many items of a list of so many are not written.
pub(super) fn left_out(count: usize) -> u64 {
    count.saturating_sub(FIRST) as u64
}

pub(super) fn serialize<L, T, S>(list: &Arc<L>, serializer: S) -> Result<S::Ok, S::Error>
where
    L: Deref<Target = [T]>,
    T: Serialize,
    S: Serializer,
{
    serializer.collect_seq(list.iter().take(FIRST))
}

pub(super) fn deserialize<'de, L, T, D>(deserializer: D) -> Result<Arc<L>, D::Error>
where
    L: Deref<Target = [T]> + From<Vec<T>>,
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Vec::<T>::deserialize(deserializer).map(|list| Arc::new(list.into()))
}
