//! Follows real endpoints until it is interrupted.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use watchkeeper::ObservationHandle;
use watchkeeper_chain::projection::wallet::Wallets;
use watchkeeper_chain::{Detail, Header};
use watchkeeper_chain_ethereum::{Address, AddressError};
use watchkeeper_console::{Look, Table};

use super::chain_id::{Elsewhere, Wanted};
use super::checkpoint::{Checkpoint, Keeper};
use super::heads;
use super::report::Reporter;
use super::setup::{NodeFlags, Setup, SetupError};
use super::wallets::Accounts;
use super::watched::{Ether, Observer, Seen, Watched, no_wallets};

/// The flags of `follow`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FollowFlags {
    #[command(flatten)]
    nodes: NodeFlags,
    /// An account whose balance is followed, from where the observation begins; several may be given
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    wallet: Vec<String>,
    /// A file that says where to go on: the next run begins there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// On a terminal, show a table of the nodes in place of lines; elsewhere lines are printed as without it
    #[arg(long, conflicts_with = "json")]
    table: bool,
}

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

/// Finds the chain of the flags and of the checkpoint, and goes on where that ends. `None` if it was interrupted.
async fn begin(
    setup: &mut Setup,
    NodeFlags { chain_id, from, .. }: &NodeFlags,
    accounts: &Accounts,
    kept: Option<(&Keeper, Checkpoint)>,
    interrupted: impl Future<Output = ()>,
) -> Result<Option<Wallets<Ether>>, SetupError> {
    let Some((keeper, last)) = kept else {
        if let Some(id) = *chain_id {
            // Nodes on other chains are waited for.
            let found = setup.find_chain(Wanted::Id(id), interrupted).await;
            let Some(Ok(found)) = found else { return Ok(None) };
            setup.config.chain = Some(found);
        }
        return Ok(Some(no_wallets()));
    };
    keeper.fits(&last, *chain_id, accounts)?;
    let wanted = Wanted::Exactly { chain: last.identity.clone(), given: chain_id.is_some() };
    match setup.find_chain(wanted, interrupted).await {
        None => return Ok(None),
        Some(Err(Elsewhere(found))) => return Err(keeper.other_chain(&last.identity, found).into()),
        Some(Ok(_)) => {}
    }
    setup.config = last.resume(&setup.config);
    let wallets = keeper.restore(last.state.record)?;
    if let [lowest, .., Header { height, hash, .. }] | [lowest @ Header { height, hash, .. }] =
        &last.headers[..]
    {
        let from = if from.is_some() { "; --from does not count" } else { "" };
        setup.reporter.say("resumed", format_args!("after block {height} ({hash:.8}){from}"));
        setup.reporter.begins_with(lowest.hash, keeper.if_nodes_are_right());
    }
    Ok(Some(wallets))
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
    // Only wallets need receipts.
    let detail = if wallet.is_empty() { Detail::Transactions } else { Detail::Results };
    let (keeper, last) = flags.checkpoint.map(Keeper::open).transpose()?.unzip();
    let mut setup = flags.nodes.open(detail)?;
    let interval = flags.nodes.interval;
    let accounts =
        Accounts::new(wallet, setup.local.iter().chain(&setup.public).cloned().collect(), interval);
    let reporter = Arc::clone(&setup.reporter);
    let interrupted = async {
        tokio::select! {
            () = interrupted => {}
            () = reporter.unread() => {}
        }
    };
    tokio::pin!(interrupted);
    let kept = keeper.as_ref().zip(last.flatten());
    let Some(wallets) = begin(&mut setup, &flags.nodes, &accounts, kept, &mut interrupted).await? else {
        accounts.report(None, &reporter);
        return Ok(());
    };
    let watched =
        Watched::resume(setup.sources(), setup.config.clone(), Some(Arc::clone(&setup.wake)), wallets)?;
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
    let keeping = async {
        let Some(keeper) = &keeper else { return Ok(()) };
        let kept = keeper.follow(handle.clone(), &accounts, &reporter).await;
        // It may have failed before the end.
        let _ = watched.runtime.stop().await;
        kept
    };
    let is_table = flags.table && Look::of_stdout() != Look::Lines;
    let printing = async {
        // The file before the lines: what nobody reads any more is known then.
        let observed = async {
            let table = async {
                if is_table {
                    show_nodes(&handle, &reporter).await;
                }
            };
            let lines = async {
                tokio::join!(reporter.follow(handle.clone()), reporter.follow_nodes(handle.clone(), interval))
            };
            tokio::join!(keeping, table, lines).0
        };
        tokio::select! {
            kept = observed => kept,
            never = heads::follow(&setup.sockets, interval, &reporter) => match never {},
        }
    };
    // Printing always runs to its end. It ends with the observation, which an interruption stops.
    tokio::pin!(printing);
    let kept = tokio::select! {
        // First, so that an interruption is noticed from the first line on.
        biased;
        () = async { stop.await; std::future::pending().await } => Ok(()),
        kept = &mut printing => kept,
        error = follow => {
            let _ = printing.await;
            return Err(error.into());
        }
    };
    let last = handle.latest_snapshot();
    if let Some(last) = &last {
        setup.report(&handle, &last.value.chain);
    }
    accounts.report(last.as_ref().map(|last| &last.value.view.1), &reporter);
    Ok(kept?)
}
