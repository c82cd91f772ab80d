//! `/_api/simple`: the queries from before AQL, by an index where an example has one, otherwise by scanning.
//!
//! What finds several documents answers like a query, with a cursor. What would be too big to be kept is refused with a
//! hint, never cut off silently.

use super::document::{Options, modify_one, remove_one};
use super::*;
use crate::aql::value as aql;
use crate::cursor::{QueryResult, RowsWriter};
use crate::db::Overwrite;
use crate::db::index::geo::Area;
use crate::db::index::lookup::{self, Lookup};
use crate::db::index::{self, scan::IndexRange};
use crate::db::store::Direction;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::ops::Bound;

/// Bound on the documents of one answer.
pub(super) const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A body's common parts.
struct Query {
    collection: CollectionRow,
    body: Map<String, Value>,
    skip: usize,
    limit: usize,
    batch_rows: usize,
}

fn query(call: &Call<'_, '_>, level: Level) -> Result<Query, Failure> {
    let Value::Object(body) = call.json()? else {
        return Err(errors::TYPE_ERROR.says("expecting JSON object body").into());
    };
    let name = match body.get("collection") {
        Some(Value::String(name)) => name.clone(),
        // The shape of `all-keys` in a query parameter.
        _ => call
            .request()
            .query("collection")
            .ok_or_else(|| errors::TYPE_ERROR.says("expecting string for <collection>"))?,
    };
    let collection = call.collection(&name, level)?;
    let number = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(|n| Some(usize::try_from(n).unwrap_or(usize::MAX)))
            .ok_or_else(|| errors::BAD_PARAMETER.because(format!("'{name}' must be a number from 0"))),
    };
    let (skip, limit) = (number("skip")?.unwrap_or(0), number("limit")?.unwrap_or(usize::MAX));
    let batch_rows = cursor::batch_rows(&body)?;
    Ok(Query { collection, body, skip, limit, batch_rows })
}

/// A cursor over the rows: with `batchSize` it may have several batches.
fn batch(call: &Call<'_, '_>, query: &Query, rows: RowsWriter) -> Answer {
    cursor::first_batch(QueryResult {
        rows: rows.finish(),
        batch_rows: query.batch_rows,
        count: true,
        extra: "{}".to_owned(),
        ttl: cursor::ttl(&query.body),
        retry: false,
        owner: cursor::owner(call),
        cached: false,
    })
}

/// Collects what `each` makes of the documents (of those in a range of an index, if there is one), after `skip` and up
/// to `limit`, within the bound.
fn collect(
    call: &Call<'_, '_>,
    query: &Query,
    by: Option<(Index, IndexRange)>,
    mut each: impl FnMut(&Document) -> Result<Option<Vec<u8>>, Failure>,
) -> Result<RowsWriter, Failure> {
    let (mut found, mut skipped, mut bytes) = (RowsWriter::default(), 0, 0);
    if query.limit == 0 {
        return Ok(found);
    }
    for_each_candidate(&call.reader(), &query.collection, by, |document| {
        let Some(element) = each(&document)? else { return Ok(true) };
        if skipped < query.skip {
            skipped += 1;
            return Ok(true);
        }
        bytes += element.len();
        if bytes > ANSWER_BYTES_MAX {
            return Err(errors::RESOURCE_LIMIT
                .because("the result is too big for one answer: use skip and limit")
                .into());
        }
        found.push(|out| out.extend_from_slice(&element));
        Ok(found.len() < query.limit)
    })?;
    Ok(found)
}

fn parsed<T: DeserializeOwned>(whole: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(whole).map_err(|e| StoreError::Corrupt(format!("a document: {e}")))?)
}

fn whole(query: &Query, document: &Document) -> Vec<u8> {
    document.json(&query.collection.name)
}

pub(super) fn all(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let found = collect(call, &query, None, |document| Ok(Some(whole(&query, document))))?;
    batch(call, &query, found)
}

pub(super) fn all_keys(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let (collection, database) = (&query.collection.name, &call.database.name);
    let kind = query.body.get("type").and_then(Value::as_str).unwrap_or("path").to_owned();
    let show = |document: &Document| match kind.as_str() {
        "key" => document.key.clone(),
        "id" => format!("{collection}/{}", document.key),
        _ => format!("/_db/{database}/_api/document/{collection}/{}", document.key),
    };
    let found = collect(call, &query, None, |document| Ok(Some(json::quote(&show(document)).into_bytes())))?;
    batch(call, &query, found)
}

// ---- examples -------------------------------------------------------------------------------------------------------

/// Attributes and what they must be; a name with dots means a path.
struct Example(Vec<(Vec<String>, Value)>);

impl Example {
    fn of(query: &Query) -> Result<Example, Failure> {
        let Some(Value::Object(example)) = query.body.get("example") else {
            return Err(errors::TYPE_ERROR.says("expecting object for <example>").into());
        };
        let path = |name: &String| name.split('.').map(str::to_owned).collect();
        Ok(Example(example.iter().map(|(name, value)| (path(name), value.clone())).collect()))
    }

    /// The index that knows most of the attributes from its first on, and what to look for in it.
    fn index(&self, collection: &CollectionRow) -> Option<(Index, IndexRange)> {
        let value = |field: &str| {
            let (_, value) = self.0.iter().find(|(path, _)| path.join(".") == field)?;
            aql::Value::parse(value.to_string().as_bytes()).ok()
        };
        let mut best: Option<(Index, IndexRange)> = None;
        for index in index::usable(collection).into_iter().filter(|index| index.kind.is_ordered()) {
            let values: Vec<aql::Value> = index.fields.iter().map_while(|field| value(field)).collect();
            // A sparse index has nothing of what lacks one of its attributes.
            let whole = values.len() == index.fields.len() && !values.iter().any(aql::Value::is_null);
            let known = best.as_ref().map_or(0, |(_, range)| range.equal.len());
            if values.len() > known && (whole || !index.sparse) {
                best = Some((index, IndexRange::equal(values)));
            }
        }
        best
    }

    fn fits(&self, whole: &[u8]) -> Result<bool, Failure> {
        let document: Value = parsed(whole)?;
        Ok(self.0.iter().all(|(path, expected)| {
            let found = path.iter().try_fold(&document, |value, name| value.get(name));
            same(found.unwrap_or(&Value::Null), expected)
        }))
    }
}

/// Calls `each` with the documents in a range of an index, or with all, until it returns false.
fn for_each_candidate(
    db: &Reader<'_>,
    collection: &CollectionRow,
    by: Option<(Index, IndexRange)>,
    mut each: impl FnMut(Document) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let Some((index, range)) = by else {
        return for_each_document(db, collection, each);
    };
    for document in db.index_documents(collection, &index, &range, Direction::Forward) {
        if !each(document?)? {
            break;
        }
    }
    Ok(())
}

/// Numbers are the same if they mean the same.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => left == right,
    }
}

/// The documents that an example fits.
fn fitting_documents(call: &Call<'_, '_>, query: &Query) -> Result<RowsWriter, Failure> {
    let example = Example::of(query)?;
    collect(call, query, example.index(&query.collection), |document| {
        let whole = whole(query, document);
        Ok(example.fits(&whole)?.then_some(whole))
    })
}

pub(super) fn by_example(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let found = fitting_documents(call, &query)?;
    batch(call, &query, found)
}

/// Documents whose attribute is within bounds, in AQL's order of values; the right one counts if it is `closed`. They
/// come in that order if the attribute has an index.
pub(super) fn range(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    // A list is a path, too.
    let attribute = match query.body.get("attribute") {
        Some(Value::String(path)) => Some(path.clone()),
        Some(Value::Array(path)) => {
            path.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|path| path.join("."))
        }
        _ => None,
    };
    let attribute = attribute.filter(|path| !path.is_empty());
    let attribute = attribute.ok_or_else(|| errors::HTTP_BAD_PARAMETER.because("expecting string for <attribute>"))?;
    let bound = |name: &str| aql::Value::parse_stored(&query.body.get(name).unwrap_or(&Value::Null).to_string());
    let (left, right) = (bound("left"), bound("right"));
    let closed = query.body.get("closed").and_then(Value::as_bool).unwrap_or(false);
    let to = if closed { Bound::Included(right.clone()) } else { Bound::Excluded(right.clone()) };
    let range = IndexRange { from: Bound::Included(left.clone()), to, ..IndexRange::default() };
    let by = ordered_by(&query.collection, &attribute, left.is_null()).map(|index| (index, range));
    let found = collect(call, &query, by, |document| {
        let whole = whole(&query, document);
        let value = attribute.split('.').fold(parsed(&whole)?, |value: aql::Value, name| value.attribute(name));
        let within = left <= value && if closed { value <= right } else { value < right };
        Ok(within.then_some(whole))
    })?;
    batch(call, &query, found)
}

/// An index in which each document has one place, by an attribute first.
fn ordered_by(collection: &CollectionRow, attribute: &str, also_null: bool) -> Option<Index> {
    index::usable(collection).into_iter().find(|index| {
        let once = index.fields.iter().all(|field| !field.contains("[*]"));
        let whole = !index.sparse || (index.fields.len() == 1 && !also_null);
        index.kind.is_ordered() && index.fields[0] == attribute && once && whole
    })
}

/// The only document that was found, if any was.
fn one(found: RowsWriter) -> Answer {
    let found = found.finish();
    if found.is_empty() {
        return Err(errors::HTTP_NOT_FOUND.says("no match").into());
    }
    let body = [&br#"{"error":false,"code":200,"document":"#[..], found.text(), b"}"].concat();
    Ok(Response::raw(200, body).into())
}

pub(super) fn first_example(call: &mut Call<'_, '_>) -> Answer {
    let query = Query { limit: 1, skip: 0, ..query(call, Level::Ro)? };
    let found = fitting_documents(call, &query)?;
    one(found)
}

pub(super) fn any(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let count = call.reader().count(&query.collection)?;
    if count == 0 {
        return ok(200, json!({"document": null}));
    }
    let skip = usize::try_from(call.rng.below(count)).unwrap_or(0);
    let query = Query { skip, limit: 1, ..query };
    one(collect(call, &query, None, |document| Ok(Some(whole(&query, document))))?)
}

/// The documents that an example fits, up to the limit: collected before any is changed.
fn fitting(call: &Call<'_, '_>, query: &Query) -> Result<Vec<String>, Failure> {
    let example = Example::of(query)?;
    let mut keys = Vec::new();
    let by = example.index(&query.collection);
    for_each_candidate(&call.reader(), &query.collection, by, |document| {
        if keys.len() < query.limit && example.fits(&whole(query, &document))? {
            keys.push(document.key);
        }
        Ok(keys.len() < query.limit)
    })?;
    Ok(keys)
}

/// Drivers put the limit and the rest into `options`.
fn change_query(call: &Call<'_, '_>) -> Result<(Query, Value), Failure> {
    let mut query = query(call, Level::Rw)?;
    let options = query.body.get("options").cloned().unwrap_or_else(|| json!({}));
    if let Some(limit) = options.get("limit").and_then(Value::as_u64) {
        query.limit = usize::try_from(limit).unwrap_or(usize::MAX);
    }
    Ok((query, options))
}

pub(super) fn remove_by_example(call: &mut Call<'_, '_>) -> Answer {
    let (query, _) = change_query(call)?;
    let keys = fitting(call, &query)?;
    let db = call.writer()?;
    for key in &keys {
        remove_one(db, &query.collection, key, None)?;
    }
    ok(200, json!({"deleted": keys.len()}))
}

pub(super) fn replace_by_example(call: &mut Call<'_, '_>) -> Answer {
    let changed = change_by_example(call, "newValue", false)?;
    ok(200, json!({"replaced": changed}))
}

pub(super) fn update_by_example(call: &mut Call<'_, '_>) -> Answer {
    let changed = change_by_example(call, "newValue", true)?;
    ok(200, json!({"updated": changed}))
}

fn change_by_example(call: &mut Call<'_, '_>, new: &str, patch: bool) -> Result<usize, Failure> {
    let (query, given) = change_query(call)?;
    let Some(Value::Object(new)) = query.body.get(new) else {
        return Err(errors::TYPE_ERROR.says("expecting object for <newValue>").into());
    };
    let mut new = new.clone();
    for system in ["_key", "_id", "_rev"] {
        new.remove(system);
    }
    let text =
        json::compact(Value::Object(new).to_string().as_bytes()).map_err(|e| errors::CORRUPTED_JSON.because(e))?;
    let flag = |name: &str| given.get(name).or(query.body.get(name)).and_then(Value::as_bool).unwrap_or(true);
    let merge = json::Merge { keep_null: flag("keepNull"), merge_objects: flag("mergeObjects") };
    let options = Options { overwrite: Overwrite::Conflict, ignore_revisions: true, merge, ..Options::of(call) };
    let keys = fitting(call, &query)?;
    let db = call.writer()?;
    for key in &keys {
        modify_one(db, &query.collection, Some(key), &text, patch, None, &options)?;
    }
    Ok(keys.len())
}

// ---- places and words -----------------------------------------------------------------------------------------------

/// Numbers that a body must have.
fn numbers<const N: usize>(query: &Query, names: [&str; N]) -> Result<[f64; N], Failure> {
    let mut numbers = [0.0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        let given = query.body.get(name).and_then(Value::as_f64);
        *number = given.ok_or_else(|| errors::HTTP_BAD_PARAMETER.because(format!("expecting number for <{name}>")))?;
    }
    Ok(numbers)
}

/// What a lookup finds, with distances under the name that the body gives. The index may be named by its handle.
fn look_up(call: &Call<'_, '_>, query: &Query, lookup: &Lookup, index: &str) -> Answer {
    let handle = query.body.get(index).and_then(Value::as_str);
    let id = handle.map(|handle| handle.rsplit('/').next().unwrap_or_default().parse().unwrap_or(u64::MAX));
    let name = query.body.get("distance").and_then(Value::as_str);
    // ArangoDB tells here of a missing index as of a bad request.
    let found = lookup::find(&call.reader(), &query.collection, lookup, id);
    let found = found.map_err(|error| match error.kind {
        errors::QUERY_GEO_INDEX_MISSING | errors::QUERY_FULLTEXT_INDEX_MISSING => error.with_status(400),
        _ => error,
    })?;
    let mut rows = RowsWriter::default();
    for (document, meters) in found.iter().skip(query.skip).take(query.limit) {
        let mut text = whole(query, document);
        if let Some(name) = name {
            text.pop();
            text.extend_from_slice(format!(",{}:", json::quote(name)).as_bytes());
            aql::Value::number(*meters).write_json(&mut text);
            text.push(b'}');
        }
        rows.push(|out| out.extend_from_slice(&text));
    }
    batch(call, query, rows)
}

pub(super) fn near(call: &mut Call<'_, '_>) -> Answer {
    let mut query = query(call, Level::Ro)?;
    let [latitude, longitude] = numbers(&query, ["latitude", "longitude"])?;
    if query.limit == usize::MAX {
        query.limit = lookup::NEAR_LIMIT;
    }
    let limit = query.limit.saturating_add(query.skip);
    look_up(call, &query, &Lookup::Near { place: [longitude, latitude], limit }, "geo")
}

pub(super) fn within(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let [latitude, longitude, meters] = numbers(&query, ["latitude", "longitude", "radius"])?;
    look_up(call, &query, &Lookup::Within { place: [longitude, latitude], meters }, "geo")
}

pub(super) fn within_rectangle(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let [south, west, north, east] = numbers(&query, ["latitude1", "longitude1", "latitude2", "longitude2"])?;
    look_up(call, &query, &Lookup::Rectangle(Area::between([south, west], [north, east])), "geo")
}

pub(super) fn fulltext(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let text = |name: &str| {
        let given = query.body.get(name).and_then(Value::as_str).map(str::to_owned);
        given.ok_or_else(|| errors::HTTP_BAD_PARAMETER.because(format!("expecting string for <{name}>")))
    };
    let lookup = Lookup::Fulltext { field: text("attribute")?, query: text("query")?, limit: 0 };
    look_up(call, &query, &lookup, "index")
}

// ---- keys -----------------------------------------------------------------------------------------------------------

/// Keys or handles; what is no string means no document.
fn keys(query: &Query) -> Result<Vec<String>, Failure> {
    let Some(Value::Array(keys)) = query.body.get("keys") else {
        return Err(errors::TYPE_ERROR.says("expecting array for <keys>").into());
    };
    let prefix = format!("{}/", query.collection.name);
    Ok(keys.iter().filter_map(Value::as_str).map(|key| key.strip_prefix(&prefix).unwrap_or(key).to_owned()).collect())
}

pub(super) fn lookup_by_keys(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Ro)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    // As a query would: each document once.
    let keys: std::collections::BTreeSet<String> = keys(&query)?.into_iter().collect();
    for key in keys {
        if let Some(document) = find_document(&call.reader(), &query.collection, &key)? {
            let whole = whole(&query, &document);
            bytes += whole.len();
            if bytes > ANSWER_BYTES_MAX {
                return Err(errors::RESOURCE_LIMIT
                    .because("the result is too big for one answer: ask for fewer keys")
                    .into());
            }
            found.push(whole);
        }
    }
    let body = [&br#"{"documents":["#[..], &found.join(&b","[..]), br#"],"error":false,"code":200}"#].concat();
    Ok(Response::raw(200, body).into())
}

pub(super) fn remove_by_keys(call: &mut Call<'_, '_>) -> Answer {
    let query = query(call, Level::Rw)?;
    let option = |name: &str| query.body.get("options").and_then(|options| options.get(name)).and_then(Value::as_bool);
    let (silent, return_old) = (option("silent").unwrap_or(true), option("returnOld").unwrap_or(false));
    let given = query.body.get("keys").and_then(Value::as_array).map_or(0, Vec::len);
    let keys = keys(&query)?;
    let mut old = Vec::new();
    let mut removed = 0;
    let db = call.writer()?;
    for key in &keys {
        let Some(document) = find_document(&db.reader(), &query.collection, key)? else { continue };
        db.remove(&query.collection, &document)?;
        removed += 1;
        if !silent {
            old.push(if return_old {
                whole(&query, &document)
            } else {
                whole(&query, &Document { body: "{}".into(), ..document })
            });
        }
    }
    let mut body =
        format!(r#"{{"removed":{removed},"ignored":{},"error":false,"code":200"#, given - removed).into_bytes();
    if !silent {
        body.extend_from_slice(&[&br#","old":["#[..], &old.join(&b","[..]), b"]"].concat());
    }
    body.push(b'}');
    Ok(Response::raw(200, body).into())
}
