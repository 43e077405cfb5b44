//! What a supervised machine costs beside a loop written by hand, and beside an actor crate.
//!
//! All three publish each state on a watch, and hold 64 events in their channels.

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use kameo::actor::{ActorRef, Spawn};
use kameo::message::{Context, Message};
use tokio::sync::{mpsc, oneshot, watch};
use watchkeeper::supervise::{Machine, Out, Reaction, Supervised, supervise};

use super::{one_thread, two_workers};
use crate::measure::{Row, Samples, Table, Unit, child, processes, resident_bytes};

const ROOM: usize = 64;
const MANY: usize = 10_000;
const FIGURES: [&str; 4] =
    ["event, 1 machine", "ask, 1 machine", "event, 10,000 machines", "ask, 10,000 machines"];

pub(crate) fn measure(table: &mut Table) {
    for (workers, threads) in [("1", "one thread"), ("2", "two workers")] {
        let beside_loop: [(Samples, Samples); 4] = processes(7, "supervise", workers);
        for (what, samples) in FIGURES.iter().zip(&beside_loop) {
            let on_one = workers == "1" && !what.contains("10,000");
            let (goal, most) =
                if on_one { ("at most 1.5 times the loop", 1.5) } else { ("at most 2 times the loop", 2.0) };
            let what = format!("machine beside a loop by hand: {what}, {threads}");
            table.add(Row::compare(what, Unit::Seconds, samples, goal, |event| event.ratio > 1.0 / most));
        }
        let beside_actor: [(Samples, Samples); 4] = processes(7, "supervise-actor", workers);
        for (what, samples) in FIGURES.iter().zip(&beside_actor) {
            let what = format!("machine beside a kameo actor: {what}, {threads}");
            table.add(Row::compare(what, Unit::Seconds, samples, "ahead", |event| event.ratio > 1.0));
        }
    }
    let [idle] = processes(5, "supervise-idle", "1");
    let what = "idle machine: memory, one of 10,000";
    table.add(Row::compare(what, Unit::Bytes, &idle, "under 3 KiB", |idle| idle.new < 3.0 * 1024.0));
}

/// Who is measured.
#[derive(Clone, Copy)]
pub(crate) enum Contestant {
    Loop,
    Machine,
    Actor,
}

/// Measures in a separate process.
pub(crate) fn child(who: Contestant, workers: usize) {
    let runtime = if workers == 1 { one_thread() } else { two_workers() };
    let figures = runtime.block_on(async move {
        // The main thread of two workers is none of them.
        let measured = match who {
            Contestant::Loop => tokio::spawn(figures::<ByHand>()),
            Contestant::Machine => tokio::spawn(figures::<Supervised<Turnstile>>()),
            Contestant::Actor => tokio::spawn(figures::<ActorRef<Actor>>()),
        };
        measured.await.expect("it measures")
    });
    child::print(&figures);
}

/// The bytes of an idle one, in a separate process.
pub(crate) fn child_of_idle(who: Contestant) {
    let bytes = one_thread().block_on(async {
        match who {
            Contestant::Loop => idle::<ByHand>().await,
            Contestant::Machine => idle::<Supervised<Turnstile>>().await,
            Contestant::Actor => idle::<ActorRef<Actor>>().await,
        }
    });
    child::print(&[bytes]);
}

async fn idle<T: Turned>() -> f64 {
    let warm = T::spawn();
    warm.ask(Event::Coin).await;
    let mut all = Vec::with_capacity(MANY);
    let before = resident_bytes();
    all.extend((0..MANY).map(|_| T::spawn()));
    for one in &all {
        one.ask(Event::Coin).await;
    }
    (resident_bytes() - before) / MANY as f64
}

async fn figures<T: Turned>() -> [f64; 4] {
    const EVENTS: usize = 400_000;
    const ASKS: usize = 100_000;
    let one = [T::spawn()];
    let many: Vec<T> = (0..MANY).map(|_| T::spawn()).collect();
    [send(&one, EVENTS).await, ask(&one, ASKS).await, send(&many, EVENTS).await, ask(&many, ASKS).await]
}

/// Seconds for each event, until the last one is judged. The median of five rounds, after one that warms up.
async fn send<T: Turned>(all: &[T], events: usize) -> f64 {
    let each = events / all.len();
    let mut rounds = Vec::new();
    for _ in 0..6 {
        let began = Instant::now();
        for one in all {
            for nth in 0..each {
                one.send_event(if nth % 2 == 0 { Event::Coin } else { Event::Push }).await;
            }
        }
        for one in all {
            one.ask(Event::Push).await;
        }
        rounds.push(began.elapsed());
    }
    each_of(&rounds, events + all.len())
}

async fn ask<T: Turned>(all: &[T], events: usize) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..6 {
        let began = Instant::now();
        for nth in 0..events {
            one_of(all, nth).ask(if nth % 2 == 0 { Event::Coin } else { Event::Push }).await;
        }
        rounds.push(began.elapsed());
    }
    each_of(&rounds, events)
}

fn one_of<T>(all: &[T], nth: usize) -> &T {
    &all[nth / 2 % all.len()]
}

fn each_of(rounds: &[Duration], events: usize) -> f64 {
    let seconds = rounds[1..].iter().map(|round| round.as_secs_f64() / events as f64);
    Samples::new(seconds.collect()).median()
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Coin,
    Push,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Locked,
    Unlocked,
}

/// A turnstile of one of the contestants.
trait Turned: Send + Sync + Sized + 'static {
    fn spawn() -> Self;
    fn send_event(&self, event: Event) -> impl Future<Output = ()> + Send;
    fn ask(&self, event: Event) -> impl Future<Output = Gate> + Send;
}

fn turn(gate: Gate, event: Event) -> Gate {
    match (gate, event) {
        (Gate::Locked, Event::Coin) => Gate::Unlocked,
        (Gate::Unlocked, Event::Push) => Gate::Locked,
        (gate, _) => gate,
    }
}

struct Turnstile(Gate);

impl Machine for Turnstile {
    type State = Gate;
    type Event = Event;
    type Command = Infallible;

    fn state(&self) -> Gate {
        self.0
    }

    fn handle(&mut self, event: Event, _: &mut Out<Infallible>) -> Reaction<Event> {
        let next = turn(self.0, event);
        let moved = next != self.0;
        self.0 = next;
        if moved { Reaction::Moved } else { Reaction::Stayed }
    }
}

impl Turned for Supervised<Turnstile> {
    fn spawn() -> Self {
        supervise(Turnstile(Gate::Locked)).capacity(ROOM).spawn().expect("a runtime is there")
    }

    async fn send_event(&self, event: Event) {
        self.send(event).await.expect("it runs");
    }

    async fn ask(&self, event: Event) -> Gate {
        Supervised::ask(self, event).await.expect("it runs")
    }
}

struct ByHand {
    events: mpsc::Sender<(Event, Option<oneshot::Sender<Gate>>)>,
    _state: watch::Receiver<Gate>,
}

impl Turned for ByHand {
    fn spawn() -> Self {
        let (events, mut received) = mpsc::channel::<(Event, Option<oneshot::Sender<Gate>>)>(ROOM);
        let (publish, state) = watch::channel(Gate::Locked);
        tokio::spawn(async move {
            let mut gate = Gate::Locked;
            while let Some((event, reply)) = received.recv().await {
                let next = turn(gate, event);
                if next != gate {
                    gate = next;
                    publish.send_replace(gate);
                }
                if let Some(reply) = reply {
                    let _ = reply.send(gate);
                }
            }
        });
        Self { events, _state: state }
    }

    async fn send_event(&self, event: Event) {
        self.events.send((event, None)).await.expect("it runs");
    }

    async fn ask(&self, event: Event) -> Gate {
        let (reply, replied) = oneshot::channel();
        self.events.send((event, Some(reply))).await.expect("it runs");
        replied.await.expect("it replies")
    }
}

struct Actor {
    gate: Gate,
    publish: watch::Sender<Gate>,
}

impl kameo::Actor for Actor {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(actor: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(actor)
    }
}

impl Message<Event> for Actor {
    type Reply = Result<Gate, Infallible>;

    async fn handle(&mut self, event: Event, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        let next = turn(self.gate, event);
        if next != self.gate {
            self.gate = next;
            self.publish.send_replace(next);
        }
        Ok(self.gate)
    }
}

impl Turned for ActorRef<Actor> {
    fn spawn() -> Self {
        let (publish, _) = watch::channel(Gate::Locked);
        Actor::spawn_with_mailbox(Actor { gate: Gate::Locked, publish }, kameo::mailbox::bounded(ROOM))
    }

    async fn send_event(&self, event: Event) {
        ActorRef::tell(self, event).await.expect("it runs");
    }

    async fn ask(&self, event: Event) -> Gate {
        ActorRef::ask(self, event).await.expect("it runs")
    }
}
