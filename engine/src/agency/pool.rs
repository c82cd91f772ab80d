//! The pool: how the first agents find one another, and where each agent is.
//!
//! Two phases, each durable before anything is said of it. An agent that has met as many others as the pool needs
//! *settles* on that set and will never agree to another; when all of them have settled on the same set, the pool is
//! *formed*. So no two pools can share an agent, and the first pool needs all its agents (R11). A seat includes the id
//! of the agent's disk: an agent that comes back with an empty directory is nobody the others know.
//!
//! From then on the log says who has a seat (`membership`), and this is the address book: an agent's address is not
//! part of its identity. An agent that joins an agency that exists forms nothing: it belongs to the first that speaks
//! to it, and is told everything by that one's leader.

use super::membership::is_seated;
use crate::io::{Cx, Event, Op, OpId, Severity};
use crate::mark;
use crate::message::raft::{Gossip, META_POOL, Persist, Raft, SavedPool, Seat, encode};
use crate::message::{Message, Peer};
use crate::types::*;
use std::collections::BTreeSet;

/// Addresses that are remembered.
const BOOK_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Waits for an agency to join.
    Outside,
    Meeting,
    Settling(OpId),
    Settled,
    Forming(OpId),
    Formed,
}

#[derive(Clone, Hash)]
pub struct Pool {
    size: usize,
    disk: StoreId,
    /// Sorted. While the pool forms, this agent included; then those who have a seat.
    seats: Vec<Seat>,
    founders: Vec<Seat>,
    /// The least of the founders' disks, once it is known.
    agency: Option<StoreId>,
    book: Vec<Peer>,
    phase: Phase,
    /// Where other agents may be.
    addresses: BTreeSet<Endpoint>,
    /// Who has settled on the same set.
    agreed: BTreeSet<NodeId>,
    interval: Duration,
    gossip_at: Time,
    /// What the disk refused is not tried again before this.
    retry_at: Time,
    complained: BTreeSet<NodeId>,
}

impl Pool {
    pub fn boot(config: &AgentConfig, me: &Peer, disk: StoreId, row: SavedPool, now: Time) -> Pool {
        let phase = match (row.formed, row.founders.is_empty()) {
            (true, _) => Phase::Formed,
            (false, false) => Phase::Settled,
            (false, true) if config.joins => Phase::Outside,
            (false, true) => Phase::Meeting,
        };
        let mine = Seat { peer: me.clone(), disk };
        // On an etcd no agent needs another.
        let phase = if config.etcd.is_some() { Phase::Formed } else { phase };
        let alone = phase == Phase::Meeting || config.etcd.is_some();
        let mut seats = if alone { vec![mine.clone()] } else { row.founders.clone() };
        if let Some(own) = seats.iter_mut().find(|seat| seat.peer.id == me.id && seat.disk == disk) {
            own.peer.endpoint = me.endpoint.clone();
        }
        let mut book = row.book;
        book.retain(|peer| peer.id != me.id);
        book.insert(0, me.clone());
        // What was settled once holds, whatever the option says now.
        let size = if phase == Phase::Meeting { config.size } else { seats.len() };
        Pool {
            size,
            disk,
            addresses: config.peers.iter().filter(|e| **e != me.endpoint).cloned().collect(),
            founders: if phase == Phase::Formed { row.founders } else { Vec::new() },
            agency: if config.etcd.is_some() { Some(disk) } else { row.agency },
            book,
            seats,
            phase,
            agreed: BTreeSet::new(),
            interval: (config.election_timeout_min / 4).clamp(Duration::from_millis(20), Duration::from_millis(500)),
            gossip_at: now,
            retry_at: now,
            complained: BTreeSet::new(),
        }
    }

    pub fn is_formed(&self) -> bool {
        self.phase == Phase::Formed
    }

    /// Those who have a seat, with the addresses where they are.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    pub fn founders(&self) -> &[Seat] {
        &self.founders
    }

    pub fn agency(&self) -> StoreId {
        self.agency.expect("asked of a formed pool")
    }

    pub fn peer(&self, id: NodeId) -> Option<&Peer> {
        let seats = self.seats.iter().map(|seat| &seat.peer);
        seats.chain(&self.book).find(|peer| peer.id == id)
    }

    /// These have a seat now.
    pub fn adopt(&mut self, seats: &[Seat]) {
        let moved = |seat: &Seat| {
            let known = self.book.iter().find(|peer| peer.id == seat.peer.id).cloned();
            Seat { peer: known.unwrap_or_else(|| seat.peer.clone()), disk: seat.disk }
        };
        let seats: Vec<Seat> = seats.iter().map(moved).collect();
        // Who has lost its seat may still be spoken to.
        for former in std::mem::replace(&mut self.seats, seats) {
            self.introduce(&former.peer);
        }
    }

    /// Where an agent that has no seat yet is.
    pub fn introduce(&mut self, peer: &Peer) {
        match self.book.iter_mut().find(|other| other.id == peer.id) {
            Some(known) => known.endpoint = peer.endpoint.clone(),
            None => self.book.push(peer.clone()),
        }
        // The first is this agent itself.
        if self.book.len() > BOOK_MAX {
            self.book.remove(1);
        }
    }

    pub fn deadline(&self) -> Time {
        if self.is_formed() || self.phase == Phase::Outside { Time::NEVER } else { self.gossip_at }
    }

    pub fn tick(&mut self, cx: &mut Cx) {
        if self.is_formed() || self.phase == Phase::Outside {
            return;
        }
        self.advance(cx);
        if cx.now.time >= self.gossip_at {
            self.gossip_at = cx.now.time.plus(self.interval);
            let message = Message::Raft(Raft::Gossip(self.gossip(true)));
            let known: BTreeSet<Endpoint> = self.others().map(|seat| seat.peer.endpoint.clone()).collect();
            for endpoint in self.addresses.union(&known) {
                cx.send_to_endpoint(endpoint, message.clone());
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| seat.disk != self.disk)
    }

    /// Whom the pool was formed of, or will be. Seats that have moved since say nothing to one who still forms it.
    fn forming(&self) -> &[Seat] {
        if self.is_formed() { &self.founders } else { &self.seats }
    }

    fn gossip(&self, asks: bool) -> Gossip {
        let settled = matches!(self.phase, Phase::Settled | Phase::Forming(_) | Phase::Formed);
        Gossip { size: self.size as u32, disk: self.disk, known: self.forming().to_vec(), settled, asks }
    }

    /// The first complaint about somebody; the rest would only fill the log.
    fn complain(&mut self, cx: &mut Cx, about: NodeId, text: String) {
        if self.complained.insert(about) {
            cx.note(Event::Says(Severity::Error, text.into()));
        }
    }

    pub fn on_gossip(&mut self, cx: &mut Cx, from: Peer, gossip: Gossip) {
        if from.id == cx.me.id {
            if gossip.disk != self.disk {
                self.complain(cx, from.id, format!("another agent at {} has this agent's id", from.endpoint));
            }
            return;
        }
        if self.phase == Phase::Outside {
            return;
        }
        if gossip.size as usize != self.size || from.id.kind != NodeKind::Agent {
            let text = format!("{} wants a pool of {}, this agent one of {}", from.id, gossip.size, self.size);
            self.complain(cx, from.id, text);
            return;
        }
        let seat = Seat { peer: from.clone(), disk: gossip.disk };
        if self.phase == Phase::Meeting {
            // An agent that started afresh before anything was settled replaces its former self.
            self.seats.retain(|s| s.disk == self.disk || (s.peer.id != from.id && s.peer.endpoint != from.endpoint));
            if self.seats.len() < self.size {
                self.seats.push(seat.clone());
                self.seats.sort();
            }
            // Others are only addresses until they have spoken themselves.
            for other in gossip.known.iter().take(self.size) {
                if other.peer.id != cx.me.id && self.addresses.len() < 64 {
                    self.addresses.insert(other.peer.endpoint.clone());
                }
            }
        }
        if !is_seated(self.forming(), from.id, gossip.disk) {
            let text = format!("{} (disk {}) is not in this agent's pool", from.id, Uuid(gossip.disk.0));
            self.complain(cx, from.id, text);
            return;
        }
        if let Some(mine) = self.seats.iter_mut().find(|s| s.peer.id == from.id && s.disk == gossip.disk) {
            mine.peer.endpoint = from.endpoint.clone();
        }
        if gossip.settled {
            if identities(&gossip.known) == identities(self.forming()) {
                self.agreed.insert(from.id);
            } else if self.phase != Phase::Meeting {
                let text = format!("{} has settled on another pool: more agents than the pool's size?", from.id);
                self.complain(cx, from.id, text);
            }
        }
        if gossip.asks {
            cx.send(&from, Message::Raft(Raft::Gossip(self.gossip(false))));
        }
        self.advance(cx);
    }

    /// True if `from` belongs to this agency, with a seat or without. It may have moved: its address is not part of its
    /// identity.
    pub fn recognize(&mut self, cx: &mut Cx, from: &Peer, disk: StoreId, agency: StoreId) -> bool {
        if self.phase == Phase::Outside {
            mark!(AgencyJoined);
            self.agency = Some(agency);
            self.phase = Phase::Formed;
            self.introduce(from);
            // Before anything that Raft writes: operations end in the order in which they begin.
            self.persist(cx, true);
        }
        if self.agency != Some(agency) {
            mark!(AgentNotInPool);
            let text = format!("{} speaks from disk {}, which is not in the pool: ignored", from.id, Uuid(disk.0));
            self.complain(cx, from.id, text);
            return false;
        }
        let elsewhere = self.peer(from.id).is_none_or(|peer| peer.endpoint != from.endpoint);
        match self.seats.iter_mut().find(|s| s.peer.id == from.id && s.disk == disk) {
            Some(seat) if seat.peer.endpoint != from.endpoint => {
                seat.peer.endpoint = from.endpoint.clone();
                self.introduce(from);
                self.persist(cx, true);
            }
            None if elsewhere => self.introduce(from),
            _ => {}
        }
        true
    }

    fn advance(&mut self, cx: &mut Cx) {
        if cx.now.time < self.retry_at {
            return;
        }
        match self.phase {
            Phase::Meeting if self.seats.len() == self.size => self.phase = Phase::Settling(self.persist(cx, false)),
            Phase::Settled if self.agreed.len() + 1 == self.size => {
                self.phase = Phase::Forming(self.persist(cx, true));
            }
            _ => {}
        }
    }

    fn persist(&self, cx: &mut Cx, formed: bool) -> OpId {
        let formed_now = self.founders.is_empty() && self.phase != Phase::Formed;
        let founders = if formed_now { self.seats.clone() } else { self.founders.clone() };
        let agency = self.agency.or_else(|| least_disk(&founders).filter(|_| formed));
        let row = SavedPool { founders, formed, agency, book: self.book.clone() };
        cx.start(Op::Persist(Persist { meta: vec![(META_POOL, Some(encode(&row)))], ..Persist::default() }))
    }

    /// True if it was an operation of the pool's.
    pub fn done(&mut self, cx: &mut Cx, op: OpId, ok: bool) -> bool {
        let (after, before) = match self.phase {
            Phase::Settling(mine) if mine == op => (Phase::Settled, Phase::Meeting),
            Phase::Forming(mine) if mine == op => (Phase::Formed, Phase::Settled),
            _ => return false,
        };
        if !ok {
            (self.phase, self.retry_at) = (before, cx.now.time.plus(self.interval));
            return true;
        }
        self.phase = after;
        self.gossip_at = cx.now.time;
        self.advance(cx);
        if self.is_formed() {
            assert_eq!(self.seats.len(), self.size);
            self.founders = self.seats.clone();
            self.agency = least_disk(&self.founders);
            cx.note(Event::PoolFormed { agents: self.size });
            // Those who wait for our word have it at once.
            for seat in self.others() {
                cx.send(&seat.peer, Message::Raft(Raft::Gossip(self.gossip(false))));
            }
        }
        true
    }
}

fn least_disk(seats: &[Seat]) -> Option<StoreId> {
    seats.iter().map(|seat| seat.disk).min()
}

fn identities(seats: &[Seat]) -> BTreeSet<(NodeId, StoreId)> {
    seats.iter().map(|seat| (seat.peer.id, seat.disk)).collect()
}
