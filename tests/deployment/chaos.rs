//! Random faults on real processes while clients write: what no scripted case thought of.
//!
//! The seed and the faults are printed, but real processes do not repeat themselves; what is found here wants to be
//! found again in the simulator. `TANIST_CHAOS_S` sets the length, `TANIST_CHAOS_SEED` the faults.

use crate::setup;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tanist_engine::types::Rng;
use tanist_tests::deployment::Deployment;
use tanist_tests::http::Client;
use tanist_tests::process::Process;
use tanist_tests::rollbacks;

const C: &str = "chaos";
const WRITERS: u64 = 4;
/// Numbers of one writer.
const SPAN: u64 = 1_000_000;

/// What a client was told of one number that it tried to store, exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Stored,
    /// 503, whatever the number, or nobody listened: nothing was done (R14).
    Refused,
    /// No answer, or one that leaves it open.
    Unknown,
}

#[test]
fn whatever_happens_nothing_acknowledged_disappears_without_a_trace() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = setting("TANIST_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    let duration = Duration::from_secs(setting("TANIST_CHAOS_S").unwrap_or(12));
    println!("TANIST_CHAOS_SEED={seed}");
    let mut deployment = setup().lease_s(1.0).start();
    deployment.create_collection(C);
    deployment.wait_in_sync();

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<JoinHandle<BTreeMap<u64, Told>>> = (0..WRITERS)
        .map(|writer| {
            let addresses = (0..3).map(|server| deployment.address(server)).collect::<Vec<_>>();
            let stop = stop.clone();
            std::thread::spawn(move || write(writer, &addresses, &stop))
        })
        .collect();
    harm(&mut deployment, duration, &mut Rng::new(seed));
    let leader = deployment.wait_in_sync();
    stop.store(true, Ordering::Relaxed);
    let told: BTreeMap<u64, Told> = writers.into_iter().flat_map(|writer| writer.join().expect("no panic")).collect();
    assert_eq!(deployment.wait_in_sync(), leader);

    let there: BTreeSet<u64> = deployment.numbers(leader, C).into_iter().collect();
    for server in 0..3 {
        assert!(deployment.numbers(server, C).into_iter().eq(there.iter().copied()), "server{server} differs");
    }
    let undone = undone(&deployment);
    let all = |what: Told| told.iter().filter(move |(_, told)| **told == what).map(|(number, _)| *number);
    let stored = all(Told::Stored).count();
    let lost: Vec<u64> = all(Told::Stored).filter(|number| !there.contains(number)).collect();
    println!(
        "{stored} acknowledged, {} of them undone, {} refused, {} unknown",
        lost.len(),
        all(Told::Refused).count(),
        all(Told::Unknown).count()
    );
    assert!(stored > 100, "nearly nothing was written");
    let gone: Vec<&u64> = lost.iter().filter(|number| !undone.contains(number)).collect();
    assert!(gone.is_empty(), "acknowledged, gone, and in no rollback record: {gone:?}");
    let done: Vec<u64> = all(Told::Refused).filter(|number| there.contains(number)).collect();
    assert!(done.is_empty(), "refused, and done all the same: {done:?}");
    let both: Vec<&u64> = undone.intersection(&there).collect();
    assert!(both.is_empty(), "undone, and there: {both:?}");
    let strangers: Vec<&u64> = there.iter().filter(|number| !told.contains_key(number)).collect();
    assert!(strangers.is_empty(), "nobody wrote {strangers:?}");
}

/// Kills, pauses and stops servers and agents, one or two at a time; heals everything at the end.
fn harm(deployment: &mut Deployment, duration: Duration, rng: &mut Rng) {
    let started = Instant::now();
    let pick = |rng: &mut Rng| (rng.chance(2, 3), rng.below(3) as usize);
    while started.elapsed() < duration {
        if rng.chance(1, 4) {
            println!("{:>6} ms: a tail that nobody else has", started.elapsed().as_millis());
            strand(deployment, rng);
        }
        let victims = if rng.chance(1, 4) { vec![pick(rng), pick(rng)] } else { vec![pick(rng)] };
        for (server, index) in &victims {
            // The leader is the most interesting one.
            let leader = deployment.leader().filter(|_| *server && rng.chance(1, 2));
            let index = leader.unwrap_or(*index);
            let process = if *server { &mut deployment.servers[index] } else { &mut deployment.agents[index] };
            if !process.active() {
                continue;
            }
            let at = started.elapsed().as_millis();
            match rng.below(5) {
                0 | 1 => {
                    println!("{at:>6} ms: kill {}", process.name);
                    process.kill();
                }
                2 | 3 => {
                    println!("{at:>6} ms: pause {}", process.name);
                    process.pause();
                }
                _ => {
                    println!("{at:>6} ms: terminate {}", process.name);
                    process.terminate();
                }
            }
        }
        std::thread::sleep(rng.between(Duration::from_millis(100), Duration::from_millis(2500)));
        // Sometimes one stays away for another round.
        let all = rng.chance(3, 4);
        for process in deployment.servers.iter_mut().chain(&mut deployment.agents) {
            if all || rng.chance(1, 2) {
                heal(process);
            }
        }
        std::thread::sleep(rng.between(Duration::from_millis(0), Duration::from_millis(1500)));
    }
    deployment.servers.iter_mut().chain(&mut deployment.agents).for_each(heal);
}

/// Lets the leader write what no follower receives, and kills it.
fn strand(deployment: &mut Deployment, rng: &mut Rng) {
    let Some(leader) = deployment.leader() else { return };
    let followers = deployment.followers();
    followers.iter().for_each(|server| deployment.servers[*server].kill());
    std::thread::sleep(rng.between(Duration::from_millis(20), Duration::from_millis(300)));
    deployment.servers[leader].kill();
    followers.iter().for_each(|server| deployment.servers[*server].start());
    std::thread::sleep(rng.between(Duration::from_millis(1500), Duration::from_millis(3000)));
}

fn heal(process: &mut Process) {
    if !process.runs() {
        process.start();
    } else if !process.active() {
        process.resume();
    }
}

/// Stores one number after the other, each tried at one server after the other until one does it or the outcome is
/// open; then reads it where it was written.
fn write(writer: u64, addresses: &[String], stop: &AtomicBool) -> BTreeMap<u64, Told> {
    let mut clients: Vec<Client> =
        addresses.iter().map(|address| Client::new(address).with_timeout(Duration::from_millis(1000))).collect();
    let mut told = BTreeMap::new();
    let mut current = 0;
    for number in writer * SPAN.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let document = json!({"_key": number.to_string(), "value": number});
        let outcome = match clients[current].post(&format!("/_api/document/{C}"), &document) {
            Ok(answer) if answer.ok() => Told::Stored,
            Ok(answer) if answer.status == 503 => Told::Refused,
            Ok(_) => Told::Unknown,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Told::Refused,
            Err(_) => Told::Unknown,
        };
        told.insert(number, outcome);
        if outcome == Told::Stored {
            // I14: who has been told that it is written, reads it there, or is refused.
            if let Ok(answer) = clients[current].get(&format!("/_api/document/{C}/{number}")) {
                assert_ne!(
                    answer.status,
                    404,
                    "{number} was acknowledged by {} a moment ago",
                    clients[current].address()
                );
            }
        } else {
            current = (current + 1) % clients.len();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    told
}

/// All numbers in the rollback records of all servers.
fn undone(deployment: &Deployment) -> BTreeSet<u64> {
    let operations = (0..3).flat_map(|server| rollbacks::operations(&mut deployment.client(server)));
    operations.filter_map(|operation| operation["after"]["value"].as_u64()).collect()
}
