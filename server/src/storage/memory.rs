//! Rows that are durable in the journal and not yet in LMDB, held in order.
//!
//! A [`Layer`] is a persistent map for each table: a clone costs next to nothing and never changes, so readers keep the
//! one that they began with while the writer goes on. A row that was removed is held as such, for it hides the one
//! below.
//! What it must never do: forget that a row was removed, or change what a reader holds.

use imbl::OrdSet;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::{Add, Bound};
use std::sync::Arc;
use tanist_engine::db::store::{ChangedRow, Table};

/// What a row takes beside its bytes, roughly.
const ROW_OVERHEAD_BYTES: usize = 64;

/// A row as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    pub table: Table,
    /// The key, then the value.
    pub row: &'a [u8],
    pub key_length: u16,
    pub removed: bool,
}

impl<'a> Change<'a> {
    pub fn key(&self) -> &'a [u8] {
        &self.row[..usize::from(self.key_length)]
    }

    pub fn value(&self) -> Option<&'a [u8]> {
        (!self.removed).then(|| &self.row[usize::from(self.key_length)..])
    }
}

/// A row, in one piece of memory, known and ordered by its key.
#[derive(Clone)]
struct Held {
    row: Arc<[u8]>,
    key_length: u16,
    removed: bool,
}

impl Held {
    fn change(&self, table: Table) -> Change<'_> {
        Change { table, row: &self.row, key_length: self.key_length, removed: self.removed }
    }

    fn key(&self) -> &[u8] {
        &self.row[..usize::from(self.key_length)]
    }

    fn size(&self) -> usize {
        self.row.len() + ROW_OVERHEAD_BYTES
    }
}

impl Borrow<[u8]> for Held {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> Ordering {
        self.key().cmp(other.key())
    }
}

/// A page of LMDB's.
const PAGE_BYTES: u64 = 4096;

/// What rows take in LMDB at most, at the moment when they are moved there.
#[derive(Default)]
pub struct Room {
    /// For themselves, in pages that are half full.
    pub new_bytes: u64,
    /// For the pages in which they come to lie, each of which is written anew.
    pub touched_bytes: u64,
}

impl Add for Room {
    type Output = Room;

    fn add(self, other: Room) -> Room {
        Room { new_bytes: self.new_bytes + other.new_bytes, touched_bytes: self.touched_bytes + other.touched_bytes }
    }
}

/// See the module's documentation.
#[derive(Clone, Default)]
pub struct Layer {
    rows: [OrdSet<Held>; Table::ALL.len()],
    bytes: usize,
}

impl Layer {
    /// About as many bytes as it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn room(&self) -> Room {
        let rows: usize = self.rows.iter().map(OrdSet::len).sum();
        Room { new_bytes: 2 * self.bytes as u64, touched_bytes: rows as u64 * PAGE_BYTES }
    }

    pub fn set(&mut self, change: Change<'_>) {
        let Change { table, row, key_length, removed } = change;
        let held = Held { row: row.into(), key_length, removed };
        self.bytes += held.size();
        if let Some(before) = self.rows[table as usize].insert(held) {
            self.bytes -= before.size();
        }
    }

    /// What this layer says of a row: nothing, that it is removed, or its value.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.rows[table as usize].get(key).map(|held| held.change(table).value())
    }

    /// What it holds between two bounds, which are not crossed, in the order of the keys.
    pub fn range<'a>(
        &'a self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl DoubleEndedIterator<Item = ChangedRow<'a>> + use<'a> {
        self.rows[table as usize].range::<_, [u8]>(range).map(move |held| {
            let change = held.change(table);
            (change.key(), change.value())
        })
    }

    /// All that it holds, in the order of tables and keys.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        Table::ALL.into_iter().flat_map(|table| self.rows[table as usize].iter().map(move |held| held.change(table)))
    }
}
