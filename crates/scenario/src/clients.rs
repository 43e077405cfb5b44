//! The current clients of the nodes.

use std::fmt;
use std::sync::{Arc, Mutex};

use watchkeeper::report::names;
use watchkeeper::{DynError, ObservedSource, SourceProvider, async_trait};

use crate::guarded::Panics;
use crate::panics::discard;
use crate::subject::Subject;
use crate::sync::lock;

/// How many bytes of names a warning shows.
const NAMES: usize = 1000;

/// The current set of node clients, by node name; clones share the set.
///
/// A deployer keeps the set current: a node that restarts elsewhere gets another client under the same
/// name; a node that joins or leaves is inserted or removed. The set is a [`SourceProvider`], so an
/// observer over it follows restarts.
///
/// Each name belongs to one source. If a node joins under the name of an external endpoint of a
/// [`ManualCluster`](crate::ManualCluster), the node is the source: the endpoint is none until the node has
/// left, or until the endpoint is removed and added under another name. That is logged as a warning.
pub struct NodeClients<C> {
    set: Arc<Mutex<Set<C>>>,
}

/// The external endpoints; clones share them.
pub(crate) struct ExternalClients<C> {
    set: Arc<Mutex<Set<C>>>,
}

/// Clients are in `Arc`s, so that no code of the app, not even a `Clone`, runs under the lock.
type Named<C> = (Arc<str>, Arc<C>);

struct Set<C> {
    nodes: Vec<Named<C>>,
    external: Vec<Named<C>>,
    /// How many times nodes or endpoints have changed.
    revision: u64,
    /// Collects panics in destructors of clients, and the subject that they are recorded for. `None` until a run or a
    /// manual cluster has the set.
    panics: Option<(Panics, Subject)>,
}

impl<C> Set<C> {
    fn take(&mut self, of: impl Fn(&mut Self) -> &mut Vec<Named<C>>, name: &str) -> Option<Arc<C>> {
        let at = of(self).iter().position(|(known, _)| **known == *name)?;
        self.revision += 1;
        Some(of(self).remove(at).1)
    }
}

impl<C> Drop for Set<C> {
    /// One by one: of two destructors that panic in one `Vec`, the second would abort the process.
    fn drop(&mut self) {
        let panics = self.panics.take();
        self.nodes
            .drain(..)
            .chain(self.external.drain(..))
            .for_each(|client| discard_to(panics.as_ref(), client));
    }
}

fn discard_to<C>(panics: Option<&(Panics, Subject)>, client: Named<C>) {
    match panics {
        Some((panics, subject)) => panics.discard(subject, client),
        None => discard(client),
    }
}

impl<C> Clone for NodeClients<C> {
    fn clone(&self) -> Self {
        Self { set: Arc::clone(&self.set) }
    }
}

impl<C> Clone for ExternalClients<C> {
    fn clone(&self) -> Self {
        Self { set: Arc::clone(&self.set) }
    }
}

impl<C> Default for NodeClients<C> {
    fn default() -> Self {
        let set = Set { nodes: Vec::new(), external: Vec::new(), revision: 0, panics: None };
        Self { set: Arc::new(Mutex::new(set)) }
    }
}

impl<C> fmt::Debug for NodeClients<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<Arc<str>> = names_of(&lock(&self.set).nodes);
        f.debug_struct("NodeClients").field("names", &names).finish_non_exhaustive()
    }
}

impl<C: Clone> NodeClients<C> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The client of the node called `node`, if there is one.
    #[must_use]
    pub fn get(&self, node: &str) -> Option<C> {
        let client = find(&lock(&self.set).nodes, node);
        client.map(|client| C::clone(&client))
    }

    /// All nodes, with their names.
    #[must_use]
    pub fn all(&self) -> Vec<ObservedSource<C>> {
        let nodes = lock(&self.set).nodes.clone();
        sources(&nodes)
    }

    /// The names of all nodes.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = names_of(&lock(&self.set).nodes);
        names.iter().map(ToString::to_string).collect()
    }

    /// Adds a node. If there is one with this name, replaces its client and returns the old one.
    pub fn insert(&self, node: &str, client: C) -> Option<C> {
        let client = Arc::new(client);
        let (old, displaced) = {
            let mut set = lock(&self.set);
            set.revision += 1;
            if let Some((_, known)) = set.nodes.iter_mut().find(|(known, _)| **known == *node) {
                (Some(std::mem::replace(known, client)), None)
            } else {
                set.nodes.push((Arc::from(node), client));
                (None, find(&set.external, node).map(|_| Arc::from(node)))
            }
        };
        warn_of(displaced.as_slice());
        old.map(Arc::unwrap_or_clone)
    }

    /// Removes a node and returns its client.
    #[allow(clippy::must_use_candidate, reason = "removing is the point; the client is a courtesy")]
    pub fn remove(&self, node: &str) -> Option<C> {
        let removed = lock(&self.set).take(|set| &mut set.nodes, node);
        removed.map(Arc::unwrap_or_clone)
    }

    /// Replaces the whole set. Of two nodes with the same name the first is kept, and a warning is logged.
    pub fn replace(&self, nodes: Vec<ObservedSource<C>>) {
        let mut named: Vec<Named<C>> = Vec::with_capacity(nodes.len());
        let mut twice = Vec::new();
        for node in nodes {
            match find(&named, &node.name) {
                Some(_) => twice.push(node.name),
                None => named.push((Arc::from(node.name), Arc::new(node.source))),
            }
        }
        if !twice.is_empty() {
            let twice = names(twice.iter().map(String::as_str), NAMES);
            tracing::warn!(
                "of two nodes with the same name the second is left out; give each its own name: {twice}"
            );
        }
        let (old, displaced, panics) = {
            let mut set = lock(&self.set);
            set.revision += 1;
            let old = std::mem::replace(&mut set.nodes, named);
            let displaced = set
                .external
                .iter()
                .map(|(name, _)| name)
                .filter(|name| find(&set.nodes, name).is_some() && find(&old, name).is_none());
            let displaced: Vec<Arc<str>> = displaced.cloned().collect();
            (old, displaced, set.panics.clone())
        };
        warn_of(&displaced);
        for client in old {
            discard_to(panics.as_ref(), client);
        }
    }

    /// Begins to collect panics in destructors of clients, for `subject`.
    pub(crate) fn collect(&self, panics: &Panics, subject: &Subject) {
        lock(&self.set).panics = Some((panics.clone(), subject.clone()));
    }

    /// The external endpoints of the same set.
    pub(crate) fn external(&self) -> ExternalClients<C> {
        ExternalClients { set: Arc::clone(&self.set) }
    }
}

impl<C: Clone> ExternalClients<C> {
    /// Adds an endpoint. If a node, another endpoint or one of `nodes` has its name, returns all names instead.
    pub(crate) fn add(&self, name: &str, client: C, nodes: Vec<String>) -> Result<(), Vec<String>> {
        // A refused client is dropped after the lock.
        let client = Arc::new(client);
        let mut set = lock(&self.set);
        let present = set.nodes.iter().chain(&set.external).map(|(name, _)| name.to_string());
        let mut known: Vec<String> = present.collect();
        // A node that is down keeps its name.
        known.extend(nodes.into_iter().filter(|node| find(&set.nodes, node).is_none()));
        if known.iter().any(|known| known == name) {
            return Err(known);
        }
        set.revision += 1;
        set.external.push((Arc::from(name), client));
        Ok(())
    }

    /// The client of the endpoint called `name`, also while a node with this name is the source.
    pub(crate) fn get(&self, name: &str) -> Option<C> {
        let client = find(&lock(&self.set).external, name);
        client.map(|client| C::clone(&client))
    }

    pub(crate) fn remove(&self, name: &str) -> Option<C> {
        let removed = lock(&self.set).take(|set| &mut set.external, name);
        removed.map(Arc::unwrap_or_clone)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = names_of(&lock(&self.set).external);
        names.iter().map(ToString::to_string).collect()
    }

    /// The nodes, and the endpoints whose names no node has.
    pub(crate) fn with_nodes(&self) -> Vec<ObservedSource<C>> {
        let all = {
            let set = lock(&self.set);
            let mut all = set.nodes.clone();
            all.extend(set.external.iter().filter(|(name, _)| find(&set.nodes, name).is_none()).cloned());
            all
        };
        sources(&all)
    }

    /// A number that changes whenever the result of [`with_nodes`](Self::with_nodes) may have changed.
    pub(crate) fn revision(&self) -> u64 {
        lock(&self.set).revision
    }
}

fn find<C>(named: &[Named<C>], name: &str) -> Option<Arc<C>> {
    named.iter().find(|(known, _)| **known == *name).map(|(_, client)| Arc::clone(client))
}

fn names_of<C>(named: &[Named<C>]) -> Vec<Arc<str>> {
    named.iter().map(|(name, _)| Arc::clone(name)).collect()
}

fn sources<C: Clone>(named: &[Named<C>]) -> Vec<ObservedSource<C>> {
    named.iter().map(|(name, client)| ObservedSource::new(&**name, C::clone(client))).collect()
}

/// Warns of nodes that have the names of external endpoints.
fn warn_of(displaced: &[Arc<str>]) {
    if displaced.is_empty() {
        return;
    }
    let displaced = names(displaced.iter().map(|name| &**name), NAMES);
    tracing::warn!(
        "a node and an external endpoint have the same name: {displaced}; the node is the source, and the endpoint is \
         none until it is removed and added under another name"
    );
}

#[async_trait]
impl<C: Clone + Send + Sync + 'static> SourceProvider<C> for NodeClients<C> {
    async fn sources(&self) -> Result<Vec<ObservedSource<C>>, DynError> {
        Ok(self.all())
    }

    fn revision(&self) -> Option<u64> {
        Some(lock(&self.set).revision)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    fn named(sources: &[ObservedSource<u32>]) -> Vec<(&str, u32)> {
        sources.iter().map(|source| (source.name.as_str(), source.source)).collect()
    }

    #[test]
    fn a_node_that_joins_under_the_name_of_an_endpoint_is_the_only_source_of_that_name() {
        let nodes = NodeClients::new();
        let external = nodes.external();
        nodes.insert("n1", 1);
        external.add("n3", 33, Vec::new()).unwrap();
        assert_eq!(named(&external.with_nodes()), [("n1", 1), ("n3", 33)]);

        nodes.insert("n3", 3);
        assert_eq!(named(&external.with_nodes()), [("n1", 1), ("n3", 3)]);
        assert_eq!((nodes.get("n3"), external.get("n3")), (Some(3), Some(33)), "nothing is lost");
        nodes.remove("n3");
        assert_eq!(named(&external.with_nodes()), [("n1", 1), ("n3", 33)]);

        nodes.replace(vec![ObservedSource::new("n3", 4)]);
        assert_eq!(named(&external.with_nodes()), [("n3", 4)]);
        assert_eq!(external.remove("n3"), Some(33));
        assert_eq!(named(&external.with_nodes()), [("n3", 4)]);
    }

    /// Sources are fetched again only when the revision differs.
    #[test]
    fn each_change_gives_another_revision_and_nothing_else_does() {
        let nodes = NodeClients::new();
        let external = nodes.external();
        let change = |of: &dyn Fn()| {
            let before = nodes.revision();
            of();
            assert_eq!(nodes.revision(), Some(external.revision()));
            nodes.revision() != before
        };
        assert!(change(&|| _ = nodes.insert("n1", 1)), "one more");
        assert!(change(&|| _ = nodes.insert("n1", 2)), "another client");
        assert!(change(&|| external.add("e1", 3, Vec::new()).unwrap()));
        assert!(change(&|| nodes.replace(vec![ObservedSource::new("n2", 4)])));
        assert!(!change(&|| _ = nodes.remove("n1")), "not there");
        assert!(change(&|| _ = nodes.remove("n2")));
        assert!(!change(&|| _ = external.remove("n2")));
        assert!(change(&|| _ = external.remove("e1")));
        assert!(!change(&|| _ = (nodes.all(), nodes.names(), external.names())));
        assert!(!change(&|| _ = external.add("", 3, vec![String::new()]).unwrap_err()), "refused");
    }

    #[test]
    fn of_two_nodes_with_the_same_name_the_first_is_kept() {
        let nodes = NodeClients::new();
        let of = ObservedSource::new;
        nodes.replace(vec![of("n1", 1), of("n2", 2), of("n1", 3)]);
        assert_eq!(named(&nodes.all()), [("n1", 1), ("n2", 2)]);
    }

    #[test]
    fn a_node_that_is_down_keeps_its_name() {
        let nodes = NodeClients::new();
        nodes.insert("n1", 1);
        let refused = nodes.external().add("n2", 2, vec!["n1".to_owned(), "n2".to_owned()]);
        assert_eq!(refused, Err(vec!["n1".to_owned(), "n2".to_owned()]));
    }

    /// The first client was lost, and both calls returned `Ok`.
    #[test]
    fn of_endpoints_added_at_once_under_one_name_one_is_added_and_the_others_are_refused() {
        for round in 0..500 {
            let nodes = NodeClients::new();
            let external = nodes.external();
            let added: Vec<u32> = thread::scope(|scope| {
                let adding = [1, 2, 3].map(|client| {
                    let external = &external;
                    scope.spawn(move || external.add("outside", client, Vec::new()).is_ok().then_some(client))
                });
                let joining = scope.spawn(|| nodes.insert("n1", 0));
                assert_eq!(joining.join().unwrap(), None);
                adding.into_iter().filter_map(|adding| adding.join().unwrap()).collect()
            });
            assert_eq!(added.len(), 1, "round {round}");
            assert_eq!(external.get("outside"), Some(added[0]), "round {round}");
        }
    }

    #[test]
    fn no_name_appears_twice_while_nodes_and_endpoints_join_and_leave() {
        let nodes = NodeClients::new();
        let external = nodes.external();
        thread::scope(|scope| {
            scope.spawn(|| {
                for client in 0..500 {
                    nodes.insert("n3", client);
                    nodes.remove("n3");
                }
            });
            scope.spawn(|| {
                for client in 0..500 {
                    // Refused while the node is there.
                    let _ = external.add("n3", client, Vec::new());
                    external.remove("n3");
                }
            });
            for _ in 0..500 {
                let seen = external.with_nodes();
                let distinct: BTreeSet<&str> = seen.iter().map(|source| source.name.as_str()).collect();
                assert_eq!(distinct.len(), seen.len());
            }
        });
    }
}
