//! Log entries: what a transaction did, with the images before, so that it can be applied and undone.
//!
//! There is one way to change the data: [`Data::change`], for the leader that makes an operation, the follower that
//! applies it and, with the images exchanged, whoever undoes it. So they can't come to differ (I8, I9).
//!
//! Applying is exact: an operation that does not fit what is there means that a store is broken, and is refused as
//! such. Only a copy that is being built is lenient, because its rows were read at different moments while its source
//! went on writing; where the source wrote meanwhile, the log from the copy's start on has the last word (R8).

use super::index::build::{Building, Filled};
use super::index::entries::{self, Indexed};
use super::index::scan::indexes_of_row;
use super::index::{self, Index};
use super::overlay::Overlay;
use super::prune;
use super::reader::Reader;
use super::rows::*;
use super::store::*;
use crate::message::Entry;
use crate::types::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bound on the payload of one entry, so that it fits into a message.
pub const PAYLOAD_BYTES_MAX: usize = 60 << 20;

/// Bound on the names of databases and collections.
pub const NAME_BYTES_MAX: usize = 256;

/// One change that a transaction made. `before` and `after` say how it was and is: `None` where there was or is
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LogOp {
    /// Always the first of an entry, and in the first entry of every epoch.
    Epoch(EpochRow),
    Database {
        before: Option<DatabaseRow>,
        after: Option<DatabaseRow>,
    },
    /// Truncating is a change of `object`; creating and dropping an index are changes of `indexes`.
    Collection {
        before: Option<CollectionRow>,
        after: Option<CollectionRow>,
    },
    Document {
        object: u64,
        key: String,
        before: Option<Image>,
        after: Option<Image>,
    },
    View {
        before: Option<ViewRow>,
        after: Option<ViewRow>,
    },
}

/// What a document was or is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    pub revision: Revision,
    pub body: Bytes,
}

/// What the payload of an entry says, if it is well-formed.
pub fn operations(entry: &Entry) -> StoreResult<Vec<LogOp>> {
    let ops: Vec<LogOp> = decode(&entry.payload, &format!("log entry {}", entry.position()))?;
    let bad_image = |image: &Option<Image>| {
        image.as_ref().is_some_and(|image| !(image.body.starts_with(b"{") && image.body.ends_with(b"}")))
    };
    let bad_name = |name: &str| name.is_empty() || name.len() > NAME_BYTES_MAX;
    for (at, op) in ops.iter().enumerate() {
        let bad = match op {
            LogOp::Epoch(row) => at > 0 || row.epoch != entry.epoch || row.first != entry.tick,
            LogOp::Database { before, after } => [before, after].into_iter().flatten().any(|row| bad_name(&row.name)),
            LogOp::Collection { before, after } => {
                let bad = |row: &CollectionRow| bad_name(&row.name) || !row.indexes.iter().all(Index::is_sound);
                [before, after].into_iter().flatten().any(bad)
            }
            LogOp::View { before, after } => [before, after].into_iter().flatten().any(|row| bad_name(&row.name)),
            LogOp::Document { key, before, after, .. } => {
                key.is_empty() || key.len() > DOCUMENT_KEY_BYTES_MAX || bad_image(before) || bad_image(after)
            }
        };
        if bad {
            return Err(StoreError::Corrupt(format!("log entry {}: operation {at} is malformed", entry.position())));
        }
    }
    Ok(ops)
}

/// Whether an operation must find what its image says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Exact,
    Lenient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Apply,
    Undo,
}

/// One generation of the data, to be changed.
pub struct Data<'o, 'a> {
    pub rows: &'o mut Overlay<'a>,
    pub generation: u32,
    pub known: Known,
}

/// Documents that are read at once where an index is built.
const FILL_DOCUMENTS: usize = 1000;

/// The row that said what the last object is indexed by, and what it said: taken apart once for many documents, and
/// good for every object whose row is the same.
pub type Known = Option<(Vec<u8>, Arc<Indexed>)>;

impl<'o, 'a> Data<'o, 'a> {
    pub fn new(rows: &'o mut Overlay<'a>, generation: u32) -> Data<'o, 'a> {
        Data { rows, generation, known: None }
    }
}

impl Data<'_, '_> {
    pub fn reader(&self) -> Reader<'_> {
        Reader { rows: &*self.rows, generation: self.generation }
    }

    /// Applies an entry that follows the end of the log, and appends it.
    pub fn append(&mut self, entry: &Entry, fit: Fit) -> StoreResult<()> {
        let last = self.reader().last()?;
        let wrong = |what: &str| Err(StoreError::Corrupt(format!("log entry {}: {what}", entry.position())));
        if !entry.intact() {
            return wrong("its checksum is wrong");
        }
        if entry.tick.0 != last.tick.0 + 1 || entry.epoch < last.epoch {
            return wrong(&format!("it does not follow {last}"));
        }
        let ops = operations(entry)?;
        let begins = matches!(ops.first(), Some(LogOp::Epoch(_)));
        if begins != (entry.epoch > last.epoch) {
            return wrong("an epoch begins where its row is, and nowhere else");
        }
        for op in &ops {
            self.change(op, entry.tick, fit)?;
        }
        self.record(entry, &ops)
    }

    /// Writes an entry, whose operations were applied, to the log.
    pub fn record(&mut self, entry: &Entry, ops: &[LogOp]) -> StoreResult<()> {
        self.rows.put(Table::Log, log_key(self.generation, entry.tick), log_value(entry));
        let mut counters = self.reader().counters()?;
        counters.absorb(ops);
        self.put_catalog(kind::COUNTERS, &[], &counters);
        Ok(())
    }

    /// Undoes the entry at the end of the log, whose tick the caller knows, and returns it.
    pub fn undo(&mut self, end: Tick) -> StoreResult<Entry> {
        let key = log_key(self.generation, end);
        let missing = || StoreError::Corrupt(format!("log entry {} is missing", end.0));
        let entry = log_entry(&key, self.rows.get(Table::Log, &key)?.ok_or_else(missing)?)?;
        for op in operations(&entry)?.iter().rev() {
            self.turn(op, entry.tick, Fit::Exact, Way::Undo)?;
        }
        self.rows.remove(Table::Log, key);
        Ok(entry)
    }

    /// Makes one change, as part of the entry with this tick.
    pub fn change(&mut self, op: &LogOp, tick: Tick, fit: Fit) -> StoreResult<()> {
        self.turn(op, tick, fit, Way::Apply)
    }

    fn turn(&mut self, op: &LogOp, tick: Tick, fit: Fit, way: Way) -> StoreResult<()> {
        match op {
            LogOp::Epoch(row) => self.epoch(row, way),
            LogOp::Database { before, after } => match way {
                Way::Apply => self.database(before, after, fit),
                Way::Undo => self.database(after, before, fit),
            },
            LogOp::Collection { before, after } => {
                match way {
                    Way::Apply => self.named(before, after, fit)?,
                    Way::Undo => self.named(after, before, fit)?,
                }
                self.objects(before.as_ref(), after.as_ref(), tick, way)?;
                let now = if way == Way::Apply { after } else { before };
                now.as_ref().map_or(Ok(()), |row| self.fit_indexes(row, tick, fit, way))
            }
            LogOp::View { before, after } => match way {
                Way::Apply => self.named(before, after, fit),
                Way::Undo => self.named(after, before, fit),
            },
            LogOp::Document { object, key, before, after } => match way {
                Way::Apply => self.document(*object, key, before, after, fit),
                Way::Undo if planted!(before_image_lost) => self.document(*object, key, after, &None, fit),
                Way::Undo if planted!(index_not_undone) => {
                    let value = before.as_ref().map(|image| (image.revision, document_value(key, &image.body)));
                    self.put_document(*object, key, after.as_ref().map(|image| image.revision), value, fit)
                }
                Way::Undo => self.document(*object, key, after, before, fit),
            },
        }
    }

    fn epoch(&mut self, row: &EpochRow, way: Way) -> StoreResult<()> {
        let key = catalog_key(self.generation, kind::HISTORY, &[&row.epoch.0.to_be_bytes()]);
        match way {
            Way::Apply => self.rows.put(Table::Catalog, key, encode(row)),
            Way::Undo => self.rows.remove(Table::Catalog, key),
        }
        Ok(())
    }

    fn database(&mut self, before: &Option<DatabaseRow>, after: &Option<DatabaseRow>, fit: Fit) -> StoreResult<()> {
        let Some(either) = before.as_ref().or(after.as_ref()) else { return Ok(()) };
        if fit == Fit::Exact && self.reader().database_by_id(either.id)? != *before {
            return Err(StoreError::Corrupt(format!("database '{}' is not as the log says", either.name)));
        }
        if let Some(row) = before {
            self.remove_catalog(kind::DATABASE, &[&row.id.to_be_bytes()]);
            self.remove_catalog(kind::DATABASE_NAME, &[row.name.as_bytes()]);
        }
        if let Some(row) = after {
            self.put_database(row);
        }
        Ok(())
    }

    pub fn put_database(&mut self, row: &DatabaseRow) {
        self.put_catalog(kind::DATABASE, &[&row.id.to_be_bytes()], row);
        let key = catalog_key(self.generation, kind::DATABASE_NAME, &[row.name.as_bytes()]);
        self.rows.put(Table::Catalog, key, row.id.to_be_bytes().to_vec());
    }

    fn named<T: Named>(&mut self, before: &Option<T>, after: &Option<T>, fit: Fit) -> StoreResult<()> {
        let Some(either) = before.as_ref().or(after.as_ref()) else { return Ok(()) };
        if fit == Fit::Exact && self.reader().named_by_id(either.id())? != *before {
            return Err(StoreError::Corrupt(format!("{} '{}' is not as the log says", T::WHAT, either.name())));
        }
        if let Some(row) = before {
            self.remove_catalog(T::BY_NAME, &[&row.database().to_be_bytes(), row.name().as_bytes()]);
            self.remove_catalog(T::BY_ID, &[&row.id().to_be_bytes()]);
        }
        if let Some(row) = after {
            self.put_named(row);
        }
        Ok(())
    }

    /// A collection or a view.
    pub(super) fn put_named<T: Named>(&mut self, row: &T) {
        let place = [&row.database().to_be_bytes()[..], row.name().as_bytes()];
        self.put_catalog(T::BY_NAME, &place, row);
        let key = catalog_key(self.generation, T::BY_ID, &[&row.id().to_be_bytes()]);
        self.rows.put(Table::Catalog, key, place.concat());
    }

    /// Keeps the objects in step with their collections. An object that is let go of stays, so that this can be
    /// undone, until the entry that did it is pruned.
    fn objects(
        &mut self,
        before: Option<&CollectionRow>,
        after: Option<&CollectionRow>,
        tick: Tick,
        way: Way,
    ) -> StoreResult<()> {
        let (old, new) = (before.map(|row| row.object), after.map(|row| row.object));
        if old == new {
            return Ok(());
        }
        let released =
            old.map(|old| catalog_key(self.generation, kind::RELEASED, &[&tick.0.to_be_bytes(), &old.to_be_bytes()]));
        match way {
            Way::Apply => {
                if let Some(key) = released {
                    self.rows.put(Table::Catalog, key, Vec::new());
                }
                if let Some(row) = after {
                    // A truncated collection goes on counting its keys.
                    let of_old = match old {
                        Some(old) => self.reader().object(old)?,
                        None => None,
                    };
                    let highest_key = of_old.map_or(0, |object| object.highest_key);
                    self.put_object(row.object, ObjectRow { keys: row.key.kind, count: 0, highest_key });
                }
            }
            Way::Undo => {
                if let Some(key) = released {
                    self.rows.remove(Table::Catalog, key);
                }
                if let Some(new) = new {
                    if self.reader().object(new)?.is_none_or(|object| object.count != 0) {
                        return Err(StoreError::Corrupt(format!("object {new} is not as the log says")));
                    }
                    self.rows.remove(Table::Catalog, object_key(self.generation, new));
                    self.remove_catalog(kind::INDEXED, &[&new.to_be_bytes()]);
                    self.remove_catalog(kind::BUILDING, &[&new.to_be_bytes()]);
                }
            }
        }
        Ok(())
    }

    fn document(
        &mut self,
        object: u64,
        key: &str,
        before: &Option<Image>,
        after: &Option<Image>,
        fit: Fit,
    ) -> StoreResult<()> {
        let present = self.reader().revision(object, key)?;
        if fit == Fit::Exact && present != before.as_ref().map(|image| image.revision) {
            return Err(StoreError::Corrupt(format!("key '{key}' of object {object} is not as the log says")));
        }
        let value = after.as_ref().map(|image| (image.revision, document_value(key, &image.body)));
        self.index_document(object, key, present, before.as_ref().filter(|_| fit == Fit::Exact), after.as_ref())?;
        self.put_document(object, key, present, value, fit)
    }

    // ---- indexes ----

    /// Takes note of the indexes of an object that has no documents yet.
    pub fn begin_indexes(&mut self, collection: &CollectionRow) -> StoreResult<()> {
        self.fit_indexes(collection, Tick(0), Fit::Lenient, Way::Apply)
    }

    /// Builds the entries of the indexes that the row of a collection has and its object has not, unless they are to be
    /// built in pieces ([`index::build`]), gives up those of the others. Entries of a dropped index stay as they are,
    /// so that this can be undone at once, until the log entry that did it is pruned. A copy that is being built may
    /// hold documents that are ahead of the log, whose entries would then be left: there they go at once.
    fn fit_indexes(&mut self, collection: &CollectionRow, tick: Tick, fit: Fit, way: Way) -> StoreResult<()> {
        let object = collection.object;
        let (wanted, present) = (index::with_entries(collection), self.reader().indexed(object)?);
        if wanted == present || self.reader().object(object)?.is_none() {
            return Ok(());
        }
        let has = |indexes: &[Index], id: u64| indexes.iter().any(|index| index.id == id);
        let building = self.reader().building(object)?;
        for index in present.iter().filter(|index| !has(&wanted, index.id)) {
            if way == Way::Apply && fit == Fit::Exact {
                let key = released_index_key(self.generation, tick, object, index.id);
                self.rows.put(Table::Catalog, key, encode(&building.of(index.id).unwrap_or(Filled::ALL)));
                continue;
            }
            let prefix = entries::in_index(self.generation, object, index.id);
            prune::remove_prefix(self.rows, Table::Index, &prefix, &mut usize::MAX.clone())?;
        }
        let mut now = Building { collection: collection.id, indexes: Vec::new() };
        for index in &wanted {
            let released = released_index_key(self.generation, tick, object, index.id);
            let mut filled = if has(&present, index.id) {
                building.of(index.id).unwrap_or(Filled::ALL)
            } else if let Some(row) = self.rows.get(Table::Catalog, &released)?.filter(|_| way == Way::Undo) {
                let filled = decode(row, "how far a dropped index had come")?;
                self.rows.remove(Table::Catalog, released);
                filled
            } else {
                Filled { after: Revision(0), until: self.reader().last_revision(object)? }
            };
            if index.building {
                now.indexes.push((index.id, filled));
                continue;
            }
            let left = has(&present, index.id) && planted!(index_left_unfinished);
            while !(filled.is_complete() || left) {
                filled = self.fill(collection, index, filled, FILL_DOCUMENTS)?;
            }
        }
        match wanted.is_empty() {
            true => self.remove_catalog(kind::INDEXED, &[&object.to_be_bytes()]),
            false => self.put_catalog(kind::INDEXED, &[&object.to_be_bytes()], &wanted),
        }
        self.put_building(object, &now);
        Ok(())
    }

    /// Adds the entries that some more documents have in an index, and says how far it is then.
    pub(super) fn fill(
        &mut self,
        collection: &CollectionRow,
        index: &Index,
        filled: Filled,
        limit: usize,
    ) -> StoreResult<Filled> {
        let indexed = Indexed::by(vec![index.clone()]);
        let page = self.reader().documents(collection, Some(filled.after), limit)?;
        for document in page.iter().filter(|document| document.revision <= filled.until) {
            self.put_entries(collection.object, &indexed, &document.key, document.revision, &document.body, true)?;
        }
        // Revisions that were there may be gone by now: the last one need not be met.
        let last = page.last().map(|document| document.revision).filter(|last| *last < filled.until);
        Ok(Filled { after: last.unwrap_or(filled.until), ..filled })
    }

    /// Takes note of how far an index has come that is being built.
    pub(super) fn set_filled(&mut self, collection: &CollectionRow, index: u64, filled: Filled) -> StoreResult<()> {
        let mut building = self.reader().building(collection.object)?;
        for (_, of_index) in building.indexes.iter_mut().filter(|(id, _)| *id == index) {
            *of_index = filled;
        }
        self.put_building(collection.object, &building);
        Ok(())
    }

    fn put_building(&mut self, object: u64, building: &Building) {
        match building.indexes.is_empty() {
            true => self.remove_catalog(kind::BUILDING, &[&object.to_be_bytes()]),
            false => self.put_catalog(kind::BUILDING, &[&object.to_be_bytes()], building),
        }
    }

    /// Replaces the entries of what a key stands for, which has the revision `present` and the body of `before`; where
    /// that is not known, the document says it.
    pub fn index_document(
        &mut self,
        object: u64,
        key: &str,
        present: Option<Revision>,
        before: Option<&Image>,
        after: Option<&Image>,
    ) -> StoreResult<()> {
        let Some(indexed) = self.indexed(object)? else { return Ok(()) };
        if let Some(revision) = present {
            let body = match before {
                Some(image) => Some(image.body.clone()),
                None => self.reader().document_in(object, revision)?.map(|document| document.body),
            };
            if let Some(body) = body {
                self.put_entries(object, &indexed, key, revision, &body, false)?;
            }
        }
        if let Some(image) = after {
            self.put_entries(object, &indexed, key, image.revision, &image.body, true)?;
        }
        Ok(())
    }

    /// What the documents of an object have entries in, if in anything.
    pub fn indexed(&mut self, object: u64) -> StoreResult<Option<Arc<Indexed>>> {
        let Some(row) = self.reader().indexed_row(object)? else { return Ok(None) };
        if let Some((known, indexed)) = &self.known
            && known == row
        {
            return Ok(Some(Arc::clone(indexed)));
        }
        let indexed = Arc::new(Indexed::by(indexes_of_row(row)?));
        self.known = Some((row.to_vec(), Arc::clone(&indexed)));
        Ok(Some(indexed))
    }

    /// Writes or removes the entries of a document.
    fn put_entries(
        &mut self,
        object: u64,
        indexed: &Indexed,
        key: &str,
        revision: Revision,
        body: &[u8],
        put: bool,
    ) -> StoreResult<()> {
        let body = indexed.attributes.read(body)?;
        for index in &indexed.indexes {
            // The leader refuses a document that has too many.
            for values in entries::of_document(index, key, revision, &body).unwrap_or_default() {
                let (key, value) = entries::row(self.generation, object, index.id, &values, revision);
                match put {
                    true => self.rows.put(Table::Index, key, value),
                    false => self.rows.remove(Table::Index, key),
                }
            }
        }
        Ok(())
    }

    // ---- documents ----

    /// Sets or removes what a key stands for. `present` is the revision that it has now.
    pub fn put_document(
        &mut self,
        object: u64,
        key: &str,
        present: Option<Revision>,
        value: Option<(Revision, Vec<u8>)>,
        fit: Fit,
    ) -> StoreResult<()> {
        let Some(mut row) = self.reader().object(object)? else {
            return match fit {
                Fit::Lenient => Ok(()),
                Fit::Exact => Err(StoreError::Corrupt(format!("object {object} is missing"))),
            };
        };
        let unchanged = row;
        if let Some(revision) = present {
            self.rows.remove(Table::Documents, in_object(self.generation, object, &revision.0.to_be_bytes()));
            row.count = row.count.saturating_sub(1);
        }
        let entry = in_object(self.generation, object, key.as_bytes());
        match value {
            Some((revision, value)) => {
                let at = in_object(self.generation, object, &revision.0.to_be_bytes());
                self.rows.put(Table::Documents, at, value);
                self.rows.put(Table::Keys, entry, revision.0.to_be_bytes().to_vec());
                row.count += 1;
                row.highest_key = row.highest_key.max(row.keys.number(key).unwrap_or(0));
            }
            None => self.rows.remove(Table::Keys, entry),
        }
        if row != unchanged {
            self.put_object(object, row);
        }
        Ok(())
    }

    pub fn put_object(&mut self, object: u64, row: ObjectRow) {
        self.rows.put(Table::Catalog, object_key(self.generation, object), encode(&row));
    }

    pub fn put_catalog<T: Serialize>(&mut self, kind: u8, parts: &[&[u8]], row: &T) {
        self.rows.put(Table::Catalog, catalog_key(self.generation, kind, parts), encode(row));
    }

    fn remove_catalog(&mut self, kind: u8, parts: &[&[u8]]) {
        self.rows.remove(Table::Catalog, catalog_key(self.generation, kind, parts));
    }
}

fn released_index_key(generation: u32, tick: Tick, object: u64, index: u64) -> Vec<u8> {
    let parts = [tick.0, object, index].map(u64::to_be_bytes);
    catalog_key(generation, kind::RELEASED_INDEX, &[&parts.concat()])
}

impl Counters {
    /// Nothing is minted at or below what an entry has used, whoever made it.
    pub fn absorb(&mut self, ops: &[LogOp]) {
        for op in ops {
            match op {
                LogOp::Epoch(_) => {}
                LogOp::Database { after, .. } => self.id = self.id.max(after.as_ref().map_or(0, |row| row.id)),
                LogOp::Collection { after, .. } => {
                    let Some(row) = after else { continue };
                    let indexes = row.indexes.iter().map(|index| index.id);
                    self.id = self.id.max(indexes.fold(row.id.max(row.object), u64::max));
                }
                LogOp::View { after, .. } => self.id = self.id.max(after.as_ref().map_or(0, |row| row.id)),
                LogOp::Document { after, .. } => {
                    let revision = after.as_ref().map_or(0, |image| image.revision.0);
                    self.revision = self.revision.max(revision);
                }
            }
        }
    }

    pub fn absorb_counters(&mut self, other: Counters) {
        self.revision = self.revision.max(other.revision);
        self.id = self.id.max(other.id);
    }
}
