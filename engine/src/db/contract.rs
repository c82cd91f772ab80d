//! The contract test that every store passes: random operations against a model, also after reopening.
//!
//! The engine's tests run it against [`super::mem::MemStore`], the server's against its own store.

use super::store::*;
use crate::types::Rng;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A store under test.
pub trait ContractStore: Store {
    /// Closes it and opens it again, as after a restart of the process.
    fn reopen(&mut self);
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Runs `steps` random operations from `seed` on an empty store; panics at the first difference from the model.
pub fn check(store: &mut dyn ContractStore, seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut model = Model::new();
    let mut done = 0;
    while done < steps {
        if rng.chance(1, 10) {
            store.reopen();
        }
        // A snapshot shows what was committed, and nothing else.
        compare(&*store.snapshot().expect("a snapshot"), &model, &mut rng, steps.min(20));
        let mut changed = model.clone();
        let mut txn = store.begin().expect("a transaction");
        for _ in 0..rng.below(20) {
            done += 1;
            change(&mut *txn, &mut changed, &mut rng);
            // A transaction sees its own writes.
            compare(&*txn, &changed, &mut rng, 2);
        }
        done += 1;
        if rng.chance(3, 4) {
            txn.commit().expect("a commit");
            model = changed;
        }
    }
    store.reopen();
    let snapshot = store.snapshot().expect("a snapshot");
    for table in Table::ALL {
        let rows = collect(snapshot.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward));
        let expected: Vec<(Vec<u8>, Vec<u8>)> =
            model.iter().filter(|((t, _), _)| *t == table).map(|((_, k), v)| (k.clone(), v.clone())).collect();
        assert_eq!(rows, expected, "all of {} after reopening (seed {seed})", table.name());
    }
}

fn change(txn: &mut dyn Txn, model: &mut Model, rng: &mut Rng) {
    let (table, key) = (any_table(rng), any_key(rng));
    if rng.chance(2, 3) {
        // Now and then a value that needs pages of its own.
        let length = if rng.chance(1, 20) { rng.below(20_000) } else { rng.below(60) };
        let fill = rng.next_u64() as u8;
        let value: Vec<u8> = (0..length).map(|i| fill.wrapping_add(i as u8)).collect();
        txn.put(table, &key, &value).expect("a put");
        model.insert((table, key), value);
    } else {
        txn.remove(table, &key).expect("a removal, also of what is not there");
        model.remove(&(table, key));
    }
}

fn compare(rows: &dyn Read, model: &Model, rng: &mut Rng, times: usize) {
    for _ in 0..times {
        let (table, key) = (any_table(rng), any_key(rng));
        let expected = model.get(&(table, key.clone())).map(Vec::as_slice);
        assert_eq!(rows.get(table, &key).expect("a get"), expected, "get {} {key:?}", table.name());

        let (low, high) = (any_key(rng), any_key(rng));
        let (from, to) = (any_bound(&low, rng), any_bound(&high, rng));
        let direction = if rng.chance(1, 2) { Direction::Forward } else { Direction::Backward };
        let found = collect(rows.scan(table, from, to, direction));
        let mut expected: Vec<(Vec<u8>, Vec<u8>)> = model
            .iter()
            .filter(|((t, key), _)| *t == table && within(key, from, to))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        assert_eq!(found, expected, "scan {} {from:?} {to:?} {direction:?}", table.name());
    }
}

fn within(key: &[u8], from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    let after = match from {
        Bound::Unbounded => true,
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
    };
    let before = match to {
        Bound::Unbounded => true,
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
    };
    after && before
}

fn collect(rows: Rows<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).expect("a row")).collect()
}

fn any_table(rng: &mut Rng) -> Table {
    Table::ALL[rng.below(Table::ALL.len() as u64) as usize]
}

/// Few enough that keys are met again; of all lengths, the longest included; some are prefixes of others.
fn any_key(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.below(10) {
        0 => KEY_BYTES_MAX,
        1 => 200,
        _ => 1 + rng.below(3) as usize,
    };
    let mut key = vec![0xff; length];
    for byte in key.iter_mut().take(3) {
        *byte = [0, 1, 0x7f, 0xff][rng.below(4) as usize];
    }
    key
}

fn any_bound<'a>(key: &'a [u8], rng: &mut Rng) -> Bound<&'a [u8]> {
    match rng.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key),
        _ => Bound::Excluded(key),
    }
}
