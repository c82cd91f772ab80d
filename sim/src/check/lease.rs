//! I5 and I6: who may serve at an instant of true time, and who owns an epoch.
//!
//! The lease is computed here a second time, from the wire: a renewal's sending time on the server's clock, and the
//! grant that answers it. The engine's own idea of its lease ([`View::lease_end`]) is then held against it.

use super::{Ctx, Processes, Verdict, broken};
use std::collections::BTreeMap;
use tanist_engine::io::{Event, Mode, View};
use tanist_engine::message::{Envelope, Leadership, Message};
use tanist_engine::types::{Boot, Epoch, NodeId, Time};

#[derive(Clone, Debug, Default, Hash)]
struct Seat {
    /// When each renewal was sent, on the server's clock.
    sent: BTreeMap<u64, (Boot, Time)>,
    /// What the agency has granted to this process.
    lease: Option<(Epoch, Time)>,
    released: Epoch,
    /// The gate as the engine published it: the epoch and the lease's end, while it is open.
    gate: Option<(Epoch, Time)>,
    /// Its machine is suspended: it can't use what it holds.
    asleep: bool,
}

impl Seat {
    fn holds(&self, local: Time) -> Option<Epoch> {
        let held = self.lease.filter(|(epoch, end)| *end > local && *epoch > self.released && !self.asleep);
        held.map(|(epoch, _)| epoch)
    }

    fn serves(&self, local: Time) -> Option<Epoch> {
        self.gate.filter(|(_, end)| *end > local && !self.asleep).map(|(epoch, _)| epoch)
    }
}

#[derive(Clone, Hash)]
pub struct Lease {
    seats: Processes<Seat>,
    /// I6: who was elected, and which process began the epoch.
    elected: BTreeMap<Epoch, (NodeId, Boot)>,
    begun: BTreeMap<Epoch, (usize, u64)>,
    /// The latest epoch that was begun by deposing, or by founding.
    deposed: Epoch,
    /// Clocks do what the lease does not allow for: one may be held when the next epoch has begun.
    pub excused: bool,
}

impl Lease {
    pub fn new(servers: usize) -> Lease {
        Lease {
            seats: Processes::new(servers),
            elected: BTreeMap::new(),
            begun: BTreeMap::new(),
            deposed: Epoch(0),
            excused: false,
        }
    }

    /// A server's process has ended; its lease can't be used by anyone.
    pub fn gone(&mut self, server: usize) {
        self.seats.forget(server);
    }

    pub fn falls_asleep(&mut self, server: usize) {
        self.seats[server].asleep = true;
    }

    /// A machine that was suspended goes on. If its steady clock stood still, whatever it held before is over, and so
    /// is whatever it asked for before.
    pub fn wakes(&mut self, server: usize, stood_still: bool) {
        let seat = &mut self.seats[server];
        seat.asleep = false;
        if stood_still {
            (seat.lease, seat.gate) = (None, None);
            seat.sent.clear();
        }
    }

    /// Whom the latest epoch belongs to.
    pub fn latest(&self) -> Option<NodeId> {
        self.elected.last_key_value().map(|(_, (id, _))| *id)
    }

    pub fn leader_of(&self, epoch: Epoch) -> Option<NodeId> {
        self.elected.get(&epoch).map(|(id, _)| *id)
    }

    /// The epoch whose lease a server holds at this instant.
    pub fn holds(&self, server: usize, local: Time) -> Option<Epoch> {
        self.seats[server].holds(local)
    }

    /// The server whose gate is open at this instant.
    pub fn serving(&self, locals: &[Time]) -> Option<(usize, Epoch)> {
        self.seats.iter().zip(locals).enumerate().find_map(|(i, (seat, local))| Some((i, seat.serves(*local)?)))
    }

    /// A server sends a message.
    pub fn sent(&mut self, ctx: &Ctx, envelope: &Envelope) -> Verdict {
        match &envelope.message {
            Message::Beat(beat) => {
                let sent = (beat.boot, ctx.local);
                let seat = self.seats.of(ctx);
                // A beat that is sent again keeps its number; the first sending is what the lease may count from.
                seat.sent.entry(beat.seq).or_insert(sent);
                while seat.sent.len() > 1000 {
                    seat.sent.pop_first();
                }
                if beat.renew.is_some_and(|epoch| epoch <= seat.released) {
                    broken!("I5", "s{} renews epoch {:?} that it has released", ctx.node, beat.renew);
                }
            }
            Message::Release(release) => {
                let seat = self.seats.of(ctx);
                seat.released = seat.released.max(release.epoch);
                if let Some((epoch, _)) = seat.gate.filter(|(epoch, _)| *epoch <= release.epoch) {
                    broken!("I5", "s{} releases epoch {} with its gate open (R12)", ctx.node, epoch.0);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A server receives a message. `locals` are all servers' steady clocks at this instant.
    pub fn received(&mut self, ctx: &Ctx, envelope: &Envelope, locals: &[Time]) -> Verdict {
        match &envelope.message {
            Message::BeatReply(reply) => {
                self.told(&reply.lead)?;
                let Some(grant) = reply.grant else { return Ok(()) };
                let seat = self.seats.of(ctx);
                // A grant to an earlier process of this machine, however late, is none to this one.
                let Some((_, sent)) = seat.sent.get(&reply.seq).filter(|(boot, _)| *boot == grant.boot) else {
                    return Ok(());
                };
                // D·(1 − ε), worked out here once more.
                let nanos = grant.timing.lease.as_nanos() * u128::from(1000 - grant.timing.drift_permille) / 1000;
                let end = Time(sent.0 + nanos as u64);
                match seat.lease {
                    Some((epoch, _)) if epoch > grant.epoch => {}
                    Some((epoch, old)) if epoch == grant.epoch => seat.lease = Some((epoch, old.max(end))),
                    _ => seat.lease = Some((grant.epoch, end)),
                }
                self.none_before(self.deposed, locals)?;
                let held: Vec<(usize, Epoch)> = self
                    .seats
                    .iter()
                    .zip(locals)
                    .enumerate()
                    .filter_map(|(server, (seat, local))| Some((server, seat.holds(*local)?)))
                    .collect();
                if held.len() > 1 && !self.excused {
                    broken!("I5", "valid leases at the same instant: {}", list(&held));
                }
                Ok(())
            }
            Message::Lead(lead) => self.told(lead),
            _ => Ok(()),
        }
    }

    fn told(&mut self, lead: &Leadership) -> Verdict {
        let Some(leader) = &lead.leader else { return Ok(()) };
        self.owner(lead.epoch, leader.peer.id, leader.boot)
    }

    fn owner(&mut self, epoch: Epoch, id: NodeId, boot: Boot) -> Verdict {
        let owner = *self.elected.entry(epoch).or_insert((id, boot));
        if owner != (id, boot) {
            broken!("I6", "epoch {} belongs to {} boot {} and to {id} boot {}", epoch.0, owner.0, owner.1.0, boot.0);
        }
        Ok(())
    }

    /// A node says what has happened.
    pub fn noted(&mut self, event: &Event) -> Verdict {
        match event {
            Event::Elected { epoch, server, boot } => self.owner(*epoch, *server, *boot),
            _ => Ok(()),
        }
    }

    /// The row that begins an epoch is durable.
    pub fn began(&mut self, ctx: &Ctx, epoch: Epoch) -> Verdict {
        let me = (ctx.node, ctx.incarnation);
        let owner = *self.begun.entry(epoch).or_insert(me);
        if owner != me {
            broken!("I6", "epoch {} was begun by s{} and again by s{}", epoch.0, owner.0, me.0);
        }
        Ok(())
    }

    /// An agent has applied the end of all epochs before `epoch`: nobody may hold a lease of one of them any more (R1),
    /// whether or not somebody else is elected so soon that it shows.
    pub fn deposed(&mut self, epoch: Epoch, locals: &[Time]) -> Verdict {
        self.deposed = self.deposed.max(epoch);
        self.none_before(self.deposed, locals)
    }

    fn none_before(&self, epoch: Epoch, locals: &[Time]) -> Verdict {
        let held = self.seats.iter().zip(locals).map(|(seat, local)| seat.holds(*local)).enumerate();
        for (server, old) in held.filter_map(|(server, held)| Some((server, held?))) {
            if old < epoch && !self.excused {
                let (old, new) = (old.0, epoch.0);
                broken!("I5", "epoch {new} has begun while s{server} holds the lease of epoch {old} (R1)");
            }
        }
        Ok(())
    }

    /// A server has published a view.
    pub fn viewed(&mut self, ctx: &Ctx, view: &View, locals: &[Time]) -> Verdict {
        let seat = self.seats.of(ctx);
        let open = view.mode == Mode::Default && view.lease_end > ctx.local;
        seat.gate = open.then_some((view.epoch, view.lease_end));
        if !open {
            return Ok(());
        }
        if self.begun.get(&view.epoch) != Some(&(ctx.node, ctx.incarnation)) {
            broken!("I6", "s{} opens its gate for epoch {}, which it has not begun (R3)", ctx.node, view.epoch.0);
        }
        match self.seats[ctx.node].lease {
            Some((epoch, end)) if epoch == view.epoch && epoch > self.seats[ctx.node].released => {
                if view.lease_end > end {
                    let over = view.lease_end.since(end);
                    broken!("I5", "s{} counts its lease {over:?} longer than it was granted", ctx.node);
                }
            }
            held => broken!("I5", "s{} opens its gate for epoch {}, but holds {held:?}", ctx.node, view.epoch.0),
        }
        let open: Vec<(usize, Epoch)> = self
            .seats
            .iter()
            .zip(locals)
            .enumerate()
            .filter_map(|(server, (seat, local))| Some((server, seat.serves(*local)?)))
            .collect();
        if open.len() > 1 && !self.excused {
            broken!("I5", "open gates at the same instant: {}", list(&open));
        }
        Ok(())
    }
}

fn list(who: &[(usize, Epoch)]) -> String {
    who.iter().map(|(s, e)| format!("s{s} in epoch {}", e.0)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;
    use tanist_engine::message::{Beat, BeatReply, Grant, Peer};
    use tanist_engine::types::*;

    fn ctx(node: usize, local: u64) -> Ctx {
        Ctx { at: At(local), event: 0, node, incarnation: 1, local: Time(local) }
    }

    fn envelope(message: Message) -> Envelope {
        let id = NodeId { kind: NodeKind::Server, uuid: 1 };
        Envelope { from: Peer { id, endpoint: Endpoint::parse("tcp://a:1").unwrap() }, to: None, message }
    }

    fn beat(epoch: u64) -> Envelope {
        envelope(Message::Beat(Beat {
            boot: Boot(1),
            seq: 1,
            renew: Some(Epoch(epoch)),
            serves: false,
            last: Position::ZERO,
            seen: Epoch(0),
            leader: None,
            complete: true,
            full: false,
            staying: true,
            matched: None,
            rollbacks: Vec::new(),
        }))
    }

    fn grant(epoch: u64) -> Envelope {
        let timing = Timing { lease: Duration::from_nanos(1000), drift_permille: 200 };
        envelope(Message::BeatReply(BeatReply {
            seq: 1,
            lead: Leadership::default(),
            grant: Some(Grant { boot: Boot(1), epoch: Epoch(epoch), timing }),
            read_only: false,
            agents: Vec::new(),
            members: Vec::new(),
        }))
    }

    #[test]
    fn two_leases_at_once_are_found_and_one_after_the_other_is_not() {
        for (second_sent, breaks) in [(700, true), (900, false)] {
            let mut lease = Lease::new(2);
            lease.sent(&ctx(0, 0), &beat(1)).unwrap();
            lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).unwrap();
            lease.sent(&ctx(1, second_sent), &beat(2)).unwrap();
            let verdict = lease.received(&ctx(1, second_sent + 1), &grant(2), &[Time(second_sent + 1); 2]);
            assert_eq!(verdict.is_err(), breaks, "{verdict:?}");
        }
    }

    #[test]
    fn a_released_lease_is_over_and_can_not_be_renewed() {
        let mut lease = Lease::new(2);
        lease.sent(&ctx(0, 0), &beat(1)).unwrap();
        lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).unwrap();
        let release =
            tanist_engine::message::Release { boot: Boot(1), epoch: Epoch(1), last: Position::ZERO, successor: None };
        lease.sent(&ctx(0, 20), &envelope(Message::Release(release))).unwrap();
        assert_eq!(lease.holds(0, Time(30)), None);
        assert!(lease.sent(&ctx(0, 40), &beat(1)).is_err());
    }

    #[test]
    fn an_epoch_that_begins_under_a_lease_is_found() {
        for (at, breaks) in [(700, true), (900, false)] {
            let mut lease = Lease::new(2);
            lease.sent(&ctx(0, 0), &beat(1)).unwrap();
            lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).unwrap();
            assert_eq!(lease.deposed(Epoch(2), &[Time(at); 2]).is_err(), breaks);
        }
        let mut lease = Lease::new(2);
        lease.deposed(Epoch(2), &[Time(0); 2]).unwrap();
        lease.sent(&ctx(0, 0), &beat(1)).unwrap();
        assert!(lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).is_err(), "granted afterwards");
    }

    #[test]
    fn a_suspended_server_holds_nothing_and_must_ask_anew() {
        let mut lease = Lease::new(2);
        lease.sent(&ctx(0, 0), &beat(1)).unwrap();
        lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).unwrap();
        lease.falls_asleep(0);
        assert_eq!(lease.holds(0, Time(20)), None);
        lease.wakes(0, false);
        assert_eq!(lease.holds(0, Time(20)), Some(Epoch(1)), "it was only a pause");
        lease.wakes(0, true);
        assert_eq!(lease.holds(0, Time(20)), None);
        lease.received(&ctx(0, 21), &grant(1), &[Time(21); 2]).unwrap();
        assert_eq!(lease.holds(0, Time(21)), None, "what it asked for before it slept");
    }

    #[test]
    fn clocks_beyond_the_assumption_excuse_two_leases_and_nothing_else() {
        let mut lease = Lease::new(2);
        lease.excused = true;
        lease.sent(&ctx(0, 0), &beat(1)).unwrap();
        lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).unwrap();
        lease.sent(&ctx(1, 20), &beat(2)).unwrap();
        lease.received(&ctx(1, 21), &grant(2), &[Time(21); 2]).unwrap();
        let release =
            tanist_engine::message::Release { boot: Boot(1), epoch: Epoch(1), last: Position::ZERO, successor: None };
        lease.sent(&ctx(0, 20), &envelope(Message::Release(release))).unwrap();
        assert!(lease.sent(&ctx(0, 40), &beat(1)).is_err(), "released is released");
    }

    #[test]
    fn a_gate_is_open_only_in_an_epoch_that_this_process_began() {
        let view = |epoch| View {
            mode: Mode::Default,
            read_only: false,
            epoch: Epoch(epoch),
            boot: Boot(1),
            lease_end: Time(500),
            ..View::new(envelope(Message::Lead(Leadership::default())).from)
        };
        let mut lease = Lease::new(2);
        lease.sent(&ctx(0, 0), &beat(1)).unwrap();
        lease.received(&ctx(0, 10), &grant(1), &[Time(10); 2]).unwrap();
        assert_eq!(lease.viewed(&ctx(0, 20), &view(1), &[Time(20); 2]).unwrap_err().0, "I6");
        lease.began(&ctx(0, 20), Epoch(1)).unwrap();
        lease.viewed(&ctx(0, 20), &view(1), &[Time(20); 2]).unwrap();
        let late = View { lease_end: Time(900), ..view(1) };
        assert_eq!(lease.viewed(&ctx(0, 20), &late, &[Time(20); 2]).unwrap_err().0, "I5", "longer than granted");
    }

    #[test]
    fn an_epoch_has_one_owner() {
        let mut lease = Lease::new(2);
        let elected =
            |uuid| Event::Elected { epoch: Epoch(3), server: NodeId { kind: NodeKind::Server, uuid }, boot: Boot(1) };
        lease.noted(&elected(1)).unwrap();
        lease.noted(&elected(1)).unwrap();
        assert!(lease.noted(&elected(2)).is_err());
        lease.began(&ctx(0, 0), Epoch(3)).unwrap();
        let later = Ctx { incarnation: 2, ..ctx(0, 0) };
        assert!(lease.began(&later, Epoch(3)).is_err(), "another process of the same server is another owner");
    }
}
