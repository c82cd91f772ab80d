//! The Raft log in memory: a snapshot, and the entries around and after it.
//!
//! Entries behind the snapshot are kept for agents that lag a little (`compaction_keep`, and within a bound in bytes);
//! the snapshot is for those that lag more. Nothing here knows what is durable; that is `raft`'s concern.

use crate::mark;
use crate::message::raft::{LogEntry, Seat, Snapshot};
use crate::types::*;
use bytes::Bytes;
use std::collections::VecDeque;

#[derive(Clone, Debug, Hash)]
pub struct Log {
    pub snapshot: Snapshot,
    /// Index of `entries[0]`.
    first: u64,
    entries: VecDeque<LogEntry>,
    /// What the entries hold.
    bytes: usize,
}

impl Log {
    pub fn new(snapshot: Snapshot, saved: Vec<(u64, LogEntry)>) -> Log {
        let mut log = Log { first: snapshot.index + 1, entries: VecDeque::new(), bytes: 0, snapshot };
        let reaches = saved.last().is_some_and(|(last, _)| *last >= log.snapshot.index);
        let joins = saved.first().is_some_and(|(first, _)| *first <= log.snapshot.index + 1);
        assert!(!reaches || joins, "the saved log does not join its snapshot");
        if reaches {
            log.first = saved[0].0;
            for (index, entry) in saved {
                assert_eq!(index, log.last_index() + 1, "the saved log has a gap");
                log.append(entry);
            }
        }
        log
    }

    pub fn first_index(&self) -> u64 {
        self.first
    }

    pub fn last_index(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    pub fn last_term(&self) -> Term {
        self.term_at(self.last_index()).expect("the last entry or the snapshot has a term")
    }

    /// `None` if the log does not reach there, or no longer holds it.
    pub fn term_at(&self, index: u64) -> Option<Term> {
        match self.get(index) {
            Some(entry) => Some(entry.term),
            None => (index == self.snapshot.index).then_some(self.snapshot.term),
        }
    }

    pub fn get(&self, index: u64) -> Option<&LogEntry> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Entries from `from` on, at least one if there is one, and otherwise within the bounds.
    pub fn slice(&self, from: u64, count_max: usize, bytes_max: usize) -> Vec<LogEntry> {
        let mut bytes = 0;
        let mut out = Vec::new();
        let mut index = from;
        while let Some(entry) = self.get(index) {
            bytes += entry.data.len();
            if out.len() >= count_max || (bytes > bytes_max && !out.is_empty()) {
                break;
            }
            out.push(entry.clone());
            index += 1;
        }
        out
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last entries with their indexes, within the bounds.
    pub fn tail(&self, count_max: usize, bytes_max: usize) -> impl Iterator<Item = (u64, &LogEntry)> {
        let end = self.last_index();
        let from = self.first_within(end, bytes_max).max((end + 1).saturating_sub(count_max as u64));
        (from..=end).filter_map(|index| self.get(index).map(|entry| (index, entry)))
    }

    /// From where on the entries up to `last` hold no more than `bytes_max`; `last + 1` if not even that one does.
    pub fn first_within(&self, last: u64, bytes_max: usize) -> u64 {
        let mut bytes = 0;
        let mut first = last + 1;
        while let Some(entry) = self.get(first - 1) {
            bytes += entry.data.len();
            if bytes > bytes_max {
                break;
            }
            first -= 1;
        }
        first
    }

    pub fn append(&mut self, entry: LogEntry) -> u64 {
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
        self.last_index()
    }

    pub fn truncate_from(&mut self, index: u64) {
        assert!(index > self.snapshot.index, "what a snapshot covers is committed");
        let removed = self.entries.drain((index - self.first) as usize..);
        self.bytes -= removed.map(|entry| entry.data.len()).sum::<usize>();
    }

    /// Whether a snapshot is due once everything up to `applied` is applied: after so many entries, or when they hold
    /// more than twice of what may be kept.
    pub fn wants_snapshot(&self, applied: u64, step: u64, keep_bytes: usize) -> bool {
        let heavy = self.bytes > 2 * keep_bytes && applied > self.snapshot.index;
        heavy || applied >= self.snapshot.index + step
    }

    /// Takes a snapshot of entries that are here, and keeps so many of them, within so many bytes, behind it. Returns
    /// up to where the rest was forgotten.
    pub fn compact(&mut self, index: u64, seats: Vec<Seat>, state: Bytes, keep: u64, keep_bytes: usize) -> Option<u64> {
        assert!(index > self.snapshot.index);
        let term = self.term_at(index).expect("an applied entry after the snapshot is in the log");
        self.snapshot = Snapshot { index, term, seats, state };
        let light = self.first_within(index, keep_bytes) - 1;
        let to = index.saturating_sub(keep).max(light);
        (to >= self.first).then(|| {
            mark!(AgencyLogCompacted);
            self.compact_to(to);
            to
        })
    }

    /// Forgets entries up to and including `index`, which the snapshot must cover.
    pub fn compact_to(&mut self, index: u64) {
        assert!(index <= self.snapshot.index);
        while self.first <= index
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry.data.len();
            self.first += 1;
        }
    }

    /// Replaces everything.
    pub fn reset(&mut self, snapshot: Snapshot) {
        self.first = snapshot.index + 1;
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = snapshot;
    }

    /// The first index of the run of entries that have the term of the entry at `index`.
    pub fn first_of_term_at(&self, index: u64) -> u64 {
        let term = self.term_at(index);
        let mut first = index;
        while first > self.first && self.term_at(first - 1) == term {
            first -= 1;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of these terms after a snapshot of everything up to `index`; each holds ten bytes.
    fn log(index: u64, terms: &[u64]) -> Log {
        let snapshot = Snapshot { index, term: Term(2), ..Snapshot::default() };
        let entry = |term: &u64| LogEntry { term: Term(*term), data: Bytes::from_static(b"0123456789") };
        Log::new(snapshot, (index + 1..).zip(terms.iter().map(entry)).collect())
    }

    #[test]
    fn what_is_handed_out_is_bounded_by_count_and_bytes() {
        let log = log(5, &[3; 6]);
        for (from, count_max, bytes_max, count) in [
            (6, 9, 1000, 6),
            (6, 3, 1000, 3),
            (6, 9, 30, 3),
            (6, 9, 29, 2),
            (6, 9, 0, 1),
            (11, 9, 1000, 1),
            (12, 9, 1000, 0),
        ] {
            assert_eq!(log.slice(from, count_max, bytes_max).len(), count, "{from} {count_max} {bytes_max}");
        }
        let tail = |count_max, bytes_max| log.tail(count_max, bytes_max).map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!((tail(2, 1000), tail(9, 30), tail(9, 29)), (vec![10, 11], vec![9, 10, 11], vec![10, 11]));
        assert_eq!((tail(9, 1000).len(), tail(9, 9), tail(0, 1000)), (6, vec![], vec![]));
        assert_eq!((log.first_within(8, 20), log.first_within(8, 19), log.first_within(8, 9)), (7, 8, 9));
        assert_eq!((log.first_within(8, 1000), log.first_index(), log.bytes()), (6, 6, 60));
    }

    #[test]
    fn a_run_of_one_term_begins_where_the_term_changes() {
        let log = log(5, &[3, 3, 4, 4, 4]);
        assert_eq!([10, 9, 8, 7, 6].map(|index| log.first_of_term_at(index)), [8, 8, 8, 6, 6]);
        assert_eq!((log.last_term(), self::log(5, &[]).last_term()), (Term(4), Term(2)));
    }

    #[test]
    fn the_bytes_are_those_of_the_entries_that_are_there() {
        let mut log = log(5, &[3; 6]);
        log.truncate_from(10);
        assert_eq!((log.last_index(), log.bytes()), (9, 40));
        log.snapshot.index = 7;
        log.compact_to(7);
        assert_eq!((log.first_index(), log.last_index(), log.bytes()), (8, 9, 20));
        log.append(LogEntry { term: Term(4), data: Bytes::from_static(b"x") });
        assert_eq!((log.last_index(), log.bytes()), (10, 21));
        log.reset(Snapshot { index: 20, term: Term(4), ..Snapshot::default() });
        assert_eq!((log.first_index(), log.last_index(), log.bytes()), (21, 20, 0));
    }
}
