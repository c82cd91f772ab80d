//! `cargo sim sweep`: many seeds, quiet about those that are fine.

use crate::cli::{Options, driver_flag};
use crate::run::run;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Totals {
    seeds: u64,
    simulated: Duration,
    acknowledged: usize,
    lost: usize,
    violations: BTreeMap<&'static str, Vec<u64>>,
}

pub fn sweep(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let from = options.number("from")?.unwrap_or(0);
    let count = options.number("count")?.unwrap_or(100);
    let jobs = options.number("jobs")?.unwrap_or(1).clamp(1, 256);
    let driver = options.driver()?;
    options.finish()?;
    let end = from.checked_add(count).ok_or(format!("--from {from} --count {count} goes beyond {}", u64::MAX))?;
    let flag = driver_flag(driver);

    let (next, totals, done) = (AtomicU64::new(from), Mutex::new(Totals::default()), AtomicBool::new(false));
    let began = Instant::now();
    let progress = |totals: &Totals| {
        let broken: usize = totals.violations.values().map(Vec::len).sum();
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        format!(
            "{} of {count} seeds, {:.0} seeds a minute, {:.0} simulated seconds a second, {broken} violations",
            totals.seeds,
            totals.seeds as f64 / seconds * 60.0,
            totals.simulated.as_secs_f64() / seconds
        )
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let outcome = run(&Scenario::draw(seed), driver, None);
                        let mut totals = totals.lock().expect("no worker panics while it counts");
                        totals.seeds += 1;
                        totals.simulated += outcome.figures.simulated;
                        totals.acknowledged += outcome.figures.acknowledged;
                        totals.lost += outcome.figures.lost;
                        if let Some(violation) = outcome.violation {
                            println!("seed {seed}: {violation}\n  cargo sim run --seed {seed}{flag}");
                            totals.violations.entry(violation.invariant).or_default().push(seed);
                        }
                    }
                })
            })
            .collect();
        let watcher = stderr().is_terminal().then(|| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(500));
                    eprint!("\r{}   ", progress(&totals.lock().expect("no worker panics while it counts")));
                }
                eprintln!();
            })
        });
        workers.into_iter().for_each(|worker| worker.join().expect("a run's panic is caught"));
        done.store(true, Ordering::Relaxed);
        watcher.into_iter().for_each(|watcher| watcher.join().expect("the watcher only prints"));
    });
    let totals = totals.into_inner().expect("all workers are done");
    println!("{}", progress(&totals));
    println!(
        "{:.1} simulated hours, {} acknowledged writes, {} of them lost and kept in a rollback record",
        totals.simulated.as_secs_f64() / 3600.0,
        totals.acknowledged,
        totals.lost
    );
    for (invariant, seeds) in &totals.violations {
        println!("{invariant}: {} seeds, first {:?}", seeds.len(), &seeds[..seeds.len().min(5)]);
    }
    Ok(if totals.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
