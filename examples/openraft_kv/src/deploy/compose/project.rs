//! docker-compose, for one project.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;
use watchkeeper::report::one_line;
use watchkeeper_scenario::DeployError;

use super::manifest::{Manifest, invalid_compose};
use super::nodes::CLUSTER_LABEL;
use super::{failed, unavailable};
use crate::errors::Chain;

/// How long docker-compose may take to print its version or to check its file.
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// How long the build of the image may take; its program is built before.
const BUILD_WITHIN: Duration = Duration::from_secs(240);
/// How long the containers may take to be made and started.
pub(super) const UP_WITHIN: Duration = Duration::from_secs(90);
/// How long everything may take to go down.
const DOWN_WITHIN: Duration = Duration::from_secs(90);
/// What to look for when docker-compose does not end.
const ENGINE: &str = "see whether the engine hangs";
/// Bytes shown of the errors of a command.
const ERROR: usize = 4000;

/// Distinguishes the projects of one process.
static PROJECTS: AtomicU64 = AtomicU64::new(1);

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) success: bool,
    /// What it wrote to standard output.
    pub(super) output: String,
    error: Vec<String>,
}

impl Ended {
    /// What it wrote to standard error, as one line.
    pub(super) fn error(&self) -> String {
        one_line(&self.error.join(" "), ERROR)
    }

    /// The first line of standard error that begins with `error`: progress comes before it.
    fn first_error(&self) -> String {
        let is_error = |line: &&String| line.to_lowercase().starts_with("error");
        self.error.iter().find(is_error).map_or_else(|| self.error(), |line| one_line(line, ERROR))
    }
}

/// Runs `command` in its own process group, which Ctrl-C does not reach.
///
/// # Cancel safety
///
/// The command and all that it has started in its group are killed when the future is dropped.
async fn run(command: Command) -> io::Result<Ended> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).kill_on_drop(true).spawn()?;
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let ended = pin!(child.wait_with_output());
    // Declared after the child, so that it is dropped first: the leader is not reaped yet, so that its pid is still
    // that of this group.
    let mut group = Group(leader);
    let output = ended.await;
    group.0 = None;
    Ok(Ended::from(&output?))
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // A drop cannot report an error; a group that has ended is fine.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs `command` as [`run`] does, and kills it if it has not ended within this time.
/// `hint` says what to check then.
pub(super) async fn run_within(within: Duration, command: Command, hint: &str) -> io::Result<Ended> {
    let program = command.get_program().to_owned();
    timeout(within, run(command)).await.unwrap_or_else(|_| {
        let program = program.display();
        let reason = format!("{program} did not end within {within:?} and was killed: {hint}");
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    })
}

/// Runs `command` on this thread, also while the caller's runtime shuts down.
fn finish(within: Duration, command: Command) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_within(within, command, ENGINE))
}

impl From<&Output> for Ended {
    fn from(output: &Output) -> Self {
        let error = String::from_utf8_lossy(&output.stderr);
        let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
        Self {
            success: output.status.success(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: lines.map(str::to_owned).collect(),
        }
    }
}

/// How docker-compose is called for one project.
#[derive(Clone, Debug)]
pub(super) struct Compose {
    /// `docker-compose`, or `docker compose`.
    program: Vec<String>,
    host: String,
    file: PathBuf,
    project: String,
    flags: String,
    context: PathBuf,
}

impl Compose {
    /// Finds docker-compose, and names a new project of `file`.
    pub(super) async fn find(host: &str, file: &Path, node_flags: &[String]) -> Result<Self, DeployError> {
        let program = program().await?;
        let number = PROJECTS.fetch_add(1, Ordering::Relaxed);
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let project = format!("openraft_kv-{}-{:x}-{number}", std::process::id(), began.as_millis());
        let flags = node_flags.iter().map(|flag| quoted(flag)).collect::<Vec<_>>().join(" ");
        Ok(Self {
            program,
            host: host.to_owned(),
            file: file.to_owned(),
            project,
            flags,
            context: PathBuf::from("."),
        })
    }

    pub(super) fn with_context(self, context: PathBuf) -> Self {
        Self { context, ..self }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = called(&self.program);
        command
            .arg("--file")
            .arg(&self.file)
            .args(args)
            .env("DOCKER_HOST", &self.host)
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("OPENRAFT_KV_FLAGS", &self.flags)
            .env("OPENRAFT_KV_CONTEXT", &self.context)
            // The builder of the engine itself: the other one is an extra program.
            .env("DOCKER_BUILDKIT", "0")
            .env("COMPOSE_DOCKER_CLI_BUILD", "0");
        command
    }

    /// The services of the file, in the order of their names; this checks the file.
    pub(super) async fn services(&self) -> Result<Vec<String>, DeployError> {
        let step = "check its Compose file";
        let listed = run_within(ASK_WITHIN, self.command(&["config", "--services"]), ENGINE)
            .await
            .map_err(|error| failed(step, error))?;
        if !listed.success {
            return Err(invalid_compose(&self.file, &listed.error()));
        }
        let mut services: Vec<String> = listed.output.lines().map(|line| line.trim().to_owned()).collect();
        // n10 comes after n2.
        services.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        Ok(services)
    }

    /// Builds the image, which is one for all services.
    pub(super) async fn build(&self, manifest: &Manifest, services: &[String]) -> Result<(), DeployError> {
        let Some(service) = services.first() else { return Ok(()) };
        let step = "build its image";
        let built = run_within(BUILD_WITHIN, self.command(&["build", service]), ENGINE).await;
        let built = built.map_err(|error| failed(step, error))?;
        if built.success { Ok(()) } else { Err(manifest.build_failed(&built.output, &built.error())) }
    }
}

/// Containers, a network and volumes that are up.
///
/// Dropping it takes them down by a process that outlives this one and is not waited for.
#[derive(Debug)]
pub(super) struct Project {
    compose: Compose,
    is_down: bool,
}

impl Project {
    /// Creates and starts the containers of `services`, `within` this time. When this fails, or when
    /// the future is dropped, what was made by then is taken down; what is left is named.
    pub(super) async fn up(
        compose: Compose,
        services: Vec<String>,
        within: Duration,
    ) -> Result<Self, DeployError> {
        let step = "start its containers";
        // The project lives on a blocking thread, which the runtime waits for when it shuts down. If the
        // future is dropped, the project is dropped there, after the last container was made.
        let work = move || {
            let mut project = Self { compose, is_down: false };
            let mut up = project.compose.command(&["up", "--detach", "--no-build"]);
            up.args(services);
            let problem = match finish(within, up) {
                Ok(ended) if ended.success => return Ok(project),
                Ok(ended) => ended.first_error(),
                Err(error) => error.to_string(),
            };
            // What failed first comes first.
            Err(match judged(finish(DOWN_WITHIN, project.down_command())) {
                Ok(()) => {
                    project.is_down = true;
                    failed(step, problem)
                }
                Err(left) => failed(step, format!("{problem}; {}", project.left(&left))),
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(step, error))?
    }

    /// The name in the labels of all its parts.
    pub(super) fn name(&self) -> &str {
        &self.compose.project
    }

    /// Takes everything down and returns when docker-compose has. May be called again.
    pub(super) async fn down(&mut self) -> Result<(), DeployError> {
        judged(run_within(DOWN_WITHIN, self.down_command(), ENGINE).await).inspect(|()| self.is_down = true)
    }

    /// What to do about containers that could not be taken down.
    pub(super) fn left(&self, why: &DeployError) -> String {
        let filter = format!("--filter label={CLUSTER_LABEL}={}", self.name());
        format!("containers may be left ({}): look for them with `docker ps --all {filter}`", Chain(why))
    }

    fn down_command(&self) -> Command {
        self.compose.command(&["down", "--volumes", "--remove-orphans", "--timeout", "1"])
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.is_down {
            return;
        }
        let mut down = self.down_command();
        down.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        match down.spawn() {
            // Waits only so that no zombie stays while this process runs.
            Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
            Err(error) => tracing::error!(project = self.name(), %error, "containers are left"),
        }
    }
}

fn judged(down: io::Result<Ended>) -> Result<(), DeployError> {
    let step = "take its containers down";
    match down {
        Ok(ended) if ended.success => Ok(()),
        Ok(ended) => Err(failed(step, ended.first_error())),
        Err(error) => Err(failed(step, error)),
    }
}

/// The command of docker-compose on this machine.
async fn program() -> Result<Vec<String>, DeployError> {
    let known: [&[&str]; 2] = [&["docker-compose"], &["docker", "compose"]];
    for program in known {
        let program: Vec<String> = program.iter().map(|word| (*word).to_owned()).collect();
        let mut version = called(&program);
        version.arg("version");
        if run_within(ASK_WITHIN, version, ENGINE).await.is_ok_and(|ended| ended.success) {
            return Ok(program);
        }
    }
    Err(unavailable(
        "neither `docker-compose` nor `docker compose` runs",
        "install it (Debian: apt-get install docker-compose)",
    ))
}

fn called(program: &[String]) -> Command {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    command
}

/// Quotes a word, so that Compose reads it as one.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(15);

    /// The command starts another one, which holds a connection for as long as it lives.
    #[tokio::test]
    async fn a_command_that_is_dropped_takes_what_it_has_started_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script =
            format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; echo up >&3; exec sleep 1000' & wait");
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        let running = tokio::spawn(run(command));
        let (mut connection, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        let mut bytes = [0; 3];
        timeout(SOON, connection.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(&bytes, b"up\n");

        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        let mut rest = Vec::new();
        timeout(SOON, connection.read_to_end(&mut rest)).await.expect("it has ended").unwrap();
        assert!(rest.is_empty());
    }

    /// docker-compose as a script, with a file for what it is called with.
    fn compose(folder: &Path, script: &str) -> (Compose, PathBuf) {
        let calls = folder.join("calls");
        let script = format!("shift 2; echo \"$@\" >> '{}'; {script}", calls.display());
        let program = ["sh", "-c", &script, "docker-compose"].map(str::to_owned).to_vec();
        let compose = Compose {
            program,
            host: "unix:///nowhere".to_owned(),
            file: folder.join("docker-compose.yml"),
            project: "kv-1".to_owned(),
            flags: String::new(),
            context: folder.to_owned(),
        };
        (compose, calls)
    }

    /// The wait had no limit, on a thread that nothing could end.
    #[tokio::test]
    async fn an_up_that_hangs_is_killed_and_what_it_made_is_taken_down() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("[ \"$1\" = down ] || {{ sleep 1000 & echo $! > '{}'; wait; }}", pid.display());
        let (compose, calls) = compose(folder.path(), &script);
        let up = Project::up(compose, vec!["n1".to_owned()], Duration::from_millis(500));
        let error = timeout(SOON, up).await.expect("it has a limit").unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.contains("sh did not end within 500ms and was killed"), "{text}");
        assert!(!text.contains("left"), "{text}");
        let calls = std::fs::read_to_string(calls).unwrap();
        let calls: Vec<&str> = calls.lines().collect();
        assert_eq!(calls, ["up --detach --no-build n1", "down --volumes --remove-orphans --timeout 1"]);
        let pid = std::fs::read_to_string(pid).unwrap();
        // The kernel has the signal; a process that is not on a processor takes it when it has its turn.
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let gone = async {
            while !is_gone() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, gone).await.expect("what it had started is gone");
    }

    #[tokio::test]
    async fn containers_that_cannot_be_taken_down_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (compose, _) = compose(folder.path(), "echo \"ERROR: no $1\" >&2; exit 1");
        let error = Project::up(compose, vec!["n1".to_owned()], SOON).await.unwrap_err();
        let text = Chain(&error).to_string();
        assert!(
            text.contains("start its containers") && text.contains("ERROR: no up; containers may be left"),
            "{text}"
        );
        assert!(text.contains("ERROR: no down"), "{text}");
        assert!(text.contains("docker ps --all --filter label=watchkeeper.cluster=kv-1"), "{text}");
    }

    #[tokio::test]
    async fn a_command_that_ends_returns_how() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo WARNING: no >&2; echo ERROR: room >&2; exit 3"]);
        let ended = run(command).await.unwrap();
        assert_eq!((ended.success, ended.output.as_str()), (false, "out\n"));
        assert_eq!(
            (ended.error(), ended.first_error()),
            ("WARNING: no ERROR: room".into(), "ERROR: room".into())
        );
    }
}
