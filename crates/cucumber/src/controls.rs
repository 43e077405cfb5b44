//! The steps that change what an observer does.

use watchkeeper::{ControlError, StopOutcome};

use crate::words::Words;
use crate::{Observers, StepError};

pub(crate) async fn pause(observers: &mut Observers, words: Words) -> Result<(), StepError> {
    observers.check()?;
    let taken = observers.entry(words.observer())?.control.pause().await;
    taken.map_err(|source| refused(&words, "paused", source))
}

pub(crate) async fn resume(observers: &mut Observers, words: Words) -> Result<(), StepError> {
    observers.check()?;
    let taken = observers.entry(words.observer())?.control.resume().await;
    taken.map_err(|source| refused(&words, "resumed", source))
}

pub(crate) async fn poll_now(observers: &mut Observers, words: Words) -> Result<(), StepError> {
    observers.check()?;
    let entry = observers.entry(words.observer())?;
    let mark = entry.handle.mark();
    entry.control.poll_now().await.map_err(|source| refused(&words, "polled", source))?;
    observers.polled(words.observer(), mark);
    Ok(())
}

pub(crate) async fn stop(observers: &mut Observers, words: Words) -> Result<(), StepError> {
    observers.check()?;
    match observers.entry(words.observer())?.control.stop().await {
        StopOutcome::Stopped => Ok(()),
        StopOutcome::Detached => Err(StepError::Detached { observer: words.observer().to_owned() }),
    }
}

fn refused(words: &Words, asked: &'static str, source: ControlError) -> StepError {
    StepError::Control { observer: words.observer().to_owned(), asked, source }
}
