//! Requests on their way through the loop: admitted, run, confirmed, answered.
//!
//! Each gets exactly one answer (I17), and a success only under the lease and the epoch that it was admitted in (I11).
//! What was started and can't be acknowledged has an unknown outcome, and the answer says so (R14).

use super::parking::Unmet;
use super::{Pending, PendingRun, Server};
use crate::db::api;
use crate::db::store::StoreError;
use crate::errors;
use crate::gate;
use crate::http::{Request, Response, header};
use crate::io::*;
use crate::job::{JobOrder, JobWish};
use crate::mark;
use crate::message::Entry;
use crate::types::Time;

impl Server {
    pub(super) fn request(&mut self, cx: &mut Cx, id: RequestId, request: Request) {
        let waiting = self.parked.len() + self.held.len() + self.building.waiting();
        if self.runs.len() + waiting >= self.config.limits.pending_requests {
            return cx.reply(id, errors::QUEUE_FULL.response());
        }
        self.admit(cx, id, request, cx.now.time);
    }

    pub(super) fn start_run(&mut self, cx: &mut Cx, id: RequestId, mut run: Run, arrived: Time) {
        let Some(transaction) = self.stake(cx, &mut run) else {
            let concern = run.transaction.concern;
            return self.park(cx, id, run.request, arrived, Unmet::Busy(concern));
        };
        let ticket = run.ticket();
        let request = (!ticket.writes || run.at_least.is_some()).then(|| run.request.clone());
        let at_least = run.at_least.map(|token| token.tick);
        let query = run.query();
        let op = cx.start(Op::Run(run));
        let pending = PendingRun { id, since: cx.now.time, arrived, ticket, at_least, request, transaction, query };
        self.runs.insert(op, pending);
    }

    pub(super) fn ran(&mut self, cx: &mut Cx, run: PendingRun, mut result: OpResult) {
        self.settle(cx, &run, &mut result);
        match result {
            OpResult::Ran(ran) => {
                if let Some(entry) = &ran.entry {
                    self.committed(cx, entry.clone());
                }
                match ran.then {
                    None => self.answer_when_safe(cx, &run, ran),
                    Some(Then::Shutdown) => {
                        self.answer_client(cx, run.id, run.ticket, ran.response);
                        self.leave(cx);
                    }
                    Some(Then::Forget(record)) => self.forget(cx, record, run.id, run.ticket, ran.response),
                    Some(Then::Build(index)) => self.wait_for_index(cx, run, index),
                    Some(Then::Keep(result)) => {
                        let (id, told) = (cx.rng.next_u64() >> 1, (run.ticket, ran.last.tick));
                        let limits = &self.config.limits;
                        let response = self.cursors.open(id, *result, ran.response, told, limits, cx.now.time);
                        self.answer_when_safe(cx, &run, Ran { response, then: None, ..ran });
                    }
                    Some(Then::Cursor(call)) => {
                        let response = self.cursors.call(&call, run.ticket, run.at_least, cx.now.time);
                        self.answer_when_safe(cx, &run, Ran { response, then: None, ..ran });
                    }
                    Some(Then::Defer(order)) => self.defer(cx, run, order),
                    Some(Then::Job(call)) => {
                        let response = self.jobs.call(&call, run.ticket, cx.now);
                        if let JobWish::Cancel(job) = call.what
                            && response.status == 200
                        {
                            self.interrupt(cx, RequestId::of_job(job));
                        }
                        self.answer_when_safe(cx, &run, Ran { response, then: None, ..ran });
                    }
                    Some(Then::SetExpiry(properties)) => {
                        self.expiry.set(properties, cx.now.time);
                        self.view_old = true;
                        self.answer_when_safe(cx, &run, Ran { then: None, ..ran });
                    }
                    // A shell that keeps figures and a log answers before this.
                    Some(Then::Process(_)) => self.answer_client(cx, run.id, run.ticket, ran.response),
                    Some(Then::ReadOnly(read_only)) => {
                        self.read_only = read_only;
                        self.view_old = true;
                        self.answer_client(cx, run.id, run.ticket, ran.response);
                    }
                    Some(Then::Begin(terms)) => self.begin_transaction(cx, run, *terms, ran.response, ran.last),
                    Some(Then::Transactions { question, who }) => {
                        let (limits, now) = (&self.config.transactions, cx.now.time);
                        let ids = self.transactions.ask(question, &who, self.last, limits, now);
                        let answer = api::transactions_told(question, &ids);
                        let response = Response { body: answer.body, ..ran.response };
                        self.answer_when_safe(cx, &run, Ran { response, then: None, last: self.last, ..ran });
                    }
                    Some(Then::End(_)) => unreachable!("it was settled"),
                    Some(Then::AtLeisure) => unreachable!("nobody hurries here"),
                    Some(Then::Agency { request, make }) => self.ask_agency(cx, run, request, make),
                }
            }
            OpResult::Behind(token) => {
                let request = run.request.expect("kept for requests with a demand");
                self.park(cx, run.id, request, run.arrived, Unmet::Behind(token));
            }
            // Refused before anything was written: the client may try elsewhere (R14).
            OpResult::Stale { .. } => {
                mark!(RunStale);
                let response = gate::refuse(&self.draw_view(), cx.now);
                cx.reply(run.id, response);
            }
            OpResult::Failed(error) => {
                if error != StoreError::Full {
                    cx.note(Event::Says(Severity::Error, error.to_string().into()));
                }
                self.answer_client(cx, run.id, run.ticket, errors::storage_failure(&error));
            }
            other => panic!("a run can't end in {other:?}"),
        }
    }

    /// Something is being written that a release of the lease must not overtake (R12).
    pub(super) fn is_writing(&self) -> bool {
        self.runs.values().any(|run| run.ticket.writes) || self.expires() || self.building.writes()
    }

    /// The lease is looked at once more before an answer leaves (I11).
    pub(super) fn answer_client(&mut self, cx: &mut Cx, id: RequestId, ticket: Ticket, response: Response) {
        let response = if self.view_old {
            gate::confirm(ticket, response, &self.draw_view(), cx.now)
        } else {
            gate::confirm(ticket, response, &self.view, cx.now)
        };
        cx.reply(id, response);
    }

    pub(super) fn committed(&mut self, cx: &mut Cx, entry: Entry) {
        self.last = self.last.max(entry.position());
        if let Some(shipping) = self.shipping()
            && entry.epoch == shipping.last().epoch
        {
            let tick = entry.tick;
            shipping.committed(cx, entry);
            if let Some(in_sync) = self.reign.as_mut().and_then(|reign| reign.in_sync.as_mut()) {
                in_sync.committed(tick, cx.now.time);
            }
        }
    }

    pub(super) fn ask_agency(&mut self, cx: &mut Cx, run: PendingRun, request: Request, make: AgencyAnswer) {
        let original = run.request.expect("kept for requests that do not write");
        let asked = match &mut self.link {
            Some(link) => link.call(cx, run.id, run.ticket, original, request, make),
            None => false,
        };
        if !asked {
            cx.reply(run.id, errors::AGENCY_UNREACHABLE.response());
        }
    }

    /// A request whose client does not wait: answered at once, then admitted as if it came now. It is carried out only
    /// if that answer promises so.
    fn defer(&mut self, cx: &mut Cx, run: PendingRun, order: JobOrder) {
        let mut request = run.request.expect("kept for requests that do not write");
        request.headers.retain(|(name, _)| name != header::ASYNC);
        let job = cx.rng.next_u64() >> 1;
        let begun = match order.store {
            true => self.jobs.begin(job, order.user, run.ticket, &self.config.limits, cx.now),
            false => Ok(Response::empty(202)),
        };
        let response = begun.unwrap_or_else(|error| error.response());
        let response = gate::confirm(run.ticket, response, &self.draw_view(), cx.now);
        // Under way before its client hears of it, who may ask at once what runs.
        if response.status == 202 {
            self.admit(cx, RequestId::of_job(job), request, cx.now.time);
        }
        cx.reply(run.id, response);
    }

    /// If it is a query, it is to end.
    fn interrupt(&self, cx: &mut Cx, id: RequestId) {
        let running = self.runs.values().find(|run| run.id == id);
        cx.out.extend(running.map(|run| Output::Interrupt { query: run.query }));
    }

    /// Removes a rollback record, in pieces, then answers.
    pub(super) fn forget(
        &mut self,
        cx: &mut Cx,
        record: RollbackId,
        id: RequestId,
        ticket: Ticket,
        response: Response,
    ) {
        let op = cx.start(Op::ForgetRollback(record));
        self.pending.insert(op, Pending::Forget { record, id, ticket, response });
    }

    pub(super) fn answer(&mut self, cx: &mut Cx, call: u64, response: Response) {
        let Some(call) = self.link.as_mut().and_then(|link| link.answered(call, &response)) else { return };
        let response = api::agency_answer(call.make, &call.original, response, cx.now.wall_ms);
        if call.make == AgencyAnswer::ServerMode
            && response.status == 200
            && let Some(read_only) = api::wanted_mode(&call.original)
        {
            // The agency has it. Whoever asked here finds it in force with the answer; other servers hear it in a beat.
            self.read_only = read_only;
            self.view_old = true;
        }
        self.answer_client(cx, call.id, call.ticket, response);
    }
}
