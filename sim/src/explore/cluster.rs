//! The state that is explored: machines, what is on its way between them, and what the checkers know. It changes by
//! steps that [`super::choice`] names; nothing here chooses.
//!
//! Everything that could tell two futures apart is in the fingerprint, absolute time included. What is not: the trace.

use super::machine::{Deed, Item, Machine, Memo, Stimulus};
use super::part::{Fingerprint, Part, Pool};
use crate::action::{self, Action};
use crate::check::agency::Agency;
use crate::check::grant::Grants;
use crate::check::lease::Lease;
use crate::check::replication::Replication;
use crate::check::{Ctx, Verdict, Violation};
use crate::clock::{At, Clock, WALL_MS};
use crate::node::{DEATH_NOTICE, death_notice};
use crate::scenario::Scenario;
use crate::world::words::{Brief, cut, role, summary};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tanist_engine::db::Reader;
use tanist_engine::db::store::Store;
use tanist_engine::http::{Method, Request};
use tanist_engine::io::{Event, Op, OpResult};
use tanist_engine::message::raft::{Body, Raft};
use tanist_engine::message::{Envelope, Message};
use tanist_engine::types::*;

/// What never changes in one exploration.
pub struct Setup {
    pub scenario: Scenario,
    pub agents: usize,
    pub clocks: Vec<Clock>,
    pub endpoints: Vec<Endpoint>,
    pub names: Vec<String>,
}

impl Setup {
    pub fn new(scenario: Scenario, server_ppm: i64) -> Setup {
        let (agents, servers) = (scenario.agents as usize, scenario.servers as usize);
        let names: Vec<String> =
            (0..agents).map(|i| format!("a{i}")).chain((0..servers).map(|i| format!("s{i}"))).collect();
        let clock = |rate| Clock::new(Duration::from_secs(10), rate, WALL_MS as i64);
        let clocks = (0..names.len()).map(|node| clock(if node < agents { 0 } else { server_ppm })).collect();
        let endpoint = |name: &String| Endpoint::parse(&format!("tcp://{name}:8529")).expect("an endpoint");
        Setup { agents, clocks, endpoints: names.iter().map(endpoint).collect(), names, scenario }
    }
}

/// I12 and R14, second halves: what clients were told.
#[derive(Clone, Debug, Default, Hash)]
pub struct Clients {
    written: BTreeMap<u64, Position>,
    acknowledged: BTreeSet<Position>,
}

impl Clients {
    /// Nothing that was acknowledged may be nowhere: a log or a rollback record has it.
    pub fn nothing_vanished(&self, replication: &Replication) -> Verdict {
        let there = |p: &Position| replication.stores.iter().any(|store| store.keeps(p));
        match self.acknowledged.iter().find(|p| !there(p)) {
            Some(p) => Err(("I12", format!("the acknowledged write {p} is in no log and in no rollback record"))),
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
pub struct Cluster {
    setup: Arc<Setup>,
    pub at: At,
    pub machines: Vec<Part<Machine>>,
    /// In the order in which it happens if nothing interferes.
    pub ready: VecDeque<Part<Item>>,
    /// Set aside: happens whenever it is released, if ever. In the order of the fingerprints.
    pub held: Vec<Part<Item>>,
    /// Who acted last; nobody at the beginning.
    pub actor: Option<usize>,
    /// Moves on around whatever the checkers have to tell apart in time: renewals and reports that arrive at agents.
    moment: u64,
    operations: u64,
    agency: Part<Agency>,
    grants: Part<Grants>,
    lease: Part<Lease>,
    replication: Part<Replication>,
    clients: Part<Clients>,

    pub violation: Option<Violation>,
    /// Written only if somebody reads it.
    pub trace: Option<Vec<String>>,
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Cluster {
            setup: _,
            at,
            machines,
            ready,
            held,
            actor,
            moment,
            operations,
            agency,
            grants,
            lease,
            replication,
            clients,
            violation: _,
            trace: _,
        } = self;
        (at, machines, ready, held, actor).hash(state);
        (moment, operations, agency, grants, lease, replication, clients).hash(state);
    }
}

impl Cluster {
    /// Empty disks, and every process just started.
    pub fn new(setup: Arc<Setup>, memo: &mut Memo) -> Cluster {
        let (nodes, servers) = (setup.names.len(), setup.names.len() - setup.agents);
        let mut cluster = Cluster {
            at: At(0),
            machines: vec![Part::new(Machine::bare()); nodes],
            ready: VecDeque::new(),
            held: Vec::new(),
            actor: None,
            moment: 0,
            operations: 0,
            agency: Part::new(Agency::new(setup.agents, true)),
            grants: Part::new(Grants::new(setup.agents)),
            lease: Part::new(Lease::new(servers)),
            replication: Part::new(Replication::new(servers)),
            clients: Part::new(Clients::default()),
            violation: None,
            trace: None,
            setup,
        };
        for node in 0..nodes {
            cluster.boot(memo, node);
        }
        cluster
    }

    pub fn print(&self) -> u128 {
        Fingerprint::of(self)
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    // ---- what choices go by -----------------------------------------------------------------------------------------

    pub fn runs(&self, node: usize) -> bool {
        self.machines[node].process.is_some()
    }

    /// When a node that can act wants to be woken, in true time.
    pub fn wake(&self, node: usize) -> Option<At> {
        let machine = &self.machines[node];
        let process = machine.process.as_ref().filter(|_| !machine.paused)?;
        Some(self.setup.clocks[node].when(process.node.deadline()?.at).max(self.at))
    }

    fn server(&self, node: usize) -> Option<usize> {
        node.checked_sub(self.setup.agents)
    }

    /// The server whose gate is open at this moment.
    pub fn serving(&self) -> Option<usize> {
        self.lease.serving(&self.locals()).map(|(server, _)| self.setup.agents + server)
    }

    /// All servers run, hold the same log, and one of them serves.
    pub fn is_in_step(&self) -> bool {
        self.serving().is_some()
            && (0..self.machines.len()).all(|node| self.runs(node) && !self.machines[node].paused)
            && self.replication.converged().is_ok()
    }

    /// A server has undone entries.
    #[cfg(test)]
    pub fn has_rolled_back(&self) -> bool {
        self.replication.stores.iter().any(|store| !store.undone.is_empty())
    }

    fn locals(&self) -> Vec<Time> {
        self.setup.clocks[self.setup.agents..].iter().map(|clock| clock.time(self.at)).collect()
    }

    // ---- for the trace ----------------------------------------------------------------------------------------------

    pub fn say(&mut self, who: &str, what: impl fmt::Display) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {who:<3} {what}", self.at));
        }
    }

    pub fn tell(&mut self, node: usize, what: impl fmt::Display) {
        if self.trace.is_some() {
            let setup = Arc::clone(&self.setup);
            self.say(&setup.names[node], what);
        }
    }

    /// Role, epoch and last entry.
    pub fn describe(&mut self, node: usize) {
        let machine = &self.machines[node];
        let state = match machine.process.as_ref().map(|process| process.node.view()) {
            None => "is down".to_owned(),
            Some(None) => "runs".to_owned(),
            Some(Some(view)) => {
                let mode = role(view.mode);
                let last = self.server(node).map_or(Position::ZERO, |server| self.replication.stores[server].last());
                format!("runs: {mode} in epoch {} at {last}", view.epoch.0)
            }
        };
        self.tell(node, state);
    }

    fn hold(&mut self, verdict: Verdict) {
        let Err((invariant, what)) = verdict else { return };
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what, at: self.at });
        }
    }

    fn ctx(&self, node: usize) -> Ctx {
        Ctx {
            // When is not what these checkers go by, and it must not keep equal states apart.
            at: At(0),
            event: self.moment,
            node: self.server(node).unwrap_or(node),
            incarnation: self.machines[node].incarnation,
            local: self.setup.clocks[node].time(self.at),
        }
    }

    // ---- steps ------------------------------------------------------------------------------------------------------

    fn react(&mut self, memo: &mut Memo, node: usize, stimulus: &Stimulus) {
        let (after, deeds) = memo.react(&self.setup, node, self.at, &self.machines[node], stimulus);
        self.machines[node] = after;
        for deed in &*deeds {
            self.happened(node, deed);
        }
    }

    pub fn boot(&mut self, memo: &mut Memo, node: usize) {
        self.tell(node, "starts");
        self.react(memo, node, &Stimulus::Boot);
    }

    pub fn timer(&mut self, memo: &mut Memo, node: usize) {
        if self.trace.is_some()
            && let Some(wake) = self.machines[node].process.as_ref().and_then(|p| p.node.deadline())
        {
            self.tell(node, format_args!("timer: {}", wake.why));
        }
        self.actor = Some(node);
        self.react(memo, node, &Stimulus::Timer);
    }

    /// The process is gone; the first `keep` of the ops under way still reach the disk.
    pub fn crash(&mut self, memo: &mut Memo, node: usize, keep: usize) {
        let under_way = self.machines[node].process.as_ref().map_or(0, |process| process.queue.len());
        let disk = if under_way > 0 { format!("; {keep} of {under_way} ops reach the disk") } else { String::new() };
        self.tell(node, format_args!("is killed{disk}"));
        self.react(memo, node, &Stimulus::Crash { keep });
    }

    pub fn pause(&mut self, node: usize, paused: bool) {
        self.tell(node, if paused { "pauses" } else { "goes on" });
        self.machines[node].change(|machine| machine.paused = paused);
    }

    /// Whoever started the process tells all agents that it is dead.
    pub fn report_death(&mut self, node: usize) {
        let Some((id, nonce)) = self.machines[node].id.zip(self.machines[node].unreported) else { return };
        self.tell(node, "is dead, says its starter");
        self.machines[node].change(|machine| machine.unreported = None);
        self.ask_agents(DEATH_NOTICE, &death_notice(id, nonce));
    }

    /// An operator asks for a hand-over.
    pub fn ask_handover(&mut self) {
        self.ask_agents("/_api/tanist/handover", "{}");
    }

    fn ask_agents(&mut self, path: &str, body: &str) {
        for to in 0..self.setup.agents {
            let request = Request::new(Method::Post, path).with_body(body.to_owned());
            self.ready.push_back(Part::new(Item::Http { to, operation: None, request }));
        }
    }

    /// A client's request arrives at a server.
    pub fn ask(&mut self, memo: &mut Memo, node: usize, action: impl FnOnce(u64) -> Action) {
        self.operations += 1;
        let operation = self.operations;
        let action = action(operation);
        self.tell(node, format_args!("<= #{operation} {action}"));
        let request = action.request(operation);
        let item = Part::new(Item::Http { to: node, operation: Some(operation), request });
        self.actor = Some(node);
        self.react(memo, node, &Stimulus::Arrives(item));
    }

    /// Something arrives. At a node that is down it is lost.
    pub fn arrive(&mut self, memo: &mut Memo, item: Part<Item>) {
        let node = item.target();
        if !self.runs(node) {
            return self.tell(node, format_args!("is down: lost is {}", *item));
        }
        match &*item {
            Item::Message { envelope, .. } => self.arrives(node, envelope),
            Item::Http { .. } => self.tell(node, format_args!("<= {}", *item)),
            Item::Disk { .. } | Item::Read { .. } => {}
        }
        self.actor = Some(node);
        self.react(memo, node, &Stimulus::Arrives(item));
    }

    /// What the checkers learn from a message before the node does.
    fn arrives(&mut self, node: usize, envelope: &Envelope) {
        let from = self.machines.iter().position(|m| m.id == Some(envelope.from.id));
        if self.trace.is_some() {
            let from = from.map_or("?".to_owned(), |from| self.setup.names[from].clone());
            self.tell(node, format_args!("<- {from} {}", summary(&envelope.message)));
        }
        let meant = envelope.to.is_none_or(|to| Some(to) == self.machines[node].id);
        match &envelope.message {
            Message::BeatReply(_) | Message::Lead(_) if meant => {
                let (ctx, locals) = (self.ctx(node), self.locals());
                let verdict = self.lease.change(|lease| lease.received(&ctx, envelope, &locals));
                self.hold(verdict);
            }
            Message::Report(report) => {
                if let Some(server) = from.and_then(|from| self.server(from)) {
                    self.moment += 1;
                    let ctx = self.ctx(node);
                    self.replication.change(|replication| replication.reported(&ctx, server, report));
                }
            }
            Message::Beat(beat) if beat.renew.is_some() && node < self.setup.agents => {
                self.moment += 1;
                let ctx = self.ctx(node);
                self.grants.change(|grants| grants.received(&ctx, envelope));
                self.moment += 1;
            }
            Message::Raft(Raft::Consensus(consensus)) => {
                let ctx = self.ctx(node);
                match consensus.body {
                    Body::VoteReply { .. } => self.agency.change(|agency| agency.received(&ctx, envelope)),
                    Body::AppendReply { .. } | Body::SnapshotReply { .. } => {
                        self.grants.change(|grants| grants.received(&ctx, envelope));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    // ---- what a machine did -----------------------------------------------------------------------------------------

    fn happened(&mut self, node: usize, deed: &Deed) {
        match deed {
            Deed::Shows(view) => {
                let (ctx, locals) = (self.ctx(node), self.locals());
                let verdict = self.lease.change(|lease| lease.viewed(&ctx, view, &locals));
                self.hold(verdict);
            }
            Deed::Sends(item) => {
                if let Item::Message { envelope, .. } = &**item {
                    self.sends(node, envelope);
                }
                self.ready.push_back(item.clone());
            }
            Deed::Begins(item) => self.ready.push_back(item.clone()),
            Deed::Notes(event) => self.notes(node, event),
            Deed::Performs(what) => self.performs(node, &what.0, &what.1),
            Deed::Replies { operation, status, error } => self.replies(node, *operation, *status, *error),
            Deed::Ends => {
                let internal = |item: &Part<Item>| item.is_internal() && item.target() == node;
                self.ready.retain(|item| !internal(item));
                self.held.retain(|item| !internal(item));
                if let Some(server) = self.server(node) {
                    self.lease.change(|lease| lease.gone(server));
                }
            }
            Deed::Breaks(what) => self.hold(Err(("contract", format!("{}: {what}", self.setup.names[node])))),
        }
    }

    fn sends(&mut self, node: usize, envelope: &Envelope) {
        let ctx = self.ctx(node);
        let majority = self.setup.agents / 2 + 1;
        let confirms = |others: &BTreeSet<NodeId>| 1 + others.len() >= majority;
        let verdict = match &envelope.message {
            Message::Beat(_) | Message::Release(_) => self.lease.change(|lease| lease.sent(&ctx, envelope)),
            // A report that comes after its round was decided decides nothing.
            Message::Report(report) if self.lease.leader_of(report.epoch).is_some() => Ok(()),
            Message::Report(_) | Message::Acknowledge(_) => self.replication.sent(&ctx, envelope),
            Message::BeatReply(_) => self.grants.change(|grants| grants.sent(&ctx, envelope, confirms)),
            Message::Raft(Raft::Consensus(_)) => self
                .agency
                .change(|agency| agency.sent(&ctx, envelope))
                .and_then(|()| self.grants.change(|grants| grants.sent(&ctx, envelope, confirms))),
            _ => Ok(()),
        };
        self.hold(verdict);
    }

    fn notes(&mut self, node: usize, event: &Event) {
        self.tell(node, event);
        let ctx = self.ctx(node);
        let agencys = |event: &Event| {
            use Event::*;
            matches!(event, LeadsAgency { .. } | FollowsAgent { .. } | Campaigns { .. } | Applied { .. } | Chose { .. })
        };
        if agencys(event) {
            let verdict = self.agency.change(|agency| agency.noted(&ctx, event));
            self.hold(verdict);
        }
        if agencys(event) || matches!(event, Event::Elected { .. } | Event::Deposed { .. }) {
            self.grants.change(|grants| grants.noted(&ctx, event));
        }
        if let Event::Deposed { epoch, .. } = event {
            let locals = self.locals();
            let verdict = self.lease.change(|lease| lease.deposed(*epoch, &locals));
            self.hold(verdict);
        }
        if let Event::Elected { epoch, server, boot } = event {
            self.elected(*epoch, *server, *boot);
            let verdict = self.lease.change(|lease| lease.noted(event));
            self.hold(verdict);
        }
    }

    /// The choice is judged by what the agent that decided had heard when it decided.
    fn elected(&mut self, epoch: Epoch, server: NodeId, boot: Boot) {
        let servers = &self.machines[self.setup.agents..];
        let Some(chosen) = servers.iter().position(|m| m.id == Some(server)) else { return };
        let by = self.agency.chose(epoch, server);
        if self.lease.leader_of(epoch).is_none() {
            let boots: Vec<Option<Boot>> = servers.iter().map(|m| m.process.as_ref().and_then(|p| p.boot)).collect();
            let written = !self.clients.acknowledged.is_empty();
            let verdict = self.replication.elected(epoch, (chosen, boot), by, &boots, written);
            self.hold(verdict);
        }
    }

    fn performs(&mut self, node: usize, op: &Op, result: &OpResult) {
        if self.trace.is_some() {
            self.tell(node, format_args!("disk {}", cut(&format!("{:?}", Brief(op, result)))));
        }
        let ctx = self.ctx(node);
        let verdict = match (op, result) {
            (Op::Persist(persist), _) => self.agency.change(|agency| agency.persisted(&ctx, persist)),
            // They tell the checkers nothing.
            (_, OpResult::Located(_) | OpResult::Compared { .. } | OpResult::Log { .. }) => Ok(()),
            _ => self.replication.change(|replication| replication.performed(&ctx, op, result, None)),
        };
        self.hold(verdict);
        if let (Op::BeginEpoch { epoch, .. }, OpResult::Began { .. }) = (op, result) {
            let verdict = self.lease.change(|lease| lease.began(&ctx, *epoch));
            self.hold(verdict);
        }
        if let Op::Undo { .. } = op {
            let verdict = self.is_kept(node);
            self.hold(verdict);
        }
        if let (Op::Run(run), OpResult::Ran(ran)) = (op, result)
            && let (Some(operation), Some(entry)) = (action::op_of(&run.request), &ran.entry)
            && self.clients.change(|clients| clients.written.insert(operation, entry.position())).is_some()
        {
            self.hold(Err(("R14", format!("operation {operation} was done twice"))));
        }
        let verdict = self.clients.nothing_vanished(&self.replication);
        self.hold(verdict);
    }

    /// I10 on the store itself: what was undone can be read there.
    fn is_kept(&self, node: usize) -> Verdict {
        let Some(server) = self.server(node) else { return Ok(()) };
        let failed = |error| ("I10", format!("s{server} can't be read: {error}"));
        let snapshot = self.machines[node].store.snapshot().map_err(failed)?;
        let rows = Reader::new(&*snapshot).and_then(|reader| reader.rolled_back(usize::MAX)).map_err(failed)?;
        let rows: BTreeSet<(Epoch, Position)> = rows.iter().map(|(epoch, e)| (*epoch, e.position())).collect();
        match self.replication.stores[server].undone.difference(&rows).next() {
            Some((_, p)) => Err(("I10", format!("s{server} undid {p}, but its rollback record does not have it"))),
            None => Ok(()),
        }
    }

    fn replies(&mut self, node: usize, operation: Option<u64>, status: u16, error: Option<u64>) {
        let (Some(server), Some(operation)) = (self.server(node), operation) else {
            return self.tell(node, format_args!("=> {status}"));
        };
        self.tell(node, format_args!("=> #{operation} {status}"));
        let written = self.clients.written.get(&operation).copied();
        if (200..300).contains(&status) {
            let local = self.setup.clocks[node].time(self.at);
            if self.lease.holds(server, local).is_none() {
                self.hold(Err(("I11", format!("s{server} answered #{operation} without a lease"))));
            }
            match written {
                Some(position) => {
                    self.clients.change(|clients| clients.acknowledged.insert(position));
                }
                None => self.hold(Err(("I12", format!("#{operation} succeeded without a log entry")))),
            }
            let verdict = self.clients.nothing_vanished(&self.replication);
            self.hold(verdict);
        } else if written.is_some() && matches!(error, Some(1495 | 1496)) {
            self.hold(Err(("R14", format!("s{server} refused #{operation}, which it had done"))));
        }
    }
}

/// Equal parts of different states are kept once.
#[derive(Default)]
pub struct Pools {
    machines: Pool<Machine>,
    items: Pool<Item>,
    agencies: Pool<Agency>,
    grants: Pool<Grants>,
    leases: Pool<Lease>,
    replications: Pool<Replication>,
    clients: Pool<Clients>,
}

impl Pools {
    pub fn share(&mut self, cluster: &mut Cluster) {
        cluster.machines.iter_mut().for_each(|part| self.machines.share(part));
        cluster.ready.iter_mut().chain(&mut cluster.held).for_each(|part| self.items.share(part));
        self.agencies.share(&mut cluster.agency);
        self.grants.share(&mut cluster.grants);
        self.leases.share(&mut cluster.lease);
        self.replications.share(&mut cluster.replication);
        self.clients.share(&mut cluster.clients);
    }
}
