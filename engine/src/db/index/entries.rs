//! What a document has in an index: the values of its attributes, once or, where an array is expanded, several times.
//!
//! | table | key (after the generation)                | value                                  |
//! |-------|-------------------------------------------|----------------------------------------|
//! | Index | object, index id, values, revision        | nothing                                |
//! | Index | object, index id, head, digest, revision  | the values, which are longer than head |
//!
//! The store's keys are short: of values that are longer than [`VALUES_BYTES_MAX`] the key has that much and a digest.
//! No values are the beginning of others (see [`super::encoding`]), so the two kinds of rows can't be taken for each
//! other, and rows are in order but for those that share such a head.

use super::super::rows::{Revision, in_object};
use super::super::store::{KEY_BYTES_MAX, StoreError, StoreResult};
use super::encoding::encode;
use super::{Index, IndexKind, fulltext, geo, ttl};
use crate::aql::select::select;
use crate::aql::value::{Object, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Generation, object, index id.
pub const HEAD_BYTES: usize = 20;
const REVISION_BYTES: usize = 8;
const DIGEST_BYTES: usize = 16;
/// The most of the values that stands in a key.
pub const VALUES_BYTES_MAX: usize = KEY_BYTES_MAX - HEAD_BYTES - DIGEST_BYTES - REVISION_BYTES;

/// Entries of one document in one index. Beyond that the document is refused.
pub const ENTRIES_MAX: usize = 100_000;

/// What all rows of an index begin with.
pub fn in_index(generation: u32, object: u64, index: u64) -> Vec<u8> {
    in_object(generation, object, &index.to_be_bytes())
}

/// What stands for some values in the keys of their rows.
pub fn shortened(values: &[u8]) -> Vec<u8> {
    if values.len() <= VALUES_BYTES_MAX {
        return values.to_vec();
    }
    let mut short = values[..VALUES_BYTES_MAX].to_vec();
    short.extend_from_slice(&Sha256::digest(values)[..DIGEST_BYTES]);
    short
}

/// Key and value of the row of an entry.
pub fn row(generation: u32, object: u64, index: u64, values: &[u8], revision: Revision) -> (Vec<u8>, Vec<u8>) {
    let mut key = in_index(generation, object, index);
    key.extend_from_slice(&shortened(values));
    key.extend_from_slice(&revision.0.to_be_bytes());
    let rest = if values.len() <= VALUES_BYTES_MAX { Vec::new() } else { values.to_vec() };
    (key, rest)
}

/// The values and the revision that a row stands for.
pub fn split_row<'a>(key: &'a [u8], value: &'a [u8]) -> StoreResult<(&'a [u8], Revision)> {
    let broken = || StoreError::Corrupt("row of an index".into());
    let (rest, revision) = key.split_last_chunk::<REVISION_BYTES>().ok_or_else(broken)?;
    let short = rest.get(HEAD_BYTES..).filter(|short| !short.is_empty()).ok_or_else(broken)?;
    let values = match short.len() > VALUES_BYTES_MAX {
        false => short,
        true if shortened(value) == short => value,
        true => return Err(broken()),
    };
    Ok((values, Revision(u64::from_be_bytes(*revision))))
}

/// The attributes that indexes are over: all that is read of a document for its entries.
#[derive(Debug)]
pub struct Attributes(BTreeSet<Arc<str>>);

impl Attributes {
    pub fn of<'i>(indexes: impl IntoIterator<Item = &'i Index>) -> Attributes {
        // Of a path, `a.b` or `a[*].b`, the first name.
        let first = |field: &'i String| {
            let path = field.split_once("[*]").map_or(field.as_str(), |(before, _)| before);
            path.split('.').find(|name| !name.is_empty())
        };
        let fields = indexes.into_iter().flat_map(|index| &index.fields);
        Attributes(fields.filter_map(first).map(Arc::from).collect())
    }

    /// What a stored document has of them.
    pub fn read(&self, body: &[u8]) -> StoreResult<Value> {
        let mut members = Vec::with_capacity(self.0.len());
        select(body, &self.0, &mut members).map_err(|e| StoreError::Corrupt(format!("a document: {e}")))?;
        Ok(members.into_iter().collect::<Object>().into())
    }
}

/// Indexes, and what they are over together.
#[derive(Debug)]
pub struct Indexed {
    pub indexes: Vec<Index>,
    pub attributes: Attributes,
}

impl Indexed {
    pub fn by(indexes: Vec<Index>) -> Indexed {
        Indexed { attributes: Attributes::of(&indexes), indexes }
    }
}

/// The values that a document has in an index, as bytes, in their order; each once. Fails if there are too many.
pub fn of_document(index: &Index, key: &str, revision: Revision, body: &Value) -> Result<Vec<Vec<u8>>, TooMany> {
    let mut all = every_of_document(index, key, revision, body)?;
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// A document has more than [`ENTRIES_MAX`] entries in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// As often as an array has them.
pub fn every_of_document(index: &Index, key: &str, revision: Revision, body: &Value) -> Result<Vec<Vec<u8>>, TooMany> {
    let field = |field: &str| value_of(field, key, revision, body);
    let all = match index.kind {
        IndexKind::Ttl => {
            let moment_s = ttl::moment_s(&field(&index.fields[0]));
            moment_s.map(|moment_s| encoded(&Value::Double(moment_s))).into_iter().collect()
        }
        IndexKind::Geo => geo::entries(index, field),
        IndexKind::Fulltext => fulltext::entries(index, &field(&index.fields[0])),
        _ => return combinations(index, key, revision, body),
    };
    if all.len() > ENTRIES_MAX { Err(TooMany) } else { Ok(all) }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes
}

/// Of each attribute every value, with every value of the others.
fn combinations(index: &Index, key: &str, revision: Revision, body: &Value) -> Result<Vec<Vec<u8>>, TooMany> {
    let mut all = vec![Vec::new()];
    for field in &index.fields {
        let values = values_of(field, key, revision, body);
        let mut more = Vec::new();
        for value in values.iter().filter(|value| !(index.sparse && value.is_null())) {
            more.push(encoded(value));
        }
        if index.deduplicate || !index.unique {
            more = more.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        }
        if all.len().saturating_mul(more.len()) > ENTRIES_MAX {
            return Err(TooMany);
        }
        all = match &more[..] {
            // The usual case: one value for each attribute.
            [value] => {
                all.iter_mut().for_each(|beginning| beginning.extend_from_slice(value));
                all
            }
            _ => {
                let with = |beginning: &Vec<u8>| more.iter().map(|value| [&beginning[..], value].concat()).collect();
                all.iter().flat_map(|beginning| -> Vec<Vec<u8>> { with(beginning) }).collect()
            }
        };
    }
    Ok(all)
}

/// The value of an attribute, whose path expands no array.
pub fn value_of(field: &str, key: &str, revision: Revision, body: &Value) -> Value {
    values_of(field, key, revision, body).pop().unwrap_or_default()
}

/// The values of an attribute: one, or those of an array's elements. An array without elements counts as null, as does
/// what is not there.
fn values_of(field: &str, key: &str, revision: Revision, body: &Value) -> Vec<Value> {
    let at = |value: &Value, path: &str| {
        let names = path.split('.').filter(|name| !name.is_empty());
        names.fold(value.clone(), |value, name| value.attribute(name))
    };
    match (field, field.split_once("[*]")) {
        ("_key", _) => vec![Value::String(key.into())],
        ("_rev", _) => vec![Value::String(revision.encode().into())],
        (_, None) => vec![at(body, field)],
        (_, Some((before, after))) => match at(body, before).as_array() {
            Some(elements) if !elements.is_empty() => elements.iter().map(|element| at(element, after)).collect(),
            _ => vec![Value::Null],
        },
    }
}
