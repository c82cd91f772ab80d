//! Raft, free of I/O: who leads the agency, and in which order its entries come.
//!
//! Keeps I1 (one leader a term), I2 (log matching) and I4: no vote and no acknowledgement leaves before what it
//! promises is durable. Votes are owed until the disk has them; an acknowledgement names only what the disk has, and is
//! sent again when it has more. A leader, too, counts itself only as far as its own disk has come.
//!
//! One persist is in flight at a time; what comes up meanwhile goes into the next one together.
//!
//! Rounds: every append carries the leader's round number and its reply echoes it. A round that a majority has echoed
//! proves that this agent still led *after* the round began. Grants and linearizable reads rest on that; it needs no
//! disk write. Each vote says how long its giver has not heard a leader: of the majority that echoed a round, one is
//! among those that elected the next leader, so no round of an earlier term that was ever confirmed began after the
//! last time one of its electors heard a leader ([`Raft::earlier_rounds_until`]). A vote that follows ends that
//! for good: whoever gave it echoes nothing of an earlier term.
//!
//! Who has a voice is in the log itself (`membership`): a leader adds a caught-up learner or removes an agent, one at a
//! time, and a leader without a seat steps down once that is committed. Until then it may have to stand for election.
//!
//! Beyond the paper: pre-vote, and check-quorum (a leader that hears of no majority steps down; whoever hears a leader
//! gives no vote to others).

use super::log::Log;
use super::membership::{Configurations, is_seated, majority};
use crate::io::{Event, Severity};
use crate::mark;
use crate::message::raft::{
    Body, HardState, LogEntry, META_HARD, META_SNAPSHOT, Persist, SavedRaft, Seat, Snapshot, encode,
    encode_configuration,
};
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bounds on one append: entries and bytes; and how far a leader runs ahead of a follower's acknowledgements.
const APPEND_COUNT_MAX: usize = 512;
const APPEND_BYTES_MAX: usize = 1 << 20;
const AHEAD_MAX: u64 = 4096;
const PIECE_BYTES: usize = 1 << 20;
/// A snapshot that claims to be larger is refused.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 32;

/// What is kept behind a snapshot, whatever `compaction_keep` says; twice as much calls for a snapshot.
const KEEP_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Debug, Hash)]
pub struct Settings {
    pub me: NodeId,
    pub disk: StoreId,
    /// The agents that the pool was formed of; none if this agent joins one that exists.
    pub founders: Vec<Seat>,
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    pub compaction_step: u64,
    pub compaction_keep: u64,
}

impl Settings {
    fn heartbeat(&self) -> Duration {
        self.election_timeout_min / 4
    }

    /// A leader that has not heard of a majority for this long steps down.
    fn quorum_window(&self) -> Duration {
        (self.election_timeout_min * 2).min(self.election_timeout_max).max(self.election_timeout_min)
    }
}

#[derive(Clone, Hash)]
enum Role {
    Follower,
    /// `votes`: from whom, and when each of them has last heard a leader.
    Candidate {
        pre: bool,
        transfer: bool,
        votes: BTreeMap<NodeId, Time>,
    },
    Leader(Leading),
}

/// What a leader knows.
#[derive(Clone, Hash)]
struct Leading {
    since: Time,
    earlier_rounds_until: Time,
    /// The entry that began the term: until it is applied, inherited entries may be undecided.
    first_index: u64,
    peers: BTreeMap<NodeId, Progress>,
    /// An agent that is to have a seat and catches up first.
    learner: Option<Box<(Seat, Progress)>>,
    heartbeat_at: Time,
    round: u64,
    confirmed: u64,
    /// A round was asked for while one was under way.
    round_wanted: bool,
}

impl Leading {
    fn progress(&mut self, id: NodeId) -> Option<&mut Progress> {
        let learner = self.learner.as_mut().filter(|learner| learner.0.peer.id == id).map(|learner| &mut learner.1);
        self.peers.get_mut(&id).or(learner)
    }

    fn is_alone(&self) -> bool {
        self.peers.is_empty() && self.learner.is_none()
    }
}

/// What a leader knows of one follower.
#[derive(Clone, Debug, Hash)]
pub struct Progress {
    pub matched: u64,
    next: u64,
    pub heard_at: Time,
    round: u64,
    sending: Option<Sending>,
}

impl Progress {
    /// Nothing is known of it; `last` is the end of the leader's log.
    fn new(last: u64) -> Progress {
        Progress { matched: 0, next: last + 1, heard_at: Time::ZERO, round: 0, sending: None }
    }
}

/// A snapshot on its way to a follower.
#[derive(Clone, Debug, Hash)]
struct Sending {
    snapshot: Snapshot,
    offset: u64,
}

/// A snapshot on its way from the leader.
#[derive(Clone, Hash)]
struct Receiving {
    index: u64,
    term: Term,
    seats: Vec<Seat>,
    total: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Hash)]
struct InFlight {
    hard: HardState,
    last: u64,
}

#[derive(Clone, Hash)]
pub struct Raft {
    settings: Settings,
    rng: Rng,
    role: Role,
    leader: Option<NodeId>,

    hard: HardState,
    /// Hard state in the persist that was started last, and on the disk.
    hard_started: HardState,
    hard_durable: HardState,
    /// To whom the vote in `hard` is still to be told.
    owed_vote: Option<NodeId>,

    log: Log,
    configurations: Configurations,
    commit: u64,
    /// Entries up to here are in a started persist, and on the disk.
    started: u64,
    durable: u64,
    truncate: Option<u64>,
    compact: Option<u64>,
    snapshot_dirty: bool,
    in_flight: Option<InFlight>,

    election_at: Time,
    heard_leader_at: Option<Time>,
    /// After this, this agent has neither echoed nor begun a round. What it did before it was started is not known.
    last_round_at: Time,
    /// As a follower: up to where the log agrees with the leader's, and the leader's latest round.
    verified: u64,
    leader_round: u64,
    ack_owed: bool,
    receiving: Option<Receiving>,

    outbox: Vec<(NodeId, Term, Body)>,
    pub events: Vec<Event>,
}

impl Raft {
    pub fn boot(settings: Settings, saved: SavedRaft, rng: Rng, now: Time) -> Raft {
        let seated = settings.founders.is_empty() || is_seated(&settings.founders, settings.me, settings.disk);
        assert!(seated, "who founds an agency has a seat in it");
        let SavedRaft { hard, snapshot, entries, .. } = saved;
        let stale_rows = entries.last().is_some_and(|(last, _)| *last < snapshot.index);
        let commit = snapshot.index;
        let log = Log::new(snapshot, entries);
        let configurations = Configurations::new(&settings.founders, &log);
        let last = log.last_index();
        let mut raft = Raft {
            settings,
            rng,
            role: Role::Follower,
            leader: None,
            hard,
            hard_started: hard,
            hard_durable: hard,
            owed_vote: None,
            log,
            configurations,
            commit,
            started: last,
            durable: last,
            truncate: stale_rows.then_some(0),
            compact: None,
            snapshot_dirty: false,
            in_flight: None,
            election_at: now,
            heard_leader_at: None,
            last_round_at: if planted!(silent_before_start) { Time::ZERO } else { now },
            verified: 0,
            leader_round: 0,
            ack_owed: false,
            receiving: None,
            outbox: Vec::new(),
            events: Vec::new(),
        };
        // An agent alone has nobody to wait for. In a pool that has just formed nobody can lead yet: a short wait will
        // do: just long enough that two agents seldom stand at the same time.
        if raft.seats().len() > 1 {
            raft.reset_election_timer(now);
            if raft.hard.term == Term(0) {
                let wait = raft.rng.between(Duration::ZERO, raft.settings.election_timeout_min / 4);
                raft.election_at = now.plus(wait);
            }
        }
        raft
    }

    // ---- what others may know ---------------------------------------------------------------------------------------

    pub fn term(&self) -> Term {
        self.hard.term
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    pub fn commit(&self) -> u64 {
        self.commit
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The configuration that holds.
    pub fn seats(&self) -> &[Seat] {
        if planted!(configuration_at_commit) {
            return self.configurations.at(self.commit);
        }
        self.configurations.latest()
    }

    /// Another number whenever the configuration is another one.
    pub fn configuration_version(&self) -> u64 {
        if planted!(configuration_at_commit) { self.commit } else { self.configurations.version() }
    }

    fn is_seated(&self) -> bool {
        is_seated(self.seats(), self.settings.me, self.settings.disk)
    }

    /// Whether this agent stands for election: with a seat in any configuration that may hold. A leader that took its
    /// own seat away may be the only one with that entry, and nobody else can win until it is committed.
    fn stands(&self) -> bool {
        self.configurations.undecided(self.commit).any(|seats| is_seated(seats, self.settings.me, self.settings.disk))
    }

    fn majority(&self) -> usize {
        majority(self.seats())
    }

    /// Who catches up to have a seat.
    pub fn learner(&self) -> Option<&Seat> {
        match &self.role {
            Role::Leader(leading) => leading.learner.as_ref().map(|learner| &learner.0),
            _ => None,
        }
    }

    /// The entry that began this leader's term.
    pub fn first_of_term(&self) -> Option<u64> {
        match &self.role {
            Role::Leader(leading) => Some(leading.first_index),
            _ => None,
        }
    }

    /// No round of an earlier term that was confirmed began later than that: nor did an earlier leader answer what came
    /// later. `None` if this agent does not lead.
    pub fn earlier_rounds_until(&self) -> Option<Time> {
        match &self.role {
            Role::Leader(leading) => Some(leading.earlier_rounds_until),
            _ => None,
        }
    }

    pub fn peers(&self) -> Vec<(NodeId, Progress)> {
        match &self.role {
            Role::Leader(leading) => leading.peers.iter().map(|(id, p)| (*id, p.clone())).collect(),
            _ => Vec::new(),
        }
    }

    pub fn deadline(&self) -> Time {
        match &self.role {
            Role::Leader(leading) if leading.is_alone() => Time::NEVER,
            Role::Leader(leading) => leading.heartbeat_at,
            _ if !self.stands() && self.leader.is_none() => Time::NEVER,
            _ => self.election_at,
        }
    }

    pub fn take_outbox(&mut self) -> Vec<(NodeId, Term, Body)> {
        std::mem::take(&mut self.outbox)
    }

    // ---- the disk ---------------------------------------------------------------------------------------------------

    /// What must be made durable next; `None` while a persist is in flight or nothing is to be done.
    pub fn flush(&mut self) -> Option<Persist> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut persist = Persist::default();
        if self.hard != self.hard_started {
            let vote = if planted!(vote_forgotten) { None } else { self.hard.vote };
            persist.meta.push((META_HARD, Some(encode(&HardState { vote, ..self.hard }))));
            self.hard_started = self.hard;
        }
        if std::mem::take(&mut self.snapshot_dirty) && !planted!(raft_snapshot_forgotten) {
            persist.meta.push((META_SNAPSHOT, Some(encode(&self.log.snapshot))));
        }
        persist.truncate_from = self.truncate.take();
        persist.compact_to = self.compact.take();
        let last = self.log.last_index();
        for index in (self.started + 1).max(self.log.first_index())..=last {
            let entry = self.log.get(index).expect("entries not started yet are in the log");
            persist.entries.push((index, encode(entry)));
        }
        self.started = last;
        if persist == Persist::default() {
            return None;
        }
        self.in_flight = Some(InFlight { hard: self.hard, last });
        Some(persist)
    }

    /// The persist in flight is durable.
    pub fn persisted(&mut self, now: Time) {
        let done = self.in_flight.take().expect("a persist was in flight");
        self.hard_durable = done.hard;
        self.durable = self.durable.max(done.last);
        self.after_persist(now);
    }

    fn after_persist(&mut self, now: Time) {
        let hard_is_durable = self.hard_durable == self.hard;
        if hard_is_durable && let Some(candidate) = self.owed_vote.take() {
            assert_eq!(self.hard_durable.vote, Some(candidate), "I4: a vote is durable before it leaves");
            self.give_vote(now, candidate);
        }
        let log_is_durable = self.durable == self.log.last_index();
        match &mut self.role {
            // The request names the end of our log: votes rest on it, so it must survive a crash.
            Role::Candidate { pre: false, transfer, votes }
                if votes.is_empty() && hard_is_durable && log_is_durable =>
            {
                votes.insert(self.settings.me, self.last_round_at);
                let transfer = *transfer;
                self.ask_for_votes(false, transfer);
                self.count_votes(now);
            }
            Role::Follower if hard_is_durable && self.ack_owed => self.acknowledge(),
            Role::Leader(_) => self.advance_commit(now),
            _ => {}
        }
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    pub fn tick(&mut self, now: Time) {
        let (own, majority, stands) = (usize::from(self.is_seated()), self.majority(), self.stands());
        match &mut self.role {
            Role::Leader(leading) => {
                let window = self.settings.quorum_window();
                let heard =
                    own + leading.peers.values().filter(|p| now.since(p.heard_at.max(leading.since)) <= window).count();
                if heard < majority {
                    mark!(QuorumLost);
                    self.become_follower(now, self.hard.term, None);
                } else if now >= leading.heartbeat_at {
                    if std::mem::take(&mut leading.round_wanted) {
                        leading.round += 1;
                    }
                    self.broadcast(now);
                }
            }
            // Who has no seat stands for no election; but whom it has not heard of it names no longer.
            _ if now >= self.election_at && !stands => self.set_leader(None),
            _ if now >= self.election_at => {
                if own == 1 && self.seats().len() == 1 {
                    self.campaign(now, false);
                } else {
                    self.pre_campaign(now);
                }
            }
            _ => {}
        }
    }

    fn reset_election_timer(&mut self, now: Time) {
        let wait = self.rng.between(self.settings.election_timeout_min, self.settings.election_timeout_max);
        self.election_at = now.plus(wait);
    }

    /// Leader or follower that has heard its leader lately: no vote for anybody else.
    fn is_content(&self, now: Time) -> bool {
        self.is_leader()
            || (self.leader.is_some()
                && self.heard_leader_at.is_some_and(|at| now.since(at) < self.settings.election_timeout_min))
    }

    // ---- elections --------------------------------------------------------------------------------------------------

    /// Whoever has reaped the leader's process says so: no need to wait until it has been silent for long enough. False
    /// if it is not the leader of this agent. A hint can't do harm: votes are given as ever, and a leader that is heard
    /// before the short wait is over (for two agents seldom to stand at the same time) stays.
    pub fn suspect(&mut self, now: Time, id: NodeId) -> bool {
        if self.leader != Some(id) || self.is_leader() {
            return false;
        }
        mark!(AgencyLeaderDead);
        self.heard_leader_at = None;
        let wait = self.rng.between(Duration::ZERO, self.settings.heartbeat());
        self.election_at = self.election_at.min(now.plus(wait));
        true
    }

    fn pre_campaign(&mut self, now: Time) {
        self.reset_election_timer(now);
        self.set_leader(None);
        self.role = Role::Candidate { pre: true, transfer: false, votes: BTreeMap::from([(self.settings.me, now)]) };
        self.events.push(Event::Campaigns { term: Term(self.hard.term.0 + 1), pre: true });
        self.ask_for_votes(true, false);
    }

    fn campaign(&mut self, now: Time, transfer: bool) {
        self.reset_election_timer(now);
        self.enter_term(Term(self.hard.term.0 + 1));
        self.hard.vote = Some(self.settings.me);
        self.set_leader(None);
        self.role = Role::Candidate { pre: false, transfer, votes: BTreeMap::new() };
        self.events.push(Event::Campaigns { term: self.hard.term, pre: false });
        // Votes are asked for when this is durable.
    }

    fn enter_term(&mut self, term: Term) {
        assert!(term > self.hard.term);
        self.hard = HardState { term, vote: None };
        self.owed_vote = None;
        self.verified = 0;
        self.leader_round = 0;
        self.ack_owed = false;
        self.receiving = None;
    }

    fn ask_for_votes(&mut self, pre: bool, transfer: bool) {
        let body =
            Body::RequestVote { pre, transfer, last_index: self.log.last_index(), last_term: self.log.last_term() };
        let term = if pre { Term(self.hard.term.0 + 1) } else { self.hard.term };
        for voter in self.others() {
            self.outbox.push((voter, term, body.clone()));
        }
    }

    fn count_votes(&mut self, now: Time) {
        let Role::Candidate { pre, votes, .. } = &self.role else { return };
        // Its own counts only if it has a seat.
        let others = votes.keys().filter(|voter| **voter != self.settings.me).count();
        if others + usize::from(self.is_seated()) < self.majority() {
            return;
        }
        if *pre {
            self.campaign(now, false);
        } else {
            self.become_leader(now);
        }
    }

    fn become_leader(&mut self, now: Time) {
        assert!(self.hard_durable == self.hard && self.hard.vote == Some(self.settings.me), "I4: our own vote counts");
        let Role::Candidate { votes, .. } = &self.role else { unreachable!("only a candidate is elected") };
        let electors =
            votes.iter().filter(|(elector, _)| **elector == self.settings.me || !planted!(silence_of_candidate));
        let earlier_rounds_until = electors.map(|(_, heard_at)| *heard_at).max().expect("its own vote, at least");
        let next = self.log.last_index() + 1;
        let progress = Progress::new(next - 1);
        let peers = self.others().into_iter().map(|id| (id, progress.clone())).collect();
        self.role = Role::Leader(Leading {
            since: now,
            earlier_rounds_until,
            first_index: next,
            peers,
            learner: None,
            heartbeat_at: now,
            round: 0,
            confirmed: 0,
            round_wanted: false,
        });
        self.leader = Some(self.settings.me);
        self.events.push(Event::LeadsAgency { term: self.hard.term });
        self.append(LogEntry { term: self.hard.term, data: Bytes::new() });
        self.broadcast(now);
    }

    fn become_follower(&mut self, now: Time, term: Term, leader: Option<NodeId>) {
        if term > self.hard.term {
            self.enter_term(term);
        }
        if self.is_leader() {
            self.last_round_at = now;
        }
        if !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
            self.verified = 0;
            self.leader_round = 0;
            self.reset_election_timer(now);
        }
        self.set_leader(leader);
    }

    fn set_leader(&mut self, leader: Option<NodeId>) {
        if self.leader != leader {
            self.leader = leader;
            self.events.push(Event::FollowsAgent { term: self.hard.term, leader });
        }
    }

    // ---- messages ---------------------------------------------------------------------------------------------------

    /// A message of an agent of this agency. Whoever has no seat may lead or ask for a vote, for this agent may not
    /// have heard yet that it has one; its votes and acknowledgements count for nothing (R11).
    pub fn step(&mut self, now: Time, from: NodeId, disk: StoreId, term: Term, body: Body) {
        assert!(from != self.settings.me);
        let learns = self.learner().is_some_and(|seat| seat.peer.id == from && seat.disk == disk);
        let seated = is_seated(self.seats(), from, disk);
        match body {
            Body::VoteReply { .. } if !seated => return mark!(AgentNotInPool),
            Body::AppendReply { .. } | Body::SnapshotReply { .. } if !seated && !learns => {
                return mark!(AgentNotInPool);
            }
            _ => {}
        }
        match body {
            Body::RequestVote { pre: true, last_index, last_term, .. } => {
                let granted = term > self.hard.term && !self.is_content(now) && self.up_to_date(last_index, last_term);
                let answer_term = if granted { term } else { self.hard.term };
                if !granted {
                    mark!(PreVoteRefused);
                }
                self.outbox.push((from, answer_term, Body::VoteReply { pre: true, granted, silence: Duration::ZERO }));
                return;
            }
            Body::VoteReply { pre: true, granted: true, .. } => {
                let asked = Term(self.hard.term.0 + 1);
                if let Role::Candidate { pre: true, votes, .. } = &mut self.role
                    && term == asked
                {
                    votes.insert(from, now);
                    self.count_votes(now);
                }
                return;
            }
            Body::RequestVote { transfer: false, .. } if term > self.hard.term && self.is_content(now) => {
                return mark!(VoteIgnored);
            }
            _ => {}
        }
        if term > self.hard.term {
            self.become_follower(now, term, None);
        }
        if term < self.hard.term {
            mark!(SenderOfOldTerm);
            // Tell a sender of the past which term it is.
            match body {
                Body::RequestVote { .. } => self.refuse_vote(from),
                Body::Append { .. } | Body::Snapshot { .. } => {
                    self.send(from, Body::AppendReply { matched: 0, conflict: None, round: 0 });
                }
                _ => {}
            }
            return;
        }
        match body {
            Body::RequestVote { last_index, last_term, .. } => self.on_request_vote(now, from, last_index, last_term),
            Body::VoteReply { granted, silence, .. } => {
                if let Role::Candidate { pre: false, votes, .. } = &mut self.role
                    && granted
                {
                    votes.insert(from, now.minus(silence));
                    self.count_votes(now);
                }
            }
            Body::Append { .. } | Body::Snapshot { .. } if self.is_leader() => {
                self.disbelieve(from, "leads in the term of this leader");
            }
            Body::Append { prev_index, prev_term, entries, commit, round } => {
                let terms = entries.iter().map(|entry| entry.term);
                if !std::iter::once(prev_term).chain(terms).chain([term]).is_sorted() {
                    return self.disbelieve(from, "sends entries whose terms go back");
                }
                self.hear_leader(now, from, round);
                self.on_append(prev_index, prev_term, entries, commit);
            }
            Body::Snapshot { index_term, .. } if index_term > term => {
                self.disbelieve(from, "sends a snapshot of the future");
            }
            Body::Snapshot { index, index_term, seats, total, offset, piece, round } => {
                self.hear_leader(now, from, round);
                let receiving = Receiving { index, term: index_term, seats, total, bytes: Vec::new() };
                self.on_snapshot(from, receiving, offset, &piece);
            }
            Body::AppendReply { matched, conflict, round } => self.on_reply(now, from, matched, conflict, round),
            Body::SnapshotReply { index, offset, round } => self.on_snapshot_reply(now, from, index, offset, round),
            Body::TimeoutNow => {
                if self.leader == Some(from) && !self.is_leader() && self.is_seated() {
                    mark!(LeadTakenOver);
                    self.campaign(now, true);
                }
            }
        }
    }

    fn up_to_date(&self, last_index: u64, last_term: Term) -> bool {
        planted!(vote_ignores_logs) || (last_term, last_index) >= (self.log.last_term(), self.log.last_index())
    }

    fn on_request_vote(&mut self, now: Time, from: NodeId, last_index: u64, last_term: Term) {
        let free = self.hard.vote.is_none() || self.hard.vote == Some(from);
        let idle = matches!(self.role, Role::Follower | Role::Candidate { pre: true, .. });
        if !free || !self.up_to_date(last_index, last_term) || !idle {
            mark!(VoteRefused);
            return self.refuse_vote(from);
        }
        self.role = Role::Follower;
        self.hard.vote = Some(from);
        self.reset_election_timer(now);
        self.owed_vote = Some(from);
        if planted!(vote_before_durable) && self.owed_vote.take().is_some() {
            self.give_vote(now, from);
        }
        if self.hard_durable == self.hard {
            self.after_persist(now);
        }
    }

    fn give_vote(&mut self, now: Time, candidate: NodeId) {
        let silence = now.since(self.last_round_at);
        self.send(candidate, Body::VoteReply { pre: false, granted: true, silence });
    }

    fn refuse_vote(&mut self, candidate: NodeId) {
        self.send(candidate, Body::VoteReply { pre: false, granted: false, silence: Duration::ZERO });
    }

    /// What an agent that keeps the promises can't have said. It is not acted upon, so nothing here depends on it.
    fn disbelieve(&mut self, from: NodeId, what: &str) {
        mark!(AgentDisbelieved);
        let text = format!("{from} {what} ({}): ignored", self.hard.term.0);
        self.events.push(Event::Says(Severity::Error, text.into()));
    }

    fn hear_leader(&mut self, now: Time, from: NodeId, round: u64) {
        assert!(!self.is_leader(), "I1: a leader follows nobody in its own term");
        self.become_follower(now, self.hard.term, Some(from));
        self.heard_leader_at = Some(now);
        self.last_round_at = now;
        self.reset_election_timer(now);
        self.leader_round = self.leader_round.max(round);
    }

    fn on_append(&mut self, prev_index: u64, prev_term: Term, entries: Vec<LogEntry>, commit: u64) {
        let agrees = match self.log.term_at(prev_index) {
            Some(term) => term == prev_term,
            // Forgotten because it was committed, and so the same everywhere.
            None => prev_index < self.commit,
        };
        if !agrees {
            mark!(AppendRefused);
            if prev_index <= self.commit {
                let leader = self.leader.expect("an append comes from a leader");
                return self.disbelieve(leader, "has another entry than the one committed here (I2)");
            }
            let hint = match prev_index.cmp(&self.log.last_index()) {
                std::cmp::Ordering::Greater => self.log.last_index() + 1,
                _ => self.log.first_of_term_at(prev_index).max(self.commit + 1),
            };
            if self.hard_durable == self.hard {
                let round = self.leader_round;
                let leader = self.leader.expect("an append comes from a leader");
                self.send(leader, Body::AppendReply { matched: self.matched(), conflict: Some(hint), round });
            }
            return;
        }
        let mut index = prev_index;
        for entry in entries {
            index += 1;
            let agrees = self.log.term_at(index) == Some(entry.term) && !planted!(append_truncates);
            if index <= self.commit || agrees {
                continue;
            }
            if index <= self.log.last_index() {
                self.truncate_from(index);
            }
            let appended = self.append(entry);
            assert_eq!(appended, index);
        }
        self.verified = self.verified.max(index);
        self.commit = self.commit.max(commit.min(index));
        self.acknowledge();
    }

    fn truncate_from(&mut self, index: u64) {
        assert!(index > self.commit, "I3: a committed entry is never taken back");
        mark!(TailTruncated);
        self.log.truncate_from(index);
        self.configurations.truncated_from(index);
        if !planted!(truncation_forgotten) {
            self.truncate = Some(self.truncate.map_or(index, |earlier| earlier.min(index)));
        }
        self.started = self.started.min(index - 1);
        self.durable = self.durable.min(index - 1);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.last = in_flight.last.min(index - 1);
        }
    }

    /// What an acknowledgement may claim: durable, and known to agree with the leader's log (I4).
    fn matched(&self) -> u64 {
        if planted!(ack_before_durable) {
            return self.verified;
        }
        self.verified.min(self.durable)
    }

    /// At once, as far as the disk has come; again when it has come further.
    fn acknowledge(&mut self) {
        self.ack_owed = self.verified > self.durable || self.hard_durable != self.hard;
        if self.hard_durable == self.hard
            && let Some(leader) = self.leader
        {
            let (matched, round) = (self.matched(), self.leader_round);
            self.send(leader, Body::AppendReply { matched, conflict: None, round });
        }
    }

    fn on_reply(&mut self, now: Time, from: NodeId, matched: u64, conflict: Option<u64>, round: u64) {
        let last = self.log.last_index();
        let Role::Leader(leading) = &mut self.role else { return };
        if matched > last || round > leading.round {
            return self.disbelieve(from, "acknowledges what was never sent");
        }
        let peer = leading.progress(from).expect("a seat, or the learner");
        peer.heard_at = now;
        peer.round = peer.round.max(round);
        peer.matched = peer.matched.max(matched);
        peer.next = peer.next.max(peer.matched + 1);
        if peer.sending.as_ref().is_some_and(|s| peer.matched >= s.snapshot.index) {
            peer.sending = None;
        }
        if let Some(hint) = conflict {
            peer.next = hint.clamp(peer.matched + 1, peer.next);
        }
        let behind = peer.next <= last && peer.sending.is_none();
        self.promote(now);
        self.advance_commit(now);
        self.advance_round(now);
        if behind || conflict.is_some() {
            self.send_append(from);
        }
    }

    fn on_snapshot_reply(&mut self, now: Time, from: NodeId, index: u64, offset: u64, round: u64) {
        let Role::Leader(leading) = &mut self.role else { return };
        if round > leading.round {
            return self.disbelieve(from, "answers a round that has not begun");
        }
        let peer = leading.progress(from).expect("a seat, or the learner");
        peer.heard_at = now;
        peer.round = peer.round.max(round);
        let mut more = false;
        if let Some(sending) = &mut peer.sending
            && sending.snapshot.index == index
            && offset != sending.offset
            && offset <= sending.snapshot.state.len() as u64
        {
            sending.offset = offset;
            more = offset < sending.snapshot.state.len() as u64;
        }
        self.advance_round(now);
        if more {
            self.send_append(from);
        }
    }

    fn on_snapshot(&mut self, from: NodeId, begun: Receiving, offset: u64, piece: &[u8]) {
        let (index, total) = (begun.index, begun.total);
        if index <= self.commit {
            self.verified = self.verified.max(index);
            self.acknowledge();
            return;
        }
        if total > SNAPSHOT_BYTES_MAX {
            return;
        }
        let mut receiving = match self.receiving.take() {
            Some(r) if r.index == index && r.term == begun.term && r.total == total => r,
            _ => begun,
        };
        if offset == receiving.bytes.len() as u64 && offset + piece.len() as u64 <= total {
            receiving.bytes.extend_from_slice(piece);
        }
        let have = receiving.bytes.len() as u64;
        if have < total {
            self.receiving = Some(receiving);
            let round = self.leader_round;
            if self.hard_durable == self.hard {
                self.send(from, Body::SnapshotReply { index, offset: have, round });
            }
            return;
        }
        let Receiving { index, term, seats, bytes, .. } = receiving;
        self.install(Snapshot { index, term, seats, state: bytes.into() });
        self.acknowledge();
    }

    fn install(&mut self, snapshot: Snapshot) {
        assert!(snapshot.index > self.commit);
        let index = snapshot.index;
        if self.log.term_at(index) == Some(snapshot.term) {
            mark!(AgencySnapshotKeepsLog);
            self.configurations.compacted(index);
            self.log.snapshot = snapshot;
        } else {
            mark!(AgencySnapshotInstalled);
            let seats = if snapshot.seats.is_empty() { &self.settings.founders } else { &snapshot.seats };
            self.configurations.reset(index, seats.clone());
            self.log.reset(snapshot);
            self.truncate = Some(0);
            self.durable = 0;
            self.started = index;
            if let Some(in_flight) = &mut self.in_flight {
                in_flight.last = 0;
            }
        }
        self.snapshot_dirty = true;
        self.commit = index;
        self.verified = self.verified.max(index);
    }

    // ---- leading ----------------------------------------------------------------------------------------------------

    /// Appends an entry; `None` if this agent does not lead.
    pub fn propose(&mut self, data: Bytes) -> Option<u64> {
        assert!(!data.is_empty());
        let term = self.hard.term;
        self.is_leader().then(|| self.append(LogEntry { term, data }))
    }

    /// A configuration holds as soon as it is in the log.
    fn append(&mut self, entry: LogEntry) -> u64 {
        let index = self.log.last_index() + 1;
        let changed = self.configurations.appended(index, &entry);
        let appended = self.log.append(entry);
        assert_eq!(appended, index);
        if changed {
            let agents = self.configurations.latest().iter().map(|seat| seat.peer.id).collect();
            self.events.push(Event::AgencyConfigured { index, agents });
            self.follow_configuration();
        }
        index
    }

    // ---- membership -------------------------------------------------------------------------------------------------

    /// A leader speaks to those who have a seat, and to its learner.
    fn follow_configuration(&mut self) {
        let (seats, last) = (self.seats().to_vec(), self.log.last_index());
        let Role::Leader(leading) = &mut self.role else { return };
        leading.peers.retain(|id, _| seats.iter().any(|seat| seat.peer.id == *id));
        for seat in seats.iter().filter(|seat| seat.peer.id != self.settings.me) {
            let learned = leading.learner.take_if(|learner| learner.0 == *seat).map(|learner| learner.1);
            let progress = learned.unwrap_or_else(|| Progress::new(last));
            leading.peers.entry(seat.peer.id).or_insert(progress);
        }
    }

    /// The former change is committed, and so is an entry of this leader's own term (`membership` says why).
    fn may_change(&self) -> bool {
        let settled = self.first_of_term().is_some_and(|first| self.commit >= first);
        let settled = settled || planted!(change_before_own_entry);
        let decided = self.configurations.latest_index() <= self.commit || planted!(two_changes_at_once);
        settled && decided
    }

    /// Lets an agent catch up, to have a seat once it has. Repeated until it has one. `Err` says why not now.
    pub fn add(&mut self, now: Time, seat: Seat) -> Result<(), &'static str> {
        if is_seated(self.seats(), seat.peer.id, seat.disk) {
            return Ok(());
        }
        if self.seats().iter().any(|other| other.peer.id == seat.peer.id) {
            return Err("an agent of this id has a seat, with another disk");
        }
        let (last, patience) = (self.log.last_index(), self.settings.quorum_window());
        let Role::Leader(leading) = &mut self.role else { return Err("this agent does not lead") };
        match leading.learner.as_deref() {
            Some((learner, _)) if *learner == seat => return Ok(()),
            Some((_, progress)) if now.since(progress.heard_at) <= patience => {
                return Err("another agent is catching up");
            }
            _ => {}
        }
        mark!(AgentLearns);
        leading.learner = Some(Box::new((seat, Progress { heard_at: now, ..Progress::new(last) })));
        self.broadcast(now);
        Ok(())
    }

    /// A learner that has everything committed, and was heard just now, gets its seat.
    fn promote(&mut self, now: Time) {
        let Role::Leader(leading) = &self.role else { return };
        let Some((seat, progress)) = leading.learner.as_deref() else { return };
        let lives = now.since(progress.heard_at) <= self.settings.election_timeout_min;
        if progress.matched < self.commit || !lives || !self.may_change() {
            return;
        }
        mark!(AgentAdded);
        let mut seats = self.seats().to_vec();
        seats.push(seat.clone());
        seats.sort();
        self.propose(encode_configuration(&seats));
    }

    /// Takes an agent's seat away. `Err` says why not, or not now.
    pub fn remove(&mut self, id: NodeId) -> Result<(), &'static str> {
        if let Role::Leader(leading) = &mut self.role {
            leading.learner.take_if(|learner| learner.0.peer.id == id);
        }
        let mut seats = self.seats().to_vec();
        seats.retain(|seat| seat.peer.id != id);
        if seats.len() == self.seats().len() {
            return Ok(());
        }
        if seats.is_empty() {
            return Err("it is the last agent");
        }
        if !self.may_change() {
            return Err("another change is not committed yet");
        }
        mark!(AgentRemoved);
        self.propose(encode_configuration(&seats));
        Ok(())
    }

    /// Sends what was proposed; called once a step, so that proposals of one step travel together.
    pub fn replicate(&mut self, now: Time) {
        let last = self.log.last_index();
        self.promote(now);
        let Role::Leader(leading) = &self.role else { return };
        let learner = leading.learner.iter().map(|learner| (&learner.0.peer.id, &learner.1));
        let behind: Vec<NodeId> = leading
            .peers
            .iter()
            .chain(learner)
            .filter(|(_, p)| p.next <= last && p.sending.is_none() && p.next <= p.matched + AHEAD_MAX)
            .map(|(id, _)| *id)
            .collect();
        for peer in behind {
            self.send_append(peer);
        }
        self.advance_commit(now);
    }

    fn broadcast(&mut self, now: Time) {
        let heartbeat = self.settings.heartbeat();
        let Role::Leader(leading) = &mut self.role else { return };
        leading.heartbeat_at = now.plus(heartbeat);
        let learner = leading.learner.as_ref().map(|learner| learner.0.peer.id);
        for peer in self.others().into_iter().chain(learner) {
            self.send_append(peer);
        }
    }

    fn send_append(&mut self, to: NodeId) {
        let Role::Leader(leading) = &mut self.role else { return };
        let round = leading.round;
        let peer = leading.progress(to).expect("a seat, or the learner");
        let prev_index = peer.next - 1;
        let body = match (&peer.sending, self.log.term_at(prev_index)) {
            (None, Some(prev_term)) => {
                let ahead = peer.next > peer.matched + AHEAD_MAX;
                let entries =
                    if ahead { Vec::new() } else { self.log.slice(peer.next, APPEND_COUNT_MAX, APPEND_BYTES_MAX) };
                peer.next += entries.len() as u64;
                Body::Append { prev_index, prev_term, entries, commit: self.commit, round }
            }
            _ => {
                mark!(AgencySnapshotSent);
                let sending =
                    peer.sending.get_or_insert_with(|| Sending { snapshot: self.log.snapshot.clone(), offset: 0 });
                let state = &sending.snapshot.state;
                let from = sending.offset as usize;
                let piece = state.slice(from..state.len().min(from + PIECE_BYTES));
                Body::Snapshot {
                    index: sending.snapshot.index,
                    index_term: sending.snapshot.term,
                    seats: sending.snapshot.seats.clone(),
                    total: state.len() as u64,
                    offset: sending.offset,
                    piece,
                    round,
                }
            }
        };
        self.send(to, body);
    }

    fn advance_commit(&mut self, now: Time) {
        let Role::Leader(leading) = &self.role else { return };
        if self.commit == self.log.last_index() {
            return;
        }
        let mut matched: Vec<u64> = leading.peers.values().map(|p| p.matched).collect();
        if self.is_seated() {
            matched.push(if planted!(leader_counts_itself_early) { self.log.last_index() } else { self.durable });
        }
        if planted!(learner_counts) {
            matched.extend(leading.learner.iter().map(|learner| learner.1.matched));
        }
        matched.sort_unstable();
        let index = matched[matched.len() - self.majority()];
        // Only entries of our own term are committed by counting.
        let own = self.log.term_at(index) == Some(self.hard.term) || planted!(older_terms_committed);
        if index > self.commit && own {
            self.commit = index;
            if planted!(configuration_at_commit) {
                self.follow_configuration();
            }
            if !self.is_seated() && self.configurations.latest_index() <= self.commit {
                mark!(RemovedLeaderSteps);
                // Those who stay learn with this that it is committed.
                self.broadcast(now);
                self.resign(now);
            }
        }
    }

    /// The number of a round that begins now or later: once [`Raft::confirmed`] reaches it, this agent is known to have
    /// led after this call.
    pub fn request_round(&mut self, now: Time) -> u64 {
        let Role::Leader(leading) = &mut self.role else { return 0 };
        if leading.peers.is_empty() {
            // The only voice is this agent's own.
            leading.round += 1;
            leading.confirmed = leading.round;
            return leading.round;
        }
        if leading.confirmed < leading.round {
            mark!(RoundWanted);
            leading.round_wanted = true;
            return leading.round + 1;
        }
        leading.round += 1;
        let round = leading.round;
        self.broadcast(now);
        round
    }

    /// The latest round that a majority has echoed.
    pub fn confirmed(&self) -> u64 {
        match &self.role {
            Role::Leader(leading) => leading.confirmed,
            _ => 0,
        }
    }

    fn advance_round(&mut self, now: Time) {
        let (majority, seated) = (self.majority(), self.is_seated());
        let Role::Leader(leading) = &mut self.role else { return };
        let mut rounds: Vec<u64> = leading.peers.values().map(|p| p.round).collect();
        if seated {
            rounds.push(leading.round);
        }
        rounds.sort_unstable();
        leading.confirmed = leading.confirmed.max(rounds[rounds.len() - majority]);
        if leading.confirmed == leading.round && std::mem::take(&mut leading.round_wanted) {
            leading.round += 1;
            self.broadcast(now);
        }
    }

    /// Hands the lead to the follower that is furthest, and stops leading.
    pub fn resign(&mut self, now: Time) {
        let Role::Leader(leading) = &self.role else { return };
        let best = leading.peers.iter().max_by_key(|(id, p)| (p.heard_at, p.matched, **id)).map(|(id, _)| *id);
        if let Some(best) = best {
            mark!(LeadTransferred);
            self.send(best, Body::TimeoutNow);
        }
        self.become_follower(now, self.hard.term, None);
    }

    // ---- compaction -------------------------------------------------------------------------------------------------

    /// Whether the state machine, which has applied everything up to `applied`, should make a snapshot.
    pub fn wants_snapshot(&self, applied: u64) -> bool {
        self.log.wants_snapshot(applied, self.settings.compaction_step, KEEP_BYTES_MAX)
    }

    pub fn compact(&mut self, index: u64, state: Bytes) {
        assert!(index <= self.commit);
        let seats = self.configurations.at(index).to_vec();
        self.configurations.compacted(index);
        self.snapshot_dirty = true;
        let forgotten = self.log.compact(index, seats, state, self.settings.compaction_keep, KEEP_BYTES_MAX);
        self.compact = forgotten.or(self.compact);
    }

    // ---- small things -----------------------------------------------------------------------------------------------

    fn others(&self) -> Vec<NodeId> {
        self.seats().iter().map(|seat| seat.peer.id).filter(|id| *id != self.settings.me).collect()
    }

    fn send(&mut self, to: NodeId, body: Body) {
        self.outbox.push((to, self.hard.term, body));
    }
}

#[cfg(test)]
mod tests;
