//! A request within a stream transaction: run on a snapshot, in the view that the transaction has.
//!
//! The view is the data as they are, with the log entries after the transaction's beginning undone, exactly, as a
//! rollback would do it, and then its own writes. What was undone for one request is kept for the next, which undoes
//! only what has come since. The store keeps nothing for it, so it must have the log as far back as the last request;
//! if that is pruned, the transaction ends, rather than show anything else.

use super::api;
use super::log::{Data, PAYLOAD_BYTES_MAX};
use super::overlay::{Batch, Layer, Overlay};
use super::store::{Read, StoreResult};
use super::{Reader, Writer};
use crate::demand::Standing;
use crate::errors;
use crate::io::{Ran, Run, Then};
use crate::mark;
use crate::queries::Attendant;
use crate::transaction::{End, Open, Progress};
use crate::types::*;

/// What one transaction may write, at most: it becomes one log entry.
pub const BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 1024;

/// Answers a request within an open transaction. Nothing is written; what it adds is in the result.
pub fn run(run: &Run, open: &Open, now: &dyn Read, attendant: &dyn Attendant) -> StoreResult<Ran> {
    let reader = Reader::new(now)?;
    let last = reader.last()?;
    let ended = |kind: errors::Error| Ran {
        response: kind.response(),
        entry: None,
        last,
        then: Some(Then::End(End::Aborted)),
        progress: None,
    };
    let Some(changed) = undone(open, now, last)? else {
        mark!(TransactionTooOld);
        let what = format!("the log does not reach back to where transaction {} began", open.id);
        return Ok(ended(errors::TRANSACTION_ABORTED.because(what)));
    };
    let seen = Layer { base: now, changes: &changed };
    let then = Layer { base: &seen, changes: &open.past };
    let view = Layer { base: &then, changes: &open.own };
    let stale = match run.at_least {
        Some(token) => token.standing(&reader.history()?, open.begin) != Standing::Reflected,
        None => run.fresh.is_some(),
    };
    let writer = Writer::beside(&view, run.epoch, run.now.wall_ms, run.seed, &run.transaction.locks)?;
    let mut writer = writer.within(open, reader);
    let handled = match stale {
        true => errors::TOO_OLD.because("a transaction's data are as they were when it began").response().into(),
        false => api::within(run, &mut writer, reader, attendant)?,
    };
    let succeeded = handled.response.status < 400;
    let (written, lane) = writer.finish_within();
    let progress = Progress { seen: last, past: changed, written: written.filter(|_| succeeded), lane };
    // A refusal may tell of what others have written since.
    let reflects = if succeeded { open.begin } else { last };
    Ok(Ran {
        response: handled.response,
        entry: None,
        last: reflects,
        then: handled.then,
        progress: Some(Box::new(progress)),
    })
}

/// The rows that have changed since the transaction's last request, as they were then; `None` if the log does not
/// tell any more.
fn undone(open: &Open, now: &dyn Read, last: Position) -> StoreResult<Option<Batch>> {
    let reader = Reader::new(now)?;
    if reader.log_at(open.seen.tick)?.is_none_or(|entry| entry.position != open.seen) {
        return Ok(None);
    }
    let mut rows = Overlay::new(now);
    let generation = reader.generation();
    for tick in (open.seen.tick.0 + 1..=last.tick.0).rev() {
        mark!(PastUndone);
        Data::new(&mut rows, generation).undo(Tick(tick))?;
    }
    Ok(Some(rows.into_batch()))
}

#[cfg(test)]
mod tests;
