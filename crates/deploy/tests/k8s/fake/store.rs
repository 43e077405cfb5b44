//! The objects, and all their changes by resource version.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Which object: its kind in the plural, as in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: String,
    /// Empty for kinds without a namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A change that watches emit.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    /// None for a bookmark, which every watch gets.
    pub(super) key: Option<Key>,
    /// ADDED, MODIFIED, DELETED, BOOKMARK.
    pub(super) word: &'static str,
    pub(super) object: Value,
}

#[derive(Default)]
pub(crate) struct Store {
    version: u64,
    /// Changes up to here are forgotten.
    forgotten: u64,
    objects: BTreeMap<Key, Value>,
    changes: Vec<Change>,
}

impl Key {
    pub(crate) fn of(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.objects.keys().cloned().collect()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> Vec<(Key, Value)> {
        let objects = self.objects.iter().filter(|(key, _)| key.kind == kind);
        objects.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Adds or replaces; the server's own metadata is kept, or made.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value) -> Value {
        let version = self.next_version();
        let old = self.objects.get(key);
        let uid = old.map_or_else(|| json!(format!("uid-{version}")), |old| old["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(key.namespace);
        }
        metadata["uid"] = uid;
        metadata["resourceVersion"] = json!(version.to_string());
        let word = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.clone(), object.clone());
        self.changes.push(Change { version, key: Some(key.clone()), word, object: object.clone() });
        object
    }

    /// Deletes, as a new version.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.changes.push(Change {
            version,
            key: Some(key.clone()),
            word: "DELETED",
            object: object.clone(),
        });
        Some(object)
    }

    /// Deletes a namespace with everything in it, as one step: no controller adds to it in between.
    pub(crate) fn remove_namespace(&mut self, name: &str) -> Option<Value> {
        for inside in self.keys().into_iter().filter(|inside| inside.namespace == name) {
            self.remove(&inside);
        }
        self.remove(&Key::of("namespaces", "", name))
    }

    /// Replaces the object that `object` is a newer state of; an object that was deleted stays so.
    pub(crate) fn update(&mut self, key: &Key, object: Value) {
        if self.get(key).is_some_and(|now| now["metadata"]["uid"] == object["metadata"]["uid"]) {
            self.put(key, object);
        }
    }

    pub(crate) fn bookmark(&mut self) -> u64 {
        let version = self.next_version();
        let object = json!({ "metadata": { "resourceVersion": version.to_string() } });
        self.changes.push(Change { version, key: None, word: "BOOKMARK", object });
        version
    }

    /// Watches that are open go on; new ones cannot begin before this.
    pub(crate) fn compact(&mut self) {
        self.forgotten = self.version;
    }

    pub(super) fn has_forgotten(&self, version: u64) -> bool {
        version < self.forgotten
    }

    /// The changes after `version`.
    pub(super) fn since(&self, version: u64) -> Vec<Change> {
        self.changes.iter().filter(|change| change.version > version).cloned().collect()
    }
}
