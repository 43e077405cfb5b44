//! Converts Bitcoin's types to those of the chain observer.

use bitcoin::block;
use bitcoin::hashes::Hash as _;
use bitcoin::pow::{CompactTarget, Target};
use watchkeeper_chain::{Hash, Header, Height, Work};

/// The hash as it is displayed: Bitcoin stores its bytes in reverse order.
pub(crate) fn shown(mut stored: [u8; 32]) -> Hash {
    stored.reverse();
    Hash(stored)
}

/// The bytes as Bitcoin stores them.
pub(crate) fn stored(shown: Hash) -> [u8; 32] {
    let mut bytes = shown.0;
    bytes.reverse();
    bytes
}

/// How many hashes it takes on average to make a block with these bits.
pub(crate) fn work(bits: CompactTarget) -> Work {
    let work = Target::from_compact(bits).to_work().to_be_bytes();
    let (high, low) = work.split_at(16);
    // No real chain has so much work; only a forged header claims it.
    if high.iter().any(|byte| *byte != 0) {
        return Work::MAX;
    }
    low.iter().fold(0, |work, byte| work << 8 | Work::from(*byte))
}

pub(crate) fn header(header: &block::Header, height: Height) -> Header {
    Header {
        hash: shown(header.block_hash().to_byte_array()),
        parent: shown(header.prev_blockhash.to_byte_array()),
        height,
        work: work(header.bits),
        time: u64::from(header.time),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    use super::*;

    #[test]
    fn a_header_has_its_displayed_hash_and_its_work() {
        let genesis = header(&genesis_block(Network::Bitcoin).header, 0);
        assert_eq!(
            genesis.hash.to_string(),
            "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
        );
        assert_eq!(genesis.parent, Hash([0; 32]));
        assert_eq!((genesis.work, genesis.time), (0x1_0001_0001, 1_231_006_505));
        assert_eq!(shown(stored(genesis.hash)), genesis.hash);
    }

    #[test]
    fn harder_bits_are_more_work() {
        let work = |bits| work(CompactTarget::from_consensus(bits));
        assert_eq!(work(0x207f_ffff), 2);
        assert_eq!(work(0x203f_ffff), 4);
        assert_eq!(work(0x0100_0001), Work::MAX);
    }
}
