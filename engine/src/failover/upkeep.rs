//! What happens by itself: results of the store, timers, beats, pruning, and the watch on the clocks.

use super::role::{Cause, Role};
use super::{Pending, STUCK, Server};
use crate::db::store::StoreError;
use crate::errors;
use crate::io::*;
use crate::mark;
use crate::message::*;
use crate::replication::follower::News;
use crate::types::*;

/// What the latest rollbacks have cost is told in each beat.
pub(super) const ROLLBACKS_TOLD: usize = 4;

impl Server {
    pub(super) fn done(&mut self, cx: &mut Cx, op: OpId, result: OpResult) {
        self.heed_copies(&result);
        self.heed_rollbacks(&result);
        self.heed_room(cx, op, &result);
        if let Some(run) = self.runs.remove(&op) {
            return self.ran(cx, run, result);
        }
        match self.pending.remove(&op) {
            Some(Pending::Adopt { deployment }) => match result {
                OpResult::Adopted => {
                    self.deployment = Some(deployment);
                    self.joined(cx);
                }
                other => {
                    let text = format!("can't join the deployment: {other:?}");
                    cx.note(Event::Says(Severity::Error, text.into()));
                    // Registering again will try again.
                    self.boot = Boot(0);
                }
            },
            Some(Pending::See { freeze, from }) => self.seen(cx, freeze, &from, result),
            Some(Pending::Begin { epoch }) => self.begun(cx, epoch, result),
            Some(Pending::Forget { record, id, ticket, response }) => match result {
                OpResult::Forgotten { more: true } => self.forget(cx, record, id, ticket, response),
                OpResult::Forgotten { more: false } => {
                    self.garbage = true;
                    self.answer_client(cx, id, ticket, response);
                }
                OpResult::Failed(error) => self.answer_client(cx, id, ticket, errors::storage_failure(&error)),
                other => panic!("forgetting does not end in {other:?}"),
            },
            Some(Pending::Expire) => self.expired(cx, result),
            Some(Pending::Build) => self.built(cx, result),
            Some(Pending::Prune { keep_from }) => {
                self.pruning = false;
                match result {
                    OpResult::Pruned { first, more } => {
                        self.log_first = first;
                        self.garbage = more;
                        if more {
                            self.start_prune(cx, keep_from);
                        }
                    }
                    // A full disk, most likely: not again at once.
                    _ => self.prune_after = cx.now.time.plus(self.timing.lease),
                }
            }
            None => {
                if self.reign.is_some() {
                    if let Some(shipping) = self.shipping() {
                        shipping.done(cx, op, result);
                    }
                } else if let Some(following) = &mut self.following
                    && let Some(news) = following.done(cx, op, result)
                {
                    self.heed(cx, news);
                }
                // Otherwise it was started for a leadership that is over: what it did is in the store, and whoever
                // comes next asks the store.
            }
        }
    }

    /// What a copy does to the data counts whoever started it, even if its leadership is over.
    pub(super) fn heed_copies(&mut self, result: &OpResult) {
        match result {
            // Data without an entry are incomplete from the moment that a copy of somebody's is begun.
            OpResult::CopyBegun => self.complete &= self.last != Position::ZERO,
            OpResult::CopyFinished { last, log_first, .. } => {
                self.last = *last;
                self.complete = true;
                self.log_first = *log_first;
            }
            OpResult::CopyDropped => {}
            OpResult::Appended { builds: true, .. } | OpResult::Undone { .. } => return self.building.want(),
            _ => return,
        }
        self.building.want();
        self.garbage = true;
        self.view_old = true;
    }

    /// What a rollback has cost is told to the agency, whoever was followed then.
    fn heed_rollbacks(&mut self, result: &OpResult) {
        let (OpResult::Undone { summary, .. } | OpResult::CopyFinished { rollback: Some(summary), .. }) = result else {
            return;
        };
        self.rollbacks.retain(|known| known.epoch != summary.epoch);
        self.rollbacks.push(*summary);
        if self.rollbacks.len() > ROLLBACKS_TOLD {
            self.rollbacks.remove(0);
        }
    }

    /// Whether there is room for what is written; a leader that has none has the agency know at once.
    fn heed_room(&mut self, cx: &mut Cx, op: OpId, result: &OpResult) {
        match result {
            OpResult::Failed(StoreError::Full) => match self.runs.contains_key(&op) {
                true => self.room.refused(),
                false => self.room.refused_again(),
            },
            OpResult::Began { .. }
            | OpResult::Ran(Ran { entry: Some(_), .. })
            | OpResult::Expired { entry: Some(_), .. }
            | OpResult::Built { entry: Some(_), .. } => self.room.written(1),
            OpResult::Appended { last, .. } => self.room.written(last.tick.0.saturating_sub(self.last.tick.0)),
            OpResult::CopyFinished { .. } => self.room.written(u64::MAX),
            _ => {}
        }
        if let (true, Some(_), Some(link)) = (self.room.is_news(), &self.reign, &mut self.link) {
            link.hurry(cx.now.time);
        }
    }

    /// The epoch whose log ours has been matched with.
    fn matched(&self) -> Option<Epoch> {
        match (&self.reign, &self.following) {
            (Some(reign), _) => reign.shipping.as_ref().map(|_| reign.epoch),
            (None, Some(following)) => (following.tails() || planted!(loss_told_early)).then(|| following.epoch()),
            (None, None) => None,
        }
    }

    pub(super) fn heed(&mut self, cx: &mut Cx, news: News) {
        match news {
            News::None => {}
            News::Durable(last) => self.last = last,
            News::AskAgency => {
                if let Some(link) = &mut self.link {
                    link.hurry(cx.now.time);
                }
            }
        }
    }

    /// Keep the log short, but not shorter than a connected follower needs, up to the cap.
    pub(super) fn prune(&mut self, cx: &mut Cx) {
        let keep = self.config.log_keep;
        let length = self.last.tick.0.saturating_sub(self.log_first.0);
        if self.pruning || self.boot == Boot(0) || cx.now.time < self.prune_after {
            return;
        }
        if length <= keep + keep / 8 + self.config.log_slack {
            if self.garbage {
                self.start_prune(cx, self.log_first);
            }
            return;
        }
        let needed = self.shipping().map_or(Tick(u64::MAX), |shipping| shipping.needed_from());
        let wanted = Tick(self.last.tick.0 - keep).min(needed);
        let forced = Tick(self.last.tick.0.saturating_sub(self.config.log_keep_cap.max(keep)));
        let keep_from = wanted.max(forced);
        if keep_from > self.log_first {
            self.start_prune(cx, keep_from);
        }
    }

    pub(super) fn start_prune(&mut self, cx: &mut Cx, keep_from: Tick) {
        self.pruning = true;
        let op = cx.start(Op::Prune { keep_from });
        self.pending.insert(op, Pending::Prune { keep_from });
    }

    pub(super) fn watch_clock(&mut self, cx: &mut Cx) {
        let Some(jump) = self.clock.check(cx.now, self.timing.slack()) else { return };
        mark!(ClockJumped);
        cx.note(Event::ClockJumped { steady_ms: jump.steady_ms, wall_ms: jump.wall_ms });
        // The next renewal is counted from after the jump.
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    pub(super) fn lose_lease(&mut self, cx: &mut Cx, why: &'static str) {
        if let (Some(reign), false) = (&self.reign, self.gate_shut) {
            let epoch = reign.epoch;
            self.gate_shut = true;
            self.view_old = true;
            cx.note(Event::LeaseLost { epoch, why });
            match why {
                "the clocks moved apart" => mark!(LeaseClocksApart),
                "no renewal was granted in time" => mark!(LeaseNotRenewed),
                "a later epoch has begun" => mark!(LeaseLaterEpoch),
                "deposed" => mark!(LeaseDeposed),
                "released" => mark!(LeaseReleased),
                "stopping" => mark!(LeaseStopping),
                _ => {}
            }
        }
    }

    pub(super) fn timers(&mut self, cx: &mut Cx) {
        if self.stopped {
            return;
        }
        if self.link.is_none() && self.alone_due(cx.now.time) {
            self.begin_alone(cx);
        }
        if let Some(reign) = &self.reign
            && let Some(why) = self.lease_lost(reign.epoch, cx.now)
        {
            self.lose_lease(cx, why);
        }
        if let Some(shipping) = self.shipping()
            && shipping.deadline().is_some_and(|wake| wake.at <= cx.now.time)
        {
            shipping.timer(cx);
        }
        if let Some(following) = &mut self.following {
            following.timer(cx);
        }
        self.cursors.expire(cx.now.time);
        self.jobs.expire(cx.now.time);
        self.transactions.expire(&self.config.transactions, cx.now.time);
        self.look_after_followers(cx);
        self.hand_over(cx);
        self.prune(cx);
        self.expire(cx);
        self.build(cx);
        self.beat(cx);
        self.go_on_leaving(cx);
    }

    pub(super) fn alone_due(&self, now: Time) -> bool {
        matches!(self.role, Role::Joining | Role::Waiting) && now >= self.unfit_until
    }

    /// A plain single server leads itself, in a new epoch with each start.
    pub(super) fn begin_alone(&mut self, cx: &mut Cx) {
        self.boot = Boot(1);
        self.gate_shut = false;
        self.on(cx, Cause::Registered);
        self.on(cx, Cause::Elected);
        let epoch = Epoch(self.seen.max(self.last.epoch).0 + 1);
        self.lead.epoch = epoch;
        self.begin_epoch(cx, epoch);
    }

    pub(super) fn beat(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        let Some(link) = &mut self.link else { return };
        if link.calls() > 0 {
            let over = link.timer(cx);
            for call in over {
                mark!(CallGivenUp);
                cx.reply(call.id, errors::AGENCY_UNREACHABLE.response());
            }
        }
        let link = self.link.as_mut().expect("looked at above");
        if self.stopped || !link.beat_due(now) {
            return;
        }
        let seq = link.next_seq(now);
        let message = if self.boot == Boot(0) {
            Message::Register(self.introduction())
        } else {
            let stuck =
                self.runs.values().find(|run| run.ticket.writes).is_some_and(|run| now.since(run.since) > STUCK);
            if stuck {
                mark!(RenewalWithheld);
            }
            let deaf = self.hears_nothing(now);
            if deaf && self.reign.is_some() {
                mark!(LeaderDeaf);
            }
            let renew = self.reign.as_ref().filter(|_| !stuck && !deaf).map(|reign| reign.epoch);
            if renew.is_some() {
                self.lease.sent(seq, cx.now);
            }
            let matched = self.matched();
            let begun = self.reign.as_ref().filter(|reign| reign.shipping.is_some());
            let serves = begun.is_some_and(|reign| self.lease_lost(reign.epoch, cx.now).is_none());
            let followed = self.following.as_ref().map(|following| following.leader().peer.id);
            Message::Beat(Beat {
                boot: self.boot,
                seq,
                renew,
                serves,
                last: self.last,
                seen: self.seen,
                leader: renew.map(|_| self.me.id).or(followed),
                complete: self.complete,
                full: self.room.tell() && !planted!(room_not_told),
                staying: self.leaving.is_none() && now >= self.unfit_until,
                matched,
                rollbacks: if matched.is_some() { self.rollbacks.clone() } else { Vec::new() },
            })
        };
        self.link.as_ref().expect("looked at above").send(cx, &message);
        self.send_release(cx);
        if self.release.as_ref().is_some_and(|release| self.lead.epoch > release.epoch) {
            self.release = None;
        }
    }

    /// A leader that is heard by the agency but does not hear it has no use for grants: each that it asks for is one
    /// more lease for which nobody else may serve. It beats on, and asks again once it hears.
    fn hears_nothing(&self, now: Time) -> bool {
        self.link.as_ref().is_some_and(|link| link.unheard(now) >= self.timing.lease / 2)
    }

    /// How this process introduces itself to the agency.
    pub(super) fn introduction(&self) -> Register {
        Register {
            nonce: self.config.nonce,
            ended: self.config.ended,
            store: self.store,
            deployment: self.deployment,
            seen: self.seen,
            advertised: self.config.advertised.clone(),
            host: self.config.host.clone(),
        }
    }
}
