//! The table of a node's standing, which is compared with the machine and drawn in the README.

use watchkeeper_fsm::spec::{Go, Row, Stay, Step, Subject, mermaid, row, walk};

use super::Standing::{
    self, Diverged, Foreign, Forgotten, Invalid, InvalidBelow, Quarantined, Trusted, Unidentified,
};
use super::StandingChange;
use super::StandingCommand::{self, ForgetGaps, ForgetHead, ReportBreach, ReportChain};
use super::StandingEvent::{
    self, Answered, FellSilent, ForkedBelowRoot, HeadAccepted, HeaderInvalid, HeaderInvalidBelow, Identified,
    LeftBranch, LeftFinal, OnFinal, OtherChain, RootDropped,
};

const ALL: [Standing; 8] =
    [Unidentified, Foreign, Invalid, InvalidBelow, Diverged, Quarantined, Trusted, Forgotten];

impl Subject for Standing {
    type Key = Self;
    type Place = Self;
    type Event = StandingEvent;
    type Command = StandingCommand;

    fn key(&self) -> Self {
        *self
    }

    fn place(&self) -> Self {
        *self
    }

    fn events(&self) -> Vec<StandingEvent> {
        vec![
            Answered,
            Identified,
            OtherChain,
            HeadAccepted,
            HeaderInvalid,
            HeaderInvalidBelow,
            LeftBranch,
            ForkedBelowRoot,
            LeftFinal,
            OnFinal,
            FellSilent,
            RootDropped,
        ]
    }

    fn step(&mut self, event: StandingEvent) -> Step<StandingCommand> {
        match self.on(event) {
            StandingChange::Moved(commands) => Step::Moved(commands.to_vec()),
            StandingChange::Stayed(commands) => Step::Stayed(commands.to_vec()),
            StandingChange::Rejected => Step::Rejected,
        }
    }
}

/// The moves, which the README draws.
#[rustfmt::skip]
fn moves() -> Vec<Row<Standing>> {
    vec![
        row(&[Unidentified, Invalid, Forgotten], &[HeadAccepted], Go(Trusted), &[]),
        row(&ALL, &[OtherChain], Go(Foreign), &[ForgetHead, ForgetGaps, ReportChain]),
        row(&[Foreign], &[Identified], Go(Unidentified), &[]),
        row(&[Unidentified, Diverged, Quarantined, Trusted, Forgotten], &[HeaderInvalid], Go(Invalid), &[]),
        row(&[Invalid, Diverged, Quarantined, Trusted, Forgotten], &[HeaderInvalidBelow], Go(InvalidBelow), &[]),
        row(&[InvalidBelow], &[Identified], Go(Invalid), &[]),
        row(&[InvalidBelow], &[LeftBranch], Go(Invalid), &[ForgetGaps]),
        row(&[Trusted, Forgotten], &[LeftFinal], Go(Quarantined), &[ReportBreach]),
        row(&[Trusted, Forgotten], &[ForkedBelowRoot], Go(Diverged), &[ForgetGaps, ReportBreach]),
        row(&[Quarantined], &[ForkedBelowRoot], Go(Diverged), &[ForgetGaps]),
        row(&[Diverged], &[Identified, LeftBranch], Go(Quarantined), &[ForgetGaps]),
        row(&[Diverged, Quarantined], &[OnFinal, RootDropped], Go(Trusted), &[]),
        row(&[Trusted], &[FellSilent], Go(Forgotten), &[]),
        row(&[Forgotten], &[Answered], Go(Unidentified), &[]),
    ]
}

#[rustfmt::skip]
fn table() -> Vec<Row<Standing>> {
    let but = |without: &[Standing]| -> Vec<Standing> {
        ALL.into_iter().filter(|standing| !without.contains(standing)).collect()
    };
    let mut table = moves();
    table.extend([
        row(&but(&[Forgotten]), &[Answered], Stay, &[]),
        row(&but(&[Foreign, InvalidBelow, Diverged]), &[Identified], Stay, &[]),
        row(&but(&[InvalidBelow, Diverged]), &[LeftBranch], Stay, &[]),
        row(&but(&[Trusted]), &[FellSilent], Stay, &[]),
        row(&but(&[Diverged, Quarantined]), &[RootDropped], Stay, &[]),
        row(&[Diverged, Quarantined, Trusted], &[HeadAccepted], Stay, &[]),
        row(&[Invalid, InvalidBelow], &[HeaderInvalid], Stay, &[]),
        row(&[InvalidBelow], &[HeaderInvalidBelow], Stay, &[]),
        row(&[Diverged, Quarantined], &[LeftFinal], Stay, &[]),
        row(&[Trusted, Forgotten], &[OnFinal], Stay, &[]),
        row(&[Invalid, InvalidBelow, Diverged], &[ForkedBelowRoot], Stay, &[ForgetGaps]),
    ]);
    table
}

#[test]
fn the_standing_of_a_node_is_what_its_table_says() {
    let found = walk([Unidentified], 20).unwrap();
    assert_eq!(found.states, ALL.len());
    let tally = found.compare(&table()).unwrap();
    assert_eq!((tally.taken, tally.rejected), (81, 15));
    assert_eq!(found.flips(&table()).unwrap().missed, [""; 0]);
}

#[test]
fn the_readme_draws_the_table() {
    let drawn = format!("```mermaid\n{}```", mermaid(&moves(), Unidentified));
    let readme = include_str!("../../../../README.md");
    let between =
        readme.split_once("<!-- standing -->\n").and_then(|(_, rest)| rest.split_once("\n<!-- / -->"));
    assert_eq!(between.map(|(diagram, _)| diagram), Some(drawn.as_str()), "README.md needs this:\n{drawn}");
}
