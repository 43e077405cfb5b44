//! A real terminal: this test starts itself as a child on the other side of a pseudo-terminal.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
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

/// Everything that a child prints on a terminal of so many columns.
fn printed(columns: u16, setting: (&str, &str)) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = File::options().read(true).write(true).open(slave).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: 20, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "terminal::child", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, "1").env("TERM", "xterm").env_remove("NO_COLOR").env(setting.0, setting.1);
    command.stdin(Stdio::null()).stdout(slave.try_clone().unwrap()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop((slave, command)); // the child has the only one, so that its end is the end of what is read
    let (mut text, mut part) = (Vec::new(), [0; 4_096]);
    let mut master = File::from(master);
    // A terminal that nobody has open any more is an error, EIO.
    while let Ok(read @ 1..) = master.read(&mut part) {
        text.extend_from_slice(&part[..read]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
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
