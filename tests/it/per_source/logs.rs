//! What is logged of sources, and how much of it.

use tracing::Level;

use watchkeeper::{DynError, ObservedSource, PerSource};

use super::{Probes, Says, cycle, start};
use crate::common::listener::Listener;

#[tokio::test(start_paused = true)]
async fn the_first_of_consecutive_failures_warns_and_the_recovery_is_logged_at_info() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let probes = Probes::new();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    let says = [Says::Error("down"), Says::Panic("a bug"), Says::Error("down"), Says::Value(1)];
    for (n, says) in (1..).zip(says.into_iter().chain([Says::Error("again")])) {
        probes.set("n1", says);
        cycle(&runtime, n).await;
    }
    let expected = [
        "source failed source=\"n1\" cause=error error=\"down\"",
        "source failed source=\"n1\" cause=error error=\"again\"",
    ];
    assert_eq!(listener.lines(Level::WARN, "source"), expected);
    assert_eq!(
        listener.lines(Level::INFO, "source recovered"),
        ["source recovered source=\"n1\" after_failures=3"]
    );
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_sources_that_fail_at_once_are_nine_lines() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let probes = Probes::new();
    let names: Vec<String> = (0..10_000).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (runtime, _) = start(&names, probes.observer()).await;
    let cycles = [(Says::Error("down"), [9, 0]), (Says::Error("down"), [9, 0]), (Says::Value(1), [9, 9])];
    for (n, (says, lines)) in (1..).zip(cycles) {
        for name in &names {
            probes.set(name, says.clone());
        }
        cycle(&runtime, n).await;
        let count = |level| {
            let about_sources = |line: &String| line.starts_with("source ") || line.starts_with("and ");
            listener.lines(level, "").into_iter().filter(about_sources).count()
        };
        assert_eq!([count(Level::WARN), count(Level::INFO)], lines, "after cycle {n}");
    }
    assert_eq!(listener.lines(Level::WARN, "and"), ["and 9992 more sources failed"]);
    assert_eq!(listener.lines(Level::INFO, "and"), ["and 9992 more sources recovered"]);
}

/// Names and the text of errors come from outside.
#[tokio::test(start_paused = true)]
async fn names_and_errors_are_escaped_and_bounded() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let name = format!("n1\n\u{1b}[2J{}", "x".repeat(1_000_000));
    let observer = PerSource::new(|_: ObservedSource<u32>| async {
        tracing::info!(target: "watchkeeper::test", "asking");
        Err::<u32, DynError>(format!("<html>\n{}", "y".repeat(1_000_000)).into())
    });
    let (_runtime, _) = start(&[&name], observer).await;
    let lines = listener.lines(Level::WARN, "source failed");
    let [line] = &*lines else { panic!("{} lines", lines.len()) };
    assert!(line.len() < 1_000, "{} bytes", line.len());
    assert!(!line.contains(['\n', '\u{1b}']), "{line}");
    let spans = listener.spans_of("asking");
    assert!(spans[0].len() < 300 && !spans[0].contains(['\n', '\u{1b}']), "{spans:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_probe_logs_is_in_a_span_that_names_its_source() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let observer = PerSource::new(|source: ObservedSource<u32>| {
        tracing::info!(target: "watchkeeper::test", "called");
        async move {
            tracing::info!(target: "watchkeeper::test", "asked");
            Ok::<_, DynError>(source.source)
        }
    });
    let (_runtime, _) = start(&["n1", "n2"], observer).await;
    for line in ["called", "asked"] {
        assert_eq!(listener.spans_of(line), ["probe source=\"n1\"", "probe source=\"n2\""]);
    }
}
