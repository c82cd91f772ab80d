//! The drivers' own test suites, unmodified: `cargo run --release -p tanist-tests --example suites [NAME]`.
//!
//! Two Python drivers ship their tests in their source distributions. They run against a single server, and against the
//! leader of a deployment. The table has a row for each area; below it stands what failed, and why the rest of the list
//! `drivers/not_applicable.txt` does not count. With `NAME` only suites and areas whose names contain it are run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tanist_tests::packages::{self, succeeds};
use tanist_tests::process::{Process, build_release, free_ports, run};
use tanist_tests::starter::Starter;
use tanist_tests::wait::wait_until;

const DRIVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/drivers");
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/drivers/suites");
const PASSWORD: &str = "root";
/// What one of the suites signs superusers' tokens with, unless it is told otherwise.
const SECRET: &str = "secret";

/// A suite in a source distribution.
struct Suite {
    package: &'static str,
    /// The package's name in that of its archive.
    archive: &'static str,
    version: &'static str,
    /// What of it holds the tests.
    tests: &'static str,
}

const SUITES: [Suite; 2] = [
    Suite { package: "python-arango-async", archive: "python_arango_async", version: "1.2.7", tests: "tests" },
    Suite { package: "pyArango", archive: "pyArango", version: "2.1.1", tests: "pyArango/tests/tests.py" },
];

#[derive(Default)]
struct Row {
    passed: usize,
    skipped: usize,
    failed: usize,
    not_applicable: usize,
}

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let program = build_release();
    let python = packages::python(Path::new(PACKAGES), &Path::new(DRIVERS).join("suites.txt"));
    let not_applicable = not_applicable();
    let is_suite = SUITES.iter().any(|suite| suite.package.contains(&only));
    for suite in SUITES.into_iter().filter(|suite| !is_suite || suite.package.contains(&only)) {
        let sources = sources(&python, &suite);
        let measure = |against: &str, port| {
            report(&suite, against, &test(&python, &suite, &sources, port, &only), &not_applicable)
        };
        single(&program, |port| measure("single server", port));
        leader(&program, |port| measure("leader of a deployment", port));
    }
}

/// Downloads and unpacks a suite's source distribution, and installs the driver itself.
fn sources(python: &Path, suite: &Suite) -> PathBuf {
    let folder = Path::new(PACKAGES).join("sources");
    let sources = folder.join(format!("{}-{}", suite.archive, suite.version));
    if !sources.join("ready").exists() {
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let package = format!("{}=={}", suite.package, suite.version);
        let pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"];
        let download = ["download", "--no-binary", ":all:", "--no-deps", &package];
        succeeds(Command::new(python).args(pip).args(download).current_dir(&folder));
        let archive = format!("{}-{}.tar.gz", suite.archive, suite.version);
        succeeds(Command::new("tar").args(["xzf", &archive]).current_dir(&folder));
        succeeds(Command::new(python).args(pip).args(["install", "--no-deps", &package]));
        std::fs::write(sources.join("ready"), "").expect("a file can be written");
    }
    sources
}

/// A server without a deployment.
fn single(program: &Path, then: impl FnOnce(u16)) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let port = free_ports(1);
    let secret = directory.path().join("secret");
    std::fs::write(&secret, SECRET).expect("a file can be written");
    let arguments = vec![
        "server".to_owned(),
        format!("--server.endpoint=tcp://127.0.0.1:{port}"),
        format!("--database.directory={}", directory.path().join("data").display()),
        format!("--server.root-password={PASSWORD}"),
        format!("--server.jwt-secret-keyfile={}", secret.display()),
    ];
    let mut server = Process::new("server", program, arguments, directory.path().join("log"));
    server.start();
    let mut client = tanist_tests::http::Client::new(&format!("127.0.0.1:{port}"));
    wait_until("the server serves", || {
        client.get("/_admin/server/availability").is_ok_and(|answer| answer.status == 200)
    });
    then(port);
}

fn leader(program: &Path, then: impl FnOnce(u16)) {
    let secret = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(secret.path(), SECRET).expect("a file can be written");
    let secret = format!("--auth.jwt-secret={}", secret.path().display());
    let started = Starter::new(program, &[&secret, &format!("--args.dbservers.server.root-password={PASSWORD}")]);
    then(started.leader().expect("a leader"));
}

/// What pytest said of each test: its name, `PASSED`, `FAILED`, `ERROR` or `SKIPPED`, and why.
fn test(python: &Path, suite: &Suite, sources: &Path, port: u16, only: &str) -> Vec<(String, &'static str, String)> {
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-v", "--tb=line", "-o", "addopts=", "-p", "no:cacheprovider"]);
    pytest.args(["-o", "console_output_style=classic"]);
    if !suite.package.contains(only) {
        pytest.args(["-k", only]);
    }
    pytest.arg(suite.tests).arg("-rfEs").current_dir(sources);
    match suite.package {
        "pyArango" => {
            pytest.env("ARANGODB_URL", format!("http://127.0.0.1:{port}"));
            pytest.env("ARANGODB_ROOT_USERNAME", "root").env("ARANGODB_ROOT_PASSWORD", PASSWORD);
        }
        _ => {
            pytest.args(["-o", "asyncio_mode=auto", "--port", &port.to_string(), "--password", PASSWORD]);
            // Takes all words that follow.
            pytest.args(["--skip", "backup", "enterprise"]);
        }
    }
    let (_, text) = run(&mut pytest);
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ').filter(|(name, _)| name.contains("::")) else { continue };
        let outcome = ["PASSED", "FAILED", "ERROR", "SKIPPED"].into_iter().find(|word| rest.starts_with(word));
        let Some(outcome) = outcome else { continue };
        let summary = format!("{outcome} {name} - ");
        let why = text.lines().find_map(|line| line.strip_prefix(&summary)).unwrap_or_default();
        found.push((name.to_owned(), outcome, why.to_owned()));
    }
    assert!(!found.is_empty() || text.contains(" 0 selected"), "no test was run:\n{text}");
    found
}

/// Tests that do not concern a single server of ArangoDB's Community edition: name and reason.
fn not_applicable() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(Path::new(DRIVERS).join("not_applicable.txt")).expect("the list");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(": ").expect("NAME: REASON"))
        .map(|(name, why)| (name.into(), why.into()))
        .collect()
}

/// `tests/test_graph.py::test_x` is of `graph`, `…::test_x_y` of a suite in one file is of `x`.
fn area(name: &str) -> &str {
    let (file, test) = name.split_once("::").unwrap_or((name, ""));
    let file = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".py");
    match file.strip_prefix("test_") {
        Some(area) => area,
        None => test.rsplit("::").next().unwrap_or(test).split('_').nth(1).unwrap_or("other"),
    }
}

fn report(
    suite: &Suite,
    against: &str,
    tests: &[(String, &'static str, String)],
    not_applicable: &BTreeMap<String, String>,
) {
    println!("\n{} {} against a {against}", suite.package, suite.version);
    println!("{:<16}{:>8}{:>8}{:>9}{:>16}", "area", "passed", "failed", "skipped", "not applicable");
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut all = Row::default();
    for (name, outcome, _) in tests {
        let short = name.rsplit("::").next().unwrap_or(name);
        for row in [rows.entry(area(name)).or_default(), &mut all] {
            match *outcome {
                "PASSED" => row.passed += 1,
                "SKIPPED" => row.skipped += 1,
                _ if not_applicable.contains_key(short) => row.not_applicable += 1,
                _ => row.failed += 1,
            }
        }
    }
    let print = |name: &str, row: &Row| {
        println!("{name:<16}{:>8}{:>8}{:>9}{:>16}", row.passed, row.failed, row.skipped, row.not_applicable);
    };
    rows.iter().for_each(|(name, row)| print(name, row));
    print("all", &all);
    let applies = all.passed + all.failed;
    println!("{:.1} % of what applies passed", 100.0 * all.passed as f64 / applies.max(1) as f64);
    for (name, outcome, why) in tests.iter().filter(|(_, outcome, _)| matches!(*outcome, "FAILED" | "ERROR")) {
        let short = name.rsplit("::").next().unwrap_or(name);
        match not_applicable.get(short) {
            Some(reason) => println!("  not applicable: {short}: {reason}"),
            None => println!("  {outcome} {name} {why}"),
        }
    }
}
