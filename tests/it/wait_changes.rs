//! A wait that was not met reports what changed inside its window.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use watchkeeper::source::SharedSources;
use watchkeeper::wait::Unmet;
use watchkeeper::{
    DynError, ObservationRuntime, ObservedSource, Observer, PerSource, StaticSourceProvider, async_trait,
};

use crate::common::{Act, App, Call, at, each_second, ms};

/// The lines under a heading.
fn section(unmet: &Unmet, heading: &str) -> Vec<String> {
    let report = unmet.to_string();
    let lines = report.lines().skip_while(|line| !line.starts_with(&format!("  {heading}")));
    let under = lines.skip(1).take_while(|line| line.starts_with("    "));
    under.map(|line| line.trim().to_owned()).collect()
}

//   0 s      1 s       2 s         3 s ... 5 s   6 s      7 s
//   n1 = 1   n1 = 2    n1 refuses  it does       n1 = 2   n2 joins
#[tokio::test(start_paused = true)]
async fn of_sources() {
    let start = Instant::now();
    let node = move |node: ObservedSource<&'static str>| async move {
        match (node.name.as_str(), start.elapsed().as_secs()) {
            ("n1", 0) => Ok(1_u32),
            ("n1", 2..=5) => Err(DynError::from("connection\nrefused")),
            ("n1", _) => Ok(2),
            _ => Ok(7),
        }
    };
    let set = SharedSources::new(vec![ObservedSource::new("n1", "")]);
    let runtime = ObservationRuntime::start(set.clone(), PerSource::new(node), each_second()).await.unwrap();
    at(start, 500).await;
    let wait = tokio::spawn(runtime.handle().eventually("the impossible", |_| false).within(ms(8_000)));
    at(start, 6_500).await;
    set.insert("n2", "");
    let unmet = wait.await.unwrap().unwrap_err();
    let expected = [
        "+0.500s n1: 1 -> 2",
        r"+1.500s n1: 2 -> 2 (failing: connection\nrefused)",
        r"+5.500s n1: 2 (failing: connection\nrefused) -> 2",
        "+6.500s n2: absent -> 7",
    ];
    assert_eq!(section(&unmet, "changes"), expected, "{unmet}");
    let shown = "the last snapshot, of cycle 8:\n    {\n        n1: 2,\n        n2: 7,\n    }\n";
    assert!(unmet.to_string().contains(shown), "{unmet}");
    #[cfg(feature = "json")]
    {
        let first = serde_json::json!({ "at_s": 0.5, "cycle": 1, "what": "n1: 1 -> 2" });
        assert_eq!(unmet.to_json()["changes"][0], first);
    }
}

/// A large answer, or one whose `Debug` panics, hides no other.
#[tokio::test(start_paused = true)]
async fn of_a_source_beside_large_ones() {
    #[derive(PartialEq)]
    enum Says {
        Pages(Vec<u8>),
        Number(u64),
        Nothing,
    }

    impl std::fmt::Debug for Says {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Pages(pages) => pages.fmt(f),
                Self::Number(number) => number.fmt(f),
                Self::Nothing => panic!("scripted panic of a Debug"),
            }
        }
    }

    let start = Instant::now();
    let node = move |node: ObservedSource<&'static str>| async move {
        Ok::<_, DynError>(match node.name.as_str() {
            "n1" => Says::Nothing,
            "n2" => Says::Pages(vec![7; 1_000_000]),
            _ => Says::Number(start.elapsed().as_secs()),
        })
    };
    let set = ["n1", "n2", "n3"].map(|name| ObservedSource::new(name, ""));
    let set = StaticSourceProvider::new(set.to_vec());
    let runtime = ObservationRuntime::start(set, PerSource::new(node), each_second()).await.unwrap();
    let unmet = runtime.handle().eventually("the impossible", |_| false).within(ms(2_500)).await.unwrap_err();
    assert_eq!(section(&unmet, "changes"), ["+1.000s n3: 0 -> 1", "+2.000s n3: 1 -> 2"], "{unmet}");
    let panicked = "        n1:  ... (its Debug panicked: scripted panic of a Debug),\n        n2: [\n";
    assert!(unmet.to_string().contains(panicked), "{unmet}");
}

#[derive(Clone, Debug)]
struct Cluster {
    term: u64,
    leader: Option<u64>,
    #[allow(dead_code, reason = "shown by Debug")]
    voters: Vec<u64>,
}

/// Each third cycle has another leader, or none, and emits an event for it if `emits` is set.
struct Elects {
    emits: bool,
    polls: AtomicU64,
}

#[async_trait]
impl Observer for Elects {
    type Source = ();
    type State = Cluster;
    type Snapshot = Cluster;
    type Event = Option<u64>;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Cluster, DynError> {
        Ok(Cluster { term: 0, leader: None, voters: vec![1, 2, 3] })
    }

    async fn poll(
        &self,
        _: &[ObservedSource<()>],
        state: &mut Cluster,
    ) -> Result<Vec<Option<u64>>, DynError> {
        let polls = self.polls.fetch_add(1, Ordering::Relaxed) + 1;
        if !polls.is_multiple_of(3) {
            return Ok(vec![]);
        }
        state.term += 1;
        state.leader = if state.leader.is_some() { None } else { Some(polls) };
        Ok(if self.emits { vec![state.leader] } else { vec![] })
    }

    fn snapshot(&self, state: &Cluster) -> Cluster {
        state.clone()
    }
}

async fn elects(emits: bool) -> ObservationRuntime<Elects> {
    let observer = Elects { emits, polls: AtomicU64::new(0) };
    ObservationRuntime::start(StaticSourceProvider::new(vec![]), observer, each_second()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn of_a_struct() {
    // An observer that emits no events has its newest nine snapshots compared.
    for (emits, expected) in [
        (
            true,
            vec![
                "+3.000s term: 0 -> 1",
                "+3.000s leader: None -> Some(3)",
                "+6.000s term: 1 -> 2",
                "+6.000s leader: Some(3) -> None",
            ],
        ),
        (
            false,
            vec![
                "+3.000s term: 0 -> 1",
                "+3.000s leader: None -> Some(3)",
                "+6.000s term: 1 -> 2",
                "+6.000s leader: Some(3) -> None",
            ],
        ),
    ] {
        let runtime = elects(emits).await;
        let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(8_500));
        let unmet = wait.await.unwrap_err();
        assert_eq!(section(&unmet, "changes"), expected, "{unmet}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_what_the_app_shows() {
    let runtime = elects(true).await;
    let handle = runtime.handle();
    let wait = handle.eventually("the impossible", |_| false);
    let wait = wait.show(|cluster| format!("leader {:?}", cluster.leader));
    let unmet = wait.within(ms(6_500)).await.unwrap_err();
    let expected = ["+3.000s leader None -> leader Some(3)", "+6.000s leader Some(3) -> leader None"];
    assert_eq!(section(&unmet, "changes"), expected, "{unmet}");
    #[cfg(feature = "json")]
    {
        let wait = handle.eventually("the impossible", |_| false);
        let wait = wait.show_json(|cluster| serde_json::json!({ "raft": { "leader": cluster.leader } }));
        let unmet = wait.within(ms(6_500)).await.unwrap_err();
        let expected = ["+2.500s raft.leader: null -> 9", "+5.500s raft.leader: 9 -> null"];
        assert_eq!(section(&unmet, "changes"), expected, "{unmet}");
    }
}

/// A long window shows its last eight changes, and how many there were.
#[tokio::test(start_paused = true)]
async fn of_a_long_window_the_last_eight() {
    let runtime = elects(true).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(90_500));
    let unmet = wait.await.unwrap_err();
    let changes = section(&unmet, "changes");
    assert_eq!((changes.len(), changes[0].as_str()), (8, "+81.000s term: 26 -> 27"), "{unmet}");
    assert_eq!(changes[7], "+90.000s leader: Some(87) -> None");
    let heading = "\n  changes (the last 8 of 16, without those of 24 older snapshots)\n";
    assert!(unmet.to_string().contains(heading), "{unmet}");
}

/// Cycles without events pin nothing: what was before is not forgotten for them.
#[tokio::test(start_paused = true)]
async fn an_old_change_is_still_reported_if_nothing_else_has_happened() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1])]);
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false);
    let wait = wait.show(|seen| format!("{} or more", seen.polls.min(1)));
    let unmet = wait.within(ms(100_500)).await.unwrap_err();
    assert_eq!(section(&unmet, "changes"), ["+1.000s 0 or more -> 1 or more"], "{unmet}");
}

/// Without events that show which snapshots differ, older ones are kept further and further apart.
#[tokio::test(start_paused = true)]
async fn an_old_change_shows_without_an_event() {
    let runtime = App::new().start(each_second()).await;
    for (cycles, from) in [(12, 1), (40, 6), (300, 40)] {
        let wait = runtime.handle().eventually("the impossible", |_| false);
        let began = runtime.handle().status().cycle;
        let wait = wait.show(|seen| format!("{} or more", seen.polls.min(began + from) / (began + from)));
        let unmet = wait.within(ms(1_000 * cycles + 500)).await.unwrap_err();
        let changes = section(&unmet, "changes");
        assert_eq!(changes.len(), 1, "{unmet}");
        assert!(changes[0].ends_with("s 0 or more -> 1 or more"), "{unmet}");
        let at: u64 = changes[0][1..].split('.').next().unwrap().parse().unwrap();
        assert!((from..=from + (cycles / 4).max(1)).contains(&at), "{from} of {cycles}: {unmet}");
    }
}

/// What did not change inside the window is not reported.
#[tokio::test(start_paused = true)]
async fn without_a_change_there_is_no_such_part() {
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).show(|_| "the same".to_owned());
    let report = wait.within(ms(20_500)).await.unwrap_err().to_string();
    assert!(!report.contains("changes"), "{report}");
}

//   0 s    1 s ... 100 s   101 s   102 s   103 s
//   init   refused         ok      refused  reset
#[tokio::test(start_paused = true)]
async fn a_repeated_error_is_reported_once() {
    let app = App::new();
    app.then(Call::Poll, (0..100).map(|_| Act::Err("connection refused")));
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("connection refused"), Act::Err("reset by peer")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let whole = runtime.handle().eventually("the impossible", |_| false).within(ms(103_500));
    at(start, 50_500).await;
    // It begins and ends among consecutive failures.
    let inside = runtime.handle().eventually("the impossible", |_| false).within(ms(10_000));
    at(start, 104_500).await;
    let (whole, inside) = (whole.await.unwrap_err(), inside.await.unwrap_err());
    let expected = [
        "+0.000s idle, cycle 0",
        "+1.000s cycles 1 to 100 failed in poll, 100 times in 99.000s: connection refused",
        "+101.000s cycle 101 succeeded",
        "+102.000s cycle 102 failed in poll: as in cycle 1",
        "+103.000s cycle 103 failed in poll: reset by peer",
        "+103.500s failed (poll, 2 consecutive), cycle 103",
    ];
    assert_eq!(section(&whole, "lifecycle"), expected, "{whole}");
    assert_eq!((whole.failures().len(), whole.failures_cut()), (102, 0));
    let expected = [
        "+0.000s failed (poll, 50 consecutive), cycle 50",
        "+0.500s cycles 51 to 60 failed in poll, 10 times in 9.000s: connection refused",
        "+10.000s failed (poll, 60 consecutive), cycle 60",
    ];
    assert_eq!(section(&inside, "lifecycle"), expected, "{inside}");
    assert_eq!(inside.failures().len(), 10);
}

/// The times of the newest 256 failures are known, and that of the first consecutive one.
#[tokio::test(start_paused = true)]
async fn more_consecutive_failures_than_are_kept() {
    let app = App::new();
    app.then(Call::Poll, (0..500).map(|_| Act::Err("connection refused")));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let whole = runtime.handle().eventually("the impossible", |_| false).within(ms(400_500));
    at(start, 50_500).await;
    // The first failure inside this window is not kept: the window's begin stands for it.
    let inside = runtime.handle().eventually("the impossible", |_| false).within(ms(350_000));
    let (whole, inside) = tokio::join!(whole, inside);
    let (whole, inside) = (whole.unwrap_err(), inside.unwrap_err());
    let expected = "+1.000s cycles 1 to 400 failed in poll, 400 times in 399.000s: connection refused";
    assert_eq!(section(&whole, "lifecycle")[1], expected, "{whole}");
    let expected = "+0.000s cycles 51 to 400 failed in poll, 350 times in 349.500s: connection refused";
    assert_eq!(section(&inside, "lifecycle")[1], expected, "{inside}");
}
