//! The etcd that orders the agency's entries in some scenarios: the model of `tanist_engine::etcd`, at the end of links
//! that delay, lose and repeat.
//!
//! A question has its effect when it arrives, however late; its answer takes links and time of its own. Whoever asked
//! may be told that nobody knows what became of it. Leases end by etcd's own clock, which nobody compares with any
//! other, or before their time. While etcd is paused (it has lost its quorum) everything waits.

use super::words::cut;
use super::*;
use tanist_engine::etcd::model::Model;
use tanist_engine::etcd::{Answer, Ask};
use tanist_engine::io::AskId;

/// A question on its way.
#[derive(Clone, Debug)]
pub struct Question {
    pub node: usize,
    pub incarnation: u64,
    pub id: AskId,
    pub ask: Ask,
}

pub(super) struct Host {
    model: Model,
    rng: Rng,
    /// When each lease ends, and how long it is.
    leases: BTreeMap<u64, (At, Duration)>,
    paused_by: Option<usize>,
    held: Vec<Question>,
}

impl Host {
    pub fn new(s: &Scenario) -> Host {
        let rng = Rng::new(s.seed_disk ^ 0xe7cd);
        Host { model: Model::default(), rng, leases: BTreeMap::new(), paused_by: None, held: Vec::new() }
    }
}

impl World {
    /// Its place in the network, behind nodes and clients.
    pub(super) fn etcd_place(&self) -> usize {
        self.machines.len() + self.scenario.clients as usize
    }

    pub(super) fn ask_etcd(&mut self, node: usize, id: AskId, ask: Ask) {
        let (text, incarnation) = (format!("{ask:?}"), self.machines[node].incarnation);
        self.trace.hash.bytes(text.as_bytes());
        let place = self.etcd_place();
        let copies = self.net.carry(self.at, node, place, text.len(), net::Kind::Peer);
        if self.trace.on() {
            let fate = if copies[0].is_none() { " (lost)" } else { "" };
            self.say(node, format_args!("-> etcd {} {}{fate}", id.0, cut(&text)));
            self.draw_exchange(node, place, copies, &text);
        }
        if copies[0].is_none() {
            return self.nobody_knows(node, incarnation, id);
        }
        for at in copies.into_iter().flatten() {
            let question = Box::new(Question { node, incarnation, id, ask: ask.clone() });
            self.later(at, Happening::Asked { question });
        }
    }

    /// For the page: a question to etcd, or its answer.
    fn draw_exchange(&mut self, from: usize, to: usize, copies: [Option<At>; 2], text: &str) {
        if let Some(timeline) = &mut self.trace.timeline {
            let kind = text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            timeline.message(self.at, from, to, copies, &format!("etcd {kind}"), &cut(text));
        }
    }

    /// Half of the time a broken connection is noticed.
    fn nobody_knows(&mut self, node: usize, incarnation: u64, id: AskId) {
        let Some(host) = &mut self.etcd else { return };
        if host.rng.chance(1, 2) {
            let wait = Duration::from_micros(host.rng.below(20_000));
            self.after(wait, Happening::Told { node, incarnation, id, answer: None, done_in: 0 });
        }
    }

    pub(super) fn asked(&mut self, question: Question) {
        let sync = Duration::from_micros(self.scenario.disk_sync_us);
        let Some(host) = &mut self.etcd else { return };
        if host.paused_by.is_some() {
            return host.held.push(question);
        }
        let Question { node, incarnation, id, ask } = question;
        let answer = host.model.perform(&ask);
        let mut wait = Duration::from_micros(100);
        if !matches!(ask, Ask::Range { .. } | Ask::KeepAlive { .. }) {
            wait += Duration::from_nanos(host.rng.below(2 * sync.as_nanos() as u64));
        }
        // etcd's clock runs at any rate.
        let lease = match (&ask, &answer) {
            (Ask::Grant { ttl_s }, Answer::Granted { lease }) => {
                let ttl = Duration::from_millis(ttl_s * (700 + host.rng.below(600)));
                host.leases.insert(*lease, (self.at, ttl));
                Some(*lease)
            }
            (Ask::KeepAlive { lease }, Answer::Alive { ttl_s: 1.. }) => Some(*lease),
            _ => None,
        };
        if let Some(lease) = lease
            && let Some((end, ttl)) = host.leases.get_mut(&lease)
        {
            *end = self.at.plus(*ttl);
            let end = *end;
            self.later(end, Happening::LeaseEnds { lease });
        }
        if self.trace.on() {
            let text = format!("{} of {}: {}", id.0, self.machines[node].name, cut(&format!("{answer:?}")));
            self.tell("etcd", text);
        }
        let ctx = Ctx { node, incarnation, ..self.ctx(node) };
        let verdict = self.witness.done(&ctx, &ask, &answer);
        self.hold(verdict);
        let place = self.etcd_place();
        let copies = self.net.carry(self.at, place, node, 200, net::Kind::Peer);
        if self.trace.timeline.is_some() {
            let arrive = copies.map(|copy| copy.map(|at| at.plus(wait)));
            self.draw_exchange(place, node, arrive, &format!("{answer:?}"));
        }
        if copies[0].is_none() {
            return self.nobody_knows(node, incarnation, id);
        }
        let done_in = self.event;
        for at in copies.into_iter().flatten() {
            let answer = Some(Box::new(answer.clone()));
            self.later(at.plus(wait), Happening::Told { node, incarnation, id, answer, done_in });
        }
    }

    pub(super) fn told(&mut self, node: usize, incarnation: u64, id: AskId, answer: Option<Answer>, done_in: u64) {
        if self.process(node, incarnation).is_none() {
            return;
        }
        if self.trace.on() {
            self.say(node, format_args!("<- etcd {} {}", id.0, cut(&format!("{answer:?}"))));
        }
        if let Some(answer) = &answer {
            let (seat, snapshot) = (self.witness.shows_seat(answer), self.witness.shows_snapshot(answer));
            let ctx = self.ctx(node);
            self.grants.snapshot_shown(&ctx, snapshot);
            self.grants.seat_shown(&ctx, seat, done_in);
        }
        self.step(node, Input::Answered { id, answer });
    }

    pub(super) fn lease_ends(&mut self, lease: u64) {
        let Some(host) = &mut self.etcd else { return };
        if host.leases.get(&lease).is_some_and(|(end, _)| *end <= self.at) {
            // A paused etcd ends nothing; when it goes on, whoever leads it gives leases a new start.
            if host.paused_by.is_some() {
                let ttl = host.leases[&lease].1;
                host.leases.insert(lease, (self.at.plus(ttl), ttl));
                return self.after(ttl, Happening::LeaseEnds { lease });
            }
            host.leases.remove(&lease);
            host.model.end_lease(lease);
            self.witness.lease_ended(lease);
            self.tell("etcd", format_args!("lease {lease} ends"));
        }
    }

    /// A fault of etcd itself.
    pub(super) fn strike_etcd(&mut self, number: usize, kind: &Kind) {
        let Some(host) = &mut self.etcd else { return };
        match kind {
            Kind::Pause => host.paused_by = host.paused_by.or(Some(number)),
            Kind::Expire => {
                let at = self.at;
                host.leases.values_mut().for_each(|(end, _)| *end = at);
                let leases: Vec<u64> = host.leases.keys().copied().collect();
                leases.into_iter().for_each(|lease| self.lease_ends(lease));
            }
            _ => unreachable!("the atlas refuses others"),
        }
    }

    pub(super) fn etcd_goes_on(&mut self, number: Option<usize>) {
        let Some(host) = &mut self.etcd else { return };
        if host.paused_by.is_some() && (number.is_none() || host.paused_by == number) {
            host.paused_by = None;
            for question in std::mem::take(&mut host.held) {
                self.later(self.at, Happening::Asked { question: Box::new(question) });
            }
        }
    }
}
