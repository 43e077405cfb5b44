//! Compares a machine with its specification, a table of rows.
//!
//! A test implements [`Subject`] for its machine, writes the table, and calls:
//!
//! - [`walk`] tries every event in every state, until it finds no new state.
//! - [`Walk::compare`] compares what it found with the table, in both directions: each step follows exactly one row
//!   or is a rejection, and each place and event of a row is reached.
//! - [`Walk::flips`] changes each row in each detail, one at a time, and returns the changes that the comparison misses.
//! - [`mermaid`] draws the table.
//!
//! The [`Lifecycle`](crate::Lifecycle) is tested by this walk too; its table has more columns and its own comparison.
//!
//! # Examples
//!
//! A turnstile: a coin unlocks it, a push locks it again, one coin too many is returned. For its specification one
//! writes 20 lines: `Subject` takes 10, the table 5, the calls 5.
//!
//! ```
//! use watchkeeper_fsm::spec::{Go, Row, Stay, Step, Subject, mermaid, row, walk};
//!
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
//! enum State { Locked, Unlocked }
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
//! enum Event { Coin, Push }
//! #[derive(Clone, Copy, Debug, PartialEq, Eq)]
//! enum Command { ReturnCoin }
//! use {Command::ReturnCoin, Event::{Coin, Push}, State::{Locked, Unlocked}};
//!
//! #[derive(Clone)]
//! struct Turnstile(State);
//!
//! impl Turnstile {
//!     fn handle(&mut self, event: Event) -> Step<Command> {
//!         match (self.0, event) {
//!             (Locked, Coin) => self.0 = Unlocked,
//!             (Unlocked, Push) => self.0 = Locked,
//!             (Unlocked, Coin) => return Step::Stayed(vec![ReturnCoin]),
//!             (Locked, Push) => return Step::Rejected,
//!         }
//!         Step::Moved(vec![])
//!     }
//! }
//!
//! impl Subject for Turnstile {
//!     type Key = State;
//!     type Place = State;
//!     type Event = Event;
//!     type Command = Command;
//!     fn key(&self) -> State { self.0 }
//!     fn place(&self) -> State { self.0 }
//!     fn events(&self) -> Vec<Event> { vec![Coin, Push] }
//!     fn step(&mut self, event: Event) -> Step<Command> { self.handle(event) }
//! }
//!
//! let table: [Row<Turnstile>; 3] = [
//!     row(&[Locked], &[Coin], Go(Unlocked), &[]),
//!     row(&[Unlocked], &[Push], Go(Locked), &[]),
//!     row(&[Unlocked], &[Coin], Stay, &[ReturnCoin]),
//! ];
//! let found = walk([Turnstile(Locked)], 100)?;
//! let tally = found.compare(&table)?;
//! assert_eq!((found.states, tally.taken, tally.rejected), (2, 3, 1));
//! assert_eq!(found.flips(&table)?.missed, [""; 0]);
//! assert!(mermaid(&table, Locked).contains("Unlocked --> Locked : Push"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{HashSet, VecDeque};
use std::fmt::{self, Debug, Write as _};
use std::hash::Hash;

#[cfg(test)]
mod tests;

pub use To::{Go, Stay};

/// A machine at one moment.
pub trait Subject: Clone {
    /// Machines with the same key behave alike. It has no counter: with one, the walk does not end.
    type Key: Eq + Hash;
    /// The states that the table distinguishes.
    type Place: Copy + Eq + Hash + Debug;
    /// The events that the table distinguishes.
    type Event: Copy + Eq + Hash + Debug;
    /// The commands that the table distinguishes.
    type Command: Clone + PartialEq + Debug;

    /// Returns everything that decides what the machine does.
    fn key(&self) -> Self::Key;

    /// Returns the state.
    fn place(&self) -> Self::Place;

    /// Returns every event that can happen now, also those to be rejected.
    fn events(&self) -> Vec<Self::Event>;

    /// Passes one event to the machine.
    fn step(&mut self, event: Self::Event) -> Step<Self::Command>;
}

/// The result of one event. A move to the same place is not the same as staying there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<C> {
    /// A transition, also one to the same place, with its commands in order.
    Moved(Vec<C>),
    /// No transition. What is remembered may change.
    Stayed(Vec<C>),
    /// The event has no meaning here and changed nothing.
    Rejected,
}

impl<C> Step<C> {
    /// The commands; none for a rejection.
    #[must_use]
    pub fn commands(&self) -> &[C] {
        match self {
            Self::Moved(commands) | Self::Stayed(commands) => commands,
            Self::Rejected => &[],
        }
    }
}

/// Where a row leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<P> {
    /// To this place, by a transition.
    Go(P),
    /// No transition.
    Stay,
}

/// One row of a table: in one of these places, on one of these events.
pub struct Row<S: Subject> {
    places: Vec<S::Place>,
    on: Vec<S::Event>,
    when: Option<Condition<S>>,
    to: To<S::Place>,
    commands: Vec<S::Command>,
}

/// A condition with its name in a diagram.
type Condition<S> = (&'static str, fn(&S) -> bool);

/// Returns a row without a condition: see [`Row::when`].
pub fn row<S: Subject>(
    places: &[S::Place],
    on: &[S::Event],
    to: To<S::Place>,
    commands: &[S::Command],
) -> Row<S> {
    Row { places: places.to_vec(), on: on.to_vec(), when: None, to, commands: commands.to_vec() }
}

impl<S: Subject> Row<S> {
    /// Limits the row to where `holds` returns true, shown as `name` in the diagram. It may read only what the key
    /// has: the walk visits one machine for each key.
    #[must_use]
    pub fn when(self, name: &'static str, holds: fn(&S) -> bool) -> Self {
        Self { when: Some((name, holds)), ..self }
    }

    fn applies(&self, before: &S, event: S::Event) -> bool {
        self.places.contains(&before.place())
            && self.on.contains(&event)
            && self.when.is_none_or(|(_, holds)| holds(before))
    }

    /// Whether the step is the one of this row.
    fn explains(&self, edge: &Edge<S>) -> bool {
        match (&edge.step, self.to) {
            (Step::Moved(commands), Go(place)) => place == edge.after.place() && *commands == self.commands,
            (Step::Stayed(commands), Stay) => {
                edge.before.place() == edge.after.place() && *commands == self.commands
            }
            _ => false,
        }
    }
}

impl<S: Subject> Clone for Row<S> {
    fn clone(&self) -> Self {
        Self { places: self.places.clone(), on: self.on.clone(), commands: self.commands.clone(), ..*self }
    }
}

impl<S: Subject> Debug for Row<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { places, on, when, to, commands } = self;
        let when = when.map_or(String::new(), |(name, _)| format!(" [{name}]"));
        write!(f, "in {places:?} on {on:?}{when}: {to:?}, commands {commands:?}")
    }
}

/// One event and its result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Edge<S: Subject> {
    /// The machine before.
    pub before: S,
    /// What happened.
    pub event: S::Event,
    /// The result.
    pub step: Step<S::Command>,
    /// The machine after.
    pub after: S,
}

/// Everything that a machine can do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Walk<S: Subject> {
    /// The number of states, by their keys.
    pub states: usize,
    /// Each event in each of them.
    pub edges: Vec<Edge<S>>,
}

/// There are more states than the walk may find.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unbounded {
    /// How many it may find.
    pub most: usize,
}

impl fmt::Display for Unbounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { most } = self;
        write!(
            f,
            "there are more than {most} states: leave counters out of the key, or allow for more states"
        )
    }
}

/// The text, for `unwrap` and for a `main` that returns it.
impl Debug for Unbounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Unbounded {}

/// Tries every event in every state, breadth first, until it finds no new state.
///
/// # Errors
///
/// [`Unbounded`]: there are more than `most` states.
pub fn walk<S: Subject>(starts: impl IntoIterator<Item = S>, most: usize) -> Result<Walk<S>, Unbounded> {
    let (mut seen, mut queue) = (HashSet::new(), VecDeque::new());
    for start in starts {
        if seen.insert(start.key()) {
            queue.push_back(start);
        }
    }
    let mut edges = Vec::new();
    while let Some(before) = queue.pop_front() {
        if seen.len() > most {
            return Err(Unbounded { most });
        }
        for event in before.events() {
            let mut after = before.clone();
            let step = after.step(event);
            if seen.insert(after.key()) {
                queue.push_back(after.clone());
            }
            edges.push(Edge { before: before.clone(), event, step, after });
        }
    }
    Ok(Walk { states: seen.len(), edges })
}

/// The number of steps of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Described by a row.
    pub taken: usize,
    /// Named by no row, and rejected.
    pub rejected: usize,
}

/// Where machine and table differ: names the place, the event and the row.
#[derive(Clone, PartialEq, Eq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text, for `unwrap` and for a `main` that returns it.
impl Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Mismatch {}

/// The changes of a table, and what the comparison misses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flips {
    /// How many changes were tried.
    pub tried: usize,
    /// Those that the comparison missed: nothing checks this part of the table.
    pub missed: Vec<String>,
}

impl<S: Subject> Walk<S> {
    /// Compares the machine with the table, in both directions.
    ///
    /// # Errors
    ///
    /// The first [`Mismatch`]: a step that differs from its row, or has two; a step without a row that is no
    /// rejection, or changed something; a place and event of a row that are never reached; a row without places or
    /// events.
    pub fn compare(&self, table: &[Row<S>]) -> Result<Tally, Mismatch> {
        let mut tally = Tally { taken: 0, rejected: 0 };
        let mut reached = HashSet::new();
        for edge in &self.edges {
            let mut rows = table.iter().enumerate().filter(|(_, row)| row.applies(&edge.before, edge.event));
            match (rows.next(), rows.next()) {
                (None, _) => {
                    if edge.step != Step::Rejected || edge.before.key() != edge.after.key() {
                        return Err(differs(edge, "no row, so it is to be rejected and to change nothing"));
                    }
                    tally.rejected += 1;
                }
                (Some((at, row)), None) => {
                    if !row.explains(edge) {
                        return Err(differs(edge, &format!("{row:?}")));
                    }
                    reached.insert((at, edge.before.place(), edge.event));
                    tally.taken += 1;
                }
                (Some((_, one)), Some((_, other))) => {
                    return Err(differs(edge, &format!("two rows:\n    {one:?}\n    {other:?}")));
                }
            }
        }
        for (at, row) in table.iter().enumerate() {
            if row.places.is_empty() || row.on.is_empty() {
                return Err(Mismatch(format!(
                    "a row claims nothing, as it has no place or no event: {row:?}"
                )));
            }
            for (&place, &event) in pairs(&row.places, &row.on) {
                if !reached.contains(&(at, place, event)) {
                    return Err(Mismatch(format!("{place:?}, {event:?}: never reached; the row: {row:?}")));
                }
            }
        }
        Ok(tally)
    }

    /// Changes each row in each detail, one at a time: where it leads, each command, each place, each event. Also
    /// drops its condition, removes it, and repeats it. A change without an effect on any step is skipped.
    ///
    /// # Errors
    ///
    /// The [`Mismatch`] of the unchanged table, which would hide all others.
    pub fn flips(&self, table: &[Row<S>]) -> Result<Flips, Mismatch> {
        self.compare(table)?;
        let mut flips = Flips { tried: 0, missed: Vec::new() };
        for (at, row) in table.iter().enumerate() {
            let mut check = |changed: Vec<Row<S>>, what: &str| {
                flips.tried += 1;
                if self.compare(&changed).is_ok() {
                    flips.missed.push(format!("{row:?}\n    {what}"));
                }
            };
            for flipped in self.flipped(table, row) {
                if !self.says_the_same(row, &flipped) {
                    let mut changed = table.to_vec();
                    let what = format!("{flipped:?}");
                    changed[at] = flipped;
                    check(changed, &what);
                }
            }
            let mut without = table.to_vec();
            without.remove(at);
            check(without, "left out");
            check([table, std::slice::from_ref(row)].concat(), "twice");
        }
        Ok(flips)
    }

    /// `row` with one detail changed, in every way.
    fn flipped(&self, table: &[Row<S>], row: &Row<S>) -> Vec<Row<S>> {
        let places = distinct(self.edges.iter().map(|edge| edge.before.place()));
        let events = distinct(self.edges.iter().map(|edge| edge.event));
        let commands = distinct(table.iter().flat_map(|row| row.commands.iter().cloned()));
        let targets = places.iter().copied().map(Go).chain([Stay]).filter(|to| *to != row.to);
        let mut flipped: Vec<Row<S>> = targets.map(|to| Row { to, ..row.clone() }).collect();
        let lists = variations(&row.commands, &commands).into_iter();
        flipped.extend(lists.map(|commands| Row { commands, ..row.clone() }));
        let lists = neighbours(&row.places, &places).into_iter();
        flipped.extend(lists.map(|places| Row { places, ..row.clone() }));
        flipped.extend(neighbours(&row.on, &events).into_iter().map(|on| Row { on, ..row.clone() }));
        flipped.extend(row.when.map(|_| Row { when: None, ..row.clone() }));
        flipped
    }

    /// Whether both rows describe the same steps, such as with a condition that always holds.
    fn says_the_same(&self, row: &Row<S>, flipped: &Row<S>) -> bool {
        let is_same = |edge: &Edge<S>| {
            let of = |row: &Row<S>| row.applies(&edge.before, edge.event);
            of(row) == of(flipped) && (!of(row) || (row.to == flipped.to && row.commands == flipped.commands))
        };
        let claims =
            |row: &Row<S>| pairs(&row.places, &row.on).map(|(p, e)| (*p, *e)).collect::<HashSet<_>>();
        claims(row) == claims(flipped) && self.edges.iter().all(is_same)
    }
}

fn differs<S: Subject>(edge: &Edge<S>, table: &str) -> Mismatch {
    let Edge { before, event, step, after } = edge;
    let (before, after) = (before.place(), after.place());
    Mismatch(format!("{before:?}, {event:?}\n  the table: {table}\n  the machine: to {after:?}, {step:?}"))
}

fn pairs<'a, A, B>(some: &'a [A], others: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    some.iter().flat_map(move |one| others.iter().map(move |other| (one, other)))
}

/// Without repetitions, in the order of the first ones.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

/// Every list that differs from `list` by one item inserted, removed or replaced, or by two neighbours swapped.
pub(crate) fn variations<T: Clone + PartialEq>(list: &[T], all: &[T]) -> Vec<Vec<T>> {
    let mut found = Vec::new();
    for at in 0..=list.len() {
        for other in all {
            let mut longer = list.to_vec();
            longer.insert(at, other.clone());
            found.push(longer);
        }
    }
    for at in 0..list.len() {
        let mut shorter = list.to_vec();
        shorter.remove(at);
        found.push(shorter);
        for other in all.iter().filter(|other| **other != list[at]) {
            let mut replaced = list.to_vec();
            replaced[at] = other.clone();
            found.push(replaced);
        }
        if at > 0 {
            let mut swapped = list.to_vec();
            swapped.swap(at - 1, at);
            found.push(swapped);
        }
    }
    found
}

/// Every list with one item more or fewer; the order has no meaning.
pub(crate) fn neighbours<T: Clone + PartialEq>(list: &[T], all: &[T]) -> Vec<Vec<T>> {
    let toggle = |item: &T| {
        let mut toggled: Vec<T> = list.iter().filter(|it| *it != item).cloned().collect();
        if toggled.len() == list.len() {
            toggled.push(item.clone());
        }
        toggled
    };
    all.iter().map(toggle).collect()
}

/// Draws the table as a Mermaid state diagram that begins at `start`: an arrow for each place and row, with the
/// events, the condition and the commands (`Coin [condition] / ReturnCoin`). A row that stays ends in `(stays)`.
#[must_use]
pub fn mermaid<S: Subject>(table: &[Row<S>], start: S::Place) -> String {
    let mut places = vec![start];
    places.extend(table.iter().flat_map(|row| {
        let to = match row.to {
            Go(place) => Some(place),
            Stay => None,
        };
        row.places.iter().copied().chain(to)
    }));
    let places = distinct(places.into_iter());
    let mut text = String::from("stateDiagram-v2\n");
    for (at, place) in places.iter().enumerate() {
        let name = label(place);
        if id(at, &name) != name {
            let _ = writeln!(text, "    state \"{name}\" as {}", id(at, &name));
        }
    }
    let node = |place: S::Place| {
        let at = places.iter().position(|known| *known == place).unwrap_or(places.len());
        id(at, &label(&place))
    };
    let _ = writeln!(text, "    [*] --> {}", node(start));
    for row in table {
        let on: Vec<String> = row.on.iter().map(label).collect();
        let when = row.when.map_or(String::new(), |(name, _)| format!(" [{}]", escaped(name)));
        let commands: Vec<String> = row.commands.iter().map(label).collect();
        let commands =
            if commands.is_empty() { String::new() } else { format!(" / {}", commands.join(", ")) };
        for &place in &row.places {
            let (to, stays) = match row.to {
                Go(to) => (to, ""),
                Stay => (place, " (stays)"),
            };
            let (from, to, on) = (node(place), node(to), on.join(", "));
            let _ = writeln!(text, "    {from} --> {to} : {on}{when}{commands}{stays}");
        }
    }
    text
}

fn label(value: &impl Debug) -> String {
    escaped(&format!("{value:?}"))
}

/// Replaces what ends a label or a string in Mermaid.
fn escaped(text: &str) -> String {
    let harmless = |c: char| match c {
        '"' => '\'',
        ':' | ';' | '#' | '\n' | '\r' => ' ',
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// A name that is no word is replaced by a number.
fn id(at: usize, name: &str) -> String {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_word && !name.is_empty() { name.to_owned() } else { format!("s{at}") }
}
