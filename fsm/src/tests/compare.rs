//! The machine against the table, in both directions: every edge follows exactly one row or is a
//! rejection, and every row is reached in each place, with each event and each ending.

use std::collections::HashSet;

use super::walk::{Edge, Node};
use crate::spec::{Step, Subject as _, Tally};
use crate::table::{Do, Ending, Goes, LifecycleRow, Memory, On, Onward, Place, Remembered, When};
use crate::{Command, Options};

/// What the table uses of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Situation {
    pub(super) place: Place,
    pub(super) paused: bool,
    pub(super) poll_now: bool,
    pub(super) keeps_state: bool,
}

/// What a row means in one situation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    place: Place,
    paused: bool,
    poll_now: bool,
    commands: Vec<Do>,
    ending: Option<Remembered>,
}

impl Situation {
    pub(super) fn new(node: &Node, options: Options) -> Self {
        Self {
            place: node.place(),
            paused: node.lifecycle.is_paused(),
            poll_now: node.poll_now(),
            keeps_state: options.keeps_state_on_timeout,
        }
    }

    fn remembered(self) -> Remembered {
        match (self.poll_now, self.paused) {
            (true, _) => Remembered::PollNow,
            (false, true) => Remembered::Pause,
            (false, false) => Remembered::Nothing,
        }
    }
}

impl LifecycleRow<'_> {
    pub(super) fn is_about(&self, situation: Situation, on: On) -> bool {
        let holds = match self.when {
            When::Always => true,
            When::Paused => situation.paused,
            When::NotPaused => !situation.paused,
            When::KeepsState => situation.keeps_state,
            When::LosesState => !situation.keeps_state,
        };
        holds && self.places.contains(&situation.place) && self.on.contains(&on)
    }
}

/// The one row for `on`; `None` if it is to be rejected.
fn find<'t>(
    table: &'t [LifecycleRow<'t>],
    situation: Situation,
    on: On,
) -> Result<Option<(usize, &'t LifecycleRow<'t>)>, String> {
    let mut rows = table.iter().enumerate();
    let mut rows = rows.by_ref().filter(|(_, row)| row.is_about(situation, on));
    match (rows.next(), rows.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(format!("{situation:?}, {on:?}: more than one row")),
    }
}

/// What `row` means in this situation.
pub(super) fn meaning(
    row: &LifecycleRow<'_>,
    table: &[LifecycleRow<'_>],
    endings: &[Ending<'_>],
    situation: Situation,
) -> Result<Meaning, String> {
    let mut meaning = Meaning {
        place: situation.place,
        paused: situation.paused,
        poll_now: situation.poll_now,
        commands: row.commands.to_vec(),
        ending: None,
    };
    match row.to {
        Goes::Stay(Memory::Same) => {}
        Goes::Stay(Memory::Paused) => meaning.paused = true,
        Goes::Stay(Memory::Resumed) => meaning.paused = false,
        Goes::Stay(Memory::PollNow) => meaning.poll_now = true,
        Goes::Go(Place::Stopped) => {
            meaning.place = Place::Stopped;
            meaning.paused = false;
            meaning.poll_now = false;
        }
        Goes::Go(place) => meaning.place = place,
        Goes::Rest(place) => {
            let remembered = situation.remembered();
            let mut matching = endings.iter().filter(|e| e.remembered == remembered);
            let (Some(ending), None) = (matching.next(), matching.next()) else {
                return Err(format!("not exactly one ending for {remembered:?}"));
            };
            meaning.ending = Some(remembered);
            meaning.commands.extend(ending.commands);
            meaning.place = place;
            if ending.onward == Onward::NextCycle {
                meaning.place = next_cycle(table, Situation { place, ..situation })?;
                meaning.poll_now = false;
            }
        }
    }
    Ok(meaning)
}

fn next_cycle(table: &[LifecycleRow<'_>], rested: Situation) -> Result<Place, String> {
    match find(table, rested, On::PollNow)? {
        Some((_, row)) => match row.to {
            Goes::Go(place) => Ok(place),
            Goes::Rest(_) | Goes::Stay(_) => Err(format!("{rested:?}: PollNow begins no cycle")),
        },
        None => Err(format!("{rested:?}: no row for PollNow")),
    }
}

/// Returns the first mismatch as text.
pub(super) fn compare(
    options: Options,
    edges: &[Edge],
    table: &[LifecycleRow<'_>],
    endings: &[Ending<'_>],
) -> Result<Tally, String> {
    let mut tally = Tally { taken: 0, rejected: 0 };
    let mut reached = HashSet::new();
    for edge in edges {
        let situation = Situation::new(&edge.before, options);
        let row = match edge.before.on(edge.event) {
            Some(on) => find(table, situation, on)?.map(|(index, row)| (on, index, row)),
            None => None,
        };
        let Some((on, index, row)) = row else {
            expect_rejection(edge)?;
            tally.rejected += 1;
            continue;
        };
        let meaning = meaning(row, table, endings, situation)?;
        expect(edge, options, &meaning)?;
        reached.insert((index, situation.place, on, meaning.ending));
        tally.taken += 1;
    }
    every_claim_is_reached(options, table, endings, &reached)?;
    Ok(tally)
}

fn expect(edge: &Edge, options: Options, meaning: &Meaning) -> Result<(), String> {
    let commands: Option<Vec<Command>> =
        meaning.commands.iter().map(|&what| edge.before.driver.fill(what, edge.event)).collect();
    let after = Situation::new(&edge.after, options);
    let same = edge.step != Step::Rejected
        && commands.as_deref() == Some(edge.step.commands())
        && after.place == meaning.place
        && after.paused == meaning.paused
        && after.poll_now == meaning.poll_now;
    if same { Ok(()) } else { Err(report(edge, &format!("{meaning:?}"))) }
}

fn expect_rejection(edge: &Edge) -> Result<(), String> {
    if edge.step == Step::Rejected { Ok(()) } else { Err(report(edge, "rejected")) }
}

fn report(edge: &Edge, table: &str) -> String {
    format!(
        "{:?}, {:?}\n  the table: {table}\n  the machine: {:?}, {:?}",
        edge.before.lifecycle, edge.event, edge.after.lifecycle, edge.step,
    )
}

/// A row claims each of its places, with each of its events, with each way of ending.
fn every_claim_is_reached(
    options: Options,
    table: &[LifecycleRow<'_>],
    endings: &[Ending<'_>],
    reached: &HashSet<(usize, Place, On, Option<Remembered>)>,
) -> Result<(), String> {
    let other = if options.keeps_state_on_timeout { When::LosesState } else { When::KeepsState };
    for (index, row) in table.iter().enumerate().filter(|(_, r)| r.when != other) {
        let ways: Vec<Option<Remembered>> = match row.to {
            Goes::Rest(_) => endings.iter().map(|e| Some(e.remembered)).collect(),
            Goes::Go(_) | Goes::Stay(_) => vec![None],
        };
        for (&place, &on) in row.places.iter().flat_map(|p| row.on.iter().map(move |o| (p, o))) {
            for &way in &ways {
                if !reached.contains(&(index, place, on, way)) {
                    return Err(format!("never reached: {place:?}, {on:?}, {way:?} of {row:?}"));
                }
            }
        }
    }
    Ok(())
}
