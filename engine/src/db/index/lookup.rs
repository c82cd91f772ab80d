//! Documents by where they are and by the words in them: what the functions `NEAR()`, `WITHIN()`, `WITHIN_RECTANGLE()`
//! and `FULLTEXT()` and the simple queries of these names have in common.
//!
//! An index gives candidates; each is held against its own shape before it is taken.

use super::super::reader::Reader;
use super::super::rows::{CollectionRow, Document, Revision};
use super::super::store::{Direction, StoreResult};
use super::entries::{self, Attributes};
use super::geo::{self, Area};
use super::scan::ValueRange;
use super::{Index, IndexKind, fulltext};
use crate::aql::functions::geo::RADIUS_METERS;
use crate::aql::functions::geo::shape::{Degrees, Point, angle, from_degrees, to_degrees};
use crate::errors::{self, Error};
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::PI;

/// How many `NEAR` finds unless it is told.
pub const NEAR_LIMIT: usize = 100;
/// Documents that one lookup looks at or finds.
const DOCUMENTS_MAX: usize = 1_000_000;
/// Of the documents that it finds.
const BYTES_MAX: usize = 64 << 20;
/// How far `NEAR` looks first, and how much further each time that it has not found enough.
const FIRST_METERS: f64 = 1000.0;
const FURTHER: f64 = 8.0;

/// What is looked for. Places are longitude and latitude in degrees.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The nearest ones.
    Near { place: Degrees, limit: usize },
    /// Not further away than that, the nearest first.
    Within { place: Degrees, meters: f64 },
    /// Between two parallels and two meridians.
    Rectangle(Area),
    /// At most so many; 0: all.
    Fulltext { field: String, query: String, limit: usize },
}

/// The documents, each with its distance in meters; 0 where there is none to tell. `index` names the index to be used.
pub fn find(
    db: &Reader<'_>,
    collection: &CollectionRow,
    lookup: &Lookup,
    index: Option<u64>,
) -> Result<Vec<(Document, f64)>, Error> {
    let named = |candidate: &&Index| !candidate.building && index.is_none_or(|id| candidate.id == id);
    if let Lookup::Fulltext { field, query, limit } = lookup {
        let fits = |index: &&Index| index.kind == IndexKind::Fulltext && index.fields == [field.clone()];
        let index = collection.indexes.iter().filter(named).find(fits).ok_or_else(|| {
            errors::QUERY_FULLTEXT_INDEX_MISSING
                .says(format!("no suitable fulltext index found for fulltext query on '{}'", collection.name))
        })?;
        return by_words(db, collection, index, query, *limit);
    }
    let index = collection.indexes.iter().filter(named).find(|index| index.kind == IndexKind::Geo);
    let index = index.ok_or_else(|| {
        let text = format!("no suitable geo index found for geo restriction on '{}'", collection.name);
        errors::QUERY_GEO_INDEX_MISSING.says(text)
    })?;
    let search = Search { db, collection, index, attributes: Attributes::of([index]) };
    let found = match lookup {
        Lookup::Near { place, limit } => search.near(*place, *limit)?,
        Lookup::Within { place, meters } => search.within(*place, *meters)?,
        Lookup::Rectangle(area) => search.rectangle(*area)?,
        Lookup::Fulltext { .. } => unreachable!("looked at above"),
    };
    read(db, collection, found.into_iter().map(|(meters, revision)| (revision, meters)))
}

fn too_many() -> Error {
    errors::RESOURCE_LIMIT.because("too many documents for one lookup: ask for a smaller area or use AQL with a limit")
}

fn read(
    db: &Reader<'_>,
    collection: &CollectionRow,
    found: impl Iterator<Item = (Revision, f64)>,
) -> Result<Vec<(Document, f64)>, Error> {
    let (mut documents, mut bytes) = (Vec::new(), 0);
    for (revision, meters) in found {
        let Some(document) = db.document_at(collection, revision)? else { continue };
        bytes += document.body.len() + document.key.len();
        if bytes > BYTES_MAX {
            return Err(too_many());
        }
        documents.push((document, meters));
    }
    Ok(documents)
}

// ---- words ----------------------------------------------------------------------------------------------------------

fn by_words(
    db: &Reader<'_>,
    collection: &CollectionRow,
    index: &Index,
    query: &str,
    limit: usize,
) -> Result<Vec<(Document, f64)>, Error> {
    let query = fulltext::Query::parse(query)?;
    let found = query.find(|from, to| -> Result<BTreeSet<Revision>, Error> {
        let mut have = BTreeSet::new();
        let range = ValueRange::between(from.to_vec(), to.to_vec());
        for entry in db.entries_after(collection.object, index.id, range, None, Direction::Forward) {
            have.insert(entry?.1);
            if have.len() > DOCUMENTS_MAX {
                return Err(too_many());
            }
        }
        Ok(have)
    })?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    read(db, collection, found.into_iter().take(limit).map(|revision| (revision, 0.0)))
}

// ---- places ---------------------------------------------------------------------------------------------------------

struct Search<'s, 'r> {
    db: &'s Reader<'r>,
    collection: &'s CollectionRow,
    index: &'s Index,
    attributes: Attributes,
}

impl Search<'_, '_> {
    /// The documents that may be in an area, each once.
    fn candidates(&self, area: Area) -> Result<BTreeSet<Revision>, Error> {
        let mut found = BTreeSet::new();
        for range in area.ranges(geo::has_shapes(self.index)) {
            for revision in self.db.index_scan(self.collection, self.index, &range, Direction::Forward) {
                found.insert(revision?);
                if found.len() > DOCUMENTS_MAX {
                    return Err(too_many());
                }
            }
        }
        Ok(found)
    }

    /// How far the centroids of candidates are away.
    fn centroids(&self, area: Area) -> Result<Vec<(Revision, Point)>, Error> {
        let mut points = Vec::new();
        for revision in self.candidates(area)? {
            if let Some(centroid) = self.centroid(revision)? {
                points.push((revision, centroid));
            }
        }
        Ok(points)
    }

    fn centroid(&self, revision: Revision) -> StoreResult<Option<Point>> {
        let Some(document) = self.db.document_at(self.collection, revision)? else { return Ok(None) };
        let body = self.attributes.read(&document.body)?;
        let field = |field: &str| entries::value_of(field, &document.key, revision, &body);
        Ok(geo::shape(self.index, field).map(|shape| shape.centroid()))
    }

    fn within(&self, place: Degrees, meters: f64) -> Result<Vec<(f64, Revision)>, Error> {
        let center = from_degrees(place);
        let found = self.centroids(Area::around(place, meters / RADIUS_METERS))?.into_iter();
        let mut found: Vec<(f64, Revision)> = found
            .map(|(revision, point)| (RADIUS_METERS * angle(&center, &point), revision))
            .filter(|(distance, _)| *distance <= meters)
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok(found)
    }

    fn near(&self, place: Degrees, limit: usize) -> Result<Vec<(f64, Revision)>, Error> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut meters = FIRST_METERS;
        loop {
            let everything = meters >= PI * RADIUS_METERS;
            let mut found = self.within(place, if everything { f64::INFINITY } else { meters })?;
            if found.len() >= limit || everything {
                found.truncate(limit);
                return Ok(found);
            }
            meters *= FURTHER;
        }
    }

    fn rectangle(&self, area: Area) -> Result<Vec<(f64, Revision)>, Error> {
        let mut found = BTreeMap::new();
        // A degree as text and a direction in space differ in the last digits.
        const SAME: f64 = 1e-9;
        let wider =
            Area { west: area.west - SAME, east: area.east + SAME, south: area.south - SAME, north: area.north + SAME };
        for (revision, point) in self.centroids(wider)? {
            let [longitude, latitude] = to_degrees(&point);
            let turns = [longitude, longitude + 360.0, longitude - 360.0];
            let across = turns.iter().any(|turn| (wider.west..=wider.east).contains(turn));
            if across && (wider.south..=wider.north).contains(&latitude) {
                found.insert(revision, 0.0);
            }
        }
        Ok(found.into_iter().map(|(revision, meters)| (meters, revision)).collect())
    }
}
