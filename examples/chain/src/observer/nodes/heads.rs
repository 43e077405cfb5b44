//! Which of the heads that an address returned is accepted as that of its node.

mod flaps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use crate::observer::ChainConfig;
use crate::{Graph, Header, OnBranch};
use flaps::Flaps;

/// The accepted head of a node, and what speaks against it.
///
/// An address may be served by several backends, some of them behind or on another branch. A head that is not heavier
/// than the accepted one and no descendant of it is therefore accepted only when it has been confirmed.
#[derive(Debug, Default)]
pub(super) struct Heads {
    accepted: Option<Header>,
    provisional: Option<Provisional>,
    doubt: Option<Doubt>,
    /// The last head that was left for another branch.
    left: Option<Header>,
    flaps: Flaps,
}

/// Consecutive answers that speak against the accepted head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    since: Instant,
    looks: u32,
    /// The last of them.
    head: Header,
    /// The one before, if it was another head, and how many there had been by then.
    earlier: Option<(Header, u32)>,
}

impl Doubt {
    /// With one more answer.
    fn with(doubt: Option<Self>, head: Header, now: Instant) -> Self {
        let Some(Self { since, looks, head: last, earlier }) = doubt else {
            return Self { since: now, looks: 1, head, earlier: None };
        };
        let earlier = if last == head { earlier } else { Some((last, looks)) };
        Self { since, looks: looks.saturating_add(1), head, earlier }
    }
}

/// The accepted head was higher than the one before, and its ancestors are unknown: it may be lighter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Provisional {
    before: Header,
    since: Instant,
    looks: u32,
    /// What spoke against the head before, or was accepted between the two: if it is not on the branch of both, the
    /// address returned from it.
    between: Option<(Header, u32)>,
}

/// How many such answers are enough, or for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) looks: u32,
    pub(super) time: Duration,
}

/// What a reported head changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::observer) struct HeadChange {
    /// The accepted head before, if another one was accepted.
    pub(in crate::observer) from: Option<Header>,
    /// The head between which and the accepted one the address flaps, if that has just become clear.
    pub(in crate::observer) flaps_to: Option<Header>,
}

/// A reported head beside the accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// The same, or a descendant.
    Above,
    /// On another branch, and heavier; or higher, if one of the two is not linked.
    Heavier,
    /// Neither.
    Lighter,
}

impl Patience {
    pub(super) fn of(config: &ChainConfig) -> Self {
        Self { looks: config.lighter_after, time: config.lighter_for }
    }

    /// Whether each head is accepted at once.
    fn is_none(self) -> bool {
        self.looks <= 1
    }
}

impl Heads {
    /// The last head that was accepted.
    pub(super) fn accepted(&self) -> Option<Header> {
        self.accepted
    }

    /// Whether the address flaps.
    pub(super) fn flaps(&self, now: Instant) -> bool {
        self.flaps.is_on(now)
    }

    /// Accepts a head at once.
    pub(super) fn accept(&mut self, head: Header) -> HeadChange {
        (self.provisional, self.doubt) = (None, None);
        HeadChange { from: self.accepted.replace(head), flaps_to: None }
    }

    /// Records a head that the address returned, and accepts it if nothing speaks for the one before.
    pub(super) fn report(
        &mut self,
        graph: Option<&Graph>,
        head: Header,
        patience: Patience,
        now: Instant,
    ) -> HeadChange {
        let Some(accepted) = self.accepted.filter(|_| !patience.is_none()) else { return self.accept(head) };
        match beside(graph, &accepted, &head) {
            Beside::Above => self.go_on(graph, head, now),
            // The one before is back: its height alone had spoken for the other one.
            _ if self.is_back(graph, &head) => self.go_on(graph, head, now),
            Beside::Heavier if !self.flaps.is_on(now) => self.switch(graph, accepted, head, now),
            Beside::Heavier | Beside::Lighter => self.doubt(accepted, head, patience, now),
        }
    }

    /// Weighs again what could not be weighed before, as far as it is linked now.
    pub(super) fn weigh(&mut self, graph: &Graph, patience: Patience, now: Instant) -> HeadChange {
        if let Some((provisional, accepted)) = self.provisional.zip(self.accepted)
            && graph.contains(&accepted.hash)
        {
            self.provisional = None;
            return self.settle(graph, provisional, accepted, patience, now);
        }
        let Some((accepted, doubt)) = self.accepted.zip(self.doubt) else { return HeadChange::default() };
        if !graph.contains(&doubt.head.hash) || !graph.contains(&accepted.hash) {
            return HeadChange::default();
        }
        match beside(Some(graph), &accepted, &doubt.head) {
            Beside::Above => self.go_on(Some(graph), doubt.head, now),
            Beside::Heavier if !self.flaps.is_on(now) => self.switch(Some(graph), accepted, doubt.head, now),
            Beside::Heavier | Beside::Lighter => HeadChange::default(),
        }
    }

    /// The ancestors of a head are known that was accepted by its height.
    fn settle(
        &mut self,
        graph: &Graph,
        Provisional { before, since, looks, between }: Provisional,
        accepted: Header,
        patience: Patience,
        now: Instant,
    ) -> HeadChange {
        let doubt = Doubt { since, looks, head: accepted, earlier: between };
        match beside(Some(graph), &before, &accepted) {
            Beside::Lighter if !self.is_confirmed(&doubt, patience, now) => {
                (self.accepted, self.doubt) = (Some(before), Some(doubt));
                HeadChange { from: Some(accepted), flaps_to: None }
            }
            Beside::Above => {
                let other = between.filter(|(other, _)| is_apart(Some(graph), other, &before, &accepted));
                let flaps_to = other.filter(|(_, looks)| self.flaps.returned(*looks, now));
                HeadChange { from: None, flaps_to: flaps_to.map(|(other, _)| other) }
            }
            Beside::Heavier | Beside::Lighter => {
                HeadChange { from: None, flaps_to: self.leave(Some(graph), before, accepted, now) }
            }
        }
    }

    /// Another branch than that of `left` is followed from now on. Returns `left` if the address is known to flap now.
    fn leave(&mut self, graph: Option<&Graph>, left: Header, head: Header, now: Instant) -> Option<Header> {
        let before = self.left.replace(left);
        let is_return = before.is_some_and(|before| is_above(graph, &before, &head));
        (is_return && self.flaps.returned(0, now)).then_some(left)
    }

    /// Forgets what speaks against the accepted head, and how the address flapped before.
    pub(super) fn clear(&mut self) {
        (self.provisional, self.doubt, self.left) = (None, None, None);
    }

    /// Forgets all.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether `head` is on the branch of the head before.
    fn is_back(&self, graph: Option<&Graph>, head: &Header) -> bool {
        self.provisional.is_some_and(|provisional| is_above(graph, &provisional.before, head))
    }

    /// `head` is on the branch of the accepted one, or of the one before.
    fn go_on(&mut self, graph: Option<&Graph>, head: Header, now: Instant) -> HeadChange {
        let is_return = self.left.take_if(|left| is_above(graph, left, &head)).is_some();
        let is_back = self.is_back(graph, &head);
        let accepted = self.accepted.replace(head);
        let is_elsewhere = accepted.is_some_and(|accepted| !is_above(graph, &accepted, &head));
        let from = accepted.filter(|from| *from != head);
        let provisional = self.provisional.take_if(|_| is_back);
        if let Some(provisional) = &mut self.provisional {
            provisional.looks = provisional.looks.saturating_add(1);
        }
        let doubted = self.doubt.take().and_then(|doubt| {
            let last = (doubt.head, doubt.looks);
            let base = accepted.unwrap_or(head);
            [Some(last), doubt.earlier]
                .into_iter()
                .flatten()
                .find(|(other, _)| is_apart(graph, other, &base, &head))
        });
        let returned_from = from.filter(|_| is_return || is_back && is_elsewhere);
        let looks = provisional.map_or(0, |provisional| provisional.looks);
        let other = doubted.or(returned_from.map(|from| (from, looks)));
        let flaps_to = other.filter(|(_, looks)| self.flaps.returned(*looks, now)).map(|(other, _)| other);
        HeadChange { from, flaps_to }
    }

    /// A heavier branch is followed at once.
    fn switch(&mut self, graph: Option<&Graph>, accepted: Header, head: Header, now: Instant) -> HeadChange {
        let is_linked = |header: &Header| graph.is_some_and(|graph| graph.contains(&header.hash));
        let between = self.doubt.map(|doubt| (doubt.head, doubt.looks));
        let new = Provisional { before: accepted, since: now, looks: 1, between };
        let provisional = self.provisional.map_or(new, |provisional| Provisional {
            looks: provisional.looks.saturating_add(1),
            between: Some((accepted, 1)),
            ..provisional
        });
        self.provisional =
            Some(provisional).filter(|provisional| is_linked(&provisional.before) && !is_linked(&head));
        (self.accepted, self.doubt) = (Some(head), None);
        let flaps_to = match self.provisional {
            Some(_) => None,
            None => self.leave(graph, accepted, head, now),
        };
        HeadChange { from: Some(accepted), flaps_to }
    }

    fn doubt(&mut self, accepted: Header, head: Header, patience: Patience, now: Instant) -> HeadChange {
        let doubt = Doubt::with(self.doubt, head, now);
        self.doubt = Some(doubt);
        if !self.is_confirmed(&doubt, patience, now) {
            return HeadChange::default();
        }
        self.left = Some(accepted);
        self.accept(head)
    }

    /// An address that flaps is doubted longer: it has returned from as many answers before.
    fn is_confirmed(&self, doubt: &Doubt, patience: Patience, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(doubt.since) >= patience.time;
        match self.flaps.longest(now) {
            Some(longest) => {
                let looks = patience.looks.saturating_mul(2).max(longest.saturating_mul(4));
                lasted && doubt.looks >= looks
            }
            None => lasted || doubt.looks >= patience.looks,
        }
    }
}

fn is_above(graph: Option<&Graph>, low: &Header, high: &Header) -> bool {
    beside(graph, low, high) == Beside::Above
}

/// Whether an address left its branch for `other`, between `before` and `head` of one branch: it is on another branch,
/// or below `before`.
fn is_apart(graph: Option<&Graph>, other: &Header, before: &Header, head: &Header) -> bool {
    let on_branch = graph.map(|graph| graph.is_on_branch(&other.hash, &head.hash));
    let is_below = other != before && is_above(graph, other, before);
    is_below || other != head && on_branch != Some(OnBranch::Yes)
}

fn beside(graph: Option<&Graph>, accepted: &Header, head: &Header) -> Beside {
    if head == accepted || head.parent == accepted.hash {
        return Beside::Above;
    }
    let weight = |header: &Header| graph.and_then(|graph| graph.total_work(&header.hash));
    let is_heavier = match weight(accepted).zip(weight(head)) {
        Some((accepted, head)) => head > accepted,
        None => head.height > accepted.height,
    };
    let on_branch = graph.map(|graph| graph.is_on_branch(&accepted.hash, &head.hash));
    match (on_branch, is_heavier) {
        (Some(OnBranch::Yes), _) => Beside::Above,
        (_, true) => Beside::Heavier,
        (_, false) => Beside::Lighter,
    }
}
