//! What an application says of its nodes, whatever starts them.

use std::collections::BTreeMap;
#[cfg(any(feature = "local", feature = "k8s"))]
use std::time::Duration;

use watchkeeper::{DynError, async_trait};
use watchkeeper_scenario::Application;

/// Where one node of a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeAddress {
    /// The cluster's name, which no other cluster has.
    pub cluster: String,
    /// The node's name, such as `n1`.
    pub node: String,
    /// Its number, from 1; 0 if it has none.
    pub number: u64,
    /// Host and port by the name of the port, such as `client`: `127.0.0.1:40000`.
    pub ports: BTreeMap<String, String>,
}

impl NodeAddress {
    /// Host and port of the port called `name`.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&str> {
        self.ports.get(name).map(String::as_str)
    }
}

/// How long one question to a node may take: another one may be answered where this one hangs. It is that of
/// `PerSource` as well.
#[cfg(any(feature = "local", feature = "k8s"))]
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One question whether a node serves; the error is the reason.
#[cfg(any(feature = "local", feature = "k8s"))]
pub(crate) async fn asked<A: Application, N: NodeAccess<A> + ?Sized>(
    access: &N,
    client: &A::NodeClient,
) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_WITHIN, access.probe(client)).await {
        Ok(answer) => answer.map_err(|error| watchkeeper::report::error_chain(&*error)),
        Err(_) => Err(format!("no answer within {ANSWER_WITHIN:?}")),
    }
}

/// How the nodes of an application are reached; the same for every deployer.
#[async_trait]
pub trait NodeAccess<A: Application>: Send + Sync + 'static {
    /// Makes a client of the node at this address. It is called again when the address changes.
    ///
    /// # Errors
    ///
    /// No client can be made of this address; the text says why.
    fn client(&self, at: &NodeAddress) -> Result<A::NodeClient, DynError>;

    /// Asks the node whether it serves.
    ///
    /// Each question may take 5 s; one that has no answer by then is dropped, and another one is asked.
    ///
    /// # Errors
    ///
    /// It does not serve yet; the last error is what is reported of a node that does not become ready.
    async fn probe(&self, client: &A::NodeClient) -> Result<(), DynError>;
}

#[cfg(all(test, any(feature = "local", feature = "k8s")))]
mod tests {
    use super::*;

    /// A node whose client is how long its probe takes.
    struct Slow;

    impl Application for Slow {
        type Deployment = u64;
        type NodeClient = Duration;
    }

    #[async_trait]
    impl NodeAccess<Slow> for Slow {
        fn client(&self, _: &NodeAddress) -> Result<Duration, DynError> {
            Ok(Duration::ZERO)
        }

        async fn probe(&self, takes: &Duration) -> Result<(), DynError> {
            tokio::time::sleep(*takes).await;
            Ok(())
        }
    }

    /// The deployer for processes dropped a question after 2 s, and the one for pods never did.
    #[tokio::test(start_paused = true)]
    async fn a_question_may_take_five_seconds_and_no_more() {
        assert_eq!(asked(&Slow, &Duration::from_millis(4_900)).await, Ok(()));
        let began = tokio::time::Instant::now();
        assert_eq!(asked(&Slow, &Duration::MAX).await, Err("no answer within 5s".to_owned()));
        assert_eq!(began.elapsed(), ANSWER_WITHIN);
    }
}
