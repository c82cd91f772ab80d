//! A store in memory, with an unsynced tail: what the simulator's disk is made of.

use super::store::*;

#[derive(Clone, Debug, Default)]
pub struct MemStore {}

impl MemStore {
    pub fn new() -> MemStore {
        MemStore::default()
    }

    /// Committed transactions that a crash may still take away.
    pub fn unsynced(&self) -> usize {
        todo!()
    }

    /// Everything committed so far is durable now.
    pub fn sync(&mut self) {
        todo!()
    }

    /// The oldest `count` of the unsynced transactions are durable now.
    pub fn sync_some(&mut self, _count: usize) {
        todo!()
    }

    /// Only the oldest `keep` of the unsynced transactions survive.
    pub fn crash(&mut self, _keep: usize) {
        todo!()
    }

    /// Bytes of keys and values at which `put` fails with [`StoreError::Full`].
    pub fn set_capacity(&mut self, _bytes: Option<usize>) {
        todo!()
    }

    /// Flips a bit of the value: false if there is no such row. For tests.
    pub fn corrupt(&mut self, _table: Table, _key: &[u8]) -> bool {
        todo!()
    }
}

impl Store for MemStore {
    fn snapshot(&self) -> StoreResult<Box<dyn Snapshot + '_>> {
        todo!()
    }

    fn begin(&mut self) -> StoreResult<Box<dyn Txn + '_>> {
        todo!()
    }
}
