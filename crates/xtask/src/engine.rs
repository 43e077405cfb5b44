//! A container engine for the step that needs one.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::needs;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How long an engine may take to answer; it usually takes a second.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs a program until standard input ends, then stops it and removes its folder.
///
/// Standard input ends however xtask does, so that no engine outlives it. The program's id is in the folder.
const KEEPER: &str = r#"
folder=$1
shift
"$@" > "$folder/log" 2>&1 &
echo $! > "$folder/program"
read -r _
kill -TERM $!
wait $!
rm -rf "$folder"
"#;

/// An engine that answers: the one of the machine, or one of our own that ends with this value.
#[derive(Debug)]
pub(crate) struct Engine {
    host: String,
    own: Option<Kept>,
}

impl Engine {
    /// Uses the engine at `DOCKER_HOST` or at the default socket; where none is, starts one.
    ///
    /// One of our own has a socket and folders of its own, and leaves the machine's bridges, packet
    /// filter and forwarding as they are: containers meet on networks that it makes for them.
    pub(crate) fn bring() -> Result<Self, String> {
        if let Some(host) = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
            return Ok(Self { host, own: None });
        }
        if answers(Path::new(DEFAULT_SOCKET)) {
            return Ok(Self { host: format!("unix://{DEFAULT_SOCKET}"), own: None });
        }
        if !needs::is_root() {
            return Err("no container engine runs and only root can start one: run as root, or name one by \
                        DOCKER_HOST"
                .to_owned());
        }
        let folder = env::temp_dir().join(format!("watchkeeper-engine-{}", std::process::id()));
        let socket = folder.join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let at = |name: &str| folder.join(name).display().to_string();
        let line = [
            "dockerd",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
            "--host",
            &host,
        ];
        println!("$ {}", line.join(" "));
        let own = Kept::start(&line, folder)?;
        own.wait_for(&socket)?;
        Ok(Self { host, own: Some(own) })
    }

    /// The value of `DOCKER_HOST` for a client of it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Stops an engine of our own and waits until nothing of it is left.
    pub(crate) fn stop(self) -> Result<(), String> {
        self.own.map_or(Ok(()), Kept::stop)
    }
}

/// A program that ends with this value, and with this process, together with its folder.
#[derive(Debug)]
struct Kept {
    keeper: Child,
    folder: PathBuf,
}

impl Kept {
    fn start(line: &[&str], folder: PathBuf) -> Result<Self, String> {
        let failed = |error| format!("`{}` cannot be started: {error}", line.join(" "));
        fs::create_dir(&folder).map_err(failed)?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&folder)
            .args(line)
            .stdin(Stdio::piped())
            // Ctrl-C ends xtask, and its end ends the keeper.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Self { keeper, folder })
    }

    fn wait_for(&self, socket: &Path) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        while !answers(socket) {
            let problem = if self.has_ended() {
                "the engine has ended".to_owned()
            } else if Instant::now() > deadline {
                format!("the engine does not answer after {START_LIMIT:?}")
            } else {
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let last = log.lines().next_back().unwrap_or("nothing");
            return Err(format!("{problem}; it logged last: {last}"));
        }
        Ok(())
    }

    /// Whether the program was started and no longer runs.
    fn has_ended(&self) -> bool {
        let Ok(program) = fs::read_to_string(self.folder.join("program")) else { return false };
        // Half a line is half an id.
        let Some(program) = program.strip_suffix('\n') else { return false };
        let stat = fs::read_to_string(Path::new("/proc").join(program).join("stat"));
        // The shell may have waited for it already, or not.
        stat.map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')))
    }

    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        // It cannot fail: the keeper is our child, and nobody else waits for it.
        let _ = self.keeper.wait();
    }

    fn stop(mut self) -> Result<(), String> {
        self.end();
        if self.folder.exists() { Err(format!("{} is left behind", self.folder.display())) } else { Ok(()) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether an engine serves at `socket`.
fn answers(socket: &Path) -> bool {
    let ping = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<_, std::io::Error>(status.ends_with(b" 200"))
    };
    ping().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        env::temp_dir().join(format!("watchkeeper-xtask-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_kept_ends_with_its_keeper_and_its_folder_goes() {
        let folder = folder("kept");
        let line =
            ["sh", "-c", r#"touch "$0/up"; echo $$ > "$0/pid"; exec sleep 1000"#, folder.to_str().unwrap()];
        let kept = Kept::start(&line, folder.clone()).unwrap();
        let pid = loop {
            match fs::read_to_string(folder.join("pid")) {
                Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
                _ => thread::yield_now(),
            }
        };
        assert!(Path::new("/proc").join(&pid).exists(), "it runs");
        assert_eq!(kept.stop(), Ok(()));
        assert!(!Path::new("/proc").join(&pid).exists(), "it has been stopped and reaped");
        assert!(!folder.exists());
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_last_words() {
        let folder = folder("ended");
        let line = ["sh", "-c", "echo starting; echo no room >&2; exit 1"];
        let kept = Kept::start(&line, folder.clone()).unwrap();
        let began = Instant::now();
        let error = kept.wait_for(&folder.join("socket")).unwrap_err();
        assert_eq!(error, "the engine has ended; it logged last: no room");
        assert!(began.elapsed() < START_LIMIT);
        assert_eq!(kept.stop(), Ok(()));
    }

    #[test]
    fn an_engine_answers_with_200_and_nothing_else_is_one() {
        let folder = folder("answers");
        fs::create_dir(&folder).unwrap();
        let socket = folder.join("socket");
        assert!(!answers(&socket), "there is nothing");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            for answer in ["HTTP/1.0 200 OK\r\n\r\nOK", "HTTP/1.0 500 Internal Server Error\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 23];
                stream.read_exact(&mut request).unwrap();
                assert!(request.starts_with(b"GET /_ping "), "{request:?}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!([(); 3].map(|()| answers(&socket)), [true, false, false]);
        server.join().unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
