//! Real programs, each used by a script of `tests/programs` as its user would, while leaders are killed under it.
//!
//! A script tells line by line what its program was acknowledged (`tests/programs/work.py` says how). The lines are
//! judged here, by this side's own reading of the data: a script can neither forget what it was told nor see what it
//! likes.

use crate::http::Client;
use crate::packages;
use crate::process::spawn;
use crate::rollbacks;
use crate::starter::Starter;
use crate::wait::{wait, wait_until};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");
const KILLS: usize = 2;
/// How long after a kill a call may fail: the patience that a driver has built in.
const FAILURES_END: Duration = Duration::from_secs(30);

/// How a program is installed; the list of packages, with exact versions, is in `tests/programs`.
#[derive(Clone, Copy)]
pub enum Origin {
    /// `NAME.txt` for pip; the script runs in its environment.
    PyPi,
    /// `NAME/package.json` and the lock file beside it.
    Npm,
    /// `NAME.txt` with `PACKAGE VERSION` for cargo.
    Cargo,
}

#[derive(Clone, Copy)]
pub struct Program {
    /// Of the script and the list of packages.
    pub name: &'static str,
    pub origin: Origin,
    /// Acknowledged writes between two kills.
    pub writes: usize,
}

pub const ARANGO_ORM: Program = Program { name: "arango-orm", origin: Origin::PyPi, writes: 500 };

pub const PROGRAMS: [Program; 6] = [
    ARANGO_ORM,
    Program { name: "mcp-arangodb-async", origin: Origin::PyPi, writes: 300 },
    Program { name: "langchain-arangodb", origin: Origin::PyPi, writes: 200 },
    Program { name: "nx-arangodb", origin: Origin::PyPi, writes: 300 },
    Program { name: "aragog_cli", origin: Origin::Cargo, writes: 60 },
    Program { name: "nest-arango", origin: Origin::Npm, writes: 15 },
];

/// What was seen of one program.
pub struct Report {
    pub program: String,
    pub version: String,
    /// Acknowledged operations by kind.
    pub kinds: BTreeMap<String, usize>,
    pub acknowledged: usize,
    pub failed: usize,
    /// Why units of work were given up.
    pub abandoned: Vec<String>,
    pub longest_pause: Duration,
    /// Acknowledged writes that are not there in the end, and how many of these a rollback record has.
    pub missing: usize,
    pub recorded: usize,
    /// What is wrong; empty when all is well.
    pub problems: Vec<String>,
}

/// A line of a script.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Program { program: String, version: String },
    Did { did: String, wrote: Vec<Write> },
    Failed { failed: String, why: String },
    Unsure { unsure: Vec<Write> },
    Abandoned { abandoned: String },
}

/// The document of a collection that has all attributes of `example` has those of `has`, too, or is not there.
#[derive(Clone, Deserialize)]
struct Write {
    database: String,
    collection: String,
    example: Map<String, Value>,
    has: Option<Map<String, Value>>,
}

impl Write {
    fn identity(&self) -> (String, String, String) {
        (self.database.clone(), self.collection.clone(), Value::from(self.example.clone()).to_string())
    }

    fn is_about(&self, document: &Value) -> bool {
        contains(document, &self.example)
    }

    fn holds(&self, documents: &[Value]) -> bool {
        let found: Vec<&Value> = documents.iter().filter(|document| self.is_about(document)).collect();
        match &self.has {
            // A program that gives no keys of its own may have written something twice.
            Some(has) => !found.is_empty() && found.iter().all(|document| contains(document, has)),
            None => found.is_empty(),
        }
    }

    /// Whether an operation of a rollback record is what had made this true.
    fn is_undone_by(&self, operation: &Value) -> bool {
        let mut image = operation[if self.has.is_some() { "after" } else { "before" }].clone();
        image["_key"] = operation["_key"].clone();
        operation["database"] == *self.database
            && operation["collection"] == *self.collection
            && self.is_about(&image)
            && self.has.as_ref().map_or(operation["after"].is_null(), |has| contains(&image, has))
    }
}

fn contains(document: &Value, part: &Map<String, Value>) -> bool {
    part.iter().all(|(name, value)| document.get(name) == Some(value))
}

/// All that a script has said so far.
#[derive(Default)]
struct Log {
    program: String,
    version: String,
    kinds: BTreeMap<String, usize>,
    acknowledged: usize,
    /// The newest claim on each document.
    claims: BTreeMap<(String, String, String), Write>,
    did: Vec<Instant>,
    failed: Vec<(Instant, String)>,
    abandoned: Vec<String>,
    problems: Vec<String>,
}

impl Log {
    fn take(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Line::Program { program, version }) => (self.program, self.version) = (program, version),
            Ok(Line::Did { did, wrote }) => {
                *self.kinds.entry(did).or_default() += 1;
                self.did.push(Instant::now());
                self.acknowledged += wrote.len();
                self.claims.extend(wrote.into_iter().map(|write| (write.identity(), write)));
            }
            Ok(Line::Failed { failed, why }) => self.failed.push((Instant::now(), format!("{failed}: {why}"))),
            Ok(Line::Unsure { unsure }) => unsure.iter().for_each(|write| {
                self.claims.remove(&write.identity());
            }),
            Ok(Line::Abandoned { abandoned }) => self.abandoned.push(abandoned),
            Err(_) => self.problems.push(format!("the script says {line:?}")),
        }
    }
}

/// Installs a program below `folder`; the command that its script is started with.
fn install(program: Program, folder: &Path) -> Command {
    let folder = folder.join("programs").join(program.name);
    let list = Path::new(SCRIPTS).join(program.name).with_extension("txt");
    let mut command = match program.origin {
        Origin::PyPi => Command::new(packages::python(&folder, &list)),
        Origin::Npm => {
            packages::node(&folder, &Path::new(SCRIPTS).join(program.name));
            Command::new("python3")
        }
        Origin::Cargo => {
            packages::cargo(&folder, &list);
            Command::new("python3")
        }
    };
    // Where the program's commands are; compiled scripts are not kept beside their sources.
    command.env("INSTALLED", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(Path::new(SCRIPTS).join(program.name).with_extension("py"));
    command
}

/// Ends with whoever looks after it.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Script {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }
}

struct Running {
    script: Script,
    log: Arc<Mutex<Log>>,
    reader: std::thread::JoinHandle<()>,
    errors: PathBuf,
}

impl Running {
    fn start(mut command: Command, errors: PathBuf) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(std::fs::File::create(&errors).expect("a file can be made"));
        let mut child = spawn(&mut command, "a script");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let log = Arc::<Mutex<Log>>::default();
        let shared = log.clone();
        let reader = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| shared.lock().expect("no panic").take(&line));
        });
        Running { script: Script(child), log, reader, errors }
    }

    fn acknowledged(&self) -> usize {
        self.log.lock().expect("no panic").acknowledged
    }

    /// Waits for so many more acknowledged writes.
    fn wait_more(&mut self, writes: usize) {
        let wanted = self.acknowledged() + writes;
        wait_until("the program's writes are acknowledged", || {
            assert!(self.script.ended().is_none(), "the script has ended: {}", self.complaint());
            self.acknowledged() >= wanted
        });
    }

    /// The last that the script said of its own accord.
    fn complaint(&self) -> String {
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let failed = self.log.lock().expect("no panic").failed.last().map(|(_, why)| format!("; {why}"));
        let lines: Vec<&str> = errors.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n") + &failed.unwrap_or_default()
    }

    /// Tells the script to end what it is at, and waits for that.
    fn end(mut self) -> Log {
        drop(self.script.0.stdin.take());
        let status = wait("the script ends", || self.script.ended());
        let complaint = self.complaint();
        self.reader.join().expect("the reader ends");
        let mut log = Arc::into_inner(self.log).expect("one owner").into_inner().expect("no panic");
        if !status.success() {
            log.problems.push(format!("the script: {status}: {complaint}"));
        }
        log
    }
}

/// Runs a program against a fresh deployment, kills the leader under it twice, and judges what is there in the end.
#[track_caller]
pub fn run(program: Program, tanist: &Path, folder: &Path) -> Report {
    let mut command = install(program, folder);
    let started = Starter::new(tanist, &[]);
    started.wait_followers();
    command.args(started.servers().into_iter().map(|port| format!("http://127.0.0.1:{port}")));
    command.env("SCRATCH", started.directory.path());
    let mut script = Running::start(command, started.directory.path().join("script"));

    let mut kills = Vec::new();
    for _ in 0..KILLS {
        script.wait_more(program.writes);
        // One at a time: whoever is killed next must not be the only one that has everything.
        started.wait_followers_lagging(1000);
        let leader = wait("somebody leads", || started.leader());
        // In the middle of its work.
        script.wait_more(1);
        kills.push(Instant::now());
        started.signal(leader, Signal::KILL);
        started.wait_leader_other_than(leader);
    }
    script.wait_more(program.writes);
    let mut log = script.end();
    let excused = |at: &Instant| kills.iter().any(|kill| (*kill..*kill + FAILURES_END).contains(at));
    let surprises = log.failed.iter().filter(|(at, _)| !excused(at));
    log.problems.extend(surprises.map(|(_, why)| format!("failed while all was well: {why}")));

    started.wait_followers();
    judge(log, &started)
}

fn judge(log: Log, started: &Starter) -> Report {
    let leader = wait("somebody leads", || started.leader());
    let mut problems = log.problems;
    let mut collections: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    let records: Vec<Value> =
        started.servers().into_iter().flat_map(|port| rollbacks::operations(&mut started.client(port))).collect();
    let (mut missing, mut recorded) = (0, 0);
    for write in log.claims.values() {
        let place = (&*write.database, &*write.collection);
        let documents = collections.entry(place).or_insert_with(|| documents(started.client(leader), place));
        if write.holds(documents) {
            continue;
        }
        missing += 1;
        if records.iter().any(|operation| write.is_undone_by(operation)) {
            recorded += 1;
        } else {
            let (_, collection, example) = write.identity();
            problems.push(format!("{collection} {example} is gone without a trace"));
        }
    }
    Report {
        program: log.program,
        version: log.version,
        kinds: log.kinds,
        acknowledged: log.acknowledged,
        failed: log.failed.len(),
        abandoned: log.abandoned,
        longest_pause: log.did.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
        missing,
        recorded,
        problems,
    }
}

/// All of a collection, as the server has it.
fn documents(mut client: Client, (database, collection): (&str, &str)) -> Vec<Value> {
    let all = json!({"collection": collection, "batchSize": 10_000_000});
    let answer = client.put(&format!("/_db/{database}/_api/simple/all"), &all).expect("an answer");
    // A collection that was dropped has nothing.
    answer.json()["result"].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Log {
        let mut log = Log::default();
        log.take(text);
        log
    }

    fn claim(example: Value, has: Value) -> Write {
        let write = json!({"database": "shop", "collection": "orders", "example": example, "has": has});
        serde_json::from_value(write).expect("a claim")
    }

    #[test]
    fn a_claim_is_held_against_the_documents() {
        let documents = [json!({"_key": "1", "state": "paid", "total": 7})];
        assert!(claim(json!({"_key": "1"}), json!({"state": "paid"})).holds(&documents));
        assert!(!claim(json!({"_key": "1"}), json!({"state": "sent"})).holds(&documents), "an update is missing");
        assert!(!claim(json!({"_key": "2"}), json!({})).holds(&documents), "an insert is missing");
        assert!(!claim(json!({"_key": "1"}), Value::Null).holds(&documents), "a removal is missing");
        assert!(claim(json!({"_key": "2"}), Value::Null).holds(&documents));
    }

    #[test]
    fn a_rollback_record_explains_what_it_undid_and_nothing_else() {
        let (new, paid) = (json!({"state": "new"}), json!({"state": "paid"}));
        let operation = |collection: &str, key: &str, before: &Value, after: &Value| json!({"database": "shop", "collection": collection, "_key": key, "before": before, "after": after});
        let update = claim(json!({"_key": "1"}), paid.clone());
        assert!(update.is_undone_by(&operation("orders", "1", &new, &paid)));
        assert!(!update.is_undone_by(&operation("orders", "1", &Value::Null, &new)), "another value");
        assert!(!update.is_undone_by(&operation("orders", "2", &new, &paid)), "another document");
        assert!(!update.is_undone_by(&operation("lines", "1", &new, &paid)), "another collection");
        let removal = claim(json!({"_key": "1"}), Value::Null);
        assert!(removal.is_undone_by(&operation("orders", "1", &paid, &Value::Null)));
        assert!(!removal.is_undone_by(&operation("orders", "1", &new, &paid)), "no removal");
    }

    #[test]
    fn what_a_script_says_is_understood_or_reported() {
        let log =
            line(r#"{"did": "add", "wrote": [{"database": "d", "collection": "c", "example": {}, "has": null}]}"#);
        assert_eq!((log.acknowledged, log.claims.len(), log.kinds["add"]), (1, 1, 1));
        assert_eq!(line(r#"{"failed": "add", "why": "nobody listens"}"#).failed.len(), 1);
        assert_eq!(line("Warning: deprecated").problems.len(), 1);
    }
}
