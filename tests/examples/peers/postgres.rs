//! PostgreSQL as whoever makes it fail over runs it: which processes a node consists of, and what a client says to it.

use crate::cluster::{ATTEMPT, Writer, value};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tanist_tests::postgresql::{OWNER, as_owner};
use tanist_tests::process::Process;

/// Where clients store: a key and a value.
pub const CREATE_TABLE: &str = "CREATE TABLE peers(k bigint PRIMARY KEY, v text)";
/// A process that keeps a PostgreSQL, and that PostgreSQL, which need not be its child.
pub struct Node {
    keeper: Process,
    data: PathBuf,
}

impl Node {
    /// Not started yet; `data` is PostgreSQL's own directory.
    pub fn new(
        name: &str,
        program: &str,
        arguments: &[String],
        environment: BTreeMap<String, String>,
        data: PathBuf,
        log: PathBuf,
    ) -> Node {
        let mut words = as_owner(program, arguments);
        let program = PathBuf::from(words.remove(0));
        let mut keeper = Process::new(name, &program, words, log);
        keeper.environment = environment;
        Node { keeper, data }
    }

    pub fn start(&mut self) {
        self.keeper.start();
    }

    /// PostgreSQL's first process, if it runs.
    fn postmaster(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.trim().parse().ok()?;
        let inside = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (inside == self.data.canonicalize().ok()?).then_some(pid)
    }

    /// All processes of the node get the signal, those that come into being meanwhile as well.
    pub fn signal(&mut self, signal: Signal) {
        for _ in 0..2 {
            let roots: Vec<u32> = self.keeper.pid().into_iter().chain(self.postmaster()).collect();
            for pid in with_descendants(&roots) {
                // It may have ended by itself.
                let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a process number is above 0"), signal);
            }
        }
        if signal == Signal::KILL {
            self.keeper.kill();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Processes, their children, and so on.
fn with_descendants(roots: &[u32]) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold anything; the state and the parent's number come after it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = after.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found: Vec<u32> = Vec::new();
    let mut left = roots.to_vec();
    while let Some(pid) = left.pop() {
        if !found.contains(&pid) {
            found.push(pid);
            left.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// A connection that trusts: no password is asked for.
pub struct Connection(TcpStream);

impl Connection {
    pub fn open(port: u16, user: &str, database: &str, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let mut connection = Connection(stream);
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for word in ["user", user, "database", database, ""] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        connection.send(None, &body)?;
        connection.receive().map(|_| connection)
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.0.write_all(&message)
    }

    /// Until the server is ready for the next question: the first column of each row.
    fn receive(&mut self) -> io::Result<Vec<String>> {
        let (mut rows, mut problem) = (Vec::new(), None);
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head)?;
            let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
            let mut body = vec![0; (length as usize).saturating_sub(4)];
            self.0.read_exact(&mut body)?;
            match head[0] {
                b'Z' => return problem.map_or(Ok(rows), Err),
                b'E' => problem = Some(io::Error::other(String::from_utf8_lossy(&body).replace('\0', " "))),
                b'R' if body != [0; 4] => return Err(io::Error::other("a password is asked for")),
                b'D' => {
                    let length = body
                        .get(2..6)
                        .map_or(0, |bytes| i32::from_be_bytes(bytes.try_into().expect("four bytes")).max(0) as usize);
                    rows.push(String::from_utf8_lossy(body.get(6..6 + length).unwrap_or_default()).into_owned());
                }
                _ => {}
            }
            // Before a connection is open, an error is the end.
            if head[0] == b'E' && rows.is_empty() && body.starts_with(b"SFATAL") {
                return Err(problem.expect("just set"));
            }
        }
    }

    /// The first column of each row.
    pub fn query(&mut self, statement: &str) -> io::Result<Vec<String>> {
        let mut body = statement.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body)?;
        self.receive()
    }
}

/// One question over a connection of its own.
pub fn ask(port: u16, statement: &str) -> Option<String> {
    let mut connection = Connection::open(port, OWNER, "postgres", Duration::from_secs(1)).ok()?;
    connection.query(statement).ok().map(|rows| rows.into_iter().next().unwrap_or_default())
}

/// Whether a node streams from the one at another port, as both say.
pub fn follows(node: u16, leader: u16) -> bool {
    let streams =
        "SELECT pg_is_in_recovery() AND EXISTS(SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming')";
    ask(node, streams).as_deref() == Some("t")
        && ask(leader, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").as_deref() == Some("1")
}

/// A client that looks, among the nodes that it knows, for the one that takes writes.
pub struct Client {
    ports: Vec<u16>,
    turn: usize,
    connection: Option<Connection>,
}

impl Client {
    pub fn new(ports: &[u16]) -> Client {
        Client { ports: ports.to_vec(), turn: 0, connection: None }
    }

    fn ask(&mut self, statement: &str) -> Option<Vec<String>> {
        if self.connection.is_none() {
            let port = self.ports[self.turn];
            // Half of the time for each of two, so that one that hangs does not hide the other.
            let found = Connection::open(port, OWNER, "postgres", ATTEMPT / 2).and_then(|mut connection| {
                let writable = connection.query("SELECT pg_is_in_recovery()")? == ["f"];
                writable.then_some(connection).ok_or_else(|| io::Error::other("it follows"))
            });
            self.connection = found.ok();
        }
        let answer = self.connection.as_mut().and_then(|connection| connection.query(statement).ok());
        if answer.is_none() {
            self.connection = None;
            self.turn = (self.turn + 1) % self.ports.len();
            std::thread::sleep(Duration::from_millis(1));
        }
        answer
    }
}

impl Writer for Client {
    fn write(&mut self, key: u64, deadline: Instant) -> bool {
        // An attempt that nobody answered may have been kept.
        let statement = format!("INSERT INTO peers VALUES ({key}, '{}') ON CONFLICT DO NOTHING", value());
        while Instant::now() < deadline {
            if self.ask(&statement).is_some() {
                return true;
            }
        }
        false
    }

    fn has(&mut self, key: u64) -> Option<bool> {
        self.ask(&format!("SELECT count(*) FROM peers WHERE k = {key}")).map(|rows| rows == ["1"])
    }
}
