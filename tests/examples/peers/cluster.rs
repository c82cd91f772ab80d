//! What is compared: a cluster on loopback that elects a leader, and clients of it.

use rustix::process::Signal;
use std::time::{Duration, Instant};

/// For one write, whatever nodes it is sent to.
pub const ATTEMPT: Duration = Duration::from_millis(250);

pub trait Cluster {
    /// The node that leads, as the cluster itself says.
    fn leader(&self) -> Option<usize>;
    /// Somebody leads, and all others follow.
    fn is_sound(&self) -> bool;
    fn signal(&mut self, node: usize, signal: Signal);
    /// A node that was killed comes back as an operator's supervisor would bring it back.
    fn restart(&mut self, node: usize);
    /// A client that finds out who leads.
    fn writer(&self) -> Box<dyn Writer>;
    /// Whether whoever follows passes writes on to the leader: then its acknowledgements are the leader's.
    fn passes_on(&self) -> bool {
        false
    }
    /// A client that knows one node only.
    fn direct(&self, node: usize) -> Box<dyn Writer>;
}

pub trait Writer: Send {
    /// One attempt to store a new key; whether it was acknowledged.
    fn write(&mut self, key: u64, deadline: Instant) -> bool;
    /// Whether the key is there; `None` without an answer.
    fn has(&mut self, key: u64) -> Option<bool>;
}

/// What is stored under a key.
pub fn value() -> String {
    "x".repeat(200)
}

/// Whether a program is there to be run.
pub fn is_installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
