//! Packages of npm, PyPI and the Rust registry, pinned by lists in the repository, installed below `target` where they
//! are needed.

use crate::process::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs what a list names into a folder, unless exactly that was installed there before.
pub fn install(folder: &Path, list: &Path, install: impl FnOnce()) {
    let wanted = std::fs::read_to_string(list).expect("the list of packages");
    let stamp = folder.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return;
    }
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("the folder can be made");
    install();
    std::fs::write(stamp, wanted).expect("the stamp can be written");
}

/// The interpreter of an environment that has exactly the packages of a list.
pub fn python(folder: &Path, list: &Path) -> PathBuf {
    let python = folder.join("bin/python");
    install(folder, list, || {
        succeeds(Command::new("python3").args(["-m", "venv"]).arg(folder));
        let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r"];
        succeeds(Command::new(&python).args(arguments).arg(list));
    });
    python
}

/// What a folder's `package.json` and the lock file beside it name, in `node_modules`.
pub fn node(folder: &Path, lists: &Path) {
    install(folder, &lists.join("package-lock.json"), || {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(lists.join(file), folder.join(file)).expect("the list can be copied");
        }
        let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
        succeeds(Command::new("npm").args(arguments).current_dir(folder));
    });
}

/// The program of a list with one line, `PACKAGE VERSION`, in `bin`, built with the versions that its author locked.
pub fn cargo(folder: &Path, list: &Path) {
    install(folder, list, || {
        let wanted = std::fs::read_to_string(list).expect("the list of packages");
        let (package, version) = wanted.trim().split_once(' ').expect("PACKAGE VERSION");
        let arguments = ["install", "--quiet", "--locked", package, "--version", version, "--root"];
        // Elsewhere, for this workspace's flags are not meant for the programs of others.
        succeeds(Command::new("cargo").args(arguments).arg(folder).current_dir(std::env::temp_dir()));
    });
}

/// Runs a command that must succeed; what it printed.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let (code, text) = run(command);
    assert_eq!(code, 0, "{command:?}\n{text}");
    text
}
