//! The loop that draws, on a terminal of the test.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{advance, sleep, timeout};
use watchkeeper::per_source::PerSourceSnapshot;
use watchkeeper::source::SharedSources;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource, observe};
use watchkeeper_console::{Look, Screen, Size, Table};

const IN_PLACE: Look = Look::InPlace { colour: false };

/// A terminal of which each write is announced, and may be held until the test lets it go on.
struct Fake {
    written: UnboundedSender<String>,
    size: Arc<Mutex<Size>>,
    gate: Option<mpsc::Receiver<()>>,
    broken: bool,
}

impl Fake {
    fn new() -> (Self, UnboundedReceiver<String>, Arc<Mutex<Size>>) {
        let (written, frames) = unbounded_channel();
        let size = Arc::new(Mutex::new(Size { columns: 61, lines: 11 }));
        (Self { written, size: Arc::clone(&size), gate: None, broken: false }, frames, size)
    }
}

impl Write for Fake {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
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

#[tokio::test(start_paused = true)]
async fn frames_replace_each_other_and_the_last_one_stays() {
    let (runtime, _nodes, table) = observed().await;
    let (screen, mut frames, _) = Fake::new();
    table.run_on(screen, IN_PLACE, sleep(Duration::from_millis(600))).await.unwrap();
    let mut all = Vec::new();
    while let Some(frame) = frames.recv().await {
        all.push(frame);
    }
    assert_eq!(all.len(), 4, "at 0, 250 and 500 ms, and the last at the end");
    for (nth, frame) in all.iter().enumerate() {
        let up = if nth == 0 { "\r\x1b[2K" } else { "\r\x1b[4A\x1b[2K" };
        assert!(frame.starts_with(up) && frame.ends_with("\n\x1b[J"), "{frame:?}");
        assert_eq!(frame.matches('\n').count(), 4, "title, header, two rows: {frame:?}");
        assert!(!frame.contains("\x1b[?"), "nothing is changed that would have to be restored: {frame:?}");
    }
    assert!(all[3].contains("shown for 0.6 s"), "{:?}", all[3]);
    let _ = runtime.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_drawn_late_says_so_and_the_next_ones_remember_it() {
    let (_runtime, _nodes, table) = observed().await;
    let (screen, mut frames, _) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, sleep(Duration::from_secs(60))));
    for _ in 0..2 {
        let frame = frames.recv().await.unwrap();
        assert!(!frame.contains(" s late"), "{frame:?}");
    }
    // The executor stood still, or the process was suspended: the clock has gone on, and nothing ran.
    advance(Duration::from_millis(4_450)).await;
    let late = frames.recv().await.unwrap();
    assert!(late.contains("this frame is 4.2 s late"), "{late:?}");
    assert!(late.contains("stale, 4.") || late.contains("old"), "ages are those of the drawing: {late:?}");
    let next = frames.recv().await.unwrap();
    assert!(
        next.contains("a frame was 4.2 s late, 0.2 s ago") || next.contains("late, 0.3 s ago"),
        "{next:?}"
    );
    let forgotten = async { while frames.recv().await.unwrap().contains(" s late") {} };
    timeout(Duration::from_secs(20), forgotten).await.unwrap();
    shown.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_terminal_delays_frames_and_nothing_else() {
    let (runtime, _nodes, table) = observed().await;
    let (mut screen, mut frames, _) = Fake::new();
    let (go_on, gate) = mpsc::channel();
    screen.gate = Some(gate);
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, sleep(Duration::from_secs(20))));
    frames.recv().await.unwrap();
    // The first frame is being written for 3 s, in which cycles go on.
    for _ in 0..3 {
        advance(Duration::from_secs(1)).await;
        let cycle = runtime.poll_now_and_wait().await.unwrap().cycle;
        assert!(cycle > 0);
    }
    assert!(frames.try_recv().is_err(), "one frame at a time");
    go_on.send(()).unwrap();
    let late = frames.recv().await.unwrap();
    assert!(late.contains("this frame is 2.8 s late"), "{late:?}");
    // The end does not wait for a terminal that takes no more: the gate stays closed.
    while !shown.is_finished() {
        advance(Duration::from_secs(1)).await;
    }
    shown.await.unwrap().unwrap();
    drop(go_on);
}

#[tokio::test(start_paused = true)]
async fn a_terminal_of_another_size_gets_frames_that_fit() {
    let (_runtime, _nodes, table) = observed().await;
    let (screen, mut frames, size) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, sleep(Duration::from_secs(60))));
    let first = frames.recv().await.unwrap();
    assert!(first.contains("nodes: idle, cycle 0; fresh, 0.0 s old; shown for 0.0 s"), "{first:?}");
    *size.lock().unwrap() = Size { columns: 21, lines: 3 };
    let narrow = frames.recv().await.unwrap();
    // 55, 25, 23 and 23 columns were drawn, which are now 3, 2, 2 and 2 lines: more than there are above the cursor.
    assert!(narrow.starts_with("\r\x1b[2A\x1b[2K"), "{narrow:?}");
    let lines: Vec<&str> = narrow.trim_end_matches("\x1b[J").lines().collect();
    assert!(lines.len() == 2 && lines[0].ends_with("nodes: idle, cycle …"), "{lines:?}");
    shown.abort();
}

#[tokio::test(start_paused = true)]
async fn a_closed_pipe_ends_a_table_of_either_look() {
    for look in [IN_PLACE, Look::Lines] {
        let (_runtime, _nodes, table) = observed().await;
        let (mut screen, _frames, _) = Fake::new();
        screen.broken = true;
        let ended = timeout(Duration::from_secs(5), table.run_on(screen, look, std::future::pending::<()>()));
        ended.await.expect("it ends by itself").expect("a closed pipe is no error");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_pipe_there_is_a_line_when_something_has_changed_and_no_other() {
    let (runtime, nodes, table) = observed().await;
    let (screen, mut lines, _) = Fake::new();
    let long = Duration::from_secs(300);
    let shown = tokio::spawn(table.run_on(screen, Look::Lines, sleep(2 * long + Duration::from_secs(9))));
    sleep(long + Duration::from_millis(100)).await;
    nodes.insert("n2", Err("connection\nrefused"));
    sleep(long).await;
    nodes.remove("n1");
    let _ = runtime.control().pause().await;
    nodes.insert("n3", Ok(9));
    runtime.poll_now_and_wait().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let _ = runtime.stop().await;
    shown.await.unwrap().unwrap();
    let mut all = String::new();
    while let Some(part) = lines.recv().await {
        all.push_str(&part);
    }
    let texts: Vec<&str> = all.lines().map(|line| &line[11..]).collect();
    let expected = [
        "state    nodes is observing",
        "source   n1 is fresh: 7",
        "source   n2 is fresh: 8",
        "source   n2 is failing: connection\\nrefused",
        "state    nodes is observing, paused",
        "source   n3 is fresh: 9",
        "source   n1 has left",
        "state    nodes is stopped: stop was requested, stale",
        "source   n2 is stopped: connection\\nrefused",
        "source   n3 is stopped",
    ];
    assert_eq!(texts, expected);
    assert!(!all.contains('\u{1b}'));
}

#[tokio::test]
async fn a_table_that_is_dropped_or_panics_leaves_whole_lines() {
    let (_runtime, _nodes, table) = observed().await;
    let (screen, mut frames, _) = Fake::new();
    let shown = tokio::spawn(table.run_on(screen, IN_PLACE, async { panic!("the application ends so") }));
    assert!(shown.await.unwrap_err().is_panic());
    let mut all = String::new();
    while let Some(frame) = frames.recv().await {
        all.push_str(&frame);
    }
    assert!(all.ends_with("\n\x1b[J") && !all.contains("\x1b[?"), "{all:?}");
}
