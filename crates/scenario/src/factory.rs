//! Factories of observers and extensions, called once the nodes run.

use std::fmt;

use watchkeeper::{BoxedSourceProvider, DynError, ObservationConfig, Observer, SourceProvider, async_trait};

use crate::guarded::Guarded;
use crate::subject::Subject;
use crate::{Application, RunContext};

/// Builds what needs running nodes: observers, extensions.
///
/// Factories run one after the other, in the order in which they were added. When a factory fails half-way, what it
/// has started through the context is stopped.
///
/// # Examples
///
/// ```
/// use watchkeeper::{ObservationConfig, ObservedSource, PerSource};
/// use watchkeeper_scenario::{Application, DynError, ObservationExtensionFactory, RunContext, async_trait};
/// # #[derive(Clone)]
/// # struct Client;
/// # impl Client { async fn height(&self) -> Result<u64, DynError> { Ok(1) } }
/// # struct App;
/// # impl Application for App { type Deployment = (); type NodeClient = Client; }
///
/// struct Heights;
///
/// #[async_trait]
/// impl ObservationExtensionFactory<App> for Heights {
///     fn name(&self) -> &str {
///         "heights"
///     }
///
///     async fn build(&mut self, context: &RunContext<App>) -> Result<(), DynError> {
///         let config = ObservationConfig::default();
///         let heights = PerSource::new(|node: ObservedSource<Client>| async move {
///             node.source.height().await
///         });
///         context.observe("heights", context.clients().clone(), heights, config).await?;
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait ObservationExtensionFactory<A: Application>: Send + 'static {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Builds, with [`RunContext::observe`] and [`RunContext::add_extension`]. Called once.
    ///
    /// # Errors
    ///
    /// Any error: the run fails, and no later factory is called.
    async fn build(&mut self, context: &RunContext<A>) -> Result<(), DynError>;
}

/// Builds the provider of an observer, once there are node clients.
///
/// Any `Fn(RunContext<A>) -> impl Future<Output = Result<impl SourceProvider<S>, DynError>>` is one.
#[async_trait]
pub trait SourceProviderFactory<A: Application, S>: Send + Sync + 'static {
    /// Builds a provider.
    ///
    /// # Errors
    ///
    /// Any error: the run fails before the observer starts.
    async fn provider(&self, context: &RunContext<A>) -> Result<BoxedSourceProvider<S>, DynError>;
}

#[async_trait]
impl<A, S, F, B, P> SourceProviderFactory<A, S> for F
where
    A: Application,
    S: 'static,
    F: Fn(RunContext<A>) -> B + Send + Sync + 'static,
    B: Future<Output = Result<P, DynError>> + Send,
    P: SourceProvider<S>,
{
    async fn provider(&self, context: &RunContext<A>) -> Result<BoxedSourceProvider<S>, DynError> {
        Ok(Box::new(self(context.clone()).await?))
    }
}

/// The node clients themselves as sources.
pub(crate) struct Nodes;

#[async_trait]
impl<A: Application> SourceProviderFactory<A, A::NodeClient> for Nodes {
    async fn provider(
        &self,
        context: &RunContext<A>,
    ) -> Result<BoxedSourceProvider<A::NodeClient>, DynError> {
        Ok(Box::new(context.clients().clone()))
    }
}

/// One observer over the provider that `sources` builds.
pub(crate) struct OneObserver<F, M> {
    pub(crate) name: String,
    pub(crate) sources: Guarded<F>,
    /// Taken when it is built.
    pub(crate) make: Option<Guarded<M>>,
    pub(crate) config: ObservationConfig,
}

#[async_trait]
impl<A, O, F, M> ObservationExtensionFactory<A> for OneObserver<F, M>
where
    A: Application,
    O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
    F: SourceProviderFactory<A, O::Source>,
    M: FnOnce(&RunContext<A>) -> O + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn build(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Some(make) = self.make.take() else { return Ok(()) };
        let provider = self.sources.provider(context).await?;
        // Guarded: if `make` panics, the provider is dropped while that unwinds.
        let provider = context.panics().guard(Subject::Factory(self.name.clone()), provider);
        let observer = make.into_inner()(context);
        context.observe(&self.name, provider.into_inner(), observer, self.config.clone()).await?;
        Ok(())
    }
}
