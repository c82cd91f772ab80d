//! Tanist beside PostgreSQL with jsonb, in one run on one machine:
//! `cargo run --release -p tanist-tests --features postgres --example postgres [SECONDS [DOCUMENTS [WORK]]]`.
//!
//! Both get the same documents, one million of about 200 bytes, over connections on loopback, a blocking client each;
//! both sync what they acknowledge. PostgreSQL runs prepared statements, with the indexes that somebody who knows it
//! would make; Tanist is asked over HTTP. Each piece of work is done by 1, 8 and 64 clients for some seconds, on one
//! side and then on the other, and told are the pieces a second and their ratio. Before anything is measured both
//! sides must have given the same answers. `WORK` is a part of the names of what is to be done.

mod postgres;
mod side;
mod tanist;

use side::{Connection, Document, Link, Side, Work};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: [usize; 3] = [1, 8, 64];
const BATCH: usize = 1000;
/// How many documents have links, and how many each.
const VERTICES: u64 = 100_000;
const LINKS: u64 = 5;

fn main() {
    let number = |at: usize, default: u64| {
        std::env::args().nth(at).map_or(default, |text| text.parse().expect("a number of seconds, one of documents"))
    };
    let (seconds, documents) = (number(1, 5), number(2, 1_000_000));
    let part = std::env::args().nth(3).unwrap_or_default();
    let works: Vec<Work> = Work::ALL.into_iter().filter(|work| work.name().contains(&part)).collect();
    assert!(!works.is_empty(), "no work has \"{part}\" in its name");
    let directory = tanist_tests::postgresql::directory("tanist-postgres-");
    let Some(postgres) = postgres::start(directory.path()) else {
        println!("PostgreSQL (initdb, postgres) is not installed: nothing to compare with");
        return;
    };
    let sides: [Box<dyn Side>; 2] = [Box::new(tanist::start(directory.path())), Box::new(postgres)];
    println!("{:<12}{documents} documents and {} links", "loading", VERTICES.min(documents) * LINKS);
    for side in &sides {
        println!("{:<12}{:.1} s", side.name(), load(&**side, documents).as_secs_f64());
    }
    let mut connections = sides.each_ref().map(|side| side.connect());
    for &work in works.iter().filter(|work| work.reads()) {
        let [ours, theirs] = connections.each_mut().map(|connection| connection.perform(work, 77, documents));
        assert_eq!(ours, theirs, "{} finds something else", work.name());
        println!("{:<34}{ours} rows each", work.name());
    }
    println!("{:<34}{:>8}{:>12}{:>12}{:>7}", "a second", "clients", "Tanist", "PostgreSQL", "ratio");
    for &work in &works {
        for clients in CLIENTS.into_iter().filter(|clients| *clients <= work.clients_max()) {
            let rates =
                sides.each_ref().map(|side| measure(&**side, work, clients, documents, Duration::from_secs(seconds)));
            let [ours, theirs] = rates;
            println!("{:<34}{clients:>8}{ours:>12.1}{theirs:>12.1}{:>7.2}", work.name(), ours / theirs);
        }
    }
}

fn load(side: &dyn Side, documents: u64) -> Duration {
    let mut connection = side.connect();
    let begun = Instant::now();
    let numbers: Vec<u64> = (0..documents).collect();
    for batch in numbers.chunks(BATCH) {
        connection.insert(&batch.iter().map(|&number| Document::numbered(number, documents)).collect::<Vec<_>>());
    }
    let vertices = VERTICES.min(documents);
    let links: Vec<Link> = (0..vertices * LINKS).map(|number| Link::numbered(number, vertices)).collect();
    for batch in links.chunks(BATCH) {
        connection.link(batch);
    }
    side.settle();
    begun.elapsed()
}

/// Pieces of work in a second.
fn measure(side: &dyn Side, work: Work, clients: usize, documents: u64, time: Duration) -> f64 {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut connections: Vec<Box<dyn Connection>> = (0..clients).map(|_| side.connect()).collect();
    // The first of each connection prepares the statement.
    for (client, connection) in connections.iter_mut().enumerate() {
        connection.perform(work, client as u64, documents);
    }
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (client, connection) in connections.iter_mut().enumerate() {
            let (done, stop) = (&done, &stop);
            scope.spawn(move || {
                let mut chance = client as u64 + 1;
                while !stop.load(Ordering::Relaxed) {
                    chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    connection.perform(work, chance >> 20, documents);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}
