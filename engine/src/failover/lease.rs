//! The arithmetic of the lease on the server's side (DESIGN of the lease: README, "How failover stays safe").
//!
//! A renewal is sent at the server's time *s*; whatever the agency grants is counted from *s*, never from the reply:
//! it ends at *s + D·(1 − ε)* on this machine's steady clock. No clock is ever compared with another machine's.
//! Invariant: I5. After a jump of the clock nothing that was held before is trusted.

use crate::message::Grant;
use crate::types::*;
use std::collections::BTreeMap;

/// Renewals under way that are remembered; an older one is not worth waiting for.
const SENT_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Lease {
    sent: BTreeMap<u64, Time>,
    epoch: Epoch,
    end: Time,
}

impl Lease {
    /// Remember when the renewal `seq` was sent.
    pub fn sent(&mut self, seq: u64, now: Time) {
        self.sent.insert(seq, now);
        while self.sent.len() > SENT_MAX {
            self.sent.pop_first();
        }
    }

    /// A grant for the renewal `seq` has come. Returns the new end if it prolongs the lease of `epoch`.
    pub fn granted(&mut self, seq: u64, grant: &Grant, boot: Boot, epoch: Epoch) -> Option<Time> {
        if grant.boot != boot || grant.epoch != epoch {
            return None;
        }
        let sent = *self.sent.get(&seq)?;
        self.sent = self.sent.split_off(&seq);
        let end = sent.plus(grant.timing.usable());
        if self.epoch == epoch && end <= self.end {
            return None;
        }
        self.epoch = epoch;
        self.end = end;
        Some(end)
    }

    pub fn end(&self, epoch: Epoch) -> Time {
        if self.epoch == epoch { self.end } else { Time::ZERO }
    }

    pub fn valid(&self, epoch: Epoch, now: Time) -> bool {
        now < self.end(epoch)
    }

    /// Trust nothing: neither the lease nor any renewal under way.
    pub fn drop_all(&mut self) {
        *self = Lease::default();
    }
}

/// Watches this machine's two clocks against each other: a hypervisor's pause may stop the steady one, and then a
/// lease would seem to last longer than it does.
#[derive(Debug)]
pub struct ClockWatch {
    last: Now,
}

/// How the clocks moved apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    pub steady_ms: u64,
    pub wall_ms: i64,
}

impl ClockWatch {
    pub fn new(now: Now) -> ClockWatch {
        ClockWatch { last: now }
    }

    /// Call with each step's reading. A difference above `bound` between the two is a jump.
    pub fn check(&mut self, now: Now, bound: Duration) -> Option<Jump> {
        assert!(now.time >= self.last.time, "the steady clock went back");
        let steady_ms = now.time.since(self.last.time).as_millis() as u64;
        let wall_ms = now.wall_ms as i64 - self.last.wall_ms as i64;
        self.last = now;
        let apart = (wall_ms - steady_ms as i64).unsigned_abs();
        (apart > bound.as_millis() as u64).then_some(Jump { steady_ms, wall_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { lease: Duration::from_millis(1000), drift_permille: 200 };

    fn ms(t: u64) -> Time {
        Time(t * 1_000_000)
    }

    fn grant(epoch: u64) -> Grant {
        Grant { boot: Boot(1), epoch: Epoch(epoch), timing: TIMING }
    }

    #[test]
    fn a_lease_counts_from_when_the_renewal_was_sent() {
        let mut lease = Lease::default();
        lease.sent(7, ms(100));
        // The reply's own time of arrival plays no part.
        assert_eq!(lease.granted(7, &grant(3), Boot(1), Epoch(3)), Some(ms(900)));
        assert!(lease.valid(Epoch(3), ms(899)));
        assert!(!lease.valid(Epoch(3), ms(900)));
        assert!(!lease.valid(Epoch(4), ms(100)), "a lease is for one epoch");
    }

    #[test]
    fn late_foreign_and_unknown_grants_change_nothing() {
        let mut lease = Lease::default();
        lease.sent(1, ms(0));
        lease.sent(2, ms(50));
        assert_eq!(lease.granted(2, &grant(3), Boot(1), Epoch(3)), Some(ms(850)));
        assert_eq!(lease.granted(1, &grant(3), Boot(1), Epoch(3)), None, "older than what is held");
        assert_eq!(lease.granted(9, &grant(3), Boot(1), Epoch(3)), None, "never sent");
        assert_eq!(lease.granted(2, &grant(3), Boot(2), Epoch(3)), None, "another boot");
        assert_eq!(lease.granted(2, &grant(4), Boot(1), Epoch(3)), None, "another epoch");
        lease.drop_all();
        assert!(!lease.valid(Epoch(3), ms(60)));
        assert_eq!(lease.granted(2, &grant(3), Boot(1), Epoch(3)), None, "sent before the jump");
    }

    #[test]
    fn clocks_that_move_apart_are_a_jump() {
        let at = |steady, wall| Now { time: ms(steady), wall_ms: wall };
        let bound = Duration::from_millis(200);
        let mut watch = ClockWatch::new(at(0, 1000));
        assert_eq!(watch.check(at(500, 1600), bound), None);
        assert_eq!(watch.check(at(600, 9000), bound), Some(Jump { steady_ms: 100, wall_ms: 7400 }));
        assert_eq!(watch.check(at(700, 8900), bound), Some(Jump { steady_ms: 100, wall_ms: -100 }).filter(|_| false));
    }
}
