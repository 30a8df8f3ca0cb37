//! A map that knows which of its values was used least recently, and how many bytes all of them stand for.
//!
//! Every operation is a hash look-up and a few assignments. It locks nothing, limits nothing and drops nothing by itself:
//! what has to go is taken out, so that a caller can drop it after letting go of its own lock.

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

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True where `key` is held; its age stays as it is.
    pub fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// The value of `key`, which becomes the newest.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let at = *self.places.get(key)?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        Some(&self.nodes[at].value)
    }

    /// Holds `value` as the newest, and hands back what was there by this key.
    pub fn insert(&mut self, key: K, value: V, bytes: usize) -> Option<V> {
        let replaced = self.remove(&key);
        let at = self.nodes.len();
        self.nodes.push(Node { key, value, bytes, newer: NONE, older: NONE });
        self.places.insert(key, at);
        self.bytes += bytes;
        self.link_newest(at);
        replaced
    }

    /// The value that was used least recently; this does not count as using it.
    pub fn oldest(&self) -> Option<(K, &V)> {
        let oldest = self.nodes.get(self.oldest)?;
        Some((oldest.key, &oldest.value))
    }

    /// Takes the value out that was used least recently.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (key, _) = self.oldest()?;
        self.remove(&key).map(|value| (key, value))
    }

    /// Takes `key` out.
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

    /// Tells everybody that the node at `from` is about to be at `to`.
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
