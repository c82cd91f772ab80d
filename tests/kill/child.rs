//! The process that is killed: the server's store and its writer thread, with a plan of operations to carry out.
//!
//! Arguments: directory, `agent` or `server`, seed. Each report on standard output is two numbers of eight bytes: which
//! operation is durable, and the digest of what it came to. Before the first one comes [`OPENED`].

mod workload;

use std::fs::File;
use std::io::Write;
use std::ops::Bound;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use tanist_engine::db::mem::MemStore;
use tanist_engine::db::store::*;
use tanist_engine::io::OpId;
use tanist_engine::types::NodeKind;
use tanist_server::clock;
use tanist_server::driver::Event;
use tanist_server::queries::Attending;
use tanist_server::storage::check::Extent;
use tanist_server::storage::{DiskStore, LAYER_BYTES, MAP_BYTES_DEFAULT};
use tanist_server::writer;
use workload::{Plan, digest, open};

/// The number of the report that the store is open.
const OPENED: u64 = 0;

fn main() {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, kind, seed] = arguments.as_slice() else { panic!("three arguments, not {arguments:?}") };
    let kind = if kind == "agent" { NodeKind::Agent } else { NodeKind::Server };
    let seed: u64 = seed.parse().expect("a seed");

    // So that rows lie in the journal, are being moved, or go straight to LMDB when the end comes.
    let layer_bytes = [0, 2_000, 50_000, LAYER_BYTES][seed as usize % 4];
    let opened = DiskStore::open_with(Path::new(directory), MAP_BYTES_DEFAULT, Extent::All, layer_bytes);
    let mut store = opened.expect("the store opens");
    open(&mut store, kind);
    report(OPENED, 0);
    let mut plan = Plan::new(kind, seed, copy_of(&store));
    let (ops, queued) = mpsc::channel();
    let (inbox, events) = mpsc::channel();
    std::thread::spawn(move || writer::write(queued, store, inbox, &Attending::new(clock::now)));
    let (mut started, mut done) = (0_u64, 0_u64);
    loop {
        while started < done + Plan::window(seed) as u64 {
            started += 1;
            ops.send((OpId(started), plan.step().0)).expect("the writer outlives us");
        }
        match events.recv() {
            Ok(Event::Done(OpId(op), result)) => {
                done += 1;
                assert_eq!(op, done, "operations end in the order started");
                report(op, digest(&result));
            }
            _ => panic!("the writer has stopped"),
        }
    }
}

/// The same rows in memory.
fn copy_of(store: &dyn Store) -> MemStore {
    let snapshot = store.snapshot().expect("a snapshot");
    let mut copy = MemStore::new();
    let mut txn = copy.begin().expect("a transaction");
    for table in Table::ALL {
        for row in snapshot.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward) {
            let (key, value) = row.expect("a row");
            txn.put(table, key, value).expect("a put");
        }
    }
    txn.commit().expect("a commit");
    copy.sync();
    copy
}

/// Past the standard library's buffer, which would cut it in two at a line feed: one write of so few bytes to a pipe is
/// all or nothing.
fn report(op: u64, digest: u64) {
    let report = [op.to_le_bytes(), digest.to_le_bytes()].concat();
    let out = std::io::stdout().as_fd().try_clone_to_owned().expect("a descriptor is free");
    if File::from(out).write_all(&report).is_err() {
        std::process::exit(0);
    }
}
