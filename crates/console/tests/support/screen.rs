//! A program on a terminal of 120 columns: for the tests of programs that show a table.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Screen {
    process: Child,
    output: tokio::fs::File,
    /// All that was printed so far.
    text: String,
    /// How much of it was waited for.
    shown: usize,
}

impl Screen {
    /// Starts a program, with these settings in its environment.
    pub(crate) fn start(program: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).env("TERM", "xterm").env_remove("NO_COLOR").envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(terminal).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().unwrap();
        // The program has the only side of its own, so that its end is the end of what is read.
        drop(command);
        let output = tokio::fs::File::from_std(File::from(master));
        Self { process, output, text: String::new(), shown: 0 }
    }

    /// Reads until this text was printed, after all that was waited for before.
    pub(crate) async fn shows(&mut self, text: &str) {
        loop {
            if let Some(at) = self.text[self.shown..].find(text) {
                self.shown += at + text.len();
                return;
            }
            assert!(self.reads().await, "it ended without {text:?}: {}", self.text);
        }
    }

    /// All that was printed so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Interrupts the program, and returns what is read from then on; it succeeds.
    pub(crate) async fn interrupted(mut self) -> String {
        let before = self.text.len();
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.try_into().unwrap())).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        while self.reads().await {}
        let status = timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}: {}", self.text);
        self.text.split_off(before)
    }

    /// Reads what comes next; false at the end, which is an error of a terminal that nobody has open any more.
    async fn reads(&mut self) -> bool {
        let mut part = vec![0; 4_096];
        let read = timeout(PATIENCE, self.output.read(&mut part)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing more comes: {}", self.text)).unwrap_or(0);
        self.text += &String::from_utf8_lossy(&part[..read]);
        read > 0
    }
}
