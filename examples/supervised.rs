//! A turnstile that a coin unlocks and a push, or a time-out, locks again; its table is compared with it and drawn.
//!
//! `cargo run --example supervised`

use std::{convert::Infallible, time::Duration};

use Event::{Coin, Push, Wait};
use State::{Locked, Unlocked};
use watchkeeper::supervise::{Machine, Out, Reaction, supervise};
use watchkeeper_fsm::spec::{Go, Row, Stay, Step, Subject, mermaid, row, walk};

#[rustfmt::skip] #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)] enum State { Locked, Unlocked }
#[rustfmt::skip] #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)] enum Event { Coin, Push, Wait }
#[derive(Clone)]
struct Turnstile(State);

impl Machine for Turnstile {
    type State = State;
    type Event = Event;
    type Command = Infallible; // a machine with commands: examples/worker.rs

    fn state(&self) -> State {
        self.0
    }

    fn handle(&mut self, event: Event, _: &mut Out<Infallible>) -> Reaction<Event> {
        match (self.0, event) {
            (Locked, Coin) => self.0 = Unlocked,
            (Unlocked, Push | Wait) => self.0 = Locked,
            (Unlocked, Coin) => return Reaction::Stayed, // `Moved` would arm the time-out again
            (Locked, Push | Wait) => return Reaction::Unhandled(event),
        }
        Reaction::Moved
    }

    fn timeout(&self) -> Option<(Duration, Event)> {
        (self.0 == Unlocked).then_some((Duration::from_secs(5), Wait))
    }
}

#[rustfmt::skip]
impl Subject for Turnstile {
    type Key = State; type Place = State; type Event = Event; type Command = Infallible;
    fn key(&self) -> State { self.0 } fn place(&self) -> State { self.0 }
    fn events(&self) -> Vec<Event> { vec![Coin, Push, Wait] }
    fn step(&mut self, event: Event) -> Step<Infallible> {
        match self.handle(event, &mut Out::new(tokio::time::Instant::now())) {
            Reaction::Moved => Step::Moved(vec![]), Reaction::Stayed => Step::Stayed(vec![]),
            Reaction::Deferred(_) | Reaction::Unhandled(_) => Step::Rejected,
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)] // the 5 s pass at once
async fn main() -> Result<(), watchkeeper::DynError> {
    let turnstile = supervise(Turnstile(Locked)).spawn()?;
    turnstile.send(Coin).await?;
    assert_eq!(turnstile.ask(Push).await?, Locked);
    println!("{}", turnstile.ask(Push).await.expect_err("it is locked"));
    assert_eq!(turnstile.ask(Coin).await?, Unlocked);
    turnstile.wait_for("it locks", |state| *state == Locked).within(Duration::from_secs(10)).await?;
    turnstile.transitions().iter().for_each(|transition| println!("{transition}"));
    println!("{}", turnstile.stop().await);
    let table: [Row<Turnstile>; 3] = [
        row(&[Locked], &[Coin], Go(Unlocked), &[]),
        row(&[Unlocked], &[Push, Wait], Go(Locked), &[]),
        row(&[Unlocked], &[Coin], Stay, &[]),
    ];
    let found = walk([Turnstile(Locked)], 100)?;
    let (tally, flips) = (found.compare(&table)?, found.flips(&table)?);
    assert_eq!((found.states, tally.taken, tally.rejected, flips.missed.len()), (2, 4, 2, 0));
    print!("{} changes of the table, each noticed\n{}", flips.tried, mermaid(&table, Locked));
    Ok(())
}

#[test]
fn it_is_what_its_table_says() {
    main().unwrap();
}
