//! Coming up, being watched, going away.

use crate::{PROGRAM, agents, exists, log, pids, servers, start, wait_gone};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tanist_tests::starter::Starter;
use tanist_tests::wait::{wait, wait_until};

#[test]
fn ready_means_that_the_leader_serves() {
    let started = start(&[]);
    // No waiting here: what the starter says is true when it says it.
    let text = started.process.log_text();
    let line = text.lines().find(|line| line.trim_end().ends_with("leader")).expect("a leader is named");
    let url = line.split_whitespace().next().expect("an URL");
    let port: u16 = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    let mut client = started.client(port);
    client.post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    client.post("/_api/document/c", &json!({"_key": "x"})).unwrap().expect(202);

    let mut starter = started.client(started.port);
    let id = starter.get("/id").unwrap().expect(200).json()["id"].as_str().map(str::to_owned).expect("an id");
    let setup = std::fs::read_to_string(started.directory.path().join("data/setup.json")).unwrap();
    assert!(setup.contains(&id), "{setup}");
    assert_eq!(starter.get("/version").unwrap().expect(200).json()["version"], json!(env!("CARGO_PKG_VERSION")));
    let listed = starter.get("/process").unwrap().expect(200).json();
    assert_eq!(listed["servers-started"], json!(true));
    for entry in listed["servers"].as_array().expect("a list") {
        assert_eq!(entry["ip"], json!("127.0.0.1"), "{entry}");
        assert_eq!(entry["is-secure"], json!(false), "{entry}");
        assert!(started.client(entry["port"].as_u64().unwrap() as u16).get("/_api/version").is_ok(), "{entry}");
    }
    assert!(pids(&listed).into_iter().all(exists) && pids(&listed).len() == 6, "{listed}");
    let endpoints = starter.get("/endpoints").unwrap().expect(200).json();
    assert_eq!(endpoints["starters"], json!([format!("http://127.0.0.1:{}", started.port)]));
    let urls = |offsets: [u16; 3]| json!(offsets.map(|offset| format!("http://127.0.0.1:{}", started.port + offset)));
    assert_eq!((&endpoints["agents"], &endpoints["coordinators"]), (&urls([3, 13, 23]), &urls([1, 11, 21])));
    for (target, children) in [("/logs/agent", agents(&started)), ("/logs/single", servers(&started))] {
        let text = starter.get(target).unwrap().expect(200).text();
        assert!(children.iter().all(|child| text.contains(&format!("==> {child} <=="))), "{text}");
        assert_eq!(text.matches(" listens on ").count(), 3, "{text}");
    }
    for (method, target, status) in
        [("GET", "/shutdown", 405), ("POST", "/id", 405), ("GET", "/logs/coordinator", 404), ("GET", "/", 404)]
    {
        assert_eq!(starter.send(method, target, &[], b"").unwrap().status, status, "{method} {target}");
    }
}

#[test]
fn killed_children_come_back() {
    let started = start(&[]);
    let leader = started.leader().expect("a leader");
    let mut client = started.client(leader);
    client.post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    started.wait_followers();
    let follower = started.servers().into_iter().find(|port| *port != leader).unwrap();
    for port in [started.port + 3, follower] {
        let dead = started.pid(port);
        started.signal(port, Signal::KILL);
        wait_until("it runs again", || {
            started.pid(port) != dead && started.client(port).get("/_api/version").is_ok_and(|answer| answer.ok())
        });
        assert!(started.process.log_text().contains("killed by signal 9"), "the operator is told");
        started.wait_followers();
        assert_eq!(started.leader(), Some(leader), "the leader goes on");
        client.post("/_api/document/c", &json!({})).unwrap().expect(202);
    }
    assert_eq!(client.get("/_api/collection/c/count").unwrap().json()["count"], json!(2));
    assert_eq!(reigns(&started), 1);
}

/// How often a server began to lead.
fn reigns(started: &Starter) -> usize {
    servers(started).iter().map(|server| log(started, server).matches(" -> Leading ").count()).sum()
}

#[test]
fn a_killed_starter_leaves_nothing() {
    let mut started = start(&[]);
    let children = pids(&started.ask("/process"));
    assert_eq!(children.len(), 6);
    started.process.kill();
    wait_gone(&children);
}

/// Every way to stop: each leaves nothing, servers go before agents, and nobody is elected only to stop as well.
#[track_caller]
fn stops(started: &mut Starter, way: &str, stop: impl FnOnce(&mut Starter)) {
    started.wait_followers();
    let children = pids(&started.ask("/process"));
    assert_eq!(children.len(), 6, "{way}");
    let before = reigns(started);
    stop(started);
    assert!(started.process.ended().success(), "{way}");
    assert!(!children.iter().any(|pid| exists(*pid)), "{way}: the starter waits for its children");
    assert!(started.process.log_text().trim_end().ends_with("Stopped."), "{way}");
    assert_eq!(reigns(started), before, "{way}: nobody else began to lead");
    let moment = |child: &String, word: &str| {
        let text = log(started, child);
        let line = text.lines().rev().find(|line| line.ends_with(word)).unwrap_or_else(|| panic!("{way}: {text}"));
        line.split(' ').next().unwrap_or_default().to_owned()
    };
    let last_server = servers(started).iter().map(|child| moment(child, "INFO stopped")).max();
    let first_agent = agents(started).iter().map(|child| moment(child, "INFO stopping")).min();
    assert!(last_server < first_agent, "{way}: {last_server:?}, {first_agent:?}");
}

#[test]
fn however_it_is_stopped_nothing_is_left_and_everything_remembered() {
    let mut started = start(&[]);
    let leader = started.leader().expect("a leader");
    started.client(leader).post("/_api/collection", &json!({"name": "c"})).unwrap().expect(200);
    started.client(leader).post("/_api/document/c", &json!({"_key": "x"})).unwrap().expect(202);
    stops(&mut started, "SIGTERM", |started| started.process.signal(Signal::TERM));

    // From now on in a process group of its own, as a shell makes one: Ctrl-C reaches the whole of it. And without any
    // flag but the directory: the rest is remembered.
    started.process.arguments.retain(|argument| !argument.starts_with("--starter.port"));
    started.process.arguments.insert(0, PROGRAM.to_owned());
    started.process.program = "setsid".into();
    again(&mut started);
    stops(&mut started, "Ctrl-C", |started| {
        let pid = Pid::from_raw(started.process.pid().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process_group(pid, Signal::INT).unwrap();
    });

    again(&mut started);
    let (code, text) = crate::tanist(&["switchover", &format!("--endpoint=tcp://127.0.0.1:{}", started.port)]);
    assert_eq!(code, 0, "{text}");
    stops(&mut started, "POST /shutdown", |started| {
        started.client(started.port).post("/shutdown", &Value::Null).unwrap().expect(200);
    });

    again(&mut started);
    stops(&mut started, "tanist stop", |started| {
        let (code, text) = crate::tanist(&["stop", &format!("--endpoint=tcp://127.0.0.1:{}", started.port)]);
        assert_eq!((code, text.trim()), (0, "Stopped."));
    });
    let (code, text) = crate::tanist(&["stop", &format!("--endpoint=tcp://127.0.0.1:{}", started.port)]);
    assert!(code == 1 && text.contains("no starter answers"), "{text}");
}

/// Starts once more; the document is still there.
#[track_caller]
fn again(started: &mut Starter) {
    std::fs::remove_file(&started.process.log).unwrap();
    started.process.start();
    started.wait_ready();
    let leader = wait("a server leads", || started.leader());
    started.client(leader).get("/_api/document/c/x").unwrap().expect(200);
}
