//! Where skip pointers lead. It follows from the height alone: a walk need not read the blocks.
//!
//! The scheme is that of E. W. Myers, "An applicative random-access stack" (Information Processing Letters
//! 17, 1983). Every height is a sum of numbers of the form 2ᵏ − 1, of which only the lowest may come twice; a
//! block's skip pointer leads down by the lowest. A walk that skips unless that leads too far, and else goes to the
//! parent, takes fewer than 3 log₂ n steps, and half as many on average.

use crate::Height;

/// A block's height above the base, as such a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skips {
    height: Height,
    /// The lowest bit stands for 1, the next for 3, and so on.
    terms: u64,
    /// Whether the lowest term occurs twice.
    twice: bool,
}

impl Skips {
    pub(super) fn at(height: Height) -> Self {
        let (mut rest, mut terms, mut twice) = (height, 0_u64, false);
        while rest > 0 {
            let bits = rest.checked_add(1).map_or(u64::BITS, u64::ilog2);
            twice = terms & bit(bits) != 0;
            terms |= bit(bits);
            rest -= u64::MAX >> (u64::BITS - bits);
        }
        Self { height, terms, twice }
    }

    pub(super) fn height(self) -> Height {
        self.height
    }

    /// Where the skip pointer leads; the lowest block's leads to itself.
    pub(super) fn skip(self) -> Self {
        let lowest = self.terms & self.terms.wrapping_neg();
        let terms = if self.twice { self.terms } else { self.terms ^ lowest };
        // The bit for 2ᵏ − 1 is 2ᵏ⁻¹.
        let height = self.height - lowest - lowest.saturating_sub(1);
        Self { height, terms, twice: false }
    }

    /// Where the pointer to the parent leads.
    pub(super) fn parent(self) -> Self {
        let lowest = self.terms & self.terms.wrapping_neg();
        if lowest <= 1 {
            return self.skip();
        }
        // 2ᵏ − 1 less one is twice 2ᵏ⁻¹ − 1.
        let terms = if self.twice { self.terms } else { self.terms ^ lowest };
        Self { height: self.height - 1, terms: terms | lowest >> 1, twice: true }
    }
}

fn bit(bits: u32) -> u64 {
    1 << (bits - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule of the paper: two consecutive skips of one length become one.
    #[test]
    fn skips_are_those_of_the_paper_on_every_walk() {
        let mut leads_to = vec![0];
        for height in 1..5_000_u64 {
            let below = leads_to[leads_to.len() - 1];
            let next = leads_to[usize::try_from(below).unwrap()];
            leads_to.push(if height - 1 - below == below - next { next } else { height - 1 });
            let skips = Skips::at(height);
            assert_eq!(skips.skip(), Skips::at(leads_to[leads_to.len() - 1]), "{height}");
            assert_eq!(skips.parent(), Skips::at(height - 1), "{height}");
        }
    }

    #[test]
    fn walks_are_short() {
        let mut random = fastrand::Rng::with_seed(12);
        for _ in 0..10_000 {
            let mut at = Skips::at(random.u64(0..1_000_000));
            let goal = random.u64(0..=at.height());
            let mut steps = 0;
            while at.height() > goal {
                let skip = at.skip();
                at = if skip.height() >= goal { skip } else { at.parent() };
                steps += 1;
            }
            assert!(steps < 60, "{steps} of 3 times 20");
        }
    }

    #[test]
    fn the_highest_block_skips_all_and_the_lowest_nothing() {
        assert_eq!(Skips::at(Height::MAX).skip(), Skips::at(0));
        assert_eq!(Skips::at(0).skip(), Skips::at(0));
        assert_eq!(Skips::at(Height::MAX).parent(), Skips::at(Height::MAX - 1));
    }
}
