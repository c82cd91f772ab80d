//! R6, R15, R17 and the strict half of I12: where followers must have what is acknowledged.
//!
//! Looks at the logs on the disks, not at what anybody says of them: at each acknowledgement the followers asked for
//! have the entry, and the members of the in-sync set on record do; each set that is recorded has all that was
//! acknowledged; whoever is elected has it, but for as many operations as the lag allows.

use super::replication::{Replication, Store, has};
use super::{Ctx, Verdict, broken};
use crate::scenario::Scenario;
use std::collections::BTreeSet;
use tanist_engine::types::{Epoch, Position};

#[derive(Clone, Hash)]
pub struct Synchrony {
    /// Followers that must have each write.
    followers: usize,
    /// Operations that a failover may lose.
    lag: Option<u64>,
    /// The servers of the in-sync set on record, and the index and epoch of that record.
    recorded: Vec<usize>,
    index: u64,
    epoch: Epoch,
    /// Who was elected last.
    leader: Option<usize>,
    /// What was acknowledged, or shown by a leader with synchronous followers.
    told: BTreeSet<Position>,
    /// Of these, what a failover lost within the lag.
    lost: BTreeSet<Position>,
}

impl Synchrony {
    pub fn new(s: &Scenario) -> Synchrony {
        Synchrony {
            followers: s.sync_followers as usize,
            lag: (s.failover_lag > 0).then_some(s.failover_lag),
            recorded: Vec::new(),
            index: 0,
            epoch: Epoch(0),
            leader: None,
            told: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    fn promises(&self) -> bool {
        self.followers > 0 || self.lag.is_some()
    }

    /// How many followers a leader needs so that it can acknowledge anything.
    pub fn followers_needed(&self) -> usize {
        if self.followers > 0 { self.followers } else { usize::from(self.lag.is_some()) }
    }

    /// Whether this server may be elected without the others, by the record.
    pub fn may_lead(&self, server: usize) -> bool {
        self.recorded.is_empty() || self.leader == Some(server) || self.recorded.contains(&server)
    }

    /// How many operations somebody may lack of what was acknowledged.
    fn allowed(&self) -> usize {
        if self.followers > 0 { 0 } else { self.lag.unwrap_or(0) as usize }
    }

    /// What is known to be told and is not in a log.
    fn lacks(&self, store: &Store, replication: &Replication) -> Vec<Position> {
        let known = self.told.iter().filter(|p| !self.lost.contains(p) && !replication.gone.contains(p));
        known.filter(|p| !has(&store.log, p)).copied().collect()
    }

    /// A leader acknowledges a write that asked for so many followers.
    pub fn acknowledged(&mut self, ctx: &Ctx, replication: &Replication, position: Position, asked: u8) -> Verdict {
        let mut others = replication.stores.iter().enumerate().filter(|(server, _)| *server != ctx.node);
        let having = others.clone().filter(|(_, store)| has(&store.log, &position)).count();
        if having < usize::from(asked) {
            broken!(
                "R6",
                "s{} was asked for {asked} followers and acknowledges {position}, which {having} have",
                ctx.node
            );
        }
        if having < self.followers {
            let wanted = self.followers;
            broken!("R6", "s{} acknowledges {position}, which {having} of {wanted} followers have", ctx.node);
        }
        if self.followers > 0 && self.epoch == position.epoch {
            if self.recorded.len() < self.followers {
                broken!("R6", "s{} acknowledges {position} without an in-sync set on record", ctx.node);
            }
            let lacking = self.recorded.iter().find(|member| !has(&replication.stores[**member].log, &position));
            if let Some(member) = lacking {
                broken!("R6", "s{} acknowledges {position}, which s{member} of the in-sync set lacks", ctx.node);
            }
        }
        if let Some(lag) = self.lag.filter(|_| self.followers == 0) {
            let own = &replication.stores[ctx.node].log;
            let common =
                |store: &Store| store.log.iter().rev().find(|(tick, row)| own.get(tick) == Some(row)).map(|(t, _)| *t);
            let best = others.by_ref().filter_map(|(_, store)| common(store)).max().unwrap_or(0);
            if position.tick.0 > best + lag {
                broken!("R15", "s{} acknowledges {position}, more than {lag} ahead of {best}", ctx.node);
            }
        }
        if self.promises() {
            self.told.insert(position);
        }
        Ok(())
    }

    /// A leader shows what an entry wrote.
    pub fn shown(&mut self, ctx: &Ctx, replication: &Replication, position: Position) -> Verdict {
        if self.followers == 0 {
            return Ok(());
        }
        let others = replication.stores.iter().enumerate().filter(|(server, _)| *server != ctx.node);
        let having = others.filter(|(_, store)| has(&store.log, &position)).count();
        if having < self.followers {
            let wanted = self.followers;
            broken!("R17", "s{} shows {position}, which {having} of {wanted} followers have", ctx.node);
        }
        self.told.insert(position);
        Ok(())
    }

    /// An agent has applied the record with this index.
    pub fn recorded(&mut self, replication: &Replication, epoch: Epoch, index: u64, members: Vec<usize>) -> Verdict {
        if index <= self.index {
            return Ok(());
        }
        (self.index, self.epoch) = (index, epoch);
        for member in &members {
            let lacks = self.lacks(&replication.stores[*member], replication);
            if lacks.len() > self.allowed() {
                broken!("R6", "s{member} is in sync on record, but lacks {}", lacks[0]);
            }
        }
        self.recorded = members;
        Ok(())
    }

    /// A server was elected. The one before joins those who have what was acknowledged.
    pub fn elected(&mut self, replication: &Replication, epoch: Epoch, chosen: usize) -> Verdict {
        if let Some(before) = self.leader.replace(chosen).filter(|_| !self.recorded.is_empty()) {
            self.recorded.retain(|member| *member != before);
            self.recorded.push(before);
        }
        self.recorded.retain(|member| *member != chosen);
        self.epoch = epoch;
        if !self.promises() {
            return Ok(());
        }
        let lacks = self.lacks(&replication.stores[chosen], replication);
        if lacks.len() > self.allowed() {
            let (count, epoch) = (lacks.len(), epoch.0);
            broken!(
                "I12",
                "s{chosen} was elected for epoch {epoch} without {count} that were acknowledged: {}",
                lacks[0]
            );
        }
        self.lost.extend(lacks);
        Ok(())
    }

    /// After convergence, all that was promised is there.
    pub fn converged(&self, replication: &Replication) -> Verdict {
        let lacks = self.lacks(&replication.stores[0], replication);
        if !lacks.is_empty() && self.promises() {
            broken!("I12", "{} was acknowledged and is gone, though followers had to have it", lacks[0]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::types::{Tick, Time};

    fn at(epoch: u64, tick: u64) -> Position {
        Position { epoch: Epoch(epoch), tick: Tick(tick) }
    }

    fn ctx(node: usize) -> Ctx {
        Ctx { at: At(1), event: 1, node, incarnation: 1, local: Time(1) }
    }

    /// Three servers, whose logs of epoch 1 end at these ticks.
    fn replication(ends: [u64; 3]) -> Replication {
        let mut replication = Replication::new(3);
        for (store, end) in replication.stores.iter_mut().zip(ends) {
            store.log = (1..=end).map(|tick| (tick, (Epoch(1), tick as u32))).collect();
        }
        replication
    }

    fn synchrony(sync_followers: u64, failover_lag: u64) -> Synchrony {
        Synchrony::new(&Scenario { sync_followers, failover_lag, ..Scenario::default() })
    }

    fn name(verdict: Verdict) -> Option<&'static str> {
        verdict.err().map(|(invariant, _)| invariant)
    }

    #[test]
    fn an_acknowledgement_needs_its_followers_and_the_set_on_record() {
        let mut s = synchrony(1, 0);
        s.recorded(&replication([5, 5, 5]), Epoch(1), 3, vec![1]).unwrap();
        let judge =
            |s: &Synchrony, ends, asked| name(s.clone().acknowledged(&ctx(0), &replication(ends), at(1, 9), asked));
        assert_eq!(judge(&s, [9, 9, 5], 0), None);
        assert_eq!(judge(&s, [9, 5, 5], 0), Some("R6"));
        assert_eq!(judge(&s, [9, 5, 9], 0), Some("R6"), "another than the one on record");
        assert_eq!(judge(&s, [9, 9, 5], 2), Some("R6"), "its header asks for two");
        s.recorded(&replication([5, 5, 5]), Epoch(1), 4, vec![]).unwrap();
        assert_eq!(judge(&s, [9, 9, 9], 0), Some("R6"), "nobody is on record");
        assert_eq!(judge(&synchrony(0, 0), [9, 9, 5], 1), None);
        assert_eq!(judge(&synchrony(0, 0), [9, 5, 5], 1), Some("R6"));
    }

    /// A reign goes on with the set of the one before, and with its leader.
    #[test]
    fn a_new_leader_needs_the_set_that_it_inherits() {
        let mut s = synchrony(1, 0);
        let judge = |s: &Synchrony, ctx, ends, at| name(s.clone().acknowledged(&ctx, &replication(ends), at, 0));
        s.elected(&replication([0; 3]), Epoch(1), 0).unwrap();
        assert_eq!(judge(&s, ctx(0), [9, 9, 9], at(1, 9)), Some("R6"), "nobody is on record yet");
        s.recorded(&replication([5, 5, 5]), Epoch(1), 3, vec![1]).unwrap();
        s.elected(&replication([5, 5, 5]), Epoch(2), 1).unwrap();
        let mut stores = replication([5, 5, 5]);
        for server in [1, 2] {
            stores.stores[server].log.insert(6, (Epoch(2), 6));
        }
        assert_eq!(name(s.clone().acknowledged(&ctx(1), &stores, at(2, 6), 0)), Some("R6"), "s0 led before");
        stores.stores[0].log.insert(6, (Epoch(2), 6));
        assert_eq!(name(s.acknowledged(&ctx(1), &stores, at(2, 6), 0)), None);
    }

    #[test]
    fn whoever_is_recorded_or_elected_has_what_was_told() {
        let mut s = synchrony(1, 0);
        s.recorded(&replication([5, 5, 5]), Epoch(1), 3, vec![1]).unwrap();
        s.acknowledged(&ctx(0), &replication([9, 9, 5]), at(1, 9), 0).unwrap();
        assert_eq!(name(s.clone().recorded(&replication([9, 9, 8]), Epoch(1), 4, vec![2])), Some("R6"));
        assert_eq!(name(s.clone().recorded(&replication([9, 9, 8]), Epoch(1), 3, vec![2])), None, "old news");
        assert_eq!(name(s.clone().elected(&replication([9, 9, 8]), Epoch(2), 2)), Some("I12"));
        assert_eq!(name(s.elected(&replication([9, 9, 8]), Epoch(2), 1)), None);
        assert_eq!(name(s.converged(&replication([8, 9, 9]))), Some("I12"));
        assert_eq!(name(s.converged(&replication([9, 9, 9]))), None);
        assert_eq!(name(s.shown(&ctx(0), &replication([9, 8, 8]), at(1, 9))), Some("R17"));
        assert_eq!(name(s.shown(&ctx(0), &replication([9, 8, 9]), at(1, 9))), None);
    }

    #[test]
    fn a_lag_limits_what_is_acknowledged_and_what_a_failover_loses() {
        let mut s = synchrony(0, 2);
        assert_eq!(name(s.clone().acknowledged(&ctx(0), &replication([9, 6, 5]), at(1, 9), 0)), Some("R15"));
        for tick in 7..=9 {
            s.acknowledged(&ctx(0), &replication([9, 7, 5]), at(1, tick), 0).unwrap();
        }
        assert_eq!(name(s.clone().elected(&replication([9, 7, 6]), Epoch(2), 2)), Some("I12"));
        assert_eq!(name(s.elected(&replication([9, 7, 6]), Epoch(2), 1)), None);
        assert_eq!(name(s.converged(&replication([7, 7, 7]))), None, "two are lost, as is allowed");
    }
}
