//! The API server of the kubeconfig.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::timeout;
use watchkeeper::report::error_chain;
use watchkeeper_scenario::DeployError;

use super::control::NAME;
use super::options::{K8sOptions, Reach};

/// A client of the API server, which has answered.
pub(super) fn connect(options: &K8sOptions) -> BoxFuture<'_, Result<(Config, Client), DeployError>> {
    connected(options).boxed()
}

async fn connected(options: &K8sOptions) -> Result<(Config, Client), DeployError> {
    let mut config = config(options).await?;
    config.connect_timeout = Some(options.answer_within);
    let silent = |reason: String| {
        unavailable(
            format!("the API server {} does not answer ({reason})", config.cluster_url),
            "check that the cluster of the kubeconfig runs",
        )
    };
    let client = Client::try_from(config.clone()).map_err(|error| silent(error_chain(&error)))?;
    match timeout(options.answer_within, client.apiserver_version()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(silent(error_chain(&error))),
        Err(_) => return Err(silent(format!("waited {:?}", options.answer_within))),
    }
    Ok((config, client))
}

async fn config(options: &K8sOptions) -> Result<Config, DeployError> {
    let K8sOptions { kubeconfig, context, .. } = options;
    let chosen = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = match (kubeconfig, context) {
        (Some(path), _) => {
            let read = Kubeconfig::read_from(path).map_err(|error| error_chain(&error));
            match read {
                Ok(read) => {
                    Config::from_custom_kubeconfig(read, &chosen).await.map_err(|error| error_chain(&error))
                }
                Err(error) => Err(error),
            }
        }
        (None, Some(_)) => Config::from_kubeconfig(&chosen).await.map_err(|error| error_chain(&error)),
        (None, None) => Config::infer().await.map_err(|error| error_chain(&error)),
    };
    config.map_err(|reason| {
        unavailable(
            format!("there is no usable kubeconfig ({reason})"),
            "set KUBECONFIG, or name the file and its context",
        )
    })
}

/// How pods are reached from here.
pub(super) fn reach(options: &K8sOptions) -> Reach {
    options.reach.unwrap_or_else(|| {
        // The kubelet sets it in every container.
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() { Reach::PodIp } else { Reach::PortForward }
    })
}

fn unavailable(missing: String, fix: &str) -> DeployError {
    DeployError::Unavailable { deployer: NAME.to_owned(), missing, fix: fix.to_owned() }
}
