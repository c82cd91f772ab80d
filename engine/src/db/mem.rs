//! A store in memory, with an unsynced tail: what the simulator's disk is made of.
//!
//! It keeps the contract but for one thing: `commit` returns before the transaction is durable. Whoever owns the store
//! calls [`MemStore::sync`] when the simulated disk has done its work, tells nobody of a commit before, and may
//! [`MemStore::crash`] it at any time.

use super::store::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// What a change replaced.
type Undo = (Table, Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug, Default, Hash)]
pub struct MemStore {
    /// One tree a table, in the order of [`Table::ALL`].
    tables: [BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()],
    /// For each committed transaction that is not durable, oldest first, how to take it back.
    tail: VecDeque<Vec<Undo>>,
    bytes_used: usize,
    bytes_max: Option<usize>,
}

impl MemStore {
    pub fn new() -> MemStore {
        MemStore::default()
    }

    /// How many committed transactions a crash may still take away. One that changed nothing does not count.
    pub fn unsynced(&self) -> usize {
        self.tail.len()
    }

    /// Everything committed so far is durable now.
    pub fn sync(&mut self) {
        self.tail.clear();
    }

    /// The oldest `count` of the unsynced transactions are durable now.
    pub fn sync_some(&mut self, count: usize) {
        self.tail.drain(..count.min(self.tail.len()));
    }

    /// Only the oldest `keep` of the unsynced transactions survive.
    pub fn crash(&mut self, keep: usize) {
        while self.tail.len() > keep {
            let undo = self.tail.pop_back().expect("longer than what is kept");
            self.take_back(undo);
        }
        self.tail.clear();
    }

    /// Bytes of keys and values at which `put` fails with [`StoreError::Full`].
    pub fn set_capacity(&mut self, bytes_max: Option<usize>) {
        self.bytes_max = bytes_max;
    }

    /// Bytes of keys and values.
    pub fn bytes_used(&self) -> usize {
        self.bytes_used
    }

    /// Flips a bit in the middle of the value; false if there is no such row or it is empty.
    pub fn corrupt(&mut self, table: Table, key: &[u8]) -> bool {
        match self.tables[table as usize].get_mut(key) {
            Some(value) if !value.is_empty() => {
                let middle = value.len() / 2;
                value[middle] ^= 1;
                true
            }
            _ => false,
        }
    }

    /// Puts or removes one row; returns what it replaced.
    fn change(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let tree = &mut self.tables[table as usize];
        let (added, old) = match value {
            Some(value) => {
                let added = key.len() + value.len();
                (added, tree.insert(key.to_vec(), value))
            }
            None => (0, tree.remove(key)),
        };
        self.bytes_used += added;
        self.bytes_used -= old.as_ref().map_or(0, |old| key.len() + old.len());
        old
    }

    fn take_back(&mut self, undo: Vec<Undo>) {
        for (table, key, old) in undo.into_iter().rev() {
            self.change(table, &key, old);
        }
    }
}

fn get<'a>(store: &'a MemStore, table: Table, key: &[u8]) -> Option<&'a [u8]> {
    store.tables[table as usize].get(key).map(Vec::as_slice)
}

fn scan<'a>(store: &'a MemStore, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
    if is_empty_range(from, to) {
        return Box::new(std::iter::empty());
    }
    let range = store.tables[table as usize].range::<[u8], _>((from, to));
    let rows = range.map(|(key, value)| Ok((key.as_slice(), value.as_slice())));
    match direction {
        Direction::Forward => Box::new(rows),
        Direction::Backward => Box::new(rows.rev()),
    }
}

/// Nobody writes while a snapshot borrows the store.
struct MemSnapshot<'a>(&'a MemStore);

impl Read for MemSnapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        Ok(get(self.0, table, key))
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        scan(self.0, table, from, to, direction)
    }
}

impl Snapshot for MemSnapshot<'_> {}

/// Changes the trees at once, and takes the changes back if it is dropped.
struct MemTxn<'a> {
    store: &'a mut MemStore,
    undo: Vec<Undo>,
}

impl Read for MemTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        Ok(get(self.store, table, key))
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        scan(self.store, table, from, to, direction)
    }
}

impl Txn for MemTxn<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> StoreResult<()> {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
        if let Some(bytes_max) = self.store.bytes_max {
            let freed = get(self.store, table, key).map_or(0, |old| key.len() + old.len());
            if self.store.bytes_used - freed + key.len() + value.len() > bytes_max {
                return Err(StoreError::Full);
            }
        }
        let old = self.store.change(table, key, Some(value.to_vec()));
        self.undo.push((table, key.to_vec(), old));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> StoreResult<()> {
        if let Some(old) = self.store.change(table, key, None) {
            self.undo.push((table, key.to_vec(), Some(old)));
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> StoreResult<()> {
        let undo = std::mem::take(&mut self.undo);
        if !undo.is_empty() {
            self.store.tail.push_back(undo);
        }
        Ok(())
    }
}

impl Drop for MemTxn<'_> {
    fn drop(&mut self) {
        self.store.take_back(std::mem::take(&mut self.undo));
    }
}

impl Store for MemStore {
    fn snapshot(&self) -> StoreResult<Box<dyn Snapshot + '_>> {
        Ok(Box::new(MemSnapshot(self)))
    }

    fn begin(&mut self) -> StoreResult<Box<dyn Txn + '_>> {
        Ok(Box::new(MemTxn { store: self, undo: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::{self, ContractStore};
    use super::*;

    impl ContractStore for MemStore {
        fn reopen(&mut self) {
            self.sync();
        }
    }

    #[test]
    fn keeps_the_contract() {
        for seed in 0..20 {
            contract::check(&mut MemStore::new(), seed, 500);
        }
    }

    fn put(store: &mut MemStore, key: u8) {
        let mut txn = store.begin().unwrap();
        txn.put(Table::Keys, &[key], &[key; 10]).unwrap();
        txn.commit().unwrap();
    }

    fn keys(store: &MemStore) -> Vec<u8> {
        store.tables[Table::Keys as usize].keys().map(|key| key[0]).collect()
    }

    #[test]
    fn a_crash_leaves_a_prefix_of_the_unsynced_tail() {
        let mut store = MemStore::new();
        put(&mut store, 1);
        store.sync();
        for key in 2..=5 {
            put(&mut store, key);
        }
        store.sync_some(1);
        assert_eq!(store.unsynced(), 3);
        store.crash(1);
        assert_eq!(keys(&store), [1, 2, 3]);
        assert_eq!((store.unsynced(), store.bytes_used()), (0, 33));
        store.crash(0);
        assert_eq!(keys(&store), [1, 2, 3], "what survived a crash is durable");
    }

    #[test]
    fn a_full_store_still_takes_what_fits_and_frees_by_removing() {
        let mut store = MemStore::new();
        store.set_capacity(Some(22));
        put(&mut store, 1);
        put(&mut store, 2);
        let mut txn = store.begin().unwrap();
        assert_eq!(txn.put(Table::Keys, &[3], &[0; 10]), Err(StoreError::Full));
        txn.put(Table::Keys, &[1], &[9; 10]).unwrap();
        txn.remove(Table::Keys, &[2]).unwrap();
        txn.put(Table::Keys, &[3], &[0; 10]).unwrap();
        txn.commit().unwrap();
        assert_eq!(keys(&store), [1, 3]);
    }
}
