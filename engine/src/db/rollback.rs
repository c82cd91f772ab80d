//! What rollbacks took away and kept: the undone entries in a table of their own, and for each epoch in which that
//! happened one row that sums it up.
//!
//! Entries are kept until an operator removes them; the summaries stay, because the agency's account of a failover is
//! made from them (`agency::account`). Keeps I10 together with `exec::undo`, which writes both in one transaction.

use super::meta;
use super::overlay::Overlay;
use super::prune;
use super::rows::{decode, encode};
use super::store::*;
use crate::message::{Entry, RollbackSummary};
use crate::types::*;
use std::ops::Bound;

/// Rows removed in one transaction.
const ROWS_MAX: usize = 2000;

/// By the epoch in which it was undone, then by its own position.
fn key(epoch: Epoch, position: Position) -> Vec<u8> {
    [epoch.0, position.epoch.0, position.tick.0].map(u64::to_be_bytes).concat()
}

fn summary_name(epoch: Epoch) -> String {
    format!("{}{:016x}", meta::ROLLBACKS, epoch.0)
}

/// Keeps an entry that was undone in `epoch`.
pub fn keep(rows: &mut Overlay<'_>, epoch: Epoch, entry: &Entry) {
    if !planted!(rollback_not_recorded) {
        rows.put(Table::Rollback, key(epoch, entry.position()), encode(&(epoch, entry)));
    }
}

/// Adds what was undone in one piece, down to `last`, to the summary of the epoch.
pub fn sum_up(
    rows: &mut Overlay<'_>,
    epoch: Epoch,
    end: Position,
    last: Position,
    operations: u64,
) -> StoreResult<RollbackSummary> {
    let known = meta::get::<RollbackSummary>(rows, &summary_name(epoch))?;
    let known = known.filter(|known| !known.whole);
    let end = if planted!(loss_without_newest) { Position { tick: Tick(end.tick.0 - 1), ..end } } else { end };
    let summary = match known {
        Some(known) => RollbackSummary { common: last, operations: known.operations + operations, ..known },
        None => RollbackSummary { epoch, common: last, end, operations, whole: false },
    };
    meta::put(rows, &summary_name(epoch), &summary);
    Ok(summary)
}

/// Takes note of a store that was replaced and is kept whole.
pub fn sum_up_whole(rows: &mut Overlay<'_>, epoch: Epoch, common: Position, end: Position) -> RollbackSummary {
    let summary = RollbackSummary { epoch, common, end, operations: 0, whole: true };
    meta::put(rows, &summary_name(epoch), &summary);
    summary
}

/// In the order of the epochs.
pub fn summaries(rows: &dyn Read) -> StoreResult<Vec<RollbackSummary>> {
    let found = scan_prefix(rows, Table::Meta, meta::ROLLBACKS.as_bytes(), Direction::Forward);
    found.map(|row| row.and_then(|(_, value)| decode(value, "summary of a rollback"))).collect()
}

/// The entries that were undone in one epoch, in the order in which they had been written; at most `limit`, from
/// `from` on.
pub fn entries(rows: &dyn Read, epoch: Epoch, from: Position, limit: usize) -> StoreResult<Vec<Entry>> {
    let (begin, end) = (key(epoch, from), Epoch(epoch.0 + 1).0.to_be_bytes());
    let found = rows.scan(Table::Rollback, Bound::Included(&begin), Bound::Excluded(&end), Direction::Forward);
    let entry = |value: &[u8]| decode::<(Epoch, Entry)>(value, "rollback record").map(|(_, entry)| entry);
    found.take(limit).map(|row| row.and_then(|(_, value)| entry(value))).collect()
}

/// Removes a piece of a record; true if there is more.
pub fn remove(rows: &mut Overlay<'_>, epoch: Epoch) -> StoreResult<bool> {
    let mut budget = ROWS_MAX;
    prune::remove_prefix(rows, Table::Rollback, &epoch.0.to_be_bytes(), &mut budget)?;
    Ok(budget == 0)
}

/// Gives up a store that was kept whole, if it is there: it is pruned away like any other that nobody uses.
pub fn remove_store(rows: &mut Overlay<'_>, generation: u32) -> StoreResult<()> {
    let name = meta::of_generation(meta::KEPT, generation);
    if rows.get(Table::Meta, name.as_bytes())?.is_some() {
        meta::remove(rows, &name);
        meta::discard(rows, generation);
    }
    Ok(())
}
