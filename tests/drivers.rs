//! Official drivers, a program and an outside harness against real processes whose leader is killed in mid-write.
//!
//! The tests bring their npm and PyPI packages by themselves, pinned, into `target/drivers`. Without node or python
//! they say that they are skipped; in CI (`CI=true`) both must be there.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use tanist_tests::http::Client;
use tanist_tests::packages::{self, succeeds};
use tanist_tests::process::{free_ports, run, show_end};
use tanist_tests::programs;
use tanist_tests::starter::Starter;
use tanist_tests::wait::wait;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tanist-for-tests");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/drivers");

/// Installing is for one test at a time; so is running, for these need a whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("drivers")
}

fn works(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Says that a test is skipped; in CI it may not be.
fn skip(what: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{what} is missing, and in CI it must be there");
    tanist_tests::skip(&format!("{what} is missing"));
}

/// node with the packages; `None` if there is no node.
fn node() -> Option<Command> {
    if !works("node", &["--version"]) || !works("npm", &["--version"]) {
        skip("node with npm");
        return None;
    }
    let folder = folder().join("node");
    packages::node(&folder, Path::new(SCRIPTS));
    let mut command = Command::new("node");
    command.env("NODE_PATH", folder.join("node_modules")).current_dir(SCRIPTS);
    Some(command)
}

fn has_python() -> bool {
    let there = works("python3", &["-c", "import venv, ensurepip"]);
    if !there {
        skip("python3 with venv");
    }
    there
}

/// python with the packages; `None` if there is no python.
fn python() -> Option<Command> {
    if !has_python() {
        return None;
    }
    Some(Command::new(packages::python(&folder().join("python"), &Path::new(SCRIPTS).join("requirements.txt"))))
}

fn client(url: &str) -> Client {
    Client::new(url.trim_start_matches("http://")).with_timeout(Duration::from_secs(5))
}

/// Runs a script against a fresh deployment, and judges what it found at the end.
fn a_leader_is_killed_in_mid_write(mut script: Command) {
    let started = Starter::new(Path::new(PROGRAM), &[]);
    // A driver that is given a follower must find one that follows.
    started.wait_followers();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    script.arg(url(started.port)).args(started.servers().into_iter().map(url));
    let text = succeeds(&mut script);
    let result = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let result = result.unwrap_or_else(|| panic!("no result: {text}"));
    let keys = result["missing"].as_array().expect("a list");
    println!("{} acknowledged, {} of them lost with the old leader", result["acknowledged"], keys.len());
    assert_eq!(result["acknowledged"], 10_000);
    assert_eq!(result["count"].as_u64(), Some(10_000 - keys.len() as u64), "nothing twice, nothing else");
    assert_ne!(result["old"], result["new"], "another server leads");

    // Replication is asynchronous: what the killed leader had acknowledged in its last moments may be missing, but then
    // it is in the rollback record that the old leader keeps when it returns.
    let old = result["old"].as_str().expect("a URL");
    wait("the old leader follows again", || {
        let answer = client(old).get("/_api/collection").ok()?;
        if answer.refusal() != (503, 1496) {
            return None;
        }
        let list = client(old).get("/_api/tanist/rollbacks").ok()?.json();
        let mut kept = String::new();
        for record in list["result"].as_array()? {
            kept += &client(old).get(&format!("/_api/tanist/rollbacks/{}", record["id"].as_str()?)).ok()?.text();
        }
        let all = keys.iter().all(|key| kept.contains(&format!("\"_key\":{key}")));
        all.then_some(())
    });
}

fn arangojs(package: &str) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(mut script) = node() else { return };
    script.args(["arangojs.js", package]);
    a_leader_is_killed_in_mid_write(script);
}

#[test]
fn arangojs_10_goes_on_after_the_leader_was_killed() {
    arangojs("arangojs");
}

#[test]
fn arangojs_8_goes_on_after_the_leader_was_killed() {
    arangojs("arangojs-8");
}

#[test]
fn arangojs_7_goes_on_after_the_leader_was_killed() {
    arangojs("arangojs-7");
}

#[test]
fn python_arango_goes_on_after_the_leader_was_killed() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(mut script) = python() else { return };
    script.arg(Path::new(SCRIPTS).join("python_arango.py"));
    a_leader_is_killed_in_mid_write(script);
}

/// The others of `tests/programs` take longer to install: see the example `programs`.
#[test]
fn a_program_on_arango_orm_goes_on_after_the_leader_was_killed_twice() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !has_python() {
        return;
    }
    let report = programs::run(programs::ARANGO_ORM, Path::new(PROGRAM), &folder());
    println!("{} acknowledged, {} of them lost with old leaders", report.acknowledged, report.missing);
    assert!(report.problems.is_empty(), "{}", report.problems.join("\n"));
}

/// `arguments`: agents, servers, faults.
fn instance_manager(arguments: &[&str]) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(mut script) = node() else { return };
    let directory = tempfile::Builder::new().prefix("tanist-harness-").tempdir().unwrap();
    std::os::unix::fs::symlink(PROGRAM, directory.path().join("arangod")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    script.env("PATH", format!("{}:{path}", directory.path().display()));
    let instances = directory.path().join("instances");
    script.env("ARANGO_INSTANCES_DIR", &instances).env("MIN_PORT", free_ports(1).to_string()).env("PORT_OFFSET", "1");
    script.arg("instance_manager.js").args(arguments);
    let (code, text) = run(&mut script);
    if code != 0 {
        for log in logs(&instances) {
            show_end(&log.display().to_string(), &log);
        }
    }
    assert_eq!(code, 0, "{text}");
    print!("{text}");
}

/// All files named `*.log` below a folder.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let mut found = Vec::new();
    for path in entries.into_iter().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(logs(&path));
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_outside_harness_kills_with_1_agent_and_2_servers() {
    instance_manager(&["1", "2", "restart", "pause", "kill"]);
}

#[test]
fn the_outside_harness_kills_with_1_agent_and_4_servers() {
    instance_manager(&["1", "4", "kill", "kill"]);
}

#[test]
fn the_outside_harness_kills_with_1_agent_and_8_servers() {
    instance_manager(&["1", "8", "kill", "kill", "kill", "kill"]);
}

#[test]
fn the_outside_harness_kills_agents_too() {
    instance_manager(&["3", "4", "agency", "pause", "agency", "restart"]);
}
