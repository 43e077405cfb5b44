//! What wallets cost as a chain grows, beside the approach that they replace: reading the chain from its tip down
//! for each question, and again after each reorg. Same chain, one run.
//!
//! `cargo bench -p watchkeeper-chain --bench wallets`

#![allow(clippy::unwrap_used, reason = "a figure that cannot be taken ends the run")]

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::wallet::{
    Account, AccountTransaction, AccountWallet, Amount, Ledger, NewWallet, OutPoint, Utxo, UtxoTransaction,
    UtxoWallet, Wallets,
};
use watchkeeper_chain::{Block, ChainEvent, Hash, Header, Height, Transaction};

const WALLETS: u32 = 1_000;
/// In the blocks whose cost is measured, and in those right below them: with each new block one of these settles.
const TRANSACTIONS: u64 = 2_000;
/// In the blocks further below.
const BELOW: u64 = 4;
/// How many blocks wallets keep, which is their default.
const KEEP: Height = 128;
/// How many blocks right below are full.
const FULL: Height = KEEP + 10;
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
    Arc::new(Block::new(header, transactions))
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

/// CPU time, which other load of the machine hardly affects.
fn took(work: impl FnOnce()) -> Duration {
    let began = clock_gettime(ClockId::ProcessCPUTime);
    work();
    (clock_gettime(ClockId::ProcessCPUTime) - began).try_into().unwrap()
}

fn mean(taken: &[Duration]) -> Duration {
    taken.iter().sum::<Duration>() / u32::try_from(taken.len()).unwrap()
}

/// The approach that is replaced: no state except the blocks, which are all read from the tip down for each question
/// and after each reorg.
struct Rescan<T> {
    blocks: HashMap<Hash, Arc<Block<T>>>,
    reads: u64,
}

/// What every wallet has, less what it began with.
type Changes = HashMap<u32, i128>;

impl<T> Rescan<T> {
    fn new() -> Self {
        Self { blocks: HashMap::new(), reads: 0 }
    }

    fn add(&mut self, blocks: &[Arc<Block<T>>]) {
        self.blocks.extend(blocks.iter().map(|block| (block.header.hash, Arc::clone(block))));
    }

    /// The transactions of the branch, newest first.
    fn each(&mut self, tip: Hash, mut read: impl FnMut(&T)) {
        let mut next = tip;
        while let Some(block) = self.blocks.get(&next) {
            self.reads += 1;
            block.transactions.iter().rev().for_each(&mut read);
            next = block.header.parent;
        }
    }
}

/// How balances are found in a whole chain.
trait Scanned: Transaction {
    fn changes(chain: &mut Rescan<Self>, tip: Hash) -> Changes;
}

impl Scanned for Payment {
    fn changes(chain: &mut Rescan<Self>, tip: Hash) -> Changes {
        let mut changes = Changes::new();
        chain.each(tip, |payment| {
            *changes.entry(payment.from).or_default() -= 11;
            *changes.entry(payment.to).or_default() += 10;
        });
        changes
    }
}

impl Scanned for Spend {
    fn changes(chain: &mut Rescan<Self>, tip: Hash) -> Changes {
        let (mut changes, mut spent) = (Changes::new(), HashSet::new());
        chain.each(tip, |spend| {
            if !spent.remove(&OutPoint { transaction: spend.id, output: 0 }) {
                *changes.entry(spend.to).or_default() += 10;
            }
            spent.extend(spend.coin);
        });
        changes
    }
}

/// Both ways on one chain.
struct Chain<L: Ledger> {
    wallets: Wallets<L>,
    /// How many blocks the wallets were given; they get blocks in no other way.
    reads: u64,
    rescan: Rescan<L::Transaction>,
    tip: Header,
    numbers: Numbers,
}

/// What is measured at one length of the chain: times, and blocks read.
struct Figures {
    scan: (Duration, u64),
    rebuild: (Duration, u64),
    block: (Duration, u64),
    reorg: (Duration, u64),
    question: Duration,
    checkpoint: Duration,
}

impl<L: Ledger<Transaction: Scanned>> Chain<L> {
    fn new(wallets: Wallets<L>) -> Self {
        Self { wallets, reads: 0, rescan: Rescan::new(), tip: genesis(), numbers: Numbers::default() }
    }

    fn apply(&mut self, event: &ChainEvent<L::Transaction>) {
        let (ChainEvent::Committed { new } | ChainEvent::Reorged { new, .. }) = event else { return };
        self.reads += new.len() as u64;
        self.wallets.apply(event);
        self.wallets.settle();
        black_box(self.wallets.view());
    }

    /// Adds a block at the tip; returns what it cost the wallets.
    fn commit(&mut self, new: Arc<Block<L::Transaction>>) -> Duration {
        self.tip = new.header;
        let new = vec![new];
        self.rescan.add(&new);
        took(|| self.apply(&ChainEvent::Committed { new }))
    }

    /// Reads the whole chain for what all wallets have, and compares the wallets with that.
    fn scan(&mut self, opening: i128) -> (Duration, u64) {
        let (before, mut found) = (self.rescan.reads, Changes::new());
        let time = took(|| found = black_box(L::Transaction::changes(&mut self.rescan, self.tip.hash)));
        let view = self.wallets.view();
        for number in 0..WALLETS {
            let total = view.balance(&format!("wallet {number}")).unwrap().total;
            let expected = opening + found.get(&number).copied().unwrap_or_default();
            assert_eq!(i128::try_from(total).unwrap(), expected, "both ways agree");
        }
        (time, self.rescan.reads - before)
    }

    fn measure(
        &mut self,
        opening: i128,
        mut make: impl FnMut(&mut Numbers, bool) -> Vec<L::Transaction>,
    ) -> Figures {
        let (mut scans, mut rebuilds, mut questions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut each, mut forks) = (Vec::new(), Vec::new());
        let (mut scanned, mut rebuilt, mut committed, mut reorged) = (0, 0, 0, 0);
        for _ in 0..TIMES {
            let (time, reads) = self.scan(opening);
            scans.push(time);
            scanned += reads;
            let ancestor = self.tip;
            // Both sides begin with the same coins.
            let mut side = || {
                let mut parent = ancestor;
                let blocks = (0..REORG).map(|nth| {
                    let transactions = make(&mut self.numbers, nth == 0);
                    let new = block(&mut self.numbers, &parent, transactions);
                    parent = new.header;
                    new
                });
                blocks.collect::<Vec<_>>()
            };
            let (old, new) = (side(), side());
            let before = self.reads;
            each.extend(old.iter().map(|block| self.commit(Arc::clone(block))));
            committed += self.reads - before;
            let view = self.wallets.view();
            questions.push(took(|| {
                for number in 0..WALLETS {
                    black_box(view.balance(&format!("wallet {number}")).unwrap());
                }
            }));
            drop(view);
            self.tip = new[REORG - 1].header;
            self.rescan.add(&new);
            let old = old.iter().rev().map(|block| block.header).collect();
            let event = ChainEvent::Reorged { old, new, ancestor };
            let before = self.reads;
            forks.push(took(|| self.apply(&event)));
            reorged += self.reads - before;
            let (time, reads) = self.scan(opening);
            rebuilds.push(time);
            rebuilt += reads;
        }
        let view = self.wallets.view();
        view.conserved().unwrap();
        let checkpoint = took(|| {
            black_box(serde_json::to_vec(&view.record()).unwrap());
        });
        let rounds = TIMES as u64;
        Figures {
            block: (mean(&each), committed / each.len() as u64),
            reorg: (mean(&forks), reorged / rounds),
            scan: (mean(&scans), scanned / rounds),
            rebuild: (mean(&rebuilds), rebuilt / rounds),
            question: mean(&questions) / WALLETS,
            checkpoint,
        }
    }
}

fn accounts(table: &mut Table) {
    const OPENING: u32 = 1_000_000_000;
    for length in LENGTHS {
        let mut chain = Chain::new(Wallets::new(Account::<Payment>::new(6)).keep(KEEP));
        let requests = chain.wallets.requests();
        let funded = || AccountWallet::with(OPENING.into());
        (0..WALLETS).for_each(|number| requests.add(wallet(number, funded())).unwrap());
        for height in 1..=length {
            let payments = if height > length - FULL {
                payments(&mut chain.numbers, TRANSACTIONS)
            } else {
                payments(&mut low(&chain.tip), BELOW)
            };
            let new = block(&mut chain.numbers, &chain.tip, payments);
            chain.commit(new);
        }
        let figures = chain.measure(OPENING.into(), |numbers, _| payments(numbers, TRANSACTIONS));
        table.add("accounts", length, &figures);
    }
}

/// Transactions of a low block need no unique numbers: nothing searches for them.
fn low(tip: &Header) -> Numbers {
    Numbers(tip.height * 31)
}

fn coins(table: &mut Table) {
    let length = 10_000;
    let mut chain = Chain::new(Wallets::new(Utxo::<Spend>::new(6).maturity(1)).keep(KEEP));
    let requests = chain.wallets.requests();
    (0..WALLETS).for_each(|number| requests.add(wallet(number, UtxoWallet::default())).unwrap());
    let numbers = &mut chain.numbers;
    let first: Vec<Spend> =
        (0..WALLETS).map(|to| Spend { id: numbered(numbers.next()), coin: None, to }).collect();
    let mut owned: Vec<_> =
        first.iter().map(|spend| (spend.to, OutPoint { transaction: spend.id, output: 0 })).collect();
    let first = block(numbers, &genesis(), first);
    chain.commit(first);
    for height in 2..=length {
        let count = if height > length - FULL { TRANSACTIONS } else { BELOW };
        let spends = spends(&mut chain.numbers, &mut owned, count);
        let new = block(&mut chain.numbers, &chain.tip, spends);
        chain.commit(new);
    }
    let mut at_fork: Vec<_> = Vec::new();
    let mut is_second = false;
    let figures = chain.measure(0, |numbers, first_of_a_side| {
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
    table.add("coins", length, &figures);
}

struct Row {
    model: &'static str,
    length: Height,
    block: Duration,
    text: String,
}

struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, model: &'static str, length: Height, figures: &Figures) {
        let Figures { scan, rebuild, block, reorg, question, checkpoint } = figures;
        let times = reorg.0.as_secs_f64() / block.0.as_secs_f64();
        // A new block costs its own read, a rescan reads all blocks.
        let fewer = scan.1 / block.1;
        let met = times < 10.0 && fewer >= 100;
        let text = format!(
            "| {model} | {length} | {} in {:.2?} | {} in {:.2?} | {} in {:.2?} | {fewer} | {question:.2?} | \
             {} in {:.2?}, {times:.1} times a block | {checkpoint:.2?} | {} |",
            scan.1,
            scan.0,
            rebuild.1,
            rebuild.0,
            block.1,
            block.0,
            reorg.1,
            reorg.0,
            if met { "yes" } else { "**no**" }
        );
        eprintln!("{text}");
        self.0.push(Row { model, length, block: block.0, text });
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
        "| model | blocks below | rescan for a question: reads | rebuild after a reorg: reads | new block: reads | \
         times fewer | question, one wallet | reorg 10 deep: reads | record | met |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
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
