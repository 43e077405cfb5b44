//! One condition, without a runtime.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use watchkeeper::wait::{Inconclusive, InvalidWait, Unmet, UnmetOutcome, Verdict};
use watchkeeper::{DynError, until};

use crate::common::ms;

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_condition_is_asked_at_once_and_then_at_each_interval() {
    let began = Instant::now();
    let asked = RefCell::new(Vec::new());
    let third = || async {
        asked.borrow_mut().push(began.elapsed().as_millis());
        asked.borrow().len() == 3
    };
    until("the third time", third).every(ms(300)).within(ms(5_000)).await.unwrap();
    assert_eq!((asked.take(), began.elapsed(), tasks()), (vec![0, 300, 600], ms(600), 0));
    // Met at once.
    until("now", || async { true }).within(ms(5_000)).await.unwrap();
    assert_eq!(began.elapsed(), ms(600));
}

/// A condition returns a verdict, or a `Result` of one.
#[tokio::test(start_paused = true)]
async fn it_says_what_a_predicate_says_and_an_error_is_a_reason_to_go_on() {
    async fn typed() -> io::Result<bool> {
        Err(io::Error::other("refused"))
    }
    async fn with_reason() -> Result<Result<(), String>, io::Error> {
        Ok(Err("2 of 3".to_owned()))
    }
    async fn unmet<C, F, R>(condition: C) -> (UnmetOutcome, Option<String>)
    where
        C: FnMut() -> F,
        F: Future<Output = R>,
        R: Into<Verdict>,
    {
        let unmet = until("it", condition).within(ms(1_000)).await.unwrap_err();
        assert_eq!((unmet.label(), unmet.window()), ("it", Some(ms(1_000))));
        (unmet.outcome(), unmet.reason().map(str::to_owned))
    }
    let not_met = |reason: &str| (UnmetOutcome::NotMet, Some(reason.to_owned()));
    assert_eq!(unmet(|| async { false }).await, (UnmetOutcome::NotMet, None));
    assert_eq!(unmet(|| async { Err::<(), _>("not ready") }).await, not_met("not ready"));
    assert_eq!(unmet(typed).await, not_met("refused"));
    assert_eq!(unmet(with_reason).await, not_met("2 of 3"));
    let annotated = || async { Ok::<_, DynError>(typed().await?) };
    assert_eq!(unmet(annotated).await, not_met("refused"));
    let hopeless = || async { Ok::<_, io::Error>(Verdict::GiveUp("the job has failed".to_owned())) };
    assert_eq!(unmet(hopeless).await, (UnmetOutcome::GaveUp, Some("the job has failed".to_owned())));
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn its_report_has_the_last_reason_and_those_before() {
    let votes = Cell::new(0);
    let three = || async {
        votes.set((votes.get() + 1).min(2));
        if votes.get() >= 3 { Ok(()) } else { Err(format!("{} votes of 3", votes.get())) }
    };
    let unmet = until("three votes", three).within(ms(1_000)).await.unwrap_err();
    let report = unmet.to_string();
    assert!(report.starts_with(r#"not met in time: "three votes" within 1s"#), "{report}");
    assert!(report.contains("not yet: 1 votes of 3 -> not yet: 2 votes of 3"), "{report}");
    assert_eq!(unmet.reason(), Some("2 votes of 3"));
}

/// Counts its drops.
struct Dropped<'a>(&'a Cell<u32>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_ends_a_condition_that_hangs_and_drops_it() {
    for answers in [0, 1] {
        let (asked, dropped, began) = (Cell::new(0), Cell::new(0), Instant::now());
        let hangs = || async {
            let _dropped = Dropped(&dropped);
            asked.set(asked.get() + 1);
            if asked.get() > answers {
                pending::<()>().await;
            }
            Err::<(), _>("not ready")
        };
        // Longer than any time-out of a runtime is by default.
        let unmet = until("it answers", hangs).within(ms(60_000)).await.unwrap_err();
        let expected = match answers {
            0 => UnmetOutcome::Inconclusive(Inconclusive::NothingObserved),
            _ => UnmetOutcome::NotMet,
        };
        assert_eq!((unmet.outcome(), began.elapsed()), (expected, ms(60_000)), "{unmet}");
        assert_eq!((asked.get(), dropped.get(), tasks()), (answers + 1, answers + 1, 0));
        assert_eq!(unmet.reason(), (answers == 1).then_some("not ready"));
    }
}

#[tokio::test(start_paused = true)]
async fn given_up_it_drops_the_condition_and_leaves_nothing() {
    let dropped = Cell::new(0);
    let hangs = || async {
        let _dropped = Dropped(&dropped);
        pending::<bool>().await
    };
    let waiting = until("it answers", hangs).within(ms(60_000));
    assert!(tokio::time::timeout(ms(500), waiting).await.is_err());
    sleep(ms(1)).await;
    assert_eq!((dropped.get(), tasks()), (1, 0));
}

/// One that takes longer than its interval skips questions, and its answer counts.
#[tokio::test(start_paused = true)]
async fn a_slow_condition_is_asked_one_question_at_a_time() {
    let (running, asked, began) = (Cell::new(0), Cell::new(0), Instant::now());
    let slow = || async {
        running.set(running.get() + 1);
        assert_eq!(running.get(), 1);
        sleep(ms(15_050)).await;
        running.set(running.get() - 1);
        asked.set(asked.get() + 1);
        asked.get() == 2
    };
    until("twice", slow).within(ms(60_000)).await.unwrap();
    assert_eq!(began.elapsed(), ms(15_100 + 15_050));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_callers_as_it_is_with_a_predicate() {
    let waiting = tokio::spawn(until("it", || async { panic!("a bug") as bool }).within(ms(1_000)));
    assert!(waiting.await.unwrap_err().is_panic());
    sleep(ms(1)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_and_not_asked() {
    let asks = || async { panic!("it is asked") as bool };
    let invalid = |unmet: Unmet| {
        let UnmetOutcome::Invalid(invalid) = unmet.outcome() else { panic!("{unmet}") };
        (invalid, unmet.to_string())
    };
    for window in [ms(0), ms(24 * 3_600_000 + 1)] {
        let (window, _) = invalid(until("it", asks).within(window).await.unwrap_err());
        assert_eq!(window, InvalidWait::Window);
    }
    let (every, report) = invalid(until("it", asks).every(ms(0)).within(ms(1_000)).await.unwrap_err());
    assert_eq!(every, InvalidWait::NotStarted);
    assert!(report.contains("\"it\"") && report.contains("interval is 0ns"), "{report}");
}

#[test]
fn without_a_tokio_runtime_it_says_so() {
    let unmet =
        crate::common::threads::block_on(until("it", || async { true }).within(ms(1_000))).unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::Invalid(InvalidWait::NotStarted));
    assert!(unmet.to_string().contains("no tokio runtime here"), "{unmet}");
}
