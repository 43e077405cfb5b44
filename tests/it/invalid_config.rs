//! A config field out of its range is an error that names it, before anything runs.

use std::error::Error as _;
use std::time::Duration;

use tokio::runtime::Handle;
use watchkeeper::runtime::{Backoff, Retry};
use watchkeeper::subscription::Resume;
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::{App, Call};

const NONE: Duration = Duration::ZERO;
const DAY: Duration = Duration::from_secs(24 * 3600);
const OVER: Duration = DAY.saturating_add(Duration::from_nanos(1));
const SECOND: Duration = Duration::from_secs(1);

type Change = fn(&mut ObservationConfig);

fn retry(first: Duration, max: Duration, jitter: f64) -> Retry {
    Retry::Backoff(Backoff { first, max, jitter, seed: 0 })
}

const HALF: u64 = u64::MAX / 2;

/// A record with this generation, seq, cycle and event count.
fn record([generation, seq, cycle, events]: [u64; 4]) -> Resume {
    let text = format!("0f8e1a2b3c4d5e6f708192a3b4c5d6e7.{generation}.{seq}.{cycle}.{events}");
    text.parse().unwrap()
}

#[rustfmt::skip]
const REFUSED: &[(&str, Change, &str)] = &[
    // what the text begins with, the change, the typed error
    ("ObservationConfig::interval is 0ns", |c| c.interval = NONE, "InvalidInterval { value: 0ns }"),
    ("ObservationConfig::interval is 86400.000000001s", |c| c.interval = OVER, "InvalidInterval { value: 86400.000000001s }"),
    ("ObservationConfig::interval is ", |c| c.interval = Duration::MAX, "InvalidInterval { value: 18446744073709551615.999999999s }"),
    ("ObservationConfig::refresh_timeout is 0ns", |c| c.refresh_timeout = NONE, r#"InvalidTimeout { field: "refresh_timeout", value: 0ns }"#),
    ("ObservationConfig::refresh_timeout is ", |c| c.refresh_timeout = OVER, r#"InvalidTimeout { field: "refresh_timeout", value: 86400.000000001s }"#),
    ("ObservationConfig::init_timeout is 0ns", |c| c.init_timeout = NONE, r#"InvalidTimeout { field: "init_timeout", value: 0ns }"#),
    ("ObservationConfig::init_timeout is ", |c| c.init_timeout = OVER, r#"InvalidTimeout { field: "init_timeout", value: 86400.000000001s }"#),
    ("ObservationConfig::poll_timeout is 0ns", |c| c.poll_timeout = NONE, r#"InvalidTimeout { field: "poll_timeout", value: 0ns }"#),
    ("ObservationConfig::poll_timeout is ", |c| c.poll_timeout = OVER, r#"InvalidTimeout { field: "poll_timeout", value: 86400.000000001s }"#),
    ("ObservationConfig::stop_timeout is 0ns", |c| c.stop_timeout = NONE, r#"InvalidTimeout { field: "stop_timeout", value: 0ns }"#),
    ("ObservationConfig::stop_timeout is ", |c| c.stop_timeout = OVER, r#"InvalidTimeout { field: "stop_timeout", value: 86400.000000001s }"#),
    ("ObservationConfig::stale_after is 0ns", |c| c.stale_after = Some(NONE), "InvalidStaleAfter { value: 0ns }"),
    ("ObservationConfig::stale_after is ", |c| c.stale_after = Some(OVER), "InvalidStaleAfter { value: 86400.000000001s }"),
    ("ObservationConfig::offset is ", |c| c.offset = OVER, "InvalidOffset { value: 86400.000000001s }"),
    ("ObservationConfig::min_gap is 0ns", |c| c.min_gap = NONE, "InvalidMinGap { value: 0ns }"),
    ("ObservationConfig::min_gap is ", |c| c.min_gap = OVER, "InvalidMinGap { value: 86400.000000001s }"),
    ("ObservationConfig::name has 0 bytes", |c| c.name = Some(String::new()), "InvalidName { length: 0 }"),
    ("ObservationConfig::name has 257 bytes", |c| c.name = Some("x".repeat(257)), "InvalidName { length: 257 }"),
    ("ObservationConfig::resume: its cursor.generation is ", |c| c.resume = Some(record([u64::MAX, 0, 0, 0])), r#"InvalidResume { field: "cursor.generation", value: 18446744073709551615 }"#),
    ("ObservationConfig::resume: its cursor.seq is ", |c| c.resume = Some(record([0, HALF + 1, 0, 0])), r#"InvalidResume { field: "cursor.seq", value: 9223372036854775808 }"#),
    ("ObservationConfig::resume: its cycle is ", |c| c.resume = Some(record([0, 0, u64::MAX, 0])), r#"InvalidResume { field: "cycle", value: 18446744073709551615 }"#),
    ("ObservationConfig::resume: its event_count is ", |c| c.resume = Some(record([0, 0, 0, HALF + 1])), r#"InvalidResume { field: "event_count", value: 9223372036854775808 }"#),
    ("Backoff::first is 0ns", |c| c.retry = retry(NONE, SECOND, 0.0), r#"InvalidRetry { field: "first", value: "0ns" }"#),
    ("Backoff::first is ", |c| c.retry = retry(OVER, OVER, 0.0), r#"InvalidRetry { field: "first", value: "86400.000000001s" }"#),
    ("Backoff::max is 1s", |c| c.retry = retry(2 * SECOND, SECOND, 0.0), r#"InvalidRetry { field: "max", value: "1s" }"#),
    ("Backoff::max is ", |c| c.retry = retry(SECOND, OVER, 0.0), r#"InvalidRetry { field: "max", value: "86400.000000001s" }"#),
    ("Backoff::jitter is -0.1", |c| c.retry = retry(SECOND, SECOND, -0.1), r#"InvalidRetry { field: "jitter", value: "-0.1" }"#),
    ("Backoff::jitter is 1.1", |c| c.retry = retry(SECOND, SECOND, 1.1), r#"InvalidRetry { field: "jitter", value: "1.1" }"#),
    ("Backoff::jitter is NaN", |c| c.retry = retry(SECOND, SECOND, f64::NAN), r#"InvalidRetry { field: "jitter", value: "NaN" }"#),
];

#[tokio::test(start_paused = true)]
async fn both_ways_to_start_refuse_it_and_run_nothing() {
    for (text, change, typed) in REFUSED {
        let mut config = ObservationConfig::default();
        change(&mut config);
        let app = App::new();
        let fast = ObservationRuntime::start(app.clone(), app.clone(), config.clone()).await.unwrap_err();
        let background =
            ObservationRuntime::start_in_background(app.clone(), app.clone(), config).unwrap_err();

        for error in [fast, background] {
            assert_eq!(format!("{error:?}"), error.to_string(), "{typed}");
            assert!(error.to_string().starts_with(text), "{text}: {error}");
            assert!(error.to_string().contains(" must be "), "{text}: {error}");
            assert!(error.source().is_none());
        }
        assert_eq!(
            (app.calls(Call::Sources), Handle::current().metrics().num_alive_tasks()),
            (0, 0),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_bounds_themselves_are_accepted() {
    let least = Duration::from_nanos(1);
    let bounds: [(&str, Change); 5] = [
        ("the longest name, the last numbers", |c| {
            (c.name, c.resume) = (Some("x".repeat(256)), Some(record([HALF; 4])));
        }),
        ("the longest", |c| {
            (c.interval, c.refresh_timeout, c.init_timeout, c.poll_timeout) = (DAY, DAY, DAY, DAY);
            (c.stop_timeout, c.stale_after, c.offset, c.min_gap) = (DAY, Some(DAY), DAY, DAY);
        }),
        ("the longest retry", |c| c.retry = retry(DAY, DAY, 1.0)),
        ("the shortest retry", |c| c.retry = retry(Duration::from_nanos(1), Duration::from_nanos(1), 0.0)),
        ("no history, no offset", |c| (c.history_limit, c.offset) = (0, NONE)),
    ];
    for (name, change) in bounds {
        let mut config = ObservationConfig { stale_after: Some(least), min_gap: least, ..Default::default() };
        change(&mut config);
        let app = App::new();
        drop(app.start(config).await);
        assert_eq!(app.calls(Call::Init), 1, "{name}");
    }
}
