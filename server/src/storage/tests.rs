use super::*;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use tanist_engine::db::contract::{self, ContractStore};

const MAP_BYTES: u64 = 64 << 20;

struct Reopening {
    directory: tempfile::TempDir,
    layer_bytes: usize,
    store: Option<DiskStore>,
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
        let opened = DiskStore::open_with(self.directory.path(), MAP_BYTES, Extent::All, self.layer_bytes);
        self.store = Some(opened.unwrap());
    }
}

/// Without layers, and with such that are moved at most commits, now and then, and never while it is open.
#[test]
fn keeps_the_contract() {
    for seed in 0..24 {
        let directory = tempfile::tempdir().unwrap();
        let layer_bytes = [0, 300, 20_000, LAYER_BYTES][seed as usize % 4];
        let mut store = Reopening { store: None, directory, layer_bytes };
        store.reopen();
        contract::check(&mut store, seed, 400);
    }
}

fn rows(store: &DiskStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let snapshot = store.snapshot().unwrap();
    let rows = snapshot.scan(Table::Documents, Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// Readers see one commit's state, wherever its rows lie at that moment: each transaction sets all counters to its
/// number, while layers are put aside and moved under them.
#[test]
fn readers_see_whole_commits_while_rows_are_moved() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open_with(directory.path(), MAP_BYTES, Extent::All, 8000).unwrap();
    put(&mut store, b"0", b"0").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (reader, done) = (store.clone(), &done);
            scope.spawn(move || {
                let mut newest = 0_u32;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let seen = rows(&reader);
                    if seen.len() == 1 {
                        continue;
                    }
                    let number = u32::from_be_bytes(seen[0].1[..].try_into().unwrap());
                    assert!(number >= newest, "{number} after {newest}");
                    assert!(seen.iter().all(|(_, value)| *value == number.to_be_bytes()), "{seen:?}");
                    assert_eq!(seen.len(), 50);
                    newest = number;
                }
            });
        }
        for number in 1..400_u32 {
            let mut txn = store.begin().unwrap();
            txn.remove(Table::Documents, b"0").unwrap();
            for key in 0..50_u8 {
                txn.put(Table::Documents, &[1, key], &number.to_be_bytes()).unwrap();
            }
            txn.commit().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// What is in the journal when a process ends is there when the next one begins; what is left of it then is not taken
/// for news.
#[test]
fn the_journal_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let open = || DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    let mut store = open();
    put(&mut store, b"k", b"1").unwrap();
    put(&mut store, b"gone", b"1").unwrap();
    drop(store);
    let mut store = open();
    let mut txn = store.begin().unwrap();
    txn.put(Table::Documents, b"k", b"2").unwrap();
    txn.remove(Table::Documents, b"gone").unwrap();
    txn.commit().unwrap();
    drop(store);
    for _ in 0..2 {
        assert_eq!(rows(&open()), [(b"k".to_vec(), b"2".to_vec())]);
    }
}

/// A transaction larger than a layer goes to LMDB at once, behind what was in memory.
#[test]
fn a_large_transaction_comes_after_the_small_ones() {
    let directory = tempfile::tempdir().unwrap();
    let open = || DiskStore::open_with(directory.path(), MAP_BYTES, Extent::All, 10_000).unwrap();
    let mut store = open();
    put(&mut store, b"k", b"small").unwrap();
    let large = vec![1; 30_000];
    put(&mut store, b"k", &large).unwrap();
    assert_eq!(rows(&store), [(b"k".to_vec(), large)]);
    put(&mut store, b"k", b"small again").unwrap();
    assert_eq!(rows(&store), [(b"k".to_vec(), b"small again".to_vec())]);
    drop(store);
    assert_eq!(rows(&open()), [(b"k".to_vec(), b"small again".to_vec())]);
}

/// What can't be moved for want of room is kept, can be read, and is in the way of what comes next until there is room.
#[test]
fn what_finds_no_room_stays_in_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let open = |map_bytes| DiskStore::open(directory.path(), map_bytes, Extent::All).unwrap();
    let mut store = open(MAP_BYTES);
    for key in 0..200_u8 {
        put(&mut store, &[key], &[key; 10_000]).unwrap();
    }
    drop(store);
    // As if the options had been changed between the two: the rows in the journal do not fit any more.
    for _ in 0..2 {
        let mut small = open(1 << 20);
        assert_eq!(rows(&small).len(), 200);
        assert_eq!(put(&mut small, b"more", b"").unwrap_err(), StoreError::Full);
        assert_eq!(rows(&small).len(), 200);
    }
    let mut store = open(MAP_BYTES);
    put(&mut store, b"more", b"").unwrap();
    assert_eq!(rows(&store).len(), 201);
}

#[test]
fn a_data_file_without_its_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap());
    std::fs::remove_file(directory.path().join(JOURNAL_FILES[0])).unwrap();
    match DiskStore::open(directory.path(), MAP_BYTES, Extent::All) {
        Err(OpenFailure::Corrupt(what)) => assert!(what.contains("journal.0 is missing"), "{what}"),
        other => panic!("{:?}", other.map(|_| "a store")),
    }
}

fn put(store: &mut DiskStore, key: &[u8], value: &[u8]) -> StoreResult<()> {
    let mut txn = store.begin()?;
    txn.put(Table::Documents, key, value)?;
    txn.commit()
}

#[test]
fn readers_outlive_commits_and_handles() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
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
    let mut store = DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
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
    let mut store = DiskStore::open(directory.path(), 1 << 20, Extent::All).unwrap();
    let mut kept = 0_u32;
    let error = loop {
        match put(&mut store, &kept.to_be_bytes(), &[1; 10_000]) {
            Ok(()) => kept += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(error, StoreError::Full);
    assert!(kept > 50, "{kept}");
    let rows = |store: &DiskStore| {
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
    let store = DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    assert!(matches!(DiskStore::open(directory.path(), MAP_BYTES, Extent::All), Err(OpenFailure::InUse(_))));
    drop(store);
    DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
}

#[test]
fn what_is_no_store_is_told_plainly() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(DATA_FILE), vec![0x5a; 100_000]).unwrap();
    match DiskStore::open(directory.path(), MAP_BYTES, Extent::All) {
        Err(OpenFailure::Corrupt(what)) => assert!(what.contains(DATA_FILE), "{what}"),
        other => panic!("{:?}", other.map(|_| "a store")),
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(DiskStore::open(file.path(), MAP_BYTES, Extent::All), Err(OpenFailure::Io(_))));
}

#[test]
fn a_file_that_was_cut_short_or_overwritten_is_an_error_and_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap();
    for i in 0..100_u32 {
        let mut txn = store.begin().unwrap();
        for j in 0..5_u32 {
            txn.put(Table::Documents, &[i.to_be_bytes(), j.to_be_bytes()].concat(), &[1; 500]).unwrap();
        }
        txn.commit().unwrap();
    }
    drop(store);
    // Opening moves them to LMDB.
    drop(DiskStore::open(directory.path(), MAP_BYTES, Extent::All).unwrap());
    let path = directory.path().join(DATA_FILE);
    let length = std::fs::metadata(&path).unwrap().len();

    let read = |store: &DiskStore| -> StoreResult<()> {
        let snapshot = store.snapshot()?;
        for i in 0..100_u32 {
            snapshot.get(Table::Documents, &[i.to_be_bytes(), 0_u32.to_be_bytes()].concat())?;
        }
        Ok(())
    };
    let whole = std::fs::read(&path).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let cut = DiskStore::open(directory.path(), MAP_BYTES, Extent::All).map(|store| read(&store));
    assert!(matches!(cut, Err(OpenFailure::Corrupt(_)) | Ok(Err(StoreError::Corrupt(_)))), "{cut:?}");

    std::fs::write(&path, &whole).unwrap();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(length / 4096 / 2 * 4096)).unwrap();
    file.write_all(&vec![0; length as usize / 4]).unwrap();
    drop(file);
    let blank = DiskStore::open(directory.path(), MAP_BYTES, Extent::All).map(|store| read(&store));
    assert!(matches!(blank, Err(OpenFailure::Corrupt(_)) | Ok(Err(StoreError::Corrupt(_)))), "{blank:?}");
}

/// The disk is full at every moment at which something is written: what was told durable stays, the rest is refused as
/// [`StoreError::Full`], and all goes on when there is room again. On a file system of its own, as a child of itself.
#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    const SMALL_DISK: &str = "TANIST_SMALL_DISK";
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return on_a_small_disk(Path::new(&disk));
    }
    let directory = tempfile::tempdir().unwrap();
    let in_own_mounts = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(directory.path());
        command
    };
    const MOUNT: &str = "mount -t tmpfs -o size=48m tanist \"$0\"";
    if !in_own_mounts(MOUNT).output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no file system can be mounted here (unshare, mount)");
        return;
    }
    let test = [std::env::current_exe().unwrap().into_os_string(), "--exact".into(), "--nocapture".into()];
    let name = "storage::tests::a_full_disk_refuses_writes_and_loses_nothing";
    let mut child = in_own_mounts(&format!("{MOUNT} && exec \"$@\""));
    let output = child.args(test).arg(name).env(SMALL_DISK, directory.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

fn on_a_small_disk(disk: &Path) {
    let ballast = disk.join("ballast");
    // Page by page: rows are moved meanwhile, and take what was free a moment ago.
    let fill = |spare_bytes: u64| {
        let mut file = std::fs::File::create(&ballast).unwrap();
        while bytes_free(disk) >= spare_bytes && file.write_all(&[1; 4096]).is_ok() {}
    };
    let open = || DiskStore::open_with(&disk.join("data"), 1 << 30, Extent::All, 1 << 20).unwrap();
    let mut store = open();
    let mut kept = 0_u32;
    let mut put_until_full = |store: &mut DiskStore, most: u32| {
        for _ in 0..most {
            match put(store, &kept.to_be_bytes(), &vec![kept as u8; 9_000]) {
                Ok(()) => kept += 1,
                Err(StoreError::Full) => break,
                Err(e) => panic!("{e:?}"),
            }
        }
        let expected: Vec<_> = (0..kept).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 9_000])).collect();
        assert!(rows(store) == expected, "{kept} rows are there, and nothing else");
        kept
    };
    // Some rows in LMDB, some in the journal, and then room for less than the next ones need, or for nothing.
    let mut before = 0;
    for spare_bytes in [0, 100_000, 1_000_000, 3_000_000] {
        before = put_until_full(&mut store, 150);
        fill(spare_bytes);
        put_until_full(&mut store, 1000);
        drop(store);
        // A start on the full disk.
        store = open();
        put_until_full(&mut store, 10);
        std::fs::remove_file(&ballast).unwrap();
        let after = put_until_full(&mut store, 1);
        assert!(after > before, "it goes on");
    }
    assert!(before > 300, "{before}");
    put_until_full(&mut store, 100_000);
    drop(store);
    put_until_full(&mut open(), 0);
}
