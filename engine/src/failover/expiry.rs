//! Documents that are due in `ttl` indexes: removed in sweeps over all collections, a bounded piece of work at a time.
//!
//! Only a server that leads with an open gate sweeps, by its own wall clock. Each piece is an ordinary write of its
//! epoch: the store refuses it once it has seen a later one (I7), it is in the log, and a release of the lease waits
//! for it (R12). Followers remove what the log says, and look at no clock.

use super::role::Role;
use super::{Pending, Server};
use crate::db::index::ttl::{self, Expired, Place};
use crate::io::*;
use crate::mark;
use crate::types::*;

/// Where a sweep begins that begins anew.
const FIRST: Place = (0, 0);

#[derive(Clone, Hash)]
pub(super) struct Expiry {
    view: ExpiryView,
    /// When the next sweep begins.
    next: Time,
    sweep: Option<Sweep>,
    /// Where the next sweep begins: where the last one had removed as much as it may.
    from: Place,
}

/// A sweep, one piece of which is under way.
#[derive(Clone, Copy, Hash)]
struct Sweep {
    from: Place,
    /// What may still be removed, in all and of the collection that it is at.
    total_left: u64,
    collection_left: u64,
}

impl Expiry {
    pub fn new(properties: ExpiryProperties, now: Time) -> Expiry {
        let view = ExpiryView { properties, ..ExpiryView::default() };
        Expiry { view, next: now.plus(properties.frequency), sweep: None, from: FIRST }
    }

    pub fn set(&mut self, properties: ExpiryProperties, now: Time) {
        self.view.properties = properties;
        self.next = now.plus(properties.frequency);
    }

    pub fn view(&self) -> ExpiryView {
        self.view
    }

    fn is_on(&self) -> bool {
        self.view.properties.active && self.view.properties.frequency > Duration::ZERO
    }

    fn begin(&mut self, now: Time) -> Sweep {
        let ExpiryProperties { frequency, total_max, collection_max, .. } = self.view.properties;
        self.next = now.plus(frequency);
        self.view.runs += 1;
        let from = std::mem::replace(&mut self.from, FIRST);
        Sweep { from, total_left: total_max, collection_left: collection_max }
    }

    /// What comes after a piece of a sweep, if anything does.
    fn goes_on(&mut self, sweep: Sweep, done: Expired) -> Option<Sweep> {
        self.view.removed += done.removed;
        let total_left = sweep.total_left.saturating_sub(done.removed);
        let collection_left = sweep.collection_left.saturating_sub(done.removed);
        let next = done.next?;
        if total_left == 0 {
            self.view.limit_reached += 1;
            self.from = next;
            return None;
        }
        Some(match Some(next) == done.at {
            true if collection_left > 0 => Sweep { from: next, total_left, collection_left },
            same => {
                let from = if same { ttl::after(next) } else { next };
                Sweep { from, total_left, collection_left: self.view.properties.collection_max }
            }
        })
    }
}

impl Server {
    /// Whether a removal is on its way through the store.
    pub(super) fn expires(&self) -> bool {
        self.expiry.sweep.is_some()
    }

    pub(super) fn expiry_deadline(&self) -> Option<Wake> {
        let waits = self.may_expire() && self.expiry.is_on() && !self.expires();
        waits.then_some(Wake { at: self.expiry.next, why: "expiry" })
    }

    fn may_expire(&self) -> bool {
        self.mode() == Mode::Default || (self.role == Role::Following && planted!(followers_expire))
    }

    /// Begins a sweep if it is time.
    pub(super) fn expire(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        if !self.may_expire() || !self.expiry.is_on() || self.expires() || now < self.expiry.next {
            return;
        }
        if self.read_only || self.is_short_of_followers() {
            self.expiry.next = now.plus(self.expiry.view.properties.frequency);
            return;
        }
        let sweep = self.expiry.begin(now);
        self.start_piece(cx, sweep);
    }

    fn start_piece(&mut self, cx: &mut Cx, sweep: Sweep) {
        self.expiry.sweep = Some(sweep);
        let epoch = self.reign.as_ref().map_or(self.lead.epoch, |reign| reign.epoch);
        let limit = sweep.total_left.min(sweep.collection_left);
        let op = cx.start(Op::Expire(Expire { epoch, wall_ms: cx.now.wall_ms, from: sweep.from, limit }));
        self.pending.insert(op, Pending::Expire);
        self.view_old = true;
    }

    /// A piece of a sweep is done. The sweep ends where this server may write no more; what is left waits for the next
    /// one, here or elsewhere.
    pub(super) fn expired(&mut self, cx: &mut Cx, result: OpResult) {
        let sweep = self.expiry.sweep.take();
        let OpResult::Expired { done, entry } = result else {
            if let OpResult::Failed(error) = result {
                cx.note(Event::Says(Severity::Error, format!("can't remove what has expired: {error}").into()));
            }
            return;
        };
        if let Some(entry) = entry {
            mark!(DocumentsExpired);
            self.committed(cx, entry);
        }
        self.view_old = true;
        let next = sweep.and_then(|sweep| self.expiry.goes_on(sweep, done));
        if let Some(next) = next.filter(|_| self.may_expire() && self.expiry.is_on() && !self.read_only) {
            self.start_piece(cx, next);
        }
    }
}
