//! The world: machines, network, disks, clocks, faults, clients and checkers. It handles one happening at a time and
//! says what will happen next, and when; who keeps the time is a driver's business.

use crate::check::agency::Agency;
use crate::check::history::{self, Answer, History};
use crate::check::lease::Lease;
use crate::check::liveness::{self, Progress};
use crate::check::replication::Replication;
use crate::check::{Ctx, Verdict, Violation};
use crate::clock::{At, Clock};
use crate::faults::{Fault, Kind, Target, Way, Whom};
use crate::model::{self, Action};
use crate::net::{self, Net, Places, Weather};
use crate::node::{Machine, Pending, Process, Reading, agent_config, server_config};
use crate::scenario::Scenario;
use crate::trace::{Columns, Trace};
use crate::workload::{ANSWER_TIMEOUT, Destination, Ending, Next, Workload};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tanist_engine::db::Reader;
use tanist_engine::db::store::Store as _;
use tanist_engine::gate::{self, Admission};
use tanist_engine::http::{Method, Request, Response, header};
use tanist_engine::io::{Event, Input, Mode, Op, OpResult, Output};
use tanist_engine::message::raft::Raft;
use tanist_engine::message::{Envelope, Message};
use tanist_engine::types::*;

/// Where something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Faults, starters and the watch over the whole run.
    Director,
    Node(usize),
    Client(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Client(usize),
    /// An operator or a starter, who does not look at the answer.
    Nobody,
}

/// Something that happens at an instant.
#[derive(Clone, Debug)]
pub enum Happening {
    Boot {
        node: usize,
    },
    Timer {
        node: usize,
        incarnation: u64,
        timer: u64,
    },
    Deliver {
        node: usize,
        bytes: Bytes,
    },
    Http {
        node: usize,
        from: usize,
        caller: Caller,
        attempt: u64,
        request: Request,
    },
    Synced {
        node: usize,
        incarnation: u64,
    },
    Read {
        node: usize,
        incarnation: u64,
        reading: u64,
    },
    /// The operator's signal to leave.
    Stop {
        node: usize,
        incarnation: u64,
    },
    Answer {
        client: usize,
        attempt: u64,
        ending: Ending,
    },
    Wake {
        client: usize,
    },
    Timeout {
        client: usize,
        attempt: u64,
    },
    Strike {
        fault: usize,
    },
    Heal {
        fault: usize,
    },
    Notice {
        node: usize,
        body: String,
    },
    HealAll,
    Watch,
}

pub struct Due {
    pub at: At,
    pub place: Place,
    pub what: Happening,
}

/// What a driver that keeps a task for each process must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Started(usize),
    Ended(usize),
    Paused(usize),
    Resumed(usize),
}

/// What a run came to, beside its violation.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub happenings: u64,
    pub messages: u64,
    pub operations: usize,
    pub acknowledged: usize,
    pub lost: usize,
    pub epochs: u64,
    pub simulated: Duration,
}

pub struct World {
    pub scenario: Scenario,
    pub trace: Trace,
    pub violation: Option<Violation>,
    pub figures: Figures,
    at: At,
    event: u64,
    machines: Vec<Machine>,
    agents: usize,
    net: Net,
    workload: Workload,
    disk_rng: Rng,
    clock_rng: Rng,
    node_rng: Rng,
    chance: Rng,
    due: Vec<Due>,
    effects: Vec<Effect>,
    over: bool,
    healed: Option<At>,
    struck: BTreeMap<usize, Vec<usize>>,
    agency: Agency,
    lease: Lease,
    replication: Replication,
    history: History,
    outputs: Vec<Output>,
    /// Steps of one node at one instant: an engine that asks for a timer in the past again and again is stuck.
    spin: (At, usize, u32),
}

const SPIN_MAX: u32 = 10_000;
const WATCH_EVERY: Duration = Duration::from_millis(100);

impl World {
    pub fn new(scenario: Scenario, trace: Trace) -> World {
        let s = &scenario;
        let (agents, servers) = (s.agents as usize, s.servers as usize);
        let mut clock_rng = Rng::new(s.seed_clock);
        let mut clock = || {
            let span = 2 * s.clock_ppm_max + 1;
            let rate = clock_rng.below(span) as i64 - s.clock_ppm_max as i64;
            let uptime = Duration::from_secs(10 + clock_rng.below(1_000_000));
            let wall = 1_800_000_000_000 + clock_rng.below(20_000) as i64 - uptime.as_millis() as i64;
            Clock::new(uptime, rate, wall)
        };
        let mut machines: Vec<Machine> =
            (0..agents).map(|i| Machine::new(format!("a{i}"), NodeKind::Agent, 8531, clock())).collect();
        machines.extend((0..servers).map(|i| Machine::new(format!("s{i}"), NodeKind::Server, 8529, clock())));
        let weather = Weather {
            loss_permille: s.net_loss_permille,
            duplicate_permille: s.net_duplicate_permille,
            delay_us: s.net_delay_us,
            straggler_permille: s.net_straggler_permille,
            straggler_ms: s.net_straggler_ms,
            ordered: s.net_ordered == 1,
        };
        let mut world = World {
            at: At(0),
            event: 0,
            agents,
            net: Net::new(s.seed_net, weather),
            workload: Workload::new(s),
            disk_rng: Rng::new(s.seed_disk),
            node_rng: Rng::new(s.seed_nodes),
            chance: Rng::new(s.seed_chance),
            clock_rng,
            machines,
            due: Vec::new(),
            effects: Vec::new(),
            over: false,
            healed: None,
            struck: BTreeMap::new(),
            agency: Agency::new(agents),
            lease: Lease::new(servers),
            replication: Replication::new(servers),
            history: History::default(),
            outputs: Vec::new(),
            spin: (At(0), 0, 0),
            violation: None,
            figures: Figures::default(),
            trace,
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.trace.heading();
        let s = self.scenario.clone();
        for agent in 0..self.agents {
            let at = At::from_ms(self.chance.below(1 + s.stagger_ms));
            self.later(at, Happening::Boot { node: agent });
        }
        for server in 0..s.servers {
            let mut ms = server * s.stagger_ms;
            if server > 0 && server == s.servers - 1 {
                ms = ms.max(s.late_server_ms);
            }
            self.later(At::from_ms(ms), Happening::Boot { node: self.agents + server as usize });
        }
        for client in 0..s.clients as usize {
            let at = At::from_ms(500 + self.chance.below(1000));
            self.later(at, Happening::Wake { client });
        }
        for (number, fault) in s.faults.iter().enumerate() {
            self.later(At::from_ms(fault.at_ms), Happening::Strike { fault: number });
        }
        self.later(At::from_ms(s.faults_ms.max(s.late_server_ms) + 1), Happening::HealAll);
    }

    // ---- what a driver needs ----------------------------------------------------------------------------------------

    pub fn take_due(&mut self) -> Vec<Due> {
        std::mem::take(&mut self.due)
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub fn over(&self) -> bool {
        self.over
    }

    pub fn runs(&self, node: usize) -> bool {
        self.machines[node].process.is_some()
    }

    /// The places that are no nodes.
    pub fn places_outside(&self) -> Vec<Place> {
        let clients = (0..self.scenario.clients as usize).map(Place::Client);
        std::iter::once(Place::Director).chain(clients).collect()
    }

    fn later(&mut self, at: At, what: Happening) {
        let at = at.max(self.at);
        let place = match &what {
            Happening::Timer { node, .. }
            | Happening::Deliver { node, .. }
            | Happening::Http { node, .. }
            | Happening::Synced { node, .. }
            | Happening::Read { node, .. }
            | Happening::Stop { node, .. } => Place::Node(*node),
            Happening::Answer { client, .. } | Happening::Wake { client } | Happening::Timeout { client, .. } => {
                Place::Client(*client)
            }
            _ => Place::Director,
        };
        self.due.push(Due { at, place, what });
    }

    fn after(&mut self, wait: Duration, what: Happening) {
        self.later(self.at.plus(wait), what);
    }

    // ---- helpers ----------------------------------------------------------------------------------------------------

    fn server_of(&self, node: usize) -> usize {
        node - self.agents
    }

    fn ctx(&self, node: usize) -> Ctx {
        let machine = &self.machines[node];
        Ctx {
            at: self.at,
            event: self.event,
            node: if node < self.agents { node } else { node - self.agents },
            incarnation: machine.incarnation,
            local: machine.clock.time(self.at),
        }
    }

    fn server_times(&self) -> Vec<Time> {
        self.machines[self.agents..].iter().map(|m| m.clock.time(self.at)).collect()
    }

    fn endpoints(&self, kind: NodeKind) -> Vec<Endpoint> {
        self.machines.iter().filter(|m| m.kind == kind).map(|m| m.endpoint.clone()).collect()
    }

    fn node_at(&self, endpoint: &Endpoint) -> Option<usize> {
        self.machines.iter().position(|m| m.endpoint == *endpoint)
    }

    /// From an endpoint's URL, or a URL that begins with it.
    fn destination(&self, url: &str) -> Option<Destination> {
        let authority = url.split_once("://")?.1.split('/').next()?;
        let node = self.machines.iter().position(|m| m.endpoint.authority() == authority)?;
        Some(if node < self.agents { Destination::Agent(node) } else { Destination::Server(node - self.agents) })
    }

    fn columns(&self, node: usize) -> Columns {
        let machine = &self.machines[node];
        let mut columns = Columns { at: self.at, role: "down", ..Columns::default() };
        let Some(process) = &machine.process else { return columns };
        columns.role = "agent";
        if node < self.agents {
            if self.agency.leader() == Some(node) {
                columns.role = "agent-first";
            }
            columns.tick = self.agency.applied(node);
        }
        if let Some(view) = process.node.view() {
            columns.role = match view.mode {
                Mode::Maintenance => "maintenance",
                Mode::TryAgain => "tryagain",
                Mode::Redirect => "follower",
                Mode::Default => "leader",
                Mode::Stopping => "stopping",
            };
            columns.epoch = view.epoch.0;
            columns.tick = self.replication.stores[self.server_of(node)].last().tick.0;
            let now = machine.clock.time(self.at);
            let left = view.lease_end.0 as i64 - now.0 as i64;
            columns.lease_left_ms = (view.lease_end != Time::ZERO).then_some(left / 1_000_000);
        }
        columns
    }

    fn say(&mut self, node: usize, what: impl fmt::Display) {
        if self.trace.on() {
            let columns = self.columns(node);
            let name = if self.machines[node].paused {
                format!("{}*", self.machines[node].name)
            } else {
                self.machines[node].name.clone()
            };
            self.trace.line(name, columns, what);
        }
    }

    fn tell(&mut self, who: impl fmt::Display, what: impl fmt::Display) {
        if self.trace.on() {
            self.trace.line(who, Columns { at: self.at, role: "-", ..Columns::default() }, what);
        }
    }

    fn hold(&mut self, verdict: Verdict) {
        let Err((invariant, what)) = verdict else { return };
        if self.violation.is_none() {
            let violation = Violation { invariant, what, at: self.at };
            self.tell("!", format_args!("VIOLATION {violation}"));
            self.violation = Some(violation);
            self.over = true;
        }
    }

    /// Something is wrong that no checker looks for.
    pub fn fail(&mut self, invariant: &'static str, what: String) {
        self.hold(Err((invariant, what)));
    }

    // ---- one happening ----------------------------------------------------------------------------------------------

    pub fn handle(&mut self, at: At, what: Happening) {
        assert!(at >= self.at, "time goes on");
        self.at = at;
        self.event += 1;
        self.figures.happenings += 1;
        self.figures.simulated = Duration::from_nanos(at.0);
        self.trace.hash.word(at.0);
        // A paused process lets everything wait for it.
        if let Happening::Timer { node, .. }
        | Happening::Deliver { node, .. }
        | Happening::Http { node, .. }
        | Happening::Synced { node, .. }
        | Happening::Read { node, .. }
        | Happening::Stop { node, .. } = &what
        {
            self.trace.hash.word(*node as u64);
            if self.machines[*node].paused {
                let node = *node;
                self.machines[node].held.push(what);
                return;
            }
        }
        match what {
            Happening::Boot { node } => self.boot(node),
            Happening::Timer { node, incarnation, timer } => {
                let Some(process) = self.process(node, incarnation) else { return };
                if process.timers == timer {
                    process.timer = None;
                    self.step(node, Input::Timer);
                }
            }
            Happening::Deliver { node, bytes } => self.deliver(node, &bytes),
            Happening::Http { node, from, caller, attempt, request } => self.http(node, from, caller, attempt, request),
            Happening::Synced { node, incarnation } => {
                if self.process(node, incarnation).is_some() {
                    self.synced(node);
                }
            }
            Happening::Read { node, incarnation, reading } => {
                if self.process(node, incarnation).is_some() {
                    self.read(node, reading);
                }
            }
            Happening::Stop { node, incarnation } => {
                if let Some(process) = self.process(node, incarnation) {
                    process.stopping = true;
                    self.say(node, "is asked to leave");
                    self.step(node, Input::Stop);
                }
            }
            Happening::Answer { client, attempt, ending } => self.client_ended(client, attempt, ending),
            Happening::Timeout { client, attempt } => {
                if self.workload.attempt_of(client) == Some(attempt) {
                    self.client_ended(client, attempt, Ending::Silence);
                }
            }
            Happening::Wake { client } => {
                let next = self.workload.wake(self.at, client);
                self.client_next(client, next);
            }
            Happening::Strike { fault } => self.strike(fault),
            Happening::Heal { fault } => self.heal(fault),
            Happening::Notice { node, body } => {
                self.tell(
                    format_args!("{}!", self.machines[node].name.clone()),
                    format_args!("its starter tells of its death"),
                );
                for agent in 0..self.agents {
                    let request = Request::new(Method::Post, "/_api/tanist/death-notice").with_body(body.clone());
                    self.send_http(node, agent, Caller::Nobody, 0, request);
                }
            }
            Happening::HealAll => self.heal_all(),
            Happening::Watch => self.watch(),
        }
    }

    fn process(&mut self, node: usize, incarnation: u64) -> Option<&mut Process> {
        let machine = &mut self.machines[node];
        if machine.incarnation == incarnation { machine.process.as_mut() } else { None }
    }

    fn boot(&mut self, node: usize) {
        if self.machines[node].process.is_some() {
            return;
        }
        let nonce = Nonce(self.node_rng.next_u128());
        let seed = self.node_rng.next_u64();
        let agents = self.endpoints(NodeKind::Agent);
        let endpoint = self.machines[node].endpoint.clone();
        let config = if node < self.agents {
            agent_config(&self.scenario, &endpoint, agents)
        } else {
            server_config(&self.scenario, &endpoint, agents, nonce)
        };
        let at = self.at;
        let machine = &mut self.machines[node];
        machine.nonce = nonce;
        machine.down_by = None;
        if let Err(error) = machine.boot(config, seed, at) {
            self.hold(Err(("contract", format!("{} can't be opened: {error}", self.machines[node].name))));
            return;
        }
        self.effects.push(Effect::Started(node));
        self.say(node, "starts");
        self.settle(node);
    }

    /// The process is gone; `kept` says how much of the batch under way still reaches the disk.
    fn end(&mut self, node: usize) {
        let Some(mut process) = self.machines[node].process.take() else { return };
        let batch = process.take_batch();
        if !batch.is_empty() && self.disk_rng.chance(1, 2) {
            let keep = self.disk_rng.below(batch.len() as u64 + 1) as usize;
            let kept: Vec<_> = batch.into_iter().take(keep).collect();
            if !kept.is_empty() {
                self.perform(node, kept);
            }
        }
        let machine = &mut self.machines[node];
        machine.held.clear();
        machine.paused = false;
        machine.paused_by = None;
        if node >= self.agents {
            self.lease.gone(node - self.agents);
        }
        self.effects.push(Effect::Ended(node));
        // Whoever waits for an answer sees the connection break.
        let waiting: Vec<Pending> = process.pending.into_values().collect();
        for pending in waiting {
            self.answer(node, &pending, Ending::Silence);
        }
    }

    /// Hands one input to a node, then carries out all its outputs.
    fn step(&mut self, node: usize, input: Input) {
        let (at, last, count) = self.spin;
        self.spin = if (at, last) == (self.at, node) { (at, last, count + 1) } else { (self.at, node, 0) };
        if self.spin.2 > SPIN_MAX {
            let why = self.machines[node].process.as_ref().and_then(|p| p.node.deadline()).map(|w| w.why);
            self.hold(Err(("contract", format!("{} spins: {why:?}", self.machines[node].name))));
            return;
        }
        let now = self.machines[node].clock.now(self.at);
        let mut outputs = std::mem::take(&mut self.outputs);
        let Some(process) = &mut self.machines[node].process else { return };
        process.node.step(now, input, &mut outputs);
        self.publish(node);
        for output in outputs.drain(..) {
            self.output(node, output);
        }
        self.outputs = outputs;
        self.settle(node);
    }

    /// Shows a changed view to whoever serves connections, and to the checkers.
    fn publish(&mut self, node: usize) {
        let Some(process) = &mut self.machines[node].process else { return };
        let Some(view) = process.node.view().cloned() else { return };
        if process.view.as_ref().is_some_and(|old| Arc::ptr_eq(old, &view)) {
            return;
        }
        process.view = Some(view.clone());
        let (ctx, times) = (self.ctx(node), self.server_times());
        let verdict = self.lease.viewed(&ctx, &view, &times);
        self.hold(verdict);
    }

    /// After a step: the timer, and the disk's next batch.
    fn settle(&mut self, node: usize) {
        self.publish(node);
        let Some(process) = &mut self.machines[node].process else { return };
        let wake = process.node.deadline().map(|wake| wake.at);
        let armed = process.timer;
        if let Some(time) = wake
            && armed != Some(time)
        {
            process.timer = Some(time);
            process.timers += 1;
            let (timer, incarnation) = (process.timers, self.machines[node].incarnation);
            let lateness = Duration::from_micros(1 + self.clock_rng.below(300));
            let at = self.machines[node].clock.when(time).max(self.at).plus(lateness);
            self.later(at, Happening::Timer { node, incarnation, timer });
        }
        self.begin_batch(node);
    }

    fn begin_batch(&mut self, node: usize) {
        let usual = Duration::from_micros(self.scenario.disk_sync_us);
        let machine = &mut self.machines[node];
        let (incarnation, extra) = (machine.incarnation, machine.disk_extra);
        if machine.process.as_mut().is_some_and(|p| p.begin_batch()) {
            let sync = usual / 2 + Duration::from_nanos(self.disk_rng.below(usual.as_nanos() as u64 + 1));
            self.after(sync + extra, Happening::Synced { node, incarnation });
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, envelope } => self.send(node, &to, envelope),
            Output::Reply { id, response } => {
                let Some(process) = &mut self.machines[node].process else { return };
                let Some(pending) = process.pending.remove(&id) else {
                    self.hold(Err(("contract", format!("{} replies to {id:?} twice", self.machines[node].name))));
                    return;
                };
                self.reply(node, pending, response);
            }
            Output::Start { op, what } => {
                let incarnation = self.machines[node].incarnation;
                let Some(process) = &mut self.machines[node].process else { return };
                if what.writes() {
                    process.enqueue(op, what);
                } else {
                    let reading = process.reading(Reading::Op(op, what));
                    let wait = self.disk_read(node);
                    self.after(wait, Happening::Read { node, incarnation, reading });
                }
            }
            Output::Note(event) => self.note(node, &event),
            Output::Stopped => {
                self.say(node, "has left");
                self.end(node);
            }
        }
    }

    fn disk_read(&mut self, node: usize) -> Duration {
        let usual = self.scenario.disk_read_us;
        Duration::from_micros(usual / 2 + self.disk_rng.below(usual)) + self.machines[node].disk_extra
    }

    fn note(&mut self, node: usize, event: &Event) {
        self.say(node, event);
        let ctx = self.ctx(node);
        if node < self.agents {
            let verdict = self.agency.noted(&ctx, event);
            self.hold(verdict);
            if let Event::Elected { epoch, server, .. } = event {
                self.elected(*epoch, *server);
            }
            if let Event::Elected { epoch, .. } | Event::Deposed { epoch, .. } = event {
                self.figures.epochs = self.figures.epochs.max(epoch.0);
            }
        }
        let verdict = self.lease.noted(&ctx, event);
        self.hold(verdict);
        if let (Event::RegisteredAs { boot }, Some(process)) = (event, &mut self.machines[node].process) {
            process.boot = Some(*boot);
        }
    }

    /// The choice is judged by what the agent that decided had heard when it decided.
    fn elected(&mut self, epoch: Epoch, server: NodeId) {
        let Some(chosen) = self.machines[self.agents..].iter().position(|m| m.id == Some(server)) else {
            self.hold(Err(("I12", format!("{server} was elected, which is no server"))));
            return;
        };
        // An agent that starts again goes through old elections once more.
        if self.lease.leader_of(epoch).is_some() {
            return;
        }
        let Some(by) = self.agency.decided() else { return };
        let servers = self.machines[self.agents..].iter();
        let boots: Vec<Option<Boot>> =
            servers.map(|m| m.process.as_ref().filter(|p| !p.stopping).and_then(|p| p.boot)).collect();
        let verdict = self.replication.elected(epoch, chosen, by, &boots);
        self.hold(verdict);
    }

    // ---- messages ---------------------------------------------------------------------------------------------------

    fn send(&mut self, node: usize, to: &Endpoint, envelope: Envelope) {
        self.figures.messages += 1;
        let ctx = self.ctx(node);
        if node >= self.agents {
            let verdict = self.lease.sent(&ctx, &envelope);
            self.hold(verdict);
            // A report that comes after its round was decided decides nothing.
            let late = matches!(&envelope.message, Message::Report(r) if self.lease.leader_of(r.epoch).is_some());
            if !late {
                let verdict = self.replication.sent(&ctx, &envelope);
                self.hold(verdict);
            }
        }
        if node < self.agents {
            let verdict = self.agency.sent(&ctx, &envelope);
            self.hold(verdict);
        }
        let bytes = Bytes::from(envelope.encode());
        self.trace.hash.bytes(&bytes);
        let Some(target) = self.node_at(to) else {
            self.hold(Err(("contract", format!("{} sends to {to}, which is nobody", self.machines[node].name))));
            return;
        };
        let copies = self.net.carry(self.at, node, target, net::Kind::Peer);
        if self.trace.on() {
            let fate = match copies {
                [None, _] => " (lost)",
                [Some(_), None] => "",
                [Some(_), Some(_)] => " (twice)",
            };
            let text = summary(&envelope.message);
            let name = self.machines[target].name.clone();
            self.say(node, format_args!("-> {name} {text}{fate}"));
        }
        for at in copies.into_iter().flatten() {
            self.later(at, Happening::Deliver { node: target, bytes: bytes.clone() });
        }
    }

    fn deliver(&mut self, node: usize, bytes: &Bytes) {
        if !self.runs(node) {
            return;
        }
        let envelope = match Envelope::decode(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.hold(Err(("contract", format!("a message does not survive its encoding: {error}"))));
                return;
            }
        };
        let (ctx, from) = (self.ctx(node), envelope.from.id);
        if node >= self.agents {
            // The engine drops what was sent to another; a grant in it is no grant.
            if envelope.to.is_none_or(|to| Some(to) == self.machines[node].id) {
                let times = self.server_times();
                let verdict = self.lease.received(&ctx, &envelope, &times);
                self.hold(verdict);
            }
        } else if let Message::Report(report) = &envelope.message
            && let Some(server) = self.machines[self.agents..].iter().position(|m| m.id == Some(from))
        {
            self.replication.reported(&ctx, server, report);
        }
        if self.trace.on() {
            let text = summary(&envelope.message);
            let name = self.machines.iter().find(|m| m.id == Some(from)).map_or("?".into(), |m| m.name.clone());
            self.say(node, format_args!("<- {name} {text}"));
        }
        self.step(node, Input::Message(envelope));
    }

    // ---- HTTP -------------------------------------------------------------------------------------------------------

    fn send_http(&mut self, from: usize, to: usize, caller: Caller, attempt: u64, request: Request) {
        if let [Some(at), _] = self.net.carry(self.at, from, to, net::Kind::Http) {
            self.later(at, Happening::Http { node: to, from, caller, attempt, request });
        }
    }

    fn http(&mut self, node: usize, from: usize, caller: Caller, attempt: u64, request: Request) {
        let pending = Pending { caller, attempt, op: model::op_of(&request), arrived: self.at };
        self.trace.hash.word(attempt);
        if self.trace.on() {
            let who = match caller {
                Caller::Client(client) => format!("c{client}"),
                Caller::Nobody => "operator".into(),
            };
            let op = pending.op.map_or(String::new(), |op| format!(" #{op}"));
            self.say(node, format_args!("<= {who}{op} {} {}", request.method, request.target));
        }
        let now = self.machines[node].clock.now(self.at);
        let incarnation = self.machines[node].incarnation;
        let Some(process) = &mut self.machines[node].process else {
            let _ = from;
            self.answer(node, &pending, Ending::Refused);
            return;
        };
        // As the server's connection tasks do: what only reads runs beside the engine's loop.
        if let Some(view) = process.view.clone() {
            match gate::admit(&view, request.clone(), now, self.node_rng.next_u64()) {
                Admission::Refuse(response) => return self.reply(node, pending, response),
                Admission::Run(run) if !run.writes => {
                    let run = Box::new(run);
                    let reading = process.reading(Reading::Fast { run, request, pending });
                    let wait = self.disk_read(node);
                    return self.after(wait, Happening::Read { node, incarnation, reading });
                }
                Admission::Run(_) => {}
            }
        }
        let id = process.request(pending);
        self.step(node, Input::Request { id, request });
    }

    /// A server or an agent answers.
    fn reply(&mut self, node: usize, pending: Pending, response: Response) {
        self.trace.hash.bytes(&response.body);
        if self.trace.on() {
            let op = pending.op.map_or(String::new(), |op| format!("#{op} "));
            let body = String::from_utf8_lossy(&response.body[..response.body.len().min(160)]).into_owned();
            let leader = response.header(header::ENDPOINT).map_or(String::new(), |e| format!(" see {e}"));
            self.say(node, format_args!("=> {op}{}{leader} {body}", response.status));
        }
        if node >= self.agents
            && let Some(op) = pending.op
        {
            self.judge(node, op, &pending, &response);
        }
        // Starters and operators say nothing malformed; to be refused is to be misunderstood.
        if pending.caller == Caller::Nobody && (400..500).contains(&response.status) {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            self.hold(Err(("contract", format!("{} refuses an operator: {text}", self.machines[node].name))));
        }
        self.answer(node, &pending, Ending::Answer(response));
    }

    fn judge(&mut self, node: usize, op: u64, pending: &Pending, response: &Response) {
        let server = self.server_of(node);
        let ctx = self.ctx(node);
        let Some(view) = self.machines[node].process.as_ref().and_then(|p| p.node.view().cloned()) else { return };
        let named = response.header(header::ENDPOINT).and_then(|url| match self.destination(url)? {
            Destination::Server(server) => self.machines[self.agents + server].id,
            Destination::Agent(_) => None,
        });
        let answer = Answer {
            op,
            record: &self.workload.history[&op],
            response,
            arrived: pending.arrived,
            holds: self.lease.holds(server, ctx.local),
            epoch: view.epoch,
            leader: self.lease.leader_of(view.epoch),
            me: view.me.id,
            named,
            waited_for: matches!(pending.caller, Caller::Client(c) if self.workload.attempt_of(c) == Some(pending.attempt)),
        };
        let verdict = self.history.answered(&ctx, &answer, &self.replication.stores[server]);
        self.hold(verdict);
    }

    /// What the caller gets to see, if it still can.
    fn answer(&mut self, node: usize, pending: &Pending, ending: Ending) {
        let Caller::Client(client) = pending.caller else { return };
        let place = self.machines.len() + client;
        if let [Some(at), _] = self.net.carry(self.at, node, place, net::Kind::Http) {
            self.later(at, Happening::Answer { client, attempt: pending.attempt, ending });
        }
    }

    fn client_ended(&mut self, client: usize, attempt: u64, ending: Ending) {
        if self.workload.attempt_of(client) != Some(attempt) {
            return;
        }
        let op = self.workload.op_of(client);
        let urls: Vec<(String, Destination)> = match &ending {
            Ending::Answer(response) => [header::ENDPOINT, header::LOCATION]
                .iter()
                .filter_map(|name| response.header(name))
                .filter_map(|url| Some((url.to_owned(), self.destination(url)?)))
                .collect(),
            _ => Vec::new(),
        };
        let index_of = |url: &str| urls.iter().find(|(known, _)| known == url).map(|(_, place)| *place);
        let next = self.workload.ended(self.at, client, attempt, &ending, index_of);
        if self.trace.on()
            && let Some(op) = op
        {
            let record = &self.workload.history[&op];
            let text = match &ending {
                Ending::Answer(response) => response.status.to_string(),
                Ending::Refused => "connection refused".into(),
                Ending::Silence => "no answer".into(),
            };
            let text = format!("#{op} {}: {text}, {:?}", record.action, record.outcome);
            self.tell(format_args!("c{client}"), text);
        }
        self.client_next(client, next);
    }

    fn client_next(&mut self, client: usize, next: Next) {
        match next {
            Next::Send { to, attempt, request } => {
                let node = match to {
                    Destination::Agent(agent) => agent,
                    Destination::Server(server) => self.agents + server,
                };
                let place = self.machines.len() + client;
                if self.trace.on() {
                    let op = self.workload.op_of(client).unwrap_or(0);
                    let action = self.workload.history[&op].action.clone();
                    let name = self.machines[node].name.clone();
                    self.tell(format_args!("c{client}"), format_args!("#{op} {action} at {name}"));
                }
                self.send_http(place, node, Caller::Client(client), attempt, request);
                self.after(ANSWER_TIMEOUT, Happening::Timeout { client, attempt });
            }
            Next::Wait(wait) => self.after(wait, Happening::Wake { client }),
            Next::Rest => {}
        }
    }

    // ---- the disk ---------------------------------------------------------------------------------------------------

    fn synced(&mut self, node: usize) {
        let Some(process) = &mut self.machines[node].process else { return };
        let batch = process.take_batch();
        let results = self.perform(node, batch);
        let incarnation = self.machines[node].incarnation;
        for (op, result) in results {
            // A step may end the process.
            if self.process(node, incarnation).is_some() {
                self.step(node, Input::Done { op, result });
            }
        }
        self.begin_batch(node);
    }

    /// Performs ops, shows them to the checkers.
    fn perform(
        &mut self,
        node: usize,
        batch: Vec<(tanist_engine::io::OpId, Op)>,
    ) -> Vec<(tanist_engine::io::OpId, OpResult)> {
        let results = self.machines[node].perform(batch);
        let ctx = self.ctx(node);
        let mut done = Vec::with_capacity(results.len());
        for (id, op, result) in results {
            if self.trace.on() {
                self.say(node, format_args!("disk {}", cut(&format!("{:?}", Brief(&op, &result)))));
            }
            if node < self.agents {
                if let (Op::Persist(persist), OpResult::Persisted) = (&op, &result) {
                    let verdict = self.agency.persisted(&ctx, persist);
                    self.hold(verdict);
                }
            } else {
                let mut effect = None;
                if let (Op::Run(run), OpResult::Ran(ran)) = (&op, &result)
                    && let Some(number) = model::op_of(&run.request)
                {
                    let action: Action = self.workload.history[&number].action.clone();
                    let before = &self.replication.stores[node - self.agents].shadow.docs;
                    match self.history.ran(&ctx, run, ran, &action, before) {
                        Ok(what) => effect = what,
                        Err(broken) => self.hold(Err(broken)),
                    }
                }
                let verdict = self.replication.performed(&ctx, &op, &result, effect);
                self.hold(verdict);
            }
            done.push((id, result));
        }
        done
    }

    fn read(&mut self, node: usize, number: u64) {
        let incarnation = self.machines[node].incarnation;
        let Some(reading) = self.machines[node].process.as_mut().and_then(|p| p.readings.remove(&number)) else {
            return;
        };
        let again = |world: &mut World, reading: Reading| {
            let s = &world.scenario;
            let pause =
                s.read_pause_ms > 0 && world.disk_rng.below(1000) < s.read_pause_permille && world.healed.is_none();
            let wait = if pause { world.disk_rng.below(world.scenario.read_pause_ms) * 1000 } else { 20 };
            if let Some(process) = &mut world.machines[node].process {
                let reading = process.reading(reading);
                world.after(Duration::from_micros(wait), Happening::Read { node, incarnation, reading });
            }
        };
        match reading {
            Reading::Op(id, op) => {
                let result = self.machines[node].read(op.clone());
                if node >= self.agents {
                    let ctx = self.ctx(node);
                    let verdict = self.replication.performed(&ctx, &op, &result, None);
                    self.hold(verdict);
                }
                again(self, Reading::Read(id, result));
            }
            Reading::Read(op, result) => self.step(node, Input::Done { op, result }),
            Reading::Fast { run, request, pending } => {
                let ticket = run.ticket();
                match self.machines[node].read(Op::Run(*run)) {
                    OpResult::Ran(ran) if ran.then.is_none() => {
                        again(self, Reading::Answer { ticket, response: ran.response, pending });
                    }
                    // It needs the agency: through the engine.
                    OpResult::Ran(_) => {
                        let Some(process) = &mut self.machines[node].process else { return };
                        let id = process.request(pending);
                        self.step(node, Input::Request { id, request });
                    }
                    other => {
                        let response = Response::error(500, 4, &format!("{other:?}"));
                        again(self, Reading::Answer { ticket, response, pending });
                    }
                }
            }
            Reading::Answer { ticket, response, pending } => {
                let now = self.machines[node].clock.now(self.at);
                let Some(view) = self.machines[node].process.as_ref().and_then(|p| p.view.clone()) else { return };
                let response = gate::confirm(ticket, response, &view, now);
                self.reply(node, pending, response);
            }
        }
    }

    // ---- faults -----------------------------------------------------------------------------------------------------

    fn leading_server(&self) -> usize {
        let serving = self.lease.serving(&self.server_times()).map(|(server, _)| server);
        self.agents + serving.unwrap_or(0)
    }

    fn resolve(&mut self, target: Target) -> Vec<usize> {
        let servers = self.agents..self.machines.len();
        let agency = self.agency.leader().unwrap_or(0);
        match target {
            Target::Leader => vec![self.leading_server()],
            Target::Follower => {
                let leader = self.leading_server();
                let others: Vec<usize> = servers.filter(|node| *node != leader).collect();
                if others.is_empty() {
                    return vec![leader];
                }
                vec![others[self.chance.below(others.len() as u64) as usize]]
            }
            Target::AgencyLeader => vec![agency],
            Target::Leaders => vec![self.leading_server(), agency],
            Target::Agents => (0..self.agents).collect(),
            Target::Servers => servers.collect(),
            Target::All => (0..self.machines.len()).collect(),
            Target::Agent(agent) => vec![agent],
            Target::Server(server) => vec![self.agents + server],
        }
    }

    fn strike(&mut self, number: usize) {
        let fault: Fault = self.scenario.faults[number].clone();
        let nodes = self.resolve(fault.target);
        let names: Vec<String> = nodes.iter().map(|n| self.machines[*n].name.clone()).collect();
        self.tell("fault", format_args!("{fault} strikes {}", names.join(" ")));
        let lasts = Duration::from_millis(fault.for_ms);
        let all: Places = (1 << (self.machines.len() + self.scenario.clients as usize)) - 1;
        let mask = nodes.iter().fold(0, |mask, node| mask | net::only(*node));
        let mut struck = Vec::new();
        match fault.kind {
            Kind::Kill { notice_ms, notices } => {
                for node in nodes {
                    let machine = &mut self.machines[node];
                    if machine.process.is_none() {
                        continue;
                    }
                    machine.down_by = Some(number);
                    struck.push(node);
                    if let (Some(id), NodeKind::Server) = (machine.id, machine.kind) {
                        let body = format!(r#"{{"server":"{id}","nonce":"{:032x}"}}"#, machine.nonce.0);
                        for notice in 0..notices {
                            let wait = Duration::from_millis(notice_ms + notice * (notice_ms + 700));
                            self.after(wait, Happening::Notice { node, body: body.clone() });
                        }
                    }
                    self.end(node);
                    self.say(node, "killed");
                }
            }
            Kind::Stop => {
                for node in nodes {
                    if self.runs(node) && self.machines[node].down_by.is_none() {
                        self.machines[node].down_by = Some(number);
                        struck.push(node);
                        let incarnation = self.machines[node].incarnation;
                        self.later(self.at, Happening::Stop { node, incarnation });
                    }
                }
            }
            Kind::Pause => {
                for node in nodes {
                    let machine = &mut self.machines[node];
                    if machine.process.is_some() && !machine.paused {
                        machine.paused = true;
                        machine.paused_by = Some(number);
                        self.effects.push(Effect::Paused(node));
                        struck.push(node);
                    }
                }
            }
            Kind::Cut { way, whom } => {
                let agents: Places = (1 << self.agents) - 1;
                let peers: Places = (1 << self.machines.len()) - 1;
                let others = !mask
                    & match whom {
                        Whom::Everyone => all,
                        Whom::Peers => peers,
                        Whom::Agents => agents,
                        Whom::Servers => peers & !agents,
                    };
                let until = self.at.plus(lasts);
                if way != Way::In {
                    self.net.add_cut(number, mask, others, until);
                }
                if way != Way::Out {
                    self.net.add_cut(number, others, mask, until);
                }
            }
            Kind::Storm { loss_permille, duplicate_permille, delay_us } => {
                let (straggler_permille, straggler_ms) = (20, 500);
                let ordered = self.scenario.net_ordered == 1;
                let weather =
                    Weather { loss_permille, duplicate_permille, delay_us, straggler_permille, straggler_ms, ordered };
                self.net.add_storm(number, mask, weather);
            }
            Kind::Slow { disk_ms } => {
                for node in nodes {
                    self.machines[node].disk_extra = Duration::from_millis(disk_ms);
                    struck.push(node);
                }
            }
            Kind::Drift { ppm } => {
                for node in nodes {
                    self.machines[node].clock.set_rate(self.at, ppm);
                    self.clock_changed(node);
                }
            }
            Kind::Jump { ms } => {
                for node in nodes {
                    self.machines[node].clock.jump(self.at, Duration::from_millis(ms));
                    self.clock_changed(node);
                }
            }
            Kind::Wall { ms } => {
                for node in nodes {
                    self.machines[node].clock.step_wall(ms);
                }
            }
            Kind::Handover => {
                let to = self.machines[nodes[0]].id;
                if let (Some(to), Some(agent)) = (to, self.agency.leader()) {
                    let body = format!(r#"[[{{"/arango/Plan/AsyncReplication/Leader":{{"op":"set","new":"{to}"}}}}]]"#);
                    let request = Request::new(Method::Post, "/_api/agency/write").with_body(body);
                    self.send_http(nodes[0], agent, Caller::Nobody, 0, request);
                }
            }
        }
        self.struck.insert(number, struck);
        self.after(lasts, Happening::Heal { fault: number });
    }

    /// A timer that was set by the old clock is due at another time by the new one.
    fn clock_changed(&mut self, node: usize) {
        if let Some(process) = &mut self.machines[node].process {
            process.timer = None;
            self.settle(node);
        }
    }

    fn heal(&mut self, number: usize) {
        let Some(struck) = self.struck.remove(&number) else { return };
        self.net.heal(number);
        for node in struck {
            let machine = &mut self.machines[node];
            match self.scenario.faults[number].kind {
                Kind::Kill { .. } if machine.down_by == Some(number) => self.boot(node),
                Kind::Stop if machine.down_by == Some(number) => {
                    self.end(node);
                    self.boot(node);
                }
                Kind::Pause if machine.paused_by == Some(number) => self.resume(node),
                Kind::Slow { .. } => machine.disk_extra = Duration::ZERO,
                _ => {}
            }
        }
    }

    fn resume(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.paused {
            return;
        }
        machine.paused = false;
        machine.paused_by = None;
        let held = std::mem::take(&mut machine.held);
        self.effects.push(Effect::Resumed(node));
        self.say(node, "goes on");
        for what in held {
            self.later(self.at, what);
        }
    }

    fn heal_all(&mut self) {
        self.tell("fault", "everything is healed");
        let open: Vec<usize> = self.struck.keys().copied().collect();
        open.into_iter().for_each(|number| self.heal(number));
        self.net.heal_all();
        for node in 0..self.machines.len() {
            self.resume(node);
            self.machines[node].disk_extra = Duration::ZERO;
            self.boot(node);
        }
        self.healed = Some(self.at);
        self.workload.healed = Some(self.at);
        self.after(WATCH_EVERY, Happening::Watch);
    }

    // ---- the end ----------------------------------------------------------------------------------------------------

    fn watch(&mut self) {
        let Some(healed) = self.healed else { return };
        let stores = &self.replication.stores;
        let progress = Progress {
            leader: self.lease.serving(&self.server_times()).map(|(server, _)| server),
            servers: (0..stores.len()).map(|i| (self.runs(self.agents + i), stores[i].last().to_string())).collect(),
            served: self.workload.served_since_heal() && self.at > healed.plus(Duration::from_secs(1)),
            idle: true,
        };
        match liveness::pending(&progress) {
            // While clients write, followers are always a little behind: stop them once everybody has been served.
            _ if !self.workload.closing && progress.leader.is_some() && progress.served => {
                self.workload.closing = true;
            }
            None if self.workload.closing => {
                match liveness::pending(&Progress { idle: self.workload.idle(), ..progress }) {
                    None => return self.finish(),
                    Some((invariant, what)) => self.too_late(healed, invariant, what),
                }
            }
            Some((invariant, what)) => self.too_late(healed, invariant, what),
            None => self.too_late(healed, "I17", "a client has had no answer since the healing".into()),
        }
        self.after(WATCH_EVERY, Happening::Watch);
    }

    fn too_late(&mut self, healed: At, invariant: &'static str, what: String) {
        let s = &self.scenario;
        let ms = Duration::from_millis;
        let bound = liveness::bound(ms(s.lease_ms), ms(s.election_max_ms), ms(s.ok_threshold_ms), ms(s.supervision_ms));
        if self.at > healed.plus(bound) {
            self.hold(Err((invariant, format!("{what}, {bound:?} after everything was healed"))));
        }
    }

    /// Everything has converged: compare what must be the same now.
    fn finish(&mut self) {
        let verdict = self.replication.converged();
        self.hold(verdict);
        let verdict = self.history.nothing_vanished(&self.replication);
        self.hold(verdict);
        let verdict = history::counters(&self.workload.history);
        self.hold(verdict);
        let verdict = self.same_stores();
        self.hold(verdict);
        self.figures.operations = self.workload.history.len();
        self.figures.acknowledged = self.history.acknowledged.len();
        self.figures.lost = self.history.lost(&self.replication);
        self.tell("end", "everything has converged");
        self.over = true;
    }

    /// I9 and I10 on the stores themselves: what a reader finds in them, whatever the engine says.
    fn same_stores(&self) -> Verdict {
        let mut first: Option<Dump> = None;
        for (server, machine) in self.machines[self.agents..].iter().enumerate() {
            let broken = |error| ("I9", format!("s{server} can't be read: {error}"));
            let snapshot = machine.store.snapshot().map_err(broken)?;
            let reader = Reader::new(&*snapshot).map_err(broken)?;
            let dump = dump(&reader).map_err(broken)?;
            let rolled: Vec<Position> =
                reader.rolled_back(usize::MAX).map_err(broken)?.iter().map(|(_, e)| e.position()).collect();
            let shadow = &self.replication.stores[server];
            if let Some(missing) = shadow.undone.iter().find(|p| !rolled.contains(p)) {
                return Err(("I10", format!("s{server} undid {missing}, but its rollback record does not have it")));
            }
            for (slot, doc) in &shadow.shadow.docs.documents {
                let place = (format!("c{}", slot.collection), format!("k{}", slot.key));
                if dump.documents.get(&place).is_none_or(|(rev, _)| *rev != doc.rev) {
                    return Err(("I9", format!("s{server} does not hold {slot} as it was written: {doc:?}")));
                }
            }
            let held = dump.documents.keys().filter(|(c, _)| ["c0", "c1", "c2"].contains(&c.as_str())).count();
            if held != shadow.shadow.docs.documents.len() {
                return Err((
                    "I9",
                    format!(
                        "s{server} holds {held} documents of the workload, which wrote {}",
                        shadow.shadow.docs.documents.len()
                    ),
                ));
            }
            match &first {
                Some(first) => first.compare(&dump).map_err(|what| ("I9", format!("s0 and s{server}: {what}")))?,
                None => first = Some(dump),
            }
        }
        Ok(())
    }
}

/// What two converged stores must have in common.
#[derive(Default)]
pub struct Dump {
    pub last: Position,
    pub history: Vec<EpochRow>,
    pub databases: Vec<String>,
    pub collections: Vec<String>,
    /// By collection and key: `_rev` and body.
    pub documents: BTreeMap<(String, String), (String, Vec<u8>)>,
}

impl Dump {
    pub fn compare(&self, other: &Dump) -> Result<(), String> {
        let differ = |what: &str| Err(format!("{what} differ"));
        if self.last != other.last {
            return differ("the ends of the logs");
        }
        if self.history != other.history {
            return Err(format!("the epoch histories differ: {:?} and {:?}", self.history, other.history));
        }
        if self.databases != other.databases {
            return differ("the databases");
        }
        if self.collections != other.collections {
            return Err(format!("the collections differ: {:?} and {:?}", self.collections, other.collections));
        }
        let keys = self.documents.keys().chain(other.documents.keys());
        for key in keys {
            if self.documents.get(key) != other.documents.get(key) {
                return Err(format!("the documents at {}/{} differ", key.0, key.1));
            }
        }
        Ok(())
    }
}

fn dump(reader: &Reader) -> Result<Dump, tanist_engine::db::store::StoreError> {
    let mut dump = Dump { last: reader.last()?, history: reader.history()?, ..Dump::default() };
    for database in reader.databases()? {
        dump.databases.push(format!("{database:?}"));
        for collection in reader.collections(database.id)? {
            dump.collections.push(format!("{collection:?} holds {}", reader.count(&collection)?));
            for document in reader.documents(&collection, None, usize::MAX)? {
                let place = (collection.name.clone(), document.key.clone());
                dump.documents.insert(place, (document.revision.encode(), document.body.to_vec()));
            }
        }
    }
    Ok(dump)
}

const WIDTH: usize = 170;

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(WIDTH).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A message in a line.
fn summary(message: &Message) -> String {
    match message {
        Message::Append(a) => {
            let end = a.entries.last().map_or(a.prev, |e| e.position());
            format!("Append epoch {} after {} to {end}, leader at {}", a.epoch.0, a.prev, a.leader_last)
        }
        Message::Acknowledge(a) => format!("Acknowledge epoch {} durable {}", a.epoch.0, a.durable),
        Message::Beat(b) => {
            let renew = b.renew.map_or(String::new(), |e| format!(" renew {}", e.0));
            format!("Beat {} boot {} at {} seen {}{renew}", b.seq, b.boot.0, b.last, b.seen.0)
        }
        Message::BeatReply(b) => {
            let leader = b.lead.leader.as_ref().map_or("nobody".into(), |l| l.peer.endpoint.authority().to_owned());
            let grant = if b.grant.is_some() { " with a grant" } else { "" };
            format!("BeatReply {}: epoch {} of {leader}{grant}", b.seq, b.lead.epoch.0)
        }
        Message::Raft(Raft::Consensus(c)) => cut(&format!("term {} {:?}", c.term.0, c.body)),
        Message::Report(r) => format!("Report term {} epoch {} boot {} at {}", r.term.0, r.epoch.0, r.boot.0, r.last),
        Message::Freeze(f) => format!("Freeze term {} epoch {}", f.term.0, f.epoch.0),
        Message::Lead(l) => {
            let leader = l.leader.as_ref().map_or("nobody".into(), |l| l.peer.endpoint.authority().to_owned());
            format!("Lead {}: epoch {} of {leader}", l.index, l.epoch.0)
        }
        Message::Follow(f) => format!("Follow epoch {} boot {} from {}", f.epoch.0, f.boot.0, f.last),
        other => cut(&format!("{other:?}")),
    }
}

/// An operation and its result, short.
struct Brief<'a>(&'a Op, &'a OpResult);

impl fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Op::Run(run), OpResult::Ran(ran)) => {
                let entry = ran.entry.as_ref().map_or("nothing written".into(), |e| e.position().to_string());
                write!(f, "Run {} {}: {} {entry}", run.request.method, run.request.target, ran.response.status)
            }
            (Op::Persist(p), OpResult::Persisted) => {
                let first = p.entries.first().map_or(0, |(i, _)| *i);
                let meta: Vec<&str> = p.meta.iter().map(|(name, _)| *name).collect();
                write!(
                    f,
                    "Persist {} entries from {first}, truncate {:?}, meta {meta:?}",
                    p.entries.len(),
                    p.truncate_from
                )
            }
            (Op::Append { epoch, prev, entries, .. }, result) => {
                write!(f, "Append epoch {} {} entries after {prev}: {result:?}", epoch.0, entries.len())
            }
            (op, result) => write!(f, "{op:?}: {result:?}"),
        }
    }
}
