//! What the record of leadership means for this server: follow, begin an epoch, freeze, step down.
//!
//! A record older than what the data have seen tells of the past and changes nothing. An epoch is begun once, by the
//! process that was elected (R3), and served in only while its lease holds. Invariants: I5, I6, I7.

use super::role::{Cause, Role};
use super::{Pending, Reign, Server, UNFIT};
use crate::io::*;
use crate::mark;
use crate::message::*;
use crate::replication::follower::{Follower, Terms};
use crate::replication::in_sync::InSyncSet;
use crate::replication::leader;
use crate::types::*;

impl Server {
    /// A record of leadership has come: act if it is news.
    pub(super) fn learn(&mut self, cx: &mut Cx, lead: Leadership) {
        let newer = (lead.epoch, lead.index) > (self.lead.epoch, self.lead.index);
        // A record older than what the data have seen tells of the past.
        if newer && lead.epoch < self.seen {
            mark!(RecordOfOldEpoch);
        }
        if !newer || lead.epoch < self.seen || self.role == Role::Joining {
            return;
        }
        let same_reign = (lead.epoch, &lead.leader) == (self.lead.epoch, &self.lead.leader);
        self.lead = lead;
        self.view_old = true;
        if same_reign {
            if let Some(in_sync) = self.reign.as_mut().and_then(|reign| reign.in_sync.as_mut()) {
                in_sync.recorded(&self.lead);
            }
            return;
        }
        let epoch = self.lead.epoch;
        if self.reign.as_ref().is_some_and(|reign| reign.epoch < epoch) {
            self.end_reign(cx, "a later epoch has begun");
        }
        match self.lead.leader.clone() {
            Some(leader) if leader.peer.id != self.me.id => {
                self.on(cx, Cause::AnotherLeads);
                if self.role == Role::Following {
                    self.follow(cx, leader);
                }
            }
            Some(leader) if leader.boot == self.boot || planted!(epoch_survives_restart) => {
                let released = self.release.as_ref().is_some_and(|release| release.epoch == epoch);
                if !released && self.reign.is_none() {
                    self.following = None;
                    self.on(cx, Cause::Elected);
                    if self.role == Role::Promoting {
                        self.begin_epoch(cx, epoch);
                    }
                }
            }
            // Nobody, or a process of ours that is gone (R3).
            _ => {
                self.following = None;
                self.on(cx, Cause::NobodyLeads);
            }
        }
    }

    pub(super) fn follow(&mut self, cx: &mut Cx, leader: Leader) {
        // The process that we follow may change its address, not its boot.
        let copy = self.copy.take();
        let terms = Terms {
            leader,
            epoch: self.lead.epoch,
            boot: self.boot,
            store: self.store,
            timing: &self.timing,
            complete: self.complete,
            copy: copy.as_ref(),
        };
        self.following = Some(Follower::new(cx, terms));
    }

    /// The first entry of the epoch and the lease are asked for at the same time.
    pub(super) fn begin_epoch(&mut self, cx: &mut Cx, epoch: Epoch) {
        assert!(self.reign.is_none(), "one reign at a time");
        self.reign = Some(Reign { epoch, shipping: None, in_sync: None, closing: None, handover_after: cx.now.time });
        let lineage = Lineage(cx.rng.next_u64());
        let op = cx.start(Op::BeginEpoch { epoch, lineage });
        self.pending.insert(op, Pending::Begin { epoch });
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    pub(super) fn begun(&mut self, cx: &mut Cx, epoch: Epoch, result: OpResult) {
        match result {
            OpResult::Began { entry } => {
                self.seen = self.seen.max(epoch);
                self.last = entry.position();
                let Some(reign) = self.reign.as_mut().filter(|reign| reign.epoch == epoch) else { return };
                cx.note(Event::EpochBegun { epoch, first: entry.tick });
                let chunk_bytes = self.config.chunk_bytes;
                let shipping = leader::Leader::new(epoch, self.boot, entry.position(), &self.timing, chunk_bytes);
                reign.shipping = Some(shipping);
                let durability = self.config.durability;
                if self.link.is_some() && (durability.wanted() > 0 || !self.lead.in_sync.members.is_empty()) {
                    let in_sync = InSyncSet::new(durability, self.boot, &self.lead, entry.tick, cx.now.time);
                    reign.in_sync = Some(in_sync);
                }
                self.building.begin();
                self.prolong_tenure(epoch);
                self.try_open(cx);
                for (from, follow) in std::mem::take(&mut self.early).into_values() {
                    if let Some(shipping) = self.shipping().filter(|_| follow.epoch == epoch) {
                        mark!(FollowedEarly);
                        shipping.follow(cx, &from, follow);
                    }
                }
                // The agency grants nothing before it knows that the first epoch has begun.
                if let Some(link) = &mut self.link {
                    link.hurry(cx.now.time);
                }
            }
            other => {
                mark!(EpochNotBegun);
                let text = format!("epoch {} can't begin: {other:?}", epoch.0);
                cx.note(Event::Says(Severity::Error, text.into()));
                if self.reign.as_ref().is_some_and(|reign| reign.epoch == epoch) {
                    self.unfit_until = cx.now.time.plus(UNFIT);
                    self.end_reign(cx, "the epoch could not be begun");
                    self.on(cx, Cause::CannotLead);
                    // Somebody else may be able to: nobody has to wait for this lease.
                    self.release = Some(Release { boot: self.boot, epoch, last: self.last, successor: None });
                    self.send_release(cx);
                }
            }
        }
    }

    /// Followers are told how fresh they are only as long as nobody else can lead.
    pub(super) fn prolong_tenure(&mut self, epoch: Epoch) {
        let held = self.lease.held(epoch);
        if let (Some(held), Some(shipping)) = (held, self.shipping()) {
            shipping.renewed(leader::Tenure { end: held.end, sent: held.sent, slack: held.slack });
        }
    }

    pub(super) fn try_open(&mut self, cx: &mut Cx) {
        let Some(reign) = &self.reign else { return };
        let durable = reign.shipping.is_some() || planted!(gate_opens_before_row);
        if durable && self.role == Role::Promoting && self.lease_lost(reign.epoch, cx.now).is_none() {
            self.on(cx, Cause::Opened);
        }
        self.view_old = true;
    }

    pub(super) fn end_reign(&mut self, cx: &mut Cx, why: &'static str) {
        self.lose_lease(cx, why);
        if self.reign.take().is_some() {
            self.lease.drop_all();
            self.view_old = true;
            self.give_up_held(cx);
            self.building.give_up(cx);
            self.cursors.clear();
            self.jobs.clear();
            if !planted!(transaction_outlives_epoch) {
                self.transactions.clear();
            }
        }
    }

    pub(super) fn freeze(&mut self, cx: &mut Cx, from: Peer, freeze: Freeze) {
        let outdated = freeze.epoch < self.seen || freeze.epoch < self.lead.epoch;
        let decided = freeze.epoch == self.lead.epoch && self.lead.leader.is_some();
        if outdated || decided {
            mark!(FreezeOutdated);
        }
        if outdated || decided || self.boot == Boot(0) || self.role == Role::Joining {
            return;
        }
        self.heard_agency(cx, &from);
        let unread = OpResult::Seen { before: self.seen, last: self.last, complete: self.complete };
        if planted!(freeze_skipped) {
            return self.seen(cx, freeze, &from, unread);
        }
        if self.reign.as_ref().is_some_and(|reign| reign.epoch < freeze.epoch) {
            self.end_reign(cx, "deposed");
        }
        // Whom it follows led an earlier epoch: in this one nobody does yet.
        if !planted!(epoch_unchecked) {
            self.following = None;
        }
        mark!(FreezeReceived);
        self.on(cx, Cause::Frozen);
        if planted!(report_before_durable) {
            self.seen(cx, freeze, &from, unread);
        }
        let op = cx.start(Op::See { epoch: freeze.epoch });
        self.pending.insert(op, Pending::See { freeze, from });
    }

    pub(super) fn seen(&mut self, cx: &mut Cx, freeze: Freeze, from: &Peer, result: OpResult) {
        match result {
            OpResult::Seen { before, last, complete } => {
                self.seen = self.seen.max(freeze.epoch);
                let last = if planted!(report_from_memory) { self.last } else { last };
                self.last = last;
                self.complete = complete;
                let report = Report {
                    term: freeze.term,
                    epoch: freeze.epoch,
                    boot: self.boot,
                    store: self.store,
                    complete: self.complete,
                    last,
                    seen: before,
                };
                cx.send(from, Message::Report(report));
            }
            OpResult::Stale { seen } => {
                mark!(FreezeStale);
                self.seen = self.seen.max(seen);
            }
            other => {
                mark!(FreezeFailed);
                let text = format!("can't freeze for epoch {}: {other:?}", freeze.epoch.0);
                cx.note(Event::Says(Severity::Error, text.into()));
            }
        }
    }
}
