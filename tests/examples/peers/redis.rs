//! Redis with Sentinel: a primary and a replica, three sentinels. Every write is appended to the file at once, and
//! synced once a second, as shipped.

use crate::cluster::{ATTEMPT, Cluster, Writer, is_installed, value};
use rustix::process::Signal;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tanist_tests::process::{Process, free_ports};
use tanist_tests::wait::wait_until;

const MASTER: &str = "mymaster";

struct Redis {
    nodes: Vec<Process>,
    ports: Vec<u16>,
    _sentinels: Vec<Process>,
    sentinels: Vec<u16>,
    // Last, so that it is removed when all processes are gone.
    _directory: tempfile::TempDir,
}

pub fn start(down_after_ms: u32, failover_timeout_ms: u32) -> Option<Box<dyn Cluster>> {
    if !is_installed("redis-server") || !is_installed("redis-sentinel") {
        return None;
    }
    let directory = tempfile::Builder::new().prefix("tanist-peers-").tempdir().expect("a directory can be made");
    let base = free_ports(5);
    let ports = vec![base, base + 1];
    let sentinels: Vec<u16> = (base + 2..base + 5).collect();
    let process = |name: String, program: &str, configuration: String| {
        let file = directory.path().join(format!("{name}.conf"));
        std::fs::write(&file, configuration).expect("a file can be written");
        let log = directory.path().join(format!("{name}.log"));
        let mut process = Process::new(&name, Path::new(program), vec![file.display().to_string()], log);
        process.start();
        process
    };
    let node = |node: usize| {
        let data = directory.path().join(format!("data{node}"));
        std::fs::create_dir(&data).expect("a directory can be made");
        let follow = if node == 0 { String::new() } else { format!("replicaof 127.0.0.1 {base}\n") };
        let configuration = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nappendonly yes\nappendfsync everysec\nsave \"\"\n{follow}",
            ports[node],
            data.display()
        );
        process(format!("redis{node}"), "redis-server", configuration)
    };
    let nodes: Vec<Process> = vec![node(0), node(1)];
    let sentinel = |port: &u16| {
        let configuration = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {base} 2\n\
             sentinel down-after-milliseconds {MASTER} {down_after_ms}\n\
             sentinel failover-timeout {MASTER} {failover_timeout_ms}\n",
            directory.path().display()
        );
        process(format!("sentinel{port}"), "redis-sentinel", configuration)
    };
    wait_until("redis answers", || ports.iter().all(|port| ask(*port, &["PING"]).is_ok()));
    let processes = sentinels.iter().map(sentinel).collect();
    Some(Box::new(Redis { nodes, ports, _sentinels: processes, sentinels, _directory: directory }))
}

impl Redis {
    fn replication(&self, node: usize) -> String {
        ask(self.ports[node], &["INFO", "replication"]).map(|lines| lines.join("\n")).unwrap_or_default()
    }
}

impl Cluster for Redis {
    fn leader(&self) -> Option<usize> {
        let votes: Vec<u16> = self.sentinels.iter().filter_map(|port| named_by(*port)).collect();
        (0..self.ports.len()).find(|node| votes.iter().filter(|vote| **vote == self.ports[*node]).count() >= 2)
    }

    fn is_sound(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let of_sentinel = |port: &u16| {
            let lines = ask(*port, &["SENTINEL", "master", MASTER]).unwrap_or_default();
            let field = |name: &str| lines.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
            // Without a replica that it knows of it gives up at once, and tries again only after six minutes.
            let expected = [("num-other-sentinels", "2"), ("num-slaves", "1"), ("flags", "master")];
            expected.iter().all(|(name, value)| field(name).as_deref() == Some(*value))
        };
        let replica = self.replication(1 - leader);
        self.replication(leader).contains("role:master")
            && self.replication(leader).contains("state=online")
            && replica.contains("role:slave")
            && replica.contains("master_link_status:up")
            && self.sentinels.iter().all(of_sentinel)
    }

    fn signal(&mut self, node: usize, signal: Signal) {
        match signal {
            Signal::KILL => self.nodes[node].kill(),
            Signal::STOP => self.nodes[node].pause(),
            _ => self.nodes[node].resume(),
        }
    }

    fn restart(&mut self, node: usize) {
        self.nodes[node].start();
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(Aware { sentinels: self.sentinels.clone(), current: None })
    }

    fn direct(&self, node: usize) -> Box<dyn Writer> {
        Box::new(Direct { port: self.ports[node], connection: None })
    }
}

/// The port of the master that a sentinel names.
fn named_by(sentinel: u16) -> Option<u16> {
    ask(sentinel, &["SENTINEL", "get-master-addr-by-name", MASTER]).ok()?.get(1)?.parse().ok()
}

/// One command over a new connection.
fn ask(port: u16, words: &[&str]) -> io::Result<Vec<String>> {
    Connection::open(port)?.call(words)
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), ATTEMPT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ATTEMPT))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// The strings of the answer, whatever its shape; an error answer is an error.
    fn call(&mut self, words: &[&str]) -> io::Result<Vec<String>> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(command.as_bytes())?;
        let mut found = Vec::new();
        let mut left = 1;
        while left > 0 {
            left -= 1;
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
            match (kind, rest.parse::<i64>()) {
                ("-", _) => return Err(io::Error::other(rest.to_owned())),
                ("*", Ok(count)) => left += count.max(0),
                ("$", Ok(length)) if length >= 0 => {
                    let mut bytes = vec![0; length as usize + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length as usize);
                    found.push(String::from_utf8_lossy(&bytes).into_owned());
                }
                ("$", _) => {}
                _ => found.push(rest.to_owned()),
            }
        }
        Ok(found)
    }
}

struct Direct {
    port: u16,
    connection: Option<Connection>,
}

impl Direct {
    fn call(&mut self, words: &[&str]) -> Option<Vec<String>> {
        if self.connection.is_none() {
            self.connection = Connection::open(self.port).ok();
        }
        let answer = self.connection.as_mut()?.call(words);
        if answer.is_err() {
            self.connection = None;
        }
        answer.ok()
    }
}

impl Writer for Direct {
    fn write(&mut self, key: u64, _deadline: Instant) -> bool {
        self.call(&["SET", &key.to_string(), &value()]).is_some()
    }

    fn has(&mut self, key: u64) -> Option<bool> {
        self.call(&["EXISTS", &key.to_string()]).map(|answer| answer == ["1"])
    }
}

/// Asks the sentinels for the master whenever it has none that answers.
struct Aware {
    sentinels: Vec<u16>,
    current: Option<Direct>,
}

impl Aware {
    fn find(&mut self) -> Option<&mut Direct> {
        if self.current.is_none() {
            let port = self.sentinels.iter().find_map(|sentinel| named_by(*sentinel))?;
            self.current = Some(Direct { port, connection: None });
        }
        self.current.as_mut()
    }
}

impl Writer for Aware {
    fn write(&mut self, key: u64, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            if self.find().is_some_and(|direct| direct.write(key, deadline)) {
                return true;
            }
            self.current = None;
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn has(&mut self, key: u64) -> Option<bool> {
        let answer = self.find()?.has(key);
        if answer.is_none() {
            self.current = None;
        }
        answer
    }
}
