//! What happens in one life.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Batches that the observation keeps.
    pub(super) history: usize,
    pub(super) isolates: bool,
    pub(super) drain_ms: u64,
    pub(super) stages: [StagePlan; 2],
    pub(super) steps: Vec<Step>,
    /// At the end every dead letter is replayed.
    pub(super) replays_all: bool,
}

#[derive(Clone, Debug)]
pub(super) struct StagePlan {
    pub(super) policy: Policy,
    pub(super) retries: u64,
    pub(super) capacity: usize,
    pub(super) has_timeout: bool,
    /// Of the item whose number modulo their count is the index.
    pub(super) items: Vec<ItemPlan>,
    /// Of one commit after the other; those after them succeed.
    pub(super) commits: Vec<CommitAct>,
    pub(super) failing_loads: u8,
    /// The calls of the factory that panic.
    pub(super) panicking_makes: Vec<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Stop,
    DeadLetter,
    /// How many failures within a second are tolerated.
    Poison(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ItemPlan {
    pub(super) delay_ms: u64,
    /// How many calls fail.
    pub(super) fails: u64,
    pub(super) how: Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fail {
    Error,
    Panic,
    /// It takes longer than a stage with a timeout allows.
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitAct {
    pub(super) before_ms: u64,
    pub(super) after_ms: u64,
    pub(super) fail: Option<CommitFail>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitFail {
    Before,
    /// The commit has its effect, and its error says otherwise.
    After,
    PanicBefore,
    PanicAfter,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Publish {
        batches: u8,
        items: u8,
    },
    Rebuild,
    Others(u64),
    Advance(u64),
    Yield(u8),
    Abort,
    Stop,
    /// A stop that is dropped after a time, and followed by an abort.
    StopFor(u64),
    Restart(usize),
    Replay(usize, u8),
    Discard(usize, u8),
}

pub(super) fn plan() -> impl Strategy<Value = Plan> {
    let stages = [stage_plan(), stage_plan()];
    let drain_ms = prop_oneof![Just(10_000_u64), Just(200), Just(10)];
    (1_usize..6, any::<bool>(), drain_ms, stages, vec(step(), 4..32), any::<bool>()).prop_map(
        |(history, isolates, drain_ms, stages, steps, replays_all)| Plan {
            history,
            isolates,
            drain_ms,
            stages,
            steps,
            replays_all,
        },
    )
}

fn stage_plan() -> impl Strategy<Value = StagePlan> {
    let policy = prop_oneof![
        2 => Just(Policy::Stop),
        3 => Just(Policy::DeadLetter),
        1 => (0_u32..4).prop_map(Policy::Poison),
    ];
    let items = vec(item_plan(), 1..8);
    let commits = vec(commit_act(), 0..16);
    let makes = vec(prop_oneof![9 => Just(false), 1 => Just(true)], 0..6);
    let loads = prop_oneof![9 => Just(0_u8), 1 => Just(1)];
    (policy, 0_u64..4, 1_usize..5, any::<bool>(), items, commits, loads, makes).prop_map(
        |(policy, retries, capacity, has_timeout, items, commits, failing_loads, panicking_makes)| {
            StagePlan {
                policy,
                retries,
                capacity,
                has_timeout,
                items,
                commits,
                failing_loads,
                panicking_makes,
            }
        },
    )
}

fn item_plan() -> impl Strategy<Value = ItemPlan> {
    let fails = prop_oneof![3 => Just(0_u64), 2 => 1_u64..3, 1 => 3_u64..7];
    let how = prop_oneof![3 => Just(Fail::Error), 1 => Just(Fail::Panic), 1 => Just(Fail::Slow)];
    let delay_ms = prop_oneof![4 => Just(0_u64), 1 => 1_u64..60];
    (delay_ms, fails, how).prop_map(|(delay_ms, fails, how)| ItemPlan { delay_ms, fails, how })
}

fn commit_act() -> impl Strategy<Value = CommitAct> {
    let fail = prop_oneof![
        6 => Just(None),
        1 => Just(Some(CommitFail::Before)),
        2 => Just(Some(CommitFail::After)),
        1 => Just(Some(CommitFail::PanicBefore)),
        1 => Just(Some(CommitFail::PanicAfter)),
    ];
    let wait = || prop_oneof![4 => Just(0_u64), 1 => 1_u64..60];
    (wait(), wait(), fail).prop_map(|(before_ms, after_ms, fail)| CommitAct { before_ms, after_ms, fail })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u8..5, 1_u8..5).prop_map(|(batches, items)| Step::Publish { batches, items }),
        1 => Just(Step::Publish { batches: 9, items: 2 }),
        1 => Just(Step::Publish { batches: 1, items: 70 }),
        2 => Just(Step::Rebuild),
        3 => (1_u64..6).prop_map(Step::Others),
        6 => (1_u64..400).prop_map(Step::Advance),
        1 => (1_000_u64..20_000).prop_map(Step::Advance),
        4 => (1_u8..40).prop_map(Step::Yield),
        3 => Just(Step::Abort),
        1 => Just(Step::Stop),
        1 => (0_u64..80).prop_map(Step::StopFor),
        4 => (0_usize..2).prop_map(Step::Restart),
        4 => (0_usize..2, any::<u8>()).prop_map(|(stage, nth)| Step::Replay(stage, nth)),
        4 => (0_usize..2, any::<u8>()).prop_map(|(stage, nth)| Step::Discard(stage, nth)),
    ]
}
