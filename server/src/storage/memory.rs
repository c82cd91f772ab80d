//! Rows that are durable in the journal and not yet in LMDB, held in order.
//!
//! A [`Layer`] is a persistent map for each table: a clone costs next to nothing and never changes, so readers keep the
//! one that they began with while the writer goes on. A row that was removed is held as such, for it hides the one
//! below.
//! What it must never do: let a row of a lower layer show through a newer one.

use imbl::OrdMap;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Add;
use std::ops::Bound;
use std::sync::Arc;
use tanist_engine::db::store::{Direction, Row, Rows, StoreResult, Table};

/// What a row takes beside its bytes, roughly.
const ROW_OVERHEAD_BYTES: usize = 64;

/// A row as it is to be: its value, or `None` if it is removed.
pub type Change<'a> = (Table, &'a [u8], Option<&'a [u8]>);

/// The value of each key, or `None` if it is removed.
type Map = OrdMap<Arc<[u8]>, Option<Arc<[u8]>>>;

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
    rows: [Map; Table::ALL.len()],
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
        let rows: usize = self.rows.iter().map(OrdMap::len).sum();
        Room { new_bytes: 2 * self.bytes as u64, touched_bytes: rows as u64 * PAGE_BYTES }
    }

    pub fn set(&mut self, (table, key, value): Change<'_>) {
        let rows = &mut self.rows[table as usize];
        self.bytes += size(key, value);
        if let Some(before) = rows.insert(key.into(), value.map(Arc::from)) {
            self.bytes -= size(key, before.as_deref());
        }
    }

    /// What this layer says of a row: nothing, that it is removed, or its value.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.rows[table as usize].get(key).map(Option::as_deref)
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
        let own = range.map(|(key, value)| (&**key, value.as_deref()));
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
        Table::ALL.into_iter().flat_map(|table| {
            self.rows[table as usize].iter().map(move |(key, value)| (table, &**key, value.as_deref()))
        })
    }
}

fn size(key: &[u8], value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + ROW_OVERHEAD_BYTES
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
