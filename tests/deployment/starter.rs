//! `tanist start`: one command, a whole deployment.

use crate::PROGRAM;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tanist_tests::http::Client;
use tanist_tests::process::{Process, free_ports, run};
use tanist_tests::wait::{wait, wait_until};

/// A running starter.
struct Started {
    process: Process,
    port: u16,
    directory: tempfile::TempDir,
}

impl Started {
    #[track_caller]
    fn new(more: &[&str]) -> Started {
        let directory = tempfile::Builder::new().prefix("tanist-test-").tempdir().unwrap();
        let port = free_ports(30);
        let mut arguments = vec![
            "start".to_owned(),
            format!("--starter.port={port}"),
            format!("--starter.data-dir={}", directory.path().join("data").display()),
        ];
        arguments.extend(more.iter().map(|argument| argument.to_string()));
        let mut process = Process::new("starter", Path::new(PROGRAM), arguments, directory.path().join("log"));
        process.start();
        let started = Started { process, port, directory };
        started.wait_ready();
        started
    }

    #[track_caller]
    fn wait_ready(&self) {
        wait_until("the starter says where to connect", || self.process.log_text().contains("Connect to"));
    }

    fn servers(&self) -> Vec<u16> {
        vec![self.port + 1, self.port + 11, self.port + 21]
    }

    fn client(&self, port: u16) -> Client {
        Client::new(&format!("127.0.0.1:{port}"))
    }

    fn leader(&self) -> Option<u16> {
        self.servers().into_iter().find(|port| {
            let mut client = self.client(*port).with_timeout(Duration::from_secs(1));
            client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 200)
        })
    }

    #[track_caller]
    fn wait_leader_other_than(&self, port: u16) -> u16 {
        wait("another server leads", || self.leader().filter(|leader| *leader != port))
    }

    fn starter(&self, target: &str) -> Value {
        self.client(self.port).get(target).map(|answer| answer.json()).unwrap_or(Value::Null)
    }

    /// The process number of what listens on a port.
    #[track_caller]
    fn pid(&self, port: u16) -> u32 {
        wait("the starter knows the process", || {
            let servers = self.starter("/process")["servers"].as_array()?.clone();
            let entry = servers.iter().find(|server| server["port"] == json!(port))?.clone();
            entry["pid"].as_u64()
        }) as u32
    }

    fn signal(&self, port: u16, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid(port).cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// `tanist COMMAND` for this deployment.
    fn command(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(PROGRAM);
        command.args(words).arg(format!("--endpoint=tcp://127.0.0.1:{}", self.port));
        run(&mut command)
    }
}

#[test]
fn one_command_starts_watches_and_stops_everything() {
    let mut started = Started::new(&[]);
    let leader = started.leader().expect("a leader serves when the starter says so");
    let text = started.process.log_text();
    assert!(text.contains(&format!("http://127.0.0.1:{leader}   leader")), "{text}");
    let listed = started.starter("/process");
    assert_eq!(listed["servers-started"], json!(true));
    let kinds: Vec<&str> = listed["servers"].as_array().unwrap().iter().filter_map(|s| s["type"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "agent").count(), 3);
    assert_eq!(kinds.iter().filter(|kind| **kind == "resilientsingle").count(), 3);
    let endpoints = started.starter("/endpoints");
    assert_eq!(endpoints["coordinators"].as_array().map(Vec::len), Some(3), "{endpoints}");

    let mut client = started.client(leader);
    client.post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    client.post("/_api/document/c", &json!({"_key": "x"})).unwrap().expect(202);

    let dirty = [("X-Arango-Allow-Dirty-Read", "true")];
    for follower in started.servers().into_iter().filter(|port| *port != leader) {
        wait_until("the document is replicated", || {
            let answer = started.client(follower).send("GET", "/_api/document/c/x", &dirty, b"");
            answer.is_ok_and(|answer| answer.status == 200)
        });
    }

    // Killed: the starter has reaped it and says so, nobody waits for the lease; and it starts it again.
    let dead = started.pid(leader);
    let at = Instant::now();
    started.signal(leader, Signal::KILL);
    let new = started.wait_leader_other_than(leader);
    let took = at.elapsed();
    assert!(took < Duration::from_millis(1500), "faster than the lease of 2 s: {took:?}");
    wait_until("the old leader runs again and follows", || {
        started.pid(leader) != dead
            && started.client(leader).get("/_api/collection").is_ok_and(|answer| {
                answer.refusal() == (503, 1496)
                    && answer.header("x-arango-endpoint") == Some(&format!("http://127.0.0.1:{new}"))
            })
    });
    started.client(new).get("/_api/document/c/x").unwrap().expect(200);

    let (code, text) = started.command(&["status"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&new.to_string()) && text.to_lowercase().contains("leader"), "{text}");
    let (code, text) = started.command(&["status", "--json"]);
    assert_eq!(code, 0, "{text}");
    serde_json::from_str::<Value>(&text).expect("JSON");

    assert!(started.process.terminate().success());
    for port in started.servers().into_iter().chain([started.port, started.port + 3]) {
        assert!(started.client(port).get("/_api/version").is_err(), "{port} still answers");
    }
    // It remembers how it was set up, and the data is there.
    started.process.arguments.retain(|argument| !argument.starts_with("--starter.port"));
    std::fs::remove_file(&started.process.log).unwrap();
    started.process.start();
    started.wait_ready();
    let leader = wait("a server leads", || started.leader());
    started.client(leader).get("/_api/document/c/x").unwrap().expect(200);
    // The other way to stop it.
    started.client(started.port).post("/shutdown", &Value::Null).unwrap().expect(200);
    assert!(started.process.ended().success());
}

#[test]
fn an_operator_moves_leadership() {
    let started = Started::new(&[]);
    let old = wait("a server leads", || started.leader());
    started.client(old).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    let (code, text) = started.command(&["switchover"]);
    assert_eq!(code, 0, "{text}");
    let new = started.wait_leader_other_than(old);
    started.client(new).get("/_api/collection/c").unwrap().expect(200);

    // To a given server: back again.
    let status = started.client(old).get("/_admin/status").unwrap().json();
    let id = status["serverInfo"]["serverId"].as_str().expect("an id").to_owned();
    let (code, text) = started.command(&["switchover", "--to", &id]);
    assert_eq!(code, 0, "{text}");
    wait_until("the named server leads", || started.leader() == Some(old));
    started.client(old).get("/_api/collection/c").unwrap().expect(200);
    let (code, text) = started.command(&["switchover", "--to", "SNGL-00000000-0000-0000-0000-000000000000"]);
    assert!(code != 0 && !text.contains("panicked"), "{text}");
}

#[test]
fn children_do_not_outlive_a_killed_starter() {
    let mut started = Started::new(&["--cluster.agency-size=1"]);
    let ports = [started.port + 1, started.port + 3];
    started.process.kill();
    for port in ports {
        wait_until("the child is gone", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
    started.process.start();
    wait("a server leads again", || started.leader());
}

#[test]
fn two_starters_do_not_share_a_directory() {
    let started = Started::new(&["--starter.mode=single"]);
    let mut command = Command::new(PROGRAM);
    let data = started.directory.path().join("data");
    command.args(["start", "--starter.mode=single"]).arg(format!("--starter.data-dir={}", data.display()));
    let (code, text) = run(&mut command);
    assert!(code != 0 && text.contains("another starter"), "{text}");
}

#[test]
fn without_a_secret_only_this_machine_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["start", "--starter.address=0.0.0.0"]);
    command.arg(format!("--starter.data-dir={}", directory.path().display()));
    let (code, text) = run(&mut command);
    assert!(code != 0 && text.contains("--auth.jwt-secret"), "{text}");
}
