//! What is read of the document engine: from a snapshot, or from a transaction with its own writes.

use super::copy::KeptStore;
use super::meta;
use super::rows::*;
use super::store::*;
use crate::demand::Token;
use crate::message::Entry;
use crate::types::*;
use std::ops::Bound;

/// A view of one generation of the data.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub(super) rows: &'a dyn Read,
    pub(super) generation: u32,
}

impl<'a> Reader<'a> {
    /// The data in use.
    pub fn new(rows: &'a dyn Read) -> StoreResult<Reader<'a>> {
        Ok(Reader { rows, generation: meta::get(rows, meta::GENERATION)?.unwrap_or(0) })
    }

    /// Data beside that in use: a copy being built, or a store that was kept when a copy replaced it.
    pub fn of_generation(rows: &'a dyn Read, generation: u32) -> Reader<'a> {
        Reader { rows, generation }
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    // ---- databases, collections and views ----

    pub fn databases(&self) -> StoreResult<Vec<DatabaseRow>> {
        self.catalog(kind::DATABASE, &[], "database")
    }

    pub fn database(&self, name: &str) -> StoreResult<Option<DatabaseRow>> {
        match self.catalog_get(kind::DATABASE_NAME, &[name.as_bytes()])? {
            Some(id) => self.database_by_id(number_at(id, 0, "name of a database")?),
            None => Ok(None),
        }
    }

    pub fn database_by_id(&self, id: u64) -> StoreResult<Option<DatabaseRow>> {
        self.catalog_get(kind::DATABASE, &[&id.to_be_bytes()])?.map(|value| decode(value, "database")).transpose()
    }

    /// All collections of a database, system collections included, in name order.
    pub fn collections(&self, database: u64) -> StoreResult<Vec<CollectionRow>> {
        self.all_named(database)
    }

    /// All views of a database, in name order.
    pub fn views(&self, database: u64) -> StoreResult<Vec<ViewRow>> {
        self.all_named(database)
    }

    fn all_named<T: Named>(&self, database: u64) -> StoreResult<Vec<T>> {
        self.catalog(T::BY_NAME, &[&database.to_be_bytes()], T::WHAT)
    }

    /// By name, or by the digits of its id.
    pub fn collection(&self, database: u64, name_or_id: &str) -> StoreResult<Option<CollectionRow>> {
        self.named(database, name_or_id)
    }

    pub fn collection_by_id(&self, id: u64) -> StoreResult<Option<CollectionRow>> {
        self.named_by_id(id)
    }

    /// By name, or by the digits of its id.
    pub fn view(&self, database: u64, name_or_id: &str) -> StoreResult<Option<ViewRow>> {
        self.named(database, name_or_id)
    }

    fn named<T: Named>(&self, database: u64, name_or_id: &str) -> StoreResult<Option<T>> {
        if name_or_id.starts_with(|c: char| c.is_ascii_digit()) {
            let found = match name_or_id.parse() {
                Ok(id) => self.named_by_id::<T>(id)?,
                Err(_) => None,
            };
            return Ok(found.filter(|row| row.database() == database));
        }
        self.catalog_get(T::BY_NAME, &[&database.to_be_bytes(), name_or_id.as_bytes()])?
            .map(|value| decode(value, T::WHAT))
            .transpose()
    }

    pub(super) fn named_by_id<T: Named>(&self, id: u64) -> StoreResult<Option<T>> {
        let Some(place) = self.catalog_get(T::BY_ID, &[&id.to_be_bytes()])? else { return Ok(None) };
        self.catalog_get(T::BY_NAME, &[place])?.map(|value| decode(value, T::WHAT)).transpose()
    }

    // ---- documents ----

    pub fn document(&self, collection: &CollectionRow, key: &str) -> StoreResult<Option<Document>> {
        match self.revision(collection.object, key)? {
            Some(revision) => match self.document_at(collection, revision)? {
                Some(document) if document.key == key => Ok(Some(document)),
                _ => Err(StoreError::Corrupt(format!("key '{key}' of object {} leads nowhere", collection.object))),
            },
            None => Ok(None),
        }
    }

    pub fn document_at(&self, collection: &CollectionRow, revision: Revision) -> StoreResult<Option<Document>> {
        self.document_in(collection.object, revision)
    }

    pub(super) fn document_in(&self, object: u64, revision: Revision) -> StoreResult<Option<Document>> {
        Ok(self.stored_document(object, revision)?.map(StoredDocument::to_document))
    }

    /// The document of an object that has a revision.
    pub fn stored_document(&self, object: u64, revision: Revision) -> StoreResult<Option<StoredDocument<'a>>> {
        let row = in_object(self.generation, object, &revision.0.to_be_bytes());
        let Some(value) = self.rows.get(Table::Documents, &row)? else { return Ok(None) };
        let (key, body) = split_document(value, object, revision)?;
        Ok(Some(StoredDocument { key, revision, body }))
    }

    /// In the order of their revisions, those after `after`, at most `limit`.
    pub fn documents(
        &self,
        collection: &CollectionRow,
        after: Option<Revision>,
        limit: usize,
    ) -> StoreResult<Vec<Document>> {
        self.scan_documents(collection, after).take(limit).collect()
    }

    /// In the order of their revisions, those after `after`.
    pub fn scan_documents(
        &self,
        collection: &CollectionRow,
        after: Option<Revision>,
    ) -> impl Iterator<Item = StoreResult<Document>> + use<'a> {
        self.stored_documents(collection, after).map(|document| document.map(StoredDocument::to_document))
    }

    /// The same without copies of them.
    pub fn stored_documents(
        &self,
        collection: &CollectionRow,
        after: Option<Revision>,
    ) -> impl Iterator<Item = StoreResult<StoredDocument<'a>>> + use<'a> {
        let (generation, object) = (self.generation, collection.object);
        let prefix = in_object(generation, object, &[]);
        let first = after.map(|after| in_object(generation, object, &after.0.to_be_bytes()));
        let from = first.as_deref().map_or(Bound::Included(&prefix[..]), Bound::Excluded);
        let rows = self.rows.scan(Table::Documents, from, Bound::Excluded(&prefix_end(&prefix)), Direction::Forward);
        rows.map(move |row| {
            let (key, value) = row?;
            let revision = Revision(number_at(key, 12, "key of a document")?);
            let (key, body) = split_document(value, object, revision)?;
            Ok(StoredDocument { key, revision, body })
        })
    }

    /// The highest revision in an object; zero if it is empty.
    pub(super) fn last_revision(&self, object: u64) -> StoreResult<Revision> {
        let prefix = in_object(self.generation, object, &[]);
        let last = scan_prefix(self.rows, Table::Documents, &prefix, Direction::Backward).next().transpose()?;
        last.map_or(Ok(Revision(0)), |(key, _)| Ok(Revision(number_at(key, 12, "key of a document")?)))
    }

    pub fn count(&self, collection: &CollectionRow) -> StoreResult<u64> {
        Ok(self.object(collection.object)?.map_or(0, |row| row.count))
    }

    pub(super) fn revision(&self, object: u64, key: &str) -> StoreResult<Option<Revision>> {
        if key.is_empty() || key.len() > DOCUMENT_KEY_BYTES_MAX {
            return Ok(None);
        }
        let row = in_object(self.generation, object, key.as_bytes());
        let revision = self.rows.get(Table::Keys, &row)?;
        revision.map(|value| number_at(value, 0, "revision of a key").map(Revision)).transpose()
    }

    pub(super) fn object(&self, object: u64) -> StoreResult<Option<ObjectRow>> {
        let row = self.rows.get(Table::Catalog, &object_key(self.generation, object))?;
        row.map(|value| decode(value, "object")).transpose()
    }

    // ---- the log ----

    /// The end of the log.
    pub fn last(&self) -> StoreResult<Position> {
        Ok(self.log_end()?.position)
    }

    /// The end of the log, with the checksum of the entry there.
    pub fn log_end(&self) -> StoreResult<LogBase> {
        let prefix = self.generation.to_be_bytes();
        match scan_prefix(self.rows, Table::Log, &prefix, Direction::Backward).next() {
            Some(row) => {
                let (key, value) = row?;
                log_head(key, value)
            }
            None => self.log_base(),
        }
    }

    /// What comes right before the first entry in the log.
    pub fn log_base(&self) -> StoreResult<LogBase> {
        let base = self.catalog_get(kind::LOG_BASE, &[])?;
        base.map_or(Ok(LogBase::default()), |value| decode(value, "begin of the log"))
    }

    /// The oldest entry that the log still holds; one above `last` if it holds none.
    pub fn log_first(&self) -> StoreResult<Tick> {
        Ok(Tick(self.log_base()?.position.tick.0 + 1))
    }

    /// Position and checksum of an entry in the log or right before it; `None` for any other tick.
    pub fn log_at(&self, tick: Tick) -> StoreResult<Option<LogBase>> {
        let base = self.log_base()?;
        if tick == base.position.tick {
            return Ok(Some(base));
        }
        let key = log_key(self.generation, tick);
        self.rows.get(Table::Log, &key)?.map(|value| log_head(&key, value)).transpose()
    }

    pub fn history(&self) -> StoreResult<Vec<EpochRow>> {
        self.catalog(kind::HISTORY, &[], "epoch history")
    }

    /// The token of a position in this log; `None` for the beginning.
    pub fn token(&self, position: Position) -> StoreResult<Option<Token>> {
        let row = self.catalog_get(kind::HISTORY, &[&position.epoch.0.to_be_bytes()])?;
        let row: Option<EpochRow> = row.map(|value| decode(value, "epoch history")).transpose()?;
        Ok(row.map(|row| Token { epoch: position.epoch, lineage: row.lineage, tick: position.tick }))
    }

    /// Log entries after a tick, at most `limit`.
    pub fn log(&self, after: Tick, limit: usize) -> StoreResult<Vec<Entry>> {
        self.scan_log(after).take(limit).collect()
    }

    /// Log entries after a tick.
    pub fn scan_log(&self, after: Tick) -> impl Iterator<Item = StoreResult<Entry>> + use<'a> {
        let end = prefix_end(&self.generation.to_be_bytes());
        let from = log_key(self.generation, after);
        let rows = self.rows.scan(Table::Log, Bound::Excluded(&from), Bound::Excluded(&end), Direction::Forward);
        rows.map(|row| row.and_then(|(key, value)| log_entry(key, value)))
    }

    // ---- what rollbacks took away ----

    /// Entries that were undone, oldest first: the epoch each was undone in, and the entry; at most `limit`.
    pub fn rolled_back(&self, limit: usize) -> StoreResult<Vec<(Epoch, Entry)>> {
        let rows = self.rows.scan(Table::Rollback, Bound::Unbounded, Bound::Unbounded, Direction::Forward);
        rows.take(limit).map(|row| row.and_then(|(_, value)| decode(value, "rollback record"))).collect()
    }

    /// Stores that were replaced by a copy and are kept whole (R8); [`Reader::of_generation`] reads them.
    pub fn kept_stores(&self) -> StoreResult<Vec<KeptStore>> {
        let rows = scan_prefix(self.rows, Table::Meta, meta::KEPT.as_bytes(), Direction::Forward);
        rows.map(|row| row.and_then(|(_, value)| decode(value, "record of a kept store"))).collect()
    }

    // ---- the catalog ----

    pub(crate) fn counters(&self) -> StoreResult<Counters> {
        let row = self.catalog_get(kind::COUNTERS, &[])?;
        row.map_or(Ok(Counters::default()), |value| decode(value, "counters"))
    }

    fn catalog_get(&self, kind: u8, parts: &[&[u8]]) -> StoreResult<Option<&'a [u8]>> {
        self.rows.get(Table::Catalog, &catalog_key(self.generation, kind, parts))
    }

    pub(super) fn catalog<T: serde::de::DeserializeOwned>(
        &self,
        kind: u8,
        parts: &[&[u8]],
        what: &str,
    ) -> StoreResult<Vec<T>> {
        let prefix = catalog_key(self.generation, kind, parts);
        let rows = scan_prefix(self.rows, Table::Catalog, &prefix, Direction::Forward);
        rows.map(|row| row.and_then(|(_, value)| decode(value, what))).collect()
    }
}

/// Position and checksum of a log row, without verifying its payload.
fn log_head(key: &[u8], value: &[u8]) -> StoreResult<LogBase> {
    let what = "row of the log";
    let position = Position { epoch: Epoch(number_at(value, 0, what)?), tick: Tick(number_at(key, 4, what)?) };
    let sum = value.get(8..12).ok_or_else(|| StoreError::Corrupt(what.into()))?;
    Ok(LogBase { position, checksum: u32::from_be_bytes(sum.try_into().expect("four bytes")) })
}
