//! Building an index while writes go on.
//!
//! A definition that is `building` is in the log from the beginning, and every write keeps its entries. What was there
//! before is added by each store for itself, a piece at a time and in no log: a row beside the object tells how far it
//! has come ([`kind::BUILDING`]). Once all is there, each write is looked at as if the index was built; so whoever
//! leads then looks at each document that was there when this began in its epoch: two that must not be there together,
//! or one that can't be indexed, end the index. Otherwise it takes the flag away, in the log; a store that applies this
//! and is not as far finishes at once.
//!
//! Nobody reads an index that is being built.

use super::Index;
use crate::db::Reader;
use crate::db::api;
use crate::db::log::Data;
use crate::db::overlay::Overlay;
use crate::db::rows::*;
use crate::db::store::*;
use crate::db::writer::{PutError, Writer};
use crate::http::Response;
use crate::mark;
use serde::{Deserialize, Serialize};

/// Documents that were there when a definition came, up to `until`, have their entries up to `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    pub after: Revision,
    pub until: Revision,
}

impl Filled {
    /// Every document has its entries.
    pub const ALL: Filled = Filled { after: Revision(u64::MAX), until: Revision(u64::MAX) };

    pub fn is_complete(self) -> bool {
        self.after >= self.until
    }
}

/// How far the indexes of an object have come that are being built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Building {
    pub collection: u64,
    /// By the indexes' ids.
    pub indexes: Vec<(u64, Filled)>,
}

impl Building {
    pub fn of(&self, index: u64) -> Option<Filled> {
        self.indexes.iter().find(|(id, _)| *id == index).map(|(_, filled)| *filled)
    }
}

/// Up to where a leader has looked at the documents of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verified {
    pub index: u64,
    pub after: Revision,
    /// The last document when this began; whatever came later was looked at when it was written.
    pub until: Revision,
}

/// What is left to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    Nothing,
    /// More of the same.
    More,
    /// What only a leader may do.
    Leading,
}

/// An index is there, or will not be.
#[derive(Clone, Debug, Hash)]
pub struct Built {
    pub index: u64,
    /// The name of its collection.
    pub collection: String,
    pub response: Response,
}

impl Built {
    fn new(collection: &CollectionRow, index: &Index, response: Response) -> Built {
        Built { index: index.id, collection: collection.name.clone(), response }
    }
}

/// What a leader's piece came to.
pub enum Step {
    Nothing,
    Verified(Verified),
    Over(Built),
}

/// An index that is being built, with its collection as it is.
struct Site {
    collection: CollectionRow,
    index: Index,
    filled: Filled,
}

/// All that are being built in the data. Rows of objects that were let go of are left out: they are kept for an undo.
fn sites(reader: &Reader<'_>) -> StoreResult<Vec<Site>> {
    let mut sites = Vec::new();
    let prefix = catalog_key(reader.generation, kind::BUILDING, &[]);
    for row in scan_prefix(reader.rows, Table::Catalog, &prefix, Direction::Forward) {
        let (key, value) = row?;
        let object = number_at(key, 5, "object whose indexes are being built")?;
        let building: Building = decode(value, "indexes that are being built")?;
        let Some(collection) = reader.collection_by_id(building.collection)?.filter(|row| row.object == object) else {
            continue;
        };
        for (id, filled) in building.indexes {
            if let Some(index) = collection.indexes.iter().find(|index| index.id == id) {
                sites.push(Site { collection: collection.clone(), index: index.clone(), filled });
            }
        }
    }
    Ok(sites)
}

/// Whether anything is being built.
pub fn is_under_way(reader: &Reader<'_>) -> StoreResult<bool> {
    Ok(!sites(reader)?.is_empty())
}

/// Adds the entries of some more documents, `limit` of them at most, and says what is left, and the ids of all that are
/// being built.
pub fn fill(rows: &mut Overlay<'_>, limit: usize) -> StoreResult<(Left, Vec<u64>)> {
    let reader = Reader::new(rows)?;
    let (generation, sites) = (reader.generation(), sites(&reader)?);
    let under_way = sites.iter().map(|site| site.index.id).collect();
    let Some(site) = sites.iter().find(|site| !site.filled.is_complete()) else {
        return Ok((if sites.is_empty() { Left::Nothing } else { Left::Leading }, under_way));
    };
    mark!(IndexFilled);
    let mut data = Data::new(rows, generation);
    let filled = data.fill(&site.collection, &site.index, site.filled, limit)?;
    data.set_filled(&site.collection, site.index.id, filled)?;
    Ok((Left::More, under_way))
}

/// A leader's piece, once nothing is left to fill: looks at some more documents of an index, or ends it.
pub fn settle(writer: &mut Writer<'_>, from: Option<Verified>, limit: usize) -> StoreResult<Step> {
    let Some(site) = sites(&writer.reader())?.into_iter().next() else { return Ok(Step::Nothing) };
    let Site { collection, index, filled } = site;
    assert!(filled.is_complete(), "it is filled before");
    let begin = || -> StoreResult<Verified> {
        let until = writer.reader().last_revision(collection.object)?;
        Ok(Verified { index: index.id, after: Revision(0), until })
    };
    let Verified { after, until, .. } = from.filter(|from| from.index == index.id).map_or_else(begin, Ok)?;
    let documents = writer.reader().documents(&collection, Some(after), limit)?;
    let mut last = None;
    for document in documents.into_iter().take_while(|document| document.revision <= until) {
        last = Some(document.revision);
        match writer.check_index(&collection, &index, &document) {
            Ok(()) => {}
            Err(PutError::Store(error)) => return Err(error),
            Err(error) => {
                mark!(IndexRefused);
                writer.drop_index(&collection, index.id)?;
                return Ok(Step::Over(Built::new(&collection, &index, api::index::refused(error)?)));
            }
        }
    }
    if let Some(after) = last {
        return Ok(Step::Verified(Verified { index: index.id, after, until }));
    }
    mark!(IndexBuilt);
    let collection = writer.finish_index(&collection, index.id)?;
    let response = api::index::created(&writer.reader(), &collection, index.id)?;
    Ok(Step::Over(Built::new(&collection, &index, response)))
}
