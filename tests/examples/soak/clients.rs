//! The clients of a soak: they write and read as fast as they are answered, and remember what they were told.
//!
//! Every operation stores a number of its own, so that each can be found again: in the data, or in a rollback record.
//! A client alone writes its keys, and leaves a key as soon as it can't say any more what the key holds.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tanist_engine::types::Rng;
use tanist_tests::http::{Answer, Client};

pub const COLLECTION: &str = "soak";
/// For one attempt, as a driver with a short timeout.
pub const ATTEMPT: Duration = Duration::from_millis(500);
/// Keys that a client goes back to.
const KEYS_OPEN_MAX: usize = 20;

/// What one operation makes of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The document is there with this number.
    Store(u64),
    /// The document with this number is gone.
    Remove(u64),
}

/// An operation whose outcome is "done", or not known.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub change: Change,
    pub acknowledged: bool,
    /// When the answer came, or was given up, since the soak began.
    pub at_ms: u32,
}

/// An acknowledgement, as the judge of overlaps needs it.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    pub sent: Instant,
    pub received: Instant,
    pub epoch: u64,
}

/// All that the clients saw.
#[derive(Default)]
pub struct History {
    /// By key, in order.
    pub operations: BTreeMap<String, Vec<Done>>,
    pub acknowledged: Vec<Acknowledged>,
    /// Answers that no server should give.
    pub wrong: Vec<String>,
    pub refused: u64,
    pub unknown: u64,
    pub reads: u64,
}

impl History {
    pub fn merge(&mut self, other: History) {
        self.operations.extend(other.operations);
        self.acknowledged.extend(other.acknowledged);
        self.wrong.extend(other.wrong);
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.reads += other.reads;
    }
}

/// What the clients share with those who harm and watch.
pub struct Shared {
    pub begun: Instant,
    pub addresses: Vec<String>,
    pub stop: AtomicBool,
    pub numbers: AtomicU64,
    /// When a write was acknowledged last.
    pub last: Mutex<Instant>,
    /// The longest time without an acknowledgement since it was last looked at.
    pub gap: Mutex<Duration>,
}

impl Shared {
    pub fn new(addresses: Vec<String>) -> Shared {
        Shared {
            begun: Instant::now(),
            addresses,
            stop: AtomicBool::new(false),
            numbers: AtomicU64::new(1),
            last: Mutex::new(Instant::now()),
            gap: Mutex::new(Duration::ZERO),
        }
    }

    fn acknowledge(&self, at: Instant) {
        let mut last = self.last.lock().expect("no panic");
        let mut gap = self.gap.lock().expect("no panic");
        *gap = (*gap).max(at.saturating_duration_since(*last));
        *last = at;
    }

    /// The longest gap since this was asked last, the present one included.
    pub fn take_gap(&self) -> Duration {
        let last = *self.last.lock().expect("no panic");
        std::mem::take(&mut *self.gap.lock().expect("no panic")).max(last.elapsed())
    }
}

/// A key that this client knows everything about.
struct Open {
    key: String,
    /// What it holds.
    number: Option<u64>,
}

struct Writer<'a> {
    name: usize,
    shared: &'a Shared,
    servers: Vec<Client>,
    current: usize,
    rng: Rng,
    open: Vec<Open>,
    history: History,
}

/// One client, until it is told to stop.
pub fn write(name: usize, seed: u64, shared: &Shared) -> History {
    let servers = shared.addresses.iter().map(|address| Client::new(address).with_timeout(ATTEMPT)).collect();
    let rng = Rng::new(seed);
    let mut writer = Writer { name, shared, servers, current: 0, rng, open: Vec::new(), history: History::default() };
    while !shared.stop.load(Ordering::Relaxed) {
        writer.once();
    }
    writer.history
}

impl Writer<'_> {
    fn once(&mut self) {
        let new = self.open.len() < KEYS_OPEN_MAX && (self.open.is_empty() || self.rng.chance(1, 3));
        if new {
            let number = self.number();
            let open = Open { key: format!("{}-{number}", self.name), number: None };
            self.open.push(open);
            self.change(self.open.len() - 1, Change::Store(number));
            return;
        }
        let index = self.rng.below(self.open.len() as u64) as usize;
        match (self.open[index].number, self.rng.below(10)) {
            (Some(_), 0..4) => self.read(index),
            (Some(number), 4) => self.change(index, Change::Remove(number)),
            _ => {
                let number = self.number();
                self.change(index, Change::Store(number));
            }
        }
        // Keys end, so that there are always new ones.
        if self.rng.chance(1, 200) && !self.open.is_empty() {
            self.open.swap_remove(0);
        }
    }

    fn number(&self) -> u64 {
        self.shared.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn change(&mut self, index: usize, change: Change) {
        let Open { key, number: before } = &self.open[index];
        let (method, target, body) = match (change, before) {
            (Change::Store(number), None) => {
                let body = json!({"_key": key, "value": number, "filler": "x".repeat(160)});
                ("POST", format!("/_api/document/{COLLECTION}"), body.to_string())
            }
            (Change::Store(number), Some(_)) => {
                ("PATCH", format!("/_api/document/{COLLECTION}/{key}"), json!({"value": number}).to_string())
            }
            (Change::Remove(_), _) => ("DELETE", format!("/_api/document/{COLLECTION}/{key}"), String::new()),
        };
        let sent = Instant::now();
        let answer = self.servers[self.current].send(method, &target, &[], body.as_bytes());
        let received = Instant::now();
        let at_ms = received.duration_since(self.shared.begun).as_millis() as u32;
        let done = |acknowledged| Done { change, acknowledged, at_ms };
        match answer {
            Ok(answer) if answer.ok() => {
                self.shared.acknowledge(received);
                self.history.acknowledged.push(Acknowledged { sent, received, epoch: epoch(&answer) });
                self.history.operations.entry(key.clone()).or_default().push(done(true));
                self.open[index].number = match change {
                    Change::Store(number) => Some(number),
                    Change::Remove(_) => None,
                };
            }
            // Nothing was done, and somebody may know who leads (R14).
            Ok(answer) if answer.status == 503 => {
                self.history.refused += 1;
                self.follow(Some(&answer));
            }
            // A full disk; nothing was done.
            Ok(answer) if answer.status == 507 => self.history.refused += 1,
            // What was acknowledged is undone by now: 404 instead of a change, 409 instead of a document anew.
            Ok(answer) if matches!(answer.status, 404 | 409) => drop(self.open.swap_remove(index)),
            // A write whose outcome is not known. Its key is left alone from now on.
            Ok(answer) if answer.status == 504 => self.leave(index, done(false), None),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.history.refused += 1;
                self.follow(None);
            }
            Err(_) => self.leave(index, done(false), None),
            Ok(answer) => {
                self.history.wrong.push(format!("{method} {target}: {answer}"));
                self.leave(index, done(false), None);
            }
        }
    }

    fn leave(&mut self, index: usize, done: Done, answer: Option<&Answer>) {
        self.history.unknown += 1;
        let open = self.open.swap_remove(index);
        self.history.operations.entry(open.key).or_default().push(done);
        self.follow(answer);
    }

    /// I14: whoever stays with one leader reads what it was told last.
    fn read(&mut self, index: usize) {
        let Open { key, number } = &self.open[index];
        let answer = self.servers[self.current].get(&format!("/_api/document/{COLLECTION}/{key}"));
        match answer {
            Ok(answer) if answer.status == 200 => {
                self.history.reads += 1;
                let written = self.history.operations.get(key).map_or(&[][..], Vec::as_slice);
                let value = answer.json()["value"].as_u64();
                let known = written.iter().any(|done| value.map(Change::Store) == Some(done.change));
                if !known {
                    self.history.wrong.push(format!("{key} holds {value:?}, which nobody stored there"));
                } else if value != *number {
                    // An older state, after a failover that lost the newer one.
                    self.open.swap_remove(index);
                }
            }
            Ok(answer) if answer.status == 404 => drop(self.open.swap_remove(index)),
            Ok(answer) if answer.status == 503 => self.follow(Some(&answer)),
            Ok(answer) => self.history.wrong.push(format!("GET {key}: {answer}")),
            Err(_) => self.follow(None),
        }
    }

    /// Goes where the refusal sends it, or on to the next server.
    fn follow(&mut self, refusal: Option<&Answer>) {
        let named = refusal.and_then(|answer| answer.header("x-arango-endpoint"));
        let named = named.and_then(|url| {
            let address = url.rsplit('/').next().unwrap_or_default();
            self.shared.addresses.iter().position(|known| known == address)
        });
        match named {
            Some(server) if server != self.current => self.current = server,
            _ => {
                self.current = (self.current + 1) % self.servers.len();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// In which epoch an answer was given; 0 if it does not say.
fn epoch(answer: &Answer) -> u64 {
    let token = answer.header("x-tanist-tick").unwrap_or_default();
    token.split('-').next().and_then(|text| text.parse().ok()).unwrap_or(0)
}
