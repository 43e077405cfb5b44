//! Ids that are the same after a restart.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The first 16 hexadecimal digits of the SHA-256 of texts, each after its length in 8 bytes, the lowest first.
pub(super) fn id_of(texts: &[&str]) -> String {
    let mut sum = Sha256::new();
    for text in texts {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text);
    }
    sum.finalize().iter().take(8).fold(String::with_capacity(16), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}
