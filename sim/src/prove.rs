//! The proof that the simulator finds bugs: the engine with one planted bug at a time, and how many seeds it takes.
//!
//! Each bug is hunted over several ranges of seeds that have nothing to do with each other, in each until it is found.
//! What counts is the median: one lucky range proves nothing. An assertion of the engine is a finding, too, and the
//! table says that it was one. The engine without a bug, of the same build, must be quiet.
//!
//! Before the seeds, each bug meets the scenarios of the bug base: for what seeds meet too seldom, one of them is made
//! so that it always fails.
//!
//! The engine must be built with `--cfg tanist_planted`, which [`build_and_run`] does in a target directory of its own.

use crate::bug_base;
use crate::check::Violation;
use crate::cli::{Options, driver_flag};
use crate::run::run;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tanist_engine::planted::{CATALOGUE, Planted};

/// How long to look for each bug.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub ranges: u64,
    /// In each range.
    pub seeds_max: u64,
    pub jobs: u64,
    /// How many seeds the engine without a bug must hold.
    pub quiet: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { ranges: 5, seeds_max: 2000, jobs: 1, quiet: 200 }
    }
}

/// Where a range begins.
pub fn first_seed(range: u64) -> u64 {
    range * 1_000_000
}

/// A bug that was found in a range.
#[derive(Clone, Debug)]
pub struct Found {
    /// Seeds until then, this one included.
    pub seeds: u64,
    pub seed: u64,
    pub violation: Violation,
    pub took: Duration,
}

/// A scenario of the bug base.
#[derive(Clone, Debug)]
pub struct Kept {
    pub name: String,
    pub scenario: Scenario,
}

/// The bug base.
pub fn kept() -> Result<Vec<Kept>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let files = bug_base::files(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let read = |(path, text): &(std::path::PathBuf, String)| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let scenario = Scenario::parse(text).map_err(|error| format!("{name}: {error}"))?;
        Ok(Kept { name, scenario })
    };
    files.iter().map(read).collect()
}

/// What came of one bug: the first scenario of the bug base that finds it, and for each range where it was found.
#[derive(Clone, Debug)]
pub struct Hunt {
    pub bug: &'static Planted,
    pub kept: Option<String>,
    pub ranges: Vec<Option<Found>>,
}

impl Hunt {
    /// The middle one over the ranges; `None` if the bug was not found in most of them.
    fn median<T: Ord>(&self, of: impl Fn(&Found) -> T) -> Option<T> {
        let mut values: Vec<T> = self.ranges.iter().flatten().map(of).collect();
        values.sort();
        let middle = self.ranges.len() / 2;
        (middle < values.len()).then(|| values.swap_remove(middle))
    }

    pub fn median_seeds(&self) -> Option<u64> {
        self.median(|found| found.seeds)
    }

    /// Found in most ranges, or always by a scenario that is kept.
    fn is_found(&self) -> bool {
        self.kept.is_some() || self.median_seeds().is_some()
    }

    /// The checkers that found it, and how often.
    fn found_by(&self) -> String {
        let mut by: BTreeMap<&str, usize> = BTreeMap::new();
        for found in self.ranges.iter().flatten() {
            let name = if found.violation.invariant == "panic" { "assertion" } else { found.violation.invariant };
            *by.entry(name).or_default() += 1;
        }
        let seeds = by.iter().map(|(name, count)| format!("{name} ×{count}"));
        seeds.chain(self.kept.iter().cloned()).collect::<Vec<_>>().join(", ")
    }
}

/// Looks for one bug in one range. `run` tries a seed.
pub fn hunt(range: u64, seeds_max: u64, run: impl Fn(u64) -> Option<Violation>) -> Option<Found> {
    let (began, first) = (Instant::now(), first_seed(range));
    (0..seeds_max).find_map(|nth| {
        let violation = run(first + nth)?;
        Some(Found { seeds: nth + 1, seed: first + nth, violation, took: began.elapsed() })
    })
}

/// Looks for all bugs, with `jobs` threads; `done` is told of each as it is through. `run` tries a scenario with a bug.
pub fn hunt_all(
    bugs: &[&'static Planted],
    kept: &[Kept],
    plan: Plan,
    run: impl Fn(&Planted, &Scenario) -> Option<Violation> + Sync,
    done: impl Fn(&Hunt) + Sync,
) -> Vec<Hunt> {
    let next = AtomicUsize::new(0);
    let hunts: Mutex<BTreeMap<usize, Hunt>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = bugs.get(nth) else { return };
                    let finds = |kept: &&Kept| run(bug, &kept.scenario).is_some();
                    let kept = kept.iter().find(finds).map(|kept| kept.name.clone());
                    let tries = |seed| run(bug, &Scenario::draw(seed));
                    let ranges = (1..=plan.ranges).map(|range| hunt(range, plan.seeds_max, tries)).collect();
                    let hunt = Hunt { bug, kept, ranges };
                    done(&hunt);
                    hunts.lock().expect("nobody panics while it notes a result").insert(nth, hunt);
                }
            });
        }
    });
    hunts.into_inner().expect("all threads are done").into_values().collect()
}

const HEADING: &str =
    "planted bug                    breaks  ranges  seeds  seconds  found by                  what it does\n";

/// One line of the table: the median number of seeds and of seconds over the ranges.
pub fn line(hunt: &Hunt) -> String {
    let Planted { name, breaks, what, .. } = hunt.bug;
    let ranges = format!("{}/{}", hunt.ranges.iter().flatten().count(), hunt.ranges.len());
    let seeds = hunt.median_seeds().map_or("-".into(), |seeds| seeds.to_string());
    let seconds = hunt.median(|found| found.took).map_or("-".into(), |took| format!("{:.1}", took.as_secs_f64()));
    let by = hunt.found_by();
    format!("{name:<30} {breaks:<7} {ranges:>6} {seeds:>6} {seconds:>8}  {by:<25} {what}\n")
}

/// The table, the median over the catalogue, and what was not found in most of its ranges.
pub fn report(hunts: &[Hunt]) -> String {
    let mut text = HEADING.to_owned();
    hunts.iter().for_each(|hunt| text += &line(hunt));
    let mut medians: Vec<u64> = hunts.iter().map(|hunt| hunt.median_seeds().unwrap_or(u64::MAX)).collect();
    medians.sort_unstable();
    let (found, missed): (Vec<&Hunt>, Vec<&Hunt>) = hunts.iter().partition(|hunt| hunt.is_found());
    let _ = writeln!(text, "{} of {} bugs found", found.len(), hunts.len());
    if let Some(median) = medians.get(medians.len() / 2).filter(|median| **median < u64::MAX) {
        let _ = writeln!(text, "median over the catalogue: {median} seeds");
    }
    if !missed.is_empty() {
        let names: Vec<&str> = missed.iter().map(|hunt| hunt.bug.name).collect();
        let _ = writeln!(text, "not found: {}", names.join(", "));
    }
    text
}

/// The planted bug of that name.
pub fn planted(name: &str) -> Result<&'static Planted, String> {
    CATALOGUE.iter().find(|planted| planted.name == name).ok_or_else(|| {
        let names: Vec<&str> = CATALOGUE.iter().map(|planted| planted.name).collect();
        format!("there is no planted bug '{name}'; there are {}", names.join(", "))
    })
}

/// Whether this program's engine has the planted bugs.
pub const BUILT_IN: bool = cfg!(tanist_planted);

/// Switches a planted bug on in this thread, and all others off.
pub fn turn_on(planted: Option<&Planted>) {
    #[cfg(tanist_planted)]
    tanist_engine::planted::turn_on(planted.map(|planted| planted.bug));
    #[cfg(not(tanist_planted))]
    assert!(planted.is_none(), "this engine is built without planted bugs");
}

/// Whether a command line asks for an engine with planted bugs.
pub fn is_needed(words: &[String]) -> bool {
    words.first().is_some_and(|verb| verb == "prove") || words.iter().any(|word| word == "--bug")
}

/// The same command line, given to a program with the planted bugs, which is built in a target directory of its own.
pub fn build_and_run(words: &[String]) -> Result<ExitCode, String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--profile", "prove", "--package", "tanist-sim", "--example", "sim"]);
    command.args(["--manifest-path", &format!("{root}/Cargo.toml"), "--target-dir", &format!("{root}/target/planted")]);
    command.args(["--config", r#"build.rustflags=["--cfg","tanist_planted"]"#, "--"]).args(words);
    let status = command.status().map_err(|error| format!("cargo does not run: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// `cargo sim prove`
pub fn prove(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let bugs: Vec<&Planted> = match options.text("bug") {
        Some(names) => names.split(',').map(planted).collect::<Result<_, _>>()?,
        None => CATALOGUE.iter().collect(),
    };
    let usual = Plan::default();
    let plan = Plan {
        seeds_max: options.number("seeds")?.unwrap_or(usual.seeds_max),
        ranges: options.number("ranges")?.unwrap_or(usual.ranges).clamp(1, 1000),
        jobs: options.number("jobs")?.unwrap_or(usual.jobs).clamp(1, 256),
        ..usual
    };
    let driver = options.driver()?;
    options.finish()?;
    let named = bugs.len() < CATALOGUE.len();
    let violation_of = |scenario: &Scenario| run(scenario, driver, None).violation;
    turn_on(None);
    let kept = kept()?;
    let drawn = (0..plan.quiet).map(|seed| (format!("seed {seed}"), Scenario::draw(seed)));
    let all = kept.iter().map(|kept| (kept.name.clone(), kept.scenario.clone())).chain(drawn);
    let loud = all.into_iter().find_map(|(name, scenario)| violation_of(&scenario).map(|violation| (name, violation)));
    if let Some((name, violation)) = loud {
        eprintln!("the engine without a planted bug is not quiet: {name}: {violation}");
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("the engine without a planted bug holds {} seeds", plan.quiet);
    let run_with = |bug: &Planted, scenario: &Scenario| {
        turn_on(Some(bug));
        violation_of(scenario)
    };
    let hunts = hunt_all(&bugs, &kept, plan, run_with, |hunt| {
        eprint!("{}", line(hunt));
        for found in hunt.ranges.iter().flatten().filter(|_| named) {
            let flag = driver_flag(driver);
            println!("{}\n  cargo sim run --seed {}{flag} --bug {}", found.violation, found.seed, hunt.bug.name);
        }
    });
    print!("{}", report(&hunts));
    let all = hunts.iter().all(Hunt::is_found);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;

    fn broken() -> Option<Violation> {
        Some(Violation { invariant: "I5", what: "two".into(), at: At(0) })
    }

    fn found(seeds: u64, invariant: &'static str) -> Option<Found> {
        let violation = Violation { invariant, ..broken().unwrap() };
        Some(Found { seeds, seed: seeds, violation, took: Duration::from_secs(seeds) })
    }

    #[test]
    fn a_hunt_ends_with_the_first_seed_that_fails() {
        let found = hunt(3, 10, |seed| if seed == first_seed(3) + 4 { broken() } else { None }).unwrap();
        assert_eq!((found.seeds, found.seed), (5, first_seed(3) + 4));
        assert!(hunt(3, 4, |seed| if seed == first_seed(3) + 4 { broken() } else { None }).is_none());
    }

    #[test]
    fn the_median_counts_a_range_without_a_finding_as_the_longest() {
        let hunt = |ranges| Hunt { bug: &CATALOGUE[0], kept: None, ranges };
        assert_eq!(hunt(vec![found(9, "I1"), found(1, "I1"), found(4, "I1")]).median_seeds(), Some(4));
        assert_eq!(hunt(vec![found(9, "I1"), None, found(4, "I1")]).median_seeds(), Some(9));
        assert_eq!(hunt(vec![found(9, "I1"), None, None]).median_seeds(), None);
    }

    #[test]
    fn the_report_names_what_was_not_found_and_what_found_the_rest() {
        let ranges = vec![found(2, "I5"), found(3, "panic"), found(8, "I5")];
        let hunt = |bug, ranges| Hunt { bug, kept: None, ranges };
        let mut hunts = [hunt(&CATALOGUE[0], ranges), hunt(&CATALOGUE[1], vec![None, None, None])];
        let text = report(&hunts[..1]);
        assert!(text.contains("I5 ×2, assertion ×1") && text.contains(" 3/3 ") && text.contains("3.0"), "{text}");
        assert!(text.ends_with("1 of 1 bugs found\nmedian over the catalogue: 3 seeds\n"), "{text}");
        let text = report(&hunts);
        assert!(text.contains(" 0/3 ") && text.contains("1 of 2 bugs found\n"), "{text}");
        assert!(text.ends_with(&format!("not found: {}\n", CATALOGUE[1].name)), "{text}");
        hunts[1].kept = Some("a-scenario".into());
        let text = report(&hunts);
        assert!(text.contains(" 0/3      -        -  a-scenario ") && text.contains("2 of 2 bugs found\n"), "{text}");
    }

    #[test]
    fn all_bugs_are_hunted_and_told_of_in_order() {
        let bugs: Vec<&Planted> = CATALOGUE.iter().take(5).collect();
        let plan = Plan { ranges: 2, seeds_max: 3, jobs: 3, quiet: 0 };
        let told = AtomicUsize::new(0);
        let kept = [Kept { name: "calm".into(), scenario: Scenario::default() }];
        let hunts = hunt_all(
            &bugs,
            &kept,
            plan,
            |bug, _| if bug.name == bugs[1].name { None } else { broken() },
            |_| {
                told.fetch_add(1, Ordering::Relaxed);
            },
        );
        let names: Vec<&str> = hunts.iter().map(|hunt| hunt.bug.name).collect();
        assert_eq!(names, bugs.iter().map(|bug| bug.name).collect::<Vec<_>>());
        assert_eq!(told.into_inner(), 5);
        for hunt in hunts {
            let found = hunt.bug.name != bugs[1].name;
            assert_eq!((hunt.kept.is_some(), hunt.median_seeds().is_some()), (found, found));
        }
    }

    #[test]
    fn an_unknown_bug_is_told_with_the_known_ones() {
        assert_eq!(planted(CATALOGUE[0].name).unwrap().name, CATALOGUE[0].name);
        let error = planted("fly").unwrap_err();
        assert!(error.starts_with("there is no planted bug 'fly'; there are ") && error.contains(CATALOGUE[1].name));
    }
}
