//! The leader's side: for each follower, compare once, then push entries as they commit.
//!
//! Keeps the newest entries in memory so that a follower that is nearly there costs no read; older ones are read from
//! the log in pieces. What a follower is sent is bounded by a window of unacknowledged messages, so that under load
//! entries gather into larger messages by themselves. Acknowledgements count only in this epoch, and only from the
//! process and store that was compared. This part must never treat "sent" as "durable there".

use super::Pace;
use crate::io::{Comparison, Cx, Event, Op, OpId, OpResult, Severity, Wake};
use crate::mark;
use crate::message::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Unacknowledged append messages to one follower.
const WINDOW: usize = 4;
/// Bound on the entries kept in memory.
const RECENT_BYTES_MAX: usize = 16 << 20;
/// Followers served at once; one more is told nothing.
const FOLLOWERS_MAX: usize = 64;

/// Ships the log of one epoch.
#[derive(Clone, Hash)]
pub struct Leader {
    epoch: Epoch,
    boot: Boot,
    pace: Pace,
    chunk_bytes: usize,
    last: Position,
    recent: Recent,
    followers: BTreeMap<NodeId, Follower>,
    tenure: Tenure,
    /// Reads under way, and for whom.
    ops: BTreeMap<OpId, NodeId>,
    snapshots: u64,
}

/// Until when this leader knows that nobody else leads: its lease, as it was granted last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tenure {
    pub end: Time,
    pub sent: Now,
    pub slack: Duration,
}

impl Tenure {
    fn holds(&self, now: Now) -> bool {
        now.time < self.end && now.apart(self.sent) <= self.slack
    }
}

#[derive(Clone, Hash)]
struct Follower {
    peer: Peer,
    boot: Boot,
    store: StoreId,
    /// What it has acknowledged as durable in its data: in a copy that it builds beside them does not count.
    in_data: Position,
    /// What it has acknowledged as durable, wherever.
    durable: Position,
    /// The end of what was sent.
    sent: Position,
    /// Ends of the append messages that are not acknowledged.
    unacknowledged: VecDeque<Position>,
    /// Its latest question.
    asked: Option<u64>,
    /// When something was last heard of it.
    heard: Time,
    /// When it was last sent something, or made progress.
    active: Time,
    work: Work,
}

/// What each message of the leader says of itself.
#[derive(Clone, Copy)]
struct Terms {
    epoch: Epoch,
    boot: Boot,
    last: Position,
    /// Nobody else leads at this moment.
    leads: bool,
}

#[derive(Clone, Hash)]
enum Work {
    Comparing,
    /// The match is established: entries after `sent` may go.
    Streaming {
        reading: bool,
    },
    BeginningSnapshot,
    /// Rows are handed out on request.
    Snapshot {
        offer: SnapshotOffer,
        reading: bool,
    },
}

impl Leader {
    /// `last` is the entry that began the epoch.
    pub fn new(epoch: Epoch, boot: Boot, last: Position, timing: &Timing, chunk_bytes: usize) -> Leader {
        Leader {
            epoch,
            boot,
            pace: Pace::of(timing),
            chunk_bytes,
            last,
            recent: Recent::default(),
            followers: BTreeMap::new(),
            tenure: Tenure::default(),
            ops: BTreeMap::new(),
            snapshots: 0,
        }
    }

    /// An entry of this epoch is durable here.
    pub fn committed(&mut self, cx: &mut Cx, entry: Entry) {
        assert!(entry.epoch == self.epoch, "only entries of our own epoch are committed");
        assert!(entry.tick.0 == self.last.tick.0 + 1, "ticks have no gaps");
        self.last = entry.position();
        self.recent.push(entry);
        self.pump_all(cx);
    }

    pub fn last(&self) -> Position {
        self.last
    }

    /// What each follower is known to have, for status calls.
    pub fn durable(&self) -> Vec<(Peer, Position)> {
        self.followers.values().map(|f| (f.peer.clone(), f.durable)).collect()
    }

    /// A follower that has everything, in data that are in use.
    pub fn who_has_all(&self) -> Option<NodeId> {
        self.followers.values().find(|f| f.in_data == self.last).map(|f| f.peer.id)
    }

    pub fn durable_at(&self, follower: NodeId) -> Option<Position> {
        self.followers.get(&follower).map(|f| f.in_data)
    }

    /// What a replica is known to have, while it follows.
    pub fn durable_of(&self, replica: &Replica) -> Option<Position> {
        let follower = self.followers.get(&replica.server)?;
        (follower.store == replica.store).then_some(follower.in_data)
    }

    /// Whoever is sent entries as they come, and what each is known to have.
    pub fn streaming(&self) -> impl Iterator<Item = (Replica, Position)> {
        let streams = |f: &&Follower| matches!(f.work, Work::Streaming { .. });
        let replica = |f: &Follower| (Replica { server: f.peer.id, store: f.store }, f.in_data);
        self.followers.values().filter(streams).map(replica)
    }

    /// The oldest entry that a connected follower still needs.
    pub fn needed_from(&self) -> Tick {
        let need = |f: &Follower| match &f.work {
            Work::Snapshot { offer, .. } => offer.start.tick.0 + 1,
            Work::BeginningSnapshot => 0,
            Work::Comparing | Work::Streaming { .. } => f.durable.tick.0 + 1,
        };
        Tick(self.followers.values().map(need).min().unwrap_or(u64::MAX))
    }

    // ---- what followers say -----------------------------------------------------------------------------------------

    pub fn follow(&mut self, cx: &mut Cx, from: &Peer, follow: Follow) {
        if follow.epoch != self.epoch {
            cx.send(from, Message::NotServing { epoch: follow.epoch });
            return;
        }
        let known = self.followers.len();
        let follower = match self.followers.get_mut(&from.id) {
            Some(follower) => follower,
            None if known >= FOLLOWERS_MAX => {
                cx.note(Event::Says(Severity::Warn, format!("{} is one follower too many", from.id).into()));
                return;
            }
            None => self.followers.entry(from.id).or_insert_with(|| Follower {
                peer: from.clone(),
                boot: follow.boot,
                store: follow.store,
                in_data: Position::ZERO,
                durable: Position::ZERO,
                sent: Position::ZERO,
                unacknowledged: VecDeque::new(),
                asked: None,
                heard: cx.now.time,
                active: cx.now.time,
                work: Work::Streaming { reading: false },
            }),
        };
        follower.heard = cx.now.time;
        follower.peer = from.clone();
        if follow.boot < follower.boot {
            // Said by a process that is gone.
            return mark!(FollowerOfOldProcess);
        }
        match &follower.work {
            // It asks again because it has not heard the answer: one comparison at a time, for one process.
            Work::Comparing | Work::BeginningSnapshot if follower.boot == follow.boot => return,
            // Its question crossed our offer, or the offer was lost.
            Work::Snapshot { offer, .. } if follow.copy.is_none() && follower.boot == follow.boot => {
                mark!(OfferRepeated);
                let offer = offer.clone();
                cx.send(from, Message::SnapshotOffer(offer));
                return;
            }
            _ => {}
        }
        follower.asked = None;
        follower.boot = follow.boot;
        if follow.store != follower.store {
            follower.in_data = Position::ZERO;
        }
        follower.store = follow.store;
        follower.work = Work::Comparing;
        let op = cx.start(Op::Compare(follow));
        self.ops.insert(op, from.id);
    }

    pub fn acknowledge(&mut self, cx: &mut Cx, from: &Peer, ack: &Acknowledge) {
        let Some(follower) = self.followers.get_mut(&from.id) else { return };
        if ack.epoch != self.epoch || (ack.boot, ack.store) != (follower.boot, follower.store) {
            return;
        }
        if ack.durable.tick > self.last.tick || !matches!(follower.work, Work::Streaming { .. }) {
            return;
        }
        follower.heard = cx.now.time;
        if !ack.in_copy || planted!(copy_counts_as_data) {
            follower.in_data = follower.in_data.max(ack.durable);
        }
        if ack.durable > follower.durable {
            follower.durable = ack.durable;
            follower.active = cx.now.time;
        }
        while follower.unacknowledged.front().is_some_and(|end| *end <= ack.durable) {
            follower.unacknowledged.pop_front();
        }
        follower.sent = follower.sent.max(follower.durable);
        follower.asked = Some(ack.seq);
        let before = cx.out.len();
        self.pump(cx, from.id);
        if ack.asks && cx.out.len() == before {
            self.tell(cx, from.id);
        }
    }

    pub fn snapshot_request(&mut self, cx: &mut Cx, from: &Peer, request: SnapshotRequest) {
        let bytes_max = self.chunk_bytes;
        match self.followers.get_mut(&from.id) {
            Some(Follower { work: Work::Snapshot { offer, reading }, heard, .. }) if offer.id == request.id => {
                *heard = cx.now.time;
                if !*reading {
                    *reading = true;
                    let (id, start, cursor) = (offer.id, offer.start, request.cursor);
                    let op = cx.start(Op::SnapshotRead { id, start, cursor, bytes_max });
                    self.ops.insert(op, from.id);
                }
            }
            // We no longer know this copy: it has to begin anew.
            _ => {
                mark!(SnapshotUnknown);
                cx.send(from, Message::NotServing { epoch: request.id.epoch });
            }
        }
    }

    // ---- what our reads brought -------------------------------------------------------------------------------------

    /// Takes the result of a read that this part started; `false` if it was somebody else's.
    pub fn done(&mut self, cx: &mut Cx, op: OpId, result: OpResult) -> bool {
        let Some(id) = self.ops.remove(&op) else { return false };
        let terms = self.terms(cx.now);
        let Some(follower) = self.followers.get_mut(&id) else { return true };
        match result {
            OpResult::Compared { follow, verdict } => {
                if (follow.boot, follow.store) == (follower.boot, follower.store) {
                    self.compared(cx, id, &follow, verdict);
                }
            }
            OpResult::Log { after, entries } => {
                if let Work::Streaming { reading } = &mut follower.work {
                    *reading = false;
                    if after == follower.sent && !entries.is_empty() {
                        follower.append(cx, terms, entries);
                    }
                    self.pump(cx, id);
                }
            }
            OpResult::LogPruned { after } => {
                let needed = match &follower.work {
                    Work::Streaming { reading } => *reading && after == follower.sent,
                    Work::Snapshot { offer, .. } => after == offer.start,
                    Work::Comparing | Work::BeginningSnapshot => false,
                };
                if needed {
                    mark!(LogPrunedMeanwhile);
                    self.begin_snapshot(cx, id);
                }
            }
            OpResult::SnapshotBegun(offer) if matches!(follower.work, Work::BeginningSnapshot) => {
                let peer = follower.peer.clone();
                follower.work = Work::Snapshot { offer: offer.clone(), reading: false };
                cx.send(&peer, Message::SnapshotOffer(offer));
            }
            OpResult::SnapshotBegun(_) => {}
            OpResult::SnapshotRows(piece) => {
                if let Work::Snapshot { offer, reading } = &mut follower.work {
                    *reading = false;
                    if offer.id == piece.id {
                        let peer = follower.peer.clone();
                        cx.send(&peer, Message::SnapshotPiece(piece));
                    }
                }
            }
            OpResult::Failed(error) => {
                // The follower will ask again; the error names the record.
                let text = format!("replication to {id} can't read: {error}");
                cx.note(Event::Says(Severity::Error, text.into()));
                self.followers.remove(&id);
            }
            other => panic!("a read for a follower can't end in {other:?}"),
        }
        true
    }

    fn compared(&mut self, cx: &mut Cx, id: NodeId, follow: &Follow, verdict: Comparison) {
        let (epoch, boot, terms) = (self.epoch, self.boot, self.terms(cx.now));
        let follower = self.followers.get_mut(&id).expect("looked up by the caller");
        match verdict {
            Comparison::Prefix => {
                follower.work = Work::Streaming { reading: false };
                follower.durable = follow.last;
                if follow.copy.is_none() {
                    follower.in_data = follower.in_data.max(follow.last);
                }
                follower.sent = follow.last;
                follower.unacknowledged.clear();
                follower.active = cx.now.time;
                // Even an empty append tells the follower that the match is established.
                if follow.last == self.last {
                    follower.append(cx, terms, Vec::new());
                }
                self.pump(cx, id);
            }
            Comparison::Diverged { common } => {
                mark!(ComparedDiverged);
                let peer = follower.peer.clone();
                self.followers.remove(&id);
                cx.send(&peer, Message::Diverged(Diverged { epoch, boot, last: follow.last, common }));
            }
            Comparison::NeedsSnapshot => {
                mark!(ComparedTooOld);
                self.begin_snapshot(cx, id);
            }
        }
    }

    /// Says how far we are, whatever there is to ship.
    fn tell(&mut self, cx: &mut Cx, id: NodeId) {
        let terms = self.terms(cx.now);
        if let Some(follower) = self.followers.get_mut(&id)
            && matches!(follower.work, Work::Streaming { reading: false })
        {
            follower.append(cx, terms, Vec::new());
        }
    }

    fn terms(&self, now: Now) -> Terms {
        let leads = self.tenure.holds(now) || planted!(freshness_without_lease);
        Terms { epoch: self.epoch, boot: self.boot, last: self.last, leads }
    }

    /// The lease was renewed.
    pub fn renewed(&mut self, tenure: Tenure) {
        self.tenure = tenure;
    }

    fn begin_snapshot(&mut self, cx: &mut Cx, id: NodeId) {
        self.snapshots += 1;
        let snapshot = SnapshotId { epoch: self.epoch, boot: self.boot, number: self.snapshots };
        let follower = self.followers.get_mut(&id).expect("looked up by the caller");
        follower.work = Work::BeginningSnapshot;
        let op = cx.start(Op::SnapshotBegin { id: snapshot });
        self.ops.insert(op, id);
    }

    // ---- pushing ----------------------------------------------------------------------------------------------------

    fn pump_all(&mut self, cx: &mut Cx) {
        let ids: Vec<NodeId> = self.followers.keys().copied().collect();
        for id in ids {
            self.pump(cx, id);
        }
    }

    /// Send what the window allows.
    fn pump(&mut self, cx: &mut Cx, id: NodeId) {
        let (terms, last) = (self.terms(cx.now), self.last);
        let Some(follower) = self.followers.get_mut(&id) else { return };
        while matches!(follower.work, Work::Streaming { reading: false })
            && follower.unacknowledged.len() < WINDOW
            && follower.sent < last
        {
            match self.recent.after(follower.sent, self.chunk_bytes) {
                Some(entries) => follower.append(cx, terms, entries),
                None => {
                    follower.work = Work::Streaming { reading: true };
                    let op = cx.start(Op::ReadLog { after: follower.sent, bytes_max: self.chunk_bytes });
                    self.ops.insert(op, id);
                }
            }
        }
    }

    pub fn timer(&mut self, cx: &mut Cx) {
        let (terms, pace) = (self.terms(cx.now), self.pace);
        let known = self.followers.len();
        self.followers.retain(|_, f| cx.now.time.since(f.heard) < pace.forget);
        if self.followers.len() < known {
            mark!(FollowerForgotten);
        }
        for follower in self.followers.values_mut() {
            let Work::Streaming { reading: false } = follower.work else { continue };
            let quiet = cx.now.time.since(follower.active);
            if !follower.unacknowledged.is_empty() && quiet >= pace.retry {
                // Something was lost: go back to what is certain.
                mark!(SentAgain);
                follower.sent = follower.durable;
                follower.unacknowledged.clear();
                follower.active = cx.now.time;
            } else if quiet >= pace.idle {
                follower.append(cx, terms, Vec::new());
            }
        }
        self.pump_all(cx);
    }

    pub fn deadline(&self) -> Option<Wake> {
        let streaming = self.followers.values().filter_map(|f| match f.work {
            Work::Streaming { reading: false } if f.unacknowledged.is_empty() => Some(f.active.plus(self.pace.idle)),
            Work::Streaming { reading: false } => Some(f.active.plus(self.pace.retry)),
            _ => None,
        });
        let forget = self.followers.values().map(|f| f.heard.plus(self.pace.forget));
        streaming.chain(forget).min().map(|at| Wake { at, why: "replication" })
    }
}

impl Follower {
    fn append(&mut self, cx: &mut Cx, terms: Terms, entries: Vec<Entry>) {
        let Terms { epoch, boot, last: leader_last, leads } = terms;
        let prev = self.sent;
        if let Some(entry) = entries.last() {
            assert!(entries[0].tick.0 == prev.tick.0 + 1, "entries follow what was sent before");
            self.sent = entry.position();
            self.unacknowledged.push_back(self.sent);
        }
        self.active = cx.now.time;
        let answers = self.asked.filter(|_| leads);
        cx.send(&self.peer, Message::Append(Append { epoch, boot, prev, entries, leader_last, answers }));
    }
}

/// The newest entries, without gaps.
#[derive(Clone, Default, Hash)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, entry: Entry) {
        self.bytes += size(&entry.payload);
        self.entries.push_back(entry);
        while self.bytes > RECENT_BYTES_MAX && self.entries.len() > 1 {
            let oldest = self.entries.pop_front().expect("there are two at least");
            self.bytes -= size(&oldest.payload);
        }
    }

    /// Entries right after `position`, about `bytes_max` of them; `None` if they are not here.
    fn after(&self, position: Position, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.tick.0;
        let skip = (position.tick.0 + 1).checked_sub(first)? as usize;
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.entries.iter().skip(skip) {
            if !entries.is_empty() && bytes + entry.payload.len() > bytes_max {
                break;
            }
            bytes += entry.payload.len();
            entries.push(entry.clone());
        }
        (!entries.is_empty()).then_some(entries)
    }
}

fn size(payload: &Bytes) -> usize {
    payload.len() + 64
}
