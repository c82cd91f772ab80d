//! `cargo sim`: the command line.
//!
//! Exit code 1: an invariant is violated; 2: the input is wrong, told in one line. No file that exists is overwritten.

use crate::atlas;
use crate::bug_base;
use crate::check;
use crate::explore::command;
use crate::html;
use crate::prove;
use crate::run::{Driver, Outcome, run};
use crate::scenario::Scenario;
use crate::shrink::{Failure, shrink};
use crate::sweep::sweep;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tanist_engine::planted::Planted;

const USAGE: &str = "\
usage: cargo sim run      --seed N | --scenario FILE [--driver loop|madsim] [--quiet]
       cargo sim sweep    [--from N] [--count N] [--seconds N] [--driver loop|madsim] [--jobs N] [--keep DIR]
       cargo sim scenario --seed N
       cargo sim shrink   --seed N | --scenario FILE [--out FILE] [--seconds MAX] [--check NAME] [--driver loop|madsim]
       cargo sim html     --seed N | --scenario FILE --out FILE
       cargo sim prove    [--bug NAME[,NAME]] [--seeds MAX] [--ranges N] [--jobs N] [--driver loop|madsim]
       cargo sim atlas
       cargo sim explore  [--agents N] [--time-ms N] [--crashes N] [--bug NAME] [and more: `cargo sim explore help`]

run       prints the trace; exit code 1 if an invariant is violated
sweep     runs many seeds on all cores, keeps quiet about those that are fine, keeps what fails in DIR, and tells which
          marked paths were taken
scenario  prints a seed's scenario, to be edited and given to `run`
shrink    makes a failing scenario as small as it can be while the same check fails
html      draws a history as a page for the browser
prove     shows how soon each planted bug is found; `--bug NAME` with run, shrink or html takes an engine with that one
atlas     tells of each kind of fault what it is, what it may break, and where it is refused
explore   goes through every history of a small deployment within bounds";

/// What stands on the command line after the verb; every option has a value but [`FLAGS`].
#[derive(Debug)]
pub struct Options(BTreeMap<String, String>);

const FLAGS: [&str; 1] = ["quiet"];

impl Options {
    pub fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or(format!("'{word}' is not an option"))?;
            let value = match name {
                _ if FLAGS.contains(&name) => String::new(),
                _ => words.next().ok_or(format!("--{name} needs a value"))?.clone(),
            };
            if options.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Options(options))
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The planted bug that the engine is to have.
    pub fn bug(&mut self) -> Result<Option<&'static Planted>, String> {
        self.text("bug").map(|name| prove::planted(&name)).transpose()
    }

    pub fn flag(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    pub fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        let number = text.parse();
        number.map(Some).map_err(|_| format!("--{name} is '{text}', but must be a number from 0 to {}", u64::MAX))
    }

    pub fn driver(&mut self) -> Result<Driver, String> {
        match self.0.remove("driver").as_deref() {
            None | Some("loop") => Ok(Driver::Loop),
            Some("madsim") => Ok(Driver::Madsim),
            Some(other) => Err(format!("--driver is '{other}', but must be loop or madsim")),
        }
    }

    /// The scenario of `--seed` or `--scenario`, and how the command line names it.
    pub fn scenario(&mut self) -> Result<(Scenario, String), String> {
        match (self.number("seed")?, self.text("scenario")) {
            (Some(seed), None) => Ok((Scenario::draw(seed), format!("--seed {seed}"))),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
                let scenario = Scenario::parse(&text).map_err(|e| format!("{file}: {e}"))?;
                Ok((scenario, format!("--scenario {file}")))
            }
            (Some(_), Some(_)) => Err("give either --seed or --scenario".into()),
            (None, None) => Err("--seed or --scenario is missing; `cargo sim help` tells more".into()),
        }
    }

    pub fn check(&mut self) -> Result<Option<&'static str>, String> {
        self.text("check").map(|name| check::named(&name)).transpose()
    }

    /// A file that is to be written, and so may not be there yet.
    pub fn new_file(&mut self, name: &str) -> Result<Option<PathBuf>, String> {
        let Some(file) = self.text(name).map(PathBuf::from) else { return Ok(None) };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            _ if file.symlink_metadata().is_ok() => Err(exists_already(&file)),
            Some(folder) if !folder.is_dir() => Err(format!("{}: there is no folder for it", file.display())),
            _ => Ok(Some(file)),
        }
    }

    pub fn finish(self) -> Result<(), String> {
        self.0.keys().next().map_or(Ok(()), |name| Err(format!("unknown option --{name}; `cargo sim help` tells more")))
    }
}

fn exists_already(file: &Path) -> String {
    format!("{} exists already, and nothing is overwritten", file.display())
}

/// Writes a file that must not exist.
pub fn write_new(file: &Path, text: &str) -> Result<(), String> {
    let opened = File::options().write(true).create_new(true).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists_already(file),
        _ => format!("{}: {error}", file.display()),
    })
}

/// What is added to a command that runs under this driver.
pub fn driver_flag(driver: Driver) -> &'static str {
    if driver == Driver::Madsim { " --driver madsim" } else { "" }
}

fn bug_flag(bug: Option<&Planted>) -> String {
    bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name))
}

pub fn main(words: &[String]) -> ExitCode {
    let result = match words.first().map(String::as_str) {
        Some("prove" | "run" | "explore" | "shrink" | "html") if prove::is_needed(words) && !prove::BUILT_IN => {
            prove::build_and_run(words)
        }
        Some("prove") => prove::prove(&words[1..]),
        Some("run") => run_one(&words[1..]),
        Some("sweep") => sweep(&words[1..]),
        Some("shrink") => shrink_one(&words[1..]),
        Some("html") => html_of(&words[1..]),
        Some("scenario") => print_scenario(&words[1..]),
        Some("atlas") => print_atlas(&words[1..]),
        Some("explore") => command::run(&words[1..]),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(format!("unknown command '{other}'; `cargo sim help` lists them")),
        None => Err(USAGE.to_owned()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

fn print_scenario(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let (scenario, _) = options.scenario()?;
    options.finish()?;
    print!("{scenario}");
    Ok(ExitCode::SUCCESS)
}

fn print_atlas(words: &[String]) -> Result<ExitCode, String> {
    Options::parse(words)?.finish()?;
    print!("{}", atlas::table());
    Ok(ExitCode::SUCCESS)
}

fn run_one(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let (scenario, source) = options.scenario()?;
    let (driver, quiet) = (options.driver()?, options.flag("quiet"));
    let bug = options.bug()?;
    options.finish()?;
    prove::turn_on(bug);
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
    if let Some(core) = &figures.core {
        eprintln!("the core: {core}");
    }
    for (invariant, why) in &figures.excused {
        eprintln!("{invariant} was excused: {why}");
    }
    if let (Some(check), None) = (scenario.check, &outcome.violation) {
        eprintln!("it holds now; when it was kept it broke {check}");
    }
    Ok(verdict(&outcome, &format!("cargo sim run {source}{}{}", driver_flag(driver), bug_flag(bug))))
}

fn shrink_one(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let (start, source) = options.scenario()?;
    let (out, check, driver) = (options.new_file("out")?, options.check()?, options.driver()?);
    let seconds = options.number("seconds")?.unwrap_or(120);
    let bug = options.bug()?;
    options.finish()?;
    prove::turn_on(bug);
    let began = Instant::now();
    let Some(violation) = run(&start, driver, None).violation else {
        return Err(format!("{source} holds, there is nothing to shrink"));
    };
    let failure = Failure::of(&violation);
    if let Some(check) = check.filter(|check| *check != failure.check) {
        return Err(format!("{source} breaks {}, not {check}", failure.check));
    }
    eprintln!("{violation}\nin {}", size(&start));
    let (at_ms, mut last) = (violation.at.as_ms(), violation);
    let fails = |candidate: &Scenario| {
        if began.elapsed().as_secs() >= seconds {
            return None;
        }
        let violation = run(candidate, driver, None).violation.filter(|v| Failure::of(v) == failure)?;
        last = violation;
        Some(last.at.as_ms())
    };
    let (small, runs) = shrink(start, at_ms, fails, |step| {
        let (seconds, size) = (began.elapsed().as_secs_f64(), size(step.best));
        eprintln!("{seconds:6.1} s, {} runs: {size}, fails at {} ms ({})", step.runs, step.at_ms, step.what);
    });
    let origin = format!("Shrunk from {source} in {runs} runs, to {}.", size(&small));
    let flags = format!("{}{}", driver_flag(driver), bug_flag(bug));
    let text = bug_base::text(&small, &last, &origin, &flags);
    match out {
        Some(file) => {
            write_new(&file, &text)?;
            eprintln!("cargo sim run --scenario {}{flags}", file.display());
        }
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn html_of(words: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(words)?;
    let (scenario, source) = options.scenario()?;
    let out = options.new_file("out")?.ok_or("--out is missing; `cargo sim help` tells more")?;
    let bug = options.bug()?;
    options.finish()?;
    prove::turn_on(bug);
    let title = source.trim_start_matches("--").replace("scenario ", "");
    let (page, holds) = html::page(&scenario, &title, &format!("cargo sim run {source}{}", bug_flag(bug)));
    write_new(&out, &page)?;
    eprintln!("{} is written: {}", out.display(), if holds { "all holds" } else { "an invariant is violated" });
    Ok(ExitCode::SUCCESS)
}

fn size(s: &Scenario) -> String {
    let (faults, seconds) = (s.faults.len(), s.faults_ms as f64 / 1000.0);
    format!("{faults} faults in {seconds:.1} s, {} agents, {} servers, {} clients", s.agents, s.servers, s.clients)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_mistake_on_the_command_line_is_told_in_one_line() {
        assert_eq!(options("seed").unwrap_err(), "'seed' is not an option");
        assert_eq!(options("--seed").unwrap_err(), "--seed needs a value");
        assert_eq!(options("--seed 1 --seed 2").unwrap_err(), "--seed is given twice");
        let scenario = |line: &str| options(line).unwrap().scenario().unwrap_err();
        for seed in ["-1", "18446744073709551616", "one", ""] {
            let told = format!("--seed is '{seed}', but must be a number from 0 to 18446744073709551615");
            assert_eq!(scenario(&format!("--seed {seed}")), told);
        }
        assert_eq!(scenario("--quiet"), "--seed or --scenario is missing; `cargo sim help` tells more");
        assert_eq!(scenario("--seed 1 --scenario x"), "give either --seed or --scenario");
        let mut driver = options("--driver bus").unwrap();
        assert_eq!(driver.driver().unwrap_err(), "--driver is 'bus', but must be loop or madsim");
        let error = options("--sed 1").unwrap().finish().unwrap_err();
        assert_eq!(error, "unknown option --sed; `cargo sim help` tells more");
    }

    #[test]
    fn bad_input_ends_with_exit_code_2_and_leaves_files_alone() {
        let file = std::env::temp_dir().join(format!("tanist-cli-{}.txt", std::process::id()));
        let _ = std::fs::remove_file(&file);
        write_new(&file, "version 2\n").unwrap();
        let path = file.display();
        for line in [
            "walk --seed 1".to_owned(),
            "run --seed -1".to_owned(),
            "run --seed 18446744073709551616".to_owned(),
            format!("run --scenario {path}"),
            format!("scenario --seed 1 --out {path}"),
            format!("shrink --seed 1 --out {path}"),
            "shrink --seed 1 --check I18".to_owned(),
            format!("html --seed 1 --out {path}"),
            "html --seed 1".to_owned(),
            format!("sweep --keep {path}"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(main(&words), ExitCode::from(2), "{line}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "version 2\n");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn an_unknown_check_is_refused_and_a_file_that_exists_is_left_alone() {
        let error = options("--check I18").unwrap().check().unwrap_err();
        assert!(error.starts_with("unknown check 'I18', must be one of I1, I2, I3"), "{error}");
        assert_eq!(options("--check I17").unwrap().check(), Ok(Some("I17")));
        let here = env!("CARGO_MANIFEST_DIR");
        let new_file = |file: &str| options(&format!("--out {file}")).unwrap().new_file("out");
        for taken in [here.to_owned(), format!("{here}/Cargo.toml")] {
            let told = format!("{taken} exists already, and nothing is overwritten");
            assert_eq!(new_file(&taken), Err(told.clone()));
            assert_eq!(write_new(Path::new(&taken), "new"), Err(told));
        }
        let nowhere = format!("{here}/no-such-folder/x");
        assert_eq!(new_file(&nowhere), Err(format!("{nowhere}: there is no folder for it")));
        assert_eq!(new_file("x").unwrap().unwrap(), Path::new("x"));
    }

    #[test]
    fn a_scenario_that_is_no_file_is_told_with_its_name() {
        let scenario = |file: &str| options(&format!("--scenario {file}")).unwrap().scenario().unwrap_err();
        let folder = env!("CARGO_MANIFEST_DIR");
        for file in [folder.to_owned(), format!("{folder}/no-such-file"), format!("{folder}/Cargo.toml")] {
            let error = scenario(&file);
            assert!(error.starts_with(&format!("{file}: ")) && !error.contains('\n'), "{error}");
        }
    }
}
