//! Everything that touches a store, in one place: `open`, `perform`, `read`.
//!
//! Writing operations are performed in the order started, as many as are queued in one transaction with one commit.
//! Each has an overlay of its own, so that one that fails leaves nothing. No decision is made here: the engine decides,
//! this carries out, and refuses what would break a promise that the store itself can see: an entry that does not
//! follow, a sender or a writer of an epoch that is over (I6, I7, R3, R5), a copy that is not exact (R8).

use crate::agency;
use crate::db::index::build::{self, Built, Left};
use crate::db::index::ttl;
use crate::db::log::{self, Data, Fit, LogOp, PAYLOAD_BYTES_MAX};
use crate::db::overlay::{Batch, Overlay};
use crate::db::rows::number_at;
use crate::db::store::*;
use crate::db::users::User;
use crate::db::writer::Finished;
use crate::db::{Reader, Writer, api, compare, copy, meta, prune, rollback, transaction};
use crate::demand::{Standing, Token};
use crate::errors;
use crate::http::{Response, header};
use crate::io::{
    Build, Expire, Located, Op, OpId, OpResult, Ran, RollbackId, Run, Saved, SavedAgent, SavedServer, Target,
};
use crate::mark;
use crate::message::Entry;
use crate::message::raft::{Persist, SavedRaft};
use crate::queries::{Alone, Attendant};
use crate::types::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Bound;

/// Version of everything that is stored.
const FORMAT: u32 = 7;

/// ArangoDB's `errorNum` for a request that asks for more than is allowed.
const RESOURCE_LIMIT: u32 = 32;

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

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Store(error) => error.fmt(f),
            OpenError::Format { found, known } => {
                write!(f, "the data has format {found}, this version of Tanist knows format {known}")
            }
            OpenError::Kind(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> OpenError {
        OpenError::Store(error)
    }
}

/// What the first epoch of a new deployment writes beside its row. Made where the directory is created, because only
/// there a password is given, and written as a log entry, so that servers never differ in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bootstrap {
    wall_ms: u64,
    root: Bytes,
}

/// Reads what a node needs to start; mints identities in an empty store, durably. An epoch that an earlier process
/// began is not gone on with (R3).
pub fn open(store: &mut dyn Store, config: &Config, now: Now, seed: u64) -> Result<Saved, OpenError> {
    let kind = match config {
        Config::Agent(_) => NodeKind::Agent,
        Config::Server(_) => NodeKind::Server,
    };
    let mut txn = store.begin()?;
    let mut rows = Overlay::new(&*txn);
    match meta::get::<u32>(&rows, meta::FORMAT)? {
        None => create(&mut rows, kind, config, now, seed),
        Some(FORMAT) => {}
        Some(found) => return Err(OpenError::Format { found, known: FORMAT }),
    }
    let id: NodeId = required(&rows, meta::NODE)?;
    if id.kind != kind {
        let wanted = if kind == NodeKind::Agent { "an agent" } else { "a server" };
        return Err(OpenError::Kind(format!("the data belongs to {id}, which is not {wanted}")));
    }
    meta::remove(&mut rows, meta::OWNED);
    let saved = match kind {
        NodeKind::Agent => Saved::Agent(SavedAgent { id, disk: required(&rows, meta::STORE)?, raft: raft(&rows)? }),
        NodeKind::Server => Saved::Server(server(&rows, id)?),
    };
    let batch = rows.into_batch();
    batch.write(&mut *txn)?;
    txn.commit()?;
    Ok(saved)
}

fn create(rows: &mut Overlay<'_>, kind: NodeKind, config: &Config, now: Now, seed: u64) {
    let mut rng = Rng::new(seed);
    meta::put(rows, meta::FORMAT, &FORMAT);
    meta::put(rows, meta::NODE, &NodeId { kind, uuid: rng.next_u128() });
    meta::put(rows, meta::STORE, &StoreId(rng.next_u128()));
    if kind == NodeKind::Server {
        let root = User::root(&config.auth().root_password, rng.next_u64()).body();
        meta::put(rows, meta::BOOTSTRAP, &Bootstrap { wall_ms: now.wall_ms, root: root.into() });
    }
}

fn required<T: serde::de::DeserializeOwned>(rows: &dyn Read, name: &str) -> StoreResult<T> {
    meta::get(rows, name)?.ok_or_else(|| StoreError::Corrupt(format!("meta row '{name}' is missing")))
}

fn server(rows: &dyn Read, id: NodeId) -> StoreResult<SavedServer> {
    let reader = Reader::new(rows)?;
    Ok(SavedServer {
        id,
        store: required(rows, meta::STORE)?,
        deployment: meta::get(rows, meta::DEPLOYMENT)?,
        seen: meta::seen(rows)?,
        last: reader.last()?,
        log_first: reader.log_first()?,
        complete: is_complete(rows)?,
        copy: copy::saved(rows)?,
        rollbacks: rollback::summaries(rows)?,
    })
}

fn is_complete(rows: &dyn Read) -> StoreResult<bool> {
    Ok(meta::get(rows, meta::COMPLETE)?.unwrap_or(true))
}

fn raft(rows: &dyn Read) -> StoreResult<SavedRaft> {
    let mut saved = SavedRaft::default();
    for row in scan_prefix(rows, Table::Meta, meta::RAFT.as_bytes(), Direction::Forward) {
        let (key, value) = row?;
        let name = String::from_utf8_lossy(&key[meta::RAFT.len()..]);
        saved.take_meta(&name, value).map_err(StoreError::Corrupt)?;
    }
    for row in rows.scan(Table::Raft, Bound::Unbounded, Bound::Unbounded, Direction::Forward) {
        let (key, value) = row?;
        saved.take_entry(number_at(key, 0, "key of a Raft entry")?, value).map_err(StoreError::Corrupt)?;
    }
    if saved.snapshot.index > 0 {
        agency::check_state(&saved.snapshot.state).map_err(StoreError::Corrupt)?;
    }
    Ok(saved)
}

// ---- operations that write ------------------------------------------------------------------------------------------

/// Performs ops that write, in order, in one transaction with one commit (group commit). An op that fails leaves
/// nothing of its own. If the store is full they are tried again one at a time, so that only those that do not fit end
/// in `Failed`; if it fails otherwise, all of them do.
pub fn perform(batch: Vec<(OpId, Op)>, store: &mut dyn Store) -> Vec<(OpId, OpResult)> {
    perform_attended(batch, store, &Alone::default())
}

/// The same where somebody looks after the queries that run.
pub fn perform_attended(
    batch: Vec<(OpId, Op)>,
    store: &mut dyn Store,
    attendant: &dyn Attendant,
) -> Vec<(OpId, OpResult)> {
    let (ids, ops): (Vec<OpId>, Vec<Op>) = batch.into_iter().unzip();
    let results =
        match if planted!(log_apart_from_data) { apart(&ops, store) } else { together(&ops, store, attendant) } {
            Ok(results) => results,
            Err(StoreError::Full) if ops.len() > 1 => {
                mark!(StoreFull);
                ops.iter()
                    .map(|op| match together(std::slice::from_ref(op), store, attendant) {
                        Ok(mut results) => results.pop().expect("one result for one operation"),
                        Err(error) => OpResult::Failed(error),
                    })
                    .collect()
            }
            Err(error) => {
                match error {
                    StoreError::Full => mark!(StoreFull),
                    _ => mark!(StoreFails),
                }
                ops.iter().map(|_| OpResult::Failed(error.clone())).collect()
            }
        };
    ids.into_iter().zip(results).collect()
}

/// One transaction; fails as a whole only if the store does.
fn together(ops: &[Op], store: &mut dyn Store, attendant: &dyn Attendant) -> StoreResult<Vec<OpResult>> {
    let mut txn = store.begin()?;
    let mut results = Vec::with_capacity(ops.len());
    let mut changed = false;
    for op in ops {
        let (result, batch) = match one(op, &*txn, attendant) {
            Ok(done) => done,
            Err(error) => (OpResult::Failed(error), Batch::default()),
        };
        changed |= !batch.is_empty();
        batch.write(&mut *txn)?;
        results.push(result);
    }
    if changed {
        txn.commit()?;
    }
    Ok(results)
}

/// The planted bug `log_apart_from_data`: the log has a transaction of its own, after the data's.
fn apart(ops: &[Op], store: &mut dyn Store) -> StoreResult<Vec<OpResult>> {
    let mut results = Vec::with_capacity(ops.len());
    for op in ops {
        let mut txn = store.begin()?;
        let (result, mut batch) =
            one(op, &*txn, &Alone::default()).unwrap_or_else(|e| (OpResult::Failed(e), Batch::default()));
        let log = batch.take(Table::Log);
        batch.write(&mut *txn)?;
        txn.commit()?;
        let mut txn = store.begin()?;
        log.write(&mut *txn)?;
        txn.commit()?;
        results.push(result);
    }
    Ok(results)
}

/// What one op comes to, and the rows to write.
fn one(op: &Op, base: &dyn Read, attendant: &dyn Attendant) -> StoreResult<(OpResult, Batch)> {
    let mut rows = Overlay::new(base);
    let result = match op {
        Op::Run(run) => return run_write(run, base, attendant),
        Op::Expire(expire) => return expire_documents(expire, base),
        Op::Build(piece) => return build_indexes(piece, base),
        Op::BeginEpoch { epoch, lineage } => return begin_epoch(*epoch, *lineage, base),
        Op::Persist(persist) => write_raft(persist, &mut rows)?,
        Op::Adopt { deployment } => adopt(*deployment, &mut rows)?,
        Op::See { epoch } => {
            let before = meta::seen(&rows)?;
            match meta::hear(&mut rows, *epoch)? {
                Ok(()) => OpResult::Seen { before, last: Reader::new(&rows)?.last()?, complete: is_complete(&rows)? },
                Err(seen) => OpResult::Stale { seen },
            }
        }
        Op::Append { epoch, into, prev, entries } => append(*epoch, *into, *prev, entries, &mut rows)?,
        Op::Undo { epoch, common, limit } => undo(*epoch, *common, *limit, &mut rows)?,
        Op::Prune { keep_from } => {
            let (first, more) = prune::prune(&mut rows, *keep_from)?;
            OpResult::Pruned { first, more }
        }
        Op::CopyBegin(offer) => copy::begin(offer, &mut rows)?,
        Op::CopyRows(piece) => copy::take_in(piece, &mut rows)?,
        Op::CopyFinish { id } => copy::finish(*id, &mut rows)?,
        Op::ForgetRollback(record) => match record {
            RollbackId::Entries(epoch) => OpResult::Forgotten { more: rollback::remove(&mut rows, *epoch)? },
            RollbackId::Store(generation) => {
                rollback::remove_store(&mut rows, *generation)?;
                OpResult::Forgotten { more: false }
            }
        },
        Op::CopyDrop => {
            copy::drop_current(&mut rows)?;
            OpResult::CopyDropped
        }
        Op::Locate { .. }
        | Op::Compare(_)
        | Op::ReadLog { .. }
        | Op::SnapshotBegin { .. }
        | Op::SnapshotRead { .. } => {
            return Ok((look(op.clone(), base, attendant)?, Batch::default()));
        }
    };
    Ok((result, rows.into_batch()))
}

/// A client's write, in an epoch that this process began and that is still the last anybody told us of (I7).
fn run_write(run: &Run, base: &dyn Read, attendant: &dyn Attendant) -> StoreResult<(OpResult, Batch)> {
    let let_through = run.dirty && planted!(dirty_write_let_through);
    if let Some(seen) = outdated(run.epoch, base)?.filter(|_| !let_through) {
        mark!(WriterOutdated);
        return Ok((OpResult::Stale { seen }, Batch::default()));
    }
    let reader = Reader::new(base)?;
    if let Some(result) = unmet(run, &reader)? {
        return Ok((result, Batch::default()));
    }
    let locks = &run.transaction.locks;
    let mut writer = Writer::beside(base, run.epoch, run.now.wall_ms, run.seed, locks)?;
    let handled = api::write(run, &mut writer, attendant)?;
    let finished =
        if handled.response.status < 400 || planted!(failed_query_kept) { writer.finish()? } else { Finished::Nothing };
    let (response, entry, batch) = match finished {
        Finished::Entry(entry, batch) => (handled.response, Some(entry), batch),
        Finished::Nothing => (handled.response, None, Batch::default()),
        Finished::TooLarge => {
            let text = format!("one transaction may write about {PAYLOAD_BYTES_MAX} bytes at most");
            let last = reader.last()?;
            let response = reflects(Response::error(413, RESOURCE_LIMIT, &text), reader.token(last)?);
            let ran = Ran { response, entry: None, last, then: None, progress: None };
            return Ok((OpResult::Ran(ran), Batch::default()));
        }
    };
    let reflected = entry.as_ref().map_or_else(|| reader.last(), |entry| Ok(entry.position()))?;
    let response = reflects(response, reader.token(reflected)?);
    let ran = Ran { response, entry, last: reflected, then: handled.then, progress: None };
    Ok((OpResult::Ran(ran), batch))
}

/// The epoch that the store has seen, if a writer of `epoch` must not write: another one, or not begun by this process.
fn outdated(epoch: Epoch, base: &dyn Read) -> StoreResult<Option<Epoch>> {
    let (seen, owned) = (meta::seen(base)?, meta::get::<Epoch>(base, meta::OWNED)?);
    Ok((seen != epoch || owned != Some(epoch)).then_some(seen))
}

/// A leader's removal of what is due, under the same condition as a client's write (I7).
fn expire_documents(expire: &Expire, base: &dyn Read) -> StoreResult<(OpResult, Batch)> {
    if let Some(seen) = outdated(expire.epoch, base)?.filter(|_| !planted!(followers_expire)) {
        return Ok((OpResult::Stale { seen }, Batch::default()));
    }
    let mut writer = Writer::new(base, expire.epoch, expire.wall_ms, 0)?;
    let done = ttl::expire(&mut writer, expire.from, expire.wall_ms, expire.limit)?;
    let (entry, batch) = written(writer, "a document")?;
    Ok((OpResult::Expired { done, entry }, batch))
}

/// What a leader has written by itself: little, of what is in the store.
fn written(writer: Writer<'_>, what: &str) -> StoreResult<(Option<Entry>, Batch)> {
    match writer.finish()? {
        Finished::Entry(entry, batch) => Ok((Some(entry), batch)),
        Finished::Nothing => Ok((None, Batch::default())),
        Finished::TooLarge => Err(StoreError::Corrupt(format!("{what} that fits into no log entry"))),
    }
}

/// A piece of building indexes. What is only added to this store's is in no log; the end of an index is a leader's
/// write (I7).
fn build_indexes(piece: &Build, base: &dyn Read) -> StoreResult<(OpResult, Batch)> {
    let mut rows = Overlay::new(base);
    let (left, under_way) = build::fill(&mut rows, piece.limit)?;
    let Some(lead) = piece.lead.filter(|_| left == Left::Leading) else {
        let result = OpResult::Built { left, under_way, verified: None, over: None, entry: None };
        return Ok((result, rows.into_batch()));
    };
    if let Some(seen) = outdated(lead.epoch, base)? {
        return Ok((OpResult::Stale { seen }, Batch::default()));
    }
    let mut writer = Writer::new(base, lead.epoch, lead.wall_ms, 0)?;
    let (verified, over) = match build::settle(&mut writer, lead.verified, piece.limit)? {
        build::Step::Nothing => (None, None),
        build::Step::Verified(verified) => (Some(verified), None),
        build::Step::Over(built) => (None, Some(built)),
    };
    let (entry, batch) = written(writer, "a collection")?;
    let token = match &entry {
        Some(entry) => Reader::new(base)?.token(entry.position())?,
        None => None,
    };
    let over = over.map(|built| Built { response: reflects(built.response, token), ..built });
    Ok((OpResult::Built { left: Left::More, under_way, verified, over, entry }, batch))
}

/// What becomes of a run whose demand the data do not meet (R16); `None` if they do.
fn unmet(run: &Run, reader: &Reader<'_>) -> StoreResult<Option<OpResult>> {
    let Some(token) = run.at_least else { return Ok(None) };
    let last = reader.last()?;
    Ok(match token.standing(&reader.history()?, last) {
        Standing::Reflected => None,
        Standing::Behind if planted!(token_ignored) => None,
        Standing::Behind => {
            mark!(TokenBehind);
            Some(OpResult::Behind(token))
        }
        Standing::RolledBack => {
            mark!(TokenRolledBack);
            let text = format!("{token} is not part of this history, which is at {last}: it was rolled back");
            let response = reflects(errors::TICK_ROLLED_BACK.because(text).response(), reader.token(last)?);
            Some(OpResult::Ran(Ran { response, entry: None, last, then: None, progress: None }))
        }
    })
}

/// Each answer names what it reflects.
fn reflects(mut response: Response, token: Option<Token>) -> Response {
    if let Some(token) = token {
        response.headers.push((header::TICK.into(), token.to_string()));
    }
    response
}

fn begin_epoch(epoch: Epoch, lineage: Lineage, base: &dyn Read) -> StoreResult<(OpResult, Batch)> {
    let reader = Reader::new(base)?;
    let last = reader.last()?;
    let seen = meta::seen(base)?.max(last.epoch);
    if seen > epoch || (last.epoch == epoch && !planted!(epoch_survives_restart)) {
        mark!(EpochBeginStale);
        return Ok((OpResult::Stale { seen }, Batch::default()));
    }
    if !is_complete(base)? {
        mark!(EpochBeginIncomplete);
        return Ok((OpResult::Refused("the first copy of the data is not finished"), Batch::default()));
    }
    // Revisions go on from those that are there, so only a new deployment needs a wall clock here.
    let mut rows = Overlay::new(base);
    meta::put(&mut rows, meta::SEEN, &epoch);
    meta::put(&mut rows, meta::OWNED, &epoch);
    let bootstrap: Option<Bootstrap> = match last {
        Position::ZERO => Some(required(base, meta::BOOTSTRAP)?),
        _ => None,
    };
    let wall_ms = bootstrap.as_ref().map_or(0, |bootstrap| bootstrap.wall_ms);
    let mut writer = Writer::new(base, epoch, wall_ms, lineage.0)?;
    writer.begin_epoch(lineage)?;
    if let Some(bootstrap) = bootstrap {
        writer.create_system_database(bootstrap.root)?;
    }
    let Finished::Entry(entry, batch) = writer.finish()? else { panic!("an epoch row was written, and little else") };
    Ok((OpResult::Began { entry }, batch.and(rows.into_batch())))
}

fn write_raft(persist: &Persist, rows: &mut Overlay<'_>) -> StoreResult<OpResult> {
    for (name, value) in &persist.meta {
        let key = [meta::RAFT, name].concat().into_bytes();
        match value {
            Some(value) => rows.put(Table::Meta, key, value.to_vec()),
            None => rows.remove(Table::Meta, key),
        }
    }
    if let Some(from) = persist.truncate_from {
        remove_raft(rows, Bound::Included(&from.to_be_bytes()), Bound::Unbounded)?;
    }
    if let Some(to) = persist.compact_to {
        remove_raft(rows, Bound::Unbounded, Bound::Included(&to.to_be_bytes()))?;
    }
    for (index, entry) in &persist.entries {
        rows.put(Table::Raft, index.to_be_bytes().to_vec(), entry.to_vec());
    }
    Ok(OpResult::Persisted)
}

fn remove_raft(rows: &mut Overlay<'_>, from: Bound<&[u8]>, to: Bound<&[u8]>) -> StoreResult<()> {
    let found = rows.scan(Table::Raft, from, to, Direction::Forward);
    let keys = found.map(|row| row.map(|(key, _)| key.to_vec())).collect::<StoreResult<Vec<_>>>()?;
    for key in keys {
        rows.remove(Table::Raft, key);
    }
    Ok(())
}

fn adopt(deployment: DeploymentId, rows: &mut Overlay<'_>) -> StoreResult<OpResult> {
    match meta::get::<DeploymentId>(rows, meta::DEPLOYMENT)? {
        Some(other) if other != deployment => Ok(OpResult::Refused("the data belong to another deployment")),
        _ => {
            meta::put(rows, meta::DEPLOYMENT, &deployment);
            Ok(OpResult::Adopted)
        }
    }
}

fn append(
    epoch: Epoch,
    into: Target,
    prev: Position,
    entries: &[Entry],
    rows: &mut Overlay<'_>,
) -> StoreResult<OpResult> {
    if let Err(seen) = meta::hear(rows, epoch)? {
        return Ok(OpResult::Stale { seen });
    }
    let (generation, fit) = match into {
        Target::Data => (Reader::new(rows)?.generation(), Fit::Exact),
        Target::Copy(id) => match copy::current(rows)?.filter(|copy| copy.id == id) {
            Some(copy) => (copy.generation, Fit::Lenient),
            None => return Ok(OpResult::NoCopy),
        },
    };
    let mut data = Data::new(rows, generation);
    let last = data.reader().last()?;
    if last != prev {
        return Ok(OpResult::Mismatch { last });
    }
    for entry in entries {
        if entry.epoch > epoch {
            return Err(StoreError::Corrupt(format!("log entry {}: sent in epoch {}", entry.position(), epoch.0)));
        }
        data.append(entry, fit)?;
    }
    let reader = data.reader();
    Ok(OpResult::Appended { last: reader.last()?, builds: build::is_under_way(&reader)? })
}

/// Undoes the newest entries and keeps them: removal and record are one transaction (R8, I10).
fn undo(epoch: Epoch, common: Position, limit: usize, rows: &mut Overlay<'_>) -> StoreResult<OpResult> {
    if let Err(seen) = meta::hear(rows, epoch)? {
        return Ok(OpResult::Stale { seen });
    }
    let reader = Reader::new(rows)?;
    let generation = reader.generation();
    let mut last = reader.last()?;
    if reader.log_at(common.tick)?.is_none_or(|entry| entry.position != common) {
        return Ok(OpResult::CannotUndo);
    }
    let stop = match common.tick.0 {
        tick if planted!(rollback_stops_early) => tick + 1,
        tick if planted!(rollback_goes_too_far) => tick.saturating_sub(1),
        tick => tick,
    };
    let (end, mut undone, mut operations) = (last, 0, 0);
    while last.tick.0 > stop && undone < limit as u64 {
        let entry = Data::new(rows, generation).undo(last.tick)?;
        let before = Tick(last.tick.0 - 1);
        let missing = || StoreError::Corrupt(format!("log entry {} is missing", before.0));
        last = Reader::of_generation(rows, generation).log_at(before)?.ok_or_else(missing)?.position;
        operations += log::operations(&entry)?.iter().filter(|op| !matches!(op, LogOp::Epoch(_))).count() as u64;
        rollback::keep(rows, epoch, &entry);
        undone += 1;
    }
    let summary = rollback::sum_up(rows, epoch, end, last, operations)?;
    Ok(OpResult::Undone { last, undone, summary })
}

// ---- operations that read -------------------------------------------------------------------------------------------

/// Performs an op that only reads (`!op.writes()`), on a snapshot taken now: after the op was admitted.
pub fn read(op: Op, store: &dyn Store) -> OpResult {
    read_attended(op, store, &Alone::default())
}

/// The same where somebody looks after the queries that run.
pub fn read_attended(op: Op, store: &dyn Store, attendant: &dyn Attendant) -> OpResult {
    store.snapshot().and_then(|snapshot| look(op, &*snapshot, attendant)).unwrap_or_else(OpResult::Failed)
}

fn look(op: Op, snapshot: &dyn Read, attendant: &dyn Attendant) -> StoreResult<OpResult> {
    let reader = Reader::new(snapshot)?;
    Ok(match op {
        Op::Run(run) => match unmet(&run, &reader)? {
            Some(result) => result,
            None => {
                let ran = match run.transaction.within() {
                    Some(open) => transaction::run(&run, open, snapshot, attendant)?,
                    None => {
                        let handled = api::read(&run, &reader, attendant)?;
                        let (response, then) = (handled.response, handled.then);
                        Ran { response, entry: None, last: reader.last()?, then, progress: None }
                    }
                };
                let response = reflects(ran.response, reader.token(ran.last)?);
                OpResult::Ran(Ran { response, ..ran })
            }
        },
        Op::Locate { target } => locate(target, snapshot, &reader)?,
        Op::Compare(follow) => {
            let verdict = compare::compare(&follow, &reader)?;
            OpResult::Compared { follow, verdict }
        }
        Op::ReadLog { after, bytes_max } => read_log(after, bytes_max, &reader)?,
        Op::SnapshotBegin { id } => OpResult::SnapshotBegun(copy::offer(id, &reader)?),
        Op::SnapshotRead { start, .. } if reader.log_base()?.position.tick > start.tick => {
            OpResult::LogPruned { after: start }
        }
        Op::SnapshotRead { id, start, cursor, bytes_max } => {
            OpResult::SnapshotRows(copy::piece(id, start, cursor, bytes_max, &reader)?)
        }
        _ => unreachable!("an operation that writes is performed, not read"),
    })
}

fn locate(target: Target, snapshot: &dyn Read, data: &Reader<'_>) -> StoreResult<OpResult> {
    let reader = match target {
        Target::Data => *data,
        Target::Copy(id) => match copy::current(snapshot)?.filter(|copy| copy.id == id) {
            Some(copy) => Reader::of_generation(snapshot, copy.generation),
            None => return Ok(OpResult::NoCopy),
        },
    };
    let end = reader.log_end()?;
    Ok(OpResult::Located(Located {
        target,
        last: end.position,
        last_checksum: end.checksum,
        history: reader.history()?,
        log_first: reader.log_first()?,
    }))
}

/// Entries after a position, about `bytes_max` of them but at least one if there is one.
fn read_log(after: Position, bytes_max: usize, reader: &Reader<'_>) -> StoreResult<OpResult> {
    if reader.log_at(after.tick)?.is_none_or(|entry| entry.position != after) {
        return Ok(OpResult::LogPruned { after });
    }
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for entry in reader.scan_log(after.tick) {
        let entry = entry?;
        bytes += entry.payload.len() + 32;
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(OpResult::Log { after, entries })
}

#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
#[cfg(test)]
mod tests;
