//! Sources and where they come from.

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
/// The name is its identity: a source that comes back under the same name is the same source, replaced. Of two
/// sources of one set that share a name the first is observed: see [`Duplicates`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSource<S> {
    /// What the source is called; not empty, unique in its set.
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

/// Returns the current source set; called at the start of each cycle, unless [`revision`](Self::revision) says that the
/// set is known.
///
/// Arrays and `Vec`s are providers of a set that never changes: of pairs `("n1", client)`, whose names may be of any
/// type that is a `&str`, and of [`ObservedSource`]s. See also [`StaticSourceProvider`], [`SharedSources`] and
/// [`source_fn`].
///
/// An error, a time-out (`refresh_timeout`) or a panic fails the cycle with stage
/// [`SourceRefresh`](crate::ObservationFailureStage::SourceRefresh) and keeps the observer's state.
///
/// # Wrappers
///
/// A provider that wraps another, or is built on one, forwards both:
///
/// | method | left out |
/// |---|---|
/// | [`sources`](Self::sources) | it does not compile |
/// | [`revision`](Self::revision) | the set is fetched, and its sources are cloned, in every cycle |
///
/// One that makes another set of what it gets, by something that changes by itself, must not forward the revision as it
/// is: a change of its own would go unseen. It counts its own changes too, or leaves `revision` out.
#[async_trait]
pub trait SourceProvider<S>: Send + Sync + 'static {
    /// The sources as they are now.
    ///
    /// # Errors
    ///
    /// Whatever keeps the set from being known. The cycle then fails; nothing is polled.
    async fn sources(&self) -> Result<Vec<ObservedSource<S>>, DynError>;

    /// Drops it. What is a collection drops its items one by one, so that two destructors that panic do not abort the
    /// process.
    #[doc(hidden)]
    fn drop_one_by_one(self: Box<Self>) {
        drop(self);
    }

    /// The same for one that is shared, if nobody else has it.
    #[doc(hidden)]
    fn drop_shared(self: Arc<Self>) {
        drop(self);
    }

    /// Which set [`sources`](Self::sources) would return now, where the provider counts its changes.
    ///
    /// As long as it is the number of the last set that was accepted, the runtime keeps that set and its sources, and
    /// does not call `sources`; a refresh that fails ends that. It must be another one whenever a source was added,
    /// removed or replaced, also by one of the same name. Called at the start of each cycle, before `sources`; must not
    /// block. A panic is logged, and counts as `None`. By default, `None`, the set is fetched in every cycle.
    fn revision(&self) -> Option<u64> {
        None
    }
}

/// A provider whose type was erased, for sets of mixed providers.
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

/// A copy that panics half-way drops those before it one by one.
fn copies<T, S>(items: &[T], copy: impl Fn(&T) -> ObservedSource<S>) -> Vec<ObservedSource<S>> {
    items.iter().map(copy).collect::<AppValues<_>>().into_inner()
}

/// A provider of the app's, dropped as [`SourceProvider::drop_one_by_one`] says. A panic is logged and ends there.
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

/// A source set that never changes: it is fetched, and its sources cloned, once for each runtime.
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

/// A source set that is replaced by hand while the runtime runs; clones share the set.
///
/// A change is seen by the next cycle; a set without one is not fetched again.
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
    /// Behind `Arc`s: no code of the app, not even a `Clone`, runs under the lock.
    shared: Arc<Mutex<SharedSet<S>>>,
}

struct SharedSet<S> {
    sources: Vec<SharedEntry<S>>,
    /// How often it was changed.
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

    /// Changes the set. `change` must not drop a source: this runs under the lock.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<SharedEntry<S>>) -> T) -> T {
        let mut set = lock(&self.shared);
        set.revision += 1;
        change(&mut set.sources)
    }
}

impl<S: Clone> SharedSources<S> {
    /// The set as it is now.
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

    /// Adds `source` as `name`, or replaces what had that name and returns it.
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

    /// Takes the source called `name` out of the set.
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

/// A provider made of an async function or closure, whose error may be of any type that turns into a [`DynError`].
///
/// A closure that ends with `Ok(..)` says of which type its error is: `Ok::<_, DynError>(..)`.
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

/// What [`source_fn`] returns.
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

/// How a new set differs from the one before; in nothing but its order, if no name came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceChange {
    pub(crate) joined: Vec<Arc<str>>,
    pub(crate) left: Vec<Arc<str>>,
}

/// What was left out of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Names that are given to several sources, in order, with how many.
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

    /// Whether the same names are concerned, however often they are given.
    pub(crate) fn concerns_the_same(&self, other: &Self) -> bool {
        self.names().eq(other.names()) && (self.unnamed == 0) == (other.unnamed == 0)
    }
}
