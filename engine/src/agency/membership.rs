//! Who has a voice in the agency, and how that changes while it runs.
//!
//! A configuration is a set of seats: agents with their disks (R11). It is an entry of the log, and holds for an agent
//! from the moment at which the entry is in its log, committed or not. The founders' configuration is in no entry: each
//! of them has it from forming the pool. Snapshots carry the configuration as of their index.
//!
//! **One agent at a time.** A leader appends a configuration only if it differs from the former by one seat, if the
//! former is committed, and if an entry of the leader's own term is committed. So of any two configurations that can
//! elect or commit next to one another one differs from the other by at most one seat, and every majority of the one
//! shares an agent with every majority of the other. (Without the last condition two leaders in turn could each append
//! a change to the same configuration, and these two may share no agent.) A new agent first catches up as a
//! learner: it is sent everything and counts for nothing, neither for commits, votes, rounds, nor a leader's quorum.
//!
//! **Why leases stay safe** (R1, R2, I5). A lease is granted after a majority of the leader's present configuration has
//! echoed a round, and after an entry of its own term is applied. Let L grant so in configuration C, and let N be the
//! first leader, by term, after L's. N's log has L's applied entry, for a majority that committed it shares an agent
//! with the majority that elected N. So N's configuration is C, or the one before C if C's entry was not committed, or
//! the one that L appended after: a neighbour of C in each case. Hence some agent echoed L's round *and* voted for N;
//! it takes nothing from L's term after its vote, so it echoed before. The grant was confirmed by an echo sent before
//! N's election, and N waits a whole D from its election. Any later leader was elected after N, or shares N's
//! neighbourhood in the same way. A removed agent's echoes count for nobody who knows of the removal, and whoever does
//! not know of it is in the place of L above.
//!
//! **Who stands for election** has a seat in some configuration that may hold: its latest, or an earlier one if it does
//! not know the later to be committed. A leader that has appended its own removal and is the only one to have it could
//! else block the agency for ever: the others need its vote, which it owes to nobody with a shorter log. As always it
//! needs a majority of its latest configuration, in which it does not count itself.
//!
//! Never: two changes at once; a learner that counts; an agent that campaigns after its removal is known to be
//! committed.

use super::log::Log;
use crate::message::raft::{LogEntry, Seat, configuration};
use crate::types::*;

#[derive(Clone, Debug, Hash)]
pub struct Configurations {
    /// By index, ascending and never empty: the one that the snapshot (or the founding) stands for, then those in the
    /// log.
    stack: Vec<(u64, Vec<Seat>)>,
    /// Counts changes, for those who keep something that depends on it.
    version: u64,
}

impl Configurations {
    pub fn new(founders: &[Seat], log: &Log) -> Configurations {
        let snapshot = &log.snapshot;
        let first = if snapshot.seats.is_empty() { founders.to_vec() } else { snapshot.seats.clone() };
        let mut configurations = Configurations { stack: vec![(snapshot.index, first)], version: 1 };
        for index in snapshot.index + 1..=log.last_index() {
            if let Some(entry) = log.get(index) {
                configurations.appended(index, entry);
            }
        }
        configurations
    }

    pub fn latest(&self) -> &[Seat] {
        &self.stack.last().expect("never empty").1
    }

    /// Where the latest stands in the log.
    pub fn latest_index(&self) -> u64 {
        self.stack.last().expect("never empty").0
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// The one that holds once everything up to `index` is in the log.
    pub fn at(&self, index: u64) -> &[Seat] {
        let found = self.stack.iter().rev().find(|(at, _)| *at <= index);
        &found.or(self.stack.first()).expect("never empty").1
    }

    /// Those that may hold if all up to `commit` is decided, and perhaps more.
    pub fn undecided(&self, commit: u64) -> impl Iterator<Item = &[Seat]> {
        let first = self.stack.iter().rposition(|(at, _)| *at <= commit).unwrap_or(0);
        self.stack[first..].iter().map(|(_, seats)| seats.as_slice())
    }

    /// True if the entry is a configuration.
    pub fn appended(&mut self, index: u64, entry: &LogEntry) -> bool {
        let Some(seats) = configuration(&entry.data) else { return false };
        self.stack.push((index, seats));
        self.version += 1;
        true
    }

    pub fn truncated_from(&mut self, index: u64) -> bool {
        // The first is older than anything that can be taken back.
        let keep = self.stack.partition_point(|(at, _)| *at < index).max(1);
        let changed = keep < self.stack.len();
        self.stack.truncate(keep);
        self.version += u64::from(changed);
        changed
    }

    /// A snapshot stands for everything up to `index`.
    pub fn compacted(&mut self, index: u64) {
        let keep = self.stack.iter().rposition(|(at, _)| *at <= index).unwrap_or(0);
        self.stack.drain(..keep);
        if let Some(first) = self.stack.first_mut() {
            first.0 = first.0.min(index);
        }
    }

    /// A snapshot replaces everything.
    pub fn reset(&mut self, index: u64, seats: Vec<Seat>) {
        self.stack = vec![(index, seats)];
        self.version += 1;
    }
}

/// Whether this very disk has a seat.
pub fn is_seated(seats: &[Seat], id: NodeId, disk: StoreId) -> bool {
    seats.iter().any(|seat| seat.peer.id == id && seat.disk == disk)
}

pub fn majority(seats: &[Seat]) -> usize {
    seats.len() / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Peer;
    use crate::message::raft::{Snapshot, encode_configuration};
    use bytes::Bytes;

    fn seats(ids: &[u128]) -> Vec<Seat> {
        let seat = |id: &u128| Seat {
            peer: Peer {
                id: NodeId { kind: NodeKind::Agent, uuid: *id },
                endpoint: Endpoint::parse(&format!("tcp://a{id}:1")).unwrap(),
            },
            disk: StoreId(*id + 100),
        };
        ids.iter().map(seat).collect()
    }

    #[test]
    fn the_latest_in_the_log_holds_and_goes_with_it() {
        let founders = seats(&[1]);
        let data = |ids: &[u128]| encode_configuration(&seats(ids));
        let entry = |data: Bytes| LogEntry { term: Term(1), data };
        let saved = [Bytes::new(), data(&[1, 2]), Bytes::from_static(b"x"), data(&[1, 2, 3])];
        let saved = (1..).zip(saved.map(entry)).collect();
        let log = Log::new(Snapshot::default(), saved);
        let mut configurations = Configurations::new(&founders, &log);
        assert_eq!((configurations.latest(), configurations.latest_index()), (&seats(&[1, 2, 3])[..], 4));
        for (index, ids) in [(0, &[1][..]), (1, &[1]), (2, &[1, 2]), (3, &[1, 2]), (4, &[1, 2, 3]), (9, &[1, 2, 3])] {
            assert_eq!(configurations.at(index), seats(ids), "{index}");
        }
        let version = configurations.version();
        assert!(configurations.truncated_from(4) && !configurations.truncated_from(3));
        assert_eq!((configurations.latest(), configurations.version()), (&seats(&[1, 2])[..], version + 1));
        configurations.compacted(3);
        assert_eq!((configurations.latest(), configurations.latest_index()), (&seats(&[1, 2])[..], 2));
        assert!(!configurations.truncated_from(1), "what a snapshot stands for is not taken back");
        configurations.reset(9, seats(&[5]));
        assert_eq!((configurations.latest(), configurations.at(3)), (&seats(&[5])[..], &seats(&[5])[..]));
        assert!(is_seated(&seats(&[5]), seats(&[5])[0].peer.id, StoreId(105)));
        assert!(!is_seated(&seats(&[5]), seats(&[5])[0].peer.id, StoreId(106)), "another disk is another agent");
        assert_eq!([1, 2, 3, 4, 5].map(|n| majority(&seats(&[1, 2, 3, 4, 5])[..n])), [1, 2, 2, 3, 3]);
    }
}
