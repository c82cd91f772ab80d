//! `/_api/collection`.

use super::*;
use crate::db::rows::{CollectionKind, KeyKind, KeyOptions};
use crate::db::rules::{computed, schema::Schema};
use crate::db::writer::NewCollection;
use serde_json::json;

/// Properties that mean something to the API and to [`crate::db::rules`] only.
const KEPT: [&str; 3] = ["cacheEnabled", "schema", "computedValues"];

// ---- how collections are shown --------------------------------------------------------------------------------------

pub(super) fn short(row: &CollectionRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "name": row.name,
        "status": 3,
        "type": row.kind as u8,
        "isSystem": row.system,
        "globallyUniqueId": row.globally_unique_id,
    })
}

pub(super) fn full(db: &Reader<'_>, row: &CollectionRow) -> StoreResult<Value> {
    let last_value = db.object(row.object)?.map_or(0, |object| object.highest_key);
    let kept = |name: &str| row.properties.get(name).cloned();
    Ok(json!({
        "waitForSync": row.wait_for_sync,
        "status": 3,
        "globallyUniqueId": row.globally_unique_id,
        "isSystem": row.system,
        "internalValidatorType": 0,
        "isSmartChild": false,
        "id": row.id.to_string(),
        "name": row.name,
        "type": row.kind as u8,
        "objectId": row.object.to_string(),
        "usesRevisionsAsDocumentIds": true,
        "schema": kept("schema"),
        "computedValues": kept("computedValues"),
        "writeConcern": 1,
        "syncByRevision": true,
        "cacheEnabled": kept("cacheEnabled").filter(Value::is_boolean).unwrap_or(false.into()),
        "keyOptions": key_options(&row.key, last_value),
        "statusString": "loaded",
    }))
}

fn key_options(key: &KeyOptions, last_value: u64) -> Value {
    let kind = match key.kind {
        KeyKind::Traditional => "traditional",
        KeyKind::Autoincrement => "autoincrement",
        KeyKind::Uuid => "uuid",
        KeyKind::Padded => "padded",
    };
    let mut shown = json!({"allowUserKeys": key.allow_user_keys, "type": kind});
    if key.kind == KeyKind::Autoincrement {
        shown["increment"] = key.increment.into();
        shown["offset"] = key.offset.into();
    }
    if key.kind != KeyKind::Uuid {
        shown["lastValue"] = last_value.into();
    }
    shown
}

/// With the header that ArangoDB adds to answers about one collection's parts.
fn located(call: &Call<'_, '_>, body: Value) -> Answer {
    let mut handled = ok(200, body)?;
    let database = percent_encode(&call.database.name, UNRESERVED);
    let location = format!("/_db/{database}{}", call.request().split_database().1);
    handled.response = handled.response.with_header(header::LOCATION, location);
    Ok(handled)
}

/// What must change when a collection changes. Any write moves it, also one to another collection: a client that
/// compares it may look once too often, never too seldom.
fn revision_of(db: &Reader<'_>) -> StoreResult<String> {
    let last = db.last()?;
    Ok(((last.epoch.0 << 40) | last.tick.0).to_string())
}

// ---- reading --------------------------------------------------------------------------------------------------------

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let exclude_system = call.flag("excludeSystem", false);
    let rows = call.reader().collections(call.database.id)?;
    let shown = rows.iter().filter(|row| !(exclude_system && row.system));
    let visible = shown.filter(|row| call.collection_level(&row.name) > Level::None).map(short);
    ok(200, visible.collect())
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    ok(200, short(&call.collection(&call.open[0], Level::Ro)?))
}

pub(super) fn properties(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    located(call, full(&call.reader(), &row)?)
}

pub(super) fn count(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    let mut body = full(&call.reader(), &row)?;
    body["count"] = call.reader().count(&row)?.into();
    located(call, body)
}

pub(super) fn figures(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    let mut body = full(&call.reader(), &row)?;
    body["count"] = call.reader().count(&row)?.into();
    let mut bytes = 0;
    for_each_document(&call.reader(), &row, |document| {
        bytes += document.key.len() + document.body.len();
        Ok(true)
    })?;
    body["figures"] = json!({
        "indexes": {"count": index::list(&call.reader(), &row, false)?.len(), "size": 0},
        "documentsSize": bytes,
        "cacheInUse": false,
        "cacheSize": 0,
        "cacheUsage": 0,
    });
    located(call, body)
}

pub(super) fn revision(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    let mut body = full(&call.reader(), &row)?;
    body["revision"] = revision_of(&call.reader())?.into();
    located(call, body)
}

/// The same for the same documents, in whatever order they were written.
pub(super) fn checksum(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    let (with_revisions, with_data) = (call.flag("withRevisions", false), call.flag("withData", false));
    let mut sum = 0u64;
    for_each_document(&call.reader(), &row, |document| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(document.key.as_bytes());
        if with_revisions {
            hasher.update(&document.revision.0.to_be_bytes());
        }
        if with_data {
            hasher.update(&document.body);
        }
        sum = sum.wrapping_add(u64::from(hasher.finalize()));
        Ok(true)
    })?;
    let mut body = short(&row);
    body["checksum"] = sum.to_string().into();
    body["revision"] = revision_of(&call.reader())?.into();
    located(call, body)
}

pub(super) fn shards(call: &mut Call<'_, '_>) -> Answer {
    call.collection(&call.open[0], Level::Ro)?;
    Err(errors::INTERNAL.into())
}

pub(super) fn no_resource(call: &mut Call<'_, '_>) -> Answer {
    call.collection(&call.open[0], Level::Ro)?;
    let known = "'checksum', 'count', 'figures', 'properties', 'responsibleShard', 'revision', 'shards'";
    Err(errors::HTTP_NOT_FOUND.says(format!("expecting one of the resources {known}")).into())
}

pub(super) fn no_action(call: &mut Call<'_, '_>) -> Answer {
    call.collection(&call.open[0], Level::Ro)?;
    let known = "'load', 'unload', 'truncate', 'properties', 'compact', 'rename', 'loadIndexesIntoMemory'";
    Err(errors::HTTP_NOT_FOUND.says(format!("expecting one of the actions {known}")).into())
}

// ---- things that mean nothing here, and are done at once ------------------------------------------------------------

pub(super) fn load(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    let mut body = short(&row);
    if call.json()?.get("count").and_then(Value::as_bool).unwrap_or(true) {
        body["count"] = call.reader().count(&row)?.into();
    }
    located(call, body)
}

pub(super) fn unload(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    located(call, short(&row))
}

pub(super) fn load_indexes(call: &mut Call<'_, '_>) -> Answer {
    call.collection(&call.open[0], Level::Ro)?;
    located(call, json!({"result": true}))
}

/// Counts are kept with each write and are always right.
pub(super) fn recalculate_count(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    located(call, json!({"result": true, "count": call.reader().count(&row)?}))
}

pub(super) fn responsible_shard(call: &mut Call<'_, '_>) -> Answer {
    call.collection(&call.open[0], Level::Ro)?;
    Err(errors::ONLY_ON_COORDINATOR.into())
}

// ---- writing --------------------------------------------------------------------------------------------------------

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let body = call.json()?;
    let Some(name) = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(errors::ILLEGAL_NAME.into());
    };
    let system = body.get("isSystem").and_then(Value::as_bool).unwrap_or(false);
    if !call.is_name(name, system) {
        return Err(names::illegal(name));
    }
    let kind = match body.get("type") {
        None | Some(Value::Null) => CollectionKind::Document,
        Some(Value::String(text)) if text == "2" || text == "document" => CollectionKind::Document,
        Some(Value::String(text)) if text == "3" || text == "edge" => CollectionKind::Edge,
        Some(number) if number.as_u64() == Some(2) => CollectionKind::Document,
        Some(number) if number.as_u64() == Some(3) => CollectionKind::Edge,
        Some(_) => return Err(errors::COLLECTION_TYPE_INVALID.into()),
    };
    check_free(call, name)?;
    let new = NewCollection {
        name: name.to_owned(),
        kind,
        system,
        key: read_key_options(body.get("keyOptions"))?,
        wait_for_sync: body.get("waitForSync").and_then(Value::as_bool).unwrap_or(false),
        properties: keep(Value::Object(Map::new()), &body)?,
    };
    let database = call.database.id;
    let row = call.writer()?.create_collection(database, new)?;
    user::grant_creator(call, &row)?;
    ok(200, full(&call.reader(), &row)?)
}

/// Collections and views of a database share their names.
pub(super) fn check_free(call: &Call<'_, '_>, name: &str) -> Result<(), Failure> {
    let (reader, database) = (call.reader(), call.database.id);
    if reader.collection(database, name)?.is_some() || reader.view(database, name)?.is_some() {
        return Err(errors::DUPLICATE_NAME.into());
    }
    Ok(())
}

fn read_key_options(given: Option<&Value>) -> Result<KeyOptions, Failure> {
    let mut options = KeyOptions::default();
    let given = match given {
        None | Some(Value::Null) => return Ok(options),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(errors::INVALID_KEY_GENERATOR.because("keyOptions must be an object").into()),
    };
    // Drivers send null for what they leave open.
    let given = |name: &str| given.get(name).filter(|value| !value.is_null());
    options.kind = match given("type").map(|kind| kind.as_str().unwrap_or("")) {
        None | Some("traditional") => KeyKind::Traditional,
        Some("autoincrement") => KeyKind::Autoincrement,
        Some("uuid") => KeyKind::Uuid,
        Some("padded") => KeyKind::Padded,
        Some(_) => return Err(errors::INVALID_KEY_GENERATOR.because("unknown type").into()),
    };
    if let Some(allow) = given("allowUserKeys") {
        options.allow_user_keys =
            allow.as_bool().ok_or(errors::INVALID_KEY_GENERATOR.because("allowUserKeys must be a boolean"))?;
    }
    if options.kind == KeyKind::Autoincrement {
        let number = |name: &str, default: u64, least: u64, most: u64| match given(name) {
            None => Ok(default),
            Some(value) => value.as_u64().filter(|n| (least..=most).contains(n)).ok_or(
                errors::INVALID_KEY_GENERATOR.because(format!("{name} must be a number from {least} to {most}")),
            ),
        };
        options.increment = number("increment", 1, 1, u64::from(u16::MAX))?;
        options.offset = number("offset", 0, 0, i64::MAX as u64)?;
    }
    Ok(options)
}

/// The kept properties, with those that `body` names changed.
fn keep(mut properties: Value, body: &Value) -> Result<Value, Failure> {
    for name in KEPT {
        let Some(value) = body.get(name) else { continue };
        if !json::fits(value) {
            return Err(errors::BAD_PARAMETER.because(format!("illegal value of '{name}'")).into());
        }
        properties[name] = match name {
            "schema" => Schema::read(value)?.map_or(Value::Null, |schema| schema.shown(value)),
            "computedValues" => computed::shown(&computed::read(value)?),
            _ if value.is_boolean() || value.is_null() => value.clone(),
            _ => return Err(errors::BAD_PARAMETER.because(format!("illegal value of '{name}'")).into()),
        };
    }
    Ok(properties)
}

pub(super) fn change(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Rw)?;
    let body = call.json()?;
    let mut after = row.clone();
    if let Some(wait) = body.get("waitForSync").filter(|wait| !wait.is_null()) {
        after.wait_for_sync = wait.as_bool().ok_or(errors::BAD_PARAMETER.because("waitForSync must be a boolean"))?;
    }
    let kept = if row.properties.is_object() { row.properties.clone() } else { json!({}) };
    after.properties = keep(kept, &body)?;
    if after != row {
        call.writer()?.change_collection(&row, &after)?;
    }
    located(call, full(&call.reader(), &after)?)
}

pub(super) fn truncate(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Rw)?;
    let row = call.writer()?.truncate_collection(&row)?;
    located(call, short(&row))
}

pub(super) fn rename(call: &mut Call<'_, '_>) -> Answer {
    let row = writable_definition(call)?;
    let body = call.json()?;
    let Some(name) = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return Err(errors::ILLEGAL_NAME.says("name is empty").into());
    };
    if row.system {
        return Err(errors::FORBIDDEN.because("a system collection can't be renamed").into());
    }
    if !call.is_name(name, false) {
        return Err(names::illegal(name));
    }
    if name != row.name {
        check_free(call, name)?;
    }
    let after = CollectionRow { name: name.to_owned(), ..row.clone() };
    if after != row {
        call.writer()?.change_collection(&row, &after)?;
        graph::collection_renamed(call, &row.name, &after.name)?;
    }
    located(call, short(&after))
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let row = writable_definition(call)?;
    if row.system && !call.flag("isSystem", false) {
        return Err(errors::FORBIDDEN.into());
    }
    if call.database.name == SYSTEM && row.name == users::USERS {
        return Err(errors::FORBIDDEN.because("without users nobody could log in").into());
    }
    call.writer()?.drop_collection(&row)?;
    ok(200, json!({"id": row.id.to_string()}))
}

/// The collection, if the user may rename or drop it: that needs rights on the database too.
fn writable_definition(call: &Call<'_, '_>) -> Result<CollectionRow, Failure> {
    let row = call.collection(&call.open[0], Level::Ro)?;
    call.needs_database(Level::Rw)?;
    if call.collection_level(&row.name) < Level::Rw {
        return Err(errors::FORBIDDEN.into());
    }
    Ok(row)
}
