//! What one client's request writes: collected aside, then kept as one log entry with its rows, or not at all.

use super::reader::Reader;
use super::rows::*;
use super::store::StoreResult;
use bytes::Bytes;

/// A transaction of one request.
pub struct Writer<'a> {
    reader: Reader<'a>,
}

/// A place that [`Writer::rollback_to`] can return to.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {}

/// What a new collection is to be.
#[derive(Clone, Debug)]
pub struct NewCollection {
    pub name: String,
    pub kind: CollectionKind,
    pub system: bool,
    pub key: KeyOptions,
    pub wait_for_sync: bool,
    pub properties: serde_json::Value,
}

impl Writer<'_> {
    /// The data with everything written so far.
    pub fn reader(&self) -> Reader<'_> {
        self.reader
    }

    /// With its system collections. The name must be free.
    pub fn create_database(&mut self, _name: &str, _properties: serde_json::Value) -> StoreResult<DatabaseRow> {
        todo!()
    }

    /// With all its collections.
    pub fn drop_database(&mut self, _database: &DatabaseRow) -> StoreResult<()> {
        todo!()
    }

    /// The name must be free.
    pub fn create_collection(&mut self, _database: u64, _new: NewCollection) -> StoreResult<CollectionRow> {
        todo!()
    }

    /// Rename, other properties: `after` replaces `before`. Id, database and object stay.
    pub fn change_collection(&mut self, _before: &CollectionRow, _after: &CollectionRow) -> StoreResult<()> {
        todo!()
    }

    /// Returns the row after: the collection has a new object.
    pub fn truncate_collection(&mut self, _collection: &CollectionRow) -> StoreResult<CollectionRow> {
        todo!()
    }

    pub fn drop_collection(&mut self, _collection: &CollectionRow) -> StoreResult<()> {
        todo!()
    }

    /// A key for a document that came without one; `None` if the collection has run out of them.
    pub fn next_key(&mut self, _collection: &CollectionRow) -> StoreResult<Option<String>> {
        todo!()
    }

    /// Inserts (`before: None`; the key must be free) or replaces (`before`: the document as it is now).
    pub fn put(
        &mut self,
        _collection: &CollectionRow,
        _key: &str,
        _body: Bytes,
        _before: Option<&Document>,
    ) -> StoreResult<Revision> {
        todo!()
    }

    /// `document` is the document as it is now.
    pub fn remove(&mut self, _collection: &CollectionRow, _document: &Document) -> StoreResult<()> {
        todo!()
    }

    pub fn savepoint(&mut self) -> Savepoint {
        todo!()
    }

    /// Forgets all that was written since.
    pub fn rollback_to(&mut self, _savepoint: Savepoint) {
        todo!()
    }
}
