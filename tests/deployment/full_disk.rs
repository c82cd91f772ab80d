//! A full disk. Below the logs and the terminal: what can't be said is lost, and nothing else is. Below a leader's
//! data: it hands over to a follower that has room.
//!
//! Once a server hung there for ever: the line that could not be written was to be reported on standard error, which
//! lay on the same disk; that was a panic, and the panic's own line waited for the log that was still locked.

use crate::PROGRAM;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use tanist_tests::deployment::Setup;
use tanist_tests::http::Client;
use tanist_tests::process::{Process, free_ports};
use tanist_tests::wait::{wait, wait_until};

#[test]
fn a_deployment_whose_logs_cannot_be_written_goes_on_and_fails_over() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(30);
    let data = directory.path().join("data");
    // Each node's log and standard error, before it is started.
    for node in ["agent", "single"] {
        for peer in 0..3 {
            let folder = data.join(format!("{node}{}", port + 10 * peer + if node == "agent" { 3 } else { 1 }));
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink("/dev/full", folder.join("tanist.log")).unwrap();
        }
    }
    // By a shell, because nobody could ever read the end of such a log.
    let command =
        format!("exec {PROGRAM} start --starter.port={port} --starter.data-dir={} >/dev/full 2>&1", data.display());
    let arguments = vec!["-c".to_owned(), command];
    let mut starter = Process::new("starter", Path::new("/bin/sh"), arguments, directory.path().join("log"));
    starter.start();
    let ports = [port + 1, port + 11, port + 21];
    let client = |port: u16| Client::new(&format!("127.0.0.1:{port}"));
    let leader = || {
        let leads = |port: &u16| client(*port).get("/_admin/server/availability").is_ok_and(|a| a.status == 200);
        ports.into_iter().find(leads)
    };
    for round in 0..3 {
        let name = format!("c{round}");
        wait_until("a write is acknowledged", || {
            let Some(leader) = leader() else { return false };
            client(leader).post("/_api/collection", &json!({"name": name})).is_ok_and(|answer| answer.ok())
        });
        let pid = wait("the starter knows the process", || {
            let processes = client(port).get("/process").ok()?.json();
            let leader = leader()?;
            processes["servers"].as_array()?.iter().find(|server| server["port"] == leader)?["pid"].as_i64()
        });
        kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    }
    wait_until("a server leads", || leader().is_some());
    assert!(starter.has_ended().is_none(), "the starter goes on");
    starter.signal(Signal::TERM);
    starter.ended();
}

/// Refused writes are what the client sees until then, a few at the most.
#[test]
fn a_leader_whose_storage_is_full_hands_over_to_a_server_with_room() {
    let mut deployment = Setup::new(PROGRAM).prepare();
    deployment.servers[0].arguments.push("--storage.map-size=2m".into());
    deployment.agents.iter_mut().for_each(|agent| agent.start());
    deployment.servers[0].start();
    deployment.wait_leader();
    deployment.servers[1..].iter_mut().for_each(|server| server.start());
    assert_eq!(deployment.wait_in_sync(), 0);
    deployment.create_collection("c");

    // As a client does: whoever leads, until something has no room.
    let text = "x".repeat(16 << 10);
    let mut written: u64 = 0;
    let mut refused: u64 = 0;
    wait("another server takes what the first one had to refuse", || {
        let leader = deployment.leader()?;
        let answer = deployment.client(leader).post("/_api/document/c", &json!({"text": text})).ok()?;
        match answer.status {
            201 | 202 => written += 1,
            507 => refused += 1,
            _ => {}
        }
        (leader != 0 && answer.ok()).then_some(())
    });
    assert!(written > 10 && refused > 0, "{written} written, {refused} refused");
    let leader = deployment.leader().unwrap();
    assert_eq!(deployment.count(leader, "c"), Some(written), "nothing that was acknowledged is lost");

    let status = || deployment.agent_client(deployment.agency_leader()).get("/_api/tanist/status").unwrap().json();
    let told = status();
    let of_it = |failover: &&Value| failover["reason"].as_str().is_some_and(|why| why.contains("no room for writes"));
    let failover = told["failovers"].as_array().unwrap().iter().find(of_it).expect("it is on record");
    assert_eq!(failover["kind"], "switchover");
    // The new leader's first entry fitted; what the old one had to refuse does not.
    wait_until("the old leader tells as a follower that it is full", || {
        status()["servers"].as_array().unwrap().iter().filter(|server| server["full"] == true).count() == 1
    });
}
