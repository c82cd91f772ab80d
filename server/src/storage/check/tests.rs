use super::*;
use crate::storage::{DATA_FILE, DiskStore};
use std::collections::BTreeSet;
use tanist_engine::db::store::{Store, Table};
use tanist_engine::types::Rng;

const MAP_BYTES: u64 = 256 << 20;

/// A file with all that LMDB makes: trees of several levels, runs of overflow pages, a list of free pages.
fn sample() -> (tempfile::TempDir, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    // No layer of memory: each transaction goes to LMDB.
    let mut store = DiskStore::open_with(directory.path(), MAP_BYTES, Extent::All, 0).unwrap();
    let mut rng = Rng::new(7);
    for round in 0..60_u64 {
        let mut txn = store.begin().unwrap();
        for _ in 0..40 {
            let table = Table::ALL[rng.below(Table::ALL.len() as u64) as usize];
            let key = [rng.below(400).to_be_bytes().as_slice(), &vec![b'k'; rng.below(300) as usize]].concat();
            let bytes = if rng.below(10) == 0 { rng.below(30_000) } else { rng.below(900) };
            txn.put(table, &key, &vec![round as u8; bytes as usize]).unwrap();
            let (from, _) = (rng.below(400).to_be_bytes(), 0);
            let gone: Vec<Vec<u8>> = txn
                .scan(
                    table,
                    std::ops::Bound::Included(&from),
                    std::ops::Bound::Unbounded,
                    tanist_engine::db::store::Direction::Forward,
                )
                .take(1)
                .map(|row| row.unwrap().0.to_vec())
                .collect();
            for key in gone.iter().filter(|_| round % 3 == 0) {
                txn.remove(table, key).unwrap();
            }
        }
        txn.commit().unwrap();
        assert!(check(&directory.path().join(DATA_FILE), Extent::All).unwrap().whole, "sound in every state");
    }
    drop(store);
    let bytes = std::fs::read(directory.path().join(DATA_FILE)).unwrap();
    (directory, bytes)
}

fn page_of(bytes: &[u8], number: usize) -> &[u8] {
    &bytes[number * 4096..][..4096]
}

fn look(directory: &tempfile::TempDir, bytes: &[u8]) -> Result<Checked> {
    let path = directory.path().join("changed");
    std::fs::write(&path, bytes).unwrap();
    check(&path, Extent::All)
}

fn complaint(result: Result<Checked>) -> Option<String> {
    match result {
        Ok(_) => None,
        Err(Failure::Damaged(what)) => Some(what),
        Err(Failure::Io(e)) => panic!("{e}"),
    }
}

#[test]
fn every_blank_page_that_matters_is_found() {
    let (directory, mut bytes) = sample();
    let sound = look(&directory, &bytes).unwrap();
    assert!(sound.whole && sound.pages > 100, "{sound:?}");
    let mut kinds = BTreeSet::new();
    let mut found = 0;
    for number in 0..bytes.len() / 4096 {
        let page = page_of(&bytes, number).to_vec();
        bytes[number * 4096..][..4096].fill(0);
        if let Some(what) = complaint(look(&directory, &bytes)) {
            assert!(what.starts_with(&format!("page {number} is damaged: ")), "{what}");
            kinds.insert(u16_at(&page, 10));
            found += u64::from(number > 1);
        }
        bytes[number * 4096..][..4096].copy_from_slice(&page);
    }
    // Others are free, or the inside of a value.
    assert_eq!(found, sound.pages);
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [BRANCH, LEAF, OVERFLOW, META]);
}

#[test]
fn every_flipped_bit_of_a_header_is_found() {
    let (directory, mut bytes) = sample();
    let used: Vec<usize> = (2..bytes.len() / 4096)
        .filter(|number| {
            let mut blank = bytes.clone();
            blank[number * 4096..][..4096].fill(0);
            complaint(look(&directory, &blank)).is_some()
        })
        .collect();
    for kind in [BRANCH, LEAF, OVERFLOW] {
        let number = *used.iter().find(|number| u16_at(page_of(&bytes, **number), 10) == kind).unwrap();
        for bit in (0..PAGE_HEADER * 8).filter(|bit| ![8, 9].contains(&(bit / 8))) {
            let at = number * 4096 + bit / 8;
            bytes[at] ^= 1 << (bit % 8);
            assert!(complaint(look(&directory, &bytes)).is_some(), "bit {bit} of page {number}");
            bytes[at] ^= 1 << (bit % 8);
        }
    }
}

/// Whatever a disk makes of a file, the answer is an answer.
#[test]
fn no_file_makes_it_panic() {
    let (directory, bytes) = sample();
    let mut rng = Rng::new(3);
    for round in 0..300 {
        let mut changed = bytes.clone();
        for _ in 0..=rng.below(4) {
            // Half of them where the structure is: the first and the last bytes of a page.
            let page = rng.below(changed.len() as u64 / 4096) as usize * 4096;
            let at = if rng.below(2) == 0 { rng.below(64) } else { rng.below(4096) } as usize;
            changed[page + at] = rng.below(256) as u8;
        }
        if round % 10 == 0 {
            changed.truncate(rng.below(bytes.len() as u64) as usize);
        }
        let _ = complaint(look(&directory, &changed));
    }
}

#[test]
fn what_is_not_there_has_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(complaint(check(&directory.path().join("none"), Extent::All)), None);
    assert_eq!(complaint(look(&directory, b"")), None);
    assert!(complaint(look(&directory, b"x")).unwrap().contains("page 0"));
    assert!(complaint(look(&directory, &[0x5a; 9000])).unwrap().contains("no meta page"));
}
