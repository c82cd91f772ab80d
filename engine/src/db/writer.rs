//! What one client's request writes: collected aside, then kept as one log entry with its rows, or not at all.

use super::index::{Index, IndexKind, entries, scan::IndexRange};
use super::log::*;
use super::overlay::{Batch, Overlay};
use super::reader::Reader;
use super::rows::*;
use super::rules::Rules;
use super::store::{Direction, Read, StoreError, StoreResult};
use crate::aql::value::Value;
use crate::errors::Error;
use crate::message::Entry;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A transaction of one request.
pub struct Writer<'a> {
    rows: Overlay<'a>,
    generation: u32,
    epoch: Epoch,
    /// Of the entry that this becomes.
    tick: Tick,
    wall_ms: u64,
    rng: Rng,
    counters: Counters,
    ops: Vec<LogOp>,
    /// What the collections that were written to demand, with the properties that it stands in.
    rules: BTreeMap<u64, (serde_json::Value, Arc<Rules>)>,
}

/// A place that [`Writer::rollback_to`] can return to.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    rows: usize,
    ops: usize,
}

/// What an insert does where there is a document with that key already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Conflict,
    Ignore,
    Replace,
    Update,
}

/// What a writer came to.
pub enum Finished {
    Nothing,
    /// The log entry, and all the rows that go with it, the entry's own included.
    Entry(Entry, Batch),
    /// The entry would not fit into a message, so it could not be replicated.
    TooLarge,
}

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

/// What a new index is to be.
#[derive(Clone, Debug)]
pub struct NewIndex {
    /// Without one it is named for its id.
    pub name: Option<String>,
    pub kind: IndexKind,
    pub fields: Vec<String>,
    pub unique: bool,
    pub sparse: bool,
    pub deduplicate: bool,
    pub properties: serde_json::Value,
}

/// Why a document or an index was not written. Nothing of it was.
#[derive(Clone, Debug, PartialEq)]
pub enum PutError {
    Store(StoreError),
    /// Another document has the same values in a unique index; its key.
    Taken {
        index: Box<Index>,
        key: String,
    },
    /// The document would have too many entries in an index.
    TooMany {
        index: Box<Index>,
    },
}

impl From<StoreError> for PutError {
    fn from(error: StoreError) -> PutError {
        PutError::Store(error)
    }
}

/// The database that every server has.
pub const SYSTEM_DATABASE: &str = "_system";
const SYSTEM_DATABASE_ID: u64 = 1;

/// What each database is created with; `_users` is in `_system` only.
const SYSTEM_COLLECTIONS: [&str; 9] =
    ["_users", "_analyzers", "_appbundles", "_apps", "_aqlfunctions", "_frontend", "_graphs", "_jobs", "_queues"];

impl<'a> Writer<'a> {
    /// Over the data in use, in an epoch that this store owns.
    pub fn new(base: &'a dyn Read, epoch: Epoch, wall_ms: u64, seed: u64) -> StoreResult<Writer<'a>> {
        let reader = Reader::new(base)?;
        Ok(Writer {
            rows: Overlay::new(base),
            generation: reader.generation,
            epoch,
            tick: Tick(reader.last()?.tick.0 + 1),
            wall_ms,
            rng: Rng::new(seed),
            counters: reader.counters()?,
            ops: Vec::new(),
            rules: BTreeMap::new(),
        })
    }

    /// The data with everything written so far.
    pub fn reader(&self) -> Reader<'_> {
        Reader { rows: &self.rows, generation: self.generation }
    }

    pub fn finish(mut self) -> StoreResult<Finished> {
        if self.ops.is_empty() {
            return Ok(Finished::Nothing);
        }
        let payload = encode(&self.ops);
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Ok(Finished::TooLarge);
        }
        let entry = Entry::new(self.epoch, self.tick, payload.into());
        let ops = std::mem::take(&mut self.ops);
        self.data().record(&entry, &ops)?;
        Ok(Finished::Entry(entry, self.rows.into_batch()))
    }

    // ---- epochs ----

    /// The row that begins the epoch; must be the first thing written.
    pub(crate) fn begin_epoch(&mut self, lineage: Lineage) -> StoreResult<EpochRow> {
        assert!(self.ops.is_empty(), "an epoch begins with its row");
        let row = EpochRow { epoch: self.epoch, first: self.tick, lineage };
        self.write(LogOp::Epoch(row))?;
        Ok(row)
    }

    /// What the first epoch of a deployment finds: `_system` with the user `root`.
    pub(crate) fn create_system_database(&mut self, root: Bytes) -> StoreResult<()> {
        let database = self.create_database_with_id(SYSTEM_DATABASE_ID, SYSTEM_DATABASE, serde_json::json!({}))?;
        let users = self.reader().collection(database.id, "_users")?.expect("created right before");
        match self.put(&users, "root", root, None) {
            Ok(_) => Ok(()),
            Err(PutError::Store(error)) => Err(error),
            Err(error) => unreachable!("a new collection has no indexes: {error:?}"),
        }
    }

    // ---- databases and collections ----

    /// With its system collections. The name must be free.
    pub fn create_database(&mut self, name: &str, properties: serde_json::Value) -> StoreResult<DatabaseRow> {
        let id = self.next_id();
        self.create_database_with_id(id, name, properties)
    }

    fn create_database_with_id(
        &mut self,
        id: u64,
        name: &str,
        properties: serde_json::Value,
    ) -> StoreResult<DatabaseRow> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "names are checked before");
        assert!(self.reader().database(name)?.is_none(), "a database is created under a name that is free");
        let row = DatabaseRow { id, name: name.to_owned(), properties };
        self.write(LogOp::Database { before: None, after: Some(row.clone()) })?;
        for name in SYSTEM_COLLECTIONS {
            if name != "_users" || id == SYSTEM_DATABASE_ID {
                self.create_collection(
                    id,
                    NewCollection {
                        name: name.to_owned(),
                        kind: CollectionKind::Document,
                        system: true,
                        key: KeyOptions::default(),
                        wait_for_sync: false,
                        properties: serde_json::json!({}),
                    },
                )?;
            }
        }
        Ok(row)
    }

    /// With all its collections and views.
    pub fn drop_database(&mut self, database: &DatabaseRow) -> StoreResult<()> {
        for view in self.reader().views(database.id)? {
            self.drop_view(&view)?;
        }
        for collection in self.reader().collections(database.id)? {
            self.drop_collection(&collection)?;
        }
        self.write(LogOp::Database { before: Some(database.clone()), after: None })
    }

    /// The name must be free.
    pub fn create_collection(&mut self, database: u64, new: NewCollection) -> StoreResult<CollectionRow> {
        assert!((1..=NAME_BYTES_MAX).contains(&new.name.len()), "names are checked before");
        assert!(self.is_free(database, &new.name)?, "a collection gets a name that is free");
        let id = self.next_id();
        let globally_unique_id = match new.system {
            true => new.name.clone(),
            false => self.globally_unique_id(id),
        };
        let row = CollectionRow {
            id,
            database,
            name: new.name,
            kind: new.kind,
            object: self.next_id(),
            system: new.system,
            globally_unique_id,
            key: new.key,
            wait_for_sync: new.wait_for_sync,
            indexes: Vec::new(),
            properties: new.properties,
        };
        self.write(LogOp::Collection { before: None, after: Some(row.clone()) })?;
        Ok(row)
    }

    /// Rename, other properties: `after` replaces `before`. Id, database and object stay.
    pub fn change_collection(&mut self, before: &CollectionRow, after: &CollectionRow) -> StoreResult<()> {
        let identity = |row: &CollectionRow| (row.id, row.database, row.object);
        assert_eq!(identity(before), identity(after), "a change keeps what a collection is");
        assert!((1..=NAME_BYTES_MAX).contains(&after.name.len()), "names are checked before");
        if before.name != after.name {
            assert!(self.is_free(after.database, &after.name)?, "a collection gets a name that is free");
        }
        self.write(LogOp::Collection { before: Some(before.clone()), after: Some(after.clone()) })
    }

    /// Returns the row after: the collection has a new object.
    pub fn truncate_collection(&mut self, collection: &CollectionRow) -> StoreResult<CollectionRow> {
        let after = CollectionRow { object: self.next_id(), ..collection.clone() };
        self.write(LogOp::Collection { before: Some(collection.clone()), after: Some(after.clone()) })?;
        Ok(after)
    }

    pub fn drop_collection(&mut self, collection: &CollectionRow) -> StoreResult<()> {
        self.write(LogOp::Collection { before: Some(collection.clone()), after: None })
    }

    /// Collections and views share their names.
    fn is_free(&self, database: u64, name: &str) -> StoreResult<bool> {
        let reader = self.reader();
        Ok(reader.collection(database, name)?.is_none() && reader.view(database, name)?.is_none())
    }

    fn globally_unique_id(&mut self, id: u64) -> String {
        format!("h{:X}/{id}", self.rng.next_u64())
    }

    // ---- views ----

    /// The name must be free.
    pub fn create_view(
        &mut self,
        database: u64,
        name: &str,
        kind: ViewKind,
        properties: serde_json::Value,
    ) -> StoreResult<ViewRow> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "names are checked before");
        assert!(self.is_free(database, name)?, "a view gets a name that is free");
        let id = self.next_id();
        let globally_unique_id = self.globally_unique_id(id);
        let row = ViewRow { id, database, name: name.to_owned(), kind, globally_unique_id, properties };
        self.write(LogOp::View { before: None, after: Some(row.clone()) })?;
        Ok(row)
    }

    /// Rename, other properties: `after` replaces `before`, with the same id and database.
    pub fn change_view(&mut self, before: &ViewRow, after: &ViewRow) -> StoreResult<()> {
        assert_eq!((before.id, before.database), (after.id, after.database), "a change keeps what a view is");
        assert!((1..=NAME_BYTES_MAX).contains(&after.name.len()), "names are checked before");
        if before.name != after.name {
            assert!(self.is_free(after.database, &after.name)?, "a view gets a name that is free");
        }
        self.write(LogOp::View { before: Some(before.clone()), after: Some(after.clone()) })
    }

    pub fn drop_view(&mut self, view: &ViewRow) -> StoreResult<()> {
        self.write(LogOp::View { before: Some(view.clone()), after: None })
    }

    // ---- indexes ----

    /// Builds an index over the documents that are there. Returns the row after, whose last index it is.
    pub fn create_index(&mut self, collection: &CollectionRow, new: NewIndex) -> Result<CollectionRow, PutError> {
        let id = self.next_id();
        let index = Index {
            id,
            name: new.name.unwrap_or_else(|| format!("idx_{id}")),
            kind: new.kind,
            fields: new.fields,
            unique: new.unique,
            sparse: new.sparse,
            deduplicate: new.deduplicate,
            properties: new.properties,
        };
        assert!(index.is_sound(), "indexes are checked before");
        let mut after = collection.clone();
        after.indexes.push(index.clone());
        if index.kind.has_entries() {
            self.check_documents(collection, &index)?;
        }
        let savepoint = self.savepoint();
        self.write(LogOp::Collection { before: Some(collection.clone()), after: Some(after.clone()) })?;
        if let Some(key) = self.double(&after, &index)? {
            self.rollback_to(savepoint);
            return Err(PutError::Taken { index: index.into(), key });
        }
        Ok(after)
    }

    /// The row after.
    pub fn drop_index(&mut self, collection: &CollectionRow, id: u64) -> StoreResult<CollectionRow> {
        let mut after = collection.clone();
        after.indexes.retain(|index| index.id != id);
        self.write(LogOp::Collection { before: Some(collection.clone()), after: Some(after.clone()) })?;
        Ok(after)
    }

    /// Whether each document by itself can be in an index.
    fn check_documents(&self, collection: &CollectionRow, index: &Index) -> Result<(), PutError> {
        for document in self.reader().scan_documents(collection, None) {
            let document = document?;
            let body = entries::parsed(&document.body)?;
            self.entries(index, &document.key, document.revision, &body)?;
        }
        Ok(())
    }

    /// The key of a document whose values in a unique index another one has, too.
    fn double(&self, collection: &CollectionRow, index: &Index) -> StoreResult<Option<String>> {
        if !index.unique || !index.kind.has_entries() {
            return Ok(None);
        }
        let reader = self.reader();
        let mut last: Option<(&[u8], Revision)> = None;
        for entry in reader.index_entries(collection.object, index.id, &IndexRange::default(), Direction::Forward) {
            let (values, revision) = entry?;
            if let Some((before, first)) = last
                && before == values
            {
                return Ok(reader.document_at(collection, first)?.map(|document| document.key));
            }
            last = Some((values, revision));
        }
        Ok(None)
    }

    /// What a document will have in an index.
    fn entries(&self, index: &Index, key: &str, revision: Revision, body: &Value) -> Result<Vec<Vec<u8>>, PutError> {
        let every = entries::every_of_document(index, key, revision, body);
        let mut every = every.map_err(|_| PutError::TooMany { index: index.clone().into() })?;
        every.sort_unstable();
        let own = index.unique && !index.deduplicate && every.windows(2).any(|pair| pair[0] == pair[1]);
        match own {
            true => Err(PutError::Taken { index: index.clone().into(), key: key.to_owned() }),
            false => Ok(every),
        }
    }

    /// Whether a document can be in the indexes of its collection. `before` is the revision that it replaces.
    fn check_indexes(
        &self,
        collection: &CollectionRow,
        key: &str,
        revision: Revision,
        body: &[u8],
        before: Option<Revision>,
    ) -> Result<(), PutError> {
        // Of an edge there is nothing to check.
        let checked = |index: &&Index| {
            index.kind.has_entries() && (index.unique || index.fields.iter().any(|field| field.contains("[*]")))
        };
        let mut indexes = collection.indexes.iter().filter(checked).peekable();
        if indexes.peek().is_none() {
            return Ok(());
        }
        let body = entries::parsed(body)?;
        for index in indexes {
            let entries = self.entries(index, key, revision, &body)?;
            for values in entries.iter().filter(|_| index.unique) {
                let holder = self.reader().index_holder(collection.object, index.id, values, before)?;
                if let Some(holder) = holder {
                    let document = self.reader().document_at(collection, holder)?;
                    let key = document.map(|document| document.key).unwrap_or_default();
                    return Err(PutError::Taken { index: index.clone().into(), key });
                }
            }
        }
        Ok(())
    }

    // ---- documents ----

    /// A key for a document that came without one; `None` if the collection has run out of them. Each call gives
    /// another one.
    pub fn next_key(&mut self, collection: &CollectionRow) -> StoreResult<Option<String>> {
        if collection.key.kind == KeyKind::Uuid {
            // Version 4, variant 1.
            let chance = self.rng.next_u128();
            let uuid = chance & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
            return Ok(Some(Uuid(uuid).to_string()));
        }
        let Some(mut object) = self.reader().object(collection.object)? else {
            return Err(StoreError::Corrupt(format!("object {} is missing", collection.object)));
        };
        let Some(number) = collection.key.next_number(object.highest_key, self.epoch) else { return Ok(None) };
        object.highest_key = number;
        self.data().put_object(collection.object, object);
        Ok(Some(match collection.key.kind {
            KeyKind::Padded => format!("{number:016x}"),
            _ => number.to_string(),
        }))
    }

    /// Inserts (`before: None`; the key must be free) or replaces (`before`: the document as it is now).
    pub fn put(
        &mut self,
        collection: &CollectionRow,
        key: &str,
        body: Bytes,
        before: Option<&Document>,
    ) -> Result<Revision, PutError> {
        assert!((1..=DOCUMENT_KEY_BYTES_MAX).contains(&key.len()), "keys are checked before");
        assert!(body.starts_with(b"{") && body.ends_with(b"}"), "a document is an object");
        let revision = Revision::after(Revision(self.counters.revision), self.epoch, self.wall_ms);
        let replaced = before.map(|document| document.revision);
        self.check_indexes(collection, key, revision, &body, replaced)?;
        self.counters.revision = revision.0;
        self.write(LogOp::Document {
            object: collection.object,
            key: key.to_owned(),
            before: before.map(image),
            after: Some(Image { revision, body }),
        })?;
        Ok(revision)
    }

    /// `document` is the document as it is now.
    pub fn remove(&mut self, collection: &CollectionRow, document: &Document) -> StoreResult<()> {
        self.write(LogOp::Document {
            object: collection.object,
            key: document.key.clone(),
            before: Some(image(document)),
            after: None,
        })
    }

    /// What the collection demands of its documents.
    pub fn rules(&mut self, collection: &CollectionRow) -> Result<Arc<Rules>, Error> {
        if let Some((properties, rules)) = self.rules.get(&collection.id)
            && *properties == collection.properties
        {
            return Ok(Arc::clone(rules));
        }
        let rules = Arc::new(Rules::of(&collection.properties)?);
        self.rules.insert(collection.id, (collection.properties.clone(), Arc::clone(&rules)));
        Ok(rules)
    }

    /// When this is written, by the clock of whoever writes.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    pub fn chance(&mut self) -> u64 {
        self.rng.next_u64()
    }

    // ---- parts of a request ----

    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint { rows: self.rows.savepoint(), ops: self.ops.len() }
    }

    /// Forgets all that was written since.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        self.rows.rollback_to(savepoint.rows);
        self.ops.truncate(savepoint.ops);
    }

    fn write(&mut self, op: LogOp) -> StoreResult<()> {
        let tick = self.tick;
        self.data().change(&op, tick, Fit::Exact)?;
        self.ops.push(op);
        Ok(())
    }

    fn data(&mut self) -> Data<'_, 'a> {
        Data { rows: &mut self.rows, generation: self.generation }
    }

    /// For databases, collections and objects: never given out twice, not even by another epoch (R16).
    fn next_id(&mut self) -> u64 {
        self.counters.id = with_epoch((self.counters.id >> 8) + 1, self.epoch).expect("ids do not run out");
        self.counters.id
    }
}

fn image(document: &Document) -> Image {
    Image { revision: document.revision, body: document.body.clone() }
}
