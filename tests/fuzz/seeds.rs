//! Writes what a fuzzer begins with: the scripts' queries, one a file, into the directory that is named, and the words
//! of the language beside it, as DIRECTORY.dict.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs, io};
use tanist_engine::aql::{anything, functions};

fn main() -> io::Result<()> {
    let directory = PathBuf::from(env::args().nth(1).expect("a directory"));
    fs::create_dir_all(&directory)?;
    let mut words: BTreeSet<String> = functions::all().map(|function| format!("{}(", function.name)).collect();
    for (number, query) in anything::queries().enumerate() {
        words.extend(anything::words(&query));
        fs::write(directory.join(format!("{number:03}")), query)?;
    }
    let quoted = |word: &String| format!("\"{}\"\n", word.replace('\\', "\\\\").replace('"', "\\\""));
    let lines = words.iter().filter(|word| word.is_ascii() && !word.is_empty()).map(quoted);
    fs::write(directory.with_extension("dict"), lines.collect::<String>())
}
