//! Answers that wait for followers: a write until enough of them have it (R6, R15), and with synchronous followers
//! every answer until they have all that it tells of (R17).
//!
//! Each waits within a bound. What could not be made safe in time is told as what it is: a write is on this server and
//! perhaps nowhere else, so its outcome is unknown (R14); what was read is kept back. No answer leaves that promises
//! more than followers have.

use super::{PendingRun, Server};
use crate::errors;
use crate::gate;
use crate::http::Response;
use crate::io::*;
use crate::mark;
use crate::message::Message;
use crate::types::*;

/// An answer that is there, and may not leave yet.
#[derive(Clone, Hash)]
pub(super) struct Held {
    id: RequestId,
    ticket: Ticket,
    response: Response,
    /// The entry that a write became.
    written: Option<Tick>,
    /// The end of the log that it tells of.
    last: Tick,
    until: Time,
}

impl Server {
    /// Answers as soon as that is safe, which it may be at once.
    pub(super) fn answer_when_safe(&mut self, cx: &mut Cx, run: &PendingRun, ran: Ran) {
        let written = ran.entry.map(|entry| entry.tick).or(run.transaction.committed);
        let until = cx.now.time.plus(self.config.durability.timeout);
        let held = Held { id: run.id, ticket: run.ticket, response: ran.response, written, last: ran.last.tick, until };
        match self.is_safe(&held) {
            true => self.answer_client(cx, held.id, held.ticket, held.response),
            false => {
                mark!(AnswerWaits);
                self.held.push(held);
            }
        }
    }

    fn is_safe(&self, held: &Held) -> bool {
        let Some(reign) = &self.reign else { return true };
        let Some(shipping) = reign.shipping.as_ref().filter(|_| !held.ticket.open && !held.ticket.dirty) else {
            return true;
        };
        if let Some(tick) = held.written
            && held.ticket.sync_followers > 0
            && !planted!(sync_header_ignored)
        {
            let having = shipping.streaming().filter(|(_, durable)| durable.tick >= tick).count();
            if having < usize::from(held.ticket.sync_followers) {
                return false;
            }
        }
        reign.in_sync.as_ref().is_none_or(|in_sync| {
            let reads = held.written.is_none();
            let tells_of = if in_sync.is_synchronous() { Some(held.last) } else { held.written };
            tells_of.is_none_or(|tick| tick <= in_sync.acknowledged()) || (reads && planted!(unacknowledged_read))
        })
    }

    /// Looks at how far followers are, answers what is safe by now or has waited for too long, and asks the agency for
    /// another in-sync set if one is needed.
    pub(super) fn look_after_followers(&mut self, cx: &mut Cx) {
        let now = cx.now.time;
        if let Some(reign) = &mut self.reign
            && let (Some(in_sync), Some(shipping)) = (&mut reign.in_sync, &reign.shipping)
        {
            let before = in_sync.acknowledged();
            in_sync.advance(shipping);
            self.view_old |= (in_sync.is_synchronous() && in_sync.acknowledged() > before)
                || self.view.short_of_followers != in_sync.is_short(now);
            let retry = self.timing.lease / 10;
            if let (Some(set), Some(link)) = (in_sync.propose(shipping, now, retry), &self.link) {
                link.send(cx, &Message::SetInSync(set.clone()));
            }
        }
        if self.held.is_empty() {
            return;
        }
        let (mut ready, mut late) = (Vec::new(), Vec::new());
        for held in std::mem::take(&mut self.held) {
            match () {
                () if self.is_safe(&held) => ready.push(held),
                () if now >= held.until => late.push(held),
                () => self.held.push(held),
            }
        }
        for held in ready {
            self.answer_client(cx, held.id, held.ticket, held.response);
        }
        for held in late {
            mark!(AnswerNotSafe);
            let error = match held.ticket {
                Ticket { writes: true, .. } => errors::NOT_REPLICATED.into(),
                Ticket { within: true, .. } => errors::NOT_REPLICATED
                    .says("the transaction may live on: too few followers have confirmed in time what it reads"),
                _ => errors::WRITE_CONCERN.into(),
            };
            self.answer_client(cx, held.id, held.ticket, error.response());
        }
    }

    /// The reign is over: whatever waited is answered by what is known now (R14).
    pub(super) fn give_up_held(&mut self, cx: &mut Cx) {
        let view = self.draw_view();
        for held in std::mem::take(&mut self.held) {
            cx.reply(held.id, gate::confirm(held.ticket, held.response, &view, cx.now));
        }
    }

    /// Requests that wait, and which of them write, as the process goes.
    pub(super) fn take_held(&mut self) -> Vec<(RequestId, bool)> {
        std::mem::take(&mut self.held).into_iter().map(|held| (held.id, held.ticket.writes)).collect()
    }

    pub(super) fn held_deadline(&self) -> Option<Wake> {
        self.held.iter().map(|held| held.until).min().map(|at| Wake { at, why: "answer" })
    }
}
