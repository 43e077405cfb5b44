//! The specification of the machine, as data.
//!
//! [`TABLE`] says what each event does in each place; [`ENDINGS`] says what follows the end of a cycle.
//! An event that no row names is rejected. The tests walk the machine through everything that it can
//! do and compare it with these two tables, in both directions; the diagram in `ARCHITECTURE.md` is
//! generated from them.

use Goes::{Go, Rest, Stay};
use On::{Error, Initialized, Panicked, Pause, PollNow, Polled, Refreshed};
use On::{Resume, Start, Stop, Tick, TimedOut};
use Place::{FailedKeep, FailedRebuild, Idle, NotBegun, Polling};
use Place::{Refreshing, StartingInit, StartingRefresh, Stopped};
use When::{Always, KeepsState, LosesState, NotPaused, Paused};

/// The states that the table distinguishes: by what is in flight, and by what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    NotBegun,
    StartingRefresh,
    StartingInit,
    Refreshing,
    Polling,
    Idle,
    /// Failed, with the observer state kept.
    FailedKeep,
    /// Failed, without an observer state.
    FailedRebuild,
    Stopped,
}

impl Place {
    pub(crate) const ALL: [Self; 9] = [
        NotBegun,
        StartingRefresh,
        StartingInit,
        Refreshing,
        Polling,
        Idle,
        FailedKeep,
        FailedRebuild,
        Stopped,
    ];
}

const STARTING: &[Place] = &[StartingRefresh, StartingInit];
pub(crate) const WORKING: &[Place] = &[StartingRefresh, StartingInit, Refreshing, Polling];
pub(crate) const WAITING: &[Place] = &[Idle, FailedKeep, FailedRebuild];

/// The events that the table distinguishes. An outcome needs the id and the stage of the work in
/// flight; no row names any other, so it is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum On {
    Start,
    Tick,
    PollNow,
    Pause,
    Resume,
    Stop,
    Refreshed,
    Initialized,
    Polled,
    /// `WorkFailed` by an error.
    Error,
    /// `WorkFailed` by a time-out.
    TimedOut,
    /// `WorkFailed` by a panic.
    Panicked,
}

impl On {
    pub(crate) const ALL: [Self; 12] = [
        Start,
        Tick,
        PollNow,
        Pause,
        Resume,
        Stop,
        Refreshed,
        Initialized,
        Polled,
        Error,
        TimedOut,
        Panicked,
    ];
}

pub(crate) const WORK_FAILED: &[On] = &[Error, TimedOut, Panicked];

/// An additional condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Paused,
    NotPaused,
    /// By option: a time-out leaves the observer state whole.
    KeepsState,
    /// By option: a time-out may leave the observer state half changed.
    LosesState,
}

impl When {
    pub(crate) const ALL: [Self; 5] = [Always, Paused, NotPaused, KeepsState, LosesState];
}

/// Where a row leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    /// To this place. What is remembered is kept, except in `Stopped`.
    Go(Place),
    /// The cycle ends, to wait in this place: [`ENDINGS`] has the rest.
    Rest(Place),
    /// No transition: only this is remembered.
    Stay(Memory),
}

/// What changes in what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Same,
    Paused,
    Resumed,
    PollNow,
}

/// The commands, without their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    Refresh,
    Init,
    Poll,
    Publish,
    Record,
    Forget,
    Arm,
    Disarm,
    Cancel,
    Finish,
}

impl Do {
    pub(crate) const ALL: [Self; 10] = [
        Self::Refresh,
        Self::Init,
        Self::Poll,
        Self::Publish,
        Self::Record,
        Self::Forget,
        Self::Arm,
        Self::Disarm,
        Self::Cancel,
        Self::Finish,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LifecycleRow<'a> {
    pub(crate) places: &'a [Place],
    pub(crate) on: &'a [On],
    pub(crate) when: When,
    pub(crate) to: Goes,
    pub(crate) commands: &'a [Do],
}

const fn row<'a>(
    places: &'a [Place],
    on: &'a [On],
    when: When,
    to: Goes,
    commands: &'a [Do],
) -> LifecycleRow<'a> {
    LifecycleRow { places, on, when, to, commands }
}

#[rustfmt::skip]
pub(crate) const TABLE: &[LifecycleRow<'static>] = &[
    // in                   on               when        to                     commands
    row(&[NotBegun],        &[Start],        Always,     Go(StartingRefresh),   &[Do::Refresh]),
    row(&[StartingRefresh], &[Refreshed],    Always,     Go(StartingInit),      &[Do::Init]),
    row(&[StartingInit],    &[Initialized],  Always,     Rest(Idle),            &[Do::Publish]),
    row(STARTING,           WORK_FAILED,     Always,     Rest(FailedRebuild),   &[Do::Record]),

    row(&[Idle],            &[Tick],         NotPaused,  Go(Refreshing),        &[Do::Refresh]),
    row(&[Idle],            &[PollNow],      Always,     Go(Refreshing),        &[Do::Disarm, Do::Refresh]),

    row(&[Refreshing],      &[Refreshed],    Always,     Go(Polling),           &[Do::Poll]),
    row(&[Refreshing],      WORK_FAILED,     Always,     Rest(FailedKeep),      &[Do::Record]),

    row(&[Polling],         &[Polled],       Always,     Rest(Idle),            &[Do::Publish]),
    row(&[Polling],         &[Error],        Always,     Rest(FailedKeep),      &[Do::Record]),
    row(&[Polling],         &[TimedOut],     KeepsState, Rest(FailedKeep),      &[Do::Record]),
    row(&[Polling],         &[TimedOut],     LosesState, Rest(FailedRebuild),   &[Do::Forget, Do::Record]),
    row(&[Polling],         &[Panicked],     Always,     Rest(FailedRebuild),   &[Do::Forget, Do::Record]),

    row(&[FailedKeep],      &[Tick],         NotPaused,  Go(Refreshing),        &[Do::Refresh]),
    row(&[FailedKeep],      &[PollNow],      Always,     Go(Refreshing),        &[Do::Disarm, Do::Refresh]),
    row(&[FailedRebuild],   &[Tick],         NotPaused,  Go(StartingRefresh),   &[Do::Refresh]),
    row(&[FailedRebuild],   &[PollNow],      Always,     Go(StartingRefresh),   &[Do::Disarm, Do::Refresh]),

    row(WORKING,            &[Pause],        Always,     Stay(Memory::Paused),  &[]),
    row(WORKING,            &[Resume],       Always,     Stay(Memory::Resumed), &[]),
    row(WORKING,            &[PollNow],      Always,     Stay(Memory::PollNow), &[]),
    row(WAITING,            &[Pause],        Always,     Stay(Memory::Paused),  &[Do::Disarm]),
    row(WAITING,            &[Resume],       Paused,     Stay(Memory::Resumed), &[Do::Arm]),
    row(WAITING,            &[Resume],       NotPaused,  Stay(Memory::Same),    &[]),

    row(WORKING,            &[Stop],         Always,     Go(Stopped),           &[Do::Cancel, Do::Finish]),
    row(WAITING,            &[Stop],         Always,     Go(Stopped),           &[Do::Finish]),
    row(&[NotBegun],        &[Stop],         Always,     Go(Stopped),           &[Do::Finish]),
    row(&[Stopped],         &[Stop],         Always,     Stay(Memory::Same),    &[]),
];

/// What was remembered when a cycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Remembered {
    Nothing,
    /// A pause, and no `PollNow`.
    Pause,
    /// A `PollNow`, paused or not.
    PollNow,
}

impl Remembered {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Pause, Self::PollNow];
}

/// Where the end of a cycle leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// To the place that the row names.
    There,
    /// To where `PollNow` leads from that place. The `PollNow` is no longer remembered.
    NextCycle,
}

/// What follows the end of a cycle: the row's own commands come first, then these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending<'a> {
    pub(crate) remembered: Remembered,
    pub(crate) onward: Onward,
    pub(crate) commands: &'a [Do],
}

const fn ending(remembered: Remembered, onward: Onward, commands: &[Do]) -> Ending<'_> {
    Ending { remembered, onward, commands }
}

#[rustfmt::skip]
pub(crate) const ENDINGS: &[Ending<'static>] = &[
    // remembered                onward             commands
    ending(Remembered::Nothing,  Onward::There,     &[Do::Arm]),
    ending(Remembered::Pause,    Onward::There,     &[]),
    ending(Remembered::PollNow,  Onward::NextCycle, &[Do::Refresh]),
];
