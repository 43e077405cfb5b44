//! Frames, and the screens that are expected of them.

use std::time::Duration;

use watchkeeper_console::{Frame, Kind, Latencies, Row, RowState, Size, render};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn latencies(millis: &[u64]) -> Latencies {
    let mut latencies = Latencies::default();
    latencies.extend(millis.iter().copied().map(ms));
    latencies
}

/// Three nodes: one answers, one refuses, one hangs.
fn nodes() -> Frame {
    let row =
        |name: &str, state, age| Row { name: name.to_owned(), state, age: Some(ms(age)), ..Row::default() };
    let n1 = Row {
        value: Some("104".to_owned()),
        latencies: latencies(&[2, 4, 8, 2]),
        in_flight: Some(ms(10)),
        ..row("n1", RowState::Fresh, 120)
    };
    let error = Some("connection refused".to_owned());
    let n2 = Row { error, latencies: latencies(&[19]), ..row("n2", RowState::Failing, 3_300) };
    let n3 =
        Row { in_flight: Some(ms(1_000)), latencies: latencies(&[41]), ..row("n3", RowState::Silent, 1_300) };
    Frame {
        name: "nodes".to_owned(),
        at: ms(5_000),
        state: "idle".to_owned(),
        generation: Some(1),
        cycle: Some(20),
        fresh: Some(true),
        age: Some(ms(30)),
        rows: vec![n1, n2, n3],
        ..Frame::default()
    }
}

fn screen(frame: &Frame, columns: usize, lines: usize) -> String {
    render(frame, Size { columns, lines }).join("\n")
}

#[test]
fn a_frame_fills_the_screen_that_there_is() {
    let wide = "\
nodes: idle; fresh, 0.0 s old; cycle 20; shown for 5.0 s
source  state                    age    value  took    latency    last error
n1      fresh                    0.1 s  104    2.0 ms  ▂▄█▂
n2      failing                  3.3 s         19 ms   █          connection refused
n3      silent, asked 1.0 s ago  1.3 s         41 ms   █";
    assert_eq!(screen(&nodes(), 90, 24), wide);
    let half = "\
nodes: idle; fresh, 0.0 s old; cycle 20; shown f…
source  state                    age    last err…
n1      fresh                    0.1 s
n2      failing                  3.3 s  connecti…
n3      silent, asked 1.0 s ago  1.3 s";
    let half = half.replace("age    last", "age    value  last").replace("0.1 s", "0.1 s  104");
    let half = half.replace("3.3 s  connecti…", "3.3 s").replace("value  last err…", "value");
    assert_eq!(screen(&nodes(), 49, 24), half);
    let narrow = "\
nodes: idle; fresh,…
source  state
n1      fresh
n2      failing
n3      silent, ask…";
    assert_eq!(screen(&nodes(), 20, 24), narrow);
}

#[test]
fn no_line_is_too_long_and_none_is_too_many() {
    let mut frame = nodes();
    frame.last_error = Some("cycle 19 failed in poll: \u{1b}[2J no route\nto host".to_owned());
    (frame.late, frame.paused) = (Some(ms(4_200)), true);
    for (nth, row) in frame.rows.iter_mut().enumerate() {
        row.name = ["節点一二三", "e\u{301}\u{301}te\u{301}", "\u{202e}👩\u{200d}👧\u{7}"][nth].to_owned();
        row.value = Some("値".repeat(500));
    }
    for columns in (0..130).chain([499, 500]) {
        for lines in [0, 1, 2, 3, 5, 24] {
            let screen = render(&frame, Size { columns, lines });
            assert!(screen.len() <= lines, "{columns} x {lines}: {screen:?}");
            for line in &screen {
                let width = unicode_width::UnicodeWidthStr::width(line.as_str());
                assert!(width <= columns, "{columns} x {lines}: {width} in {line:?}");
                assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
            }
        }
    }
}

#[test]
fn of_a_thousand_sources_the_worst_are_shown_and_the_others_counted() {
    let mut frame = nodes();
    let row = |nth: usize| Row {
        name: format!("n{nth}"),
        state: match nth {
            500 => RowState::Silent,
            998 | 999 => RowState::Failing,
            _ => RowState::Fresh,
        },
        ..Row::default()
    };
    frame.rows = (0..1_000).map(row).collect();
    let screen = render(&frame, Size { columns: 80, lines: 24 });
    assert_eq!(screen.len(), 24);
    assert_eq!(screen[2..6], ["n998    failing", "n999    failing", "n500    silent", "n0      fresh"]);
    assert_eq!(screen[23], "and 979 more: 979 fresh");
    frame.rows.truncate(22);
    let screen = render(&frame, Size { columns: 80, lines: 24 });
    assert_eq!(
        (&*screen[2], &*screen[23]),
        ("n0      fresh", "n21     fresh"),
        "all fit, in the provider's order"
    );
}

#[test]
fn the_lowest_screens_show_the_worst_row() {
    let low = |lines| screen(&nodes(), 60, lines).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let worst = "n2      failing  3.3 s  19 ms  █        connection refused";
    assert_eq!(low(1), [""; 0]);
    assert_eq!(low(2), [worst]);
    assert_eq!(low(3), [worst, "and 2 more: 1 silent, 1 fresh"]);
    assert!(low(4)[0].starts_with("source ") && low(4)[1] == worst, "{:?}", low(4));
}

#[test]
fn a_long_value_takes_what_is_left_and_then_a_long_name() {
    let mut frame = nodes();
    frame.rows.truncate(1);
    frame.rows[0].value = Some("v".repeat(50));
    frame.rows[0].name = "n".repeat(60);
    frame.rows[0].latencies = Latencies::default();
    let of = |columns| render(&frame, Size { columns, lines: 3 }).remove(2);
    assert!(of(80).contains(&("v".repeat(37) + "…")) && of(80).chars().count() == 80, "{}", of(80));
    assert!(of(130).contains(&"v".repeat(50)) && of(130).contains(&"n".repeat(60)), "{}", of(130));
}

#[test]
fn the_first_lines_say_what_is_wrong_with_all() {
    let mut frame = nodes();
    frame.rows.clear();
    (frame.fresh, frame.age, frame.generation) = (Some(false), Some(ms(12_000)), Some(3));
    frame.paused = true;
    frame.last_error = Some("cycle 20 failed in poll: it panicked".to_owned());
    frame.late = Some(ms(4_200));
    let screen = render(&frame, Size { columns: 100, lines: 24 });
    let expected = [
        "this frame is 4.2 s late",
        "nodes: idle, paused; stale, 12 s old; generation 3; cycle 20; shown for 5.0 s",
        "last error: cycle 20 failed in poll: it panicked",
    ];
    assert_eq!(screen[..3], expected);
    (frame.late, frame.was_late) = (None, Some((ms(4_200), ms(300))));
    assert_eq!(render(&frame, Size { columns: 100, lines: 24 })[0], "a frame was 4.2 s late, 0.3 s ago");
    let never = Frame { state: "starting".to_owned(), ..Frame::default() };
    assert_eq!(render(&never, Size { columns: 100, lines: 1 }), ["starting; no answer yet; shown for 0.0 s"]);
    let group = Frame { kind: Kind::Observations, state: "2 observations".to_owned(), ..Frame::default() };
    assert_eq!(render(&group, Size { columns: 100, lines: 2 })[0], "2 observations; shown for 0.0 s");
}

#[test]
fn the_highest_bar_is_the_slowest_answer_shown() {
    assert_eq!(latencies(&[]).sparkline(8), "");
    assert_eq!(latencies(&[0, 0]).sparkline(8), "▁▁");
    assert_eq!(latencies(&[1, 2, 4, 8]).sparkline(8), "▁▂▄█");
    assert_eq!(latencies(&[1_000, 1, 2]).sparkline(2), "▄█", "the newest two");
    assert_eq!(latencies(&(0..100).collect::<Vec<_>>()).sparkline(99).chars().count(), 32);
}
