//! Stream transactions: those that are open on this server, and what became of those that are over.
//!
//! A transaction reads the data as they were when it began, with its own writes; nobody else sees these before it is
//! committed. What it has written lies here, beside the node's loop, and not in the store: a request within it is run
//! on a snapshot (see [`crate::db::transaction`]) and hands back what it has added, one request at a time. A commit is
//! one ordinary write of one log entry. So all that holds for single writes holds for transactions: they are
//! replicated, acknowledged and rolled back as one, and what is not committed is gone with the process or the
//! leadership that it was begun under.
//!
//! **Conflicts.** The first who writes a document has it until his transaction is over. Another transaction or a single
//! write that was started later is refused (1200); one that was under way at that moment wins, and the commit, which
//! looks at everything once more, fails. A transaction can't write a document that somebody has changed since it
//! began. Reads are not looked at: this is snapshot isolation.
//!
//! **Revisions.** A client is told the `_rev` of what it writes long before it is written, and it must be the one that
//! is committed. No two writes may mint the same one, for documents are kept by it. So a transaction that may write is
//! lent one of [`LANES`] lanes while it is open, each request counts on from where the one before it stopped, and
//! [`Revision::in_lane`] sets lanes apart from one another and from single writes. Within a lane revisions grow; along
//! the log they need not. Nothing rests on that: rows are found by their keys, a scan runs over one snapshot, and a
//! copy (R8) that misses a row, because it moved behind the cursor, gets it from the log. As a last line, a commit
//! refuses a revision that is in use.
//!
//! What is kept is bounded: how many there are, what one of them writes and what all of them hold, how long one may be
//! idle, and how long and how many of those that are over are remembered.

use crate::cursor::Owner;
use crate::db::log::Image;
use crate::db::overlay::Batch;
use crate::db::rows::{CollectionRow, LANES, Revision};
use crate::db::store::Table;
use crate::errors::{self, Error};
use crate::http::Response;
use crate::io::{Ran, Then};
use crate::mark;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a request has to do with a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Concern {
    #[default]
    Nothing,
    /// It reads and writes within this one.
    Within(u64),
    /// It commits or aborts this one.
    Ends(u64),
    /// It asks how this one is.
    Looks(u64),
}

impl Concern {
    fn id(self) -> Option<u64> {
        match self {
            Concern::Nothing => None,
            Concern::Within(id) | Concern::Ends(id) | Concern::Looks(id) => Some(id),
        }
    }
}

/// How a transaction may use a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    Read,
    Write,
    /// As the only one that writes.
    Exclusive,
}

/// What a client declares when it begins a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    pub owner: Owner,
    /// By id.
    pub collections: BTreeMap<u64, Access>,
    /// Whether it may read collections that are not declared.
    pub allow_implicit: bool,
    /// Bound on what it writes.
    pub bytes_max: usize,
    /// How long it may wait for collections that another one has to itself, if that is said.
    pub lock_timeout: Option<Duration>,
}

impl Terms {
    fn writes(&self) -> bool {
        self.collections.values().any(|access| *access > Access::Read)
    }

    fn has_exclusive(&self) -> bool {
        self.collections.values().any(|access| *access == Access::Exclusive)
    }

    /// Whether both can't be open at once.
    fn excludes(&self, other: &Terms) -> bool {
        self.collections.iter().any(|(id, access)| {
            let others = other.collections.get(id).copied().unwrap_or(Access::Read);
            (*access).min(others) > Access::Read && (*access).max(others) == Access::Exclusive
        })
    }

    /// Whether somebody may use this transaction: its owner, or a superuser.
    pub fn belongs_to(&self, who: &Owner) -> bool {
        may_use(&self.owner, who)
    }
}

fn may_use(owner: &Owner, who: &Owner) -> bool {
    owner.database == who.database && (who.user.is_none() || owner.user == who.user)
}

/// A change of one document that is not in the store yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub object: u64,
    pub key: String,
    pub before: Option<Image>,
    pub after: Option<Image>,
}

/// Where a transaction's revisions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The last count that was used, in quarters of a millisecond.
    pub count: u64,
    pub number: u16,
}

impl Lane {
    pub fn mint(&mut self, epoch: Epoch, wall_ms: u64) -> Revision {
        self.count = (self.count + 1).max(wall_ms << 2);
        Revision::in_lane(self.number, self.count, epoch)
    }
}

/// An open transaction, as a request within it needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    pub id: u64,
    pub terms: Terms,
    /// It reads the data as they were here.
    pub begin: Position,
    /// How far the log has been undone: `past` has the rows that changed after `begin` and up to here, as they were.
    pub seen: Position,
    pub past: Batch,
    /// The rows that it has written.
    pub own: Batch,
    pub changes: Vec<Change>,
    /// Which collection the objects in `changes` belong to.
    pub objects: BTreeMap<u64, u64>,
    /// What `changes` has.
    pub bytes: usize,
    /// Only if it may write.
    pub lane: Option<Lane>,
}

/// What a request within a transaction comes to, beside its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    pub seen: Position,
    /// To be put under the `past` that is there.
    pub past: Batch,
    pub written: Option<Written>,
    pub lane: Option<Lane>,
}

/// What a request has written within a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Written {
    pub rows: Batch,
    pub changes: Vec<Change>,
    pub objects: BTreeMap<u64, u64>,
    pub bytes: usize,
}

/// How a transaction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Committed,
    Aborted,
    /// Nobody has used it for too long, so it was aborted.
    Expired,
}

/// A transaction that is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Over {
    owner: Owner,
    pub end: End,
    /// The end of the log when it ended; of a committed one, its entry.
    pub position: Position,
}

impl Over {
    pub fn belongs_to(&self, who: &Owner) -> bool {
        may_use(&self.owner, who)
    }
}

/// What the loop knows of the transaction that a request names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    Open(Arc<Open>),
    Over(Arc<Over>),
}

/// The documents and collections that open transactions have to themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locks(Arc<Vec<Arc<Open>>>);

impl Locks {
    fn others(&self, me: Option<u64>) -> impl Iterator<Item = &Open> {
        self.0.iter().map(Arc::as_ref).filter(move |open| Some(open.id) != me)
    }

    /// Whether one that is not `me` has the document; `row` is its key in the table of keys.
    pub fn hold(&self, collection: &CollectionRow, row: &[u8], me: Option<u64>) -> bool {
        self.others(me).any(|open| {
            let exclusive = open.terms.collections.get(&collection.id) == Some(&Access::Exclusive);
            exclusive || open.own.get(Table::Keys, row).is_some()
        })
    }

    /// Whether one that is not `me` has any document of a collection; `prefix` is what their keys begin with.
    pub fn hold_any(&self, collection: &CollectionRow, prefix: &[u8], me: Option<u64>) -> bool {
        self.others(me).any(|open| {
            let exclusive = open.terms.collections.get(&collection.id) == Some(&Access::Exclusive);
            exclusive || open.own.has_prefix(Table::Keys, prefix)
        })
    }

    /// A row that transactions have written, in each of them.
    pub fn rows(&self, table: Table, key: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |open| open.own.get(table, key).flatten())
    }
}

/// What a run is given of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Part {
    pub concern: Concern,
    /// Filled in by the loop, as are the locks.
    pub known: Option<Known>,
    pub locks: Locks,
}

impl Part {
    /// The transaction that the request reads and writes in.
    pub fn within(&self) -> Option<&Open> {
        match (self.concern, &self.known) {
            (Concern::Within(_), Some(Known::Open(open))) => Some(open),
            _ => None,
        }
    }
}

/// Whether a request may be started now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// With the transaction that it has to itself until [`Transactions::settle`].
    Holding(u64),
    Freely,
    /// Another request is at that transaction: not now.
    Busy,
}

/// Why no transaction was begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Unbegun {
    /// Another one has a collection to itself: it may be tried again when one has ended.
    Locked,
    Error(Error),
}

/// What is asked of all transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    List,
    /// Abort those that may write.
    AbortWriting,
}

/// The transactions that a server keeps.
#[derive(Clone, Debug, Default, Hash)]
pub struct Transactions {
    open: BTreeMap<u64, Slot>,
    over: BTreeMap<u64, Arc<Over>>,
    /// When those that are over are forgotten.
    forget: BTreeSet<(Time, u64)>,
    /// Lanes that were given back, and how many were ever lent.
    lanes: BTreeSet<Lane>,
    lanes_lent: u16,
    locks: Locks,
    /// About what all of them hold in memory.
    bytes: usize,
    /// How many have ended.
    ended: u64,
}

#[derive(Clone, Debug, Hash)]
struct Slot {
    open: Arc<Open>,
    /// A request is at it.
    busy: bool,
    /// It was to be aborted while a request was at it.
    doomed: bool,
    bytes: usize,
    until: Time,
}

impl Transactions {
    /// Gives a run what it needs of the transactions that are there.
    pub fn attach(&mut self, part: &mut Part, writes: bool, limits: &TransactionLimits, now: Time) -> Attached {
        self.expire(limits, now);
        if writes || matches!(part.concern, Concern::Within(_)) {
            part.locks = self.locks.clone();
        }
        let Some(id) = part.concern.id() else { return Attached::Freely };
        let looks = matches!(part.concern, Concern::Looks(_));
        if let Some(slot) = self.open.get_mut(&id) {
            if slot.busy && !looks {
                return Attached::Busy;
            }
            part.known = Some(Known::Open(Arc::clone(&slot.open)));
            if looks {
                return Attached::Freely;
            }
            slot.busy = true;
            return Attached::Holding(id);
        }
        part.known = self.over.get(&id).cloned().map(Known::Over);
        Attached::Freely
    }

    /// Whether a request is at it.
    pub fn is_busy(&self, concern: Concern) -> bool {
        concern.id().and_then(|id| self.open.get(&id)).is_some_and(|slot| slot.busy)
    }

    /// How many have ended so far.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Begins one with an id drawn by chance, which reads the data as they are at `begin`.
    pub fn begin(
        &mut self,
        id: u64,
        mut terms: Terms,
        begin: Position,
        limits: &TransactionLimits,
        now: Time,
    ) -> Result<(), Unbegun> {
        self.expire(limits, now);
        if self.open.values().any(|slot| slot.open.terms.excludes(&terms)) {
            return Err(Unbegun::Locked);
        }
        let lane = if terms.writes() { self.lend_lane() } else { Some(None) };
        let known = id == 0 || self.open.contains_key(&id) || self.over.contains_key(&id);
        let (Some(lane), false) = (lane, known || self.open.len() >= limits.open) else {
            return Err(Unbegun::Error(errors::RESOURCE_LIMIT.because("too many transactions are open")));
        };
        terms.bytes_max = terms.bytes_max.min(limits.bytes);
        let exclusive = terms.has_exclusive();
        let open = Open {
            id,
            terms,
            begin,
            seen: begin,
            past: Batch::default(),
            own: Batch::default(),
            changes: Vec::new(),
            objects: BTreeMap::new(),
            bytes: 0,
            lane,
        };
        let until = now.plus(limits.idle);
        self.open.insert(id, Slot { open: open.into(), busy: false, doomed: false, bytes: 0, until });
        if exclusive {
            self.draw_locks();
        }
        Ok(())
    }

    /// The lane that has counted least, or a new one.
    fn lend_lane(&mut self) -> Option<Option<Lane>> {
        if self.lanes_lent < LANES {
            self.lanes_lent += 1;
            return Some(Some(Lane { count: 0, number: self.lanes_lent - 1 }));
        }
        self.lanes.pop_first().map(Some)
    }

    /// The run that had a transaction to itself has come back; `last` is the end of the log. Its answer may become
    /// another one.
    pub fn settle(&mut self, id: u64, ran: Option<&mut Ran>, last: Position, limits: &TransactionLimits, now: Time) {
        if let Some(ran) = ran {
            if let Some(progress) = ran.progress.take()
                && let Err(error) = self.advance(id, *progress, last, limits, now)
            {
                let headers = std::mem::take(&mut ran.response.headers);
                ran.response = Response { headers, ..error.response() };
                (ran.then, ran.last) = (None, last);
            }
            if let Some(Then::End(end)) = ran.then {
                ran.then = None;
                if end == End::Committed && ran.entry.is_some() {
                    mark!(TransactionCommits);
                }
                self.end(id, end, ran.last, limits, now);
            }
        }
        self.release(id, last, limits, now);
    }

    /// Takes in what a request has done. If another transaction has written the same meanwhile, or there is no room for
    /// it, nothing of it is kept, and its answer is to be this.
    fn advance(
        &mut self,
        id: u64,
        progress: Progress,
        at: Position,
        limits: &TransactionLimits,
        now: Time,
    ) -> Result<(), Error> {
        let Some(slot) = self.open.get_mut(&id) else { return Ok(()) };
        let Progress { seen, past, written, lane } = progress;
        let taken = written.as_ref().is_some_and(|written| {
            let mut keys = written.rows.keys(Table::Keys);
            keys.any(|key| self.locks.others(Some(id)).any(|other| other.own.get(Table::Keys, key).is_some()))
        });
        let held = past.bytes() + written.as_ref().map_or(0, |written| written.rows.bytes() + written.bytes);
        // Drawn anew below: so nobody but the runs that are under way shares what is changed now.
        self.locks = Locks::default();
        let open = Arc::make_mut(&mut slot.open);
        (open.seen, open.lane) = (seen, lane);
        open.past.put_under(past);
        slot.bytes += held;
        self.bytes += held;
        let too_much = slot.bytes > limits.memory_of_one || self.bytes > limits.memory_of_all;
        if let Some(written) = written.filter(|_| !taken && !too_much) {
            open.own.put_over(written.rows);
            open.changes.extend(written.changes);
            open.objects.extend(written.objects);
            open.bytes += written.bytes;
        }
        self.draw_locks();
        if too_much {
            mark!(TransactionTooLarge);
            self.end(id, End::Aborted, at, limits, now);
            return Err(errors::TRANSACTION_ABORTED.because("it, or all that are open, hold too much"));
        }
        if taken {
            mark!(TransactionsMeet);
            return Err(errors::WRITE_CONFLICT.into());
        }
        Ok(())
    }

    /// The request that was at a transaction has come back.
    fn release(&mut self, id: u64, at: Position, limits: &TransactionLimits, now: Time) {
        let Some(slot) = self.open.get_mut(&id) else { return };
        slot.busy = false;
        slot.until = now.plus(limits.idle);
        if slot.doomed {
            self.end(id, End::Aborted, at, limits, now);
        }
    }

    /// It is over. That is remembered for a while.
    fn end(&mut self, id: u64, end: End, position: Position, limits: &TransactionLimits, now: Time) {
        let Some(slot) = self.open.remove(&id) else { return };
        self.bytes -= slot.bytes;
        self.ended += 1;
        self.lanes.extend(slot.open.lane);
        self.over.insert(id, Over { owner: slot.open.terms.owner.clone(), end, position }.into());
        self.forget.insert((now.plus(limits.remembered), id));
        while self.over.len() > limits.over
            && let Some((_, id)) = self.forget.pop_first()
        {
            self.over.remove(&id);
        }
        self.draw_locks();
    }

    fn draw_locks(&mut self) {
        let locking = |open: &&Arc<Open>| !open.changes.is_empty() || open.terms.has_exclusive();
        let locking: Vec<Arc<Open>> = self.open.values().map(|slot| &slot.open).filter(locking).cloned().collect();
        self.locks = Locks(locking.into());
    }

    /// The ids of those that somebody may see; or none any more, if those that may write are to be aborted.
    pub fn ask(
        &mut self,
        question: Question,
        who: &Owner,
        at: Position,
        limits: &TransactionLimits,
        now: Time,
    ) -> Vec<u64> {
        self.expire(limits, now);
        match question {
            Question::List => {
                let visible = self.open.values().filter(|slot| slot.open.terms.belongs_to(who));
                visible.map(|slot| slot.open.id).collect()
            }
            Question::AbortWriting => {
                // In all databases, as ArangoDB does it.
                let theirs = |terms: &Terms| who.user.is_none() || terms.owner.user == who.user;
                let ending = self.open.values_mut().filter(|slot| slot.open.terms.writes() && theirs(&slot.open.terms));
                let ending: Vec<u64> = ending
                    .filter_map(|slot| {
                        slot.doomed = slot.busy;
                        (!slot.busy).then_some(slot.open.id)
                    })
                    .collect();
                for id in ending {
                    self.end(id, End::Aborted, at, limits, now);
                }
                Vec::new()
            }
        }
    }

    /// Aborts what nobody has used for too long, forgets what has been over for a while.
    pub fn expire(&mut self, limits: &TransactionLimits, now: Time) {
        while let Some((until, id)) = self.forget.first().copied().filter(|(until, _)| *until <= now) {
            self.forget.remove(&(until, id));
            self.over.remove(&id);
        }
        if self.deadline().is_none_or(|until| until > now) {
            return;
        }
        let idle = self.open.values().filter(|slot| !slot.busy && slot.until <= now);
        for (id, begin) in idle.map(|slot| (slot.open.id, slot.open.begin)).collect::<Vec<_>>() {
            mark!(TransactionExpires);
            self.end(id, End::Expired, begin, limits, now);
        }
    }

    /// When the next one has been idle for too long.
    pub fn deadline(&self) -> Option<Time> {
        self.open.values().filter(|slot| !slot.busy).map(|slot| slot.until).min()
    }

    /// A leadership is over, and all that was begun under it.
    pub fn clear(&mut self) {
        *self = Transactions { ended: self.ended + 1, ..Transactions::default() };
    }
}
