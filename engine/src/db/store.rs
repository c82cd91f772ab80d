//! What the engine asks of a storage engine: ordered byte rows in a few tables, one writer, snapshots for readers.
//!
//! Two implementations keep this contract: [`super::mem::MemStore`] (a tree with an unsynced tail, for the simulator)
//! and the server's LMDB store. One contract test runs the same random operations against both.
//!
//! The contract:
//! 1. A [`Snapshot`] never changes. Readers never wait for the writer.
//! 2. There is one writer. A [`Txn`] sees its own writes; nothing of it is seen by others before `commit`.
//! 3. `commit` returns only when the transaction is durable. After a crash the store holds exactly some prefix of the
//!    committed transactions that includes all whose `commit` returned.
//! 4. A transaction that is dropped, or whose `commit` fails, leaves nothing behind.
//! 5. Keys are 1 to [`KEY_BYTES_MAX`] bytes and ordered as bytes; a longer key is the caller's mistake (a panic).

use std::cmp::Ordering;
use std::fmt;
use std::iter::Peekable;
use std::ops::Bound;

/// LMDB's limit, kept by both stores.
pub const KEY_BYTES_MAX: usize = 511;

/// The few tables that exist. The layout of keys and values is told where they are used (`db/rows.rs`, `exec.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Identity, format version, epochs seen, Raft hard state: single rows by name.
    Meta,
    /// Databases, collections, epoch history, counters; each key begins with the data generation.
    Catalog,
    /// (generation, object, revision) -> document.
    Documents,
    /// (generation, object, `_key`) -> revision.
    Keys,
    /// (generation, object, index, values, revision) -> nothing, or values that are too long for a key.
    Index,
    /// (generation, tick) -> replication log entry.
    Log,
    /// What rollbacks took away.
    Rollback,
    /// (index) -> Raft log entry of an agent.
    Raft,
}

impl Table {
    pub const ALL: [Table; 8] = [
        Table::Meta,
        Table::Catalog,
        Table::Documents,
        Table::Keys,
        Table::Index,
        Table::Log,
        Table::Rollback,
        Table::Raft,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Catalog => "catalog",
            Table::Documents => "documents",
            Table::Keys => "keys",
            Table::Index => "index",
            Table::Log => "log",
            Table::Rollback => "rollback",
            Table::Raft => "raft",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StoreError {
    /// The disk or the map is full: nothing of the transaction was kept, and reading goes on.
    Full,
    /// A record does not match its checksum or can't be decoded; says which.
    Corrupt(String),
    /// The operating system refused.
    Io(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str("the storage is full"),
            StoreError::Corrupt(what) => write!(f, "corrupt record: {what}"),
            StoreError::Io(what) => write!(f, "storage failed: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}

pub type StoreResult<T> = Result<T, StoreError>;

/// A row as a scan hands it out.
pub type Row<'a> = (&'a [u8], &'a [u8]);
pub type Rows<'a> = Box<dyn Iterator<Item = StoreResult<Row<'a>>> + 'a>;

/// Whether no key can lie between two bounds, as when they are crossed: a scan then yields nothing.
pub fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}

/// All rows whose keys begin with `prefix`, which must not be empty or all 0xff.
pub fn scan_prefix<'a>(rows: &'a dyn Read, table: Table, prefix: &[u8], direction: Direction) -> Rows<'a> {
    let end = prefix_end(prefix);
    rows.scan(table, Bound::Included(prefix), Bound::Excluded(&end), direction)
}

/// The first key after all those that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    *end.last_mut().expect("a prefix of nothing but 0xff has no end") += 1;
    end
}

/// A row as a change leaves it: its key, and its value or `None` if it is removed.
pub type ChangedRow<'a> = (&'a [u8], Option<&'a [u8]>);

/// Rows with changes over them, which come in the order of their keys, as one scan. A change hides the row of its key.
pub fn scan_changed<'a>(
    rows: Rows<'a>,
    changes: impl DoubleEndedIterator<Item = ChangedRow<'a>> + 'a,
    direction: Direction,
) -> Rows<'a> {
    let mut changes = changes.peekable();
    if changes.peek().is_none() {
        return rows;
    }
    let changes: Box<dyn Iterator<Item = ChangedRow<'a>> + 'a> = match direction {
        Direction::Forward => Box::new(changes),
        Direction::Backward => Box::new(changes.rev()),
    };
    Box::new(Merge { rows: rows.peekable(), changes: changes.peekable(), direction })
}

/// Two runs in the same order, as one.
struct Merge<'a> {
    rows: Peekable<Rows<'a>>,
    changes: Peekable<Box<dyn Iterator<Item = ChangedRow<'a>> + 'a>>,
    direction: Direction,
}

impl<'a> Iterator for Merge<'a> {
    type Item = StoreResult<Row<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.rows.peek(), self.changes.peek()) {
                (Some(Err(_)), _) | (_, None) => return self.rows.next(),
                (None, Some(_)) => Ordering::Greater,
                (Some(Ok((row, _))), Some((changed, _))) => match self.direction {
                    Direction::Forward => row.cmp(changed),
                    Direction::Backward => changed.cmp(row),
                },
            };
            if order == Ordering::Less {
                return self.rows.next();
            }
            if order == Ordering::Equal {
                self.rows.next();
            }
            if let Some((key, Some(value))) = self.changes.next() {
                return Some(Ok((key, value)));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// Something rows can be read from: a snapshot, or a transaction with its own writes.
pub trait Read {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>>;

    /// The rows between two bounds, in key order or against it.
    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a>;
}

/// A view of the store as it was at one commit.
pub trait Snapshot: Read {}

/// The one transaction that may write. Dropped without `commit`, it leaves nothing behind.
pub trait Txn: Read {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> StoreResult<()>;

    /// Removing what is not there is no error.
    fn remove(&mut self, table: Table, key: &[u8]) -> StoreResult<()>;

    /// Returns when everything is durable.
    fn commit(self: Box<Self>) -> StoreResult<()>;
}

pub trait Store {
    fn snapshot(&self) -> StoreResult<Box<dyn Snapshot + '_>>;

    fn begin(&mut self) -> StoreResult<Box<dyn Txn + '_>>;
}
