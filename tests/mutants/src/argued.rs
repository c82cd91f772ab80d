//! Mutants that no test can or should kill, each with its reason: `argued.txt`.
//!
//! A line is `FILE | SOURCE LINE | CHANGE | REASON`. The source line stands as in the file, without its indentation, so
//! that it is found wherever it moves; the change is how the mutant's name goes on after its place, up to its " in ",
//! or `*` for all of that line. A line of the list that fits nothing any more is an error.

use crate::list::Mutant;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

pub struct Argued {
    lines: Vec<Line>,
    sources: HashMap<String, Vec<String>>,
}

struct Line {
    file: String,
    source: String,
    change: String,
}

impl Argued {
    pub fn read(root: &Path) -> Result<Argued, String> {
        let path = root.join("tests/mutants/argued.txt");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (mut lines, mut sources) = (Vec::new(), HashMap::<String, Vec<String>>::new());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let parts: Vec<&str> = line.split(" | ").collect();
            let [file, source, change, _reason] = parts[..] else {
                return Err(format!("{}: not FILE | SOURCE LINE | CHANGE | REASON: {line}", path.display()));
            };
            if !sources.contains_key(file) {
                let code = fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))?;
                sources.insert(file.to_owned(), code.lines().map(|line| line.trim().to_owned()).collect());
            }
            if !sources[file].iter().any(|known| known == source) {
                return Err(format!("{}: {file} has no line \"{source}\"", path.display()));
            }
            lines.push(Line { file: file.to_owned(), source: source.to_owned(), change: change.to_owned() });
        }
        Ok(Argued { lines, sources })
    }

    /// Whether the list has a reason for which this one may live.
    pub fn allows(&self, mutant: &Mutant) -> bool {
        let Some(source) = self.sources.get(&mutant.file).and_then(|lines| lines.get(mutant.span.start.line - 1))
        else {
            return false;
        };
        let change = mutant.name.splitn(4, ':').last().unwrap_or_default().trim();
        self.lines.iter().any(|line| {
            let fits =
                line.change == "*" || change.strip_prefix(&line.change).is_some_and(|rest| rest.starts_with(" in "));
            line.file == mutant.file && line.source == *source && fits
        })
    }
}
