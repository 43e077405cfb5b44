//! Supervised machines against a model: random lives, played on both and compared after each step.
//!
//! A life is made of events that arrive at once or one by one, work that takes time, fails, panics or hangs, time-outs,
//! restarts, slow watchers, waits, stops and dropped handles. The model in `reference.rs` defines what must be seen.
//! `PROPTEST_CASES` sets the number of lives; a life that fails is printed and its seed kept in `regressions.txt`.

mod app;
mod play;
mod reference;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::runtime::Builder;
use watchkeeper::supervise::WhileBusy;

use app::{Act, End, Event, Job, Rules};
use reference::{Limits, When};

const LIVES: u32 = 10_000;
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/supervise/model/regressions.txt");

#[derive(Clone, Debug)]
pub(crate) struct Life {
    rules: Rules,
    limits: Limits,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends these at once, before the machine gets a turn; `true` asks.
    Send(Vec<(Event, bool)>),
    /// Milliseconds pass.
    Pass(u64),
    /// Polls a watch once.
    Watch,
    /// A wait for a state within a window.
    Wait(u8, u64),
    Restart,
    Unpoison,
    Stop,
    Abort,
    Drop,
}

#[test]
fn a_supervised_machine_does_what_the_model_says() {
    let by_default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { by_default.cases } else { LIVES };
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_time: 30_000,
        ..by_default
    };
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<&str>();
        if !text.is_some_and(|text| text.starts_with("scripted")) {
            usual(info);
        }
    }));
    let played = TestRunner::new(config).run(&life(), |life| {
        let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        executor.block_on(play::play(life))
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}

fn life() -> impl Strategy<Value = Life> {
    (rules(), limits(), vec(step(), 1..20)).prop_map(|(rules, limits, steps)| Life { rules, limits, steps })
}

fn rules() -> impl Strategy<Value = Rules> {
    let busy = prop_oneof![
        3 => Just(WhileBusy::Take),
        2 => Just(WhileBusy::Hold),
        1 => Just(WhileBusy::Refuse),
    ];
    let timeout = option::weighted(0.3, prop_oneof![1 => Just(0_u64), 5 => 1..40_u64]);
    let inside = || option::weighted(0.7, event().prop_map(taking_time));
    let timed_out = event().prop_map(taking_time);
    (vec(busy, 4), vec(timeout, 4), vec(job(), 0..2), inside(), inside(), inside(), timed_out).prop_map(
        |(while_busy, timeouts, start, on_failure, on_stop, on_abandoned, timed_out)| Rules {
            while_busy,
            timeouts,
            start,
            on_failure,
            on_stop,
            on_abandoned,
            timed_out,
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    let when = prop_oneof![2 => Just(When::Never), 2 => Just(When::OnFailure), 1 => Just(When::Always)];
    (
        1..5_usize,
        option::weighted(0.5, 5..30_u64),
        10..60_u64,
        prop::bool::weighted(0.15),
        when,
        1..20_u64,
        0..3_u32,
    )
        .prop_map(|(capacity, work_timeout, drain, fatal, when, delay, most)| Limits {
            capacity,
            work_timeout,
            drain,
            fatal,
            when,
            delay,
            most,
            within: 100,
        })
}

fn event() -> impl Strategy<Value = Event> {
    let act = prop_oneof![
        6 => Just(Act::Move),
        3 => Just(Act::Stay),
        2 => Just(Act::Change),
        3 => Just(Act::DeferUnlessThere),
        1 => Just(Act::Unhandled),
        1 => Just(Act::Cancel),
        1 => Just(Act::Finish),
        1 => Just(Act::Panic),
    ];
    (act, 0..4_u8, vec(job(), 0..3)).prop_map(|(act, to, jobs)| Event { act, to, jobs, id: 0 })
}

/// Without time, work that fails at once and is commanded by its failure would go on for ever.
fn taking_time(mut event: Event) -> Event {
    event.jobs.iter_mut().for_each(|job| job.millis = job.millis.max(1));
    event
}

fn job() -> impl Strategy<Value = Job> {
    let end = prop_oneof![
        4 => Just(End::Quiet),
        4 => (0..4_u8).prop_map(End::Moves),
        2 => Just(End::Fails),
        1 => Just(End::Panics),
        1 => Just(End::Hangs),
    ];
    (prop_oneof![Just(0_u64), 1..25_u64], end).prop_map(|(millis, end)| Job { millis, end })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => vec((event(), prop::bool::ANY), 1..6).prop_map(Step::Send),
        6 => (1..50_u64).prop_map(Step::Pass),
        2 => Just(Step::Watch),
        2 => (0..4_u8, 1..80_u64).prop_map(|(state, window)| Step::Wait(state, window)),
        1 => Just(Step::Restart),
        1 => Just(Step::Unpoison),
        1 => Just(Step::Stop),
        1 => Just(Step::Abort),
        1 => Just(Step::Drop),
    ]
}
