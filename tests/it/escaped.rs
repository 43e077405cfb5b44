//! No name, error or value forges a line or moves a terminal's cursor, wherever a person reads it.

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, ObservationGroup};
use watchkeeper::source::{SharedSources, SourceSetError};
use watchkeeper::{DynError, ObservationRuntime, ObservedSource, PerSource};

use crate::common::{App, at, each_second, ms, refusing_duplicates};

/// Ends its line, pretends to be another report, colours it, and writes backwards.
const EVIL: &str = "n1\r\nnot met in time: \"forged\"\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{2028}";
const ESCAPED: &str = r#"n1\r\nnot met in time: "forged"\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{2028}"#;
const QUOTED: &str = r#"n1\r\nnot met in time: \"forged\"\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{2028}"#;

fn assert_escaped(what: &str, text: &str, lines: usize) {
    let bad = |character: char| {
        (character.is_control() && character != '\n') || matches!(character, '\u{202e}' | '\u{2028}')
    };
    assert!(!text.contains(bad), "{what}: {text:?}");
    assert_eq!(text.lines().count(), lines, "{what}: {text}");
    // A label with a name in it is quoted twice.
    let twice = QUOTED.replace('\\', r"\\").replace('"', r#"\""#);
    assert!([ESCAPED, QUOTED, &twice].iter().any(|escaped| text.contains(escaped)), "{what}: {text}");
}

async fn refused(_: ObservedSource<()>) -> Result<String, DynError> {
    Err(EVIL.into())
}

async fn answers(_: ObservedSource<()>) -> Result<String, DynError> {
    Ok(EVIL.to_owned())
}

#[tokio::test(start_paused = true)]
async fn of_a_source_its_name_and_its_error() {
    let set = SharedSources::new(vec![ObservedSource::new(EVIL, ())]);
    let observer = PerSource::new(refused);
    let runtime = ObservationRuntime::start(set.clone(), observer, refusing_duplicates()).await.unwrap();
    let start = Instant::now();
    let handle = runtime.handle();
    let mut wait = handle.source_fresh(EVIL).within(ms(2_500));
    assert_escaped("explain", &wait.explain(), 1);
    assert_escaped("the wait", &format!("{wait:?}"), 1);
    let unmet = (&mut wait).await.unwrap_err();
    // One source, which is in trouble.
    let report = unmet.to_string();
    assert_escaped("report", &report, 13);
    assert_escaped("why_stale", &handle.why_stale(EVIL), 1);
    assert_escaped("why_stale of another", &handle.why_stale("n2"), 1);
    let snapshot = handle.latest_snapshot().unwrap();
    let source = snapshot.value.get(EVIL).unwrap();
    assert_escaped("a probe's failure", &source.facts.last_failure.as_ref().unwrap().to_string(), 1);
    assert_escaped("health", &source.health().explain(EVIL, Instant::now()), 1);
    assert_escaped("a snapshot", &format!("{:?}", snapshot.value), 1);
    assert_escaped("an event", &handle.history()[0].events[0].to_string(), 1);
    assert_escaped("sources", &format!("{set:?}"), 1);
    assert_escaped("status", &format!("{:?}", AnyHandle::new("any", &handle).status()), 1);

    set.replace(vec![ObservedSource::new(EVIL, ()), ObservedSource::new(EVIL, ())]);
    at(start, 3_500).await;
    let failure = handle.last_error().unwrap();
    assert_escaped("a refused set", &failure.to_string(), 1);
    assert_escaped("why_stale with a failure of the runtime", &handle.why_stale("n2"), 1);
    assert_escaped("explain with it", &handle.eventually("nothing", |_| false).within(ms(1)).explain(), 1);
    #[cfg(feature = "json")]
    {
        let json = unmet.to_json();
        for text in
            [&json["label"], &json["note"], &json["sources"][0]["name"], &json["sources"][0]["trouble"]]
        {
            assert_escaped("JSON", text.as_str().unwrap(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_names_in_errors_and_handles() {
    let error = SourceSetError::DuplicateName { name: EVIL.to_owned() };
    assert_escaped("a source set", &error.to_string(), 1);
    let group = ObservationGroup::new();
    group.add_as(EVIL, App::new().start(each_second()).await).unwrap();
    let refused = group.add_as(EVIL, App::new().start(each_second()).await).unwrap_err();
    assert_escaped("a group", &refused.to_string(), 1);
    let handle = group.handle(EVIL).unwrap();
    assert_escaped("a handle", &format!("{handle:?}"), 1);
    assert_escaped("its status", &format!("{:?}", handle.status()), 1);
    assert_escaped("its builder", &format!("{:?}", handle.eventually("nothing", |_| false)), 1);
    assert_escaped("its wait", &format!("{:?}", handle.eventually("nothing", |_| false).within(ms(1))), 1);
    let invariant = handle.invariant(EVIL, |_| true);
    assert_escaped("an invariant", &format!("{invariant:?}"), 1);
}

/// A page of HTML where one line was expected.
#[tokio::test(start_paused = true)]
async fn an_error_of_many_lines_is_one_line_with_a_count() {
    let page = |_: ObservedSource<()>| async {
        Err::<u32, _>(DynError::from(format!("502\n<html>\n{}</html>", "  <p>no route</p>\n".repeat(1_000))))
    };
    let set = SharedSources::new(vec![ObservedSource::new("n1", ())]);
    let runtime = ObservationRuntime::start(set, PerSource::new(page), each_second()).await.unwrap();
    let unmet = runtime.handle().source_fresh("n1").within(ms(2_500)).await.unwrap_err();
    let report = unmet.to_string();
    assert_eq!(report.lines().count(), 13, "{report}");
    let line = report.lines().last().unwrap();
    assert!(line.contains(r"502\n<html>\n  <p>no route</p>\n") && line.ends_with(" more bytes)"), "{line}");
}

/// A snapshot keeps the line breaks of its `Debug`, and nothing else; what differs is one line.
#[tokio::test(start_paused = true)]
async fn of_values_and_what_the_app_shows() {
    let set = SharedSources::new(vec![ObservedSource::new("n1", ())]);
    let runtime = ObservationRuntime::start(set, PerSource::new(answers), each_second()).await.unwrap();
    let handle = runtime.handle();
    let label = format!("label {EVIL}");
    let by_debug = handle.eventually(label.clone(), |_| false).within(ms(1_500));
    let by_show = handle.eventually(label, |_| false).show(|_| EVIL.to_owned()).within(ms(1_500));
    let (by_debug, by_show) = tokio::join!(by_debug, by_show);
    let (by_debug, by_show) = (by_debug.unwrap_err().to_string(), by_show.unwrap_err().to_string());
    assert_escaped("by Debug", &by_debug, 11);
    assert!(!by_show.contains(['\r', '\u{1b}', '\u{202e}', '\u{2028}']), "{by_show:?}");
    assert!(
        by_show.contains("\n    n1\\r\n    not met in time: \"forged\""),
        "its line breaks are kept: {by_show}"
    );
    assert_escaped("an event", &handle.history()[0].events[0].to_string(), 1);
}
