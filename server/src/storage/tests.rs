use super::*;
use std::io::{Seek, SeekFrom, Write};
use tanist_engine::db::contract::{self, ContractStore};

const MAP_BYTES: u64 = 64 << 20;

struct Reopening {
    directory: tempfile::TempDir,
    store: Option<HeedStore>,
}

impl Store for Reopening {
    fn snapshot(&self) -> StoreResult<Box<dyn Snapshot + '_>> {
        self.store.as_ref().expect("open").snapshot()
    }

    fn begin(&mut self) -> StoreResult<Box<dyn Txn + '_>> {
        self.store.as_mut().expect("open").begin()
    }
}

impl ContractStore for Reopening {
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(HeedStore::open(self.directory.path(), MAP_BYTES, Extent::All).unwrap());
    }
}

#[test]
fn keeps_the_contract() {
    for seed in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Reopening { store: None, directory };
        store.reopen();
        contract::check(&mut store, seed, 400);
    }
}

fn put(store: &mut HeedStore, key: &[u8], value: &[u8]) -> StoreResult<()> {
    let mut txn = store.begin()?;
    txn.put(Table::Documents, key, value)?;
    txn.commit()
}

#[test]
fn readers_outlive_commits_and_handles() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = HeedStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    put(&mut store, b"k", b"1").unwrap();
    let reader = store.clone();
    let snapshot = reader.snapshot().unwrap();
    put(&mut store, b"k", b"2").unwrap();
    assert_eq!(snapshot.get(Table::Documents, b"k").unwrap(), Some(b"1".as_slice()));
    drop(store);
    assert_eq!(snapshot.get(Table::Documents, b"k").unwrap(), Some(b"1".as_slice()));
}

#[test]
fn bounds_may_be_longer_than_keys_and_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = HeedStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    let longest = vec![7; KEY_BYTES_MAX];
    for key in [&b"a"[..], &longest] {
        put(&mut store, key, b"").unwrap();
    }
    let snapshot = store.snapshot().unwrap();
    let count = |from, to| {
        let forward = snapshot.scan(Table::Documents, from, to, Direction::Forward).count();
        assert_eq!(forward, snapshot.scan(Table::Documents, from, to, Direction::Backward).count());
        forward
    };
    let longer = vec![7; KEY_BYTES_MAX + 1];
    assert_eq!(count(Bound::Included(&longer), Bound::Unbounded), 1, "only 'a' is above");
    assert_eq!(count(Bound::Unbounded, Bound::Excluded(&longer)), 1, "the longest key is below");
    assert_eq!(count(Bound::Excluded(b""), Bound::Unbounded), 2);
    assert_eq!(count(Bound::Unbounded, Bound::Included(b"")), 0);
    assert_eq!(count(Bound::Included(b"z"), Bound::Included(b"a")), 0);
}

#[test]
fn a_full_map_is_an_error_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = HeedStore::open(directory.path(), 1 << 20, Extent::All).unwrap();
    let mut kept = 0_u32;
    let error = loop {
        match put(&mut store, &kept.to_be_bytes(), &[1; 10_000]) {
            Ok(()) => kept += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(error, StoreError::Full);
    assert!(kept > 50, "{kept}");
    let rows = |store: &HeedStore| {
        let snapshot = store.snapshot().unwrap();
        snapshot.scan(Table::Documents, Bound::Unbounded, Bound::Unbounded, Direction::Forward).count() as u32
    };
    assert_eq!(rows(&store), kept);
    // Reading goes on, and so does removing.
    let mut txn = store.begin().unwrap();
    txn.remove(Table::Documents, &0_u32.to_be_bytes()).unwrap();
    txn.commit().unwrap();
    assert_eq!(rows(&store), kept - 1);
}

#[test]
fn a_directory_belongs_to_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = HeedStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    assert!(matches!(HeedStore::open(directory.path(), MAP_BYTES, Extent::All), Err(OpenFailure::InUse(_))));
    drop(store);
    HeedStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
}

#[test]
fn what_is_no_store_is_told_plainly() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(DATA_FILE), vec![0x5a; 100_000]).unwrap();
    match HeedStore::open(directory.path(), MAP_BYTES, Extent::All) {
        Err(OpenFailure::Corrupt(what)) => assert!(what.contains(DATA_FILE), "{what}"),
        other => panic!("{:?}", other.map(|_| "a store")),
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(HeedStore::open(file.path(), MAP_BYTES, Extent::All), Err(OpenFailure::Io(_))));
}

#[test]
fn a_file_that_was_cut_short_or_overwritten_is_an_error_and_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = HeedStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    for i in 0..100_u32 {
        let mut txn = store.begin().unwrap();
        for j in 0..5_u32 {
            txn.put(Table::Documents, &[i.to_be_bytes(), j.to_be_bytes()].concat(), &[1; 500]).unwrap();
        }
        txn.commit().unwrap();
    }
    drop(store);
    let path = directory.path().join(DATA_FILE);
    let length = std::fs::metadata(&path).unwrap().len();

    let read = |store: &HeedStore| -> StoreResult<()> {
        let snapshot = store.snapshot()?;
        for i in 0..100_u32 {
            snapshot.get(Table::Documents, &[i.to_be_bytes(), 0_u32.to_be_bytes()].concat())?;
        }
        Ok(())
    };
    let whole = std::fs::read(&path).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let cut = HeedStore::open(directory.path(), MAP_BYTES, Extent::All).map(|store| read(&store));
    assert!(
        matches!(cut, Err(OpenFailure::Corrupt(_)) | Ok(Err(StoreError::Corrupt(_)))),
        "{:?}",
        cut.map_err(|_| "another failure")
    );

    std::fs::write(&path, &whole).unwrap();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(length / 4096 / 2 * 4096)).unwrap();
    file.write_all(&vec![0; length as usize / 4]).unwrap();
    drop(file);
    let blank = HeedStore::open(directory.path(), MAP_BYTES, Extent::All).map(|store| read(&store));
    assert!(
        matches!(blank, Err(OpenFailure::Corrupt(_)) | Ok(Err(StoreError::Corrupt(_)))),
        "{:?}",
        blank.map_err(|_| "another failure")
    );
}
