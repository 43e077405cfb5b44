//! Waits on the values of sources.

use std::sync::Arc;

use super::{PerSource, PerSourceSnapshot};
use crate::handle::ObservationHandle;
use crate::status::ObservationSnapshot;
use crate::wait::{InvalidWait, Verdict, WaitBuilder};

type Met<V> = Arc<ObservationSnapshot<PerSourceSnapshot<V>>>;

/// Waits on the values of sources.
///
/// A source counts only while it [is answering](super::SourceView::is_answering), by data asked for after the wait
/// was made (or after the mark). The last value of a source that hangs or refuses does not count. A predicate that
/// gives up on one source ends the wait.
impl<S, V> ObservationHandle<PerSource<S, V>>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    /// Waits until every source of the set answers with a value that satisfies `predicate`; an empty set does not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, PerSource};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn example(handle: ObservationHandle<PerSource<String, u64>>) -> Result<(), Unmet> {
    /// handle.all_sources("every node is past 100", |height| *height > 100).within(Duration::from_secs(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_sources<'a, F, R>(
        &self,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.eventually(label, move |sources| {
            // An empty set would meet every predicate.
            enough(sources, sources.len().max(1), &mut predicate)
        })
    }

    /// Waits until at least one source answers with a value that satisfies `predicate`.
    pub fn any_source<'a, F, R>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.at_least_sources(1, label, predicate)
    }

    /// Waits until at least `count` sources answer with values that satisfy `predicate`. `count` must be at least 1.
    pub fn at_least_sources<'a, F, R>(
        &self,
        count: usize,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        let mut wait = self.eventually(label, move |sources| enough(sources, count, &mut predicate));
        if count == 0 {
            wait.refuse(InvalidWait::NoSources);
        }
        wait
    }
}

/// Whether `wanted` sources satisfy `predicate`; if not, the first reason that it gave.
fn enough<V, R: Into<Verdict>>(
    sources: &PerSourceSnapshot<V>,
    wanted: usize,
    mut predicate: impl FnMut(&V) -> R,
) -> Verdict {
    let mut met = 0;
    let mut first = None;
    for (name, value) in sources.answering() {
        match predicate(value).into() {
            Verdict::Met => met += 1,
            Verdict::NotYet(reason) if reason.is_empty() || first.is_some() => {}
            Verdict::NotYet(reason) => first = Some(format!("{name}: {reason}")),
            Verdict::GiveUp(reason) => return Verdict::GiveUp(format!("{name}: {reason}")),
        }
    }
    if met >= wanted { Verdict::Met } else { Verdict::NotYet(first.unwrap_or_default()) }
}
