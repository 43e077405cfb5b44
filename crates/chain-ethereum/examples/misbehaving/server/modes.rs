//! What such a server can be made to do: each mode is a field, and the default behaves.

use std::time::Duration;

use serde_json::Value;

use crate::fake::result;

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Modes {
    /// How many blocks are above the first one at the start.
    pub(crate) blocks: u64,
    /// A block comes each of this time.
    pub(crate) grows_each: Option<Duration>,
    /// The time before each answer.
    pub(crate) latency: Duration,
    /// Who answers at the address.
    pub(crate) backends: Backends,
    /// Answers that go wrong.
    pub(crate) hiccups: Vec<Hiccup>,
    /// How receipts are returned.
    pub(crate) receipts: Receipts,
    /// How batches are answered.
    pub(crate) batches: Batches,
    /// What each block above the first one has in it, in order.
    pub(crate) contents: Vec<Content>,
    /// Fields that transactions and receipts do not have.
    pub(crate) omitted: Vec<&'static str>,
    /// Fields of transactions and receipts that are null.
    pub(crate) null: Vec<&'static str>,
    /// How headers are hashed.
    pub(crate) hashes: Hashes,
    /// What `finalized` returns.
    pub(crate) finality: Finality,
    /// The answer to each question for a balance.
    pub(crate) balance: Value,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Backends {
    One,
    /// Each so many-th answer is of another one, on a fork of one block that stands still.
    StandingFork {
        each: u64,
    },
    /// Two, which alternate; the second one is so many blocks behind.
    Apart {
        blocks: u64,
    },
    /// Two, which alternate, on two forks that both grow.
    GrowingForks,
}

/// A request that is answered otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hiccup {
    /// Only requests with this method; else all.
    pub(crate) of: Option<&'static str>,
    /// Each so many-th of them.
    pub(crate) each: u64,
    /// Only among so many first ones.
    pub(crate) first: u64,
    pub(crate) answer: HiccupAnswer,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum HiccupAnswer {
    /// An error of JSON-RPC; `{nth}` in its text is the number of the request.
    Error(i64, &'static str),
    /// A status of HTTP, and seconds for `Retry-After`.
    Status(u16, Option<u64>),
    Html,
    Gzip,
    /// `"error": null` beside the result.
    NullError,
    /// The first half of the answer.
    Truncated,
    Empty,
    /// None.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipts {
    ByBlock,
    /// There is no `eth_getBlockReceipts`.
    ByTransaction,
    /// There is no method for receipts.
    None,
    /// The last one of each block is missing.
    OneShort,
    /// The last one of each block comes twice.
    OneTooMany,
    /// A block has receipts `null`.
    Null,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Batches {
    Answered,
    /// A single error object.
    Refused(i64, &'static str),
    /// A status of HTTP without JSON.
    Status(u16),
    /// Only the first question is answered.
    FirstAlone,
}

/// One transaction. The account is [`ACCOUNT`](super::ACCOUNT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The account gets 1 ether.
    Payment,
    /// The account pays 0.5 ether and 0.000021 for gas.
    Spend,
    /// 0x7e: 2 ether are minted for the account, of which it pays 1.
    OptimismDeposit,
    /// 0x64: 1 ether is minted for the account.
    ArbitrumDeposit,
    /// 0x69: 2 ether are minted for the account, and all of it goes into a ticket.
    ArbitrumRetryable,
    /// Bor's, of sender 0 and nonce 0: not in the root of the transactions.
    StateSync,
    /// 0x6a, of sender 0 and nonce 0.
    System,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashes {
    Ethereum,
    /// Only the first block is hashed otherwise.
    GenesisOtherwise,
    AllOtherwise,
    /// All are hashed otherwise, with fields that Ethereum does not have.
    ExtraFields,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Finality {
    /// So many blocks below the head; null if there are not so many.
    Behind(u64),
    Null,
    Error(i64, &'static str),
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            blocks: 3,
            grows_each: None,
            latency: Duration::ZERO,
            backends: Backends::One,
            hiccups: Vec::new(),
            receipts: Receipts::ByBlock,
            batches: Batches::Answered,
            contents: Vec::new(),
            omitted: Vec::new(),
            null: Vec::new(),
            hashes: Hashes::Ethereum,
            finality: Finality::Behind(32),
            balance: result(&"0x1bc16d674ec80000".into()),
        }
    }
}

impl Hiccup {
    pub(crate) const fn each(each: u64, answer: HiccupAnswer) -> Self {
        Self { of: None, each, first: u64::MAX, answer }
    }

    /// Of the first so many requests with this method.
    pub(crate) const fn first(first: u64, of: &'static str, answer: HiccupAnswer) -> Self {
        Self { of: Some(of), each: 1, first, answer }
    }
}

type Set = fn(&mut Modes);

/// Modes by name, for a start by hand: the name, what it does, and how.
pub(crate) const NAMED: [(&str, &str, Set); 29] = [
    ("grows", "a block comes each 500 ms", |modes| modes.grows_each = Some(Duration::from_millis(500))),
    ("fast", "a block comes each 100 ms, and an answer takes 300 ms", |modes| {
        (modes.grows_each, modes.latency) = (Some(Duration::from_millis(100)), Duration::from_millis(300));
    }),
    ("fork", "each tenth answer is of a backend on a fork that stands still", |modes| {
        modes.backends = Backends::StandingFork { each: 10 };
    }),
    ("apart", "two backends, two blocks apart, alternate", |modes| {
        modes.backends = Backends::Apart { blocks: 2 }
    }),
    ("forks", "two backends on growing forks alternate", |modes| modes.backends = Backends::GrowingForks),
    ("rate", "each fifth request has the error -32029 Too many requests", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Error(-32029, "Too many requests")));
    }),
    ("internal", "each fifth request has the error -32603 Internal error", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Error(-32603, "Internal error")));
    }),
    ("busy", "each fifth request has the HTTP status 503 and Retry-After 1", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Status(503, Some(1))));
    }),
    ("html", "each fifth request is answered with HTML", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Html));
    }),
    ("gzip", "each fifth request is answered with gzip", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Gzip));
    }),
    ("null-error", "each answer has \"error\": null beside the result", |modes| {
        modes.hiccups.push(Hiccup::each(1, HiccupAnswer::NullError));
    }),
    ("truncated", "each fifth answer is truncated", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Truncated));
    }),
    ("empty", "each fifth answer is empty", |modes| modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Empty))),
    ("silent", "each fifth request has no answer", |modes| {
        modes.hiccups.push(Hiccup::each(5, HiccupAnswer::Silent));
    }),
    ("no-block-receipts", "there is no eth_getBlockReceipts", |modes| {
        modes.receipts = Receipts::ByTransaction;
    }),
    ("no-receipts", "there is no method for receipts", |modes| modes.receipts = Receipts::None),
    ("short-receipts", "one receipt is missing in each block", |modes| modes.receipts = Receipts::OneShort),
    ("null-receipts", "receipts are null", |modes| modes.receipts = Receipts::Null),
    ("no-batches", "a batch has an error", |modes| {
        modes.batches = Batches::Refused(-32600, "batch requests are not supported");
    }),
    ("batch-413", "a batch has the HTTP status 413", |modes| modes.batches = Batches::Status(413)),
    ("payments", "the account gets 1 ether in each block, and pays 0.5", |modes| {
        modes.contents.extend([Content::Payment, Content::Spend]);
    }),
    ("deposits", "each block has a deposit that mints: 0x7e, 0x64 and 0x69", |modes| {
        modes.contents.extend([
            Content::OptimismDeposit,
            Content::ArbitrumDeposit,
            Content::ArbitrumRetryable,
        ]);
    }),
    ("state-sync", "each block has a state-sync transaction", |modes| {
        modes.contents.push(Content::StateSync);
    }),
    ("system", "each block has a transaction of sender 0 and nonce 0", |modes| {
        modes.contents.push(Content::System);
    }),
    ("odd-fields", "effectiveGasPrice is missing, and nonce is null", |modes| {
        (modes.omitted, modes.null) = (vec!["effectiveGasPrice"], vec!["nonce"]);
    }),
    ("other-genesis", "the first block is hashed otherwise", |modes| modes.hashes = Hashes::GenesisOtherwise),
    ("other-hashes", "all blocks are hashed otherwise", |modes| modes.hashes = Hashes::ExtraFields),
    ("not-final", "no block is final yet: header not found", |modes| {
        modes.finality = Finality::Error(-32000, "header not found");
    }),
    ("pruned", "no balance is known: the state is pruned", |modes| {
        modes.balance = crate::fake::error(-32000, "missing trie node 1a3b");
    }),
];
