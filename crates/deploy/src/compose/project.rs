//! docker-compose, for one project.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use watchkeeper::report::error_chain;
use watchkeeper_scenario::DeployError;

use super::command::{Ended, run_within};
use super::manifest::{Manifest, invalid_compose};
use super::nodes::CLUSTER_LABEL;
use super::{failed, unavailable};
use crate::shared::unique;

/// How long docker-compose may take to print its version or to check its file.
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// How long containers may still take to be made after nobody waits for them any more.
const GRACE: Duration = Duration::from_secs(90);
/// How long everything may take to go down.
const DOWN_WITHIN: Duration = Duration::from_secs(90);
/// What to look for when docker-compose does not end.
const ENGINE: &str = "see whether the engine hangs";
/// The variable that the Compose file may use as the context of its builds.
const CONTEXT: &str = "WATCHKEEPER_CONTEXT";

/// Runs `command` on this thread, also while the caller's runtime shuts down.
///
/// Once `dropped` is cancelled it has only `grace` left: what an engine was asked for by a killed command it may make
/// after everything was taken down.
fn finish(
    within: Duration,
    grace: Duration,
    command: Command,
    dropped: &CancellationToken,
) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let out_of_grace = async {
        dropped.cancelled().await;
        sleep(grace).await;
    };
    runtime.block_on(async {
        tokio::select! {
            ended = run_within(within, command, ENGINE) => ended,
            () = out_of_grace => Err(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it any more")),
        }
    })
}

/// How docker-compose is called for one project.
#[derive(Clone, Debug)]
pub(super) struct Compose {
    /// `docker-compose`, or `docker compose`.
    program: Vec<String>,
    host: String,
    file: PathBuf,
    project: String,
    environment: Vec<(String, String)>,
}

impl Compose {
    /// Finds docker-compose, and makes a new project of `file`, whose name begins with `app`.
    pub(super) async fn find(
        host: &str,
        file: &Path,
        app: &str,
        environment: Vec<(String, String)>,
    ) -> Result<Self, DeployError> {
        let program = program().await?;
        let project = format!("{app}-{}", unique());
        Ok(Self { program, host: host.to_owned(), file: file.to_owned(), project, environment })
    }

    pub(super) fn with_context(mut self, context: &Path) -> Self {
        self.environment.push((CONTEXT.to_owned(), context.to_string_lossy().into_owned()));
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = called(&self.program);
        command
            .arg("--file")
            .arg(&self.file)
            .args(args)
            .env("DOCKER_HOST", &self.host)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("COMPOSE_PROJECT_NAME", &self.project)
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

    /// Builds the images of the services, `within` this time; what goes into them is built before.
    pub(super) async fn build(
        &self,
        manifest: &Manifest,
        services: &[String],
        within: Duration,
    ) -> Result<(), DeployError> {
        let step = "build its image";
        let mut build = self.command(&["build"]);
        build.args(services);
        let built = run_within(within, build, ENGINE).await;
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
        Self::up_with(compose, services, within, GRACE).await
    }

    async fn up_with(
        compose: Compose,
        services: Vec<String>,
        within: Duration,
        grace: Duration,
    ) -> Result<Self, DeployError> {
        let step = "start its containers";
        // The project lives on a blocking thread, which the runtime waits for when it shuts down. If the
        // future is dropped, the project is dropped there, after the last container was made.
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let work = move || {
            let mut project = Self { compose, is_down: false };
            let mut up = project.compose.command(&["up", "--detach", "--no-build"]);
            up.args(services);
            let problem = match finish(within, grace, up, &dropped) {
                // If nobody takes it any more, it is dropped.
                Ok(ended) if ended.success => return Ok(project),
                Ok(ended) => ended.first_error(),
                Err(error) => error.to_string(),
            };
            if dropped.is_cancelled() {
                // Nobody waits: the project is taken down as it is dropped.
                return Err(failed(step, problem));
            }
            // What failed first comes first.
            Err(match judged(finish(DOWN_WITHIN, DOWN_WITHIN, project.down_command(), &dropped)) {
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
        format!(
            "containers may be left ({}): look for them with `docker ps --all {filter}`",
            error_chain(why)
        )
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use watchkeeper::until;

    use super::*;

    const SOON: Duration = Duration::from_secs(15);

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
            environment: Vec::new(),
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
        let text = error_chain(&error);
        assert!(text.contains("sh did not end within 500ms and was killed"), "{text}");
        assert!(!text.contains("left"), "{text}");
        let calls = std::fs::read_to_string(calls).unwrap();
        let calls: Vec<&str> = calls.lines().collect();
        assert_eq!(calls, ["up --detach --no-build n1", "down --volumes --remove-orphans --timeout 1"]);
        let pid = std::fs::read_to_string(pid).unwrap();
        // The kernel has the signal; a process that is not on a processor takes it when it has its turn.
        let is_gone = || async {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        until("what it had started is gone", is_gone).within(SOON).await.unwrap();
    }

    /// With a long limit, the end of the program waited for it.
    #[tokio::test]
    async fn an_up_that_is_dropped_ends_soon_and_what_it_made_is_taken_down() {
        let folder = tempfile::tempdir().unwrap();
        let (compose, calls) = compose(folder.path(), "[ \"$1\" = down ] || sleep 1000");
        let (hour, grace) = (Duration::from_secs(3600), Duration::from_millis(100));
        let up = Project::up_with(compose, vec!["n1".to_owned()], hour, grace);
        let called = |what: &'static str| {
            let calls = calls.clone();
            let is_called = move || {
                let text = std::fs::read_to_string(&calls).unwrap_or_default();
                async move { text.contains(what) }
            };
            until(what, is_called).within(SOON)
        };
        tokio::select! {
            _ = up => panic!("it hangs"),
            begun = called("up --detach") => begun.unwrap(),
        }
        called("down --volumes").await.unwrap();
    }

    #[tokio::test]
    async fn containers_that_cannot_be_taken_down_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (compose, _) = compose(folder.path(), "echo \"ERROR: no $1\" >&2; exit 1");
        let error = Project::up(compose, vec!["n1".to_owned()], SOON).await.unwrap_err();
        let text = error_chain(&error);
        assert!(
            text.contains("start its containers") && text.contains("ERROR: no up; containers may be left"),
            "{text}"
        );
        assert!(text.contains("ERROR: no down"), "{text}");
        assert!(text.contains("docker ps --all --filter label=watchkeeper.cluster=kv-1"), "{text}");
    }
}
