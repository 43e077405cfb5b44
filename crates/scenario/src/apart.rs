//! App code on its own task, so that a blocked thread is noticed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, TryLockError};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use crate::guarded::{Guarded, Panics};
use crate::panics::catch;
use crate::subject::Subject;
use crate::sync::lock;

/// How long an aborted task may take to end. It takes that long only if it blocks its thread.
pub(crate) const ABORT_GRACE: Duration = Duration::from_secs(1);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// App code on its own task. Dropping this drops the code at once and needs no tokio context. Code that is being
/// polled at that moment is dropped by its task, when the poll returns.
pub(crate) struct Apart<T> {
    app: Arc<Mutex<Option<Guarded<Boxed<T>>>>>,
    task: JoinHandle<Option<(Result<T, String>, Instant)>>,
}

/// How the code ended.
pub(crate) enum Went<T> {
    /// It ended at this time, which may be after the deadline.
    Done(T, Instant),
    Panicked(String),
    /// It was still running at the deadline, and was dropped.
    TimedOut,
    /// It blocked its thread past the deadline, and was left running.
    Blocked,
}

impl<T: Send + 'static> Apart<T> {
    /// Spawns the code on the current runtime.
    pub(crate) fn spawn(
        panics: &Panics,
        subject: Subject,
        app: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let app: Boxed<T> = Box::pin(app);
        let app = Arc::new(Mutex::new(Some(panics.guard(subject, app))));
        let polled = Arc::clone(&app);
        let work = poll_fn(move |context| {
            let mut app = lock(&polled);
            let Some(future) = app.as_mut() else { return Poll::Ready(None) };
            let ended = match catch(|| future.as_mut().poll(context)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(output)) => Ok(output),
                Err(panic) => Err(panic),
            };
            drop(app.take());
            Poll::Ready(Some((ended, Instant::now())))
        });
        Self { app, task: tokio::spawn(work.in_current_span()) }
    }

    pub(crate) async fn within(mut self, deadline: Instant) -> Went<T> {
        let mut ended = timeout_at(deadline, &mut self.task).await;
        if ended.is_err() {
            self.task.abort();
            // It may have ended just before the abort, or be blocking its thread: its result still counts.
            ended = timeout(ABORT_GRACE, &mut self.task).await;
        }
        let Ok(ended) = ended else { return Went::Blocked };
        match ended {
            Ok(Some((Ok(output), at))) => Went::Done(output, at),
            Ok(Some((Err(panic), _))) => Went::Panicked(panic),
            Ok(None) | Err(_) => Went::TimedOut,
        }
    }
}

impl<T> Drop for Apart<T> {
    fn drop(&mut self) {
        self.task.abort();
        let app = match self.app.try_lock() {
            Ok(mut app) => app.take(),
            Err(TryLockError::Poisoned(app)) => app.into_inner().take(),
            // It is being polled: the abort drops it when the poll returns.
            Err(TryLockError::WouldBlock) => None,
        };
        drop(app);
    }
}
