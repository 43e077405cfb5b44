//! Steps about the chain that is observed, as [`with_chain_steps`] adds them.

use std::pin::Pin;

use cucumber::Step;
use cucumber::step::{Collection, Context};
use regex::Regex;
use watchkeeper::wait::Unmet;
use watchkeeper::{ObservationHandle, Observer};
use watchkeeper_chain::projection::inclusion::InclusionWaits;
use watchkeeper_chain::projection::wallet::{Amount, BalanceError};
use watchkeeper_chain::{ChainView, Hash, Height};
use watchkeeper_cucumber::{Observed, StepError, parse_duration};

use crate::world::{Chain, ETHER, World};

type Seen = <Chain as Observer>::Snapshot;

/// The units of amounts, and how many wei each is.
const UNITS: [(&str, Amount); 3] = [("ether", ETHER as Amount), ("gwei", 1_000_000_000), ("wei", 1)];

/// Why a step about a chain failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainStepError {
    #[error("no chain is observed yet: begin with a Given step that starts its nodes")]
    NoChain,
    #[error("no node is called {name:?}; {}\n{report}", known_or_none(known, "nodes"))]
    UnknownNode { name: String, known: Vec<String>, report: Unmet },
    #[error("no transaction is called {name:?}; {}", known_or_none(known, "transactions"))]
    UnknownTransaction { name: String, known: Vec<String> },
    #[error("no wallet is called {name:?}; {}\n{report}", known_or_none(known, "wallets"))]
    UnknownWallet { name: String, known: Vec<String>, report: Unmet },
    #[error("{given:?} is no amount: give a whole number of one of {}, such as \"5 {}\"", units.join(", "), units[0])]
    Amount { given: String, units: Vec<&'static str> },
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Adds the steps about the chain to others, each under Given, When and Then.
///
/// A wait is met by answers to polls that began after its step, never by earlier ones.
pub(crate) fn with_chain_steps(own: Collection<World>) -> Collection<World> {
    let add = |steps: Collection<World>, (phrase, step): (&str, Step<World>)| {
        let Ok(regex) = Regex::new(&format!("^{phrase}$")) else {
            unreachable!("the patterns are constants")
        };
        steps.given(None, regex.clone(), step).when(None, regex.clone(), step).then(None, regex, step)
    };
    phrases().into_iter().fold(own, add)
}

fn phrases() -> [(&'static str, Step<World>); 6] {
    [
        ("all nodes share the same head within (.+)", |world, step| judged(share_the_head(world, step))),
        ("node \"([^\"]*)\" is in sync with the public chain within (.+)", |world, step| {
            judged(in_sync(world, step))
        }),
        (r#"node "([^"]*)" is (\d+) blocks? behind the public chain within (.+)"#, |world, step| {
            judged(behind(world, step))
        }),
        (r#"transaction "([^"]*)" is included at depth (\d+) within (.+)"#, |world, step| {
            judged(included(world, step))
        }),
        (r#"transaction "([^"]*)" is reorged out within (.+)"#, |world, step| {
            judged(reorged_out(world, step))
        }),
        (r#"wallet "([^"]*)" has at least (.+?) within (.+)"#, |world, step| judged(has(world, step))),
    ]
}

async fn share_the_head(world: &mut World, step: Context) -> Result<(), ChainStepError> {
    let [window] = words(step);
    let (window, chain) = (parse_duration(&window)?, observed(world)?);
    let wait = chain
        .eventually("all nodes share the same head", |seen| seen.chain.shared_head().is_some())
        .show(|seen| heads(&seen.chain))
        .within(window);
    world.observers().wait(wait).await?;
    Ok(())
}

async fn in_sync(world: &mut World, step: Context) -> Result<(), ChainStepError> {
    let [node, window] = words(step);
    let label = format!("node {node:?} is in sync with the public chain");
    stands(world, label, node, 0, &window).await
}

async fn behind(world: &mut World, step: Context) -> Result<(), ChainStepError> {
    let [node, given, window] = words(step);
    let blocks = count(&given, "blocks", 0)?;
    let label = format!("node {node:?} is {} behind the public chain", blocks_text(blocks));
    stands(world, label, node, blocks, &window).await
}

/// Waits until the public target is this many blocks ahead of the node.
async fn stands(
    world: &mut World,
    label: String,
    node: String,
    blocks: Height,
    window: &str,
) -> Result<(), ChainStepError> {
    let (window, chain) = (parse_duration(window)?, observed(world)?);
    let (judge, shown) = (node.clone(), node.clone());
    let wait = chain
        .eventually(label, move |seen| seen.chain.behind_target(&judge) == Some(blocks))
        .show(move |seen| distance(&seen.chain, &shown))
        .within(window);
    match world.observers().wait(wait).await {
        Err(StepError::Unmet(report)) => {
            let known = known(&chain, |seen| seen.chain.nodes.keys().map(ToString::to_string).collect());
            if known.contains(&node) {
                return Err(StepError::Unmet(report).into());
            }
            Err(ChainStepError::UnknownNode { name: node, known, report })
        }
        ended => Ok(ended.map(drop)?),
    }
}

async fn included(world: &mut World, step: Context) -> Result<(), ChainStepError> {
    let [name, given, window] = words(step);
    let (depth, window, chain) =
        (count(&given, "blocks deep", 1)?, parse_duration(&window)?, observed(world)?);
    let wait = chain.included(transaction(world, name)?, depth).after(chain.mark()).within(window);
    world.observers().wait(wait).await?;
    Ok(())
}

async fn reorged_out(world: &mut World, step: Context) -> Result<(), ChainStepError> {
    let [name, window] = words(step);
    let (window, chain) = (parse_duration(&window)?, observed(world)?);
    let wait = chain.reorged_out(transaction(world, name)?).after(chain.mark()).within(window);
    world.observers().wait(wait).await?;
    Ok(())
}

/// The wallet's total on the canonical branch counts, of all classes.
async fn has(world: &mut World, step: Context) -> Result<(), ChainStepError> {
    let [name, given, window] = words(step);
    let (least, window, chain) = (amount(&given)?, parse_duration(&window)?, observed(world)?);
    let (judge, shown) = (name.clone(), name.clone());
    let wait = chain
        .eventually(format!("wallet {name:?} has at least {given}"), move |seen| {
            seen.view.1.balance(&judge).is_ok_and(|balance| balance.total >= least)
        })
        .show(move |seen| match seen.view.1.balance(&shown) {
            Ok(balance) => format!("{shown} has {}", amount_text(balance.total)),
            Err(error) => error.to_string(),
        })
        .within(window);
    match world.observers().wait(wait).await {
        Err(StepError::Unmet(report)) => {
            let is_unknown = chain.latest_snapshot().is_none_or(|seen| {
                matches!(seen.value.view.1.balance(&name), Err(BalanceError::UnknownWallet { .. }))
            });
            if !is_unknown {
                return Err(StepError::Unmet(report).into());
            }
            let wallets = |seen: &Seen| seen.view.1.names().map(ToOwned::to_owned).collect();
            Err(ChainStepError::UnknownWallet { name, known: known(&chain, wallets), report })
        }
        ended => Ok(ended.map(drop)?),
    }
}

fn observed(world: &World) -> Result<ObservationHandle<Chain>, ChainStepError> {
    world.chain().ok_or(ChainStepError::NoChain)
}

fn transaction(world: &World, name: String) -> Result<Hash, ChainStepError> {
    let named = world.transactions();
    let unknown =
        || ChainStepError::UnknownTransaction { name: name.clone(), known: named.keys().cloned().collect() };
    named.get(&name).copied().ok_or_else(unknown)
}

/// The names in the latest snapshot, sorted.
fn known(chain: &ObservationHandle<Chain>, names: impl Fn(&Seen) -> Vec<String>) -> Vec<String> {
    let mut known = chain.latest_snapshot().map(|seen| names(&seen.value)).unwrap_or_default();
    known.sort_unstable();
    known
}

fn heads(chain: &ChainView) -> String {
    let head = |name| match chain.node(name).and_then(|node| node.head) {
        Some(head) => format!("{:.8} at height {}", head.hash, head.height),
        None => "no head".to_owned(),
    };
    let stale = |name| if chain.is_fresh(name) { "" } else { ", not fresh" };
    let nodes = chain.nodes.keys().map(|name| format!("{name} has {}{}", head(name), stale(name)));
    nodes.collect::<Vec<_>>().join("; ")
}

fn distance(chain: &ChainView, node: &str) -> String {
    let target = match chain.target {
        Some(target) => format!("the public chain is at height {}", target.height),
        None => "there is no public chain to compare with".to_owned(),
    };
    let behind = match chain.behind_target(node) {
        Some(blocks) => format!("{node} is {} behind", blocks_text(blocks)),
        None => format!("how far {node} is behind is unknown"),
    };
    format!("{target}, {behind}: {}", heads(chain))
}

fn blocks_text(blocks: Height) -> String {
    if blocks == 1 { "1 block".to_owned() } else { format!("{blocks} blocks") }
}

/// The captures of the pattern, in order.
fn words<const N: usize>(step: Context) -> [String; N] {
    // The first match is the whole step.
    let mut words = step.matches.into_iter().skip(1).map(|(_, word)| word);
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

fn count(given: &str, what: &'static str, least: u64) -> Result<u64, StepError> {
    match given.parse() {
        Ok(count) if count >= least => Ok(count),
        _ => Err(StepError::Count { given: given.to_owned(), what, least }),
    }
}

fn amount(given: &str) -> Result<Amount, ChainStepError> {
    let parsed = given.split_once(' ').and_then(|(number, unit)| {
        let (_, size) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        number.parse::<Amount>().ok()?.checked_mul(*size)
    });
    let units = || UNITS.iter().map(|(name, _)| *name).collect();
    parsed.ok_or_else(|| ChainStepError::Amount { given: given.to_owned(), units: units() })
}

/// The amount in the largest unit of which it is a whole number.
fn amount_text(amount: Amount) -> String {
    let whole = UNITS.iter().filter(|(_, size)| amount.is_multiple_of(*size));
    match whole.max_by_key(|(_, size)| *size) {
        Some((unit, size)) => format!("{} {unit}", amount / size),
        None => amount.to_string(),
    }
}

fn known_or_none(known: &[String], what: &str) -> String {
    if known.is_empty() {
        format!("there are no {what}")
    } else {
        format!("the {what} are {}", known.join(", "))
    }
}

/// Fails the step by a panic, the only way that cucumber has.
fn judged<'a>(
    step: impl Future<Output = Result<(), ChainStepError>> + 'a,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        if let Err(error) = step.await {
            panic!("{error}");
        }
    })
}
