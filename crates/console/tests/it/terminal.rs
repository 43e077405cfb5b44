//! A real terminal: this test starts itself as a child on the other side of a pseudo-terminal.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, Winsize, tcflow, tcsetwinsize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use watchkeeper::{DynError, ObservedSource, observe};
use watchkeeper_console::Table;

const CHILD: &str = "WATCHKEEPER_CONSOLE_CHILD";

async fn probe(node: ObservedSource<Result<u64, &'static str>>) -> Result<u64, &'static str> {
    node.source
}

/// What the child does: it shows a table until its time is over.
#[tokio::test]
async fn child() -> Result<(), DynError> {
    if std::env::var_os(CHILD).is_none() {
        return Ok(());
    }
    let nodes = [("n1", Ok(7)), ("節点", Err("connection refused"))];
    let runtime = observe(Duration::from_millis(20), nodes, probe).await?;
    let table = Table::of(&runtime.handle(), |nodes, name| nodes.answer(name).map(u64::to_string));
    let five = runtime.handle().eventually("5 cycles", {
        let mut cycles = 0;
        move |_| {
            cycles += 1;
            cycles == 5
        }
    });
    let end = async {
        let _ = five.within(Duration::from_secs(20)).await;
        sleep(Duration::from_millis(40)).await; // for another frame
    };
    Ok(table.every(Duration::from_millis(10)).run(end).await?)
}

/// A pseudo-terminal of so many columns: the side of the test, and that of the child.
fn terminal(columns: u16) -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(slave).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: 20, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (File::from(master), slave)
}

/// A child that runs `test`, and shows a table on the terminal.
fn command(test: &str, slave: &File, setting: (&str, &str)) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(CHILD, "1").env("TERM", "xterm").env_remove("NO_COLOR").env(setting.0, setting.1);
    command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(Stdio::null());
    command
}

/// Everything that a child prints on a terminal of so many columns.
fn printed(columns: u16, setting: (&str, &str)) -> String {
    let (mut master, slave) = terminal(columns);
    let mut child = command("terminal::child", &slave, setting).spawn().unwrap();
    drop(slave); // the child has the only one, so that its end is the end of what is read
    let (mut text, mut part) = (Vec::new(), [0; 4_096]);
    // A terminal that nobody has open any more is an error, EIO.
    while let Ok(read @ 1..) = master.read(&mut part) {
        text.extend_from_slice(&part[..read]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
}

/// Kills the child if the test fails.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads until `text` has come, and returns what came with it.
fn read_until(master: &mut File, text: &str) -> String {
    let (mut read, mut part) = (String::new(), [0; 4_096]);
    while !read.contains(text) {
        let count = master.read(&mut part).unwrap();
        read.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    read
}

/// What the other child does: it shows a table until SIGTERM, drops its runtime, and exits.
#[test]
fn child_until_sigterm() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        let observed = observe(Duration::from_millis(20), [("n1", Ok(7))], probe).await.unwrap();
        let table = Table::of(&observed.handle(), |nodes, name| nodes.answer(name).map(u64::to_string));
        table.every(Duration::from_millis(10)).run(terminated.recv()).await.unwrap();
    });
    drop(runtime);
    std::process::exit(0); // past the harness, which prints on the same terminal
}

fn shows_until_sigterm() -> (Reaped, Pid, File, File) {
    let (mut master, slave) = terminal(50);
    let child = command("terminal::child_until_sigterm", &slave, ("LANG", "C")).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let child = Reaped(child);
    read_until(&mut master, "\x1b[3A");
    (child, pid, master, slave)
}

/// ```text
/// terminal:  takes frames | takes no more (Ctrl-S), until the end of the test
/// child:                                            SIGTERM, exits
/// ```
#[test]
fn a_terminal_that_takes_no_more_does_not_keep_the_process() {
    let (mut child, pid, _master, slave) = shows_until_sigterm();
    tcflow(&slave, Action::OOff).unwrap();
    // A write that the terminal does not take: the thread of the table stands in one like it.
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.0.wait().unwrap().success());
}

/// ```text
/// child:  shows a table | SIGSTOP for 2 s | SIGCONT: begins below, and goes on there
/// ```
#[test]
fn after_a_suspension_a_table_begins_below() {
    let (mut child, pid, mut master, _slave) = shows_until_sigterm();
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(2)); // this is what the table is to notice
    kill_process(pid, Signal::CONT).unwrap();
    let below = "\r\x1b[2Kthis process stood still for ";
    let text = read_until(&mut master, below);
    let (_, mut frame) = text.split_once(below).map(|(before, after)| (before, after.to_owned())).unwrap();
    if !frame.contains("\x1b[J") {
        frame += &read_until(&mut master, "\x1b[J");
    }
    let frame = frame.split("\x1b[J").next().unwrap();
    assert!(frame.contains("n1      ") && !frame.contains("A\x1b["), "it goes up over nothing: {frame:?}");
    kill_process(pid, Signal::TERM).unwrap();
    std::thread::spawn(move || read_until(&mut master, "there is no such text"));
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn a_table_refreshes_in_place() {
    let text = printed(50, ("LANG", "C"));
    assert!(text.contains("\r\x1b[4A\x1b[2K"), "{text:?}");
    assert!(text.contains("\x1b[31m節点    failing  "), "{text:?}");
    assert!(text.contains("n1      fresh    0.0 s  7"), "{text:?}");
    let frames: Vec<&str> = text.split("\x1b[J").collect();
    assert!(frames.len() > 2, "{text:?}");
    assert!(frames[..frames.len() - 1].iter().all(|frame| frame.ends_with("\r\n")), "whole lines: {text:?}");
    assert!(!text.contains("\x1b[?"), "nothing has to be restored: {text:?}");
}

#[test]
fn without_colour_it_has_none_and_a_dumb_terminal_gets_lines() {
    let text = printed(50, ("NO_COLOR", "1"));
    assert!(text.contains("\x1b[4A"), "{text:?}");
    assert!(!text.contains("\x1b[31m") && !text.contains("\x1b[0m"), "{text:?}");
    let text = printed(50, ("TERM", "dumb"));
    assert!(text.contains("source   節点 is failing: connection refused\r\n"), "{text:?}");
    assert!(!text.contains("\x1b["), "{text:?}");
}
