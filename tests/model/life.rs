//! Random lives of a runtime.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use watchkeeper::runtime::StateKind;

use crate::app::{Act, Call, End, Set};
use crate::reference::{Control, Past, Position, Settings};
use crate::waiting::{NoPollsBy, Want, Wish};

#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) settings: Settings,
    /// `start`, not `start_in_background`.
    pub(crate) fail_fast: bool,
    /// Events of a poll that no script was written for.
    pub(crate) usual_events: u64,
    /// What the first calls do.
    pub(crate) first: Vec<(Call, Act)>,
    pub(crate) steps: Vec<Step>,
}

/// One step. A number that chooses among things counts around.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The next call of this kind without a script.
    Script(Call, Act),
    Sources(Set),
    /// Milliseconds pass, and everything runs when it is due.
    Pass(u64),
    /// All of this at once, before the runtime gets to run, which takes a while.
    AtOnce {
        asks: Vec<Ask>,
        stall: u64,
        end: Option<Ending>,
    },
    Subscribe(How),
    SubscribeFrom(usize, How),
    /// Reads so many items.
    Read(usize, usize),
    /// Keeps the cursor of the latest snapshot, or of a subscription.
    KeepCursor(Option<usize>),
    Unsubscribe(usize),
    Mark,
    Wait {
        want: Want,
        from: From,
        window: u64,
        eager: bool,
    },
    /// Polls a wait that no task polls.
    Look(usize),
    /// Drops a wait.
    Forsake(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Control(Control),
    /// Wakes the next waiter, present or future (`notify_one`).
    Wake,
    /// Wakes the present waiters only (`notify_waiters`).
    WakeAll,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Stop,
    Drop,
}

/// How a subscription is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As a stream, whenever it says that there is news.
    Stream,
    /// By `recv`, in the steps that read.
    Recv,
    /// By `try_recv`, in the steps that read.
    TryRecv,
}

/// From where a wait counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    Begun,
    Now,
    Mark(usize),
    ForeignMark,
}

pub(crate) fn life() -> impl Strategy<Value = Life> {
    let first = vec((call(), act()), 0..4);
    let steps = vec(step(), 1..50);
    (settings(), prop::bool::weighted(0.2), 0..2_u64, first, steps).prop_map(
        |(settings, fail_fast, usual_events, first, steps)| Life {
            settings,
            fail_fast,
            usual_events,
            first,
            steps,
        },
    )
}

/// Time passes, all kinds of waits begin, and what they wait for changes.
pub(crate) fn full_of_waits() -> impl Strategy<Value = Life> {
    let slow = || prop::sample::select(&[0, 0, 0, 20, 60, 120][..]);
    let end = prop_oneof![
        6 => (0..3_u64).prop_map(End::Ok),
        4 => Just(End::Error),
        1 => Just(End::Panic),
        2 => Just(End::Hang),
    ];
    let poll = (slow(), end).prop_map(|(after, end)| Step::Script(Call::Poll, Act { after, end }));
    let sets: &[Set] = &[&["a"], &["a", "b"], &["b"], &["c"], &[]];
    let ending = prop_oneof![Just(Ending::Stop), Just(Ending::Drop)];
    let ending = ending.prop_map(|end| Step::AtOnce { asks: Vec::new(), stall: 0, end: Some(end) });
    let step = prop_oneof![
        20 => pass().prop_map(Step::Pass),
        16 => wait(wants()),
        8 => poll,
        4 => at_once(),
        8 => prop::sample::select(sets).prop_map(Step::Sources),
        2 => (call(), act()).prop_map(|(call, act)| Step::Script(call, act)),
        4 => Just(Step::Mark),
        4 => any_one().prop_map(Step::Look),
        1 => ending,
    ];
    // Waits that begin before anything is known, and marks from before all events.
    let first_steps = vec(prop_oneof![Just(Step::Mark), wait(wants())], 0..4);
    let init = (slow(), Just(End::Ok(0))).prop_map(|(after, end)| (Call::Init, Act { after, end }));
    let first = vec(prop_oneof![2 => init, 1 => (call(), act())], 0..3);
    let stale_after = option::weighted(0.8, prop::sample::select(&[50, 110, 250, 700][..]));
    let settings = (settings(), stale_after, 0..3_u64);
    (settings, first, first_steps, vec(step, 1..40)).prop_map(|(settings, first, mut steps, more)| {
        let (settings, stale_after, usual_events) = settings;
        steps.extend(more);
        Life { settings: Settings { stale_after, ..settings }, fail_fast: false, usual_events, first, steps }
    })
}

/// What was recorded of an earlier process, in a third of all lives.
const PAST: Past = Past { at: Position { generation: 6, seq: 45 }, cycle: 80, event_count: 63 };

fn settings() -> impl Strategy<Value = Settings> {
    let schedule = (
        prop::sample::select(&[50, 100, 250, 1_000][..]),
        prop::sample::select(&[0, 0, 30, 120][..]),
        option::weighted(0.3, Just((40, 200))),
        prop::sample::select(&[10, 10, 80][..]),
    );
    let timeouts = (Just(70), Just(130), prop::sample::select(&[60, 150, 600][..]));
    let rest = (
        prop::sample::select(&[0, 1, 1, 3, 40][..]),
        option::weighted(0.3, prop::sample::select(&[50, 120, 400][..])),
        prop::sample::select(&[None, None, Some(PAST)][..]),
        any::<bool>(),
    );
    (schedule, timeouts, rest).prop_map(|(schedule, timeouts, rest)| {
        let (interval, offset, backoff, min_gap) = schedule;
        let (refresh_timeout, init_timeout, poll_timeout) = timeouts;
        let (history_limit, stale_after, resume, interruptible) = rest;
        Settings {
            interval,
            offset,
            history_limit,
            refresh_timeout,
            init_timeout,
            poll_timeout,
            stale_after,
            backoff,
            min_gap,
            resume,
            interruptible,
        }
    })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![1 => Just(Call::Sources), 1 => Just(Call::Init), 3 => Just(Call::Poll), 1 => Just(Call::Snapshot)]
}

fn act() -> impl Strategy<Value = Act> {
    // Some of these are time-outs, intervals and their sums.
    let after = prop_oneof![
        3 => Just(0),
        3 => prop::sample::select(&[10, 20, 50, 60, 70, 100, 130, 150, 260, 350, 550][..]),
    ];
    let end = prop_oneof![
        5 => (0..3_u64).prop_map(End::Ok),
        2 => Just(End::Error),
        2 => Just(End::Panic),
        1 => Just(End::Hang),
        1 => Just(End::HangBadly),
    ];
    (after, end).prop_map(|(after, end)| Act { after, end })
}

fn step() -> impl Strategy<Value = Step> {
    let sets: &[Set] = &[&[], &["a"], &["a", "b"], &["b", "a"], &["c"], &["a", "a"], &["a", ""]];
    prop_oneof![
        12 => pass().prop_map(Step::Pass),
        8 => at_once(),
        6 => (call(), act()).prop_map(|(call, act)| Step::Script(call, act)),
        2 => prop::sample::select(sets).prop_map(Step::Sources),
        2 => how().prop_map(Step::Subscribe),
        2 => (any_one(), how()).prop_map(|(cursor, how)| Step::SubscribeFrom(cursor, how)),
        3 => (any_one(), 1..40_usize).prop_map(|(which, items)| Step::Read(which, items)),
        2 => option::of(any_one()).prop_map(Step::KeepCursor),
        1 => any_one().prop_map(Step::Unsubscribe),
        1 => Just(Step::Mark),
        4 => wait(some_wants()),
        2 => any_one().prop_map(Step::Look),
        1 => any_one().prop_map(Step::Forsake),
    ]
}

fn pass() -> impl Strategy<Value = u64> {
    prop_oneof![
        16 => (1..40_u64).prop_map(|tens| 10 * tens),
        5 => (4..25_u64).prop_map(|hundreds| 100 * hundreds),
        // Long enough for a wait to fall behind.
        1 => Just(18_000),
    ]
}

fn at_once() -> impl Strategy<Value = Step> {
    let ask = prop_oneof![
        3 => Just(Ask::Control(Control::Pause)),
        4 => Just(Ask::Control(Control::Resume)),
        4 => Just(Ask::Control(Control::PollNow)),
        2 => Just(Ask::Wake),
        1 => Just(Ask::WakeAll),
    ];
    // The mailbox of controls holds 16.
    let asks = prop_oneof![20 => vec(ask.clone(), 1..4), 1 => vec(ask, 15..24)];
    let stall = prop_oneof![3 => Just(0), 1 => (1..60_u64).prop_map(|tens| 10 * tens)];
    let end = option::weighted(0.06, prop_oneof![Just(Ending::Stop), Just(Ending::Drop)]);
    (asks, stall, end).prop_map(|(asks, stall, end)| Step::AtOnce { asks, stall, end })
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Stream), Just(How::Recv), Just(How::TryRecv)]
}

fn some_wants() -> impl Strategy<Value = Want> {
    prop_oneof![
        3 => (1..5_u64).prop_flat_map(|divisor| (Just(divisor), 0..divisor))
            .prop_map(|(divisor, rest)| Want::Polls(divisor, rest)),
        2 => Just(Want::Polls(1_000_000, 999_999)),
        3 => prop::sample::select(&StateKind::ALL[..]).prop_map(Want::State),
    ]
}

/// Of every operator.
fn wants() -> impl Strategy<Value = Want> {
    let number = (1..5_u64).prop_flat_map(|divisor| (Just(divisor), 0..divisor));
    let rare = (5..40_u64).prop_flat_map(|divisor| (Just(divisor), 0..divisor));
    let form = prop_oneof![Just(NoPollsBy::Always), Just(NoPollsBy::Never)];
    let hold = prop::sample::select(&[0, 10, 50, 100, 200, 300, 700, 2_000][..]);
    let wish = prop::sample::select(&[Wish::Fresh, Wish::Stale, Wish::Failing, Wish::Vanished][..]);
    prop_oneof![
        3 => number.clone().prop_map(|(divisor, rest)| Want::Polls(divisor, rest)),
        2 => Just(Want::Polls(1_000_000, 999_999)),
        3 => prop::sample::select(&StateKind::ALL[..]).prop_map(Want::State),
        3 => (prop_oneof![number.clone(), rare.clone()], form)
            .prop_map(|((divisor, rest), form)| Want::NoPolls(divisor, rest, form)),
        3 => (1..12_u64, hold).prop_map(|(divisor, hold)| Want::Stable(divisor, hold)),
        3 => prop_oneof![number, rare].prop_map(|(divisor, rest)| Want::Event(divisor, rest)),
        2 => Just(Want::StaysFresh),
        2 => Just(Want::BecomesStale),
        8 => (prop::sample::select(&["a", "a", "b", "b", "c", "nobody"][..]), wish)
            .prop_map(|(name, wish)| Want::Source(name, wish)),
        2 => Just(Want::Answer),
        2 => (0..4_usize).prop_map(Want::Set),
    ]
}

fn wait(want: impl Strategy<Value = Want>) -> impl Strategy<Value = Step> {
    let from = prop_oneof![
        4 => Just(From::Begun),
        2 => Just(From::Now),
        3 => any_one().prop_map(From::Mark),
        1 => Just(From::ForeignMark),
    ];
    let window = prop_oneof![20 => (1..120_u64).prop_map(|tens| 10 * tens), 6 => Just(30_000), 1 => Just(0)];
    (want, from, window, prop::bool::weighted(0.6)).prop_map(|(want, from, window, eager)| Step::Wait {
        want,
        from,
        window,
        eager,
    })
}

fn any_one() -> impl Strategy<Value = usize> {
    0..8_usize
}
