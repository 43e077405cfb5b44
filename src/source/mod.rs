//! Sources and their providers.

pub(crate) mod duplicates;
pub(crate) mod health;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;

use crate::DynError;
use crate::panics::{AppValue, AppValues, catch, discard_each, log_panic};
use crate::report::debug_as_text;
use crate::sync::{Mutex, lock};
use crate::text::{NAME, NAMES, names, quoted};

pub use crate::config::Duplicates;
pub use health::{ProbeFailure, SourceFacts, SourceHealth};

/// A named thing that can be observed: a node client, an endpoint, a file.
///
/// The name identifies it: a source that returns under the same name is the same source, replaced. If two sources of
/// a set share a name, the first is observed: see [`Duplicates`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSource<S> {
    /// The source's name: not empty, and unique in its set.
    pub name: String,
    /// How the observer reaches it.
    pub source: S,
}

impl<S> ObservedSource<S> {
    /// A source called `name`.
    pub fn new(name: impl Into<String>, source: S) -> Self {
        Self { name: name.into(), source }
    }
}

/// Returns the current source set.
///
/// It is called at the start of each cycle, unless [`revision`](Self::revision) shows that the set is known.
///
/// Arrays and `Vec`s are providers of a fixed set. Their items are [`ObservedSource`]s, or pairs `("n1", client)`
/// with a name of any `AsRef<str>` type. See also [`StaticSourceProvider`], [`SharedSources`] and [`source_fn`].
///
/// An error, a time-out (`refresh_timeout`) or a panic fails the cycle with stage
/// [`SourceRefresh`](crate::ObservationFailureStage::SourceRefresh) and keeps the observer's state.
///
/// # Wrappers
///
/// A provider that wraps another forwards both methods:
///
/// | method | left out |
/// |---|---|
/// | [`sources`](Self::sources) | it does not compile |
/// | [`revision`](Self::revision) | the set is fetched, and its sources are cloned, in every cycle |
///
/// A provider that also changes the set by itself must not forward the inner revision alone: its own changes would be
/// missed. It counts its own changes too, or leaves `revision` out.
#[async_trait]
pub trait SourceProvider<S>: Send + Sync + 'static {
    /// The current sources.
    ///
    /// # Errors
    ///
    /// Any error that prevents the provider from returning the set. The cycle then fails, and nothing is polled.
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError>;

    /// Drops the provider. A collection drops its items one by one, so that two panicking destructors do not abort
    /// the process.
    #[doc(hidden)]
    fn drop_one_by_one(self: Box<Self>) {
        drop(self);
    }

    /// The same for a shared provider, if this is the last reference.
    #[doc(hidden)]
    fn drop_shared(self: Arc<Self>) {
        drop(self);
    }

    /// The number of the set that [`sources`](Self::sources) would return now, if the provider counts its changes.
    ///
    /// While it equals the number of the last accepted set, the runtime keeps that set and does not call `sources`. A
    /// failed refresh ends this. The number must change whenever a source is added, removed or replaced, even by one
    /// of the same name.
    ///
    /// It is called at the start of each cycle, before `sources`, and must not block. A panic is logged and counts as
    /// `None`. With `None`, the default, every cycle fetches the set.
    fn revision(&self) -> Option<u64> {
        None
    }
}

/// A type-erased provider, for sets of mixed providers.
pub type BoxedSourceProvider<S> = Box<dyn SourceProvider<S>>;

#[async_trait]
impl<S: 'static, P: SourceProvider<S> + ?Sized> SourceProvider<S> for Box<P> {
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        (**self).sources().await
    }

    fn drop_one_by_one(self: Box<Self>) {
        (*self).drop_one_by_one();
    }

    fn drop_shared(self: Arc<Self>) {
        if let Some(provider) = Arc::into_inner(self) {
            provider.drop_one_by_one();
        }
    }

    fn revision(&self) -> Option<u64> {
        (**self).revision()
    }
}

#[async_trait]
impl<S: 'static, P: SourceProvider<S> + ?Sized> SourceProvider<S> for Arc<P> {
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        (**self).sources().await
    }

    fn drop_one_by_one(self: Box<Self>) {
        (*self).drop_shared();
    }

    fn drop_shared(self: Arc<Self>) {
        if let Some(provider) = Arc::into_inner(self) {
            provider.drop_shared();
        }
    }

    fn revision(&self) -> Option<u64> {
        (**self).revision()
    }
}

#[async_trait]
impl<S: Clone + Send + Sync + 'static> SourceProvider<S> for Vec<ObservedSource<S>> {
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(copies(self, Clone::clone))
    }

    fn revision(&self) -> Option<u64> {
        Some(0)
    }

    fn drop_one_by_one(self: Box<Self>) {
        discard_each(*self);
    }

    fn drop_shared(self: Arc<Self>) {
        discard_each(Arc::into_inner(self).into_iter().flatten());
    }
}

#[async_trait]
impl<S: Clone + Send + Sync + 'static, const K: usize> SourceProvider<S> for [ObservedSource<S>; K] {
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(copies(self, Clone::clone))
    }

    fn revision(&self) -> Option<u64> {
        Some(0)
    }

    fn drop_one_by_one(self: Box<Self>) {
        discard_each(*self);
    }

    fn drop_shared(self: Arc<Self>) {
        discard_each(Arc::into_inner(self).into_iter().flatten());
    }
}

#[async_trait]
impl<N, S> SourceProvider<S> for Vec<(N, S)>
where
    N: AsRef<str> + Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(copies(self, |(name, source)| ObservedSource::new(name.as_ref(), source.clone())))
    }

    fn revision(&self) -> Option<u64> {
        Some(0)
    }

    fn drop_one_by_one(self: Box<Self>) {
        discard_each(*self);
    }

    fn drop_shared(self: Arc<Self>) {
        discard_each(Arc::into_inner(self).into_iter().flatten());
    }
}

#[async_trait]
impl<N, S, const K: usize> SourceProvider<S> for [(N, S); K]
where
    N: AsRef<str> + Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(copies(self, |(name, source)| ObservedSource::new(name.as_ref(), source.clone())))
    }

    fn revision(&self) -> Option<u64> {
        Some(0)
    }

    fn drop_one_by_one(self: Box<Self>) {
        discard_each(*self);
    }

    fn drop_shared(self: Arc<Self>) {
        discard_each(Arc::into_inner(self).into_iter().flatten());
    }
}

/// If a copy panics, the copies before it are dropped one by one.
fn copies<T, S>(items: &[T], copy: impl Fn(&T) -> ObservedSource<S>) -> Vec<ObservedSource<S>> {
    items.iter().map(copy).collect::<AppValues<_>>().into_inner()
}

/// The app's provider, dropped as [`SourceProvider::drop_one_by_one`] describes. A panic of its destructor is logged.
pub(crate) struct Provider<S, P: SourceProvider<S>>(Option<P>, PhantomData<fn() -> S>);

impl<S, P: SourceProvider<S>> Provider<S, P> {
    pub(crate) const fn new(provider: P) -> Self {
        Self(Some(provider), PhantomData)
    }

    pub(crate) async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        self.0.as_ref().expect("it is there until this is dropped").sources().await
    }

    pub(crate) fn revision(&self) -> Option<u64> {
        self.0.as_ref().and_then(SourceProvider::revision)
    }
}

impl<S, P: SourceProvider<S>> Drop for Provider<S, P> {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(panic) = catch(|| Box::new(provider).drop_one_by_one())
        {
            log_panic("dropping a source provider", &panic);
        }
    }
}

/// A source set that never changes. Each runtime fetches it, and clones its sources, once.
#[derive(Clone, Debug)]
pub struct StaticSourceProvider<S> {
    sources: AppValues<ObservedSource<S>>,
}

impl<S> StaticSourceProvider<S> {
    /// Always returns `sources`.
    #[must_use]
    pub fn new(sources: Vec<ObservedSource<S>>) -> Self {
        Self { sources: AppValues::new(sources) }
    }
}

#[async_trait]
impl<S: Clone + Send + Sync + 'static> SourceProvider<S> for StaticSourceProvider<S> {
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(self.sources.clone().into_inner())
    }

    fn revision(&self) -> Option<u64> {
        Some(0)
    }
}

/// A source set that the app changes while the runtime runs. Clones share the set.
///
/// The next cycle observes a change. An unchanged set is not fetched again.
///
/// # Examples
///
/// ```
/// use watchkeeper::ObservedSource;
/// use watchkeeper::source::SharedSources;
///
/// let sources = SharedSources::new(vec![ObservedSource::new("n1", 8001)]);
/// let for_the_runtime = sources.clone();
/// sources.insert("n2", 8002);
/// sources.remove("n1");
/// assert_eq!(for_the_runtime.get(), [ObservedSource::new("n2", 8002)]);
/// ```
pub struct SharedSources<S> {
    /// In `Arc`s, so that no app code, not even a `Clone`, runs under the lock.
    shared: Arc<Mutex<SharedSet<S>>>,
}

struct SharedSet<S> {
    sources: Vec<SharedEntry<S>>,
    /// The number of changes.
    revision: u64,
}

type SharedEntry<S> = (Arc<str>, AppValue<Arc<S>>);

impl<S> Clone for SharedSources<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> Default for SharedSources<S> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<S> SharedSources<S> {
    /// Starts with `sources`.
    #[must_use]
    pub fn new(sources: Vec<ObservedSource<S>>) -> Self {
        Self { shared: Arc::new(Mutex::new(SharedSet { sources: Self::share(sources), revision: 0 })) }
    }

    fn share(sources: Vec<ObservedSource<S>>) -> Vec<SharedEntry<S>> {
        let share = |source| AppValue::new(Arc::new(source));
        sources.into_iter().map(|source| (Arc::from(source.name), share(source.source))).collect()
    }

    /// Changes the set under the lock. `change` must not drop a source.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<SharedEntry<S>>) -> T) -> T {
        let mut set = lock(&self.shared);
        set.revision += 1;
        change(&mut set.sources)
    }
}

impl<S: Clone> SharedSources<S> {
    /// The current set.
    #[must_use]
    pub fn get(&self) -> Vec<ObservedSource<S>> {
        let sources = lock(&self.shared).sources.clone();
        let own = |(name, source): &SharedEntry<S>| ObservedSource::new(&**name, S::clone(source));
        sources.iter().map(own).collect::<AppValues<_>>().into_inner()
    }

    /// Replaces the whole set and returns the old one.
    #[allow(clippy::must_use_candidate, reason = "replacing is the point; the old set is a courtesy")]
    pub fn replace(&self, sources: Vec<ObservedSource<S>>) -> Vec<ObservedSource<S>> {
        let new = Self::share(sources);
        let old = self.change(|sources| std::mem::replace(sources, new));
        let own = |(name, source): SharedEntry<S>| {
            ObservedSource::new(&*name, Arc::unwrap_or_clone(source.into_inner()))
        };
        old.into_iter().map(own).collect::<AppValues<_>>().into_inner()
    }

    /// Adds `source` under `name`, or replaces and returns the source with that name.
    pub fn insert(&self, name: &str, source: S) -> Option<S> {
        let source = AppValue::new(Arc::new(source));
        let old = self.change(|sources| {
            if let Some((_, known)) = sources.iter_mut().find(|(known, _)| **known == *name) {
                Some(std::mem::replace(known, source))
            } else {
                sources.push((Arc::from(name), source));
                None
            }
        });
        old.map(|old| Arc::unwrap_or_clone(old.into_inner()))
    }

    /// Removes and returns the source called `name`.
    #[allow(clippy::must_use_candidate, reason = "removing is the point; the source is a courtesy")]
    pub fn remove(&self, name: &str) -> Option<S> {
        let removed = self.change(|sources| {
            let at = sources.iter().position(|(known, _)| **known == *name)?;
            Some(sources.remove(at))
        })?;
        Some(Arc::unwrap_or_clone(removed.1.into_inner()))
    }
}

impl<S> fmt::Debug for SharedSources<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<Arc<str>> =
            lock(&self.shared).sources.iter().map(|(name, _)| Arc::clone(name)).collect();
        let known = names(known.iter().map(|name| &**name), NAMES);
        f.debug_struct("SharedSources").field("names", &format_args!("{known}")).finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: Clone + Send + Sync + 'static> SourceProvider<S> for SharedSources<S> {
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        Ok(self.get())
    }

    fn revision(&self) -> Option<u64> {
        Some(lock(&self.shared).revision)
    }
}

/// A provider made of an async function or closure. Its error may have any type that converts into a [`DynError`].
///
/// A closure that ends with `Ok(..)` has to name its error type: `Ok::<_, DynError>(..)`.
///
/// # Examples
///
/// ```
/// use watchkeeper::ObservedSource;
/// use watchkeeper::source::source_fn;
///
/// async fn nodes() -> std::io::Result<Vec<ObservedSource<u16>>> {
///     Ok(vec![ObservedSource::new("n1", 8001)]) // read a file, ask a registry
/// }
///
/// let provider = source_fn(nodes);
/// # fn is_provider(_: impl watchkeeper::SourceProvider<u16>) {}
/// # is_provider(provider);
/// ```
pub fn source_fn<F>(sources: F) -> SourceFn<F> {
    SourceFn { sources }
}

/// The provider that [`source_fn`] returns.
#[derive(Clone, Copy, Debug)]
pub struct SourceFn<F> {
    sources: F,
}

#[async_trait]
impl<S, F, Fut, E> SourceProvider<S> for SourceFn<F>
where
    S: 'static,
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<ObservedSource<S>>, E>> + Send,
    E: Into<DynError>,
{
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError> {
        (self.sources)().await.map_err(Into::into)
    }
}

/// Why a source set was refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceSetError {
    /// Two sources have one name.
    #[error("two sources are named {}: give every source a name of its own", quoted(name, NAME))]
    DuplicateName {
        /// The name that occurs more than once.
        name: String,
    },
    /// A source has no name.
    #[error("source number {position} has an empty name: give every source a name of its own")]
    EmptyName {
        /// Its place in the set, from 1.
        position: usize,
    },
}

debug_as_text!(SourceSetError);

/// The names of one set, in the provider's order; shared until the set changes.
pub(crate) type SourceNames = Arc<[Arc<str>]>;

/// How the names of a new set differ from those before. Both lists are empty if only the order changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceChange {
    pub(crate) joined: Vec<Arc<str>>,
    pub(crate) left: Vec<Arc<str>>,
}

/// The sources that were left out of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Names shared by several sources, in order, each with the number of its sources.
    pub(crate) shared: Vec<(Arc<str>, usize)>,
    /// How many sources have no name.
    pub(crate) unnamed: usize,
}

impl LeftOut {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.shared.iter().map(|(name, _)| &**name)
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.iter().map(|(_, given)| given - 1).sum::<usize>() + self.unnamed
    }

    /// Whether the same names are affected, by any number of sources.
    pub(crate) fn concerns_the_same(&self, other: &Self) -> bool {
        self.names().eq(other.names()) && (self.unnamed == 0) == (other.unnamed == 0)
    }
}
