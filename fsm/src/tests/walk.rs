//! Everything that the machine can do, found by trying every event in every state.

use super::OPTIONS;
use super::compare::compare;
use super::driver::{Driver, Knowledge};
use crate::machine::{Leaf, Machine};
use crate::spec::{self, Step, Subject, Tally};
use crate::table::{ENDINGS, On, Place, TABLE};
use crate::{Cause, Command, Commands, Event, Lifecycle, Options, Stage};
use crate::{StopReason, WorkId};

const REASONS: [StopReason; 5] = [
    StopReason::Requested,
    StopReason::Dropped,
    StopReason::StartFailed,
    StopReason::Shutdown,
    StopReason::Died,
];
const STAGES: [Stage; 3] = [Stage::SourceRefresh, Stage::Init, Stage::Poll];
const CAUSES: [Cause; 3] = [Cause::Error, Cause::TimedOut, Cause::Panicked];

/// The machine at one moment, with a driver that has seen the same events.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) lifecycle: Lifecycle,
    pub(super) driver: Driver,
    path: Vec<Event>,
}

pub(super) type Edge = spec::Edge<Node>;

/// Everything but the counters and the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub(super) struct Key {
    place: Place,
    failed: Option<Stage>,
    stopped: Option<StopReason>,
    has_state: bool,
    paused: bool,
    poll_now: bool,
    published: bool,
    driver: Knowledge,
}

impl Node {
    pub(super) fn new(options: Options) -> Self {
        Self { lifecycle: Lifecycle::new(options), driver: Driver::new(options), path: Vec::new() }
    }

    fn machine(&self) -> &statig::blocking::InitializedStateMachine<Machine> {
        &self.lifecycle.machine
    }

    pub(super) fn poll_now(&self) -> bool {
        self.machine().poll_now
    }

    /// What the table calls `event` here; `None` for an outcome of work that is not in flight.
    pub(super) fn on(&self, event: Event) -> Option<On> {
        let in_flight = |work, stage| self.driver.in_flight() == Some((work, stage));
        match event {
            Event::Start => Some(On::Start),
            Event::Tick => Some(On::Tick),
            Event::PollNow => Some(On::PollNow),
            Event::Pause => Some(On::Pause),
            Event::Resume => Some(On::Resume),
            Event::Stop(_) => Some(On::Stop),
            Event::Refreshed { work } => in_flight(work, Stage::SourceRefresh).then_some(On::Refreshed),
            Event::Initialized { work } => in_flight(work, Stage::Init).then_some(On::Initialized),
            Event::Polled { work } => in_flight(work, Stage::Poll).then_some(On::Polled),
            Event::WorkFailed { work, stage, cause } => in_flight(work, stage).then_some(match cause {
                Cause::Error => On::Error,
                Cause::TimedOut => On::TimedOut,
                Cause::Panicked => On::Panicked,
            }),
        }
    }

    /// Passes in `event`, and has the driver check the result.
    fn advance(&mut self, event: Event) -> Commands {
        let was = self.lifecycle.clone();
        let commands = self.lifecycle.handle(event);
        self.path.push(event);
        let mut checked = self.driver.observe(event, &commands);
        if matches!(*commands, [Command::Rejected { .. }]) {
            assert_eq!(*commands, [Command::Rejected { event, state: was.state() }]);
            assert_eq!(self.lifecycle, was, "changed by {event:?}, which it rejects");
        } else if event == Event::PollNow {
            let promised = self.lifecycle.poll_now_cycle();
            checked = checked.and_then(|()| self.driver.promise(&commands, promised));
        }
        if let Err(broken) = checked {
            panic!("broken: {broken}\n{commands:?}\nafter {:?}", self.path);
        }
        self.check_accessors();
        commands
    }

    /// What readers see agrees with what the driver has seen.
    fn check_accessors(&self) {
        let (lifecycle, driver) = (&self.lifecycle, &self.driver);
        assert_eq!(self.place(), driver.place(), "after {:?}", self.path);
        assert_eq!(lifecycle.state(), driver.state(), "after {:?}", self.path);
        let in_flight = driver.in_flight().map(|(work, stage)| (stage, work));
        assert_eq!(lifecycle.in_flight(), in_flight, "after {:?}", self.path);
        assert_eq!(lifecycle.is_paused(), driver.is_paused());
        assert_eq!(lifecycle.cycle(), driver.cycle());
        assert_eq!(lifecycle.generation(), driver.generation());
    }
}

impl Subject for Node {
    type Key = Key;
    type Place = Place;
    type Event = Event;
    type Command = Command;

    /// Lists every field, so that the compiler reports a new one.
    fn key(&self) -> Key {
        let Machine {
            options: _,
            has_state,
            paused,
            poll_now,
            cycles: _,
            builds,
            consecutive: _,
            last_work: _,
        } = **self.machine();
        Key {
            place: self.place(),
            failed: match *self.machine().state() {
                Leaf::Failed { stage } => Some(stage),
                _ => None,
            },
            stopped: match *self.machine().state() {
                Leaf::Stopped { reason } => Some(reason),
                _ => None,
            },
            has_state,
            paused,
            poll_now,
            published: builds > 0,
            driver: self.driver.knowledge(),
        }
    }

    fn place(&self) -> Place {
        match *self.machine().state() {
            Leaf::NotBegun => Place::NotBegun,
            Leaf::Starting { work } if work.stage == Stage::Init => Place::StartingInit,
            Leaf::Starting { .. } => Place::StartingRefresh,
            Leaf::Refreshing { .. } => Place::Refreshing,
            Leaf::Polling { .. } => Place::Polling,
            Leaf::Idle => Place::Idle,
            Leaf::Failed { .. } if self.machine().has_state => Place::FailedKeep,
            Leaf::Failed { .. } => Place::FailedRebuild,
            Leaf::Stopped { .. } => Place::Stopped,
        }
    }

    /// Every event, with every id that makes a difference.
    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Start, Event::Tick, Event::PollNow];
        events.extend([Event::Pause, Event::Resume]);
        events.extend(REASONS.map(Event::Stop));
        for work in self.driver.ids() {
            events.extend(outcomes(work));
        }
        events
    }

    fn step(&mut self, event: Event) -> Step<Command> {
        let before = *self.machine().state();
        let commands = self.advance(event);
        match *commands {
            [Command::Rejected { .. }] => Step::Rejected,
            _ if before == *self.machine().state() => Step::Stayed(commands.to_vec()),
            _ => Step::Moved(commands.to_vec()),
        }
    }
}

fn outcomes(work: WorkId) -> impl Iterator<Item = Event> {
    let failures = STAGES
        .into_iter()
        .flat_map(move |stage| CAUSES.map(|cause| Event::WorkFailed { work, stage, cause }));
    [Event::Refreshed { work }, Event::Initialized { work }, Event::Polled { work }]
        .into_iter()
        .chain(failures)
}

/// The number of states, and every edge between them.
pub(super) fn walk(options: Options) -> (usize, Vec<Edge>) {
    let walk = spec::walk([Node::new(options)], 1_000).unwrap_or_else(|unbounded| panic!("{unbounded}"));
    (walk.states, walk.edges)
}

#[test]
fn machine_and_table_agree() {
    let found = OPTIONS.map(|options| {
        let (states, edges) = walk(options);
        let Tally { taken, rejected } =
            compare(options, &edges, TABLE, ENDINGS).unwrap_or_else(|mismatch| panic!("{mismatch}"));
        println!("{options:?}: {states} states, {taken} transitions, {rejected} rejections");
        (states, taken, rejected)
    });
    assert_eq!(found, [(56, 505, 1687), (56, 505, 1687)]);
}

#[test]
fn no_event_has_more_commands_than_the_capacity() {
    let (_, edges) = walk(Options::default());
    let most = edges.iter().map(|edge| edge.step.commands().len()).max();
    assert_eq!(most, Some(Commands::CAPACITY));
}

/// The walk takes one short path to each state. This test takes one long path, so that the counters,
/// which the key leaves out, grow.
#[test]
fn promises_hold_on_a_long_path() {
    const STEPS: usize = 50_000;
    for options in OPTIONS {
        let mut node = Node::new(options);
        // Knuth's MMIX generator, from a fixed seed: the path is the same in every run.
        let mut seed: u64 = 42;
        let mut pick = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((seed >> 33) % below as u64).expect("below a usize")
        };
        for _ in 0..STEPS {
            let mut events = node.events();
            events.retain(|event| !matches!(event, Event::Stop(_)));
            node.advance(events[pick(events.len())]);
            node.path.clear();
        }
        assert!(node.lifecycle.cycle() > 1_000, "{:?}", node.lifecycle);
        assert!(node.lifecycle.generation() > 50, "{:?}", node.lifecycle);
    }
}
