//! `tanist start`: three agents, a leader and two followers.

use crate::cluster::{ATTEMPT, Cluster, Writer, value};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tanist_tests::http::Client;
use tanist_tests::starter::Starter;

const COLLECTION: &str = "peers";

struct Tanist {
    started: Starter,
    /// Processes that were stopped: while they are, the starter is not asked for their numbers.
    stopped: Vec<(usize, u32)>,
}

pub fn start(program: &Path, sync_followers: usize) -> Box<dyn Cluster> {
    let option = format!("--args.dbservers.replication.sync-followers={sync_followers}");
    let started = Starter::new(program, &[option.as_str()][..usize::from(sync_followers > 0)]);
    started.wait_followers();
    let leader = started.leader().expect("a leader");
    let created = started.client(leader).post("/_api/collection", &json!({"name": COLLECTION}));
    created.expect("an answer").expect(200);
    Box::new(Tanist { started, stopped: Vec::new() })
}

impl Cluster for Tanist {
    fn leader(&self) -> Option<usize> {
        let leader = self.started.leader()?;
        self.started.servers().iter().position(|port| *port == leader)
    }

    fn is_sound(&self) -> bool {
        let Some(leader) = self.started.leader() else { return false };
        let Ok(answer) = self.started.client(leader).get("/_api/tanist/status") else { return false };
        let followers = answer.json()["followers"].as_array().cloned().unwrap_or_default();
        // While a client writes, the last entries may be under way.
        followers.len() == 2 && followers.iter().all(|follower| follower["lag"].as_u64().is_some_and(|lag| lag < 20))
    }

    fn signal(&mut self, node: usize, signal: Signal) {
        let known = self.stopped.iter().position(|(stopped, _)| *stopped == node);
        let pid = match known {
            Some(index) => self.stopped.swap_remove(index).1,
            None => self.started.pid(self.started.servers()[node]),
        };
        if signal == Signal::STOP {
            self.stopped.push((node, pid));
        }
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a process number is above 0"), signal).expect("it runs");
    }

    fn restart(&mut self, _node: usize) {
        // The starter has done it.
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(Http::new(&self.started.servers()))
    }

    fn direct(&self, node: usize) -> Box<dyn Writer> {
        Box::new(Http::new(&[self.started.servers()[node]]))
    }
}

/// Follows `X-Arango-Endpoint`; where nobody answers, goes on to the next.
struct Http {
    ports: Vec<u16>,
    clients: Vec<Client>,
    current: usize,
}

impl Http {
    fn new(ports: &[u16]) -> Http {
        let client = |port: &u16| Client::new(&format!("127.0.0.1:{port}")).with_timeout(ATTEMPT);
        Http { ports: ports.to_vec(), clients: ports.iter().map(client).collect(), current: 0 }
    }

    fn follow(&mut self, told: Option<&str>) {
        let told = told.and_then(|url| url.rsplit(':').next()?.parse().ok());
        match self.ports.iter().position(|port| Some(*port) == told) {
            Some(server) if server != self.current => self.current = server,
            _ => {
                self.current = (self.current + 1) % self.ports.len();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Writer for Http {
    fn write(&mut self, key: u64, deadline: Instant) -> bool {
        let document = json!({"_key": key.to_string(), "value": value()});
        while Instant::now() < deadline {
            match self.clients[self.current].post(&format!("/_api/document/{COLLECTION}"), &document) {
                Ok(answer) if answer.ok() => return true,
                Ok(answer) => self.follow(answer.header("x-arango-endpoint")),
                Err(_) => self.follow(None),
            }
        }
        false
    }

    fn has(&mut self, key: u64) -> Option<bool> {
        let answer = self.clients[self.current].get(&format!("/_api/document/{COLLECTION}/{key}"));
        match answer {
            Ok(answer) if matches!(answer.status, 200 | 404) => return Some(answer.status == 200),
            Ok(answer) => self.follow(answer.header("x-arango-endpoint")),
            Err(_) => self.follow(None),
        }
        None
    }
}
