//! A server's line to the agency: who leads it, beats, and requests on behalf of clients.
//!
//! It only carries. Beats are numbered so that a grant can be counted from when its beat was *sent*; a request without
//! an answer is asked again, of all agents if need be, until its time is up. Nothing here ever decides that "no answer"
//! means anything: a server that can't see the agency simply gets no lease.

use crate::http::{Request, Response};
use crate::io::{AgencyAnswer, Cx, RequestId, Ticket, Wake};
use crate::mark;
use crate::message::{Message, Peer};
use crate::types::*;
use std::collections::BTreeMap;

/// A client's request that waits for the agency gives up after this.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// Calls under way at once.
const CALLS_MAX: usize = 256;

#[derive(Clone, Hash)]
pub struct Link {
    /// As configured, and as learnt from the agency itself.
    endpoints: Vec<Endpoint>,
    leader: Option<Peer>,
    /// When the leader last answered.
    heard: Time,
    seq: u64,
    interval: Duration,
    next_beat: Time,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
}

/// A client's request on its way to the agency.
#[derive(Clone, Hash)]
pub struct Call {
    pub id: RequestId,
    pub ticket: Ticket,
    pub make: AgencyAnswer,
    pub original: Request,
    request: Request,
    asked: Time,
    until: Time,
}

impl Link {
    pub fn new(endpoints: Vec<Endpoint>, timing: &Timing, now: Time) -> Link {
        let mut link = Link {
            endpoints,
            leader: None,
            heard: now,
            seq: 0,
            interval: Duration::ZERO,
            next_beat: now,
            calls: BTreeMap::new(),
            next_call: 0,
        };
        link.set_timing(timing);
        link
    }

    /// Several beats fit into a lease, so that a lost one does no harm.
    pub fn set_timing(&mut self, timing: &Timing) {
        self.interval = (timing.usable() / 6).clamp(Duration::from_millis(10), Duration::from_secs(1));
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// To the agency's leader; to every agent while it is not known or does not answer.
    pub fn send(&self, cx: &mut Cx, message: &Message) {
        match &self.leader {
            Some(leader) if cx.now.time.since(self.heard) < self.interval * 2 => cx.send(leader, message.clone()),
            _ => {
                for endpoint in &self.endpoints {
                    cx.send_to_endpoint(endpoint, message.clone());
                }
            }
        }
    }

    pub fn beat_due(&self, now: Time) -> bool {
        now >= self.next_beat
    }

    /// Beat at once.
    pub fn hurry(&mut self, now: Time) {
        self.next_beat = now;
    }

    /// The number of the beat that is sent now.
    pub fn next_seq(&mut self, now: Time) -> u64 {
        self.next_beat = now.plus(self.interval);
        self.seq += 1;
        self.seq
    }

    /// The leading agent has answered.
    pub fn heard(&mut self, from: &Peer, now: Time) {
        self.heard = now;
        if self.leader.as_ref() != Some(from) {
            self.leader = Some(from.clone());
        }
    }

    pub fn learn_agents(&mut self, agents: &[Peer]) {
        for agent in agents {
            if !self.endpoints.contains(&agent.endpoint) {
                self.endpoints.push(agent.endpoint.clone());
            }
        }
    }

    /// An agent that does not lead points to the one that does. True if that is news.
    pub fn redirected(&mut self, from: &Peer, leader: Option<Peer>, now: Time) -> bool {
        match leader {
            Some(leader) if leader.id != from.id && self.leader.as_ref() != Some(&leader) => {
                self.leader = Some(leader);
                self.heard = now;
                true
            }
            Some(_) => false,
            None => {
                if self.leader.as_ref().is_some_and(|known| known.id == from.id) {
                    self.leader = None;
                }
                false
            }
        }
    }

    // ---- calls on behalf of clients ---------------------------------------------------------------------------------

    /// Ask the agency; `false` if too many ask already.
    pub fn call(
        &mut self,
        cx: &mut Cx,
        id: RequestId,
        ticket: Ticket,
        original: Request,
        request: Request,
        make: AgencyAnswer,
    ) -> bool {
        if self.calls.len() >= CALLS_MAX {
            return false;
        }
        self.next_call += 1;
        let (asked, until) = (cx.now.time, cx.now.time.plus(CALL_PATIENCE));
        self.send(cx, &Message::Call { call: self.next_call, request: request.clone() });
        self.calls.insert(self.next_call, Call { id, ticket, make, original, request, asked, until });
        true
    }

    /// The call that an answer belongs to. An agent that does not lead has no answer: the call is asked again.
    pub fn answered(&mut self, call: u64, response: &Response) -> Option<Call> {
        let leads = response.status != 307 && response.status != 503;
        if leads { self.calls.remove(&call) } else { None }
    }

    /// Ask again what has no answer; returns the calls whose time is up.
    pub fn timer(&mut self, cx: &mut Cx) -> Vec<Call> {
        let now = cx.now.time;
        let over: Vec<u64> = self.calls.iter().filter(|(_, c)| now >= c.until).map(|(call, _)| *call).collect();
        let over = over.into_iter().filter_map(|call| self.calls.remove(&call)).collect();
        let again: Vec<(u64, Request)> = self
            .calls
            .iter_mut()
            .filter(|(_, c)| now.since(c.asked) >= self.interval)
            .map(|(call, c)| {
                c.asked = now;
                (*call, c.request.clone())
            })
            .collect();
        for (call, request) in again {
            mark!(CallRepeated);
            self.send(cx, &Message::Call { call, request });
        }
        over
    }

    /// All calls that wait, as nobody will wait any longer.
    pub fn give_up(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls).into_values().collect()
    }

    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    pub fn deadline(&self) -> Wake {
        let call = self.calls.values().map(|c| c.until.min(c.asked.plus(self.interval))).min();
        match call {
            Some(at) if at < self.next_beat => Wake { at, why: "call" },
            _ => Wake { at: self.next_beat, why: "beat" },
        }
    }
}
