//! Single rows about the store itself, in the table Meta: postcard under a name.

use super::overlay::Overlay;
use super::rows::{decode, encode};
use super::store::*;
use crate::mark;
use crate::types::Epoch;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `u32`: the version of the format. Absent only in a store that was never opened.
pub const FORMAT: &str = "format";
/// `NodeId`
pub const NODE: &str = "node";
/// `StoreId`
pub const STORE: &str = "store";
/// What the first epoch of a new deployment writes, made where the directory was created (`exec::Bootstrap`).
pub const BOOTSTRAP: &str = "bootstrap";
/// `DeploymentId`
pub const DEPLOYMENT: &str = "deployment";
/// `Epoch`: the highest that anybody told us of (R5, I7).
pub const SEEN: &str = "seen";
/// `Epoch`: the one that this process began and may write in (R3). Forgotten when the store is opened.
pub const OWNED: &str = "owned";
/// `bool`: absent means true. False from the begin of a first copy to its end.
pub const COMPLETE: &str = "complete";
/// `u32`: the generation in use; absent means 0.
pub const GENERATION: &str = "generation";
/// `u32`: the highest generation ever used.
pub const GENERATIONS: &str = "generations";
/// `copy::CopyRow`: the copy that is being built.
pub const COPY: &str = "copy";
/// Followed by a generation: `u32`, it is to be removed.
pub const GARBAGE: &str = "garbage/";
/// Followed by a generation: `copy::KeptStore`.
pub const KEPT: &str = "kept/";
/// Followed by an epoch: `RollbackSummary`.
pub const ROLLBACKS: &str = "rollbacks/";
/// Followed by the name of one of an agent's rows: bytes of the Raft layer.
pub const RAFT: &str = "raft/";

pub fn get<T: DeserializeOwned>(rows: &dyn Read, name: &str) -> StoreResult<Option<T>> {
    let row = rows.get(Table::Meta, name.as_bytes())?;
    row.map(|value| decode(value, &format!("meta row '{name}'"))).transpose()
}

pub fn put<T: Serialize>(rows: &mut Overlay<'_>, name: &str, value: &T) {
    rows.put(Table::Meta, name.as_bytes().to_vec(), encode(value));
}

pub fn remove(rows: &mut Overlay<'_>, name: &str) {
    rows.remove(Table::Meta, name.as_bytes().to_vec());
}

/// A name with a generation.
pub fn of_generation(prefix: &str, generation: u32) -> String {
    format!("{prefix}{generation:08x}")
}

pub fn seen(rows: &dyn Read) -> StoreResult<Epoch> {
    Ok(get(rows, SEEN)?.unwrap_or_default())
}

/// Nobody uses these data any more: pruning removes them.
pub fn discard(rows: &mut Overlay<'_>, generation: u32) {
    put(rows, &of_generation(GARBAGE, generation), &generation);
}

/// Takes note of a sender's epoch, which ends whatever we began ourselves in an earlier one. `Err` with the highest
/// seen if that is later (I7).
pub fn hear(rows: &mut Overlay<'_>, epoch: Epoch) -> StoreResult<Result<(), Epoch>> {
    let seen = seen(rows)?;
    if seen > epoch && !planted!(epoch_unchecked) {
        mark!(SenderOutdated);
        return Ok(Err(seen));
    }
    if seen < epoch && !planted!(seen_not_kept) {
        put(rows, SEEN, &epoch);
    }
    Ok(Ok(()))
}
