//! Synchronous followers: no acknowledged write is lost, whatever becomes of the leader that acknowledged it.

use crate::setup;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tanist_tests::deployment::{Deployment, Setup};
use tanist_tests::http::Client;
use tanist_tests::wait::wait_until;

const C: &str = "UnitTestSynchronous";
const CLIENTS: u64 = 4;

/// Clients that write one new document after the other to whoever leads.
struct Load {
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(deployment: &Deployment) -> Load {
        let addresses: Vec<String> = (0..deployment.servers.len()).map(|server| deployment.address(server)).collect();
        let (acknowledged, stop) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let numbers = Arc::new(AtomicU64::new(0));
        let client = |_| {
            let (addresses, numbers) = (addresses.clone(), numbers.clone());
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            std::thread::spawn(move || write(&addresses, &numbers, &acknowledged, &stop))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { acknowledged, stop, clients }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no panic").len()
    }

    #[track_caller]
    fn goes_on(&self) {
        let before = self.count();
        wait_until("more writes are acknowledged", || self.count() > before + 200);
    }

    fn end(self) -> BTreeSet<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("the client ends"));
        std::mem::take(&mut self.acknowledged.lock().expect("no panic"))
    }
}

fn write(addresses: &[String], numbers: &AtomicU64, acknowledged: &Mutex<BTreeSet<u64>>, stop: &AtomicBool) {
    let client = |address: &String| Client::new(address).with_timeout(Duration::from_millis(1500));
    let mut clients: Vec<Client> = addresses.iter().map(client).collect();
    let mut server = 0;
    while !stop.load(Ordering::Relaxed) {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let document = json!({"_key": number.to_string(), "value": number});
        match clients[server].post(&format!("/_api/document/{C}"), &document) {
            Ok(answer) if answer.ok() => drop(acknowledged.lock().expect("no panic").insert(number)),
            _ => server = (server + 1) % clients.len(),
        }
    }
}

/// A deployment whose writes need a follower, with the collection and an in-sync set.
fn synchronous(setup: Setup) -> Deployment {
    let deployment = setup.server_argument("--replication.sync-followers=1").start();
    let leader = deployment.wait_leader();
    wait_until("the collection is made, for a follower is in sync", || {
        deployment.client(leader).post("/_api/collection", &json!({"name": C})).is_ok_and(|answer| answer.ok())
    });
    deployment
}

#[track_caller]
fn has_all(deployment: &Deployment, server: usize, acknowledged: &BTreeSet<u64>) {
    let there: BTreeSet<u64> = deployment.numbers(server, C).into_iter().collect();
    let lost: Vec<&u64> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged are lost: {lost:?}", lost.len(), acknowledged.len());
}

#[test]
fn a_killed_leader_takes_no_acknowledged_write_with_it() {
    let mut deployment = synchronous(setup());
    let load = Load::on(&deployment);
    load.goes_on();
    let old = deployment.wait_leader();
    deployment.servers[old].kill();
    let new = deployment.wait_leader_other_than(old);
    load.goes_on();
    let acknowledged = load.end();
    has_all(&deployment, new, &acknowledged);
    deployment.servers[old].start();
    deployment.wait_in_sync();
    has_all(&deployment, old, &acknowledged);
}

#[test]
fn a_leader_that_was_paused_beyond_its_lease_takes_no_acknowledged_write_with_it() {
    let mut deployment = synchronous(setup());
    let load = Load::on(&deployment);
    load.goes_on();
    let old = deployment.wait_leader();
    deployment.servers[old].pause();
    let new = deployment.wait_leader_other_than(old);
    load.goes_on();
    deployment.servers[old].resume();
    deployment.wait_follower(old, new);
    load.goes_on();
    let acknowledged = load.end();
    deployment.wait_in_sync();
    has_all(&deployment, new, &acknowledged);
    has_all(&deployment, old, &acknowledged);
}

/// Without a follower nothing is written, and a client is told so (R14); with one again, it goes on by itself.
#[test]
fn without_followers_writes_are_refused_and_nothing_is_done() {
    let mut deployment = synchronous(setup().servers(2).server_argument("--replication.sync-timeout=1"));
    let leader = deployment.wait_leader();
    assert!(deployment.write(leader, C, 1).expect("an answer").ok());
    deployment.servers[1 - leader].kill();
    let answer = deployment.write(leader, C, 2).expect("an answer");
    assert_eq!(answer.refusal(), (504, 1457), "it was begun: {answer}");
    let answer = deployment.write(leader, C, 3).expect("an answer");
    assert_eq!(answer.refusal(), (503, 1429), "{answer}");
    deployment.servers[1 - leader].start();
    wait_until("a write is acknowledged", || deployment.write(leader, C, 4).is_ok_and(|answer| answer.ok()));
    assert_eq!(deployment.numbers(leader, C), [1, 2, 4]);
}
