//! `cargo sim`: runs one seed and prints its trace, sweeps over many, or prints the scenario that a seed stands for.

use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tanist_sim::run::{Driver, Outcome, run};
use tanist_sim::scenario::Scenario;

/// A run allocates much and briefly; the system's allocator takes a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: cargo sim run      --seed N [--driver loop|madsim] [--quiet]
       cargo sim run      --scenario FILE [--driver loop|madsim] [--quiet]
       cargo sim sweep    --from N --count N [--driver loop|madsim] [--jobs N]
       cargo sim scenario --seed N

run       prints the trace; exit code 1 if an invariant is violated
sweep     runs many seeds, keeps quiet about those that are fine
scenario  prints a seed's scenario, to be edited and given to `run`";

/// What stands on the command line after the verb; every option has a value but `--quiet`.
struct Options(BTreeMap<String, String>);

impl Options {
    fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or(format!("'{word}' is not an option"))?;
            let value = match name {
                "quiet" => String::new(),
                _ => words.next().ok_or(format!("--{name} needs a value"))?.clone(),
            };
            if options.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Options(options))
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        let number = text.parse();
        number.map(Some).map_err(|_| format!("--{name} is '{text}', but must be a number from 0 to {}", u64::MAX))
    }

    fn driver(&mut self) -> Result<Driver, String> {
        match self.0.remove("driver").as_deref() {
            None | Some("loop") => Ok(Driver::Loop),
            Some("madsim") => Ok(Driver::Madsim),
            Some(other) => Err(format!("--driver is '{other}', but must be loop or madsim")),
        }
    }

    fn finish(self) -> Result<(), String> {
        self.0.keys().next().map_or(Ok(()), |name| Err(format!("unknown option --{name}")))
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("run") => run_one(&words[1..]),
        Some("sweep") => sweep(&words[1..]),
        Some("scenario") => print_scenario(&words[1..]),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(format!("unknown command '{other}'\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

fn seed_missing() -> String {
    format!("--seed is missing\n{USAGE}")
}

fn print_scenario(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let seed = options.number("seed")?.ok_or_else(seed_missing)?;
    options.finish()?;
    print!("{}", Scenario::draw(seed));
    Ok(ExitCode::SUCCESS)
}

fn run_one(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let (seed, file) = (options.number("seed")?, options.0.remove("scenario"));
    let (driver, quiet) = (options.driver()?, options.0.remove("quiet").is_some());
    options.finish()?;
    let flag = if driver == Driver::Madsim { " --driver madsim" } else { "" };
    let (scenario, again) = match (seed, file) {
        (Some(seed), None) => (Scenario::draw(seed), format!("cargo sim run --seed {seed}{flag}")),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
            let scenario = Scenario::parse(&text).map_err(|e| format!("{file}: {e}"))?;
            (scenario, format!("cargo sim run --scenario {file}{flag}"))
        }
        (Some(_), Some(_)) => return Err("give either --seed or --scenario".into()),
        (None, None) => return Err(seed_missing()),
    };
    let sink: Option<Box<dyn Write + Send>> = match quiet {
        true => None,
        false => Some(Box::new(BufWriter::with_capacity(1 << 20, stdout()))),
    };
    let began = Instant::now();
    let outcome = run(&scenario, driver, sink);
    let figures = &outcome.figures;
    eprintln!(
        "{:.1} simulated seconds in {:.2} s, {} happenings, {} messages, {} operations, {} acknowledged, {} of them \
         lost and kept in a rollback record, {} epochs, hash {:016x}",
        figures.simulated.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        figures.happenings,
        figures.messages,
        figures.operations,
        figures.acknowledged,
        figures.lost,
        figures.epochs,
        outcome.hash
    );
    Ok(verdict(&outcome, &again))
}

fn verdict(outcome: &Outcome, again: &str) -> ExitCode {
    match &outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            eprintln!("VIOLATION {violation}\nrun it again: {again}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    simulated: Duration,
    acknowledged: usize,
    lost: usize,
    violations: BTreeMap<&'static str, Vec<u64>>,
}

fn sweep(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let from = options.number("from")?.unwrap_or(0);
    let count = options.number("count")?.unwrap_or(100);
    let jobs = options.number("jobs")?.unwrap_or(1).clamp(1, 256);
    let driver = options.driver()?;
    options.finish()?;
    let end = from.checked_add(count).ok_or(format!("--from {from} --count {count} goes beyond {}", u64::MAX))?;
    let flag = if driver == Driver::Madsim { " --driver madsim" } else { "" };

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
