//! Any wait that is judged over a recording has the verdict that it had live.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until};
use watchkeeper_journal::Journal;
use watchkeeper_journal::run::{Replay, RunJournal, SerdeFormat};

use super::app::{Act, App, Verdict, config, ms, run, waits};

const LIVES: u32 = 100;

/// A life: what happens when, in milliseconds; when waits begin; when it stops.
#[derive(Clone, Debug)]
struct Life {
    script: Vec<(u64, Act)>,
    begin: Vec<u64>,
    stop: u64,
    /// When the recording begins: not always at the start.
    record: u64,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1_u64..30).prop_map(|tens| Act::Fail(tens * 100)),
        Just(Act::Panic),
        (1_u64..40).prop_map(|tens| Act::Slow(tens * 100)),
        Just(Act::NoInit),
        prop_oneof![Just("n3"), Just("n4"), Just("n2")].prop_map(Act::Join),
        prop_oneof![Just("n1"), Just("n2"), Just("n3")].prop_map(Act::Leave),
        Just(Act::Pause),
        Just(Act::Resume),
        Just(Act::PollNow),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let script = prop::collection::vec(((0_u64..1_000).prop_map(|tens| tens * 10), act()), 0..12);
    let begin = prop::collection::vec((0_u64..900).prop_map(|tens| tens * 10 + 5), 1..4);
    let record = prop_oneof![3 => Just(0), 1 => (0_u64..300).prop_map(|tens| tens * 10 + 5)];
    (script, begin, 500_u64..1_200, record).prop_map(|(mut script, mut begin, stop, record)| {
        script.sort_by_key(|(at, _)| *at);
        begin.sort_unstable();
        begin.retain(|at| *at > record);
        Life { script, begin, stop: stop * 10, record }
    })
}

const WINDOWS: [Duration; 2] = [ms(1_130), ms(4_070)];

fn all_waits(handle: &watchkeeper::ObservationHandle<App>, at: u64) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    for window in WINDOWS {
        for or_now in [false, true] {
            all.extend(
                waits(handle, or_now, window)
                    .into_iter()
                    .map(|(kind, wait)| (format!("{kind} at {at}"), wait)),
            );
        }
    }
    all
}

/// Each wait with its verdict and when it came, in milliseconds since the start.
type Verdicts = Vec<(String, String, u128)>;

async fn live(life: &Life, journal: &RunJournal<App>) -> Verdicts {
    let start = Instant::now();
    let running = run(start, life.script.clone(), config());
    let handle = running.runtime.handle();
    let mut steps: Vec<(u64, Option<Act>)> = life.script.iter().map(|(at, act)| (*at, Some(*act))).collect();
    steps.extend(life.begin.iter().map(|at| (*at, None)));
    steps.push((life.record, None));
    steps.sort_by_key(|(at, _)| *at);
    let mut recording = None;
    let mut judged = Vec::new();
    for (at, act) in steps {
        if at > life.stop {
            break;
        }
        if at > 0 {
            sleep_until(start + ms(at)).await;
        }
        if at == life.record && recording.is_none() {
            recording = Some(journal.record(&handle, &config()).unwrap());
        }
        match act {
            Some(act) => running.act(act).await,
            None if life.begin.contains(&at) => {
                judged.extend(all_waits(&handle, at).into_iter().map(|(kind, wait)| {
                    (kind, tokio::spawn(async move { (wait.await, start.elapsed().as_millis()) }))
                }));
            }
            None => {}
        }
    }
    sleep_until(start + ms(life.stop)).await;
    let _ = running.runtime.stop().await;
    let mut verdicts = Vec::new();
    for (kind, wait) in judged {
        let (verdict, when) = wait.await.unwrap();
        verdicts.push((kind, verdict, when));
    }
    if let Some(recording) = recording {
        let health = recording.finished().await;
        assert!(health.is_ok() && health.recorded > 0, "{health:?}");
    }
    verdicts
}

fn replayed(life: &Life, journal: &RunJournal<App>) -> Verdicts {
    let mut replay: Replay<App, _> = Replay::of(&journal.journal().view(), SerdeFormat).unwrap();
    let handle = replay.handle();
    // The recording began at a known time of the life.
    let start = replay.recorded_at() - ms(life.record);
    let (mut verdicts, mut waiting) = (Verdicts::new(), Vec::<(String, Verdict)>::new());
    let mut look = |waiting: &mut Vec<(String, Verdict)>, now: Instant| {
        waiting.retain_mut(|(kind, wait)| {
            match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(verdict) => {
                    verdicts.push((std::mem::take(kind), verdict, (now - start).as_millis()));
                    false
                }
                Poll::Pending => true,
            }
        });
    };
    let mut begin = life.begin.iter().filter(|at| **at <= life.stop).copied().collect::<Vec<_>>();
    begin.dedup();
    // Nothing happens in between.
    for millis in (life.record..20_000).step_by(5) {
        let at = start + ms(millis);
        while replay.next_at().is_some_and(|next| next <= at) {
            replay.step().unwrap();
            look(&mut waiting, replay.now());
        }
        replay.advance(at);
        if !waiting.is_empty() {
            look(&mut waiting, replay.now());
        }
        if begin.contains(&millis) {
            let count = life.begin.iter().filter(|at| **at == millis).count();
            for _ in 0..count {
                waiting.extend(all_waits(&handle, millis));
            }
            look(&mut waiting, replay.now());
        }
        if waiting.is_empty() && replay.next_at().is_none() {
            break;
        }
    }
    assert!(waiting.is_empty(), "{} waits have no verdict", waiting.len());
    verdicts
}

#[test]
fn any_wait_over_a_recording_has_the_verdict_that_it_had_live() {
    std::panic::set_hook(Box::new(|info| {
        let is_scripted = info.payload().downcast_ref::<&str>().is_some_and(|text| *text == "a bug");
        if !is_scripted {
            eprintln!("{info}");
        }
    }));
    let cases = std::env::var("RUN_LIVES").map_or(LIVES, |lives| lives.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcomes = std::cell::RefCell::new(std::collections::BTreeMap::<String, u64>::new());
    let result = TestRunner::new(config).run(&life(), |life| {
        let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        executor.block_on(async {
            let journal =
                RunJournal::of(Journal::in_memory(crate::common::config()).unwrap(), "run", SerdeFormat);
            let mut verdicts = live(&life, &journal).await;
            let before = Instant::now();
            let mut again = replayed(&life, &journal);
            prop_assert_eq!(Instant::now(), before, "no time passes in a replay");
            // Whether a name was ever in the set may be known from before the recording.
            let counts =
                |(kind, ..): &(String, String, u128)| life.record == 0 || !kind.starts_with("vanished");
            verdicts.retain(counts);
            again.retain(counts);
            verdicts.sort();
            again.sort();
            prop_assert_eq!(verdicts.len(), again.len());
            for (live, replayed) in verdicts.iter().zip(&again) {
                prop_assert_eq!(live, replayed);
                let outcome = live.1.split([',', ' ']).next().unwrap().to_owned();
                *outcomes.borrow_mut().entry(outcome).or_default() += 1;
            }
            Ok(())
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let outcomes = outcomes.into_inner();
    assert!(
        outcomes.len() >= 4 && outcomes.values().sum::<u64>() > 1_000,
        "each outcome occurs: {outcomes:?}"
    );
}
