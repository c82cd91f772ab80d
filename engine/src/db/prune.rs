//! Forgetting, in pieces: old log entries, the objects that they let go of, stores that were replaced.
//!
//! Must never take away what could still be undone or sent: an object stays until the entry that let go of it has left
//! the log, and nothing at or after the tick it was told is touched.

use super::index::entries;
use super::log::Data;
use super::meta;
use super::overlay::Overlay;
use super::reader::Reader;
use super::rows::*;
use super::store::*;
use crate::mark;
use crate::types::Tick;
use std::ops::Bound;

/// Rows removed by one call: so much that pruning keeps up with writing, so little that writers hardly notice.
const ROWS_MAX: usize = 2000;

/// Removes log entries below `keep_from` and what only they needed. Returns the first entry left and whether there is
/// more to remove.
pub fn prune(rows: &mut Overlay<'_>, keep_from: Tick) -> StoreResult<(Tick, bool)> {
    let generation = Reader::new(rows)?.generation;
    let mut budget = ROWS_MAX;
    prune_log(rows, generation, keep_from, &mut budget)?;
    prune_objects(rows, generation, &mut budget)?;
    prune_indexes(rows, generation, &mut budget)?;
    prune_generations(rows, &mut budget)?;
    Ok((Reader::new(rows)?.log_first()?, budget == 0))
}

fn prune_log(rows: &mut Overlay<'_>, generation: u32, keep_from: Tick, budget: &mut usize) -> StoreResult<()> {
    let keys = {
        let reader = Reader::of_generation(rows, generation);
        let end = log_key(generation, keep_from);
        let begin = log_key(generation, reader.log_base()?.position.tick);
        take(rows, Table::Log, Bound::Excluded(&begin), Bound::Excluded(&end), budget)?
    };
    let Some(last) = keys.last() else { return Ok(()) };
    let tick = Tick(number_at(last, 4, "key in the log")?);
    let base = Reader::of_generation(rows, generation).log_at(tick)?;
    let base = base.ok_or_else(|| StoreError::Corrupt(format!("log entry {} is missing", tick.0)))?;
    for key in keys {
        rows.remove(Table::Log, key);
    }
    mark!(LogPruned);
    Data::new(rows, generation).put_catalog(kind::LOG_BASE, &[], &base);
    Ok(())
}

/// Objects that an entry let go of which is no longer in the log.
fn prune_objects(rows: &mut Overlay<'_>, generation: u32, budget: &mut usize) -> StoreResult<()> {
    for key in released(rows, generation, kind::RELEASED)? {
        let object = number_at(&key, 13, "released object")?;
        for table in [Table::Documents, Table::Keys, Table::Index] {
            remove_prefix(rows, table, &in_object(generation, object, &[]), budget)?;
        }
        if *budget == 0 {
            return Ok(());
        }
        rows.remove(Table::Catalog, object_key(generation, object));
        for kind in [kind::INDEXED, kind::BUILDING] {
            rows.remove(Table::Catalog, catalog_key(generation, kind, &[&object.to_be_bytes()]));
        }
        rows.remove(Table::Catalog, key);
    }
    Ok(())
}

/// Entries of indexes that an entry dropped which is no longer in the log.
fn prune_indexes(rows: &mut Overlay<'_>, generation: u32, budget: &mut usize) -> StoreResult<()> {
    for key in released(rows, generation, kind::RELEASED_INDEX)? {
        let number = |at| number_at(&key, at, "released index");
        remove_prefix(rows, Table::Index, &entries::in_index(generation, number(13)?, number(21)?), budget)?;
        if *budget == 0 {
            return Ok(());
        }
        rows.remove(Table::Catalog, key);
    }
    Ok(())
}

/// The rows of what was let go of by entries that are no longer in the log.
fn released(rows: &Overlay<'_>, generation: u32, kind: u8) -> StoreResult<Vec<Vec<u8>>> {
    let base = Reader::of_generation(rows, generation).log_base()?.position.tick;
    let begin = catalog_key(generation, kind, &[]);
    let until = if planted!(objects_pruned_early) { u64::MAX } else { base.0 + 1 };
    let end = catalog_key(generation, kind, &[&until.to_be_bytes()]);
    take(rows, Table::Catalog, Bound::Included(&begin), Bound::Excluded(&end), &mut usize::MAX.clone())
}

fn prune_generations(rows: &mut Overlay<'_>, budget: &mut usize) -> StoreResult<()> {
    let garbage: Vec<u32> = scan_prefix(rows, Table::Meta, meta::GARBAGE.as_bytes(), Direction::Forward)
        .map(|row| row.and_then(|(_, value)| decode(value, "generation to remove")))
        .collect::<StoreResult<_>>()?;
    for generation in garbage {
        for table in [Table::Catalog, Table::Documents, Table::Keys, Table::Index, Table::Log] {
            remove_prefix(rows, table, &generation.to_be_bytes(), budget)?;
        }
        if *budget == 0 {
            return Ok(());
        }
        meta::remove(rows, &meta::of_generation(meta::GARBAGE, generation));
    }
    Ok(())
}

/// Removes the first rows of a table that begin so, as many as the budget allows.
pub fn remove_prefix(rows: &mut Overlay<'_>, table: Table, prefix: &[u8], budget: &mut usize) -> StoreResult<()> {
    let end = prefix_end(prefix);
    for key in take(rows, table, Bound::Included(prefix), Bound::Excluded(&end), budget)? {
        rows.remove(table, key);
    }
    Ok(())
}

/// The first keys of a range, as many as the budget allows.
fn take(
    rows: &dyn Read,
    table: Table,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    budget: &mut usize,
) -> StoreResult<Vec<Vec<u8>>> {
    let found = rows.scan(table, from, to, Direction::Forward).take(*budget);
    let keys = found.map(|row| row.map(|(key, _)| key.to_vec())).collect::<StoreResult<Vec<_>>>()?;
    *budget -= keys.len();
    Ok(keys)
}
