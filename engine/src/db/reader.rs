//! What is read of the document engine: from a snapshot, or from a transaction with its own writes.

use super::rows::*;
use super::store::{Read, StoreResult};
use crate::message::Entry;
use crate::types::*;

/// A view of one generation of the data.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub(super) rows: &'a dyn Read,
    pub(super) generation: u32,
}

impl<'a> Reader<'a> {
    /// The data in use.
    pub fn new(_rows: &'a dyn Read) -> StoreResult<Reader<'a>> {
        todo!()
    }

    pub fn databases(&self) -> StoreResult<Vec<DatabaseRow>> {
        todo!()
    }

    pub fn database(&self, _name: &str) -> StoreResult<Option<DatabaseRow>> {
        todo!()
    }

    pub fn database_by_id(&self, _id: u64) -> StoreResult<Option<DatabaseRow>> {
        todo!()
    }

    /// All collections of a database, system collections included, in name order.
    pub fn collections(&self, _database: u64) -> StoreResult<Vec<CollectionRow>> {
        todo!()
    }

    /// By name, or by the digits of its id.
    pub fn collection(&self, _database: u64, _name_or_id: &str) -> StoreResult<Option<CollectionRow>> {
        todo!()
    }

    pub fn collection_by_id(&self, _id: u64) -> StoreResult<Option<CollectionRow>> {
        todo!()
    }

    pub fn document(&self, _collection: &CollectionRow, _key: &str) -> StoreResult<Option<Document>> {
        todo!()
    }

    pub fn document_at(&self, _collection: &CollectionRow, _revision: Revision) -> StoreResult<Option<Document>> {
        todo!()
    }

    /// In the order of their revisions, those after `after`, at most `limit`.
    pub fn documents(
        &self,
        _collection: &CollectionRow,
        _after: Option<Revision>,
        _limit: usize,
    ) -> StoreResult<Vec<Document>> {
        todo!()
    }

    pub fn count(&self, _collection: &CollectionRow) -> StoreResult<u64> {
        todo!()
    }

    /// The end of the log.
    pub fn last(&self) -> StoreResult<Position> {
        todo!()
    }

    /// The oldest entry that the log still holds; one above `last` if it holds none.
    pub fn log_first(&self) -> StoreResult<Tick> {
        todo!()
    }

    pub fn history(&self) -> StoreResult<Vec<EpochRow>> {
        todo!()
    }

    /// Log entries after a tick, at most `limit`.
    pub fn log(&self, _after: Tick, _limit: usize) -> StoreResult<Vec<Entry>> {
        todo!()
    }

    /// What rollbacks took away, oldest first: the epoch each was undone in, and the entry.
    pub fn rolled_back(&self, _limit: usize) -> StoreResult<Vec<(Epoch, Entry)>> {
        todo!()
    }
}
