//! The nodes that the flags of a command name, and the observation of them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::Notify;
use watchkeeper::report::debug_as_text;
use watchkeeper::{ObservationHandle, ObservationRuntimeError, ObservedSource};
use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::projection::wallet::AddWalletError;
use watchkeeper_chain::{ChainConfig, ChainSource, ChainView, Detail, Height, Start};
use watchkeeper_chain_ethereum::{Address, Endpoint, EndpointError, EthereumClient, NewHeads};

use super::chain_id::{Elsewhere, Search, Wanted};
use super::checkpoint::CheckpointError;
use super::condition::without_time;
use super::report::Reporter;
use super::watched::Observer;

/// The flags about nodes.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeFlags {
    /// A local node, by its HTTP address; several may be given
    #[arg(long, value_name = "URL", num_args = 1.., required = true)]
    pub(crate) rpc: Vec<String>,
    /// A node of the public network, with which local nodes are compared; several may be given
    #[arg(long, value_name = "URL", num_args = 1..)]
    public: Vec<String>,
    /// A WebSocket address whose new heads start a cycle early; several may be given
    #[arg(long, value_name = "URL", num_args = 1..)]
    ws: Vec<String>,
    /// The chain that the nodes must be on, by its number [default: the one that a node reports first]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) chain_id: Option<u64>,
    /// The height to begin at [default: 64 blocks below the head]
    #[arg(long, value_name = "HEIGHT", allow_negative_numbers = true)]
    pub(crate) from: Option<Height>,
    /// How often the nodes are asked, such as 500ms or 12s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
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
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl NodeFlags {
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

    /// The observation without its chain.
    fn config(&self, detail: Detail) -> ChainConfig {
        let start = self.from.map_or(Start::Recent(64), Start::Height);
        let defaults = ChainConfig::every(self.interval);
        let lighter_for = self.lighter_for.unwrap_or(defaults.lighter_for);
        let (lighter_after, unread_after) = (self.lighter_after, self.unread_after);
        ChainConfig { start, detail, lighter_after, lighter_for, unread_after, ..defaults }
    }

    /// The nodes and the observation of them; nothing is asked yet. Blocks are read as far as `detail`.
    pub(crate) fn open(&self, detail: Detail) -> Result<Setup, SetupError> {
        let (local, public) = (self.clients("--rpc", &self.rpc)?, self.clients("--public", &self.public)?);
        let wake = Arc::new(Notify::new());
        let sockets = each("--ws", &self.ws, |endpoint| NewHeads::follow(endpoint, Arc::clone(&wake)))?;
        let mut config = self.config(detail);
        let reporter = Arc::new(Reporter::new(self.json).expecting(detail));
        config.public_quorum = quorum(public.len(), config.public_quorum, &reporter);
        Ok(Setup { local, public, sockets, wake, config, reporter })
    }
}

/// What the flags stand for.
pub(crate) struct Setup {
    /// Names and clients.
    pub(crate) local: Vec<(String, EthereumClient)>,
    pub(crate) public: Vec<(String, EthereumClient)>,
    pub(crate) sockets: Vec<NewHeads>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) config: ChainConfig,
    pub(crate) reporter: Arc<Reporter>,
}

impl Setup {
    pub(crate) fn sources(&self) -> Vec<ObservedSource<ChainSource<EthereumClient>>> {
        let local = self.local.iter().map(|(name, client)| (name, ChainSource::local(client.clone())));
        let public = self.public.iter().map(|(name, client)| (name, ChainSource::public(client.clone())));
        local.chain(public).map(|(name, source)| ObservedSource::new(name, source)).collect()
    }

    /// Waits until a local node has reported this chain, unless `interrupted`: then prints what is known of the nodes,
    /// and returns `None`.
    ///
    /// # Errors
    ///
    /// [`Elsewhere`]: all local nodes are on chains that exclude this one.
    pub(crate) async fn find_chain(
        &self,
        wanted: Wanted,
        interrupted: impl Future<Output = ()>,
    ) -> Option<Result<ChainIdentity, Elsewhere>> {
        let text = wanted.text();
        let search = Search::new(wanted, &self.local);
        tokio::select! {
            biased;
            () = interrupted => {
                self.reporter.say("ended", format_args!("no local node has reported {text}"));
                search.report(&self.public, &self.reporter);
                None
            }
            found = search.find(self.config.interval, &self.reporter) => Some(found),
        }
    }

    /// Prints the head of each node.
    pub(crate) fn report(&self, handle: &ObservationHandle<Observer>, chain: &ChainView) {
        for (name, node) in &*chain.nodes {
            let head = node.head.map_or_else(|| "no head".to_owned(), |head| format!("at {}", head.height));
            let behind = chain.behind_target(name);
            let sync = behind
                .map_or_else(String::new, |behind| format!(", {behind} blocks behind the public chain"));
            let is = handle.why_stale(name);
            let is = without_time(&is);
            self.reporter.report("node", &format!("{name} {head}{sync}; {is}"), || {
                json!({ "node": &**name, "is": is, "height": node.head.map(|head| head.height), "behind": behind })
            });
        }
    }
}

/// Why an observation did not start, or its checkpoint was not written.
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
    /// The checkpoint cannot be resumed or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

debug_as_text!(SetupError);

pub(super) fn interval(text: &str) -> Result<Duration, &'static str> {
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
