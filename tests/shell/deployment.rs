//! One seed: three agents and two servers under faults, with customers and hostile visitors; then all is healed.
//!
//! Held to: each request ends within its patience; once healed, somebody leads, writes are acknowledged and both
//! servers come to the same documents within a bound; a document is one that was sent, whole; one that was acknowledged
//! is there, or in a rollback record if servers changed meanwhile.

use crate::hostile;
use crate::net::{PORT, SimNet, now};
use crate::node::Machine;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tanist_engine::auth;
use tanist_engine::db::Reader;
use tanist_engine::db::log::{LogOp, operations};
use tanist_engine::db::store::Store;
use tanist_engine::io::Mode;
use tanist_engine::types::*;
use tanist_server::client::{Client, endpoint_of_url};
use tanist_server::storage::DiskStore;
use tanist_server::storage::check::Extent;

const NODES: [&str; 5] = ["a0", "a1", "a2", "s0", "s1"];
const SERVERS: [&str; 2] = ["s0", "s1"];
const CUSTOMERS: [&str; 2] = ["c0", "c1"];
const SECRET: &[u8] = b"known to the nodes";

const TICK: Duration = Duration::from_millis(5);
const FAULTS: Duration = Duration::from_secs(15);
/// Within so long of the start, or of the healing, somebody leads and is followed.
const CONVERGED: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(3);

/// What one seed came to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub history: (u64, u64),
    pub acknowledged: usize,
    pub failed: usize,
    pub epochs: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub visits: u64,
}

/// What the customers know: for each key the length of its padding and, once acknowledged, when.
#[derive(Default)]
struct Book {
    sent: BTreeMap<String, (usize, Option<Time>)>,
    failed: usize,
}

struct World {
    sim: turmoil::Sim<'static>,
    net: SimNet,
    machines: Vec<Machine>,
    book: Rc<RefCell<Book>>,
    /// The network is sound from here on.
    calm_since: Rc<Cell<Option<Time>>>,
    /// Customers go on.
    open: Rc<Cell<bool>>,
    visits: Rc<Cell<u64>>,
}

/// A fault under way, until when.
enum Fault {
    Cut(&'static str, &'static str),
    CutOneWay(&'static str, &'static str),
    Held(&'static str, &'static str),
    Slow(&'static str, &'static str),
    Down(&'static str),
}

pub fn run(seed: u64, directory: &Path) -> Outcome {
    let mut world = World::new(seed, directory);
    world.converge("after the start");
    let faults = world.trouble(&mut Rng::new(seed).fork(9));
    world.calm_since.set(Some(world.time()));
    world.converge("after the healing");
    let calm = world.time();
    let later = calm.plus(PATIENCE);
    world.until("a write is acknowledged after the healing", CONVERGED, |world| {
        let book = world.book.borrow();
        world.time() > later && book.sent.values().any(|(_, at)| at.is_some_and(|at| at > calm))
    });
    world.open.set(false);
    let quiet = world.time().plus(PATIENCE * 2);
    world.until("the customers leave", CONVERGED, |world| world.time() > quiet);
    world.converge("at the end");
    world.judge(seed, faults, calm)
}

impl World {
    fn new(seed: u64, directory: &Path) -> World {
        let mut rng = Rng::new(seed);
        let ms = Duration::from_millis;
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.next_u64())
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(1000))
            .min_message_latency(ms(1))
            .max_message_latency(ms(2 + rng.below(40)))
            .tcp_capacity(16 + rng.below(200) as usize)
            .build();
        let net = SimNet::new(rng.next_u64());
        let endpoint = |name: &str| Endpoint::parse(&format!("tcp://{name}:{PORT}")).expect("an endpoint");
        let agents: Vec<Endpoint> = NODES[..3].iter().map(|name| endpoint(name)).collect();
        let auth = Auth { enabled: true, secrets: vec![SECRET.to_vec()], ..Auth::default() };
        let mut machines = Vec::new();
        for (number, name) in NODES.into_iter().enumerate() {
            let config = if name.starts_with('a') {
                Config::Agent(AgentConfig {
                    size: agents.len(),
                    peers: agents.clone(),
                    election_timeout_min: ms(400),
                    election_timeout_max: ms(1600),
                    supervision_frequency: ms(300),
                    ok_threshold: ms(2000),
                    auth: auth.clone(),
                    ..AgentConfig::new(endpoint(name))
                })
            } else {
                Config::Server(ServerConfig {
                    agency: agents.clone(),
                    host: name.to_owned(),
                    auth: auth.clone(),
                    chunk_bytes: 20_000,
                    ..ServerConfig::new(endpoint(name), Nonce(0))
                })
            };
            let machine = Machine {
                name,
                config,
                directory: directory.join(name),
                net: net.clone(),
                seed: rng.next_u64() ^ number as u64,
                lives: Rc::default(),
                view: Arc::new(Mutex::new(None)),
            };
            let process = machine.clone();
            sim.host(name, move || process.clone().run());
            machines.push(machine);
        }
        let book = Rc::new(RefCell::new(Book::default()));
        let open = Rc::new(Cell::new(true));
        for name in CUSTOMERS {
            let (net, book, open, seed) = (net.clone(), book.clone(), open.clone(), rng.next_u64());
            sim.host(name, move || customer(name, net.clone(), book.clone(), open.clone(), Rng::new(seed)));
        }
        let (calm_since, visits): (Rc<Cell<Option<Time>>>, Rc<Cell<u64>>) = (Rc::default(), Rc::default());
        let (visitor, visited, calm, seed) = (net.clone(), visits.clone(), calm_since.clone(), rng.next_u64());
        sim.host("hostile", move || hostility(visitor.clone(), visited.clone(), calm.clone(), Rng::new(seed)));
        World { sim, net, machines, book, calm_since, open, visits }
    }

    fn time(&self) -> Time {
        Time(self.sim.elapsed().as_nanos() as u64)
    }

    fn step(&mut self) {
        if let Err(e) = self.sim.step() {
            panic!("at {:?}: {e}", self.sim.elapsed());
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, limit: Duration, reached: impl Fn(&World) -> bool) {
        let end = self.time().plus(limit);
        while !reached(self) {
            assert!(self.time() < end, "not within {limit:?}: {what}\n{}", self.tell());
            self.step();
        }
    }

    /// Somebody leads, the other one follows and is as far.
    #[track_caller]
    fn converge(&mut self, when: &str) {
        self.until(&format!("a leader that is followed, {when}"), CONVERGED, |world| {
            let views: Vec<_> =
                world.machines[3..].iter().filter_map(|machine| machine.view.lock().ok()?.clone()).collect();
            let now = world.time();
            let leads = |view: &tanist_engine::io::View| view.mode == Mode::Default && now < view.lease_end;
            views.len() == SERVERS.len()
                && views.iter().filter(|view| leads(view)).count() == 1
                && views.iter().any(|view| view.mode == Mode::Redirect && view.replication.running)
        });
    }

    fn tell(&self) -> String {
        let mut text = String::new();
        for machine in &self.machines[3..] {
            if let Some(view) = machine.view.lock().expect("nobody panics with it").as_ref() {
                text += &format!("{}: {:?} epoch {} {:?}\n", machine.name, view.mode, view.epoch.0, view.replication);
            }
        }
        text
    }

    fn leader(&self) -> Option<&'static str> {
        let leads = |machine: &&Machine| {
            machine.view.lock().expect("nobody panics with it").as_ref().is_some_and(|view| view.mode == Mode::Default)
        };
        self.machines[3..].iter().find(leads).map(|machine| machine.name)
    }

    /// Faults of all kinds for a while, several at a time; at the end all is healed.
    fn trouble(&mut self, rng: &mut Rng) -> BTreeMap<&'static str, u64> {
        let (end, mut next) = (self.time().plus(FAULTS), self.time());
        let mut active: Vec<(Time, Fault)> = Vec::new();
        let mut counts = BTreeMap::new();
        while self.time() < end {
            let now = self.time();
            if now >= next && active.len() < 3 {
                next = now.plus(rng.between(Duration::from_millis(200), Duration::from_millis(2500)));
                let until = now.plus(rng.between(Duration::from_millis(100), Duration::from_secs(6)));
                if let Some((name, fault)) = self.strike(&active, rng) {
                    *counts.entry(name).or_default() += 1;
                    active.push((until, fault));
                }
            }
            let (over, rest): (Vec<_>, Vec<_>) = active.into_iter().partition(|(until, _)| *until <= now);
            active = rest;
            over.into_iter().for_each(|(_, fault)| self.heal(fault));
            self.step();
        }
        active.into_iter().for_each(|(_, fault)| self.heal(fault));
        counts
    }

    fn strike(&mut self, active: &[(Time, Fault)], rng: &mut Rng) -> Option<(&'static str, Fault)> {
        let mut any = |names: &[&'static str]| names[rng.below(names.len() as u64) as usize];
        let a = any(&NODES);
        let b = any(&[&NODES[..], &CUSTOMERS[..]].concat());
        let b = if a == b { "hostile" } else { b };
        let involved = |one: &str| active.iter().any(|(_, fault)| fault.involves(one));
        let leader = self.leader();
        match rng.below(8) {
            // One fault a pair: turmoil keeps one state for each.
            0..=5 if involved(a) && involved(b) => None,
            0 | 1 => {
                self.sim.partition(a, b);
                self.lose(a, b);
                self.lose(b, a);
                Some(("cut", Fault::Cut(a, b)))
            }
            2 => {
                self.sim.partition_oneway(a, b);
                self.lose(a, b);
                Some(("cut one way", Fault::CutOneWay(a, b)))
            }
            3 | 4 => {
                self.sim.hold(a, b);
                Some(("held", Fault::Held(a, b)))
            }
            5 => {
                let latency = rng.between(Duration::from_millis(1), Duration::from_millis(300));
                self.sim.set_link_max_message_latency(a, b, latency);
                Some(("slow", Fault::Slow(a, b)))
            }
            which => {
                let victim = if which == 6 { leader.unwrap_or(a) } else { a };
                let down = |(_, fault): &(Time, Fault)| matches!(fault, Fault::Down(other) if *other == victim);
                if active.iter().any(down) {
                    return None;
                }
                self.net.doom(self.sim.lookup(victim));
                (0..3).for_each(|_| self.step());
                self.sim.crash(victim);
                self.machine(victim).view.lock().expect("nobody panics with it").take();
                Some(("killed", Fault::Down(victim)))
            }
        }
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name == name).expect("a node")
    }

    fn lose(&self, from: &str, to: &str) {
        self.net.cut(self.sim.lookup(from), self.sim.lookup(to), self.time());
    }

    fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(a, b) => {
                self.sim.repair(a, b);
                self.net.repair(self.sim.lookup(a), self.sim.lookup(b), self.time());
            }
            Fault::CutOneWay(a, b) => {
                self.sim.repair_oneway(a, b);
                self.net.repair(self.sim.lookup(a), self.sim.lookup(b), self.time());
            }
            Fault::Held(a, b) => self.sim.release(a, b),
            Fault::Slow(a, b) => self.sim.set_link_max_message_latency(a, b, Duration::from_millis(20)),
            Fault::Down(node) => {
                self.net.spare(self.sim.lookup(node));
                self.sim.bounce(node);
            }
        }
    }

    /// Looks at what the disks hold when everything has stopped.
    fn judge(self, seed: u64, faults: BTreeMap<&'static str, u64>, calm: Time) -> Outcome {
        let World { sim, net, machines, book, visits, .. } = self;
        drop(sim);
        let book = book.borrow();
        let mut all = Vec::new();
        let mut undone = Vec::new();
        let mut epochs = 0;
        for machine in &machines[3..] {
            let store = DiskStore::open(&machine.directory, 1 << 30, Extent::All).expect("the store opens");
            let snapshot = store.snapshot().expect("a snapshot");
            let reader = Reader::new(&*snapshot).expect("a reader");
            epochs = epochs.max(reader.last().expect("an end").epoch.0);
            all.push(things(&reader));
            for (_, entry) in reader.rolled_back(usize::MAX).expect("rollback records") {
                for op in operations(&entry).expect("an entry") {
                    if let LogOp::Document { key, after: Some(_), .. } = op {
                        undone.push(key);
                    }
                }
            }
            for kept in reader.kept_stores().expect("kept stores") {
                undone.extend(things(&Reader::of_generation(&*snapshot, kept.generation)).into_keys());
            }
        }
        assert!(all[0] == all[1], "seed {seed}: the servers hold {} and {} documents", all[0].len(), all[1].len());
        for (key, body) in &all[0] {
            let padding = book.sent.get(key).unwrap_or_else(|| panic!("seed {seed}: {key} was never sent")).0;
            let expected = json!("x".repeat(padding));
            assert_eq!(body["pad"], expected, "seed {seed}: {key} is not what was sent");
        }
        let acknowledged = book.sent.iter().filter_map(|(key, (_, at))| Some((key, (*at)?)));
        for (key, at) in acknowledged.clone() {
            let there = all[0].contains_key(key);
            assert!(there || undone.contains(key), "seed {seed}: {key} was acknowledged and is nowhere");
            assert!(there || at < calm, "seed {seed}: {key} was lost in calm times");
        }
        let (acknowledged, failed) = (acknowledged.count(), book.failed);
        Outcome { history: net.history(), acknowledged, failed, epochs, faults, visits: visits.get() }
    }
}

impl Fault {
    fn involves(&self, name: &str) -> bool {
        match self {
            Fault::Cut(a, b) | Fault::CutOneWay(a, b) | Fault::Held(a, b) | Fault::Slow(a, b) => {
                *a == name || *b == name
            }
            Fault::Down(_) => false,
        }
    }
}

fn things(reader: &Reader<'_>) -> BTreeMap<String, serde_json::Value> {
    let database = reader.database("_system").expect("a row").expect("a database");
    let Some(collection) = reader.collection(database.id, "things").expect("a row") else { return BTreeMap::new() };
    let documents = reader.documents(&collection, None, usize::MAX).expect("documents");
    let value = |body: &[u8]| serde_json::from_slice(body).expect("JSON");
    documents.iter().map(|document| (document.key.clone(), value(&document.body))).collect()
}

/// Writes new documents to whoever leads, and reads what it wrote.
async fn customer(
    name: &'static str,
    net: SimNet,
    book: Rc<RefCell<Book>>,
    open: Rc<Cell<bool>>,
    mut rng: Rng,
) -> turmoil::Result {
    let client = Client::over(net.clone(), vec![SECRET.to_vec()]);
    let servers: Vec<Endpoint> =
        SERVERS.iter().map(|s| Endpoint::parse(&format!("tcp://{s}:{PORT}"))).collect::<Result<_, _>>()?;
    let mut to = servers[0].clone();
    let mut created = false;
    let mut number = 0;
    while open.get() {
        tokio::time::sleep(rng.between(Duration::from_millis(10), Duration::from_millis(120))).await;
        let began = now().time;
        let mut written = None;
        let answer = if !created {
            client.post(&to, "/_api/collection", &json!({"name": "things"}), PATIENCE).await
        } else {
            number += 1;
            let key = format!("{name}-{number}");
            let padding = if rng.chance(1, 10) { rng.below(60_000) } else { rng.below(200) } as usize;
            book.borrow_mut().sent.insert(key.clone(), (padding, None));
            let body = json!({"_key": key, "pad": "x".repeat(padding)});
            written = Some((key, padding));
            client.post(&to, "/_api/document/things", &body, PATIENCE).await
        };
        let took = now().time.since(began);
        assert!(took <= PATIENCE + TICK * 2, "{name}: a request took {took:?}");
        net.note("answer", &[answer.as_ref().map_or(0, |answer| u64::from(answer.status)), number]);
        match answer {
            Ok(answer) if matches!(answer.status, 200..=202) || (!created && answer.status == 409) => {
                created = true;
                let Some((key, padding)) = written else { continue };
                book.borrow_mut().sent.insert(key.clone(), (padding, Some(now().time)));
                if let Ok(read) = client.get(&to, &format!("/_api/document/things/{key}"), PATIENCE).await
                    && read.status == 200
                {
                    let expected = json!("x".repeat(padding));
                    assert!(read.json()["pad"] == expected, "{name}: {key} is read as something else");
                }
            }
            other => {
                // A collection whose creation had not been replicated is lost with its leader.
                created &= other.as_ref().map_or(true, |answer| answer.status != 404);
                book.borrow_mut().failed += 1;
                let elsewhere = other.ok().and_then(|answer| endpoint_of_url(answer.elsewhere.as_deref()?));
                to = elsewhere.unwrap_or_else(|| servers[rng.below(2) as usize].clone());
            }
        }
    }
    std::future::pending().await
}

/// Visits nodes for ever. A visit that lay in calm times must have gone as it should.
async fn hostility(
    net: SimNet,
    visits: Rc<Cell<u64>>,
    calm_since: Rc<Cell<Option<Time>>>,
    mut rng: Rng,
) -> turmoil::Result {
    let auth = Auth { enabled: true, secrets: vec![SECRET.to_vec()], ..Auth::default() };
    let token = auth::superuser_token(&auth).expect("a token");
    loop {
        tokio::time::sleep(rng.between(Duration::ZERO, Duration::from_millis(400))).await;
        let node = NODES[rng.below(NODES.len() as u64) as usize];
        let calm = calm_since.get().is_some();
        let result = hostile::visit(&net, node, &token, &mut rng).await;
        visits.set(visits.get() + 1);
        if let Err(what) = result
            && calm
        {
            return Err(format!("{node}: {what}").into());
        }
    }
}
