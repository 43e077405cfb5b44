//! Real endpoints, for as long as one likes.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use clap::Args;
use tokio::sync::Notify;
use watchkeeper::{ObservationRuntimeError, ObservedSource};
use watchkeeper_chain::adapter::ethereum::{Endpoint, EndpointError, EthereumClient, NewHeads};
use watchkeeper_chain::projection::wallet::AddWalletError;
use watchkeeper_chain::{ChainConfig, ChainSource, Height, Start};

use super::tell::Teller;
use super::watched::{Watched, ether, wallet};

/// What is to be followed.
#[derive(Clone, Debug, Args)]
pub(crate) struct FollowFlags {
    /// A node of ours, by its HTTP address; several may be given
    #[arg(long, value_name = "URL", required = true)]
    rpc: Vec<String>,
    /// A node of the public network, by which ours are measured; several may be given
    #[arg(long, value_name = "URL")]
    public: Vec<String>,
    /// A WebSocket address whose new heads start a look early; several may be given
    #[arg(long, value_name = "URL")]
    ws: Vec<String>,
    /// An account whose balance is followed, from where the observation begins; several may be given
    #[arg(long, value_name = "ADDRESS")]
    wallet: Vec<Address>,
    /// The height to begin at [default: 64 blocks below the head]
    #[arg(long, value_name = "HEIGHT")]
    from: Option<Height>,
    /// How often the nodes are asked, such as 500ms or 12s
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why nothing is followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// An address is of the wrong kind.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The observation did not start.
    #[error("cannot observe the nodes")]
    Observation(#[from] ObservationRuntimeError),
    /// A wallet was refused.
    #[error(transparent)]
    Wallet(#[from] AddWalletError),
}

/// Not left to the parser of flags, which would show the text, and with it what secret is in it.
fn parse(endpoint: &str) -> Result<Endpoint, EndpointError> {
    endpoint.parse()
}

/// Follows until `interrupted`, and then says what is known.
pub(crate) async fn run(
    flags: FollowFlags,
    interrupted: impl Future<Output = ()>,
) -> Result<(), FollowError> {
    let FollowFlags { rpc, public, ws, wallet: accounts, from, interval, json } = flags;
    let teller = Teller::new(json);
    let mut nodes = Vec::new();
    let named = |group: &str, nth: usize| format!("{group}{}", nth + 1);
    for (nth, endpoint) in rpc.into_iter().enumerate() {
        let source = ChainSource::local(EthereumClient::new(parse(&endpoint)?)?);
        nodes.push(ObservedSource::new(&named("rpc", nth), source));
    }
    for (nth, endpoint) in public.into_iter().enumerate() {
        let source = ChainSource::public(EthereumClient::new(parse(&endpoint)?)?);
        nodes.push(ObservedSource::new(&named("public", nth), source));
    }
    let wake = Arc::new(Notify::new());
    let mut heads = Vec::new();
    for endpoint in ws {
        heads.push(NewHeads::follow(parse(&endpoint)?, Arc::clone(&wake))?);
    }
    let start = from.map_or(Start::Recent(64), Start::Height);
    let config = ChainConfig { start, ..ChainConfig::every(interval) };
    let watched = Watched::start(nodes, config, Some(wake))?;
    let handle = watched.handle();
    let stop = async {
        interrupted.await;
        let _ = watched.runtime.stop().await;
    };
    let names: Vec<_> = (0..accounts.len()).map(|nth| named("wallet", nth)).collect();
    let add = async {
        let added = add_wallets(&watched, &names, &accounts).await;
        if added.is_err() {
            let _ = watched.runtime.stop().await;
        }
        added
    };
    let told = async {
        tokio::join!(teller.follow(handle.clone()), teller.follow_nodes(handle.clone()));
    };
    // Nobody may interrupt what has ended.
    let ended = async {
        tokio::select! {
            () = told => {}
            () = async { stop.await; std::future::pending().await } => {}
        }
    };
    let ((), added) = tokio::join!(ended, add);
    added?;
    drop(heads);
    let Some(last) = handle.latest_snapshot() else { return Ok(()) };
    let (chain, wallets) = (&last.value.chain, &last.value.view.1);
    for (name, node) in &*chain.nodes {
        let head = node.head.map_or_else(|| "no head".to_owned(), |head| format!("at {}", head.height));
        let behind = chain.behind_target(name);
        let sync =
            behind.map_or_else(String::new, |behind| format!(", {behind} blocks behind the public chain"));
        teller.say("node", format_args!("{name} {head}{sync}; {}", handle.why_stale(name)));
    }
    for name in &names {
        match wallets.balance(name) {
            Ok(balance) => teller.say("wallet", format_args!("{name} {} ether", ether(balance.total))),
            Err(error) => teller.say("wallet", format_args!("{error}")),
        }
    }
    Ok(())
}

/// Adds wallets as soon as it is known where the observation begins. What they have there is not asked for: what
/// is told is what came and went since.
async fn add_wallets(
    watched: &Watched,
    names: &[String],
    accounts: &[Address],
) -> Result<(), AddWalletError> {
    let mut watch = watched.handle().watch();
    let root = loop {
        let status = watch.status();
        if let Some(root) = status.snapshot.and_then(|snapshot| snapshot.value.view.1.root()) {
            break root;
        }
        if watch.changed().await.is_err() {
            return Ok(());
        }
    };
    for (name, account) in names.iter().zip(accounts) {
        watched.desk.add(wallet(name, *account, root.next, 0))?;
    }
    Ok(())
}
