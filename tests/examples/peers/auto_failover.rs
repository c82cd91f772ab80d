//! PostgreSQL with pg_auto_failover: a monitor, which decides, and two nodes. Replication is synchronous while the
//! follower is well, as shipped.

use crate::cluster::{Cluster, Writer, is_installed};
use crate::postgres::{self, CREATE_TABLE, Client, Connection, Node};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tanist_tests::postgresql::{self, Sweeper};
use tanist_tests::process::free_ports;
use tanist_tests::wait::{wait_until, wait_within};

const PROGRAM: &str = "pg_autoctl";
const SET_UP_WITHIN: Duration = Duration::from_secs(180);
/// States of a node that takes writes.
const LEADS: &str = "('single', 'wait_primary', 'primary', 'join_primary', 'apply_settings')";

/// What the monitor is told, and after how many seconds alone a leader stops by itself.
pub struct Settings {
    pub monitor: &'static [(&'static str, u32)],
    pub partition_timeout: Option<u32>,
}

pub const AS_SHIPPED: Settings = Settings { monitor: &[], partition_timeout: None };
/// In milliseconds. A leader that is alone stops before the monitor demotes it.
pub const FAST: Settings = Settings {
    monitor: &[
        ("health_check_period", 1000),
        ("health_check_timeout", 1000),
        ("health_check_max_retries", 1),
        ("health_check_retry_delay", 500),
        ("node_considered_unhealthy_timeout", 3000),
        ("primary_demote_timeout", 3000),
        ("startup_grace_period", 3000),
    ],
    partition_timeout: Some(2),
};

struct AutoFailover {
    nodes: Vec<Node>,
    ports: Vec<u16>,
    monitor_port: u16,
    _monitor: Node,
    _sweeper: Sweeper,
    // Last, so that it is removed when all processes are gone.
    _directory: tempfile::TempDir,
}

/// One of the three: its home, its environment, its PostgreSQL's directory.
struct Place {
    home: PathBuf,
    environment: BTreeMap<String, String>,
    data: PathBuf,
}

impl Place {
    fn new(directory: &Path, name: &str) -> Place {
        let home = postgresql::folder(&directory.join(name));
        let folder = |name: &str| home.join(name).display().to_string();
        let programs = postgresql::programs().expect("it was looked for").display().to_string();
        let environment = [
            ("HOME", home.display().to_string()),
            ("XDG_RUNTIME_DIR", home.display().to_string()),
            ("XDG_CONFIG_HOME", folder("config")),
            ("XDG_DATA_HOME", folder("share")),
            ("PATH", format!("{programs}:/usr/bin:/bin")),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Place { data: home.join("data"), environment, home }
    }

    /// `pg_autoctl WORDS --pgdata DATA MORE`.
    fn command(&self, words: &[&str], more: &[String]) {
        let mut arguments: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        arguments.push(format!("--pgdata={}", self.data.display()));
        arguments.extend_from_slice(more);
        postgresql::command(PROGRAM, &arguments, &self.environment);
    }

    fn append(&self, file: &str, text: &str) {
        let mut file = OpenOptions::new().append(true).open(self.data.join(file)).expect("the file is there");
        file.write_all(text.as_bytes()).expect("a file can be written");
    }

    fn node(&self, name: &str) -> Node {
        let arguments = ["run".to_owned(), format!("--pgdata={}", self.data.display())];
        let log = self.home.join("log");
        Node::new(name, PROGRAM, &arguments, self.environment.clone(), self.data.clone(), log)
    }
}

pub fn start(settings: &Settings) -> Option<Box<dyn Cluster>> {
    if !is_installed(PROGRAM) || !postgresql::can_run() {
        return None;
    }
    // Where Debian's PostgreSQL has its sockets; it wants one there.
    postgresql::folder(Path::new("/var/run/postgresql"));
    let directory = postgresql::directory("tanist-peers-");
    let sweeper = Sweeper::of(directory.path());
    let base = free_ports(3);
    let ports = vec![base + 1, base + 2];
    let trust = |port: u16| {
        let words = [format!("--pgport={port}"), "--hostname=127.0.0.1".to_owned()];
        words.into_iter().chain(["--auth=trust", "--no-ssl"].map(str::to_owned)).collect::<Vec<String>>()
    };
    let place = Place::new(directory.path(), "monitor");
    place.command(&["create", "monitor"], &trust(base));
    let lines = settings.monitor.iter().map(|(name, value)| format!("pgautofailover.{name} = {value}\n"));
    place.append("postgresql.conf", &lines.collect::<String>());
    let mut monitor = place.node("monitor");
    monitor.start();
    wait_until("the monitor answers", || ask_monitor(base, "SELECT 1").is_some());
    let uri = format!("postgres://autoctl_node@127.0.0.1:{base}/pg_auto_failover?sslmode=prefer");
    let mut nodes = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let place = Place::new(directory.path(), &format!("node{number}"));
        let mut more = trust(*port);
        more.extend([format!("--name=node{number}"), "--listen=127.0.0.1".to_owned(), format!("--monitor={uri}")]);
        place.command(&["create", "postgres"], &more);
        if let Some(seconds) = settings.partition_timeout {
            let more = ["timeout.network_partition_timeout".to_owned(), seconds.to_string()];
            place.command(&["config", "set"], &more);
        }
        place.append("pg_hba.conf", "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n");
        let mut node = place.node(&format!("node {number}"));
        node.start();
        nodes.push(node);
        if number == 0 {
            wait_within(SET_UP_WITHIN, "a table is made", || postgres::ask(*port, CREATE_TABLE));
        }
    }
    let cluster =
        AutoFailover { nodes, ports, monitor_port: base, _monitor: monitor, _sweeper: sweeper, _directory: directory };
    wait_within(SET_UP_WITHIN, "pg_auto_failover is sound", || cluster.is_sound().then_some(()));
    Some(Box::new(cluster))
}

fn ask_monitor(port: u16, statement: &str) -> Option<String> {
    let mut connection = Connection::open(port, "autoctl_node", "pg_auto_failover", Duration::from_secs(1)).ok()?;
    connection.query(statement).ok()?.into_iter().next()
}

impl Cluster for AutoFailover {
    fn leader(&self) -> Option<usize> {
        let statement = format!(
            "SELECT nodename FROM pgautofailover.node WHERE goalstate IN {LEADS} AND reportedstate IN {LEADS} LIMIT 1"
        );
        ask_monitor(self.monitor_port, &statement)?.strip_prefix("node")?.parse().ok()
    }

    fn is_sound(&self) -> bool {
        let states = "SELECT string_agg(reportedstate::text || '/' || goalstate::text, ' ' ORDER BY reportedstate::text) \
                      FROM pgautofailover.node";
        ask_monitor(self.monitor_port, states).as_deref() == Some("primary/primary secondary/secondary")
            && self.leader().is_some_and(|leader| postgres::follows(self.ports[1 - leader], self.ports[leader]))
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
