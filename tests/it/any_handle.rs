//! Handles of a group, whose observers are erased: the same waits for all of them.

use std::task::Poll;

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, AnySnapshot, AnyWait, ObservationGroup};
use watchkeeper::per_source::PerSourceSnapshot;
use watchkeeper::runtime::{State, StateKind};
use watchkeeper::source::SharedSources;
use watchkeeper::wait::{Inconclusive, InvalidWait, UnmetOutcome};
use watchkeeper::{DynError, ObservationRuntime, ObservedSource, PerSource};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, View, at, each_second, ms};

fn polls(snapshot: AnySnapshot<'_>) -> u64 {
    snapshot.value::<View>().unwrap().polls
}

/// A group of one: polls find 10 and 11, then fail, then find 30, then hang.
async fn app() -> (ObservationGroup, AnyHandle, Instant) {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![10, 11]), Act::Err("down"), Act::Ok(vec![30]), Act::Hang]);
    let start = Instant::now();
    let group = ObservationGroup::new();
    group.add_as("app", app.start(each_second()).await).unwrap();
    let handle = group.handle("app").unwrap();
    (group, handle, start)
}

//   0 s    1 s       2 s     3 s   4 s     6 s
//   init   10, 11    error   30    hangs   stale
#[tokio::test(start_paused = true)]
async fn each_operator_is_met_by_what_it_waits_for() {
    type Make = fn(&AnyHandle) -> AnyWait<'static>;
    let cases: [(&str, Make, u64, u64); 8] = [
        (
            "eventually",
            |app| app.eventually("two polls", |seen| polls(seen) == 2).within(ms(9_500)),
            3,
            3_000,
        ),
        ("always", |app| app.always("few polls", |seen| polls(seen) < 3).during(ms(3_500)), 3, 3_500),
        ("never", |app| app.never("many polls", |seen| polls(seen) > 2).during(ms(3_500)), 3, 3_500),
        ("stable_for", |app| app.stable_for("same", ms(2_000), |_| Some(())).within(ms(9_500)), 3, 3_000),
        (
            "event",
            |app| app.event("30", |event| event.downcast_ref() == Some(&30_u64)).within(ms(9_500)),
            3,
            3_000,
        ),
        ("reaches", |app| app.reaches(StateKind::Failed).within(ms(9_500)), 2, 2_000),
        ("stays_fresh", |app| app.stays_fresh().during(ms(5_900)), 4, 5_900),
        ("becomes_stale", |app| app.becomes_stale().within(ms(9_500)), 4, 6_000),
    ];
    for (name, make, cycle, millis) in cases {
        let (_group, app, start) = app().await;
        let status = make(&app).await.unwrap();
        assert_eq!((&*status.name, status.cycle), ("app", cycle), "{name}");
        assert_eq!(start.elapsed(), ms(millis), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_operator_says_why_it_is_not_met() {
    type Make = fn(&AnyHandle) -> AnyWait<'static>;
    let cases: [(&str, Make, UnmetOutcome, u64); 9] = [
        ("eventually", |app| app.eventually("-", |_| false).within(ms(3_500)), UnmetOutcome::NotMet, 3_500),
        (
            "always",
            |app| app.always("-", |seen| polls(seen) < 2).during(ms(3_500)),
            UnmetOutcome::Violated,
            3_000,
        ),
        (
            "never",
            |app| app.never("-", |seen| polls(seen) == 1).during(ms(3_500)),
            UnmetOutcome::Violated,
            1_000,
        ),
        (
            "stable_for",
            |app| app.stable_for("-", ms(1_000), |seen| Some(polls(seen))).within(ms(3_500)),
            UnmetOutcome::NotMet,
            3_500,
        ),
        (
            "stable_for none",
            |app| app.stable_for("-", ms(1_000), |_| None::<()>).within(ms(3_500)),
            UnmetOutcome::NotMet,
            3_500,
        ),
        (
            "stable_for too long",
            |app| app.stable_for("-", ms(4_000), |_| Some(())).within(ms(3_500)),
            UnmetOutcome::Invalid(InvalidWait::Hold),
            0,
        ),
        (
            "event",
            |app| app.event("-", |event| event.downcast_ref() == Some(&30_i8)).within(ms(3_500)),
            UnmetOutcome::NotMet,
            3_500,
        ),
        ("stays_fresh", |app| app.stays_fresh().during(ms(9_500)), UnmetOutcome::Violated, 6_000),
        ("becomes_stale", |app| app.becomes_stale().within(ms(5_900)), UnmetOutcome::NotMet, 5_900),
    ];
    for (name, make, outcome, millis) in cases {
        let (_group, app, start) = app().await;
        let unmet = make(&app).await.unwrap_err();
        assert_eq!((unmet.outcome(), start.elapsed()), (outcome, ms(millis)), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn starts_are_chosen_as_for_typed_handles() {
    let (_group, app, start) = app().await;
    let mark = app.mark();
    at(start, 1_500).await;
    let anything = || app.eventually("anything", |_| true);
    let Poll::Ready(Ok(now)) = poll_once(anything().or_now().within(ms(5_000))) else { panic!("at once") };
    let Poll::Ready(Ok(after)) = poll_once(anything().after(mark).within(ms(5_000))) else {
        panic!("at once")
    };
    assert_eq!((now.cycle, after.cycle), (1, 1));
    let event = app.event("11", |event| event.downcast_ref() == Some(&11_u64)).after(mark);
    assert!(matches!(poll_once(event.within(ms(5_000))), Poll::Ready(Ok(_))));
    let other = App::new().start(each_second()).await;
    let foreign = anything().after(other.handle().mark()).within(ms(5_000)).await.unwrap_err();
    assert_eq!(foreign.outcome(), UnmetOutcome::Invalid(InvalidWait::ForeignMark));
    let later = anything().within(ms(5_000)).await.unwrap();
    assert_eq!((later.cycle, start.elapsed()), (3, ms(3_000)));
}

#[tokio::test(start_paused = true)]
async fn what_a_handle_shows() {
    let (group, app, start) = app().await;
    at(start, 3_500).await;
    let seen = app.look(|seen| {
        assert!(seen.value::<u64>().is_none(), "of another type");
        (seen.cycle(), seen.generation(), seen.source_count(), seen.batches(), polls(seen))
    });
    assert_eq!(seen, Some((3, 1, 1, 2, 2)));
    assert_eq!((&**app.name(), app.status().state), ("app", State::Idle));
    let failed: Vec<_> = app.failures().iter().map(|failure| failure.cycle).collect();
    assert_eq!(failed, [2]);
    assert_eq!(app.why_stale("a"), "nothing is known of a: its observer keeps nothing by source");
    assert!(app.look(|seen| seen.source_health("a").is_none()).unwrap());
    assert!(group.handle("nobody").is_none());
    let names: Vec<_> = group.handles().iter().map(|handle| handle.name().to_string()).collect();
    assert_eq!(names, ["app"]);

    let failing = App::new();
    failing.then(Call::Init, [Act::Err("down")]);
    let runtime = ObservationRuntime::start_in_background(failing.clone(), failing, each_second()).unwrap();
    group.add_as("young", runtime).unwrap();
    assert!(group.handle("young").unwrap().look(|_| ()).is_none(), "there is no snapshot yet");
}

#[tokio::test(start_paused = true)]
async fn sources_are_waited_for_by_name() {
    let set = SharedSources::new(vec![ObservedSource::new("n1", Some(1)), ObservedSource::new("n2", None)]);
    let observer = PerSource::new(|node: ObservedSource<Option<u32>>| async move {
        node.source.ok_or_else(|| DynError::from("connection refused"))
    });
    let group = ObservationGroup::new();
    let runtime = ObservationRuntime::start(set.clone(), observer, each_second()).await.unwrap();
    group.add_as("nodes", runtime).unwrap();
    let nodes = group.handle("nodes").unwrap();
    let start = Instant::now();
    nodes.source_fresh("n1").within(ms(5_000)).await.unwrap();
    nodes.source_failing("n2").within(ms(5_000)).await.unwrap();
    assert_eq!(start.elapsed(), ms(2_000));
    let mut stale = nodes.source_stale("n2").within(ms(2_500));
    assert!(tokio::time::timeout(ms(1_500), &mut stale).await.is_err());
    let expected = "\"source \\\"n2\\\" is stale\" is pending for 1.5 s of 2.5 s: judged 1; n2 has never answered; \
                    4 consecutive failures, last 0.5 s ago: connection refused";
    assert_eq!(stale.explain(), expected);
    assert_eq!(
        stale.await.unwrap_err().outcome(),
        UnmetOutcome::NotMet,
        "a source that never answered is not stale"
    );
    set.remove("n2");
    let status = nodes.source_vanished("n2").within(ms(5_000)).await.unwrap();
    assert_eq!(status.source_names.join(" "), "n1");
    let value = nodes.look(|seen| {
        let nodes: &PerSourceSnapshot<u32> = seen.value().unwrap();
        (seen.source_health("n1").unwrap().facts.answers, nodes.answer("n1").copied())
    });
    assert_eq!(value, Some((6, Some(1))));
}

#[tokio::test(start_paused = true)]
async fn a_report_without_a_way_to_show_says_so() {
    let (group, app, start) = app().await;
    at(start, 500).await;
    let wait = app.eventually("the impossible", |_| false).within(ms(9_000));
    let _ = group.stop_all().await;
    let unmet = wait.await.unwrap_err();
    assert!(matches!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::Stopped { .. })));
    let report = unmet.to_string();
    assert!(
        report.contains(
            "of cycle 0:\n    (this handle was given no way to show it: see AnyHandle::with_json)\n"
        ),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn waits_of_several_members_are_awaited_together() {
    let (group, app, start) = app().await;
    group.add_as("other", App::new().start(each_second()).await).unwrap();
    let other = group.handle("other").unwrap().clone();
    let (event, fifth, idle) = tokio::join!(
        app.event("30", |event| event.downcast_ref() == Some(&30_u64)).within(ms(9_500)),
        other.eventually("five polls", |seen| polls(seen) == 5).within(ms(9_500)),
        other.reaches(StateKind::Idle).within(ms(9_500)),
    );
    let of = |status: watchkeeper::group::GroupStatus| (status.name.to_string(), status.cycle);
    assert_eq!((of(event.unwrap()), of(fifth.unwrap())), (("app".into(), 3), ("other".into(), 5)));
    assert_eq!((of(idle.unwrap()), start.elapsed()), (("other".into(), 1), ms(5_000)));
}

#[cfg(feature = "json")]
mod json {
    use serde_json::{Value, json};
    use watchkeeper::ObservationRuntime;

    use super::*;

    fn shown(seen: AnySnapshot<'_>) -> Option<Value> {
        seen.to_json()
    }

    fn view(seen: &View) -> Value {
        json!({ "polls": seen.polls, "sources": seen.sources })
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_with_json_is_shown_and_judged_by_it() {
        let group = ObservationGroup::new();
        let start = Instant::now();
        group.add_with_json("app", App::new().start(each_second()).await, view).unwrap();
        group.add_as("mute", App::new().start(each_second()).await).unwrap();
        let app = group.handle("app").unwrap();
        assert_eq!(app.look(shown).flatten(), Some(json!({ "polls": 0, "sources": ["a"] })));
        assert_eq!(group.handle("mute").unwrap().look(shown), Some(None));
        let polls = |seen: AnySnapshot<'_>| seen.to_json().unwrap().pointer("/polls") == Some(&json!(3));
        assert_eq!(app.eventually("three polls", polls).within(ms(5_000)).await.unwrap().cycle, 3);
        assert_eq!(start.elapsed(), ms(3_000));
        let unmet = app.never("four polls", |seen| seen.cycle() == 4).during(ms(5_000)).await.unwrap_err();
        let violation = json!({ "at_s": 1.0, "cycle": 4, "value": { "polls": 4, "sources": ["a"] } });
        assert_eq!(unmet.to_json()["first_violation"], violation);
        let shown =
            "in cycle 4:\n    {\n      \"polls\": 4,\n      \"sources\": [\n        \"a\"\n      ]\n    }\n";
        assert!(unmet.to_string().contains(shown), "{unmet}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_unique_for_every_way_to_add_a_member() {
        let group = ObservationGroup::new();
        group.add_with_json("app", App::new().start(each_second()).await, view).unwrap();
        let again: ObservationRuntime<App> = App::new().start(each_second()).await;
        assert!(group.add_with_json("app", again, view).is_err());
        let alone = AnyHandle::with_json("alone", &App::new().start(each_second()).await.handle(), view);
        assert!(alone.look(shown).flatten().is_some());
    }
}
