//! Machines that the tests share.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use watchkeeper::DynError;
use watchkeeper::supervise::{
    Failure, Machine, MachineBuilder, Out, Reaction, Supervised, WeakSupervised, WhileBusy, Worker, supervise,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A machine that does what its events say.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) state: u32,
    /// Gets each event before it is judged.
    pub(crate) heard: Option<mpsc::UnboundedSender<Do>>,
    pub(crate) while_busy: WhileBusy,
    /// The time-outs of some states.
    pub(crate) timeouts: BTreeMap<u32, Duration>,
    /// The time-out of all other states.
    pub(crate) timeout: Option<Duration>,
    pub(crate) on_failure: Option<fn(String) -> Do>,
    pub(crate) on_stop: Option<Do>,
    pub(crate) on_abandoned: Option<Do>,
    pub(crate) start: Vec<Job>,
    /// To itself, for a flood.
    pub(crate) own: Arc<OnceLock<WeakSupervised<Script>>>,
    pub(crate) floods: u32,
}

impl Script {
    /// With the channel of the judged events.
    pub(crate) fn heard(mut self) -> (Self, mpsc::UnboundedReceiver<Do>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.heard = Some(sender);
        (self, receiver)
    }
}

/// After so many turns a flood, or work that commands itself, ends with a failure: a test does not hang.
const MANY: u32 = 50_000;

/// What an event does. All state transitions go to a numbered state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Do {
    /// Moves to the state.
    Move(u32),
    /// Moves to the state and runs the jobs.
    Run(u32, Vec<Job>),
    /// Stays, and runs the jobs.
    Add(Vec<Job>),
    /// Changes the data of the state and stays.
    Change(u32),
    /// Is deferred unless the machine is in this state, in which it moves to the next one.
    Only(u32),
    Nothing,
    /// Cancels the work and moves.
    Cancel(u32),
    Finish,
    Unhandled,
    Panic,
    /// Stays, and sends itself again: the channel is never empty.
    Flood,
    /// Stays, and runs work that returns this event at once.
    Turn,
    // What comes from inside.
    Done(u32),
    Failed(String),
    TimedOut,
    Stop,
    Abandoned,
}

/// What the worker does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Job {
    /// Returns `Done` with this number.
    Return(u32),
    /// Returns no event.
    Quiet,
    Sleep(Duration),
    Hang,
    Fail(&'static str),
    Panic,
    /// Returns the event.
    Event(Box<Do>),
    /// Returns `Turn`.
    Turn,
    /// Never done; panics if it is polled without end.
    Counted,
    /// Sends to its own machine, and waits for room.
    SendOwn(Box<Do>),
    /// Sends to its own machine if there is room, and reports whether there was.
    TrySendOwn(Box<Do>),
}

impl Machine for Script {
    type State = u32;
    type Event = Do;
    type Command = Job;

    fn state(&self) -> u32 {
        self.state
    }

    fn start(&mut self, out: &mut Out<Job>) {
        self.start.drain(..).for_each(|job| out.run(job));
    }

    fn handle(&mut self, event: Do, out: &mut Out<Job>) -> Reaction<Do> {
        if let Some(heard) = &self.heard {
            let _ = heard.send(event.clone());
        }
        match event {
            Do::Move(to) | Do::Done(to) => self.state = to,
            Do::Run(to, jobs) => {
                self.state = to;
                for job in jobs {
                    out.run(job);
                }
            }
            Do::Add(jobs) => {
                for job in jobs {
                    out.run(job);
                }
                return Reaction::Stayed;
            }
            Do::Change(to) => {
                self.state = to;
                return Reaction::Stayed;
            }
            Do::Only(state) if state == self.state => self.state += 1,
            Do::Only(_) => return Reaction::Deferred(event),
            Do::Nothing => return Reaction::Stayed,
            Do::Cancel(to) => {
                out.cancel();
                self.state = to;
            }
            Do::Finish | Do::Abandoned => out.finish(),
            Do::Unhandled => return Reaction::Unhandled(event),
            Do::Panic => panic!("asked to panic"),
            Do::Flood => {
                self.floods += 1;
                match self.own.get().and_then(WeakSupervised::upgrade) {
                    Some(own) if self.floods < MANY => own.try_send(Do::Flood).unwrap(),
                    _ => out.finish(),
                }
                return Reaction::Stayed;
            }
            Do::Turn => {
                out.run(Job::Turn);
                return Reaction::Stayed;
            }
            Do::Failed(_) => self.state = 500,
            Do::TimedOut => self.state += 100,
            Do::Stop => self.state = 900,
        }
        Reaction::Moved
    }

    fn timeout(&self) -> Option<(Duration, Do)> {
        let after = self.timeouts.get(&self.state).copied().or(self.timeout);
        after.map(|after| (after, Do::TimedOut))
    }

    fn while_busy(&self) -> WhileBusy {
        self.while_busy
    }

    fn on_failure(&self, failure: &Failure) -> Option<Do> {
        self.on_failure.map(|event| event(failure.to_string()))
    }

    fn on_stop(&self) -> Option<Do> {
        self.on_stop.clone()
    }

    fn on_abandoned(&self) -> Option<Do> {
        self.on_abandoned.clone()
    }
}

/// Executes jobs, and reports when each begins and ends.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) reports: mpsc::UnboundedSender<String>,
    /// Its drop is reported under this name.
    pub(crate) name: Option<String>,
    pub(crate) machine: Option<WeakSupervised<Script>>,
    pub(crate) turns: u32,
}

impl Drop for Hands {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = self.reports.send(format!("drop {name}"));
        }
    }
}

/// Reports the end of a job, also when it is dropped.
struct Reports<'a>(&'a mpsc::UnboundedSender<String>, String);

impl Drop for Reports<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(format!("end {}", self.1));
    }
}

impl Hands {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self::reporting(&sender), receiver)
    }

    pub(crate) fn reporting(reports: &mpsc::UnboundedSender<String>) -> Self {
        Self { reports: reports.clone(), name: None, machine: None, turns: 0 }
    }

    pub(crate) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl Worker<Script> for Hands {
    fn attach(&mut self, machine: WeakSupervised<Script>) {
        self.machine = Some(machine);
    }

    async fn run(&mut self, job: Job) -> Result<Option<Do>, DynError> {
        if job == Job::Turn {
            self.turns += 1;
            return if self.turns < MANY { Ok(Some(Do::Turn)) } else { Err("turned without end".into()) };
        }
        let _ = self.reports.send(format!("begin {job:?}"));
        let _reports = Reports(&self.reports, format!("{job:?}"));
        let own = || self.machine.as_ref().and_then(WeakSupervised::upgrade).ok_or("no handle");
        match job {
            Job::Return(number) => Ok(Some(Do::Done(number))),
            Job::Quiet => Ok(None),
            Job::Sleep(time) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            Job::Hang => std::future::pending().await,
            Job::Fail(why) => Err(why.into()),
            Job::Panic => panic!("the worker panics"),
            Job::Event(event) => Ok(Some(*event)),
            Job::Turn => Ok(Some(Do::Turn)),
            Job::Counted => {
                let mut polls = 0;
                poll_fn(|_| {
                    polls += 1;
                    assert!(polls < 100, "polled without end");
                    Poll::Pending
                })
                .await
            }
            Job::SendOwn(event) => {
                own()?.send(*event).await?;
                Ok(None)
            }
            Job::TrySendOwn(event) => {
                let sent = own()?.try_send(*event).map_err(|error| error.reason);
                let _ = self.reports.send(format!("{sent:?}"));
                Ok(None)
            }
        }
    }
}

/// Everything that has arrived so far.
pub(crate) fn drained<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> Vec<T> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

/// A script with hands, not spawned yet, and the reports of its jobs.
pub(crate) fn with_hands(script: Script) -> (MachineBuilder<Script, Hands>, mpsc::UnboundedReceiver<String>) {
    let (hands, jobs) = Hands::new();
    (supervise(script).worker(hands), jobs)
}

/// A script that runs.
pub(crate) fn spawned(script: Script) -> Supervised<Script> {
    with_hands(script).0.spawn().unwrap()
}

/// Waits for the state, at most a day of the paused clock.
pub(crate) async fn reached(machine: &Supervised<Script>, state: u32) {
    let wait = machine.wait_for(format!("it reaches {state}"), move |now| *now == state);
    wait.within(24 * HOUR).await.unwrap();
}

/// The states that were entered, and when, in milliseconds since `began`.
pub(crate) fn entered(machine: &Supervised<Script>, began: tokio::time::Instant) -> Vec<(u128, u32)> {
    let transitions = machine.transitions();
    transitions.iter().map(|transition| ((transition.at - began).as_millis(), transition.to)).collect()
}
