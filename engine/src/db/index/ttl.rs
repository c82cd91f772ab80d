//! What a `ttl` index holds, and the removal of documents that are due.
//!
//! The index holds the moment that a document names, in seconds since 1970: a number as it is, a date as the seconds
//! that it stands for. What names no moment, or one before 1970, has no entry and never expires. A document is due when
//! the index's `expireAfter` seconds have passed since its moment.
//!
//! Whether a document is due is asked by the leader alone, with its own wall clock. What it removes is in the log like
//! any other removal; nobody who applies the log looks at a clock.

use super::super::reader::Reader;
use super::super::rows::{CollectionRow, Document};
use super::super::store::{Direction, StoreResult};
use super::super::writer::{PutError, Writer};
use super::scan::IndexRange;
use super::{Index, IndexKind};
use crate::aql::functions::date;
use crate::aql::value::Value;
use std::ops::Bound;

/// The most that one piece of work removes: documents, and their bytes unless it is a single one.
pub const REMOVALS_MAX: u64 = 1000;
const REMOVED_BYTES_MAX: usize = 4 << 20;

/// The moment that a document's attribute names, in seconds since 1970.
pub fn moment_s(value: &Value) -> Option<f64> {
    let moment_s = match value {
        Value::Int(number) => *number as f64,
        Value::Double(number) => *number,
        // Of a date, whole seconds count.
        Value::String(text) => date::parse_ms(text)?.div_euclid(1000) as f64,
        _ => return None,
    };
    (moment_s >= 0.0).then_some(moment_s)
}

/// Seconds after a document's moment.
pub fn expire_after_s(index: &Index) -> f64 {
    index.properties.get("expireAfter").and_then(serde_json::Value::as_f64).unwrap_or(f64::INFINITY)
}

/// Where a sweep over all collections is: database and collection by their ids.
pub type Place = (u64, u64);

/// What a piece of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expired {
    pub removed: u64,
    /// Where it was at work.
    pub at: Option<Place>,
    /// Where to go on; the same place if documents may be left there. `None`: that was all.
    pub next: Option<Place>,
}

/// Removes documents that are due at `wall_ms` from the first collection at or after a place that has a `ttl` index:
/// at most `limit` of them, the longest due first.
pub fn expire(db: &mut Writer<'_>, from: Place, wall_ms: u64, limit: u64) -> StoreResult<Expired> {
    let Some((collection, index)) = next_collection(&db.reader(), from)? else {
        return Ok(Expired { removed: 0, at: None, next: None });
    };
    let limit = limit.min(REMOVALS_MAX);
    let due = due(&db.reader(), &collection, &index, wall_ms, limit)?;
    for document in &due.documents {
        // A transaction that has written it can't be committed then.
        match db.remove(&collection, document) {
            Err(PutError::Store(error)) => return Err(error),
            removed => removed.expect("it heeds no locks"),
        }
    }
    let at = (collection.database, collection.id);
    let next = match due.more {
        true => Some(at),
        false => next_collection(&db.reader(), after(at))?.map(|(row, _)| (row.database, row.id)),
    };
    Ok(Expired { removed: due.documents.len() as u64, at: Some(at), next })
}

/// The place right after a collection.
pub fn after((database, collection): Place) -> Place {
    (database, collection + 1)
}

fn next_collection(db: &Reader<'_>, from: Place) -> StoreResult<Option<(CollectionRow, Index)>> {
    let mut databases: Vec<u64> = db.databases()?.iter().map(|row| row.id).filter(|id| *id >= from.0).collect();
    databases.sort_unstable();
    for database in databases {
        let wanted = |row: &CollectionRow| (row.database, row.id) >= from;
        let first = db.collections(database)?.into_iter().filter(wanted).filter_map(|row| {
            let index = row.indexes.iter().find(|index| index.kind == IndexKind::Ttl && !index.building)?.clone();
            Some((row, index))
        });
        if let Some(found) = first.min_by_key(|(row, _)| row.id) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

struct Due {
    documents: Vec<Document>,
    more: bool,
}

fn due(db: &Reader<'_>, collection: &CollectionRow, index: &Index, wall_ms: u64, limit: u64) -> StoreResult<Due> {
    let moment_s = wall_ms as f64 / 1000.0 - expire_after_s(index);
    let mut due = Due { documents: Vec::new(), more: false };
    if moment_s.is_nan() || moment_s < 0.0 {
        return Ok(due);
    }
    let range = IndexRange { to: Bound::Included(Value::Double(moment_s)), ..IndexRange::default() };
    let mut bytes = 0;
    for document in db.index_documents(collection, index, &range, Direction::Forward) {
        let document = document?;
        bytes += document.body.len();
        if due.documents.len() as u64 == limit || (bytes > REMOVED_BYTES_MAX && !due.documents.is_empty()) {
            due.more = true;
            break;
        }
        due.documents.push(document);
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_numbers_name_a_moment() {
        for (json, expected) in [
            ("0", Some(0.0)),
            ("1700000000.5", Some(1_700_000_000.5)),
            ("-1", None),
            (r#""1970-01-01""#, Some(0.0)),
            (r#""2020-01-01T00:00:00.900Z""#, Some(1_577_836_800.0)),
            (r#""2020-01-01T01:00:00+01:00""#, Some(1_577_836_800.0)),
            (r#""1969-12-31T23:59:59Z""#, None),
            (r#""soon""#, None),
            (r#""""#, None),
            ("null", None),
            ("true", None),
            ("[0]", None),
            ("{}", None),
        ] {
            assert_eq!(moment_s(&Value::parse(json.as_bytes()).unwrap()), expected, "{json}");
        }
    }
}
