//! Rows that are durable in the journal and not yet in LMDB, held in order.
//!
//! A [`Layer`] is a persistent map for each table: a clone costs next to nothing and never changes, so readers keep the
//! one that they began with while the writer goes on. A row that was removed is held as such, for it hides the one
//! below.
//! What it must never do: let a row of a lower layer show through a newer one.

use imbl::OrdSet;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Add;
use std::ops::Bound;
use std::sync::Arc;
use tanist_engine::db::store::{Direction, Row, Rows, StoreResult, Table};

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

    fn value(&self) -> Option<&[u8]> {
        (!self.removed).then(|| &self.row[usize::from(self.key_length)..])
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
        self.rows[table as usize].get(key).map(Held::value)
    }

    /// The rows between two bounds, which are not crossed, with those of the layers below.
    pub fn over<'a>(
        &'a self,
        table: Table,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        below: Rows<'a>,
    ) -> Rows<'a> {
        let range = self.rows[table as usize].range::<_, [u8]>((from, to));
        let own = range.map(|held| (held.key(), held.value()));
        let mut own: Peekable<Box<dyn Iterator<Item = OwnRow<'a>> + 'a>> = match direction {
            Direction::Forward => Box::new(own) as Box<dyn Iterator<Item = _>>,
            Direction::Backward => Box::new(own.rev()),
        }
        .peekable();
        match own.peek() {
            Some(_) => Box::new(Merge { own, below: below.peekable(), direction }),
            None => below,
        }
    }

    /// All that it holds, in the order of tables and keys.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        Table::ALL.into_iter().flat_map(|table| self.rows[table as usize].iter().map(move |held| held.change(table)))
    }
}

type OwnRow<'a> = (&'a [u8], Option<&'a [u8]>);

/// The rows of a layer over those below it; where both know a key, the layer's counts.
struct Merge<'a> {
    own: Peekable<Box<dyn Iterator<Item = OwnRow<'a>> + 'a>>,
    below: Peekable<Rows<'a>>,
    direction: Direction,
}

impl<'a> Iterator for Merge<'a> {
    type Item = StoreResult<Row<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.own.peek(), self.below.peek()) {
                (None, _) | (_, Some(Err(_))) => return self.below.next(),
                (Some(_), None) => Ordering::Less,
                (Some((own, _)), Some(Ok((below, _)))) => match self.direction {
                    Direction::Forward => own.cmp(below),
                    Direction::Backward => below.cmp(own),
                },
            };
            if order == Ordering::Greater {
                return self.below.next();
            }
            if order == Ordering::Equal {
                self.below.next();
            }
            if let Some((key, Some(value))) = self.own.next() {
                return Some(Ok((key, value)));
            }
        }
    }
}
