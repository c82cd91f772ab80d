//! Where a follower's log leaves ours (R7).
//!
//! Two logs agree on an epoch if they agree on its lineage: it had one owner, so what both hold of it is the same. The
//! common point is therefore in the highest epoch that both histories share, at the lower of its two ends. It is
//! verified by a checksum: that of the follower's last entry, when it asks with the common point as its end.

use super::reader::Reader;
use super::store::StoreResult;
use crate::io::Comparison;
use crate::message::Follow;
use crate::types::*;

/// Compares a follower's end and history with our log.
pub fn compare(follow: &Follow, ours: &Reader<'_>) -> StoreResult<Comparison> {
    let base = ours.log_base()?.position;
    if !follow.complete {
        return Ok(Comparison::NeedsSnapshot);
    }
    if planted!(compares_ticks_only) && follow.last.tick <= ours.last()?.tick {
        return Ok(Comparison::Prefix);
    }
    let common = common_point(&follow.history, follow.last, &ours.history()?, ours.last()?);
    // Everything after the common point must still be here.
    if common.tick < base.tick {
        return Ok(Comparison::NeedsSnapshot);
    }
    if common < follow.last {
        return Ok(Comparison::Diverged { common });
    }
    // An empty log agrees with any that is whole.
    let verified = common == Position::ZERO
        || ours
            .log_at(common.tick)?
            .is_some_and(|entry| entry.position == follow.last && entry.checksum == follow.last_checksum);
    Ok(if verified { Comparison::Prefix } else { Comparison::NeedsSnapshot })
}

/// The last position that two logs share; zero if they share none. Each is given by its history and its end.
pub fn common_point(theirs: &[EpochRow], their_last: Position, ours: &[EpochRow], our_last: Position) -> Position {
    for row in ours.iter().rev() {
        if theirs.contains(row) {
            let tick = end_of(row, theirs, their_last).min(end_of(row, ours, our_last));
            if tick >= row.first {
                return Position { epoch: row.epoch, tick };
            }
        }
    }
    Position::ZERO
}

/// The last tick of an epoch in a log.
fn end_of(row: &EpochRow, history: &[EpochRow], last: Position) -> Tick {
    let next = history.iter().filter(|other| other.epoch > row.epoch).map(|other| other.first).min();
    let before = if planted!(common_point_too_high) { 0 } else { 1 };
    next.map_or(last.tick, |next| Tick(next.0.saturating_sub(before)).min(last.tick))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: u64, first: u64, lineage: u64) -> EpochRow {
        EpochRow { epoch: Epoch(epoch), first: Tick(first), lineage: Lineage(lineage) }
    }

    fn at(epoch: u64, tick: u64) -> Position {
        Position { epoch: Epoch(epoch), tick: Tick(tick) }
    }

    #[test]
    fn the_common_point_is_the_lower_end_of_the_highest_shared_epoch() {
        let (a, b, c) = (row(1, 1, 11), row(2, 5, 12), row(3, 8, 13));
        let point = |theirs: &[EpochRow], their_last, ours: &[EpochRow], our_last| {
            common_point(theirs, their_last, ours, our_last)
        };
        assert_eq!(point(&[a], at(1, 3), &[a, b], at(2, 9)), at(1, 3), "a prefix");
        assert_eq!(point(&[a], at(1, 7), &[a, b], at(2, 9)), at(1, 4), "a tail that nobody else has");
        assert_eq!(point(&[a, b], at(2, 20), &[a, b, c], at(3, 9)), at(2, 7));
        assert_eq!(point(&[a, b, c], at(3, 9), &[a, b], at(2, 20)), at(2, 7), "also the other way round");
        let (clone, other) = (row(2, 5, 99), row(4, 9, 14));
        assert_eq!(point(&[a, clone], at(2, 6), &[a, b, other], at(4, 9)), at(1, 4), "same number, other lineage");
        assert_eq!(point(&[clone], at(2, 6), &[a, b], at(2, 6)), Position::ZERO);
        assert_eq!(point(&[], Position::ZERO, &[a], at(1, 1)), Position::ZERO);
    }
}
