//! Real endpoints, for as long as one likes.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, AddressError};
use clap::Args;
use serde_json::json;
use tokio::sync::Notify;
use watchkeeper::{ObservationRuntimeError, ObservedSource};
use watchkeeper_chain::adapter::ethereum::{Endpoint, EndpointError, EthereumClient, NewHeads};
use watchkeeper_chain::projection::wallet::AddWalletError;
use watchkeeper_chain::{ChainConfig, ChainSource, Height, Start};

use super::chain_id;
use super::report::Reporter;
use super::wallets::Accounts;
use super::watched::Watched;

use crate::error_text::debug_as_text;

/// What is to be followed.
#[derive(Clone, Debug, Args)]
pub(crate) struct FollowFlags {
    /// A node of ours, by its HTTP address; several may be given
    #[arg(long, value_name = "URL", num_args = 1.., required = true)]
    rpc: Vec<String>,
    /// A node of the public network, by which ours are measured; several may be given
    #[arg(long, value_name = "URL", num_args = 1..)]
    public: Vec<String>,
    /// A WebSocket address whose new heads start a look early; several may be given
    #[arg(long, value_name = "URL", num_args = 1..)]
    ws: Vec<String>,
    /// An account whose balance is followed, from where the observation begins; several may be given
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    wallet: Vec<String>,
    /// The chain that the nodes must be on, by its number [default: the one that a node tells first]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    chain_id: Option<u64>,
    /// The height to begin at [default: 64 blocks below the head]
    #[arg(long, value_name = "HEIGHT", allow_negative_numbers = true)]
    from: Option<Height>,
    /// How often the nodes are asked, such as 500ms or 12s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why nothing is followed.
#[derive(thiserror::Error)]
pub(crate) enum SetupError {
    /// An address of a node is of the wrong kind.
    #[error("{flag} number {nth}")]
    Endpoint {
        /// The flag that it was given by.
        flag: &'static str,
        /// At which place of those that were given by this flag, from 1.
        nth: usize,
        /// What is wrong.
        source: EndpointError,
    },
    /// An address of an account is none.
    #[error("--wallet number {nth}: {reason}")]
    Account {
        /// At which place, from 1.
        nth: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// An account is given twice.
    #[error("--wallet {account} is given twice: give each account once")]
    Twice {
        /// Which.
        account: Address,
    },
    /// The observation did not start.
    #[error("cannot observe the nodes")]
    Observation(#[from] ObservationRuntimeError),
    /// A wallet was refused.
    #[error(transparent)]
    Wallet(#[from] AddWalletError),
}

debug_as_text!(SetupError);

/// Capitals say whether the digits are right (EIP-55); an address without any says nothing of it.
fn account(text: &str) -> Result<Address, &'static str> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let has = |is: fn(&char) -> bool| digits.chars().any(|digit| is(&digit));
    let parsed = if has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase) {
        Address::parse_checksummed(format!("0x{digits}"), None)
    } else {
        digits.parse().map_err(AddressError::from)
    };
    parsed.map_err(|error| match error {
        AddressError::InvalidChecksum => {
            "its capitals do not fit its digits (EIP-55), so one may be wrong; if it is right, give it in small \
             letters"
        }
        AddressError::Hex(_) => "an address has 40 hexadecimal digits behind 0x",
    })
}

/// Those that are given, each once.
fn accounts(texts: &[String]) -> Result<Vec<Address>, SetupError> {
    let mut once = HashSet::new();
    let accounts = (1..).zip(texts).map(|(nth, text)| {
        let account = account(text).map_err(|reason| SetupError::Account { nth, reason })?;
        if once.insert(account) { Ok(account) } else { Err(SetupError::Twice { account }) }
    });
    accounts.collect()
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    const ALLOWED: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(8);
    // Its own errors have parts of the text in them.
    let interval = humantime::parse_duration(text).ok();
    interval.filter(|interval| ALLOWED.contains(interval)).ok_or("give 1ms to 8h, such as 500ms or 12s")
}

/// What is made of each endpoint that was given by a flag. Not left to the parser of flags: which of several is
/// wrong could then be said only by showing it, and with it what secret is in it.
fn each<V>(
    flag: &'static str,
    endpoints: &[String],
    make: impl Fn(Endpoint) -> Result<V, EndpointError>,
) -> Result<Vec<V>, SetupError> {
    let made = (1..).zip(endpoints).map(|(nth, endpoint)| {
        endpoint.parse().and_then(&make).map_err(|source| SetupError::Endpoint { flag, nth, source })
    });
    made.collect()
}

/// How many public nodes must be fresh, if so many are given: all of a few, which is told.
fn quorum(given: usize, enough: usize, reporter: &Reporter) -> usize {
    if !(1..enough).contains(&given) {
        return enough;
    }
    reporter.say(
        "public",
        format_args!(
            "public nodes: {given}, and ours are measured while all of these are fresh; {enough} or more outvote one \
             that lags or lies"
        ),
    );
    given
}

/// Follows until `interrupted`, and then says what is known.
pub(crate) async fn run(flags: FollowFlags, interrupted: impl Future<Output = ()>) -> Result<(), SetupError> {
    let FollowFlags { rpc, public, ws, wallet, chain_id, from, interval, json } = flags;
    let wallet = accounts(&wallet)?;
    let named = |group: &'static str, clients: Vec<EthereumClient>| {
        (1..).zip(clients).map(move |(nth, client)| (format!("{group}{nth}"), client))
    };
    let ours: Vec<_> = named("rpc", each("--rpc", &rpc, EthereumClient::new)?).collect();
    let others: Vec<_> = named("public", each("--public", &public, EthereumClient::new)?).collect();
    let wake = Arc::new(Notify::new());
    let heads = each("--ws", &ws, |endpoint| NewHeads::follow(endpoint, Arc::clone(&wake)))?;
    let local = ours.iter().map(|(name, client)| (name, ChainSource::local(client.clone())));
    let public = others.iter().map(|(name, client)| (name, ChainSource::public(client.clone())));
    let nodes = local.chain(public).map(|(name, source)| ObservedSource::new(name, source)).collect();
    let reporter = Reporter::new(json);
    let start = from.map_or(Start::Recent(64), Start::Height);
    let mut config = ChainConfig { start, ..ChainConfig::every(interval) };
    config.public_quorum = quorum(others.len(), config.public_quorum, &reporter);
    let interrupted = async {
        tokio::select! {
            () = interrupted => {}
            () = reporter.unread() => {}
        }
    };
    tokio::pin!(interrupted);
    if let Some(id) = chain_id {
        config.chain = tokio::select! {
            biased;
            () = &mut interrupted => {
                reporter.say("ended", format_args!("no node of ours was on chain {id}"));
                return Ok(());
            }
            chain = chain_id::find(id, &ours, interval, &reporter) => Some(chain),
        };
    }
    let accounts = Accounts::new(wallet, ours.into_iter().chain(others).collect(), interval);
    let watched = Watched::start(nodes, config, Some(wake))?;
    let handle = watched.handle();
    let stop = async {
        interrupted.await;
        let _ = watched.runtime.stop().await;
    };
    let follow = async {
        // What the first look finds is told by the second, which need not wait for the interval. It is refused only
        // by an observation that is over, and then that is told.
        let _ = watched.runtime.control().poll_now().await;
        if let Err(error) = accounts.follow(&watched, &reporter).await {
            let _ = watched.runtime.stop().await;
            return error;
        }
        std::future::pending().await
    };
    let told = async {
        tokio::join!(reporter.follow(handle.clone()), reporter.follow_nodes(handle.clone()));
    };
    // Whatever is told is told to its end; nobody may interrupt what has ended.
    tokio::pin!(told);
    let refused = tokio::select! {
        // The first to be begun: an interruption is heard from the first line on.
        biased;
        () = async { stop.await; std::future::pending().await } => None,
        () = &mut told => None,
        error = follow => {
            told.await;
            Some(error)
        }
    };
    if let Some(error) = refused {
        return Err(error.into());
    }
    drop(heads);
    let Some(last) = handle.latest_snapshot() else { return Ok(()) };
    let (chain, wallets) = (&last.value.chain, &last.value.view.1);
    for (name, node) in &*chain.nodes {
        let head = node.head.map_or_else(|| "no head".to_owned(), |head| format!("at {}", head.height));
        let behind = chain.behind_target(name);
        let sync =
            behind.map_or_else(String::new, |behind| format!(", {behind} blocks behind the public chain"));
        let is = handle.why_stale(name);
        reporter.tell("node", &format!("{name} {head}{sync}; {is}"), || {
            json!({ "node": &**name, "is": is, "height": node.head.map(|head| head.height), "behind": behind })
        });
    }
    accounts.tell(wallets, &reporter);
    Ok(())
}
