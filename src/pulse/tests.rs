//! Looks, on manually set clocks where that is possible.

use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::*;

fn executor(paused: bool) -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(paused).build().expect("an executor")
}

/// A vigil whose executor owes a turn from now on.
fn due(executor: &Runtime) -> Vigil {
    let vigil = Pulse::of(executor.handle().clone()).measure("due");
    vigil.is_due(BothClocks::at(executor.handle()).tokio);
    vigil
}

#[test]
fn time_without_a_turn_counts_only_on_a_running_clock() {
    let (running, paused, driven, own) = (executor(false), executor(true), executor(false), executor(false));
    let (mut on_running, mut on_paused, mut on_driven) = (due(&running), due(&paused), due(&driven));
    let (over, until_over) = tokio::sync::oneshot::channel::<()>();
    let driving = thread::spawn(move || driven.block_on(until_over));
    // All three are checked by one thread, at the same times.
    let long = own.block_on(poll_fn(|context| {
        assert!(on_paused.poll(context).is_pending());
        assert!(on_driven.poll(context).is_pending());
        on_running.poll(context)
    }));
    assert!(long >= STALL);
    assert!(on_running.longest_stall().is_some_and(|stall| stall.long >= STALL && stall.executor));
    assert_eq!(on_paused.longest_stall(), None);
    assert_eq!(on_driven.longest_stall(), None);
    over.send(()).unwrap();
    driving.join().unwrap().unwrap();
}

#[test]
fn a_later_look_puts_off_no_earlier_one() {
    let executor = executor(false);
    let pulse = Pulse::of(executor.handle().clone());
    let _soon = pulse.measure("soon");
    let mut late = std::pin::pin!(pulse.no_turn(None, false));
    assert!(late.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let armed = pulse.lock().expect("there are two vigils").armed.as_ref().map(|(at, _)| *at);
    assert!(armed.is_some_and(|at| at <= RealInstant::now() + LOOK));
}

/// After many starts at once, the deadline thread used to make as many looks, seconds later.
#[test]
fn a_runtime_for_which_nobody_waits_is_not_checked() {
    let executor = executor(false);
    let pulse = Pulse::of(executor.handle().clone());
    let is_armed = || pulse.lock().map(|inner| inner.armed.is_some());
    // No look comes while this runs.
    let wait = || {
        let now = BothClocks::at(executor.handle());
        pulse.keep(VigilRecord::new(later(now.tokio, NEVER), now), now)
    };
    let (first, second) = (wait(), wait());
    drop(first);
    assert_eq!(is_armed(), Some(true), "one waits");
    drop(second);
    assert_eq!(is_armed(), None, "nothing is kept");
    let vigil = wait();
    let look = BothClocks::at(executor.handle());
    assert!(
        pulse.look(&mut pulse.lock().unwrap(), look, &mut LookEffects::default()),
        "the executor is asked"
    );
    drop(vigil);
    assert_eq!(is_armed(), Some(false), "there is a question without an answer");
    pulse.answered();
    assert_eq!(is_armed(), None);
}

/// Whether the executor is asked, how many waiters are woken, and the logged stalls with their waits.
type Findings = (bool, usize, Vec<(Stall, Option<String>)>);

/// The findings of looks at these times, in milliseconds. With `answers`, the executor answers in between.
fn looks(vigil: &Vigil, answers: bool, times: &[u64]) -> Vec<Findings> {
    let start = BothClocks::at(&vigil.pulse.executor);
    let mut inner = vigil.pulse.lock().expect("there is a vigil");
    inner.asked = None;
    let mut found = Vec::new();
    for time in times.iter().map(|time| Duration::from_millis(*time)) {
        let now = BothClocks { real: start.real + time, tokio: start.tokio + time };
        let mut seen = LookEffects::default();
        let asks = vigil.pulse.look(&mut inner, now, &mut seen);
        found.push((asks, seen.wakers.len(), seen.logs));
        if answers {
            inner.asked = None;
        }
    }
    found
}

const SECONDS: [u64; 4] = [0, 250, 3_000, 4_000];

#[test]
fn what_stands_still_is_logged_once_by_its_largest_part() {
    let executor = executor(false);
    let pulse = Pulse::of(executor.handle().clone());
    let stall = |executor, by| Stall { long: LOGGED, executor, by };
    let (asked, quiet) = ((true, 0, vec![]), (false, 0, vec![]));
    let logs = |asks, executor, by, wait: Option<&str>| {
        (asks, 0, vec![(stall(executor, by), wait.map(str::to_owned))])
    };
    let vigil = pulse.measure("w");
    let nothing = looks(&vigil, true, &SECONDS);
    assert_eq!(nothing, [asked.clone(), asked.clone(), asked.clone(), asked.clone()]);
    let silent = looks(&vigil, false, &SECONDS);
    let log = logs(false, true, Culprit::Unknown, None);
    assert_eq!(silent, [asked.clone(), quiet.clone(), log, quiet.clone()]);
    for (answers, executor_is_silent) in [(true, false), (false, true)] {
        let asks = if answers { asked.clone() } else { quiet.clone() };
        let found = pulse.driver.inside(|| looks(&vigil, answers, &SECONDS));
        let log = logs(answers, executor_is_silent, Culprit::Driver, None);
        assert_eq!(found, [asked.clone(), asks.clone(), log, asks.clone()], "the driver");
        let found = vigil.judging(|| looks(&vigil, answers, &SECONDS));
        let log = logs(answers, executor_is_silent, Culprit::Predicate, Some("w"));
        assert_eq!(found, [asked.clone(), asks.clone(), log, asks.clone()], "a predicate");
    }
    // The driver's stall was logged as the executor's.
    pulse.driver.inside(|| {
        assert_eq!(looks(&vigil, false, &[0, 3_000])[1].2.len(), 1);
        pulse.lock().expect("there is a vigil").asked = None;
        assert_eq!(looks(&vigil, true, &[3_100, 3_200]), [asked.clone(), asked.clone()]);
    });
}

/// App code that had just begun when the executor was asked is not the cause of the stall.
#[test]
fn app_code_that_has_returned_is_no_culprit() {
    let executor = executor(false);
    let vigil = due(&executor);
    let pulse = &vigil.pulse;
    let (mut inner, mut seen) = (pulse.lock().expect("there is a vigil"), LookEffects::default());
    inner.asked = None;
    let start = BothClocks::at(executor.handle());
    pulse.driver.inside(|| vigil.judging(|| pulse.look(&mut inner, start, &mut seen)));
    let later = BothClocks { real: start.real + LOGGED, tokio: start.tokio + LOGGED };
    pulse.look(&mut inner, later, &mut seen);
    assert_eq!(seen.logs, [(Stall { long: LOGGED, executor: true, by: Culprit::Unknown }, None)]);
}

#[test]
fn who_is_overdue_is_woken_after_a_second_without_a_turn() {
    let executor = executor(false);
    let mut vigil = due(&executor);
    assert!(vigil.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let woken: Vec<_> =
        looks(&vigil, false, &[0, 999, 1_000, 1_001]).into_iter().map(|look| look.1).collect();
    assert_eq!(woken, [0, 0, 1, 0]);
    assert!(vigil.kept.lock().overdue);
    vigil.is_due(later(Instant::now(), NEVER));
    assert!(vigil.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(looks(&vigil, false, &[0, 1_000])[1].1, 0, "it is not due");
}

#[test]
fn one_look_that_finds_it_overdue_is_not_believed() {
    let executor = executor(false);
    let mut vigil = due(&executor);
    let poll = |vigil: &mut Vigil| {
        let now = BothClocks::at(executor.handle());
        let before = "this machine has run for a second";
        let since = BothClocks {
            real: now.real.checked_sub(STALL).expect(before),
            tokio: now.tokio.checked_sub(STALL).expect(before),
        };
        let asked = OpenQuestion { at: since, since, logged: true, by: Culprit::Unknown };
        vigil.pulse.lock().expect("there is a vigil").asked = Some(asked);
        vigil.kept.lock().overdue = true;
        vigil.poll(&mut Context::from_waker(Waker::noop()))
    };
    assert!(poll(&mut vigil).is_pending() && vigil.doubted.is_some());
    // On a machine of any speed, no time has passed since then.
    vigil.doubted = Some(RealInstant::now() + NEVER);
    assert!(poll(&mut vigil).is_pending());
    vigil.doubted = RealInstant::now().checked_sub(LOOK / 2);
    assert!(poll(&mut vigil).is_ready());
    vigil.is_due(later(Instant::now(), NEVER));
    assert!(poll(&mut vigil).is_pending() && vigil.doubted.is_none());
}

#[test]
fn the_longest_stall_is_kept_if_it_lasted_a_second() {
    let executor = executor(false);
    let vigil = due(&executor);
    let stall = |millis, by| Stall { long: Duration::from_millis(millis), executor: false, by };
    let (driver, predicate) = (Culprit::Driver, Culprit::Predicate);
    let mut state = vigil.kept.lock();
    for (saw, longest) in [
        (None, None),
        (Some(stall(999, driver)), None),
        (Some(stall(1_000, driver)), Some(stall(1_000, driver))),
        (Some(stall(3_000, driver)), Some(stall(3_000, driver))),
        (Some(stall(3_000, predicate)), Some(stall(3_000, driver))),
        (Some(stall(2_000, driver)), Some(stall(3_000, driver))),
    ] {
        state.saw(saw);
        assert_eq!(state.longest, longest, "after {saw:?}");
    }
}

#[test]
fn one_that_measures_is_checked_soon_and_another_when_it_is_due() {
    let now = BothClocks { real: RealInstant::now(), tokio: Instant::now() };
    for (measures, due, next) in
        [(true, PATIENCE, LOOK), (false, PATIENCE, PATIENCE), (false, Duration::ZERO, LOOK)]
    {
        let kept = VigilRecord { measures, ..VigilRecord::new(now.tokio + due, now) };
        assert_eq!(kept.next_look(now), now.real + next, "{measures}, {due:?}");
    }
}

#[test]
fn a_driver_that_is_stuck_matters_to_those_who_need_it() {
    let executor = executor(false);
    let pulse = Pulse::of(executor.handle().clone());
    let now = BothClocks::at(executor.handle());
    pulse.driver.inside(|| {
        for needs_driver in [false, true] {
            let vigil = pulse.keep(VigilRecord { needs_driver, ..VigilRecord::new(now.tokio, now) }, now);
            let mut inner = pulse.lock().expect("there is a vigil");
            inner.asked = None;
            inner.driver.look(&pulse.driver, now);
            for (long, overdue) in [(Duration::from_millis(999), false), (STALL, needs_driver)] {
                let later = BothClocks { real: now.real + long, tokio: now.tokio + long };
                let found = inner.overdue(&vigil.kept, now.tokio, &pulse.driver, later);
                assert_eq!(found, overdue.then_some(long), "needed: {needs_driver}");
            }
        }
    });
}

#[test]
fn a_vigil_that_is_over_leaves_nothing() {
    let executor = executor(false);
    let pulse = Pulse::of(executor.handle().clone());
    assert!(pulse.lock().is_none(), "nor is anything kept before the first");
    let (one, other) = (pulse.measure("one"), pulse.measure("other"));
    drop(one);
    assert_eq!(pulse.lock().expect("there was a vigil").vigils.len(), 1);
    drop(other);
    let began = RealInstant::now();
    while pulse.lock().is_some() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is checked for nothing");
        thread::yield_now();
    }
}

#[test]
fn what_was_asked_is_known_until_it_is_answered() {
    let executor = executor(false);
    let pulse = Pulse::of(executor.handle().clone());
    let vigil = pulse.measure("gone before the answer");
    looks(&vigil, false, &[0]);
    drop(vigil);
    let asks = || pulse.lock().is_some_and(|inner| inner.asked.is_some());
    assert!(asks(), "nothing is asked twice");
    pulse.answered();
    assert!(!asks());
}
