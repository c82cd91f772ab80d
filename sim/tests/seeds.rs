//! Seeds: the bug base, fresh ones under both drivers, and that both drivers give the same verdict.
//!
//! `TANIST_SIM_SEEDS` says how many fresh seeds to run, `TANIST_SIM_SEED` with which to begin (otherwise the time
//! decides). A failure prints the line that runs it again.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tanist_sim::bug_base;
use tanist_sim::cli::driver_flag;
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

fn batch(driver: Driver, first: u64, count: u64) {
    let flag = driver_flag(driver);
    println!("seeds {first} to {}", first + count - 1);
    for seed in first..first + count {
        must_hold(&run(&Scenario::draw(seed), driver, None), &format!("cargo sim run --seed {seed}{flag}"));
    }
}

#[test]
fn fresh_seeds_hold() {
    batch(Driver::Loop, first_seed(), number("TANIST_SIM_SEEDS").unwrap_or(200));
}

#[test]
fn fresh_seeds_hold_under_madsim() {
    batch(Driver::Madsim, first_seed(), number("TANIST_SIM_SEEDS").unwrap_or(200).div_ceil(10));
}

#[test]
fn the_bug_base_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (path, text) in bug_base::files(&folder).expect("sim/seeds can be read") {
        let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(text.starts_with("# "), "{} tells no story", path.display());
        let again = format!("cargo sim run --scenario {}", path.display());
        must_hold(&run(&scenario, Driver::Loop, None), &again);
        must_hold(&run(&scenario, Driver::Madsim, None), &format!("{again}{}", driver_flag(Driver::Madsim)));
    }
}

/// Which check broke, if one did.
fn verdict(scenario: &Scenario, driver: Driver) -> Option<&'static str> {
    run(scenario, driver, None).violation.map(|violation| violation.invariant)
}

#[test]
fn both_drivers_give_the_same_verdict() {
    for seed in 40..50 {
        let scenario = Scenario::draw(seed);
        assert_eq!(verdict(&scenario, Driver::Loop), verdict(&scenario, Driver::Madsim), "seed {seed}");
    }
}

/// Clocks beyond ε break the promise that rests on them. Where that is not excused, both drivers must see it.
#[test]
fn both_drivers_see_what_breaks() {
    let calm = "drift_permille 100\nfaults_ms 12000\nthink_ms 20\n";
    for (faults, broken) in [
        // The leader's second is two, and it hears nothing of its end.
        ("fault 3000 drift leader 9000 ppm=-500000\nfault 5000 cut leader 6000 way=both from=peers", "I5"),
        // The agency's second is half of one.
        ("fault 3000 drift agents 9000 ppm=800000\nfault 5000 cut leader 6000 way=both from=peers", "I5"),
        // For the agency the lease is over so much sooner. (A jump of half a lease it would notice.)
        ("fault 5000 cut leader 6000 way=both from=peers\nfault 5100 jump agents 10 ms=300", "I5"),
    ] {
        let scenario = |strict| Scenario::parse(&format!("{calm}strict {strict}\n{faults}")).expect("a scenario");
        for driver in [Driver::Loop, Driver::Madsim] {
            assert_eq!(verdict(&scenario(1), driver), Some(broken), "{driver:?} {faults}");
            let outcome = run(&scenario(0), driver, None);
            must_hold(&outcome, faults);
            assert!(outcome.figures.excused.contains_key(broken), "{driver:?} {faults}");
        }
    }
}
