//! The follower's side: present our log, then append what comes, undo what has to go, or copy everything.
//!
//! Lives for one leadership (leader and epoch); a new one starts from nothing but the store. An append is taken only
//! where our log ends, and only after this leader has compared it (R7); what the store holds decides again in
//! `exec::perform` (I7, I8). A copy is built beside the data in use, which stays as it is, and may be reported and
//! chosen, until the copy is complete (R8).

use super::Pace;
use crate::io::{Cx, Event, Located, Op, OpId, OpResult, SavedCopy, Severity, Target, Wake};
use crate::mark;
use crate::message::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Entries undone in one storage transaction.
const UNDO_BATCH: usize = 256;
/// Questions to the leader that are remembered.
const QUESTIONS_MAX: usize = 64;
/// Questions about a copy without an answer, after which it is given up.
const COPY_TRIES_MAX: u32 = 30;

#[derive(Clone, Hash)]
pub struct Follower {
    leader: Leader,
    epoch: Epoch,
    boot: Boot,
    store: StoreId,
    pace: Pace,
    state: State,
    /// What the appends go into.
    target: Target,
    /// Up to where a copy must come to be exact.
    exact_at: Option<Position>,
    /// Every store has a first copy to finish, unless it was created empty.
    complete: bool,
    /// Ask for a snapshot whatever our position (the tail to undo is no longer there).
    wants_copy: bool,
    durable: Position,
    leader_last: Position,
    /// Our latest questions, and when they were asked.
    asked: VecDeque<(u64, Now)>,
    next_seq: u64,
    /// Data up to a position are all that there was at a moment.
    catching_up: VecDeque<(Position, Now)>,
    fresh: Option<Now>,
    /// When something was last heard of the leader, or asked of it.
    quiet_since: Time,
    tries: u32,
    /// The last write failed, and that was said.
    failing: bool,
    ops: BTreeMap<OpId, Doing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Locating,
    Appending,
    Undoing { common: Position },
    Copying,
}

#[derive(Clone, Hash)]
enum State {
    /// The store is doing something that must end first.
    Busy,
    /// Our log was presented; `end` is where it ends.
    Asking { end: Position },
    /// The match is established; `end` is the end of what was given to the store.
    Tailing { end: Position },
    /// Rows of a copy are asked for.
    Rows { id: SnapshotId, cursor: Bytes },
}

/// Who the follower is, and whom it follows.
pub struct Terms<'a> {
    pub leader: Leader,
    pub epoch: Epoch,
    pub boot: Boot,
    pub store: StoreId,
    pub timing: &'a Timing,
    pub complete: bool,
    /// A copy that an earlier process or leadership left unfinished.
    pub copy: Option<&'a SavedCopy>,
}

/// What the rest of the server has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    None,
    /// The data in use end here now, durably.
    Durable(Position),
    /// The record that made us follow is out of date: ask the agency.
    AskAgency,
}

impl Follower {
    pub fn new(cx: &mut Cx, terms: Terms<'_>) -> Follower {
        let Terms { leader, epoch, boot, store, timing, complete, copy } = terms;
        let mut follower = Follower {
            leader,
            epoch,
            boot,
            store,
            pace: Pace::of(timing),
            state: State::Busy,
            target: Target::Data,
            exact_at: None,
            complete,
            wants_copy: false,
            durable: Position::ZERO,
            leader_last: Position::ZERO,
            asked: VecDeque::new(),
            // What answers a question of an earlier process answers none of ours.
            next_seq: cx.rng.next_u64() >> 2,
            catching_up: VecDeque::new(),
            fresh: None,
            quiet_since: cx.now.time,
            tries: 0,
            failing: false,
            ops: BTreeMap::new(),
        };
        match copy {
            Some(copy) if (copy.id.epoch, copy.id.boot) == (epoch, follower.leader.boot) => {
                mark!(CopyGoesOn);
                follower.exact_at = copy.exact_at;
                match &copy.cursor {
                    Some(cursor) => follower.ask_rows(cx, copy.id, cursor.clone()),
                    None => {
                        follower.target = Target::Copy(copy.id);
                        follower.locate(cx);
                    }
                }
            }
            // Pieces are bound to the leader's process and epoch (R8).
            Some(_) => {
                mark!(CopyOfOtherLeader);
                follower.start(cx, Op::CopyDrop, Doing::Copying);
            }
            None => follower.locate(cx),
        }
        follower
    }

    pub fn leader(&self) -> &Leader {
        &self.leader
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn leader_last(&self) -> Position {
        self.leader_last
    }

    pub fn tails(&self) -> bool {
        matches!(self.state, State::Tailing { .. }) && self.target == Target::Data
    }

    pub fn copies(&self) -> bool {
        self.target != Target::Data || matches!(self.state, State::Rows { .. })
    }

    fn start(&mut self, cx: &mut Cx, op: Op, doing: Doing) {
        self.state = State::Busy;
        let op = cx.start(op);
        self.ops.insert(op, doing);
    }

    /// Find out where our log stands, then ask the leader. Waits for appends that are under way.
    fn locate(&mut self, cx: &mut Cx) {
        self.state = State::Busy;
        if self.ops.is_empty() {
            self.start(cx, Op::Locate { target: self.target }, Doing::Locating);
        }
    }

    fn ask_rows(&mut self, cx: &mut Cx, id: SnapshotId, cursor: Bytes) {
        self.quiet_since = cx.now.time;
        self.state = State::Rows { id, cursor: cursor.clone() };
        let peer = self.leader.peer.clone();
        cx.send(&peer, Message::SnapshotRequest(SnapshotRequest { id, cursor }));
    }

    // ---- what the leader says ---------------------------------------------------------------------------------------

    /// Whether a message is from the process that we follow, in the epoch that we follow.
    fn ours(&self, from: &Peer, epoch: Epoch, boot: Boot) -> bool {
        from.id == self.leader.peer.id && epoch == self.epoch && boot == self.leader.boot
    }

    pub fn append(&mut self, cx: &mut Cx, from: &Peer, append: Append) -> News {
        if !self.ours(from, append.epoch, append.boot) {
            return News::None;
        }
        let end = match self.state {
            State::Asking { end } | State::Tailing { end } => end,
            State::Busy | State::Rows { .. } => return News::None,
        };
        if append.prev.tick > end.tick {
            // A gap: something before this was lost. The leader goes back by itself when nothing is acknowledged.
            mark!(AppendAhead);
            return News::None;
        }
        if let State::Asking { end } = self.state {
            if append.prev != end {
                // Not the answer to our question: sent before it, to a log that may have been another.
                mark!(AppendOfEarlierQuestion);
                return News::None;
            }
            let leader = self.leader.peer.id;
            if !self.failing {
                cx.note(Event::Follows { leader, epoch: self.epoch, from: end });
            }
        }
        self.leader_last = self.leader_last.max(append.leader_last);
        self.answered(cx, append.answers, append.leader_last);
        self.quiet_since = cx.now.time;
        self.tries = 0;
        // What overlaps is known already: in an established epoch our log is a prefix of the leader's (I8).
        let known = |entry: &Entry| entry.tick <= end.tick && !planted!(overlap_not_filtered);
        let entries: Vec<Entry> = append.entries.into_iter().filter(|entry| !known(entry)).collect();
        let Some(last) = entries.last().map(Entry::position) else {
            self.state = State::Tailing { end };
            if self.ops.is_empty() {
                self.caught_up(end);
                self.acknowledge(cx, end, false);
                self.finish_copy(cx);
            }
            return News::None;
        };
        if entries[0].tick.0 != end.tick.0 + 1 && !planted!(overlap_not_filtered) {
            cx.note(Event::Says(Severity::Warn, "an append with a gap is left out".into()));
            return News::None;
        }
        self.state = State::Tailing { end: last };
        let op = Op::Append { epoch: self.epoch, into: self.target, prev: end, entries };
        let op = cx.start(op);
        self.ops.insert(op, Doing::Appending);
        News::None
    }

    /// The leader says that its log ended at `leader_last` after it had received one of our questions.
    fn answered(&mut self, cx: &Cx, answers: Option<u64>, leader_last: Position) {
        let Some(seq) = answers else { return };
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == seq) else { return };
        let (_, mut asked) = self.asked[at];
        self.asked.drain(..=at);
        if planted!(staleness_from_arrival) {
            asked = cx.now;
        }
        // If there are too many, the first are reached first.
        if self.catching_up.len() < QUESTIONS_MAX {
            self.catching_up.push_back((leader_last, asked));
        }
        if planted!(fresh_before_durable) {
            self.fresh = Some(asked);
        }
    }

    /// The data in use are durable up to here.
    fn caught_up(&mut self, durable: Position) {
        while let Some((_, asked)) = self.catching_up.pop_front_if(|(at, _)| *at <= durable) {
            if self.target == Target::Data {
                self.fresh = Some(asked);
            }
        }
    }

    /// When we asked the latest question whose answer the data in use are.
    pub fn fresh(&self) -> Option<Now> {
        self.fresh
    }

    /// Somebody wants fresher data: ask now, not with the next append.
    pub fn ask(&mut self, cx: &mut Cx) {
        if self.tails() {
            self.acknowledge(cx, self.durable, true);
        }
    }

    fn acknowledge(&mut self, cx: &mut Cx, durable: Position, asks: bool) {
        let peer = self.leader.peer.clone();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.asked.push_back((seq, cx.now));
        if self.asked.len() > QUESTIONS_MAX {
            self.asked.pop_front();
        }
        let in_copy = self.target != Target::Data;
        let ack = Acknowledge { epoch: self.epoch, boot: self.boot, store: self.store, durable, in_copy, seq, asks };
        cx.send(&peer, Message::Acknowledge(ack));
    }

    pub fn diverged(&mut self, cx: &mut Cx, from: &Peer, diverged: &Diverged) {
        let State::Asking { end } = self.state else { return };
        if !self.ours(from, diverged.epoch, diverged.boot) || diverged.last != end || !self.ops.is_empty() {
            return mark!(DivergedOfEarlierQuestion);
        }
        self.quiet_since = cx.now.time;
        if self.target != Target::Data {
            // A copy can't part from its source; if it did, its source is not what it was.
            return self.drop_copy(cx);
        }
        if diverged.common.tick >= end.tick {
            return self.locate(cx);
        }
        mark!(RollbackBegun);
        cx.note(Event::RollsBack { common: diverged.common, from: end });
        self.undo(cx, diverged.common);
    }

    fn undo(&mut self, cx: &mut Cx, common: Position) {
        let op = Op::Undo { epoch: self.epoch, common, limit: UNDO_BATCH };
        self.start(cx, op, Doing::Undoing { common });
    }

    pub fn offer(&mut self, cx: &mut Cx, from: &Peer, offer: SnapshotOffer) {
        let asking = matches!(self.state, State::Asking { .. });
        if !self.ours(from, offer.id.epoch, offer.id.boot) || !asking || !self.ops.is_empty() {
            return;
        }
        match self.target {
            Target::Data => {}
            // The offer that this copy began with, once more.
            Target::Copy(id) if id == offer.id => return mark!(CopyOfferRepeated),
            // The leader's log no longer reaches back to where the copy's ends: begin again.
            Target::Copy(_) => {
                mark!(CopyOutlived);
                return self.drop_copy(cx);
            }
        }
        self.quiet_since = cx.now.time;
        mark!(CopyBegun);
        cx.note(Event::CopyStarted { from: from.id, start: offer.start });
        self.state = State::Rows { id: offer.id, cursor: Bytes::new() };
        let op = cx.start(Op::CopyBegin(offer));
        self.ops.insert(op, Doing::Copying);
    }

    pub fn piece(&mut self, cx: &mut Cx, from: &Peer, piece: SnapshotPiece) {
        let State::Rows { id, cursor } = &self.state else { return };
        let expected = (*id == piece.id || planted!(pieces_of_another_copy)) && *cursor == piece.cursor;
        let ours = self.ours(from, piece.id.epoch, piece.id.boot) || planted!(pieces_of_another_copy);
        if !ours || !expected || !self.ops.is_empty() {
            return;
        }
        self.quiet_since = cx.now.time;
        self.tries = 0;
        if piece.next.is_none() {
            self.exact_at = Some(piece.exact_at);
        }
        let op = cx.start(Op::CopyRows(piece));
        self.ops.insert(op, Doing::Copying);
    }

    /// The leader does not lead in that epoch, or no longer knows the copy.
    pub fn not_serving(&mut self, cx: &mut Cx, from: &Peer, epoch: Epoch) -> News {
        if from.id != self.leader.peer.id || epoch != self.epoch {
            return News::None;
        }
        if matches!(self.state, State::Rows { .. }) && self.ops.is_empty() {
            self.drop_copy(cx);
        }
        News::AskAgency
    }

    fn drop_copy(&mut self, cx: &mut Cx) {
        mark!(CopyDropped);
        self.target = Target::Data;
        self.exact_at = None;
        self.tries = 0;
        self.start(cx, Op::CopyDrop, Doing::Copying);
    }

    // ---- what the store says ----------------------------------------------------------------------------------------

    /// Takes the result of an op that this part started; `None` if it was somebody else's.
    pub fn done(&mut self, cx: &mut Cx, op: OpId, result: OpResult) -> Option<News> {
        let doing = self.ops.remove(&op)?;
        Some(match result {
            OpResult::Located(located) => {
                self.present(cx, located);
                News::None
            }
            OpResult::Appended { last, .. } => self.appended(cx, last),
            OpResult::Mismatch { .. } => {
                mark!(AppendMismatch);
                self.locate(cx);
                News::None
            }
            OpResult::Stale { seen } => {
                mark!(FollowedOutdated);
                let text = format!("the data have seen epoch {}, later than {}", seen.0, self.epoch.0);
                cx.note(Event::Says(Severity::Warn, text.into()));
                self.rest(cx);
                News::AskAgency
            }
            OpResult::Undone { last, undone, .. } => {
                let Doing::Undoing { common } = doing else { panic!("nothing was to be undone") };
                cx.note(Event::RolledBack { last, undone });
                if last.tick.0 > common.tick.0 + u64::from(planted!(rollback_stops_early)) {
                    mark!(RollbackGoesOn);
                    self.undo(cx, common)
                } else {
                    mark!(RollbackDone);
                    self.locate(cx)
                }
                News::Durable(last)
            }
            OpResult::CannotUndo => {
                mark!(RollbackImpossible);
                self.wants_copy = true;
                self.locate(cx);
                News::None
            }
            OpResult::CopyBegun => {
                // Without an entry of its own the data wait for the copy, even if this one is given up.
                self.complete &= self.durable != Position::ZERO;
                if let State::Rows { id, cursor } = &self.state {
                    let (id, cursor) = (*id, cursor.clone());
                    self.ask_rows(cx, id, cursor);
                }
                News::None
            }
            OpResult::Copied { next } => {
                if let State::Rows { id, .. } = self.state {
                    match next {
                        Some(cursor) => self.ask_rows(cx, id, cursor),
                        None => {
                            self.target = Target::Copy(id);
                            self.locate(cx);
                        }
                    }
                }
                News::None
            }
            OpResult::CopyFinished { last, .. } => {
                mark!(CopyDone);
                cx.note(Event::CopyDone { last });
                self.complete = true;
                self.wants_copy = false;
                self.target = Target::Data;
                self.exact_at = None;
                self.locate(cx);
                News::Durable(last)
            }
            OpResult::NoCopy | OpResult::CopyDropped => {
                self.target = Target::Data;
                self.exact_at = None;
                self.locate(cx);
                News::None
            }
            OpResult::Failed(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let text = format!("replication can't write, and tries again and again: {error}");
                    cx.note(Event::Says(Severity::Error, text.into()));
                }
                self.rest(cx);
                News::None
            }
            other => panic!("following can't end in {other:?}"),
        })
    }

    /// Nothing more for now; the timer begins again.
    fn rest(&mut self, cx: &mut Cx) {
        self.state = State::Busy;
        self.quiet_since = cx.now.time;
    }

    fn present(&mut self, cx: &mut Cx, located: Located) {
        if !self.ops.is_empty() {
            return self.locate(cx);
        }
        self.quiet_since = cx.now.time;
        self.state = State::Asking { end: located.last };
        self.durable = located.last;
        let copy = match self.target {
            Target::Data => None,
            Target::Copy(id) => Some(id),
        };
        let follow = Follow {
            epoch: self.epoch,
            boot: self.boot,
            store: self.store,
            last: located.last,
            last_checksum: located.last_checksum,
            history: located.history,
            complete: copy.is_some() || (self.complete && !self.wants_copy),
            copy,
        };
        let peer = self.leader.peer.clone();
        cx.send(&peer, Message::Follow(follow));
    }

    fn appended(&mut self, cx: &mut Cx, last: Position) -> News {
        self.failing = false;
        self.durable = last;
        if matches!(self.state, State::Busy) {
            // Somebody wanted to know where we stand and waited for this.
            self.locate(cx);
        } else {
            self.acknowledge(cx, last, false);
        }
        self.caught_up(last);
        match self.target {
            Target::Data => News::Durable(last),
            Target::Copy(_) => {
                self.finish_copy(cx);
                News::None
            }
        }
    }

    /// Swap a copy in once its log has come to where the rows are exact.
    fn finish_copy(&mut self, cx: &mut Cx) {
        let Target::Copy(id) = self.target else { return };
        let exact = self.exact_at.is_some_and(|at| self.durable.tick >= at.tick) || planted!(copy_not_exact);
        if self.ops.is_empty() && exact {
            self.start(cx, Op::CopyFinish { id }, Doing::Copying);
        }
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    pub fn timer(&mut self, cx: &mut Cx) {
        if cx.now.time < self.next_look() || !self.ops.is_empty() {
            return;
        }
        self.quiet_since = cx.now.time;
        match &self.state {
            State::Rows { id, cursor } => {
                let (id, cursor) = (*id, cursor.clone());
                self.tries += 1;
                if self.tries > COPY_TRIES_MAX {
                    mark!(CopyUnanswered);
                    self.drop_copy(cx);
                } else {
                    self.ask_rows(cx, id, cursor);
                }
            }
            State::Busy | State::Asking { .. } | State::Tailing { .. } => self.locate(cx),
        }
    }

    fn next_look(&self) -> Time {
        let patience = match self.state {
            State::Tailing { .. } => self.pace.idle * 3,
            _ => self.pace.retry,
        };
        self.quiet_since.plus(patience)
    }

    pub fn deadline(&self) -> Option<Wake> {
        self.ops.is_empty().then(|| Wake { at: self.next_look(), why: "follow" })
    }
}
