//! Snapshot transfer: a copy is built beside the data in use while its source goes on writing (R8).
//!
//! The source answers each request from a fresh snapshot and keeps nothing between them: a cursor (object, revision)
//! says where to go on. A document that changes meanwhile moves to a higher revision, so a row may be missed or sent
//! twice; the log from the copy's start on, applied over the rows, puts both right. The copy is exact once the log has
//! been applied up to where the source was when it sent the last piece.
//!
//! The copy must never take in rows that are older than the log it has applied, or what the log removed would come
//! back: such a piece is asked for again. Until it is swapped in by one commit, the data in use stays as it is.

use super::compare::common_point;
use super::index::Index;
use super::log::{Data, Fit, Image, NAME_BYTES_MAX};
use super::meta;
use super::overlay::Overlay;
use super::reader::Reader;
use super::rollback;
use super::rows::*;
use super::store::*;
use crate::io::{OpResult, SavedCopy};
use crate::mark;
use crate::message::{SnapshotId, SnapshotOffer, SnapshotPiece};
use crate::types::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound;

/// What is kept of a copy that is being built.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyRow {
    pub id: SnapshotId,
    pub generation: u32,
    /// `None` once all rows are there.
    pub cursor: Option<Bytes>,
    pub exact_at: Option<Position>,
}

/// A store that was replaced by a copy and is kept whole, because what it held alone can't be undone piece by piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptStore {
    /// In which epoch it was replaced.
    pub epoch: Epoch,
    pub generation: u32,
    pub last: Position,
}

/// The catalog as it travels.
#[derive(Serialize, Deserialize)]
struct Catalog {
    databases: Vec<DatabaseRow>,
    collections: Vec<(CollectionRow, ObjectRow)>,
    views: Vec<ViewRow>,
    counters: Counters,
}

/// A document as it travels: object, revision, and the row's value with its checksum.
type CopiedRow = (u64, Revision, Bytes);

// ---- the source -----------------------------------------------------------------------------------------------------

/// The catalog and the history as they are now.
pub fn offer(id: SnapshotId, reader: &Reader<'_>) -> StoreResult<SnapshotOffer> {
    let databases = reader.databases()?;
    let (mut collections, mut views) = (Vec::new(), Vec::new());
    for database in &databases {
        views.extend(reader.views(database.id)?);
        for collection in reader.collections(database.id)? {
            let missing = || StoreError::Corrupt(format!("object {} is missing", collection.object));
            let object = reader.object(collection.object)?.ok_or_else(missing)?;
            collections.push((collection, object));
        }
    }
    let catalog = Catalog { databases, collections, views, counters: reader.counters()? };
    let start = reader.log_end()?;
    Ok(SnapshotOffer {
        id,
        start: start.position,
        start_checksum: start.checksum,
        history: reader.history()?,
        catalog: encode(&catalog).into(),
    })
}

/// The rows after `cursor`, about `bytes_max` of them but at least one if there is one.
pub fn piece(
    id: SnapshotId,
    start: Position,
    cursor: Bytes,
    bytes_max: usize,
    reader: &Reader<'_>,
) -> StoreResult<SnapshotPiece> {
    let gone = released_until(start.tick, reader)?;
    let mut at: (u64, u64) = match cursor.is_empty() {
        true => (0, 0),
        false => (number_at(&cursor, 0, "cursor")?, number_at(&cursor, 8, "cursor")?),
    };
    let (mut rows, mut bytes) = (Vec::<CopiedRow>::new(), 0);
    let end = prefix_end(&reader.generation.to_be_bytes());
    let mut more = true;
    'objects: while more {
        let from = in_object(reader.generation, at.0, &at.1.to_be_bytes());
        for row in reader.rows.scan(Table::Documents, Bound::Excluded(&from), Bound::Excluded(&end), Direction::Forward)
        {
            let (key, value) = row?;
            let object = number_at(key, 4, "key of a document")?;
            if gone.contains(&object) {
                at = (object, u64::MAX);
                continue 'objects;
            }
            if bytes >= bytes_max.max(1) {
                break 'objects;
            }
            let revision = Revision(number_at(key, 12, "key of a document")?);
            split_document(value, object, revision)?;
            bytes += value.len() + 16;
            rows.push((object, revision, Bytes::copy_from_slice(value)));
            at = (object, revision.0);
        }
        more = false;
    }
    let next = more.then(|| [at.0.to_be_bytes(), at.1.to_be_bytes()].concat().into());
    Ok(SnapshotPiece { id, cursor, rows: encode(&rows).into(), next, exact_at: reader.last()? })
}

/// Objects that were let go of before the copy started, but are still kept for undoing.
fn released_until(tick: Tick, reader: &Reader<'_>) -> StoreResult<BTreeSet<u64>> {
    let begin = catalog_key(reader.generation, kind::RELEASED, &[]);
    let end = catalog_key(reader.generation, kind::RELEASED, &[&(tick.0 + 1).to_be_bytes()]);
    let rows = reader.rows.scan(Table::Catalog, Bound::Included(&begin), Bound::Excluded(&end), Direction::Forward);
    rows.map(|row| row.and_then(|(key, _)| number_at(key, 13, "released object"))).collect()
}

// ---- the copy -------------------------------------------------------------------------------------------------------

pub fn current(rows: &dyn Read) -> StoreResult<Option<CopyRow>> {
    meta::get(rows, meta::COPY)
}

pub fn saved(rows: &dyn Read) -> StoreResult<Option<SavedCopy>> {
    let Some(copy) = current(rows)? else { return Ok(None) };
    let last = Reader::of_generation(rows, copy.generation).last()?;
    Ok(Some(SavedCopy { id: copy.id, cursor: copy.cursor, last, exact_at: copy.exact_at }))
}

/// Begins a copy in a generation of its own; one that was begun before is forgotten.
pub fn begin(offer: &SnapshotOffer, rows: &mut Overlay<'_>) -> StoreResult<OpResult> {
    let catalog: Catalog = decode(&offer.catalog, "catalog of a copy")?;
    let names = catalog.databases.iter().map(|row| &row.name);
    let names = names.chain(catalog.collections.iter().map(|(row, _)| &row.name));
    let mut names = names.chain(catalog.views.iter().map(|row| &row.name));
    if names.any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err(StoreError::Corrupt("catalog of a copy: a name is too long".into()));
    }
    if !catalog.collections.iter().flat_map(|(row, _)| &row.indexes).all(Index::is_sound) {
        return Err(StoreError::Corrupt("catalog of a copy: an index is malformed".into()));
    }
    if let Err(seen) = meta::hear(rows, offer.id.epoch)? {
        return Ok(OpResult::Stale { seen });
    }
    drop_current(rows)?;
    if Reader::new(rows)?.last()? == Position::ZERO {
        meta::put(rows, meta::COMPLETE, &false);
    }
    let generation = meta::get::<u32>(rows, meta::GENERATIONS)?.unwrap_or(0) + 1;
    meta::put(rows, meta::GENERATIONS, &generation);
    let copy = CopyRow { id: offer.id, generation, cursor: Some(Bytes::new()), exact_at: None };
    meta::put(rows, meta::COPY, &copy);
    if planted!(copy_in_place) {
        meta::put(rows, meta::GENERATION, &generation);
    }

    let mut data = Data::new(rows, generation);
    let base = LogBase { position: offer.start, checksum: offer.start_checksum };
    data.put_catalog(kind::LOG_BASE, &[], &base);
    data.put_catalog(kind::COUNTERS, &[], &catalog.counters);
    let history = if planted!(history_left_behind) { &[] } else { &offer.history[..] };
    for row in history {
        data.put_catalog(kind::HISTORY, &[&row.epoch.0.to_be_bytes()], row);
    }
    for row in &catalog.databases {
        data.put_database(row);
    }
    for (row, object) in &catalog.collections {
        data.put_named(row);
        data.put_object(row.object, ObjectRow { count: 0, ..*object });
        data.begin_indexes(row)?;
    }
    for row in &catalog.views {
        data.put_named(row);
    }
    Ok(OpResult::CopyBegun)
}

/// Takes in a piece. One that was taken in already, or that is older than the log applied so far, changes nothing; the
/// answer says where to go on.
pub fn take_in(piece: &SnapshotPiece, rows: &mut Overlay<'_>) -> StoreResult<OpResult> {
    if let Err(seen) = meta::hear(rows, piece.id.epoch)? {
        return Ok(OpResult::Stale { seen });
    }
    let expected = |copy: &CopyRow| copy.id == piece.id || planted!(pieces_of_another_copy);
    let Some(mut copy) = current(rows)?.filter(expected) else { return Ok(OpResult::NoCopy) };
    let generation = copy.generation;
    let applied = Reader::of_generation(rows, generation).last()?;
    if copy.cursor.as_ref() != Some(&piece.cursor) || piece.exact_at < applied {
        mark!(PieceOutOfDate);
        return Ok(OpResult::Copied { next: copy.cursor });
    }
    let copied: Vec<CopiedRow> = decode(&piece.rows, "rows of a copy")?;
    let mut data = Data::new(rows, generation);
    let left_out = planted!(copy_without_last_piece) && piece.next.is_none();
    for (object, revision, value) in copied.into_iter().filter(|_| !left_out) {
        let (key, body) = split_document(&value, object, revision)?;
        if key.is_empty() || key.len() > DOCUMENT_KEY_BYTES_MAX || !body.starts_with(b"{") || !body.ends_with(b"}") {
            return Err(StoreError::Corrupt(format!("row of a copy: object {object}, '{key}'")));
        }
        let present = data.reader().revision(object, key)?;
        let image = Image { revision, body: Bytes::copy_from_slice(body) };
        data.index_document(object, key, present, None, Some(&image))?;
        data.put_document(object, key, present, Some((revision, value.to_vec())), Fit::Lenient)?;
    }
    copy.cursor = piece.next.clone();
    copy.exact_at = copy.exact_at.max(Some(piece.exact_at));
    meta::put(rows, meta::COPY, &copy);
    Ok(OpResult::Copied { next: copy.cursor })
}

/// Puts the copy in the place of the data, if it is exact. Data with entries of their own, after the common point with
/// the copy (R7), are kept whole.
pub fn finish(id: SnapshotId, rows: &mut Overlay<'_>) -> StoreResult<OpResult> {
    if let Err(seen) = meta::hear(rows, id.epoch)? {
        return Ok(OpResult::Stale { seen });
    }
    let Some(copy) = current(rows)?.filter(|copy| copy.id == id) else { return Ok(OpResult::NoCopy) };
    let last = Reader::of_generation(rows, copy.generation).last()?;
    let exact = copy.exact_at.is_some_and(|exact_at| last >= exact_at) || planted!(copy_not_exact);
    if copy.cursor.is_some() || !exact {
        return Ok(OpResult::NoCopy);
    }
    let history = Reader::of_generation(rows, copy.generation).history()?;
    let old = Reader::new(rows)?;
    let (old_generation, old_last, mut counters) = (old.generation, old.last()?, old.counters()?);
    let common = common_point(&old.history()?, old_last, &history, last);
    let mut rollback = None;
    if common < old_last && !planted!(replaced_store_dropped) {
        mark!(StoreKept);
        let kept = KeptStore { epoch: id.epoch, generation: old_generation, last: old_last };
        meta::put(rows, &meta::of_generation(meta::KEPT, old_generation), &kept);
        rollback = Some(rollback::sum_up_whole(rows, id.epoch, common, old_last));
    } else {
        meta::discard(rows, old_generation);
    }
    meta::put(rows, meta::GENERATION, &copy.generation);
    meta::put(rows, meta::COMPLETE, &true);
    meta::remove(rows, meta::COPY);
    let mut data = Data::new(rows, copy.generation);
    counters.absorb_counters(data.reader().counters()?);
    data.put_catalog(kind::COUNTERS, &[], &counters);
    let log_first = data.reader().log_first()?;
    Ok(OpResult::CopyFinished { last, log_first, rollback })
}

/// Forgets the copy, if there is one.
pub fn drop_current(rows: &mut Overlay<'_>) -> StoreResult<()> {
    if let Some(copy) = current(rows)? {
        meta::discard(rows, copy.generation);
        meta::remove(rows, meta::COPY);
    }
    Ok(())
}
