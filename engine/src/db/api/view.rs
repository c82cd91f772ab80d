//! `/_api/view`: the definitions of `arangosearch` and `search-alias` views.
//!
//! Only the definitions: nothing is searched. Collections and indexes that a definition names are kept by their ids, so
//! that a rename is followed and what was dropped is gone from every definition at once, without another write.

use super::*;
use crate::db::rows::{ViewKind, ViewRow};
use serde_json::json;

/// Bound on a definition, as it is kept.
const DEFINITION_BYTES_MAX: usize = 1 << 20;
/// What an `arangosearch` view can be created with, and never changed in.
const FIXED: [&str; 5] =
    ["primarySort", "primarySortCompression", "storedValues", "writebufferActive", "writebufferIdle"];

fn kind_name(kind: ViewKind) -> &'static str {
    match kind {
        ViewKind::ArangoSearch => "arangosearch",
        ViewKind::SearchAlias => "search-alias",
    }
}

/// How ArangoDB merges the segments of views and of inverted indexes, as far as nothing else is said.
pub(super) fn consolidation_policy() -> Value {
    json!({
        "type": "tier",
        "segmentsBytesFloor": 2_097_152,
        "segmentsBytesMax": 5_368_709_120_u64,
        "segmentsMax": 10,
        "segmentsMin": 1,
        "minScore": 0,
    })
}

/// What a new `arangosearch` view is, as far as nothing else is said.
fn defaults() -> Value {
    json!({
        "cleanupIntervalStep": 2,
        "commitIntervalMsec": 1000,
        "consolidationIntervalMsec": 1000,
        "consolidationPolicy": consolidation_policy(),
        "primarySort": [],
        "primarySortCompression": "lz4",
        "storedValues": [],
        "writebufferActive": 0,
        "writebufferIdle": 64,
        "writebufferSizeMax": 33_554_432,
        "links": {},
    })
}

// ---- how views are shown --------------------------------------------------------------------------------------------

pub(super) fn short(row: &ViewRow) -> Value {
    json!({
        "globallyUniqueId": row.globally_unique_id,
        "id": row.id.to_string(),
        "name": row.name,
        "type": kind_name(row.kind),
    })
}

pub(super) fn full(db: &Reader<'_>, row: &ViewRow) -> StoreResult<Value> {
    let mut shown = short(row);
    let collection = |id: &str| db.collection(row.database, id);
    match row.kind {
        ViewKind::ArangoSearch => {
            for (name, value) in row.properties.as_object().into_iter().flatten() {
                shown[name] = value.clone();
            }
            let mut links = Map::new();
            for (id, link) in row.properties["links"].as_object().into_iter().flatten() {
                if let Some(collection) = collection(id)? {
                    links.insert(collection.name, link.clone());
                }
            }
            shown["links"] = links.into();
        }
        ViewKind::SearchAlias => {
            let mut indexes = Vec::new();
            for part in row.properties["indexes"].as_array().into_iter().flatten() {
                let text = |name: &str| part[name].as_str().unwrap_or_default();
                let Some(collection) = collection(text("collection"))? else { continue };
                if let Some(index) = collection.indexes.iter().find(|index| index.id.to_string() == text("index")) {
                    indexes.push(json!({"collection": collection.name, "index": index.name}));
                }
            }
            shown["indexes"] = indexes.into();
        }
    }
    Ok(shown)
}

// ---- reading --------------------------------------------------------------------------------------------------------

pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    call.needs_database(Level::Ro)?;
    let rows = call.reader().views(call.database.id)?;
    ok(200, rows.iter().map(short).collect())
}

/// The view in the path.
fn find(call: &Call<'_, '_>) -> Result<ViewRow, Failure> {
    let name = &call.open[0];
    let found = if name.len() <= NAME_BYTES_MAX { call.reader().view(call.database.id, name)? } else { None };
    found.ok_or_else(|| errors::DATA_SOURCE_NOT_FOUND.into())
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    ok(200, short(&find(call)?))
}

pub(super) fn properties(call: &mut Call<'_, '_>) -> Answer {
    let row = find(call)?;
    visible(call, &row)?;
    ok(200, full(&call.reader(), &row)?)
}

/// Whoever may not read a linked collection sees nothing of the view's definition.
fn visible(call: &Call<'_, '_>, row: &ViewRow) -> Result<(), Failure> {
    for name in full(&call.reader(), row)?["links"].as_object().into_iter().flat_map(Map::keys) {
        call.collection(name, Level::Ro)?;
    }
    Ok(())
}

// ---- writing --------------------------------------------------------------------------------------------------------

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let body = call.object()?;
    let Some(name) = body.get("name").and_then(Value::as_str) else {
        return Err(errors::BAD_PARAMETER.says("expecting 'name' to be a string").into());
    };
    let kind = match body.get("type").and_then(Value::as_str) {
        Some("arangosearch") => ViewKind::ArangoSearch,
        Some("search-alias") => ViewKind::SearchAlias,
        Some(other) => return Err(errors::BAD_PARAMETER.because(format!("unknown type of a view: '{other}'")).into()),
        None => return Err(errors::BAD_PARAMETER.says("expecting 'type' to be a string").into()),
    };
    if !call.is_name(name, false) {
        return Err(names::illegal(name));
    }
    collection::check_free(call, name)?;
    let properties = match kind {
        ViewKind::ArangoSearch => search_properties(call, defaults(), &body, true)?,
        ViewKind::SearchAlias => alias_properties(call, json!({}), &body)?,
    };
    let database = call.database.id;
    let row = call.writer()?.create_view(database, name, kind, properties)?;
    ok(201, full(&call.reader(), &row)?)
}

/// `PUT`: everything that can be changed and is not named is as it was in the beginning.
pub(super) fn replace(call: &mut Call<'_, '_>) -> Answer {
    let row = find(call)?;
    let base = match row.kind {
        ViewKind::SearchAlias => json!({}),
        ViewKind::ArangoSearch => {
            let mut base = defaults();
            for name in FIXED.iter().chain(&["writebufferSizeMax"]) {
                base[*name] = row.properties[*name].clone();
            }
            base
        }
    };
    change(call, &row, base)
}

/// `PATCH`: what is not named stays.
pub(super) fn update(call: &mut Call<'_, '_>) -> Answer {
    let row = find(call)?;
    change(call, &row, row.properties.clone())
}

fn change(call: &mut Call<'_, '_>, row: &ViewRow, base: Value) -> Answer {
    visible(call, row)?;
    let body = call.object()?;
    let properties = match row.kind {
        ViewKind::ArangoSearch => search_properties(call, base, &body, false)?,
        ViewKind::SearchAlias => alias_properties(call, base, &body)?,
    };
    let after = ViewRow { properties, ..row.clone() };
    if after != *row {
        call.writer()?.change_view(row, &after)?;
    }
    ok(200, full(&call.reader(), &after)?)
}

pub(super) fn rename(call: &mut Call<'_, '_>) -> Answer {
    let row = find(call)?;
    visible(call, &row)?;
    let body = call.object()?;
    let Some(name) = body.get("name").and_then(Value::as_str) else {
        return Err(errors::BAD_PARAMETER.says("expecting 'name' to be a string").into());
    };
    if !call.is_name(name, false) {
        return Err(names::illegal(name));
    }
    if name != row.name {
        collection::check_free(call, name)?;
    }
    let after = ViewRow { name: name.to_owned(), ..row.clone() };
    if after != row {
        call.writer()?.change_view(&row, &after)?;
    }
    ok(200, full(&call.reader(), &after)?)
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let row = find(call)?;
    visible(call, &row)?;
    call.writer()?.drop_view(&row)?;
    ok(200, json!({"result": true}))
}

// ---- definitions ----------------------------------------------------------------------------------------------------

fn illegal(name: &str) -> Failure {
    errors::BAD_PARAMETER.because(format!("illegal value of '{name}'")).into()
}

/// Drivers send null for what they leave open.
fn given<'b>(body: &'b Map<String, Value>, name: &str) -> Option<&'b Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn checked(properties: Value) -> Result<Value, Failure> {
    if properties.to_string().len() > DEFINITION_BYTES_MAX {
        return Err(errors::RESOURCE_LIMIT.because("the definition of a view is too big").into());
    }
    if json::fits(&properties) {
        Ok(properties)
    } else {
        Err(errors::BAD_PARAMETER.because("nested too deeply").into())
    }
}

/// The properties of an `arangosearch` view: `base` with what `body` says.
fn search_properties(
    call: &Call<'_, '_>,
    mut base: Value,
    body: &Map<String, Value>,
    new: bool,
) -> Result<Value, Failure> {
    let numbers = ["cleanupIntervalStep", "commitIntervalMsec", "consolidationIntervalMsec", "writebufferSizeMax"];
    let settable = numbers.iter().chain(["writebufferActive", "writebufferIdle"].iter().filter(|_| new));
    for name in settable {
        if let Some(value) = given(body, name) {
            base[*name] = value.as_u64().ok_or_else(|| illegal(name))?.into();
        }
    }
    if let Some(policy) = given(body, "consolidationPolicy") {
        base["consolidationPolicy"] = consolidation(policy).ok_or_else(|| illegal("consolidationPolicy"))?;
    }
    if new {
        if let Some(sort) = given(body, "primarySort") {
            base["primarySort"] = primary_sort(sort).ok_or_else(|| illegal("primarySort"))?;
        }
        if let Some(compression) = given(body, "primarySortCompression") {
            let known = ["lz4", "none"].contains(&compression.as_str().unwrap_or_default());
            base["primarySortCompression"] =
                if known { compression.clone() } else { return Err(illegal("primarySortCompression")) };
        }
        if let Some(stored) = given(body, "storedValues") {
            base["storedValues"] = stored_values(stored).ok_or_else(|| illegal("storedValues"))?;
        }
    }
    if let Some(links) = given(body, "links") {
        for (name, link) in links.as_object().ok_or_else(|| illegal("links"))? {
            let collection = call.collection(name, Level::Ro)?;
            let id = collection.id.to_string();
            match link {
                Value::Null => {
                    base["links"].as_object_mut().map(|links| links.remove(&id));
                }
                link => base["links"][id] = search_link(call, link, true)?,
            }
        }
    }
    checked(base)
}

fn consolidation(policy: &Value) -> Option<Value> {
    let known = match policy.get("type")?.as_str()? {
        "tier" => defaults()["consolidationPolicy"].clone(),
        "bytes_accum" => json!({"type": "bytes_accum", "threshold": 0.1}),
        _ => return None,
    };
    let mut whole = known.as_object()?.clone();
    for (name, value) in whole.iter_mut().filter(|(name, _)| *name != "type") {
        match policy.get(name) {
            None | Some(Value::Null) => {}
            Some(given) if given.is_number() => *value = given.clone(),
            Some(_) => return None,
        }
    }
    let threshold = whole.get("threshold").and_then(Value::as_f64);
    threshold.is_none_or(|threshold| (0.0..=1.0).contains(&threshold)).then(|| whole.into())
}

/// Each entry says its direction in one way, and is shown in the other.
fn primary_sort(sort: &Value) -> Option<Value> {
    let entry = |entry: &Value| {
        let field = entry.get("field")?.as_str()?;
        let given = |name: &str| entry.get(name).filter(|value| !value.is_null());
        let ascending = match (given("asc"), given("direction")) {
            (Some(Value::Bool(ascending)), None) => *ascending,
            (None, Some(Value::String(direction))) => match direction.to_ascii_lowercase().as_str() {
                "asc" => true,
                "desc" => false,
                _ => return None,
            },
            _ => return None,
        };
        Some(json!({"field": field, "asc": ascending}))
    };
    sort.as_array()?.iter().map(entry).collect()
}

fn stored_values(stored: &Value) -> Option<Value> {
    let fields = |fields: &Value| {
        let fields = fields.as_array()?;
        fields.iter().all(Value::is_string).then(|| Value::from(fields.clone()))
    };
    let entry = |entry: &Value| match entry {
        Value::String(field) => Some(json!({"fields": [field], "compression": "lz4"})),
        Value::Array(_) => Some(json!({"fields": fields(entry)?, "compression": "lz4"})),
        Value::Object(whole) => {
            let compression = match whole.get("compression") {
                None | Some(Value::Null) => "lz4",
                Some(given) => given.as_str().filter(|name| ["lz4", "none"].contains(name))?,
            };
            Some(json!({"fields": fields(whole.get("fields")?)?, "compression": compression}))
        }
        _ => None,
    };
    stored.as_array()?.iter().map(entry).collect()
}

/// What is indexed of a collection, or (`top` is false) of an attribute in it.
fn search_link(call: &Call<'_, '_>, link: &Value, top: bool) -> Result<Value, Failure> {
    let link = link.as_object().ok_or_else(|| illegal("links"))?;
    let mut shown = match top {
        true => json!({
            "analyzers": ["identity"],
            "fields": {},
            "includeAllFields": false,
            "storeValues": "none",
            "trackListPositions": false,
        }),
        false => json!({}),
    };
    if let Some(analyzers) = given(link, "analyzers") {
        for name in analyzers.as_array().ok_or_else(|| illegal("analyzers"))? {
            let name = name.as_str().ok_or_else(|| illegal("analyzers"))?;
            analyzer::check_known(call, name)?;
        }
        shown["analyzers"] = analyzers.clone();
    }
    for name in ["includeAllFields", "trackListPositions"] {
        if let Some(flag) = given(link, name) {
            shown[name] = flag.as_bool().ok_or_else(|| illegal(name))?.into();
        }
    }
    if let Some(values) = given(link, "storeValues") {
        let values = values.as_str().filter(|values| ["none", "id"].contains(values));
        shown["storeValues"] = values.ok_or_else(|| illegal("storeValues"))?.into();
    }
    if let Some(fields) = given(link, "fields") {
        let mut known = Map::new();
        for (name, field) in fields.as_object().ok_or_else(|| illegal("fields"))? {
            known.insert(name.clone(), search_link(call, field, false)?);
        }
        shown["fields"] = known.into();
    }
    Ok(shown)
}

/// The properties of a `search-alias` view: `base` with what `body` says of its inverted indexes.
fn alias_properties(call: &Call<'_, '_>, base: Value, body: &Map<String, Value>) -> Result<Value, Failure> {
    let mut indexes: Vec<Value> = base["indexes"].as_array().cloned().unwrap_or_default();
    if let Some(parts) = given(body, "indexes") {
        for part in parts.as_array().ok_or_else(|| illegal("indexes"))? {
            let text = |name: &str| part.get(name).and_then(Value::as_str);
            let (Some(collection), Some(index)) = (text("collection"), text("index")) else {
                return Err(illegal("indexes"));
            };
            let collection = call.collection(collection, Level::Ro)?;
            let named = |other: &&Index| other.name == index || other.id.to_string() == index;
            let known = collection.indexes.iter().find(named).filter(|index| index.kind.name() == "inverted");
            let id = known.map(|index| index.id.to_string()).ok_or_else(|| {
                errors::BAD_PARAMETER.because(format!("'{index}' is no inverted index of '{}'", collection.name))
            })?;
            let part_of = |other: &Value| other["collection"] == json!(collection.id.to_string());
            match text("operation") {
                Some("del") => indexes.retain(|other| !(part_of(other) && other["index"] == json!(id))),
                None | Some("add") => {
                    // One index of a collection.
                    indexes.retain(|other| !part_of(other));
                    indexes.push(json!({"collection": collection.id.to_string(), "index": id}));
                }
                Some(_) => return Err(illegal("operation")),
            }
        }
    }
    checked(json!({"indexes": indexes}))
}
