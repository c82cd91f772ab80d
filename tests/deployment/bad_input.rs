//! What operators and networks get wrong: a clear error, no panic, nothing half done, and service goes on.

use crate::{PROGRAM, setup};
use serde_json::json;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tanist_tests::http::{Client, read_answer};
use tanist_tests::process::{Process, free_ports, run};
use tanist_tests::wait::{stays, wait, wait_until};

const C: &str = "bad_input";

/// Runs the program with options that can't work: it must say why, in words of ours, and leave.
#[track_caller]
fn refused(arguments: &[String], expected: &str) {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    let (code, text) = run(&mut command);
    assert!((1..100).contains(&code), "exit code {code}: {text}");
    assert!(text.contains(expected), "{expected:?} is not said: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

/// A plain single server, started by hand.
fn single(directory: &Path, port: u16, more: &[&str]) -> Process {
    let mut arguments = vec![
        "server".to_owned(),
        format!("--server.endpoint=tcp://127.0.0.1:{port}"),
        format!("--database.directory={}", directory.join("data").display()),
        "--server.authentication=false".to_owned(),
    ];
    arguments.extend(more.iter().map(|argument| argument.to_string()));
    Process::new("single", Path::new(PROGRAM), arguments, directory.join("log"))
}

#[track_caller]
fn started(mut process: Process, port: u16) -> (Process, Client) {
    process.start();
    let mut client = Client::new(&format!("127.0.0.1:{port}"));
    wait_until("the single server serves", || client.get("/_api/collection").is_ok_and(|answer| answer.ok()));
    (process, client)
}

#[test]
fn a_port_or_a_directory_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(2);
    let (_running, mut client) = started(single(directory.path(), port, &[]), port);
    refused(&single(directory.path(), port + 1, &[]).arguments, "in use");
    let other = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
    refused(&single(other.path(), port + 1, &[]).arguments, &format!("127.0.0.1:{}", port + 1));
    drop(listener);
    client.get("/_api/version").unwrap().expect(200);
}

#[test]
fn a_directory_of_another_kind_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let (mut process, _) = started(single(directory.path(), port, &[]), port);
    assert!(process.terminate().success());
    let mut arguments = process.arguments.clone();
    arguments[0] = "agent".to_owned();
    refused(&arguments, "agent");
    // Garbage where the data should be is no reason to begin a new database in silence.
    let data = std::fs::read_dir(directory.path().join("data")).unwrap();
    for file in data.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "mdb")) {
        if file.file_name().is_some_and(|name| name == "data.mdb") {
            std::fs::write(&file, vec![0x5a; 64 << 10]).unwrap();
        }
    }
    refused(&process.arguments, "data");
}

#[test]
fn without_its_agency_a_server_waits_and_says_so() {
    let mut deployment = setup().agents(1).servers(1).prepare();
    deployment.servers[0].start();
    let mut client = deployment.client(0);
    wait_until("the port answers", || client.get("/_admin/server/availability").is_ok());
    stays(Duration::from_millis(1500), "nothing is served", || {
        client.get("/_api/collection").is_ok_and(|answer| answer.status == 503)
            && client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 503)
    });
    let reason = format!("tcp://127.0.0.1:{} can't be reached", deployment.agent_ports[0]);
    wait_until("it says what it waits for", || deployment.servers[0].log_text().contains(&reason));
    deployment.agents[0].start();
    deployment.wait_leader();
}

#[test]
fn a_wrong_secret_opens_nothing() {
    let mut deployment = setup().agents(1).servers(2).secret("the-right-secret-").start();
    let leader = deployment.wait_leader();
    let stranger = deployment.add_server();
    let file = deployment.directory().join("wrong");
    std::fs::write(&file, "the-wrong-secret-").unwrap();
    let process = &mut deployment.servers[stranger];
    process.arguments.push(format!("--server.jwt-secret-keyfile={}", file.display()));
    process.start();
    wait_until("the stranger knows why", || {
        let text = deployment.servers[stranger].log_text();
        text.contains("401") || text.contains("secret") || text.contains("authori")
    });
    stays(Duration::from_millis(1000), "the stranger is no member", || {
        let health = deployment.client(leader).get("/_admin/cluster/health").unwrap().json();
        health["Health"].as_object().is_some_and(|h| h.keys().filter(|id| id.starts_with("SNGL-")).count() == 2)
            && deployment.leader() == Some(leader)
    });
}

#[test]
fn data_of_another_deployment_is_refused() {
    let one = setup().agents(1).servers(1).start();
    one.create_collection(C);
    one.insert(one.wait_leader(), C, 0..10);
    let mut one = one;
    assert!(one.servers[0].terminate().success());
    let mut other = setup().agents(1).servers(1).start();
    let leader = other.wait_leader();
    let stranger = other.add_server();
    let data = one.data_directory(0);
    let process = &mut other.servers[stranger];
    process.arguments.retain(|argument| !argument.starts_with("--database.directory"));
    process.arguments.push(format!("--database.directory={}", data.display()));
    process.start();
    wait("it is told why it can't join", || {
        let _ = other.servers[stranger].has_ended();
        other.servers[stranger].log_text().contains("deployment").then_some(())
    });
    assert_eq!(other.leader(), Some(leader));
    other.servers[stranger].kill();
    // And its own deployment has lost nothing by it.
    one.servers[0].start();
    let leader = one.wait_leader();
    assert_eq!(one.numbers(leader, C).len(), 10);
}

/// Sends bytes and returns what comes back until the connection ends or nothing comes for a while.
fn talk(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn garbage_on_any_port_harms_nobody() {
    let deployment = setup().agents(1).servers(2).start();
    deployment.create_collection(C);
    let leader = deployment.wait_leader();
    let upgrade = b"GET /_api/tanist/peer HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tanist-peer/1\r\n\r\n";
    let frame = |length: u32, body: &[u8]| {
        let mut bytes = upgrade.to_vec();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    let header_bomb = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let inputs: Vec<Vec<u8>> = vec![
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /_api/document/bad_input HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"_key\":\"half\"".to_vec(),
        b"POST /_api/document/bad_input HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"BREW /_api/version HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\xff\xff\xff\xff\xff\xff".to_vec(),
        header_bomb.into_bytes(),
        frame(u32::MAX, b""),
        frame(8, b"\x01\xff\xff\xff\xff\xff\xff\xff"),
        frame(3, b"\x63ab"),
        frame(0, b""),
    ];
    for input in &inputs {
        for port in deployment.agent_ports.iter().chain(&deployment.server_ports) {
            talk(*port, input);
        }
    }
    assert_eq!(deployment.wait_in_sync(), leader, "nobody was disturbed");
    assert_eq!(deployment.count(leader, C), Some(0), "and nothing was written");
    // Process::drop looks for panics in the logs.
}

/// Slow clients hold a connection, not the server.
#[test]
fn half_sent_requests_hold_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let (_process, mut client) = started(single(directory.path(), port, &[]), port);
    client.post("/_api/collection", &json!({"name": C})).unwrap().expect(200);
    let half: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let text = match n % 2 {
                0 => "POST /_api/document/bad_input HTTP/1.1\r\nHost: x\r\nContent-Le",
                _ => "POST /_api/document/bad_input HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{\"_key\":",
            };
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    for n in 0..50 {
        client.post(&format!("/_api/document/{C}"), &json!({"n": n})).unwrap().expect(202);
    }
    drop(half);
    assert_eq!(client.get(&format!("/_api/collection/{C}/count")).unwrap().json()["count"], json!(50));
}

#[test]
fn requests_out_of_bounds_get_clear_errors_over_the_wire() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let (_process, mut client) = started(single(directory.path(), port, &["--http.max-body-bytes=1m"]), port);
    client.post("/_api/collection", &json!({"name": C})).unwrap().expect(200);
    let target = format!("/_api/document/{C}");
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bomb = format!("{{\"a\":{nested}}}");
    let cases: [(&str, &str, &str, u16); 9] = [
        ("POST", &target, "{", 400),
        ("POST", &target, "\"text\"", 400),
        ("POST", &target, "{\"_key\":\"a/b\"}", 400),
        ("POST", &target, "{\"_key\":1}", 400),
        ("POST", &target, &bomb, 400),
        ("POST", "/_api/collection", "{\"name\":\"1 x\"}", 400),
        ("GET", "/_api/nothing", "", 404),
        ("DELETE", "/_api/version", "", 405),
        ("GET", "/_db/nowhere/_api/collection", "", 404),
    ];
    for (method, target, body, status) in cases {
        let answer = client.send(method, target, &[], body.as_bytes()).unwrap();
        let shown: String = body.chars().take(40).collect();
        assert_eq!(answer.status, status, "{method} {target} {shown}: {answer}");
        assert_eq!(answer.json()["error"], json!(true), "{answer}");
        assert!(answer.error_num() > 0, "{answer}");
    }
    // A body over the limit is refused by its announced length, before it is read.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 2 << 20).unwrap();
    let (answer, _) = read_answer(&mut BufReader::new(stream), false).unwrap();
    assert_eq!(answer.status, 413, "{answer}");
    assert_eq!(client.get(&format!("/_api/collection/{C}/count")).unwrap().json()["count"], json!(0));
}

/// The map stands for the disk: when it is full, writes are refused, reads go on, and what was acknowledged stays.
#[test]
fn a_full_disk_is_an_error_to_the_client_and_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let (mut process, mut client) = started(single(directory.path(), port, &["--storage.map-size=4m"]), port);
    client.post("/_api/collection", &json!({"name": C})).unwrap().expect(200);
    let filler = "x".repeat(20_000);
    let mut stored = 0;
    let refusal = loop {
        let answer = client.post(&format!("/_api/document/{C}"), &json!({"_key": stored.to_string(), "f": filler}));
        let answer = answer.expect("an answer, not the end of the connection");
        if !answer.ok() {
            break answer;
        }
        stored += 1;
        assert!(stored < 1000, "4 MiB can't hold so much");
    };
    assert!(stored > 10, "{stored} documents");
    assert!(refusal.status >= 400 && refusal.error_num() > 0, "{refusal}");
    assert_eq!(client.get(&format!("/_api/collection/{C}/count")).unwrap().json()["count"], json!(stored));
    client.get(&format!("/_api/document/{C}/0")).unwrap().expect(200);
    // With more room it goes on.
    process.terminate();
    process.arguments.retain(|argument| !argument.starts_with("--storage.map-size"));
    process.start();
    let mut client = Client::new(&format!("127.0.0.1:{port}"));
    wait_until("it serves again", || client.get("/_api/collection").is_ok_and(|answer| answer.ok()));
    assert_eq!(client.get(&format!("/_api/collection/{C}/count")).unwrap().json()["count"], json!(stored));
    client.post(&format!("/_api/document/{C}"), &json!({"f": filler})).unwrap().expect(202);
}

#[test]
fn the_name_arangod_means_what_its_options_ask_for() {
    let directory = tempfile::tempdir().unwrap();
    let arangod = directory.path().join("arangod");
    std::os::unix::fs::symlink(PROGRAM, &arangod).unwrap();
    let port = free_ports(1);
    let mut process = single(directory.path(), port, &["--rocksdb.wal-file-timeout=3", "--javascript.app-path=/x"]);
    process.program = arangod.clone();
    process.arguments.remove(0);
    let (mut process, mut client) = started(process, port);
    let version = client.get("/_api/version").unwrap().expect(200).json();
    assert_eq!(version.as_object().map(serde_json::Map::len), Some(3), "{version}");
    assert!(process.log_text().contains("rocksdb.wal-file-timeout"), "it says what has no meaning here");
    assert!(process.terminate().success());
    process.arguments.push("--server.endpont=tcp://127.0.0.1:1".to_owned());
    let mut command = Command::new(&arangod);
    command.args(&process.arguments);
    let (code, text) = run(&mut command);
    assert!(code != 0 && text.contains("server.endpoint"), "{text}");
}
