//! Messages between nodes: shown to the checkers, encoded, handed to the network, decoded, stepped.

use super::words::{kind, summary};
use super::*;

impl World {
    pub(super) fn send(&mut self, node: usize, to: &Endpoint, envelope: Envelope) {
        self.figures.messages += 1;
        let ctx = self.ctx(node);
        if node >= self.agents {
            let verdict = self.lease.sent(&ctx, &envelope).and_then(|()| self.may_stand_back(node, &envelope.message));
            self.hold(verdict);
            if let Message::Beat(beat) = &envelope.message {
                let verdict = self.room.told(&ctx, beat);
                self.hold(verdict);
            }
            // A report that comes after its round was decided decides nothing.
            let late = matches!(&envelope.message, Message::Report(r) if self.lease.leader_of(r.epoch).is_some());
            if !late {
                let verdict = self.replication.sent(&ctx, &envelope);
                self.hold(verdict);
            }
        }
        if node < self.agents {
            let verdict = self.agency.sent(&ctx, &envelope);
            let confirms = |others: &_| self.agency.is_confirmed(node, others);
            let verdict = verdict.and_then(|()| self.grants.sent(&ctx, &envelope, confirms));
            self.hold(verdict);
        }
        let bytes = Bytes::from(envelope.encode());
        self.trace.hash.bytes(&bytes);
        let Some(target) = self.node_at(to) else {
            self.hold(Err(("contract", format!("{} sends to {to}, which is nobody", self.machines[node].name))));
            return;
        };
        let copies = self.net.carry(self.at, node, target, bytes.len(), net::Kind::Peer);
        if self.trace.on() {
            let fate = match copies {
                [None, _] => " (lost)",
                [Some(_), None] => "",
                [Some(_), Some(_)] => " (twice)",
            };
            let text = summary(&envelope.message);
            let name = self.machines[target].name.clone();
            self.say(node, format_args!("-> {name} {text}{fate}"));
            if let Some(timeline) = &mut self.trace.timeline {
                timeline.message(self.at, node, target, copies, kind(&envelope.message, &text), &text);
            }
        }
        let echo = self.echo(node, target, &envelope.message, &bytes);
        if let (Some(at), Some(_)) = (echo, &self.trace.timeline) {
            self.draw_echo(node, target, at, &envelope.message);
        }
        for at in copies.into_iter().flatten().chain(echo) {
            self.later(at, Happening::Deliver { node: target, bytes: bytes.clone() });
        }
    }

    /// For the page: a message of before that comes once more.
    pub(super) fn draw_echo(&mut self, from: usize, to: usize, arrives: At, message: &Message) {
        let text = summary(message);
        let Some(timeline) = &mut self.trace.timeline else { return };
        timeline.message(self.at, from, to, [Some(arrives), None], kind(message, &text), &format!("{text} (an echo)"));
    }

    /// I12: whoever says that he is not to be chosen is leaving, or could not begin an epoch a short while ago.
    fn may_stand_back(&self, node: usize, message: &Message) -> Verdict {
        let Some(process) = &self.machines[node].process else { return Ok(()) };
        let now = self.ctx(node).local;
        let unfit = process.unfit.is_some_and(|at| now < at.plus(STANDS_BACK));
        match message {
            Message::Beat(beat) if !beat.staying && !process.stopping && !unfit => {
                Err(("I12", format!("{} stands back without a reason", self.machines[node].name)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn deliver(&mut self, node: usize, bytes: &Bytes) {
        if !self.runs(node) {
            return;
        }
        let envelope = match Envelope::decode(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.hold(Err(("contract", format!("a message does not survive its encoding: {error}"))));
                return;
            }
        };
        let (ctx, from) = (self.ctx(node), envelope.from.id);
        if node >= self.agents {
            // The engine drops what was sent to another; a grant in it is no grant.
            if envelope.to.is_none_or(|to| Some(to) == self.machines[node].id) {
                let times = self.server_times();
                let verdict = self.lease.received(&ctx, &envelope, &times);
                self.hold(verdict);
            }
        } else {
            self.agency.received(&ctx, &envelope);
            self.grants.received(&ctx, &envelope);
            if let Some(server) = self.machines[self.agents..].iter().position(|m| m.id == Some(from)) {
                match &envelope.message {
                    Message::Report(report) => self.replication.reported(&ctx, server, report),
                    Message::Beat(beat) => self.replication.heard(&ctx, server, beat),
                    _ => {}
                }
            }
            // Also of one whose disk has been wiped since: to the agent it is still there.
            if let Message::Beat(beat) = &envelope.message {
                self.room.heard(&ctx, from, beat);
            }
        }
        if self.trace.on() {
            let text = summary(&envelope.message);
            let name = self.machines.iter().find(|m| m.id == Some(from)).map_or("?".into(), |m| m.name.clone());
            self.say(node, format_args!("<- {name} {text}"));
        }
        self.step(node, Input::Message(envelope));
    }
}
