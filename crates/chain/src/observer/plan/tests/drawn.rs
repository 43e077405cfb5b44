//! A chain drawn in text, nodes that reported parts of it, and what is planned then, in words.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::source::{SourceFacts, SourceHealth};

use crate::adapter::{ChainError, ChainIdentity};
use crate::observer::facts::ChainFacts;
use crate::observer::fetch::Found;
use crate::observer::plan::Planned;
use crate::observer::question::{Flight, Question};
use crate::observer::{ChainConfig, Group, Start};
use crate::{Block, Detail, Hash, Header, Transaction};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Nothing;

impl Transaction for Nothing {
    fn id(&self) -> Hash {
        Hash([0; 32])
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

pub(super) struct Drawn {
    headers: BTreeMap<String, Header>,
    facts: ChainFacts<Nothing>,
    flights: Vec<Flight>,
    /// The group and the head of each node, and how often it has answered.
    nodes: BTreeMap<String, (Group, String, u64)>,
    pub(super) now: Instant,
}

pub(super) fn hash(name: &str) -> Hash {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Hash(bytes)
}

fn name(hash: Hash) -> String {
    String::from_utf8(hash.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

/// The chain of the tests; blocks weigh 1.
pub(super) fn identity() -> ChainIdentity {
    ChainIdentity { id: "test".to_owned(), genesis: hash("g") }
}

pub(super) fn refused() -> ChainError {
    ChainError::Refused { endpoint: "n".to_owned(), method: "any", reason: "busy".to_owned() }
}

/// A line of blocks, named by `prefix` and their heights.
pub(super) fn branch(from: &str, prefix: &str, heights: std::ops::RangeInclusive<u64>) -> String {
    heights.fold(from.to_owned(), |line, height| format!("{line} {prefix}{height}"))
}

impl Drawn {
    /// Lines of blocks, each the parent of the next. The observation begins at `g`, and goes on as `config` says.
    pub(super) fn with(drawing: &str, config: impl FnOnce(ChainConfig) -> ChainConfig) -> Self {
        let mut headers: BTreeMap<String, Header> = BTreeMap::new();
        for line in drawing.lines() {
            let mut parent: Option<Header> = None;
            for word in line.split_whitespace() {
                let below = parent;
                let header = headers.entry(word.to_owned()).or_insert_with(|| Header {
                    hash: hash(word),
                    parent: below.map_or(hash(""), |below| below.hash),
                    height: below.map_or(0, |below| below.height + 1),
                    work: 1,
                    time: 0,
                });
                parent = Some(*header);
            }
        }
        let start = Start::Known(vec![headers["g"]]);
        let config = config(ChainConfig {
            start,
            unread_after: Duration::from_secs(2),
            ..ChainConfig::every(Duration::from_secs(1))
        });
        let mut facts = ChainFacts::new(config);
        facts.begin_cycle();
        Self { headers, facts, flights: Vec::new(), nodes: BTreeMap::new(), now: Instant::now() }
    }

    pub(super) fn new(drawing: &str) -> Self {
        Self::with(drawing, |config| config)
    }

    pub(super) fn header(&self, name: &str) -> Header {
        self.headers[name]
    }

    /// A node returned its head.
    pub(super) fn head(&mut self, node: &str, group: Group, head: &str) -> &mut Self {
        let answers = self.nodes.get(node).map_or(1, |(_, _, answers)| answers + 1);
        self.nodes.insert(node.to_owned(), (group, head.to_owned(), answers));
        let mut facts = SourceFacts::default();
        facts.began(self.now);
        facts.answered(self.now, self.now);
        facts.answers = answers;
        let health = SourceHealth::new(facts, Duration::from_secs(3));
        self.facts.is_in_set(&node.into(), group, health, None, Some(self.headers[head]), self.now);
        self
    }

    /// A local node on the chain, without finality, returned its head.
    pub(super) fn local(&mut self, node: &str, head: &str) -> &mut Self {
        self.on_chain(node, Group::Local, head)
    }

    /// The same of a public node.
    pub(super) fn public(&mut self, node: &str, head: &str) -> &mut Self {
        self.on_chain(node, Group::Public, head)
    }

    fn on_chain(&mut self, node: &str, group: Group, head: &str) -> &mut Self {
        self.head(node, group, head).found(node, Found::Identity(Ok(identity())));
        self.found(node, Found::Final(hash(head), Ok(None)));
        self.facts.judge(self.now);
        self
    }

    /// A node answered a question.
    pub(super) fn found(&mut self, node: &str, found: Found<Nothing>) -> &mut Self {
        self.facts.found(&node.into(), found, self.now);
        self
    }

    /// The headers of these names are linked; `node` returned them to a node whose head is `head`.
    pub(super) fn linked(&mut self, node: &str, head: &str, names: &[&str]) -> &mut Self {
        let headers = names.iter().map(|name| self.header(name)).collect();
        self.found(node, Found::Headers { head: hash(head), headers, gap: None, error: None })
    }

    /// A node returned no headers.
    pub(super) fn no_headers(&mut self, node: &str, head: &str) -> &mut Self {
        self.found(node, Found::nothing(hash(head), Some(refused())))
    }

    /// A node returned a block, or did not.
    pub(super) fn block(&mut self, node: &str, block: &str, is_there: bool) -> &mut Self {
        let header = self.header(block);
        let answer = if is_there { Ok(Some(Block::new(header, Vec::new()))) } else { Err(refused()) };
        self.found(node, Found::Block(header, Detail::Results, answer))
    }

    /// A question is in flight since this cycle, or since the last one.
    pub(super) fn in_flight(&mut self, node: &str, question: Question, is_late: bool) -> &mut Self {
        let cycle = self.facts.cycle() - u64::from(is_late);
        let since = self.now.checked_sub(Duration::from_secs(u64::from(is_late))).unwrap();
        self.flights.push(Flight { node: node.into(), question, cycle, since });
        self
    }

    /// The next cycle begins this much later; the nodes returned the same heads again.
    pub(super) fn later(&mut self, by: Duration) -> &mut Self {
        self.now += by;
        self.facts.begin_cycle();
        for (node, (group, head, _)) in self.nodes.clone() {
            self.head(&node, group, &head);
        }
        self
    }

    /// What is planned beside the heads, in words, node by node.
    pub(super) fn plan_ahead(&mut self) -> Vec<String> {
        self.planned(|facts, flights, now| facts.plan_ahead(flights, now))
    }

    /// What is planned, in words, node by node.
    pub(super) fn plan(&mut self) -> Vec<String> {
        self.planned(ChainFacts::plan)
    }

    fn planned(
        &mut self,
        plan: impl Fn(&mut ChainFacts<Nothing>, &[&Flight], Instant) -> Vec<Planned>,
    ) -> Vec<String> {
        self.facts.judge(self.now);
        let flights: Vec<&Flight> = self.flights.iter().collect();
        let planned = plan(&mut self.facts, &flights, self.now);
        let mut words: Vec<String> = planned
            .iter()
            .map(|planned| format!("{} {}", planned.node, in_words(&planned.question)))
            .collect();
        words.sort();
        words
    }
}

fn in_words(question: &Question) -> String {
    match question {
        Question::Identity => "identity".to_owned(),
        Question::Final(head) => format!("final at {}", name(*head)),
        Question::Root { head, .. } => format!("root below {head}"),
        Question::Down { from, .. } => format!("down from {}", name(*from)),
        Question::Up { from, to, .. } => format!("up {from} to {to}"),
        Question::OnBranch { block, .. } => format!("on branch {}", name(block.hash)),
        Question::Ahead { from, to } => format!("ahead {from} to {to}"),
        Question::Block(header, Detail::Results) => format!("block {}", name(header.hash)),
        Question::Block(header, detail) => format!("{detail:?} of block {}", name(header.hash)),
    }
}
