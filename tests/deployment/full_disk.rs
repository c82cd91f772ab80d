//! The disk below the logs and the terminal is full. What can't be said is lost, and nothing else is.
//!
//! Once a server hung there for ever: the line that could not be written was to be reported on standard error, which
//! lay on the same disk; that was a panic, and the panic's own line waited for the log that was still locked.

use crate::PROGRAM;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::Path;
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
