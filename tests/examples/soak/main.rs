//! A soak: a whole deployment under full load, with random real faults, held against what its clients were told.
//!
//! `cargo run --release -p tanist-tests --example soak -- --minutes 10 --seed 1`
//!
//! The seed draws the faults; real processes do not repeat themselves, and what is found here wants to be found again
//! in the simulator. As root, the deployment runs on three machines (network namespaces) that can be cut off from one
//! another, with data on small disks that can be filled; otherwise on this machine, without those two.
//!
//! The table has a row for each kind of fault: how long no write was acknowledged, how many acknowledged writes were
//! lost (each must be in a rollback record), how many an earlier leader acknowledged after a later one (there must be
//! none), and changes of leader that nothing called for.

mod clients;
mod faults;
mod ground;
mod verdict;

use clap::Parser;
use clients::{History, Shared};
use faults::Fault;
use ground::Ground;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tanist_engine::types::Rng;
use tanist_tests::wait::wait_within;

/// Within this a deployment must be sound again after a fault.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Entries that a follower may lack while clients write as fast as they can.
const LAG_MAX: u64 = 5000;

#[derive(Parser, Debug)]
#[command(name = "soak", about = "A deployment under load and real faults")]
struct Options {
    /// How long to go on.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Draws the faults; from the clock if it is left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Clients that write and read, each as fast as it is answered.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Only faults whose names contain one of these, for example `kill,cut leader`.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Followers that must have a write before it is acknowledged.
    #[arg(long, default_value_t = 0)]
    sync_followers: usize,
    /// The lease, in seconds; the program's own if it is left out.
    #[arg(long)]
    lease: Option<f64>,
    /// Stay on this machine, also as root.
    #[arg(long)]
    one_machine: bool,
}

/// What is said of one kind of fault.
#[derive(Default)]
struct Row {
    outages_ms: Vec<u64>,
    /// The leader changed although the fault did not touch it.
    unasked: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    println!("soak --minutes {} --seed {seed} --clients {}", options.minutes, options.clients);
    let ground = Ground::prepare(&options);
    let lease = ground.lease();
    ground.create_collection(clients::COLLECTION);
    println!("{}; lease {} ms", ground.describe(), lease.as_millis());

    let shared = Arc::new(Shared::new(ground.servers().to_vec()));
    let clients: Vec<_> = (0..options.clients)
        .map(|name| {
            let shared = shared.clone();
            std::thread::spawn(move || clients::write(name, seed ^ (name as u64 + 1), &shared))
        })
        .collect();
    let mut rng = Rng::new(seed);
    let started = Instant::now();
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    while started.elapsed().as_secs_f64() < options.minutes * 60.0 {
        let fault = Fault::draw(&mut rng, &options.faults, &ground);
        round(fault, &ground, &shared, &mut rng, lease, rows.entry(fault.name).or_default(), started);
    }
    shared.stop.store(true, Ordering::Relaxed);
    let mut history = History::default();
    for client in clients {
        history.merge(client.join().expect("a client does not panic"));
    }
    conclude(&ground, &history, &rows, started.elapsed())
}

/// One fault, from a sound deployment to a sound one.
fn round(
    fault: Fault,
    ground: &Ground,
    shared: &Shared,
    rng: &mut Rng,
    lease: Duration,
    row: &mut Row,
    started: Instant,
) {
    std::thread::sleep(rng.between(Duration::from_millis(200), lease));
    let before = ground.epoch();
    shared.take_gap();
    fault.strike(ground, rng, lease);
    wait_within(HEALED_WITHIN, &format!("sound again after {}", fault.name), || ground.is_sound(LAG_MAX).then_some(()));
    let outage_ms = shared.take_gap().as_millis() as u64;
    row.outages_ms.push(outage_ms);
    let moved = ground.epoch() != before;
    row.unasked += usize::from(moved && !fault.may_move_leader());
    let at = started.elapsed().as_secs_f64();
    println!("{at:>7.1} s  {:<22} {outage_ms:>6} ms{}", fault.name, if moved { "  another epoch" } else { "" });
}

fn conclude(ground: &Ground, history: &History, rows: &BTreeMap<&'static str, Row>, lasted: Duration) -> ExitCode {
    let leader = wait_within(HEALED_WITHIN, "all have the same in the end", || {
        ground.is_sound(0).then(|| ground.leader()).flatten()
    });
    let mut servers: Vec<_> = (0..ground.servers().len()).map(|server| ground.client(server)).collect();
    let there = verdict::documents(&mut servers[leader]);
    let mut verdict = verdict::judge(history, &there, &verdict::undone(&mut servers));
    for (server, client) in servers.iter_mut().enumerate() {
        if verdict::documents(client) != there {
            verdict.broken.push(format!("server {server} has other documents than the leader"));
        }
    }

    println!("\n{:<24}{:>6}{:>12}{:>12}{:>10}", "fault", "times", "median ms", "worst ms", "unasked");
    for (name, row) in rows {
        let mut outages = row.outages_ms.clone();
        outages.sort_unstable();
        let median = outages[outages.len() / 2];
        let worst = outages[outages.len() - 1];
        println!("{name:<24}{:>6}{median:>12}{worst:>12}{:>10}", outages.len(), row.unasked);
    }
    let unasked: usize = rows.values().map(|row| row.unasked).sum();
    println!(
        "\n{:.1} minutes, {} acknowledged writes ({:.0} a second), {} reads, {} refused, {} unknown",
        lasted.as_secs_f64() / 60.0,
        verdict.acknowledged,
        verdict.acknowledged as f64 / lasted.as_secs_f64(),
        history.reads,
        history.refused,
        history.unknown,
    );
    println!(
        "{} acknowledged writes lost, all in rollback records: {}; {} overlapped; {unasked} changes of leader unasked",
        verdict.lost,
        if verdict.broken.is_empty() { "yes" } else { "NO" },
        verdict.overlapped,
    );
    for line in verdict.broken.iter().take(20) {
        println!("BROKEN: {line}");
    }
    if verdict.broken.is_empty() && verdict.overlapped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
