//! Runs the tests with one mutant switched on, the quickest first, until one of them fails.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A mutant that needs more of a processor than so many times what the sources need goes round in a circle. Time of a
/// processor, so that other programs beside this one change no outcome.
const TIMES_MAX: u32 = 5;
const TIME_MIN: Duration = Duration::from_secs(10);
/// Beside it the clock, so much longer: a mutant may wait for ever, and use nothing.
const IDLE_TIMES_MAX: u32 = 6;
/// What the kernel sends when the time of a processor is used up.
const SIGXCPU: i32 = 24;
/// In KiB of address space: a mutant may ask for memory without end.
const MEMORY_MAX: &str = "8000000";
/// No mutant's number.
const NOBODY: u32 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Killed,
    TimedOut,
    Lived,
    /// `argued.txt` says why it may live; it was not run.
    Argued,
    DoesNotBuild,
    /// In a constant or in a condition with `let`: cargo-mutants itself has to be asked.
    NotTried,
}

impl Outcome {
    pub const ALL: [Outcome; 6] =
        [Outcome::Killed, Outcome::TimedOut, Outcome::Lived, Outcome::Argued, Outcome::DoesNotBuild, Outcome::NotTried];

    pub fn word(self) -> &'static str {
        match self {
            Outcome::Killed => "killed",
            Outcome::TimedOut => "timed-out",
            Outcome::Lived => "lived",
            Outcome::Argued => "argued",
            Outcome::DoesNotBuild => "does-not-build",
            Outcome::NotTried => "not-tried",
        }
    }
}

/// Which tests a program has; they are run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Engine,
    Interaction,
    Seeds,
}

impl Kind {
    /// By the name of the target. The other tests of the simulator have nothing to say of the engine's rules.
    pub fn of(target: &str) -> Option<Kind> {
        match target {
            "tanist_engine" => Some(Kind::Engine),
            "interaction" => Some(Kind::Interaction),
            "seeds" => Some(Kind::Seeds),
            _ => None,
        }
    }

    /// Tests that are run: of the engine's own the control plane's.
    fn filters(self) -> &'static [&'static str] {
        match self {
            Kind::Engine => &["agency::", "failover::", "replication::", "gate::", "process::", "demand::", "types::"],
            Kind::Interaction => &[],
            // Under one driver: it is the same engine.
            Kind::Seeds => &["--exact", "the_bug_base_holds", "fresh_seeds_hold"],
        }
    }
}

#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    /// Where its package is: tests read files from there.
    pub directory: PathBuf,
    pub kind: Kind,
}

pub struct Trial {
    programs: Vec<(Program, Duration)>,
}

impl Trial {
    /// Runs everything once with no mutant on: it has to succeed, and says how long it takes.
    pub fn new(programs: &[Program]) -> Result<Trial, String> {
        let mut programs = programs.to_vec();
        programs.sort_by_key(|program| program.kind);
        let mut timed = Vec::new();
        for program in programs {
            let from = Instant::now();
            match once(&program, NOBODY, Duration::from_secs(1800)) {
                Outcome::Lived => eprintln!("{:?}: {:.1} s", program.kind, from.elapsed().as_secs_f64()),
                outcome => return Err(format!("{}: {} without a mutant", program.path.display(), outcome.word())),
            }
            timed.push((program, (from.elapsed() * TIMES_MAX).max(TIME_MIN)));
        }
        Ok(Trial { programs: timed })
    }

    pub fn of(&self, mutant: u32) -> Outcome {
        let outcomes = self.programs.iter().map(|(program, time_max)| once(program, mutant, *time_max));
        outcomes.into_iter().find(|outcome| *outcome != Outcome::Lived).unwrap_or(Outcome::Lived)
    }
}

fn once(program: &Program, mutant: u32, time_max: Duration) -> Outcome {
    let mut command = Command::new("sh");
    let seconds_max = time_max.as_secs();
    command.args(["-c", &format!("ulimit -v {MEMORY_MAX}; ulimit -t {seconds_max}; exec \"$0\" \"$@\"")]);
    command.arg(&program.path).args(program.kind.filters()).args(["--test-threads", "1"]);
    command.current_dir(&program.directory).env("CARGO_MANIFEST_DIR", &program.directory);
    command.env("TANIST_MUTANT", mutant.to_string()).env("TANIST_SIM_SEED", "1");
    let output = if mutant == NOBODY { Stdio::inherit } else { Stdio::null };
    let mut child = command.stdout(Stdio::null()).stderr(output()).spawn().expect("a shell can be run");
    let from = Instant::now();
    loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) if status.success() => return Outcome::Lived,
            Some(status) if status.signal() == Some(SIGXCPU) => return Outcome::TimedOut,
            Some(_) => return Outcome::Killed,
            None if from.elapsed() > time_max * IDLE_TIMES_MAX => {
                let _ = child.kill();
                let _ = child.wait();
                return Outcome::TimedOut;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
