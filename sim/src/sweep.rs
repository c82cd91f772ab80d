//! `cargo sim sweep`: many seeds, quiet about those that are fine, and which of the marked paths they took.

use crate::atlas::ATLAS;
use crate::bug_base;
use crate::check::Violation;
use crate::cli::{Options, driver_flag};
use crate::run::{Driver, Outcome, run};
use crate::scenario::Scenario;
use crate::world::Strikes;
use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tanist_engine::mark::Mark;

/// How often a terminal sees how far the sweep is; a log file sees it once a minute.
const TERMINAL_EVERY: Duration = Duration::from_millis(500);
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How often a path was taken, and by how many seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    times: u64,
    seeds: u64,
}

struct Totals {
    seeds: u64,
    simulated: Duration,
    acknowledged: usize,
    lost: usize,
    /// How long healed deployments took until they had converged.
    converged: Vec<Duration>,
    /// The largest part of the bound that one of them took, and which seed.
    nearest: (f64, u64),
    /// What became of cores, without their figures.
    cores: BTreeMap<String, u64>,
    violations: BTreeMap<&'static str, Vec<u64>>,
    /// In the order of [`Mark::ALL`].
    marks: Vec<Reached>,
    strikes: BTreeMap<&'static str, Strikes>,
}

impl Totals {
    fn new() -> Totals {
        Totals {
            seeds: 0,
            simulated: Duration::ZERO,
            acknowledged: 0,
            lost: 0,
            converged: Vec::new(),
            nearest: (0.0, 0),
            cores: BTreeMap::new(),
            violations: BTreeMap::new(),
            marks: vec![Reached::default(); Mark::ALL.len()],
            strikes: BTreeMap::new(),
        }
    }

    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.figures.simulated;
        self.acknowledged += outcome.figures.acknowledged;
        self.lost += outcome.figures.lost;
        if let Some((took, bound)) = outcome.figures.converged {
            self.converged.push(took);
            let part = took.as_secs_f64() / bound.as_secs_f64();
            if part > self.nearest.0 {
                self.nearest = (part, seed);
            }
        }
        if let Some(core) = &outcome.figures.core {
            let words = core.split(" within ").next().unwrap_or_default();
            *self.cores.entry(words.to_owned()).or_default() += 1;
        }
        for (reached, times) in self.marks.iter_mut().zip(&outcome.marks) {
            reached.times += u64::from(*times);
            reached.seeds += u64::from(*times > 0);
        }
        for (kind, strikes) in &outcome.figures.strikes {
            *self.strikes.entry(kind).or_default() += *strikes;
        }
        if let Some(violation) = &outcome.violation {
            self.violations.entry(violation.invariant).or_default().push(seed);
        }
    }

    fn line(&self, passed: Duration) -> String {
        let broken: usize = self.violations.values().map(Vec::len).sum();
        let seconds = passed.as_secs_f64().max(0.001);
        format!(
            "{} seeds, {:.0} a minute, {:.0} simulated seconds a second, {broken} violations, {} of {} marks reached",
            self.seeds,
            self.seeds as f64 / seconds * 60.0,
            self.simulated.as_secs_f64() / seconds,
            self.marks.iter().filter(|reached| reached.seeds > 0).count(),
            self.marks.len()
        )
    }

    /// How soon healed deployments lived again, and how cores fared.
    fn liveness(&self) -> String {
        let mut took: Vec<f64> = self.converged.iter().map(Duration::as_secs_f64).collect();
        took.sort_by(f64::total_cmp);
        let (Some(worst), Some(median)) = (took.last(), took.get(took.len() / 2)) else { return String::new() };
        let (part, seed) = self.nearest;
        let mut told = format!(
            "healed deployments had converged within {median:.1} s (median), {worst:.1} s (worst), {:.0} % of the bound \
             at most (seed {seed})\n",
            part * 100.0
        );
        for (core, count) in &self.cores {
            told += &format!("{count} cores: {core}\n");
        }
        told
    }

    /// One row for each kind of fault of the atlas.
    fn strikes_table(&self) -> String {
        let rows = ATLAS.iter().map(|row| (row.kind, self.strikes.get(row.kind).copied().unwrap_or_default()));
        let line = |(kind, Strikes { struck, spared })| format!("{kind:<11} {struck:>12} {spared:>9}\n");
        format!("{:<11} {:>12} {:>9}\n", "fault", "nodes met", "spared") + &rows.map(line).collect::<String>()
    }

    /// One row for each mark; those that no seed has reached are named once more at the end.
    fn marks_table(&self) -> String {
        let width = Mark::ALL.iter().map(|mark| mark.name().len()).max().unwrap_or(0);
        let mut table = format!("{:width$} {:>12} {:>9}\n", "mark", "times", "seeds");
        let (mut never, mut count) = (String::new(), 0);
        for (mark, reached) in Mark::ALL.iter().zip(&self.marks) {
            let (name, words) = (mark.name(), mark.words());
            table += &format!("{name:width$} {:>12} {:>9}  {words}\n", reached.times, reached.seeds);
            if reached.seeds == 0 {
                never += &format!("  {name:width$}  {words}\n");
                count += 1;
            }
        }
        match count {
            0 => table + "every mark was reached\n",
            _ => table + &format!("{count} marks were never reached:\n{never}"),
        }
    }
}

/// The seeds of a sweep, handed out one by one until there are no more or the time is up.
struct Seeds {
    next: AtomicU64,
    end: u64,
    until: Option<Instant>,
}

impl Seeds {
    fn draw(&self) -> Option<u64> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        let next =
            self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < self.end).then(|| next + 1));
        next.ok()
    }
}

fn lock(totals: &Mutex<Totals>) -> MutexGuard<'_, Totals> {
    totals.lock().expect("no worker panics while it counts")
}

pub fn sweep(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let from = options.number("from")?.unwrap_or(0);
    let (count, seconds) = (options.number("count")?, options.number("seconds")?);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let jobs = options.number("jobs")?.unwrap_or(cores).clamp(1, 256);
    let (driver, keep) = (options.driver()?, options.text("keep"));
    options.finish()?;
    let bug_base = keep.map(|folder| bug_base::Folder::open(folder.into())).transpose()?.map(Mutex::new);
    let end = match (count, seconds) {
        (Some(count), _) => {
            from.checked_add(count).ok_or(format!("--from {from} --count {count} goes beyond {}", u64::MAX))?
        }
        (None, Some(_)) => u64::MAX,
        (None, None) => from.saturating_add(100),
    };
    let began = Instant::now();
    let until = seconds.and_then(|seconds| began.checked_add(Duration::from_secs(seconds)));
    let seeds = Seeds { next: AtomicU64::new(from), end, until };
    let totals = run_all(&seeds, jobs, driver, began, |scenario, violation| {
        let seed = scenario.seed;
        println!("seed {seed}: {violation}\n  cargo sim run --seed {seed}{}", driver_flag(driver));
        let Some(folder) = &bug_base else { return };
        let mut folder = folder.lock().expect("no worker panics while it keeps something");
        match folder.keep(scenario, violation, driver) {
            Ok(Some(file)) => println!("  kept in {}", file.display()),
            Ok(None) => {}
            Err(error) => println!("  not kept: {error}"),
        }
    });

    println!("{}", totals.line(began.elapsed()));
    println!(
        "{:.1} simulated hours, {} acknowledged writes, {} of them lost and kept in a rollback record",
        totals.simulated.as_secs_f64() / 3600.0,
        totals.acknowledged,
        totals.lost
    );
    print!("{}{}{}", totals.liveness(), totals.strikes_table(), totals.marks_table());
    for (invariant, seeds) in &totals.violations {
        println!("{invariant}: {} seeds, first {:?}", seeds.len(), &seeds[..seeds.len().min(5)]);
    }
    Ok(if totals.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the seeds on `jobs` threads, and tells on the way how far it is; `found` is told of each that fails.
fn run_all(
    seeds: &Seeds,
    jobs: u64,
    driver: Driver,
    began: Instant,
    found: impl Fn(&Scenario, &Violation) + Sync,
) -> Totals {
    let (totals, over) = (Mutex::new(Totals::new()), (Mutex::new(false), Condvar::new()));
    let work = || {
        while let Some(seed) = seeds.draw() {
            let scenario = Scenario::draw(seed);
            let outcome = run(&scenario, driver, None);
            if let Some(violation) = &outcome.violation {
                found(&scenario, violation);
            }
            lock(&totals).add(seed, &outcome);
        }
    };
    let watch = || {
        let terminal = stderr().is_terminal();
        let every = if terminal { TERMINAL_EVERY } else { LOG_EVERY };
        let mut done = over.0.lock().expect("a flag");
        while !*done {
            done = over.1.wait_timeout(done, every).expect("a flag").0;
            let line = lock(&totals).line(began.elapsed());
            match (terminal, *done) {
                (true, false) => eprint!("\r{line}   "),
                (true, true) => eprintln!("\r{line}   "),
                (false, false) => eprintln!("{line}"),
                (false, true) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        scope.spawn(watch);
        workers.into_iter().for_each(|worker| worker.join().expect("a run's panic is caught"));
        *over.0.lock().expect("a flag") = true;
        over.1.notify_all();
    });
    totals.into_inner().expect("all workers are done")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep_of(jobs: u64, from: u64, end: u64) -> Totals {
        let seeds = Seeds { next: AtomicU64::new(from), end, until: None };
        run_all(&seeds, jobs, Driver::Loop, Instant::now(), |_, _| {})
    }

    #[test]
    fn jobs_share_the_seeds_and_come_to_the_same_counts() {
        let (one, two) = (sweep_of(1, 10, 18), sweep_of(2, 10, 18));
        assert_eq!((one.seeds, two.seeds), (8, 8));
        assert_eq!((one.simulated, one.acknowledged), (two.simulated, two.acknowledged));
        assert_eq!(one.marks, two.marks, "a thread's marks are its own");
        assert_eq!(one.strikes, two.strikes);
        assert!(one.violations.is_empty() && two.violations.is_empty());
    }

    #[test]
    fn a_mark_that_no_seed_reached_is_named() {
        let mut totals = Totals::new();
        totals.marks.fill(Reached { times: 7, seeds: 2 });
        assert!(totals.marks_table().ends_with("every mark was reached\n"));
        totals.marks[Mark::StoreFull as usize] = Reached::default();
        let table = totals.marks_table();
        let (_, never) = table.split_once("1 marks were never reached:\n").unwrap();
        assert_eq!(never.split_whitespace().next(), Some("StoreFull"), "{never}");
        assert!(totals.line(Duration::from_secs(1)).contains(&format!(
            "{} of {}",
            Mark::ALL.len() - 1,
            Mark::ALL.len()
        )));
    }

    #[test]
    fn a_sweep_ends_with_its_time() {
        let seeds = Seeds { next: AtomicU64::new(0), end: u64::MAX, until: Some(Instant::now()) };
        assert_eq!(seeds.draw(), None);
        let seeds = Seeds { next: AtomicU64::new(u64::MAX - 1), end: u64::MAX, until: None };
        assert_eq!((seeds.draw(), seeds.draw()), (Some(u64::MAX - 1), None));
    }
}
