//! Reading an index: a range of values, in their order or against it.

use super::super::reader::Reader;
use super::super::rows::{CollectionRow, Document, Revision, catalog_key, decode, kind};
use super::super::store::*;
use super::build::Building;
use super::encoding::encode;
use super::entries::{HEAD_BYTES, VALUES_BYTES_MAX, in_index, row, shortened, split_row};
use super::{End, Index};
use crate::aql::value::Value;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::ops::Bound;

/// What is looked for: values of the first attributes, and bounds on the one after them.
#[derive(Clone, Debug)]
pub struct IndexRange {
    pub equal: Vec<Value>,
    pub from: Bound<Value>,
    pub to: Bound<Value>,
}

impl Default for IndexRange {
    /// Everything.
    fn default() -> IndexRange {
        IndexRange { equal: Vec::new(), from: Bound::Unbounded, to: Bound::Unbounded }
    }
}

impl IndexRange {
    /// What has these values in its first attributes.
    pub fn equal(values: impl IntoIterator<Item = Value>) -> IndexRange {
        IndexRange { equal: values.into_iter().collect(), ..IndexRange::default() }
    }

    pub fn encoded(&self) -> ValueRange {
        let mut equal = Vec::new();
        for value in &self.equal {
            encode(value, &mut equal);
        }
        let with = |value: &Value| {
            let mut bytes = equal.clone();
            encode(value, &mut bytes);
            bytes
        };
        let from = match &self.from {
            Bound::Unbounded => equal.clone(),
            Bound::Included(value) => with(value),
            Bound::Excluded(value) => prefix_end(&with(value)),
        };
        let to = match &self.to {
            Bound::Unbounded if equal.is_empty() => None,
            Bound::Unbounded => Some(prefix_end(&equal)),
            Bound::Included(value) => Some(prefix_end(&with(value))),
            Bound::Excluded(value) => Some(with(value)),
        };
        ValueRange { from, to }
    }
}

/// Encoded values: those from the first on, and below the second if there is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueRange {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl ValueRange {
    pub fn between(from: Vec<u8>, to: Vec<u8>) -> ValueRange {
        ValueRange { from, to: Some(to) }
    }

    /// The same values, each in one range only, and the ranges in order.
    pub fn disjoint(mut ranges: Vec<ValueRange>) -> Vec<ValueRange> {
        ranges.retain(|range| range.to.as_ref().is_none_or(|to| range.from < *to));
        ranges.sort_unstable();
        let mut apart: Vec<ValueRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match apart.last_mut() {
                Some(ValueRange { to: None, .. }) => break,
                Some(ValueRange { to: Some(end), .. }) if range.from <= *end => match range.to {
                    Some(to) => *end = to.max(std::mem::take(end)),
                    None => apart.last_mut().expect("there is one").to = None,
                },
                _ => apart.push(range),
            }
        }
        apart
    }
}

/// An entry that reading goes on after.
pub(super) type Place = (Vec<u8>, Revision);

impl<'a> Reader<'a> {
    /// The revisions of the documents in a range of an index, in the order of their values and then of the revisions.
    ///
    /// A document has several entries in an index over the elements of an array, and so may come several times.
    pub fn index_scan(
        &self,
        collection: &CollectionRow,
        index: &Index,
        range: &IndexRange,
        direction: Direction,
    ) -> impl Iterator<Item = StoreResult<Revision>> + use<'a> {
        let entries = self.index_entries(collection.object, index.id, range, direction);
        entries.map(|entry| entry.map(|(_, revision)| revision))
    }

    /// The documents in a range of an index.
    pub fn index_documents(
        &self,
        collection: &CollectionRow,
        index: &Index,
        range: &IndexRange,
        direction: Direction,
    ) -> impl Iterator<Item = StoreResult<Document>> + use<'a> {
        let (reader, collection) = (*self, collection.clone());
        self.index_scan(&collection, index, range, direction).map(move |revision| {
            let revision = revision?;
            reader
                .document_at(&collection, revision)?
                .ok_or_else(|| StoreError::Corrupt(format!("an index of object {} leads nowhere", collection.object)))
        })
    }

    /// The edges that have a vertex at one of these ends; each once, though a loop is found at both.
    pub fn edges(
        &self,
        collection: &CollectionRow,
        ends: &[End],
        vertex: &str,
    ) -> impl Iterator<Item = StoreResult<Document>> {
        let range = IndexRange::equal([Value::String(vertex.into())]);
        let at = move |end: &End| self.index_documents(collection, &Index::edge(*end), &range, Direction::Forward);
        let mut seen = BTreeSet::new();
        let once = move |edge: &StoreResult<Document>| edge.as_ref().map_or(true, |edge| seen.insert(edge.revision));
        ends.iter().flat_map(at).filter(once)
    }

    /// Encoded values and revisions in a range of an index.
    pub(crate) fn index_entries(
        &self,
        object: u64,
        index: u64,
        range: &IndexRange,
        direction: Direction,
    ) -> Entries<'a> {
        self.entries_after(object, index, range.encoded(), None, direction)
    }

    /// Those that come after a place, in the direction that they are read in.
    pub(super) fn entries_after(
        &self,
        object: u64,
        index: u64,
        range: ValueRange,
        after: Option<Place>,
        direction: Direction,
    ) -> Entries<'a> {
        let head = in_index(self.generation, object, index);
        // What of a bound does not fit into a key is compared when the rows are read.
        let cut = |values: &[u8]| [&head[..], &values[..values.len().min(VALUES_BYTES_MAX)]].concat();
        let mut begin = cut(&range.from);
        let mut end = match &range.to {
            Some(to) if to.len() <= VALUES_BYTES_MAX => cut(to),
            Some(to) => prefix_end(&cut(to)),
            None => prefix_end(&head),
        };
        if let Some((values, revision)) = &after {
            let (short, place) =
                (values.len() <= VALUES_BYTES_MAX, row(self.generation, object, index, values, *revision).0);
            match (direction, short) {
                (Direction::Forward, true) => begin = begin.max(place),
                (Direction::Forward, false) => begin = begin.max(cut(values)),
                (Direction::Backward, true) => end = end.min(place),
                (Direction::Backward, false) => end = end.min(prefix_end(&cut(values))),
            }
        }
        let rows = self.rows.scan(Table::Index, Bound::Included(&begin), Bound::Excluded(&end), direction);
        Entries { rows: rows.peekable(), group: Vec::new(), range, after, direction }
    }

    /// The document, other than `but`, that has these encoded values in an index.
    pub(in crate::db) fn index_holder(
        &self,
        object: u64,
        index: u64,
        values: &[u8],
        but: Option<Revision>,
    ) -> StoreResult<Option<Revision>> {
        let prefix = [in_index(self.generation, object, index), shortened(values)].concat();
        for row in scan_prefix(self.rows, Table::Index, &prefix, Direction::Forward) {
            let (key, value) = row?;
            let (found, revision) = split_row(key, value)?;
            if found == values && Some(revision) != but {
                return Ok(Some(revision));
            }
        }
        Ok(None)
    }

    /// The indexes that the documents of an object have entries in.
    pub(in crate::db) fn indexed(&self, object: u64) -> StoreResult<Vec<Index>> {
        self.indexed_row(object)?.map_or(Ok(Vec::new()), indexes_of_row)
    }

    /// How far those have come that are being built.
    pub(in crate::db) fn building(&self, object: u64) -> StoreResult<Building> {
        let key = catalog_key(self.generation, kind::BUILDING, &[&object.to_be_bytes()]);
        self.rows.get(Table::Catalog, &key)?.map_or(Ok(Building::default()), |row| decode(row, "indexes being built"))
    }

    /// The row that says so; none if there are none.
    pub(in crate::db) fn indexed_row(&self, object: u64) -> StoreResult<Option<&'a [u8]>> {
        let key = catalog_key(self.generation, kind::INDEXED, &[&object.to_be_bytes()]);
        self.rows.get(Table::Catalog, &key)
    }
}

/// What a row of the kind [`kind::INDEXED`] says.
pub(in crate::db) fn indexes_of_row(row: &[u8]) -> StoreResult<Vec<Index>> {
    decode(row, "indexes of an object")
}

/// The entries of a range. Rows that share a long head are in no order, so they are collected and sorted.
pub(crate) struct Entries<'a> {
    rows: Peekable<Rows<'a>>,
    /// The next ones last.
    group: Vec<(&'a [u8], Revision)>,
    range: ValueRange,
    after: Option<Place>,
    direction: Direction,
}

impl Entries<'_> {
    fn wants(&self, values: &[u8], revision: Revision) -> bool {
        let passed = self.after.as_ref().is_some_and(|(last, at)| match self.direction {
            Direction::Forward => (values, revision) <= (last, *at),
            Direction::Backward => (values, revision) >= (last, *at),
        });
        !passed && *values >= self.range.from[..] && self.range.to.as_ref().is_none_or(|to| *values < to[..])
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = StoreResult<(&'a [u8], Revision)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.group.pop() {
                return Some(Ok(entry));
            }
            let head = |key: &'a [u8]| key.get(HEAD_BYTES..HEAD_BYTES + VALUES_BYTES_MAX);
            let (key, value) = match self.rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            let long = (!value.is_empty()).then(|| head(key)).flatten();
            let mut next = Some((key, value));
            while let Some((key, value)) = next.take() {
                match split_row(key, value) {
                    Ok((values, revision)) if !self.wants(values, revision) => {}
                    Ok(entry) => self.group.push(entry),
                    Err(error) => return Some(Err(error)),
                }
                if long.is_some() {
                    let same = |row: &StoreResult<Row<'a>>| row.as_ref().is_ok_and(|(key, _)| head(key) == long);
                    next = self.rows.next_if(same).and_then(Result::ok);
                }
            }
            self.group.sort_unstable();
            if self.direction == Direction::Forward {
                self.group.reverse();
            }
        }
    }
}
