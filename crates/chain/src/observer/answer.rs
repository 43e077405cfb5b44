//! How one node is asked, and how its answers are checked.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::Start;
use super::fetch::Found;
use super::hedge::hedged;
use super::question::Question;
use crate::adapter::{ChainClient, ChainError};
use crate::{Graph, Hash, Header, Height};

/// One node, asked with a limit.
#[derive(Clone, Debug)]
pub(super) struct NodeAnswer<C> {
    pub(super) client: C,
    pub(super) name: Arc<str>,
    /// How long one call may take, and how long all headers of one question together.
    pub(super) limit: Duration,
    /// How many headers one question may return.
    pub(super) budget: usize,
    /// How long a call waits before it is made again, as it may be lost.
    pub(super) patience: Duration,
    /// How many calls it gets concurrently, at least 1.
    pub(super) at_once: usize,
    /// It was in breach: before its branch is walked, it is asked whether that branch has the root.
    pub(super) suspect: bool,
}

impl<C: ChainClient> NodeAnswer<C> {
    pub(super) async fn answer(self, question: Question, graph: Option<Graph>) -> Found<C::Transaction> {
        match question {
            Question::Identity => Found::Identity(self.within(|| self.client.identity()).await),
            Question::Final(head) => Found::Final(head, self.within(|| self.client.finalised()).await),
            Question::Root { start, genesis, head } => Found::Root(self.root(start, genesis, head).await),
            Question::Block(header, detail) => {
                let block = timeout(self.limit, self.client.block(header.hash, detail))
                    .await
                    .map_err(|_| self.late());
                let block = block.and_then(|answer| answer);
                let checked = block.and_then(|block| match block {
                    Some(block) if block.header != header => {
                        Err(self.untrue("block", format!("{:?} does not match its header", header.hash)))
                    }
                    block => Ok(block),
                });
                Found::Block(header, detail, checked)
            }
            Question::Down { from, height, head } => {
                let Some(graph) = graph else { return Found::nothing(head, None) };
                self.downwards(&graph, from, height, head).await
            }
            Question::Up { from, to, gap, head } => {
                let Some(graph) = graph else { return Found::nothing(head, None) };
                self.upwards(&graph, from..=to, gap, head).await
            }
            Question::OnBranch { block, head } => {
                Found::OnBranch { block, head, there: self.at(block.height).await }
            }
            Question::Ahead { from, to } => {
                let mut headers = Vec::new();
                let end = Instant::now() + self.limit;
                let error = self.until(end, self.up(from..=to, &mut headers)).await.err();
                Found::Ahead { headers, error }
            }
        }
    }

    /// Closes a gap from above.
    async fn downwards(
        &self,
        graph: &Graph,
        from: Hash,
        height: Height,
        head: Hash,
    ) -> Found<C::Transaction> {
        if self.suspect && self.is_off(graph).await {
            return Found::Off { head, root: graph.root().hash };
        }
        let mut headers = Vec::new();
        let end = Instant::now() + self.limit;
        let error = self.until(end, self.down(graph, from, height, &mut headers)).await.err();
        // A branch without the root must not be kept, nor walked further.
        let is_linked = headers.last().is_none_or(|lowest| graph.contains(&lowest.parent));
        let is_true = matches!(error, None | Some(ChainError::TimedOut { .. }));
        if is_true && !is_linked && !self.suspect && self.is_off(graph).await {
            return Found::Off { head, root: graph.root().hash };
        }
        headers.reverse();
        Found::Headers { head, headers, gap: Some(from), error }
    }

    /// Closes a gap from below.
    async fn upwards(
        &self,
        graph: &Graph,
        heights: RangeInclusive<Height>,
        gap: Header,
        head: Hash,
    ) -> Found<C::Transaction> {
        if self.suspect && self.is_off(graph).await {
            return Found::Off { head, root: graph.root().hash };
        }
        let (from, mut headers) = (*heights.start(), Vec::new());
        let end = Instant::now() + self.limit;
        let error = self.until(end, self.up(heights, &mut headers)).await.err();
        let Some(first) = headers.first().copied() else {
            if error.is_some() {
                return Found::nothing(head, error);
            }
            // It has no such heights, though its head is above them.
            return self.downwards(graph, gap.parent, gap.height - 1, head).await;
        };
        if graph.contains(&first.parent) {
            return Found::Headers { head, headers, gap: None, error };
        }
        if !self.suspect && self.is_off(graph).await {
            return Found::Off { head, root: graph.root().hash };
        }
        // The node's branch is not the expected one: find the fork, if there is time.
        let mut below = Vec::new();
        let lost = self.until(end, self.down(graph, first.parent, from - 1, &mut below)).await.err();
        below.reverse();
        below.append(&mut headers);
        Found::Headers { head, headers: below, gap: None, error: error.or(lost) }
    }

    async fn root(&self, start: Start, genesis: Hash, head: Height) -> Result<Option<Header>, ChainError> {
        match start {
            Start::Genesis => self.within(|| self.client.header(genesis)).await,
            Start::Height(height) => self.at(height).await,
            Start::Recent(depth) => self.at(head.saturating_sub(depth)).await,
            Start::Known(_) => Ok(None),
        }
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        let header = self.within(|| self.client.header_at(height)).await?;
        match header {
            Some(header) if header.height != height => {
                Err(self.untrue("header_at", format!("asked for height {height}, got {}", header.height)))
            }
            header => Ok(header),
        }
    }

    /// Highest first, until the parent is in the graph, or the height is that of the root.
    ///
    /// The first one is requested by its hash. Below it several are requested at once, by height, as long as they link:
    /// twice as many each time, so that the depth of a fork costs few round trips.
    async fn down(
        &self,
        graph: &Graph,
        from: Hash,
        height: Height,
        headers: &mut Vec<Header>,
    ) -> Result<(), ChainError> {
        let (mut next, mut height, mut at_once) = (from, height, 1);
        while headers.len() < self.budget && height > graph.root().height {
            let before = headers.len();
            if at_once > 1 {
                let room = u64::try_from(at_once.min(self.budget - before)).unwrap_or(Height::MAX);
                let lowest = height.saturating_sub(room - 1).max(graph.root().height + 1);
                self.linked(graph, (lowest..=height).rev(), next, headers).await;
            }
            if headers.len() == before {
                headers.push(self.by_hash(next, height).await?);
            }
            let Some(lowest) = headers.last() else { return Ok(()) };
            if graph.contains(&lowest.parent) {
                return Ok(());
            }
            (next, height) = (lowest.parent, lowest.height - 1);
            at_once = (at_once * 2).min(self.at_once);
        }
        Ok(())
    }

    async fn by_hash(&self, hash: Hash, height: Height) -> Result<Header, ChainError> {
        let Some(header) = self.header(hash).await? else {
            return Err(self.untrue("header", format!("it has a child of {hash:?}, but not {hash:?}")));
        };
        if header.hash != hash || header.height != height {
            let found = format!("got {:?} at {}", header.hash, header.height);
            return Err(self.untrue("header", format!("asked for {hash:?} at {height}, {found}")));
        }
        Ok(header)
    }

    /// The headers at these heights, requested at once: those that link from `next` on, until one is linked to the
    /// graph. The node may be on another branch by now, or have no header by height: what is missing is requested by
    /// hash.
    async fn linked(
        &self,
        graph: &Graph,
        heights: impl Iterator<Item = Height>,
        mut next: Hash,
        headers: &mut Vec<Header>,
    ) {
        let mut answers = stream::iter(heights).map(|height| self.at(height)).buffered(self.at_once);
        while let Some(Ok(Some(header))) = answers.next().await {
            if header.hash != next {
                return;
            }
            headers.push(header);
            if graph.contains(&header.parent) {
                return;
            }
            next = header.parent;
        }
    }

    /// A backend of the address may lack what another one has returned: a header is asked for up to three times.
    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        for _ in 0..2 {
            if let Some(header) = hedged(self.patience, || self.client.header(hash)).await? {
                return Ok(Some(header));
            }
        }
        hedged(self.patience, || self.client.header(hash)).await
    }

    /// Whether the node's branch has another block at the root's height.
    async fn is_off(&self, graph: &Graph) -> bool {
        let root = graph.root();
        self.at(root.height).await.is_ok_and(|there| there.is_some_and(|there| there.hash != root.hash))
    }

    /// Lowest first, several concurrently. An error keeps the consecutive headers that came before it.
    async fn up(&self, heights: RangeInclusive<Height>, headers: &mut Vec<Header>) -> Result<(), ChainError> {
        let mut answers = stream::iter(heights).map(|height| self.at(height)).buffered(self.at_once);
        while let Some(answer) = answers.next().await {
            match answer? {
                Some(header) => headers.push(header),
                None => break,
            }
        }
        Ok(())
    }

    async fn within<V, F>(&self, call: impl Fn() -> F) -> Result<V, ChainError>
    where
        F: Future<Output = Result<V, ChainError>>,
    {
        timeout(self.limit, hedged(self.patience, call)).await.map_err(|_| self.late())?
    }

    async fn until(
        &self,
        end: Instant,
        walk: impl Future<Output = Result<(), ChainError>>,
    ) -> Result<(), ChainError> {
        timeout_at(end, walk).await.map_err(|_| self.late())?
    }

    fn late(&self) -> ChainError {
        ChainError::TimedOut { endpoint: self.name.to_string(), after: self.limit }
    }

    fn untrue(&self, method: &'static str, reason: String) -> ChainError {
        ChainError::Untrue { endpoint: self.name.to_string(), method, reason }
    }
}
