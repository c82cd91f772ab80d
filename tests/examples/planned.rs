//! What planned moves cost at clients: `cargo run --release -p tanist-tests --example planned [ROUNDS [RATE]]`.
//!
//! Four clients write documents of 200 bytes under new keys, 1000 a second together, follow `X-Arango-Endpoint` and
//! repeat nothing else. Meanwhile leadership is handed over (`tanist switchover`), the leader is stopped (SIGTERM), and
//! everything is restarted (`tanist upgrade`). The pause of a round is the longest time without an acknowledgement.

use rustix::process::Signal;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tanist_tests::driver::Drivers;
use tanist_tests::process::build_release;
use tanist_tests::starter::Starter;

const CONNECTIONS: u32 = 4;
const QUIET: Duration = Duration::from_secs(1);

fn main() {
    let number = |at: usize, usual: u32| std::env::args().nth(at).map_or(usual, |text| text.parse().expect("a number"));
    let (rounds, rate) = (number(1, 20), number(2, 1000));
    let program = build_release();
    println!(
        "{:<12} {:>6} {:>10} {:>10} {:>9} {:>7} {:>5}",
        "move", "rounds", "median", "worst", "writes/s", "failed", "lost"
    );
    series("switchover", rounds, rate, &program, |started, _| {
        let (code, text) = started.command(&["switchover"]);
        assert_eq!(code, 0, "{text}");
    });
    series("SIGTERM", rounds, rate, &program, |started, leader| {
        started.signal(leader, Signal::TERM);
        started.wait_leader_other_than(leader);
    });
    series("upgrade", rounds.div_ceil(5), rate, &program, |started, _| {
        let (code, text) = started.command(&["upgrade"]);
        assert_eq!(code, 0, "{text}");
    });
}

fn series(name: &str, rounds: u32, rate: u32, program: &Path, act: impl Fn(&Starter, u16)) {
    let started = Starter::new(program, &[]);
    started.wait_followers();
    let leader = started.leader().expect("a leader");
    started.client(leader).post("/_api/collection", &json!({"name": "c"})).expect("an answer").expect(200);
    started.wait_followers();
    let mut drivers = Drivers::start(&started.servers(), "c", CONNECTIONS, rate);
    std::thread::sleep(QUIET);
    let mut pauses = Vec::new();
    let (begun, before) = (Instant::now(), drivers.acknowledged());
    for _ in 0..rounds {
        let leader = started.leader().expect("a leader");
        let from = Instant::now();
        act(&started, leader);
        std::thread::sleep(QUIET);
        pauses.push(drivers.pause_since(from));
        started.wait_followers_lagging(1000);
    }
    let written = f64::from((drivers.acknowledged() - before) as u32) / begun.elapsed().as_secs_f64();
    pauses.sort();
    let ms = |pause: Duration| format!("{:.1} ms", pause.as_secs_f64() * 1000.0);
    let (median, worst) = (ms(pauses[pauses.len() / 2]), ms(*pauses.last().expect("rounds")));
    let lost = drivers.end(started.leader().expect("a leader")).len();
    let failed = drivers.failed();
    println!("{name:<12} {rounds:>6} {median:>10} {worst:>10} {written:>9.0} {:>7} {lost:>5}", failed.len());
    for problem in failed.iter().take(5) {
        println!("  failed: {problem}");
    }
}
