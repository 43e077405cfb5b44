//! The errors of the API server.

use std::time::Duration;

use kube::core::Status;
use watchkeeper::DynError;
use watchkeeper::report::{debug_as_text, one_line};

/// Bytes shown of a message of the API server.
const MESSAGE: usize = 2000;

/// Why the cluster's API did not do what was asked. Each text says what was asked for, and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum K8sError {
    /// The API server does not answer: try again.
    #[error("cannot {doing}: the API server does not answer; check the server that the kubeconfig names")]
    Unreachable {
        /// What was requested.
        doing: String,
        /// The error of the connection.
        source: kube::Error,
    },
    /// The API server does not accept the credentials.
    #[error("cannot {doing}: the API server does not accept the credentials ({message}); log in again")]
    Unauthorized {
        /// What was requested.
        doing: String,
        /// The message of the API server.
        message: String,
    },
    /// The account may not do this.
    #[error("cannot {doing}: the account may not ({message}); give it a role that allows that")]
    Forbidden {
        /// What was requested.
        doing: String,
        /// The message of the API server: who, what and where.
        message: String,
    },
    /// There is no such object, or no such kind.
    #[error("cannot {doing}: {message}; something else may have deleted it")]
    NotFound {
        /// What was requested.
        doing: String,
        /// The message of the API server.
        message: String,
    },
    /// The object exists, or another client has changed or owns it.
    #[error("cannot {doing}: {message}; choose another name, or delete what is there")]
    Conflict {
        /// What was requested.
        doing: String,
        /// The message of the API server.
        message: String,
    },
    /// The API server refused for another reason.
    #[error("cannot {doing}: the API server answered {code} {reason}: {message}; fix what it names")]
    Refused {
        /// What was requested.
        doing: String,
        /// The HTTP status.
        code: u16,
        /// Why, for programs.
        reason: String,
        /// Why, for people.
        message: String,
    },
    /// The answer cannot be used, or the request could not be made.
    #[error(
        "cannot {doing}: the answer cannot be used; check that the server is a Kubernetes API of 1.33 or newer"
    )]
    Unusable {
        /// What was requested.
        doing: String,
        /// What is wrong.
        source: kube::Error,
    },
    /// The pods are there and do not serve.
    #[error("not ready within {within:?}: {}", waiting.join("; "))]
    NotReady {
        /// How long the deployer waited.
        within: Duration,
        /// The nodes that are not ready: the name, a colon, the status of the pod, and the end of its log if it has one.
        waiting: Vec<String>,
    },
    /// The node has no pod at the moment.
    #[error("{node} has no pod at the moment: the StatefulSet has yet to make it, wait until it is ready")]
    NoPod {
        /// Which node.
        node: String,
    },
    /// What was deleted is still there.
    #[error("{what} is still there after {within:?}: look for finalizers with `kubectl get {what} -o yaml`")]
    NotGone {
        /// Kind and name.
        what: String,
        /// How long the deployer waited.
        within: Duration,
    },
    /// No port of this machine could be opened for forwarding.
    #[error(
        "cannot listen on this machine to forward to {pod}: close files, or raise their limit (ulimit -n)"
    )]
    Forward {
        /// The pod.
        pod: String,
        /// Why.
        source: std::io::Error,
    },
    /// The application makes no client of a node's address.
    #[error("no client can be made of the node {node} at {at}: give its container the ports that it needs")]
    NoClient {
        /// The node.
        node: String,
        /// Its ports.
        at: String,
        /// Why.
        source: DynError,
    },
    /// The namespace belongs to another run.
    #[error("the namespace {namespace} is not of this run, and is left alone: its owner has to delete it")]
    NotOurs {
        /// Its name.
        namespace: String,
    },
    /// Two pods have one name.
    #[error(
        "the pods {first} and {second} are both called {node}, and {second} is left out: rename it, or remove its label"
    )]
    SameName {
        /// The name of the source.
        node: String,
        /// The pod that is the source.
        first: String,
        /// The pod that is left out.
        second: String,
    },
    /// The deployment failed, and what it had made by then could not be deleted.
    #[error(
        "{failed}; the namespace {namespace} is left: delete it with `kubectl delete namespace {namespace}`"
    )]
    Left {
        /// Why the deployment failed.
        failed: String,
        /// What is left, with all that is in it.
        namespace: String,
        /// Why it is left.
        source: Box<K8sError>,
    },
    /// The pods are no longer followed.
    #[error("the pods are no longer followed: the cluster was shut down, deploy another one")]
    Ended,
}

debug_as_text!(K8sError);

impl K8sError {
    /// Classifies an error of `doing`, a phrase such as "list pods".
    pub(super) fn of(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |error| match error {
            kube::Error::Api(status) => Self::status(doing, &status),
            source @ (kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_)) => {
                Self::Unreachable { doing, source }
            }
            kube::Error::Auth(error) => {
                Self::Unauthorized { doing, message: one_line(&error.to_string(), MESSAGE) }
            }
            source => Self::Unusable { doing, source },
        }
    }

    pub(super) fn status(doing: String, status: &Status) -> Self {
        let message = one_line(&status.message, MESSAGE);
        match status.code {
            401 => Self::Unauthorized { doing, message },
            403 => Self::Forbidden { doing, message },
            404 => Self::NotFound { doing, message },
            409 => Self::Conflict { doing, message },
            code => Self::Refused { doing, code, reason: status.reason.clone(), message },
        }
    }
}
