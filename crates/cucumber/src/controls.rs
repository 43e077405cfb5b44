//! The steps that change what an observer does.

use watchkeeper::runtime::{ControlError, StopOutcome};

use crate::words::StepCaptures;
use crate::{Observers, StepError};

pub(crate) async fn pause(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    observers.check()?;
    let taken = observers.entry(captures.observer())?.control.pause().await;
    taken.map_err(|source| refused(&captures, "paused", source))
}

pub(crate) async fn resume(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    observers.check()?;
    let taken = observers.entry(captures.observer())?.control.resume().await;
    taken.map_err(|source| refused(&captures, "resumed", source))
}

pub(crate) async fn poll_now(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    observers.check()?;
    let entry = observers.entry(captures.observer())?;
    let mark = entry.handle.mark();
    entry.control.poll_now().await.map_err(|source| refused(&captures, "polled", source))?;
    observers.polled(captures.observer(), mark);
    Ok(())
}

pub(crate) async fn stop(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    observers.check()?;
    match observers.entry(captures.observer())?.control.stop().await {
        StopOutcome::Stopped => Ok(()),
        StopOutcome::Detached => Err(StepError::Detached { observer: captures.observer().to_owned() }),
    }
}

fn refused(captures: &StepCaptures, asked: &'static str, source: ControlError) -> StepError {
    StepError::Control { observer: captures.observer().to_owned(), asked, source }
}
