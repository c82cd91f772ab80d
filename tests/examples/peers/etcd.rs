//! etcd alone, three members: linearizable puts over its JSON gateway.

use crate::cluster::{ATTEMPT, Cluster, Writer, is_installed, value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tanist_tests::http::Client;
use tanist_tests::process::{Process, free_ports};

const MEMBERS: usize = 3;

struct Etcd {
    members: Vec<Process>,
    ports: Vec<u16>,
    // Last, so that it is removed when all processes are gone.
    _directory: tempfile::TempDir,
}

pub fn start(heartbeat_ms: u32, election_ms: u32) -> Option<Box<dyn Cluster>> {
    if !is_installed("etcd") {
        return None;
    }
    let directory = tempfile::Builder::new().prefix("tanist-peers-").tempdir().expect("a directory can be made");
    let base = free_ports(2 * MEMBERS as u16);
    let peer = |member: usize| format!("http://127.0.0.1:{}", base + (MEMBERS + member) as u16);
    let all: Vec<String> = (0..MEMBERS).map(|member| format!("e{member}={}", peer(member))).collect();
    let member = |member: usize| {
        let client = format!("http://127.0.0.1:{}", base + member as u16);
        let arguments = [
            format!("--name=e{member}"),
            format!("--data-dir={}", directory.path().join(format!("e{member}")).display()),
            format!("--heartbeat-interval={heartbeat_ms}"),
            format!("--election-timeout={election_ms}"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(member)),
            format!("--initial-advertise-peer-urls={}", peer(member)),
            format!("--initial-cluster={}", all.join(",")),
        ];
        let log = directory.path().join(format!("log{member}"));
        let mut process = Process::new(&format!("etcd {member}"), Path::new("etcd"), arguments.to_vec(), log);
        process.start();
        process
    };
    let members = (0..MEMBERS).map(member).collect();
    Some(Box::new(Etcd { members, ports: (base..).take(MEMBERS).collect(), _directory: directory }))
}

impl Etcd {
    fn status(&self, member: usize) -> Option<Value> {
        if !self.members[member].active() {
            return None;
        }
        let mut client = Client::new(&format!("127.0.0.1:{}", self.ports[member])).with_timeout(ATTEMPT);
        client.post("/v3/maintenance/status", &json!({})).ok().filter(|answer| answer.ok()).map(|answer| answer.json())
    }
}

impl Cluster for Etcd {
    fn leader(&self) -> Option<usize> {
        (0..MEMBERS).find(|member| {
            self.status(*member).is_some_and(|s| s["leader"].is_string() && s["leader"] == s["header"]["member_id"])
        })
    }

    fn is_sound(&self) -> bool {
        let statuses: Vec<Value> = (0..MEMBERS).filter_map(|member| self.status(member)).collect();
        let same = statuses.windows(2).all(|pair| pair[0]["leader"] == pair[1]["leader"]);
        statuses.len() == MEMBERS && same && self.leader().is_some()
    }

    fn signal(&mut self, node: usize, signal: Signal) {
        match signal {
            Signal::KILL => self.members[node].kill(),
            Signal::STOP => self.members[node].pause(),
            _ => self.members[node].resume(),
        }
    }

    fn restart(&mut self, node: usize) {
        self.members[node].start();
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(Gateway::new(&self.ports))
    }

    fn passes_on(&self) -> bool {
        true
    }

    fn direct(&self, node: usize) -> Box<dyn Writer> {
        Box::new(Gateway::new(&self.ports[node..=node]))
    }
}

/// All members in turn: each passes writes on to the one that leads.
struct Gateway {
    clients: Vec<Client>,
    current: usize,
}

impl Gateway {
    fn new(ports: &[u16]) -> Gateway {
        let client = |port: &u16| Client::new(&format!("127.0.0.1:{port}")).with_timeout(ATTEMPT);
        Gateway { clients: ports.iter().map(client).collect(), current: 0 }
    }

    fn ask(&mut self, target: &str, body: &Value) -> Option<Value> {
        let answer = self.clients[self.current].post(target, body).ok().filter(|answer| answer.ok());
        if answer.is_none() {
            self.current = (self.current + 1) % self.clients.len();
            std::thread::sleep(Duration::from_millis(1));
        }
        answer.map(|answer| answer.json())
    }
}

impl Writer for Gateway {
    fn write(&mut self, key: u64, deadline: Instant) -> bool {
        let body = json!({"key": STANDARD.encode(key.to_string()), "value": STANDARD.encode(value())});
        while Instant::now() < deadline {
            if self.ask("/v3/kv/put", &body).is_some() {
                return true;
            }
        }
        false
    }

    fn has(&mut self, key: u64) -> Option<bool> {
        let answer = self.ask("/v3/kv/range", &json!({"key": STANDARD.encode(key.to_string())}))?;
        Some(answer["count"] == json!("1"))
    }
}
