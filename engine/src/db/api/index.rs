//! `/_api/index`: what indexes a collection has, creating and dropping them.

use super::*;
use crate::db::index::scan::IndexRange;
use crate::db::index::{BUILT_AT_ONCE_MAX, End, FIELD_BYTES_MAX, FIELDS_MAX, INDEXES_MAX, IndexKind};
use crate::db::store::Direction;
use crate::db::{Index, NewIndex};
use serde_json::json;

/// So many entries are looked at for an estimate.
const ESTIMATE_ENTRIES: usize = 1000;

// ---- how indexes are shown ------------------------------------------------------------------------------------------

/// All of a collection, those that every collection has first.
pub(super) fn list(db: &Reader<'_>, row: &CollectionRow, with_stats: bool) -> StoreResult<Vec<Value>> {
    let mut list = vec![json!({
        "fields": ["_key"],
        "id": format!("{}/0", row.name),
        "name": "primary",
        "selectivityEstimate": 1,
        "sparse": false,
        "type": "primary",
        "unique": true,
    })];
    if row.kind == CollectionKind::Edge {
        list.push(json!({
            "fields": ["_from", "_to"],
            "id": format!("{}/1", row.name),
            "name": "edge",
            "selectivityEstimate": estimate(db, row, &Index::edge(End::From))?,
            "sparse": false,
            "type": "edge",
            "unique": false,
        }));
    }
    for index in row.indexes.iter().filter(|index| !index.building) {
        list.push(shown(db, row, index)?);
    }
    if with_stats {
        for index in &mut list {
            index["figures"] = json!({"memory": 0, "cacheInUse": false, "cacheSize": 0, "cacheUsage": 0});
        }
    }
    Ok(list)
}

fn shown(db: &Reader<'_>, row: &CollectionRow, index: &Index) -> StoreResult<Value> {
    let mut members = index.properties.as_object().cloned().unwrap_or_default();
    if index.kind.is_persistent() {
        members.insert("deduplicate".into(), index.deduplicate.into());
    }
    if index.kind != IndexKind::Inverted {
        members.insert("fields".into(), index.fields.clone().into());
    }
    members.insert("id".into(), format!("{}/{}", row.name, index.id).into());
    members.insert("name".into(), index.name.clone().into());
    let estimated = index.unique || members.get("estimates") != Some(&Value::Bool(false));
    if (index.kind.is_persistent() || index.kind == IndexKind::Ttl) && estimated {
        members.insert("selectivityEstimate".into(), estimate(db, row, index)?);
    }
    members.insert("sparse".into(), index.sparse.into());
    members.insert("type".into(), index.kind.name().into());
    members.insert("unique".into(), index.unique.into());
    members.sort_keys();
    Ok(Value::Object(members))
}

/// The part of the values that are different ones, among the first entries.
fn estimate(db: &Reader<'_>, row: &CollectionRow, index: &Index) -> StoreResult<Value> {
    if index.unique {
        return Ok(1.into());
    }
    let (mut different, mut all, mut last) = (0u32, 0u32, None);
    let entries = db.index_entries(row.object, index.id, &IndexRange::default(), Direction::Forward);
    for entry in entries.take(ESTIMATE_ENTRIES) {
        let (values, _) = entry?;
        all += 1;
        different += u32::from(last != Some(values));
        last = Some(values);
    }
    Ok(if different == all { 1.into() } else { (f64::from(different) / f64::from(all)).into() })
}

// ---- reading --------------------------------------------------------------------------------------------------------

fn collection(call: &Call<'_, '_>, level: Level) -> Result<CollectionRow, Failure> {
    let name = call.request().query("collection").unwrap_or_default();
    if name.is_empty() {
        return Err(errors::COLLECTION_PARAMETER_MISSING.into());
    }
    call.collection(&name, level)
}

pub(super) fn all(call: &mut Call<'_, '_>) -> Answer {
    let row = collection(call, Level::Ro)?;
    let list = list(&call.reader(), &row, call.flag("withStats", false))?;
    let by_id = |index: &Value| Some((index["id"].as_str()?.to_owned(), index.clone()));
    let identifiers: Map<String, Value> = list.iter().filter_map(by_id).collect();
    ok(200, json!({"indexes": list, "identifiers": identifiers}))
}

fn find(call: &Call<'_, '_>, row: &CollectionRow) -> Result<Value, Failure> {
    let wanted = &call.open[1];
    let id = format!("{}/{wanted}", row.name);
    let list = list(&call.reader(), row, false)?;
    let found = list.into_iter().find(|index| index["id"] == id.as_str() || index["name"] == wanted.as_str());
    found.ok_or_else(|| errors::INDEX_NOT_FOUND.into())
}

pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Ro)?;
    ok(200, find(call, &row)?)
}

// ---- writing --------------------------------------------------------------------------------------------------------

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let row = collection(call, Level::Rw)?;
    let mut new = definition(call, &Value::Object(call.object()?))?;
    // What is stored beside the values makes no other index of it.
    let same = |index: &&Index| {
        index.kind == new.kind
            && index.fields == new.fields
            && (index.unique, index.sparse) == (new.unique, new.sparse)
            && ["geoJson", "minLength", "expireAfter"]
                .iter()
                // Of two attributes neither is GeoJSON, whatever was kept.
                .filter(|name| **name != "geoJson" || new.fields.len() == 1)
                .all(|name| index.properties.get(name) == new.properties.get(name))
            && (index.kind != IndexKind::Inverted || index.properties == new.properties)
    };
    if let Some(index) = row.indexes.iter().find(same) {
        return match index.building {
            true => Ok(once_built(index)),
            false => told(&call.reader(), &row, index, 200),
        };
    }
    refuse_if_impossible(call, &row, &new).map_err(as_bad_request)?;
    new.building |= call.reader().count(&row)? > BUILT_AT_ONCE_MAX;
    let row = call.writer()?.create_index(&row, new).map_err(|error| as_bad_request(error.into()))?;
    let index = row.indexes.last().expect("it was created right now");
    if index.building {
        return Ok(once_built(index));
    }
    told(&call.reader(), &row, index, 201)
}

/// The answer is made when it is there.
fn once_built(index: &Index) -> Handled {
    Handled { response: Response::empty(202), then: Some(Then::Build(index.id)) }
}

fn told(db: &Reader<'_>, row: &CollectionRow, index: &Index, status: u16) -> Answer {
    let mut body = shown(db, row, index)?;
    body["isNewlyCreated"] = (status == 201).into();
    ok(status, body)
}

/// What whoever asked for an index that was built in pieces is told.
pub fn created(db: &Reader<'_>, row: &CollectionRow, id: u64) -> StoreResult<Response> {
    let index = row.indexes.iter().find(|index| index.id == id).expect("it is built");
    Ok(settle(told(db, row, index, 201))?.response)
}

/// What he is told if it can't be.
pub fn refused(error: PutError) -> StoreResult<Response> {
    Ok(settle(Err(as_bad_request(error.into())))?.response)
}

/// Whatever keeps an index from being made, ArangoDB calls the request a bad one.
fn as_bad_request(failure: Failure) -> Failure {
    match failure {
        Failure::Error(error) if error.kind != errors::FORBIDDEN => error.with_status(400).into(),
        other => other,
    }
}

/// Whether an index can be added to those that are there.
fn refuse_if_impossible(call: &Call<'_, '_>, row: &CollectionRow, new: &NewIndex) -> Result<(), Failure> {
    let taken = |name: &String| {
        ["primary", "edge"].contains(&name.as_str()) || row.indexes.iter().any(|index| index.name == *name)
    };
    if new.name.as_ref().is_some_and(taken) {
        return Err(errors::DUPLICATE_IDENTIFIER.says("duplicate value for `id` or `name`").into());
    }
    if new.kind == IndexKind::Ttl && row.indexes.iter().any(|index| index.kind == IndexKind::Ttl) {
        return Err(bad("there can only be one ttl index per collection"));
    }
    if row.indexes.len() >= INDEXES_MAX {
        return Err(errors::RESOURCE_LIMIT.because(format!("a collection may have {INDEXES_MAX} indexes")).into());
    }
    if new.kind == IndexKind::Inverted {
        inverted::check_analyzers(call, &new.properties)?;
    }
    Ok(())
}

fn bad(what: impl std::fmt::Display) -> Failure {
    errors::BAD_PARAMETER.because(what).into()
}

/// What a client asks for, with ArangoDB's defaults for what it leaves open.
fn definition(call: &Call<'_, '_>, body: &Value) -> Result<NewIndex, Failure> {
    let name = body.get("type").and_then(Value::as_str);
    let kind = IndexKind::CREATABLE.into_iter().find(|kind| Some(kind.name()) == name);
    let kind = kind.ok_or_else(|| bad("invalid index type"))?;
    let flag = |name: &str, default: bool| match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| bad(format!("'{name}' must be a boolean"))),
    };
    let number = |name: &str, default: u64| match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().ok_or_else(|| bad(format!("'{name}' must be a number from 0"))),
    };
    let (fields, inverted) = match kind {
        IndexKind::Inverted => inverted::read(body)?,
        _ => (fields(kind, body.get("fields"))?, Value::Null),
    };
    let name = match body.get("name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if call.is_name(name, false) => Some(name.clone()),
        Some(_) => return Err(errors::ILLEGAL_NAME.into()),
    };
    let unique = flag("unique", false)?;
    if unique && !kind.is_ordered() {
        return Err(bad(format!("a {} index can't be unique", kind.name())));
    }
    let properties = match kind {
        IndexKind::Ttl => {
            let expire = body.get("expireAfter").filter(|n| n.as_f64().is_some_and(|n| n >= 0.0));
            json!({"estimates": true, "expireAfter": expire.ok_or_else(|| bad("expireAfter must be a number from 0"))?})
        }
        IndexKind::Geo => json!({
            "bestIndexedLevel": 17,
            // Of two attributes neither can be GeoJSON.
            "geoJson": flag("geoJson", false)? && fields.len() == 1,
            "legacyPolygons": flag("legacyPolygons", false)?,
            "maxNumCoverCells": 8,
            "worstIndexedLevel": 4,
        }),
        IndexKind::Fulltext => json!({"minLength": number("minLength", 2)?.max(1)}),
        IndexKind::Zkd => {
            if body.get("fieldValueTypes").and_then(Value::as_str) != Some("double") {
                return Err(bad("zkd index requires `fieldValueTypes` to be set to `double`"));
            }
            json!({})
        }
        IndexKind::Inverted => inverted,
        _ => {
            let mut kept = json!({"cacheEnabled": flag("cacheEnabled", false)?, "estimates": flag("estimates", true)?});
            if let Some(stored) = body.get("storedValues").filter(|stored| !stored.is_null()) {
                let stored = paths(stored, "storedValues", false)?;
                if let Some(twice) = stored.iter().find(|path| fields.contains(path)) {
                    return Err(bad(format!("'{twice}' is in 'fields' and in 'storedValues'")));
                }
                kept["storedValues"] = stored.into();
            }
            kept
        }
    };
    Ok(NewIndex {
        name,
        kind,
        fields,
        unique,
        // Those of the other kinds never hold what has no value.
        sparse: if kind.is_persistent() { flag("sparse", false)? } else { kind != IndexKind::Zkd },
        deduplicate: flag("deduplicate", true)?,
        building: flag("inBackground", false)?,
        properties,
    })
}

fn fields(kind: IndexKind, given: Option<&Value>) -> Result<Vec<String>, Failure> {
    let most = match kind {
        IndexKind::Ttl | IndexKind::Fulltext => 1,
        IndexKind::Geo => 2,
        _ => FIELDS_MAX,
    };
    let given = given.ok_or_else(|| bad("'fields' must be an array of attribute paths"))?;
    let fields = paths(given, "fields", kind.is_persistent())?;
    if fields.is_empty() || fields.len() > most {
        return Err(bad(format!("illegal number of 'fields': 1 to {most} of a {} index", kind.name())));
    }
    Ok(fields)
}

/// Attribute paths, each once.
fn paths(given: &Value, what: &str, expansion: bool) -> Result<Vec<String>, Failure> {
    let given = given.as_array().ok_or_else(|| bad(format!("'{what}' must be an array of attribute paths")))?;
    if given.len() > FIELDS_MAX {
        return Err(bad(format!("illegal number of '{what}': {FIELDS_MAX} at most")));
    }
    let mut paths: Vec<String> = Vec::new();
    for path in given {
        let path = path.as_str().ok_or_else(|| bad(format!("'{what}' must be an array of strings")))?;
        let parts = path.splitn(2, "[*]").collect::<Vec<_>>();
        // After an expansion comes nothing, or a dot and a path.
        let after = parts.get(1).map(|after| if after.is_empty() { Some("x") } else { after.strip_prefix('.') });
        let legal = |path: &str| path.split('.').all(|name| !name.is_empty() && !name.contains(['[', ']']));
        if path.len() > FIELD_BYTES_MAX || !legal(parts[0]) || !after.is_none_or(|after| after.is_some_and(legal)) {
            return Err(bad(format!("'{path}' is not an attribute path")));
        }
        if parts.len() > 1 && !expansion {
            return Err(bad(format!("'{path}': array expansion is not possible here")));
        }
        let mut names = path.split('.').map(|name| name.trim_end_matches("[*]"));
        if names.any(|name| name.starts_with(':') || name.ends_with(':')) {
            return Err(bad(format!("'{path}': an attribute that begins or ends with ':' can't be indexed")));
        }
        if path.split(['.', '[']).any(|name| name == "_id") {
            return Err(bad("_id attribute cannot be indexed"));
        }
        if paths.iter().any(|other| other == path) {
            return Err(bad(format!("duplicate attribute name in '{what}': {path}")));
        }
        paths.push(path.to_owned());
    }
    Ok(paths)
}

pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let row = call.collection(&call.open[0], Level::Rw)?;
    // One that is being built, too, which nobody is shown.
    let wanted = &call.open[1];
    let named = |index: &&Index| index.id.to_string() == *wanted || index.name == *wanted;
    let Some(index) = row.indexes.iter().find(named) else {
        find(call, &row)?;
        return Err(errors::FORBIDDEN.because("the primary and the edge index can't be dropped").into());
    };
    call.writer()?.drop_index(&row, index.id)?;
    ok(200, json!({"id": format!("{}/{}", row.name, index.id)}))
}
