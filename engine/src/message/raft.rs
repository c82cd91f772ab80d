//! What agents say to each other (forming the pool, and Raft), and what Raft keeps on disk.

use super::{Peer, largest};
use crate::types::*;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Raft {
    Gossip(Gossip),
    Consensus(Box<Consensus>),
}

/// A place in the pool. The disk belongs to the identity: an agent whose directory was wiped is another one (R11).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    pub peer: Peer,
    pub disk: StoreId,
}

/// While the pool forms: whom the sender knows of, itself included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gossip {
    pub size: u32,
    pub disk: StoreId,
    pub known: Vec<Seat>,
    /// `known` is full and durable at the sender: it will never agree to another set.
    pub settled: bool,
    /// The sender wants an answer; false for an answer.
    pub asks: bool,
}

/// A message of Raft. Votes and acknowledgements of a disk that has no seat are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consensus {
    /// The agency that the sender belongs to: the least of its founders' disks.
    pub agency: StoreId,
    pub disk: StoreId,
    /// The sender's term; of a pre-vote and of its favourable answer, the term that is asked about.
    pub term: Term,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// `pre`: "would you vote for me?", which changes nothing. `transfer`: the leader itself asked for this election.
    RequestVote { pre: bool, transfer: bool, last_index: u64, last_term: Term },
    /// `silence`: of a vote that is given, how long ago its giver last heard a leader, led itself, or was started.
    VoteReply { pre: bool, granted: bool, silence: Duration },
    /// Entries right after `prev_index`; without any, a heartbeat. `round` is echoed (see `agency::raft`).
    Append { prev_index: u64, prev_term: Term, entries: Vec<LogEntry>, commit: u64, round: u64 },
    /// Everything up to `matched` is durable and the same as the leader's. `conflict`: the log does not hold
    /// `prev_index` as the leader has it; try again from this index.
    AppendReply { matched: u64, conflict: Option<u64>, round: u64 },
    /// A piece of the snapshot of everything up to `index`; `seats` is the configuration there.
    Snapshot { index: u64, index_term: Term, seats: Vec<Seat>, total: u64, offset: u64, piece: Bytes, round: u64 },
    /// The next piece wanted begins at `offset`.
    SnapshotReply { index: u64, offset: u64, round: u64 },
    /// "Campaign now": the leader is about to stop.
    TimeoutNow,
}

impl Body {
    /// The largest of the numbers that the receiver counts on from.
    pub(super) fn largest_number(&self) -> u64 {
        match self {
            Body::RequestVote { last_index, last_term, .. } => largest(&[*last_index, last_term.0]),
            Body::VoteReply { .. } | Body::TimeoutNow => 0,
            Body::Append { prev_index, prev_term, entries, commit, round } => {
                let terms = entries.iter().map(|entry| entry.term.0).max().unwrap_or(0);
                largest(&[*prev_index, prev_term.0, terms, *commit, *round])
            }
            Body::AppendReply { matched, conflict, round } => largest(&[*matched, conflict.unwrap_or(0), *round]),
            Body::Snapshot { index, index_term, total, offset, round, .. } => {
                largest(&[*index, index_term.0, *total, *offset, *round])
            }
            Body::SnapshotReply { index, offset, round } => largest(&[*index, *offset, *round]),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogEntry {
    pub term: Term,
    /// Empty for the entry that begins a term; a configuration ([`encode_configuration`]) or a command otherwise.
    pub data: Bytes,
}

/// A row of an agent's, or an entry, as it is kept.
pub fn encode(row: &(impl Serialize + ?Sized)) -> Bytes {
    postcard::to_allocvec(row).expect("plain data can be encoded").into()
}

/// What a configuration begins with, and a command never does (no enum has so many variants).
const CONFIGURATION: u8 = 0xff;

/// The data of an entry that says who has a voice from there on.
pub fn encode_configuration(seats: &[Seat]) -> Bytes {
    [&[CONFIGURATION], &encode(seats)[..]].concat().into()
}

/// The seats, if the entry's data is a configuration.
pub fn configuration(data: &[u8]) -> Option<Vec<Seat>> {
    let seats = data.strip_prefix(&[CONFIGURATION])?;
    Some(postcard::from_bytes(seats).expect("a readable configuration"))
}

/// What a term's promises rest on: the row [`META_HARD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    pub term: Term,
    pub vote: Option<NodeId>,
}

/// The state machine as of `index`, encoded: the row [`META_SNAPSHOT`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot {
    pub index: u64,
    pub term: Term,
    /// The configuration there.
    pub seats: Vec<Seat>,
    pub state: Bytes,
}

pub const META_HARD: &str = "raft.hard";
pub const META_SNAPSHOT: &str = "raft.snapshot";
pub const META_POOL: &str = "pool";

/// How far the pool has come: the row [`META_POOL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedPool {
    /// Who founded the pool; none if this agent joined it.
    pub founders: Vec<Seat>,
    pub formed: bool,
    pub agency: Option<StoreId>,
    /// Where agents were found that have moved.
    pub book: Vec<Peer>,
}

/// A change to an agent's disk, made in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Persist {
    /// Opaque rows to put into (or, `None`, remove from) the agent's meta rows: hard state, pool, snapshot.
    pub meta: Vec<(&'static str, Option<Bytes>)>,
    /// Remove log entries at this index and above, before anything is appended.
    pub truncate_from: Option<u64>,
    /// Remove log entries up to and including this index.
    pub compact_to: Option<u64>,
    /// Log entries to append: index and encoded entry.
    pub entries: Vec<(u64, Bytes)>,
}

/// All of it, as found at start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SavedRaft {
    pub hard: HardState,
    pub snapshot: Snapshot,
    pub pool: SavedPool,
    /// In index order.
    pub entries: Vec<(u64, LogEntry)>,
}

impl SavedRaft {
    /// Takes a meta row as it was persisted. `Err` says what can't be read.
    pub fn take_meta(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        match name {
            META_HARD => self.hard = parse(bytes, "the agency's votes")?,
            META_SNAPSHOT => self.snapshot = parse(bytes, "the agency's snapshot")?,
            META_POOL => self.pool = parse(bytes, "the agency's pool")?,
            other => return Err(format!("the agency knows no row '{other}'")),
        }
        Ok(())
    }

    /// Takes the next entry of the log as it was persisted.
    pub fn take_entry(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        let entry: LogEntry = parse(bytes, "an entry of the agency's log")?;
        if let Some(seats) = entry.data.strip_prefix(&[CONFIGURATION]) {
            parse::<Vec<Seat>>(seats, "a configuration in the agency's log")?;
        }
        self.entries.push((index, entry));
        Ok(())
    }
}

/// All of the bytes, or it is of another format.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(format!("{what} can't be read")),
    }
}
