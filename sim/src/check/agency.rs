//! I1 to I4: the agency's Raft, seen from outside.

use super::{Ctx, Verdict, broken};
use bytes::Bytes;
use std::collections::BTreeMap;
use tanist_engine::io::Event;
use tanist_engine::message::raft::{Body, Persist, Raft};
use tanist_engine::message::{Envelope, Message};
use tanist_engine::types::{NodeId, Term};

#[derive(Clone, Hash)]
pub struct Agency {
    /// I1: who led each term.
    leaders: BTreeMap<Term, usize>,
    /// I2: what is durable on each agent's disk.
    logs: Vec<BTreeMap<u64, Bytes>>,
    /// I3: the digest after each applied index, and who was the first.
    digests: BTreeMap<u64, (u64, usize)>,
    applied: Vec<(u64, u64)>,
    /// Up to where each agent's log is compacted.
    compacted: Vec<u64>,
    /// I4: whom each agent has voted for, by term.
    votes: BTreeMap<(usize, Term), NodeId>,
    /// Who chose a server last, and in which event.
    decided: Option<(usize, u64)>,
}

/// The number of the supervision's rule that chooses a server.
const ELECTS: u32 = 130;

impl Agency {
    pub fn new(agents: usize) -> Agency {
        Agency {
            leaders: BTreeMap::new(),
            logs: vec![BTreeMap::new(); agents],
            digests: BTreeMap::new(),
            applied: vec![(0, 0); agents],
            compacted: vec![0; agents],
            votes: BTreeMap::new(),
            decided: None,
        }
    }

    /// The agent that led the latest term.
    pub fn leader(&self) -> Option<usize> {
        self.leaders.last_key_value().map(|(_, agent)| *agent)
    }

    pub fn noted(&mut self, ctx: &Ctx, event: &Event) -> Verdict {
        match event {
            Event::LeadsAgency { term } => {
                let first = *self.leaders.entry(*term).or_insert(ctx.node);
                if first != ctx.node {
                    broken!("I1", "a{first} and a{} both lead term {}", ctx.node, term.0);
                }
            }
            Event::Applied { index, digest, .. } => {
                let (first_digest, first) = *self.digests.entry(*index).or_insert((*digest, ctx.node));
                if first_digest != *digest {
                    broken!("I3", "a{first} and a{} differ in what they applied up to {index}", ctx.node);
                }
                let (incarnation, before) = self.applied[ctx.node];
                if incarnation == ctx.incarnation && *index <= before {
                    broken!("I3", "a{} applied {index} after {before}", ctx.node);
                }
                self.applied[ctx.node] = (ctx.incarnation, *index);
            }
            Event::Supervision { rule: ELECTS, .. } => self.decided = Some((ctx.node, ctx.event)),
            _ => {}
        }
        Ok(())
    }

    /// An agent sends a message: what it says of its disk must be so by now, and a vote must outlive the process.
    pub fn sent(&mut self, ctx: &Ctx, envelope: &Envelope) -> Verdict {
        let Message::Raft(Raft::Consensus(consensus)) = &envelope.message else { return Ok(()) };
        match consensus.body {
            Body::AppendReply { matched, conflict: None, .. } => {
                let end = self.logs[ctx.node].last_key_value().map_or(0, |(index, _)| *index);
                let durable = end.max(self.compacted[ctx.node]);
                if matched > durable {
                    broken!("I4", "a{} acknowledges {matched}, but only {durable} is durable", ctx.node);
                }
            }
            Body::VoteReply { pre: false, granted: true } => {
                let Some(candidate) = envelope.to else { return Ok(()) };
                let first = *self.votes.entry((ctx.node, consensus.term)).or_insert(candidate);
                if first != candidate {
                    let term = consensus.term.0;
                    broken!("I4", "a{} votes for {candidate} in term {term}, after {first}", ctx.node);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Who chose a server last, and in which event: what it had heard by then is what the choice is judged by.
    pub fn decided(&self) -> Option<(usize, u64)> {
        self.decided
    }

    /// The index that an agent's process applied last.
    pub fn applied(&self, agent: usize) -> u64 {
        self.applied[agent].1
    }

    /// Entries are durable on an agent's disk. Equal entries (their bytes include the term) must follow equal ones.
    pub fn persisted(&mut self, ctx: &Ctx, persist: &Persist) -> Verdict {
        let log = &mut self.logs[ctx.node];
        if let Some(from) = persist.truncate_from {
            log.split_off(&from);
        }
        if let Some(to) = persist.compact_to {
            *log = log.split_off(&(to + 1));
            self.compacted[ctx.node] = self.compacted[ctx.node].max(to);
        }
        // A snapshot stands for what had been applied when it was taken, or taken in.
        if persist.meta.iter().any(|(name, value)| *name == "raft.snapshot" && value.is_some()) {
            let applied = self.applied[ctx.node].1;
            self.compacted[ctx.node] = self.compacted[ctx.node].max(applied);
        }
        log.extend(persist.entries.iter().cloned());
        let mine = &self.logs[ctx.node];
        for (other, theirs) in self.logs.iter().enumerate().filter(|(other, _)| *other != ctx.node) {
            for (index, bytes) in &persist.entries {
                let before = index - 1;
                let (Some(a), Some(b)) = (mine.get(&before), theirs.get(&before)) else { continue };
                if theirs.get(index) == Some(bytes) && a != b {
                    broken!("I2", "a{} and a{other} agree at {index} but not at {before}", ctx.node);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::message::Peer;
    use tanist_engine::message::raft::Consensus;
    use tanist_engine::types::{Endpoint, NodeKind, StoreId, Time};

    fn ctx(node: usize) -> Ctx {
        Ctx { at: At(0), event: 1, node, incarnation: 1, local: Time(0) }
    }

    fn append(entries: &[(u64, &'static str)]) -> Persist {
        let entries = entries.iter().map(|(i, e)| (*i, Bytes::from_static(e.as_bytes()))).collect();
        Persist { entries, ..Persist::default() }
    }

    #[test]
    fn two_leaders_of_a_term_are_found() {
        let mut agency = Agency::new(2);
        agency.noted(&ctx(0), &Event::LeadsAgency { term: Term(3) }).unwrap();
        agency.noted(&ctx(0), &Event::LeadsAgency { term: Term(3) }).unwrap();
        assert_eq!(agency.noted(&ctx(1), &Event::LeadsAgency { term: Term(3) }).unwrap_err().0, "I1");
    }

    #[test]
    fn logs_that_agree_after_differing_are_found() {
        let mut agency = Agency::new(2);
        agency.persisted(&ctx(0), &append(&[(1, "x"), (2, "y")])).unwrap();
        agency.persisted(&ctx(1), &append(&[(1, "z")])).unwrap();
        assert_eq!(agency.persisted(&ctx(1), &append(&[(2, "y")])).unwrap_err().0, "I2");
    }

    #[test]
    fn a_repaired_log_is_fine() {
        let mut agency = Agency::new(2);
        agency.persisted(&ctx(0), &append(&[(1, "x"), (2, "y")])).unwrap();
        agency.persisted(&ctx(1), &append(&[(1, "z")])).unwrap();
        let repair = Persist { truncate_from: Some(1), ..append(&[(1, "x"), (2, "y")]) };
        agency.persisted(&ctx(1), &repair).unwrap();
    }

    #[test]
    fn early_acknowledgements_and_second_votes_are_found() {
        let id = |uuid| NodeId { kind: NodeKind::Agent, uuid };
        let from = Peer { id: id(9), endpoint: Endpoint::parse("tcp://a:1").unwrap() };
        let says = |to: u128, body| {
            let consensus = Consensus { disk: StoreId(1), term: Term(4), body };
            let message = Message::Raft(Raft::Consensus(consensus));
            Envelope { from: from.clone(), to: Some(id(to)), message }
        };
        let mut agency = Agency::new(1);
        agency.persisted(&ctx(0), &append(&[(1, "x"), (2, "y")])).unwrap();
        let matched = |matched| says(1, Body::AppendReply { matched, conflict: None, round: 0 });
        agency.sent(&ctx(0), &matched(2)).unwrap();
        assert_eq!(agency.sent(&ctx(0), &matched(3)).unwrap_err().0, "I4");
        let vote = |to| says(to, Body::VoteReply { pre: false, granted: true });
        agency.sent(&ctx(0), &vote(1)).unwrap();
        agency.sent(&ctx(0), &vote(1)).unwrap();
        assert_eq!(agency.sent(&ctx(0), &vote(2)).unwrap_err().0, "I4");
    }

    #[test]
    fn different_applied_sequences_are_found() {
        let mut agency = Agency::new(2);
        let applied = |index, digest| Event::Applied { index, term: Term(1), digest };
        agency.noted(&ctx(0), &applied(1, 7)).unwrap();
        agency.noted(&ctx(1), &applied(1, 7)).unwrap();
        agency.noted(&ctx(0), &applied(2, 8)).unwrap();
        assert_eq!(agency.noted(&ctx(1), &applied(2, 9)).unwrap_err().0, "I3");
        assert_eq!(agency.noted(&ctx(0), &applied(2, 8)).unwrap_err().0, "I3", "applied twice");
    }
}
