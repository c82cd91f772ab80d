//! A deployment of `tanist start`: what one command gives an operator.

use crate::http::Client;
use crate::process::{Process, free_ports, run};
use crate::wait::{wait, wait_until};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A running starter, known by its ports as to an operator: P, servers at P+1, P+11, P+21, agents at P+3 and so on.
pub struct Starter {
    pub process: Process,
    pub port: u16,
    // Last, so that it is removed when all processes are gone.
    pub directory: tempfile::TempDir,
}

impl Starter {
    #[track_caller]
    pub fn new(program: &Path, more: &[&str]) -> Starter {
        let directory = tempfile::Builder::new().prefix("tanist-test-").tempdir().expect("a directory can be made");
        let port = free_ports(30);
        let mut arguments = vec![
            "start".to_owned(),
            format!("--starter.port={port}"),
            format!("--starter.data-dir={}", directory.path().join("data").display()),
        ];
        arguments.extend(more.iter().map(|argument| argument.to_string()));
        let mut process = Process::new("starter", program, arguments, directory.path().join("log"));
        process.start();
        let started = Starter { process, port, directory };
        started.wait_ready();
        started
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until("the starter says where to connect", || self.process.log_text().contains("Connect to"));
    }

    /// The ports of the three servers.
    pub fn servers(&self) -> Vec<u16> {
        vec![self.port + 1, self.port + 11, self.port + 21]
    }

    pub fn client(&self, port: u16) -> Client {
        Client::new(&format!("127.0.0.1:{port}"))
    }

    /// The server that serves now, if one does.
    pub fn leader(&self) -> Option<u16> {
        self.servers().into_iter().find(|port| {
            let mut client = self.client(*port).with_timeout(Duration::from_secs(1));
            client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 200)
        })
    }

    /// The ports of the three agents.
    pub fn agents(&self) -> Vec<u16> {
        vec![self.port + 3, self.port + 13, self.port + 23]
    }

    /// The agent that leads the agency, as most agents say.
    pub fn agency_leader(&self) -> Option<u16> {
        let named = |port: &u16| {
            let mut client = self.client(*port).with_timeout(Duration::from_secs(1));
            let config = client.get("/_api/agency/config").ok()?.json();
            let leader = config["configuration"]["pool"][config["leaderId"].as_str()?].as_str()?.to_owned();
            leader.rsplit(':').next()?.parse::<u16>().ok()
        };
        let votes: Vec<u16> = self.agents().iter().filter_map(named).collect();
        self.agents().into_iter().find(|port| votes.iter().filter(|vote| *vote == port).count() >= 2)
    }

    #[track_caller]
    pub fn wait_leader_other_than(&self, port: u16) -> u16 {
        wait("another server leads", || self.leader().filter(|leader| *leader != port))
    }

    /// Waits until all other servers follow the leader and have what it has.
    #[track_caller]
    pub fn wait_followers(&self) {
        wait_until("two servers follow", || {
            let Some(leader) = self.leader() else { return false };
            let Ok(answer) = self.client(leader).get("/_api/tanist/status") else { return false };
            let followers = answer.json()["followers"].as_array().cloned().unwrap_or_default();
            followers.len() == 2 && followers.iter().all(|follower| follower["lag"] == json!(0))
        });
    }

    /// Waits until all other servers follow the leader and are nearly there: while clients write, nobody has all.
    #[track_caller]
    pub fn wait_followers_lagging(&self, most: u64) {
        wait_until("two servers follow", || {
            let Some(leader) = self.leader() else { return false };
            let Ok(answer) = self.client(leader).get("/_api/tanist/status") else { return false };
            let followers = answer.json()["followers"].as_array().cloned().unwrap_or_default();
            followers.len() == 2
                && followers.iter().all(|follower| follower["lag"].as_u64().is_some_and(|lag| lag <= most))
        });
    }

    /// The starter's own API; `Null` if it does not answer.
    pub fn ask(&self, target: &str) -> Value {
        self.client(self.port).get(target).map(|answer| answer.json()).unwrap_or(Value::Null)
    }

    /// The process number of what listens on a port.
    #[track_caller]
    pub fn pid(&self, port: u16) -> u32 {
        wait("the starter knows the process", || {
            let servers = self.ask("/process")["servers"].as_array()?.clone();
            let entry = servers.iter().find(|server| server["port"] == json!(port))?.clone();
            entry["pid"].as_u64()
        }) as u32
    }

    #[track_caller]
    pub fn signal(&self, port: u16, signal: Signal) {
        let pid = Pid::from_raw(self.pid(port).cast_signed()).expect("a process number is above 0");
        rustix::process::kill_process(pid, signal).expect("a signal can be sent");
    }

    /// `tanist WORDS --endpoint` of this starter: its exit code and what it printed.
    pub fn command(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(&self.process.program);
        command.args(words).arg(format!("--endpoint=tcp://127.0.0.1:{}", self.port));
        run(&mut command)
    }
}
