//! Tanist beside others that fail over, in one run on one machine, seen by the same client:
//! `cargo run --release -p tanist-tests --example peers -- [--rounds 5] [--only redis,etcd]`
//!
//! Peers are what a Debian system has: Redis with Sentinel (`redis-server`, `redis-sentinel`), etcd (`etcd-server`),
//! PostgreSQL with pg_auto_failover (`postgresql-15-auto-failover`, `pg-auto-failover-cli`) and with Patroni
//! (`patroni`, `etcd-server`). What is not installed is left out, with a line that says so. PostgreSQL does not run as
//! root: then it runs as the user `postgres`.
//!
//! A client writes a value of 200 bytes under a new key every 5 ms and gives each attempt 250 ms. The node that leads
//! is killed (SIGKILL), or stopped (SIGSTOP) and let go two seconds after another one leads. *Outage* is the longest
//! time between two acknowledgements. *Lost* are acknowledged keys that are not there in the end. *Overlapped* are
//! writes that the old leader acknowledged to a second client, which knows nothing better, after the new one's first.
//! (Members of etcd pass writes on to the leader: there is nothing to count.)

mod auto_failover;
mod cluster;
mod etcd;
mod patroni;
mod postgres;
mod redis;
mod tanist;

use clap::Parser;
use cluster::{ATTEMPT, Cluster, Writer};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tanist_tests::process::build_release;
use tanist_tests::wait::{wait, wait_within};

const INTERVAL: Duration = Duration::from_millis(5);
const DIRECT_INTERVAL: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_secs(1);
const STOPPED_FOR: Duration = Duration::from_secs(2);
/// Some need most of a minute until another one leads, and more until the old one follows.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Parser, Debug)]
#[command(name = "peers", about = "Outages of Tanist and of others, side by side")]
struct Options {
    /// How often each fault strikes each of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only those whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// What the clients were told.
#[derive(Default)]
struct Log {
    acknowledged: Vec<(Instant, u64)>,
    /// By the old leader, to the client that asks it alone.
    direct: Vec<Instant>,
}

type Start = Box<dyn Fn() -> Option<Box<dyn Cluster>>>;

fn main() {
    let options = Options::parse();
    let program = build_release();
    let (one, two) = (program.clone(), program);
    let all: Vec<(&str, Start)> = vec![
        ("Tanist", Box::new(move || Some(tanist::start(&one, 0)))),
        ("Tanist, 1 synchronous follower", Box::new(move || Some(tanist::start(&two, 1)))),
        ("Redis with Sentinel, as shipped", Box::new(|| redis::start(30_000, 180_000))),
        ("Redis with Sentinel, fast", Box::new(|| redis::start(1000, 10_000))),
        ("etcd, as shipped", Box::new(|| etcd::start(100, 1000))),
        ("etcd, fast", Box::new(|| etcd::start(10, 100))),
        ("pg_auto_failover, as shipped", Box::new(|| auto_failover::start(&auto_failover::AS_SHIPPED))),
        ("pg_auto_failover, fast", Box::new(|| auto_failover::start(&auto_failover::FAST))),
        ("Patroni, as shipped", Box::new(|| patroni::start(&patroni::AS_SHIPPED))),
        ("Patroni, fast", Box::new(|| patroni::start(&patroni::FAST))),
    ];
    println!(
        "{:<32}{:<9}{:>7}{:>11}{:>11}{:>14}{:>7}{:>12}",
        "", "fault", "rounds", "median ms", "worst ms", "acknowledged", "lost", "overlapped"
    );
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()));
    for (name, start) in all.iter().filter(|(name, _)| wanted(name)) {
        for signal in [Signal::KILL, Signal::STOP] {
            match start() {
                Some(cluster) => series(name, cluster, signal, options.rounds),
                None => println!("{name:<32}is not installed"),
            }
        }
    }
}

/// So many rounds of one fault, and a line of the table.
fn series(name: &str, mut cluster: Box<dyn Cluster>, signal: Signal, rounds: usize) {
    until(&format!("{name} is sound"), || cluster.is_sound());
    let (log, stop) = (Arc::new(Mutex::new(Log::default())), Arc::new(AtomicBool::new(false)));
    let client = {
        let (log, stop, writer) = (log.clone(), stop.clone(), cluster.writer());
        std::thread::spawn(move || write(writer, &log, &stop))
    };
    let (mut outages, mut overlapped) = (Vec::new(), 0);
    for _ in 0..rounds {
        std::thread::sleep(QUIET);
        let (outage, overlap) = round(&mut *cluster, signal, &log);
        outages.push(outage.as_millis());
        overlapped += overlap;
    }
    stop.store(true, Ordering::Relaxed);
    client.join().expect("the client ends");
    until("all is sound in the end", || cluster.is_sound());
    let log = log.lock().expect("no panic");
    let mut reader = cluster.writer();
    let lost = log.acknowledged.iter().filter(|(_, key)| !wait("an answer", || reader.has(*key))).count();
    outages.sort_unstable();
    let overlapped = if cluster.passes_on() { "-".to_owned() } else { overlapped.to_string() };
    let fault = if signal == Signal::KILL { "SIGKILL" } else { "SIGSTOP" };
    println!(
        "{name:<32}{fault:<9}{rounds:>7}{:>11}{:>11}{:>14}{lost:>7}{overlapped:>12}",
        outages[outages.len() / 2],
        outages[outages.len() - 1],
        log.acknowledged.len(),
    );
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, || holds().then_some(()));
}

/// One fault, from a sound cluster to a sound one; the outage, and what the old leader acknowledged too late.
fn round(cluster: &mut dyn Cluster, signal: Signal, log: &Arc<Mutex<Log>>) -> (Duration, usize) {
    let old = wait("somebody leads", || cluster.leader());
    let stop = Arc::new(AtomicBool::new(false));
    let direct = {
        let (log, stop, writer) = (log.clone(), stop.clone(), cluster.direct(old));
        std::thread::spawn(move || ask_alone(writer, &log, &stop))
    };
    log.lock().expect("no panic").direct.clear();
    let from = Instant::now();
    cluster.signal(old, signal);
    wait_within(PATIENCE, "another one leads", || cluster.leader().filter(|leader| *leader != old));
    until("writes are acknowledged again", || {
        log.lock().expect("no panic").acknowledged.last().is_some_and(|(at, _)| *at > from + ATTEMPT)
    });
    if signal == Signal::STOP {
        std::thread::sleep(STOPPED_FOR);
        cluster.signal(old, Signal::CONT);
    } else {
        cluster.restart(old);
    }
    until("all is sound again", || cluster.is_sound());
    std::thread::sleep(QUIET);
    stop.store(true, Ordering::Relaxed);
    direct.join().expect("the client ends");

    let log = log.lock().expect("no panic");
    let times: Vec<Instant> = log.acknowledged.iter().map(|(at, _)| *at).collect();
    let gaps = times.windows(2).filter(|pair| pair[1] >= from).map(|pair| (pair[1] - pair[0], pair[1]));
    let (outage, served_at) = gaps.max().expect("acknowledgements");
    (outage, log.direct.iter().filter(|at| **at > served_at).count())
}

/// The client: every 5 ms the next key.
fn write(mut writer: Box<dyn Writer>, log: &Mutex<Log>, stop: &AtomicBool) {
    let mut due = Instant::now();
    for key in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if writer.write(key, Instant::now() + ATTEMPT) {
            log.lock().expect("no panic").acknowledged.push((Instant::now(), key));
        }
        due = (due + INTERVAL).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// The client that knows one node only.
fn ask_alone(mut writer: Box<dyn Writer>, log: &Mutex<Log>, stop: &AtomicBool) {
    for key in 1 << 40.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if writer.write(key, Instant::now() + ATTEMPT) {
            log.lock().expect("no panic").direct.push(Instant::now());
        }
        std::thread::sleep(DIRECT_INTERVAL);
    }
}
