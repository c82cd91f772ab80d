//! Secondary indexes: what they are, what a document has in them, and reading them.
//!
//! - [`encoding`]: values as bytes in their order.
//! - [`entries`]: what a document has in an index, and the rows of it.
//! - [`scan`]: reading an index; whether a value is taken.
//! - [`ttl`]: what a `ttl` index holds, and which documents are due.
//! - [`cursor`]: reading an index in pages.
//! - [`geo`] and [`fulltext`]: what the indexes of these kinds hold. [`lookup`]: looking things up in them.
//! - [`build`]: building one while writes go on.
//! - [`check`]: whether the entries are those that the documents have.
//!
//! An index is defined in the row of its collection, so that the log has it, undoes it and copies it as it does with
//! any other change of a collection. The entries are in no log and in no copy: every store makes them from the
//! documents, at the one place where documents are changed (`log::Data`), and so has the same. What the entries of an
//! object are kept for is told in a row beside the object ([`super::rows::kind::INDEXED`]), which follows the
//! collection's row.
//!
//! Uniqueness is looked at by the leader before it writes (`Writer::put`), and nowhere else: a copy that is being built
//! holds documents of different moments, and must be able to hold two that never were there together.

pub mod build;
pub mod check;
pub mod cursor;
pub mod encoding;
pub mod entries;
pub mod fulltext;
pub mod geo;
pub mod lookup;
pub mod scan;
pub mod ttl;

use super::rows::{CollectionKind, CollectionRow};
use serde::{Deserialize, Serialize};

/// Bounds on what a collection may have.
pub const INDEXES_MAX: usize = 64;
pub const FIELDS_MAX: usize = 32;
pub const FIELD_BYTES_MAX: usize = 1024;

/// Documents over which an index is built at once, as one transaction; over more of them it is built in pieces.
pub const BUILT_AT_ONCE_MAX: u64 = 5000;

/// By what edges are found in every edge collection: two indexes to the store, with these ids, and one to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    From = 1,
    To = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexKind {
    /// One end of the edges.
    Edge,
    /// Ordered by values; the next two are older names of it.
    Persistent,
    Hash,
    Skiplist,
    /// Ordered by values, too, the first field before the second. (ArangoDB's goes by all fields at once.)
    Zkd,
    /// When documents are due to be removed: see [`ttl`].
    Ttl,
    /// Where documents are: see [`geo`].
    Geo,
    /// The words in them: see [`fulltext`].
    Fulltext,
    /// Kept as a definition only, without entries.
    Inverted,
}

impl IndexKind {
    pub const CREATABLE: [IndexKind; 8] = [
        IndexKind::Persistent,
        IndexKind::Hash,
        IndexKind::Skiplist,
        IndexKind::Ttl,
        IndexKind::Geo,
        IndexKind::Fulltext,
        IndexKind::Zkd,
        IndexKind::Inverted,
    ];

    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Edge => "edge",
            IndexKind::Persistent => "persistent",
            IndexKind::Hash => "hash",
            IndexKind::Skiplist => "skiplist",
            IndexKind::Ttl => "ttl",
            IndexKind::Geo => "geo",
            IndexKind::Fulltext => "fulltext",
            IndexKind::Zkd => "zkd",
            IndexKind::Inverted => "inverted",
        }
    }

    /// Its entries are the values of its fields as they are: values can be looked up in it.
    pub fn is_ordered(self) -> bool {
        self == IndexKind::Edge || self == IndexKind::Zkd || self.is_persistent()
    }

    /// Whichever of its names it has.
    pub fn is_persistent(self) -> bool {
        matches!(self, IndexKind::Persistent | IndexKind::Hash | IndexKind::Skiplist)
    }

    pub fn has_entries(self) -> bool {
        self != IndexKind::Inverted
    }
}

/// A definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Never given out twice; only those of the edge index are the same in every collection.
    pub id: u64,
    pub name: String,
    pub kind: IndexKind,
    /// Attributes, as clients write them: `a`, `a.b`, `a[*]`, `a[*].b`.
    pub fields: Vec<String>,
    pub unique: bool,
    /// Leaves out documents in which one of the attributes is null or missing.
    pub sparse: bool,
    /// Whether equal elements of one document's array count once for uniqueness.
    pub deduplicate: bool,
    /// Built in pieces ([`build`]), and not there yet: writes keep it, nobody reads it.
    pub building: bool,
    /// What the API keeps with it, opaque here.
    #[serde(with = "super::rows::json_text")]
    pub properties: serde_json::Value,
}

impl Index {
    /// Over one end of the edges.
    pub fn edge(end: End) -> Index {
        let field = if end == End::From { "_from" } else { "_to" };
        Index {
            id: end as u64,
            name: "edge".into(),
            kind: IndexKind::Edge,
            fields: vec![field.into()],
            unique: false,
            sparse: false,
            deduplicate: true,
            building: false,
            properties: serde_json::Value::Null,
        }
    }

    /// Whether it can be what it says, whoever sent it.
    pub fn is_sound(&self) -> bool {
        let in_bounds = |text: &String| (1..=FIELD_BYTES_MAX).contains(&text.len());
        // An inverted index may be over all attributes.
        let least = if self.kind == IndexKind::Inverted { 0 } else { 1 };
        (least..=FIELDS_MAX).contains(&self.fields.len()) && self.fields.iter().all(in_bounds) && in_bounds(&self.name)
    }
}

/// The indexes that the documents of a collection have entries in.
pub fn with_entries(collection: &CollectionRow) -> Vec<Index> {
    let edge = match collection.kind {
        CollectionKind::Document => Vec::new(),
        CollectionKind::Edge => vec![Index::edge(End::From), Index::edge(End::To)],
    };
    let defined = collection.indexes.iter().filter(|index| index.kind.has_entries()).cloned();
    edge.into_iter().chain(defined).collect()
}

/// Those of them that hold all documents, so that what is looked up in them is all there is.
pub fn usable(collection: &CollectionRow) -> Vec<Index> {
    with_entries(collection).into_iter().filter(|index| !index.building).collect()
}

#[cfg(test)]
pub mod tests;
