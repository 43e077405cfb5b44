//! The bytes of lines.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, advance, timeout};
use watchkeeper_console::{Lines, Style};

/// What was written. With the second field it fails.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(Vec<u8>, bool)>>);

impl Paper {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap().0)).unwrap()
    }
}

impl Write for Paper {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let mut paper = self.0.lock().unwrap();
        if paper.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        paper.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn timeline(style: Style) -> (Lines, Paper) {
    let paper = Paper::default();
    (Lines::to(paper.clone(), style), paper)
}

#[tokio::test(start_paused = true)]
async fn each_style_has_its_bytes() {
    let (plain, paper) = timeline(Style::Plain);
    let (terminal, screen) = timeline(Style::Terminal);
    let terminal = terminal.colours(|kind| if kind == "step" { "\x1b[1m" } else { "\x1b[2m" });
    let (json, stream) = timeline(Style::Json);
    let before = Instant::now();
    advance(Duration::from_micros(1_250_700)).await;
    for timeline in [&plain, &terminal, &json] {
        timeline.status("          idle");
        timeline.line(Instant::now(), "step", "one", |at| format!("{{\"at_s\":{at}}}"));
        timeline.text("other", "two");
        timeline.line(before, "step", "earlier", |at| format!("{{\"at_s\":{at}}}"));
        timeline.status("");
    }
    let expected = "   1.251s  step     one\n   1.251s  other    two\n   0.000s  step     earlier\n";
    assert_eq!(paper.take(), expected);
    assert_eq!(stream.take(), "{\"at_s\":1.251}\n{\"at_s\":0}\n", "a text alone is no JSON");
    let idle = "\x1b[2m          idle\x1b[0m";
    let expected = format!(
        "\r\x1b[2K{idle}\r\x1b[2K\x1b[1m   1.251s  step     one\x1b[0m\n{idle}\
         \r\x1b[2K\x1b[2m   1.251s  other    two\x1b[0m\n{idle}\
         \r\x1b[2K\x1b[1m   0.000s  step     earlier\x1b[0m\n{idle}\r\x1b[2K"
    );
    assert_eq!(screen.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_outside_forges_no_line_and_is_bounded() {
    let (timeline, paper) = timeline(Style::Plain);
    let timeline = timeline.kind_width(7);
    timeline.text("node", "n1 \u{1b}[2J\n   9.000s  node    n2 is up");
    timeline.text("node", &"x".repeat(100_000));
    let printed = paper.take();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "   0.000s  node    n1 \\u{1b}[2J");
    assert_eq!(lines[1], "                     9.000s  node    n2 is up", "a second line is indented");
    assert!(lines[2].ends_with("x ... (95904 more bytes)") && lines.len() == 3, "{}", lines[2].len());
}

#[tokio::test(start_paused = true)]
async fn that_nobody_reads_any_more_is_known_with_the_next_line() {
    let (timeline, paper) = timeline(Style::Plain);
    timeline.text("step", "one");
    timeout(Duration::from_secs(1), timeline.closed()).await.unwrap_err();
    paper.0.lock().unwrap().1 = true;
    timeline.text("step", "two");
    timeout(Duration::from_secs(1), timeline.closed()).await.unwrap();
}

#[test]
fn nothing_is_printed_while_something_else_has_the_terminal() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let (timeline, screen) = timeline(Style::Terminal);
    timeline.status("idle");
    screen.take();
    let (hold, other) = (timeline.hold(), timeline.hold());
    timeline.text("step", "one");
    timeline.status("polling");
    assert_eq!(screen.take(), "\r\x1b[2K", "the status makes room");
    drop(other);
    timeline.text("step", "one and a half");
    assert_eq!(screen.take(), "", "one hold is left");
    drop(hold);
    let printed = screen.take();
    assert!(printed.starts_with("\r\x1b[2K") && !printed.contains("left out"), "{printed:?}");
    let [one, half] = ["step     one\x1b[0m\n", "step     one and a half\x1b[0m\n\x1b[2mpolling\x1b[0m"];
    assert!(printed.contains(one) && printed.ends_with(half), "{printed:?}");
    timeline.text("step", "two");
    assert!(screen.take().ends_with("two\x1b[0m\n\x1b[2mpolling\x1b[0m"));
}

#[test]
fn of_many_lines_that_were_held_back_the_newest_are_printed_and_the_others_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    for (style, count) in
        [(Style::Terminal, "... 4 earlier lines were left out\n"), (Style::Json, "{\"left_out\":4}\n")]
    {
        let (timeline, screen) = timeline(style);
        let hold = timeline.hold();
        for number in 1..=24 {
            timeline.line(Instant::now(), "step", &format!("nr {number}"), |_| format!("\"nr {number}\""));
        }
        drop(hold);
        let printed = screen.take();
        let numbers = printed.split("nr ").skip(1).map(|rest| rest.split(['"', '\x1b']).next().unwrap());
        let expected: Vec<String> = (5..=24).map(|number| number.to_string()).collect();
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
        assert!(printed.trim_start_matches("\r\x1b[2K").starts_with(count), "{printed:?}");
    }
}
