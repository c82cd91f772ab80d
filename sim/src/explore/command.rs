//! `cargo sim explore`: the command line of the explorer.

use super::choice::Kind;
use super::search::Ended;
use super::{Settings, Start, explore};
use crate::cli::Options;
use crate::prove;
use std::process::ExitCode;
use std::time::Duration;
use tanist_engine::planted::Planted;

const USAGE: &str = "\
usage: cargo sim explore [--agents 1|3] [--servers N] [--from formed|boot] [--time-ms N] [--quantum-us N]
                         [--faults N] [--losses N] [--repeats N] [--delays N] [--crashes N] [--pauses N]
                         [--notices N] [--writes N] [--handovers N]
                         [--depth N] [--states N] [--seconds N] [--memory-mb N]
                         [--bug NAME]

explores every history of a small deployment that stays within the bounds; exit code 1 if a promise
is broken, with the shortest history that does it; 3 if none was, but --depth, --states, --seconds or --memory-mb came
before the end; --bug plants a bug in the engine first";

/// Exit code of a search that was cut off: nothing was found, and something may be left.
const CUT_OFF: u8 = 3;

/// Explores and prints.
pub fn run(words: &[String]) -> Result<ExitCode, String> {
    if words.first().is_some_and(|word| word == "help") {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let (settings, bug) = parse(words)?;
    prove::turn_on(bug);
    let report = explore(&settings, |report| eprintln!("{report}"))?;
    println!("{report}\n{}", report.ended);
    let Some(found) = &report.found else {
        let whole = report.ended == Ended::Exhausted;
        return Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(CUT_OFF) });
    };
    match found.steps {
        0 => println!("\nwithout any fault, while the deployment forms:"),
        steps => println!("\nthe shortest history, {steps} steps from a formed deployment or from empty disks:"),
    }
    found.trace.iter().for_each(|line| println!("{line}"));
    println!("VIOLATION {}", found.violation);
    Ok(ExitCode::FAILURE)
}

fn parse(words: &[String]) -> Result<(Settings, Option<&'static Planted>), String> {
    let mut options = Options::parse(words)?;
    let bug = options.bug()?;
    let start = match options.text("from").as_deref() {
        None | Some("formed") => Start::Formed,
        Some("boot") => Start::Boot,
        Some(other) => return Err(format!("--from is '{other}', but must be formed or boot")),
    };
    let mut settings = Settings { start, ..Settings::default() };
    let mut number = |name: &str, low: u64, high: u64| match options.number(name)? {
        Some(number) if !(low..=high).contains(&number) => {
            Err(format!("--{name} is {number}, but must lie in {low}..={high}"))
        }
        number => Ok(number),
    };
    match number("agents", 1, 5)? {
        Some(agents) if agents % 2 == 0 => return Err(format!("--agents is {agents}, but must be 1, 3 or 5")),
        agents => settings.agents = agents.map_or(settings.agents, |agents| agents as usize),
    }
    if let Some(servers) = number("servers", 1, 4)? {
        settings.servers = servers as usize;
    }
    if let Some(ms) = number("time-ms", 0, 60_000)? {
        settings.span = Duration::from_millis(ms);
    }
    if let Some(us) = number("quantum-us", 0, 60_000_000)? {
        settings.quantum = Duration::from_micros(us);
    }
    for kind in Kind::ALL {
        if let Some(count) = number(kind.name(), 0, 100)? {
            settings.bounds.set(kind, count as u8);
        }
    }
    let most = u64::from(u32::MAX);
    let count = |value: Option<u64>, default: usize| value.map_or(default, |value| value as usize);
    settings.depth_max = count(number("depth", 0, most)?, settings.depth_max);
    settings.states_max = count(number("states", 1, most)?, settings.states_max);
    settings.memory_mb = count(number("memory-mb", 1, most)?, settings.memory_mb);
    if let Some(seconds) = number("seconds", 1, most)? {
        settings.time_max = Duration::from_secs(seconds);
    }
    options.finish()?;
    Ok((settings, bug))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read_and_mistakes_named() {
        let (settings, _) =
            parse(&words("--agents 3 --from boot --time-ms 50 --crashes 2 --faults 2 --seconds 7")).unwrap();
        assert_eq!((settings.agents, settings.start), (3, Start::Boot));
        assert_eq!(settings.bounds.of(Kind::Crashes), 2);
        assert_eq!((settings.span, settings.time_max), (Duration::from_millis(50), Duration::from_secs(7)));
        for (text, complaint) in [
            ("--agents 2", "1, 3 or 5"),
            ("--agents x", "must be a number"),
            ("--servers 9", "1..=4"),
            ("--from nowhere", "formed or boot"),
            ("--losses 1 --losses 2", "twice"),
            ("--losses", "needs a value"),
            ("--crash 1", "unknown option --crash"),
            ("crash", "not an option"),
        ] {
            let error = parse(&words(text)).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
