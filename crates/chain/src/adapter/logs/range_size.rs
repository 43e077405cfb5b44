//! How many blocks are asked at once.

use watchkeeper::report::debug_as_text;

/// After so many full pieces the size is tried doubled. It doubles itself each time that this fails, up to
/// [`MOST_PATIENCE`], and is back to this when it succeeds.
const PATIENCE: u32 = 4;
/// So a node whose limit does not move refuses at most one question of 65.
const MOST_PATIENCE: u32 = 64;

/// How many blocks are asked at once: a pure rule, without I/O and time.
///
/// A refusal halves the size, or sets it to what the node says it answers if that is less than what was asked. After
/// some full pieces the size doubles. It is at least one block; a refusal of one block is [`OneBlock`].
///
/// # Examples
///
/// ```
/// use watchkeeper_chain::adapter::{OneBlock, RangeSize};
///
/// let mut size = RangeSize::new(1_000, 10_000)?;
/// assert_eq!(size.blocks(), 1_000);
/// size.refused(1_000, None)?;
/// assert_eq!(size.blocks(), 500);
/// // "limited to a 100 range"
/// size.refused(500, Some(100))?;
/// assert_eq!(size.blocks(), 100);
/// assert_eq!(size.refused(1, None), Err(OneBlock));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSize {
    size: u64,
    most: u64,
    /// Full pieces of this size since it changed last.
    answered: u32,
    /// How many of them it takes until the size is tried doubled.
    patience: u32,
    /// The size grew last, and no full piece has shown yet that this is not too much.
    is_trial: bool,
}

/// A single block was refused for its size: there is nothing smaller to ask.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a range of one block cannot be halved: ask another node, or with a narrower filter")]
pub struct OneBlock;

/// A size that is no size.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a range of {first} blocks, at most {most}, is no size: give at least 1, and no more than the most")]
pub struct InvalidRangeSize {
    first: u64,
    most: u64,
}

debug_as_text!(OneBlock, InvalidRangeSize);

impl RangeSize {
    /// Begins with `first` blocks at once, and never asks for more than `most`.
    ///
    /// # Errors
    ///
    /// [`InvalidRangeSize`] if `first` is 0 or more than `most`.
    pub fn new(first: u64, most: u64) -> Result<Self, InvalidRangeSize> {
        if first == 0 || first > most {
            return Err(InvalidRangeSize { first, most });
        }
        Ok(Self { size: first, most, answered: 0, patience: PATIENCE, is_trial: false })
    }

    /// How many blocks to ask now; at least 1.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.size
    }

    /// A question for so many blocks was answered. Fewer than [`blocks`](Self::blocks) say nothing about the size.
    pub fn answered(&mut self, blocks: u64) {
        if blocks < self.size {
            return;
        }
        if self.is_trial {
            (self.is_trial, self.patience) = (false, PATIENCE);
        }
        self.answered += 1;
        if self.answered >= self.patience && self.size < self.most {
            self.size = self.size.saturating_mul(2).min(self.most);
            (self.answered, self.is_trial) = (0, true);
        }
    }

    /// A question for so many blocks was refused for its size. `at_most` is how many the node says it answers.
    ///
    /// Several refusals of one size, as of pieces in flight together, count once.
    ///
    /// # Errors
    ///
    /// [`OneBlock`] if it was a single one.
    pub fn refused(&mut self, blocks: u64, at_most: Option<u64>) -> Result<(), OneBlock> {
        if blocks <= 1 {
            return Err(OneBlock);
        }
        // A node may state what it does not keep to.
        let target = at_most.filter(|at_most| (1..blocks).contains(at_most)).unwrap_or(blocks / 2);
        if target < self.size {
            if self.is_trial {
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
            }
            (self.size, self.answered, self.is_trial) = (target, 0, false);
        }
        Ok(())
    }
}

/// 1,000 blocks, and at most 10,000.
impl Default for RangeSize {
    fn default() -> Self {
        Self { size: 1_000, most: 10_000, answered: 0, patience: PATIENCE, is_trial: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks this often, of a node that answers so many blocks; the refused questions.
    fn asked(size: &mut RangeSize, questions: u32, limit: u64) -> u32 {
        let mut refused = 0;
        for _ in 0..questions {
            let blocks = size.blocks();
            if blocks <= limit {
                size.answered(blocks);
            } else {
                size.refused(blocks, None).unwrap();
                refused += 1;
            }
        }
        refused
    }

    #[test]
    fn a_refusal_halves_down_to_one_block_which_cannot_be_refused() {
        let mut size = RangeSize::new(10, 100).unwrap();
        for blocks in [5, 2, 1] {
            size.refused(size.blocks(), None).unwrap();
            assert_eq!(size.blocks(), blocks);
        }
        assert_eq!(size.refused(1, None), Err(OneBlock));
        assert_eq!(size.blocks(), 1);
    }

    #[test]
    fn what_the_node_says_counts_if_it_is_less_than_what_was_asked() {
        for (says, blocks) in [
            (Some(300), 300),
            (Some(1), 1),
            (Some(999), 999),
            // One node states 10,000 and answers 101; another repeats the range that it refused.
            (Some(1_000), 500),
            (Some(10_000), 500),
            (Some(0), 500),
            (None, 500),
        ] {
            let mut size = RangeSize::default();
            size.refused(1_000, says).unwrap();
            assert_eq!(size.blocks(), blocks, "{says:?}");
        }
    }

    #[test]
    fn refusals_of_pieces_in_flight_together_count_once() {
        let mut size = RangeSize::default();
        for _ in 0..4 {
            size.refused(1_000, None).unwrap();
        }
        assert_eq!(size.blocks(), 500);
        size.answered(500);
        size.refused(1_000, None).unwrap();
        assert_eq!(size.blocks(), 500);
    }

    #[test]
    fn it_grows_after_some_full_pieces_up_to_the_most() {
        let mut size = RangeSize::new(100, 500).unwrap();
        let mut sizes = Vec::new();
        for _ in 0..20 {
            sizes.push(size.blocks());
            // A piece at the end of a range says nothing.
            size.answered(size.blocks() - 1);
            size.answered(size.blocks());
        }
        sizes.dedup();
        assert_eq!(sizes, [100, 200, 400, 500]);
    }

    #[test]
    fn a_limit_that_does_not_move_is_tried_ever_less_often() {
        let mut size = RangeSize::default();
        assert_eq!(asked(&mut size, 7, 100), 4);
        assert_eq!(size.blocks(), 62);
        // 4, 8, 16, 32, and then 64 full pieces between two trials.
        let refused = asked(&mut size, 1_000, 100);
        assert!((10..=20).contains(&refused), "{refused}");
    }

    #[test]
    fn a_limit_that_is_lifted_is_noticed() {
        let mut size = RangeSize::default();
        asked(&mut size, 1_000, 1);
        assert_eq!(size.blocks(), 1);
        assert_eq!(asked(&mut size, 150, u64::MAX), 0);
        assert_eq!(size.blocks(), 10_000);
    }

    #[test]
    fn no_size_is_refused() {
        for (first, most) in [(0, 10), (11, 10), (0, 0)] {
            let error = RangeSize::new(first, most).unwrap_err();
            assert!(error.to_string().contains("give at least 1"), "{error}");
        }
        assert!(RangeSize::new(u64::MAX, u64::MAX).is_ok());
    }
}
