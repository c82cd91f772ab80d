//! LMDB under killed processes: whatever the server's writer has reported as durable is there when the store is opened
//! again, perhaps with a prefix of what was started after it, and nothing else.
//!
//! A child (`child.rs`) carries out operations with group commits and reports each durable one on a pipe; it is killed
//! at a random moment, also while it creates or opens the store. Then the store is opened as the server opens it, with
//! all of its pages checked, and compared row by row with the model (`workload.rs`). SIGKILL does not lose what the
//! system has in its cache: that a *power failure* leaves the same is LMDB's promise and not tested here.
//!
//! `TANIST_KILL_ROUNDS` says how many children are killed. The operations follow from a seed; the moment does not.

mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::Bound;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tanist_engine::db::log::{LogOp, operations};
use tanist_engine::db::mem::MemStore;
use tanist_engine::db::store::*;
use tanist_engine::db::{Document, Reader};
use tanist_engine::types::{NodeKind, Rng, Tick};
use tanist_server::storage::check::Extent;
use tanist_server::storage::{DiskStore, MAP_BYTES_DEFAULT};
use workload::{Plan, digest, open};

const CHILD: &str = env!("CARGO_BIN_EXE_tanist-store-child");
const ROUNDS_DEFAULT: u64 = 120;
/// Children that have one directory, one after the other.
const LIVES: u64 = 25;

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What the rounds came upon; a test that never meets the interesting moments proves nothing.
#[derive(Debug, Default)]
struct Met {
    rounds: u64,
    operations: u64,
    killed_while_opening: u64,
    /// Rounds in which operations were durable and not reported, and the most of them.
    unreported: u64,
    unreported_max: u64,
    kinds: BTreeSet<String>,
}

#[test]
fn what_was_reported_durable_survives_a_kill() {
    let rounds = match std::env::var("TANIST_KILL_ROUNDS") {
        Ok(text) => text.parse().expect("TANIST_KILL_ROUNDS is a number"),
        Err(_) => ROUNDS_DEFAULT,
    };
    let first = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let mut met = Met::default();
    let mut seed = first;
    let mut kinds = [NodeKind::Server, NodeKind::Server, NodeKind::Agent].into_iter().cycle();
    // Seldom is none of them killed while it opens its store: then a few more are.
    while met.rounds < rounds || (rounds >= ROUNDS_DEFAULT && met.killed_while_opening == 0 && met.rounds < 5 * rounds)
    {
        let kind = kinds.next().expect("a cycle never ends");
        let directory = tempfile::Builder::new().prefix("tanist-kill-").tempdir().expect("a directory");
        let mut model = MemStore::new();
        for _ in 0..LIVES.min(rounds.saturating_sub(met.rounds).max(1)) {
            seed += 1;
            model = round(directory.path(), kind, seed, model, &mut met);
        }
    }
    println!("{met:?}");
    if rounds >= ROUNDS_DEFAULT {
        assert!(met.killed_while_opening > 0 && met.unreported > 0 && met.unreported_max > 1, "{met:?}");
        let wanted = [
            "Adopted",
            "Appended",
            "Began",
            "Copied",
            "CopyBegun",
            "CopyDropped",
            "CopyFinished",
            "Persisted",
            "Pruned",
            "Ran",
            "Seen",
            "Undone",
        ];
        let missing: Vec<&str> = wanted.into_iter().filter(|kind| !met.kinds.contains(*kind)).collect();
        assert!(missing.is_empty(), "never came to {missing:?}");
    }
}

/// One child's life and death; `model` is what the store held before. Returns what it holds now.
fn round(directory: &Path, kind: NodeKind, seed: u64, model: MemStore, met: &mut Met) -> MemStore {
    let what = format!("seed {seed}, {kind:?}");
    let mut rng = Rng::new(seed).fork(1);
    let reports = live_and_die(directory, kind, seed, &mut rng);
    met.rounds += 1;

    let mut store = DiskStore::open(directory, MAP_BYTES_DEFAULT, Extent::All)
        .unwrap_or_else(|e| panic!("{what}: the store can't be opened again: {e:?}"));
    let found = rows_of(&store);
    let Some((_opened, reports)) = reports.split_first() else {
        met.killed_while_opening += 1;
        return opening(&what, kind, model, &found, &mut store, rng);
    };
    let mut opened = model;
    open(&mut opened, kind);
    opened.sync();
    let mut plan = Plan::new(kind, seed, opened);
    for (number, (op, reported)) in reports.iter().enumerate() {
        let (started, expected) = plan.step();
        assert_eq!(*op, number as u64 + 1, "{what}: reports come in order");
        assert_eq!(*reported, digest(&expected), "{what}: operation {op} should come to {expected:?}: {started:?}");
        let text = format!("{expected:?}");
        met.kinds.insert(text.chars().take_while(char::is_ascii_alphabetic).collect());
    }
    met.operations += reports.len() as u64;
    // What was started and not reported: a prefix of it may be there.
    let mut unreported = 0;
    while rows_of(&plan.store) != found {
        assert!(
            unreported < Plan::window(seed) as u64,
            "{what}: {} operations were reported, and the store is as after none of the next {unreported}: {}",
            reports.len(),
            difference(&rows_of(&plan.store), &found)
        );
        plan.step();
        unreported += 1;
    }
    met.unreported += u64::from(unreported > 0);
    met.unreported_max = met.unreported_max.max(unreported);
    log_and_data_agree(&what, kind, &store);
    settle(&what, kind, plan.store, &mut store, rng)
}

/// The child died before it had opened the store: that is as it was, or as opening leaves it.
fn opening(what: &str, kind: NodeKind, model: MemStore, found: &Rows, store: &mut DiskStore, rng: Rng) -> MemStore {
    let mut opened = model.clone();
    open(&mut opened, kind);
    opened.sync();
    let before = rows_of(&model) == *found;
    let after = rows_of(&opened) == *found;
    assert!(before || after, "{what}: killed while opening: {}", difference(&rows_of(&model), found));
    settle(what, kind, if after { opened } else { model }, store, rng)
}

/// Half of the time the store is opened as by a node, so that the next child does not always do it first.
fn settle(what: &str, kind: NodeKind, mut model: MemStore, store: &mut DiskStore, mut rng: Rng) -> MemStore {
    if rng.chance(1, 2) {
        let (expected, saved) = (open(&mut model, kind), open(store, kind));
        model.sync();
        assert_eq!(format!("{saved:?}"), format!("{expected:?}"), "{what}: what a node finds when it starts");
        assert!(rows_of(store) == rows_of(&model), "{what}: {}", difference(&rows_of(&model), &rows_of(store)));
    }
    model
}

/// Starts a child, waits for a number of reports, perhaps a moment longer, and kills it; returns all of its reports.
fn live_and_die(directory: &Path, kind: NodeKind, seed: u64, rng: &mut Rng) -> Vec<(u64, u64)> {
    let wanted = match rng.below(6) {
        0 => 0,
        1 => 1,
        _ => 1 + rng.below(150),
    };
    let longer = Duration::from_micros(if wanted == 0 { rng.below(6000) } else { rng.below(4000) });
    let name = if kind == NodeKind::Agent { "agent" } else { "server" };
    let mut child = Command::new(CHILD)
        .arg(directory)
        .args([name, &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut reports = Vec::new();
    let mut report = [0; 16];
    while (reports.len() as u64) < wanted {
        if pipe.read_exact(&mut report).is_err() {
            panic!("seed {seed}: the child ended by itself: {:?}", child.wait());
        }
        reports.push(report);
    }
    std::thread::sleep(longer);
    child.kill().expect("the child can be killed");
    let status = child.wait().expect("the child ends");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "seed {seed}: {status}");
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).expect("the pipe can be read");
    assert_eq!(rest.len() % 16, 0, "a report is whole");
    reports.extend(rest.chunks_exact(16).map(|chunk| <[u8; 16]>::try_from(chunk).expect("16 bytes")));
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    reports.iter().map(|report| (number(&report[..8]), number(&report[8..]))).collect()
}

fn rows_of(store: &dyn Store) -> Rows {
    let snapshot = store.snapshot().expect("a snapshot");
    let mut rows = Rows::new();
    for table in Table::ALL {
        for row in snapshot.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward) {
            let (key, value) = row.expect("a row");
            rows.insert((table, key.to_vec()), value.to_vec());
        }
    }
    rows
}

/// The first row that differs.
fn difference(expected: &Rows, found: &Rows) -> String {
    let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let first = keys.into_iter().find(|key| expected.get(*key) != found.get(*key));
    first.map_or("no row differs".to_owned(), |(table, key)| {
        let length = |rows: &Rows| rows.get(&(*table, key.clone())).map(Vec::len);
        format!(
            "{} rows expected, {} found; the first that differs is {} {key:02x?}: {:?} and {:?} bytes",
            expected.len(),
            found.len(),
            table.name(),
            length(expected),
            length(found)
        )
    })
}

/// Each document is as the newest entry that mentions it says, each entry follows the one before it.
fn log_and_data_agree(what: &str, kind: NodeKind, store: &DiskStore) {
    if kind == NodeKind::Agent {
        return;
    }
    let snapshot = store.snapshot().expect("a snapshot");
    let reader = Reader::new(&*snapshot).expect("a reader");
    let first = reader.log_first().expect("the begin of the log");
    let mut newest = BTreeMap::new();
    let mut tick = first;
    for entry in reader.log(Tick(0), usize::MAX).expect("the log") {
        assert_eq!(entry.tick, tick, "{what}: ticks have no gaps");
        tick.0 += 1;
        for op in operations(&entry).expect("an entry") {
            if let LogOp::Document { object, key, after, .. } = op {
                newest.insert((object, key), after);
            }
        }
    }
    for database in reader.databases().expect("databases") {
        for collection in reader.collections(database.id).expect("collections") {
            let documents = reader.documents(&collection, None, usize::MAX).expect("documents");
            let count = reader.count(&collection).expect("a count");
            assert_eq!(count, documents.len() as u64, "{what}: {}'s count", collection.name);
            let there: BTreeMap<&str, &Document> = documents.iter().map(|d| (d.key.as_str(), d)).collect();
            for ((_, key), after) in newest.iter().filter(|((object, _), _)| *object == collection.object) {
                let image = there.get(key.as_str()).map(|document| (document.revision, &document.body));
                let expected = after.as_ref().map(|after| (after.revision, &after.body));
                assert_eq!(image, expected, "{what}: {}/{key}", collection.name);
            }
            let in_log = |key: &str| newest.contains_key(&(collection.object, key.to_owned()));
            let unknown = there.keys().find(|key| first == Tick(1) && !in_log(key));
            assert_eq!(unknown, None, "{what}: a document of {} that no entry wrote", collection.name);
        }
    }
}
