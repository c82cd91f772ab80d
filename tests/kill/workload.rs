//! What a child does to its store and its parent expects to find there: operations that follow from a seed and from
//! what the store held at first, so that both come to the same ones without talking about it.
//!
//! The plan performs each on a store in memory, one at a time. That store is the model; it knows nothing of LMDB, of
//! group commits or of threads.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tanist_engine::db::mem::MemStore;
use tanist_engine::db::store::*;
use tanist_engine::db::{Reader, meta};
use tanist_engine::exec;
use tanist_engine::http::{Method, Request};
use tanist_engine::io::{Mode, Op, OpId, OpResult, Run, Saved, Target, View};
use tanist_engine::message::raft::{HardState, LogEntry, META_HARD, Persist, encode};
use tanist_engine::message::{Entry, Peer, SnapshotId};
use tanist_engine::types::*;

/// Opens a store as a node does when it starts. Identities are minted from a fixed seed: the model gets the same ones.
pub fn open(store: &mut dyn Store, kind: NodeKind) -> Saved {
    let endpoint = Endpoint::parse("tcp://127.0.0.1:8529").expect("an endpoint");
    let config = match kind {
        NodeKind::Agent => Config::Agent(AgentConfig::new(endpoint)),
        NodeKind::Server => Config::Server(ServerConfig::new(endpoint, Nonce(1))),
    };
    exec::open(store, &config, NOW, 1).expect("the store opens")
}

const NOW: Now = Now { time: Time(0), wall_ms: 1_700_000_000_000 };

/// What a child tells its parent of a result.
pub fn digest(result: &OpResult) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{result:?}").hash(&mut hasher);
    hasher.finish()
}

/// See the module's documentation.
pub struct Plan {
    kind: NodeKind,
    rng: Rng,
    /// The model, as all operations so far have left it.
    pub store: MemStore,
    queue: VecDeque<Op>,
}

impl Plan {
    pub fn new(kind: NodeKind, seed: u64, store: MemStore) -> Plan {
        Plan { kind, rng: Rng::new(seed), store, queue: VecDeque::new() }
    }

    /// How many operations the child has under way at most: what a commit can take in.
    pub fn window(seed: u64) -> usize {
        let mut rng = Rng::new(!seed);
        let most = [1, 4, 16, 64][rng.below(4) as usize];
        1 + rng.below(most) as usize
    }

    /// The next operation, and what it comes to.
    pub fn step(&mut self) -> (Op, OpResult) {
        let op = loop {
            match self.queue.pop_front() {
                Some(op) => break op,
                None => self.refill(),
            }
        };
        let result = perform(&mut self.store, op.clone());
        (op, result)
    }

    fn refill(&mut self) {
        if self.kind == NodeKind::Agent {
            return self.agree();
        }
        match self.rng.below(8) {
            0..3 => {
                let epoch = self.next_epoch();
                let lineage = Lineage(self.rng.next_u64());
                self.queue.push_back(Op::BeginEpoch { epoch, lineage });
                let requests = self.rng.below(60);
                self.queue.extend((0..requests).map(|_| request(epoch, &mut self.rng)));
            }
            3..5 => self.follow(),
            5 => self.copy(),
            6 => {
                let keep_from = Tick(last(&self.store).tick.0.saturating_sub(self.rng.below(50)));
                self.queue.extend((0..3).map(|_| Op::Prune { keep_from }));
            }
            _ => {
                let epoch = Epoch(self.next_epoch().0 - self.rng.below(2));
                self.queue.push_back(Op::See { epoch });
                let deployment = DeploymentId(1 + u128::from(self.rng.chance(1, 10)));
                self.queue.push_back(Op::Adopt { deployment });
            }
        }
    }

    /// Raft's rows: entries appended, cut off and compacted, votes.
    fn agree(&mut self) {
        let rng = &mut self.rng;
        let from = 1 + rng.below(200);
        let entries = 0..rng.below(8);
        let hard = |rng: &mut Rng| encode(&HardState { term: Term(rng.below(1 << 40)), vote: None });
        // A command never begins as a configuration does.
        let entry = |rng: &mut Rng| {
            let data = [&[0], bytes(rng).as_ref()].concat().into();
            encode(&LogEntry { term: Term(rng.below(100)), data })
        };
        let persist = Persist {
            meta: vec![(META_HARD, rng.chance(5, 6).then(|| hard(rng)))],
            truncate_from: rng.chance(1, 4).then_some(from),
            compact_to: rng.chance(1, 6).then(|| from.saturating_sub(50)),
            entries: entries.map(|i| (from + i, entry(rng))).collect(),
        };
        self.queue.push_back(Op::Persist(persist));
    }

    /// Appends what a leader wrote that went on from where this store is; now and then it is then undone.
    fn follow(&mut self) {
        let epoch = self.next_epoch();
        let mut prev = last(&self.store);
        let mut leader = self.leader(epoch);
        self.write(&mut leader, epoch);
        let entries = entries_after(&leader, prev);
        let mut points = vec![prev];
        for chunk in entries.chunks(1 + self.rng.below(5) as usize) {
            self.queue.push_back(Op::Append { epoch, into: Target::Data, prev, entries: chunk.to_vec() });
            prev = chunk.last().expect("chunks are not empty").position();
            points.push(prev);
        }
        if self.rng.chance(1, 3) {
            let common = points[self.rng.below(points.len() as u64) as usize];
            let undone = prev.tick.0 - common.tick.0;
            self.queue.extend((0..undone.div_ceil(3)).map(|_| Op::Undo { epoch, common, limit: 3 }));
        }
    }

    /// Takes a copy of a leader that goes on writing meanwhile.
    fn copy(&mut self) {
        let epoch = self.next_epoch();
        let mut leader = self.leader(epoch);
        self.write(&mut leader, epoch);
        let id = SnapshotId { epoch, boot: Boot(1), number: 1 };
        let OpResult::SnapshotBegun(offer) = perform(&mut leader, Op::SnapshotBegin { id }) else { return };
        self.queue.push_back(Op::CopyBegin(offer.clone()));
        let mut cursor = Some(bytes::Bytes::new());
        while let Some(at) = cursor {
            let op = Op::SnapshotRead { id, start: offer.start, cursor: at, bytes_max: 4000 };
            let OpResult::SnapshotRows(piece) = perform(&mut leader, op) else { return };
            cursor = piece.next.clone();
            self.queue.push_back(Op::CopyRows(piece));
            if self.rng.chance(1, 8) {
                self.write(&mut leader, epoch);
            }
        }
        let mut prev = offer.start;
        for chunk in entries_after(&leader, prev).chunks(20) {
            self.queue.push_back(Op::Append { epoch, into: Target::Copy(id), prev, entries: chunk.to_vec() });
            prev = chunk.last().expect("chunks are not empty").position();
        }
        self.queue.push_back(if self.rng.chance(1, 5) { Op::CopyDrop } else { Op::CopyFinish { id } });
    }

    fn next_epoch(&self) -> Epoch {
        let snapshot = self.store.snapshot().expect("a snapshot");
        let seen = meta::seen(&*snapshot).expect("the epoch seen");
        Epoch(seen.max(last(&self.store).epoch).0 + 1)
    }

    /// Another server with the same data that begins an epoch.
    fn leader(&mut self, epoch: Epoch) -> MemStore {
        let mut leader = self.store.clone();
        perform(&mut leader, Op::BeginEpoch { epoch, lineage: Lineage(self.rng.next_u64()) });
        leader
    }

    fn write(&mut self, leader: &mut MemStore, epoch: Epoch) {
        for _ in 0..self.rng.below(30) {
            perform(leader, request(epoch, &mut self.rng));
        }
    }
}

/// On a store in memory, at once durable.
fn perform(store: &mut MemStore, op: Op) -> OpResult {
    if !op.writes() {
        return exec::read(op, store);
    }
    let mut results = exec::perform(vec![(OpId(1), op)], store);
    store.sync();
    results.pop().expect("one result for one operation").1
}

fn last(store: &MemStore) -> Position {
    let snapshot = store.snapshot().expect("a snapshot");
    Reader::new(&*snapshot).and_then(|reader| reader.last()).expect("the end of the log")
}

fn entries_after(leader: &MemStore, after: Position) -> Vec<Entry> {
    match exec::read(Op::ReadLog { after, bytes_max: usize::MAX }, leader) {
        OpResult::Log { entries, .. } => entries,
        _ => Vec::new(),
    }
}

/// Now and then of a size that needs pages of its own.
fn bytes(rng: &mut Rng) -> bytes::Bytes {
    let length = if rng.chance(1, 12) { rng.below(20_000) } else { rng.below(100) };
    vec![rng.next_u64() as u8; length as usize].into()
}

/// A client's write. What it can't do (a key that is there, a collection that is not) is an answer like any other.
fn request(epoch: Epoch, rng: &mut Rng) -> Op {
    let collection = format!("c{}", rng.below(3));
    let key = format!("k{}", rng.below(12));
    let length = if rng.chance(1, 12) { rng.below(20_000) } else { rng.below(100) } as usize;
    let value = format!(r#"{{"_key":"{key}","v":{},"pad":"{}"}}"#, rng.below(1000), "x".repeat(length));
    let document = format!("/_api/document/{collection}/{key}");
    let (method, target, body) = match rng.below(20) {
        0..2 => (Method::Post, "/_api/collection".to_owned(), format!(r#"{{"name":"{collection}"}}"#)),
        2 if rng.chance(1, 4) => (Method::Delete, format!("/_api/collection/{collection}"), String::new()),
        3 if rng.chance(1, 3) => (Method::Put, format!("/_api/collection/{collection}/truncate"), String::new()),
        4..6 => (Method::Delete, document, String::new()),
        6..10 => (Method::Put, document, value),
        10..12 => {
            let others: Vec<String> = (0..rng.below(6)).map(|i| format!(r#"{{"_key":"k{}"}}"#, i * 3)).collect();
            (Method::Post, format!("/_api/document/{collection}"), format!("[{}]", others.join(",")))
        }
        _ => (Method::Post, format!("/_api/document/{collection}?overwriteMode=replace"), value),
    };
    Op::Run(Run {
        request: Request::new(method, target).with_body(body),
        epoch,
        writes: true,
        kept: false,
        dirty: false,
        open: false,
        at_least: None,
        fresh: None,
        sync_followers: 0,
        now: NOW,
        seed: rng.next_u64(),
        view: Arc::new(view(epoch)),
        transaction: Default::default(),
    })
}

fn view(epoch: Epoch) -> View {
    let id = NodeId { kind: NodeKind::Server, uuid: 1 };
    View {
        standalone: true,
        mode: Mode::Default,
        read_only: false,
        epoch,
        boot: Boot(1),
        lease_end: Time::NEVER,
        lease_slack: Duration::MAX,
        ..View::new(Peer { id, endpoint: Endpoint::parse("tcp://127.0.0.1:8529").expect("an endpoint") })
    }
}
