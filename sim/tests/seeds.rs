//! Seeds: the bug base, fresh ones under both drivers, and that one seed is one history.
//!
//! `TANIST_SIM_SEEDS` says how many fresh seeds to run, `TANIST_SIM_SEED` with which to begin (otherwise the time
//! decides). A failure prints the line that runs it again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tanist_sim::run::{Driver, Outcome, run};
use tanist_sim::scenario::Scenario;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is '{text}', but must be a number")))
}

/// The first seed of a batch: given, or drawn from the time.
fn first_seed() -> u64 {
    number("TANIST_SIM_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        now.as_micros() as u64 % 1_000_000_000
    })
}

fn must_hold(outcome: &Outcome, again: &str) {
    if let Some(violation) = &outcome.violation {
        panic!("{violation}\nrun it again: {again}");
    }
}

fn batch(driver: Driver, first: u64, count: u64, flag: &str) {
    println!("seeds {first} to {}", first + count - 1);
    for seed in first..first + count {
        must_hold(&run(&Scenario::draw(seed), driver, None), &format!("cargo sim run --seed {seed}{flag}"));
    }
}

#[test]
fn fresh_seeds_hold() {
    batch(Driver::Loop, first_seed(), number("TANIST_SIM_SEEDS").unwrap_or(200), "");
}

#[test]
fn fresh_seeds_hold_under_madsim() {
    batch(Driver::Madsim, first_seed(), number("TANIST_SIM_SEEDS").unwrap_or(200).div_ceil(10), " --driver madsim");
}

fn bug_base() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("sim/seeds exists").map(|e| e.expect("readable").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("readable"))).collect()
}

#[test]
fn the_bug_base_holds() {
    for (path, text) in bug_base() {
        let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(text.starts_with("# "), "{} tells no story", path.display());
        let again = format!("cargo sim run --scenario {}", path.display());
        must_hold(&run(&scenario, Driver::Loop, None), &again);
        must_hold(&run(&scenario, Driver::Madsim, None), &format!("{again} --driver madsim"));
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The whole trace of a run, and its hash.
fn traced(seed: u64, driver: Driver) -> (Vec<u8>, u64) {
    let buffer = Buffer::default();
    let outcome = run(&Scenario::draw(seed), driver, Some(Box::new(buffer.clone())));
    let bytes = std::mem::take(&mut *buffer.0.lock().expect("one thread"));
    (bytes, outcome.hash)
}

#[test]
fn one_seed_is_one_trace() {
    for driver in [Driver::Loop, Driver::Madsim] {
        for seed in [1, 7, 19, 30] {
            let (first, second) = (traced(seed, driver), traced(seed, driver));
            assert!(first.0.len() > 10_000, "seed {seed}: hardly anything happened");
            assert_eq!(first.1, second.1, "seed {seed} under {driver:?}: the hashes differ");
            assert!(first.0 == second.0, "seed {seed} under {driver:?}: the traces differ");
            let unseen = run(&Scenario::draw(seed), driver, None);
            assert_eq!(unseen.hash, first.1, "seed {seed} under {driver:?}: looking at it changes it");
        }
    }
    assert_ne!(traced(1, Driver::Loop).1, traced(2, Driver::Loop).1);
}

#[test]
fn both_drivers_give_the_same_verdict() {
    for seed in 40..50 {
        let verdict = |driver| run(&Scenario::draw(seed), driver, None).violation.map(|v| v.invariant);
        assert_eq!(verdict(Driver::Loop), verdict(Driver::Madsim), "seed {seed}");
    }
}
