//! The live branches of a chain, and the ways between their tips.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;
use watchkeeper_chain::{ChainView, Detail, Fork, ForkList, Hash, Header, Height, Path};

use super::chain_id::Wanted;
use super::event::{EventAt, header};
use super::heads;
use super::report::Reporter;
use super::setup::{NodeFlags, SetupError, interval};
use super::watched::Watched;

/// A branch is live while its tip is at most so many blocks below the tip, and above the last final block.
const LIVE: Height = 64;
/// So many branches are printed at most: the highest. The others are counted.
const MOST_BRANCHES: usize = 64;
/// So many blocks of each side of a way are printed as text, and as JSON.
const SHOWN: (usize, usize) = (6, 64);

/// The flags of `forks`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ForksFlags {
    #[command(flatten)]
    nodes: NodeFlags,
    /// For how long, such as 30s or 10m [default: until Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = interval)]
    time: Option<Duration>,
    /// Until the tip is at this height [default: until Ctrl-C]
    #[arg(long, value_name = "HEIGHT", allow_negative_numbers = true)]
    until: Option<Height>,
}

/// The live branches beside that of the tip, the heaviest first.
#[derive(PartialEq)]
struct Forks {
    tip: Header,
    others: Vec<Fork>,
    left_out: usize,
}

impl Forks {
    /// `None` before the first block.
    fn of(chain: &ChainView) -> Option<Self> {
        let (graph, tip) = (chain.graph.as_ref()?, chain.tip?);
        let lowest = chain.finalised.map_or(0, |block| block.height).max(tip.height.saturating_sub(LIVE));
        let ForkList { forks: others, left_out } = graph.forks(&tip.hash, lowest, MOST_BRANCHES);
        Some(Self { tip, others, left_out })
    }

    /// Whether other branches are there than when they were printed. The first time it is enough that the tip is at `head`.
    fn differ(&self, printed: Option<&Self>, head: Option<Header>) -> bool {
        match printed {
            Some(printed) => self.begins() != printed.begins(),
            None => !self.others.is_empty() || head == Some(self.tip),
        }
    }

    /// The first blocks of all others.
    fn begins(&self) -> Vec<Option<Hash>> {
        let begin = |fork: &Fork| fork.path.joined.first().map(|block| block.hash);
        let mut begins: Vec<_> = self.others.iter().map(begin).collect();
        begins.sort_unstable();
        begins
    }

    fn print(&self, reporter: &Reporter) {
        let beside = if self.others.is_empty() { "no other branch is live" } else { "beside it" };
        let first = format!("the tip is {}; {beside}", EventAt(&self.tip));
        let left_out = match self.left_out {
            0 => String::new(),
            more => format!("\nand {more} more, which are no higher than these"),
        };
        let listed = self.others.iter().fold(first, |text, fork| format!("{text}\n{}", as_text(fork)));
        let text = listed + &left_out;
        reporter.report("forks", &text, || {
            let others: Vec<Value> = self.others.iter().map(as_json).collect();
            json!({ "forks": others, "left_out": self.left_out, "tip": header(&self.tip) })
        });
    }
}

fn as_text(fork: &Fork) -> String {
    let Fork { tip, distance, path: Path { ancestor, left, joined }, weight, weight_of_tip } = fork;
    let steps = |blocks: &[Header]| {
        let shown: Vec<String> =
            blocks.iter().take(SHOWN.0).map(|block| EventAt(block).to_string()).collect();
        let more = blocks.len().saturating_sub(SHOWN.0);
        shown.join(" ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    };
    let (at, fork) = (EventAt(tip), EventAt(ancestor));
    format!(
        "{at}, {distance} away: forks above {fork}, weighs {weight} from there, the tip {weight_of_tip}\n  \
         disconnects {}\n  connects {}",
        steps(left),
        steps(joined)
    )
}

fn as_json(fork: &Fork) -> Value {
    let Fork { tip, distance, path: Path { ancestor, left, joined }, weight, weight_of_tip } = fork;
    let steps = |blocks: &[Header]| {
        let shown: Vec<Value> = blocks.iter().take(SHOWN.1).map(header).collect();
        json!({ "count": blocks.len(), "blocks": shown })
    };
    json!({
        "tip": header(tip), "distance": distance, "fork": header(ancestor),
        // As texts: numbers of JSON are smaller.
        "weight": weight.to_string(), "weight_of_tip": weight_of_tip.to_string(),
        "disconnects": steps(left), "connects": steps(joined),
    })
}

/// Follows until `interrupted` or as the flags say, and prints the forks whenever there are others, and at the end.
pub(crate) async fn run(flags: ForksFlags, interrupted: impl Future<Output = ()>) -> Result<(), SetupError> {
    // No block is asked for.
    let mut setup = flags.nodes.open(Detail::Header)?;
    let NodeFlags { interval, chain_id, .. } = flags.nodes;
    let reporter = Arc::clone(&setup.reporter);
    let time = async {
        match flags.time {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
    };
    let interrupted = async {
        tokio::select! {
            () = interrupted => {}
            () = reporter.unread() => {}
            () = time => {}
        }
    };
    tokio::pin!(interrupted);
    if let Some(id) = chain_id {
        // Nodes on other chains are waited for.
        let found = setup.find_chain(Wanted::Id(id), &mut interrupted).await;
        let Some(Ok(chain)) = found else { return Ok(()) };
        setup.config.chain = Some(chain);
    }
    let watched = Watched::start(setup.sources(), setup.config.clone(), Some(Arc::clone(&setup.wake)))?;
    let handle = watched.handle();
    let stop = async {
        // The second cycle emits what the first one found. That the observation is over is noticed below.
        let _ = watched.runtime.control().poll_now().await;
        let mut watch = handle.watch();
        let until = flags.until.unwrap_or(Height::MAX);
        let is_there = |chain: &ChainView| chain.tip.is_some_and(|tip| tip.height >= until);
        tokio::select! {
            () = interrupted => {}
            _ = watch.wait_for(|status| status.snapshot.iter().any(|seen| is_there(&seen.value.chain))) => {}
        }
        let _ = watched.runtime.stop().await;
        pending::<()>().await;
    };
    let forks = async {
        let (mut watch, mut printed) = (handle.watch(), None);
        while let Ok(status) = watch.changed().await {
            let Some(chain) = status.snapshot.as_ref().map(|seen| &seen.value.chain) else { continue };
            let forks = Forks::of(chain).filter(|forks| forks.differ(printed.as_ref(), chain.head));
            if let Some(forks) = forks {
                forks.print(&reporter);
                printed = Some(forks);
            }
        }
        printed
    };
    let printing = async {
        tokio::select! {
            (printed, ()) = async { tokio::join!(forks, reporter.follow_nodes(handle.clone(), interval)) } => printed,
            never = heads::follow(&setup.sockets, interval, &reporter) => match never {},
        }
    };
    let printed = tokio::select! {
        biased;
        () = stop => None,
        printed = printing => printed,
    };
    reporter.say("ended", format_args!("{}", handle.stopped().await));
    if let Some(last) = handle.latest_snapshot() {
        if let Some(forks) = Forks::of(&last.value.chain).filter(|forks| printed.as_ref() != Some(forks)) {
            forks.print(&reporter);
        }
        setup.report(&handle, &last.value.chain);
    }
    Ok(())
}
