//! The shell under seeds: the server's port, links, clients, loop, writer and LMDB over turmoil's network.
//!
//! The engine has a simulator of its own; here it is what surrounds the engine that meets cuts, delays, half-open
//! connections, pieces of frames and hostile visitors, all from one number. `TANIST_SHELL_SEEDS` says how many seeds,
//! `TANIST_SHELL_SEED` which is the first.

mod deployment;
mod hostile;
mod links;
mod net;
mod node;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const SEEDS_DEFAULT: u64 = 16;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seeds to run: other ones each time, unless one is asked for.
fn seeds() -> std::ops::Range<u64> {
    let count = variable("TANIST_SHELL_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let first = variable("TANIST_SHELL_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() % 1_000_000 * 1000
    });
    println!("seeds from {first} (TANIST_SHELL_SEED)");
    first..first + count
}

/// In memory if the machine has such a place: a real sync takes real time and changes nothing here.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("tanist-shell-").tempdir_in(parent).expect("a directory")
}

#[test]
fn a_deployment_goes_through_faults_and_comes_back() {
    let (mut epochs, mut failed, mut visits) = (0, 0, 0);
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        println!("deployment, seed {seed}");
        let outcome = deployment::run(seed, directory().path());
        println!("{outcome:?}");
        epochs += outcome.epochs;
        failed += outcome.failed;
        visits += outcome.visits;
        assert!(outcome.acknowledged > 0, "{outcome:?}");
    }
    let eventful = epochs > count && failed > 0 && visits > count;
    assert!(count < SEEDS_DEFAULT || eventful, "{epochs} epochs, {failed} failures, {visits} visits");
}

#[test]
fn messages_come_whole_once_and_in_order() {
    for seed in seeds() {
        let sound = links::run(seed, false, directory().path());
        let faulty = links::run(seed, true, directory().path());
        assert!(sound.received > 50 && faulty.received > 50, "seed {seed}: {sound:?} {faulty:?}");
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in [1, 2] {
        let once = deployment::run(seed, directory().path());
        let again = deployment::run(seed, directory().path());
        assert_eq!(once, again, "seed {seed}");
        let once = links::run(seed, true, directory().path());
        let again = links::run(seed, true, directory().path());
        assert_eq!(once.history, again.history, "seed {seed}");
    }
}
