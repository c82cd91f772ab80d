//! A machine with the engine's node and store on it: what it does is a function of its state, the time and what meets
//! it. So the same thing is worked out once, however many states of the cluster it happens in ([`Memo`]).

use super::cluster::Setup;
use super::part::{ByPrint, Fingerprint, Part};
use crate::clock::At;
use crate::node::{self, agent_config, server_config};
use crate::world::words::{cut, summary};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tanist_engine::db::mem::MemStore;
use tanist_engine::exec;
use tanist_engine::http::Request;
use tanist_engine::io::{Event, Input, Op, OpId, OpResult, Output, RequestId, View};
use tanist_engine::message::Envelope;
use tanist_engine::node::Node;
use tanist_engine::types::*;

/// A disk, and the process on it, if one runs.
#[derive(Clone, Hash)]
pub struct Machine {
    pub id: Option<NodeId>,
    pub store: Part<MemStore>,
    pub process: Option<Process>,
    pub incarnation: u64,
    /// The process that died last, as long as nobody has told the agency.
    pub unreported: Option<Nonce>,
    pub paused: bool,
}

#[derive(Clone, Hash)]
pub struct Process {
    pub node: Node,
    nonce: Nonce,
    pub boot: Option<Boot>,
    /// Ops that write, in order. They are performed as one batch.
    pub queue: Vec<(OpId, Op)>,
    /// Requests that wait for an answer, with the number of the client's operation.
    pending: BTreeMap<RequestId, Option<u64>>,
    requests: u64,
}

/// What is on its way to a node.
#[derive(Clone, Hash)]
pub enum Item {
    Message {
        to: usize,
        envelope: Envelope,
    },
    Http {
        to: usize,
        operation: Option<u64>,
        request: Request,
    },
    /// The disk has done what was queued.
    Disk {
        node: usize,
    },
    Read {
        node: usize,
        op: OpId,
        what: Op,
    },
}

impl Item {
    pub fn target(&self) -> usize {
        match self {
            Item::Message { to, .. } | Item::Http { to, .. } => *to,
            Item::Disk { node } | Item::Read { node, .. } => *node,
        }
    }

    /// Ends with the process that it belongs to.
    pub fn is_internal(&self) -> bool {
        matches!(self, Item::Disk { .. } | Item::Read { .. })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Message { envelope, .. } => f.write_str(&summary(&envelope.message)),
            Item::Http { request, .. } => write!(f, "{} {}", request.method, request.target),
            Item::Disk { .. } => f.write_str("the disk's answer"),
            Item::Read { what, .. } => f.write_str(&cut(&format!("the answer to {what:?}"))),
        }
    }
}

/// What meets a machine.
#[derive(Clone, Hash)]
pub enum Stimulus {
    Boot,
    Timer,
    Arrives(Part<Item>),
    /// The first `keep` of the ops under way still reach the disk.
    Crash {
        keep: usize,
    },
}

/// What a machine does, as the rest of the cluster and the checkers see it.
pub enum Deed {
    Shows(Arc<View>),
    Sends(Part<Item>),
    /// Something of its own that takes its time.
    Begins(Part<Item>),
    Notes(Event),
    Performs(Box<(Op, OpResult)>),
    Replies {
        operation: Option<u64>,
        status: u16,
        error: Option<u64>,
    },
    Ends,
    Breaks(String),
}

impl Machine {
    /// With an empty disk.
    pub fn bare() -> Machine {
        Machine {
            id: None,
            store: Part::new(MemStore::new()),
            process: None,
            incarnation: 0,
            unreported: None,
            paused: false,
        }
    }

    fn react(&mut self, setup: &Setup, node: usize, now: Now, stimulus: &Stimulus) -> Vec<Deed> {
        let mut deeds = Vec::new();
        match stimulus {
            Stimulus::Boot => self.boot(setup, node, now, &mut deeds),
            Stimulus::Timer => self.step(setup, node, now, Input::Timer, &mut deeds),
            Stimulus::Crash { keep } => {
                let queue = self.process.as_mut().map(|process| std::mem::take(&mut process.queue));
                self.perform(queue.unwrap_or_default().into_iter().take(*keep).collect(), &mut deeds);
                self.end(&mut deeds);
            }
            Stimulus::Arrives(item) => self.arrives(setup, node, now, item, &mut deeds),
        }
        deeds
    }

    fn boot(&mut self, setup: &Setup, node: usize, now: Now, deeds: &mut Vec<Deed>) {
        self.incarnation += 1;
        // Chance is fixed: it is the same in every history.
        let seed = (node as u64) << 32 | self.incarnation;
        let nonce = Nonce(u128::from(seed) + 1);
        let agents = setup.endpoints[..setup.agents].to_vec();
        let config = match node < setup.agents {
            true => agent_config(&setup.scenario, &setup.endpoints[node], agents),
            false => server_config(&setup.scenario, &setup.endpoints[node], agents, nonce),
        };
        let node = match self.store.change(|store| node::start(store, config, seed, now)) {
            Ok(node) => node,
            Err(error) => return deeds.push(Deed::Breaks(format!("its store can't be opened: {error}"))),
        };
        self.id = Some(node.id());
        let (queue, pending) = (Vec::new(), BTreeMap::new());
        self.process = Some(Process { node, nonce, boot: None, queue, pending, requests: 0 });
    }

    fn arrives(&mut self, setup: &Setup, node: usize, now: Now, item: &Item, deeds: &mut Vec<Deed>) {
        let Some(process) = &mut self.process else { return };
        match item {
            Item::Message { envelope, .. } => {
                self.step(setup, node, now, Input::Message(envelope.clone()), deeds);
            }
            Item::Http { operation, request, .. } => {
                process.requests += 1;
                let id = RequestId(process.requests);
                process.pending.insert(id, *operation);
                self.step(setup, node, now, Input::Request { id, request: request.clone() }, deeds);
            }
            Item::Disk { .. } => {
                let batch = std::mem::take(&mut process.queue);
                for (op, result) in self.perform(batch, deeds) {
                    self.step(setup, node, now, Input::Done { op, result }, deeds);
                }
            }
            Item::Read { op, what, .. } => {
                let result = exec::read(what.clone(), &*self.store);
                deeds.push(Deed::Performs(Box::new((what.clone(), result.clone()))));
                self.step(setup, node, now, Input::Done { op: *op, result }, deeds);
            }
        }
    }

    /// What is performed is durable.
    fn perform(&mut self, batch: Vec<(OpId, Op)>, deeds: &mut Vec<Deed>) -> Vec<(OpId, OpResult)> {
        if batch.is_empty() {
            return Vec::new();
        }
        let performed = self.store.change(|store| {
            let performed = node::perform(store, batch);
            store.sync();
            performed
        });
        let mut results = Vec::with_capacity(performed.len());
        for (id, op, result) in performed {
            deeds.push(Deed::Performs(Box::new((op, result.clone()))));
            results.push((id, result));
        }
        results
    }

    fn end(&mut self, deeds: &mut Vec<Deed>) {
        if let Some(process) = self.process.take() {
            self.paused = false;
            self.unreported = (process.node.id().kind == NodeKind::Server).then_some(process.nonce);
            deeds.push(Deed::Ends);
        }
    }

    /// One input, then all of its outputs.
    fn step(&mut self, setup: &Setup, node: usize, now: Now, input: Input, deeds: &mut Vec<Deed>) {
        let Some(process) = &mut self.process else { return };
        let before = process.node.view().cloned();
        let mut outputs = Vec::new();
        process.node.step(now, input, &mut outputs);
        if let Some(view) = process.node.view()
            && before.is_none_or(|before| !Arc::ptr_eq(&before, view))
        {
            deeds.push(Deed::Shows(Arc::clone(view)));
        }
        let mut stopped = false;
        for output in outputs {
            match output {
                Output::Send { to, envelope } => match setup.endpoints.iter().position(|endpoint| *endpoint == to) {
                    Some(to) => deeds.push(Deed::Sends(Part::new(Item::Message { to, envelope }))),
                    None => deeds.push(Deed::Breaks(format!("it sends to {to}, which is nobody"))),
                },
                Output::Start { op, what } if what.writes() => {
                    if process.queue.is_empty() {
                        deeds.push(Deed::Begins(Part::new(Item::Disk { node })));
                    }
                    process.queue.push((op, what));
                }
                Output::Start { op, what } => deeds.push(Deed::Begins(Part::new(Item::Read { node, op, what }))),
                Output::Reply { id, response } => match process.pending.remove(&id) {
                    Some(operation) => {
                        let (status, error) = (response.status, response.error_num());
                        deeds.push(Deed::Replies { operation, status, error });
                    }
                    None => deeds.push(Deed::Breaks(format!("{id:?} is answered twice"))),
                },
                Output::Note(event) => {
                    if let Event::RegisteredAs { boot } = &event {
                        process.boot = Some(*boot);
                    }
                    deeds.push(Deed::Notes(event));
                }
                Output::Ask { .. } => deeds.push(Deed::Breaks("there is no etcd to ask".into())),
                Output::Interrupt { .. } => {}
                Output::Stopped => stopped = true,
            }
        }
        if stopped {
            self.end(deeds);
        }
    }
}

type Reaction = (Part<Machine>, Arc<[Deed]>);

/// What machines are known to do; what has not been asked for lately is forgotten, for machines are large.
#[derive(Default)]
pub struct Memo {
    young: ByPrint<Reaction>,
    old: ByPrint<Reaction>,
    /// How often the engine was called, rather than remembered.
    pub worked_out: u64,
}

const YOUNG_MAX: usize = 2_000;

impl Memo {
    pub fn react(&mut self, setup: &Setup, node: usize, at: At, machine: &Part<Machine>, meets: &Stimulus) -> Reaction {
        let key = Fingerprint::of(&(node, at, machine, meets));
        if let Some(known) = self.young.get(&key) {
            return known.clone();
        }
        let reaction = self.old.remove(&key).unwrap_or_else(|| {
            self.worked_out += 1;
            let mut after = machine.clone();
            let now = setup.clocks[node].now(at);
            let deeds = after.change(|machine| machine.react(setup, node, now, meets));
            (after, Arc::from(deeds))
        });
        if self.young.len() >= YOUNG_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, reaction.clone());
        reaction
    }
}
