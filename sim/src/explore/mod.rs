//! Exhaustive where small: every history of a small deployment within bounds on time and on faults.
//!
//! Not a model of the engine: its states are made of the engine's own [`tanist_engine::node::Node`]s and stores, its
//! steps are `Node::step` and `exec::perform`, and the checkers are those of the simulator. What is bounded: the number
//! of machines, the time that passes, and how often each kind of fault happens ([`choice::Kind`]); within that, every
//! fault happens at every place, in every combination and order.
//!
//! Time is real: nothing is rounded, and states at different instants are different states. It passes from one timer
//! to the next; while something may come at any moment (a message that was held up, a machine that is down) also in
//! steps of a quantum, if one is asked for. Chance is fixed: the engine draws the same numbers in every history.

pub mod choice;
pub mod cluster;
pub mod command;
pub mod machine;
pub mod part;
pub mod search;
#[cfg(test)]
mod tests;

pub use search::{Ended, Found, Report, explore};

use crate::check::Violation;
use crate::scenario::Scenario;
use choice::{Kind, Left, Limits};
use cluster::{Cluster, Setup};
use std::time::Duration;

/// Where an exploration begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Empty disks, every process just started.
    Boot,
    /// A pool with a leader, servers in step, and one of them serves.
    Formed,
}

/// What is explored, and how far.
#[derive(Clone, Debug)]
pub struct Settings {
    pub agents: usize,
    pub servers: usize,
    pub start: Start,
    /// How much time passes.
    pub span: Duration,
    /// How finely time passes while something may come at any moment; zero: from timer to timer only.
    pub quantum: Duration,
    pub bounds: Left,
    pub depth_max: usize,
    pub states_max: usize,
    pub time_max: Duration,
    pub memory_mb: usize,
    /// By how many millionths the servers' clocks are fast; negative if slow.
    pub server_ppm: i64,
    /// A further promise to hold in every state.
    pub forbidden: fn(&Cluster) -> Option<Violation>,
}

/// The lease is as short as the engine's own limits allow it to be with few timers: a leader beats twice in it.
const LEASE_MS: u64 = 25;
/// ε in thousandths.
const DRIFT_PERMILLE: u64 = 200;

impl Default for Settings {
    fn default() -> Settings {
        let mut bounds = Left::default();
        for (kind, count) in [(Kind::Faults, 2), (Kind::Losses, 1), (Kind::Delays, 1), (Kind::Crashes, 1)] {
            bounds.set(kind, count);
        }
        for (kind, count) in [(Kind::Repeats, 1), (Kind::Pauses, 1), (Kind::Notices, 1), (Kind::Writes, 1)] {
            bounds.set(kind, count);
        }
        Settings {
            agents: 1,
            servers: 2,
            start: Start::Formed,
            span: Duration::from_millis(3 * LEASE_MS),
            quantum: Duration::ZERO,
            bounds,
            depth_max: 10_000,
            states_max: 50_000_000,
            time_max: Duration::from_secs(60),
            memory_mb: 4000,
            // The worst that the lease must bear: a server's clock at 1 − ε of the agents'.
            server_ppm: -1000 * DRIFT_PERMILLE as i64,
            forbidden: |_| None,
        }
    }
}

impl Settings {
    fn limits(&self, first: &Cluster) -> Limits {
        Limits { until: first.at.plus(self.span), quantum: self.quantum }
    }

    fn setup(&self) -> Setup {
        let scenario = Scenario {
            agents: self.agents as u64,
            servers: self.servers as u64,
            lease_ms: LEASE_MS,
            drift_permille: DRIFT_PERMILLE,
            // Equal, so that no chance is drawn: who stands first is a choice.
            election_min_ms: 40,
            election_max_ms: 40,
            supervision_ms: LEASE_MS,
            ok_threshold_ms: LEASE_MS,
            compaction_step: 1_000_000,
            compaction_keep: 1_000_000,
            log_keep: 1000,
            log_keep_cap: 5000,
            ..Scenario::default()
        };
        Setup::new(scenario, self.server_ppm)
    }
}
