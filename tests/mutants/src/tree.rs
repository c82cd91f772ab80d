//! The changed copy of the workspace, and its tests' programs.

use crate::list::Mutant;
use crate::trial::{Kind, Outcome, Program};
use crate::weave::{Woven, weave};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// So often what does not compile is taken out, and built again.
const ATTEMPTS_MAX: usize = 40;
/// What is added to the copy.
const SWITCH: &str = "engine/src/mutant_switch.rs";

pub struct Built {
    pub programs: Vec<Program>,
    /// By index in the list: what can't be tried, and why.
    pub not_tried: HashMap<usize, Outcome>,
}

pub fn build(root: &Path, folder: &Path, mutants: &[Mutant]) -> Result<Built, String> {
    let tree = folder.join("tree");
    copy(root, &tree)?;
    write(&tree.join(SWITCH), include_str!("switch.rs"))?;
    let library = read(&root.join("engine/src/lib.rs"))?;
    write(&tree.join("engine/src/lib.rs"), &format!("{library}\npub mod mutant_switch;\n"))?;
    let mut not_tried = HashMap::new();
    for attempt in 1..=ATTEMPTS_MAX {
        let woven = write_mutants(root, &tree, mutants, &mut not_tried)?;
        eprintln!("build {attempt}: {} mutants", mutants.len() - not_tried.len());
        let (programs, errors) = compile(&tree, folder)?;
        if errors.is_empty() {
            return Ok(Built { programs, not_tried });
        }
        let before = not_tried.len();
        for (file, at, message) in errors {
            let guilty = woven.get(&file).map(|woven| guilty(woven, at)).unwrap_or_default();
            if guilty.is_empty() {
                return Err(format!("the copy does not compile: {message}"));
            }
            not_tried.extend(guilty.into_iter().map(|index| (index, Outcome::DoesNotBuild)));
        }
        if not_tried.len() == before {
            return Err("what does not compile was taken out, and it still does not compile".to_owned());
        }
    }
    Err(format!("the copy does not compile after {ATTEMPTS_MAX} attempts"))
}

/// What the workspace has in git or would have: its members' sources and manifests.
fn copy(root: &Path, tree: &Path) -> Result<(), String> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = list.output().map_err(|error| format!("git can't be run: {error}"))?;
    if !listed.status.success() {
        return Err("git does not say which files there are".to_owned());
    }
    let listed = String::from_utf8_lossy(&listed.stdout);
    let files: BTreeSet<&str> = listed.lines().filter(|file| root.join(file).is_file()).collect();
    for file in &files {
        let bytes = fs::read(root.join(file)).map_err(|error| format!("{file}: {error}"))?;
        write_bytes(&tree.join(file), &bytes)?;
    }
    // A test that is gone would be built as if it was there.
    for folder in ["engine", "sim"] {
        remove_others(tree, &tree.join(folder), &files)?;
    }
    Ok(())
}

fn remove_others(tree: &Path, folder: &Path, files: &BTreeSet<&str>) -> Result<(), String> {
    let failure = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failure)? {
        let path = entry.map_err(failure)?.path();
        let name = path.strip_prefix(tree).ok().and_then(Path::to_str).unwrap_or_default();
        match path.is_dir() {
            true => remove_others(tree, &path, files)?,
            false if files.contains(name) || name == SWITCH => {}
            false => fs::remove_file(&path).map_err(failure)?,
        }
    }
    Ok(())
}

fn write_mutants(
    root: &Path,
    tree: &Path,
    mutants: &[Mutant],
    not_tried: &mut HashMap<usize, Outcome>,
) -> Result<HashMap<String, Woven>, String> {
    let mut files: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    for (index, mutant) in mutants.iter().enumerate() {
        let of_file = files.entry(&mutant.file).or_default();
        if !not_tried.contains_key(&index) {
            of_file.push((index, mutant));
        }
    }
    let mut all = HashMap::new();
    for (file, mutants) in files {
        let woven = weave(&read(&root.join(file))?, &mutants).map_err(|error| format!("{file}: {error}"))?;
        not_tried.extend(woven.out_of_reach.iter().map(|index| (*index, Outcome::NotTried)));
        write(&tree.join(file), &woven.text)?;
        all.insert(file.to_owned(), woven);
    }
    Ok(all)
}

/// The mutant in whose own code an error is, else those of the innermost wrap around it.
fn guilty(woven: &Woven, at: usize) -> Vec<usize> {
    if let Some((_, index)) = woven.branches.iter().find(|(range, _)| range.contains(&at)) {
        return vec![*index];
    }
    let around = woven.wraps.iter().filter(|(range, mutants)| range.contains(&at) && !mutants.is_empty());
    around.min_by_key(|(range, _)| range.len()).map(|(_, mutants)| mutants.clone()).unwrap_or_default()
}

type Failure = (String, usize, String);

/// The tests' programs, or what does not compile: file, offset, message.
fn compile(tree: &Path, folder: &Path) -> Result<(Vec<Program>, Vec<Failure>), String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--no-run", "--message-format=json", "-p", "tanist-engine", "-p", "tanist-sim"]);
    command.args(["--lib", "--tests"]).current_dir(tree).env("CARGO_TARGET_DIR", folder.join("build"));
    // What would be warned of is right in the sources.
    command.env("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}madsim\u{1f}--cap-lints=allow");
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo can't be run: {error}"))?;
    let (mut programs, mut errors) = (Vec::new(), Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        match message["reason"].as_str() {
            Some("compiler-message") if message["message"]["level"] == "error" => {
                let text = message["message"]["rendered"].as_str().unwrap_or_default().to_owned();
                let spans = message["message"]["spans"].as_array().cloned().unwrap_or_default();
                // "Aborting due to 3 previous errors" is nowhere.
                if let Some(span) = spans.iter().find(|span| span["is_primary"] == true) {
                    let file = span["file_name"].as_str().unwrap_or_default().to_owned();
                    errors.push((file, span["byte_start"].as_u64().unwrap_or_default() as usize, text));
                }
            }
            Some("compiler-artifact") => {
                if let Some(path) = message["executable"].as_str() {
                    let package = message["manifest_path"].as_str().map(PathBuf::from).unwrap_or_default();
                    let name = message["target"]["name"].as_str().unwrap_or_default();
                    let kind = Kind::of(name);
                    let directory = package.parent().unwrap_or(tree).to_owned();
                    programs.extend(kind.map(|kind| Program { path: path.into(), directory, kind }));
                }
            }
            _ => {}
        }
    }
    if !output.status.success() && errors.is_empty() {
        return Err("cargo failed".to_owned());
    }
    Ok((programs, errors))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    write_bytes(path, text.as_bytes())
}

/// Leaves alone what is the same, so that it is not built again.
fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().expect("a file is in a folder");
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}
