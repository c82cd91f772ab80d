//! The engine's [`Store`] over LMDB (through heed), in one data directory that belongs to one process.
//!
//! One sparse map of a fixed size, a handful of named databases (one a [`Table`]), reader slots that are not bound to
//! threads. A handle is cheap to clone; every clone may read, one of them (the writer thread's) writes.
//! What it must never do: let two processes into one directory, report a commit that is not durable, or turn a full
//! disk into a crash.

pub mod check;

use check::Extent;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tanist_engine::db::store::*;

/// Address space set aside for the data file. The file itself grows only as it is filled.
pub const MAP_BYTES_DEFAULT: u64 = 64 << 30;

/// Readers at one moment; more get an error, not a wait.
const READERS_MAX: u32 = 1024;

/// See [`check_length`].
const UNWRITTEN_PAGES_MAX: u64 = 64;

pub const DATA_FILE: &str = "data.mdb";
const LOCK_FILE: &str = "LOCK";

type Env = heed::Env<WithoutTls>;
type Tree = Database<'static, Bytes, Bytes>;

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
pub struct HeedStore {
    env: Env,
    tables: [Tree; Table::ALL.len()],
    directory: Arc<Path>,
    /// Holds the directory until the last clone is gone.
    _lock: Arc<File>,
}

impl HeedStore {
    /// Opens the store in `directory`, making both if they are not there.
    pub fn open(directory: &Path, map_bytes: u64, look: Extent) -> Result<HeedStore, OpenFailure> {
        let io =
            |what: &str, e: &dyn std::fmt::Display| OpenFailure::Io(format!("{}: {what}: {e}", directory.display()));
        std::fs::create_dir_all(directory).map_err(|e| io("can't be created", &e))?;
        let lock = lock(directory)?;
        let corrupt = |e: &heed::Error| OpenFailure::Corrupt(format!("{}: {e}", directory.join(DATA_FILE).display()));
        let classify = |e: heed::Error| match store_error(directory, &e) {
            StoreError::Corrupt(_) => corrupt(&e),
            _ => io("can't be opened", &e),
        };
        check_pages(&directory.join(DATA_FILE), look)?;
        let map_bytes = usize::try_from(map_bytes).map_err(|e| io("map size", &e))?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes).max_dbs(Table::ALL.len() as u32).max_readers(READERS_MAX);
        // SAFETY: the file is mapped; nobody else changes it while the lock on the directory is held. Read-ahead is
        // off because keys are read at random once the data is larger than memory.
        let env = unsafe {
            options.flags(EnvFlags::NO_READ_AHEAD);
            options.open(directory).map_err(classify)?
        };
        check_length(&env, directory)?;
        let _ = env.clear_stale_readers();

        let tree = |table: Table| -> heed::Result<Tree> {
            let txn = env.write_txn()?;
            let created = env.create_databases_and_commit(txn, |opener, txn| {
                opener.create_database(txn, Some(table.name())).map(CommitOrAbort::<_, ()>::Commit)
            })?;
            Ok(created.unwrap_commit())
        };
        let tables: Vec<Tree> = Table::ALL.into_iter().map(tree).collect::<Result<_, _>>().map_err(classify)?;
        let tables = tables.try_into().unwrap_or_else(|_| unreachable!("as many as there are tables"));
        Ok(HeedStore { env, tables, directory: directory.into(), _lock: Arc::new(lock) })
    }

    /// Bytes of the data file in use, and bytes it may grow to.
    pub fn size(&self) -> (u64, u64) {
        (self.env.real_disk_size().unwrap_or(0), self.env.info().map_size as u64)
    }

    fn fail(&self, error: &heed::Error) -> StoreError {
        store_error(&self.directory, error)
    }
}

/// Takes the directory for this process; the lock goes with the process, however it ends.
pub fn lock(directory: &Path) -> Result<File, OpenFailure> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| OpenFailure::Io(format!("{}: can't be opened: {e}", path.display())))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenFailure::InUse(directory.to_owned())),
        Err(e) => Err(OpenFailure::Io(format!("{}: can't be locked: {e}", path.display()))),
    }
}

fn check_pages(path: &Path, look: Extent) -> Result<(), OpenFailure> {
    let began = std::time::Instant::now();
    let checked = check::check(path, look).map_err(|failure| match failure {
        check::Failure::Damaged(what) => OpenFailure::Corrupt(format!("{}: {what}", path.display())),
        check::Failure::Io(e) => OpenFailure::Io(format!("{}: can't be read: {e}", path.display())),
    })?;
    let (pages, took_ms) = (checked.pages, began.elapsed().as_millis());
    tracing::debug!("{pages} pages of {} are sound ({took_ms} ms)", path.display());
    if !checked.whole {
        tracing::info!("of {} only {pages} pages were checked (--database.check-at-start true: all)", path.display());
    }
    Ok(())
}

/// A page beyond the end of the file would end the process by SIGBUS. LMDB leaves a few pages unwritten at the very end
/// now and then, because they are free; more than a few are missing only if the file was cut short.
fn check_length(env: &Env, directory: &Path) -> Result<(), OpenFailure> {
    let page_bytes = env.unnamed_database_stat().page_size as u64;
    let wanted = (env.info().last_page_number as u64 + 1) * page_bytes;
    let path = directory.join(DATA_FILE);
    let io = |e: std::io::Error| OpenFailure::Io(format!("{}: {e}", path.display()));
    let length = std::fs::metadata(&path).map_err(io)?.len();
    if length + UNWRITTEN_PAGES_MAX * page_bytes < wanted {
        let what = format!("{}: cut short: {length} bytes, {wanted} are needed", path.display());
        return Err(OpenFailure::Corrupt(what));
    }
    if length < wanted {
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(wanted)).map_err(io)?;
    }
    Ok(())
}

/// What a failure of LMDB means to the engine.
fn store_error(directory: &Path, error: &heed::Error) -> StoreError {
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    const EFBIG: i32 = 27;
    const EIO: i32 = 5;
    let code = match error {
        heed::Error::Io(e) => e.raw_os_error(),
        heed::Error::Mdb(MdbError::Other(code)) => Some(*code),
        _ => None,
    };
    match (error, code) {
        (heed::Error::Mdb(MdbError::MapFull), _) | (_, Some(ENOSPC | EDQUOT | EFBIG)) => StoreError::Full,
        // LMDB says EIO when only a part of its pages could be written: on a full disk that is the first sign.
        (_, Some(EIO)) if nearly_full(directory) => StoreError::Full,
        (
            heed::Error::Mdb(
                MdbError::PageNotFound
                | MdbError::Corrupted
                | MdbError::Invalid
                | MdbError::VersionMismatch
                | MdbError::Incompatible
                | MdbError::CursorFull
                | MdbError::PageFull,
            ),
            _,
        ) => StoreError::Corrupt(format!("{}: {error}", directory.join(DATA_FILE).display())),
        _ => StoreError::Io(error.to_string()),
    }
}

fn nearly_full(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) < 16 << 20)
}

impl Store for HeedStore {
    fn snapshot(&self) -> StoreResult<Box<dyn Snapshot + '_>> {
        let txn = self.env.read_txn().map_err(|e| self.fail(&e))?;
        Ok(Box::new(HeedSnapshot { store: self, txn }))
    }

    fn begin(&mut self) -> StoreResult<Box<dyn Txn + '_>> {
        let txn = self.env.write_txn().map_err(|e| self.fail(&e))?;
        Ok(Box::new(HeedTxn { store: self, txn }))
    }
}

struct HeedSnapshot<'s> {
    store: &'s HeedStore,
    txn: RoTxn<'s, WithoutTls>,
}

struct HeedTxn<'s> {
    store: &'s HeedStore,
    txn: RwTxn<'s>,
}

impl Read for HeedSnapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        get(self.store, &self.txn, table, key)
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        scan(self.store, &self.txn, table, from, to, direction)
    }
}

impl Snapshot for HeedSnapshot<'_> {}

impl Read for HeedTxn<'_> {
    fn get(&self, table: Table, key: &[u8]) -> StoreResult<Option<&[u8]>> {
        get(self.store, &self.txn, table, key)
    }

    fn scan<'a>(&'a self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> Rows<'a> {
        scan(self.store, &self.txn, table, from, to, direction)
    }
}

impl Txn for HeedTxn<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> StoreResult<()> {
        check_key(key);
        let rows = self.store.tables[table as usize];
        rows.put(&mut self.txn, key, value).map_err(|e| self.store.fail(&e))
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> StoreResult<()> {
        check_key(key);
        let rows = self.store.tables[table as usize];
        rows.delete(&mut self.txn, key).map(drop).map_err(|e| self.store.fail(&e))
    }

    fn commit(self: Box<Self>) -> StoreResult<()> {
        let store = self.store;
        self.txn.commit().map_err(|e| store.fail(&e))
    }
}

fn check_key(key: &[u8]) {
    assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
}

fn get<'a>(store: &HeedStore, txn: &'a RoTxn, table: Table, key: &[u8]) -> StoreResult<Option<&'a [u8]>> {
    check_key(key);
    store.tables[table as usize].get(txn, key).map_err(|e| store.fail(&e))
}

fn scan<'a>(
    store: &'a HeedStore,
    txn: &'a RoTxn,
    table: Table,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    direction: Direction,
) -> Rows<'a> {
    // LMDB knows no empty keys and none beyond its limit; as bounds both mean something.
    let from = match from {
        Bound::Included([]) | Bound::Excluded([]) => Bound::Unbounded,
        Bound::Included(key) | Bound::Excluded(key) if key.len() > KEY_BYTES_MAX => {
            Bound::Excluded(&key[..KEY_BYTES_MAX])
        }
        other => other,
    };
    let to = match to {
        Bound::Included([]) | Bound::Excluded([]) => return Box::new(std::iter::empty()),
        Bound::Included(key) | Bound::Excluded(key) if key.len() > KEY_BYTES_MAX => {
            Bound::Included(&key[..KEY_BYTES_MAX])
        }
        other => other,
    };
    let rows = &store.tables[table as usize];
    let range = (from, to);
    match direction {
        Direction::Forward => match rows.range(txn, &range) {
            Ok(iterator) => Box::new(iterator.map(|row| row.map_err(|e| store.fail(&e)))),
            Err(e) => Box::new(std::iter::once(Err(store.fail(&e)))),
        },
        Direction::Backward => match rows.rev_range(txn, &range) {
            Ok(iterator) => Box::new(iterator.map(|row| row.map_err(|e| store.fail(&e)))),
            Err(e) => Box::new(std::iter::once(Err(store.fail(&e)))),
        },
    }
}

#[cfg(test)]
mod tests;
