//! Data directories that are not what a node needs: said in one line, with an exit code of its own; nothing is touched.

use crate::{PROGRAM, log, servers, start};
use rustix::process::Signal;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tanist_engine::db::store::{Store, Table};
use tanist_server::storage::check::{Extent, check};
use tanist_server::storage::{DATA_FILE, DiskStore, JOURNAL_FILES};
use tanist_tests::deployment::Setup;
use tanist_tests::process::{Process, free_ports, run};
use tanist_tests::wait::{stays, wait_until};

const PAGE_BYTES: usize = 4096;

/// The program, killed if it has not ended after a minute: what should be refused must not run on.
fn bounded() -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "60", PROGRAM]);
    command
}

struct Single {
    directory: tempfile::TempDir,
    process: Process,
    port: u16,
}

impl Single {
    /// A plain server that has stored something and was stopped.
    fn stopped() -> Single {
        let directory = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let arguments = vec![
            "server".to_owned(),
            directory.path().join("data").display().to_string(),
            format!("--server.endpoint=tcp://127.0.0.1:{port}"),
            "--server.authentication=false".to_owned(),
        ];
        let process = Process::new("single", Path::new(PROGRAM), arguments, directory.path().join("log"));
        let mut single = Single { directory, process, port };
        single.process.start();
        let mut client = single.client();
        wait_until("it serves", || client.get("/_api/collection").is_ok_and(|answer| answer.ok()));
        client.post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
        for _ in 0..20 {
            let documents: Vec<_> = (0..50).map(|n| json!({"n": n, "text": "x".repeat(200)})).collect();
            client.post("/_api/document/c", &json!(documents)).unwrap().expect(202);
        }
        client.post("/_api/document/c", &json!({"text": "x".repeat(20_000)})).unwrap().expect(202);
        assert!(single.process.terminate().success());
        single
    }

    fn client(&self) -> tanist_tests::http::Client {
        tanist_tests::http::Client::new(&format!("127.0.0.1:{}", self.port))
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Starts it, which must fail with this code and one line that says this.
    #[track_caller]
    fn refused(&self, more: &[&str], expected_code: i32, expected: &str) {
        let (code, text) = run(bounded().args(&self.process.arguments).args(more));
        assert!(code == expected_code && text.contains(expected), "{code} {text}");
        assert_eq!(text.trim().lines().count(), 1, "{text}");
    }

    #[track_caller]
    fn serves_again(&mut self) {
        self.process.start();
        let mut client = self.client();
        wait_until("it serves", || client.get("/_api/collection").is_ok_and(|answer| answer.ok()));
        assert_eq!(client.get("/_api/collection/c/count").unwrap().json()["count"], json!(1001));
    }
}

#[test]
fn each_reason_has_its_exit_code() {
    let mut single = Single::stopped();
    single.refused(&["--server.jwt-secret-keyfile=/no/such/file"], 6, "/no/such/file");
    let listener = std::net::TcpListener::bind(("127.0.0.1", single.port)).unwrap();
    single.refused(&[], 7, "the port is in use");
    drop(listener);
    let store = DiskStore::open(&single.data(), 1 << 30, Extent::All).unwrap();
    single.refused(&[], 8, "in use by another process");
    drop(store);
    let agent = ["agent", &single.process.arguments[1], &single.process.arguments[2], "--server.authentication=false"];
    let (code, text) = run(bounded().args(agent));
    assert!(code == 5 && text.contains("belongs to SNGL-"), "{code} {text}");
    single.serves_again();
    assert!(single.process.terminate().success());

    // What a later version might write.
    let mut store = DiskStore::open(&single.data(), 1 << 30, Extent::All).unwrap();
    let mut txn = store.begin().unwrap();
    txn.put(Table::Meta, b"format", &[99]).unwrap();
    txn.commit().unwrap();
    drop(store);
    single.refused(&[], 4, "format 99");
}

#[test]
fn data_is_not_replaced_by_anything_in_silence() {
    let (one, mut other) = (Single::stopped(), Single::stopped());
    let (file, saved) = (other.data().join(DATA_FILE), other.directory.path().join("saved"));
    std::fs::rename(&file, &saved).unwrap();
    other.refused(&[], 9, "missing or empty");
    std::fs::write(&file, b"").unwrap();
    other.refused(&[], 9, "missing or empty");
    // Another server's data beside this one's journal, which is not cut.
    std::fs::copy(one.data().join(DATA_FILE), &file).unwrap();
    other.refused(&[], 9, "belongs to other data");
    std::fs::rename(&saved, &file).unwrap();
    other.serves_again();
    assert!(other.process.terminate().success());
    // Another server's data under this one's name.
    let files = [&[DATA_FILE], &JOURNAL_FILES[..]].concat();
    for name in &files {
        std::fs::rename(other.data().join(name), other.data().join(format!("{name}.saved"))).unwrap();
        std::fs::copy(one.data().join(name), other.data().join(name)).unwrap();
    }
    other.refused(&[], 5, "says SNGL-");
    for name in &files {
        std::fs::rename(other.data().join(format!("{name}.saved")), other.data().join(name)).unwrap();
    }
    other.serves_again();
}

/// A damaged page is named at the start, wherever it is; the file is left as it is.
#[test]
fn a_damaged_page_is_named() {
    let mut single = Single::stopped();
    // What was in the journal is moved at a start.
    drop(DiskStore::open(&single.data(), 1 << 30, Extent::All).unwrap());
    let file = single.data().join(DATA_FILE);
    let whole = std::fs::read(&file).unwrap();
    // A meta page; a branch, a leaf and the begin of a long value, each the last that is in use.
    let used = |page: usize| {
        let mut blank = whole.clone();
        blank[page * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        std::fs::write(&file, blank).unwrap();
        check(&file, Extent::All).is_err()
    };
    let last_of = |kind: u8| {
        let pages = (2..whole.len() / PAGE_BYTES).rev();
        pages.into_iter().find(|page| whole[page * PAGE_BYTES + 10] == kind && used(*page)).expect("such a page")
    };
    let mut refusals = 0;
    for page in [0, 1, last_of(1), last_of(2), last_of(4)] {
        let (mut blank, mut flipped) = (whole.clone(), whole.clone());
        blank[page * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        flipped[page * PAGE_BYTES + 10] ^= 0x20;
        for damaged in [blank, flipped] {
            std::fs::write(&file, &damaged).unwrap();
            let (code, text) = run(bounded().args(&single.process.arguments));
            assert!(code == 9 && text.contains(&format!("page {page} is damaged")), "{code} {text}");
            assert_eq!(std::fs::read(&file).unwrap(), damaged, "nothing is written to it");
            refusals += 1;
        }
    }
    assert_eq!(refusals, 10);
    std::fs::write(&file, &whole).unwrap();
    single.refused(&["--database.check-at-start=perhaps"], 2, "auto, true or false");
    single.serves_again();
}

/// The others go on without a server whose data is damaged, and the operator is told which page it is.
#[test]
fn a_deployment_goes_on_without_a_damaged_server() {
    let started = start(&[]);
    let leader = started.leader().expect("a leader");
    started.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    started.wait_followers();
    let victim = started.servers().into_iter().find(|port| *port != leader).unwrap();
    let name = format!("single{victim}");
    let file = started.directory.path().join(format!("data/{name}/data/{DATA_FILE}"));
    // Paused, it can't come back before its file is damaged.
    started.signal(victim, Signal::STOP);
    let mut bytes = std::fs::read(&file).unwrap();
    for page in bytes.chunks_mut(PAGE_BYTES).skip(2) {
        page[..16].fill(0);
    }
    std::fs::write(&file, bytes).unwrap();
    started.signal(victim, Signal::KILL);
    wait_until("the starter gives it up", || {
        let text = started.process.log_text();
        text.contains("is damaged") && text.contains(&format!("{name} can't run")) && text.contains("not started again")
    });
    assert!(servers(&started).contains(&name) && log(&started, &name).contains("is damaged"));
    started.client(leader).post("/_api/document/c", &json!({})).unwrap().expect(202);
    assert_eq!(started.leader(), Some(leader));
}

/// Without an agency a server serves nobody, says once for each agent why, and does not fill its log.
#[test]
fn without_an_agency_the_log_stays_short() {
    let mut deployment = Setup::new(PROGRAM).agents(3).servers(1).prepare();
    deployment.servers[0].start();
    let mut client = deployment.client(0);
    wait_until("the port answers", || client.get("/_admin/server/availability").is_ok());
    stays(Duration::from_secs(12), "nothing is served", || {
        let (any, availability) =
            (client.get("/_api/collection").unwrap(), client.get("/_admin/server/availability").unwrap());
        any.refusal() == (503, 503) && availability.refusal() == (503, 503)
    });
    let text = deployment.servers[0].log_text();
    for port in &deployment.agent_ports {
        assert_eq!(text.matches(&format!("tcp://127.0.0.1:{port} can't be reached")).count(), 1, "{text}");
    }
    assert!(text.lines().count() < 12, "{text}");
}

/// Two processes with one identity, because a directory was copied: at most one of them serves, and the data of the
/// others stays whole.
#[test]
fn a_copied_directory_makes_no_second_server() {
    let mut started = start(&[]);
    let leader = started.leader().expect("a leader");
    started.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    started.client(leader).post("/_api/document/c", &json!({"_key": "x"})).unwrap().expect(202);
    started.wait_followers();
    assert!(started.process.terminate().success());
    let mut followers = started.servers().into_iter().filter(|port| *port != leader);
    let data = |port: u16| started.directory.path().join(format!("data/single{port}/data"));
    let (from, to) = (data(followers.next().unwrap()), data(followers.next().unwrap()));
    for name in [DATA_FILE, "UUID"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    std::fs::remove_file(&started.process.log).unwrap();
    started.process.start();
    started.wait_ready();
    stays(Duration::from_secs(4), "at most one serves", || {
        let serves = |port: &u16| {
            let answer = started.client(*port).get("/_admin/server/availability");
            answer.is_ok_and(|answer| answer.status == 200)
        };
        started.servers().iter().filter(|port| serves(port)).count() <= 1
    });
    let leader = started.leader().expect("one of them serves");
    started.client(leader).get("/_api/document/c/x").unwrap().expect(200);
    started.client(leader).post("/_api/document/c", &json!({})).unwrap().expect(202);
}
