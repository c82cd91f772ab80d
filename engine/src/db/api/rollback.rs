//! What rollbacks took away, for operators: `/_api/tanist/rollbacks`.
//!
//! Entries that were undone one by one make a record for each epoch in which that happened; stores that were replaced
//! whole, because their tail could not be undone, are records, too. Each server has its own, whether it leads or not.

use super::replication::position;
use super::*;
use crate::db::log::{self, Image, LogOp};
use crate::db::rollback;
use crate::http::ContentType;
use crate::io::RollbackId;
use crate::message::Entry;
use crate::types::{Epoch, Position, Tick};
use serde_json::json;
use std::collections::BTreeMap;

/// One answer stops at about this many bytes; the client goes on after what came last.
const PAGE_BYTES_MAX: usize = 8 << 20;
const STORE: &str = "store-";

fn missing() -> Failure {
    errors::HTTP_NOT_FOUND.says("no such rollback record").into()
}

/// The record that a path names, if it is there.
fn find(call: &Call<'_, '_>) -> Result<RollbackId, Failure> {
    let id = &call.open[0];
    if let Some(generation) = id.strip_prefix(STORE) {
        let generation = generation.parse().map_err(|_| missing())?;
        let known = call.reader().kept_stores()?.iter().any(|store| store.generation == generation);
        return if known { Ok(RollbackId::Store(generation)) } else { Err(missing()) };
    }
    let epoch = Epoch(id.parse().map_err(|_| missing())?);
    if !is_kept(call, epoch)? {
        return Err(missing());
    }
    Ok(RollbackId::Entries(epoch))
}

fn is_kept(call: &Call<'_, '_>, epoch: Epoch) -> Result<bool, Failure> {
    Ok(!rollback::entries(call.reader().rows, epoch, Position::ZERO, 1)?.is_empty())
}

/// How many records there are.
pub(super) fn count(call: &Call<'_, '_>) -> Result<usize, Failure> {
    let mut count = call.reader().kept_stores()?.len();
    for summary in rollback::summaries(call.reader().rows)? {
        count += usize::from(is_kept(call, summary.epoch)?);
    }
    Ok(count)
}

fn records(call: &Call<'_, '_>) -> Result<Vec<Value>, Failure> {
    let mut list = Vec::new();
    for summary in rollback::summaries(call.reader().rows)? {
        let first = rollback::entries(call.reader().rows, summary.epoch, Position::ZERO, 1)?;
        // What was replaced whole is told below; what an operator removed is not told at all.
        let Some(first) = first.first() else { continue };
        list.push(json!({
            "id": summary.epoch.0.to_string(),
            "epoch": summary.epoch.0,
            "entries": summary.ticks(),
            "operations": summary.operations,
            "common": position(summary.common),
            "first": position(first.position()),
            "last": position(summary.end),
        }));
    }
    for store in call.reader().kept_stores()? {
        let id = format!("{STORE}{}", store.generation);
        list.push(json!({"id": id, "epoch": store.epoch.0, "last": position(store.last)}));
    }
    Ok(list)
}

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let records = records(call)?;
    ok(200, records.into())
}

/// One operation a line, in the order in which they had been made, after the entry `after=<epoch>/<tick>`; for a kept
/// store its collections, or with `collection=<database>/<collection>` the documents of one, after the one with the
/// revision `after`.
pub(super) fn show(call: &mut Call<'_, '_>) -> Answer {
    let text = match find(call)? {
        RollbackId::Store(generation) => kept_store(call, generation)?,
        RollbackId::Entries(epoch) => undone(call, epoch)?,
    };
    Ok(Response { content_type: ContentType::Dump, ..Response::raw(200, text) }.into())
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let record = find(call)?;
    let body = json!({"error": false, "code": 200, "removed": call.open[0]});
    Ok(Handled { response: Response::json(200, &body), then: Some(Then::Forget(record)) })
}

/// Entries of a record, in order, read in pieces.
fn walk<'a>(
    call: &'a Call<'_, '_>,
    epoch: Epoch,
    after: Position,
) -> impl Iterator<Item = StoreResult<Entry>> + use<'a> {
    const PIECE: usize = 256;
    let rows = call.reader().rows;
    let next = |position: Position| Position { tick: Tick(position.tick.0 + 1), ..position };
    let mut from = Some(next(after));
    let pieces = std::iter::from_fn(move || {
        let piece = match rollback::entries(rows, epoch, from?, PIECE) {
            Ok(piece) => piece,
            Err(error) => {
                from = None;
                return Some(vec![Err(error)]);
            }
        };
        from = piece.last().filter(|_| piece.len() == PIECE).map(|entry| next(entry.position()));
        Some(piece.into_iter().map(Ok).collect())
    });
    pieces.flatten()
}

fn undone(call: &Call<'_, '_>, epoch: Epoch) -> Result<String, Failure> {
    let after = match call.request().query("after") {
        None => Position::ZERO,
        Some(text) => parse_position(&text).ok_or(errors::HTTP_BAD_PARAMETER.because("after=<epoch>/<tick>"))?,
    };
    let names = Names::collect(call, epoch)?;
    let mut text = String::new();
    for entry in walk(call, epoch, after) {
        let entry = entry?;
        let at = entry.position();
        for op in log::operations(&entry)? {
            let mut line = json!({"epoch": at.epoch.0, "tick": at.tick.0});
            names.describe(&op, &mut line);
            text += &line.to_string();
            text.push('\n');
        }
        // An entry is told whole: whoever goes on names the last one.
        if text.len() > PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(text)
}

fn parse_position(text: &str) -> Option<Position> {
    let (epoch, tick) = text.split_once('/')?;
    // So that counting on from it can't overflow.
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number < 1 << 62);
    Some(Position { epoch: Epoch(number(epoch)?), tick: Tick(number(tick)?) })
}

/// Documents name the object that they were in; people know collections by name.
#[derive(Default)]
struct Names {
    /// Database and name, by object.
    collections: BTreeMap<u64, (u64, String)>,
    databases: BTreeMap<u64, String>,
}

impl Names {
    /// Those of today, and those of the record itself.
    fn collect(call: &Call<'_, '_>, epoch: Epoch) -> Result<Names, Failure> {
        let mut names = Names::default();
        for database in call.reader().databases()? {
            for row in call.reader().collections(database.id)? {
                names.collections.insert(row.object, (database.id, row.name));
            }
            names.databases.insert(database.id, database.name);
        }
        for entry in walk(call, epoch, Position::ZERO) {
            for op in log::operations(&entry?)? {
                match op {
                    LogOp::Collection { before, after } => {
                        for row in [before, after].into_iter().flatten() {
                            names.collections.insert(row.object, (row.database, row.name));
                        }
                    }
                    LogOp::Database { before, after } => {
                        for row in [before, after].into_iter().flatten() {
                            names.databases.insert(row.id, row.name);
                        }
                    }
                    LogOp::Epoch(_) | LogOp::Document { .. } | LogOp::View { .. } => {}
                }
            }
        }
        Ok(names)
    }

    fn database(&self, id: u64) -> Value {
        self.databases.get(&id).map_or(Value::Null, |name| name.as_str().into())
    }

    fn describe(&self, op: &LogOp, line: &mut Value) {
        let image = |image: &Option<Image>| match image {
            None => Value::Null,
            Some(image) => {
                let mut document: Value = serde_json::from_slice(&image.body).unwrap_or(Value::Null);
                if document.is_object() {
                    document["_rev"] = image.revision.encode().into();
                }
                document
            }
        };
        let name = |name: Option<&String>| name.map_or(Value::Null, |name| name.as_str().into());
        match op {
            LogOp::Epoch(row) => {
                line["type"] = "epoch".into();
                line["begins"] = row.epoch.0.into();
            }
            LogOp::Database { before, after } => {
                line["type"] = "database".into();
                line["kind"] = if after.is_some() { "create" } else { "drop" }.into();
                line["before"] = name(before.as_ref().map(|row| &row.name));
                line["after"] = name(after.as_ref().map(|row| &row.name));
            }
            LogOp::Collection { before, after } => {
                line["type"] = "collection".into();
                line["kind"] = match (before, after) {
                    (None, _) => "create",
                    (_, None) => "drop",
                    (Some(before), Some(after)) if before.object != after.object => "truncate",
                    (Some(before), Some(after)) if before.name != after.name => "rename",
                    (Some(_), Some(_)) => "change",
                }
                .into();
                let row = after.as_ref().or(before.as_ref());
                line["database"] = row.map_or(Value::Null, |row| self.database(row.database));
                line["edges"] = row.is_some_and(|row| row.kind == CollectionKind::Edge).into();
                line["before"] = name(before.as_ref().map(|row| &row.name));
                line["after"] = name(after.as_ref().map(|row| &row.name));
            }
            LogOp::View { before, after } => {
                line["type"] = "view".into();
                line["kind"] = match (before, after) {
                    (None, _) => "create",
                    (_, None) => "drop",
                    (Some(before), Some(after)) if before.name != after.name => "rename",
                    (Some(_), Some(_)) => "change",
                }
                .into();
                let row = after.as_ref().or(before.as_ref());
                line["database"] = row.map_or(Value::Null, |row| self.database(row.database));
                line["before"] = name(before.as_ref().map(|row| &row.name));
                line["after"] = name(after.as_ref().map(|row| &row.name));
            }
            LogOp::Document { object, key, before, after } => {
                line["type"] = "document".into();
                line["kind"] = match (before, after) {
                    (None, _) => "insert",
                    (_, None) => "remove",
                    _ => "replace",
                }
                .into();
                // Of a removal the time is not known.
                line["time"] = after.as_ref().map_or(Value::Null, |after| iso8601(after.revision.wall_ms()).into());
                let found = self.collections.get(object);
                line["database"] = found.map_or(Value::Null, |(database, _)| self.database(*database));
                line["collection"] = name(found.map(|(_, name)| name));
                line["_key"] = key.as_str().into();
                line["before"] = image(before);
                line["after"] = image(after);
            }
        }
    }
}

fn kept_store(call: &Call<'_, '_>, generation: u32) -> Result<String, Failure> {
    let store = Reader::of_generation(call.reader().rows, generation);
    let mut text = String::new();
    let Some(wanted) = call.request().query("collection") else {
        for database in store.databases()? {
            for row in store.collections(database.id)? {
                let count = store.count(&row)?;
                text += &json!({"database": database.name, "collection": row.name, "count": count}).to_string();
                text.push('\n');
            }
        }
        return Ok(text);
    };
    let (database, name) = wanted.split_once('/').unwrap_or((SYSTEM, &wanted));
    let bounded = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
    let database = if bounded(database) { store.database(database)? } else { None };
    let database = database.ok_or(errors::DATABASE_NOT_FOUND)?;
    let row = if bounded(name) { store.collection(database.id, name)? } else { None };
    let row = row.ok_or_else(|| errors::DATA_SOURCE_NOT_FOUND.because(name))?;
    let after = call.request().query("after").and_then(|after| Revision::decode(&after));
    let mut lines = Vec::new();
    for document in store.scan_documents(&row, after) {
        document?.write_json(&row.name, &mut lines);
        lines.push(b'\n');
        if lines.len() > PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&lines).into_owned())
}
