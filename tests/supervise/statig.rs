//! A statig machine inside a machine: exit, transition and entry in order.
//!
//! ```text
//! root                unhandled
//! ├── idle
//! └── online          entry: connect, exit: close
//!     ├── syncing     entry: fetch, exit: halt
//!     └── serving     entry: listen, exit: drain
//! ```

#![allow(clippy::trivially_copy_pass_by_ref, clippy::unused_self, reason = "statig passes events so")]

use std::time::Duration;

use statig::blocking::{InitializedStateMachine, IntoStateMachineExt as _};
use statig::prelude::*;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use watchkeeper::DynError;
use watchkeeper::supervise::{AskError, Machine, Out, Reaction, Supervised, Worker, supervise};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Start,
    Synced,
    Refetch,
    Note,
    Stop,
    TimedOut,
    Never,
}

type Command = &'static str;

/// What a call of statig returns beside the state.
#[derive(Default)]
struct Context {
    commands: Vec<Command>,
    moved: bool,
    unhandled: bool,
}

#[derive(Default)]
struct Link {
    notes: u32,
}

#[state_machine(
    initial = "State::syncing()",
    state(derive(Clone, Debug, PartialEq)),
    after_transition = "Self::after_transition",
    visibility = "pub(crate)"
)]
impl Link {
    #[state(superstate = "root")]
    fn idle(event: &Event) -> Outcome<State> {
        match event {
            Event::Start => Transition(State::syncing()),
            _ => Super,
        }
    }

    #[state(superstate = "online", entry_action = "enter_syncing", exit_action = "leave_syncing")]
    fn syncing(event: &Event, context: &mut Context) -> Outcome<State> {
        match event {
            Event::Synced => {
                context.commands.push("record");
                Transition(State::serving())
            }
            Event::Refetch => Transition(State::syncing()),
            Event::TimedOut => Transition(State::idle()),
            _ => Super,
        }
    }

    #[state(superstate = "online", entry_action = "enter_serving", exit_action = "leave_serving")]
    fn serving(event: &Event) -> Outcome<State> {
        match event {
            Event::Start => Handled,
            _ => Super,
        }
    }

    #[superstate(superstate = "root", entry_action = "enter_online", exit_action = "leave_online")]
    fn online(&mut self, event: &Event, context: &mut Context) -> Outcome<State> {
        match event {
            Event::Stop => {
                context.commands.push("report");
                Transition(State::idle())
            }
            Event::Note => {
                self.notes += 1;
                Handled
            }
            _ => Super,
        }
    }

    #[superstate]
    fn root(context: &mut Context) -> Outcome<State> {
        context.unhandled = true;
        Handled
    }

    #[action]
    fn enter_online(context: &mut Context) {
        context.commands.push("connect");
    }

    #[action]
    fn leave_online(context: &mut Context) {
        context.commands.push("close");
    }

    #[action]
    fn enter_syncing(context: &mut Context) {
        context.commands.push("fetch");
    }

    #[action]
    fn leave_syncing(context: &mut Context) {
        context.commands.push("halt");
    }

    #[action]
    fn enter_serving(context: &mut Context) {
        context.commands.push("listen");
    }

    #[action]
    fn leave_serving(context: &mut Context) {
        context.commands.push("drain");
    }
}

impl Link {
    fn after_transition(&mut self, _: &State, _: &State, context: &mut Context) {
        context.moved = true;
    }
}

/// The adapter.
struct Adapter {
    inner: InitializedStateMachine<Link>,
    /// The entry of the first state has commanded these.
    first: Vec<Command>,
}

impl Adapter {
    fn new() -> Self {
        let mut context = Context::default();
        let inner = Link::default().uninitialized_state_machine().init_with_context(&mut context);
        Self { inner, first: context.commands }
    }
}

impl Machine for Adapter {
    type State = (State, u32);
    type Event = Event;
    type Command = Command;

    fn state(&self) -> (State, u32) {
        (self.inner.state().clone(), self.inner.inner().notes)
    }

    fn start(&mut self, out: &mut Out<Command>) {
        self.first.drain(..).for_each(|command| out.run(command));
    }

    fn handle(&mut self, event: Event, out: &mut Out<Command>) -> Reaction<Event> {
        let mut context = Context::default();
        self.inner.handle_with_context(&event, &mut context);
        context.commands.into_iter().for_each(|command| out.run(command));
        match context {
            Context { unhandled: true, .. } => Reaction::Unhandled(event),
            Context { moved: true, .. } => Reaction::Moved,
            _ => Reaction::Stayed,
        }
    }

    fn timeout(&self) -> Option<(Duration, Event)> {
        matches!(self.inner.state(), State::Syncing {}).then_some((Duration::from_secs(1), Event::TimedOut))
    }
}

/// Records the commands, and fails one of them.
struct Records(mpsc::UnboundedSender<Command>, Command);

impl Worker<Adapter> for Records {
    async fn run(&mut self, command: Command) -> Result<Option<Event>, DynError> {
        let _ = self.0.send(command);
        if command == self.1 { Err("refused".into()) } else { Ok(None) }
    }
}

fn link(fails: Command) -> (Supervised<Adapter>, mpsc::UnboundedReceiver<Command>) {
    let (sender, commands) = mpsc::unbounded_channel();
    (supervise(Adapter::new()).worker(Records(sender, fails)).spawn().unwrap(), commands)
}

/// What has been commanded until all is idle.
async fn commanded(commands: &mut mpsc::UnboundedReceiver<Command>) -> Vec<Command> {
    sleep(Duration::from_millis(1)).await;
    crate::common::drained(commands)
}

#[tokio::test(start_paused = true)]
async fn the_first_state_is_entered_at_the_start_and_not_with_the_first_event() {
    let (machine, mut commands) = link("");
    assert_eq!(machine.state(), (State::syncing(), 0));
    assert_eq!(commanded(&mut commands).await, ["connect", "fetch"]);
    assert!(machine.transitions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn exit_transition_and_entry_run_in_this_order() {
    let (machine, mut commands) = link("");
    commanded(&mut commands).await;
    assert_eq!(machine.ask(Event::Synced).await.unwrap().0, State::serving());
    // statig runs the handler's own command before the exit.
    assert_eq!(commanded(&mut commands).await, ["record", "halt", "listen"]);
    assert_eq!(machine.ask(Event::Stop).await.unwrap().0, State::idle());
    assert_eq!(commanded(&mut commands).await, ["report", "drain", "close"]);
    assert_eq!(machine.ask(Event::Start).await.unwrap().0, State::syncing());
    assert_eq!(commanded(&mut commands).await, ["connect", "fetch"]);
}

#[tokio::test(start_paused = true)]
async fn a_self_transition_leaves_enters_and_arms_again_and_handled_only_stays() {
    let (machine, mut commands) = link("");
    let began = Instant::now();
    commanded(&mut commands).await;
    sleep(Duration::from_millis(499)).await;
    assert_eq!(machine.ask(Event::Note).await.unwrap(), (State::syncing(), 1));
    assert!(commanded(&mut commands).await.is_empty());
    machine.ask(Event::Refetch).await.unwrap();
    assert_eq!(commanded(&mut commands).await, ["halt", "fetch"]);
    let wait = machine.wait_for("it gives up", |(state, _)| *state == State::idle());
    wait.within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(1501));
    assert_eq!(commanded(&mut commands).await, ["halt", "close"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_state_handles_is_unhandled_by_the_root() {
    let (machine, _commands) = link("");
    assert!(matches!(machine.ask(Event::Never).await, Err(AskError::Unhandled(Event::Never))));
    machine.ask(Event::Stop).await.unwrap();
    assert!(matches!(machine.ask(Event::Note).await, Err(AskError::Unhandled(Event::Note))));
    assert_eq!(machine.state().0, State::idle());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fails_has_not_undone_the_exit() {
    let (machine, mut commands) = link("listen");
    commanded(&mut commands).await;
    machine.send(Event::Synced).await.unwrap();
    assert_eq!(machine.ended().await.to_string(), "failed: (unnamed): refused");
    assert_eq!(commanded(&mut commands).await, ["record", "halt", "listen"]);
    assert_eq!(machine.state().0, State::serving());
}
