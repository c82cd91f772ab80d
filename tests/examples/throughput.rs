//! What synchronous followers cost: `cargo run --release -p tanist-tests --example throughput [SECONDS]`.
//!
//! Three servers of `tanist start` on this machine; 1, 8 and 64 clients write documents of 200 bytes under new keys,
//! one after the other each, for some seconds; with 0, 1 and 2 followers that must have each. Told are acknowledged
//! writes in a second, and their ratio to those without synchronous followers.

use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tanist_tests::process::build_release;
use tanist_tests::starter::Starter;
use tanist_tests::wait::wait_until;

const CONNECTIONS: [usize; 3] = [1, 8, 64];

fn main() {
    let seconds = std::env::args().nth(1).map_or(5, |text| text.parse().expect("a number of seconds"));
    let program = build_release();
    let mut without = [0.0; CONNECTIONS.len()];
    println!("followers  connections  writes/s  ratio");
    for followers in 0..=2 {
        let option = format!("--args.dbservers.replication.sync-followers={followers}");
        let started = Starter::new(&program, &[&option]);
        started.wait_followers();
        let leader = started.leader().expect("a leader");
        wait_until("the collection is made", || {
            let made = started.client(leader).post("/_api/collection", &json!({"name": "throughput"}));
            made.is_ok_and(|answer| answer.ok())
        });
        for (connections, without) in CONNECTIONS.into_iter().zip(&mut without) {
            let rate = measure(&started, leader, connections, Duration::from_secs(seconds));
            if followers == 0 {
                *without = rate;
            }
            println!("{followers:>9}  {connections:>11}  {rate:>8.0}  {:>5.2}", rate / *without);
        }
    }
}

/// Acknowledged writes in a second.
fn measure(started: &Starter, leader: u16, connections: usize, time: Duration) -> f64 {
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let document = json!({"value": "x".repeat(160)});
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = started.client(leader);
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.post("/_api/document/throughput", &document).expect("an answer");
                    assert!(answer.ok(), "{answer}");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
