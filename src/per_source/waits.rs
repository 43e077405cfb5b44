//! Waits on what sources say.

use std::sync::Arc;

use super::{PerSource, PerSourceSnapshot};
use crate::handle::ObservationHandle;
use crate::status::ObservationSnapshot;
use crate::waits::WaitBuilder;

type Met<V> = Arc<ObservationSnapshot<PerSourceSnapshot<V>>>;

/// Waits on the values of sources. Only answers that are fresh count: a source that hangs is not taken at
/// its last word.
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
        self.eventually(label, move |sources| {
            !sources.is_empty() && satisfying(sources, &mut predicate) == sources.len()
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

    /// Waits until at least `count` sources have a fresh answer that satisfies `predicate`.
    pub fn at_least_sources<'a, F>(
        &self,
        count: usize,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, PerSource<S, V>, Met<V>>
    where
        F: FnMut(&V) -> bool + Send + 'a,
    {
        self.eventually(label, move |sources| satisfying(sources, &mut predicate) >= count)
    }
}

fn satisfying<V>(sources: &PerSourceSnapshot<V>, mut predicate: impl FnMut(&V) -> bool) -> usize {
    sources.fresh(sources.taken_at()).filter(|(_, value)| predicate(value)).count()
}
