//! PostgreSQL with Patroni: two nodes, and one etcd that keeps the leader's lock. Replication is asynchronous, as
//! shipped.

use crate::cluster::{ATTEMPT, Cluster, Writer, is_installed};
use crate::postgres::{self, CREATE_TABLE, Client, Node};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tanist_tests::http;
use tanist_tests::postgresql::{self, Sweeper};
use tanist_tests::process::{Process, free_ports};
use tanist_tests::wait::{wait_until, wait_within};

const NODES: u16 = 2;
/// To make a database, and a copy of it.
const SET_UP_WITHIN: Duration = Duration::from_secs(180);

/// How soon a leader that is silent is replaced, in seconds.
pub struct Settings {
    pub ttl: u32,
    pub loop_wait: u32,
    pub retry_timeout: u32,
    /// A crashed PostgreSQL is first started again where it is, for so long.
    pub primary_start_timeout: u32,
}

pub const AS_SHIPPED: Settings = Settings { ttl: 30, loop_wait: 10, retry_timeout: 10, primary_start_timeout: 300 };
/// The least that its documentation allows.
pub const FAST: Settings = Settings { ttl: 20, loop_wait: 1, retry_timeout: 3, primary_start_timeout: 0 };

struct Patroni {
    nodes: Vec<Node>,
    ports: Vec<u16>,
    rest: Vec<u16>,
    _etcd: Process,
    _sweeper: Sweeper,
    // Last, so that it is removed when all processes are gone.
    _directory: tempfile::TempDir,
}

pub fn start(settings: &Settings) -> Option<Box<dyn Cluster>> {
    if !is_installed("patroni") || !is_installed("etcd") || !postgresql::can_run() {
        return None;
    }
    let directory = postgresql::directory("tanist-peers-");
    let sweeper = Sweeper::of(directory.path());
    let base = free_ports(2 * NODES + 2);
    let ports: Vec<u16> = (base..).take(NODES.into()).collect();
    let rest: Vec<u16> = (base + NODES..).take(NODES.into()).collect();
    let etcd = start_etcd(base + 2 * NODES, directory.path());
    let mut nodes: Vec<Node> = (0..NODES.into())
        .map(|node| {
            let folder = postgresql::folder(&directory.path().join(format!("node{node}")));
            let file = folder.join("patroni.json");
            let configuration =
                configuration(settings, node, ports[node], rest[node], base + 2 * NODES, &folder).to_string();
            std::fs::write(&file, configuration).expect("a file can be written");
            let environment = BTreeMap::from([("HOME".to_owned(), folder.display().to_string())]);
            let log = directory.path().join(format!("log{node}"));
            let arguments = [file.display().to_string()];
            Node::new(&format!("patroni {node}"), "patroni", &arguments, environment, folder.join("data"), log)
        })
        .collect();
    nodes[0].start();
    wait_within(SET_UP_WITHIN, "a table is made", || postgres::ask(ports[0], CREATE_TABLE));
    nodes[1].start();
    let cluster = Patroni { nodes, ports, rest, _etcd: etcd, _sweeper: sweeper, _directory: directory };
    wait_within(SET_UP_WITHIN, "Patroni is sound", || cluster.is_sound().then_some(()));
    Some(Box::new(cluster))
}

fn start_etcd(port: u16, directory: &Path) -> Process {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", port + 1));
    let arguments = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ];
    let mut etcd = Process::new("etcd", Path::new("etcd"), arguments.to_vec(), directory.join("etcd.log"));
    etcd.start();
    wait_until("etcd answers", || {
        let mut client = http::Client::new(&format!("127.0.0.1:{port}")).with_timeout(ATTEMPT);
        client.post("/v3/maintenance/status", &json!({})).is_ok_and(|answer| answer.ok())
    });
    etcd
}

fn configuration(
    settings: &Settings,
    node: usize,
    port: u16,
    rest: u16,
    etcd: u16,
    folder: &Path,
) -> serde_json::Value {
    let at = |port: u16| format!("127.0.0.1:{port}");
    json!({
        "scope": "peers",
        "name": format!("node{node}"),
        "restapi": {"listen": at(rest), "connect_address": at(rest)},
        "etcd3": {"hosts": at(etcd)},
        "bootstrap": {
            "dcs": {
                "ttl": settings.ttl,
                "loop_wait": settings.loop_wait,
                "retry_timeout": settings.retry_timeout,
                "primary_start_timeout": settings.primary_start_timeout,
                "maximum_lag_on_failover": 1 << 20,
                "postgresql": {"use_pg_rewind": true, "use_slots": true},
            },
            "initdb": [{"encoding": "UTF8"}, "data-checksums", {"locale": "C"}],
        },
        "postgresql": {
            "listen": at(port),
            "connect_address": at(port),
            "data_dir": folder.join("data"),
            "bin_dir": postgresql::programs(),
            "pgpass": folder.join("pgpass"),
            "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
            "pg_hba": [
                "local all all trust",
                "host all all 127.0.0.1/32 trust",
                "host replication all 127.0.0.1/32 trust",
            ],
            "parameters": {"unix_socket_directories": folder, "wal_log_hints": "on"},
        },
    })
}

impl Cluster for Patroni {
    fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| {
            let mut client = http::Client::new(&format!("127.0.0.1:{}", self.rest[*node])).with_timeout(ATTEMPT);
            client.get("/primary").is_ok_and(|answer| answer.status == 200)
        })
    }

    fn is_sound(&self) -> bool {
        self.leader().is_some_and(|leader| postgres::follows(self.ports[1 - leader], self.ports[leader]))
    }

    fn signal(&mut self, node: usize, signal: Signal) {
        self.nodes[node].signal(signal);
    }

    fn restart(&mut self, node: usize) {
        self.nodes[node].start();
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(Client::new(&self.ports))
    }

    fn direct(&self, node: usize) -> Box<dyn Writer> {
        Box::new(Client::new(&self.ports[node..=node]))
    }
}
