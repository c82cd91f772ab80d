//! Everything that touches a store, in one place: `open`, `perform`, `read`.

use crate::db::store::{Read, Store, StoreError};
use crate::io::{Op, OpId, OpResult, Saved};
use crate::types::{Config, Now};

/// Why a data directory can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    Store(StoreError),
    /// Written by another version of the format.
    Format {
        found: u32,
        known: u32,
    },
    /// An agent's directory given to a server, or the other way round.
    Kind(String),
}

/// Reads what a node needs to start; mints identities in an empty store, durably.
pub fn open(_store: &mut dyn Store, _config: &Config, _now: Now, _seed: u64) -> Result<Saved, OpenError> {
    todo!()
}

/// Performs ops that write, in order, in one transaction with one commit (group commit). An op that fails leaves
/// nothing of its own; if the commit fails, every op of the batch that wrote ends in `Failed`.
pub fn perform(_batch: Vec<(OpId, Op)>, _store: &mut dyn Store) -> Vec<(OpId, OpResult)> {
    todo!()
}

/// Performs an op that only reads (`!op.writes()`), on a snapshot taken after the op was admitted.
pub fn read(_op: Op, _snapshot: &dyn Read) -> OpResult {
    todo!()
}
