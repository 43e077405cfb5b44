//! Changes each row of both tables, one detail at a time: the comparison has to report every change.

use std::collections::HashSet;

use super::OPTIONS;
use super::compare::{Situation, compare, meaning};
use super::walk::{Edge, walk};
use crate::Options;
use crate::spec::{neighbours, variations};
use crate::table::{Do, ENDINGS, Ending, LifecycleRow, Memory, On, Onward, Place, Remembered};
use crate::table::{Goes, TABLE, WAITING, When};

/// Every edge under both options, and every situation that the machine reaches.
struct Walked {
    edges: Vec<(Options, Vec<Edge>)>,
    situations: HashSet<Situation>,
}

impl Walked {
    fn new() -> Self {
        let edges = OPTIONS.map(|options| (options, walk(options).1));
        let situations = edges
            .iter()
            .flat_map(|(options, edges)| edges.iter().map(|e| Situation::new(&e.before, *options)))
            .collect();
        Self { edges: edges.into(), situations }
    }

    fn is_reported(&self, table: &[LifecycleRow<'_>], endings: &[Ending<'_>]) -> bool {
        self.edges.iter().any(|(options, edges)| compare(*options, edges, table, endings).is_err())
    }

    /// Whether both rows mean the same in every situation, such as with `NotPaused` in a place that is
    /// never paused.
    fn same_meaning(&self, row: &LifecycleRow<'_>, flipped: &LifecycleRow<'_>) -> bool {
        self.situations.iter().all(|&situation| {
            On::ALL.iter().all(|&on| {
                let of = |row: &LifecycleRow<'_>| {
                    let about = row.is_about(situation, on);
                    about.then(|| meaning(row, TABLE, ENDINGS, situation))
                };
                of(row) == of(flipped)
            })
        })
    }
}

fn targets() -> impl Iterator<Item = Goes> {
    let memories = [Memory::Same, Memory::Paused, Memory::Resumed, Memory::PollNow];
    let gone = Place::ALL.into_iter().map(Goes::Go);
    gone.chain(WAITING.iter().copied().map(Goes::Rest)).chain(memories.map(Goes::Stay))
}

/// Passes each flipped version of `row` to `check`; returns how many there were.
fn flip(row: LifecycleRow<'_>, mut check: impl FnMut(LifecycleRow<'_>)) -> usize {
    let mut flips = 0;
    let mut check = |row: LifecycleRow<'_>| {
        flips += 1;
        check(row);
    };
    for to in targets().filter(|to| *to != row.to) {
        check(LifecycleRow { to, ..row });
    }
    for when in When::ALL.into_iter().filter(|when| *when != row.when) {
        check(LifecycleRow { when, ..row });
    }
    for commands in variations(row.commands, &Do::ALL) {
        check(LifecycleRow { commands: &commands, ..row });
    }
    for places in neighbours(row.places, &Place::ALL) {
        check(LifecycleRow { places: &places, ..row });
    }
    for on in neighbours(row.on, &On::ALL) {
        check(LifecycleRow { on: &on, ..row });
    }
    flips
}

#[test]
fn every_flip_of_a_row_is_reported() {
    let walked = Walked::new();
    let (mut flips, mut same) = (0, Vec::new());
    for (index, row) in TABLE.iter().enumerate() {
        flips += flip(*row, |flipped| {
            let mut table = TABLE.to_vec();
            table[index] = flipped;
            if !walked.is_reported(&table, ENDINGS) {
                assert!(
                    walked.same_meaning(row, &flipped),
                    "{row:?}\nflipped, and not reported:\n{flipped:?}"
                );
                same.push(format!("{row:?}\n    {flipped:?}"));
            }
        });

        let mut without = TABLE.to_vec();
        without.remove(index);
        assert!(walked.is_reported(&without, ENDINGS), "left out: {row:?}");
        let twice = [TABLE, &[*row]].concat();
        assert!(walked.is_reported(&twice, ENDINGS), "twice: {row:?}");
    }
    println!("{flips} flips of {} rows, {} of them without a difference:", TABLE.len(), same.len());
    println!("{}", same.join("\n"));
    assert_eq!((flips, same.len()), (1916, 6));
}

#[test]
fn every_flip_of_an_ending_is_reported() {
    let walked = Walked::new();
    for (index, &ending) in ENDINGS.iter().enumerate() {
        let others = Remembered::ALL.into_iter().filter(|it| *it != ending.remembered);
        let onward = match ending.onward {
            Onward::There => Onward::NextCycle,
            Onward::NextCycle => Onward::There,
        };
        let lists = variations(ending.commands, &Do::ALL);
        let flipped = others
            .map(|remembered| Ending { remembered, ..ending })
            .chain([Ending { onward, ..ending }])
            .chain(lists.iter().map(|commands| Ending { commands, ..ending }));
        for flipped in flipped {
            let mut endings = ENDINGS.to_vec();
            endings[index] = flipped;
            assert!(
                walked.is_reported(TABLE, &endings),
                "{ending:?}\nflipped, and not reported:\n{flipped:?}"
            );
        }
        let mut endings = ENDINGS.to_vec();
        endings.remove(index);
        assert!(walked.is_reported(TABLE, &endings), "left out: {ending:?}");
    }
}
