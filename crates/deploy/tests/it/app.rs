//! The application of the tests.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use watchkeeper::{DynError, async_trait};
use watchkeeper_deploy::local::{LocalCluster, LocalDeployer, LocalNode, NodeProgram, Readiness};
use watchkeeper_deploy::{NodeAccess, NodeAddress};
use watchkeeper_scenario::{Application, RunningCluster};

use crate::node::{ARGUMENTS, DATA, LISTEN, NAME, TO_STDERR};

/// The window of every wait.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The name of the port.
pub(crate) const PORT: &str = "client";

#[derive(Debug)]
pub(crate) struct App;

impl Application for App {
    /// How many nodes.
    type Deployment = u64;
    type NodeClient = Client;
}

/// A client of one node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Client {
    pub(crate) async fn ask(&self, line: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Whether it takes connections and answers nothing.
    pub(crate) async fn hangs(&self) -> bool {
        timeout(Duration::from_millis(200), self.ask("who")).await.is_err()
    }
}

/// What a node runs.
#[derive(Clone, Debug)]
pub(crate) enum Runs {
    /// This binary, on its reserved port.
    Node,
    /// This binary, on a port that it picks itself.
    NodeOnItsOwnPort,
    /// A script of `sh`: `$number`, `$data`, `$cluster` and `$port` are set.
    Script(&'static str),
    /// A program.
    Program(&'static str),
}

/// How the nodes are started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) runs: Runs,
    pub(crate) readiness: Readiness,
    pub(crate) names: fn(u64) -> String,
    pub(crate) ports: Vec<&'static str>,
    pub(crate) to_stderr: bool,
}

impl Program {
    /// A node that is ready when it answers.
    pub(crate) fn node() -> Self {
        let names = |number| format!("n{number}");
        Self { runs: Runs::Node, readiness: Readiness::Probe, names, ports: vec![PORT], to_stderr: false }
    }

    /// A script that is ready when it prints `ready`.
    pub(crate) fn script(script: &'static str) -> Self {
        let readiness = Readiness::Line("ready".to_owned());
        Self { runs: Runs::Script(script), readiness, ..Self::node() }
    }

    pub(crate) async fn start(self, nodes: u64) -> LocalCluster<App> {
        LocalDeployer::new(self).start(&nodes).await.unwrap()
    }
}

#[async_trait]
impl NodeAccess<App> for Program {
    fn client(&self, at: &NodeAddress) -> Result<Client, DynError> {
        let address = at.port(PORT).ok_or("the node has no port")?.to_owned();
        Ok(Client { name: at.node.clone(), address })
    }

    async fn probe(&self, client: &Client) -> Result<(), DynError> {
        let who = client.ask("who").await?;
        if who == client.name { Ok(()) } else { Err(format!("{who:?} answers there").into()) }
    }
}

impl NodeProgram<App> for Program {
    fn nodes(&self, deployment: &u64) -> u64 {
        *deployment
    }

    fn name(&self, number: u64) -> String {
        (self.names)(number)
    }

    fn ports(&self) -> &[&str] {
        &self.ports
    }

    fn command(&self, node: &LocalNode<'_>, _: &u64) -> Result<Command, DynError> {
        let mut command = match &self.runs {
            Runs::Program(program) => Command::new(program),
            Runs::Script(script) => {
                let mut command = Command::new("sh");
                let cluster = node.data.ancestors().nth(2).ok_or("no directory")?;
                command
                    .args(["-c", script])
                    .env("number", node.at.number.to_string())
                    .env("data", node.data)
                    .env("cluster", cluster)
                    .env("port", node.port_number(PORT)?.to_string());
                command
            }
            Runs::Node | Runs::NodeOnItsOwnPort => {
                let mut command = Command::new(std::env::current_exe()?);
                // The port of an earlier start, if it has picked one.
                let listen = node.at.port(PORT).unwrap_or("127.0.0.1:0");
                command.args(ARGUMENTS).env(LISTEN, listen).env(NAME, &node.at.node).env(DATA, node.data);
                command
            }
        };
        // Its panic would fill the part of the log that an error shows.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        if self.to_stderr {
            command.env(TO_STDERR, "1");
        }
        Ok(command)
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn address(&self, line: &str, at: &mut NodeAddress) -> Result<(), DynError> {
        let (name, address) = line.split_once(" listens on ").ok_or("it has another form")?;
        if !name.ends_with(&at.node) {
            return Err(format!("it is the line of {name:?}").into());
        }
        at.ports = BTreeMap::from([(PORT.to_owned(), address.to_owned())]);
        Ok(())
    }
}

pub(crate) fn client(cluster: &LocalCluster<App>, node: &str) -> Client {
    cluster.node_clients().get(node).unwrap()
}

/// Whether there is a process of this number that has not ended.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// How many processes have `text` in their command line or environment, this one left out.
pub(crate) fn processes_with(text: &str) -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let others = processes.filter(|entry| entry.file_name() != own.as_str());
    others
        .filter(|entry| {
            let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
            ["cmdline", "environ"].iter().any(|name| String::from_utf8_lossy(&read(name)).contains(text))
        })
        .count()
}
