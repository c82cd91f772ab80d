//! Faults that are aimed at a moment: what happened a moment ago makes somebody's failure hurt most.
//!
//! A schedule drawn beforehand seldom hits the few milliseconds between an election and the first lease, or between two
//! steps of a copy. So in some scenarios (`aim_permille`) such an event may be followed at once by a fault on the node
//! that it concerns, or on those that it depends on. They are ordinary faults: healed after their time, and at the
//! latest with everything else. And what a rule has to refuse when it is late may come once more: some time later, or
//! in the moment in which it would do most harm.

use super::*;
use crate::atlas;
use tanist_engine::message::{SnapshotId, SnapshotRequest};

/// A run has no more of them than this.
const AIMED_MAX: u64 = 20;
/// Nor more messages that come once more than this, and so many wait for their moment.
const ECHOES_MAX: u64 = 200;
const KEPT_MAX: usize = 32;

/// What a message that waits for its moment is about.
#[derive(Clone, PartialEq, Eq)]
enum About {
    Release,
    Report,
    InSync,
    /// Of which copy, from where on.
    Piece(SnapshotId, Bytes),
}

/// A message that has been delivered, and may come once more.
pub(super) struct Kept {
    about: About,
    from: usize,
    to: usize,
    bytes: Bytes,
}

impl World {
    fn may_aim(&self) -> bool {
        let s = &self.scenario;
        s.aim_permille > 0 && self.healed.is_none() && self.at <= At::from_ms(s.faults_ms)
    }

    /// A node has told of an event.
    pub(super) fn aim(&mut self, node: usize, event: &Event) {
        if !self.may_aim() {
            return;
        }
        self.echo_at(node, event);
        // A moment that comes all the time is met seldom, one that hardly ever comes more often.
        let permille = match event {
            Event::Granted { .. } if self.aim_rng.below(20) > 0 => return,
            Event::CopyStarted { .. } => self.scenario.aim_permille * 4,
            _ => self.scenario.aim_permille,
        };
        let concerned = match event {
            Event::Elected { server, .. } => self.machines.iter().position(|machine| machine.id == Some(*server)),
            Event::LeadsAgency { .. } | Event::Chose { .. } | Event::Deposed { .. } | Event::Granted { .. } => {
                Some(node)
            }
            Event::EpochBegun { .. } | Event::Role { .. } | Event::RollsBack { .. } | Event::CopyStarted { .. } => {
                Some(node)
            }
            _ => None,
        };
        let Some(concerned) = concerned else { return };
        if self.aimed >= AIMED_MAX || self.aim_rng.below(1000) >= permille {
            return;
        }
        self.aimed += 1;
        // Half of the time it meets whoever the event makes indispensable.
        let copies = matches!(event, Event::CopyStarted { .. });
        if (copies || self.aim_rng.chance(1, 2)) && self.aim_at_others(node, event) {
            return;
        }
        let lease_ms = self.scenario.lease_ms;
        let rng = &mut self.aim_rng;
        let soon_ms = [0, 0, 2, 20][rng.below(4) as usize];
        let kind = match rng.below(6) {
            0..=2 => Kind::Kill { notice_ms: 1, notices: rng.below(2) },
            3 => Kind::Pause,
            4 => Kind::Cut { way: Way::Both, whom: Whom::Peers },
            _ => Kind::Cut { way: Way::Out, whom: Whom::Everyone },
        };
        let for_ms = [lease_ms / 8, lease_ms, lease_ms * 3][rng.below(3) as usize];
        let target = self.target(concerned);
        self.aim_fault(soon_ms, kind, target, for_ms);
    }

    /// What an event makes everything depend on for a moment, beside the node that tells of it. False: nothing.
    fn aim_at_others(&mut self, node: usize, event: &Event) -> bool {
        let lease_ms = self.scenario.lease_ms;
        match event {
            // Its term has decided nothing yet, and already a seat is to change.
            Event::LeadsAgency { .. } if self.aim_rng.chance(1, 3) => {
                let agent = Target::Agent(self.aim_rng.below(self.agents as u64) as usize);
                self.aim_fault(0, Kind::Reseat, agent, lease_ms);
            }
            // Whoever takes office does not know which leases are held.
            Event::LeadsAgency { .. } => {
                let way = if self.aim_rng.chance(1, 2) { Way::Both } else { Way::Out };
                self.aim_fault(0, Kind::Cut { way, whom: Whom::Agents }, Target::Leader, lease_ms * 2);
            }
            // The agency forgets what it has just granted, and does not hear of it again.
            Event::Granted { .. } => {
                self.aim_fault(0, Kind::Kill { notice_ms: 1, notices: 0 }, Target::Agents, 5);
                self.aim_fault(0, Kind::Cut { way: Way::Out, whom: Whom::Agents }, Target::Leader, lease_ms * 2);
            }
            Event::CopyStarted { .. } => self.aim_at_copy(node),
            // It and a follower hear nothing of the next election, but each other.
            Event::EpochBegun { .. } if self.aim_rng.chance(1, 2) => {
                let soon_ms = self.aim_rng.below(lease_ms * 2);
                let cut = Kind::Cut { way: Way::Both, whom: Whom::Agents };
                for target in [self.target(node), Target::Follower] {
                    self.aim_fault(soon_ms, cut.clone(), target, lease_ms * 6);
                }
            }
            // Just begun, and already it is to hand over, back to the one before, while writes are slow to end.
            Event::EpochBegun { epoch, .. } => {
                let before = self.lease.leader_of(Epoch(epoch.0.saturating_sub(1)));
                let before = self.machines.iter().position(|m| m.id.is_some() && m.id == before && m.process.is_some());
                let successor = before.filter(|before| *before != node).map(|before| self.target(before));
                let disk_ms = [5, 40, 200][self.aim_rng.below(3) as usize];
                let soon_ms = [lease_ms / 4, lease_ms, lease_ms * 2][self.aim_rng.below(3) as usize];
                let target = self.target(node);
                self.aim_fault(soon_ms, Kind::Slow { disk_ms }, target, lease_ms);
                self.aim_fault(soon_ms, Kind::Handover, successor.unwrap_or(Target::Follower), lease_ms);
            }
            // Its revisions must go on, although the time of day goes back.
            Event::Role { .. } => self.aim_fault(0, Kind::Wall { ms: -40_000 }, Target::Servers, lease_ms),
            _ => return false,
        }
        true
    }

    fn aim_at_copy(&mut self, node: usize) {
        let lease_ms = self.scenario.lease_ms;
        let soon_ms = [0, 5, 50][self.aim_rng.below(3) as usize];
        match self.aim_rng.below(4) {
            // A follower without data is left alone, for longer than it takes to depose and to lose patience.
            0 => {
                for other in (self.agents..self.machines.len()).filter(|other| *other != node) {
                    let target = self.target(other);
                    self.aim_fault(soon_ms, Kind::Kill { notice_ms: 1, notices: 1 }, target, lease_ms * 4);
                }
            }
            // Much is written while it copies.
            1 => {
                let (disk_ms, target) = (10 + self.aim_rng.below(60), self.target(node));
                self.aim_fault(0, Kind::Slow { disk_ms }, target, lease_ms * 4);
            }
            // Nobody else can confirm what is written until it is done.
            2 => {
                let leader = self.lease.latest();
                let others = (self.agents..self.machines.len()).filter(|other| *other != node);
                let others: Vec<usize> = others.filter(|other| self.machines[*other].id != leader).collect();
                for other in others {
                    let target = self.target(other);
                    self.aim_fault(0, Kind::Cut { way: Way::Both, whom: Whom::Peers }, target, lease_ms * 4);
                }
                let (disk_ms, target) = (10 + self.aim_rng.below(60), self.target(node));
                self.aim_fault(soon_ms, Kind::Slow { disk_ms }, target, lease_ms * 4);
            }
            // Its source leads no longer, and it has to begin with another.
            _ => self.aim_fault(soon_ms, Kind::Kill { notice_ms: 1, notices: 1 }, Target::Leader, lease_ms),
        }
    }

    /// An agent is about to catch up for a seat: another's is taken away meanwhile, and the disks of those that keep
    /// one are slow to take that down. How long to wait with the request.
    pub(super) fn aim_at_learner(&mut self, node: usize) -> Option<Duration> {
        let seated: Vec<usize> = (0..self.agents).filter(|a| *a != node && self.agency.is_seated(*a)).collect();
        if !self.may_aim() || self.aimed >= AIMED_MAX || seated.len() < 2 || self.aim_rng.below(4) > 0 {
            return None;
        }
        self.aimed += 1;
        let leaves = seated[self.aim_rng.below(seated.len() as u64) as usize];
        let (disk_ms, lease_ms) = (20 + self.aim_rng.below(200), self.scenario.lease_ms);
        for agent in seated.into_iter().filter(|agent| *agent != leaves) {
            self.aim_fault(0, Kind::Slow { disk_ms }, Target::Agent(agent), lease_ms);
        }
        self.aim_fault(0, Kind::Reseat, Target::Agent(leaves), lease_ms);
        Some(Duration::from_millis(1 + self.aim_rng.below(disk_ms)))
    }

    /// The length of leases changes: whoever holds one of the old length may be out of sight from now on.
    pub(super) fn aim_at_old_lease(&mut self) {
        if self.may_aim() {
            let (soon_ms, lease_ms) = (1 + self.aim_rng.below(self.scenario.lease_ms / 2), self.scenario.lease_ms);
            self.aim_fault(soon_ms, Kind::Cut { way: Way::Out, whom: Whom::Agents }, Target::Leader, lease_ms * 2);
        }
    }

    fn target(&self, node: usize) -> Target {
        match node.checked_sub(self.agents) {
            Some(server) => Target::Server(server),
            None => Target::Agent(node),
        }
    }

    /// It strikes soon, unless the atlas refuses it beside what is planned.
    fn aim_fault(&mut self, soon_ms: u64, kind: Kind, target: Target, for_ms: u64) {
        let at = self.at.plus(Duration::from_millis(soon_ms));
        if at > At::from_ms(self.scenario.faults_ms) {
            return;
        }
        self.scenario.faults.push(Fault { at_ms: at.0 / 1_000_000, kind, target, for_ms });
        if atlas::check(&self.scenario).is_err() {
            self.scenario.faults.pop();
            return;
        }
        let fault = self.scenario.faults.len() - 1;
        self.later(at, Happening::Strike { fault });
    }

    /// When a message that is being sent comes once more, as over a connection that was thought to be broken: only what
    /// a rule has to refuse then. Some are kept for their moment.
    pub(super) fn echo(&mut self, from: usize, to: usize, message: &Message, bytes: &Bytes) -> Option<At> {
        if !self.may_aim() || self.echoes >= ECHOES_MAX {
            return None;
        }
        let about = match message {
            Message::Release(_) => Some(About::Release),
            Message::Report(_) => Some(About::Report),
            Message::SetInSync(_) => Some(About::InSync),
            Message::SnapshotPiece(piece) => Some(About::Piece(piece.id, piece.cursor.clone())),
            Message::Freeze(_) | Message::Follow(_) | Message::Diverged(_) | Message::SnapshotOffer(_) => None,
            // The piece of another copy that would fit in here.
            Message::SnapshotRequest(SnapshotRequest { id, cursor }) => {
                let fits = |about: &About| matches!(about, About::Piece(of, at) if of != id && at == cursor);
                self.echo_now(20, |kept| kept.to == from && fits(&kept.about));
                return None;
            }
            _ => return None,
        };
        if let Some(about) = about.filter(|_| self.aim_rng.chance(1, 2)) {
            if self.kept.len() == KEPT_MAX {
                self.kept.swap_remove(self.aim_rng.below(KEPT_MAX as u64) as usize);
            }
            self.kept.push(Kept { about, from, to, bytes: bytes.clone() });
        }
        let late = self.aim_rng.chance(1, 6);
        self.echoes += u64::from(late);
        late.then(|| self.at.plus(Duration::from_millis(self.aim_rng.below(self.scenario.lease_ms * 6))))
    }

    /// An event that something has waited for: a release for the next reign of its sender, reports for another round,
    /// an in-sync set for the next one.
    fn echo_at(&mut self, node: usize, event: &Event) {
        let lease_us = self.scenario.lease_ms * 1000;
        let within_us = [lease_us / 500, lease_us / 50, lease_us][self.echoes as usize % 3];
        match event {
            Event::EpochBegun { .. } => {
                self.echo_now(within_us, |kept| kept.about == About::Release && kept.from == node);
            }
            // An older set would take the place of the one that counts from now on.
            Event::InSyncChanged { .. } => {
                self.echo_now(within_us, |kept| kept.about == About::InSync && kept.to == node);
            }
            Event::Deposed { .. } => self.echo_now(within_us, |kept| kept.about == About::Report && kept.to == node),
            _ => {}
        }
    }

    fn echo_now(&mut self, within_us: u64, mut due: impl FnMut(&Kept) -> bool) {
        let due: Vec<Kept> = self.kept.extract_if(.., |kept| due(kept)).collect();
        for kept in due {
            let at = self.at.plus(Duration::from_micros(self.aim_rng.below(within_us)));
            self.echoes += 1;
            if self.trace.timeline.is_some()
                && let Ok(envelope) = Envelope::decode(&kept.bytes)
            {
                self.draw_echo(kept.from, kept.to, at, &envelope.message);
            }
            self.later(at, Happening::Deliver { node: kept.to, bytes: kept.bytes });
        }
    }
}
