//! Follows real endpoints until it is interrupted.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, AddressError};
use clap::Args;
use serde_json::json;
use tokio::sync::Notify;
use watchkeeper::{ObservationHandle, ObservationRuntimeError, ObservedSource};
use watchkeeper_chain::adapter::ethereum::{Endpoint, EndpointError, EthereumClient, NewHeads};
use watchkeeper_chain::projection::wallet::AddWalletError;
use watchkeeper_chain::{ChainConfig, ChainSource, Detail, Height, Start};
use watchkeeper_console::{Look, Table};

use super::chain_id::Search;
use super::condition::without_time;
use super::heads;
use super::report::Reporter;
use super::wallets::Accounts;
use super::watched::{Observer, Seen, Watched};

use watchkeeper::report::debug_as_text;

/// The flags of `follow`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FollowFlags {
    /// A local node, by its HTTP address; several may be given
    #[arg(long, value_name = "URL", num_args = 1.., required = true)]
    rpc: Vec<String>,
    /// A node of the public network, with which local nodes are compared; several may be given
    #[arg(long, value_name = "URL", num_args = 1..)]
    public: Vec<String>,
    /// A WebSocket address whose new heads start a cycle early; several may be given
    #[arg(long, value_name = "URL", num_args = 1..)]
    ws: Vec<String>,
    /// An account whose balance is followed, from where the observation begins; several may be given
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    wallet: Vec<String>,
    /// The chain that the nodes must be on, by its number [default: the one that a node reports first]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    chain_id: Option<u64>,
    /// The height to begin at [default: 64 blocks below the head]
    #[arg(long, value_name = "HEIGHT", allow_negative_numbers = true)]
    from: Option<Height>,
    /// How often the nodes are asked, such as 500ms or 12s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Believe the hashes that all nodes return: for chains that hash their headers otherwise than Ethereum
    #[arg(long)]
    trust_hashes: bool,
    /// After so many consecutive answers with a head that is not heavier, such as an ancestor, a node's last head is left
    #[arg(long, value_name = "N", default_value = "6", allow_negative_numbers = true, value_parser = count)]
    lighter_after: u32,
    /// After so much time with such answers it is left too [default: 10s, and 3 intervals if that is longer]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    lighter_for: Option<Duration>,
    /// After so much time a block is followed without what no node returns of it, such as its receipts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval)]
    unread_after: Duration,
    /// On a terminal, show a table of the nodes in place of lines; elsewhere lines are printed as without it
    #[arg(long, conflicts_with = "json")]
    table: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl FollowFlags {
    /// The nodes of a flag, named by it and their position.
    fn clients(
        &self,
        flag: &'static str,
        endpoints: &[String],
    ) -> Result<Vec<(String, EthereumClient)>, SetupError> {
        let group = flag.trim_start_matches('-');
        let clients = each(flag, endpoints, EthereumClient::new)?.into_iter();
        let trusting = |client: EthereumClient| {
            if self.trust_hashes { client.trusting_hashes() } else { client }
        };
        Ok((1..).zip(clients).map(|(nth, client)| (format!("{group}{nth}"), trusting(client))).collect())
    }

    /// The observation without its chain. Only wallets need receipts.
    fn config(&self) -> ChainConfig {
        let start = self.from.map_or(Start::Recent(64), Start::Height);
        let detail = if self.wallet.is_empty() { Detail::Transactions } else { Detail::Results };
        let defaults = ChainConfig::every(self.interval);
        let lighter_for = self.lighter_for.unwrap_or(defaults.lighter_for);
        let (lighter_after, unread_after) = (self.lighter_after, self.unread_after);
        ChainConfig { start, detail, lighter_after, lighter_for, unread_after, ..defaults }
    }
}

/// Why `follow` did not start.
#[derive(thiserror::Error)]
pub(crate) enum SetupError {
    /// An address of a node is invalid.
    #[error("{flag} number {nth}")]
    Endpoint {
        /// The flag.
        flag: &'static str,
        /// Its position among the values of this flag, from 1.
        nth: usize,
        /// What is wrong.
        source: EndpointError,
    },
    /// An address of an account is invalid.
    #[error("--wallet number {nth}: {reason}")]
    Account {
        /// Its position, from 1.
        nth: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// An account is given twice.
    #[error("--wallet {account} is given twice: give each account once")]
    Twice {
        /// The account.
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

/// Capitals are a checksum of the digits (EIP-55); an address without capitals has none.
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
        AddressError::Hex(_) => "an address has 40 hexadecimal digits after 0x",
    })
}

/// Parses the accounts; each may be given once.
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
    // Its errors contain parts of the text.
    let interval = humantime::parse_duration(text).ok();
    interval.filter(|interval| ALLOWED.contains(interval)).ok_or("give 1ms to 8h, such as 500ms or 12s")
}

fn count(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("give a number from 1, such as 6")
}

/// Parses the endpoints of a flag. The parser of flags could name the wrong one of several only by printing it, with
/// any secret in it.
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

/// How many public nodes must be fresh if `given` are configured. If that is fewer than `enough`, all must be, and a
/// line says so.
fn quorum(given: usize, enough: usize, reporter: &Reporter) -> usize {
    if !(1..enough).contains(&given) {
        return enough;
    }
    reporter.say(
        "public",
        format_args!(
            "public nodes: {given}, and local nodes are compared with them while all are fresh; {enough} or more \
             outvote one that lags or lies"
        ),
    );
    given
}

/// Shows the nodes in a table until the observation ends.
async fn show_nodes(handle: &ObservationHandle<Observer>, reporter: &Reporter) {
    let _hold = reporter.hold();
    let head =
        |seen: &Seen, name: &str| {
            let head = seen.chain.nodes.get(name)?.head?;
            let behind = seen.chain.behind_target(name).filter(|behind| *behind > 0);
            Some(behind.map_or_else(
                || head.height.to_string(),
                |behind| format!("{}, {behind} behind", head.height),
            ))
        };
    // A terminal that has gone ends the table, and the observation goes on.
    let _ = Table::of(handle, head).run(handle.stopped()).await;
}

/// Follows until `interrupted`, and then prints the state of nodes and wallets.
pub(crate) async fn run(flags: FollowFlags, interrupted: impl Future<Output = ()>) -> Result<(), SetupError> {
    let wallet = accounts(&flags.wallet)?;
    let (ours, others) = (flags.clients("--rpc", &flags.rpc)?, flags.clients("--public", &flags.public)?);
    let wake = Arc::new(Notify::new());
    let sockets = each("--ws", &flags.ws, |endpoint| NewHeads::follow(endpoint, Arc::clone(&wake)))?;
    let local = ours.iter().map(|(name, client)| (name, ChainSource::local(client.clone())));
    let public = others.iter().map(|(name, client)| (name, ChainSource::public(client.clone())));
    let nodes = local.chain(public).map(|(name, source)| ObservedSource::new(name, source)).collect();
    let mut config = flags.config();
    let reporter = Reporter::new(flags.json).expecting(config.detail);
    config.public_quorum = quorum(others.len(), config.public_quorum, &reporter);
    let FollowFlags { interval, chain_id, .. } = flags;
    let interrupted = async {
        tokio::select! {
            () = interrupted => {}
            () = reporter.unread() => {}
        }
    };
    tokio::pin!(interrupted);
    let accounts = Accounts::new(wallet, ours.iter().chain(&others).cloned().collect(), interval);
    if let Some(id) = chain_id {
        let search = Search::new(id, &ours);
        config.chain = tokio::select! {
            biased;
            () = &mut interrupted => {
                reporter.say("ended", format_args!("no local node has reported chain {id}"));
                search.report(&others, &reporter);
                accounts.report(None, &reporter);
                return Ok(());
            }
            chain = search.find(interval, &reporter) => Some(chain),
        };
    }
    let watched = Watched::start(nodes, config, Some(wake))?;
    let handle = watched.handle();
    let stop = async {
        interrupted.await;
        let _ = watched.runtime.stop().await;
    };
    let follow = async {
        // The second cycle emits what the first one found: it need not wait for the interval. The request fails only
        // after the end of the observation, which is printed anyway.
        let _ = watched.runtime.control().poll_now().await;
        if let Err(error) = accounts.follow(&watched, &reporter).await {
            let _ = watched.runtime.stop().await;
            return error;
        }
        std::future::pending().await
    };
    let is_table = flags.table && Look::of_stdout() != Look::Lines;
    let printing = async {
        let observed = async {
            let table = async {
                if is_table {
                    show_nodes(&handle, &reporter).await;
                }
            };
            let (lines, nodes) =
                (reporter.follow(handle.clone()), reporter.follow_nodes(handle.clone(), interval));
            tokio::join!(table, lines, nodes);
        };
        tokio::select! {
            () = observed => {}
            never = heads::follow(&sockets, interval, &reporter) => match never {},
        }
    };
    // Printing always runs to its end. It ends with the observation, which an interruption stops.
    tokio::pin!(printing);
    let refused = tokio::select! {
        // First, so that an interruption is noticed from the first line on.
        biased;
        () = async { stop.await; std::future::pending().await } => None,
        () = &mut printing => None,
        error = follow => {
            printing.await;
            Some(error)
        }
    };
    if let Some(error) = refused {
        return Err(error.into());
    }
    let Some(last) = handle.latest_snapshot() else {
        accounts.report(None, &reporter);
        return Ok(());
    };
    let (chain, wallets) = (&last.value.chain, &last.value.view.1);
    for (name, node) in &*chain.nodes {
        let head = node.head.map_or_else(|| "no head".to_owned(), |head| format!("at {}", head.height));
        let behind = chain.behind_target(name);
        let sync =
            behind.map_or_else(String::new, |behind| format!(", {behind} blocks behind the public chain"));
        let is = handle.why_stale(name);
        let is = without_time(&is);
        reporter.report("node", &format!("{name} {head}{sync}; {is}"), || {
            json!({ "node": &**name, "is": is, "height": node.head.map(|head| head.height), "behind": behind })
        });
    }
    accounts.report(Some(wallets), &reporter);
    Ok(())
}
