//! LMDB (through heed): where the rows of all turns of the journal but the last ones are.
//!
//! One sparse map of a fixed size, a handful of named databases (one a [`Table`], and one for what the journal has to
//! know), reader slots that are not bound to threads.
//! What it must never do: turn a full disk into a crash, or hold the rows of a record without its number.

use super::check::{self, Extent};
use super::journal::Id;
use super::memory::Change;
use super::{Failure, OpenFailure, failure_of};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use std::fs::OpenOptions;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use tanist_engine::db::store::*;

/// Readers at one moment; more get an error, not a wait.
const READERS_MAX: u32 = 1024;

/// See [`check_length`].
pub const UNWRITTEN_PAGES_MAX: u64 = 64;

pub const DATA_FILE: &str = "data.mdb";

/// What the journal has to know, in a database of its own.
const JOURNAL: &str = "journal";
const ID: &[u8] = b"id";
const MOVED: &[u8] = b"moved";

type Env = heed::Env<WithoutTls>;
type Tree = Database<'static, Bytes, Bytes>;
pub type Reading<'s> = RoTxn<'s, WithoutTls>;

/// See the module's documentation.
pub struct Lmdb {
    env: Env,
    tables: [Tree; Table::ALL.len()],
    journal: Tree,
    directory: PathBuf,
}

impl Lmdb {
    /// Opens the data file in `directory`, or makes it.
    pub fn open(directory: &Path, map_bytes: u64, look: Extent) -> Result<Lmdb, OpenFailure> {
        let io =
            |what: &str, e: &dyn std::fmt::Display| OpenFailure::Io(format!("{}: {what}: {e}", directory.display()));
        let classify = |e: heed::Error| open_failure(directory, store_error(directory, &e));
        check_pages(&directory.join(DATA_FILE), look)?;
        let map_bytes = usize::try_from(map_bytes).map_err(|e| io("map size", &e))?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_bytes).max_dbs(Table::ALL.len() as u32 + 1).max_readers(READERS_MAX);
        // SAFETY: the file is mapped; nobody else changes it while the lock on the directory is held. Read-ahead is
        // off because keys are read at random once the data is larger than memory.
        let env = unsafe {
            options.flags(EnvFlags::NO_READ_AHEAD);
            options.open(directory).map_err(classify)?
        };
        check_length(&env, directory)?;
        let _ = env.clear_stale_readers();

        let tree = |name: &str| -> heed::Result<Tree> {
            let txn = env.write_txn()?;
            let created = env.create_databases_and_commit(txn, |opener, txn| {
                opener.create_database(txn, Some(name)).map(CommitOrAbort::<_, ()>::Commit)
            })?;
            Ok(created.unwrap_commit())
        };
        let tables: Vec<Tree> =
            Table::ALL.into_iter().map(|table| tree(table.name())).collect::<Result<_, _>>().map_err(classify)?;
        let tables = tables.try_into().unwrap_or_else(|_| unreachable!("as many as there are tables"));
        let journal = tree(JOURNAL).map_err(classify)?;
        Ok(Lmdb { env, tables, journal, directory: directory.into() })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn file_bytes(&self) -> u64 {
        self.env.real_disk_size().unwrap_or(0)
    }

    /// What the file may grow to.
    pub fn map_bytes(&self) -> u64 {
        self.env.info().map_size as u64
    }

    /// Bytes of the pages that hold something; the others are free for what comes.
    pub fn bytes_in_use(&self) -> StoreResult<u64> {
        let in_use = || -> heed::Result<usize> {
            let txn = self.env.read_txn()?;
            let trees = self.tables.iter().chain([&self.journal]);
            trees.map(|tree| Ok(tree.stat(&txn)?.non_free_page_size())).sum()
        };
        in_use().map(|bytes| bytes as u64).map_err(|e| self.fail(&e))
    }

    /// The id of the journal that belongs to this data, and, once its files are made, the number of the last record
    /// whose rows are here.
    pub fn journal(&self) -> StoreResult<(Option<Id>, Option<u64>)> {
        let txn = self.read()?;
        let get = |name| self.journal.get(&txn, name).map_err(|e| self.fail(&e));
        let whole = |(id, moved): (Option<&[u8]>, Option<&[u8]>)| {
            let id = id.map(Id::try_from).transpose().ok()?;
            let moved = moved.map(<[u8; 8]>::try_from).transpose().ok()?;
            Some((id, moved.map(u64::from_be_bytes)))
        };
        let file = self.directory.join(DATA_FILE);
        whole((get(ID)?, get(MOVED)?))
            .ok_or_else(|| StoreError::Corrupt(format!("{}: what it says of its journal", file.display())))
    }

    pub fn set_journal_id(&self, id: &Id) -> StoreResult<()> {
        self.commit(|txn| self.journal.put(txn, ID, id))
    }

    /// Writes rows and, with them, the number of the last record that they come from. Durable when it returns; nothing
    /// is kept if it fails.
    pub fn write<'a>(&self, changes: impl Iterator<Item = Change<'a>>, moved: u64) -> StoreResult<()> {
        self.commit(|txn| {
            for change in changes {
                let rows = &self.tables[change.table as usize];
                match change.value() {
                    Some(value) => rows.put(txn, change.key(), value)?,
                    None => rows.delete(txn, change.key()).map(drop)?,
                }
            }
            self.journal.put(txn, MOVED, &moved.to_be_bytes())
        })
    }

    fn commit(&self, change: impl FnOnce(&mut RwTxn) -> heed::Result<()>) -> StoreResult<()> {
        let committed = || {
            let mut txn = self.env.write_txn()?;
            change(&mut txn)?;
            txn.commit()
        };
        committed().map_err(|e| self.fail(&e))
    }

    pub fn read(&self) -> StoreResult<Reading<'_>> {
        self.env.read_txn().map_err(|e| self.fail(&e))
    }

    pub fn get<'a>(&self, txn: &'a Reading, table: Table, key: &[u8]) -> StoreResult<Option<&'a [u8]>> {
        self.tables[table as usize].get(txn, key).map_err(|e| self.fail(&e))
    }

    pub fn scan<'a>(
        &'a self,
        txn: &'a Reading,
        table: Table,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
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
        let range = (from, to);
        let rows = &self.tables[table as usize];
        match direction {
            Direction::Forward => match rows.range(txn, &range) {
                Ok(iterator) => Box::new(iterator.map(|row| row.map_err(|e| self.fail(&e)))),
                Err(e) => Box::new(std::iter::once(Err(self.fail(&e)))),
            },
            Direction::Backward => match rows.rev_range(txn, &range) {
                Ok(iterator) => Box::new(iterator.map(|row| row.map_err(|e| self.fail(&e)))),
                Err(e) => Box::new(std::iter::once(Err(self.fail(&e)))),
            },
        }
    }

    fn fail(&self, error: &heed::Error) -> StoreError {
        store_error(&self.directory, error)
    }
}

/// What a failure at the start means.
pub fn open_failure(directory: &Path, error: StoreError) -> OpenFailure {
    match error {
        StoreError::Corrupt(what) => OpenFailure::Corrupt(what),
        other => OpenFailure::Io(format!("{}: can't be opened: {other}", directory.display())),
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
    let code = match error {
        heed::Error::Io(e) => e.raw_os_error(),
        heed::Error::Mdb(MdbError::Other(code)) => Some(*code),
        _ => None,
    };
    match error {
        heed::Error::Mdb(MdbError::MapFull) => StoreError::Full,
        heed::Error::Mdb(
            MdbError::PageNotFound
            | MdbError::Corrupted
            | MdbError::Invalid
            | MdbError::VersionMismatch
            | MdbError::Incompatible
            | MdbError::CursorFull
            | MdbError::PageFull,
        ) => StoreError::Corrupt(format!("{}: {error}", directory.join(DATA_FILE).display())),
        _ => match failure_of(directory, code) {
            Failure::Full => StoreError::Full,
            Failure::Other => StoreError::Io(error.to_string()),
        },
    }
}
