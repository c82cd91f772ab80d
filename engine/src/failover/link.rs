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

    /// To the agency's leader; to every agent while it is not known or does not answer.
    pub fn send(&self, cx: &mut Cx, message: &Message) {
        match &self.leader {
            Some(leader) if !self.is_doubtful(cx.now.time) => cx.send(leader, message.clone()),
            _ => {
                for endpoint in &self.endpoints {
                    cx.send_to_endpoint(endpoint, message.clone());
                }
            }
        }
    }

    /// For how long the agency's leader has not been heard.
    pub fn unheard(&self, now: Time) -> Duration {
        now.since(self.heard)
    }

    /// It should have been heard by now.
    fn is_doubtful(&self, now: Time) -> bool {
        self.unheard(now) >= self.interval * 2
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

    /// The leading agent was heard. Another one than before, or one that was not heard for long, is to hear of this
    /// server at once.
    pub fn heard(&mut self, from: &Peer, now: Time) {
        if self.leader.as_ref() != Some(from) || self.is_doubtful(now) {
            self.leader = Some(from.clone());
            self.hurry(now);
        }
        self.heard = now;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;
    use crate::io::Output;

    const TIMING: Timing = Timing { lease: Duration::from_millis(750), drift_permille: 200 };
    /// A sixth of what can be used of the lease.
    const INTERVAL_MS: u64 = 100;

    fn agent(uuid: u128) -> Peer {
        let endpoint = Endpoint::parse(&format!("tcp://agent{uuid}:8531")).unwrap();
        Peer { id: NodeId { kind: NodeKind::Agent, uuid }, endpoint }
    }

    fn ms(t: u64) -> Time {
        Time(t * 1_000_000)
    }

    fn link() -> Link {
        Link::new(vec![agent(1).endpoint, agent(2).endpoint], &TIMING, ms(0))
    }

    /// Does something at a time; returns the authorities that something was sent to.
    fn at<T>(t: u64, act: impl FnOnce(&mut Cx) -> T) -> (T, Vec<String>) {
        let mut out = Vec::new();
        let (me, mut rng, mut ops) = (agent(9), Rng::new(1), 0);
        let now = Now { time: ms(t), wall_ms: t };
        let result = act(&mut Cx { now, me: &me, rng: &mut rng, ops: &mut ops, out: &mut out });
        let to = |output| match output {
            Output::Send { to, .. } => Some(to.authority().to_owned()),
            _ => None,
        };
        (result, out.into_iter().filter_map(to).collect())
    }

    fn receivers(link: &Link, t: u64) -> Vec<String> {
        at(t, |cx| link.send(cx, &Message::NotLeader { leader: None })).1
    }

    const BOTH: [&str; 2] = ["agent1:8531", "agent2:8531"];

    #[test]
    fn the_leader_is_asked_while_it_answers_and_otherwise_everybody() {
        let mut link = link();
        assert_eq!(receivers(&link, 0), BOTH, "no leader is known");
        link.heard(&agent(1), ms(50));
        assert_eq!(receivers(&link, 50 + 2 * INTERVAL_MS - 1), ["agent1:8531"]);
        assert_eq!(receivers(&link, 50 + 2 * INTERVAL_MS), BOTH, "silent for two beats");
        link.heard(&agent(2), ms(300));
        assert_eq!(receivers(&link, 300), ["agent2:8531"], "whoever answers leads");
        assert!(link.beat_due(ms(300)), "and hears of this server at once");
        link.learn_agents(&[agent(1), agent(3)]);
        link.learn_agents(&[agent(3)]);
        assert_eq!(receivers(&link, 600), ["agent1:8531", "agent2:8531", "agent3:8531"], "each once");
    }

    #[test]
    fn an_agent_that_does_not_lead_may_point_to_another() {
        let mut link = link();
        assert!(link.redirected(&agent(1), Some(agent(2)), ms(500)));
        assert_eq!(receivers(&link, 500), ["agent2:8531"]);
        assert!(!link.redirected(&agent(3), Some(agent(2)), ms(600)), "no news");
        assert!(!link.redirected(&agent(1), Some(agent(1)), ms(600)), "it names itself, and does not lead");
        assert!(!link.redirected(&agent(1), None, ms(600)), "somebody who does not lead anyway");
        assert_eq!(receivers(&link, 650), ["agent2:8531"]);
        assert!(!link.redirected(&agent(2), None, ms(650)), "it led, and does not know who leads now");
        assert_eq!(receivers(&link, 650), BOTH);
    }

    #[test]
    fn beats_come_at_an_interval_or_at_once() {
        let mut link = link();
        assert!(link.beat_due(ms(0)));
        assert_eq!(link.next_seq(ms(0)), 1);
        assert!(!link.beat_due(ms(INTERVAL_MS - 1)) && link.beat_due(ms(INTERVAL_MS)));
        assert_eq!(link.deadline(), Wake { at: ms(INTERVAL_MS), why: "beat" });
        link.hurry(ms(30));
        assert!(link.beat_due(ms(30)));
        assert_eq!(link.next_seq(ms(30)), 2);
    }

    fn call(link: &mut Link, t: u64, id: u64) -> bool {
        let ticket = Ticket { open: true, ..Ticket::reading(1) };
        let request = || Request::new(Method::Get, "/");
        at(t, |cx| link.call(cx, RequestId(id), ticket, request(), request(), AgencyAnswer::Verbatim)).0
    }

    fn over(link: &mut Link, t: u64) -> (Vec<u64>, usize) {
        let (over, again) = at(t, |cx| link.timer(cx));
        (over.into_iter().map(|call| call.id.0).collect(), again.len())
    }

    #[test]
    fn a_call_is_asked_again_until_it_is_answered_or_its_time_is_up() {
        let patience = CALL_PATIENCE.as_millis() as u64;
        let mut link = link();
        link.next_seq(ms(0));
        link.heard(&agent(1), ms(0));
        link.hurry(ms(1_000_000));
        assert_eq!(link.deadline().why, "beat");
        assert!(call(&mut link, 10, 5) && call(&mut link, 20, 6));
        assert_eq!(link.deadline(), Wake { at: ms(10 + INTERVAL_MS), why: "call" });
        let mut busy = link.clone();
        busy.hurry(ms(50));
        assert_eq!(busy.deadline(), Wake { at: ms(50), why: "beat" });
        assert_eq!(over(&mut link, 10 + INTERVAL_MS - 1), (vec![], 0));
        assert_eq!(over(&mut link, 10 + INTERVAL_MS), (vec![], 1), "only the one that waits for so long");
        assert_eq!(over(&mut link, 10 + INTERVAL_MS), (vec![], 0), "asked just now");
        for status in [307, 503] {
            assert!(link.answered(1, &Response::empty(status)).is_none(), "{status} comes from who does not lead");
        }
        assert_eq!(link.answered(1, &Response::empty(200)).map(|call| call.id), Some(RequestId(5)));
        assert!(link.answered(1, &Response::empty(200)).is_none(), "answered already");
        assert_eq!(link.calls(), 1);
        assert_eq!(over(&mut link, 20 + patience - 1), (vec![], 2), "both agents are asked: none answers");
        assert_eq!(link.deadline(), Wake { at: ms(20 + patience), why: "call" });
        assert_eq!(over(&mut link, 20 + patience).0, [6]);
        assert_eq!(link.calls(), 0);
    }

    #[test]
    fn so_many_calls_wait_and_no_more() {
        let mut link = link();
        assert!((0..CALLS_MAX as u64).all(|id| call(&mut link, 0, id)));
        assert!(!call(&mut link, 0, 999));
        assert!(link.answered(7, &Response::empty(200)).is_some());
        assert!(call(&mut link, 0, 999));
        assert_eq!(link.give_up().len(), CALLS_MAX);
        assert_eq!(link.calls(), 0);
    }
}
