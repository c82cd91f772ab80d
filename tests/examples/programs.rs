//! Real programs end to end: `cargo run --release -p tanist-tests --example programs [NAME]`.
//!
//! Each is installed, pinned, below `target/drivers/programs`, and works by a script of `tests/programs` against a
//! fresh deployment, whose leader is killed twice meanwhile. In the end every acknowledged write is read back from the
//! leader; what is missing must be in a rollback record. Exits with 1 when that, or anything else, is not so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use tanist_tests::process::build_release;
use tanist_tests::programs::{PROGRAMS, Report, run};

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/drivers");

fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_default();
    let tanist = build_release();
    let mut reports = Vec::new();
    let mut well = true;
    for program in PROGRAMS.into_iter().filter(|program| program.name.contains(&only)) {
        eprintln!("{} ...", program.name);
        match catch_unwind(AssertUnwindSafe(|| run(program, &tanist, Path::new(PACKAGES)))) {
            Ok(report) => {
                well &= report.problems.is_empty();
                reports.push(report);
            }
            // What went wrong has been told.
            Err(_) => well = false,
        }
    }
    table(&reports);
    if well && !reports.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(reports: &[Report]) {
    println!(
        "{:<22}{:<9}{:>11}{:>13}{:>8}{:>11}{:>10}{:>9}{:>10}  verdict",
        "program", "version", "operations", "acknowledged", "failed", "abandoned", "pause ms", "missing", "recorded"
    );
    for report in reports {
        println!(
            "{:<22}{:<9}{:>11}{:>13}{:>8}{:>11}{:>10}{:>9}{:>10}  {}",
            report.program,
            report.version,
            report.kinds.values().sum::<usize>(),
            report.acknowledged,
            report.failed,
            report.abandoned.len(),
            report.longest_pause.as_millis(),
            report.missing,
            report.recorded,
            if report.problems.is_empty() { "good" } else { "BAD" },
        );
    }
    println!(
        "\nacknowledged: writes. failed: calls, repeated then. abandoned: units of work that a failover had undone."
    );
    println!("missing: of the acknowledged ones, in the end. recorded: of these, in a rollback record.");
    for report in reports {
        let kinds: Vec<String> = report.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("\n{}: {}", report.program, kinds.join(", "));
        report.abandoned.iter().for_each(|why| println!("  abandoned: {why}"));
        report.problems.iter().for_each(|problem| println!("  {problem}"));
    }
}
