//! The leader's in-sync set (R6, R15): which followers must have an entry before it is acknowledged.
//!
//! The set is on the agency's record of leadership. An entry may be acknowledged when the recorded set is large enough
//! and every member has it durable, as has every member of a set that was proposed and may be recorded by now: so at
//! every instant each member of the recorded set has all that was acknowledged (but for the last `lag` operations,
//! where a lag is allowed), and an election that hears one member hears of everything. A follower is proposed when it
//! has all that; a slow one is replaced, never just dropped: with too few members nothing is acknowledged anyway, and
//! those that are on record are the ones who have what was. Keeps I12 strict for synchronous followers.

use super::leader::Leader;
use crate::io::Wake;
use crate::mark;
use crate::message::*;
use crate::types::*;
use std::collections::VecDeque;

#[derive(Clone, Hash)]
pub struct InSyncSet {
    durability: Durability,
    boot: Boot,
    epoch: Epoch,
    /// As of the record with this index.
    recorded: InSync,
    index: u64,
    /// What was asked for. Whether it is recorded is known once a record with a higher index is.
    proposed: Option<SetInSync>,
    ask_at: Time,
    /// The entry that began the epoch: whoever has it has all that was ever acknowledged before.
    first: Tick,
    acknowledged: Tick,
    /// Entries beyond that, and when each became durable here.
    waiting: VecDeque<(Tick, Time)>,
}

impl InSyncSet {
    /// `first` is the entry that begins the epoch; `lead` is its record.
    pub fn new(durability: Durability, boot: Boot, lead: &Leadership, first: Tick, now: Time) -> InSyncSet {
        InSyncSet {
            durability,
            boot,
            epoch: lead.epoch,
            recorded: lead.in_sync.clone(),
            index: lead.index,
            proposed: None,
            ask_at: now,
            first,
            acknowledged: Tick(0),
            waiting: VecDeque::from([(first, now)]),
        }
    }

    /// A record of this epoch has come.
    pub fn recorded(&mut self, lead: &Leadership) {
        if lead.epoch != self.epoch || lead.index <= self.index {
            return;
        }
        self.recorded = lead.in_sync.clone();
        self.index = lead.index;
        // It names the record before: by now it is this one, or it never will be recorded.
        self.proposed = None;
    }

    /// An entry is durable here.
    pub fn committed(&mut self, tick: Tick, now: Time) {
        self.waiting.push_back((tick, now));
    }

    /// Up to here everything may be acknowledged.
    pub fn acknowledged(&self) -> Tick {
        self.acknowledged
    }

    /// Reads wait for what they saw to be acknowledged (R17).
    pub fn is_synchronous(&self) -> bool {
        self.durability.sync_followers > 0
    }

    /// Looks at how far everybody is.
    pub fn advance(&mut self, shipping: &Leader) {
        let proposed = self.proposed.as_ref().map_or(&[][..], |set| &set.in_sync.members);
        let recorded = match &self.recorded.members[..] {
            _ if planted!(in_sync_replaced_early) && !proposed.is_empty() => proposed,
            [] if planted!(acknowledged_before_recorded) => proposed,
            recorded => recorded,
        };
        if recorded.len() >= self.durability.wanted() {
            let durable = |replica: &Replica| shipping.durable_of(replica).map(|durable| durable.tick);
            let last = shipping.last().tick;
            let all = recorded.iter().chain(proposed).map(durable).try_fold(last, |all, one| Some(all.min(one?)));
            let lag = if planted!(lag_limit_ignored) { u64::MAX } else { self.durability.lag() };
            let limit = all.map(|all| Tick(all.0.saturating_add(lag)).min(last));
            let limit = if self.durability.wanted() == 0 { Some(last) } else { limit };
            self.acknowledged = self.acknowledged.max(limit.unwrap_or_default());
        }
        while self.waiting.front().is_some_and(|(tick, _)| *tick <= self.acknowledged) {
            self.waiting.pop_front();
        }
    }

    /// How long the oldest entry waits that a replica lacks.
    fn lateness(&self, durable: Tick, now: Time) -> Duration {
        let reach = Tick(durable.0.saturating_add(self.durability.lag()));
        let lacks = self.waiting.partition_point(|(tick, _)| *tick <= reach);
        self.waiting.get(lacks).map_or(Duration::ZERO, |(_, since)| now.since(*since))
    }

    /// Too few followers, and known to be: a write would only wait in vain.
    pub fn is_short(&self, now: Time) -> bool {
        let wanted = self.durability.wanted();
        let waits_long = |(_, since): &(Tick, Time)| now.since(*since) >= self.durability.timeout;
        let too_small = self.recorded.members.len() < wanted && !planted!(acknowledged_before_recorded);
        wanted > 0 && (too_small || self.waiting.front().is_some_and(waits_long))
    }

    /// The set that should be on record, if it is not.
    fn wanted(&self, shipping: &Leader, now: Time) -> Option<Vec<Replica>> {
        let wanted = self.durability.wanted();
        if wanted == 0 {
            return (!self.recorded.members.is_empty()).then(Vec::new);
        }
        let late = |durable: Tick| self.lateness(durable, now) >= self.durability.timeout / 2;
        let stays = |replica: &&Replica| shipping.durable_of(replica).is_some_and(|durable| !late(durable.tick));
        // Whoever has nothing is never elected, however little may be lost.
        let has_all = |durable: Position| {
            let reach = durable.tick.0.saturating_add(self.durability.lag());
            let has_something = durable != Position::ZERO;
            (has_something && reach >= self.first.max(self.acknowledged).0) || planted!(joins_before_caught_up)
        };
        let mut joiners: Vec<(Replica, Position)> =
            shipping.streaming().filter(|(_, durable)| has_all(*durable)).collect();
        joiners.sort_by_key(|(_, durable)| std::cmp::Reverse(*durable));
        let joiners = joiners.into_iter().map(|(replica, _)| replica).filter(|replica| !self.recorded.has(replica));
        let members: Vec<Replica> =
            self.recorded.members.iter().filter(stays).copied().chain(joiners).take(wanted).collect();
        let news = members != self.recorded.members || self.recorded.lag != self.durability.lag();
        (members.len() == wanted && news).then_some(members)
    }

    /// What to ask the agency for at this moment; asked again until a record tells the outcome.
    pub fn propose(&mut self, shipping: &Leader, now: Time, retry: Duration) -> Option<&SetInSync> {
        if self.proposed.is_none() {
            let members = self.wanted(shipping, now)?;
            let floor = members.iter().filter_map(|replica| shipping.durable_of(replica)).min().unwrap_or_default();
            let in_sync = InSync { members, floor, lag: self.durability.lag() };
            self.proposed = Some(SetInSync { boot: self.boot, epoch: self.epoch, index: self.index, in_sync });
            self.ask_at = now;
            mark!(InSyncProposed);
        }
        if now < self.ask_at {
            return None;
        }
        self.ask_at = now.plus(retry);
        self.proposed.as_ref()
    }

    pub fn deadline(&self, now: Time) -> Option<Wake> {
        let asks = self.proposed.as_ref().map(|_| self.ask_at);
        let timeout = self.durability.timeout;
        let late = self.waiting.front().filter(|_| self.durability.wanted() > 0);
        let late = late.and_then(|(_, since)| {
            [timeout / 2, timeout].map(|after| since.plus(after)).into_iter().find(|at| *at > now)
        });
        asks.into_iter().chain(late).min().map(|at| Wake { at, why: "in-sync set" })
    }
}
