//! Every mutant of the control plane, in one build.
//!
//! cargo-mutants builds once for each mutant, which takes days. This takes its list and puts all of them at once into a
//! copy of the engine, each behind a question whether it is the one that is switched on (`weave.rs`). The tests are
//! then built once and run once for each mutant (`trial.rs`).
//!
//! It never changes the sources: the copy is in `target/mutants`, and so is `outcomes.txt`, a line for each mutant.

mod argued;
mod list;
mod tree;
mod trial;
mod weave;

use clap::Parser;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use trial::{Outcome, Trial};

#[derive(Parser)]
#[command(
    name = "mutants",
    about = "Changes one operator, guard, arm or result at a time and says which change no test sees"
)]
struct Options {
    /// Only mutants whose names contain one of these, such as `gate.rs`, `Office::takeover`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only those that lived in the last run, or were not tried.
    #[arg(long)]
    again: bool,
    /// How many are tried at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let root = root()?;
    let folder = root.join("target/mutants");
    let journal = folder.join("outcomes.txt");
    // Another one would put other mutants into the same copy.
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let lock = fs::File::create(folder.join("lock")).map_err(|error| format!("{}: {error}", folder.display()))?;
    lock.try_lock().map_err(|_| format!("{}: another run is at it", folder.display()))?;
    let mut mutants = list::mutants(&root, &options.only)?;
    let argued = argued::Argued::read(&root)?;
    if options.again {
        let known = fs::read_to_string(&journal).map_err(|error| format!("{}: {error}", journal.display()))?;
        let settled: Vec<&str> = known
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(outcome, _)| *outcome != Outcome::Lived.word())
            .map(|(_, name)| name)
            .collect();
        mutants.retain(|mutant| !settled.contains(&mutant.name.as_str()));
    }
    if mutants.is_empty() {
        return Err("there is no such mutant".to_owned());
    }
    eprintln!("{} mutants", mutants.len());
    let built = tree::build(&root, &folder, &mutants)?;
    let trial = Trial::new(&built.programs)?;
    let mut options_of_file = fs::OpenOptions::new();
    options_of_file.create(true).append(options.again).write(true).truncate(!options.again);
    let file = options_of_file.open(&journal).map_err(|error| format!("{}: {error}", journal.display()))?;
    let (file, next, outcomes) = (Mutex::new(file), AtomicUsize::new(0), Mutex::new(vec![None; mutants.len()]));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutant) = mutants.get(index) else { return };
                    let outcome = match built.not_tried.get(&index) {
                        Some(outcome) => *outcome,
                        None if argued.allows(mutant) => Outcome::Argued,
                        None => trial.of(index as u32 + 1),
                    };
                    outcomes.lock().expect("no panic")[index] = Some(outcome);
                    let line = format!("{}\t{}\n", outcome.word(), mutant.name);
                    if outcome == Outcome::Lived {
                        eprint!("{line}");
                    }
                    file.lock().expect("no panic").write_all(line.as_bytes()).expect("the journal can be written");
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no panic");
    print_table(&mutants, &outcomes);
    Ok(())
}

/// The workspace that this one lies in.
fn root() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))
}

fn print_table(mutants: &[list::Mutant], outcomes: &[Option<Outcome>]) {
    let mut files: BTreeMap<&str, BTreeMap<Outcome, usize>> = BTreeMap::new();
    for (mutant, outcome) in mutants.iter().zip(outcomes) {
        let outcome = outcome.expect("every mutant was tried");
        *files.entry(&mutant.file).or_default().entry(outcome).or_default() += 1;
        *files.entry("all").or_default().entry(outcome).or_default() += 1;
    }
    print!("{:<40}", "");
    for outcome in Outcome::ALL {
        print!("{:>15}", outcome.word());
    }
    println!();
    for (file, counts) in &files {
        print!("{file:<40}");
        for outcome in Outcome::ALL {
            print!("{:>15}", counts.get(&outcome).copied().unwrap_or(0));
        }
        println!();
    }
}
