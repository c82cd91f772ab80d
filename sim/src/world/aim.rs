//! Faults that are aimed at a moment: what happened a moment ago makes somebody's failure hurt most.
//!
//! A schedule drawn beforehand seldom hits the few milliseconds between an election and the first lease, or between two
//! steps of a copy. So in some scenarios (`aim_permille`) such an event may be followed at once by a fault on the node
//! that it concerns, or on those that it depends on. They are ordinary faults: healed after their time, and at the
//! latest with everything else. And what a rule has to refuse when it is late may come once more, much later.

use super::*;
use crate::atlas;

/// A run has no more of them than this.
const AIMED_MAX: u64 = 20;
/// Nor more messages that come once more than this.
const ECHOES_MAX: u64 = 200;

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
        let concerned = match event {
            Event::Elected { server, .. } => self.machines.iter().position(|machine| machine.id == Some(*server)),
            Event::LeadsAgency { .. } | Event::Chose { .. } | Event::Deposed { .. } => Some(node),
            Event::EpochBegun { .. } | Event::Role { .. } | Event::RollsBack { .. } | Event::CopyStarted { .. } => {
                Some(node)
            }
            _ => None,
        };
        let Some(concerned) = concerned else { return };
        if self.aimed >= AIMED_MAX || self.aim_rng.below(1000) >= self.scenario.aim_permille {
            return;
        }
        self.aimed += 1;
        // Half of the time it meets whoever the event makes indispensable.
        let others = self.aim_rng.chance(1, 2) && self.aim_at_others(node, event);
        if others {
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
            // Whoever takes office does not know which leases are held.
            Event::LeadsAgency { .. } => {
                let way = if self.aim_rng.chance(1, 2) { Way::Both } else { Way::Out };
                self.aim_fault(0, Kind::Cut { way, whom: Whom::Agents }, Target::Leader, lease_ms * 2);
            }
            // A follower without data is left alone, for longer than it takes to depose and to lose patience.
            Event::CopyStarted { .. } => {
                let soon_ms = [0, 5, 50][self.aim_rng.below(3) as usize];
                for other in (self.agents..self.machines.len()).filter(|other| *other != node) {
                    let target = self.target(other);
                    self.aim_fault(soon_ms, Kind::Kill { notice_ms: 1, notices: 1 }, target, lease_ms * 4);
                }
            }
            // Just begun, and already it is to hand over, while writes are slow to end.
            Event::EpochBegun { .. } => {
                let disk_ms = [5, 40, 200][self.aim_rng.below(3) as usize];
                let soon_ms = [lease_ms / 4, lease_ms, lease_ms * 2][self.aim_rng.below(3) as usize];
                let target = self.target(node);
                self.aim_fault(soon_ms, Kind::Slow { disk_ms }, target, lease_ms);
                self.aim_fault(soon_ms, Kind::Handover, Target::Follower, lease_ms);
            }
            // Its revisions must go on, although the time of day goes back.
            Event::Role { .. } => {
                let target = self.target(node);
                self.aim_fault(0, Kind::Wall { ms: -40_000 }, target, lease_ms);
            }
            _ => return false,
        }
        true
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

    /// When a message that has been sent comes once more, as over a connection that was thought to be broken: only what
    /// a rule has to refuse then.
    pub(super) fn echo(&mut self, message: &Message) -> Option<At> {
        if !self.may_aim() || self.echoes >= ECHOES_MAX {
            return None;
        }
        let telling = matches!(
            message,
            Message::Release(_)
                | Message::Freeze(_)
                | Message::Report(_)
                | Message::Follow(_)
                | Message::Diverged(_)
                | Message::SnapshotOffer(_)
                | Message::SnapshotPiece(_)
        );
        if !telling || !self.aim_rng.chance(1, 6) {
            return None;
        }
        self.echoes += 1;
        let late_ms = self.aim_rng.below(self.scenario.lease_ms * 6);
        Some(self.at.plus(Duration::from_millis(late_ms)))
    }
}
