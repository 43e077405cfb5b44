//! What is logged: a span for each runtime, cycles at debug, transitions at trace. Consecutive failures
//! warn at 1, 2, 4, 8 ..., and the recovery is logged at info with their count.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::time::Instant;
use tracing::Level;
use watchkeeper::runtime::StateKind;
use watchkeeper::source::SharedSources;
use watchkeeper::{DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource};

use crate::common::listener::Listener;
use crate::common::{Act, App, Call, at, each_second, ms};

#[tokio::test(start_paused = true)]
async fn a_hundred_failures_warn_seven_times_and_the_recovery_informs_once() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.then(Call::Poll, (0..100).map(|_| Act::Err("down")));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 100_500).await;

    let warned: Vec<_> = [1, 2, 4, 8, 16, 32, 64]
        .map(|n| format!("cycle failed cycle={n} stage=poll cause=error consecutive={n} error=\"down\""))
        .into();
    assert_eq!(listener.lines(Level::WARN, ""), warned);
    assert_eq!(listener.lines(Level::DEBUG, "cycle failed").len(), 93, "the others are logged at debug");
    assert_eq!((listener.count(Level::INFO), listener.count(Level::ERROR)), (1, 0), "only its start");

    at(start, 103_500).await;
    assert_eq!(listener.lines(Level::INFO, "")[1..], ["recovered cycle=101 after_failures=100"]);
    assert_eq!(listener.count(Level::WARN), 7);
    drop(runtime);
}

/// A subscriber may be slow: a cycle is published before it is logged.
#[tokio::test(start_paused = true)]
async fn the_lines_of_a_cycle_come_after_it_is_published() {
    let published = Arc::<Mutex<Vec<(String, u64, StateKind)>>>::default();
    let known = Arc::<OnceLock<ObservationHandle<App>>>::default();
    let (seen, handle) = (Arc::clone(&published), Arc::clone(&known));
    let on_line = move |line: &str| {
        if let (Some(handle), Some(("cycle", what))) = (handle.get(), line.split_once(' ')) {
            let status = handle.status();
            let what = what.split(' ').next().unwrap_or_default().to_owned();
            seen.lock().unwrap().push((what, status.cycle, status.state.kind()));
        }
    };
    let mut listener = Listener::default();
    listener.on_line = Some(Arc::new(on_line));
    let _listening = tracing::subscriber::set_default(listener);
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("down")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    assert!(known.set(runtime.handle()).is_ok());
    at(start, 2_500).await;
    let expected = [("succeeded", 1, StateKind::Idle), ("failed", 2, StateKind::Failed)];
    let expected = expected.map(|(what, cycle, state)| (what.to_owned(), cycle, state));
    assert_eq!(*published.lock().unwrap(), expected);
}

/// An error of many lines is one line of the log, and a short one.
#[tokio::test(start_paused = true)]
async fn an_error_forges_no_line_of_the_log() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.then(Call::Poll, [Act::Fail(|| format!("a\nb\u{1b}[2J{}", "x".repeat(1_000_000)).into())]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 1_500).await;
    let warned = listener.lines(Level::WARN, "cycle failed").join("");
    assert!(warned.contains(r#"error="a\nb\u{1b}[2Jxxx"#) && warned.contains(" more bytes)"), "{warned}");
    assert!(warned.len() < 1_200, "{} bytes", warned.len());
    drop(runtime);
}

#[tokio::test(start_paused = true)]
async fn new_consecutive_failures_warn_again() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    let polls = [Act::Err("a"), Act::Err("b"), Act::Err("c"), Act::Ok(vec![]), Act::Err("d")];
    app.then(Call::Poll, polls);
    let start = Instant::now();
    let _runtime = app.start(each_second()).await;
    at(start, 6_500).await;
    let warned: Vec<_> =
        listener.lines(Level::WARN, "").iter().map(|line| line[line.len() - 3..].to_owned()).collect();
    assert_eq!(warned, ["\"a\"", "\"b\"", "\"d\""]);
    let informed = listener.lines(Level::INFO, "recovered");
    assert_eq!(informed, ["recovered cycle=4 after_failures=3", "recovered cycle=6 after_failures=1"]);
}

#[tokio::test(start_paused = true)]
async fn cycles_at_debug_and_transitions_at_trace() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1, 2]).after(100), Act::Err("down")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 2_500).await;
    let _ = runtime.stop().await;

    let cycles = [
        "cycle succeeded cycle=0 generation=1 elapsed=0ns sources=1 events=0",
        "cycle succeeded cycle=1 generation=1 elapsed=100ms sources=1 events=2",
    ];
    assert_eq!(listener.lines(Level::DEBUG, ""), cycles);
    let moved: Vec<_> = [
        "from=starting to=idle cycle=0",
        "from=idle to=refreshing cycle=1",
        "from=refreshing to=polling cycle=1",
        "from=polling to=idle cycle=1",
        "from=idle to=refreshing cycle=2",
        "from=refreshing to=polling cycle=2",
        "from=polling to=failed (poll, 1 consecutive) cycle=2",
        "from=failed (poll, 1 consecutive) to=stopped (stop was requested) cycle=2",
    ]
    .map(|moved| format!("transition {moved}"))
    .into();
    assert_eq!(listener.lines(Level::TRACE, ""), moved);
}

#[tokio::test(start_paused = true)]
async fn one_span_for_each_runtime_names_instance_and_observer() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let start = Instant::now();
    let runtimes = [App::new().start(each_second()).await, App::new().start(each_second()).await];
    at(start, 3_500).await;
    for runtime in &runtimes {
        let _ = runtime.stop().await;
    }

    let heard = listener.heard.lock().unwrap();
    let spans: Vec<_> = heard.spans.values().cloned().collect();
    let [(first, of_first), (second, of_second)] = [0, 1].map(|nth: usize| {
        let named = spans[nth].strip_prefix("observation instance=").unwrap();
        named.split_once(' ').unwrap()
    });
    assert_eq!(spans.len(), 2);
    // Which is how the texts of its cursors begin.
    let of_cursors = runtimes.each_ref().map(|runtime| runtime.handle().subscribe().cursor().to_string());
    assert_eq!([first, second], of_cursors.each_ref().map(|cursor| &cursor[..8]));
    assert_ne!(first, second);
    assert_eq!([of_first, of_second], ["observer=\"it::common::App\""; 2]);
    // Every line is inside the span of its runtime, four cycles and the end in each.
    for span in heard.spans.keys() {
        let lines = heard.lines.iter().filter(|line| line.span == Some(*span));
        let cycles = lines.filter(|line| line.text.starts_with("cycle succeeded")).count();
        assert_eq!(cycles, 4, "span {span}");
    }
    assert!(heard.lines.iter().all(|line| line.span.is_some()));
}

/// What the app logs itself is attributed to its runtime too.
#[tokio::test(start_paused = true)]
async fn an_app_s_own_lines_are_inside_the_span_too() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let provider = watchkeeper::source::source_fn(async || {
        tracing::info!(target: "watchkeeper::test", "looking");
        Ok::<_, DynError>(vec![])
    });
    let runtime = ObservationRuntime::start(provider, App::new(), each_second()).await.unwrap();
    tokio::time::sleep(ms(2_500)).await;
    drop(runtime);
    let heard = listener.heard.lock().unwrap();
    let inside = heard.lines.iter().filter(|line| line.text == "looking" && line.span == Some(1)).count();
    assert_eq!(inside, 3);
}

fn named(name: &str) -> ObservationConfig {
    ObservationConfig { name: Some(name.to_owned()), history_limit: 7, ..each_second() }
}

#[tokio::test(start_paused = true)]
async fn start_and_end_name_the_runtime_its_config_and_the_reason() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.set(&["n1", "n2"]);
    let runtime = app.start(named("raft")).await;
    let fields =
        r#"name="raft" observer="it::common::App" interval=1s history_limit=7 sources=2 names="n1, n2""#;
    assert_eq!(listener.lines(Level::INFO, ""), [format!("observation started {fields}")]);
    tokio::time::sleep(ms(2_500)).await;
    let _ = runtime.stop().await;
    let fields = r#"name="raft" observer="it::common::App" reason=stop was requested cycle=2"#;
    let ended = &listener.lines(Level::INFO, "")[1..];
    assert!(
        ended.len() == 1 && ended[0].starts_with(&format!("observation ended {fields} instance=")),
        "{ended:?}"
    );
    let handle = runtime.handle();
    drop(runtime);
    assert_eq!(listener.count(Level::INFO), 2, "the first end is the end");
    assert_eq!(handle.name().map(|name| &**name), Some("raft"));
    let heard = listener.heard.lock().unwrap();
    assert!(heard.spans[&1].ends_with(r#" observer="it::common::App" name="raft""#), "{:?}", heard.spans);
    assert!(heard.lines.iter().all(|line| line.span == Some(1)), "each line is inside its span");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_ends_and_one_that_waits_for_sources_starts_with_them() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.then(Call::Sources, [Act::Err("down")]);
    ObservationRuntime::start(app.clone(), app.clone(), named("first")).await.unwrap_err();
    let ended = listener.lines(Level::INFO, "");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0].starts_with("observation ended name=\"first\""), "{ended:?}");
    assert!(ended[0].contains("reason=the start failed"), "{ended:?}");

    app.then(Call::Sources, [Act::Err("down"), Act::Err("down")]);
    let start = Instant::now();
    let _runtime =
        ObservationRuntime::start_in_background(app.clone(), app.clone(), named("second")).unwrap();
    at(start, 1_500).await;
    assert_eq!(listener.count(Level::INFO), 1);
    at(start, 2_500).await;
    let informed = listener.lines(Level::INFO, "");
    assert!(informed[1].starts_with("observation started name=\"second\""), "{informed:?}");
}

#[tokio::test(start_paused = true)]
async fn sources_that_join_and_leave_are_logged_at_info() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    let start = Instant::now();
    let _runtime = app.start(each_second()).await;
    // (the set from then on, what is logged)
    let cases: [(&[&str], &[&str]); 5] = [
        (&["a"], &[]),
        (&["a", "c", "b"], &[r#"sources joined cycle=2 count=2 names="c, b" sources=3"#]),
        (&["b", "a", "c"], &[]),
        (
            &["d", "b"],
            &[
                r#"sources joined cycle=4 count=1 names="d" sources=2"#,
                r#"sources left cycle=4 count=2 names="a, c" sources=2"#,
            ],
        ),
        (&[], &[r#"sources left cycle=5 count=2 names="d, b" sources=0"#]),
    ];
    let mut known = 1;
    for (cycle, (set, expected)) in (1_u64..).zip(cases) {
        app.set(set);
        at(start, cycle * 1_000 + 500).await;
        let informed = listener.lines(Level::INFO, "");
        assert_eq!(informed[known..], *expected, "{set:?}");
        known = informed.len();
    }
}

/// Names and errors come from outside, and go to terminals.
#[tokio::test(start_paused = true)]
async fn ten_thousand_names_and_a_page_of_html_are_short_lines_without_breaks() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    let page = || format!("<html>\n\u{1b}[2J{}", "x".repeat(1_000_000)).into();
    app.then(Call::Poll, [Act::Fail(page)]);
    let sources = SharedSources::new(vec![ObservedSource::new("a\nforged \u{1b}[31m", ())]);
    let start = Instant::now();
    let config = named("evil\nname\u{202e}");
    let _runtime = ObservationRuntime::start(sources.clone(), app.clone(), config).await.unwrap();
    let many = || (0..10_000).flat_map(|n| [n, n]).map(|n| ObservedSource::new(format!("{n}\n"), ()));
    sources.replace(many().collect());
    at(start, 1_500).await;
    sources.replace(vec![ObservedSource::new("y".repeat(1_000_000), ())]);
    at(start, 2_500).await;

    let heard = listener.heard.lock().unwrap();
    let is_logged = |what: &str| heard.lines.iter().any(|line| line.text.starts_with(what));
    for what in
        ["observation started", "sources joined", "sources left", "sources without a name", "cycle failed"]
    {
        assert!(is_logged(what), "{what}");
    }
    let texts = heard.spans.values().chain(heard.lines.iter().map(|line| &line.text));
    for text in texts {
        assert!(text.len() < 2_000, "{} bytes: {}", text.len(), &text[..200]);
        assert!(!text.contains(['\n', '\u{1b}', '\u{202e}']), "{text:?}");
    }
}
