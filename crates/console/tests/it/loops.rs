//! The loop that draws, on a terminal of the test.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{advance, sleep, timeout};
use watchkeeper::group::ObservationGroup;
use watchkeeper::per_source::PerSourceSnapshot;
use watchkeeper::source::SharedSources;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource, observe};
use watchkeeper_console::{Look, Screen, Size, Table};

use crate::group::Plain;

const IN_PLACE: Look = Look::InPlace { colour: false };

/// A terminal of which each write is announced, and may be held until the test lets it go on.
struct Fake {
    written: UnboundedSender<String>,
    size: Arc<Mutex<Size>>,
    gate: Option<mpsc::Receiver<()>>,
    broken: Option<io::ErrorKind>,
}

impl Fake {
    fn new() -> (Self, UnboundedReceiver<String>, Arc<Mutex<Size>>) {
        let (written, frames) = unbounded_channel();
        let size = Arc::new(Mutex::new(Size { columns: 61, lines: 11 }));
        (Self { written, size: Arc::clone(&size), gate: None, broken: None }, frames, size)
    }
}

impl Write for Fake {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if let Some(error) = self.broken {
            return Err(error.into());
        }
        let _ = self.written.send(String::from_utf8(part.to_vec()).unwrap());
        if let Some(gate) = &self.gate {
            let _ = gate.recv(); // ends with the test
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen for Fake {
    fn size(&self) -> Size {
        *self.size.lock().unwrap()
    }
}

type Node = Result<u64, &'static str>;

async fn probe(node: ObservedSource<Node>) -> Node {
    node.source
}

async fn observed() -> (ObservationRuntime<PerSource<Node, u64>>, SharedSources<Node>, Table) {
    let nodes = SharedSources::default();
    nodes.insert("n1", Ok(7));
    nodes.insert("n2", Ok(8));
    let config = ObservationConfig { name: Some("nodes".to_owned()), ..Duration::from_secs(1).into() };
    let runtime = observe(config, nodes.clone(), probe).await.unwrap();
    let show = |nodes: &PerSourceSnapshot<u64>, name: &str| nodes.answer(name).map(u64::to_string);
    let table = Table::of(&runtime.handle(), show);
    (runtime, nodes, table)
}

/// While it lives the clock moves by `advance` alone: the thread that writes takes its time.
struct Still(#[allow(dead_code, reason = "its drop ends the blocking task")] mpsc::Sender<()>);

fn still() -> Still {
    let (still, gone) = mpsc::channel();
    tokio::task::spawn_blocking(move || gone.recv());
    Still(still)
}

/// A frame says where the next ones go: up over the last one, unless it is the first.
fn assert_whole(frame: &str, up: &str) {
    assert!(frame.starts_with(up) && frame.ends_with("\n\x1b[J"), "{frame:?}");
    assert!(!frame.contains("\x1b[?"), "nothing is changed that would have to be restored: {frame:?}");
}

#[tokio::test(start_paused = true)]
async fn frames_replace_each_other_and_the_last_one_stays() {
    let (runtime, _nodes, table) = observed().await;
    let _still = still();
    let (screen, mut frames, _) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, sleep(Duration::from_millis(600))));
    let mut all = Vec::new();
    while let Some(frame) = frames.recv().await {
        all.push(frame);
        advance(Duration::from_millis(if all.len() < 3 { 250 } else { 100 })).await;
    }
    assert_eq!(all.len(), 4, "at 0, 250 and 500 ms, and the last at the end");
    for (nth, frame) in all.iter().enumerate() {
        assert_whole(frame, if nth == 0 { "\r\x1b[2K" } else { "\r\x1b[4A\x1b[2K" });
        assert_eq!(frame.matches('\n').count(), 4, "title, header, two rows: {frame:?}");
    }
    assert!(all[3].contains("shown for 0.6 s"), "{:?}", all[3]);
    shown.await.unwrap().unwrap();
    let _ = runtime.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_drawn_late_says_so_and_the_next_ones_remember_it() {
    let (_runtime, _nodes, table) = observed().await;
    let _still = still();
    let (screen, mut frames, _) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, sleep(Duration::from_secs(60))));
    for _ in 0..2 {
        let frame = frames.recv().await.unwrap();
        assert!(!frame.contains(" s late"), "{frame:?}");
        advance(Duration::from_millis(250)).await;
    }
    frames.recv().await.unwrap();
    // The executor stood still, or the process was suspended: the clock has gone on, and nothing ran.
    advance(Duration::from_millis(4_450)).await;
    let late = frames.recv().await.unwrap();
    assert!(late.contains("this frame is 4.2 s late"), "{late:?}");
    let row = late.lines().find(|line| line.contains("n1 ")).unwrap();
    assert!(row.contains("stale  5.0 s  "), "its age is that of the drawing: {row:?}");
    advance(Duration::from_millis(250)).await;
    let next = frames.recv().await.unwrap();
    assert!(next.contains("a frame was 4.2 s late, 0.2 s ago"), "{next:?}");
    let mut forgotten = 0;
    while forgotten < 3 {
        advance(Duration::from_millis(250)).await;
        forgotten += usize::from(!frames.recv().await.unwrap().contains(" s late"));
    }
    shown.abort();
}

#[tokio::test(start_paused = true)]
async fn a_slow_terminal_delays_frames_and_nothing_else() {
    for look in [IN_PLACE, Look::Lines] {
        let (runtime, nodes, table) = observed().await;
        let _still = still();
        let (mut screen, mut frames, _) = Fake::new();
        let (go_on, gate) = mpsc::channel();
        screen.gate = Some(gate);
        let shown = tokio::spawn(table.run_on(screen, look, sleep(Duration::from_secs(20))));
        frames.recv().await.unwrap();
        // The first frame is being written for 3 s, in which cycles go on.
        for value in 0..3 {
            nodes.insert("n2", Ok(value));
            advance(Duration::from_secs(1)).await;
            let cycle = runtime.poll_now_and_wait().await.unwrap().cycle;
            assert!(cycle > 0);
        }
        assert!(frames.try_recv().is_err(), "one frame at a time");
        if look == IN_PLACE {
            go_on.send(()).unwrap();
            let late = frames.recv().await.unwrap();
            assert!(late.contains("this frame is 2.8 s late"), "{late:?}");
        }
        // The end waits for 1 s for a screen that takes no more: the gate stays closed.
        while !shown.is_finished() {
            advance(Duration::from_secs(1)).await;
        }
        shown.await.unwrap().unwrap();
        drop(go_on);
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_of_another_size_gets_frames_that_fit() {
    let (_runtime, _nodes, table) = observed().await;
    let _still = still();
    let (screen, mut frames, size) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, sleep(Duration::from_secs(60))));
    let first = frames.recv().await.unwrap();
    assert!(first.contains("nodes: idle; fresh, 0.0 s old; cycle 0; shown for 0.0 s"), "{first:?}");
    *size.lock().unwrap() = Size { columns: 21, lines: 3 };
    advance(Duration::from_millis(250)).await;
    let narrow = frames.recv().await.unwrap();
    // 55, 25, 23 and 23 columns were drawn, which are now 3, 2, 2 and 2 lines: more than there are above the cursor.
    assert!(narrow.starts_with("\r\x1b[2A\x1b[2K"), "{narrow:?}");
    let lines: Vec<&str> = narrow.trim_end_matches("\x1b[J").lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("nodes: idle; fresh,…"), "{lines:?}");
    assert!(lines[1].contains("n1      fresh"), "{lines:?}");
    shown.abort();
}

#[tokio::test(start_paused = true)]
async fn a_closed_pipe_ends_a_table_of_either_look() {
    for look in [IN_PLACE, Look::Lines] {
        let (_runtime, _nodes, table) = observed().await;
        let _still = still();
        let (mut screen, _frames, _) = Fake::new();
        screen.broken = Some(io::ErrorKind::BrokenPipe);
        let ended = timeout(Duration::from_secs(5), table.run_on(screen, look, std::future::pending::<()>()));
        ended.await.expect("it ends by itself").expect("a closed pipe is no error");
    }
}

/// The next `count` lines without their times, which the next frame has.
async fn next_texts(lines: &mut UnboundedReceiver<String>, count: usize) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    advance(Duration::from_millis(250)).await;
    while texts.len() < count {
        texts.push(lines.recv().await.unwrap()[11..].trim_end().to_owned());
    }
    texts
}

async fn quiet_minutes() {
    for _ in 0..4 * 300 {
        advance(Duration::from_millis(250)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_pipe_there_is_a_line_when_something_has_changed_and_no_other() {
    let (runtime, nodes, table) = observed().await;
    let _still = still();
    let (screen, mut lines, _) = Fake::new();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let shown = tokio::spawn(table.run_on(screen, Look::Lines, ended));
    let expected = ["state    nodes is observing", "source   n1 is fresh: 7", "source   n2 is fresh: 8"];
    assert_eq!(next_texts(&mut lines, 3).await, expected);
    quiet_minutes().await;
    nodes.insert("n2", Err("connection\nrefused"));
    runtime.poll_now_and_wait().await.unwrap();
    assert_eq!(next_texts(&mut lines, 1).await, ["source   n2 is failing: connection\\nrefused"]);
    quiet_minutes().await;
    nodes.remove("n1");
    let _ = runtime.control().pause().await;
    nodes.insert("n3", Ok(9));
    runtime.poll_now_and_wait().await.unwrap();
    let expected = ["state    nodes is observing, paused", "source   n3 is fresh: 9", "source   n1 has left"];
    assert_eq!(next_texts(&mut lines, 3).await, expected);
    let _ = runtime.stop().await;
    end.send(()).unwrap();
    shown.await.unwrap().unwrap();
    let mut last = Vec::new();
    while let Some(line) = lines.recv().await {
        assert!(!line.contains('\u{1b}'));
        last.push(line[11..].trim_end().to_owned());
    }
    let expected = [
        "state    nodes is stopped: stop was requested, stale",
        "source   n2 is stopped: connection\\nrefused",
        "source   n3 is stopped",
    ];
    assert_eq!(last, expected);
}

#[tokio::test(start_paused = true)]
async fn in_a_pipe_a_failure_that_goes_on_and_a_group_are_no_news() {
    let second = Duration::from_secs(1);
    let sources = [ObservedSource::new("a", 1), ObservedSource::new("b", 2)];
    let failing = ObservationRuntime::start(sources, Plain, second.into()).await.unwrap();
    let group = Arc::new(ObservationGroup::new());
    group.add_as("good", observe(second, [("a", Ok(1)), ("b", Ok(2))], probe).await.unwrap()).unwrap();
    group.add_as("half", observe(second, [("a", Ok(1)), ("b", Err("no"))], probe).await.unwrap()).unwrap();
    let still = still();
    let table = Table::of(&failing.handle(), |sum: &u64, _| Some(sum.to_string()));
    let (screen, mut lines, _) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, Look::Lines, std::future::pending::<()>()));
    let expected = ["state    observing", "source   a is unknown: 3", "source   b is unknown: 3"];
    assert_eq!(next_texts(&mut lines, 3).await, expected);
    failing.poll_now_and_wait().await.unwrap_err();
    assert_eq!(next_texts(&mut lines, 1).await, ["state    failing: failed in poll: cannot add"]);
    advance(3 * second).await;
    let expected =
        ["state    failing, stale: failed in poll: cannot add", "source   a is stale", "source   b is stale"];
    assert_eq!(next_texts(&mut lines, 3).await, expected);
    quiet_minutes().await;
    assert!(lines.try_recv().is_err());
    shown.abort();

    group.add_as("bad", failing).unwrap();
    let members = Arc::clone(&group);
    let table = Table::of_group("all", move || members.handles());
    let (screen, mut lines, _) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, Look::Lines, std::future::pending::<()>()));
    let expected = [
        "state    all is 3 observations",
        "observed good is fresh: 2 of 2 answer",
        "observed half is partial: 1 of 2 answer",
        "observed bad is failing: failed in poll: cannot add",
    ];
    for member in ["good", "half"] {
        let _ = group.control(member).unwrap().poll_now_and_wait().await;
    }
    assert_eq!(next_texts(&mut lines, 4).await, expected);
    quiet_minutes().await;
    assert!(lines.try_recv().is_err());
    shown.abort();
    drop(still);
    group.stop_all().await;
}

/// ```text
/// thread:    writes the first frame ........................... goes on, and ends
/// table:                             the second is due | dropped
/// ```
#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_a_table_is_dropped() {
    for look in [IN_PLACE, Look::Lines] {
        let (_runtime, _nodes, table) = observed().await;
        let _still = still();
        let (mut screen, mut frames, _) = Fake::new();
        let (go_on, gate) = mpsc::channel();
        screen.gate = Some(gate);
        let shown = tokio::spawn(table.run_on(screen, look, std::future::pending::<()>()));
        let first = frames.recv().await.unwrap();
        advance(Duration::from_millis(250)).await;
        shown.abort();
        assert!(shown.await.unwrap_err().is_cancelled());
        drop(go_on);
        assert_eq!(frames.recv().await, None, "after {first:?}");
    }
}

#[tokio::test]
async fn a_table_that_panics_leaves_whole_lines() {
    let (_runtime, _nodes, table) = observed().await;
    let (screen, mut frames, _) = Fake::new();
    let (panics, end) = tokio::sync::oneshot::channel::<()>();
    let end = async { end.await.expect("the application ends so") };
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, end));
    assert_whole(&frames.recv().await.unwrap(), "\r\x1b[2K");
    drop(panics);
    assert!(shown.await.unwrap_err().is_panic());
    while let Some(frame) = frames.recv().await {
        assert_whole(&frame, "\r\x1b[4A\x1b[2K");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    for look in [IN_PLACE, Look::Lines] {
        let (_runtime, _nodes, table) = observed().await;
        let (mut screen, _frames, _) = Fake::new();
        screen.broken = Some(io::ErrorKind::StorageFull);
        let ended = table.run_on(screen, look, std::future::pending::<()>());
        let ended = timeout(Duration::from_secs(60), ended).await.expect("it ends by itself");
        assert_eq!(ended.expect_err("it is full").kind(), io::ErrorKind::StorageFull);
    }
}

/// ```text
/// executor:  draws a frame | blocked ................................
/// thread:                    the same frame, and how old it is, again and again
/// ```
#[tokio::test]
async fn a_table_that_nothing_refreshes_says_how_old_it_is() {
    let (_runtime, _nodes, table) = observed().await;
    let (screen, mut frames, _) = Fake::new();
    let table = table.every(Duration::from_millis(10));
    let end = async {
        // This blocks the thread of the runtime: `frames` has more only from the thread that writes.
        loop {
            match frames.try_recv() {
                Ok(frame) if frame.contains("this frame is ") => break assert_whole(&frame, "\r\x1b[4A"),
                Ok(_) => {}
                Err(_) => std::thread::yield_now(),
            }
        }
    };
    table.run_on(screen, IN_PLACE, end).await.unwrap();
}
