//! The one interface to whatever orders the agency's entries and says who leads it.
//!
//! What everything above rests on, whoever does it:
//! - **I1** A term has one leader, and every later leader has a higher one.
//! - **I3** An entry at or below `commit` is the same for everybody and for ever.
//! - A leader's entry is committed only while nobody has led in a later term.
//! - A round that is confirmed proves that this agent still led after the round was asked for.

use super::etcd::{self, Etcd};
use super::log::Log;
use super::raft::{Progress, Raft};
use crate::io::Event;
use crate::message::raft::Persist;
use crate::types::*;
use bytes::Bytes;

#[derive(Clone, Hash)]
pub enum Consensus {
    /// Among the agents themselves.
    Raft(Box<Raft>),
    /// Somebody else's: an etcd that is there anyway.
    Etcd(Box<Etcd>),
}

/// `each!(self, it => it.something())`: the same of both kinds.
macro_rules! each {
    ($consensus:expr, $it:ident => $body:expr) => {
        match $consensus {
            Consensus::Raft($it) => $body,
            Consensus::Etcd($it) => $body,
        }
    };
}

impl Consensus {
    // ---- who leads --------------------------------------------------------------------------------------------------

    pub fn is_leader(&self) -> bool {
        each!(self, it => it.is_leader())
    }

    /// The latest that this agent knows of; its own, if it leads.
    pub fn term(&self) -> Term {
        each!(self, it => it.term())
    }

    pub fn leader(&self) -> Option<NodeId> {
        match self {
            Consensus::Raft(raft) => raft.leader(),
            Consensus::Etcd(etcd) => etcd.leader().map(|leader| leader.id),
        }
    }

    /// The entry that began this leader's term.
    pub fn first_of_term(&self) -> Option<u64> {
        each!(self, it => it.first_of_term())
    }

    /// Of a leader that has just been elected: no round of an earlier term that was confirmed began later than that.
    pub fn earlier_rounds_until(&self, now: Time) -> Time {
        match self {
            Consensus::Raft(raft) => raft.earlier_rounds_until().expect("it leads"),
            // Its rounds are its own questions to etcd: nobody else knows of them.
            Consensus::Etcd(_) => now,
        }
    }

    /// What this leader knows of those who follow its log.
    pub fn peers(&self) -> Vec<(NodeId, Progress)> {
        match self {
            Consensus::Raft(raft) => raft.peers(),
            Consensus::Etcd(_) => Vec::new(),
        }
    }

    /// Stops leading, and lets somebody else begin as soon as may be.
    pub fn resign(&mut self, now: Time) {
        each!(self, it => it.resign(now));
    }

    // ---- rounds -----------------------------------------------------------------------------------------------------

    /// The number of a round that begins now or later: once [`Consensus::confirmed`] reaches it, this agent is known to
    /// have led after this call.
    pub fn request_round(&mut self, now: Time) -> u64 {
        match self {
            Consensus::Raft(raft) => raft.request_round(now),
            Consensus::Etcd(etcd) => etcd.request_round(),
        }
    }

    /// The latest round that is confirmed.
    pub fn confirmed(&self) -> u64 {
        each!(self, it => it.confirmed())
    }

    // ---- the log ----------------------------------------------------------------------------------------------------

    pub fn log(&self) -> &Log {
        each!(self, it => it.log())
    }

    pub fn commit(&self) -> u64 {
        each!(self, it => it.commit())
    }

    /// The longest entry that can be proposed.
    pub fn entry_bytes_max(&self) -> usize {
        match self {
            Consensus::Raft(_) => usize::MAX,
            Consensus::Etcd(_) => etcd::ENTRY_BYTES_MAX,
        }
    }

    /// Appends an entry; `None` if this agent does not lead.
    pub fn propose(&mut self, data: Bytes) -> Option<u64> {
        each!(self, it => it.propose(data))
    }

    /// Whether the state machine, which has applied everything up to `applied`, should make a snapshot.
    pub fn wants_snapshot(&self, applied: u64) -> bool {
        each!(self, it => it.wants_snapshot(applied))
    }

    /// Everything up to `index`, which is applied, is `state`.
    pub fn compact(&mut self, index: u64, state: Bytes) {
        each!(self, it => it.compact(index, state));
    }

    // ---- time, disk, messages ---------------------------------------------------------------------------------------

    pub fn tick(&mut self, now: Time) {
        each!(self, it => it.tick(now));
    }

    pub fn deadline(&self) -> Time {
        each!(self, it => it.deadline())
    }

    /// Sends what was proposed; called once a step, so that proposals of one step travel together.
    pub fn replicate(&mut self, now: Time) {
        match self {
            Consensus::Raft(raft) => raft.replicate(now),
            Consensus::Etcd(etcd) => etcd.advance(now),
        }
    }

    /// What must be made durable next; `None` while a persist is in flight or nothing is to be done.
    pub fn flush(&mut self) -> Option<Persist> {
        match self {
            Consensus::Raft(raft) => raft.flush(),
            Consensus::Etcd(_) => None,
        }
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        each!(self, it => std::mem::take(&mut it.events))
    }
}
