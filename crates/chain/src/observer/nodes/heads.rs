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

/// Answers that speak against the accepted head, without one between that speaks for it and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    since: Instant,
    answers: u32,
    /// How many answers between them were on the accepted head's branch: see [`Heads::outvote`].
    outvoted: u32,
    /// The last of them.
    head: Header,
    /// The one before, if it was another head, and how many there had been by then.
    earlier: Option<(Header, u32)>,
}

impl Doubt {
    /// With one more answer.
    fn with(doubt: Option<Self>, head: Header, now: Instant) -> Self {
        let Some(Self { since, answers, outvoted, head: last, earlier }) = doubt else {
            return Self { since: now, answers: 1, outvoted: 0, head, earlier: None };
        };
        let earlier = if last == head { earlier } else { Some((last, answers)) };
        Self { since, answers: answers.saturating_add(1), outvoted, head, earlier }
    }
}

/// The accepted head was higher than the one before, and its ancestors are unknown: it may be lighter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Provisional {
    before: Header,
    since: Instant,
    answers: u32,
    /// What spoke against the head before, or was accepted between the two: if it is not on the branch of both, the
    /// address returned from it.
    between: Option<(Header, u32)>,
}

/// How many such answers are enough, or for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) answers: u32,
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
        Self { answers: config.lighter_after, time: config.lighter_for }
    }

    /// Whether each head is accepted at once.
    fn is_none(self) -> bool {
        self.answers <= 1
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
        if let Some(change) = self.outvote(graph, accepted, head, now) {
            return change;
        }
        match beside(graph, &accepted, &head) {
            Beside::Above => self.go_on(graph, head, now),
            // The one before is back: its height alone had spoken for the other one.
            _ if self.is_back(graph, &head) => self.go_on(graph, head, now),
            Beside::Heavier if !self.flaps.is_on(now) => self.switch(graph, accepted, head, now),
            Beside::Heavier | Beside::Lighter => self.doubt(graph, accepted, head, patience, now),
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
        if self.is_back(Some(graph), &doubt.head) {
            return self.go_on(Some(graph), doubt.head, now);
        }
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
        Provisional { before, since, answers, between }: Provisional,
        accepted: Header,
        patience: Patience,
        now: Instant,
    ) -> HeadChange {
        let doubt = Doubt { since, answers, outvoted: 0, head: accepted, earlier: between };
        match beside(Some(graph), &before, &accepted) {
            Beside::Lighter if !self.is_confirmed(&doubt, patience, now) => {
                (self.accepted, self.doubt) = (Some(before), Some(doubt));
                HeadChange { from: Some(accepted), flaps_to: None }
            }
            Beside::Above => {
                let other = between.filter(|(other, _)| is_apart(Some(graph), other, &before, &accepted));
                let flaps_to = other.filter(|(_, answers)| self.flaps.returned(*answers, now));
                HeadChange { from: None, flaps_to: flaps_to.map(|(other, _)| other) }
            }
            Beside::Heavier | Beside::Lighter => {
                HeadChange { from: None, flaps_to: self.leave(Some(graph), before, accepted, now) }
            }
        }
    }

    /// Another branch than that of `left` is followed from now on. Returns `left` if the address is known to flap now.
    fn leave(&mut self, graph: Option<&Graph>, left: Header, head: Header, now: Instant) -> Option<Header> {
        let is_return = self.left.take_if(|before| is_above(graph, before, &head)).is_some();
        self.note_left(graph, left, &head);
        (is_return && self.flaps.returned(0, now)).then_some(left)
    }

    /// What is not linked may be an ancestor of the new head: it was not left.
    fn note_left(&mut self, graph: Option<&Graph>, left: Header, head: &Header) {
        let on_branch = graph.map(|graph| graph.is_on_branch(&left.hash, &head.hash));
        if on_branch == Some(OnBranch::No) {
            self.left = Some(left);
        }
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
        let returned_from = self.returned_from(graph, &head);
        self.left.take_if(|left| is_above(graph, left, &head));
        if self.is_back(graph, &head) {
            self.provisional = None;
        } else if let Some(provisional) = &mut self.provisional {
            provisional.answers = provisional.answers.saturating_add(1);
        }
        self.doubt = None;
        let from = self.accepted.replace(head).filter(|from| *from != head);
        let flaps_to = returned_from.filter(|(_, answers)| self.flaps.returned(*answers, now));
        HeadChange { from, flaps_to: flaps_to.map(|(other, _)| other) }
    }

    /// Which head the address returns from with `head`, and after how many answers; `None` if it does not return.
    fn returned_from(&self, graph: Option<&Graph>, head: &Header) -> Option<(Header, u32)> {
        let accepted = self.accepted?;
        let doubted = self.doubt.and_then(|doubt| {
            let heads = [Some((doubt.head, doubt.answers)), doubt.earlier];
            heads.into_iter().flatten().find(|(other, _)| is_apart(graph, other, &accepted, head))
        });
        let provisional = self.provisional.filter(|_| self.is_back(graph, head));
        let is_elsewhere = !is_above(graph, &accepted, head);
        let was_left = || self.left.is_some_and(|left| is_above(graph, &left, head));
        let is_return = provisional.is_some() && is_elsewhere || accepted != *head && was_left();
        let answers = provisional.map_or(0, |provisional| provisional.answers);
        doubted.or(is_return.then_some((accepted, answers)))
    }

    /// While the address flaps, an answer on the branch of the accepted head does not end the doubt if another branch
    /// is heavier and three times as many answers are on it. `None` if the answer counts.
    fn outvote(
        &mut self,
        graph: Option<&Graph>,
        accepted: Header,
        head: Header,
        now: Instant,
    ) -> Option<HeadChange> {
        let Doubt { answers, outvoted, head: doubted, .. } = self.doubt?;
        let highest = if is_above(graph, &accepted, &head) { head } else { accepted };
        let is_of_accepted = is_above(graph, &head, &highest);
        let outvoted = outvoted.saturating_add(1);
        let is_outvoted = answers >= outvoted.saturating_mul(3);
        let is_known = self.flaps.is_on(now) && self.provisional.is_none() && is_of_accepted;
        if !is_known || !is_outvoted || beside(graph, &highest, &doubted) != Beside::Heavier {
            return None;
        }
        self.doubt = self.doubt.map(|doubt| Doubt { outvoted, ..doubt });
        let from = self.accepted.replace(highest).filter(|from| *from != highest);
        Some(HeadChange { from, flaps_to: None })
    }

    /// A heavier branch is followed at once.
    fn switch(&mut self, graph: Option<&Graph>, accepted: Header, head: Header, now: Instant) -> HeadChange {
        let is_linked = |header: &Header| graph.is_some_and(|graph| graph.contains(&header.hash));
        let between = self.doubt.map(|doubt| (doubt.head, doubt.answers));
        let new = Provisional { before: accepted, since: now, answers: 1, between };
        let provisional = self.provisional.map_or(new, |provisional| Provisional {
            answers: provisional.answers.saturating_add(1),
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

    fn doubt(
        &mut self,
        graph: Option<&Graph>,
        accepted: Header,
        head: Header,
        patience: Patience,
        now: Instant,
    ) -> HeadChange {
        let doubt = Doubt::with(self.doubt, head, now);
        self.doubt = Some(doubt);
        if !self.is_confirmed(&doubt, patience, now) {
            return HeadChange::default();
        }
        self.note_left(graph, accepted, &head);
        self.accept(head)
    }

    /// An address that flaps is doubted longer: it has returned from as many answers before.
    fn is_confirmed(&self, doubt: &Doubt, patience: Patience, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(doubt.since) >= patience.time;
        match self.flaps.longest(now) {
            Some(longest) => {
                let answers = patience.answers.saturating_mul(2).max(longest.saturating_mul(4));
                lasted && doubt.answers >= answers
            }
            None => lasted || doubt.answers >= patience.answers,
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
