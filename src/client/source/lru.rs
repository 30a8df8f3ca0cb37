//! A map in LRU order that counts the bytes of its values.
//!
//! Every operation is a hash lookup and a few assignments. The map has no lock, no limit and no eviction of its own:
//! values are taken out, so that a caller can drop them after releasing its lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    bytes: usize,
    newer: usize,
    older: usize,
}

/// Values from the least to the most recently used.
#[derive(Debug)]
pub struct Lru<K, V, S = RandomState> {
    places: HashMap<K, usize, S>,
    nodes: Vec<Node<K, V>>,
    newest: usize,
    oldest: usize,
    bytes: usize,
}

impl<K: Copy + Eq + Hash, V, S: BuildHasher + Default> Default for Lru<K, V, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash, V, S: BuildHasher + Default> Lru<K, V, S> {
    /// An empty map.
    pub fn new() -> Self {
        Self { places: HashMap::default(), nodes: Vec::new(), newest: NONE, oldest: NONE, bytes: 0 }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Total size of all values, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `key` is present; does not change its age.
    pub fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Returns the value of `key`, which becomes the most recently used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let at = *self.places.get(key)?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        Some(&self.nodes[at].value)
    }

    /// Inserts `value` as the most recently used; returns the one it replaces.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) -> Option<V> {
        let replaced = self.remove(&key);
        let at = self.nodes.len();
        self.nodes.push(Node { key, value, bytes, newer: NONE, older: NONE });
        self.places.insert(key, at);
        self.bytes += bytes;
        self.link_newest(at);
        replaced
    }

    /// The least recently used value; this does not count as use.
    pub fn oldest(&self) -> Option<(K, &V)> {
        let oldest = self.nodes.get(self.oldest)?;
        Some((oldest.key, &oldest.value))
    }

    /// Removes the least recently used value.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (key, _) = self.oldest()?;
        self.remove(&key).map(|value| (key, value))
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.places.remove(key)?;
        self.unlink(at);
        let last = self.nodes.len() - 1;
        if at != last {
            self.relocate(last, at);
        }
        let node = self.nodes.swap_remove(at);
        self.bytes -= node.bytes;
        Some(node.value)
    }

    /// Updates all references to the node at `from`, which is about to move to `to`.
    fn relocate(&mut self, from: usize, to: usize) {
        let Node { key, newer, older, .. } = self.nodes[from];
        self.places.insert(key, to);
        match newer {
            NONE => self.newest = to,
            newer => self.nodes[newer].older = to,
        }
        match older {
            NONE => self.oldest = to,
            older => self.nodes[older].newer = to,
        }
    }

    fn unlink(&mut self, at: usize) {
        let Node { newer, older, .. } = self.nodes[at];
        match newer {
            NONE => self.newest = older,
            newer => self.nodes[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.nodes[older].newer = newer,
        }
    }

    fn link_newest(&mut self, at: usize) {
        let second = self.newest;
        self.nodes[at].newer = NONE;
        self.nodes[at].older = second;
        match second {
            NONE => self.oldest = at,
            second => self.nodes[second].newer = at,
        }
        self.newest = at;
    }
}
