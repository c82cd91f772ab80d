//! An etcd in the place of Raft: it orders the entries, and says who leads the agency.
//!
//! All of it rests on one guarantee of etcd: ranges and transactions are linearizable, each has its effect at one
//! moment between question and answer. None of etcd's clocks is trusted. An etcd lease only frees the seat of an agent
//! that has died; when it ends too early or too late, nothing but liveness suffers.
//!
//! | key               | what                                                                          |
//! |-------------------|-------------------------------------------------------------------------------|
//! | `leader`          | who has the seat (JSON), bound to its etcd lease                              |
//! | `log/INDEX`       | one entry                                                                     |
//! | `snapshot`        | which snapshot counts; entries up to it are not kept                          |
//! | `chunk/INDEX/NTH` | its pieces, each well below etcd's limit on a request                         |
//!
//! **The seat (I1).** Whoever creates the key `leader` leads. The revision in which it was created is the term: etcd
//! gives it to one transaction only, and later ones are higher.
//!
//! **Fencing (I3).** Every write compares the revision in which `leader` was created with the writer's term, so once
//! there is a later leader, nothing of an earlier one can happen any more, however late it reaches etcd. A new leader
//! first reads all there is: it is committed, and complete.
//!
//! **Unknown outcomes.** What was not answered is asked again, word for word. An append also compares that its place is
//! empty: so it happens once, and if it has happened the refusal shows what stands there. Nothing else is written to
//! that place meanwhile. The switch to another snapshot compares what was written there before: a late repetition of an
//! older one does nothing.
//!
//! **Rounds, and the lease (I5).** A round reads `leader` after the renewal has arrived. If it still is this agent's,
//! the renewal came before any later leader's key was created, and so before that leader's transaction was answered. A
//! new leader grants and deposes as if the last grant had been given when it had read the log, which is later still: it
//! waits for a whole D on its own clock from there. The server counted from when it *sent* the renewal, so its lease is
//! over by then, if only the two clocks' rates differ by less than ε.

use super::log::Log;
use crate::etcd::*;
use crate::io::{AskId, Event, Severity};
use crate::mark;
use crate::message::Peer;
use crate::message::raft::{LogEntry, Snapshot, encode};
use crate::types::*;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// etcd takes requests of up to 1.5 MiB and transactions of up to 128 operations, if nobody has changed that.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
const BATCH_BYTES_MAX: usize = 1 << 20;
const BATCH_COUNT_MAX: usize = 32;
const CHUNK_BYTES: usize = 512 << 10;
/// Rows asked for at one time, each of up to a chunk or an entry.
const PAGE_ROWS: usize = 8;
/// A snapshot that claims to have more is refused.
const CHUNKS_MAX: u64 = 8192;
/// What the log may hold in memory behind a snapshot; twice as much calls for a snapshot.
const KEEP_BYTES_MAX: usize = 4 << 20;
/// Attempts whose late answers are still of use.
const ATTEMPTS_KEPT: usize = 8;

#[derive(Clone, Debug, Hash)]
pub struct Settings {
    pub me: Peer,
    /// All keys of this agency begin like that.
    pub prefix: String,
    /// How often the seat is looked at: by its owner to know that it still has it, by others to know who has.
    pub heartbeat: Duration,
    /// An owner that could not make sure for so long stops leading.
    pub window: Duration,
    /// After this a question without an answer is asked again.
    pub patience: Duration,
    pub compaction_step: u64,
    pub compaction_keep: u64,
}

impl Settings {
    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    fn leader_key(&self) -> String {
        self.key("leader")
    }

    fn snapshot_key(&self) -> String {
        self.key("snapshot")
    }

    fn entry_key(&self, index: u64) -> String {
        self.key(&format!("log/{index:020}"))
    }

    fn chunk_key(&self, index: u64, nth: u64) -> String {
        self.key(&format!("chunk/{index:020}/{nth:06}"))
    }

    /// Entries from `first` up to, but without, `end`.
    fn entries(&self, first: u64, end: u64) -> Span {
        Span { from: self.entry_key(first), end: Some(self.entry_key(end)) }
    }

    /// An owner's etcd lease: long enough for a few heartbeats.
    fn ttl_s(&self) -> u64 {
        (self.heartbeat * 4).as_secs_f64().ceil() as u64
    }
}

/// What stands under `leader`, readable for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    id: String,
    endpoint: String,
    /// Of one attempt to take the seat.
    nonce: u64,
}

impl Holder {
    fn peer(&self) -> Option<Peer> {
        Some(Peer { id: NodeId::parse(&self.id)?, endpoint: Endpoint::parse(&self.endpoint).ok()? })
    }
}

/// What stands under `snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Pointer {
    index: u64,
    term: u64,
    chunks: u64,
    bytes: u64,
}

/// What is under way; one question each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Purpose {
    Lease,
    Seat,
    Read,
    Round,
    Append,
    Upkeep,
}

#[derive(Clone, Hash)]
struct Call {
    ask: Ask,
    attempts: Vec<AskId>,
    again_at: Time,
}

#[derive(Clone, Hash)]
enum Role {
    /// Looks who leads.
    Watching,
    /// Has found the seat empty: asks for an etcd lease, then for the seat.
    Candidate {
        nonce: u64,
    },
    /// Has the seat, and reads what was decided before.
    Reading(Reading),
    Leading(Leading),
}

#[derive(Clone, Hash)]
struct Reading {
    /// The last entry that this agent knows already: it must be the same in etcd, unless a snapshot stands for it.
    known: Option<u64>,
    pointer: Option<Pointer>,
    /// When `snapshot` was written last.
    pointer_modified: u64,
    chunks: u64,
    state: Vec<u8>,
}

#[derive(Clone, Hash)]
struct Leading {
    first_index: u64,
    /// The latest round that has begun.
    round: u64,
    confirmed: u64,
    round_wanted: bool,
    /// The last entry of the append under way.
    appending: u64,
    pointer_modified: u64,
    upkeep: Option<Upkeep>,
}

/// A snapshot on its way to etcd.
#[derive(Clone, Hash)]
struct Upkeep {
    snapshot: Snapshot,
    next_chunk: u64,
}

impl Upkeep {
    fn chunks(&self) -> u64 {
        self.snapshot.state.len().div_ceil(CHUNK_BYTES) as u64
    }
}

#[derive(Clone, Hash)]
pub struct Etcd {
    settings: Settings,
    rng: Rng,
    role: Role,
    term: Term,
    leader: Option<Peer>,
    /// The etcd lease that this agent holds.
    lease: Option<u64>,
    /// etcd has lost what this agent knows: until it is started again, it does not want to lead.
    distrusts: bool,
    /// As the owner of the seat: when that was last known.
    heard_at: Time,
    heartbeat_at: Time,
    log: Log,
    commit: u64,
    calls: BTreeMap<Purpose, Call>,
    asked: u64,
    outbox: Vec<(AskId, Ask)>,
    pub events: Vec<Event>,
}

impl Etcd {
    pub fn boot(settings: Settings, rng: Rng, now: Time) -> Etcd {
        Etcd {
            settings,
            rng,
            role: Role::Watching,
            term: Term(0),
            leader: None,
            lease: None,
            distrusts: false,
            heard_at: now,
            heartbeat_at: now,
            log: Log::new(Snapshot::default(), Vec::new()),
            commit: 0,
            calls: BTreeMap::new(),
            asked: 0,
            outbox: Vec::new(),
            events: Vec::new(),
        }
    }

    // ---- what others may know ---------------------------------------------------------------------------------------

    pub fn term(&self) -> Term {
        self.term
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leading(_))
    }

    pub fn leader(&self) -> Option<&Peer> {
        self.leader.as_ref()
    }

    pub fn commit(&self) -> u64 {
        self.commit
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The entry that began this leader's term.
    pub fn first_of_term(&self) -> Option<u64> {
        match &self.role {
            Role::Leading(leading) => Some(leading.first_index),
            _ => None,
        }
    }

    pub fn take_outbox(&mut self) -> Vec<(AskId, Ask)> {
        std::mem::take(&mut self.outbox)
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    pub fn deadline(&self) -> Time {
        let again = self.calls.values().map(|call| call.again_at).min().unwrap_or(Time::NEVER);
        match &self.role {
            Role::Watching if self.calls.contains_key(&Purpose::Seat) => again,
            Role::Watching => again.min(self.heartbeat_at),
            Role::Candidate { .. } => again,
            Role::Reading(_) | Role::Leading(_) => {
                again.min(self.heartbeat_at).min(self.heard_at.plus(self.settings.window))
            }
        }
    }

    pub fn tick(&mut self, now: Time) {
        let due: Vec<Purpose> = self.calls.iter().filter(|(_, call)| call.again_at <= now).map(|(p, _)| *p).collect();
        for purpose in due {
            mark!(EtcdAskedAgain);
            self.ask_again(now, purpose);
        }
        let seated = matches!(self.role, Role::Reading(_) | Role::Leading(_));
        if seated && now >= self.heard_at.plus(self.settings.window) {
            mark!(EtcdUnreachable);
            self.lose(now, None);
        }
        match &mut self.role {
            Role::Watching if now >= self.heartbeat_at && !self.calls.contains_key(&Purpose::Seat) => self.look(now),
            Role::Reading(_) | Role::Leading(_) if now >= self.heartbeat_at => {
                if let Role::Leading(leading) = &mut self.role {
                    leading.round_wanted = true;
                }
                self.heartbeat_at = now.plus(self.settings.heartbeat);
                let lease = self.lease.expect("the seat hangs on a lease");
                if !self.calls.contains_key(&Purpose::Lease) {
                    self.ask(now, Purpose::Lease, Ask::KeepAlive { lease });
                }
            }
            _ => {}
        }
    }

    // ---- questions --------------------------------------------------------------------------------------------------

    fn ask(&mut self, now: Time, purpose: Purpose, ask: Ask) {
        let call = Call { ask, attempts: Vec::new(), again_at: now };
        let before = self.calls.insert(purpose, call);
        assert!(before.is_none(), "one question at a time");
        self.ask_again(now, purpose);
    }

    fn ask_again(&mut self, now: Time, purpose: Purpose) {
        let id = self.next_id();
        let call = self.calls.get_mut(&purpose).expect("a question under way");
        if call.attempts.len() == ATTEMPTS_KEPT {
            call.attempts.remove(0);
        }
        call.attempts.push(id);
        call.again_at = now.plus(self.settings.patience);
        self.outbox.push((id, call.ask.clone()));
    }

    fn next_id(&mut self) -> AskId {
        self.asked += 1;
        AskId(self.asked)
    }

    fn range(&mut self, now: Time, purpose: Purpose, span: Span) {
        self.ask(now, purpose, Ask::Range { span, limit: PAGE_ROWS });
    }

    /// A write that happens only while this agent leads; a refusal shows who does, and `shown`.
    fn write(&mut self, now: Time, purpose: Purpose, more: Vec<Compare>, then: Vec<Change>, shown: Vec<Span>) {
        let key = self.settings.leader_key();
        let mut compare = more;
        if !(planted!(etcd_append_unfenced) && purpose == Purpose::Append) {
            compare.push(Compare::Created { key: key.clone(), revision: self.term.0 });
        }
        let otherwise = [vec![Span::key(&key)], shown].concat();
        self.ask(now, purpose, Ask::Transaction(Transaction { compare, then, otherwise }));
    }

    /// What etcd says; `None` for an unknown outcome.
    pub fn answered(&mut self, now: Time, id: AskId, answer: Option<Answer>) {
        let purpose = self.calls.iter().find(|(_, call)| call.attempts.contains(&id)).map(|(purpose, _)| *purpose);
        // What nobody waits for any more: another attempt was answered, or the seat is lost.
        let Some(purpose) = purpose else { return mark!(EtcdAnswerLate) };
        let Some(answer) = answer else {
            mark!(EtcdUnknown);
            if planted!(etcd_unknown_is_failure) && purpose == Purpose::Append {
                self.calls.remove(&purpose);
                return self.log.truncate_from(self.commit + 1);
            }
            let call = self.calls.get_mut(&purpose).expect("just found");
            call.again_at = call.again_at.min(now.plus(self.settings.heartbeat / 4));
            return;
        };
        let call = self.calls.remove(&purpose).expect("just found");
        match (purpose, answer) {
            (Purpose::Lease, Answer::Granted { lease }) => self.campaign(now, lease),
            (Purpose::Lease, Answer::Alive { ttl_s: 0 }) => {
                mark!(EtcdLeaseEnded);
                self.lose(now, None);
            }
            (Purpose::Lease, Answer::Alive { .. }) => {}
            (Purpose::Seat, Answer::Rows { rows, .. }) => self.looked(now, rows.first()),
            (Purpose::Seat, Answer::Decided { succeeded, revision, ranges }) => {
                self.seated(now, succeeded, revision, row_of(&ranges, 0));
            }
            (Purpose::Seat, Answer::NoSuchLease) => {
                mark!(EtcdLeaseEnded);
                self.lose(now, None);
            }
            (Purpose::Read, Answer::Rows { rows, more }) => self.read(now, rows, more),
            (Purpose::Round, Answer::Rows { rows, .. }) => self.confirm(now, rows.first()),
            (Purpose::Append, Answer::Decided { succeeded, ranges, .. }) => {
                if succeeded || self.refused(now, &ranges) {
                    self.appended(now);
                }
            }
            (Purpose::Upkeep, Answer::Decided { succeeded, revision, ranges }) => {
                if succeeded {
                    self.kept(revision);
                } else if self.is_mine(row_of(&ranges, 0)) {
                    self.kept_before(&ranges);
                } else {
                    self.lose(now, row_of(&ranges, 0));
                }
            }
            (_, answer) => {
                self.say(format!("etcd answers a {purpose:?} with {answer:?}: asked again"));
                self.calls.insert(purpose, Call { again_at: now.plus(self.settings.heartbeat), ..call });
            }
        }
    }

    fn say(&mut self, text: String) {
        self.events.push(Event::Says(Severity::Error, text.into()));
    }

    // ---- the seat ---------------------------------------------------------------------------------------------------

    fn look(&mut self, now: Time) {
        self.range(now, Purpose::Seat, Span::key(&self.settings.leader_key()));
    }

    fn looked(&mut self, now: Time, row: Option<&Row>) {
        let wait = self.rng.between(self.settings.heartbeat / 2, self.settings.heartbeat);
        self.heartbeat_at = now.plus(wait);
        let Some(row) = row else {
            if self.distrusts {
                return self.follow(self.term, None);
            }
            let nonce = self.rng.next_u64();
            self.role = Role::Candidate { nonce };
            let ttl_s = self.settings.ttl_s();
            return self.ask(now, Purpose::Lease, Ask::Grant { ttl_s });
        };
        let holder = holder(row).and_then(|holder| holder.peer());
        if holder.as_ref().is_some_and(|holder| holder.id == self.settings.me.id) {
            // It hangs on the lease of an earlier process, or of an earlier term of this one: nobody leads by it.
            mark!(EtcdSeatFreed);
            let change = Change::Delete(Span::key(&self.settings.leader_key()));
            return self.change_seat(now, row.created, change);
        }
        self.follow(Term(row.created), holder);
    }

    fn follow(&mut self, term: Term, leader: Option<Peer>) {
        let known = self.leader.as_ref().map(|leader| leader.id);
        let id = leader.as_ref().map(|leader| leader.id);
        let news = known != id || (self.term < term && id.is_some());
        self.term = self.term.max(term);
        self.leader = leader;
        if news {
            self.events.push(Event::FollowsAgent { term: self.term, leader: id });
        }
    }

    fn campaign(&mut self, now: Time, lease: u64) {
        let Role::Candidate { nonce } = self.role else { return };
        self.lease = Some(lease);
        let me = &self.settings.me;
        let holder = Holder { id: me.id.to_string(), endpoint: me.endpoint.to_string(), nonce };
        let value = serde_json::to_vec(&holder).expect("plain data can be encoded").into();
        let put = Change::Put { key: self.settings.leader_key(), value, lease: Some(lease) };
        self.change_seat(now, 0, put);
    }

    /// Takes or frees the seat, if `leader` was created in that revision (0: if nobody has it).
    fn change_seat(&mut self, now: Time, revision: u64, change: Change) {
        let key = self.settings.leader_key();
        let otherwise = vec![Span::key(&key)];
        let transaction =
            Transaction { compare: vec![Compare::Created { key, revision }], then: vec![change], otherwise };
        self.ask(now, Purpose::Seat, Ask::Transaction(transaction));
    }

    /// The seat was taken, or freed; or another has it.
    fn seated(&mut self, now: Time, succeeded: bool, revision: u64, row: Option<&Row>) {
        let Role::Candidate { nonce } = self.role else {
            // Freed, or no longer there: look again.
            self.heartbeat_at = now;
            return;
        };
        let mine = row.filter(|row| holder(row).is_some_and(|holder| holder.nonce == nonce));
        let term = if succeeded { Some(revision) } else { mine.map(|row| row.created) };
        let Some(term) = term else { return self.lose(now, row) };
        if !succeeded {
            mark!(EtcdSeatFoundMine);
        }
        if term <= self.term.0 {
            // I1: with a term that may have been another's, nothing is decided.
            let known = self.term.0;
            self.say(format!(
                "etcd has gone back from revision {known} to {term}: its data was put back as it once was"
            ));
            return self.lose(now, None);
        }
        self.follow(Term(term), None);
        self.heard_at = now;
        self.heartbeat_at = now;
        self.begin_reading(now);
    }

    /// Somebody else leads, or nobody: this agent is on its own again. What it could not write is forgotten.
    fn lose(&mut self, now: Time, row: Option<&Row>) {
        self.calls.clear();
        self.role = Role::Watching;
        self.heartbeat_at = now;
        if self.log.last_index() > self.commit {
            mark!(EtcdTailDropped);
            self.log.truncate_from(self.commit + 1);
        }
        if let Some(lease) = self.lease.take() {
            // Whether it is done or not: it ends by itself, too.
            let id = self.next_id();
            self.outbox.push((id, Ask::Revoke { lease }));
        }
        let leader = row.and_then(holder).and_then(|holder| holder.peer());
        let leader = leader.filter(|leader| leader.id != self.settings.me.id);
        self.follow(Term(row.map_or(0, |row| row.created)), leader);
    }

    /// Frees the seat, if this agent has it.
    pub fn resign(&mut self, now: Time) {
        if !matches!(self.role, Role::Watching) {
            self.lose(now, None);
        }
    }

    fn is_mine(&self, row: Option<&Row>) -> bool {
        row.is_some_and(|row| row.created == self.term.0)
    }

    // ---- what was decided before ------------------------------------------------------------------------------------

    fn begin_reading(&mut self, now: Time) {
        let known = self.log.get(self.commit).map(|_| self.commit);
        let nothing = Reading { known, pointer: None, pointer_modified: 0, chunks: 0, state: Vec::new() };
        self.role = Role::Reading(nothing);
        self.range(now, Purpose::Read, Span::key(&self.settings.snapshot_key()));
    }

    fn read(&mut self, now: Time, rows: Vec<Row>, more: bool) {
        self.heard_at = now;
        let Role::Reading(Reading { pointer, chunks, .. }) = &self.role else { return };
        let read = match *pointer {
            None => self.read_pointer(now, rows.first()),
            Some(pointer) if *chunks < pointer.chunks => self.read_chunks(now, &rows),
            Some(_) => self.read_entries(now, &rows, more),
        };
        if let Err(what) = read {
            // It changed under this agent's eyes, for another has the seat; or it is damaged.
            self.say(format!("what etcd holds under '{}' can't be read: {what}", self.settings.prefix));
            self.lose(now, None);
            self.heartbeat_at = now.plus(self.settings.heartbeat);
        }
    }

    fn read_pointer(&mut self, now: Time, row: Option<&Row>) -> Result<(), String> {
        let none = Pointer { index: 0, term: 0, chunks: 0, bytes: 0 };
        let mut pointer = match row {
            Some(row) => serde_json::from_slice(&row.value).map_err(|e| format!("{}: {e}", row.key))?,
            None => none,
        };
        if pointer.chunks > CHUNKS_MAX {
            return Err(format!("a snapshot of {} chunks", pointer.chunks));
        }
        // What is known here already need not be read again.
        if pointer.index <= self.commit {
            pointer.chunks = 0;
        }
        let Role::Reading(reading) = &mut self.role else { return Ok(()) };
        reading.known = reading.known.filter(|known| *known > pointer.index);
        reading.pointer = Some(pointer);
        reading.pointer_modified = row.map_or(0, |row| row.modified);
        self.read_on(now);
        Ok(())
    }

    fn read_on(&mut self, now: Time) {
        let Role::Reading(Reading { known, pointer: Some(pointer), chunks, .. }) = &self.role else { return };
        let span = if *chunks < pointer.chunks {
            let (first, end) = (*chunks, pointer.chunks);
            let from = self.settings.chunk_key(pointer.index, first);
            Span { from, end: Some(self.settings.chunk_key(pointer.index, end)) }
        } else {
            self.settings.entries(known.unwrap_or(self.log.last_index() + 1), u64::MAX)
        };
        self.range(now, Purpose::Read, span);
    }

    fn read_chunks(&mut self, now: Time, rows: &[Row]) -> Result<(), String> {
        let Role::Reading(reading) = &mut self.role else { return Ok(()) };
        let pointer = reading.pointer.expect("read before");
        if rows.is_empty() {
            return Err(format!("chunk {} of the snapshot of {} is missing", reading.chunks, pointer.index));
        }
        for row in rows {
            if row.key != self.settings.chunk_key(pointer.index, reading.chunks) {
                return Err(format!("{} is not chunk {}", row.key, reading.chunks));
            }
            reading.chunks += 1;
            reading.state.extend_from_slice(&row.value);
        }
        if reading.chunks == pointer.chunks {
            if reading.state.len() as u64 != pointer.bytes {
                return Err(format!("the snapshot of {} has another length than it should", pointer.index));
            }
            mark!(EtcdSnapshotRead);
            let state = std::mem::take(&mut reading.state).into();
            let seats = Vec::new();
            self.log.reset(Snapshot { index: pointer.index, term: Term(pointer.term), seats, state });
            self.commit = pointer.index;
        }
        self.read_on(now);
        Ok(())
    }

    fn read_entries(&mut self, now: Time, rows: &[Row], more: bool) -> Result<(), String> {
        let Role::Reading(reading) = &mut self.role else { return Ok(()) };
        let mut rows = rows.iter();
        if let Some(known) = reading.known.take() {
            let same = |row: &Row| self.log.get(known).is_some_and(|entry| encode(entry) == row.value);
            if !rows.next().is_some_and(same) {
                self.distrusts = true;
                return Err(format!("entry {known} is not what it was: the data was put back as it once was"));
            }
        }
        for row in rows {
            let next = self.log.last_index() + 1;
            if row.key != self.settings.entry_key(next) {
                return Err(format!("entry {next} is missing before {}", row.key));
            }
            let entry: LogEntry = postcard::from_bytes(&row.value).map_err(|e| format!("{}: {e}", row.key))?;
            self.log.append(entry);
            self.commit = next;
        }
        if more {
            self.read_on(now);
        } else {
            self.begin_leading();
        }
        Ok(())
    }

    fn begin_leading(&mut self) {
        let Role::Reading(reading) = &self.role else { return };
        self.role = Role::Leading(Leading {
            first_index: self.log.last_index() + 1,
            round: 0,
            confirmed: 0,
            round_wanted: true,
            appending: 0,
            pointer_modified: reading.pointer_modified,
            upkeep: None,
        });
        self.leader = Some(self.settings.me.clone());
        self.events.push(Event::LeadsAgency { term: self.term });
        self.log.append(LogEntry { term: self.term, data: Bytes::new() });
    }

    // ---- leading ----------------------------------------------------------------------------------------------------

    /// Appends an entry; `None` if this agent does not lead.
    pub fn propose(&mut self, data: Bytes) -> Option<u64> {
        assert!(!data.is_empty());
        let term = self.term;
        self.is_leader().then(|| self.log.append(LogEntry { term, data }))
    }

    /// Asks for what this step has made necessary; called once a step, so that proposals of one step travel together.
    pub fn advance(&mut self, now: Time) {
        let Role::Leading(leading) = &mut self.role else { return };
        if leading.round_wanted && !self.calls.contains_key(&Purpose::Round) {
            leading.round += 1;
            leading.round_wanted = false;
            self.range(now, Purpose::Round, Span::key(&self.settings.leader_key()));
        }
        self.append(now);
        self.upkeep(now);
    }

    fn append(&mut self, now: Time) {
        let first = self.commit + 1;
        let batch = self.log.slice(first, BATCH_COUNT_MAX, BATCH_BYTES_MAX);
        let Role::Leading(leading) = &mut self.role else { return };
        if batch.is_empty() || self.calls.contains_key(&Purpose::Append) {
            return;
        }
        leading.appending = self.commit + batch.len() as u64;
        let end = leading.appending + 1;
        let put = |(index, entry): (u64, &LogEntry)| Change::Put {
            key: self.settings.entry_key(index),
            value: encode(entry),
            lease: None,
        };
        let then: Vec<Change> = (first..).zip(&batch).map(put).collect();
        let empty = (first..end).map(|index| Compare::Created { key: self.settings.entry_key(index), revision: 0 });
        let (compare, shown) = (empty.collect(), vec![self.settings.entries(first, end)]);
        self.write(now, Purpose::Append, compare, then, shown);
    }

    /// An append was refused: either because it has happened before, which is true then, or this agent does not lead.
    fn refused(&mut self, now: Time, ranges: &[Vec<Row>]) -> bool {
        let Role::Leading(leading) = &self.role else { return false };
        let (first, last) = (self.commit + 1, leading.appending);
        let leader = row_of(ranges, 0);
        if !self.is_mine(leader) && !planted!(etcd_append_unfenced) {
            mark!(EtcdFenced);
            self.lose(now, leader);
            return false;
        }
        let there = ranges.get(1).map_or(&[][..], Vec::as_slice);
        let same = |(index, row): (u64, &Row)| {
            row.key == self.settings.entry_key(index) && self.log.get(index).is_some_and(|e| encode(e) == row.value)
        };
        let all = there.len() as u64 == last + 1 - first && (first..).zip(there).all(same);
        if !all && !planted!(etcd_unknown_is_failure) {
            self.say(format!("somebody else writes to etcd where this agency's entries {first} to {last} belong"));
            self.lose(now, None);
            return false;
        }
        mark!(EtcdAppendedBefore);
        true
    }

    fn appended(&mut self, now: Time) {
        let Role::Leading(leading) = &mut self.role else { return };
        self.commit = leading.appending.min(self.log.last_index());
        self.heard_at = now;
    }

    /// The number of a round that begins now or later: once [`Etcd::confirmed`] reaches it, this agent is known to have
    /// had the seat after this call.
    pub fn request_round(&mut self) -> u64 {
        let under_way = self.calls.contains_key(&Purpose::Round);
        let Role::Leading(leading) = &mut self.role else { return 0 };
        if under_way {
            mark!(RoundWanted);
            if planted!(etcd_round_before_renewal) {
                return leading.round;
            }
        }
        leading.round_wanted = true;
        leading.round + 1
    }

    pub fn confirmed(&self) -> u64 {
        match &self.role {
            Role::Leading(leading) => leading.confirmed,
            _ => 0,
        }
    }

    fn confirm(&mut self, now: Time, row: Option<&Row>) {
        let mine = self.is_mine(row);
        let Role::Leading(leading) = &mut self.role else { return };
        if mine {
            leading.confirmed = leading.round;
            self.heard_at = now;
        } else {
            mark!(EtcdSeatLost);
            self.lose(now, row);
        }
    }

    // ---- compaction -------------------------------------------------------------------------------------------------

    /// Whether the state machine, which has applied everything up to `applied`, should make a snapshot.
    pub fn wants_snapshot(&self, applied: u64) -> bool {
        let Role::Leading(Leading { upkeep: None, .. }) = &self.role else { return false };
        self.log.wants_snapshot(applied, self.settings.compaction_step, KEEP_BYTES_MAX)
    }

    pub fn compact(&mut self, index: u64, state: Bytes) {
        assert!(index <= self.commit);
        self.log.compact(index, Vec::new(), state, self.settings.compaction_keep, KEEP_BYTES_MAX);
        if let Role::Leading(leading) = &mut self.role {
            leading.upkeep = Some(Upkeep { snapshot: self.log.snapshot.clone(), next_chunk: 0 });
        }
    }

    /// Chunk by chunk; then, in one transaction, the snapshot counts, and what it stands for goes.
    fn upkeep(&mut self, now: Time) {
        let Role::Leading(Leading { upkeep: Some(upkeep), pointer_modified, .. }) = &self.role else { return };
        if self.calls.contains_key(&Purpose::Upkeep) {
            return;
        }
        let Snapshot { index, term, state, .. } = &upkeep.snapshot;
        let chunks = upkeep.chunks();
        if upkeep.next_chunk < chunks {
            let from = upkeep.next_chunk as usize * CHUNK_BYTES;
            let value = state.slice(from..state.len().min(from + CHUNK_BYTES));
            let put = Change::Put { key: self.settings.chunk_key(*index, upkeep.next_chunk), value, lease: None };
            return self.write(now, Purpose::Upkeep, vec![], vec![put], vec![]);
        }
        let key = self.settings.snapshot_key();
        let pointer = Pointer { index: *index, term: term.0, chunks, bytes: state.len() as u64 };
        let value = serde_json::to_vec(&pointer).expect("plain data can be encoded").into();
        let chunks_before = Span { from: self.settings.chunk_key(0, 0), end: Some(self.settings.chunk_key(*index, 0)) };
        let then = vec![
            Change::Put { key: key.clone(), value, lease: None },
            Change::Delete(chunks_before),
            Change::Delete(self.settings.entries(0, index + 1)),
        ];
        let mut compare = vec![Compare::Modified { key: key.clone(), revision: *pointer_modified }];
        if planted!(etcd_snapshot_unfenced) {
            compare.clear();
        }
        self.write(now, Purpose::Upkeep, compare, then, vec![Span::key(&key)]);
    }

    /// A chunk is there, or the snapshot counts.
    fn kept(&mut self, revision: u64) {
        let Role::Leading(leading) = &mut self.role else { return };
        let Some(upkeep) = &mut leading.upkeep else { return };
        if upkeep.next_chunk < upkeep.chunks() {
            upkeep.next_chunk += 1;
        } else {
            mark!(EtcdSnapshotWritten);
            leading.pointer_modified = revision;
            leading.upkeep = None;
        }
    }

    /// This agent leads, so it was refused because it has happened before.
    fn kept_before(&mut self, ranges: &[Vec<Row>]) {
        mark!(EtcdSnapshotWrittenBefore);
        let row = row_of(ranges, 1);
        let Role::Leading(leading) = &mut self.role else { return };
        leading.pointer_modified = row.map_or(0, |row| row.modified);
        leading.upkeep = None;
    }
}

fn row_of(ranges: &[Vec<Row>], nth: usize) -> Option<&Row> {
    ranges.get(nth)?.first()
}

fn holder(row: &Row) -> Option<Holder> {
    serde_json::from_slice(&row.value).ok()
}

#[cfg(test)]
mod tests;
