//! Waits on the nodes of a chain.

use std::sync::Arc;

use watchkeeper::wait::{InvalidWait, Verdict, WaitBuilder};
use watchkeeper::{ObservationHandle, ObservationSnapshot, Observer};

use super::view::{ChainView, NodeView};

type Wait<'a, O> = WaitBuilder<'a, O, Arc<ObservationSnapshot<<O as Observer>::Snapshot>>>;

/// A snapshot that shows the nodes of a chain.
pub trait ShowsChain {
    /// The chain and its nodes.
    fn chain(&self) -> &ChainView;
}

impl ShowsChain for ChainView {
    fn chain(&self) -> &ChainView {
        self
    }
}

/// Waits on the nodes of a chain, in the words of the waits of [`PerSource`](watchkeeper::PerSource).
///
/// A node counts only while it [is answering](ChainView::is_answering), by answers to questions from after the wait was
/// made (or after the mark). A node whose answer is not accepted answers without a head. A predicate that gives up on
/// one node ends the wait.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::{ObservationHandle, Observer};
/// # use watchkeeper::wait::Unmet;
/// # use watchkeeper_chain::{NodeWaits, ShowsChain};
/// # async fn example<O>(handle: ObservationHandle<O>) -> Result<(), Unmet>
/// # where O: Observer<Snapshot: ShowsChain + std::fmt::Debug> {
/// let past_100 = handle.all_sources("every node is past 100", |node| node.head.is_some_and(|head| head.height > 100));
/// past_100.within(Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
pub trait NodeWaits<O: Observer> {
    /// Waits until every node of the set answers and satisfies `predicate`; an empty set does not.
    fn all_sources<'a, F, R>(&self, label: impl Into<String>, predicate: F) -> Wait<'a, O>
    where
        F: FnMut(&NodeView) -> R + Send + 'a,
        R: Into<Verdict>;

    /// Waits until at least one node answers and satisfies `predicate`.
    fn any_source<'a, F, R>(&self, label: impl Into<String>, predicate: F) -> Wait<'a, O>
    where
        F: FnMut(&NodeView) -> R + Send + 'a,
        R: Into<Verdict>;

    /// Waits until at least `count` nodes answer and satisfy `predicate`. `count` must be at least 1: a wait for none
    /// is invalid, and ends at once.
    fn at_least_sources<'a, F, R>(&self, count: usize, label: impl Into<String>, predicate: F) -> Wait<'a, O>
    where
        F: FnMut(&NodeView) -> R + Send + 'a,
        R: Into<Verdict>;
}

impl<O: Observer<Snapshot: ShowsChain>> NodeWaits<O> for ObservationHandle<O> {
    fn all_sources<'a, F, R>(&self, label: impl Into<String>, mut predicate: F) -> Wait<'a, O>
    where
        F: FnMut(&NodeView) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.eventually(label, move |seen| {
            // An empty set would meet every predicate.
            enough(seen.chain(), seen.chain().nodes.len().max(1), &mut predicate)
        })
    }

    fn any_source<'a, F, R>(&self, label: impl Into<String>, predicate: F) -> Wait<'a, O>
    where
        F: FnMut(&NodeView) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.at_least_sources(1, label, predicate)
    }

    fn at_least_sources<'a, F, R>(
        &self,
        count: usize,
        label: impl Into<String>,
        mut predicate: F,
    ) -> Wait<'a, O>
    where
        F: FnMut(&NodeView) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        let mut wait = self.eventually(label, move |seen| enough(seen.chain(), count, &mut predicate));
        if count == 0 {
            wait.refuse(InvalidWait::NoSources);
        }
        wait
    }
}

/// Whether `wanted` nodes satisfy `predicate`; if not, the first reason that it gave.
fn enough<R: Into<Verdict>>(
    chain: &ChainView,
    wanted: usize,
    mut predicate: impl FnMut(&NodeView) -> R,
) -> Verdict {
    let (mut met, mut first) = (0, None);
    for (name, node) in chain.answering() {
        match predicate(node).into() {
            Verdict::Met => met += 1,
            Verdict::NotYet(reason) if reason.is_empty() || first.is_some() => {}
            Verdict::NotYet(reason) => first = Some(format!("{name}: {reason}")),
            Verdict::GiveUp(reason) => return Verdict::GiveUp(format!("{name}: {reason}")),
        }
    }
    if met >= wanted { Verdict::Met } else { Verdict::NotYet(first.unwrap_or_default()) }
}
