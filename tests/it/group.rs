//! A group: runtimes of any kind, named, spread over their interval, stopped together.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::group::{GroupError, ObservationGroup};
use watchkeeper::runtime::{State, StateKind, StopOutcome, StopReason};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};

use crate::common::threads::{Flavour, Gate, executor, poll_once};
use crate::common::{Act, App, Call, at, each_second, ms, resume_after};

async fn probing() -> ObservationRuntime<PerSource<u32, u32>> {
    let provider =
        StaticSourceProvider::new(vec![ObservedSource::new("n1", 1), ObservedSource::new("n2", 2)]);
    let observer = PerSource::new(|node: ObservedSource<u32>| async move { Ok::<_, DynError>(node.source) });
    ObservationRuntime::start(provider, observer, each_second()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn members_of_any_kind_are_listed_by_age_and_found_by_name() {
    let group = ObservationGroup::new();
    assert!(group.is_empty() && group.statuses().is_empty());
    let start = Instant::now();
    let failing = App::new();
    failing.then(Call::Poll, [Act::Ok(vec![]), Act::Err("no")]);
    group
        .add_as(
            "zebra",
            failing.start(ObservationConfig { resume: Some(resume_after(6)), ..each_second() }).await,
        )
        .unwrap();
    group.add_as("nodes", probing().await).unwrap();
    at(start, 2_500).await;

    let statuses = group.statuses();
    let names: Vec<&str> = statuses.iter().map(|status| &*status.name).collect();
    assert_eq!((group.len(), names), (2, vec!["zebra", "nodes"]));
    let [zebra, nodes] = &statuses[..] else { panic!("{statuses:?}") };
    assert_eq!((zebra.state.kind(), zebra.generation, zebra.cycle), (StateKind::Failed, 7, 3));
    assert_eq!(zebra.last_error.as_ref().unwrap().message, "no");
    assert_eq!(zebra.freshness.age(), Some(ms(1_500)));
    assert_eq!((nodes.state, nodes.generation, nodes.cycle), (State::Idle, 1, 2));
    assert_eq!((nodes.source_names.join(" "), nodes.missed_ticks, nodes.paused), ("n1 n2".into(), 0, false));
    assert!(nodes.last_error.is_none());

    assert_eq!(group.status("nodes").unwrap().cycle, 2);
    assert!(group.status("nobody").is_none() && group.control("nobody").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_control_reaches_the_member_of_its_name_alone() {
    let group = ObservationGroup::new();
    let app = App::new();
    group.add_as("app", app.start(each_second()).await).unwrap();
    group.add_as("nodes", probing().await).unwrap();
    let start = Instant::now();
    group.control("app").unwrap().pause().await.unwrap();
    at(start, 3_500).await;
    let paused: Vec<_> = group.statuses().iter().map(|status| (status.paused, status.cycle)).collect();
    assert_eq!(paused, [(true, 0), (false, 3)]);
    assert_eq!(group.control("app").unwrap().poll_now().await, Ok(1));
    assert_eq!(group.control("nodes").unwrap().stop().await, StopOutcome::Stopped);
    let states: Vec<_> = group.statuses().iter().map(|status| status.state.kind()).collect();
    assert_eq!(states[1], StateKind::Stopped);
    assert_ne!(states[0], StateKind::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_required_and_unique_and_a_refused_runtime_is_stopped() {
    let group = ObservationGroup::new();
    group.add_as("app", App::new().start(each_second()).await).unwrap();
    let long = "x".repeat(257);
    let cases = [
        ("app", GroupError::DuplicateName { name: "app".into() }),
        ("", GroupError::EmptyName),
        (&long, GroupError::LongName { length: 257 }),
    ];
    for (name, error) in cases {
        let refused = App::new().start(each_second()).await;
        let handle = refused.handle();
        assert_eq!(group.add_as(name, refused), Err(error.clone()));
        assert!(error.to_string().contains("name"), "{error}");
        let ended = handle.reaches(StateKind::Stopped).within(ms(1)).await.unwrap();
        assert_eq!(ended.state, State::Stopped { reason: StopReason::Dropped }, "{name:?}");
    }
    assert_eq!(group.len(), 1);
    assert_eq!(group.status("app").unwrap().state, State::Idle, "the first member keeps the name");
}

#[tokio::test(start_paused = true)]
async fn a_member_takes_the_name_of_its_config() {
    let group = ObservationGroup::new();
    let named = |name: &str| ObservationConfig { name: Some(name.to_owned()), ..each_second() };
    group.add(App::new().start(named("raft")).await).unwrap();
    assert_eq!(group.status("raft").unwrap().state, State::Idle);

    let taken = group.add(App::new().start(named("raft")).await);
    assert_eq!(taken, Err(GroupError::DuplicateName { name: "raft".into() }));
    let unnamed = App::new().start(each_second()).await;
    let handle = unnamed.handle();
    let error = group.add(unnamed).unwrap_err();
    assert_eq!(error, GroupError::Unnamed);
    assert!(error.to_string().contains("set ObservationConfig::name"), "{error}");
    let ended = handle.reaches(StateKind::Stopped).within(ms(1)).await.unwrap();
    assert_eq!(ended.state, State::Stopped { reason: StopReason::Dropped });

    group.add_as("other", App::new().start(named("raft")).await).unwrap();
    let names: Vec<_> = group.statuses().iter().map(|status| status.name.to_string()).collect();
    assert_eq!(names, ["raft", "other"]);
}

/// The offsets of the first `n` members, as shares of their interval, in order.
fn shares(n: usize) -> Vec<f64> {
    let group = ObservationGroup::new();
    let config = ObservationConfig { interval: Duration::from_secs(1_000), ..ObservationConfig::default() };
    let mut shares: Vec<f64> =
        (0..n).map(|_| group.spread(config.clone()).offset.as_secs_f64() / 1_000.0).collect();
    shares.sort_by(f64::total_cmp);
    shares
}

// The number of members is not known in advance, so the gaps cannot all be even; in every sequence the
// largest gap reaches 1.44 even ones at some point (de Bruijn and Erdős).
#[test]
fn for_any_number_of_members_no_gap_is_twice_the_even_one() {
    for n in 1..=200 {
        let shares = shares(n);
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)), "{shares:?}");
        // From the last one it goes round to the first.
        let next = shares.iter().skip(1).copied().chain([1.0 + shares[0]]);
        let gaps: Vec<f64> = shares.iter().zip(next).map(|(share, next)| next - share).collect();
        let largest = gaps.iter().copied().fold(0.0, f64::max);
        let smallest = gaps.iter().copied().fold(1.0, f64::min);
        #[expect(clippy::cast_precision_loss, reason = "at most 200")]
        let even = 1.0 / n as f64;
        assert!(largest < 2.0 * even, "{n} members: {:.3} of the even gap", largest / even);
        assert!(smallest > even / 3.0, "{n} members: {:.3} of the even gap", smallest / even);
    }
}

#[tokio::test(start_paused = true)]
async fn members_tick_at_their_own_offsets() {
    let group = ObservationGroup::new();
    let start = Instant::now();
    let apps = [App::new(), App::new(), App::new()];
    for (name, app) in ["a", "b", "c"].iter().zip(&apps) {
        let config = group.spread(ObservationConfig { interval: Duration::from_secs(10), ..each_second() });
        group.add_as(name, app.start(config).await).unwrap();
    }
    at(start, 25_000).await;
    let times = apps.each_ref().map(|app| app.times(Call::Poll, start));
    assert_eq!(times[0], [10_000, 20_000]);
    // The golden ratio's fractional parts; timers fire at the next millisecond.
    assert_eq!(times[1], [6_181, 16_181]);
    assert_eq!(times[2], [2_361, 12_361, 22_361]);
}

#[tokio::test(start_paused = true)]
async fn spreading_moves_the_offset_and_nothing_else() {
    let group = ObservationGroup::new();
    let config = ObservationConfig { history_limit: 3, resume: Some(resume_after(4)), ..each_second() };
    let _first = group.spread(config.clone());
    let spread = group.spread(config.clone());
    assert_ne!(spread.offset, Duration::ZERO);
    let back = ObservationConfig { offset: config.offset, ..spread };
    assert_eq!(format!("{back:?}"), format!("{config:?}"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_hung_runtimes_are_stopped_before_any_time_passes() {
    let group = ObservationGroup::new();
    let start = Instant::now();
    let apps: Vec<App> = (0..1_000).map(|_| App::new()).collect();
    for (n, app) in apps.iter().enumerate() {
        app.then(Call::Poll, [Act::Hang]);
        group.add_as(&format!("m{n}"), app.start(each_second()).await).unwrap();
    }
    at(start, 1_500).await;
    assert!(group.statuses().iter().all(|status| status.state == State::Polling));

    let asked_at = Instant::now();
    let outcomes = group.stop_all().await;
    assert_eq!(Instant::now(), asked_at);
    assert_eq!(outcomes.len(), 1_000);
    for (n, (name, outcome)) in outcomes.iter().enumerate() {
        assert_eq!((&**name, *outcome), (&*format!("m{n}"), StopOutcome::Stopped));
    }
    let ended = State::Stopped { reason: StopReason::Requested };
    assert!(group.statuses().iter().all(|status| status.state == ended), "they stay in the group");
    assert_eq!(apps.iter().map(App::running).sum::<usize>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_given_up_has_already_asked_every_member() {
    let group = ObservationGroup::new();
    let runtimes = [App::new().start(each_second()).await, App::new().start(each_second()).await];
    let handles = runtimes.each_ref().map(ObservationRuntime::handle);
    for (name, runtime) in ["a", "b"].into_iter().zip(runtimes) {
        group.add_as(name, runtime).unwrap();
    }
    assert!(poll_once(group.stop_all()).is_pending());
    for handle in &handles {
        let ended = handle.reaches(StateKind::Stopped).within(ms(1)).await.unwrap();
        assert_eq!(ended.state, State::Stopped { reason: StopReason::Requested });
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_group_stops_its_members() {
    let group = ObservationGroup::new();
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let (hung, idle) = (app.start(each_second()).await, probing().await);
    let (hung_handle, idle_handle) = (hung.handle(), idle.handle());
    group.add_as("hung", hung).unwrap();
    group.add_as("idle", idle).unwrap();
    hung_handle.reaches(StateKind::Polling).within(ms(1_500)).await.unwrap();

    let control = group.control("hung").unwrap();
    let dropped_at = Instant::now();
    drop(group);
    let dropped = State::Stopped { reason: StopReason::Dropped };
    let hung = hung_handle.reaches(StateKind::Stopped).within(ms(1)).await.unwrap();
    let idle = idle_handle.reaches(StateKind::Stopped).within(ms(1)).await.unwrap();
    assert_eq!((hung.state, idle.state), (dropped, dropped));
    assert_eq!(control.stop().await, StopOutcome::Stopped, "a control does not keep it alive");
    assert_eq!(Instant::now(), dropped_at);
}

// On real threads: one of the members blocks its own.
#[test]
fn one_that_blocks_its_thread_is_reported_as_detached_and_holds_up_nobody() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let blocked = App::new();
    blocked.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![1])))]);
    let hung = App::new();
    hung.then(Call::Poll, [Act::Hang]);
    let by_hand = ObservationConfig { interval: Duration::from_secs(3_600), ..ObservationConfig::default() };
    let impatient = ObservationConfig { stop_timeout: ms(50), ..by_hand.clone() };
    executor.block_on(async {
        let group = ObservationGroup::new();
        group.add_as("hung", hung.start(by_hand).await).unwrap();
        group.add_as("blocked", blocked.start(impatient).await).unwrap();
        group.add_as("nodes", probing().await).unwrap();
        for name in ["hung", "blocked"] {
            group.control(name).unwrap().poll_now().await.unwrap();
        }
        gate.wait_until_reached();

        let asked_at = std::time::Instant::now();
        let outcomes = group.stop_all().await;
        assert!(asked_at.elapsed() >= ms(50), "it was given its stop_timeout");
        let outcomes: Vec<_> = outcomes.iter().map(|(name, outcome)| (&**name, *outcome)).collect();
        let expected = [
            ("hung", StopOutcome::Stopped),
            ("blocked", StopOutcome::Detached),
            ("nodes", StopOutcome::Stopped),
        ];
        assert_eq!(outcomes, expected);
        let ended = State::Stopped { reason: StopReason::Requested };
        assert!(group.statuses().iter().all(|status| status.state == ended), "blocked or not");
        gate.open();
    });
    drop(executor); // Waits for the thread that was blocked.
    assert_eq!((blocked.running(), hung.running()), (0, 0));
}
