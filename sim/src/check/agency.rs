//! I1 to I4: the agency's Raft, seen from outside.

use super::{Ctx, Verdict, broken};
use bytes::Bytes;
use std::collections::BTreeMap;
use tanist_engine::io::Event;
use tanist_engine::message::raft::Persist;
use tanist_engine::types::Term;

pub struct Agency {
    /// I1: who led each term.
    leaders: BTreeMap<Term, usize>,
    /// I2: what is durable on each agent's disk.
    logs: Vec<BTreeMap<u64, Bytes>>,
    /// I3: the digest after each applied index, and who was the first.
    digests: BTreeMap<u64, (u64, usize)>,
    applied: Vec<(u64, u64)>,
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
    use tanist_engine::types::Time;

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
