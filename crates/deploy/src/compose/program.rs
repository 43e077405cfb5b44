//! What an application says of its containers.

use std::path::{Path, PathBuf};

use watchkeeper::{DynError, async_trait};
use watchkeeper_scenario::{Application, DeployError};

use crate::NodeAccess;

/// How an application runs in the services of a Compose file.
///
/// # Examples
///
/// Nodes whose image is there already:
///
/// ```
/// use watchkeeper_deploy::compose::{ComposeProgram, first_services};
/// use watchkeeper_deploy::{NodeAccess, NodeAddress};
/// use watchkeeper_scenario::{Application, DynError, async_trait};
///
/// struct Shop;
/// impl Application for Shop {
///     type Deployment = u64; // how many nodes
///     type NodeClient = String; // where one is
/// }
///
/// #[async_trait]
/// impl NodeAccess<Shop> for Shop {
///     fn client(&self, at: &NodeAddress) -> Result<String, DynError> {
///         Ok(at.port("client").ok_or("label its container with watchkeeper.port")?.to_owned())
///     }
///
///     async fn probe(&self, node: &String) -> Result<(), DynError> {
///         Ok(tokio::net::TcpStream::connect(node).await.map(drop)?)
///     }
/// }
///
/// impl ComposeProgram<Shop> for Shop {
///     fn services(&self, nodes: &u64, in_file: &[String]) -> Result<Vec<String>, DynError> {
///         first_services(*nodes, in_file)
///     }
/// }
///
/// let in_file = ["n1", "n2", "n3"].map(str::to_owned);
/// assert_eq!(Shop.services(&2, &in_file).unwrap(), ["n1", "n2"]);
/// assert_eq!(
///     Shop.services(&4, &in_file).unwrap_err().to_string(),
///     "4 nodes are asked for, and the file has 1 to 3: ask for fewer, or add services to it",
/// );
/// ```
#[async_trait]
pub trait ComposeProgram<A: Application>: NodeAccess<A> {
    /// The services that a deployment means, of those `in_file`, which are sorted: `n10` comes after `n2`. Each is a node;
    /// other services start with them where the file's `depends_on` says so.
    ///
    /// # Errors
    ///
    /// The file has no such services; the text says why.
    fn services(&self, deployment: &A::Deployment, in_file: &[String]) -> Result<Vec<String>, DynError>;

    /// The variables that a deployment sets for the Compose file, such as flags for each node; default: none.
    ///
    /// `COMPOSE_PROJECT_NAME` is the cluster's name in any case.
    fn environment(&self, _deployment: &A::Deployment) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Makes the folder that images are built from, for the Compose file in `folder`, which uses it as
    /// `${WATCHKEEPER_CONTEXT}`; default: `None`, and no image is built.
    ///
    /// It is called for each deployment: what is up to date need not be made again.
    ///
    /// # Errors
    ///
    /// [`DeployError`]: it cannot be made.
    async fn build_context(&self, _folder: &Path) -> Result<Option<PathBuf>, DeployError> {
        Ok(None)
    }
}

/// The first `nodes` services of a file.
///
/// # Errors
///
/// `nodes` is 0, or the file has fewer.
pub fn first_services(nodes: u64, in_file: &[String]) -> Result<Vec<String>, DynError> {
    match usize::try_from(nodes).ok().and_then(|nodes| in_file.get(..nodes)) {
        Some(first) if nodes > 0 => Ok(first.to_vec()),
        _ => {
            let most = in_file.len();
            let problem = format!(
                "{nodes} nodes are asked for, and the file has 1 to {most}: ask for fewer, or add services to it"
            );
            Err(problem.into())
        }
    }
}

/// Quotes a word for the `command` of a service, so that Compose reads it as one.
///
/// # Examples
///
/// ```
/// use watchkeeper_deploy::compose::quoted;
///
/// assert_eq!(quoted("it's one"), r"'it'\''s one'");
/// ```
#[must_use]
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
