//! `tanist start` and what it runs, against everything that an operator does to them and gets wrong.

mod directories;
mod lifecycle;
mod options;
mod planned;
mod secret;

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tanist_tests::process::run;
use tanist_tests::starter::Starter;
use tanist_tests::wait::wait_until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tanist-for-tests");

fn start(more: &[&str]) -> Starter {
    Starter::new(Path::new(PROGRAM), more)
}

/// One run of the program to its end: its exit code and what it printed.
#[track_caller]
fn tanist(words: &[&str]) -> (i32, String) {
    let (code, text) = run(Command::new("timeout").args(["-s", "KILL", "60", PROGRAM]).args(words));
    assert!(!text.contains("panicked"), "{text}");
    (code, text)
}

/// The processes in an answer of `/process`.
fn pids(listed: &Value) -> Vec<u32> {
    let servers = listed["servers"].as_array().cloned().unwrap_or_default();
    servers.iter().filter_map(|server| server["pid"].as_u64()).map(|pid| pid as u32).collect()
}

/// A zombie has ended, and waits only for its parent.
fn exists(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[track_caller]
fn wait_gone(pids: &[u32]) {
    wait_until("no child is left", || !pids.iter().any(|pid| exists(*pid)));
}

/// A child's log.
fn log(started: &Starter, child: &str) -> String {
    std::fs::read_to_string(started.directory.path().join(format!("data/{child}/tanist.log"))).unwrap_or_default()
}

fn agents(started: &Starter) -> Vec<String> {
    [3, 13, 23].map(|offset| format!("agent{}", started.port + offset)).to_vec()
}

fn servers(started: &Starter) -> Vec<String> {
    started.servers().iter().map(|port| format!("single{port}")).collect()
}
