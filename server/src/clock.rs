//! The two clocks of this machine, as the engine wants them.
//!
//! The steady one is `CLOCK_BOOTTIME`: unlike `CLOCK_MONOTONIC` it goes on while the machine is suspended, so that a
//! lease ends in time. No reading is ever smaller than an earlier one.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tanist_engine::types::{Now, Time};

/// How whoever needs the time comes by it; a simulated network has a clock of its own.
pub type Clock = fn() -> Now;

static LATEST: AtomicU64 = AtomicU64::new(0);

/// The steady clock.
pub fn time() -> Time {
    let reading = clock_gettime(ClockId::Boottime);
    let nanos = reading.tv_sec as u64 * 1_000_000_000 + reading.tv_nsec as u64;
    // Threads may be overtaken between reading and recording: the later reading counts for all.
    Time(LATEST.fetch_max(nanos, Ordering::AcqRel).max(nanos))
}

/// Both clocks.
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { time: time(), wall_ms: wall.as_millis() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_never_go_back() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    let mut last = Time::ZERO;
                    for _ in 0..10_000 {
                        let next = time();
                        assert!(next >= last);
                        last = next;
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert!(now().wall_ms > 1_700_000_000_000);
    }
}
