//! The one interface to whatever orders the agency's entries and says who leads it.
//!
//! What everything above rests on, whoever does it:
//! - **I1** A term has one leader, and every later leader has a higher one.
//! - **I3** An entry at or below `commit` is the same for everybody and for ever.
//! - A leader's entry is committed only while nobody has led in a later term.
//! - A round that is confirmed proves that this agent still led after the round was asked for.

use super::log::Log;
use super::raft::{Progress, Raft};
use crate::io::Event;
use crate::message::raft::Persist;
use crate::types::*;
use bytes::Bytes;

#[derive(Clone, Hash)]
pub enum Consensus {
    Raft(Box<Raft>),
}

impl Consensus {
    // ---- who leads --------------------------------------------------------------------------------------------------

    pub fn is_leader(&self) -> bool {
        let Consensus::Raft(raft) = self;
        raft.is_leader()
    }

    /// The latest that this agent knows of; its own, if it leads.
    pub fn term(&self) -> Term {
        let Consensus::Raft(raft) = self;
        raft.term()
    }

    pub fn leader(&self) -> Option<NodeId> {
        let Consensus::Raft(raft) = self;
        raft.leader()
    }

    /// The entry that began this leader's term.
    pub fn first_of_term(&self) -> Option<u64> {
        let Consensus::Raft(raft) = self;
        raft.first_of_term()
    }

    /// What this leader knows of those who follow its log.
    pub fn peers(&self) -> Vec<(NodeId, Progress)> {
        let Consensus::Raft(raft) = self;
        raft.peers()
    }

    /// Stops leading, and lets somebody else begin as soon as may be.
    pub fn resign(&mut self, now: Time) {
        let Consensus::Raft(raft) = self;
        raft.resign(now);
    }

    // ---- rounds -----------------------------------------------------------------------------------------------------

    /// The number of a round that begins now or later: once [`Consensus::confirmed`] reaches it, this agent is known to
    /// have led after this call.
    pub fn request_round(&mut self, now: Time) -> u64 {
        let Consensus::Raft(raft) = self;
        raft.request_round(now)
    }

    /// The latest round that is confirmed.
    pub fn confirmed(&self) -> u64 {
        let Consensus::Raft(raft) = self;
        raft.confirmed()
    }

    // ---- the log ----------------------------------------------------------------------------------------------------

    pub fn log(&self) -> &Log {
        let Consensus::Raft(raft) = self;
        raft.log()
    }

    pub fn commit(&self) -> u64 {
        let Consensus::Raft(raft) = self;
        raft.commit()
    }

    /// Appends an entry; `None` if this agent does not lead.
    pub fn propose(&mut self, data: Bytes) -> Option<u64> {
        let Consensus::Raft(raft) = self;
        raft.propose(data)
    }

    /// Whether the state machine, which has applied everything up to `applied`, should make a snapshot.
    pub fn wants_snapshot(&self, applied: u64) -> bool {
        let Consensus::Raft(raft) = self;
        raft.wants_snapshot(applied)
    }

    /// Everything up to `index`, which is applied, is `state`.
    pub fn compact(&mut self, index: u64, state: Bytes) {
        let Consensus::Raft(raft) = self;
        raft.compact(index, state);
    }

    // ---- time, disk, messages ---------------------------------------------------------------------------------------

    pub fn tick(&mut self, now: Time) {
        let Consensus::Raft(raft) = self;
        raft.tick(now);
    }

    pub fn deadline(&self) -> Time {
        let Consensus::Raft(raft) = self;
        raft.deadline()
    }

    /// Sends what was proposed; called once a step, so that proposals of one step travel together.
    pub fn replicate(&mut self, now: Time) {
        let Consensus::Raft(raft) = self;
        raft.replicate(now);
    }

    /// What must be made durable next; `None` while a persist is in flight or nothing is to be done.
    pub fn flush(&mut self) -> Option<Persist> {
        let Consensus::Raft(raft) = self;
        raft.flush()
    }

    /// The persist in flight is durable.
    pub fn persisted(&mut self, now: Time) {
        let Consensus::Raft(raft) = self;
        raft.persisted(now);
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        let Consensus::Raft(raft) = self;
        std::mem::take(&mut raft.events)
    }
}
