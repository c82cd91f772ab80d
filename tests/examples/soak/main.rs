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
//! none), and elections that nothing called for: of the database's leader (false failovers) and of the agency's.

mod clients;
mod faults;
mod ground;
mod verdict;

use clap::Parser;
use clients::{History, Shared};
use faults::Fault;
use ground::Ground;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tanist_engine::types::Rng;
use tanist_tests::wait::wait_within;

/// Within this a deployment must be sound again after a fault.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// What a fault costs was acknowledged at most so long before it.
const FAULT_SEEN_WITHIN: Duration = Duration::from_millis(200);
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

/// One fault, and what it did.
struct Round {
    name: &'static str,
    begun: Instant,
    outage_ms: u64,
    /// Changes of the database's leader that the fault did not call for.
    false_failovers: u64,
    /// The same of the agency's.
    false_elections: u64,
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
    let mut rounds = Vec::new();
    while shared.begun.elapsed().as_secs_f64() < options.minutes * 60.0 {
        let fault = Fault::draw(&mut rng, &options.faults, &ground);
        let (round, late_ms) = round(fault, &ground, &shared, &mut rng, lease);
        // What was felt between the two belongs to the fault before.
        if let Some(Round { outage_ms, .. }) = rounds.last_mut() {
            *outage_ms = late_ms.max(*outage_ms);
        }
        rounds.push(round);
    }
    shared.stop.store(true, Ordering::Relaxed);
    let mut history = History::default();
    for client in clients {
        history.merge(client.join().expect("a client does not panic"));
    }
    conclude(&ground, &history, &rounds, shared.begun, options.sync_followers > 0)
}

/// One fault, from a sound deployment to a sound one; and the longest time without an acknowledgement before it.
fn round(fault: Fault, ground: &Ground, shared: &Shared, rng: &mut Rng, lease: Duration) -> (Round, u64) {
    std::thread::sleep(rng.between(Duration::from_millis(200), lease));
    let (epoch, term) = (ground.epoch(), ground.agency_term());
    let late_ms = shared.take_gap().as_millis() as u64;
    let begun = Instant::now();
    fault.strike(ground, rng, lease);
    wait_within(HEALED_WITHIN, &format!("sound again after {}", fault.name), || ground.is_sound(LAG_MAX).then_some(()));
    let outage_ms = shared.take_gap().as_millis() as u64;
    let moved = ground.epoch().saturating_sub(epoch);
    let elections = ground.agency_term().saturating_sub(term);
    let false_failovers = moved.saturating_sub(u64::from(fault.may_move_leader()));
    let false_elections = if fault.may_move_agency() { 0 } else { elections };
    let at = shared.begun.elapsed().as_secs_f64();
    println!("{at:>7.1} s  {:<22} {outage_ms:>6} ms  epochs +{moved}, agency's terms +{elections}", fault.name);
    (Round { name: fault.name, begun, outage_ms, false_failovers, false_elections }, late_ms)
}

/// `synchronous`: then nothing that was acknowledged may be lost.
fn conclude(ground: &Ground, history: &History, rounds: &[Round], begun: Instant, synchronous: bool) -> ExitCode {
    let lasted = begun.elapsed();
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

    // What is lost was acknowledged while the fault lasted, or shortly before it struck.
    let during = |at: Instant| rounds[..rounds.partition_point(|round| round.begun <= at)].last();
    let lost_at = verdict.lost_at.iter().map(|at| begun + *at);
    let lost: Vec<_> = lost_at.filter_map(|at| during(at + FAULT_SEEN_WITHIN)).map(|round| round.name).collect();
    let overlapped: Vec<_> =
        verdict.overlapped_at.iter().filter_map(|at| during(*at)).map(|round| round.name).collect();
    let count = |names: &[&str], name: &str| names.iter().filter(|other| **other == name).count();
    println!(
        "\n{:<22}{:>6}{:>11}{:>10}{:>9}{:>12}{:>17}{:>17}",
        "fault", "times", "median ms", "worst ms", "lost", "overlapped", "false failovers", "false elections"
    );
    let names: BTreeSet<&str> = rounds.iter().map(|round| round.name).collect();
    for name in names {
        let of_it: Vec<&Round> = rounds.iter().filter(|round| round.name == name).collect();
        let mut outages: Vec<u64> = of_it.iter().map(|round| round.outage_ms).collect();
        outages.sort_unstable();
        println!(
            "{name:<22}{:>6}{:>11}{:>10}{:>9}{:>12}{:>17}{:>17}",
            outages.len(),
            outages[outages.len() / 2],
            outages[outages.len() - 1],
            count(&lost, name),
            count(&overlapped, name),
            of_it.iter().map(|round| round.false_failovers).sum::<u64>(),
            of_it.iter().map(|round| round.false_elections).sum::<u64>(),
        );
    }
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
        "{} acknowledged writes lost, all in rollback records: {}; {} overlapped; {} false failovers",
        verdict.lost_at.len(),
        if verdict.broken.is_empty() { "yes" } else { "NO" },
        verdict.overlapped_at.len(),
        rounds.iter().map(|round| round.false_failovers).sum::<u64>(),
    );
    for line in verdict.broken.iter().take(20) {
        println!("BROKEN: {line}");
    }
    let false_failovers = rounds.iter().map(|round| round.false_failovers).sum::<u64>();
    let kept = !synchronous || verdict.lost_at.is_empty();
    let clean = verdict.broken.is_empty() && verdict.overlapped_at.is_empty() && false_failovers == 0 && kept;
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
