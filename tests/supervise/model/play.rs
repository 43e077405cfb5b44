//! Plays a life on a machine and on the model, and compares them after each step.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep_until};
use watchkeeper::supervise::{
    AskError, Backoff, Condition, Delays, FailureWindow, NotSent, Outcome, Restart, StateWatch, Supervised,
    UnhandledEvents, supervise, supervise_with,
};
use watchkeeper::wait::{Unmet, UnmetOutcome};

use super::app::{App, Event, Hands, Log, Rules};
use super::reference::{Answer, Ended, Limits, Mode, Model, Refused, When};
use super::{Life, Step};

type Checked<T = ()> = Result<T, TestCaseError>;
type Asking = Pin<Box<dyn Future<Output = Result<u8, AskError<Event>>> + Send>>;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Play {
    model: Model,
    log: Log,
    began: Instant,
    machine: Option<Supervised<App>>,
    watch: StateWatch<u8>,
    /// By the number of the ask.
    asks: Vec<(Asking, Option<Answer>)>,
    waits: Vec<Waited>,
    next_id: u32,
}

/// A wait in a task of its own.
struct Waited {
    wanted: u8,
    began: u64,
    deadline: u64,
    /// Which of the model's publications was the present one.
    from: usize,
    task: JoinHandle<Result<u8, Unmet>>,
}

pub(super) async fn play(life: Life) -> Checked {
    let Life { rules, limits, steps } = life;
    let began = Instant::now();
    let log = Log::default();
    let machine = spawned(&rules, &limits, &log);
    let watch = machine.watch();
    let model = Model::new(rules, limits);
    let mut play = Play {
        model,
        log,
        began,
        machine: Some(machine),
        watch,
        asks: Vec::new(),
        waits: Vec::new(),
        next_id: 1,
    };
    play.settle().await;
    play.check()?;
    for (number, step) in steps.into_iter().enumerate() {
        let shown = format!("{step:?}");
        let played = play.step(step).await;
        played.and_then(|()| play.check()).map_err(|error| {
            TestCaseError::fail(format!("in step {number}, {shown} at {} ms: {error}", play.model.now))
        })?;
    }
    play.end().await
}

fn spawned(rules: &Rules, limits: &Limits, log: &Log) -> Supervised<App> {
    let Limits { capacity, work_timeout, drain, fatal, when, delay, most, within } = *limits;
    let (rules, log) = (rules.clone(), log.clone());
    let made = move || (App { rules: rules.clone(), state: 0, log: log.clone() }, Hands(log.clone()));
    let delay = Backoff { first: millis(delay), max: millis(delay), jitter: 0.0, seed: 1 };
    let (delays, window) = (Delays::new(delay), FailureWindow::new(most, millis(within)));
    let builder = match when {
        When::Never => {
            let (machine, worker) = made();
            supervise(machine).worker(worker)
        }
        When::OnFailure => supervise_with(made).restart(Restart::on_failure(delays, window)),
        When::Always => supervise_with(made).restart(Restart::always(delays, window)),
    };
    let unhandled = if fatal { UnhandledEvents::Fatal } else { UnhandledEvents::Reject };
    let builder = builder.capacity(capacity).drain(millis(drain)).unhandled(unhandled);
    let builder = match work_timeout {
        Some(limit) => builder.work_timeout(millis(limit)),
        None => builder,
    };
    builder.spawn().unwrap()
}

impl Play {
    async fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Send(events) => {
                for (event, asks) in events {
                    self.send(event, asks)?;
                }
                self.model.settle();
            }
            Step::Pass(time) => {
                let until = self.model.now + time;
                self.model.pass(until);
                sleep_until(self.began + millis(until)).await;
            }
            Step::Watch => {
                let mut changed = Box::pin(self.watch.changed());
                let seen = changed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                let news = std::mem::take(&mut self.model.news);
                match (seen, self.model.mode) {
                    (Poll::Ready(Ok(state)), _) if news => prop_assert_eq!(state, self.model.state),
                    (Poll::Ready(Err(outcome)), Mode::Ended(ended)) if !news => {
                        prop_assert_eq!(kind(&outcome), ended);
                    }
                    (Poll::Pending, mode) if !news && !matches!(mode, Mode::Ended(_)) => {}
                    (seen, mode) => prop_assert!(false, "the watch has {seen:?}, the model {mode:?}"),
                }
            }
            Step::Wait(wanted, window) => {
                if let Some(machine) = &self.machine {
                    let wait =
                        machine.wait_for("the state", move |state| *state == wanted).within(millis(window));
                    let (began, from) = (self.model.now, self.model.published.len() - 1);
                    let task = tokio::spawn(wait);
                    self.waits.push(Waited { wanted, began, deadline: began + window, from, task });
                }
            }
            Step::Restart => {
                if let Some(machine) = &self.machine {
                    let _ = machine.restart();
                    self.model.restart();
                }
            }
            Step::Unpoison => {
                if let Some(machine) = &self.machine {
                    let is_poisoned = self.model.mode == Mode::Poisoned;
                    prop_assert_eq!(machine.unpoison().is_ok(), is_poisoned);
                    self.model.unpoison();
                }
            }
            Step::Stop | Step::Abort => {
                let abort = matches!(step, Step::Abort);
                if let Some(machine) = &self.machine {
                    // Dropped calls have requested it all the same.
                    let waker = &mut Context::from_waker(Waker::noop());
                    if abort {
                        let _ = Box::pin(machine.abort()).as_mut().poll(waker);
                    } else {
                        let _ = Box::pin(machine.stop()).as_mut().poll(waker);
                    }
                    self.model.stop(abort);
                }
            }
            Step::Drop => {
                // A pending ask holds a handle.
                let is_asking = self.model.answers.iter().any(Option::is_none);
                if !is_asking && self.machine.take().is_some() {
                    self.asks.clear();
                    self.model.answers.clear();
                    self.model.drop_handles();
                }
            }
        }
        self.settle().await;
        Ok(())
    }

    fn send(&mut self, mut event: Event, asks: bool) -> Checked {
        let Some(machine) = &self.machine else { return Ok(()) };
        event.id = self.next_id;
        self.next_id += 1;
        if asks && self.model.has_room() {
            let (machine, sent) = (machine.clone(), event.clone());
            let mut asking: Asking = Box::pin(async move { machine.ask(sent).await });
            let answered = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            prop_assert!(answered.is_pending(), "nobody has judged it yet");
            self.asks.push((asking, None));
            prop_assert_eq!(self.model.send(event, true), Ok(()));
            return Ok(());
        }
        let sent = machine.try_send(event.clone());
        let refused = sent.map_err(|error| match error.reason {
            NotSent::Full { .. } => Refused::Full,
            NotSent::Stopping => Refused::Stopping,
            NotSent::Poisoned(_) => Refused::Poisoned,
            NotSent::Ended(outcome) => Refused::Ended(kind(&outcome)),
            other => panic!("{other}"),
        });
        prop_assert_eq!(refused, self.model.send(event, false));
        Ok(())
    }

    /// Lets the machine run until it has nothing to do.
    async fn settle(&mut self) {
        let lines = || self.log.lock().unwrap().len();
        loop {
            let before = lines();
            for _ in 0..16 {
                yield_now().await;
            }
            if lines() == before {
                return;
            }
        }
    }

    fn check(&mut self) -> Checked {
        {
            let mut log = self.log.lock().unwrap();
            prop_assert_eq!(&*log, &self.model.log);
            log.clear();
            self.model.log.clear();
        }
        for (nth, (asking, answer)) in self.asks.iter_mut().enumerate() {
            if answer.is_none()
                && let Poll::Ready(answered) = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                *answer = Some(answer_of(answered));
            }
            prop_assert_eq!(*answer, self.model.answers[nth], "ask {}", nth);
        }
        prop_assert_eq!(self.watch.state(), self.model.state);
        let mode = match self.watch.condition() {
            Condition::Running => Mode::Running,
            Condition::Stopping => Mode::Stopping,
            Condition::Restarting(_) => Mode::Restarting,
            Condition::Poisoned(_) => Mode::Poisoned,
            Condition::Ended(outcome) => Mode::Ended(kind(&outcome)),
            other => panic!("{other:?}"),
        };
        // A life that ended without a failure leaves the condition as it is.
        let is_quiet = mode == Mode::Running && self.model.mode == Mode::Restarting;
        prop_assert!(
            is_quiet || mode == self.model.mode,
            "it is {:?}, the model {:?}",
            mode,
            self.model.mode
        );
        if let Some(machine) = &self.machine {
            let seen: Vec<u8> = machine.transitions().iter().map(|transition| transition.to).collect();
            let published = &self.model.published[1..];
            let newest = published[published.len().saturating_sub(16)..].iter().map(|(_, state)| *state);
            prop_assert_eq!(seen, newest.collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Everything is dropped and all windows pass: the machine and the waits have ended.
    async fn end(mut self) -> Checked {
        if self.machine.is_some() {
            self.step(Step::Abort).await?;
            self.check()?;
        }
        self.step(Step::Pass(300)).await?;
        self.check()?;
        for Waited { wanted, began, deadline, from, task } in self.waits {
            let published = &self.model.published[from..];
            let seen = published.iter().map(|(at, state)| ((*at).max(began), *state));
            let met = seen.filter(|(_, state)| *state == wanted).map(|(at, _)| at).min();
            let ended = self.model.ended_at;
            // What happens at the deadline itself may come before it or after it.
            let at = |time: Option<u64>| time.is_some_and(|time| time <= deadline);
            let surely = |time: Option<u64>| time.is_some_and(|time| time < deadline);
            let outcome = task.await.unwrap();
            let text = format!(
                "wait for {wanted} from {began} to {deadline}: {outcome:?}, met at {met:?}, ended at {ended:?}"
            );
            match outcome {
                Ok(state) => prop_assert!(state == wanted && at(met), "{text}"),
                Err(unmet) if unmet.outcome() == UnmetOutcome::Ended => {
                    prop_assert!(at(ended) && met.is_none(), "{text}");
                }
                Err(unmet) => {
                    prop_assert!(unmet.outcome() == UnmetOutcome::NotMet, "{text}");
                    prop_assert!(!surely(met) && !surely(ended), "{text}");
                }
            }
        }
        Ok(())
    }
}

fn kind(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Finished => Ended::Finished,
        Outcome::Failed(_) => Ended::Failed,
        Outcome::Cancelled => Ended::Cancelled,
        Outcome::Panicked(_) => Ended::Panicked,
        other => panic!("{other}"),
    }
}

fn answer_of(answered: Result<u8, AskError<Event>>) -> Answer {
    match answered {
        Ok(state) => Answer::State(state),
        Err(AskError::Unhandled(_) | AskError::NoRoomToDefer(_)) => Answer::Unhandled,
        Err(AskError::Busy(_)) => Answer::Busy,
        Err(AskError::Lost(_)) => Answer::Lost,
        Err(AskError::Ended(outcome)) => Answer::Ended(kind(&outcome)),
        Err(other) => panic!("{other}"),
    }
}
