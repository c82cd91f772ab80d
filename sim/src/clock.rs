//! Time: the simulation's own, and what each machine's clocks make of it.
//!
//! Only the checkers know true time ([`At`]). A machine's steady clock runs at its own rate and can jump forward; its
//! wall clock can be wrong by any amount and step either way. Reading a clock never goes back on one machine.

use std::fmt;
use std::time::Duration;
use tanist_engine::types::{Now, Time};

/// True time in nanoseconds since the simulation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(pub u64);

impl At {
    pub const NEVER: At = At(u64::MAX);

    pub fn plus(self, duration: Duration) -> At {
        At(self.0.saturating_add(duration.as_nanos() as u64))
    }

    pub fn from_ms(ms: u64) -> At {
        At(ms.saturating_mul(1_000_000))
    }

    pub fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000))
    }
}

const MILLION: u128 = 1_000_000;

/// About what wall clocks say when a simulation begins.
pub const WALL_MS: u64 = 1_800_000_000_000;

/// One machine's clocks.
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time of the last change, and what the steady clock said then.
    base: At,
    local: u64,
    /// By how many millionths the steady clock runs fast (slow if negative).
    rate_ppm: i64,
    /// What the wall clock says when the steady clock says 0.
    wall_ms: i64,
    /// The machine has been suspended since then: the steady clock stands still.
    stopped: Option<At>,
}

impl Clock {
    pub fn new(uptime: Duration, rate_ppm: i64, wall_ms: i64) -> Clock {
        assert!(rate_ppm.abs() < 900_000, "a clock that runs backwards or nearly stands is no clock");
        Clock { base: At(0), local: uptime.as_nanos() as u64, rate_ppm, wall_ms, stopped: None }
    }

    fn speed(&self) -> u128 {
        (MILLION as i64 + self.rate_ppm) as u128
    }

    pub fn time(&self, at: At) -> Time {
        let at = self.stopped.map_or(at, |stopped| at.min(stopped));
        let passed = u128::from(at.0.saturating_sub(self.base.0)) * self.speed() / MILLION;
        Time(self.local + passed as u64)
    }

    pub fn now(&self, at: At) -> Now {
        let time = self.time(at);
        let wall = self.wall_ms + (time.0 / 1_000_000) as i64;
        Now { time, wall_ms: wall.max(0) as u64 }
    }

    /// The first true instant at which the steady clock says `time` or more.
    pub fn when(&self, time: Time) -> At {
        let needed = u128::from(time.0.saturating_sub(self.local));
        let passed = (needed * MILLION).div_ceil(self.speed());
        At(self.base.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    pub fn rate_ppm(&self) -> i64 {
        self.rate_ppm
    }

    pub fn set_rate(&mut self, at: At, rate_ppm: i64) {
        self.local = self.time(at).0;
        self.base = at;
        self.rate_ppm = rate_ppm;
    }

    pub fn jump(&mut self, at: At, forward: Duration) {
        self.local = self.time(at).0 + forward.as_nanos() as u64;
        self.base = at;
    }

    /// The machine is suspended.
    pub fn stop(&mut self, at: At) {
        self.stopped = Some(at);
    }

    /// The machine goes on. If it stood still for more than `told`, its steady clock did, too, and the wall clock is
    /// set right; a shorter stop is only a pause. Says whether the clock stood still.
    pub fn go_on(&mut self, at: At, told: Duration) -> bool {
        let Some(stopped) = self.stopped else { return false };
        let slept = Duration::from_nanos(at.0 - stopped.0);
        let stood_still = slept > told;
        if stood_still {
            self.local = self.time(at).0;
            self.base = at;
            self.wall_ms += slept.as_millis() as i64;
        }
        self.stopped = None;
        stood_still
    }

    pub fn step_wall(&mut self, ms: i64) {
        self.wall_ms += ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_and_its_inverse_agree() {
        let mut clock = Clock::new(Duration::from_secs(5), -99_999, 1_700_000_000_000);
        for (step, rate) in [(3_000_000_007, 99_000), (11, -1), (1_000_000_000, 0), (77, 12_345)] {
            let at = At(clock.base.0 + step);
            let before = clock.time(at);
            clock.set_rate(at, rate);
            assert_eq!(clock.time(at), before, "a change of rate is no jump");
            for ahead in [0, 1, 999, 1_000_000_007] {
                let due = clock.when(Time(before.0 + ahead));
                assert!(clock.time(due).0 >= before.0 + ahead);
                assert!(due.0 == at.0 || clock.time(At(due.0 - 1)).0 < before.0 + ahead);
            }
        }
        let at = At(clock.base.0 + 5);
        let before = clock.now(at);
        clock.jump(at, Duration::from_secs(2));
        assert_eq!(clock.time(at).since(before.time), Duration::from_secs(2));
        clock.step_wall(-10_000);
        assert_eq!(clock.now(at).wall_ms, before.wall_ms + 2_000 - 10_000);
    }

    #[test]
    fn a_suspended_machine_has_lost_time_that_only_its_wall_clock_knows() {
        let told = Duration::from_millis(200);
        for (slept_ms, stands) in [(200, false), (201, true)] {
            let mut clock = Clock::new(Duration::ZERO, 0, 1_000_000);
            clock.stop(At::from_ms(50));
            assert_eq!(clock.time(At::from_ms(90)), Time(50_000_000));
            assert_eq!(clock.go_on(At::from_ms(50 + slept_ms), told), stands);
            let now = clock.now(At::from_ms(51 + slept_ms));
            assert_eq!(now.wall_ms, 1_000_051 + slept_ms, "right in any case");
            let steady_ms = if stands { 51 } else { 51 + slept_ms };
            assert_eq!(now.time, Time(steady_ms * 1_000_000));
        }
    }
}
