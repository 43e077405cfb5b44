//! The machine and worker that a life scripts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchkeeper::DynError;
use watchkeeper::supervise::{Failure, Machine, Out, Reaction, WhileBusy, Worker};

/// What the machine answers, the same in each life.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// By state.
    pub(crate) while_busy: Vec<WhileBusy>,
    /// By state, in milliseconds.
    pub(crate) timeouts: Vec<Option<u64>>,
    pub(crate) start: Vec<Job>,
    pub(crate) on_failure: Option<Event>,
    pub(crate) on_stop: Option<Event>,
    pub(crate) on_abandoned: Option<Event>,
    pub(crate) timed_out: Event,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) act: Act,
    pub(crate) to: u8,
    pub(crate) jobs: Vec<Job>,
    /// Distinguishes the sent ones.
    pub(crate) id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Move,
    Stay,
    /// Changes the state and says that it stays.
    Change,
    /// Deferred, unless the machine is in the state; then it moves to the next.
    DeferUnlessThere,
    Unhandled,
    Cancel,
    Finish,
    Panic,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) millis: u64,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Quiet,
    /// Returns an event that moves to the state.
    Moves(u8),
    Fails,
    Panics,
    Hangs,
}

impl Event {
    pub(crate) fn moves(to: u8) -> Self {
        Self { act: Act::Move, to, jobs: Vec::new(), id: 0 }
    }
}

/// What machine and worker did, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

pub(crate) struct App {
    pub(crate) rules: Rules,
    pub(crate) state: u8,
    pub(crate) log: Log,
}

impl App {
    fn write(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

/// The line of a judged event.
pub(crate) fn judged(state: u8, event: &Event) -> String {
    format!("{state}: {:?} {} {}", event.act, event.to, event.id)
}

impl Machine for App {
    type State = u8;
    type Event = Event;
    type Command = Job;

    fn state(&self) -> u8 {
        self.state
    }

    fn start(&mut self, out: &mut Out<Job>) {
        self.write("start".to_owned());
        self.rules.start.iter().for_each(|job| out.run(job.clone()));
    }

    fn handle(&mut self, event: Event, out: &mut Out<Job>) -> Reaction<Event> {
        self.write(judged(self.state, &event));
        match event.act {
            Act::DeferUnlessThere if self.state != event.to => return Reaction::Deferred(event),
            Act::Unhandled => return Reaction::Unhandled(event),
            Act::Panic => panic!("scripted"),
            Act::Cancel => out.cancel(),
            Act::Finish => out.finish(),
            _ => {}
        }
        let Event { act, to, jobs, .. } = event;
        for job in jobs {
            out.run(job);
        }
        match act {
            Act::Stay => return Reaction::Stayed,
            Act::Change => {
                self.state = to;
                return Reaction::Stayed;
            }
            Act::DeferUnlessThere => self.state = (to + 1) % 4,
            _ => self.state = to,
        }
        Reaction::Moved
    }

    fn timeout(&self) -> Option<(Duration, Event)> {
        let millis = self.rules.timeouts[usize::from(self.state)]?;
        Some((Duration::from_millis(millis), self.rules.timed_out.clone()))
    }

    fn while_busy(&self) -> WhileBusy {
        self.rules.while_busy[usize::from(self.state)]
    }

    fn on_failure(&self, _: &Failure) -> Option<Event> {
        self.rules.on_failure.clone()
    }

    fn on_stop(&self) -> Option<Event> {
        self.rules.on_stop.clone()
    }

    fn on_abandoned(&self) -> Option<Event> {
        self.rules.on_abandoned.clone()
    }
}

pub(crate) struct Hands(pub(crate) Log);

/// Writes when the job's future is dropped.
struct InHand<'a>(&'a Log);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("end".to_owned());
    }
}

impl Worker<App> for Hands {
    async fn run(&mut self, job: Job) -> Result<Option<Event>, DynError> {
        self.0.lock().unwrap().push(format!("begin {job:?}"));
        let _in_hand = InHand(&self.0);
        if job.millis > 0 {
            tokio::time::sleep(Duration::from_millis(job.millis)).await;
        }
        match job.end {
            End::Quiet => Ok(None),
            End::Moves(to) => Ok(Some(Event::moves(to))),
            End::Fails => Err("scripted".into()),
            End::Panics => panic!("scripted"),
            End::Hangs => std::future::pending().await,
        }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("worker dropped".to_owned());
    }
}
