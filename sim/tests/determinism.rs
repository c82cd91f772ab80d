//! One seed is one history: in this process and in another, on one thread or beside others, in any environment.
//!
//! The whole trace counts, message bytes included. Other processes have other hash keys (`std`'s `RandomState`), other
//! addresses, another time of day and other variables; whatever leaks from there into a history shows up as a trace of
//! another length or hash.

use std::io::Write;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use tanist_sim::run::{Driver, run};
use tanist_sim::scenario::Scenario;
use tanist_sim::trace::Hash;

const SEEDS: [u64; 10] = [1, 7, 19, 30, 101, 202, 303, 404, 505, 606];
/// Set for a child only: where it puts what it saw, and on how many threads it runs.
const CHILD_FILE: &str = "TANIST_SIM_CHILD_FILE";
const CHILD_JOBS: &str = "TANIST_SIM_CHILD_JOBS";

/// What a run left: two runs that agree in it had the same trace, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    bytes: usize,
    trace: Hash,
    hash: u64,
}

/// Reads a trace without keeping it.
#[derive(Clone)]
struct Reader(Arc<Mutex<Print>>);

impl Write for Reader {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut print = self.0.lock().expect("one thread");
        print.bytes += line.len();
        print.trace.bytes(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn print_of(seed: u64, driver: Driver) -> Print {
    let reader = Reader(Arc::new(Mutex::new(Print { bytes: 0, trace: Hash::new(), hash: 0 })));
    let hash = run(&Scenario::draw(seed), driver, Some(Box::new(reader.clone()))).hash;
    let print = *reader.0.lock().expect("one thread");
    Print { hash, ..print }
}

/// All seeds under both drivers, as lines in the order of the seeds.
fn prints(jobs: usize) -> String {
    let runs: Vec<(Driver, u64)> =
        [Driver::Loop, Driver::Madsim].into_iter().flat_map(|driver| SEEDS.map(|seed| (driver, seed))).collect();
    let shares: Vec<Vec<(usize, String)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|job| {
                let mine = runs.iter().enumerate().skip(job).step_by(jobs);
                scope.spawn(move || {
                    let line = |(driver, seed)| format!("{driver:?} seed {seed}: {:?}\n", print_of(seed, driver));
                    mine.map(|(number, run)| (number, line(*run))).collect()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a run's panic is caught")).collect()
    });
    let mut lines = shares.concat();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Not a test of its own: what [`other_processes_come_to_the_same_traces`] starts.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child() {
    let file = std::env::var(CHILD_FILE).expect("a file to write to");
    let jobs = std::env::var(CHILD_JOBS).expect("a number of threads").parse().expect("a number");
    std::fs::write(file, prints(jobs)).expect("the file can be written");
}

fn start(file: &std::path::Path, jobs: usize, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this very program"));
    command.args(["child", "--exact", "--ignored", "--test-threads", "1"]).env_clear().envs(variables.iter().copied());
    command.env(CHILD_FILE, file).env(CHILD_JOBS, jobs.to_string()).stdout(std::process::Stdio::null());
    command.spawn().expect("a child can be started")
}

#[test]
fn other_processes_come_to_the_same_traces() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environments: [(usize, &[(&str, &str)]); 2] = [
        (1, &[]),
        (2, &[("TZ", "Asia/Kathmandu"), ("LANG", "tr_TR.UTF-8"), ("HOME", "/nowhere"), ("MADSIM_TEST_SEED", "7")]),
    ];
    let mut children = Vec::new();
    for (number, (jobs, variables)) in environments.into_iter().enumerate() {
        let file = folder.join(format!("determinism-{}-{number}", std::process::id()));
        children.push((start(&file, jobs, variables), file));
    }
    let here = prints(1);
    assert_eq!(here.lines().count(), 2 * SEEDS.len());
    for (mut child, file) in children {
        assert!(child.wait().expect("the child ends").success());
        let there = std::fs::read_to_string(&file).expect("the child has written");
        std::fs::remove_file(&file).expect("the file is ours");
        for (ours, theirs) in here.lines().zip(there.lines()) {
            assert_eq!(ours, theirs, "another process had another history");
        }
        assert_eq!(here.len(), there.len());
    }
}

#[test]
fn the_same_process_comes_to_the_same_trace_seen_or_unseen() {
    for driver in [Driver::Loop, Driver::Madsim] {
        for seed in &SEEDS[..4] {
            let print = print_of(*seed, driver);
            assert!(print.bytes > 10_000, "seed {seed}: hardly anything happened");
            assert_eq!(print, print_of(*seed, driver), "seed {seed} under {driver:?}: another history");
            let unseen = run(&Scenario::draw(*seed), driver, None);
            assert_eq!(unseen.hash, print.hash, "seed {seed} under {driver:?}: looking at it changes it");
        }
    }
    assert_ne!(print_of(1, Driver::Loop).hash, print_of(2, Driver::Loop).hash);
}
