//! The arithmetic of the lease on the server's side (DESIGN of the lease: README, "How failover stays safe").
//!
//! A renewal is sent at the server's time *s*; whatever the agency grants is counted from *s*, never from the reply:
//! it ends at *s + D·(1 − ε)* on this machine's steady clock. No clock is ever compared with another machine's.
//! Invariant: I5. After a jump of the clock nothing that was held before is trusted.

use crate::mark;
use crate::message::Grant;
use crate::types::*;
use std::collections::BTreeMap;

/// Renewals under way that are remembered; an older one is not worth waiting for.
const SENT_MAX: usize = 64;

#[derive(Clone, Debug, Default, Hash)]
pub struct Lease {
    /// Both clocks as they were when each renewal was sent.
    under_way: BTreeMap<u64, Now>,
    held: Option<Held>,
}

/// A lease as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    pub epoch: Epoch,
    /// When the renewal that brought it was sent.
    pub sent: Now,
    pub end: Time,
    /// The clocks may have moved apart by this much since `sent`.
    pub slack: Duration,
}

impl Lease {
    /// Remember when the renewal `seq` was sent.
    pub fn sent(&mut self, seq: u64, now: Now) {
        self.under_way.insert(seq, now);
        while self.under_way.len() > SENT_MAX {
            self.under_way.pop_first();
        }
    }

    /// A grant for the renewal `seq` has come. Returns the new end if it prolongs the lease of `epoch`.
    pub fn granted(&mut self, seq: u64, grant: &Grant, boot: Boot, epoch: Epoch) -> Option<Time> {
        if grant.boot != boot || grant.epoch != epoch {
            return None;
        }
        let sent = *self.under_way.get(&seq)?;
        self.under_way = self.under_way.split_off(&seq);
        let end = sent.time.plus(grant.timing.usable());
        if self.held(epoch).is_some_and(|held| end <= held.end) {
            mark!(GrantTooLate);
            return None;
        }
        self.held = Some(Held { epoch, sent, end, slack: grant.timing.slack() });
        Some(end)
    }

    pub fn held(&self, epoch: Epoch) -> Option<Held> {
        self.held.filter(|held| held.epoch == epoch)
    }

    /// Why the lease of `epoch` can't be used at this moment; `None` if it can.
    pub fn lost(&self, epoch: Epoch, now: Now) -> Option<&'static str> {
        match self.held(epoch) {
            Some(held) if now.apart(held.sent) > held.slack => Some("the clocks moved apart"),
            Some(held) if now.time < held.end => None,
            _ => Some("no renewal was granted in time"),
        }
    }

    /// Trust nothing: neither the lease nor any renewal under way.
    pub fn drop_all(&mut self) {
        *self = Lease::default();
    }
}

/// Notices from one step to the next that this machine's two clocks moved apart, as after a hypervisor's pause that
/// stopped the steady one. It only tells; whether a lease is still to be trusted, [`Lease::lost`] says.
#[derive(Clone, Debug, Hash)]
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

    /// The reading of the present step.
    pub fn last(&self) -> Time {
        self.last.time
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

    fn at(steady_ms: u64, wall_ms: u64) -> Now {
        Now { time: ms(steady_ms), wall_ms }
    }

    #[test]
    fn a_lease_counts_from_when_the_renewal_was_sent() {
        let mut lease = Lease::default();
        lease.sent(7, at(100, 100));
        // The reply's own time of arrival plays no part.
        assert_eq!(lease.granted(7, &grant(3), Boot(1), Epoch(3)), Some(ms(900)));
        assert_eq!(lease.lost(Epoch(3), at(899, 899)), None);
        assert!(lease.lost(Epoch(3), at(900, 900)).is_some());
        assert!(lease.lost(Epoch(4), at(100, 100)).is_some(), "a lease is for one epoch");
    }

    #[test]
    fn late_foreign_and_unknown_grants_change_nothing() {
        let mut lease = Lease::default();
        lease.sent(1, at(0, 0));
        lease.sent(2, at(50, 50));
        assert_eq!(lease.granted(2, &grant(3), Boot(1), Epoch(3)), Some(ms(850)));
        assert_eq!(lease.granted(1, &grant(3), Boot(1), Epoch(3)), None, "older than what is held");
        assert_eq!(lease.granted(9, &grant(3), Boot(1), Epoch(3)), None, "never sent");
        assert_eq!(lease.granted(2, &grant(3), Boot(2), Epoch(3)), None, "another boot");
        assert_eq!(lease.granted(2, &grant(4), Boot(1), Epoch(3)), None, "another epoch");
        lease.sent(3, at(60, 60));
        assert_eq!(lease.granted(3, &grant(3), Boot(2), Epoch(3)), None, "another boot, and newer than what is held");
        assert_eq!(lease.granted(3, &grant(4), Boot(1), Epoch(3)), None, "another epoch, and newer than what is held");
        lease.drop_all();
        assert!(lease.lost(Epoch(3), at(60, 60)).is_some());
        assert_eq!(lease.granted(2, &grant(3), Boot(1), Epoch(3)), None, "sent before all was dropped");
    }

    #[test]
    fn the_last_renewals_are_remembered_whatever_became_of_them() {
        let remembered = |seq| {
            let mut lease = Lease::default();
            (1..=SENT_MAX as u64 + 1).for_each(|seq| lease.sent(seq, at(seq, seq)));
            lease.granted(seq, &grant(3), Boot(1), Epoch(3)).is_some()
        };
        assert_eq!((1..=SENT_MAX as u64 + 2).filter(|seq| remembered(*seq)).count(), SENT_MAX);
        assert!(!remembered(1) && remembered(2));
    }

    #[test]
    fn pauses_that_only_the_wall_clock_saw_add_up() {
        let mut lease = Lease::default();
        lease.sent(1, at(0, 5000));
        assert!(lease.granted(1, &grant(3), Boot(1), Epoch(3)).is_some());
        // Two pauses of 60 ms each, in different steps: the slack is half of 200 ms.
        assert_eq!(lease.lost(Epoch(3), at(100, 5160)), None);
        assert_eq!(lease.lost(Epoch(3), at(100, 5200)), None, "as much as the grant allows for");
        assert_eq!(lease.lost(Epoch(3), at(200, 5320)), Some("the clocks moved apart"));
        assert_eq!(lease.lost(Epoch(3), at(200, 5090)), Some("the clocks moved apart"), "in either direction");
        // A grant for a renewal sent before the pause is no better.
        lease.sent(2, at(90, 5090));
        assert!(lease.granted(2, &grant(3), Boot(1), Epoch(3)).is_some());
        assert_eq!(lease.lost(Epoch(3), at(200, 5320)), Some("the clocks moved apart"));
    }

    #[test]
    fn clocks_that_move_apart_are_a_jump() {
        let bound = Duration::from_millis(200);
        let mut watch = ClockWatch::new(at(0, 1000));
        assert_eq!(watch.check(at(500, 1600), bound), None);
        assert_eq!(watch.check(at(600, 9000), bound), Some(Jump { steady_ms: 100, wall_ms: 7400 }));
        assert_eq!(watch.check(at(700, 8900), bound), Some(Jump { steady_ms: 100, wall_ms: -100 }).filter(|_| false));
    }
}
