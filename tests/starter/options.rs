//! Options: passed on, refused, and told apart.

use crate::{PROGRAM, agents, log, servers, start, tanist};
use serde_json::{Value, json};
use std::net::TcpListener;
use tanist_tests::process::free_ports;
use tanist_tests::wait::wait_until;

#[test]
fn what_can_not_work_is_refused_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let data = format!("--starter.data-dir={}", directory.path().join("data").display());
    let port = free_ports(30);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["start", "--starter.prot=1"], 2, "did you mean --starter.port?"),
        (&["start", "--starter.mode=cluster"], 2, "activefailover or single"),
        (&["start", "--starter.address=0.0.0.0"], 2, "--auth.jwt-secret"),
        (&["start", "--auth.jwt-secret=/no/such/file"], 6, "/no/such/file"),
        (&["start", "--args.all.server.endpoint=tcp://127.0.0.1:1"], 2, "the starter sets server.endpoint itself"),
        (&["start", "--cluster.agency-size=4"], 2, "1, 3 or 5"),
        (&["begin"], 2, "unknown command 'begin'"),
        (&["status", "--jsn"], 2, "did you mean --json?"),
    ];
    for (words, expected_code, expected) in cases {
        let mut words = words.to_vec();
        if words[0] == "start" {
            words.push(&data);
        }
        let (code, text) = tanist(&words);
        assert!(code == expected_code && text.contains(expected), "{words:?}: {code} {text}");
        assert_eq!(text.trim().lines().count(), 1, "one line says it: {text}");
    }
    // The starter's own port, and one that a child would need.
    for taken in [port, port + 13] {
        let _listener = TcpListener::bind(("127.0.0.1", taken)).unwrap();
        let (code, text) = tanist(&["start", &data, &format!("--starter.port={port}")]);
        assert!(code == 7 && text.contains(&format!("127.0.0.1:{taken}: the port is in use")), "{code} {text}");
    }
    assert!(!directory.path().join("data/setup.json").exists(), "nothing is remembered of what never ran");
}

#[test]
fn a_directory_has_one_starter() {
    let started = start(&["--starter.mode=single"]);
    let data = format!("--starter.data-dir={}", started.directory.path().join("data").display());
    let (code, text) = tanist(&["start", &data]);
    assert!(code == 8 && text.contains("another starter"), "{code} {text}");
    assert_eq!(started.ask("/process")["servers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_address_for_all_without_a_secret_must_be_asked_for() {
    let mut started = start(&["--starter.mode=single", "--starter.address=0.0.0.0", "--insecure"]);
    assert!(started.process.log_text().contains("No authentication"), "{}", started.process.log_text());
    assert!(started.process.terminate().success());
}

#[test]
fn options_reach_those_they_are_for() {
    let mut started = start(&[
        "--args.all.log.level=debug",
        "--args.dbservers.http.max-body-bytes=1k",
        "--agents.agency.supervision-grace-period=3",
        "--args.coordinators.foxx.queues=false",
    ]);
    let leader = started.leader().expect("a leader");
    let mut client = started.client(leader);
    let name = "x".repeat(2000);
    assert_eq!(client.post("/_api/collection", &json!({"name": name})).unwrap().status, 413);
    for child in agents(&started).iter().chain(&servers(&started)) {
        assert!(log(&started, child).contains(" DEBUG "), "{child}");
    }
    let mut report = Value::Null;
    wait_until("the agency knows all servers to be well", || {
        let (code, text) = started.command(&["status", "--json"]);
        assert_eq!(code, 0, "{text}");
        report = serde_json::from_str(&text).expect("JSON");
        let servers = report["servers"].as_array().expect("a list");
        servers.len() == 3 && servers.iter().all(|server| server["agency"]["health"] == json!("GOOD"))
    });
    assert_eq!(report["agency"]["timing"]["leaseMs"], json!(3000));
    shape(&report);
    assert!(started.process.terminate().success());
    // When nothing runs, that is said.
    let (code, text) = started.command(&["status"]);
    assert!(code == 1 && text.contains("no node answers"), "{text}");
}

/// What scripts rely on in `tanist status --json`.
#[track_caller]
fn shape(report: &Value) {
    let leadership = &report["agency"]["leadership"];
    assert!(leadership["leader"].as_str().is_some_and(|id| id.starts_with("SNGL-")), "{report}");
    assert!(leadership["epoch"].as_u64().is_some_and(|epoch| epoch >= 1), "{report}");
    assert!(report["agency"]["term"].is_u64() && report["agency"]["failovers"].is_array(), "{report}");
    assert_eq!(report["agents"].as_array().map(Vec::len), Some(3), "{report}");
    let servers = report["servers"].as_array().expect("a list");
    assert_eq!(servers.len(), 3, "{report}");
    for server in servers {
        assert!(server["endpoint"].as_str().is_some_and(|endpoint| endpoint.starts_with("tcp://")), "{server}");
        assert_eq!(server["agency"]["health"], json!("GOOD"), "{server}");
        let status = &server["status"];
        assert!(status["id"].is_string() && status["epoch"].is_u64() && status["last"]["tick"].is_u64(), "{server}");
        let leads = status["id"] == leadership["leader"];
        assert_eq!(status["role"], json!(if leads { "leader" } else { "follower" }), "{server}");
        assert_eq!(status["leaseLeftMs"].is_u64(), leads, "{server}");
    }
}

#[test]
fn help_and_version_are_no_failures() {
    for words in [&["help"][..], &["--help"], &["start", "--help"], &["server", "--help"], &["version"], &[]] {
        let (code, text) = tanist(words);
        assert!(code == 0 && text.to_lowercase().contains("tanist"), "{words:?}: {code} {text}");
    }
    assert!(std::path::Path::new(PROGRAM).is_file());
}
