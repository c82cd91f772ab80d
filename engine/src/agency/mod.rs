//! The agency: 1, 3 or 5 agents that agree, through Raft, on who leads the deployment.
//!
//! An [`Agent`] glues the parts together: [`pool`] finds the other agents once and for ever, [`consensus`] orders
//! entries, [`state`] is what the entries make, [`office`] is what the leading agent knows and does besides, [`api`] is
//! the HTTP surface. Nothing here decides by itself; the order of work in `Agency::settle` is the whole story of a
//! step.

mod account;
mod api;
mod consensus;
mod etcd;
mod lease;
mod log;
mod membership;
mod office;
mod pool;
mod raft;
mod state;
mod supervision;
#[cfg(test)]
mod tests;
mod transient;
mod tree;

use crate::io::{Cx, Event, Input, Op, OpId, OpResult, Output, SavedAgent, Severity, Wake};
use crate::mark;
use crate::message::raft::{self as wire, Persist, SavedRaft};
use crate::message::{Envelope, Message, Peer};
use crate::types::*;
pub use api::AGENTS_MAX;
use api::{Jobs, Target};
use consensus::Consensus;
use etcd::Etcd;
use office::Office;
use pool::Pool;
use raft::Raft;
use serde_json::{Map, Value};
use state::{Command, State};
use std::collections::VecDeque;

/// Entries that `poll` can hand out one by one; whoever is further behind gets the whole tree.
const HISTORY_MAX: usize = 2000;
const HISTORY_BYTES_MAX: usize = 32 << 20;
/// How far one entry may set the agency's time ahead.
const TIME_STEP_MAX_MS: u64 = 24 * 3600 * 1000;
/// How long to wait before a failed write to the disk is tried again.
const PERSIST_RETRY: Duration = Duration::from_secs(1);

/// Whether a snapshot's state can be read. `Err` says that it can't.
pub fn check_state(state: &[u8]) -> Result<(), String> {
    State::parse(state).map(drop)
}

#[derive(Clone, Hash)]
pub struct Agent {
    me: Peer,
    rng: Rng,
    ops: u64,
    wake: Option<Wake>,
    agency: Agency,
}

impl Agent {
    pub fn boot(config: AgentConfig, saved: SavedAgent, seed: u64, now: Now) -> Agent {
        let me = Peer { id: saved.id, endpoint: config.endpoint.clone() };
        let mut raft = saved.raft;
        let pool = Pool::boot(&config, &me, saved.disk, std::mem::take(&mut raft.pool), now.time);
        let agency = Agency {
            config,
            disk: saved.disk,
            saved: raft,
            pool,
            consensus: None,
            adopted: 0,
            persisting: None,
            retry_at: None,
            state: State::default(),
            clock: (0, now.time),
            history: VecDeque::new(),
            history_bytes: 0,
            office: None,
            jobs: Jobs::default(),
            stopping: false,
            stopped: false,
        };
        let wake = Some(Wake { at: now.time, why: "start" });
        Agent { me, rng: Rng::new(seed), ops: 0, wake, agency }
    }

    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let mut cx = Cx { now, me: &self.me, rng: &mut self.rng, ops: &mut self.ops, out };
        self.agency.step(&mut cx, input);
        self.wake = self.agency.wake(now.time);
    }

    pub fn deadline(&self) -> Option<Wake> {
        self.wake
    }

    pub fn id(&self) -> NodeId {
        self.me.id
    }
}

/// What an entry did to the tree.
#[derive(Clone, Hash)]
struct Change {
    index: u64,
    /// Size of the entry.
    bytes: usize,
    query: Map<String, Value>,
}

#[derive(Clone, Hash)]
struct Agency {
    config: AgentConfig,
    disk: StoreId,
    /// What was found on the disk, until Raft has taken it.
    saved: SavedRaft,
    pool: Pool,
    /// None until the pool is formed.
    consensus: Option<Consensus>,
    /// The version of the configuration that the pool knows.
    adopted: u64,
    persisting: Option<(OpId, Persist)>,
    retry_at: Option<Time>,
    state: State,
    /// A time that was stamped into an entry, and when it was applied here.
    clock: (u64, Time),
    history: VecDeque<Change>,
    history_bytes: usize,
    /// Only while this agent leads.
    office: Option<Office>,
    jobs: Jobs,
    stopping: bool,
    stopped: bool,
}

impl Agency {
    fn step(&mut self, cx: &mut Cx, input: Input) {
        if self.stopped {
            return;
        }
        match input {
            Input::Timer => {}
            Input::Message(envelope) => self.on_message(cx, envelope),
            Input::Request { id, request } => self.on_request(cx, Target::Client(id), request, false),
            Input::Done { op, result } => self.on_done(cx, op, result),
            Input::Answered { id, answer } => {
                if let Some(Consensus::Etcd(etcd)) = &mut self.consensus {
                    etcd.answered(cx.now.time, id, answer);
                }
            }
            Input::Stop => self.stop(cx),
        }
        self.settle(cx);
    }

    /// Everything that follows from what this agent now knows.
    fn settle(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        if self.stopping {
            self.flush_messages(cx);
            if self.persisting.is_none() {
                self.stopped = true;
                cx.out.push(Output::Stopped);
            }
            return;
        }
        self.pool.tick(cx);
        self.start_consensus(cx);
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            let (op, persist) = self.persisting.as_mut().expect("a failed write is kept");
            *op = cx.start(Op::Persist(persist.clone()));
        }
        loop {
            self.adopt_configuration();
            let Some(consensus) = &mut self.consensus else { return };
            consensus.tick(now);
            // What Raft did comes before what follows from it.
            consensus.take_events().into_iter().for_each(|event| cx.note(event));
            // Out of office first: what another leader put in the place of our entries is no answer to our clients.
            let mut more = self.follow_consensus(cx);
            more |= self.apply_committed(cx);
            self.answer_confirmed(cx);
            more |= self.supervise(cx);
            more |= self.keep_house(cx);
            let consensus = self.consensus.as_mut().expect("still there");
            consensus.replicate(now);
            if self.persisting.is_none()
                && let Some(persist) = consensus.flush()
            {
                let op = cx.start(Op::Persist(persist.clone()));
                self.persisting = Some((op, persist));
            }
            if !more {
                break;
            }
        }
        self.jobs.expire_polls(cx, &self.state);
        self.flush_messages(cx);
    }

    fn start_consensus(&mut self, cx: &mut Cx) {
        if self.consensus.is_some() || !self.pool.is_formed() {
            return;
        }
        let rng = cx.rng.fork(1);
        if let Some(prefix) = &self.config.etcd {
            let settings = etcd::Settings {
                me: cx.me.clone(),
                prefix: prefix.clone(),
                heartbeat: self.config.election_timeout_min / 2,
                window: self.config.election_timeout_max,
                patience: self.config.election_timeout_min / 2,
                compaction_step: self.config.compaction_step.max(1),
                compaction_keep: self.config.compaction_keep,
            };
            self.consensus = Some(Consensus::Etcd(Box::new(Etcd::boot(settings, rng, cx.now.time))));
            return;
        }
        let settings = raft::Settings {
            me: cx.me.id,
            disk: self.disk,
            founders: self.pool.founders().to_vec(),
            election_timeout_min: self.config.election_timeout_min,
            election_timeout_max: self.config.election_timeout_max,
            compaction_step: self.config.compaction_step.max(1),
            compaction_keep: self.config.compaction_keep,
        };
        let saved = std::mem::take(&mut self.saved);
        let raft = Raft::boot(settings, saved, rng, cx.now.time);
        self.consensus = Some(Consensus::Raft(Box::new(raft)));
        self.adopt_configuration();
    }

    /// Whoever has a seat by the log has one in the pool.
    fn adopt_configuration(&mut self) {
        let Some(Consensus::Raft(raft)) = &self.consensus else { return };
        if self.adopted != raft.configuration_version() {
            self.adopted = raft.configuration_version();
            self.pool.adopt(raft.seats());
        }
    }

    fn flush_messages(&mut self, cx: &mut Cx) {
        let Some(consensus) = &mut self.consensus else { return };
        for event in consensus.take_events() {
            cx.note(event);
        }
        match consensus {
            Consensus::Raft(raft) => {
                for (to, term, body) in raft.take_outbox() {
                    // Lost like any other message, if it is for somebody whose address is not known (any more).
                    let Some(to) = self.pool.peer(to) else { continue };
                    let consensus = wire::Consensus { agency: self.pool.agency(), disk: self.disk, term, body };
                    cx.send(to, Message::Raft(wire::Raft::Consensus(Box::new(consensus))));
                }
            }
            Consensus::Etcd(etcd) => {
                cx.out.extend(etcd.take_outbox().into_iter().map(|(id, ask)| Output::Ask { id, ask }));
            }
        }
    }

    fn wake(&self, now: Time) -> Option<Wake> {
        if self.stopping {
            return None;
        }
        let mut wakes = vec![(self.pool.deadline(), "gossip"), (self.jobs.deadline(), "poll")];
        if let Some(consensus) = &self.consensus {
            wakes.push((consensus.deadline(), if consensus.is_leader() { "heartbeat" } else { "election" }));
        }
        if let Some(at) = self.retry_at {
            wakes.push((at, "retry write"));
        }
        if let Some(office) = &self.office {
            office.deadlines(&self.state, now, &self.config, &mut wakes);
        }
        let (at, why) = wakes.into_iter().min_by_key(|(at, _)| *at)?;
        (at < Time::NEVER).then_some(Wake { at, why })
    }

    // ---- inputs -----------------------------------------------------------------------------------------------------

    fn on_done(&mut self, cx: &mut Cx, op: OpId, result: OpResult) {
        let ok = match result {
            OpResult::Persisted => true,
            OpResult::Failed(error) => {
                mark!(AgencyWriteFailed);
                cx.note(Event::Says(Severity::Error, format!("the agency can't write: {error}").into()));
                false
            }
            other => panic!("a persist does not end in {other:?}"),
        };
        if self.pool.done(cx, op, ok) {
            return;
        }
        if self.persisting.as_ref().is_some_and(|(mine, _)| *mine == op) {
            if ok {
                self.persisting = None;
                let Some(Consensus::Raft(raft)) = &mut self.consensus else { panic!("only Raft writes") };
                raft.persisted(cx.now.time);
            } else if self.stopping {
                self.persisting = None;
            } else {
                self.retry_at = Some(cx.now.time.plus(PERSIST_RETRY));
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx, envelope: Envelope) {
        let Envelope { from, to, message } = envelope;
        if to.is_some_and(|to| to != cx.me.id) || self.stopping {
            return;
        }
        match message {
            Message::Raft(wire::Raft::Gossip(gossip)) => self.pool.on_gossip(cx, from, gossip),
            Message::Raft(wire::Raft::Consensus(consensus)) => self.on_raft(cx, from, *consensus),
            Message::Call { call, request } => {
                self.on_request(cx, Target::Server { peer: from, call }, request, true);
            }
            message if from.id.kind == NodeKind::Server => self.on_server_message(cx, from, message),
            _ => {}
        }
    }

    fn on_raft(&mut self, cx: &mut Cx, from: Peer, consensus: wire::Consensus) {
        // R11: only disks with a seat have a voice. Whose message may matter without one, Raft decides.
        let wire::Consensus { agency, disk, term, body } = consensus;
        let joins = self.config.joins && matches!(body, wire::Body::Append { .. } | wire::Body::Snapshot { .. });
        if from.id == cx.me.id || !(self.pool.is_formed() || joins) || !self.pool.recognize(cx, &from, disk, agency) {
            return;
        }
        self.start_consensus(cx);
        let Some(Consensus::Raft(raft)) = &mut self.consensus else { return };
        raft.step(cx.now.time, from.id, disk, term, body);
        self.adopt_configuration();
    }

    fn stop(&mut self, cx: &mut Cx) {
        if let Some(consensus) = &mut self.consensus {
            consensus.resign(cx.now.time);
        }
        self.follow_consensus(cx);
        self.jobs.refuse_all(cx, &api::no_leader());
        self.stopping = true;
        if self.retry_at.take().is_some() {
            // It failed and no other attempt is under way: there is nothing to wait for.
            self.persisting = None;
        }
    }

    // ---- the log ----------------------------------------------------------------------------------------------------

    fn propose(&mut self, command: &Command) -> Option<u64> {
        self.consensus.as_mut()?.propose(wire::encode(command))
    }

    /// The time to stamp into an entry, and to judge by what stamped times mean: the wall clock's, but never earlier
    /// than a time that was stamped before.
    ///
    /// If the wall clock is behind such a time (a machine's clock was wrong, or was set back), time goes on from there
    /// at the rate of the steady clock: else nothing would expire until the wall has caught up. And no entry sets the
    /// time ahead by more than a day: a clock that is decades off for a moment costs days, which the wall makes up for;
    /// an agency that was stopped for a week has caught up after a few entries.
    fn stamp(&self, now: Now) -> u64 {
        let last = self.state.wall_ms;
        let goes_on = self.shown(now.time);
        match last {
            0 => now.wall_ms,
            _ if now.wall_ms < last => {
                mark!(StampedByWallBehind);
                goes_on
            }
            _ if now.wall_ms > goes_on + TIME_STEP_MAX_MS => {
                mark!(StampHeldBack);
                goes_on + TIME_STEP_MAX_MS
            }
            _ => now.wall_ms,
        }
    }

    /// What the latest stamp has become by now.
    fn shown(&self, now: Time) -> u64 {
        let (stamped_ms, at) = self.clock;
        (stamped_ms + now.since(at).as_millis() as u64).max(self.state.wall_ms)
    }

    fn set_clock(&mut self, now: Now) {
        // Behind the stamps, the clock runs on without losing what passes between stamping and applying.
        if now.wall_ms >= self.state.wall_ms || self.state.wall_ms >= self.shown(now.time) {
            self.clock = (self.state.wall_ms, now.time);
        }
    }

    fn apply_committed(&mut self, cx: &mut Cx) -> bool {
        let mut any = false;
        loop {
            let consensus = self.consensus.as_ref().expect("it runs");
            let snapshot = &consensus.log().snapshot;
            if snapshot.index > self.state.applied {
                self.state = State::decode(&snapshot.state);
                assert_eq!(self.state.applied, snapshot.index);
                self.history.clear();
                self.history_bytes = 0;
                self.note_applied(cx);
                any = true;
                continue;
            }
            let index = self.state.applied + 1;
            if index > consensus.commit() {
                break;
            }
            let entry = consensus.log().get(index).expect("a committed entry after the snapshot is in the log").clone();
            self.jobs.before(index, &self.state);
            if planted!(ttl_by_own_clock) {
                self.state.wall_ms = self.state.wall_ms.max(cx.now.wall_ms);
            }
            let applied = self.state.apply(index, entry.term, &entry.data);
            self.note_applied(cx);
            for event in applied.events {
                cx.note(event);
            }
            self.remember(Change { index, bytes: entry.data.len(), query: applied.query });
            self.jobs.after(cx, index, &applied.outcome, &self.state);
            self.on_outcome(cx, index, entry.term, applied.outcome);
            any = true;
        }
        if any {
            self.set_clock(cx.now);
            let consensus = self.consensus.as_mut().expect("it runs");
            if consensus.wants_snapshot(self.state.applied) {
                consensus.compact(self.state.applied, self.state.encode());
            }
            self.jobs.answer_polls(cx, &self.state, &self.history);
        }
        any
    }

    fn remember(&mut self, change: Change) {
        self.history_bytes += change.bytes;
        self.history.push_back(change);
        while self.history.len() > HISTORY_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.bytes;
        }
    }

    fn note_applied(&self, cx: &mut Cx) {
        let State { applied: index, applied_term: term, digest, .. } = self.state;
        cx.note(Event::Applied { index, term, digest });
    }

    /// Takes or leaves office as the consensus says.
    fn follow_consensus(&mut self, cx: &mut Cx) -> bool {
        let Some(consensus) = &self.consensus else { return false };
        let leads = consensus.is_leader().then(|| consensus.term());
        if self.office.as_ref().map(|office| office.term) == leads {
            return false;
        }
        let now = cx.now.time;
        let office = leads.map(|term| Office::new(term, now, consensus.earlier_rounds_until(now), &self.state));
        let leader = self.leader_peer();
        if let Some(office) = self.office.take() {
            office.leave(cx, leader);
            self.jobs.refuse_all(cx, &api::no_leader());
        }
        self.office = office;
        true
    }

    /// An entry of this leader's own term is applied: what it knows is what was decided (R2).
    fn is_settled(&self) -> bool {
        let first = self.consensus.as_ref().and_then(Consensus::first_of_term);
        let settled = first.is_some_and(|first| self.state.applied >= first) || planted!(decides_before_own_entry);
        self.office.is_some() && settled
    }

    fn leader_peer(&self) -> Option<Peer> {
        match self.consensus.as_ref()? {
            Consensus::Raft(raft) => self.pool.peer(raft.leader()?).cloned(),
            Consensus::Etcd(etcd) => etcd.leader().cloned(),
        }
    }
}
