//! The first items of a list, for serde: a run journal has each snapshot, and is to stay small.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many items are written.
pub(super) const FIRST: usize = 10;

pub(super) fn serialize<T: Serialize, S: Serializer>(
    list: &Arc<Vec<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().take(FIRST))
}

pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<Vec<T>>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::new)
}
