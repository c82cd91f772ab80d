//! Faults that are aimed at a moment: what happened a moment ago makes somebody's failure hurt most.
//!
//! A schedule drawn beforehand seldom hits the few milliseconds between an election and the first lease, or between two
//! steps of a copy. So in some scenarios (`aim_permille`) such an event may be followed at once by a fault on the node
//! that it concerns. They are ordinary faults: healed after their time, and at the latest with everything else.

use super::*;

/// A run has no more of them than this.
const AIMED_MAX: u64 = 20;

impl World {
    /// A node has told of an event.
    pub(super) fn aim(&mut self, node: usize, event: &Event) {
        let s = &self.scenario;
        if s.aim_permille == 0 || self.healed.is_some() || self.at > At::from_ms(s.faults_ms) {
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
        if self.aimed >= AIMED_MAX || self.aim_rng.below(1000) >= s.aim_permille {
            return;
        }
        self.aimed += 1;
        let lease_ms = s.lease_ms;
        let rng = &mut self.aim_rng;
        let soon_ms = [0, 0, 2, 20][rng.below(4) as usize];
        let kind = match rng.below(6) {
            0..=2 => Kind::Kill { notice_ms: 1, notices: rng.below(2) },
            3 => Kind::Pause,
            4 => Kind::Cut { way: Way::Both, whom: Whom::Peers },
            _ => Kind::Cut { way: Way::Out, whom: Whom::Everyone },
        };
        let for_ms = [lease_ms / 8, lease_ms, lease_ms * 3][rng.below(3) as usize];
        let target = match concerned.checked_sub(self.agents) {
            Some(server) => Target::Server(server),
            None => Target::Agent(concerned),
        };
        let at = self.at.plus(Duration::from_millis(soon_ms));
        let at_ms = at.0 / 1_000_000;
        self.scenario.faults.push(Fault { at_ms, kind, target, for_ms });
        let fault = self.scenario.faults.len() - 1;
        self.later(at, Happening::Strike { fault });
    }
}
