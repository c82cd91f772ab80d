//! The batches of `/_api/replication/batch`: what a client names while it copies a database.
//!
//! Nothing is held back for a batch: it is there until its client ends it or leaves it alone for too long, and that is
//! all. Batches are bounded in number, known by the server that was asked, and end with the process.

use crate::types::{Duration, Time};
use std::collections::BTreeMap;

const BATCHES_MAX: usize = 1000;

#[derive(Debug, Default)]
pub struct Batches {
    /// Until when each is there.
    open: BTreeMap<u64, Time>,
}

impl Batches {
    /// False if there are too many.
    pub fn begin(&mut self, id: u64, ttl: Duration, now: Time) -> bool {
        self.expire(now);
        let fits = self.open.len() < BATCHES_MAX;
        if fits {
            self.open.insert(id, now.plus(ttl));
        }
        fits
    }

    /// Whether it is still there; if so, for that long from now on.
    pub fn keep(&mut self, id: u64, ttl: Duration, now: Time) -> bool {
        self.expire(now);
        self.open.get_mut(&id).map(|until| *until = now.plus(ttl)).is_some()
    }

    /// Whether it was still there.
    pub fn end(&mut self, id: u64, now: Time) -> bool {
        self.expire(now);
        self.open.remove(&id).is_some()
    }

    fn expire(&mut self, now: Time) {
        self.open.retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_there_until_it_ends_or_is_left_alone() {
        let (mut batches, ttl) = (Batches::default(), Duration::from_secs(10));
        let at = |seconds| Time::ZERO.plus(Duration::from_secs(seconds));
        assert!(batches.begin(1, ttl, at(0)) && batches.begin(2, ttl, at(0)));
        assert!(batches.keep(1, ttl, at(9)) && !batches.keep(3, ttl, at(9)));
        assert!(!batches.keep(2, ttl, at(10)), "too late");
        assert!(batches.end(1, at(18)) && !batches.end(1, at(18)));
        assert!((0..BATCHES_MAX as u64).all(|id| batches.begin(id, ttl, at(20))));
        assert!(!batches.begin(9999, ttl, at(29)) && batches.begin(9999, ttl, at(30)));
    }
}
