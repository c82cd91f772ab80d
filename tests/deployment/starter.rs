//! `tanist start`: one command, a whole deployment.

use crate::PROGRAM;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tanist_tests::process::run;
use tanist_tests::starter::Starter;
use tanist_tests::wait::{wait, wait_until};

fn start(more: &[&str]) -> Starter {
    Starter::new(Path::new(PROGRAM), more)
}

#[test]
fn one_command_starts_watches_and_stops_everything() {
    let mut started = start(&[]);
    let leader = started.leader().expect("a leader serves when the starter says so");
    let text = started.process.log_text();
    assert!(text.contains(&format!("http://127.0.0.1:{leader}   leader")), "{text}");
    let listed = started.ask("/process");
    assert_eq!(listed["servers-started"], json!(true));
    let kinds: Vec<&str> = listed["servers"].as_array().unwrap().iter().filter_map(|s| s["type"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "agent").count(), 3);
    assert_eq!(kinds.iter().filter(|kind| **kind == "resilientsingle").count(), 3);
    let endpoints = started.ask("/endpoints");
    assert_eq!(endpoints["coordinators"].as_array().map(Vec::len), Some(3), "{endpoints}");

    let mut client = started.client(leader);
    client.post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    client.post("/_api/document/c", &json!({"_key": "x"})).unwrap().expect(202);

    started.wait_followers();

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
    let started = start(&[]);
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
    let mut started = start(&["--cluster.agency-size=1"]);
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
    let started = start(&["--starter.mode=single"]);
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

/// The shell blocks of the README's tour, in order, as written but for the ports. After `# -> ` stands what must be
/// printed by then, in this order.
#[test]
fn the_tour_of_the_readme_runs_as_written() {
    let started = start(&[]);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let blocks: Vec<&str> = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 8, "the tour has {} blocks", blocks.len());
    let tour = blocks.concat().replace("target/release/tanist", PROGRAM);
    let tour = (0..30).fold(tour, |tour, offset| {
        let written = format!("127.0.0.1:{}", 8528 + offset);
        tour.replace(&written, &format!("127.0.0.1:{}", started.port + offset))
    });
    let script = started.directory.path().join("tour.sh");
    std::fs::write(&script, format!("set -euo pipefail\n{tour}")).unwrap();
    let endpoint = format!("tcp://127.0.0.1:{}", started.port);
    let (code, text) = run(Command::new("bash").arg(&script).env("TANIST_ENDPOINT", endpoint));
    assert_eq!(code, 0, "{text}");
    let mut rest = text.as_str();
    for expected in tour.lines().filter_map(|line| line.strip_prefix("# -> ")) {
        let at = rest.find(expected).unwrap_or_else(|| panic!("{expected:?} is not printed in time: {text}"));
        rest = &rest[at + expected.len()..];
    }
}
