//! The mutants, as cargo-mutants names them: it decides what is changed, by `.cargo/mutants.toml`.

use serde::Deserialize;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
pub enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

#[derive(Debug, Deserialize)]
pub struct Mutant {
    pub file: String,
    pub genre: Genre,
    /// `engine/src/gate.rs:61:9: replace == with != in admit`.
    pub name: String,
    pub replacement: String,
    pub span: Span,
}

#[derive(Debug, Deserialize)]
pub struct Span {
    pub start: Place,
}

/// Both from one; a column is one of characters.
#[derive(Debug, Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// All mutants of the engine whose names contain one of `only`, or all.
pub fn mutants(root: &Path, only: &[String]) -> Result<Vec<Mutant>, String> {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--list", "--json", "--package", "tanist-engine"]).current_dir(root);
    let output = command.output().map_err(|error| format!("cargo can't be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`cargo mutants --list` failed (`cargo install cargo-mutants`): {}", said.trim()));
    }
    let mut mutants: Vec<Mutant> =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("what cargo-mutants lists: {error}"))?;
    mutants.retain(|mutant| only.is_empty() || only.iter().any(|part| mutant.name.contains(part.as_str())));
    Ok(mutants)
}
