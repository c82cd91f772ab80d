//! Replication: the leader ships its log, followers catch up.
//!
//! The log is the truth: entries `(epoch, tick, transaction)`, each written in the same storage transaction as the data
//! it changes. A follower presents where its log stands ([`crate::message::Follow`]); the leader compares and answers
//! with entries, with the point where the logs part (R7), or with a snapshot (R8). Any message may be lost, repeated or
//! late: a follower asks again when it hears nothing, a leader sends again what is not acknowledged.
//!
//! Neither side ever looks into an entry, and neither decides who leads. Invariants: I7, I8, I10.

pub mod follower;
pub mod in_sync;
pub mod leader;
#[cfg(test)]
mod tests;

use crate::types::{Duration, Timing};

/// How often replication looks whether something was lost, and how often an idle leader says that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// A question without an answer is asked again after this.
    pub retry: Duration,
    /// A leader that has nothing to ship says so this often.
    pub idle: Duration,
    /// A follower not heard of for this long no longer holds the log back.
    pub forget: Duration,
}

impl Pace {
    pub fn of(timing: &Timing) -> Pace {
        let clamp =
            |duration: Duration, low, high| duration.clamp(Duration::from_millis(low), Duration::from_millis(high));
        Pace {
            retry: clamp(timing.lease / 10, 20, 500),
            idle: clamp(timing.lease / 8, 20, 1000),
            forget: timing.lease * 10,
        }
    }
}
