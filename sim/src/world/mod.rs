//! The world: machines, network, disks, clocks, faults, clients and checkers. It handles one happening at a time and
//! says what will happen next, and when; who keeps the time is a driver's business.

mod aim;
mod core;
mod damage;
mod disk;
mod ending;
mod etcd;
mod http;
mod messages;
mod strikes;
pub(crate) mod words;

use self::core::Core;
use crate::action;
use crate::check::agency::Agency;
use crate::check::grant::Grants;
use crate::check::history::{Answer, History};
use crate::check::lease::Lease;
use crate::check::liveness::{self, Progress};
use crate::check::registers;
use crate::check::replication::Replication;
use crate::check::room::Room;
use crate::check::stores;
use crate::check::streams::Streams;
use crate::check::synchrony::Synchrony;
use crate::check::witness::Witness;
use crate::check::{Ctx, Verdict, Violation};
use crate::clock::{At, Clock, WALL_MS};
use crate::faults::{Fault, Kind, Target, Way, Whom};
use crate::net::{self, Links, Net, Places, Weather};
use crate::node::{DEATH_NOTICE, Machine, Pending, Process, Reading, agent_config, server_config};
use crate::scenario::Scenario;
use crate::timeline::Timeline;
use crate::trace::{Columns, Trace};
use crate::workload::{ANSWER_TIMEOUT, Destination, Ending, Next, Workload};
use bytes::Bytes;
use damage::Backup;
use etcd::Question;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use strikes::Struck;
use tanist_engine::gate::{self, Admission};
use tanist_engine::http::{Method, Request, Response, header};
use tanist_engine::io::{AskId, Event, Input, Mode, Op, OpResult, Output};
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
    /// A slow node has done what it was at.
    Free {
        node: usize,
        incarnation: u64,
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
    /// The next round of a fault that goes on in rounds.
    Again {
        fault: usize,
    },
    Heal {
        fault: usize,
    },
    Notice {
        node: usize,
        body: String,
    },
    /// A question reaches etcd.
    Asked {
        question: Box<Question>,
    },
    /// What etcd answers, and in which event it had done it, reaches who asked.
    Told {
        node: usize,
        incarnation: u64,
        id: AskId,
        answer: Option<Box<tanist_engine::etcd::Answer>>,
        done_in: u64,
    },
    /// A lease of etcd's ends, unless it has been kept alive.
    LeaseEnds {
        lease: u64,
    },
    /// An operator looks after a server whose directory is an old copy.
    LetIn {
        node: usize,
    },
    /// An operator looks after an agent that is to have a seat.
    GiveSeat {
        node: usize,
    },
    HealAll,
    Watch,
}

impl Happening {
    /// Whom it concerns: what concerns a node waits while its process is paused.
    fn place(&self) -> Place {
        match self {
            Happening::Timer { node, .. }
            | Happening::Deliver { node, .. }
            | Happening::Http { node, .. }
            | Happening::Synced { node, .. }
            | Happening::Read { node, .. }
            | Happening::Free { node, .. }
            | Happening::Told { node, .. }
            | Happening::Stop { node, .. } => Place::Node(*node),
            Happening::Answer { client, .. } | Happening::Wake { client } | Happening::Timeout { client, .. } => {
                Place::Client(*client)
            }
            _ => Place::Director,
        }
    }
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

/// How often a kind of fault has met a node, and how often it left one alone: nothing ran there, or a fault like it was
/// at work already, or nobody else had what would have been lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strikes {
    pub struck: u64,
    pub spared: u64,
}

impl std::ops::AddAssign for Strikes {
    fn add_assign(&mut self, more: Strikes) {
        self.struck += more.struck;
        self.spared += more.spared;
    }
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
    /// What became of the faults, by their kind.
    pub strikes: BTreeMap<&'static str, Strikes>,
    /// Invariants that the faults of this run may have broken, and why (see the atlas).
    pub excused: BTreeMap<&'static str, String>,
    /// From the last healing until everything had converged and been answered, and how long it might have taken.
    pub converged: Option<(Duration, Duration)>,
    /// How a core fared while the rest was broken, if that was asked for.
    pub core: Option<String>,
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
    etcd: Option<etcd::Host>,
    workload: Workload,
    disk_rng: Rng,
    clock_rng: Rng,
    node_rng: Rng,
    chance: Rng,
    aim_rng: Rng,
    aimed: u64,
    echoes: u64,
    kept: Vec<aim::Kept>,
    due: Vec<Due>,
    effects: Vec<Effect>,
    over: bool,
    healed: Option<At>,
    struck: BTreeMap<usize, Struck>,
    /// Old copies of directories, by the fault that will put them back.
    backups: BTreeMap<usize, Vec<Backup>>,
    /// Identities that were on disks that are gone.
    former: BTreeMap<NodeId, usize>,
    core: Option<Core>,
    agency: Agency,
    grants: Grants,
    witness: Witness,
    lease: Lease,
    replication: Replication,
    history: History,
    synchrony: Synchrony,
    room: Room,
    outputs: Vec<Output>,
    /// Steps of one node at one instant: an engine that asks for a timer in the past again and again is stuck.
    spin: (At, usize, u32),
    /// A simulated second, and what had happened before it.
    second: (u64, u64),
}

const SPIN_MAX: u32 = 10_000;
/// Happenings within a simulated second, of which busy runs have a twentieth: one that needs more gets nowhere.
const HAPPENINGS_MAX: u64 = 100_000;
/// A server that could not begin an epoch is no candidate for so long, by its own clock.
const STANDS_BACK: Duration = Duration::from_secs(10);
/// Messages that wait for a slow node.
const WAITING_MAX: usize = 1000;
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
            let wall = WALL_MS as i64 + clock_rng.below(20_000) as i64 - uptime.as_millis() as i64;
            Clock::new(uptime, rate, wall)
        };
        let mut machines: Vec<Machine> =
            (0..agents).map(|i| Machine::new(format!("a{i}"), NodeKind::Agent, 8531, clock())).collect();
        machines.extend((0..servers).map(|i| Machine::new(format!("s{i}"), NodeKind::Server, 8529, clock())));
        let weather = Weather {
            loss_permille: s.net_loss_permille,
            duplicate_permille: s.net_duplicate_permille,
            delay_us: s.net_delay_us,
            sure_us: 0,
            straggler_permille: s.net_straggler_permille,
            straggler_ms: s.net_straggler_ms,
            ordered: s.net_ordered == 1,
        };
        let mut net = Net::new(s.seed_net, weather);
        if s.net_uneven == 1 {
            net.make_uneven(s.seed_net);
        }
        let idle = Duration::from_millis(s.transaction_idle_ms);
        let mut world = World {
            at: At(0),
            event: 0,
            agents,
            net,
            etcd: (s.etcd == 1).then(|| etcd::Host::new(s)),
            workload: Workload::new(s),
            disk_rng: Rng::new(s.seed_disk),
            node_rng: Rng::new(s.seed_nodes),
            chance: Rng::new(s.seed_chance),
            aim_rng: Rng::new(s.seed_aim),
            aimed: 0,
            echoes: 0,
            kept: Vec::new(),
            clock_rng,
            machines,
            due: Vec::new(),
            effects: Vec::new(),
            over: false,
            healed: None,
            struck: BTreeMap::new(),
            backups: BTreeMap::new(),
            former: BTreeMap::new(),
            core: None,
            agency: Agency::new(agents, s.etcd == 0),
            grants: Grants::new(agents),
            witness: Witness::default(),
            lease: Lease::new(servers),
            replication: Replication::new(servers),
            history: History::new(Streams::new(idle)),
            synchrony: Synchrony::new(s),
            room: Room::new(s),
            outputs: Vec::new(),
            spin: (At(0), 0, 0),
            second: (0, 0),
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

    /// From here on everything is noted for a page that draws it.
    pub fn watch_closely(&mut self) {
        let names = self.machines.iter().map(|machine| machine.name.clone());
        self.trace.timeline = Some(Box::new(Timeline::new(names, self.scenario.clients as usize, self.etcd.is_some())));
    }

    /// What was noted, with the clients' operations.
    pub fn take_timeline(&mut self) -> Timeline {
        let mut timeline = self.trace.timeline.take().map(|timeline| *timeline).unwrap_or_default();
        for (number, record) in &self.workload.history {
            let place = self.machines.len() + record.client;
            let text = format!("#{number} {}: {} {:?}", record.action, record.status, record.outcome);
            timeline.operation(place, record.called, record.returned.unwrap_or(self.at), text);
        }
        timeline
    }

    // ---- what a driver needs ----------------------------------------------------------------------------------------

    pub fn take_due(&mut self) -> impl Iterator<Item = Due> + '_ {
        self.due.drain(..)
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
        let place = what.place();
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
            columns.role = words::role(view.mode);
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

    /// Shows to the timeline what a node is now.
    fn draw(&mut self, node: usize) {
        if self.trace.timeline.is_none() {
            return;
        }
        let columns = self.columns(node);
        if let Some(timeline) = &mut self.trace.timeline {
            timeline.state(node + 1, &columns);
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
        self.gets_on();
        self.trace.hash.word(at.0);
        // A paused process lets everything wait for it.
        if let Place::Node(node) = what.place() {
            self.trace.hash.word(node as u64);
            if self.machines[node].paused {
                self.machines[node].held.push(what);
                return;
            }
            if !matches!(what, Happening::Free { .. }) && self.must_wait(node) {
                // As in the server, queues are bounded: what is sent to a node that is too slow for it is lost.
                let machine = &mut self.machines[node];
                if machine.waiting.len() < WAITING_MAX || !matches!(what, Happening::Deliver { .. }) {
                    machine.waiting.push_back(what);
                }
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
            Happening::Free { node, incarnation } => {
                if self.process(node, incarnation).is_some() {
                    self.free(node);
                }
            }
            Happening::Stop { node, incarnation } => {
                if let Some(process) = self.process(node, incarnation) {
                    process.stopping = true;
                    self.say(node, "is asked to leave");
                    self.step(node, Input::Stop);
                }
            }
            Happening::Asked { question } => self.asked(*question),
            Happening::Told { node, incarnation, id, answer, done_in } => {
                self.told(node, incarnation, id, answer.map(|answer| *answer), done_in);
            }
            Happening::LeaseEnds { lease } => self.lease_ends(lease),
            Happening::Answer { client, attempt, ending } => self.client_ended(client, attempt, ending),
            Happening::Timeout { client, attempt } => {
                if self.workload.attempt_of(client) == Some(attempt) {
                    self.client_ended(client, attempt, Ending::Silence);
                }
            }
            Happening::Wake { client } => {
                let next = match self.workload.wake(self.at, client) {
                    // Once the core has done all that was asked of it, they go on.
                    Next::Rest if self.core.is_some() => Next::Wait(WATCH_EVERY),
                    next => next,
                };
                self.client_next(client, next);
            }
            Happening::Strike { fault } => self.strike(fault),
            Happening::Again { fault } => self.again(fault),
            Happening::LetIn { node } => self.let_in(node),
            Happening::GiveSeat { node } => self.give_seat(node),
            Happening::Heal { fault } => self.heal(fault),
            Happening::Notice { node, body } => {
                self.tell(
                    format_args!("{}!", self.machines[node].name.clone()),
                    format_args!("its starter tells of its death"),
                );
                for agent in 0..self.agents {
                    let request = Request::new(Method::Post, DEATH_NOTICE).with_body(body.clone());
                    self.send_http(node, agent, Caller::Nobody, 0, request);
                }
            }
            Happening::HealAll => {
                if self.scenario.core == 1 {
                    self.heal_core();
                } else {
                    self.heal_all();
                }
                self.after(WATCH_EVERY, Happening::Watch);
            }
            Happening::Watch => self.watch(),
        }
    }

    /// Nodes that keep one another busy without end make no progress, however correct each of their steps is.
    fn gets_on(&mut self) {
        let (second, so_far) = (self.at.0 / 1_000_000_000, self.figures.happenings);
        if second > self.second.0 {
            self.second = (second, so_far);
        }
        if so_far - self.second.1 > HAPPENINGS_MAX {
            self.hold(Err(("I17", format!("{HAPPENINGS_MAX} things have happened within a second: nobody gets on"))));
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
        let mut config = if node < self.agents {
            agent_config(&self.scenario, &endpoint, agents)
        } else {
            server_config(&self.scenario, &endpoint, agents, nonce)
        };
        if let Config::Server(server) = &mut config {
            server.ended = self.machines[node].signed.filter(|_| self.scenario.locks_tell > 0);
        }
        let at = self.at;
        let machine = &mut self.machines[node];
        (machine.nonce, machine.signed) = (nonce, Some(nonce));
        machine.down_by = None;
        machine.busy = false;
        if let Err(error) = machine.boot(config, seed, at) {
            return self.not_started(node, &error);
        }
        if let (Some(timeline), Some(id)) = (&mut self.trace.timeline, self.machines[node].id) {
            timeline.name(id.to_string(), self.machines[node].name.clone());
        }
        self.effects.push(Effect::Started(node));
        self.say(node, "starts");
        self.settle(node);
    }

    /// The process is gone. A torn batch: nothing of it reaches the disk, or its first operations do, or all of it,
    /// unreported. (A store with transactions leaves no operation half done; of an operation that took several, some.)
    fn end(&mut self, node: usize) {
        let Some(mut process) = self.machines[node].process.take() else { return };
        let batch = process.take_batch();
        // Of its own, so that one crash more or less does not shift what other disks do.
        let mut rng = Rng::new(self.scenario.seed_disk ^ self.at.0 ^ ((node as u64) << 56));
        if !batch.is_empty() && rng.chance(1, 2) {
            let keep = rng.below(batch.len() as u64 + 1) as usize;
            let kept: Vec<_> = batch.into_iter().take(keep).collect();
            for op in kept {
                self.perform(node, vec![op], |transactions| 1 + rng.below(transactions as u64) as usize);
            }
        }
        self.wake(node);
        let machine = &mut self.machines[node];
        machine.held.clear();
        machine.waiting.clear();
        machine.busy = false;
        machine.paused = false;
        machine.paused_by = None;
        if node >= self.agents {
            self.lease.gone(node - self.agents);
        }
        self.effects.push(Effect::Ended(node));
        self.draw(node);
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
        let is_timer = matches!(input, Input::Timer);
        process.node.step(now, input, &mut outputs);
        let next = if is_timer { process.node.deadline() } else { None };
        let left = next.filter(|wake| wake.at <= now.time);
        self.publish(node);
        if let Some(wake) = left {
            let (name, why) = (&self.machines[node].name, wake.why);
            self.hold(Err(("contract", format!("{name} was woken, and asks for the same time again: {why}"))));
        }
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
        self.draw(node);
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
                let local = self.machines[node].clock.time(self.at);
                let holds = node.checked_sub(self.agents).and_then(|server| self.lease.holds(server, local));
                let Some(process) = &mut self.machines[node].process else { return };
                if let Op::Run(run) = &what {
                    // A request that had to wait was admitted anew.
                    process.admitted(action::op_of(&run.request), holds);
                }
                if what.writes() {
                    process.enqueue(op, what);
                } else {
                    let reading = process.reading(Reading::Op(op, what));
                    let wait = self.disk_read(node);
                    self.after(wait, Happening::Read { node, incarnation, reading });
                }
            }
            Output::Ask { id, ask } => self.ask_etcd(node, id, ask),
            // Here a query is over as soon as it runs.
            Output::Interrupt { .. } => {}
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
        self.aim(node, event);
        let ctx = self.ctx(node);
        if node < self.agents {
            let mut verdict = self.agency.noted(&ctx, event);
            if self.etcd.is_some() {
                verdict = verdict.and_then(|()| self.witness.noted(&ctx, event));
            }
            let verdict = verdict.and_then(|()| self.room.noted(&ctx, event));
            self.hold(verdict);
            self.grants.noted(&ctx, event);
            if let Event::Deposed { epoch, .. } = event {
                let verdict = self.lease.deposed(*epoch, &self.server_times());
                self.hold(verdict);
            }
            if let Event::Elected { epoch, server, boot } = event {
                self.elected(*epoch, *server, *boot);
            }
            if let Event::Accounted { ended, server, ticks, exact: true, .. } = event
                && let Some(server) = self.machines[self.agents..].iter().position(|m| m.id == Some(*server))
            {
                let verdict = self.replication.accounted(*ended, server, *ticks);
                self.hold(verdict);
            }
            if let Event::InSyncChanged { epoch, index, in_sync } = event {
                let server = |id: NodeId| self.machines[self.agents..].iter().position(|m| m.id == Some(id));
                let members = in_sync.members.iter().filter_map(|member| server(member.server)).collect();
                let verdict = self.synchrony.recorded(&self.replication, *epoch, *index, members);
                self.hold(verdict);
            }
            if let Event::Elected { epoch, .. } | Event::Deposed { epoch, .. } = event {
                self.figures.epochs = self.figures.epochs.max(epoch.0);
            }
        }
        let verdict = self.lease.noted(event);
        self.hold(verdict);
        if let (Event::RegisteredAs { boot }, Some(process)) = (event, &mut self.machines[node].process) {
            process.boot = Some(*boot);
        }
    }

    /// The choice is judged by what the agent that decided had heard when it decided.
    fn elected(&mut self, epoch: Epoch, server: NodeId, boot: Boot) {
        if self.former.contains_key(&server) {
            return; // It reported with a disk that is gone meanwhile.
        }
        let Some(chosen) = self.machines[self.agents..].iter().position(|m| m.id == Some(server)) else {
            self.hold(Err(("I12", format!("{server} was elected, which is no server"))));
            return;
        };
        // An agent that starts again goes through old elections once more.
        if self.lease.leader_of(epoch).is_some() {
            return;
        }
        let servers = self.machines[self.agents..].iter();
        let boots: Vec<Option<Boot>> = servers.map(|m| m.process.as_ref().and_then(|p| p.boot)).collect();
        let written = !self.history.acknowledged.is_empty();
        let by = self.agency.chose(epoch, server);
        let verdict = self.replication.elected(epoch, (chosen, boot), by, &boots, written);
        self.hold(verdict);
        let verdict = self.synchrony.elected(&self.replication, epoch, chosen);
        self.hold(verdict);
    }
}
