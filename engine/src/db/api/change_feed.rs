//! `/_api/wal/tail` and `/_api/replication/logger-follow`: what was written, in the order of the log, a JSON value a
//! line. For whoever follows changes from outside; servers replicate over their own protocol.
//!
//! A tick is that of a log entry, which is one request's transaction: all of it is in one answer. What a failover
//! rolled back is not told of: whoever has read past the end of the log is told that his tick is not present.

use super::*;
use crate::db::log::{Image, LogOp, operations};
use crate::db::rows::ViewRow;
use crate::http::ContentType;
use crate::types::{Position, Tick};
use serde_json::json;
use std::collections::BTreeMap;

const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_BYTES_MAX: usize = 16 << 20;
/// Log that is looked through for one answer.
const SCANNED_BYTES_MAX: usize = 64 << 20;

/// ArangoDB's numbers for what a line tells.
mod marker {
    pub const DATABASE_CREATE: u32 = 1100;
    pub const DATABASE_DROP: u32 = 1101;
    pub const COLLECTION_CREATE: u32 = 2000;
    pub const COLLECTION_DROP: u32 = 2001;
    pub const COLLECTION_RENAME: u32 = 2002;
    pub const COLLECTION_CHANGE: u32 = 2003;
    pub const COLLECTION_TRUNCATE: u32 = 2004;
    pub const INDEX_CREATE: u32 = 2100;
    pub const INDEX_DROP: u32 = 2101;
    pub const VIEW_CREATE: u32 = 2110;
    pub const VIEW_DROP: u32 = 2111;
    pub const VIEW_CHANGE: u32 = 2112;
    pub const TRANSACTION_START: u32 = 2200;
    pub const TRANSACTION_COMMIT: u32 = 2201;
    pub const DOCUMENT: u32 = 2300;
    pub const DOCUMENT_REMOVE: u32 = 2302;
}

/// How a line names where it belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `db` and `cuid`, by name.
    Wal,
    /// `database`, `cid` and `cname`, by number.
    Logger,
}

/// `/_api/wal/tail`: of this database, or with `global`, in `_system`, of all.
pub(super) fn tail(call: &mut Call<'_, '_>) -> Answer {
    let global = call.flag("global", false);
    if global && call.database.name != SYSTEM {
        return Err(errors::USE_SYSTEM_DATABASE.into());
    }
    let only = (!global).then_some(call.database.id);
    feed(call, Form::Wal, only)
}

/// `/_api/replication/logger-follow`: of this database.
pub(super) fn logger_follow(call: &mut Call<'_, '_>) -> Answer {
    let only = Some(call.database.id);
    feed(call, Form::Logger, only)
}

fn number(call: &Call<'_, '_>, name: &str) -> Result<Option<u64>, Failure> {
    let given = call.request().query(name).filter(|text| !text.is_empty());
    let wrong = |_| errors::HTTP_BAD_PARAMETER.because(format!("'{name}' must be a number"));
    Ok(given.map(|text| text.parse().map_err(wrong)).transpose()?)
}

fn feed(call: &mut Call<'_, '_>, form: Form, only: Option<u64>) -> Answer {
    let (from, to) = (number(call, "from")?.unwrap_or(0), number(call, "to")?.unwrap_or(u64::MAX));
    if from > to {
        return Err(errors::HTTP_BAD_PARAMETER.because("'from' is beyond 'to'").into());
    }
    let chunk = number(call, "chunkSize")?.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    let chunk = chunk.unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES_MAX);
    let reader = call.reader();
    let (first, last) = (reader.log_first()?.0, reader.last()?.tick.0);
    let mut feed = Feed {
        reader,
        form,
        only,
        places: BTreeMap::new(),
        databases: BTreeMap::new(),
        looked_ahead: false,
        lines: Vec::new(),
    };
    feed.know_present()?;
    let (mut scanned, mut included, mut bytes) = (from.min(last), 0, 0);
    for entry in reader.scan_log(Tick(from)) {
        let entry = entry?;
        if entry.tick.0 > to || feed.lines.len() >= chunk || bytes >= SCANNED_BYTES_MAX {
            break;
        }
        bytes += entry.payload.len();
        scanned = entry.tick.0;
        let before = feed.lines.len();
        feed.entry(entry.position(), &operations(&entry)?)?;
        if feed.lines.len() > before {
            included = scanned;
        }
    }
    let present = (from + 1 >= first && from <= last).to_string();
    let more = (scanned < last.min(to)).to_string();
    let status = if feed.lines.is_empty() { 204 } else { 200 };
    let response = Response { content_type: ContentType::Dump, ..Response::raw(status, feed.lines) }
        .with_header("x-arango-replication-active", "true")
        .with_header("x-arango-replication-checkmore", more)
        .with_header("x-arango-replication-frompresent", present)
        .with_header("x-arango-replication-lastincluded", included.to_string())
        .with_header("x-arango-replication-lastscanned", scanned.to_string())
        .with_header("x-arango-replication-lasttick", last.to_string());
    Ok(response.into())
}

/// Where the documents of an object are.
#[derive(Clone)]
struct Place {
    database: u64,
    collection: u64,
    name: String,
    globally_unique_id: String,
}

impl Place {
    fn of(row: &CollectionRow) -> Place {
        Place {
            database: row.database,
            collection: row.id,
            name: row.name.clone(),
            globally_unique_id: row.globally_unique_id.clone(),
        }
    }
}

struct Feed<'a> {
    reader: Reader<'a>,
    form: Form,
    only: Option<u64>,
    /// By object: those that are there, and those that the entries so far have told of.
    places: BTreeMap<u64, Place>,
    databases: BTreeMap<u64, String>,
    /// Whether the rest of the log was searched for what is gone by now.
    looked_ahead: bool,
    lines: Vec<u8>,
}

impl Feed<'_> {
    /// Learns what the entries after this one let go of: collections that are dropped, objects that were truncated.
    fn look_ahead(&mut self, position: Position) -> StoreResult<()> {
        self.looked_ahead = true;
        let mut bytes = 0;
        for entry in self.reader.scan_log(position.tick) {
            let entry = entry?;
            bytes += entry.payload.len();
            if bytes > SCANNED_BYTES_MAX {
                break;
            }
            for op in operations(&entry)? {
                match op {
                    LogOp::Collection { before: Some(row), .. } => {
                        self.places.entry(row.object).or_insert_with(|| Place::of(&row));
                    }
                    LogOp::Database { before: Some(row), .. } => {
                        self.databases.entry(row.id).or_insert(row.name);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn know_present(&mut self) -> StoreResult<()> {
        for database in self.reader.databases()? {
            for row in self.reader.collections(database.id)? {
                self.places.insert(row.object, Place::of(&row));
            }
            self.databases.insert(database.id, database.name);
        }
        Ok(())
    }

    fn entry(&mut self, position: Position, ops: &[LogOp]) -> StoreResult<()> {
        let mut of_documents = Vec::new();
        for op in ops {
            match op {
                LogOp::Epoch(_) => {}
                LogOp::Database { before, after } => self.database(position, before.as_ref(), after.as_ref()),
                LogOp::Collection { before, after } => {
                    for row in [before, after].into_iter().flatten() {
                        self.places.insert(row.object, Place::of(row));
                    }
                    self.collection(position, before.as_ref(), after.as_ref());
                }
                LogOp::View { before, after } => self.view(position, before.as_ref(), after.as_ref()),
                LogOp::Document { object, key, before, after } => {
                    if !self.looked_ahead && !self.places.contains_key(object) {
                        self.look_ahead(position)?;
                    }
                    if let Some(place) = self.places.get(object).filter(|place| self.wants(place.database)) {
                        of_documents.push((place.clone(), key.as_str(), before.as_ref(), after.as_ref()));
                    }
                }
            }
        }
        // A transaction is within one database. One document is a transaction, too: some readers know nothing else.
        let Some(database) = of_documents.first().map(|(place, ..)| place.database) else { return Ok(()) };
        self.transaction(position, marker::TRANSACTION_START, database);
        for (place, key, before, after) in of_documents {
            self.document(position, &place, key, before, after);
        }
        self.transaction(position, marker::TRANSACTION_COMMIT, database);
        Ok(())
    }

    fn wants(&self, database: u64) -> bool {
        self.only.is_none_or(|only| only == database)
    }

    fn line(&self, position: Position, marker: u32, database: u64) -> Value {
        let mut line = json!({"tick": position.tick.0.to_string(), "type": marker});
        match self.form {
            Form::Wal => line["db"] = self.databases.get(&database).map_or("", String::as_str).into(),
            Form::Logger => line["database"] = database.to_string().into(),
        }
        line
    }

    fn push(&mut self, line: &Value) {
        self.lines.extend_from_slice(line.to_string().as_bytes());
        self.lines.push(b'\n');
    }

    fn transaction(&mut self, position: Position, marker: u32, database: u64) {
        let mut line = self.line(position, marker, database);
        line["tid"] = position.tick.0.to_string().into();
        self.push(&line);
    }

    fn database(&mut self, position: Position, before: Option<&DatabaseRow>, after: Option<&DatabaseRow>) {
        let Some(row) = after.or(before) else { return };
        self.databases.insert(row.id, row.name.clone());
        if !self.wants(row.id) {
            return;
        }
        let marker = if after.is_some() { marker::DATABASE_CREATE } else { marker::DATABASE_DROP };
        let mut line = self.line(position, marker, row.id);
        if after.is_some() {
            line["data"] = json!({"id": row.id.to_string(), "name": row.name});
        }
        self.push(&line);
    }

    fn collection(&mut self, position: Position, before: Option<&CollectionRow>, after: Option<&CollectionRow>) {
        let Some(row) = after.or(before).filter(|row| self.wants(row.database)) else { return };
        let place = Place::of(row);
        let of_collection = |marker: u32, data: Option<Value>| (marker, data);
        let mut told = Vec::new();
        match (before, after) {
            (None, Some(after)) => told.push(of_collection(marker::COLLECTION_CREATE, Some(collection::short(after)))),
            (Some(_), None) => told.push(of_collection(marker::COLLECTION_DROP, None)),
            (Some(before), Some(after)) => {
                if before.object != after.object {
                    told.push(of_collection(marker::COLLECTION_TRUNCATE, None));
                }
                if before.name != after.name {
                    told.push(of_collection(marker::COLLECTION_RENAME, Some(json!({"name": after.name}))));
                }
                let has = |row: &CollectionRow, index: &Index| {
                    row.indexes.iter().any(|other| other.id == index.id && !other.building)
                };
                for index in after.indexes.iter().filter(|index| !index.building && !has(before, index)) {
                    told.push(of_collection(marker::INDEX_CREATE, Some(index_definition(index))));
                }
                for index in before.indexes.iter().filter(|index| !index.building && !has(after, index)) {
                    let data = json!({"id": index.id.to_string()});
                    told.push(of_collection(marker::INDEX_DROP, Some(data)));
                }
                if told.is_empty() {
                    told.push(of_collection(marker::COLLECTION_CHANGE, Some(collection::short(after))));
                }
            }
            (None, None) => {}
        }
        for (marker, data) in told {
            let mut line = self.line(position, marker, place.database);
            self.name_collection(&mut line, &place);
            if let Some(data) = data {
                line["data"] = data;
            }
            self.push(&line);
        }
    }

    fn name_collection(&self, line: &mut Value, place: &Place) {
        match self.form {
            Form::Wal => line["cuid"] = place.globally_unique_id.as_str().into(),
            Form::Logger => {
                line["cid"] = place.collection.to_string().into();
                line["cname"] = place.name.as_str().into();
            }
        }
    }

    fn view(&mut self, position: Position, before: Option<&ViewRow>, after: Option<&ViewRow>) {
        let Some(row) = after.or(before).filter(|row| self.wants(row.database)) else { return };
        let marker = match (before, after) {
            (None, _) => marker::VIEW_CREATE,
            (_, None) => marker::VIEW_DROP,
            _ => marker::VIEW_CHANGE,
        };
        let mut line = self.line(position, marker, row.database);
        line["cuid"] = row.globally_unique_id.as_str().into();
        if after.is_some() {
            line["data"] = view::short(row);
        }
        self.push(&line);
    }

    fn document(
        &mut self,
        position: Position,
        place: &Place,
        key: &str,
        before: Option<&Image>,
        after: Option<&Image>,
    ) {
        let marker = if after.is_some() { marker::DOCUMENT } else { marker::DOCUMENT_REMOVE };
        let mut line = self.line(position, marker, place.database);
        line["tid"] = position.tick.0.to_string().into();
        self.name_collection(&mut line, place);
        // The document's own text goes in as it is stored.
        let mut text = line.to_string().into_bytes();
        text.pop();
        text.extend_from_slice(b",\"data\":");
        match after {
            Some(image) => {
                let document = Document { key: key.to_owned(), revision: image.revision, body: image.body.clone() };
                document.write_json(&place.name, &mut text);
            }
            None => {
                let revision = before.map_or_else(String::new, |image| image.revision.encode());
                text.extend_from_slice(json!({"_key": key, "_rev": revision}).to_string().as_bytes());
            }
        }
        text.extend_from_slice(b"}\n");
        self.lines.extend_from_slice(&text);
    }
}

fn index_definition(index: &Index) -> Value {
    json!({
        "id": index.id.to_string(),
        "name": index.name,
        "type": index.kind.name(),
        "fields": index.fields,
        "unique": index.unique,
        "sparse": index.sparse,
    })
}
