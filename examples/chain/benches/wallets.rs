//! What wallets cost as a chain grows, beside the approach that they replace: reading the chain from its tip down
//! for each question, and again after each reorg. Same chain, one run.
//!
//! `cargo bench -p watchkeeper-chain --bench wallets`

#![allow(clippy::unwrap_used, reason = "a figure that cannot be taken ends the run")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::wallet::{
    Account, AccountTransaction, AccountWallet, Amount, NewWallet, OutPoint, Utxo, UtxoTransaction,
    UtxoWallet, WalletOf, Wallets,
};
use watchkeeper_chain::{Block, ChainEvent, Hash, Header, Height, Transaction};

const WALLETS: u32 = 1_000;
/// In the blocks whose cost is measured.
const TRANSACTIONS: u64 = 2_000;
/// In the blocks below them.
const BELOW: u64 = 4;
const LENGTHS: [Height; 3] = [1_000, 10_000, 100_000];
const REORG: usize = 10;
const TIMES: usize = 7;

#[derive(Clone, Debug, PartialEq)]
struct Payment {
    id: Hash,
    from: u32,
    to: u32,
    nonce: u64,
}

impl Transaction for Payment {
    fn id(&self) -> Hash {
        self.id
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

impl AccountTransaction for Payment {
    type Address = u32;

    fn from(&self) -> Option<u32> {
        Some(self.from)
    }

    fn nonce(&self) -> u64 {
        self.nonce
    }

    fn to(&self) -> Option<u32> {
        Some(self.to)
    }

    fn value(&self) -> Amount {
        10
    }

    fn fee(&self) -> Amount {
        1
    }
}

/// Spends the one coin of a wallet, and makes one for the next.
#[derive(Clone, Debug, PartialEq)]
struct Spend {
    id: Hash,
    coin: Option<OutPoint>,
    to: u32,
}

impl Transaction for Spend {
    fn id(&self) -> Hash {
        self.id
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

impl UtxoTransaction for Spend {
    type Address = u32;

    fn inputs(&self) -> Vec<OutPoint> {
        self.coin.into_iter().collect()
    }

    fn outputs(&self) -> Vec<(Option<u32>, Amount)> {
        vec![(Some(self.to), 10)]
    }

    fn is_reward(&self) -> bool {
        self.coin.is_none()
    }
}

fn numbered(number: u64) -> Hash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Hash(bytes)
}

/// Numbers that are used once: blocks, transactions.
#[derive(Default)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn block<T>(numbers: &mut Numbers, parent: &Header, transactions: Vec<T>) -> Arc<Block<T>> {
    let (hash, height) = (numbered(numbers.next()), parent.height + 1);
    let header = Header { hash, parent: parent.hash, height, work: 1, time: 0 };
    Arc::new(Block { header, transactions })
}

fn genesis() -> Header {
    Header { hash: numbered(0), parent: numbered(u64::MAX), height: 0, work: 1, time: 0 }
}

fn payments(numbers: &mut Numbers, count: u64) -> Vec<Payment> {
    (0..count)
        .map(|_| {
            let number = numbers.next();
            let wallet = |number: u64| u32::try_from(number % u64::from(WALLETS)).unwrap();
            let (from, to) = (wallet(number * 7), wallet(number * 13 + 5));
            Payment { id: numbered(number), from, to, nonce: number }
        })
        .collect()
}

/// Each wallet has one coin; `coins` says which.
fn spends(numbers: &mut Numbers, coins: &mut [(u32, OutPoint)], count: u64) -> Vec<Spend> {
    (0..count)
        .map(|_| {
            let number = numbers.next();
            let place = usize::try_from(number.wrapping_mul(7)).unwrap() % coins.len();
            let (_, coin) = coins[place];
            let to = u32::try_from(number.wrapping_mul(13) % u64::from(WALLETS)).unwrap();
            coins[place] = (to, OutPoint { transaction: numbered(number), output: 0 });
            Spend { id: numbered(number), coin: Some(coin), to }
        })
        .collect()
}

fn wallet<W>(number: u32, opening: W) -> NewWallet<u32, W> {
    NewWallet { name: format!("wallet {number}").into(), addresses: vec![number], from: 1, opening }
}

/// CPU time: what else the machine does is no matter.
fn took(work: impl FnOnce()) -> Duration {
    let began = clock_gettime(ClockId::ProcessCPUTime);
    work();
    (clock_gettime(ClockId::ProcessCPUTime) - began).try_into().unwrap()
}

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort_unstable();
    taken[taken.len() / 2]
}

fn mean(taken: &[Duration]) -> Duration {
    taken.iter().sum::<Duration>() / u32::try_from(taken.len()).unwrap()
}

fn commit<L: watchkeeper_chain::projection::wallet::Ledger>(
    wallets: &mut Wallets<L>,
    blocks: &[Arc<Block<L::Transaction>>],
) {
    wallets.apply(&ChainEvent::Committed { new: blocks.to_vec() });
    wallets.settle();
    black_box(wallets.view());
}

/// The approach that is replaced: no state but the blocks; to know what wallets have, all of them are read from
/// the tip down.
struct Rescan {
    blocks: HashMap<Hash, Arc<Block<Payment>>>,
    reads: u64,
}

impl Rescan {
    fn balances(&mut self, tip: Hash) -> HashMap<u32, i128> {
        let mut balances: HashMap<u32, i128> = HashMap::new();
        let mut next = tip;
        while let Some(block) = self.blocks.get(&next) {
            self.reads += 1;
            for payment in &block.transactions {
                *balances.entry(payment.from).or_default() -= 11;
                *balances.entry(payment.to).or_default() += 10;
            }
            next = block.header.parent;
        }
        balances
    }
}

/// What is measured at one length of the chain.
struct Figures {
    block: Duration,
    reorg: Duration,
    question: Duration,
    checkpoint: Duration,
}

fn funded() -> impl Iterator<Item = WalletOf<Account<Payment>>> {
    (0..WALLETS).map(|number| wallet(number, AccountWallet::with(1_000_000_000)))
}

fn measure<L, F>(wallets: &mut Wallets<L>, tip: &mut Header, numbers: &mut Numbers, mut make: F) -> Figures
where
    L: watchkeeper_chain::projection::wallet::Ledger,
    F: FnMut(&mut Numbers, bool) -> Vec<L::Transaction>,
{
    let (mut each, mut questions, mut forks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let ancestor = *tip;
        // Both sides begin with the same coins.
        let mut side = || {
            let mut parent = ancestor;
            let mut side = Vec::new();
            for nth in 0..REORG {
                let transactions = make(numbers, nth == 0);
                let new = block(numbers, &parent, transactions);
                parent = new.header;
                side.push(new);
            }
            side
        };
        let (old, new) = (side(), side());
        each.extend(old.iter().map(|block| took(|| commit(wallets, std::slice::from_ref(block)))));
        let view = wallets.view();
        questions.push(took(|| {
            for number in 0..WALLETS {
                black_box(view.balance(&format!("wallet {number}")).unwrap());
            }
        }));
        drop(view);
        *tip = new[REORG - 1].header;
        let old = old.iter().rev().map(|block| block.header).collect();
        let event = ChainEvent::Reorged { old, new, ancestor };
        forks.push(took(|| {
            wallets.apply(&event);
            wallets.settle();
            black_box(wallets.view());
        }));
    }
    let view = wallets.view();
    view.conserved().unwrap();
    let checkpoint = took(|| {
        black_box(serde_json::to_vec(&view.record()).unwrap());
    });
    let question = median(questions) / WALLETS;
    Figures { block: mean(&each), reorg: mean(&forks), question, checkpoint }
}

fn accounts(table: &mut Table) {
    for length in LENGTHS {
        let mut numbers = Numbers::default();
        let mut wallets = Wallets::new(Account::<Payment>::new(6));
        let desk = wallets.desk();
        funded().for_each(|wallet| desk.add(wallet).unwrap());
        let mut rescan = Rescan { blocks: HashMap::new(), reads: 0 };
        let mut tip = genesis();
        for _ in 0..length {
            let new = block(&mut numbers, &tip, payments(&mut low(&tip), BELOW));
            tip = new.header;
            rescan.blocks.insert(tip.hash, Arc::clone(&new));
            commit(&mut wallets, &[new]);
        }
        let view = wallets.view();
        let mut found = HashMap::new();
        let scans = (0..3).map(|_| took(|| found = black_box(rescan.balances(tip.hash)))).collect();
        for number in 0..WALLETS {
            let delta = found.get(&number).copied().unwrap_or_default();
            let total = i128::try_from(view.balance(&format!("wallet {number}")).unwrap().total).unwrap();
            assert_eq!(total, 1_000_000_000 + delta, "both say the same");
        }
        let scan: Duration = median(scans);
        let figures =
            measure(&mut wallets, &mut tip, &mut numbers, |numbers, _| payments(numbers, TRANSACTIONS));
        table.add("accounts", length, rescan.reads / 3, scan, &figures);
    }
}

/// Transactions of a low block need no numbers of their own: nothing looks for them.
fn low(tip: &Header) -> Numbers {
    Numbers(tip.height * 31)
}

fn coins(table: &mut Table) {
    let length = 10_000;
    let mut numbers = Numbers::default();
    let mut wallets = Wallets::new(Utxo::<Spend>::new(6).maturity(1));
    let desk = wallets.desk();
    (0..WALLETS).for_each(|number| desk.add(wallet(number, UtxoWallet::default())).unwrap());
    let first: Vec<Spend> =
        (0..WALLETS).map(|to| Spend { id: numbered(numbers.next()), coin: None, to }).collect();
    let mut owned: Vec<_> =
        first.iter().map(|spend| (spend.to, OutPoint { transaction: spend.id, output: 0 })).collect();
    let mut new = block(&mut numbers, &genesis(), first);
    for _ in 0..length {
        let tip = new.header;
        commit(&mut wallets, &[new]);
        let spends = spends(&mut numbers, &mut owned, BELOW);
        new = block(&mut numbers, &tip, spends);
    }
    let mut tip = new.header;
    commit(&mut wallets, &[new]);
    let mut at_fork: Vec<_> = Vec::new();
    let mut is_second = false;
    let figures = measure(&mut wallets, &mut tip, &mut numbers, |numbers, first_of_a_side| {
        if first_of_a_side {
            if is_second {
                owned = std::mem::take(&mut at_fork);
            } else {
                at_fork.clone_from(&owned);
            }
            is_second = !is_second;
        }
        spends(numbers, &mut owned, TRANSACTIONS)
    });
    table.add("coins", length, length + 1, Duration::ZERO, &figures);
}

struct Row {
    model: &'static str,
    length: Height,
    block: Duration,
    text: String,
}

struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, model: &'static str, length: Height, reads: u64, scan: Duration, figures: &Figures) {
        let Figures { block, reorg, question, checkpoint } = figures;
        let times = reorg.as_secs_f64() / block.as_secs_f64();
        let scan = if scan.is_zero() { "-".to_owned() } else { format!("{scan:.2?}") };
        let met = times < 10.0 && reads >= 100;
        let text = format!(
            "| {model} | {length} | {reads} in {scan} | 1 in {block:.2?} | 0 in {question:.2?} | {reorg:.2?}, \
             {times:.1} times a block | {checkpoint:.2?} | {} |",
            if met { "yes" } else { "**no**" }
        );
        eprintln!("{text}");
        self.0.push(Row { model, length, block: *block, text });
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!(
            "figures are taken from optimised code only: cargo bench -p watchkeeper-chain --bench wallets"
        );
        return;
    }
    let mut table = Table(Vec::new());
    accounts(&mut table);
    coins(&mut table);
    println!(
        "| model | blocks below | rescan: reads for a question, all wallets | new block: reads | question: reads, \
         one wallet | reorg 10 deep | record | met |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for row in &table.0 {
        println!("{}", row.text);
    }
    let of = |length| table.0.iter().find(|row| row.model == "accounts" && row.length == length).unwrap();
    let (short, long) = (of(LENGTHS[0]), of(LENGTHS[2]));
    let grown = long.block.as_secs_f64() / short.block.as_secs_f64();
    println!();
    println!(
        "{WALLETS} wallets, {TRANSACTIONS} transactions a block; CPU time, means over {TIMES} rounds of {REORG} blocks and a reorg. A block costs {grown:.2} times as \
         much on {} blocks as on {}: {}.",
        long.length,
        short.length,
        if grown < 1.5 { "the goal, under 1.5, is met" } else { "the goal, under 1.5, is **not met**" }
    );
}
