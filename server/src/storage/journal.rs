//! What makes a commit durable: one record, written at the end of a file and flushed once.
//!
//! Two files take turns. While one is being written, the rows of the other's records are moved to LMDB; when they are
//! there, its place is free again and the next turn begins at its start. So a file grows to what a turn needs and stays
//! that long: to write over what is there costs one flush of data, to make a file longer costs the file system a
//! second one (about half of the commits a second, measured on ext4).
//!
//! A file begins with a header (magic, the id of the data file that it belongs to, checksum). Records follow, each
//! padded to 8 bytes: length (4), checksum (4), sequence number (8), changes. A change is: what is done (1), table (1),
//! length of the key (2), length of the value (4), key, value. Sequence numbers are consecutive, so what
//! is left of an earlier turn behind the last record of this one is known by its lower number.
//!
//! What it must never do: report a record that is not durable; take a file of other data for its own, or cut one that
//! it can't read; pass over a record that was durable. The last record may be torn, because nobody was told of it; a
//! damaged one with a later one behind it, or one that is missing in the sequence, is an error.

use super::memory::Change;
use super::{Failure, OpenFailure, failure_of};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tanist_engine::db::store::{StoreError, StoreResult, Table};

pub const FILES: [&str; 2] = ["journal.0", "journal.1"];

/// Names the data file that a journal belongs to; drawn when they are made.
pub type Id = [u8; 16];

const MAGIC: [u8; 8] = *b"TANISTJ\x01";
const HEADER_BYTES: u64 = 32;
const RECORD_HEADER_BYTES: usize = 16;
const ALIGNMENT: usize = 8;
/// By how much a file is made longer.
const GROWTH_BYTES: u64 = 1 << 20;

/// The changes of one transaction, as they are written.
pub struct Record {
    /// Begins with room for the record's header.
    bytes: Vec<u8>,
}

impl Record {
    pub fn new() -> Record {
        Record { bytes: vec![0; RECORD_HEADER_BYTES] }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == RECORD_HEADER_BYTES
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a change; `None` removes. Returns it as it lies in the record.
    pub fn add(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Change<'_> {
        let removed = value.is_none();
        let value = value.unwrap_or_default();
        let key_length = u16::try_from(key.len()).expect("a key of the store");
        let value_length = u32::try_from(value.len()).expect("a value of less than 4 GiB");
        self.bytes.extend([u8::from(removed), table as u8]);
        self.bytes.extend(key_length.to_le_bytes());
        self.bytes.extend(value_length.to_le_bytes());
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        Change { table, row: &self.bytes[begin..], key_length, removed }
    }

    /// What was added, in that order.
    pub fn changes(&self) -> Changes<'_> {
        Changes(&self.bytes[RECORD_HEADER_BYTES..])
    }

    /// Closes it under its number; what it returns is written as it is.
    fn seal(&mut self, sequence: u64) -> &[u8] {
        self.bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        let length = u32::try_from(self.bytes.len()).expect("larger transactions do not come here");
        let checksum = crc32fast::hash(&self.bytes[8..]);
        self.bytes[0..4].copy_from_slice(&length.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        &self.bytes
    }
}

/// The changes in the body of a record. Ends early at what can't be a change, which a checksum rules out.
pub struct Changes<'a>(&'a [u8]);

impl<'a> Changes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        let [removed, table] = self.take(2)?.try_into().ok()?;
        let table = *Table::ALL.get(usize::from(table))?;
        let key_length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        let value_length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        let row = self.take(usize::from(key_length) + value_length as usize)?;
        Some(Change { table, row, key_length, removed: removed != 0 })
    }
}

/// One of the two files.
struct Segment {
    file: File,
    path: PathBuf,
    length: u64,
}

/// See the module's documentation.
pub struct Journal {
    segments: [Segment; 2],
    current: usize,
    /// Where the next record goes in the current file.
    end: u64,
}

impl Journal {
    /// Makes both files for new data. What an interrupted creation left is made again; a file that belongs to other
    /// data is left alone.
    pub fn create(directory: &Path, id: &Id) -> Result<(), OpenFailure> {
        for name in FILES {
            let path = directory.join(name);
            let io = |e: std::io::Error| OpenFailure::Io(format!("{}: can't be made: {e}", path.display()));
            match std::fs::read(&path) {
                Ok(bytes) => belongs(&path, &bytes, id)?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(io(e)),
            }
            // Under another name until it is whole: a file with this name always has its header.
            let unfinished = path.with_extension("new");
            let mut file = File::create(&unfinished).map_err(io)?;
            file.write_all(&header(id)).and_then(|()| file.sync_all()).map_err(io)?;
            std::fs::rename(&unfinished, &path).map_err(io)?;
        }
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|e| OpenFailure::Io(format!("{}: can't be synced: {e}", directory.display())))
    }

    /// Opens the files of the data with this id and hands out, in order, the records after `moved`, the last one whose
    /// rows are in LMDB. Returns the number of the last record. Nothing in the files is changed.
    pub fn open(
        directory: &Path,
        id: &Id,
        moved: u64,
        mut replay: impl FnMut(Changes<'_>),
    ) -> Result<(Journal, u64), OpenFailure> {
        let mut contents = Vec::new();
        let mut segments = Vec::new();
        for name in FILES {
            let path = directory.join(name);
            let io = |e: std::io::Error| OpenFailure::Io(format!("{}: can't be read: {e}", path.display()));
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    let what = format!("{} is missing: what was written last may be in it", path.display());
                    return Err(OpenFailure::Corrupt(what));
                }
                Err(e) => return Err(io(e)),
            };
            belongs(&path, &bytes, id)?;
            let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
            segments.push(Segment { file, path, length: bytes.len() as u64 });
            contents.push(bytes);
        }
        let mut chains = Vec::new();
        for (segment, bytes) in segments.iter().zip(&contents) {
            chains.push(chain(&segment.path, bytes, moved)?);
        }
        chains.sort_by_key(|chain| chain.first().map(|found| found.sequence));
        let mut last = moved;
        for found in chains.into_iter().flatten().filter(|found| found.sequence > moved) {
            if found.sequence != last + 1 {
                let what = format!(
                    "{}: of the journal, the records from {} to {} are missing",
                    directory.display(),
                    last + 1,
                    found.sequence - 1
                );
                return Err(OpenFailure::Corrupt(what));
            }
            last = found.sequence;
            replay(Changes(found.body));
        }
        let segments = segments.try_into().unwrap_or_else(|_| unreachable!("as many as there are names"));
        Ok((Journal { segments, current: 0, end: HEADER_BYTES }, last))
    }

    /// Writes a record behind the last one; returns when it is durable. Full: nothing was written that counts.
    pub fn append(&mut self, sequence: u64, record: &mut Record) -> StoreResult<()> {
        let bytes = record.seal(sequence);
        let segment = &mut self.segments[self.current];
        let end = self.end + bytes.len() as u64;
        segment.reach(end).map_err(|e| segment.error(&e))?;
        segment.file.write_all_at(bytes, self.end).map_err(|e| segment.error(&e))?;
        // After a failed flush nobody knows what the disk holds, so it is never a full disk.
        segment.file.sync_data().map_err(|e| StoreError::Io(format!("{}: {e}", segment.path.display())))?;
        self.end = end;
        Ok(())
    }

    /// The rows of all records in the other file are in LMDB: the next record begins it anew.
    pub fn turn(&mut self) {
        self.current = 1 - self.current;
        self.end = HEADER_BYTES;
    }

    /// The rows of all records in both files are in LMDB: the next record begins a file anew.
    pub fn restart(&mut self) {
        self.end = HEADER_BYTES;
    }
}

impl Segment {
    /// Makes the file long enough, with blocks of its own: what is written over them later can't be refused for want
    /// of room.
    fn reach(&mut self, end: u64) -> std::io::Result<()> {
        if end > self.length {
            let length = end.next_multiple_of(GROWTH_BYTES);
            self.file.write_all_at(&vec![0; (length - self.length) as usize], self.length)?;
            self.length = length;
        }
        Ok(())
    }

    fn error(&self, error: &std::io::Error) -> StoreError {
        let directory = self.path.parent().expect("a file in a directory");
        match failure_of(directory, error.raw_os_error()) {
            Failure::Full => StoreError::Full,
            Failure::Other => StoreError::Io(format!("{}: {error}", self.path.display())),
        }
    }
}

fn header(id: &Id) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..24].copy_from_slice(id);
    let checksum = crc32fast::hash(&header[0..24]);
    header[24..28].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Whether a file is a journal of the data with this id.
fn belongs(path: &Path, bytes: &[u8], id: &Id) -> Result<(), OpenFailure> {
    if bytes.starts_with(&header(id)) {
        return Ok(());
    }
    let own = bytes.get(8..24).and_then(|found| found.try_into().ok()).map(header);
    let what = match own {
        Some(whole) if bytes.starts_with(&whole) => "belongs to other data than the data file beside it",
        _ => "is no journal, or its begin is damaged",
    };
    Err(OpenFailure::Corrupt(format!("{} {what}", path.display())))
}

struct Found<'a> {
    sequence: u64,
    body: &'a [u8],
}

/// The record at the begin of some bytes, if a whole one with a wanted number is there, and its length with padding.
fn record_at(bytes: &[u8], wanted: impl Fn(u64) -> bool) -> Option<(Found<'_>, usize)> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    let length = u32::from_le_bytes(header[0..4].try_into().ok()?) as usize;
    let checksum = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let sequence = u64::from_le_bytes(header[8..16].try_into().ok()?);
    if length < RECORD_HEADER_BYTES || !wanted(sequence) {
        return None;
    }
    let checked = bytes.get(8..length)?;
    if crc32fast::hash(checked) != checksum {
        return None;
    }
    Some((Found { sequence, body: &bytes[RECORD_HEADER_BYTES..length] }, length.next_multiple_of(ALIGNMENT)))
}

/// The records of the last turn of a file.
fn chain<'a>(path: &Path, bytes: &'a [u8], moved: u64) -> Result<Vec<Found<'a>>, OpenFailure> {
    let mut found: Vec<Found> = Vec::new();
    let mut rest = bytes.get(HEADER_BYTES as usize..).unwrap_or_default();
    while let Some((record, length)) = record_at(rest, |_| true) {
        if found.last().is_some_and(|last| record.sequence != last.sequence + 1) {
            break;
        }
        found.push(record);
        rest = rest.get(length..).unwrap_or_default();
    }
    // Behind the last record lies a torn one, what an earlier turn left, or nothing. What an earlier turn left was
    // moved; a later record is there only if the one before it was durable, and then that one is damaged.
    let last = found.last().map_or(moved, |last| last.sequence.max(moved));
    let possible = last + 1..=last.saturating_add(bytes.len() as u64);
    let mut behind = (ALIGNMENT..rest.len()).step_by(ALIGNMENT);
    match behind.find_map(|at| record_at(&rest[at..], |sequence| possible.contains(&sequence))) {
        Some((later, _)) => {
            let what = format!("{}: a record before number {} is damaged", path.display(), later.sequence);
            Err(OpenFailure::Corrupt(what))
        }
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests;
