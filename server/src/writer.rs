//! The storage thread that writes.
//!
//! It takes all that is queued and commits it once (group commit): one fsync then serves every client that
//! waited for the last one. It performs ops strictly in the order started, and reports each only when it is durable.

use crate::driver::Event;
use crate::exit::Code;
use crate::queries::Attending;
use crate::storage::DiskStore;
use std::sync::mpsc::{Receiver, Sender};
use tanist_engine::db::store::StoreError;
use tanist_engine::exec;
use tanist_engine::io::{Op, OpId, OpResult};

/// Bounds of one commit: ops, and about as many bytes. With their rows and the log these come to about three times as
/// much, which the store takes without going to LMDB for it.
const BATCH_OPS_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Performs ops that write until the loop is gone.
pub fn write(ops: Receiver<(OpId, Op)>, mut store: DiskStore, inbox: Sender<Event>, attending: &Attending) {
    while let Ok(first) = ops.recv() {
        for (op, result) in commit(first, &ops, &mut store, attending) {
            if inbox.send(Event::Done(op, result)).is_err() {
                return;
            }
        }
    }
}

/// Performs an op and those that are queued behind it, by one commit; returns what each came to once it is durable.
pub fn commit(
    first: (OpId, Op),
    ops: &Receiver<(OpId, Op)>,
    store: &mut DiskStore,
    attending: &Attending,
) -> Vec<(OpId, OpResult)> {
    let mut bytes = size(&first.1);
    let mut batch = vec![first];
    while batch.len() < BATCH_OPS_MAX && bytes < BATCH_BYTES_MAX {
        let Ok(next) = ops.try_recv() else { break };
        bytes += size(&next.1);
        batch.push(next);
    }
    let started = batch.len();
    let results = exec::perform_attended(batch, store, attending);
    assert_eq!(results.len(), started, "each op ends once");
    results.iter().for_each(|(_, result)| leave_if_broken(result));
    results
}

/// After a failed fsync nobody knows what the disk holds. A process that can't write must not lead: it leaves, and a
/// fresh one reads what is really there. A full disk is not that: it is reported, and reading goes on.
fn leave_if_broken(result: &OpResult) {
    if let OpResult::Failed(StoreError::Io(what)) = result {
        tracing::error!("the disk refused a write, so this process ends: {what}");
        std::process::exit(Code::Storage as i32);
    }
}

fn size(op: &Op) -> usize {
    match op {
        Op::Run(run) => run.request.body.len(),
        Op::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len()).sum(),
        Op::CopyRows(piece) => piece.rows.len(),
        _ => 0,
    }
}
