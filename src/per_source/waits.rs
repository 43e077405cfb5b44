//! Waits on what sources say.

use std::sync::Arc;

use tokio::time::Instant;

use super::{PerSource, PerSourceSnapshot};
use crate::handle::ObservationHandle;
use crate::status::ObservationSnapshot;
use crate::waits::{InvalidWait, WaitBuilder, counts};

type Met<V> = Arc<ObservationSnapshot<PerSourceSnapshot<V>>>;

/// Waits on the values of sources. Only answers that are fresh count, and for which the source was asked after
/// the wait was made (or after the mark): one that hangs is not taken at its last word.
impl<S, V> ObservationHandle<PerSource<S, V>>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    /// Waits until every source of the set has a fresh answer that satisfies `predicate`; there must be one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, PerSource, Unmet};
    /// # async fn example(handle: ObservationHandle<PerSource<String, u64>>) -> Result<(), Unmet> {
    /// handle.all_sources("every node is past 100", |height| *height > 100).within(Duration::from_secs(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_sources<'a, F>(
        &self,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> bool + Send + 'a,
    {
        self.answered(label.into(), move |sources, since| {
            !sources.is_empty() && satisfying(sources, since, &mut predicate) == sources.len()
        })
    }

    /// Waits until at least one source has a fresh answer that satisfies `predicate`.
    pub fn any_source<'a, F>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> bool + Send + 'a,
    {
        self.at_least_sources(1, label, predicate)
    }

    /// Waits until at least `count` sources have a fresh answer that satisfies `predicate`; at least one.
    pub fn at_least_sources<'a, F>(
        &self,
        count: usize,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> bool + Send + 'a,
    {
        let mut wait = self.answered(label.into(), move |sources, since| {
            satisfying(sources, since, &mut predicate) >= count
        });
        if count == 0 {
            wait.refuse(InvalidWait::NoSources);
        }
        wait
    }
}

fn satisfying<V>(
    sources: &PerSourceSnapshot<V>,
    since: Option<Instant>,
    mut predicate: impl FnMut(&V) -> bool,
) -> usize {
    let now = sources.taken_at();
    let answers = sources.iter().filter(|source| counts(source.facts.last_success, since));
    answers.filter_map(|source| source.fresh_value(now)).filter(|value| predicate(value)).count()
}
