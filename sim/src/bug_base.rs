//! The bug base: a file for each way in which a run has failed, with its scenario, its check and its story.
//!
//! `sim/seeds` is one; `cargo test` runs every file there. Nothing that is kept is ever overwritten.

use crate::check::Violation;
use crate::cli::{driver_flag, write_new};
use crate::run::Driver;
use crate::scenario::Scenario;
use crate::shrink::Failure;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A scenario that failed, to be kept. Its story begins with what the check said.
pub fn text(scenario: &Scenario, violation: &Violation, origin: &str, flags: &str) -> String {
    let scenario = Scenario { check: Some(violation.invariant), ..scenario.clone() };
    format!("# {violation}\n# {origin} Run it: cargo sim run --scenario FILE{flags}\n{scenario:#}")
}

/// The files of a folder, in the order of their names: path and text.
pub fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), std::fs::read_to_string(path)?))).collect()
}

/// A folder in which a sweep keeps what it finds: the first seed of each failure.
pub struct Folder {
    path: PathBuf,
    kept: BTreeSet<Failure>,
}

impl Folder {
    pub fn open(path: PathBuf) -> Result<Folder, String> {
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Folder { path, kept: BTreeSet::new() })
    }

    /// The new file, unless this failure has one.
    pub fn keep(
        &mut self,
        scenario: &Scenario,
        violation: &Violation,
        driver: Driver,
    ) -> Result<Option<PathBuf>, String> {
        if !self.kept.insert(Failure::of(violation)) {
            return Ok(None);
        }
        let seed = scenario.seed;
        let file = self.path.join(format!("{}-seed-{seed}.txt", violation.invariant.to_lowercase()));
        write_new(&file, &text(scenario, violation, &format!("Found by a sweep, seed {seed}."), driver_flag(driver)))?;
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::At;

    #[test]
    fn each_failure_is_kept_once_and_never_over_another() {
        let path = std::env::temp_dir().join(format!("tanist-bug-base-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let violation = |what: &str| Violation { invariant: "I9", what: what.to_owned(), at: At(1_500_000_000) };
        let (scenario, driver) = (Scenario::draw(7), Driver::Madsim);
        let mut folder = Folder::open(path.clone()).unwrap();
        let file = folder.keep(&scenario, &violation("s1 lacks 3"), driver).unwrap().expect("it is the first");
        assert_eq!(file, path.join("i9-seed-7.txt"));
        assert_eq!(folder.keep(&Scenario::draw(8), &violation("s2 lacks 4"), driver), Ok(None));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("# I9 at 1.500000: s1 lacks 3 (after convergence all stores hold the same)\n"),
            "{text}"
        );
        assert!(text.contains("cargo sim run --scenario FILE --driver madsim\n"), "{text}");
        assert_eq!(Scenario::parse(&text), Ok(Scenario { check: Some("I9"), ..scenario.clone() }));
        let again = Folder::open(path.clone()).unwrap().keep(&scenario, &violation("s0 has too much"), driver);
        assert_eq!(again, Err(format!("{} exists already, and nothing is overwritten", file.display())));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        assert!(Folder::open(file.clone()).is_err_and(|e| e.starts_with(&format!("{}: ", file.display()))));
        std::fs::remove_dir_all(path).unwrap();
    }
}
