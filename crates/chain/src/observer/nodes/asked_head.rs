//! When the accepted head was asked for.

use tokio::time::Instant;

use crate::Header;

/// When the probes began that returned the last head and the accepted one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AskedHead {
    reported: Option<(Header, Option<Instant>)>,
    accepted: Option<(Header, Option<Instant>)>,
}

impl AskedHead {
    /// The node reported a head, by an answer to a probe that began at `asked`.
    pub(super) fn reported(&mut self, head: Header, asked: Option<Instant>) {
        self.reported = Some((head, asked));
    }

    /// This head is the accepted one now.
    pub(super) fn accepted(&mut self, head: Option<Header>) {
        let is_same = |known: &(Header, Option<Instant>)| head == Some(known.0);
        // One that was accepted before, and is again, was reported too long ago to count.
        self.accepted =
            self.reported.filter(is_same).or(self.accepted.filter(is_same)).or(head.map(|head| (head, None)));
    }

    /// When the accepted head was asked for last.
    pub(super) fn at(&self) -> Option<Instant> {
        self.accepted?.1
    }
}
