//! The house rules, as far as a program can check them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use tanist_engine::planted::CATALOGUE;

/// For comments; the width of code is rustfmt's business.
const COMMENT_WIDTH: usize = 120;
/// Beyond this a file is cut in two.
const FILE_LINES_MAX: usize = 1500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All files of the project, relative to its root, that are not built or downloaded.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder can be read").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                let skipped = ["target", ".git", "node_modules", "tanist-data", "__pycache__"];
                if !skipped.contains(&&*name.to_string_lossy()) {
                    walk(&path, found);
                }
            } else {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let rust = files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.clone(), read(path))).collect()
}

#[track_caller]
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|(path, text)| {
        // A unit test beside its module is explained by the module.
        !text.starts_with("//!") && !path.ends_with("tests.rs")
    });
    none("no module documentation", silent.map(|(path, _)| path.display().to_string()).collect());
}

#[test]
fn comments_and_files_are_not_too_long() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") && line.chars().count() > COMMENT_WIDTH {
                found.push(format!("{}:{}", path.display(), number + 1));
            }
        }
        if text.lines().count() > FILE_LINES_MAX {
            found.push(format!("{}: {} lines", path.display(), text.lines().count()));
        }
    }
    none(&format!("more than {COMMENT_WIDTH} columns or {FILE_LINES_MAX} lines"), found);
}

/// What is not finished is not committed.
#[test]
fn nothing_is_left_for_later() {
    // In two pieces, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["todo", "!("], ["unimplemented", "!("], ["dbg", "!("]];
    let words: Vec<String> = words.iter().map(|halves| halves.concat()).collect();
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    none("left for later", found);
}

/// What `cargo tree` says that a package needs to run.
fn dependencies(package: &str) -> BTreeSet<String> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    let arguments = ["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--package"];
    let output = command.args(arguments).arg(package).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn the_engine_needs_no_runtime_and_the_program_no_simulator() {
    let engine = dependencies("tanist-engine");
    for banned in ["tokio", "hyper", "heed", "rand", "fastrand", "getrandom", "rustix", "madsim", "mio", "libc"] {
        assert!(!engine.contains(banned), "the engine depends on {banned}");
    }
    let server = dependencies("tanist-server");
    assert!(server.contains("tanist-engine") && server.contains("heed"), "the list is not read right");
    for banned in ["madsim", "tanist-sim", "tanist-tests"] {
        assert!(!server.contains(banned), "the program depends on {banned}");
    }
}

/// The program as it is tested links none of the simulator's replacements for the clock and for entropy.
#[test]
fn the_program_does_not_contain_the_simulator() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_tanist-for-tests")).expect("the program is there");
    // The path of the simulator's sources is in any binary that holds its panic messages.
    let needle = b"madsim-0.";
    assert!(!program.windows(needle.len()).any(|window| window == needle));
}

/// `.ci/run` runs exactly what the README says.
#[test]
fn the_readme_and_ci_have_the_same_test_command() {
    const TESTS: &str = "cargo test --workspace";
    const START: &str = "cargo run --release -- start";
    let readme = read("README.md");
    assert!(readme.contains(&format!("\n    {TESTS}\n")) && readme.contains(&format!("\n    {START}\n")));
    let ci = read(".ci/run");
    let commands = ci.lines().filter(|line| line.trim_start().starts_with("cargo ")).collect::<Vec<_>>();
    assert_eq!(commands, [TESTS]);
}

/// What the README and SIMULATION.md send a reader to exists.
#[test]
fn the_papers_name_things_that_exist() {
    let known: BTreeSet<String> = files().iter().map(|path| path.display().to_string()).collect();
    let is_path = |word: &str| {
        let folders = ["engine/", "sim/", "server/", "tests/", ".ci/", ".cargo/"];
        // `NAME` and the like stand for what the reader has.
        let placeholder = word.contains(['*', '<', '{', '…']) || word.contains("NAME");
        folders.iter().any(|folder| word.starts_with(folder)) && !placeholder
    };
    let mut found = Vec::new();
    for paper in ["README.md", "SIMULATION.md", "CHANGELOG.md"] {
        if !root().join(paper).exists() {
            continue;
        }
        let text = read(paper);
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for word in quoted.flat_map(str::split_whitespace).chain(linked).filter(|word| is_path(word)) {
            let word = word.trim_end_matches(['/', '.', ',', ':']);
            if !known.iter().any(|path| path == word || path.starts_with(&format!("{word}/"))) {
                found.push(format!("{paper}: {word}"));
            }
        }
    }
    none("names what does not exist", found);
}

/// Numbers are how rules are cited: each stands for one.
#[test]
fn invariants_are_numbered_once_and_cited_right() {
    let map = read("engine/src/lib.rs");
    let defined: BTreeMap<String, usize> = (1..100)
        .map(|n| (format!("I{n}"), map.matches(&format!("**I{n}**")).count()))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert!(defined.len() >= 17 && defined.values().all(|count| *count == 1), "{defined:?}");
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//")) {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric()) {
                let digits = word.strip_prefix('I').filter(|rest| !rest.is_empty());
                let cited = digits.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
                if cited && !defined.contains_key(word) {
                    found.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    none("cites an invariant that does not exist", found);
}

/// A planted bug is in the catalogue and at its place in the engine, and nowhere else.
#[test]
fn each_planted_bug_is_planted() {
    let known: BTreeSet<&str> = CATALOGUE.iter().map(|bug| bug.name).collect();
    assert!(CATALOGUE.len() >= 30 && known.len() == CATALOGUE.len(), "{} bugs, {} names", CATALOGUE.len(), known.len());
    let (mut used, mut found) = (BTreeSet::new(), Vec::new());
    // In two pieces, so that this file does not find itself.
    let mark = ["planted", "!("].concat();
    for (path, text) in sources() {
        let places = text.split(&mark).skip(1).filter_map(|rest| rest.split(')').next());
        for name in places.filter(|name| !path.ends_with("planted.rs") && !name.is_empty()) {
            match known.get(name) {
                Some(name) if path.starts_with("engine/src") => drop(used.insert(*name)),
                _ => found.push(format!("{}: {name}", path.display())),
            }
        }
    }
    none("planted outside of the engine, or not in the catalogue", found);
    none("not planted anywhere", known.difference(&used).map(|name| name.to_string()).collect());
}

/// Formatting and lints are part of the tests, where the tools are installed.
#[test]
fn the_sources_are_formatted() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let fmt = |arguments: &[&str]| Command::new(&cargo).arg("fmt").args(arguments).current_dir(root()).output();
    if !fmt(&["--version"]).is_ok_and(|output| output.status.success()) {
        tanist_tests::skip("rustfmt is not installed");
        return;
    }
    let output = fmt(&["--all", "--check"]).expect("cargo runs");
    assert!(output.status.success(), "cargo fmt is needed:\n{}", String::from_utf8_lossy(&output.stdout));
}
