//! Changes over a view of the store that are kept as a whole or dropped as a whole.
//!
//! Every operation of a batch writes into an overlay of its own, which reaches the store's transaction only if the
//! operation succeeds: one that fails leaves nothing behind, whatever its neighbours do.

use super::store::*;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What becomes of a key: a value, or nothing.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
/// One map a table, in the order of [`Table::ALL`].
type Tables = [Changes; Table::ALL.len()];

/// What a key held in the overlay before a change: `None` if the overlay had nothing on it.
type Previous = (Table, Vec<u8>, Option<Option<Vec<u8>>>);

/// A view of the store with changes of its own.
pub struct Overlay<'a> {
    base: &'a dyn Read,
    changes: Tables,
    /// What changes since the first savepoint replaced.
    journal: Option<Vec<Previous>>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn Read) -> Overlay<'a> {
        Overlay { base, changes: Default::default(), journal: None }
    }

    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
        self.change(table, key, Some(value));
    }

    pub fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.change(table, key, None);
    }

    fn change(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let changes = &mut self.changes[table as usize];
        match &mut self.journal {
            Some(journal) => {
                let previous = changes.insert(key.clone(), value);
                journal.push((table, key, previous));
            }
            None => {
                changes.insert(key, value);
            }
        }
    }

    /// A place that [`Overlay::rollback_to`] can return to.
    pub fn savepoint(&mut self) -> usize {
        self.journal.get_or_insert_default().len()
    }

    pub fn rollback_to(&mut self, savepoint: usize) {
        let journal = self.journal.as_mut().expect("there is a savepoint");
        while journal.len() > savepoint {
            let (table, key, previous) = journal.pop().expect("longer than the savepoint");
            let changes = &mut self.changes[table as usize];
            match previous {
                Some(change) => changes.insert(key, change),
                None => changes.remove(&key),
            };
        }
    }

    /// What has become of a key, if anything has.
    pub fn change_of(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes[table as usize].get(key).map(Option::as_deref)
    }

    /// The changes, to be written once the view is given up.
    pub fn into_batch(self) -> Batch {
        Batch(Box::new(self.changes))
    }
}

/// The changes of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch(Box<Tables>);

impl Batch {
    /// What becomes of a key, if anything does.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0[table as usize].get(key).map(Option::as_deref)
    }

    /// Whether any key that begins so is changed.
    pub fn has_prefix(&self, table: Table, prefix: &[u8]) -> bool {
        let from = Bound::Included(prefix);
        let next = self.0[table as usize].range::<[u8], _>((from, Bound::Unbounded)).next();
        next.is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// The keys of a table that are changed.
    pub fn keys(&self, table: Table) -> impl Iterator<Item = &[u8]> {
        self.0[table as usize].keys().map(Vec::as_slice)
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        let row = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len) + 64;
        self.0.iter().flatten().map(row).sum()
    }

    /// Both together; where they meet, `other` counts.
    pub fn and(mut self, other: Batch) -> Batch {
        self.put_over(other);
        self
    }

    /// Adds changes that count where there are none yet.
    pub fn put_under(&mut self, older: Batch) {
        for (changes, more) in self.0.iter_mut().zip(*older.0) {
            for (key, change) in more {
                changes.entry(key).or_insert(change);
            }
        }
    }

    /// Adds changes that count where there are others.
    pub fn put_over(&mut self, newer: Batch) {
        for (changes, more) in self.0.iter_mut().zip(*newer.0) {
            changes.extend(more);
        }
    }

    /// Takes out the changes of a table.
    pub fn take(&mut self, table: Table) -> Batch {
        let mut taken = Batch::default();
        taken.0[table as usize] = std::mem::take(&mut self.0[table as usize]);
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(BTreeMap::is_empty)
    }

    pub fn write(&self, txn: &mut dyn Txn) -> StoreResult<()> {
        for (table, changes) in Table::ALL.into_iter().zip(self.0.iter()) {
            for (key, change) in changes {
                match change {
                    Some(value) => txn.put(table, key, value)?,
                    None => txn.remove(table, key)?,
                }
            }
        }
        Ok(())
    }
}

impl Read for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        get(self.base, &self.changes, table, key)
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        scan(self.base, &self.changes, table, (from, to), direction)
    }
}

/// A view of the store with changes that are somebody else's.
pub struct Layer<'a> {
    pub base: &'a dyn Read,
    pub changes: &'a Batch,
}

impl Read for Layer<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        get(self.base, &self.changes.0, table, key)
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        scan(self.base, &self.changes.0, table, (from, to), direction)
    }
}

fn get<'a>(base: &'a dyn Read, changes: &'a Tables, table: Table, key: &[u8]) -> StoreResult<Option<&'a [u8]>> {
    match changes[table as usize].get(key) {
        Some(change) => Ok(change.as_deref()),
        None => base.get(table, key),
    }
}

fn scan<'a>(
    base: &'a dyn Read,
    changes: &'a Tables,
    table: Table,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    direction: Direction,
) -> Rows<'a> {
    if is_empty_range(from, to) {
        return Box::new(std::iter::empty());
    }
    let changes = changes[table as usize].range::<[u8], _>((from, to));
    let changes = changes.map(|(key, change)| (key.as_slice(), change.as_deref()));
    scan_changed(base.scan(table, from, to, direction), changes, direction)
}

#[cfg(test)]
mod tests {
    use super::super::mem::MemStore;
    use super::*;
    use proptest::prelude::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn apply(model: &mut Model, key: u8, value: Option<u8>) {
        match value {
            Some(value) => model.insert(vec![key], vec![value]),
            None => model.remove(&vec![key]),
        };
    }

    proptest! {
        /// Reads see base and changes as one; going back to a savepoint and writing the batch are exact.
        #[test]
        fn an_overlay_reads_like_a_map(
            base in proptest::collection::vec((0u8..20, proptest::option::of(any::<u8>())), 0..20),
            first in proptest::collection::vec((0u8..20, proptest::option::of(any::<u8>())), 0..20),
            second in proptest::collection::vec((0u8..20, proptest::option::of(any::<u8>())), 0..20),
            from in 0u8..21, to in 0u8..21, inclusive in any::<(bool, bool)>(), keep in any::<bool>(),
        ) {
            let mut store = MemStore::new();
            let mut model = Model::new();
            let mut txn = store.begin().unwrap();
            for (key, value) in base {
                apply(&mut model, key, value);
                match value {
                    Some(value) => txn.put(Table::Keys, &[key], &[value]).unwrap(),
                    None => txn.remove(Table::Keys, &[key]).unwrap(),
                }
            }
            txn.commit().unwrap();
            let mut txn = store.begin().unwrap();
            let mut overlay = Overlay::new(&*txn);
            let change = |overlay: &mut Overlay<'_>, key: u8, value: Option<u8>| match value {
                Some(value) => overlay.put(Table::Keys, vec![key], vec![value]),
                None => overlay.remove(Table::Keys, vec![key]),
            };
            for (key, value) in first {
                apply(&mut model, key, value);
                change(&mut overlay, key, value);
            }
            let savepoint = overlay.savepoint();
            for (key, value) in second {
                change(&mut overlay, key, value);
                if keep {
                    apply(&mut model, key, value);
                }
            }
            if !keep {
                overlay.rollback_to(savepoint);
            }
            let (from, to) = ([from], [to]);
            let bound = |inclusive, key| if inclusive { Bound::Included(key) } else { Bound::Excluded(key) };
            let (from, to) = (bound(inclusive.0, &from[..]), bound(inclusive.1, &to[..]));
            let mut expected: Vec<(Vec<u8>, Vec<u8>)> = match is_empty_range(from, to) {
                true => Vec::new(),
                false => model.range::<[u8], _>((from, to)).map(|(k, v)| (k.clone(), v.clone())).collect(),
            };
            let rows = |direction| -> Vec<(Vec<u8>, Vec<u8>)> {
                overlay.scan(Table::Keys, from, to, direction)
                    .map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect()
            };
            prop_assert_eq!(rows(Direction::Forward), expected.clone());
            expected.reverse();
            prop_assert_eq!(rows(Direction::Backward), expected);
            overlay.into_batch().write(&mut *txn).unwrap();
            let all: Model = scan_all(&*txn);
            prop_assert_eq!(all, model);
        }
    }

    fn scan_all(rows: &dyn Read) -> Model {
        rows.scan(Table::Keys, Bound::Unbounded, Bound::Unbounded, Direction::Forward)
            .map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap())
            .collect()
    }
}
