//! Giving leadership away: a planned hand-over, and a graceful stop.
//!
//! A release is final (R12): it is sent only after the gate is closed and everything that was admitted is done, and it
//! names the process and the epoch, in which this process never serves again. Everybody who asked is answered before
//! the process goes (I17).

use super::link::Link;
use super::role::{Cause, Role};
use super::{HANDOVER_LAG_TICKS, Leaving, Pending, Server};
use crate::errors;
use crate::io::*;
use crate::mark;
use crate::message::*;
use crate::types::*;

/// A server that stops tells its clients who leads for so long.
const LINGER_MAX: Duration = Duration::from_millis(200);

impl Server {
    /// R12: a planned hand-over. The gate stays open until the successor is near, then is closed until it has all.
    pub(super) fn hand_over(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        let writing = self.is_writing() && !planted!(release_before_runs_end);
        let Some(successor) = self.lead.successor.filter(|successor| *successor != self.me.id) else {
            if let Some(reign) = &mut self.reign {
                self.view_old |= reign.closing.take().is_some();
            }
            return;
        };
        if planted!(release_before_closing) && self.role == Role::Leading {
            let (epoch, successor) = (self.lead.epoch, Some(successor));
            self.release = Some(Release { boot: self.boot, epoch, last: self.last, successor });
            self.send_release(cx);
        }
        let patience = self.timing.lease / 2;
        let Some(reign) = self.reign.as_mut().filter(|_| self.role == Role::Leading) else { return };
        let Some(shipping) = &reign.shipping else { return };
        let durable = shipping.durable_at(successor).unwrap_or(Position::ZERO);
        let last = shipping.last();
        match reign.closing {
            None => {
                if now >= reign.handover_after && durable.tick.0 + HANDOVER_LAG_TICKS >= last.tick.0 {
                    mark!(HandoverCloses);
                    reign.closing = Some(now.plus(patience));
                    self.moves(now);
                }
            }
            Some(_) if durable == last && !writing && self.held.is_empty() => self.release_lease(cx, Some(successor)),
            Some(until) if now >= until => {
                mark!(HandoverFails);
                reign.closing = None;
                reign.handover_after = now.plus(patience);
                self.view_old = true;
                let text = format!("{successor} did not catch up in time: goes on leading");
                cx.note(Event::Says(Severity::Warn, text.into()));
            }
            Some(_) => {}
        }
    }

    pub(super) fn release_lease(&mut self, cx: &mut Cx, successor: Option<NodeId>) {
        let Some(reign) = &self.reign else { return };
        let epoch = reign.epoch;
        assert!(!self.is_writing(), "a lease is released when all runs are done");
        match successor {
            Some(_) => mark!(HandoverDone),
            None => mark!(ReleasedToNobody),
        }
        self.end_reign(cx, "released");
        self.on(cx, Cause::HandsOver);
        self.release = Some(Release { boot: self.boot, epoch, last: self.last, successor });
        self.send_release(cx);
    }

    pub(super) fn send_release(&mut self, cx: &mut Cx) {
        if let (Some(release), Some(link)) = (&self.release, &self.link) {
            link.send(cx, &Message::Release(release.clone()));
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx) {
        if self.leaving.is_some() {
            return;
        }
        let until = cx.now.time.plus((self.timing.lease * 2).max(Duration::from_millis(500)));
        self.leaving = Some(Leaving { until, lingers: None });
        if let Some(reign) = &mut self.reign {
            reign.closing = None;
        }
        if self.reign.as_ref().is_some_and(|reign| reign.shipping.is_none()) {
            self.end_reign(cx, "stopping");
        }
        self.on(cx, Cause::Leaves);
        if let Some(link) = &mut self.link {
            link.hurry(cx.now.time);
        }
    }

    /// Finish what was admitted, let a follower catch up, give the lease back, go.
    pub(super) fn go_on_leaving(&mut self, cx: &mut Cx) {
        let Some(leaving) = &self.leaving else { return };
        let late = cx.now.time >= leaving.until;
        let busy = !self.runs.is_empty() || !self.held.is_empty() || !self.pending.is_empty();
        if (busy && !late) || self.stopped {
            return;
        }
        if self.reign.is_some() && self.link.is_some() {
            let shipping = self.shipping();
            let successor = shipping.as_ref().and_then(|shipping| shipping.who_has_all());
            if successor.is_none() && shipping.is_some_and(|shipping| !shipping.durable().is_empty()) && !late {
                return;
            }
            if busy {
                // Whatever still runs was admitted under this lease: it must not outlive a release.
                self.end_reign(cx, "stopping");
            } else {
                self.release_lease(cx, successor);
            }
            if !late {
                return;
            }
        }
        let heard = self.release.as_ref().is_none_or(|release| self.lead.epoch > release.epoch);
        if late {
            mark!(LeavesLate);
        }
        let known = self.lead.leader.as_ref().is_some_and(|leader| leader.peer.id != self.me.id);
        if heard && known && !late {
            // Clients that are connected hear from us where to go, not from a broken connection.
            let linger = (self.timing.lease / 10).clamp(Duration::from_millis(20), LINGER_MAX);
            let now = cx.now.time;
            let leaving = self.leaving.as_mut().expect("looked at above");
            let until = *leaving.lingers.get_or_insert_with(|| {
                self.view_old = true;
                now.plus(linger)
            });
            if now < until {
                return;
            }
        }
        if heard || late {
            self.answer_the_rest(cx);
            self.stopped = true;
            cx.out.push(Output::Stopped);
        }
    }

    /// Everybody is answered before the process goes (I17); a write that was started has an unknown outcome (R14).
    pub(super) fn answer_the_rest(&mut self, cx: &mut Cx) {
        self.refuse_parked(cx);
        for run in std::mem::take(&mut self.runs).into_values() {
            if run.ticket.writes {
                mark!(OutcomeUnknownAtStop);
            }
            let kind = if run.ticket.writes { errors::OUTCOME_UNKNOWN } else { errors::SHUTTING_DOWN };
            cx.reply(run.id, kind.response());
        }
        self.building.give_up(cx);
        for (id, writes) in self.take_held() {
            let kind = if writes { errors::OUTCOME_UNKNOWN } else { errors::SHUTTING_DOWN };
            cx.reply(id, kind.response());
        }
        // What is removed of a record of a rollback is done, and the rest may be: it can be asked for again.
        for pending in std::mem::take(&mut self.pending).into_values() {
            if let Pending::Forget { id, .. } = pending {
                mark!(OutcomeUnknownAtStop);
                cx.reply(id, errors::OUTCOME_UNKNOWN.response());
            }
        }
        let calls = self.link.as_mut().map(Link::give_up).unwrap_or_default();
        for call in calls {
            cx.reply(call.id, errors::AGENCY_UNREACHABLE.response());
        }
    }
}
