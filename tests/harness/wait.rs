//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Generous, because the machine may be busy; nothing that works takes nearly so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks until there is an answer; panics if there is none within `patience`.
#[track_caller]
pub fn wait_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited {:.1} s in vain: {what}", started.elapsed().as_secs_f64());
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[track_caller]
pub fn wait<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, probe)
}

/// Waits until a condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait(what, || holds().then_some(()));
}

/// Panics if the condition ceases to hold at any time within `duration`.
#[track_caller]
pub fn stays(duration: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < duration {
        assert!(holds(), "no longer so after {:.2} s: {what}", started.elapsed().as_secs_f64());
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Asks until it succeeds; panics with the last reason if it does not in time.
#[track_caller]
pub fn wait_for_success<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) => {
                assert!(started.elapsed() < PATIENCE, "waited {:.1} s in vain: {why}", started.elapsed().as_secs_f64());
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
