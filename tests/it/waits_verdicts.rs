//! What predicates may return: a bool, a reason, or that they give up.

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, AnySnapshot};
use watchkeeper::wait::{InvalidWait, Unmet, UnmetOutcome, Verdict};
use watchkeeper::{
    DynError, ObservationHandle, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};

use crate::common::{Act, App, Call, View, at, each_second, ms};

/// Two polls are enough, five too many.
fn two_polls(seen: &View) -> Verdict {
    match seen.polls {
        0 | 1 => Verdict::NotYet(format!("{} of 2 polls", seen.polls)),
        2..5 => Verdict::Met,
        polls => Verdict::GiveUp(format!("{polls} polls are too many")),
    }
}

fn checked(seen: &View) -> Result<(), String> {
    if seen.polls == 2 { Ok(()) } else { Err(format!("{} of 2 polls", seen.polls)) }
}

fn outcome<T>(ended: &Result<T, Unmet>) -> Result<(), UnmetOutcome> {
    ended.as_ref().map(|_| ()).map_err(Unmet::outcome)
}

fn reason<T>(ended: &Result<T, Unmet>) -> Option<&str> {
    ended.as_ref().err()?.reason()
}

#[tokio::test(start_paused = true)]
async fn a_predicate_says_by_bool_result_or_verdict() {
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let (by_bool, by_result, by_verdict) = tokio::join!(
        handle.eventually("two polls", |seen| seen.polls == 2).within(ms(9_000)),
        handle.eventually("two polls", checked).within(ms(9_000)),
        handle.eventually("two polls", two_polls).within(ms(9_000)),
    );
    assert_eq!([by_bool, by_result, by_verdict].map(|met| met.unwrap().cycle), [2; 3]);
}

#[tokio::test(start_paused = true)]
async fn the_last_reason_stands_in_the_report() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 500).await;
    let (silent, says) = tokio::join!(
        handle.eventually("nine", |seen| seen.polls == 9).within(ms(2_000)),
        handle.eventually("nine", |seen| Err::<(), _>(format!("only {}", seen.polls))).within(ms(2_000)),
    );
    assert_eq!(
        (outcome(&says), reason(&says), reason(&silent)),
        (Err(UnmetOutcome::NotMet), Some("only 2"), None)
    );
    let report = says.unwrap_err().to_string();
    assert!(
        report.starts_with("not met in time: \"nine\" within 2s\n  reason: only 2\n  judged 2;"),
        "{report}"
    );
    assert!(!silent.unwrap_err().to_string().contains("reason"));
}

/// The reason of a predicate may come from outside.
#[tokio::test(start_paused = true)]
async fn a_reason_is_bounded_and_escaped() {
    let runtime = App::new().start(each_second()).await;
    let long = format!("<html>\r\n\u{1b}[2J{}", "x".repeat(1_000_000));
    let reason = long.clone();
    let wait = runtime.handle().eventually("it", move |_| Err::<(), _>(reason.clone()));
    let unmet = wait.within(ms(1_500)).await.unwrap_err();
    let reason = unmet.reason().unwrap();
    assert!(reason.starts_with(r"<html>\r\n\u{1b}[2Jxxx") && reason.len() < 1_100, "{} bytes", reason.len());
    let given_up = runtime.handle().eventually("it", move |_| Verdict::GiveUp(long.clone()));
    let report = given_up.within(ms(1_500)).await.unwrap_err().to_string();
    assert!(
        report.len() < 3_000 && report.lines().nth(1).unwrap().starts_with(r"  reason: <html>\r\n"),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_predicate_that_gives_up_ends_its_wait_at_once() {
    let hopeless =
        |seen: &View| if seen.polls == 2 { Verdict::GiveUp("no hope".into()) } else { false.into() };
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let any = AnyHandle::new("app", &handle);
    let erased = |seen: AnySnapshot<'_>| seen.value().map_or(Verdict::Met, hopeless);
    let invariant = handle.invariant("fine", move |seen| match hopeless(seen) {
        Verdict::NotYet(_) => Verdict::Met,
        verdict => verdict,
    });
    let (eventually, never, any_never) = tokio::join!(
        handle.eventually("it", hopeless).within(ms(9_000)),
        handle.never("it", hopeless).during(ms(9_000)),
        any.never("it", erased).during(ms(9_000)),
    );
    assert_eq!(start.elapsed(), ms(2_000));
    let unmet = invariant.violated().await;
    let collected = invariant.finish().await;
    assert_eq!(unmet.to_string(), collected.as_ref().unwrap_err().to_string());
    let gave_up = Err(UnmetOutcome::GaveUp);
    assert_eq!([outcome(&eventually), outcome(&never)], [gave_up; 2]);
    assert_eq!([outcome(&any_never), outcome(&collected)], [gave_up; 2]);
    assert_eq!(
        [reason(&eventually), reason(&never), reason(&any_never), reason(&collected)],
        [Some("no hope"); 4]
    );
    let report = eventually.unwrap_err().to_string();
    assert!(report.starts_with("given up: \"it\" within 9s\n  reason: no hope\n  judged 2;"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn not_yet_violates_always_and_met_violates_never() {
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let few = |seen: &View| if seen.polls < 2 { Ok(()) } else { Err(format!("{} polls", seen.polls)) };
    let invariant = handle.invariant("few polls", few);
    let (always, never) = tokio::join!(
        handle.always("few polls", few).during(ms(9_000)),
        handle.never("two polls", checked).during(ms(9_000)),
    );
    let finished = invariant.finish().await;
    let violated = Err(UnmetOutcome::Violated);
    assert_eq!([outcome(&always), outcome(&never)], [violated; 2]);
    assert_eq!(outcome(&finished), violated);
    assert_eq!(
        (reason(&always), reason(&never), reason(&finished)),
        (Some("2 polls"), None, Some("2 polls"))
    );
    let report = always.unwrap_err().to_string();
    assert!(report.contains("\n  reason: 2 polls\n  first violation at +2.000s, in cycle 2:"), "{report}");
    handle.always("polls", |seen| seen.polls > 1).during(ms(2_500)).await.unwrap();
    handle
        .never("hundred polls", |seen| (seen.polls == 100).then_some(()).ok_or("not yet"))
        .during(ms(2_500))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_are_judged_with_reasons_as_well() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1, 2]), Act::Ok(vec![3, 4, 5]), Act::Ok(vec![6])]);
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let any = AnyHandle::new("app", &handle);
    let not = |event: &u64| Err::<(), _>(format!("{event} is none"));
    let four =
        |event: &u64| if *event == 4 { Verdict::GiveUp("four".into()) } else { Verdict::from(not(event)) };
    let (none, gave_up, erased) = tokio::join!(
        handle.event("none", not).within(ms(2_500)),
        handle.event("none", four).within(ms(9_000)),
        any.event("none", |event| four(event.downcast_ref().unwrap())).within(ms(9_000)),
    );
    assert_eq!((outcome(&none), reason(&none)), (Err(UnmetOutcome::NotMet), Some("5 is none")));
    assert_eq!((outcome(&gave_up), reason(&gave_up)), (Err(UnmetOutcome::GaveUp), Some("four")));
    assert_eq!((outcome(&erased), reason(&erased)), (Err(UnmetOutcome::GaveUp), Some("four")));
}

async fn heights() -> (ObservationRuntime<PerSource<u64, u64>>, ObservationHandle<PerSource<u64, u64>>) {
    let nodes = [("n1", 7), ("n2", 3), ("n3", 0)].map(|(name, height)| ObservedSource::new(name, height));
    let observer = PerSource::new(|node: ObservedSource<u64>| async move {
        if node.source == 0 { Err(DynError::from("refused")) } else { Ok(node.source) }
    });
    let nodes = StaticSourceProvider::new(nodes.into());
    let runtime = ObservationRuntime::start(nodes, observer, each_second()).await.unwrap();
    let handle = runtime.handle();
    (runtime, handle)
}

#[tokio::test(start_paused = true)]
async fn a_reason_names_its_source() {
    let (_runtime, handle) = heights().await;
    let past =
        |limit: u64| move |height: &u64| if *height > limit { Ok(()) } else { Err(format!("at {height}")) };
    let lost = |height: &u64| if *height == 3 { Verdict::GiveUp("lost".into()) } else { Verdict::Met };
    let (all, any, some, gave_up) = tokio::join!(
        handle.all_sources("past 5", past(5)).within(ms(2_500)),
        handle.any_source("past 9", past(9)).within(ms(2_500)),
        handle.at_least_sources(2, "past 5", past(5)).within(ms(2_500)),
        handle.any_source("any", lost).within(ms(2_500)),
    );
    let reasons = [reason(&all), reason(&any), reason(&some)];
    assert_eq!(reasons, [Some("n2: at 3"), Some("n1: at 7"), Some("n2: at 3")]);
    assert_eq!((outcome(&gave_up), reason(&gave_up)), (Err(UnmetOutcome::GaveUp), Some("n2: lost")));
    handle.at_least_sources(2, "past 2", past(2)).within(ms(2_500)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_no_source_at_all_is_refused() {
    let (_runtime, handle) = heights().await;
    let none = handle.at_least_sources(0, "none", |_| true).within(ms(2_500)).await;
    assert_eq!(outcome(&none), Err(UnmetOutcome::Invalid(InvalidWait::NoSources)));
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_returned() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let any = AnyHandle::new("app", &handle);
    let find = |seen: &View| (seen.polls > 1).then(|| format!("{} polls", seen.polls));
    let (typed, erased): (Result<String, Unmet>, Result<String, Unmet>) = tokio::join!(
        handle.eventually_some("polls", find).within(ms(9_000)),
        any.eventually_some("polls", |seen| seen.value().and_then(find)).within(ms(9_000)),
    );
    assert_eq!((&*typed.unwrap(), &*erased.unwrap(), start.elapsed()), ("2 polls", "2 polls", ms(2_000)));
    let none = handle.eventually_some("nothing", |_| None::<u8>).within(ms(1_500)).await;
    assert_eq!(outcome(&none), Err(UnmetOutcome::NotMet));
    let none = any.eventually_some("nothing", |_| None::<u8>).or_now().within(ms(1_500)).await;
    assert_eq!(outcome(&none), Err(UnmetOutcome::NotMet));
}

/// It returns its outcome once. What it waited for is not judged again, nor reported as unmet.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_polled_after_its_end_says_so() {
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let any = AnyHandle::new("app", &handle);
    let mut judged = 0;
    let mut met = handle
        .eventually("a poll", |_| {
            judged += 1;
            true
        })
        .within(ms(9_000));
    let mut unmet = handle.eventually("nothing", |_| false).within(ms(1_500));
    let mut invalid = handle.eventually("nothing", |_| false).within(ms(0));
    let mut found = any.eventually_some("cycle", |seen| Some(seen.cycle())).within(ms(9_000));
    assert!((&mut met).await.is_ok() && (&mut unmet).await.is_err() && (&mut invalid).await.is_err());
    assert_eq!((&mut found).await.unwrap(), 1);
    let again = [
        outcome(&(&mut met).await),
        outcome(&(&mut unmet).await),
        outcome(&(&mut invalid).await),
        outcome(&(&mut found).await),
        outcome(&(&mut met).await),
    ];
    assert_eq!(again, [Err(UnmetOutcome::Invalid(InvalidWait::PolledAgain)); 5]);
    let report = (&mut met).await.unwrap_err().to_string();
    let expected = "invalid wait (it has ended, and was polled again): \"a poll\"\n  \
                    this wait has ended: make another one";
    assert_eq!(report, expected);
    drop(met);
    assert_eq!(judged, 1);
}

/// A note does not take the place of the reason.
#[tokio::test]
async fn a_reason_stands_beside_a_note() {
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().eventually("slowly", |_| {
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        Err::<(), _>("no leader")
    });
    let unmet = wait.or_now().within(ms(1_500)).await.unwrap_err();
    let report = unmet.to_string();
    assert!(report.contains("\n  reason: no leader\n  the executor gave no turn for "), "{report}");
    #[cfg(feature = "json")]
    assert_eq!(unmet.to_json()["predicate_reason"], "no leader");
}
