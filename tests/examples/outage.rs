//! The figures of a failover, measured at a client:
//! `cargo run --release -p tanist-tests --example outage [ROUNDS [SERIES]]`.
//!
//! A client writes a document of 200 bytes under a new key every 5 ms, gives each attempt 250 ms, and follows
//! `X-Arango-Endpoint`; a document is tried again, at the next server, for as long. The outage of a round is the
//! longest gap between two acknowledgements, up to a second after they go on. In each round the leader is killed
//! (`kill -9`), then, in a second series, paused (SIGSTOP); in two more the agency's leader is. At the end everything
//! that was acknowledged is read back. `SERIES` is `kill`, `pause`, `kill-agent` or `pause-agent`, for one of them
//! alone.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tanist_tests::http::Client;
use tanist_tests::process::build_release;
use tanist_tests::rollbacks;
use tanist_tests::starter::Starter;
use tanist_tests::wait::{wait, wait_until};

const INTERVAL: Duration = Duration::from_millis(5);
const ATTEMPT: Duration = Duration::from_millis(250);
const QUIET: Duration = Duration::from_secs(1);

fn main() {
    let rounds = std::env::args().nth(1).map_or(20, |text| text.parse().expect("a number of rounds"));
    let program = build_release();
    let size = std::fs::metadata(&program).expect("the program is there").len();
    println!("binary: {:.1} MiB", size as f64 / f64::from(1 << 20));

    let started = Starter::new(&program, &[]);
    started.wait_followers();
    std::thread::sleep(Duration::from_secs(3));
    let leader = started.leader().expect("a leader");
    let follower = started.servers().into_iter().find(|port| *port != leader).expect("a follower");
    for (what, port) in [("leader", leader), ("follower", follower), ("agent", started.port + 3)] {
        println!("idle {what}: {}", memory(started.pid(port)));
    }
    drop(started);

    let only = std::env::args().nth(2);
    let all = [
        Series { option: "kill", name: "kill -9", whom: Whom::Server, signal: Signal::KILL },
        Series { option: "pause", name: "SIGSTOP", whom: Whom::Server, signal: Signal::STOP },
        Series {
            option: "kill-agent",
            name: "kill -9 of the agency's leader",
            whom: Whom::Agent,
            signal: Signal::KILL,
        },
        Series {
            option: "pause-agent",
            name: "SIGSTOP of the agency's leader",
            whom: Whom::Agent,
            signal: Signal::STOP,
        },
    ];
    for series in all.iter().filter(|series| only.as_deref().is_none_or(|only| only == series.option)) {
        measure(series, rounds, &program);
    }
}

/// Rounds of one fault.
struct Series {
    option: &'static str,
    name: &'static str,
    whom: Whom,
    signal: Signal,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// The leader of the database.
    Server,
    /// The leader of the agency.
    Agent,
}

impl Whom {
    /// Who leads now, if somebody does.
    fn leader(self, started: &Starter) -> Option<u16> {
        match self {
            Whom::Server => started.leader(),
            Whom::Agent => started.agency_leader(),
        }
    }
}

fn memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0)
    };
    format!("{:.1} MiB resident, {:.1} MiB of it its own", kib("VmRSS:") / 1024.0, kib("RssAnon:") / 1024.0)
}

/// What the client was told.
#[derive(Default)]
struct Log {
    /// When, and which key.
    acknowledged: Vec<(Instant, u64)>,
}

fn measure(series: &Series, rounds: usize, program: &Path) {
    let Series { name, whom, signal, .. } = *series;
    let started = Starter::new(program, &[]);
    started.wait_followers();
    let leader = started.leader().expect("a leader");
    let created = started.client(leader).post("/_api/collection", &json!({"name": "outage"}));
    created.expect("an answer").expect(200);
    started.wait_followers();
    if signal == Signal::STOP {
        let config = started.client(started.port + 3).get("/_api/agency/config").expect("an answer").json();
        println!("lease: {} s", config["configuration"]["supervision grace period"]);
    }

    let log = Arc::new(Mutex::new(Log::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (log, stop, ports) = (log.clone(), stop.clone(), started.servers());
        std::thread::spawn(move || write(&ports, &log, &stop))
    };
    let ms = |duration: Duration| format!("{:.0} ms", duration.as_secs_f64() * 1000.0);
    std::thread::sleep(QUIET);
    let mut outages = Vec::new();
    for round in 1..=rounds {
        let leader = wait("somebody leads", || whom.leader(&started));
        let pid = started.pid(leader);
        let from = Instant::now();
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a process number is above 0"), signal).expect("it runs");
        wait("another one leads", || whom.leader(&started).filter(|other| *other != leader));
        wait_until("writes are acknowledged again", || {
            log.lock().expect("no panic").acknowledged.last().is_some_and(|(at, _)| *at > from + ATTEMPT)
        });
        std::thread::sleep(QUIET);
        let times: Vec<Instant> = log.lock().expect("no panic").acknowledged.iter().map(|(at, _)| *at).collect();
        let around = times.windows(2).filter(|pair| pair[1] >= from);
        let outage = around.map(|pair| pair[1] - pair[0]).max().expect("acknowledgements");
        println!("{name}: round {round} of {rounds}: {}", ms(outage));
        outages.push(outage);
        if signal == Signal::STOP {
            started.signal(leader, Signal::CONT);
        }
        started.wait_followers();
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the client ends");

    outages.sort();
    let median = outages[outages.len() / 2];
    println!("{name}: outage {} (median), {} (worst) of {rounds}", ms(median), ms(*outages.last().expect("rounds")));
    let log = log.lock().expect("no panic");
    let (lost, kept) = lost(&started, &log);
    println!("{name}: {} acknowledged, {lost} lost, {kept} of these in rollback records", log.acknowledged.len());
}

/// The client.
fn write(ports: &[u16], log: &Mutex<Log>, stop: &AtomicBool) {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let mut clients: Vec<Client> =
        ports.iter().map(|port| Client::new(&address(*port)).with_timeout(ATTEMPT)).collect();
    let filler = "x".repeat(160);
    let mut current = 0;
    let mut next = Instant::now();
    for key in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let document = json!({"_key": key.to_string(), "value": filler});
        let begun = Instant::now();
        while begun.elapsed() < ATTEMPT {
            match clients[current].post("/_api/document/outage", &document) {
                Ok(answer) if answer.ok() => {
                    log.lock().expect("no panic").acknowledged.push((Instant::now(), key));
                    break;
                }
                // An attempt that nobody answered was kept all the same: no acknowledgement, and nothing to wait for.
                Ok(answer) if answer.status == 409 => break,
                Ok(answer) => {
                    let told = answer.header("x-arango-endpoint").and_then(|url| url.rsplit(':').next());
                    let told = told.and_then(|port| ports.iter().position(|p| p.to_string() == port));
                    match told {
                        Some(server) if server != current => current = server,
                        _ => {
                            current = (current + 1) % ports.len();
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                }
                Err(_) => {
                    current = (current + 1) % ports.len();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        next = (next + INTERVAL).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// How many acknowledged documents are not there, and how many of them a rollback record holds.
fn lost(started: &Starter, log: &Log) -> (usize, usize) {
    let leader = started.leader().expect("a leader");
    let all = json!({"collection": "outage", "batchSize": 10_000_000});
    let body = started.client(leader).put("/_api/simple/all", &all).expect("an answer").json();
    let key = |document: &Value| document["_key"].as_str()?.parse::<u64>().ok();
    let there: BTreeSet<u64> = body["result"].as_array().expect("a result").iter().filter_map(key).collect();
    let missing: Vec<u64> = log.acknowledged.iter().map(|(_, key)| *key).filter(|key| !there.contains(key)).collect();
    let records = started.servers().into_iter().flat_map(|port| rollbacks::operations(&mut started.client(port)));
    let undone: BTreeSet<u64> = records.filter_map(|operation| key(&operation)).collect();
    let kept = missing.iter().filter(|key| undone.contains(key)).count();
    (missing.len(), kept)
}
