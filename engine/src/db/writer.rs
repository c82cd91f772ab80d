//! What one client's request writes: collected aside, then kept as one log entry with its rows, or not at all.
//!
//! A request within a stream transaction writes into the view that the transaction has, and what it has written
//! becomes a part of that ([`crate::transaction`]); the entry is written by the commit. Whatever writes must not touch
//! what open transactions have to themselves.

use super::index::build::Filled;
use super::index::entries::{self, Attributes};
use super::index::{Index, IndexKind, scan::IndexRange};
use super::log::*;
use super::overlay::{Batch, Overlay};
use super::reader::Reader;
use super::rows::*;
use super::rules::Rules;
use super::store::{Direction, Read, StoreError, StoreResult, Table};
use crate::aql::value::Value;
use crate::errors::Error;
use crate::mark;
use crate::message::Entry;
use crate::transaction::{Change, Lane, Locks, Open, Written};
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
    known: Known,
    locks: Option<&'a Locks>,
    within: Option<Within<'a>>,
}

/// What a request within a stream transaction has beside the transaction's view.
struct Within<'a> {
    open: &'a Open,
    /// The data as they are now.
    now: Reader<'a>,
    lane: Option<Lane>,
    /// What its changes have together.
    bytes: usize,
    /// The collections of the objects that it has written to.
    objects: BTreeMap<u64, u64>,
}

/// A place that [`Writer::rollback_to`] can return to.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    rows: usize,
    ops: usize,
    bytes: usize,
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
    /// To be built in pieces.
    pub building: bool,
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
    /// A stream transaction has this document, or somebody has changed it since this transaction began.
    Conflict {
        key: String,
    },
    /// A stream transaction has documents of this collection.
    InUse {
        collection: String,
    },
    /// The stream transaction would write more than it may.
    TooLarge {
        bytes_max: usize,
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
            known: None,
            locks: None,
            within: None,
        })
    }

    /// Over the data in use, but for what open transactions have to themselves.
    pub fn beside(
        base: &'a dyn Read,
        epoch: Epoch,
        wall_ms: u64,
        seed: u64,
        locks: &'a Locks,
    ) -> StoreResult<Writer<'a>> {
        Ok(Writer { locks: Some(locks), ..Writer::new(base, epoch, wall_ms, seed)? })
    }

    /// Over the view of a transaction; `now` are the data as they are.
    pub fn within(mut self, open: &'a Open, now: Reader<'a>) -> Writer<'a> {
        self.within = Some(Within { open, now, lane: open.lane, bytes: open.bytes, objects: BTreeMap::new() });
        self
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
        self.with_data(|data| data.record(&entry, &ops))?;
        Ok(Finished::Entry(entry, self.rows.into_batch()))
    }

    // ---- stream transactions ----

    /// What a request within a transaction has written, and how far it has counted.
    pub fn finish_within(self) -> (Option<Written>, Option<Lane>) {
        let within = self.within.expect("it was begun within a transaction");
        if self.ops.is_empty() {
            return (None, within.lane);
        }
        let change = |op| match op {
            LogOp::Document { object, key, before, after } => Change { object, key, before, after },
            other => unreachable!("nothing but documents is written within a transaction: {other:?}"),
        };
        let written = Written {
            changes: self.ops.into_iter().map(change).collect(),
            rows: self.rows.into_batch(),
            objects: within.objects,
            bytes: within.bytes - within.open.bytes,
        };
        (Some(written), within.lane)
    }

    /// Writes all that a transaction has written, if nobody else has written any of it, and its values are still free
    /// in unique indexes. Otherwise nothing of it may be kept.
    pub fn commit(&mut self, open: &Open) -> Result<(), PutError> {
        for change in &open.changes {
            let Change { object, key, before, after } = change;
            let conflict = || PutError::Conflict { key: key.clone() };
            let collection = match open.objects.get(object) {
                Some(id) => self.reader().collection_by_id(*id)?,
                None => None,
            };
            // It may have been dropped since, or truncated.
            let collection = collection.filter(|row| row.object == *object).ok_or_else(conflict)?;
            let replaced = before.as_ref().map(|image| image.revision);
            let mut before = before.clone();
            if self.reader().revision(*object, key)? != replaced {
                if !planted!(transaction_conflict_ignored) {
                    mark!(TransactionFails);
                    return Err(conflict());
                }
                before = self.reader().document(&collection, key)?.as_ref().map(image);
            }
            if let Some(image) = after {
                if self.reader().document_at(&collection, image.revision)?.is_some() {
                    return Err(conflict());
                }
                if !planted!(unique_commit_unchecked) {
                    let checked = self.check_indexes(&collection, key, image.revision, &image.body, replaced);
                    checked.inspect_err(|_| mark!(CommitMeetsValue))?;
                }
            }
            self.write(LogOp::Document { object: *object, key: key.clone(), before, after: after.clone() })?;
            if planted!(transaction_in_parts) {
                break;
            }
        }
        Ok(())
    }

    /// Whether this may write a document: not if a transaction has it, or it has changed since this one began.
    fn check_free(&self, collection: &CollectionRow, key: &str) -> Result<(), PutError> {
        let conflict = || PutError::Conflict { key: key.to_owned() };
        let me = self.within.as_ref().map(|within| within.open.id);
        let row = in_object(self.generation, collection.object, key.as_bytes());
        if self.locks.is_some_and(|locks| locks.hold(collection, &row, me)) {
            mark!(WriteMeetsLock);
            return Err(conflict());
        }
        let Some(within) = &self.within else { return Ok(()) };
        let own = within.open.own.get(Table::Keys, &row).is_some();
        if !own && self.rows.change_of(Table::Keys, &row).is_none() {
            let (then, now) =
                (self.reader().revision(collection.object, key)?, within.now.revision(collection.object, key)?);
            if then != now && !planted!(transaction_conflict_ignored) {
                return Err(conflict());
            }
        }
        Ok(())
    }

    /// Counts what a transaction writes.
    fn count_within(&mut self, collection: &CollectionRow, op: &LogOp) -> Result<(), PutError> {
        let Some(within) = &mut self.within else { return Ok(()) };
        let LogOp::Document { key, before, after, .. } = op else { return Ok(()) };
        let image_bytes = |image: &Option<Image>| image.as_ref().map_or(0, |image| image.body.len() + 32);
        let bytes = within.bytes + key.len() + image_bytes(before) + image_bytes(after) + 32;
        let bytes_max = within.open.terms.bytes_max;
        if bytes > bytes_max {
            return Err(PutError::TooLarge { bytes_max });
        }
        within.bytes = bytes;
        within.objects.insert(collection.object, collection.id);
        Ok(())
    }

    /// The planted bug `aql_write_in_parts`: what has been written so far becomes an entry of its own.
    pub fn cut(&mut self) -> StoreResult<()> {
        if self.within.is_none() && !self.ops.is_empty() {
            let ops = std::mem::take(&mut self.ops);
            let entry = Entry::new(self.epoch, self.tick, encode(&ops).into());
            self.with_data(|data| data.record(&entry, &ops))?;
            self.tick = Tick(self.tick.0 + 1);
        }
        Ok(())
    }

    fn next_revision(&mut self) -> Revision {
        match &mut self.within {
            Some(Within { lane: Some(lane), .. }) => lane.mint(self.epoch, self.wall_ms),
            _ => Revision::after(Revision(self.counters.revision), self.epoch, self.wall_ms),
        }
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

    /// Rename, other properties or indexes: `after` replaces `before`. Id, database and object stay.
    pub fn change_collection(&mut self, before: &CollectionRow, after: &CollectionRow) -> StoreResult<()> {
        let identity = |row: &CollectionRow| (row.id, row.database, row.object);
        assert_eq!(identity(before), identity(after), "a change keeps what a collection is");
        assert!((1..=NAME_BYTES_MAX).contains(&after.name.len()), "names are checked before");
        if before.name != after.name {
            assert!(self.is_free(after.database, &after.name)?, "a collection gets a name that is free");
        }
        self.write(LogOp::Collection { before: Some(before.clone()), after: Some(after.clone()) })
    }

    /// Returns the row after: the collection has a new object. Within a transaction each document is removed.
    pub fn truncate_collection(&mut self, collection: &CollectionRow) -> Result<CollectionRow, PutError> {
        if self.within.is_some() {
            const PAGE: usize = 1000;
            loop {
                let page = self.reader().documents(collection, None, PAGE)?;
                if page.is_empty() {
                    return Ok(collection.clone());
                }
                for document in &page {
                    self.remove(collection, document)?;
                }
            }
        }
        let prefix = in_object(self.generation, collection.object, &[]);
        if self.locks.is_some_and(|locks| locks.hold_any(collection, &prefix, None)) {
            mark!(WriteMeetsLock);
            return Err(PutError::InUse { collection: collection.name.clone() });
        }
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
            building: new.building && new.kind.has_entries(),
            properties: new.properties,
        };
        assert!(index.is_sound(), "indexes are checked before");
        let mut after = collection.clone();
        after.indexes.push(index.clone());
        if index.building {
            self.change_collection(collection, &after)?;
            return Ok(after);
        }
        if index.kind.has_entries() {
            self.check_documents(collection, &index)?;
        }
        let savepoint = self.savepoint();
        self.change_collection(collection, &after)?;
        if let Some(key) = self.double(&after, &index)? {
            self.rollback_to(savepoint);
            return Err(PutError::Taken { index: index.into(), key });
        }
        Ok(after)
    }

    /// An index that was built in pieces is there. The row after.
    pub fn finish_index(&mut self, collection: &CollectionRow, id: u64) -> StoreResult<CollectionRow> {
        let mut after = collection.clone();
        for index in after.indexes.iter_mut().filter(|index| index.id == id) {
            index.building = false;
        }
        self.change_collection(collection, &after)?;
        Ok(after)
    }

    /// Whether all documents have their entries in an index that is being built.
    fn is_filled(&self, object: u64, index: u64) -> StoreResult<bool> {
        Ok(self.reader().building(object)?.of(index).is_some_and(Filled::is_complete))
    }

    /// Whether a document that is there can be in an index that all other documents have their entries in.
    pub fn check_index(&self, collection: &CollectionRow, index: &Index, document: &Document) -> Result<(), PutError> {
        let body = Attributes::of([index]).read(&document.body)?;
        let entries = self.entries(index, &document.key, document.revision, &body)?;
        for values in entries.iter().filter(|_| index.unique && !planted!(unique_build_unchecked)) {
            let holder = self.reader().index_holder(collection.object, index.id, values, Some(document.revision))?;
            if let Some(holder) = holder {
                return Err(self.taken(collection, index, holder)?);
            }
        }
        Ok(())
    }

    /// The document with the revision `holder` has the values that another one is to have in a unique index.
    fn taken(&self, collection: &CollectionRow, index: &Index, holder: Revision) -> StoreResult<PutError> {
        let document = self.reader().document_at(collection, holder)?;
        let key = document.map(|document| document.key).unwrap_or_default();
        Ok(PutError::Taken { index: index.clone().into(), key })
    }

    /// The row after.
    pub fn drop_index(&mut self, collection: &CollectionRow, id: u64) -> StoreResult<CollectionRow> {
        let mut after = collection.clone();
        after.indexes.retain(|index| index.id != id);
        self.change_collection(collection, &after)?;
        Ok(after)
    }

    /// Whether each document by itself can be in an index.
    fn check_documents(&self, collection: &CollectionRow, index: &Index) -> Result<(), PutError> {
        let attributes = Attributes::of([index]);
        for document in self.reader().scan_documents(collection, None) {
            let document = document?;
            let body = attributes.read(&document.body)?;
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
        &mut self,
        collection: &CollectionRow,
        key: &str,
        revision: Revision,
        body: &[u8],
        before: Option<Revision>,
    ) -> Result<(), PutError> {
        // Of an edge there is nothing to check.
        let checked = |index: &&Index| {
            let several = matches!(index.kind, IndexKind::Geo | IndexKind::Fulltext);
            let several = several || index.fields.iter().any(|field| field.contains("[*]"));
            index.kind.has_entries() && (index.unique || several)
        };
        if !collection.indexes.iter().any(|index| checked(&index))
            || (before.is_some() && planted!(unique_update_unchecked))
        {
            return Ok(());
        }
        let missing = || StoreError::Corrupt(format!("the indexes of object {} are missing", collection.object));
        let indexed = self.with_data(|data| data.indexed(collection.object))?.ok_or_else(missing)?;
        let indexes = indexed.indexes.iter().filter(checked);
        let body = indexed.attributes.read(body)?;
        for index in indexes {
            if index.building && !self.is_filled(collection.object, index.id)? {
                continue;
            }
            let entries = self.entries(index, key, revision, &body)?;
            for values in entries.iter().filter(|_| index.unique) {
                let holder = self.reader().index_holder(collection.object, index.id, values, before)?;
                let overlooked =
                    |holder: &Revision| holder.0 & 0x7f != self.epoch.0 & 0x7f && planted!(unique_not_checked);
                if let Some(holder) = holder.filter(|holder| !overlooked(holder)) {
                    return Err(self.taken(collection, index, holder)?);
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
        if self.within.is_some() && collection.key.kind != KeyKind::Autoincrement {
            return self.next_key_within(collection).map(Some);
        }
        // Transactions that are open have made keys, too, and since this one began there may be others.
        let row = object_key(self.generation, collection.object);
        let elsewhere = self.locks.into_iter().flat_map(|locks| locks.rows(Table::Catalog, &row));
        for other in elsewhere {
            object.highest_key = object.highest_key.max(decode::<ObjectRow>(other, "object")?.highest_key);
        }
        if let Some(within) = &self.within {
            let now = within.now.object(collection.object)?;
            object.highest_key = object.highest_key.max(now.map_or(0, |object| object.highest_key));
        }
        let Some(number) = collection.key.next_number(object.highest_key, self.epoch) else { return Ok(None) };
        object.highest_key = number;
        self.with_data(|data| data.put_object(collection.object, object));
        Ok(Some(match collection.key.kind {
            KeyKind::Padded => format!("{number:016x}"),
            _ => number.to_string(),
        }))
    }

    /// What single writes count up would meet with what other transactions make at the same time; so here keys are made
    /// as revisions are.
    fn next_key_within(&mut self, collection: &CollectionRow) -> StoreResult<String> {
        loop {
            let number = self.next_revision().0;
            let key = match collection.key.kind {
                KeyKind::Padded => format!("{number:016x}"),
                _ => number.to_string(),
            };
            // Somebody may have chosen it as a key.
            if self.reader().revision(collection.object, &key)?.is_none() {
                return Ok(key);
            }
        }
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
        self.check_free(collection, key)?;
        let revision = self.next_revision();
        let replaced = before.map(|document| document.revision);
        self.check_indexes(collection, key, revision, &body, replaced)?;
        let op = LogOp::Document {
            object: collection.object,
            key: key.to_owned(),
            before: before.map(image),
            after: Some(Image { revision, body }),
        };
        self.count_within(collection, &op)?;
        self.counters.revision = self.counters.revision.max(revision.0);
        self.write(op)?;
        Ok(revision)
    }

    /// `document` is the document as it is now.
    pub fn remove(&mut self, collection: &CollectionRow, document: &Document) -> Result<(), PutError> {
        self.check_free(collection, &document.key)?;
        let op = LogOp::Document {
            object: collection.object,
            key: document.key.clone(),
            before: Some(image(document)),
            after: None,
        };
        self.count_within(collection, &op)?;
        Ok(self.write(op)?)
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
        let bytes = self.within.as_ref().map_or(0, |within| within.bytes);
        Savepoint { rows: self.rows.savepoint(), ops: self.ops.len(), bytes }
    }

    /// Forgets all that was written since.
    pub fn rollback_to(&mut self, savepoint: Savepoint) {
        self.rows.rollback_to(savepoint.rows);
        self.ops.truncate(savepoint.ops);
        if let Some(within) = &mut self.within {
            within.bytes = savepoint.bytes;
        }
    }

    fn write(&mut self, op: LogOp) -> StoreResult<()> {
        let tick = self.tick;
        self.with_data(|data| data.change(&op, tick, Fit::Exact))?;
        self.ops.push(op);
        Ok(())
    }

    /// Lends the data to be changed, with what was known of the object that was written to last.
    fn with_data<T>(&mut self, act: impl FnOnce(&mut Data<'_, 'a>) -> T) -> T {
        let mut data = Data { known: self.known.take(), ..Data::new(&mut self.rows, self.generation) };
        let done = act(&mut data);
        self.known = data.known;
        done
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
