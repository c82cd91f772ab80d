//! All that one node says to another.
//!
//! Plain data, postcard on the wire, behind a version byte. A message names its sender; whether it is believed is the
//! receiver's decision. Losing, repeating, delaying or reordering any message must never break a promise: whoever
//! needs an answer asks again.

pub mod raft;

use crate::http::{Request, Response};
use crate::types::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// First byte of every encoded envelope. A peer of another version is refused with a clear log line.
pub const VERSION: u8 = 3;

/// Bound on one encoded envelope.
pub const ENVELOPE_BYTES_MAX: usize = 64 << 20;

/// Terms, epochs, indexes and other counters beyond this are refused: counting never gets there, and so adding to one
/// never overflows.
const NUMBER_MAX: u64 = 1 << 62;

/// A node as others address it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    pub id: NodeId,
    pub endpoint: Endpoint,
}

/// A message with its sender. `to` guards against an address that has changed hands: a node drops what names another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Envelope {
    pub from: Peer,
    pub to: Option<NodeId>,
    pub message: Message,
}

impl Envelope {
    pub fn encode(&self) -> Vec<u8> {
        // Most fit into this, so that they need not move while they grow.
        let mut bytes = Vec::with_capacity(512);
        bytes.push(VERSION);
        postcard::to_extend(self, bytes).expect("an envelope can be encoded")
    }

    pub fn decode(bytes: &[u8]) -> Result<Envelope, String> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                let envelope: Envelope =
                    postcard::from_bytes(rest).map_err(|e| format!("malformed peer message: {e}"))?;
                match envelope.message.largest_number() {
                    0..=NUMBER_MAX => Ok(envelope),
                    number => Err(format!("a peer message of {} holds the number {number}", envelope.from.id)),
                }
            }
            Some((other, _)) => Err(format!("peer message of version {other}, this node speaks {VERSION}")),
            None => Err("empty peer message".into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    // Agents among themselves.
    Raft(raft::Raft),

    // Servers to the agency. An agent that does not lead answers `NotLeader`.
    Register(Register),
    /// Answers `AreYouThere`.
    IAmThere {
        question: u64,
        register: Register,
    },
    Beat(Beat),
    Report(Report),
    Release(Release),
    SetInSync(SetInSync),
    /// An agency request on behalf of a server, with the server's number for the answer.
    Call {
        call: u64,
        request: Request,
    },

    // The agency to servers.
    /// A known server registers as a new process: only one that lives answers.
    AreYouThere {
        nonce: Nonce,
        question: u64,
    },
    Registered(Registered),
    /// This process can't be a member: another deployment, a lower epoch than the data has seen, … (R11). With nonce
    /// 0 it answers a beat of a server that the agency does not know.
    RegisterRefused {
        nonce: Nonce,
        reason: String,
    },
    /// A later process has registered under this server's identity: the one of that boot is no member any more.
    Superseded {
        boot: Boot,
        by: Peer,
    },
    BeatReply(BeatReply),
    /// The leadership record has changed: pushed to every live server, so that nobody waits for a beat.
    Lead(Leadership),
    Freeze(Freeze),
    NotLeader {
        leader: Option<Peer>,
    },
    Answer {
        call: u64,
        response: Response,
    },

    // Servers among themselves: the follower asks, the leader ships.
    Follow(Follow),
    Append(Append),
    Acknowledge(Acknowledge),
    Diverged(Diverged),
    /// The follower is behind the leader's log and must copy a snapshot: where it starts.
    SnapshotOffer(SnapshotOffer),
    SnapshotRequest(SnapshotRequest),
    SnapshotPiece(SnapshotPiece),
    /// "I do not lead in that epoch": the follower asks the agency again.
    NotServing {
        epoch: Epoch,
    },
}

fn largest(numbers: &[u64]) -> u64 {
    numbers.iter().copied().max().unwrap_or(0)
}

impl Message {
    /// The largest of the numbers that the receiver counts on from.
    fn largest_number(&self) -> u64 {
        let position = |p: &Position| p.epoch.0.max(p.tick.0);
        let rows = |history: &[EpochRow]| history.iter().map(|row| row.epoch.0.max(row.first.0)).max().unwrap_or(0);
        let copy = |id: &SnapshotId| id.epoch.0.max(id.boot.0).max(id.number);
        let in_sync = |in_sync: &InSync| position(&in_sync.floor).max(in_sync.lag);
        let lead = |lead: &Leadership| {
            let boot = lead.leader.as_ref().map_or(0, |leader| leader.boot.0);
            largest(&[lead.index, lead.epoch.0, boot, in_sync(&lead.in_sync)])
        };
        match self {
            Message::Raft(raft::Raft::Gossip(_)) => 0,
            Message::Raft(raft::Raft::Consensus(consensus)) => consensus.term.0.max(consensus.body.largest_number()),
            Message::Register(m) | Message::IAmThere { register: m, .. } => m.seen.0,
            Message::Beat(m) => {
                let rollback = |r: &RollbackSummary| largest(&[r.epoch.0, position(&r.common), position(&r.end)]);
                let rollbacks = m.rollbacks.iter().map(rollback).max().unwrap_or(0);
                let epochs = m.renew.max(m.matched).unwrap_or_default().0;
                largest(&[m.boot.0, m.seq, epochs, position(&m.last), m.seen.0, rollbacks])
            }
            Message::Report(m) => largest(&[m.term.0, m.epoch.0, m.boot.0, position(&m.last), m.seen.0]),
            Message::Release(m) => largest(&[m.boot.0, m.epoch.0, position(&m.last)]),
            Message::SetInSync(m) => largest(&[m.boot.0, m.epoch.0, m.index, in_sync(&m.in_sync)]),
            Message::Call { call, .. } | Message::Answer { call, .. } => *call,
            Message::Registered(Registered { boot, .. }) | Message::Superseded { boot, .. } => boot.0,
            Message::AreYouThere { .. } | Message::RegisterRefused { .. } | Message::NotLeader { .. } => 0,
            Message::BeatReply(m) => {
                let grant = m.grant.map_or(0, |grant| grant.boot.0.max(grant.epoch.0));
                largest(&[m.seq, lead(&m.lead), grant])
            }
            Message::Lead(m) => lead(m),
            Message::Freeze(m) => m.term.0.max(m.epoch.0),
            Message::Follow(m) => {
                let of_copy = m.copy.as_ref().map_or(0, copy);
                largest(&[m.epoch.0, m.boot.0, position(&m.last), rows(&m.history), of_copy])
            }
            Message::Append(m) => {
                let entries = m.entries.iter().map(|entry| position(&entry.position())).max().unwrap_or(0);
                largest(&[m.epoch.0, m.boot.0, position(&m.prev), entries, position(&m.leader_last)])
            }
            Message::Acknowledge(m) => largest(&[m.epoch.0, m.boot.0, position(&m.durable)]),
            Message::Diverged(m) => largest(&[m.epoch.0, m.boot.0, position(&m.last), position(&m.common)]),
            Message::SnapshotOffer(m) => largest(&[copy(&m.id), position(&m.start), rows(&m.history)]),
            Message::SnapshotRequest(m) => copy(&m.id),
            Message::SnapshotPiece(m) => copy(&m.id).max(position(&m.exact_at)),
            Message::NotServing { epoch } => epoch.0,
        }
    }
}

// ---- servers and the agency -----------------------------------------------------------------------------------------

/// A process introduces itself; repeated until `Registered` or `RegisterRefused` with its nonce comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Register {
    pub nonce: Nonce,
    /// Of the process that had the data before: it surely is dead, for this one has what only one can have (R4).
    pub ended: Option<Nonce>,
    pub store: StoreId,
    /// The deployment that the data belongs to, if it ever joined one.
    pub deployment: Option<DeploymentId>,
    /// The highest epoch that the data has seen.
    pub seen: Epoch,
    pub advertised: Option<Endpoint>,
    pub host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registered {
    pub nonce: Nonce,
    pub boot: Boot,
    pub deployment: DeploymentId,
    pub timing: Timing,
}

/// A server's sign of life, and a leader's request to renew its lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Beat {
    pub boot: Boot,
    /// The server's own number for this beat; it remembers when it sent it, and counts a grant from then.
    pub seq: u64,
    /// The epoch whose lease is to be renewed; `None` for a follower.
    pub renew: Option<Epoch>,
    /// It could serve in that epoch as it sent this: some grant had reached it in time, and the epoch has begun.
    pub serves: bool,
    pub last: Position,
    pub seen: Epoch,
    /// The leader that this server follows or believes in, as ArangoDB's `AsyncReplication/<id>` shows it.
    pub leader: Option<NodeId>,
    /// False until the first copy is finished: such a store is never chosen.
    pub complete: bool,
    /// Its storage has refused more for lack of room than it has written since.
    pub full: bool,
    /// False from the moment the process begins to stop.
    pub staying: bool,
    /// The epoch whose log this store's has been matched with; its own, for a leader.
    pub matched: Option<Epoch>,
    /// What matching has cost this store, the latest last; told once the match is established.
    pub rollbacks: Vec<RollbackSummary>,
}

/// What a store had to give up to be matched with the log of `epoch`: the entries after `common` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RollbackSummary {
    pub epoch: Epoch,
    pub common: Position,
    pub end: Position,
    /// Changes of documents, collections and databases in these entries.
    pub operations: u64,
    /// The store was replaced by a copy and is kept whole: `common` is the highest that it can have been, and nothing
    /// was counted.
    pub whole: bool,
}

impl RollbackSummary {
    pub fn ticks(&self) -> u64 {
        self.end.tick.0.saturating_sub(self.common.tick.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BeatReply {
    pub seq: u64,
    pub lead: Leadership,
    pub grant: Option<Grant>,
    pub read_only: bool,
    /// All agents, the leading one first.
    pub agents: Vec<Peer>,
    pub members: Vec<Member>,
}

/// The right to serve in `epoch` for `lease`·(1 − ε) from when the beat was *sent*, on the server's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    pub boot: Boot,
    pub epoch: Epoch,
    pub timing: Timing,
}

/// The authoritative record of leadership, as of a committed agency entry. `index` orders two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leadership {
    pub index: u64,
    pub epoch: Epoch,
    /// `None` between depose and elect.
    pub leader: Option<Leader>,
    /// Set while a planned hand-over waits: the leader releases once this server has what it has.
    pub successor: Option<NodeId>,
    /// Who besides the leader has what was acknowledged; between depose and elect, the deposed leader, too.
    pub in_sync: InSync,
}

/// R6: the replicas that have everything that was acknowledged, but for the last `lag` operations. Without members,
/// nothing is promised of what was acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InSync {
    pub members: Vec<Replica>,
    /// Each member has everything up to here: one that reports less has lost its data.
    pub floor: Position,
    /// What is acknowledged may be ahead of the members by so many operations (R15); 0 if they are synchronous.
    pub lag: u64,
}

impl InSync {
    pub fn has(&self, replica: &Replica) -> bool {
        self.members.contains(replica)
    }

    /// The members, for people.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.members.iter().map(|member| member.server.to_string()).collect();
        if names.is_empty() { "nobody".into() } else { names.join(", ") }
    }
}

/// A server with its data: on another disk it is somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    pub server: NodeId,
    pub store: StoreId,
}

/// The leader wants another in-sync set. Only in the place of the record that it names by its index, so that none that
/// is late or repeated counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SetInSync {
    pub boot: Boot,
    pub epoch: Epoch,
    pub index: u64,
    pub in_sync: InSync,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leader {
    pub peer: Peer,
    pub boot: Boot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    Good,
    Bad,
    Failed,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Good => "GOOD",
            Health::Bad => "BAD",
            Health::Failed => "FAILED",
        }
    }
}

/// A registered server as the agency leader sees it, for `/_api/cluster/endpoints` and the like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    pub peer: Peer,
    pub advertised: Option<Endpoint>,
    pub short_name: String,
    pub health: Health,
    pub last: Position,
}

/// R5: "the epoch before `epoch` is over; make that durable, then say how far you have come." `term` and `epoch` name
/// the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Freeze {
    pub term: Term,
    pub epoch: Epoch,
}

/// The answer to a freeze, sent only when "seen `epoch`" is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    pub term: Term,
    pub epoch: Epoch,
    pub boot: Boot,
    pub store: StoreId,
    pub complete: bool,
    pub last: Position,
    /// The highest epoch this store had seen before the freeze: the next one must be above it (R11).
    pub seen: Epoch,
}

/// R12: after sending this the process never serves in that epoch again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    pub boot: Boot,
    pub epoch: Epoch,
    pub last: Position,
    /// Who should be preferred as the next leader, if it reports as much as anybody.
    pub successor: Option<NodeId>,
}

// ---- replication ----------------------------------------------------------------------------------------------------

/// One entry of the replication log. `payload` is a transaction of the document engine; nobody else looks into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    pub epoch: Epoch,
    pub tick: Tick,
    pub payload: Bytes,
    /// CRC-32 over epoch, tick and payload: names a corrupt entry, and verifies a common point (R7).
    pub checksum: u32,
}

impl Entry {
    pub fn new(epoch: Epoch, tick: Tick, payload: Bytes) -> Entry {
        let checksum = Entry::sum(epoch, tick, &payload);
        Entry { epoch, tick, payload, checksum }
    }

    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, tick: self.tick }
    }

    pub fn intact(&self) -> bool {
        self.checksum == Entry::sum(self.epoch, self.tick, &self.payload)
    }

    fn sum(epoch: Epoch, tick: Tick, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&epoch.0.to_le_bytes());
        hasher.update(&tick.0.to_le_bytes());
        hasher.update(payload);
        hasher.finalize()
    }
}

/// A follower presents itself to the leader of `epoch` and asks for what comes after `last`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Follow {
    pub epoch: Epoch,
    pub boot: Boot,
    pub store: StoreId,
    pub last: Position,
    /// Checksum of the entry at `last` (0 for an empty log or one that begins with a snapshot's position).
    pub last_checksum: u32,
    pub history: Vec<EpochRow>,
    /// False for a store whose first copy is not finished: it needs a snapshot whatever its position.
    pub complete: bool,
    /// Set if `last` and `history` are those of this copy, all of whose rows have arrived.
    pub copy: Option<SnapshotId>,
}

/// Entries right after `prev`. Without entries it is a heartbeat that tells how far the leader is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Append {
    pub epoch: Epoch,
    pub boot: Boot,
    pub prev: Position,
    pub entries: Vec<Entry>,
    /// The leader's last position when it sent this.
    pub leader_last: Position,
    /// The latest acknowledgement that the leader had received then, while it held its lease: whatever anybody was told
    /// is written before that was sent, `leader_last` includes.
    pub answers: Option<u64>,
}

/// "Everything up to `durable` is durable here." Counts only in the epoch it names, from the follower's current boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acknowledge {
    pub epoch: Epoch,
    pub boot: Boot,
    pub store: StoreId,
    pub durable: Position,
    /// In the copy that it builds beside its data.
    pub in_copy: bool,
    /// The follower's own number for this question; it remembers when it asked.
    pub seq: u64,
    /// Somebody waits for the answer.
    pub asks: bool,
}

/// R7: the logs agree up to `common` and no further; the follower undoes the rest and asks again. Only the answer to
/// the question it has just asked may do that: `last` is the end of the log that the question presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Diverged {
    pub epoch: Epoch,
    pub boot: Boot,
    pub last: Position,
    pub common: Position,
}

/// Which copy a piece belongs to: dropped when any part changes (R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    pub epoch: Epoch,
    pub boot: Boot,
    pub number: u64,
}

/// The leader's catalog and history as of `start`. Rows are then copied while the leader goes on writing; the log from
/// `start` on, applied over them, makes the copy exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotOffer {
    pub id: SnapshotId,
    pub start: Position,
    pub start_checksum: u32,
    pub history: Vec<EpochRow>,
    /// Catalog rows, encoded by the document engine.
    pub catalog: Bytes,
}

/// Asks for the rows after `cursor` (empty at first).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotRequest {
    pub id: SnapshotId,
    pub cursor: Bytes,
}

/// Rows after `cursor`. The last piece has no `next` and says up to where the log must be applied for the copy to be
/// exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotPiece {
    pub id: SnapshotId,
    pub cursor: Bytes,
    pub rows: Bytes,
    pub next: Option<Bytes>,
    pub exact_at: Position,
}
