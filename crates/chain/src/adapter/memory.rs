//! A chain in memory, for tests: nodes that follow a script.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{ChainClient, ChainError, ChainIdentity, Log, LogFilter, LogScope};
use crate::{Block, Detail, Hash, Header, Height, Transaction};

/// One node; clones are the same node.
#[derive(Clone, Debug)]
pub struct MemoryNode<T> {
    script: Arc<Mutex<Script<T>>>,
}

/// What a [`MemoryNode`] has and does.
#[derive(Clone, Debug)]
pub struct Script<T> {
    /// The chain that it reports.
    pub identity: ChainIdentity,
    /// Its blocks, by the hash it is asked for: a lie is a block under another hash.
    pub blocks: HashMap<Hash, Block<T>>,
    /// Its best block; `None` if its chain is empty.
    pub head: Option<Hash>,
    /// Its last final block.
    pub finalised: Option<Hash>,
    /// The logs of its blocks, by the hash of the block.
    pub logs: HashMap<Hash, Vec<Log>>,
    /// How many logs it returns at once.
    pub log_limits: LogLimits,
    /// Methods that return an error; `""` is any method.
    pub fails: HashMap<&'static str, ChainError>,
    /// Methods that never return; `""` is any method.
    pub hangs: Vec<&'static str>,
    /// How long it takes for every answer.
    pub latency: Duration,
    /// How often it was asked, by method.
    pub calls: BTreeMap<&'static str, usize>,
}

/// What a node refuses with [`ChainError::RangeTooLarge`]; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLimits {
    /// More blocks than these.
    pub blocks: Option<u64>,
    /// More logs than these in an answer.
    pub results: Option<usize>,
    /// How many blocks the refusal says would be answered.
    pub states: Option<u64>,
}

impl<T: Transaction> Script<T> {
    /// The header at this height of the branch of `head`.
    fn header_at(&self, height: Height) -> Option<Header> {
        let header = |hash| self.blocks.get(&hash).map(|block| block.header);
        let branch = std::iter::successors(header(self.head?), |above| header(above.parent));
        branch.take_while(|header| header.height >= height).find(|header| header.height == height)
    }

    fn logs(&self, filter: &LogFilter, scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
        let hashes: Option<Vec<Hash>> = match scope {
            LogScope::Block(hash) => self.blocks.contains_key(hash).then(|| vec![*hash]),
            LogScope::Range(range) => {
                range.clone().map(|height| Some(self.header_at(height)?.hash)).collect()
            }
        };
        let Some(hashes) = hashes else { return Ok(None) };
        let logs = hashes.iter().filter_map(|hash| self.logs.get(hash)).flatten();
        let logs: Vec<Log> = logs.filter(|log| filter.matches(log)).cloned().collect();
        let LogLimits { blocks, results, states } = self.log_limits;
        let reason = if blocks.is_some_and(|limit| scope.blocks() > limit) {
            format!("{scope} are too many")
        } else if results.is_some_and(|limit| logs.len() > limit) {
            format!("{} logs are too many", logs.len())
        } else {
            return Ok(Some(logs));
        };
        let endpoint = "memory".to_owned();
        Err(ChainError::RangeTooLarge { endpoint, method: "logs", reason, at_most: states })
    }
}

impl<T: Transaction> MemoryNode<T> {
    /// A node without blocks.
    #[must_use]
    pub fn new(identity: ChainIdentity) -> Self {
        let script = Script {
            identity,
            blocks: HashMap::new(),
            head: None,
            finalised: None,
            logs: HashMap::new(),
            log_limits: LogLimits::default(),
            fails: HashMap::new(),
            hangs: Vec::new(),
            latency: Duration::ZERO,
            calls: BTreeMap::new(),
        };
        Self { script: Arc::new(Mutex::new(script)) }
    }

    /// Adds a block, which is its head from now on.
    pub fn connect(&self, block: Block<T>) {
        let mut script = self.script();
        script.head = Some(block.header.hash);
        script.blocks.insert(block.header.hash, block);
    }

    /// The script, to read and to change.
    pub fn script(&self) -> MutexGuard<'_, Script<T>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn asked<V>(
        &self,
        method: &'static str,
        answer: impl FnOnce(&Script<T>) -> V,
    ) -> Result<V, ChainError> {
        let (latency, answer) = {
            let mut script = self.script();
            *script.calls.entry(method).or_default() += 1;
            let hangs = script.hangs.iter().any(|hangs| hangs.is_empty() || *hangs == method);
            let error = script.fails.get(method).or_else(|| script.fails.get("")).cloned();
            (script.latency, (!hangs).then(|| error.map_or_else(|| Ok(answer(&script)), Err)))
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match answer {
            Some(answer) => answer,
            None => pending().await,
        }
    }
}

#[async_trait]
impl<T: Transaction> ChainClient for MemoryNode<T> {
    type Transaction = T;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        self.asked("identity", |script| script.identity.clone()).await
    }

    async fn head(&self) -> Result<Header, ChainError> {
        let head = self.asked("head", |script| Some(script.blocks.get(&script.head?)?.header)).await?;
        head.ok_or_else(|| ChainError::Empty { endpoint: "memory".to_owned() })
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        self.asked("finalised", |script| Some(script.blocks.get(&script.finalised?)?.header)).await
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.asked("header", |script| script.blocks.get(&hash).map(|block| block.header)).await
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.asked("header_at", |script| script.header_at(height)).await
    }

    async fn block(&self, hash: Hash, _: Detail) -> Result<Option<Block<T>>, ChainError> {
        self.asked("block", |script| script.blocks.get(&hash).cloned()).await
    }

    async fn logs(&self, filter: &LogFilter, scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
        self.asked("logs", |script| script.logs(filter, scope)).await?
    }
}
