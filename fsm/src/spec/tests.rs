//! The comparison on a small machine, and on faulty variants of it.

use super::*;

/// A door that can be locked while it is shut. It counts how often it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Door {
    place: DoorPlace,
    opened: u32,
    fault: Fault,
    /// The key has the counter, which grows without end.
    counts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DoorPlace {
    Open,
    Shut,
    Locked(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DoorInput {
    Push,
    Lock,
    Knock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Opens while it is locked.
    Opens,
    /// A rejected event shuts the door.
    ShutsWhenRejecting,
    /// A knock is a move to the same place.
    MovesOnKnock,
    WrongBell,
}

use DoorInput::{Knock, Lock, Push};
use DoorPlace::{Locked, Open, Shut};

impl Door {
    const fn with(fault: Fault) -> Self {
        Self { place: Shut, opened: 0, fault, counts: false }
    }
}

impl Subject for Door {
    type Key = (DoorPlace, u32);
    type Place = DoorPlace;
    type Event = DoorInput;
    type Command = &'static str;

    fn key(&self) -> (DoorPlace, u32) {
        (self.place, if self.counts { self.opened } else { 0 })
    }

    fn place(&self) -> DoorPlace {
        self.place
    }

    fn events(&self) -> Vec<DoorInput> {
        vec![Push, Lock, Knock]
    }

    fn step(&mut self, event: DoorInput) -> Step<&'static str> {
        let to = match (self.place, event) {
            (Shut, Push) => Open,
            (Locked(_), Push) if self.fault == Fault::Opens => Open,
            (Open, Push) | (Locked(1), Lock) => Shut,
            (Shut, Lock) => Locked(1),
            (Shut | Locked(_), Knock) => {
                let bell = vec![if self.fault == Fault::WrongBell { "gong" } else { "bell" }];
                return if self.fault == Fault::MovesOnKnock {
                    Step::Moved(bell)
                } else {
                    Step::Stayed(bell)
                };
            }
            _ => {
                if self.fault == Fault::ShutsWhenRejecting {
                    self.place = Shut;
                }
                return Step::Rejected;
            }
        };
        self.opened += u32::from(to == Open);
        self.place = to;
        Step::Moved(vec![])
    }
}

fn table() -> Vec<Row<Door>> {
    vec![
        row(&[Shut], &[Push], Go(Open), &[]),
        row(&[Open], &[Push], Go(Shut), &[]),
        row(&[Shut], &[Lock], Go(Locked(1)), &[]),
        row(&[Locked(1)], &[Lock], Go(Shut), &[]).when("not \"welded\"", |door| door.place != Locked(9)),
        row(&[Shut, Locked(1)], &[Knock], Stay, &["bell"]),
    ]
}

#[test]
fn a_machine_that_matches_its_table_is_tallied_and_every_flip_is_noticed() {
    let found = walk([Door::with(Fault::None)], 3).unwrap();
    assert_eq!((found.states, found.edges.len()), (3, 9));
    assert_eq!(found.compare(&table()), Ok(Tally { taken: 6, rejected: 3 }));
    let Flips { tried, missed } = found.flips(&table()).unwrap();
    assert!(tried > 60 && missed.is_empty(), "{tried}: {missed:#?}");
}

#[test]
fn each_mismatch_names_place_event_and_row() {
    let cases = [
        (
            Fault::Opens,
            "Locked(1), Push\n  the table: no row, so it is to be rejected and to change nothing\n  the machine: to Open, \
             Moved([])",
        ),
        (Fault::ShutsWhenRejecting, "Open, Lock\n  the table: no row, so it is to be rejected"),
        (
            Fault::MovesOnKnock,
            "Shut, Knock\n  the table: in [Shut, Locked(1)] on [Knock]: Stay, commands [\"bell\"]\n  the machine: to Shut, \
             Moved([\"bell\"])",
        ),
        (Fault::WrongBell, "the machine: to Shut, Stayed([\"gong\"])"),
    ];
    for (fault, expected) in cases {
        let mismatch = walk([Door::with(fault)], 9).unwrap().compare(&table()).unwrap_err().to_string();
        assert!(mismatch.contains(expected), "{fault:?}: {mismatch}");
    }
    let found = walk([Door::with(Fault::None)], 9).unwrap();
    let mut twice = table();
    twice.push(row(&[Open], &[Push], Go(Shut), &[]));
    assert!(
        found.compare(&twice).unwrap_err().to_string().starts_with("Open, Push\n  the table: two rows:\n")
    );
    let mut too_much = table();
    too_much.push(row(&[Locked(2)], &[Push, Lock], Go(Shut), &[]));
    let never = found.compare(&too_much).unwrap_err().to_string();
    assert_eq!(
        never,
        "Locked(2), Push: never reached; the row: in [Locked(2)] on [Push, Lock]: Go(Shut), commands []"
    );
}

#[test]
fn a_condition_that_always_holds_equals_no_condition() {
    let found = walk([Door::with(Fault::None)], 9).unwrap();
    let without: Vec<_> = table().into_iter().map(|row| Row { when: None, ..row }).collect();
    let tried = |table: &[Row<Door>]| found.flips(table).unwrap().tried;
    assert_eq!(tried(&without), tried(&table()));
}

/// A switch that a key enables: without the key, a press beeps in the same place.
#[test]
fn a_condition_selects_one_of_two_rows_and_its_removal_is_noticed() {
    #[derive(Clone)]
    struct Switch {
        has_key: bool,
    }
    impl Subject for Switch {
        type Key = bool;
        type Place = ();
        type Event = &'static str;
        type Command = &'static str;
        fn key(&self) -> bool {
            self.has_key
        }
        fn place(&self) {}
        fn events(&self) -> Vec<&'static str> {
            vec!["key", "press"]
        }
        fn step(&mut self, event: &'static str) -> Step<&'static str> {
            match (event, self.has_key) {
                ("key", _) => self.has_key = !self.has_key,
                (_, true) => return Step::Stayed(vec!["light"]),
                (_, false) => return Step::Stayed(vec!["beep"]),
            }
            Step::Stayed(vec![])
        }
    }
    let found = walk([Switch { has_key: false }], 2).unwrap();
    let press = |command, when: &'static str, holds: fn(&Switch) -> bool| {
        row(&[()], &["press"], Stay, &[command]).when(when, holds)
    };
    let key = || row(&[()], &["key"], Stay, &[]);
    let table = [
        key(),
        press("light", "key", |switch| switch.has_key),
        press("beep", "no key", |switch| !switch.has_key),
    ];
    assert_eq!(found.compare(&table), Ok(Tally { taken: 4, rejected: 0 }));
    assert_eq!(found.flips(&table).unwrap().missed, [""; 0]);
    for without in 1..=2 {
        let mut table = table.clone();
        table[without].when = None;
        assert!(found.compare(&table).unwrap_err().to_string().contains("two rows"), "{without}");
    }
    let never = [table[0].clone(), table[1].clone(), table[2].clone(), press("light", "never", |_| false)];
    assert!(found.compare(&never).unwrap_err().to_string().contains("never reached"));
    let nothing = [&table[..], &[row(&[], &["press"], Stay, &[])]].concat();
    assert!(found.compare(&nothing).unwrap_err().to_string().starts_with("a row claims nothing"));
}

#[test]
fn commands_are_compared_by_eq_and_a_wrong_table_is_not_flipped() {
    #[derive(Clone, Debug)]
    struct Ring(&'static str);
    impl PartialEq for Ring {
        fn eq(&self, other: &Self) -> bool {
            self.0.len() == other.0.len()
        }
    }
    #[derive(Clone)]
    struct Bell;
    impl Subject for Bell {
        type Key = ();
        type Place = ();
        type Event = u8;
        type Command = Ring;
        fn key(&self) {}
        fn place(&self) {}
        fn events(&self) -> Vec<u8> {
            vec![1, 2]
        }
        fn step(&mut self, event: u8) -> Step<Ring> {
            Step::Stayed(vec![Ring(if event == 1 { "a" } else { "bb" })])
        }
    }
    let found = walk([Bell], 1).unwrap();
    let table = |first| [row(&[()], &[1], Stay, &[Ring(first)]), row(&[()], &[2], Stay, &[Ring("bb")])];
    assert_eq!(found.flips(&table("z")).unwrap().missed, [""; 0]);
    assert!(found.flips(&table("bb")).is_err(), "the table itself is wrong");
}

#[test]
fn a_key_with_a_counter_makes_the_walk_unbounded() {
    let counting = Door { counts: true, ..Door::with(Fault::None) };
    let unbounded = walk([counting], 50).unwrap_err();
    assert_eq!(
        unbounded.to_string(),
        "there are more than 50 states: leave counters out of the key, or allow for more states"
    );
    assert_eq!(format!("{unbounded:?}"), unbounded.to_string());
    assert_eq!(walk([Door::with(Fault::None)], 2).unwrap_err(), Unbounded { most: 2 });
    assert_eq!(walk([Door::with(Fault::None); 2], 3).unwrap().states, 3, "the same start twice");
    assert_eq!(walk(Vec::<Door>::new(), 0).unwrap().states, 0);
}

#[test]
fn the_diagram_numbers_names_that_are_no_words_and_escapes_labels() {
    let drawn = mermaid(&table(), Shut);
    let expected = "stateDiagram-v2
    state \"Locked(1)\" as s2
    [*] --> Shut
    Shut --> Open : Push
    Open --> Shut : Push
    Shut --> s2 : Lock
    s2 --> Shut : Lock [not 'welded']
    Shut --> Shut : Knock / 'bell' (stays)
    s2 --> s2 : Knock / 'bell' (stays)
";
    assert_eq!(drawn, expected);
}
