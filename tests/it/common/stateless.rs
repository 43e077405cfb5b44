//! An observer for tests in which the observer itself matters little.

use std::future::{Ready, ready};
use std::marker::PhantomData;

use watchkeeper::{DynError, ObservedSource, Observer, async_trait};

/// It has no state, no events and an empty snapshot. Each poll calls a function of the test.
pub struct Stateless<S, F> {
    poll: F,
    source: PhantomData<fn(S)>,
}

pub fn stateless<S, F, P>(poll: F) -> Stateless<S, F>
where
    F: Fn() -> P,
    P: Future<Output = Result<(), DynError>>,
{
    Stateless { poll, source: PhantomData }
}

/// Each poll succeeds at once.
pub type Idle<S> = Stateless<S, fn() -> Ready<Result<(), DynError>>>;

pub fn idle<S>() -> Idle<S> {
    stateless(|| ready(Ok(())))
}

#[async_trait]
impl<S, F, P> Observer for Stateless<S, F>
where
    S: Send + Sync + 'static,
    F: Fn() -> P + Send + Sync + 'static,
    P: Future<Output = Result<(), DynError>> + Send,
{
    type Source = S;
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<S>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<S>], (): &mut ()) -> Result<Vec<()>, DynError> {
        (self.poll)().await?;
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}
