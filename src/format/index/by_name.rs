//! Look-up of blocks by name: a sorted list of positions. It is smaller and faster than a hash map, and crafted names
//! cannot slow it down.

use std::cmp::Ordering;

use crate::format::block::BlockRow;
use crate::format::digest::BlockId;

/// The rows of an index, searchable by name.
pub(crate) struct ByName<'a> {
    rows: &'a [BlockRow],
    /// The first 8 bytes of each name and its position, sorted by the whole name, then by position.
    places: Vec<(u64, u32)>,
}

impl<'a> ByName<'a> {
    /// Sorts `rows`, at most 2^32 of them.
    pub fn new(rows: &'a [BlockRow]) -> Self {
        let mut places: Vec<_> = rows.iter().zip(0..).map(|(row, place)| (prefix(&row.id), place)).collect();
        let id = |place: u32| &rows[place as usize].id;
        places.sort_unstable_by(|a, b| match a.0.cmp(&b.0) {
            Ordering::Equal => (id(a.1), a.1).cmp(&(id(b.1), b.1)),
            order => order,
        });
        Self { rows, places }
    }

    /// The position of the block with this name; any of them if there are several.
    pub fn find(&self, name: &BlockId) -> Option<usize> {
        let wanted = prefix(name);
        let order = |(prefix, place): &(u64, u32)| match prefix.cmp(&wanted) {
            Ordering::Equal => self.rows[*place as usize].id.cmp(name),
            order => order,
        };
        self.places.binary_search_by(order).ok().map(|i| self.places[i].1 as usize)
    }

    /// The first row whose name an earlier row has, and the position of that row.
    pub fn repeated(&self) -> Option<(usize, usize)> {
        let id = |place: u32| &self.rows[place as usize].id;
        let same = |pair: &&[(u64, u32)]| pair[0].0 == pair[1].0 && id(pair[0].1) == id(pair[1].1);
        self.places.windows(2).filter(same).map(|pair| (pair[1].1 as usize, pair[0].1 as usize)).min()
    }
}

fn prefix(name: &BlockId) -> u64 {
    name.0[..8].iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
