//! Requests that wait inside: for a tick, for fresher data, or for the end of a change of leaders.
//!
//! Nothing of a parked request was started. It is admitted anew, as if it had just come, when what it waits for may
//! have happened, and at the latest when its time is over; then it is refused like any other (I17). Waiting for a
//! change of leaders spares drivers a refusal that some of them do not repeat: the answer, a moment later, either is
//! the new leader's own or names it.

use super::Server;
use super::role::Role;
use crate::demand::{Demands, Token};
use crate::errors;
use crate::gate::{self, Admission};
use crate::http::Request;
use crate::io::*;
use crate::mark;
use crate::transaction::Concern;
use crate::types::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Unmet {
    Behind(Token),
    Stale,
    /// Leadership is changing hands.
    Moving,
    /// Another request is at the stream transaction that this is about.
    Busy(Concern),
    /// A stream transaction has collections to itself that this one needs: until then, or until another one than so
    /// many have ended.
    Locked {
        until: Time,
        ended: u64,
    },
}

/// What may have changed since a request was parked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Scene {
    mode: Mode,
    role: Role,
    epoch: Epoch,
    led: bool,
    fresh: Option<Now>,
}

#[derive(Clone, Hash)]
pub(super) struct Parked {
    id: RequestId,
    request: Request,
    arrived: Time,
    until: Time,
    unmet: Unmet,
    scene: Scene,
}

impl Server {
    fn scene(&self) -> Scene {
        let fresh = self.following.as_ref().and_then(|following| following.fresh());
        Scene { mode: self.mode(), role: self.role, epoch: self.lead.epoch, led: self.lead.leader.is_some(), fresh }
    }

    pub(super) fn park(&mut self, cx: &mut Cx, id: RequestId, request: Request, arrived: Time, unmet: Unmet) {
        let until = match unmet {
            Unmet::Moving => self.view.moves_until,
            Unmet::Busy(_) => arrived.plus(self.config.transactions.wait),
            Unmet::Locked { until, .. } => until,
            Unmet::Behind(_) | Unmet::Stale => {
                arrived.plus(Demands::of(&request).expect("it was admitted, or would have been refused").wait)
            }
        };
        let parked = Parked { id, request, arrived, until, unmet, scene: self.scene() };
        if cx.now.time >= until {
            return self.too_late(cx, &parked);
        }
        if unmet == Unmet::Stale
            && let Some(following) = &mut self.following
        {
            following.ask(cx);
        }
        self.parked.push(parked);
    }

    fn too_late(&self, cx: &mut Cx, parked: &Parked) {
        mark!(ParkedTooLong);
        let response = match parked.unmet {
            Unmet::Behind(token) => {
                let text = format!("this server is at {}, and {token} was not reached in time", self.last);
                gate::too_old(&self.view, cx.now, &text)
            }
            Unmet::Stale => gate::too_old(&self.view, cx.now, "this server's data are staler, or it does not know"),
            Unmet::Moving => gate::refuse(&self.view, cx.now),
            Unmet::Busy(_) => errors::LOCKED.says("the transaction is already in use").response(),
            Unmet::Locked { .. } => errors::LOCK_TIMEOUT.response(),
        };
        cx.reply(parked.id, response);
    }

    /// Those who may go on are admitted anew; those whose time is over are refused.
    pub(super) fn unpark(&mut self, cx: &mut Cx) {
        if self.parked.is_empty() {
            return;
        }
        let (scene, last, now) = (self.scene(), self.last, cx.now.time);
        let goes = |parked: &Parked| {
            let before = parked.scene;
            let moved = (before.mode, before.role, before.epoch, before.led)
                != (scene.mode, scene.role, scene.epoch, scene.led);
            moved
                || now >= parked.until
                || match parked.unmet {
                    Unmet::Behind(token) => last >= token.position(),
                    Unmet::Stale => scene.fresh != before.fresh,
                    Unmet::Moving => false,
                    Unmet::Busy(concern) => !self.transactions.is_busy(concern),
                    Unmet::Locked { ended, .. } => self.transactions.ended() != ended,
                }
        };
        let (going, staying) = std::mem::take(&mut self.parked).into_iter().partition(goes);
        self.parked = staying;
        for parked in going {
            self.admit(cx, parked.id, parked.request, parked.arrived);
        }
    }

    /// A request at the door, for the first time or again.
    pub(super) fn admit(&mut self, cx: &mut Cx, id: RequestId, request: Request, arrived: Time) {
        let seed = cx.rng.next_u64();
        match gate::admit(&self.view, request, cx.now, seed) {
            Admission::Refuse(response) => cx.reply(id, response),
            Admission::Wait(request) => {
                let moving = matches!(self.view.mode, Mode::TryAgain | Mode::Stopping | Mode::Default);
                self.park(cx, id, request, arrived, if moving { Unmet::Moving } else { Unmet::Stale });
            }
            Admission::Run(run) => {
                if arrived < cx.now.time {
                    mark!(ParkedAnswered);
                }
                self.start_run(cx, id, run, arrived);
            }
        }
    }

    /// The process goes: nothing of these was started.
    pub(super) fn refuse_parked(&mut self, cx: &mut Cx) {
        for parked in std::mem::take(&mut self.parked) {
            cx.reply(parked.id, errors::SHUTTING_DOWN.response());
        }
    }

    pub(super) fn parked_until(&self) -> Option<Time> {
        self.parked.iter().map(|parked| parked.until).min()
    }
}
