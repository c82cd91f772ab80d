//! Stream transactions on their way through the loop: who may be at one, what comes of it, what it may be told.
//!
//! One request at a time is at a transaction; others wait, within a bound. A transaction ends with the reign that it
//! was begun under. What a repeated commit tells is as safe as what the first one told.

use super::parking::Unmet;
use super::{PendingRun, Server};
use crate::db::api;
use crate::http::Response;
use crate::io::*;
use crate::mark;
use crate::transaction::{Attached, End, Known, Terms, Unbegun};
use crate::types::*;

/// What a run has to do with a stream transaction.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Stake {
    /// The one that it has to itself.
    holds: Option<u64>,
    /// The entry of the one that it asks about, if that was committed.
    pub committed: Option<Tick>,
}

impl Server {
    /// Gives a run what it needs of the transactions; `None` if another request is at the one that it names.
    pub(super) fn stake(&mut self, cx: &Cx, run: &mut Run) -> Option<Stake> {
        let (limits, now) = (&self.config.transactions, cx.now.time);
        let holds = match self.transactions.attach(&mut run.transaction, run.writes, limits, now) {
            Attached::Holding(id) => Some(id),
            Attached::Freely => None,
            Attached::Busy => {
                mark!(TransactionBusy);
                return None;
            }
        };
        let committed = match &run.transaction.known {
            Some(Known::Over(over)) if over.end == End::Committed => Some(over.position.tick),
            _ => None,
        };
        Some(Stake { holds, committed })
    }

    /// Takes in what a run has done to its transaction.
    pub(super) fn settle(&mut self, cx: &Cx, run: &PendingRun, result: &mut OpResult) {
        let Some(id) = run.transaction.holds else { return };
        let ran = match result {
            OpResult::Ran(ran) => Some(ran),
            _ => None,
        };
        self.transactions.settle(id, ran, self.last, &self.config.transactions, cx.now.time);
    }

    /// A transaction is to be begun on what was read at `begin`.
    pub(super) fn begin_transaction(
        &mut self,
        cx: &mut Cx,
        mut run: PendingRun,
        terms: Terms,
        response: Response,
        begin: Position,
    ) {
        let (limits, now) = (self.config.transactions, cx.now.time);
        let id = cx.rng.next_u64() >> 1;
        let wait = terms.lock_timeout.unwrap_or(limits.lock_wait).min(limits.lock_wait);
        let answer = match self.reign.as_ref().filter(|reign| reign.epoch == run.ticket.epoch) {
            // The leadership is over, and its answer will be a refusal.
            None => Response::empty(503),
            Some(_) => match self.transactions.begin(id, terms, begin, &limits, now) {
                Ok(()) => {
                    mark!(TransactionBegins);
                    // It is there, whatever becomes of the answer.
                    run.ticket.within = true;
                    api::transaction_answer(201, id, "running")
                }
                Err(Unbegun::Error(error)) => error.response(),
                Err(Unbegun::Locked) => {
                    mark!(TransactionWaits);
                    let unmet = Unmet::Locked { until: run.arrived.plus(wait), ended: self.transactions.ended() };
                    let request = run.request.expect("kept for requests that do not write");
                    return self.park(cx, run.id, request, run.arrived, unmet);
                }
            },
        };
        let response = Response { headers: response.headers, ..answer };
        let ran = Ran { response, entry: None, last: begin, then: None, progress: None };
        self.answer_when_safe(cx, &run, ran);
    }
}
