//! The queries that run in this process, for the threads that run them and those that ask about them.
//!
//! A query that sleeps holds its thread and its snapshot, never the loop: it waits here, and whoever kills it wakes it.

use crate::clock::Clock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tanist_engine::queries::{Attendant, Queries};
use tanist_engine::types::Now;

/// See the module's documentation.
pub struct Attending {
    queries: Mutex<Queries>,
    /// Something about them has changed.
    changed: Condvar,
    clock: Clock,
}

impl Attending {
    pub fn new(clock: Clock) -> Attending {
        Attending { queries: Mutex::default(), changed: Condvar::new(), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Queries> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A query is to end; it may be over by now.
    pub fn interrupt(&self, query: u64) {
        self.with(&mut |queries| {
            queries.kill(query, None);
        });
    }
}

impl Attendant for Attending {
    fn now(&self) -> Now {
        (self.clock)()
    }

    fn with(&self, act: &mut dyn FnMut(&mut Queries)) {
        act(&mut self.lock());
        self.changed.notify_all();
    }

    fn sleep(&self, query: u64, time: Duration) {
        /// Other clocks than the condition's own are looked at so often.
        const LOOK: Duration = Duration::from_millis(500);
        let until = self.now().time.plus(time);
        let mut queries = self.lock();
        loop {
            let now = self.now().time;
            if now >= until || queries.interrupted(query, now).is_some() {
                return;
            }
            let patience = until.since(now).min(LOOK);
            queries = self.changed.wait_timeout(queries, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::sync::Arc;
    use std::time::Instant;
    use tanist_engine::queries::Description;

    fn description(id: u64) -> Description {
        let text = String::new();
        Description { id, database_id: 1, database: text.clone(), user: None, binds: text.clone(), text, stream: false }
    }

    #[test]
    fn whoever_is_killed_sleeps_no_longer() {
        let attending = Arc::new(Attending::new(clock::now));
        attending.with(&mut |queries| queries.begin(description(1), clock::now(), None));
        let sleeper = {
            let attending = attending.clone();
            std::thread::spawn(move || attending.sleep(1, Duration::from_secs(3600)))
        };
        attending.interrupt(1);
        sleeper.join().expect("it sleeps and wakes");
        let begun = Instant::now();
        attending.with(&mut |queries| queries.end(1, clock::time(), 0));
        attending.sleep(1, Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
