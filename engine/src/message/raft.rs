//! What agents say to each other (forming the pool, and Raft), and what Raft keeps on disk.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Raft {}

/// A change to an agent's disk, made in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Opaque rows to put into (or, `None`, remove from) the agent's meta rows: hard state, pool, snapshot.
    pub meta: Vec<(&'static str, Option<Bytes>)>,
    /// Remove log entries at this index and above, before anything is appended.
    pub truncate_from: Option<u64>,
    /// Remove log entries up to and including this index.
    pub compact_to: Option<u64>,
    /// Log entries to append: index and encoded entry.
    pub entries: Vec<(u64, Bytes)>,
}

/// All of it, as found at start. `meta` in name order, `entries` in index order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedRaft {
    pub meta: Vec<(String, Bytes)>,
    pub entries: Vec<(u64, Bytes)>,
}
