//! What a soak does to a deployment: real signals, real cuts, a real full disk. Each fault ends by being healed.

use crate::ground::Ground;
use rustix::process::Signal;
use std::time::Duration;
use tanist_engine::types::Rng;
use tanist_tests::wait::wait;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing: whoever leads must lead afterwards.
    Quiet,
    /// SIGKILL; the starter starts it again.
    Kill,
    /// SIGSTOP, and SIGCONT after up to three leases.
    Stop,
    /// SIGTERM; the starter starts it again.
    Terminate,
    /// The operator hands over.
    Switchover,
    /// A machine is cut off: from all others, both ways or one.
    Cut,
    /// No room left where the server's data are.
    FullDisk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    Nobody,
    Leader,
    Follower,
    Agent,
}

/// Name, what, whom, how often in comparison.
pub const FAULTS: [(&str, Kind, Whom, u64); 13] = [
    ("quiet", Kind::Quiet, Whom::Nobody, 3),
    ("kill leader", Kind::Kill, Whom::Leader, 4),
    ("kill follower", Kind::Kill, Whom::Follower, 1),
    ("kill agent", Kind::Kill, Whom::Agent, 2),
    ("stop leader", Kind::Stop, Whom::Leader, 3),
    ("stop follower", Kind::Stop, Whom::Follower, 1),
    ("stop agent", Kind::Stop, Whom::Agent, 1),
    ("terminate leader", Kind::Terminate, Whom::Leader, 2),
    ("switchover", Kind::Switchover, Whom::Leader, 3),
    ("cut leader", Kind::Cut, Whom::Leader, 4),
    ("cut follower", Kind::Cut, Whom::Follower, 1),
    ("full disk of leader", Kind::FullDisk, Whom::Leader, 2),
    ("full disk of follower", Kind::FullDisk, Whom::Follower, 1),
];

/// One fault, drawn.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub name: &'static str,
    pub kind: Kind,
    pub whom: Whom,
}

impl Fault {
    /// One of those that this ground allows, and whose names contain one of `wanted` (all, if that is empty).
    pub fn draw(rng: &mut Rng, wanted: &[String], ground: &Ground) -> Fault {
        let allowed = |(name, kind, ..): &&(&'static str, Kind, Whom, u64)| {
            ground.can(*kind) && (wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())))
        };
        let weights: u64 = FAULTS.iter().filter(allowed).map(|(.., weight)| weight).sum();
        assert!(weights > 0, "no fault is left to draw from");
        let mut left = rng.below(weights);
        for (name, kind, whom, weight) in FAULTS.iter().filter(allowed) {
            match left.checked_sub(*weight) {
                None => return Fault { name, kind: *kind, whom: *whom },
                Some(rest) => left = rest,
            }
        }
        unreachable!("the draw is below the sum of all weights")
    }

    /// Whether another may lead afterwards.
    pub fn may_move_leader(&self) -> bool {
        self.whom == Whom::Leader
    }

    /// Whether another agent may lead the agency afterwards.
    pub fn may_move_agency(&self) -> bool {
        self.whom == Whom::Agent || self.kind == Kind::Cut
    }

    /// Does it, lets it last, and takes it away.
    pub fn strike(&self, ground: &Ground, rng: &mut Rng, lease: Duration) {
        // It was sound, but the agent that was killed last may have been the agency's leader.
        let leader = wait("a server serves", || ground.leader());
        let followers: Vec<usize> = (0..ground.servers().len()).filter(|server| *server != leader).collect();
        let server = match self.whom {
            Whom::Follower => followers[rng.below(followers.len() as u64) as usize],
            _ => leader,
        };
        let agent = rng.below(ground.agents() as u64) as usize;
        let lasts = rng.between(lease / 4, lease * 3);
        let pid = |ground: &Ground| match self.whom {
            Whom::Agent => ground.agent_pid(agent),
            _ => ground.server_pid(server),
        };
        match self.kind {
            Kind::Quiet => std::thread::sleep(lasts),
            Kind::Kill => ground.signal(pid(ground), Signal::KILL),
            Kind::Terminate => ground.signal(pid(ground), Signal::TERM),
            Kind::Stop => {
                let pid = pid(ground);
                ground.signal(pid, Signal::STOP);
                std::thread::sleep(lasts);
                ground.signal(pid, Signal::CONT);
            }
            Kind::Switchover => ground.switchover(),
            Kind::Cut => {
                let way = rng.below(3);
                ground.cut(server, way != 1, way != 2);
                std::thread::sleep(lasts);
                ground.heal(server);
            }
            Kind::FullDisk => {
                ground.fill_disk(server);
                std::thread::sleep(lasts);
                ground.empty_disk(server);
            }
        }
    }
}
