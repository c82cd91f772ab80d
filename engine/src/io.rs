//! The contract between the engine and a shell.
//!
//! A shell (the simulator or the server) owns clocks, sockets, disks and threads. It calls [`crate::node::Node::step`]
//! with one [`Input`], then carries out all the [`Output`]s, then comes with the next input:
//! 1. `now` never goes back on one node. A jump forward is an event that the engine handles.
//! 2. One input, then all of its outputs, then the next input.
//! 3. Each started [`Op`] ends in exactly one `Done`, unless the process dies. Ops that write are performed in the
//!    order started; ops that only read may overtake.
//! 4. Whatever depends on a write (a vote, an acknowledgement, a reply) is held inside the engine until its `Done`.
//! 5. After a crash the store holds all that was `Done`, and perhaps some prefix of what was started.
//! 6. A [`Run`] carries the epoch it was admitted in; `perform` refuses it if the store has seen a later one.
//! 7. `Note` never feeds back into a decision.

use crate::cursor::{CursorCall, Owner, QueryResult};
use crate::demand::{FreshUntil, Freshness, Token};
use crate::etcd;
use crate::http::{Method, Request, Response};
use crate::job::{JobCall, JobOrder};
use crate::message::raft::{Persist, SavedRaft};
use crate::message::*;
use crate::process;
use crate::transaction;
use crate::types::*;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::db::index::build::{Built, Left, Verified};
use crate::db::index::ttl::{Expired, Place};
use crate::db::store::StoreError;

/// The shell's number for a client request; each gets exactly one `Reply`. Numbers with the highest bit are the
/// engine's own: of requests that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    const JOB: u64 = 1 << 63;

    pub fn of_job(job: u64) -> RequestId {
        RequestId(job | RequestId::JOB)
    }

    /// The job's number, if it is one's.
    pub fn job(self) -> Option<u64> {
        (self.0 & RequestId::JOB != 0).then_some(self.0 & !RequestId::JOB)
    }
}

/// The engine's number for a question to an etcd; a process never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// The engine's number for an operation on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

#[derive(Clone, Debug, Hash)]
pub enum Input {
    /// The deadline has come.
    Timer,
    Message(Envelope),
    Request {
        id: RequestId,
        request: Request,
    },
    Done {
        op: OpId,
        result: OpResult,
    },
    /// What an etcd answered; `None` if it is unknown whether it has done, or will yet do, what was asked. It may come
    /// late or never.
    Answered {
        id: AskId,
        answer: Option<etcd::Answer>,
    },
    /// The operator wants the process to leave: finish, hand over, then `Output::Stopped`.
    Stop,
}

#[derive(Clone, Debug)]
pub enum Output {
    Send {
        to: Endpoint,
        envelope: Envelope,
    },
    Reply {
        id: RequestId,
        response: Response,
    },
    Start {
        op: OpId,
        what: Op,
    },
    /// A question to an etcd.
    Ask {
        id: AskId,
        ask: etcd::Ask,
    },
    /// The query of that number is to end; it may be over by now.
    Interrupt {
        query: u64,
    },
    Note(Event),
    /// The graceful stop is complete: nothing will be served or written any more.
    Stopped,
}

/// Why a node wants to be woken. After [`Input::Timer`] it wants that at a later time, or not at all: whoever asks
/// for a moment that is over takes a whole processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wake {
    pub at: Time,
    pub why: &'static str,
}

/// What the parts of the engine write their outputs through: the clock reading of this step, chance, and numbering.
pub struct Cx<'a> {
    pub now: Now,
    pub me: &'a Peer,
    pub rng: &'a mut Rng,
    pub ops: &'a mut u64,
    pub out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    pub fn send(&mut self, to: &Peer, message: Message) {
        let envelope = Envelope { from: self.me.clone(), to: Some(to.id), message };
        self.out.push(Output::Send { to: to.endpoint.clone(), envelope });
    }

    /// For an address whose owner is not known yet.
    pub fn send_to_endpoint(&mut self, to: &Endpoint, message: Message) {
        let envelope = Envelope { from: self.me.clone(), to: None, message };
        self.out.push(Output::Send { to: to.clone(), envelope });
    }

    pub fn start(&mut self, what: Op) -> OpId {
        *self.ops += 1;
        let op = OpId(*self.ops);
        self.out.push(Output::Start { op, what });
        op
    }

    pub fn reply(&mut self, id: RequestId, response: Response) {
        self.out.push(Output::Reply { id, response });
    }

    pub fn note(&mut self, event: Event) {
        self.out.push(Output::Note(event));
    }
}

// ---- operations on the store ----------------------------------------------------------------------------------------

/// What a node has its store do. Performed only by `exec::perform`.
#[derive(Clone, Debug, Hash)]
pub enum Op {
    /// Agent: hard state, log entries and snapshots of Raft, in one transaction.
    Persist(Persist),

    /// Server: answer a client.
    Run(Run),
    /// The data now belongs to this deployment (R11).
    Adopt {
        deployment: DeploymentId,
    },
    /// Make "seen `epoch`" durable (R5).
    See {
        epoch: Epoch,
    },
    /// Append the entry that begins an epoch of our own; the gate opens only when it is durable (R3).
    BeginEpoch {
        epoch: Epoch,
        lineage: Lineage,
    },
    /// Append a leader's entries after `prev` and apply them, to the data in use or to the copy being built.
    Append {
        epoch: Epoch,
        into: Target,
        prev: Position,
        entries: Vec<Entry>,
    },
    /// Undo entries after `common`, the newest first, at most `limit` of them; keep each in the rollback record.
    Undo {
        epoch: Epoch,
        common: Position,
        limit: usize,
    },
    /// Remove documents that are due in `ttl` indexes, as an ordinary write of the epoch's leader; a bounded piece of
    /// work.
    Expire(Expire),
    /// Go on with indexes that are built in pieces; a bounded piece of work.
    Build(Build),
    /// Forget log entries below `keep_from`, and data that only they referred to; a bounded piece of work.
    Prune {
        keep_from: Tick,
    },
    /// Begin to build a copy beside the data in use.
    CopyBegin(SnapshotOffer),
    CopyRows(SnapshotPiece),
    /// Swap the finished copy in, by one durable step. If the log that it replaces ends with entries that the copy's
    /// history does not have (R7's common point lies before its end), all of the old data is kept as a rollback
    /// record (R8).
    CopyFinish {
        id: SnapshotId,
    },
    /// Forget a copy that can't be finished.
    CopyDrop,
    /// Remove a rollback record; a bounded piece of work.
    ForgetRollback(RollbackId),

    /// Where does our log (or that of the copy being built) stand?
    Locate {
        target: Target,
    },

    // These only read.
    /// Where does this follower's log leave ours?
    Compare(Follow),
    ReadLog {
        after: Position,
        bytes_max: usize,
    },
    SnapshotBegin {
        id: SnapshotId,
    },
    SnapshotRead {
        id: SnapshotId,
        start: Position,
        cursor: Bytes,
        bytes_max: usize,
    },
}

impl Op {
    /// Whether it is performed in the order started, as all are that may change the store. To say where the log
    /// stands is one of them: what was started before, as a leader perhaps, is part of the answer.
    pub fn writes(&self) -> bool {
        match self {
            Op::Run(run) => run.writes,
            Op::Compare(_) | Op::ReadLog { .. } | Op::SnapshotBegin { .. } | Op::SnapshotRead { .. } => false,
            _ => true,
        }
    }
}

/// What the leader of an epoch removes, by its own wall clock and nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expire {
    pub epoch: Epoch,
    pub wall_ms: u64,
    pub from: Place,
    /// Documents at most.
    pub limit: u64,
}

/// A piece of building indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// Documents at most.
    pub limit: usize,
    /// By whoever leads: it may say that an index is there.
    pub lead: Option<Lead>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lead {
    pub epoch: Epoch,
    pub wall_ms: u64,
    pub verified: Option<Verified>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Data,
    Copy(SnapshotId),
}

/// A client's request on its way through the store.
#[derive(Clone, Debug, Hash)]
pub struct Run {
    pub request: Request,
    /// The epoch it was admitted in: a write is refused if the store has seen a later one.
    pub epoch: Epoch,
    /// Decided by the route table: a request that only reads gets a snapshot.
    pub writes: bool,
    /// The node's loop keeps what comes of it, so it goes through the loop even if it only reads.
    pub kept: bool,
    /// A marked dirty read on a follower: whatever it tries to write is refused with 1004.
    pub dirty: bool,
    /// One of the paths that every server answers whoever leads (ARANGODB `CommTask`'s list).
    pub open: bool,
    /// The data must reflect this.
    pub at_least: Option<Token>,
    /// The answer must leave by then.
    pub fresh: Option<FreshUntil>,
    /// So many followers must have what is written before it is answered.
    pub sync_followers: u8,
    pub now: Now,
    /// Chance for salts and keys.
    pub seed: u64,
    pub view: Arc<View>,
    pub transaction: transaction::Part,
}

/// Drawn by chance, as a run's seed is; a number that other programs can hold exactly.
pub fn query_number(seed: u64) -> u64 {
    seed >> 12
}

/// What is left of a [`Run`] while it is on its way: enough to confirm its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub epoch: Epoch,
    pub writes: bool,
    /// It may write within a stream transaction, which may outlive a lease that is over for a moment.
    pub within: bool,
    pub dirty: bool,
    pub open: bool,
    pub fresh: Option<FreshUntil>,
    pub sync_followers: u8,
}

#[cfg(test)]
impl Ticket {
    /// Of a request that only reads, for tests.
    pub fn reading(epoch: u64) -> Ticket {
        Ticket {
            epoch: Epoch(epoch),
            writes: false,
            within: false,
            dirty: false,
            open: false,
            fresh: None,
            sync_followers: 0,
        }
    }
}

impl Run {
    /// The number of the query that it is, if it is one.
    pub fn query(&self) -> u64 {
        query_number(self.seed)
    }

    pub fn ticket(&self) -> Ticket {
        let Run { epoch, writes, dirty, open, fresh, sync_followers, .. } = *self;
        let within =
            matches!(self.transaction.concern, transaction::Concern::Within(_)) && self.request.method != Method::Get;
        Ticket { epoch, writes, within, dirty, open, fresh, sync_followers }
    }
}

#[derive(Clone, Debug, Hash)]
pub enum OpResult {
    Persisted,
    Ran(Ran),
    /// The data do not reflect yet what the run demands: nothing was done.
    Behind(Token),
    /// `entry`: what the removals became; `None` if nothing was due.
    Expired {
        done: Expired,
        entry: Option<Entry>,
    },
    /// `under_way`: all that were being built before this piece, with the one that is `over`; `entry`: what that became
    /// in the log.
    Built {
        left: Left,
        under_way: Vec<u64>,
        verified: Option<Verified>,
        over: Option<Built>,
        entry: Option<Entry>,
    },
    Adopted,
    /// `before` is the highest epoch seen until then.
    Seen {
        before: Epoch,
        last: Position,
        complete: bool,
    },
    Began {
        entry: Entry,
    },
    /// `builds`: there are indexes to be built.
    Appended {
        last: Position,
        builds: bool,
    },
    /// The entries do not follow `last`.
    Mismatch {
        last: Position,
    },
    /// The store has seen a later epoch (I7).
    Stale {
        seen: Epoch,
    },
    /// `summary`: of all that was undone in this epoch so far.
    Undone {
        last: Position,
        undone: u64,
        summary: RollbackSummary,
    },
    /// `more`: there is more of it to remove.
    Forgotten {
        more: bool,
    },
    /// The tail to undo is no longer in the log: only a snapshot helps (R8).
    CannotUndo,
    Pruned {
        first: Tick,
        more: bool,
    },
    CopyBegun,
    Copied {
        next: Option<Bytes>,
    },
    /// The rows do not belong to the copy being built.
    NoCopy,
    /// `rollback`: the data that were replaced had entries of their own, and are kept.
    CopyFinished {
        last: Position,
        log_first: Tick,
        rollback: Option<RollbackSummary>,
    },
    CopyDropped,
    /// `NoCopy` if there is no such copy.
    Located(Located),
    Compared {
        follow: Follow,
        verdict: Comparison,
    },
    Log {
        after: Position,
        entries: Vec<Entry>,
    },
    /// Entries right after `after` are no longer kept.
    LogPruned {
        after: Position,
    },
    SnapshotBegun(SnapshotOffer),
    SnapshotRows(SnapshotPiece),
    /// Nothing was written, because the data forbid it; says why.
    Refused(&'static str),
    /// Nothing was written, because the store could not.
    Failed(StoreError),
}

/// A log as it presents itself to a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Located {
    pub target: Target,
    pub last: Position,
    /// Checksum of the entry at `last` (of a snapshot's start if the log has no entry yet; 0 for an empty log).
    pub last_checksum: u32,
    pub history: Vec<EpochRow>,
    pub log_first: Tick,
}

/// What a Run came to.
#[derive(Clone, Debug, Hash)]
pub struct Ran {
    pub response: Response,
    /// The log entry that the write became; `None` if nothing was written.
    pub entry: Option<Entry>,
    /// The end of the log that the answer tells of.
    pub last: Position,
    pub then: Option<Then>,
    /// Of a request within a stream transaction: what it adds to it.
    pub progress: Option<Box<transaction::Progress>>,
}

/// What a request asks for that the store alone can't give; authorised already.
#[derive(Clone, Debug, Hash)]
pub enum Then {
    /// Ask the agency, and make the answer from its answer.
    Agency {
        request: Request,
        make: AgencyAnswer,
    },
    Shutdown,
    /// Set how documents expire on this server.
    SetExpiry(ExpiryProperties),
    /// Remove a rollback record.
    Forget(RollbackId),
    /// Answer once the index with this id is built.
    Build(u64),
    /// Answer with the first batch of a query's result, and keep the rest.
    Keep(Box<QueryResult>),
    /// Ask once more where there is time: it was not over in a moment. Only for who hurries.
    AtLeisure,
    /// Go on with a cursor, or end it.
    Cursor(CursorCall),
    /// Answer at once, and then carry out the request as a job.
    Defer(JobOrder),
    Job(JobCall),
    /// Answer with what the process knows of itself.
    Process(process::Call),
    /// Refuse writes from now on, or no longer; of a server without a deployment.
    ReadOnly(bool),
    /// Begin a stream transaction that reads what this answer reflects.
    Begin(Box<transaction::Terms>),
    /// The stream transaction that the request named has ended.
    End(transaction::End),
    /// Look at all stream transactions that this user may use.
    Transactions {
        question: transaction::Question,
        who: Owner,
    },
}

/// A rollback record: the entries that were undone in an epoch, or a store that was replaced and is kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollbackId {
    Entries(Epoch),
    Store(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgencyAnswer {
    /// `GET /_admin/cluster/health`
    ClusterHealth,
    /// `PUT /_admin/server/mode`
    ServerMode,
    /// `PUT /_admin/cluster/maintenance`
    Maintenance,
    /// `GET /_admin/cluster/maintenance`
    MaintenanceState,
    /// Hand the agency's response through.
    Verbatim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The follower's log is a prefix of ours.
    Prefix,
    /// Both agree up to `common` (R7), which lies before the follower's end.
    Diverged { common: Position },
    /// No common point that the log still holds.
    NeedsSnapshot,
}

// ---- what a node keeps ----------------------------------------------------------------------------------------------

/// What a node finds in its store when it starts; read by `exec::open`.
#[derive(Clone, Debug)]
pub enum Saved {
    Agent(SavedAgent),
    Server(SavedServer),
}

#[derive(Clone, Debug)]
pub struct SavedAgent {
    pub id: NodeId,
    pub disk: StoreId,
    pub raft: SavedRaft,
}

#[derive(Clone, Debug)]
pub struct SavedServer {
    pub id: NodeId,
    pub store: StoreId,
    pub deployment: Option<DeploymentId>,
    pub seen: Epoch,
    pub last: Position,
    /// The oldest entry in the log (1 above the snapshot's position in a fresh copy).
    pub log_first: Tick,
    /// False until the first copy is finished. A store that was created empty and never followed anybody is complete.
    pub complete: bool,
    pub copy: Option<SavedCopy>,
    /// What rollbacks have cost, in the order of the epochs.
    pub rollbacks: Vec<RollbackSummary>,
}

/// A copy that was being built when the process ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SavedCopy {
    pub id: SnapshotId,
    /// `None` once all rows are there.
    pub cursor: Option<Bytes>,
    /// The end of the copy's own log.
    pub last: Position,
    pub exact_at: Option<Position>,
}

// ---- the gate's picture of a server ---------------------------------------------------------------------------------

/// ArangoDB's server modes, as the gate knows them (ARANGODB `ServerState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not registered yet.
    Maintenance,
    /// Nobody leads as far as this server knows, or it is about to.
    TryAgain,
    /// Somebody else leads.
    Redirect,
    /// This server leads (or is a plain single server).
    Default,
    Stopping,
}

/// All that the gate and the status calls need to know of a server at one moment; published by the shell to whoever
/// serves connections (R13).
#[derive(Clone, Debug, Hash)]
pub struct View {
    pub me: Peer,
    pub advertised: Option<Endpoint>,
    /// A plain single server: no agency, no followers.
    pub standalone: bool,
    pub mode: Mode,
    /// Followers always are; a leader while the agency's `Readonly` is set.
    pub read_only: bool,
    /// Leadership is changing hands: until then, whoever asks for a leader waits for what comes of it.
    pub moves_until: Time,
    pub epoch: Epoch,
    pub boot: Boot,
    /// The lease, on this machine's clock; `Time::NEVER` for a plain single server, `Time::ZERO` without one.
    pub lease_end: Time,
    /// Both clocks as they were when the renewal that brought the lease was sent.
    pub lease_sent: Now,
    /// By how much the two clocks may have moved apart since then; more, and the lease is not trusted.
    pub lease_slack: Duration,
    /// Whom clients are sent to; never this server itself.
    pub leader: Option<Peer>,
    pub agents: Vec<Peer>,
    pub members: Vec<Member>,
    pub deployment: Option<DeploymentId>,
    /// R17: with synchronous followers, what a read saw must not be beyond this.
    pub acknowledged: Option<Tick>,
    /// Too few followers are in sync: writes are refused.
    pub short_of_followers: bool,
    pub replication: ReplicationView,
    pub expiry: ExpiryView,
    pub auth: Arc<Auth>,
    pub limits: Limits,
}

impl View {
    /// A server that has not registered yet: it serves nobody.
    pub fn new(me: Peer) -> View {
        View {
            me,
            advertised: None,
            standalone: false,
            mode: Mode::Maintenance,
            read_only: true,
            moves_until: Time::ZERO,
            epoch: Epoch(0),
            boot: Boot(0),
            lease_end: Time::ZERO,
            lease_sent: Now::default(),
            lease_slack: Duration::ZERO,
            leader: None,
            agents: Vec::new(),
            members: Vec::new(),
            deployment: None,
            acknowledged: None,
            short_of_followers: false,
            replication: ReplicationView::default(),
            expiry: ExpiryView::default(),
            auth: Arc::default(),
            limits: Limits::default(),
        }
    }

    /// Whether the lease holds at this moment, as far as this machine's clocks can tell.
    pub fn holds_lease(&self, now: Now) -> bool {
        now.time < self.lease_end && (self.standalone || now.apart(self.lease_sent) <= self.lease_slack)
    }
}

/// What `/_api/replication/applier-state` and `tanist status` tell. Refreshed with each beat, not with each entry.
#[derive(Clone, Debug, Default, Hash)]
pub struct ReplicationView {
    /// Tailing a leader (false during the first copy).
    pub running: bool,
    pub copying: bool,
    pub last: Position,
    pub leader_last: Position,
    /// How fresh a follower's data are; `None` if it does not know.
    pub freshness: Option<Freshness>,
    /// Followers that are connected, as the leader sees them: id and durable position.
    pub followers: Vec<(Peer, Position)>,
}

/// How documents in `ttl` indexes expire on this server, and what came of it since the process started.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct ExpiryView {
    pub properties: ExpiryProperties,
    /// Sweeps, what they removed, and how many ended because they had removed as much as they may.
    pub runs: u64,
    pub removed: u64,
    pub limit_reached: u64,
}

// ---- events ---------------------------------------------------------------------------------------------------------

/// The one vocabulary of traces, logs and timelines. `Display` is the sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    // Agency.
    PoolFormed {
        agents: usize,
    },
    Campaigns {
        term: Term,
        pre: bool,
    },
    LeadsAgency {
        term: Term,
    },
    FollowsAgent {
        term: Term,
        leader: Option<NodeId>,
    },
    /// Entry `index` of this agent's log, decided or not, says who has a seat from there on.
    AgencyConfigured {
        index: u64,
        agents: Vec<NodeId>,
    },
    /// An agent has applied an entry; `digest` is over everything applied so far (I3).
    Applied {
        index: u64,
        term: Term,
        digest: u64,
    },
    Granted {
        server: NodeId,
        boot: Boot,
        epoch: Epoch,
    },
    HealthChanged {
        server: NodeId,
        from: Health,
        to: Health,
    },
    /// A rule of the supervision fired: its number and the sentence that says what it did and why.
    Supervision {
        rule: u32,
        sentence: String,
    },
    /// The leading agent has chosen the next leader; nothing is decided until that is applied.
    Chose {
        epoch: Epoch,
        server: NodeId,
    },
    /// The leading agent asks a leader without room to hand over; nothing is decided until that is applied.
    SendsOff {
        to: NodeId,
    },
    Deposed {
        epoch: Epoch,
        server: Option<NodeId>,
    },
    Elected {
        epoch: Epoch,
        server: NodeId,
        boot: Boot,
    },
    /// R6: it is on record who has what is acknowledged from now on.
    InSyncChanged {
        epoch: Epoch,
        index: u64,
        in_sync: InSync,
    },
    /// What the end of an epoch has cost, as a server told: `exact` if it was its leader.
    Accounted {
        ended: Epoch,
        server: NodeId,
        ticks: u64,
        operations: u64,
        exact: bool,
    },

    // Servers.
    RegisteredAs {
        boot: Boot,
    },
    /// The server's life: the number of the row in the transition table, and the states' names.
    Role {
        row: u32,
        from: &'static str,
        to: &'static str,
        why: String,
    },
    LeaseRenewed {
        epoch: Epoch,
        until: Time,
    },
    LeaseLost {
        epoch: Epoch,
        why: &'static str,
    },
    ClockJumped {
        steady_ms: u64,
        wall_ms: i64,
    },
    EpochBegun {
        epoch: Epoch,
        first: Tick,
    },
    Follows {
        leader: NodeId,
        epoch: Epoch,
        from: Position,
    },
    RollsBack {
        common: Position,
        from: Position,
    },
    RolledBack {
        last: Position,
        undone: u64,
    },
    CopyStarted {
        from: NodeId,
        start: Position,
    },
    CopyDone {
        last: Position,
    },

    /// Anything else worth a line in the log.
    Says(Severity, Cow<'static, str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Debug,
    Info,
    Warn,
    Error,
}

impl Event {
    pub fn severity(&self) -> Severity {
        match self {
            Event::Applied { .. }
            | Event::Granted { .. }
            | Event::LeaseRenewed { .. }
            | Event::Campaigns { .. }
            | Event::Chose { .. }
            | Event::SendsOff { .. } => Severity::Debug,
            Event::LeaseLost { .. } | Event::ClockJumped { .. } | Event::RollsBack { .. } | Event::Deposed { .. } => {
                Severity::Warn
            }
            Event::Says(severity, _) => *severity,
            _ => Severity::Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::PoolFormed { agents } => {
                write!(f, "the agency's pool is formed: {agents} agents")
            }
            Event::Campaigns { term, pre: true } => {
                write!(f, "asks whether it could win term {}", term.0)
            }
            Event::Campaigns { term, pre: false } => write!(f, "campaigns for term {}", term.0),
            Event::LeadsAgency { term } => write!(f, "leads the agency in term {}", term.0),
            Event::FollowsAgent { term, leader: Some(leader) } => write!(f, "follows {leader} in term {}", term.0),
            Event::FollowsAgent { term, leader: None } => {
                write!(f, "knows no agency leader in term {}", term.0)
            }
            Event::AgencyConfigured { index, agents } => {
                write!(f, "{} agents have a seat by entry {index}:", agents.len())?;
                agents.iter().try_for_each(|agent| write!(f, " {agent}"))
            }
            Event::Applied { index, term, digest } => {
                write!(f, "applied {index} of term {} digest {digest:016x}", term.0)
            }
            Event::Granted { server, boot, epoch } => {
                write!(f, "granted {server} boot {} the lease of epoch {}", boot.0, epoch.0)
            }
            Event::HealthChanged { server, from, to } => {
                write!(f, "{server} is {} (was {})", to.as_str(), from.as_str())
            }
            Event::Supervision { rule, sentence } => {
                write!(f, "supervision rule {rule}: {sentence}")
            }
            Event::Chose { epoch, server } => write!(f, "chose {server} for epoch {}", epoch.0),
            Event::SendsOff { to } => write!(f, "asks the leader to hand over to {to}"),
            Event::Deposed { epoch, server: Some(server) } => write!(f, "epoch {} begins: {server} deposed", epoch.0),
            Event::Deposed { epoch, server: None } => write!(f, "epoch {} begins: nobody had led", epoch.0),
            Event::Elected { epoch, server, boot } => {
                write!(f, "epoch {}: {server} boot {} elected", epoch.0, boot.0)
            }
            Event::InSyncChanged { epoch, in_sync, .. } => {
                let (epoch, InSync { floor, lag, .. }) = (epoch.0, in_sync);
                write!(f, "epoch {epoch}: in sync from {floor} on, within {lag} operations: {}", in_sync.names())
            }
            Event::Accounted { ended, server, ticks, operations, exact } => {
                let least = if *exact { "" } else { "at least " };
                write!(f, "the end of epoch {} cost {server} {least}{ticks} entries, {operations} operations", ended.0)
            }
            Event::RegisteredAs { boot } => write!(f, "registered as boot {}", boot.0),
            Event::Role { row, from, to, why } => write!(f, "{from} -> {to} (row {row}): {why}"),
            Event::LeaseRenewed { epoch, until } => {
                write!(f, "lease of epoch {} until {} ns", epoch.0, until.0)
            }
            Event::LeaseLost { epoch, why } => write!(f, "lease of epoch {} lost: {why}", epoch.0),
            Event::ClockJumped { steady_ms, wall_ms } => {
                write!(f, "the clock jumped: steady {steady_ms} ms, wall {wall_ms} ms since the last step")
            }
            Event::EpochBegun { epoch, first } => {
                write!(f, "epoch {} begins with entry {}", epoch.0, first.0)
            }
            Event::Follows { leader, epoch, from } => write!(f, "follows {leader} in epoch {} from {from}", epoch.0),
            Event::RollsBack { common, from } => write!(f, "rolls back from {from} to {common}"),
            Event::RolledBack { last, undone } => {
                write!(f, "rolled back {undone} entries, now at {last}")
            }
            Event::CopyStarted { from, start } => {
                write!(f, "copies everything from {from}, starting at {start}")
            }
            Event::CopyDone { last } => write!(f, "the copy is complete at {last}"),
            Event::Says(_, text) => f.write_str(text),
        }
    }
}
