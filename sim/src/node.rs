//! A machine and the process on it: the engine's node, its store, and a disk that takes its time.
//!
//! Ops that write wait in a queue. One batch at a time is on its way to the disk; it becomes visible and durable at the
//! same instant, when its sync is over (as with LMDB), and only then is it `Done`. A crash loses what was queued and
//! keeps some prefix of the batch that was under way.

use crate::clock::{At, Clock};
use crate::scenario::Scenario;
use crate::world::{Caller, Happening};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tanist_engine::db::mem::MemStore;
use tanist_engine::db::store::{Store as _, Table};
use tanist_engine::exec;
use tanist_engine::http::{Request, Response};
use tanist_engine::io::{Op, OpId, OpResult, RequestId, Run, Ticket, View};
use tanist_engine::node::Node;
use tanist_engine::types::*;

/// What stays when the process dies.
pub struct Machine {
    pub name: String,
    pub kind: NodeKind,
    pub endpoint: Endpoint,
    /// Known once it has been started.
    pub id: Option<NodeId>,
    pub store: MemStore,
    pub clock: Clock,
    pub process: Option<Process>,
    pub incarnation: u64,
    /// Of the current or last process.
    pub nonce: Nonce,
    /// Of the last process, as the lock of the directory tells the next one; a copy of a directory does not.
    pub signed: Option<Nonce>,
    pub paused: bool,
    /// What happens to a paused process happens when it goes on.
    pub held: Vec<Happening>,
    /// A slow node: each thing that it does takes so long, and what comes meanwhile waits.
    pub step_extra: Duration,
    pub busy: bool,
    pub waiting: VecDeque<Happening>,
    /// Each disk operation takes this much longer.
    pub disk_extra: Duration,
    /// The faults that its disk suffers from.
    pub sync_fails_by: Option<usize>,
    pub full_by: Option<usize>,
    pub rotten_by: Option<usize>,
    /// The rotten rows, as they are now.
    pub rotten: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// The fault that stopped or paused it, which alone may undo that.
    pub down_by: Option<usize>,
    pub paused_by: Option<usize>,
}

pub struct Process {
    pub node: Node,
    pub view: Option<Arc<View>>,
    queue: VecDeque<(OpId, Op)>,
    batch: Vec<(OpId, Op)>,
    pub readings: BTreeMap<u64, Reading>,
    readings_begun: u64,
    pub pending: BTreeMap<RequestId, Pending>,
    requests: u64,
    /// The deadline that the last timer was set for, and its number.
    pub timer: Option<Time>,
    pub timers: u64,
    /// As which boot it is registered.
    pub boot: Option<Boot>,
    pub stopping: bool,
    /// When, by its own clock, it could not begin an epoch: it stands back for a while.
    pub unfit: Option<Time>,
}

/// A request that a node is at.
#[derive(Clone, Debug)]
pub struct Pending {
    pub caller: Caller,
    pub attempt: u64,
    pub op: Option<u64>,
    pub arrived: At,
    pub arrived_in: u64,
    /// The epoch whose lease the server held at that moment.
    pub admitted: Option<Epoch>,
}

/// A read on its way: waiting for the disk, then for its answer to leave.
pub enum Reading {
    Op(OpId, Op),
    Read(OpId, OpResult),
    /// A client's read beside the engine's loop, as the server's connection tasks do it (R13).
    Fast {
        run: Box<Run>,
        request: Request,
        pending: Pending,
    },
    Answer {
        ticket: Ticket,
        response: Response,
        last: Position,
        request: Request,
        pending: Pending,
    },
}

impl Process {
    pub fn new(node: Node) -> Process {
        Process {
            node,
            view: None,
            queue: VecDeque::new(),
            batch: Vec::new(),
            readings: BTreeMap::new(),
            readings_begun: 0,
            pending: BTreeMap::new(),
            requests: 0,
            timer: None,
            timers: 0,
            boot: None,
            stopping: false,
            unfit: None,
        }
    }

    /// The engine starts what was asked for, under the lease that is held now.
    pub fn admitted(&mut self, op: Option<u64>, holds: Option<Epoch>) {
        for pending in self.pending.values_mut().filter(|pending| op.is_some() && pending.op == op) {
            pending.admitted = holds;
        }
    }

    pub fn request(&mut self, pending: Pending) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.pending.insert(id, pending);
        id
    }

    pub fn reading(&mut self, reading: Reading) -> u64 {
        self.readings_begun += 1;
        self.readings.insert(self.readings_begun, reading);
        self.readings_begun
    }

    pub fn enqueue(&mut self, op: OpId, what: Op) {
        self.queue.push_back((op, what));
    }

    /// Takes all that is queued as the next batch, unless one is under way or nothing is queued.
    pub fn begin_batch(&mut self) -> bool {
        if !self.batch.is_empty() || self.queue.is_empty() {
            return false;
        }
        self.batch = self.queue.drain(..).collect();
        true
    }

    pub fn take_batch(&mut self) -> Vec<(OpId, Op)> {
        std::mem::take(&mut self.batch)
    }
}

impl Machine {
    pub fn new(name: String, kind: NodeKind, port: u16, clock: Clock) -> Machine {
        Machine {
            endpoint: Endpoint::parse(&format!("tcp://{name}:{port}")).expect("an endpoint"),
            name,
            kind,
            id: None,
            store: MemStore::new(),
            clock,
            process: None,
            incarnation: 0,
            nonce: Nonce(0),
            signed: None,
            paused: false,
            held: Vec::new(),
            step_extra: Duration::ZERO,
            busy: false,
            waiting: VecDeque::new(),
            disk_extra: Duration::ZERO,
            sync_fails_by: None,
            full_by: None,
            rotten_by: None,
            rotten: Vec::new(),
            down_by: None,
            paused_by: None,
        }
    }

    /// A row of what the disk holds.
    pub fn row(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        self.store.snapshot().ok()?.get(table, key).ok()?.map(|value| value.to_vec())
    }

    /// A process is started on what the disk holds.
    pub fn boot(&mut self, config: Config, seed: u64, at: At) -> Result<(), String> {
        let node = start(&mut self.store, config, seed, self.clock.now(at))?;
        assert!(self.id.is_none_or(|id| id == node.id()), "a node keeps its id");
        self.id = Some(node.id());
        self.incarnation += 1;
        self.process = Some(Process::new(node));
        Ok(())
    }
}

/// Where a starter tells an agent that a process is dead.
pub const DEATH_NOTICE: &str = "/_api/tanist/death-notice";

/// A server's names the process; an agent's is a mere hint.
pub fn death_notice(id: NodeId, nonce: Nonce) -> String {
    match id.kind {
        NodeKind::Server => format!(r#"{{"server":"{id}","nonce":"{:032x}"}}"#, nonce.0),
        _ => format!(r#"{{"agent":"{id}"}}"#),
    }
}

/// Performs ops that write. Hands back each op with what came of it.
pub fn perform(store: &mut MemStore, batch: Vec<(OpId, Op)>) -> Vec<(OpId, Op, OpResult)> {
    let results = exec::perform(batch.clone(), store);
    let ids = |(begun, ended): (&(OpId, Op), &(OpId, OpResult))| begun.0 == ended.0;
    let complete = batch.len() == results.len() && batch.iter().zip(&results).all(ids);
    assert!(complete, "every op of a batch ends once, in the order started");
    batch.into_iter().zip(results).map(|((id, op), (_, result))| (id, op, result)).collect()
}

/// A node on what its disk holds.
pub fn start(store: &mut MemStore, config: Config, seed: u64, now: Now) -> Result<Node, String> {
    let saved = exec::open(store, &config, now, seed).map_err(|e| format!("{e:?}"))?;
    store.sync();
    Ok(Node::boot(config, saved, seed, now))
}

pub fn agent_config(s: &Scenario, endpoint: &Endpoint, agents: Vec<Endpoint>) -> Config {
    let ms = Duration::from_millis;
    Config::Agent(AgentConfig {
        size: agents.len(),
        peers: agents,
        election_timeout_min: ms(s.election_min_ms),
        election_timeout_max: ms(s.election_max_ms),
        supervision_frequency: ms(s.supervision_ms),
        ok_threshold: ms(s.ok_threshold_ms),
        timing: Timing { lease: ms(s.lease_ms), drift_permille: s.drift_permille as u32 },
        compaction_step: s.compaction_step,
        compaction_keep: s.compaction_keep,
        etcd: (s.etcd == 1).then(|| "/tanist/sim/".to_owned()),
        ..AgentConfig::new(endpoint.clone())
    })
}

pub fn server_config(s: &Scenario, endpoint: &Endpoint, agents: Vec<Endpoint>, nonce: Nonce) -> Config {
    Config::Server(ServerConfig {
        agency: agents,
        host: endpoint.authority().to_owned(),
        log_keep: s.log_keep,
        log_keep_cap: s.log_keep_cap.max(s.log_keep),
        log_slack: s.log_slack,
        expiry: ExpiryProperties {
            frequency: Duration::from_millis(s.ttl_frequency_ms),
            total_max: 5,
            collection_max: 3,
            ..ExpiryProperties::default()
        },
        chunk_bytes: s.chunk_bytes as usize,
        build_documents: s.build_documents as usize,
        transactions: TransactionLimits {
            idle: Duration::from_millis(s.transaction_idle_ms),
            ..TransactionLimits::default()
        },
        durability: Durability {
            sync_followers: s.sync_followers as usize,
            max_lag: (s.failover_lag > 0).then_some(s.failover_lag),
            timeout: Duration::from_millis(s.sync_timeout_ms),
        },
        ..ServerConfig::new(endpoint.clone(), nonce)
    })
}
