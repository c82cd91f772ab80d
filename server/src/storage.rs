//! The engine's [`Store`] on disk, in one data directory that belongs to one process.
//!
//! A commit is one record of the [`journal`], flushed once. Its rows are then in memory ([`memory`]), over those in
//! [`lmdb`]. When a layer of memory has grown large it is put aside, the journal turns to its other file, and a thread
//! moves the layer's rows to LMDB by one transaction, which also says how far the journal's records are in it. After a
//! crash what is behind that is read from the journal and moved before anything else is done.
//!
//! Where room is short (in LMDB's map or on the disk), nothing is promised that could not be moved: then a transaction
//! goes straight to LMDB, behind what was put aside before, and LMDB says whether there is room. So does one that is
//! larger than a layer may be.
//!
//! A handle is cheap to clone; every clone may read, one of them (the writer thread's) writes.
//! What it must never do: let two processes into one directory, report a commit that is not durable, show a reader
//! anything but the state after one commit, or turn a full disk into a crash.

pub mod check;
mod journal;
mod lmdb;
mod lock;
mod memory;

use crate::options::entropy;
use check::Extent;
use journal::{Journal, Record};
use lmdb::{Lmdb, Reading};
use lock::Lock;
use memory::{Layer, Room};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use tanist_engine::db::store::*;

pub use journal::FILES as JOURNAL_FILES;
pub use lmdb::DATA_FILE;
pub use lock::Lock as DirectoryLock;

/// Address space set aside for the data file. The file itself grows only as it is filled.
pub const MAP_BYTES_DEFAULT: u64 = 64 << 30;

/// A layer of memory that is as large is moved to LMDB; a transaction that is larger goes there at once. What it costs:
/// up to six times as much memory and journal (two layers, each up to twice as large and a transaction more), and the
/// time to read that at a start; what it brings: rows that are written again and again are moved once.
pub const LAYER_BYTES: usize = 16 << 20;

/// Room on the disk and in the map that is left to LMDB beside the rows that are to be moved.
const ROOM_BYTES: u64 = 16 << 20;

/// Why a data directory could not be opened.
#[derive(Debug)]
pub enum OpenFailure {
    /// Another process has it.
    InUse(PathBuf),
    Corrupt(String),
    Io(String),
}

/// See the module's documentation.
#[derive(Clone)]
pub struct DiskStore {
    inner: Arc<Inner>,
}

struct Inner {
    rows: Arc<AllRows>,
    writer: Mutex<Writer>,
    /// Holds the directory until the last clone is gone.
    lock: Lock,
}

/// What readers see, and the thread that moves.
struct AllRows {
    lmdb: Lmdb,
    layers: Mutex<Layers>,
}

/// The layers over LMDB's rows. Taken together with the begin of a reading in LMDB, they are the state after one
/// commit: LMDB may hold rows of `aside` already, which changes nothing, and never any that are newer.
#[derive(Clone, Default)]
struct Layers {
    newest: Arc<Layer>,
    /// What is being moved to LMDB, or could not be.
    aside: Option<Arc<Layer>>,
}

struct Writer {
    journal: Journal,
    layer_bytes: usize,
    /// Number of the last transaction.
    last: u64,
    /// Of LMDB, when rows were last moved.
    bytes_in_use: u64,
    mover: Option<JoinHandle<StoreResult<()>>>,
    /// The disk failed; nobody knows what it holds, so nothing more is written.
    failed: Option<StoreError>,
}

impl DiskStore {
    /// Opens the store in `directory`, making both if they are not there.
    pub fn open(directory: &Path, map_bytes: u64, look: Extent) -> Result<DiskStore, OpenFailure> {
        DiskStore::open_with(directory, map_bytes, look, LAYER_BYTES)
    }

    /// The same, with another bound of what is held in memory; with 0 each transaction goes straight to LMDB.
    pub fn open_with(
        directory: &Path,
        map_bytes: u64,
        look: Extent,
        layer_bytes: usize,
    ) -> Result<DiskStore, OpenFailure> {
        std::fs::create_dir_all(directory)
            .map_err(|e| OpenFailure::Io(format!("{}: can't be created: {e}", directory.display())))?;
        let lock = Lock::take(directory)?;
        let lmdb = Lmdb::open(directory, map_bytes, look)?;
        let failure = |e: StoreError| lmdb::open_failure(directory, e);

        let (id, moved) = lmdb.journal().map_err(failure)?;
        let id = match id {
            Some(id) => id,
            None => {
                let id = entropy();
                lmdb.set_journal_id(&id).map_err(failure)?;
                id
            }
        };
        if moved.is_none() {
            Journal::create(directory, &id)?;
            lmdb.write(std::iter::empty(), 0).map_err(failure)?;
        }
        let mut found = Layer::default();
        let replay = |changes: journal::Changes| changes.for_each(|change| found.set(change));
        let (journal, last) = Journal::open(directory, &id, moved.unwrap_or(0), replay)?;
        let mut layers = Layers::default();
        if !found.is_empty() {
            match lmdb.write(found.changes(), last) {
                Ok(()) => {}
                // It can be read as it is; what is written next has to find room for this first.
                Err(StoreError::Full) => layers.aside = Some(Arc::new(found)),
                Err(e) => return Err(failure(e)),
            }
        }
        let bytes_in_use = lmdb.bytes_in_use().map_err(failure)?;
        let rows = Arc::new(AllRows { lmdb, layers: Mutex::new(layers) });
        let writer = Writer { journal, layer_bytes, last, bytes_in_use, mover: None, failed: None };
        Ok(DiskStore { inner: Arc::new(Inner { rows, writer: Mutex::new(writer), lock }) })
    }

    /// Writes down that this process has the directory; the nonce of the one before it, if that surely is dead.
    pub fn sign(&self, nonce: u128) -> Option<u128> {
        self.inner.lock.sign(nonce)
    }

    /// Bytes of the data file, and bytes it may grow to.
    pub fn size(&self) -> (u64, u64) {
        let lmdb = &self.inner.rows.lmdb;
        (lmdb.file_bytes(), lmdb.map_bytes())
    }
}

impl Drop for Inner {
    /// The directory is given up only when nobody writes to it any more.
    fn drop(&mut self) {
        if let Some(mover) = self.writer.get_mut().ok().and_then(|writer| writer.mover.take()) {
            let _ = mover.join();
        }
    }
}

enum Failure {
    Full,
    Other,
}

/// What a failed write to this directory means.
fn failure_of(directory: &Path, os_error: Option<i32>) -> Failure {
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    const EFBIG: i32 = 27;
    const EIO: i32 = 5;
    match os_error {
        Some(ENOSPC | EDQUOT | EFBIG) => Failure::Full,
        // LMDB says EIO when only a part of its pages could be written: on a full disk that is the first sign.
        Some(EIO) if bytes_free(directory) < ROOM_BYTES => Failure::Full,
        _ => Failure::Other,
    }
}

fn bytes_free(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

impl AllRows {
    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().expect("nobody panics with it")
    }

    fn view(&self) -> StoreResult<View<'_>> {
        let layers = self.layers();
        Ok(View { lmdb: &self.lmdb, txn: self.lmdb.read()?, layers: layers.clone() })
    }

    /// Moves what was put aside; `last` is the number of its last record.
    fn move_aside(&self, last: u64) -> StoreResult<()> {
        let aside = self.layers().aside.clone();
        if let Some(aside) = aside {
            self.lmdb.write(aside.changes(), last)?;
            self.layers().aside = None;
        }
        Ok(())
    }
}

impl Store for DiskStore {
    fn snapshot(&self) -> StoreResult<Box<dyn Snapshot + '_>> {
        Ok(Box::new(self.inner.rows.view()?))
    }

    fn begin(&mut self) -> StoreResult<Box<dyn Txn + '_>> {
        let writer = self.inner.writer.lock().expect("nobody panics with it");
        let rows = &self.inner.rows;
        Ok(Box::new(DiskTxn { view: rows.view()?, writer, rows, record: Record::new() }))
    }
}

/// The rows as they are after one commit; of a transaction, with its own.
struct View<'s> {
    lmdb: &'s Lmdb,
    txn: Reading<'s>,
    layers: Layers,
}

impl Read for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        check_key(key);
        if let Some(value) = self.layers.newest.get(table, key) {
            return Ok(value);
        }
        if let Some(value) = self.layers.aside.as_ref().and_then(|aside| aside.get(table, key)) {
            return Ok(value);
        }
        self.lmdb.get(&self.txn, table, key)
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        if is_empty_range(from, to) {
            return Box::new(std::iter::empty());
        }
        let range = (from, to);
        let mut rows = self.lmdb.scan(&self.txn, table, range, direction);
        if let Some(aside) = &self.layers.aside {
            rows = scan_changed(rows, aside.range(table, range), direction);
        }
        scan_changed(rows, self.layers.newest.range(table, range), direction)
    }
}

impl Snapshot for View<'_> {}

struct DiskTxn<'s> {
    view: View<'s>,
    writer: MutexGuard<'s, Writer>,
    rows: &'s Arc<AllRows>,
    record: Record,
}

impl DiskTxn<'_> {
    fn change(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        check_key(key);
        let change = self.record.add(table, key, value);
        Arc::make_mut(&mut self.view.layers.newest).set(change);
    }
}

impl Read for DiskTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        self.view.get(table, key)
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        self.view.scan(table, from, to, direction)
    }
}

impl Txn for DiskTxn<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> StoreResult<()> {
        self.change(table, key, Some(value));
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> StoreResult<()> {
        self.change(table, key, None);
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> StoreResult<()> {
        if self.record.is_empty() {
            return Ok(());
        }
        let DiskTxn { view, writer, rows, record } = &mut *self;
        writer.commit(rows, record, &view.layers.newest)
    }
}

impl Writer {
    /// Makes a transaction durable and shows it to readers: its record, and the newest layer with its rows.
    fn commit(&mut self, rows: &Arc<AllRows>, record: &mut Record, newest: &Arc<Layer>) -> StoreResult<()> {
        if self.mover.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_moving(rows);
        }
        self.sound()?;
        let aside = rows.layers().aside.clone();
        let stuck = aside.is_some() && self.mover.is_none();
        let room = aside.as_ref().map_or_else(Room::default, |aside| aside.room()) + newest.room();
        let large = record.bytes() > self.layer_bytes;
        if stuck || large || !self.has_room(&rows.lmdb, room) {
            return self.commit_to_lmdb(rows, record);
        }
        let appended = self.journal.append(self.last + 1, record);
        self.keep_failure(appended)?;
        self.last += 1;
        rows.layers().newest = newest.clone();
        self.put_aside(rows);
        Ok(())
    }

    /// Whether LMDB will have room for what is to be moved.
    fn has_room(&self, lmdb: &Lmdb, room: Room) -> bool {
        // A page that gets a new row is written anew while the old one still counts; all of them at most.
        let wanted = room.new_bytes + room.touched_bytes.min(self.bytes_in_use) + ROOM_BYTES;
        self.bytes_in_use + wanted <= lmdb.map_bytes() && wanted <= bytes_free(lmdb.directory())
    }

    /// Puts the newest layer aside if it is large and the one before is moved. A writer that is far ahead of the mover
    /// waits for it.
    fn put_aside(&mut self, rows: &Arc<AllRows>) {
        let bytes = rows.layers().newest.bytes();
        if bytes > 2 * self.layer_bytes {
            self.end_moving(rows);
        }
        let mut layers = rows.layers();
        if bytes <= self.layer_bytes || layers.aside.is_some() || self.mover.is_some() {
            return;
        }
        layers.aside = Some(std::mem::take(&mut layers.newest));
        drop(layers);
        self.journal.turn();
        let (moving, last) = (Arc::clone(rows), self.last);
        // If there is no thread to be had, the next commit moves it.
        self.mover = std::thread::Builder::new().name("mover".into()).spawn(move || moving.move_aside(last)).ok();
    }

    /// Waits for the mover, if there is one.
    fn end_moving(&mut self, rows: &AllRows) {
        let Some(mover) = self.mover.take() else { return };
        let moved = mover.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // For want of room it is tried again by the next commit.
        let counted = moved.and_then(|()| self.count(&rows.lmdb));
        let _ = self.keep_failure(counted);
    }

    /// Moves what is pending, then commits a transaction in LMDB, which has room for it or says that it has none.
    fn commit_to_lmdb(&mut self, rows: &AllRows, record: &Record) -> StoreResult<()> {
        self.end_moving(rows);
        self.sound()?;
        let committed = self.move_all(rows).and_then(|()| {
            rows.lmdb.write(record.changes(), self.last + 1)?;
            self.last += 1;
            self.count(&rows.lmdb)
        });
        self.keep_failure(committed)
    }

    fn move_all(&mut self, rows: &AllRows) -> StoreResult<()> {
        let Layers { newest, aside } = rows.layers().clone();
        if aside.is_some() || !newest.is_empty() {
            let older = aside.iter().flat_map(|aside| aside.changes());
            rows.lmdb.write(older.chain(newest.changes()), self.last)?;
            *rows.layers() = Layers::default();
        }
        self.journal.restart();
        Ok(())
    }

    fn count(&mut self, lmdb: &Lmdb) -> StoreResult<()> {
        self.bytes_in_use = lmdb.bytes_in_use()?;
        Ok(())
    }

    fn sound(&self) -> StoreResult<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn keep_failure(&mut self, result: StoreResult<()>) -> StoreResult<()> {
        if let Err(e) = &result
            && *e != StoreError::Full
        {
            self.failed = Some(e.clone());
        }
        result
    }
}

fn check_key(key: &[u8]) {
    assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
}

#[cfg(test)]
mod tests;
