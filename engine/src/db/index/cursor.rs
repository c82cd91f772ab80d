//! Reading an index in pages, so that nothing is borrowed while the documents of a page are worked on.

use super::super::reader::Reader;
use super::super::rows::{CollectionRow, Revision};
use super::super::store::{Direction, StoreResult};
use super::scan::{IndexRange, Place, ValueRange};
use std::collections::VecDeque;

/// The entries in some ranges of an index: in the order of their values or against it, each once, wherever the ranges
/// meet. A document has several entries in an index over the elements of an array, and so may come several times.
pub struct IndexCursor {
    object: u64,
    index: u64,
    direction: Direction,
    /// Those that are not read to their end, the next one first.
    ranges: VecDeque<ValueRange>,
    after: Option<Place>,
}

impl IndexCursor {
    pub fn new(
        collection: &CollectionRow,
        index: u64,
        ranges: impl IntoIterator<Item = IndexRange>,
        direction: Direction,
    ) -> IndexCursor {
        let mut ranges: VecDeque<ValueRange> =
            ValueRange::disjoint(ranges.into_iter().map(|range| range.encoded()).collect()).into();
        if direction == Direction::Backward {
            ranges.make_contiguous().reverse();
        }
        IndexCursor { object: collection.object, index, direction, ranges, after: None }
    }

    /// The documents of the next entries, at least one and at most `limit`; none at the end.
    pub fn next(&mut self, reader: &Reader<'_>, limit: usize) -> StoreResult<Vec<Revision>> {
        let mut found = Vec::new();
        while let Some(range) = self.ranges.front() {
            let after = self.after.take();
            let entries = reader.entries_after(self.object, self.index, range.clone(), after, self.direction);
            for entry in entries {
                let (values, revision) = entry?;
                found.push(revision);
                if found.len() >= limit {
                    self.after = Some((values.to_vec(), revision));
                    return Ok(found);
                }
            }
            self.ranges.pop_front();
        }
        Ok(found)
    }
}
