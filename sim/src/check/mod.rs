//! The checkers: one for each invariant I1..I17 of `engine/src/lib.rs`.
//!
//! They watch what a node does (its messages, its operations on the store, its events, its answers) and keep their own
//! picture of what must be true. They know true time, which no node does. Nothing here calls the code that it checks,
//! and nothing here is seen by a node.
//!
//! | invariant      | where                |
//! |----------------|----------------------|
//! | I1 I2 I3 I4    | [`agency`], [`registers`] (I4 of followers: [`replication`]); on an etcd: [`witness`] |
//! | I5 I6          | [`lease`], and [`grant`] at the agency |
//! | I7 I8 I9 I10   | [`replication`], on the stores themselves: [`stores`] |
//! | I11 I12 I13 I14| [`history`]          |
//! | I15 I16 I17    | [`liveness`]         |
//! | R6 R15 R17     | [`synchrony`]        |
//! | transactions   | [`streams`]          |
//! | unique         | [`replication`], on the stores themselves: [`stores`] |
//! | room           | [`room`]             |

pub mod agency;
pub mod grant;
pub mod history;
pub mod lease;
pub mod linearizability;
pub mod liveness;
pub mod registers;
pub mod replication;
pub mod room;
pub mod stores;
pub mod streams;
pub mod synchrony;
pub mod witness;

use crate::clock::At;
use std::fmt;
use std::ops::{Index, IndexMut};
use tanist_engine::types::Time;

/// Who does something, and when.
#[derive(Clone, Copy, Debug)]
pub struct Ctx {
    pub at: At,
    /// Number of the event that the simulation is at: orders what happens at one instant.
    pub event: u64,
    /// Among the agents, or among the servers.
    pub node: usize,
    /// Which process of that node.
    pub incarnation: u64,
    /// The node's own steady clock.
    pub local: Time,
}

/// What is known of each node's process. Of the next process of a node nothing is known at first.
#[derive(Clone, Hash)]
struct Processes<T>(Vec<(u64, T)>);

impl<T: Clone + Default> Processes<T> {
    fn new(nodes: usize) -> Processes<T> {
        Processes(vec![Default::default(); nodes])
    }

    /// Of the process that does something.
    fn of(&mut self, ctx: &Ctx) -> &mut T {
        let (incarnation, known) = &mut self.0[ctx.node];
        if *incarnation != ctx.incarnation {
            (*incarnation, *known) = (ctx.incarnation, T::default());
        }
        known
    }

    /// Its process is gone.
    fn forget(&mut self, node: usize) {
        self.0[node] = Default::default();
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, known)| known)
    }
}

impl<T> Index<usize> for Processes<T> {
    type Output = T;

    fn index(&self, node: usize) -> &T {
        &self.0[node].1
    }
}

impl<T> IndexMut<usize> for Processes<T> {
    fn index_mut(&mut self, node: usize) -> &mut T {
        &mut self.0[node].1
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `I1`..`I17`, or `panic` for an assertion of the engine.
    pub invariant: &'static str,
    pub what: String,
    pub at: At,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {} ({})", self.invariant, self.at, self.what, meaning(self.invariant))
    }
}

/// Every check, and what it promises.
pub const CHECKS: &[(&str, &str)] = &[
    ("I1", "one agency leader a term"),
    ("I2", "agents' logs match"),
    ("I3", "what agents apply are prefixes of one another"),
    ("I4", "no vote or acknowledgement before it is durable"),
    ("I5", "at most one server has a valid lease and an open gate"),
    ("I6", "epochs only grow and have one owner each"),
    ("I7", "no store that has seen an epoch takes anything from a sender of an older one"),
    ("I8", "a follower's log is a prefix of its leader's"),
    ("I9", "after convergence all stores hold the same"),
    ("I10", "a rollback takes exactly the tail after the common point, and keeps it"),
    ("I11", "a success comes from a lease holder or is marked as a dirty read"),
    ("I12", "an acknowledged write does not disappear without need, and never without a trace"),
    ("I13", "a refusal names the leader of the epoch, or nobody"),
    ("I14", "reads return what was there while they ran"),
    ("I15", "a healed deployment elects a leader within a bounded time"),
    ("I16", "in a healed deployment all followers catch up"),
    ("I17", "in a healed deployment every request is answered"),
    ("R13", "an answer leaves in the epoch in which its request was admitted"),
    ("R6", "what is acknowledged is on the followers that must have it, and on the in-sync set on record"),
    ("R15", "nothing is acknowledged beyond the limit to the lag"),
    ("R17", "a leader with synchronous followers shows nothing that they do not have"),
    ("R14", "1495 and 1496 only if nothing was started"),
    ("R16", "no _rev is given twice"),
    ("transaction", "a transaction has a snapshot and what it wrote, and is committed as a whole or not at all"),
    ("unique", "no two documents have the same value in a unique index, and an index has what the documents have"),
    ("room", "a leader without room gives way to a server that has some, or stays"),
    ("contract", "the engine keeps its contract with the shell (io.rs)"),
    ("panic", "the engine never panics"),
];

/// The invariant in words.
pub fn meaning(invariant: &str) -> &'static str {
    CHECKS.iter().find(|(name, _)| *name == invariant).map_or("unknown", |(_, meaning)| meaning)
}

/// The check with this name.
pub fn named(name: &str) -> Result<&'static str, String> {
    let found = CHECKS.iter().find(|(known, _)| *known == name).map(|(known, _)| *known);
    let all: Vec<&str> = CHECKS.iter().map(|(known, _)| *known).collect();
    found.ok_or(format!("unknown check '{name}', must be one of {}", all.join(", ")))
}

pub type Verdict = Result<(), (&'static str, String)>;

/// `broken!("I5", "text {}", value)` ends a check.
macro_rules! broken {
    ($invariant:literal, $($text:tt)*) => {
        return Err(($invariant, format!($($text)*)))
    };
}
pub(crate) use broken;
