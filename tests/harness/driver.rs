//! Clients that write at a steady rate and behave as a driver does: each follows `X-Arango-Endpoint`, goes on to the
//! next server where nobody listens, and repeats nothing else. What such a driver would throw at its application counts
//! as a failure.

use crate::http::Client;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one request may be sent from server to server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients were told.
#[derive(Default)]
struct Log {
    acknowledged: Vec<(Instant, u64)>,
    failed: Vec<String>,
}

pub struct Drivers {
    ports: Vec<u16>,
    collection: String,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drivers {
    /// Begins to write documents under new keys into a collection that is there: `rate` a second, over so many
    /// connections.
    pub fn start(ports: &[u16], collection: &str, connections: u32, rate: u32) -> Drivers {
        let (log, stop, next) =
            (Arc::<Mutex<Log>>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let interval = Duration::from_secs(1) * connections / rate;
        let threads = (0..connections)
            .map(|_| {
                let (ports, target) = (ports.to_vec(), format!("/_api/document/{collection}"));
                let (log, stop, next) = (log.clone(), stop.clone(), next.clone());
                std::thread::spawn(move || {
                    let mut driver = Driver::new(&ports);
                    let mut due = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        let key = next.fetch_add(1, Ordering::Relaxed);
                        let result = driver.write(&target, &json!({"_key": key.to_string(), "value": "x".repeat(160)}));
                        let mut log = log.lock().expect("no panic");
                        match result {
                            Ok(()) => log.acknowledged.push((Instant::now(), key)),
                            Err(problem) => log.failed.push(problem),
                        }
                        drop(log);
                        // Who is late does not catch up by a burst.
                        due = (due + interval).max(Instant::now());
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                })
            })
            .collect();
        Drivers { ports: ports.to_vec(), collection: collection.to_owned(), log, stop, threads }
    }

    pub fn acknowledged(&self) -> usize {
        self.log.lock().expect("no panic").acknowledged.len()
    }

    /// The longest time without an acknowledgement since then.
    pub fn pause_since(&self, since: Instant) -> Duration {
        let log = self.log.lock().expect("no panic");
        let mut times: Vec<Instant> = log.acknowledged.iter().map(|(at, _)| *at).collect();
        times.sort();
        let around = times.windows(2).filter(|pair| pair[1] >= since);
        around.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    pub fn failed(&self) -> Vec<String> {
        self.log.lock().expect("no panic").failed.clone()
    }

    /// Ends writing; says which acknowledged documents the leader does not have.
    pub fn end(&mut self, leader: u16) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client ends");
        }
        let all = json!({"collection": self.collection, "batchSize": 10_000_000});
        let mut client = Client::new(&format!("127.0.0.1:{leader}"));
        let body = client.put("/_api/simple/all", &all).expect("an answer").json();
        let key = |document: &Value| document["_key"].as_str()?.parse::<u64>().ok();
        let there: BTreeSet<u64> = body["result"].as_array().expect("a result").iter().filter_map(key).collect();
        let log = self.log.lock().expect("no panic");
        log.acknowledged.iter().map(|(_, key)| *key).filter(|key| !there.contains(key)).collect()
    }

    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

struct Driver {
    clients: Vec<(u16, Client)>,
    current: usize,
}

impl Driver {
    fn new(ports: &[u16]) -> Driver {
        let client = |port: &u16| (*port, Client::new(&format!("127.0.0.1:{port}")).with_timeout(PATIENCE));
        Driver { clients: ports.iter().map(client).collect(), current: 0 }
    }

    fn write(&mut self, target: &str, document: &Value) -> Result<(), String> {
        let begun = Instant::now();
        let mut trail = Vec::new();
        while begun.elapsed() < PATIENCE {
            let (port, client) = &mut self.clients[self.current];
            let port = *port;
            match client.post(target, document) {
                Ok(answer) if answer.ok() => return Ok(()),
                Ok(answer) => {
                    let told = answer.header("x-arango-endpoint").and_then(|url| url.rsplit(':').next()?.parse().ok());
                    let other = self.clients.iter().position(|(other, _)| Some(*other) == told);
                    trail.push(format!("{port}: {} {}", answer.status, answer.error_num()));
                    match other {
                        Some(other) if answer.status == 503 && other != self.current => self.current = other,
                        _ => return Err(trail.join(", ")),
                    }
                }
                // Nobody listens there: nothing was sent.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                    trail.push(format!("{port}: refused"));
                    self.current = (self.current + 1) % self.clients.len();
                }
                Err(e) => {
                    trail.push(format!("{port}: {e}"));
                    return Err(trail.join(", "));
                }
            }
        }
        Err(format!("not done in {PATIENCE:?}: {}", trail.join(", ")))
    }
}
